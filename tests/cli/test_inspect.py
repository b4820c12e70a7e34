"""``quantstats inspect`` and ``compare``: what they say of statistics, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

import quantstats as qs
from quantstats.parameters import QuantizationMode
from quantstats.statistics.inspection import inspect_statistics
from quantstats.statistics.what_if import what_if

Command = Callable[..., Result]


def error_of(result: Result) -> str:
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def make_statistics(model: Path, data: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the statistics of samples `first` to `last` of the data, scaled."""

    def make(name: str, first: int = 0, last: int = 40, scale: float = 1.0, **options: Any) -> Path:
        with np.load(data) as archive:
            images = archive["image"][first:last] * np.float32(scale)
        path = tmp_path / name
        ids = range(first, last)
        qs.calibrate(model, images, sample_ids=ids, progress=False, **options).save(path)
        return path

    return make


@pytest.fixture
def statistics(make_statistics: Callable[..., Path]) -> Path:
    return make_statistics("all.safetensors")


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_an_inspection_is_that_of_the_library(quantstats: Command, statistics: Path) -> None:
    options = ("--range-estimator", "minmax", "--tolerance", 0.2, "--confidence", 0.9, "--seed", 3, "--json", "-")
    found = document(quantstats("inspect", statistics, *options))
    loaded = qs.CalibrationStatistics.load(statistics)
    expected = inspect_statistics(loaded, qs.RangeEstimatorParametersSet.MINMAX, tolerance=0.2, confidence=0.9, seed=3)
    assert (found["samples"], found["estimator"], found["model_hash"]) == (40, "minmax", loaded.model_hash)
    assert list(found["tensors"]) == [inspection.tensor for inspection in expected] == sorted(loaded.taps)
    for inspection in expected:
        entry = found["tensors"][inspection.tensor]
        assert entry["low"]["value"] == inspection.low.value
        assert entry["high"] == {
            "value": inspection.high.value,
            "interval": list(inspection.high.interval),
            "sample_id": inspection.high.sample_id,
            "without": inspection.high.without,
        }
        assert entry["growth"][-1] == {"samples": 40, "low": inspection.low.value, "high": inspection.high.value}
        assert entry["hints"] == list(inspection.hints)
        assert (entry["interval_share"], entry["sample_share"], entry["growth_share"], entry["deciding_sample"]) == (
            inspection.interval_share,
            inspection.sample_share,
            inspection.growth_share,
            inspection.deciding_sample,
        )


def test_the_table_names_every_tensor_and_says_whether_samples_suffice(quantstats: Command, statistics: Path) -> None:
    shown = quantstats("inspect", statistics)
    assert shown.exit_code == 0
    assert "40 runs of the model, ranges by mean_minmax" in shown.stdout
    taps = qs.CalibrationStatistics.load(statistics).taps
    assert all(f"│ {tensor} " in shown.stdout for tensor in taps)
    expected = [found for found in inspect_statistics(qs.CalibrationStatistics.load(statistics)) if found.hints]
    assert f"more samples would change the range of {len(expected)} of {len(taps)} tensors" in shown.stdout
    generous = quantstats("inspect", statistics, "--tolerance", 1)
    assert "nothing says that more samples would change a range" in generous.stdout
    assert "first samples" not in shown.stdout


def test_values_that_are_not_finite_are_counted(quantstats: Command, tmp_path: Path) -> None:
    statistics = qs.CalibrationStatistics({"x": None, "finite": None, "lost": None}, non_finite="ignore")
    nothing, something = np.full(3, np.nan, np.float32), np.ones(3, np.float32)
    for sample, x in enumerate((nothing, something, np.array([1, np.inf, -np.inf], np.float32))):
        statistics.update(str(sample), {"x": x, "finite": something, "lost": nothing})
    path = tmp_path / "not_finite"
    statistics.save(path)
    shown = quantstats("inspect", path).stdout
    rows = {
        cells[0]: cells
        for cells in (list(map(str.strip, line.split("│")[1:-1])) for line in shown.splitlines())
        if cells
    }
    assert (rows["x"][-2:], rows["finite"][-2:]) == (["3", "2"], ["0", "0"])
    assert "lost has no finite value: 9 NaN, 0 +Inf and 0 -Inf" in shown
    found = document(quantstats("inspect", path, "--json", "-"))
    assert found["tensors"]["x"]["non_finite"] == {"nan": 3, "pos_inf": 1, "neg_inf": 1}
    assert found["without_finite_values"] == {"lost": {"nan": 9, "pos_inf": 0, "neg_inf": 0}}
    named = quantstats("inspect", path, "--tensor", "finite").stdout
    assert "NaN" not in named
    assert "lost" not in named


