"""Statistics files: what comes back is what was saved, and what is damaged is refused."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantstats.errors import DataError, ParameterError, QuantizationError
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
from quantstats.statistics.calibration import CalibrationStatistics, columns_for
from quantstats.statistics.calibration_file import FORMAT_VERSION

# One file of each format version, written from what `example` makes. They must stay readable for ever.
DATA = Path(__file__).parent / "data"
VERSION_1 = DATA / "statistics_v1.safetensors"
VERSION_2 = DATA / "statistics_v2.safetensors"

BRANCH = StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN, 2.5, 0.125)


def example(ids: tuple[str, ...] = ("b", "a", "c"), *, version: int = FORMAT_VERSION) -> CalibrationStatistics:
    """Two tensors, one per channel and one float64, three samples of batches, a column beyond the default ones.

    From version 2 on, the means of the channels of two tensors besides.
    """
    statistics = CalibrationStatistics(
        {"conv/out:0": 1, "logits": None},
        model_hash="0" * 64,
        columns=columns_for([RangeEstimatorParameters(BRANCH, BRANCH)]),
        batchwise=True,
        channel_means={"conv/out:0": 1, "hidden": -1} if version > 1 else {},
    )
    for sample_id in ids:
        k = ord(sample_id) - ord("a")
        x = ((np.arange((k + 1) * 12) * 37 % 41 - 17.0) / 8 + k).reshape(k + 1, 3, 4)
        statistics.update(sample_id, {"conv/out:0": x.astype(np.float32), "logits": x[:, :, 0], "hidden": x})
    return statistics


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change description and arrays of a file and write it again, in form."""
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="np") as content:
        description = json.loads(content.metadata()["quantstats"])
    change(description, arrays)
    safetensors.numpy.save_file(arrays, path, {"quantstats": json.dumps(description)})


@pytest.mark.parametrize("path_type", [str, Path])
def test_what_is_loaded_equals_what_was_saved(tmp_path: Path, path_type: Any) -> None:
    statistics = example()
    statistics.save(path_type(tmp_path / "s.safetensors"))
    loaded = CalibrationStatistics.load(path_type(tmp_path / "s.safetensors"))
    assert loaded == statistics
    assert (loaded.model_hash, loaded.batchwise, loaded.columns) == ("0" * 64, True, statistics.columns)
    assert loaded.taps == {"conv/out:0": 1, "logits": None}
    assert loaded.sample_ids == ("a", "b", "c")
    assert loaded["logits"].counts == statistics["logits"].counts
    for tensor in statistics.taps:
        for params in (
            RangeEstimatorParametersSet.HISTOGRAM,
            RangeEstimatorParametersSet.MEAN_QUANTILE,
            RangeEstimatorParameters(BRANCH, BRANCH),
        ):
            for mine, its in zip(statistics.range(tensor, params), loaded.range(tensor, params), strict=True):
                assert (mine.dtype, mine.tobytes()) == (its.dtype, its.tobytes())


def test_what_is_loaded_can_go_on(tmp_path: Path) -> None:
    example(("c", "a")).save(tmp_path / "part")
    loaded = CalibrationStatistics.load(tmp_path / "part")
    loaded.merge(example(("b",)))
    assert loaded == example()
    with pytest.raises(DataError, match="sample 'a' is on both sides"):
        loaded.merge(example(("a",)))


def test_equal_statistics_give_equal_files(tmp_path: Path) -> None:
    merged = example(("c",))
    merged.merge(example(("a", "b")))
    merged.save(tmp_path / "merged")
    example().save(tmp_path / "whole")
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "whole").read_bytes()


def test_statistics_without_samples(tmp_path: Path) -> None:
    example(()).save(tmp_path / "none")
    loaded = CalibrationStatistics.load(tmp_path / "none")
    assert loaded == example(())
    loaded.merge(example())
    assert loaded == example()


@pytest.mark.parametrize(("version", "file"), [(1, VERSION_1), (2, VERSION_2)])
def test_every_format_version_is_read(version: int, file: Path, tmp_path: Path) -> None:
    loaded = CalibrationStatistics.load(file)
    assert loaded == example(version=version)
    loaded.save(tmp_path / "again")
    assert CalibrationStatistics.load(tmp_path / "again") == loaded


def test_the_format_is_safetensors_with_a_description(tmp_path: Path) -> None:
    example().save(tmp_path / "s")
    with safetensors.safe_open(tmp_path / "s", framework="np") as content:
        description = json.loads(content.metadata()["quantstats"])
        assert content.get_tensor("conv/out:0/channel_table").shape == (6, len(description["columns"]), 3)
        assert content.get_tensor("hidden/means").shape == (6, 1, 4)
    assert description["format"] == FORMAT_VERSION == 2
    assert description["sample_ids"] == ["a", "b", "c"]
    assert set(description["versions"]) == {"quantstats", "numpy"}
    assert description["columns"][-1] == ["quantile", 0.875, 2.5]


