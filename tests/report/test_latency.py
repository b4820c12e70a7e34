"""Timing of rivals, with a clock that only moves when a rival runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quantstats.report.latency import measure_latency


class FakeClock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def rival(self, name: str, microseconds: list[int], log: list[str]) -> Callable[[], None]:
        durations = iter(microseconds)

        def call() -> None:
            log.append(name)
            self.now += next(durations) * 1000

        return call


def test_median_and_best_decile_leave_the_warm_up_out() -> None:
    clock, log = FakeClock(), []
    rival = clock.rival("a", [9999, 9999, *range(1, 22)], log)
    result = measure_latency({"a": rival}, warm_up=2, min_rounds=21, max_rounds=21, clock=clock)["a"]
    assert result.median_ms == pytest.approx(0.011)
    assert result.best_decile_ms == pytest.approx(0.003)
    assert result.runs == 21


def test_each_round_runs_every_rival_once_in_an_order_that_changes() -> None:
    clock, log = FakeClock(), []
    rivals = {name: clock.rival(name, [1] * 40, log) for name in "abc"}
    measure_latency(rivals, warm_up=0, min_rounds=40, max_rounds=40, clock=clock)
    rounds = [tuple(log[i : i + 3]) for i in range(0, len(log), 3)]
    assert len(rounds) == 40
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) == 6


def test_same_seed_same_order() -> None:
    logs: list[list[str]] = [[], []]
    for log in logs:
        clock = FakeClock()
        rivals = {name: clock.rival(name, [1] * 20, log) for name in "ab"}
        measure_latency(rivals, warm_up=0, min_rounds=20, max_rounds=20, seed=7, clock=clock)
    assert logs[0] == logs[1]


def test_stops_when_the_time_is_over_but_not_before_the_least_number_of_rounds() -> None:
    clock, log = FakeClock(), []
    slow = clock.rival("slow", [2_000_000] * 10, log)
    assert measure_latency({"slow": slow}, seconds=1, warm_up=0, min_rounds=4, clock=clock)["slow"].runs == 4
    quick = clock.rival("quick", [100_000] * 100, log)
    assert measure_latency({"quick": quick}, seconds=1, warm_up=0, min_rounds=4, clock=clock)["quick"].runs == 10