def test_a_tensor_is_shown_with_its_growth(quantstats: Command, statistics: Path) -> None:
    shown = quantstats("inspect", statistics, "--tensor", "image", "--range-estimator", "minmax").stdout
    growth = inspect_statistics(
        qs.CalibrationStatistics.load(statistics), qs.RangeEstimatorParametersSet.MINMAX, tensors=["image"]
    )[0].growth
    assert [point.samples for point in growth] == [1, 2, 5, 10, 20, 40]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.count("│") == 4]
    assert rows == [[str(point.samples), f"{point.low:.4g}", f"{point.high:.4g}"] for point in growth]
    assert "95 % interval: low " in shown
    assert "│ relu " not in shown


@pytest.mark.parametrize("preset", ["performance", "mixed"])
def test_what_if_is_that_of_the_library(quantstats: Command, statistics: Path, preset: str) -> None:
    options = ("--range-estimator", "minmax", "--range-estimator", "mse", "--bits", 8, "--bits", 3, "--preset", preset)
    found = document(quantstats("inspect", statistics, "--what-if", *options, "--json", "-"))
    names = qs.RangeEstimatorParametersSet
    mode = QuantizationMode.SYMMETRIC if preset == "performance" else QuantizationMode.ASYMMETRIC
    loaded = qs.CalibrationStatistics.load(statistics)
    expected = what_if(loaded, {"minmax": names.MINMAX, "mse": names.MSE}, num_bits=(8, 3), mode=mode)
    assert found["mode"] == mode.value
    for tensor, entries in found["tensors"].items():
        assert [(entry["estimator"], entry["num_bits"]) for entry in entries] == [
            ("minmax", 8),
            ("minmax", 3),
            ("mse", 8),
            ("mse", 3),
        ]
        for entry in entries:
            prediction = expected.predictions[tensor, entry["estimator"], entry["num_bits"]]
            assert (entry["sqnr_db"], entry["clipped"]) == (prediction.sqnr_db, prediction.clipped)
            assert (entry["low"], entry["high"]) == (prediction.low, prediction.high)
    assert [line["median_sqnr_db"] for line in found["summary"]] == [line.median_sqnr_db for line in expected.summary()]


def test_what_if_covers_every_estimator_at_eight_six_and_four_bits(quantstats: Command, statistics: Path) -> None:
    from quantstats.cli.app import RangeEstimatorName

    found = document(quantstats("inspect", statistics, "--what-if", "--json", "-"))
    assert [(line["estimator"], line["num_bits"]) for line in found["summary"]] == [
        (name.value, bits) for name in RangeEstimatorName for bits in (8, 6, 4)
    ]
    shown = quantstats("inspect", statistics, "--what-if", "--tensor", "relu").stdout
    assert all(shown.count(f"│ {name.value} ") == 2 for name in RangeEstimatorName)  # of the tensor, and over all
    assert "│ image " not in shown
    assert "over 1 tensors, symmetric quantizers" in shown


