"""Calibration over an executor: the same bits as one run in one process, whatever happens to the workers."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantstats as qs
from quantstats.adapters import adapter_for
from quantstats.ptq import shards

from .framework import NumpyAdapter, images, residual_network
from .test_digits import calibration, model_path

# Small enough for one thread, so that workers do not wait for each other's.
SETTINGS = {"num_threads": 1}


def collect(model: Any, data: Any, **options: Any) -> qs.CalibrationStatistics:
    advanced = qs.AdvancedQuantizationParameters(backend_params=SETTINGS)
    return qs.calibrate(model, data, advanced_parameters=advanced, **{"progress": False, **options})


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return calibration()[:30]


@pytest.fixture(scope="module")
def whole(data: np.ndarray) -> qs.CalibrationStatistics:
    """One run in one process."""
    return collect(model_path("cnn"), data)


def spawned(workers: int = 2) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


# -- processes -------------------------------------------------------------------------------------------------------


def test_processes_give_the_bits_and_the_file_of_one_run(
    data: np.ndarray, whole: qs.CalibrationStatistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    monkeypatch.chdir(model_path("cnn").parent)
    with spawned() as executor:
        by_path = collect(model_path("cnn").name, data, executor=executor, progress=lambda d, *_: done.append(d))
        by_value = collect(onnx.load(model_path("cnn")), iter(data[:, None]), executor=executor)
        pids = set(executor._processes)
    assert len(pids) == 2
    assert done == list(range(31))
    whole.save(tmp_path / "whole")
    for found in (by_path, by_value):
        assert found == whole
        found.save(tmp_path / "found")
        assert (tmp_path / "found").read_bytes() == (tmp_path / "whole").read_bytes()


def test_after_a_worker_is_killed_a_checkpoint_has_what_was_done(
    data: np.ndarray, whole: qs.CalibrationStatistics, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "c"
    with spawned() as executor:

        def kill(done: int, *_: Any) -> None:
            if done == 8:
                # Within a task: the pool itself would wait for ever for the rest of a result that is sent just then.
                executor.submit(signal.raise_signal, signal.SIGKILL)

        with pytest.raises(
            qs.QuantizationError, match=r"BrokenProcessPool: .*run it again: .* is in the checkpoint '.*c'"
        ) as error:
            collect(model_path("cnn"), data, executor=executor, checkpoint=checkpoint, every=100, progress=kill)
    assert isinstance(error.value.__cause__, BrokenProcessPool)
    kept = qs.CalibrationStatistics.load(checkpoint).num_samples
    assert 8 <= kept < 30

    done: list[int] = []
    found = collect(model_path("cnn"), data, checkpoint=checkpoint, progress=lambda d, *_: done.append(d))
    assert done == list(range(kept, 31))
    assert found == whole == qs.CalibrationStatistics.load(checkpoint)


# -- Dask ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default")  # Those of distributed itself and of what it imports.
def test_dask_runs_the_tasks_of_a_killed_worker_on_another_one(
    data: np.ndarray, whole: qs.CalibrationStatistics
) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        pids = client.run(os.getpid)
        assert len(set(pids.values()) - {os.getpid()}) == 2
        killed: list[int] = []

        def kill(done: int, *_: Any) -> None:
            if done == 8:
                killed.append(next(iter(pids.values())))
                os.kill(killed[0], signal.SIGKILL)

        found = collect(model_path("cnn"), data, executor=client.get_executor(), progress=kill)
        survivors = client.run(os.getpid)
    assert killed
    assert killed[0] not in survivors.values()
    assert found == whole


# -- any executor ----------------------------------------------------------------------------------------------------


class InTheCaller(Executor):
    """Runs a task when it is submitted, after it went through pickle, as to another process."""

    num_workers = 2

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.bytes = 0
        self.fail_at: int | None = None

    def submit(self, task: Any, /, *args: Any, **options: Any) -> Future[Any]:
        sent = pickle.dumps((task, args, options))
        self.bytes = max(self.bytes, len(sent))
        task, args, options = pickle.loads(sent)
        self.sizes.append(len(args[2]))
        future: Future[Any] = Future()
        try:
            if self.fail_at == len(self.sizes):
                raise MemoryError("the worker has none")
            future.set_result(pickle.loads(pickle.dumps(task(*args, **options))))
        except Exception as error:
            future.set_exception(error)
        return future


class SentAdapter(NumpyAdapter):
    """An adapter that goes through pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._network,)


def collect_numpy(samples: Any, **options: Any) -> qs.CalibrationStatistics:
    return qs.calibrate(SentAdapter(residual_network()), samples, **{"progress": False, **options})


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"memory_limit": 0}, {"non_finite": "clamp"}])
def test_parameters_reach_the_tasks(options: dict[str, Any]) -> None:
    samples = images(20)
    if "non_finite" in options:
        samples[13][0, 1, 2, 3] = np.nan
    assert collect_numpy(samples, executor=InTheCaller(), **options) == collect_numpy(samples, **options)