# Damage


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = VERSION_2.read_bytes()
    damaged = tmp_path / "damaged"
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        damaged.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"damaged is truncated or no statistics file .*; collect or copy it again"):
            CalibrationStatistics.load(damaged)


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_refused(tmp_path: Path, position: float, bit: int) -> None:
    whole = bytearray(VERSION_2.read_bytes())
    whole[int(position * len(whole))] ^= 1 << bit
    (tmp_path / "damaged").write_bytes(whole)
    with pytest.raises(DataError, match=r"collect or copy it again|is no statistics file|has format version"):
        CalibrationStatistics.load(tmp_path / "damaged")


def _one_sample_less(description: dict[str, Any], arrays: dict[str, Any]) -> None:
    description["sample_ids"].pop()


def _another_value(description: dict[str, Any], arrays: dict[str, Any]) -> None:
    arrays["logits/table"][0, 0, 0] += 1


def _an_array_less(description: dict[str, Any], arrays: dict[str, Any]) -> None:
    del arrays["logits/bins"]


def _another_order_of_columns(description: dict[str, Any], arrays: dict[str, Any]) -> None:
    description["columns"].reverse()


@pytest.mark.parametrize("change", [_one_sample_less, _another_value, _an_array_less, _another_order_of_columns])
def test_a_file_that_was_edited_is_refused(tmp_path: Path, change: Any) -> None:
    example().save(tmp_path / "s")
    rewrite(tmp_path / "s", change)
    with pytest.raises(DataError, match=r"s was changed or is damaged \(its checksum does not match\)"):
        CalibrationStatistics.load(tmp_path / "s")


@pytest.mark.parametrize(
    "change",
    [
        _one_sample_less,
        _an_array_less,
        lambda description, arrays: description["columns"].append(["mode", None, None]),
        lambda description, arrays: description["columns"].pop(0),
        lambda description, arrays: description.pop("tensors"),
        lambda description, arrays: description.update(tensors=[]),
        lambda description, arrays: description.update(sample_ids=["a", "a", "b"]),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_even_with_a_valid_checksum(tmp_path: Path, change: Any) -> None:
    from quantstats.statistics.calibration_file import _checksum, _Stream

    def signed(description: dict[str, Any], arrays: dict[str, Any]) -> None:
        change(description, arrays)
        description.pop("sha256")
        description["sha256"] = _checksum(description, {name: _Stream.of(array) for name, array in arrays.items()})

    example().save(tmp_path / "s")
    rewrite(tmp_path / "s", signed)
    with pytest.raises(DataError, match="s was changed or is damaged"):
        CalibrationStatistics.load(tmp_path / "s")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    example().save(tmp_path / "s")
    rewrite(tmp_path / "s", lambda description, arrays: description.update(format=3))
    with pytest.raises(DataError, match=r"format version 3, and this version of quantstats reads 1 to 2; use"):
        CalibrationStatistics.load(tmp_path / "s")


@pytest.mark.parametrize("path", [None, 5, b"s", ""])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ParameterError, match=r"CalibrationStatistics\.save\.path=.* is not a path; give a string or a"):
        example().save(path)
    with pytest.raises(ParameterError, match=r"CalibrationStatistics\.load\.path=.* is not a path; give a string or a"):
        CalibrationStatistics.load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing: no such file; check the path"):
        CalibrationStatistics.load(tmp_path / "nothing")
    with pytest.raises(DataError, match="is a directory; give the path of a statistics file"):
        CalibrationStatistics.load(tmp_path)
    np.savez(tmp_path / "data.npz", x=np.ones(3))
    with pytest.raises(DataError, match="truncated or no statistics file"):
        CalibrationStatistics.load(tmp_path / "data.npz")
    safetensors.numpy.save_file({"x": np.ones(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match=r"weights\.safetensors is no statistics file of quantstats"):
        CalibrationStatistics.load(tmp_path / "weights.safetensors")
    safetensors.numpy.save_file({"x": np.ones(3)}, tmp_path / "weights.safetensors", {"quantstats": "{"})
    with pytest.raises(DataError, match="its description is no JSON"):
        CalibrationStatistics.load(tmp_path / "weights.safetensors")


# Writing


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "s"
    example(("a",)).save(path)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), full)
    with pytest.raises(DataError, match="s cannot be written: No space left on device; check"):
        example().save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written: No such file or directory"):
        example().save(tmp_path / "missing" / "s")


def test_without_safetensors_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (lambda: example().save(tmp_path / "s"), lambda: CalibrationStatistics.load(VERSION_1)):
        with pytest.raises(QuantizationError, match=r"pip install 'quantstats-native\[stats\]'") as error:
            call()
        assert "\n" not in str(error.value)
