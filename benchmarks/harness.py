"""Paired measurement: all contenders of a case in one run, in an order that is shuffled anew in every round.

A fixed order lets one contender profit from what its predecessor left in the caches or in the clock; a separate run per
contender compares two states of the machine. Here a round calls every contender once, after the same preparation, and
ratios are taken round by round: what disturbs a round disturbs both sides of its ratios.

Contenders that are too slow for their share of the time take part in fewer rounds, spread evenly.
"""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from time import perf_counter, perf_counter_ns, thread_time_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A timed block repeats a short call for about this long, so that reading the clock does not matter.
BLOCK_SECONDS = 2e-4
MIN_ROUNDS = 5
MAX_ROUNDS = 60
# Calls longer than this are made in as few rounds as a median needs.
LONG_SECONDS = 0.3
MIN_ROUNDS_OF_LONG_CALLS = 3


# Returns nanoseconds.
Clock = Callable[[], int]


def clock_for(threads: int) -> Clock:
    """Return the clock for work on `threads` threads.

    One thread is timed by the CPU time of the thread. On a quiet machine that is the time on the wall; on a busy one it
    leaves out what other programs ran meanwhile, which would lengthen long calls and spare short ones.
    """
    return thread_time_ns if threads == 1 else perf_counter_ns


def loop(call: Callable[[], object], repetitions: int, clock: Clock) -> int:
    """Return the nanoseconds that `repetitions` calls take."""
    start = clock()
    for _ in repeat(None, repetitions):
        call()
    return clock() - start


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a case.

    :param name: whose it is; gates name it. Contenders of one name are variants, of which the fastest counts.
    :param call: does the work once, or `inner` times.
    :param isa: instruction set, for contenders that are ours; empty for peers.
    :param variant: tells contenders of one name apart.
    :param enter: called before a block, untimed; for settings such as the number of threads.
    :param buffers: what this contender reads, where that is not what the others read.
    :param block: times a number of repetitions, in nanoseconds; for calls so short that `call` itself would show.
    """

    name: str
    call: Callable[[], object]
    isa: str = ""
    variant: str = ""
    inner: int = 1
    enter: Callable[[], object] | None = None
    block: Callable[[int, Clock], int] | None = None
    buffers: Sequence[NDArray[Any]] | None = None

    @property
    def key(self) -> str:
        """A name that is unique within the case."""
        return " ".join(filter(None, (self.name, self.variant, f"[{self.isa}]" if self.isa else "")))

    def time(self, repetitions: int, clock: Clock) -> float:
        """Return the seconds that doing the work once takes, on average over `repetitions` calls."""
        nanoseconds = self.block(repetitions, clock) if self.block else loop(self.call, repetitions, clock)
        return nanoseconds * 1e-9 / (repetitions * self.inner)


@dataclass(frozen=True)
class Plan:
    """How often a contender is called in a block, and in how many rounds it takes part."""

    repetitions: int
    appearances: int


def plan_rounds(seconds_per_call: Sequence[float], budget: float, preparation: float) -> list[Plan]:
    """Divide `budget` seconds among contenders.

    :param seconds_per_call: an estimate for each.
    :param preparation: seconds spent before each timed block.
    """
    slice_seconds = budget / len(seconds_per_call)
    plans = []
    for seconds in seconds_per_call:
        repetitions = max(1, round(BLOCK_SECONDS / seconds))
        block = preparation + seconds * (repetitions + (1 if repetitions > 1 else 0))
        least = MIN_ROUNDS if seconds < LONG_SECONDS else MIN_ROUNDS_OF_LONG_CALLS
        plans.append(Plan(repetitions, min(MAX_ROUNDS, max(least, int(slice_seconds / block)))))
    return plans


def spread(appearances: int, rounds: int) -> frozenset[int]:
    """Return `appearances` of `rounds` rounds, evenly spaced."""
    return frozenset((2 * i + 1) * rounds // (2 * appearances) for i in range(appearances))


@dataclass
class Measurement:
    """Seconds by contender and round."""

    contenders: Sequence[Contender]
    seconds: dict[str, dict[int, float]] = field(default_factory=dict)

    def times(self, contender: Contender) -> list[float]:
        """Return the seconds of every round in which `contender` took part."""
        return list(self.seconds[contender.key].values())

    def median(self, contender: Contender) -> float:
        """Return the median time in seconds."""
        return statistics.median(self.times(contender))

    def best_decile(self, contender: Contender) -> float:
        """Return the time that a tenth of the rounds stays within, in seconds."""
        return float(np.quantile(self.times(contender), 0.1))

    def fastest(self, contenders: Sequence[Contender]) -> Contender:
        """Return the one with the least median."""
        if not contenders:
            raise LookupError("no contender to choose from")
        return min(contenders, key=self.median)

    def ratio(self, numerator: Contender, denominator: Contender) -> float:
        """Return the median, over the rounds that both took part in, of time over time."""
        above, below = self.seconds[numerator.key], self.seconds[denominator.key]
        both = above.keys() & below.keys()
        if not both:
            return self.median(numerator) / self.median(denominator)
        return statistics.median(above[i] / below[i] for i in both)

    def best_decile_ratio(self, numerator: Contender, denominator: Contender) -> float:
        """Return the ratio of the best deciles."""
        return self.best_decile(numerator) / self.best_decile(denominator)


def read_through(buffers: Sequence[NDArray[np.uint64]]) -> None:
    """Read `buffers` in order, so that every contender meets the caches in the same state."""
    for buffer in buffers:
        np.bitwise_or.reduce(buffer)


def as_words(array: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the memory of a contiguous array as 64-bit words, less what is left over at the end."""
    octets = array.reshape(-1).view(np.uint8)
    return octets[: octets.size // 8 * 8].view(np.uint64)


def estimate(contender: Contender, clock: Clock) -> float:
    """Return about how many seconds a call takes; warms it up as well."""
    if contender.enter:
        contender.enter()
    first = contender.time(1, clock) * contender.inner
    if first > 0.1:
        return first
    again = min(contender.time(1, clock) for _ in range(3)) * contender.inner
    if again > BLOCK_SECONDS:
        return again
    return max(1e-8, contender.time(max(1, int(BLOCK_SECONDS / max(again, 1e-8))), clock) * contender.inner)


def measure(
    contenders: Sequence[Contender],
    *,
    budget: float,
    buffers: Sequence[NDArray[Any]] = (),
    clock: Clock = perf_counter_ns,
    shuffle: Callable[[list[Contender]], None] | None = None,
) -> Measurement:
    """Time `contenders` in shuffled rounds for about `budget` seconds.

    :param buffers: contiguous inputs and outputs, read through before every timed block; a contender that names
        its own has those instead.
    :param clock: times the blocks.
    :param shuffle: puts the contenders of a round in order; random by default.
    """
    keys = [contender.key for contender in contenders]
    if len(set(keys)) < len(keys):
        raise ValueError(f"contenders {keys} are not unique; give them variants")
    common = [as_words(buffer) for buffer in buffers]
    words = {c.key: common if c.buffers is None else [as_words(buffer) for buffer in c.buffers] for c in contenders}
    estimates = [estimate(contender, clock) for contender in contenders]
    start = perf_counter()
    read_through(max(words.values(), key=lambda arrays: sum(array.nbytes for array in arrays)))
    plans = plan_rounds(estimates, budget, perf_counter() - start)
    rounds = max(plan.appearances for plan in plans)
    by_key = dict(zip(keys, plans, strict=True))
    takes_part = {key: spread(plan.appearances, rounds) for key, plan in by_key.items()}
    mix = shuffle or random.Random().shuffle

    result = Measurement(tuple(contenders), {key: {} for key in keys})
    collecting = gc.isenabled()
    gc.disable()
    try:
        for round_number in range(rounds):
            order = [contender for contender in contenders if round_number in takes_part[contender.key]]
            mix(order)
            for contender in order:
                repetitions = by_key[contender.key].repetitions
                if contender.enter:
                    contender.enter()
                read_through(words[contender.key])
                if repetitions > 1:
                    contender.time(1, clock)
                result.seconds[contender.key][round_number] = contender.time(repetitions, clock)
    finally:
        if collecting:
            gc.enable()
    return result
