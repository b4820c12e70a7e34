"""Time of one call of several rivals, measured so that they can be compared."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one rival.

    :param median_ms: Median over the runs, in milliseconds.
    :param best_decile_ms: The time that a tenth of the runs stay below, in milliseconds: what the machine can do when
        nothing else runs on it.
    :param runs: Number of runs.
    """

    median_ms: float
    best_decile_ms: float
    runs: int


def measure_latency(
    rivals: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 2.0,
    min_rounds: int = 5,
    max_rounds: int = 2000,
    warm_up: int = 3,
    seed: int = 0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, Latency]:
    """Time rivals side by side.

    Every round calls each rival once, in a new random order: a slow spell of the machine then hits all of them, and
    none always runs after the same neighbour, whose caches it would inherit.

    :param rivals: A call without arguments for each name.
    :param seconds: Stop after the round in which this much time has passed, warm-up not counted.
    :param min_rounds: Rounds that are run even if the time is over.
    :param max_rounds: Rounds after which to stop even if there is time left.
    :param warm_up: Calls of each rival before the first round, not timed.
    :param seed: Seed of the random order.
    :param clock: Monotonic clock in nanoseconds.
    """
    for call in rivals.values():
        for _ in range(warm_up):
            call()
    shuffle = random.Random(seed).shuffle
    order = list(rivals)
    times: dict[str, list[int]] = {name: [] for name in rivals}
    start = clock()
    for done in range(max_rounds):
        if done >= min_rounds and clock() - start >= seconds * 1e9:
            break
        shuffle(order)
        for name in order:
            call = rivals[name]
            before = clock()
            call()
            times[name].append(clock() - before)
    return {name: _latency(values) for name, values in times.items()}


def _latency(nanoseconds: list[int]) -> Latency:
    ordered = sorted(nanoseconds)
    return Latency(
        median_ms=statistics.median(ordered) / 1e6,
        best_decile_ms=ordered[(len(ordered) - 1) // 10] / 1e6,
        runs=len(ordered),
    )


__all__ = ["Latency", "measure_latency"]
