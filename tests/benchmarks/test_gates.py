"""The table of gates: complete, as documented, and never eased beyond its own rule."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.cases import CASES
from benchmarks.gates import AT_MOST, BY_KEY, ROWS, Gate, Kind, markdown, share, speed
from benchmarks.suite import selected


def test_the_documentation_holds_the_table(repository: Path) -> None:
    assert markdown() in (repository / "docs" / "performance.md").read_text()


def test_every_row_has_a_case_and_every_case_its_row() -> None:
    used = {case.row for case in CASES if case.row}
    assert used == set(BY_KEY)
    assert len(BY_KEY) == len(ROWS)


def test_case_keys_are_unique() -> None:
    assert [key for key, count in Counter(case.key for case in CASES).items() if count > 1] == []


def test_every_row_has_a_gate() -> None:
    for row in ROWS:
        assert any(gate.gate is not None for gate in row.gates), row.key


def test_goals_are_not_below_their_gates() -> None:
    for row in ROWS:
        for gate in row.gates:
            if gate.gate is not None and gate.goal is not None:
                assert gate.reached(gate.goal, gate.gate, 1.0), (row.key, gate.label)


def test_information_carries_no_gate() -> None:
    for case in CASES:
        assert all(gate.gate is None and gate.goal is None for gate in case.extra), case.key


def test_names_of_comparisons_are_unique_within_a_case() -> None:
    for case in CASES:
        labels = [gate.label for gate in case.gates]
        assert len(set(labels)) == len(labels), case.key


def test_only_avx2_in_l2_is_eased() -> None:
    for row in ROWS:
        assert row.factor("avx512") == 1.0
        assert row.factor("avx2") == (0.8 if row.in_l2 else 1.0)
    assert not BY_KEY["small_call"].in_l2


@pytest.mark.parametrize(
    ("gate", "just_enough", "too_little"),
    [
        (speed("peer", 2.0), 1.6, 1.59),
        (share("sum()", 0.7), 0.56, 0.55),
        (Gate(Kind.RATE, gate=1e9), 0.8e9, 0.79e9),
        (Gate(Kind.TIME, gate=200e-9), 250e-9, 251e-9),
        (Gate(Kind.SLOWDOWN, "normal data", gate=2.0), 2.5, 2.51),
    ],
)
def test_easing_to_a_part_of_the_speed(gate: Gate, just_enough: float, too_little: float) -> None:
    assert gate.reached(just_enough, gate.gate, 0.8)
    assert not gate.reached(too_little, gate.gate, 0.8)
    assert not gate.reached(just_enough, gate.gate, 1.0)


def test_a_gate_without_a_number_is_information() -> None:
    assert speed("peer").reached(0.1, None, 1.0) is None


def test_kinds_with_an_upper_limit() -> None:
    assert {Kind.SLOWDOWN, Kind.TIME} == AT_MOST


def test_a_quick_run_leaves_out_what_is_large_and_one_cpu_what_needs_two() -> None:
    full, quick, single = selected(quick=False, cpus=2), selected(quick=True, cpus=2), selected(quick=False, cpus=1)
    assert full == list(CASES)
    assert set(full) - set(quick) == {case for case in CASES if not case.quick}
    assert {case.kernel for case in set(full) - set(single)} == {"threads"}
    # The rows that are about 64M elements need a full run; every other row is in a quick one.
    assert set(BY_KEY) - {case.row for case in quick} == {"quantile_large", "fake_quantize"}
