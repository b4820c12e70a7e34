"""Calibration with a checkpoint: after a kill it goes on and ends with the same bits; other files are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import quantstats as qs
from quantstats.adapters.protocol import Array, Sample
from quantstats.ptq.checkpoint import input_hash
from quantstats.statistics.tensor_statistics import TensorStatistics

from .framework import NumpyAdapter, images, residual_network
from .test_digits import calibration, model_path


class CountingAdapter(NumpyAdapter):
    """Counts the runs of the model."""

    runs = 0

    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        self.runs += 1
        return super().run(sample, taps)


class SentAdapter(NumpyAdapter):
    """An adapter that goes through pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._network,)


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
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "found").read_bytes()
    assert qs.CalibrationStatistics.load(checkpoint) == whole
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
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_what_went_before_an_error_is_kept(tmp_path: Path, error: type[BaseException], every: int) -> None:
    data = images(6)

    def broken() -> Iterator[Array]:
        yield from data[:4]
        raise error

    with pytest.raises(error):
        collect(broken(), checkpoint=tmp_path / "c", every=every)
    found, runs = collect(data, checkpoint=tmp_path / "c", every=every)
    assert (found, runs) == (collect(data)[0], 2)


def test_an_interrupt_waits_until_a_sample_is_taken_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = images(6)
    count = TensorStatistics.count
    counted: list[str] = []

    def interrupted(self: TensorStatistics, sample: Any) -> None:
        count(self, sample)
        counted.append("")
        if len(counted) == 15:
            signal.raise_signal(signal.SIGINT)  # In the third sample.

    monkeypatch.setattr(TensorStatistics, "count", interrupted)
    with pytest.raises(KeyboardInterrupt):
        collect(data, checkpoint=tmp_path / "c")
    monkeypatch.undo()
    assert 15 < len(counted) == 3 * len(collect(data)[0].taps)
    assert qs.CalibrationStatistics.load(tmp_path / "c") == collect(data[:3])[0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    found, runs = collect(data, checkpoint=tmp_path / "c")
    assert (found, runs) == (collect(data)[0], 3)


@pytest.mark.parametrize("executor", [False, True])
def test_samples_of_the_same_ids_and_other_data_are_refused(tmp_path: Path, executor: bool) -> None:
    data = images(4)
    checkpoint = tmp_path / "c"
    with ThreadPoolExecutor(2) if executor else nullcontext() as pool:
        options = {"checkpoint": checkpoint, "executor": pool}
        qs.calibrate(SentAdapter(residual_network()), data, progress=False, **options)
        before = checkpoint.read_bytes()
        others = {
            "0": [x * 100 for x in data],
            "1": [data[0], data[2], data[1], data[3]],
            "2": [*data[:2], np.concatenate(data[2:]), data[3]],
            "3": [*data[:3], np.nextafter(data[3], np.float32(0))],
        }
        for sample, other in others.items():
            with pytest.raises(qs.DataError, match=rf"c has sample '{sample}' with other inputs .*give the data that"):
                qs.calibrate(SentAdapter(residual_network()), other, progress=False, **options)
            assert checkpoint.read_bytes() == before
        # In whatever form they come.
        for same in (np.asfortranarray(np.concatenate(data)), [{"image": x[:, ::-1][:, ::-1]} for x in data]):
            qs.calibrate(SentAdapter(residual_network()), same, progress=False, **options)


def test_inputs_of_samples_are_known_after_a_resumption(tmp_path: Path) -> None:
    data = images(6)
    collect(data[:2])[0].save(tmp_path / "c")  # Statistics do not know their inputs, so any may go on from these.
    collect([x + 1 for x in data[:2]] + data[2:4], checkpoint=tmp_path / "c")
    collect(data[:5], checkpoint=tmp_path / "c")
    for changed in (2, 4):
        other = [x + 1 if i == changed else x for i, x in enumerate(data)]
        with pytest.raises(qs.DataError, match=f"sample '{changed}' with other inputs"):
            collect(other, checkpoint=tmp_path / "c")


def test_inputs_differ_in_names_dtypes_shapes_and_values() -> None:
    x = np.arange(6, dtype=np.float32)
    samples: list[Sample] = [
        {"x": x},
        {"y": x},
        {"x": x, "y": x},
        {"x": x.reshape(2, 3)},
        {"x": x.view(np.int32)},
        {"x": -x},
        {"x": np.array(["a", "b"])},
        {"x": np.array(["a", "b"], object)},
        {"x": np.array(["a", "c"], object)},
        {"x": np.array(2.0, np.float32)},
        {"x": x.astype(ml_dtypes.bfloat16)},
    ]
    assert len({input_hash(sample) for sample in samples}) == len(samples)
    assert input_hash({"y": x[::-1], "x": x}) == input_hash({"x": x.copy(), "y": x[::-1].copy()})
    assert input_hash({"x": np.array(["a", "b"], object)}) == input_hash({"x": np.array(["a", "b"]).astype(object)})


def test_it_is_written_after_every_few_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    save = qs.CalibrationStatistics.save

    def noted(self: qs.CalibrationStatistics, path: Any, **options: Any) -> None:
        written.append(self.num_samples)
        save(self, path, **options)

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
    collect(images(4), checkpoint=tmp_path / "c", sample_ids=list("abcd"))
    with pytest.raises(qs.DataError, match="has sample 'c' and 1 more, and the data of this calibration do not"):
        collect(images(2), checkpoint=tmp_path / "c", sample_ids=list("ab"))


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


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (5, r"calibrate\.checkpoint=5 is not a path; give a string or a Path"),
        (b"c", r"calibrate\.checkpoint=b'c' is not a path"),
        ("", r"calibrate\.checkpoint='' is not a path"),
        (".", r"calibrate\.checkpoint='\.' is a directory; give the path of a file"),
        ("gone/c", r"calibrate\.checkpoint='gone/c' cannot be written, since 'gone' is no directory"),
        ("file/c", r"calibrate\.checkpoint='file/c' cannot be written, since 'file' is no directory"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    adapter = CountingAdapter(residual_network())
    with pytest.raises(qs.ParameterError, match=message):
        qs.calibrate(adapter, images(1), checkpoint=path, progress=False)
    assert adapter.runs == 0
    assert names_in(tmp_path) == ["file"]
