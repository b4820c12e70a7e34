"""Running ahead: the results of one run after the other, in order, with errors where they would be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.adapters.protocol import ConcurrentAdapter
from quantstats.errors import DataError, ModelError
from quantstats.ptq import overlap
from quantstats.ptq.overlap import run_ahead

from ..adapters.onnx.models import small_cnn

Array = NDArray[Any]


class Adapter:
    """An adapter that only tells how many runs may go on at a time."""

    def __init__(self, runs: int = 2) -> None:
        self.runs = runs
        self.inside = 0

    @contextmanager
    def concurrently(self, runs: int) -> Iterator[int]:
        self.inside += 1
        try:
            yield min(runs, self.runs)
        finally:
            self.inside -= 1


def samples(count: int, size: int = 8) -> list[dict[str, Array]]:
    return [{"x": np.full(size, i, np.float32)} for i in range(count)]


def collect(adapter: Any, run: Any, data: Any, size: int = 8) -> list[tuple[float, float]]:
    found = run_ahead(adapter, run, data, size_of=lambda _: size)
    return [(float(sample["x"][0]), result) for sample, result in found]


def double(sample: Any) -> float:
    return 2 * float(sample["x"].mean())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
@pytest.mark.parametrize("adapter", [Adapter(), Adapter(1), Adapter(3), object()], ids=["two", "one", "three", "none"])
def test_every_sample_comes_once_and_in_order(adapter: Any, count: int) -> None:
    assert collect(adapter, double, samples(count)) == [(i, 2 * i) for i in range(count)]
    assert getattr(adapter, "inside", 0) == 0


def test_two_runs_go_on_at_a_time_and_the_first_alone() -> None:
    meeting = threading.Barrier(2, timeout=30)
    alone = threading.get_ident()

    def run(sample: Any) -> float:
        if sample["x"][0] == 0:
            assert threading.get_ident() == alone
        else:
            meeting.wait()  # Breaks if no other run comes.
        return double(sample)

    assert collect(Adapter(), run, samples(7)) == [(i, 2 * i) for i in range(7)]


def test_data_may_come_in_arrays_that_are_used_again() -> None:
    def data() -> Iterator[dict[str, Array]]:
        array = np.zeros(8, np.float32)
        for i in range(30):
            array[:] = i
            yield {"x": array}

    assert [result for _, result in collect(Adapter(), double, data())] == [2 * i for i in range(30)]


def test_at_most_two_samples_are_read_ahead() -> None:
    read: list[int] = []

    def data() -> Iterator[dict[str, Array]]:
        for i, sample in enumerate(samples(10)):
            read.append(i)
            yield sample

    for index, _ in enumerate(run_ahead(Adapter(), double, data(), size_of=lambda _: 8)):
        assert len(read) <= index + 3


@pytest.mark.parametrize("large", ["sample", "result"])
def test_what_is_large_runs_alone_in_the_callers_thread(large: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_SMALL_SAMPLE" if large == "sample" else "_SMALL_RESULT", 31)
    threads: set[int] = set()
    adapter = Adapter()
    inside: list[int] = []

    def run(sample: Any) -> float:
        threads.add(threading.get_ident())
        inside.append(adapter.inside)
        return double(sample)

    assert len(collect(adapter, run, samples(6), size=32)) == 6
    assert threads == {threading.get_ident()}
    # The first result tells its size; all threads are for one run again after it.
    assert inside == [large == "result", 0, 0, 0, 0, 0]


@pytest.mark.parametrize("adapter", [Adapter(), object()], ids=["two", "none"])
@pytest.mark.parametrize("failing", [0, 1, 3])
def test_errors_come_in_the_turn_of_their_sample(adapter: Any, failing: int) -> None:
    """A sample that cannot be run comes before a later one that cannot be read."""

    def data() -> Iterator[dict[str, Array]]:
        yield from samples(failing + 1)
        raise DataError("the next sample cannot be read")

    def run(sample: Any) -> float:
        if sample["x"][0] == failing:
            raise ModelError("the model cannot be run")
        return double(sample)

    def exhaust(function: Any) -> None:
        for sample, _ in run_ahead(adapter, function, data(), size_of=lambda _: 8):
            seen.append(float(sample["x"][0]))

    seen: list[float] = []
    with pytest.raises(ModelError):
        exhaust(run)
    assert seen == list(range(failing))
    with pytest.raises(DataError):
        exhaust(double)
    assert seen == [*range(failing), *range(failing + 1)]
    assert getattr(adapter, "inside", 0) == 0


def test_who_stops_in_the_middle_leaves_nothing_running() -> None:
    adapter = Adapter()
    before = threading.active_count()
    found = run_ahead(adapter, double, samples(20), size_of=lambda _: 8)
    for _ in range(3):
        next(found)
    assert adapter.inside == 1
    found.close()
    assert adapter.inside == 0
    assert threading.active_count() == before


@pytest.mark.parametrize(("num_threads", "runs"), [(1, 1), (2, 2), (5, 3), (None, None)])
def test_an_onnx_model_runs_concurrently_with_the_same_bits(num_threads: int | None, runs: int | None) -> None:
    adapter = OnnxAdapter(small_cnn(), num_threads=num_threads)
    assert isinstance(adapter, ConcurrentAdapter)
    taps = [name for name, tensor in adapter.graph().tensors.items() if not tensor.constant]
    rng = np.random.default_rng(0)
    data = [{"x": rng.normal(size=(2, 3, 8, 8)).astype(np.float32)} for _ in range(12)]
    expected = [adapter.run(sample, taps) for sample in data]
    with adapter.concurrently(3) as allowed:
        assert allowed == runs or (runs is None and 1 <= allowed <= 3)
    found = [result for _, result in run_ahead(adapter, lambda s: adapter.run(s, taps), data, size_of=lambda _: 8)]
    for one, other in zip(expected, found, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in taps)
