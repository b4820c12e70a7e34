"""Paired measurement: order, number of rounds, and the arithmetic of ratios."""

from __future__ import annotations

import gc
import itertools
from functools import partial
from time import perf_counter_ns, sleep

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness import (
    BLOCK_SECONDS,
    LONG_SECONDS,
    MAX_ROUNDS,
    MIN_ROUNDS,
    MIN_ROUNDS_OF_LONG_CALLS,
    Contender,
    Measurement,
    as_words,
    clock_for,
    measure,
    plan_rounds,
    spread,
)


def contender(name: str, isa: str = "", variant: str = "") -> Contender:
    return Contender(name, lambda: None, isa, variant)


def test_every_round_calls_every_contender_once_in_a_new_order() -> None:
    entered: list[str] = []
    # Blocks that tell a constant time, so that every contender takes part in every round.
    contenders = [
        Contender(name, lambda: None, enter=partial(entered.append, name), block=lambda n, _: n * 1_000_000)
        for name in "abcde"
    ]
    result = measure(contenders, budget=5 * MAX_ROUNDS * 2e-3)
    rounds = len(result.seconds["a"])
    assert rounds == MAX_ROUNDS
    calls = entered[len(contenders) :]  # after those of the estimates
    orders = [tuple(calls[i : i + 5]) for i in range(0, len(calls), 5)]
    assert len(orders) == rounds
    assert all(sorted(order) == list("abcde") for order in orders)
    # 60 random orders of 120: a fixed one, or a few, would be no accident.
    assert len(set(orders)) > 20


def test_the_order_of_a_round_is_that_of_the_shuffle() -> None:
    entered: list[str] = []
    contenders = [
        Contender(name, lambda: None, enter=partial(entered.append, name), block=lambda n, _: n * 1_000_000)
        for name in "abc"
    ]
    measure(contenders, budget=0.02, shuffle=lambda order: order.reverse())
    calls = entered[3:]
    assert calls[:6] == list("cbacba")


def test_slow_contenders_take_part_in_fewer_rounds() -> None:
    fast = Contender("fast", lambda: None, block=lambda n, _: n * 1_000_000)
    slow = Contender("slow", lambda: None, block=lambda n, _: n * 50_000_000)
    result = measure([fast, slow], budget=0.4)
    assert len(result.seconds["fast"]) == MAX_ROUNDS
    assert len(result.seconds["slow"]) == MIN_ROUNDS
    assert set(result.seconds["slow"]) < set(result.seconds["fast"])


def test_plans() -> None:
    short, middle, long = plan_rounds([1e-6, 1e-2, 2 * LONG_SECONDS], 3.0, 1e-3)
    assert short.repetitions == round(BLOCK_SECONDS / 1e-6)
    assert short.appearances == MAX_ROUNDS
    assert middle.repetitions == 1
    assert middle.appearances == MAX_ROUNDS
    assert long.appearances == MIN_ROUNDS_OF_LONG_CALLS
    assert plan_rounds([0.1], 0.01, 0.0)[0].appearances == MIN_ROUNDS


@given(st.integers(1, 80).flatmap(lambda rounds: st.tuples(st.integers(1, rounds), st.just(rounds))))
def test_appearances_are_spread(pair: tuple[int, int]) -> None:
    appearances, rounds = pair
    chosen = sorted(spread(appearances, rounds))
    assert len(chosen) == appearances
    assert chosen[0] >= 0
    assert chosen[-1] < rounds
    gaps = [later - earlier for earlier, later in itertools.pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_a_ratio_is_taken_within_rounds() -> None:
    ours, peer = contender("ours"), contender("peer")
    # Every other round is disturbed tenfold, for both; the peer misses one round.
    disturbance = [1, 10, 1, 10, 1, 10, 10]
    result = Measurement(
        [ours, peer],
        {
            "ours": {i: 1.0 * factor for i, factor in enumerate(disturbance)},
            "peer": {i: 3.0 * factor for i, factor in enumerate(disturbance) if i != 6},
        },
    )
    assert result.ratio(peer, ours) == 3.0
    assert result.median(ours) == 10.0
    assert result.best_decile(ours) == 1.0
    assert result.best_decile_ratio(peer, ours) == 3.0


def test_without_a_common_round_medians_are_compared() -> None:
    ours, peer = contender("ours"), contender("peer")
    result = Measurement([ours, peer], {"ours": {0: 2.0}, "peer": {1: 8.0}})
    assert result.ratio(peer, ours) == 4.0


def test_the_fastest_variant() -> None:
    plain, into = contender("peer"), contender("peer", variant="out=")
    result = Measurement([plain, into], {"peer": {0: 2.0, 1: 3.0}, "peer out=": {0: 1.0, 1: 9.0}})
    assert result.fastest([plain, into]) is plain
    with pytest.raises(LookupError):
        result.fastest([])


def test_contenders_need_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="not unique"):
        measure([contender("peer"), contender("peer")], budget=0.1)


def test_time_is_that_of_one_piece_of_work() -> None:
    blocks = Contender("ours", lambda: None, inner=4, block=lambda n, _: n * 1000)
    assert blocks.time(10, perf_counter_ns) == pytest.approx(1e-6 / 4)


def test_one_thread_is_not_charged_for_what_others_run() -> None:
    asleep = Contender("asleep", lambda: sleep(0.05))
    assert asleep.time(1, clock_for(1)) < 0.02
    assert asleep.time(1, clock_for(2)) > 0.045


def test_keys_tell_contenders_apart() -> None:
    assert contender("ours", "avx2", "out=").key == "ours out= [avx2]"


def test_garbage_collection_is_left_as_it_was() -> None:
    seen: list[bool] = []
    gc.enable()
    measure([Contender("ours", lambda: seen.append(gc.isenabled()), block=None)], budget=0.001)
    assert gc.isenabled()
    assert not seen[-1]


def test_an_exception_of_a_contender_reaches_the_caller_with_collection_on() -> None:
    calls = itertools.count()

    def fails_later() -> None:
        if next(calls) > 50:
            raise ArithmeticError("contender")

    with pytest.raises(ArithmeticError):
        measure([Contender("ours", fails_later)], budget=0.001)
    assert gc.isenabled()


def test_memory_as_words() -> None:
    array = np.arange(21, dtype=np.uint8)
    assert as_words(array).nbytes == 16
    array[3] = 255
    assert as_words(array).view(np.uint8)[3] == 255
