"""Running the model on the next samples while statistics of one are taken.

One run by many threads waits at the end of each operation for the slowest of them, and statistics leave most of the CPU
idle. Two runs at a time with half of the threads each do neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

from quantstats.adapters.protocol import Array, ConcurrentAdapter, ModelAdapter, Sample

ResultT = TypeVar("ResultT")

_RUNS = 2

# Every run that goes on has activations of its own. What a sample takes tells how large they may be: above this number
# of bytes the runs go one after the other.
_SMALL_SAMPLE = 4 << 20
# The same for the arrays that a run returns.
_SMALL_RESULT = 32 << 20


def run_ahead(
    adapter: ModelAdapter[Any],
    run: Callable[[Sample], ResultT],
    samples: Iterable[Sample],
    *,
    size_of: Callable[[ResultT], int],
) -> Generator[tuple[Sample, ResultT], None, None]:
    """Return every sample with what `run` makes of it, in order; up to two more are read and run meanwhile.

    Close it where it may not be exhausted: it holds threads until then.

    Runs go one after the other if the adapter is no :class:`~quantstats.adapters.protocol.ConcurrentAdapter`, has one
    thread only, or samples or results are large.

    :param adapter: The model that `run` runs.
    :param run: Is called from other threads.
    :param samples: Are read in this thread. Arrays that come again with other values are no harm.
    :param size_of: Bytes of a result.
    :raises Exception: what `run` or reading a sample raises, when it is that sample's turn.
    """
    iterator = iter(samples)
    first = next(iterator, None)
    if first is None:
        return
    if not isinstance(adapter, ConcurrentAdapter) or _bytes_of(first) > _SMALL_SAMPLE:
        yield first, run(first)
        yield from ((sample, run(sample)) for sample in iterator)
        return
    with ExitStack() as stack:
        count = stack.enter_context(adapter.concurrently(_RUNS))
        result = run(first)
        small = count > 1 and size_of(result) <= _SMALL_RESULT
        if small:
            pool = stack.enter_context(ThreadPoolExecutor(count, thread_name_prefix="quantstats-run"))
            yield first, result
            del first, result
            yield from _in_order(pool, run, iterator, count)
            return
    # With all threads again.
    yield first, result
    yield from ((sample, run(sample)) for sample in iterator)


def _in_order(
    pool: ThreadPoolExecutor, run: Callable[[Sample], ResultT], samples: Iterator[Sample], count: int
) -> Iterator[tuple[Sample, ResultT]]:
    waiting: deque[tuple[Sample, Future[ResultT]]] = deque()
    failure: Exception | None = None
    ended = False

    def read() -> None:
        nonlocal failure, ended
        while len(waiting) < count and not ended:
            try:
                # A copy: data may come in arrays that are used again.
                sample = {name: value.copy() for name, value in next(samples).items()}
            except StopIteration:
                ended = True
            except Exception as error:
                failure, ended = error, True
            else:
                waiting.append((sample, pool.submit(run, sample)))

    try:
        read()
        while waiting:
            sample, future = waiting.popleft()
            result = future.result()
            del future
            read()
            yield sample, result
            del sample, result
        if failure is not None:
            raise failure
    finally:
        for _, future in waiting:
            future.cancel()


def _bytes_of(arrays: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in arrays.values())
