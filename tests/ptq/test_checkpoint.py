"""Calibration with a checkpoint: after a kill it goes on and ends with the same bits; other files are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantstats as qs
from quantstats.adapters.protocol import Array, Sample

from .framework import NumpyAdapter, images, residual_network
from .test_digits import calibration, model_path


class CountingAdapter(NumpyAdapter):
    """Counts the runs of the model."""

    runs = 0

    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        self.runs += 1
        return super().run(sample, taps)


def collect(data: Any, **options: Any) -> tuple[qs.CalibrationStatistics, int]:
    """Statistics, and how often the model was run for them."""
    adapter = CountingAdapter(residual_network())
    return qs.calibrate(adapter, data, progress=False, **options), adapter.runs


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# -- killed ----------------------------------------------------------------------------------------------------------

# The process ends itself by SIGKILL: nothing of Python's or of the operating system's courtesy runs after it.
KILLED = """
import os, signal, sys
import numpy as np
import quantstats as qs

model, data, checkpoint, where = sys.argv[1:]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def progress(done, total, tensors):
    if where == "run" and done == 11:
        die()
    if where == "write" and done == 7:
        os.fsync = die

qs.calibrate(model, np.load(data), checkpoint=checkpoint, every=4, progress=progress)
"""


@pytest.mark.parametrize(("where", "kept"), [("run", 8), ("write", 4)])
def test_after_a_kill_the_run_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, where: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = calibration()[:14]
    np.save(tmp_path / "data.npy", data)
    checkpoint = tmp_path / "c.safetensors"
    script = [sys.executable, "-c", KILLED, model_path("cnn"), tmp_path / "data.npy", checkpoint, where]
    assert subprocess.run(script, check=False).returncode == -signal.SIGKILL
    assert qs.CalibrationStatistics.load(checkpoint).sample_ids == tuple(sorted(map(str, range(kept))))
    assert len(names_in(tmp_path)) == (3 if where == "write" else 2)  # The partial file is beside the complete one.

    done: list[int] = []
    found = qs.calibrate(model_path("cnn"), data, checkpoint=checkpoint, every=4, progress=lambda d, *_: done.append(d))
    assert done == list(range(kept, 15))
    whole = qs.calibrate(model_path("cnn"), data, progress=False)
    assert found == whole
    whole.save(tmp_path / "whole")
    found.save(tmp_path / "found")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "found").read_bytes() == checkpoint.read_bytes()
    assert names_in(tmp_path) == ["c.safetensors", "data.npy", "found", "whole"]


# -- gone on with ----------------------------------------------------------------------------------------------------


def test_samples_that_are_taken_are_not_run(tmp_path: Path) -> None:
    data = images(9)
    first, runs = collect(data, subset_size=5, checkpoint=tmp_path / "c")
    assert (first.num_samples, runs) == (5, 5)
    whole, runs = collect(data, checkpoint=tmp_path / "c")
    assert (whole, runs) == (collect(data)[0], 4)
    again, runs = collect(data, checkpoint=str(tmp_path / "c"))
    assert (again, runs) == (whole, 0)
    # It is a statistics file like any other.
    assert qs.CalibrationStatistics.load(tmp_path / "c") == whole


@pytest.mark.parametrize("every", [1, 3, 100])
def test_what_went_before_an_error_is_kept(tmp_path: Path, every: int) -> None:
    data = images(6)

    def broken() -> Iterator[Array]:
        yield from data[:4]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        collect(broken(), checkpoint=tmp_path / "c", every=every)
    found, runs = collect(data, checkpoint=tmp_path / "c", every=every)
    assert (found, runs) == (collect(data)[0], 2)


def test_it_is_written_after_every_few_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    save = qs.CalibrationStatistics.save

    def noted(self: qs.CalibrationStatistics, path: Any) -> None:
        written.append(self.num_samples)
        save(self, path)

    monkeypatch.setattr(qs.CalibrationStatistics, "save", noted)
    collect(images(8), checkpoint=tmp_path / "c", every=3)
    assert written == [3, 6, 8]


def test_errors_name_the_first_tensor_of_the_model_after_a_resumption_too(tmp_path: Path) -> None:
    data = images(3)
    collect(data[:1], checkpoint=tmp_path / "c")
    data[2][:] = np.nan
    with pytest.raises(qs.NonFiniteError, match="tensor 'image'"):
        collect(data, checkpoint=tmp_path / "c")
    assert qs.CalibrationStatistics.load(tmp_path / "c").num_samples == 2


# -- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"per_channel": True}, r"tensor 'image': channel axis: 1 and None"),
        ({"non_finite": "clamp"}, r"the policy for values that are not finite: 'clamp' and 'raise'"),
        ({"ignored_scope": qs.IgnoredScope(names=["conv0"])}, r"tensor 'image' is on one side only"),
        (
            {"advanced_parameters": qs.AdvancedQuantizationParameters(disable_bias_correction=True)},
            r"the means of the channels of tensor 'image' are on one side only",
        ),
        (
            {"advanced_parameters": qs.AdvancedQuantizationParameters(batchwise_statistics=True)},
            r"tensor 'image': batchwise statistics: True and False",
        ),
    ],
)
def test_a_checkpoint_of_other_parameters_is_refused(tmp_path: Path, options: dict[str, Any], difference: str) -> None:
    collect(images(2), checkpoint=tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(qs.DataError, match=rf"the checkpoint .*c is of another calibration, .*{difference}"):
        collect(images(2), checkpoint=tmp_path / "c", **options)
    assert (tmp_path / "c").read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    collect(images(2), checkpoint=tmp_path / "c")
    with pytest.raises(qs.DataError, match="differs in the model in its constants, the graph is the same: hash"):
        qs.calibrate(NumpyAdapter(residual_network(1)), images(2), checkpoint=tmp_path / "c", progress=False)


def test_a_checkpoint_with_samples_that_the_data_do_not_have_is_refused(tmp_path: Path) -> None:
    collect(images(4), checkpoint=tmp_path / "c", sample_ids="abcd")
    with pytest.raises(qs.DataError, match="has sample 'c' and 1 more, and the data of this calibration do not"):
        collect(images(2), checkpoint=tmp_path / "c", sample_ids="ab")


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    collect(images(2), checkpoint=tmp_path / "c")
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:-1])
    with pytest.raises(qs.DataError, match="c is truncated or no statistics file"):
        collect(images(2), checkpoint=tmp_path / "c")


@pytest.mark.parametrize("every", [0, 2.5, None])
def test_every_is_checked_before_anything_runs(tmp_path: Path, every: Any) -> None:
    with pytest.raises(qs.ParameterError, match=r"calibrate\.every="):
        collect(images(2), checkpoint=tmp_path / "c", every=every)
    assert not os.listdir(tmp_path)  # noqa: PTH208