def test_json_goes_to_a_file_and_replaces_none(quantstats: Command, statistics: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    shown = quantstats("inspect", statistics, "--json", out)
    assert shown.exit_code == 0
    assert "ranges by mean_minmax" in shown.stdout
    assert json.loads(out.read_text())["samples"] == 40
    assert "exists; give another name, or --overwrite" in error_of(quantstats("inspect", statistics, "--json", out))
    assert quantstats("compare", statistics, statistics, "--json", out, "--overwrite").exit_code == 0
    assert json.loads(out.read_text())["agree"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--range-estimator", "histogram"), "'histogram' looks at the values of all samples together"),
        (("--range-estimator", "minmax", "--range-estimator", "mean_minmax"), "inspect one estimator at a time"),
        (("--bits", "4"), "--bits and --preset go with --what-if"),
        (("--preset", "mixed"), "--bits and --preset go with --what-if"),
        (("--tensor", "nothing"), "tensor 'nothing' was not observed; the statistics are of 'image'"),
        (("--what-if", "--tensor", "nothing"), "tensor 'nothing' was not observed"),
        (("--what-if", "--bits", "1"), "num_bits=1"),
        (("--confidence", "2"), "confidence=2.0 is not in (0, 1)"),
    ],
)
def test_wrong_options(quantstats: Command, statistics: Path, options: tuple[str, ...], message: str) -> None:
    assert message in error_of(quantstats("inspect", statistics, *options))


def test_wrong_files(quantstats: Command, statistics: Path, model: Path, data: Path, tmp_path: Path) -> None:
    for path in (model, data):
        assert f"{path} is truncated or no statistics file" in error_of(quantstats("inspect", path))
        assert f"{path} is truncated or no statistics file" in error_of(quantstats("compare", statistics, path))
    missing = tmp_path / "missing"
    assert f"{missing}: no such file" in error_of(quantstats("inspect", missing, "--what-if"))
    none = tmp_path / "none"
    qs.CalibrationStatistics({"x": None}).save(none)
    assert "hold no sample with values" in error_of(quantstats("inspect", none))
    assert "hold no sample with values" in error_of(quantstats("inspect", none, "--what-if"))
    assert "hold no sample" in error_of(quantstats("compare", statistics, none))


def test_calibrations_that_agree(quantstats: Command, make_statistics: Callable[..., Path], statistics: Path) -> None:
    result = quantstats("compare", statistics, statistics, "--tolerance", 0)
    assert result.exit_code == 0, result.output
    assert "model: the same\nsamples: the same 40\n" in result.stdout
    assert "no range differs by more than 0 % of the width; the largest difference is 0 %" in result.stdout
    close = make_statistics("close", scale=1.01)
    assert quantstats("compare", statistics, close, "--tolerance", 0.02, "--range-estimator", "minmax").exit_code == 0


def test_calibrations_that_differ(quantstats: Command, make_statistics: Callable[..., Path], statistics: Path) -> None:
    part = make_statistics("part", 10, 20, scale=3.0)
    result = quantstats("compare", statistics, part, "--range-estimator", "minmax")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "samples: 10 on both sides; only in" in result.stdout
    result = quantstats("compare", statistics, part, "--range-estimator", "minmax", "--json", "-")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["agree"] is False
    assert found["samples"]["both"] == 10
    assert len(found["samples"]["only_first"]) == 30
    pairs = {pair["tensor"]: pair for pair in found["ranges"]}
    sides = [qs.CalibrationStatistics.load(path) for path in (statistics, part)]
    assert set(pairs) == set(sides[0].taps)
    for tensor, pair in pairs.items():
        for key, side in zip(("first", "second"), sides, strict=True):
            bounds = side.range(tensor, qs.RangeEstimatorParametersSet.MINMAX, symmetric=True)
            assert pair[key] == [bound.item() for bound in bounds]
    assert quantstats("compare", statistics, part, "--tolerance", 100).exit_code == 0


def test_a_tensor_on_one_side_only_is_a_difference(
    quantstats: Command, make_statistics: Callable[..., Path], statistics: Path
) -> None:
    fewer = make_statistics("fewer", ignored_scope=qs.IgnoredScope(types=["Gemm"]))
    result = quantstats("compare", statistics, fewer)
    assert result.exit_code == 1
    assert f"only in {statistics}: " in result.stdout.replace("\n", "")
    assert "the tensors differ, and no range differs by more than 5 % of the width" in result.stdout