@pytest.mark.parametrize(("known", "sizes"), [(True, {1}), (False, {8, 4})])
def test_tasks_are_small_where_the_data_are_few(known: bool, sizes: set[int]) -> None:
    executor, samples = InTheCaller(), images(20)
    executor.num_workers = 100
    collect_numpy(samples if known else iter(samples), executor=executor)
    assert set(executor.sizes) == sizes
    assert sum(executor.sizes) == 20


def test_tasks_are_small_where_samples_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    executor, samples = InTheCaller(), images(100)
    monkeypatch.setattr(shards, "_MOST_BYTES", 3 * samples[0].nbytes)
    assert collect_numpy(samples, executor=executor) == collect_numpy(samples)
    assert executor.sizes == [3] * 33 + [1]
    monkeypatch.setattr(shards, "_MOST_BYTES", 1)
    executor = InTheCaller()
    collect_numpy(samples[:4], executor=executor)
    assert executor.sizes == [1] * 4


def test_threads_have_a_model_each() -> None:
    with ThreadPoolExecutor(3) as executor:
        assert collect_numpy(images(40), executor=executor) == collect_numpy(images(40))


def test_data_are_read_as_they_are_needed() -> None:
    read, taken, ahead = [0], [0], [0]

    def endless() -> Iterator[np.ndarray]:
        for x in images(400):
            read[0] += 1
            ahead[0] = max(ahead[0], read[0] - taken[0])
            yield x

    collect_numpy(endless(), executor=InTheCaller(), subset_size=400, progress=lambda d, *_: taken.__setitem__(0, d))
    assert read == taken == [400]
    assert ahead[0] <= 2 * 2 * 8


def test_a_checkpoint_serves_an_executor_and_a_single_process_alike(tmp_path: Path) -> None:
    samples = images(30)
    collect_numpy(samples[:9], checkpoint=tmp_path / "c")
    executor = InTheCaller()
    assert collect_numpy(samples, checkpoint=tmp_path / "c", executor=executor) == collect_numpy(samples)
    assert sum(executor.sizes) == 21


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_task_that_fails(tmp_path: Path, checkpoint: bool) -> None:
    executor = InTheCaller()
    executor.fail_at = 5
    remedy = "run it again: what was done is in the checkpoint" if checkpoint else "run it again with checkpoint="
    options: dict[str, Any] = {"checkpoint": tmp_path / "c"} if checkpoint else {}
    with pytest.raises(qs.QuantizationError, match=rf"MemoryError: the worker has none\); {remedy}"):
        collect_numpy(iter(images(60)), executor=executor, **options)
    if checkpoint:
        # All but the eight of this task: those of tasks that were done by then are not lost.
        assert qs.CalibrationStatistics.load(tmp_path / "c").num_samples == 52


@pytest.mark.parametrize("where", ["data", "progress"])
def test_an_error_of_the_user_is_none_of_a_task(tmp_path: Path, where: str) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from images(40)
        if where == "data":
            raise RuntimeError("the loader broke")

    def progress(done: int, *_: Any) -> None:
        if where == "progress" and done == 9:
            raise RuntimeError("the loader broke")

    with pytest.raises(RuntimeError, match=r"^the loader broke$"):
        collect_numpy(broken(), executor=InTheCaller(), checkpoint=tmp_path / "c", progress=progress)
    assert qs.CalibrationStatistics.load(tmp_path / "c").num_samples >= 8


def test_an_error_in_a_sample_is_the_one_of_a_single_process() -> None:
    samples = images(10)
    samples[7][0, 2] = np.inf
    message = r"tensor 'image' has 0 NaN, 64 \+Inf and 0 -Inf among 192 values, in channel 2 of axis 1, in sample '7'; "
    for options in ({}, {"executor": InTheCaller()}):
        with pytest.raises(qs.NonFiniteError, match=message):
            collect_numpy(samples, **options)


def test_the_model_is_made_once_by_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(shards, "adapter_for", lambda *args: made.append(args[0]) or adapter_for(*args))
    for name in ("cnn", "transformer", "cnn"):
        model_type = qs.ModelType.TRANSFORMER if name == "transformer" else None
        collect(model_path(name), calibration()[:20], executor=InTheCaller(), model_type=model_type)
    assert made == [str(model_path(name)) for name in ("cnn", "transformer", "cnn")]


def test_a_worker_with_another_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "adapter_for", lambda *_: NumpyAdapter(residual_network(seed=5)))
    with pytest.raises(qs.DataError, match=r"a worker reads another model: hash .*; give every worker the same file"):
        collect_numpy(images(3), executor=InTheCaller())


def test_what_is_no_executor_and_no_model_to_send() -> None:
    with pytest.raises(qs.ParameterError, match=r"calibrate\.executor=4 has no submit\(\)"):
        collect_numpy(images(3), executor=4)
    with pytest.raises(qs.ParameterError, match=r"model of type OnnxAdapter cannot be sent .*give the path"):
        qs.calibrate(adapter_for(model_path("cnn")), calibration()[:2], executor=InTheCaller(), progress=False)
