"""What a benchmark case is, and how the numbers of a measurement are held against its gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gates import ANY_PEER, BY_KEY, SUM, Gate, Kind, Row
from benchmarks.harness import Contender, Measurement

OURS = "ours"


@dataclass(frozen=True)
class Environment:
    """What a case is built for.

    :param targets: the kernels of each instruction set that is measured, best first.
    :param threads: number of threads, ours and the peers'.
    """

    targets: Mapping[str, Any]
    threads: int = 1


@dataclass(frozen=True)
class Setup:
    """A case ready to run.

    :param contenders: ours, one per instruction set, our `sum()`, and the peers.
    :param buffers: contiguous arrays that hold inputs and outputs; read through before every timed block.
    :param moved: bytes that a call reads and writes.
    :param checks: per instruction set, raises AssertionError where our result is not that of the reference.
    :param work: how many updates a call makes, for rates.
    """

    contenders: Sequence[Contender]
    buffers: Sequence[NDArray[Any]]
    moved: int
    checks: Mapping[str, Callable[[], None]]
    work: int = 0


@dataclass(frozen=True)
class Case:
    """One line of the report.

    :param row: key of the row of `benchmarks.gates` that it belongs to; empty for information.
    :param kernel: group of pytest-benchmark.
    :param data: what distinguishes the case within its row: shape, size, data set.
    :param extra: comparisons beside those of the row; they carry no gates.
    :param quick: whether a short run has it.
    """

    row: str
    kernel: str
    data: str
    build: Callable[[Environment], Setup]
    extra: tuple[Gate, ...] = ()
    quick: bool = True

    @property
    def key(self) -> str:
        """A name that is unique in the suite."""
        return f"{self.row or self.kernel}: {self.data}"

    @property
    def gated(self) -> Row | None:
        """The row of gates, if there is one."""
        return BY_KEY[self.row] if self.row else None

    @property
    def gates(self) -> tuple[Gate, ...]:
        """All comparisons: those of the row, then information."""
        return (self.gated.gates if self.gated else ()) + self.extra


@dataclass(frozen=True)
class Judgement:
    """A comparison with its value; `met` is ``None`` where there is no gate, `goal_met` where there is no goal."""

    gate: Gate
    value: float
    met: bool | None
    goal_met: bool | None


def choose(measurement: Measurement, name: str, isa: str) -> Contender:
    """Return the contender that `name` stands for when `isa` is judged: of several variants the fastest.

    Our `sum()` is the fastest of all instruction sets: how fast memory can be read does not depend on who asks.
    """
    own = [c for c in measurement.contenders if c.isa]
    if name == ANY_PEER:
        found = [c for c in measurement.contenders if not c.isa]
    elif name.startswith(SUM):
        found = [c for c in own if c.name == name]
    else:
        found = [c for c in measurement.contenders if c.name == name and c.isa in ("", isa)]
    if not found:
        raise LookupError(f"no contender is called {name!r}; there are {[c.key for c in measurement.contenders]}")
    return measurement.fastest(found)


def evaluate(gate: Gate, measurement: Measurement, isa: str, work: int) -> float:
    """Return the number that `gate` is about."""
    if gate.kind is Kind.EXACT:
        return 1.0  # the checks passed, or nothing would have been measured
    ours = choose(measurement, gate.subject, isa)
    if gate.kind is Kind.TIME:
        return measurement.median(ours)
    if gate.kind is Kind.RATE:
        return work / measurement.median(ours)
    other = choose(measurement, gate.against, isa)
    if gate.kind is Kind.SLOWDOWN:
        return measurement.ratio(ours, other)
    return measurement.ratio(other, ours)


def judge(case: Case, measurement: Measurement, isa: str, work: int) -> list[Judgement]:
    """Hold a measurement against every comparison of `case`."""
    factor = case.gated.factor(isa) if case.gated else 1.0
    judgements = []
    for gate in case.gates:
        value = evaluate(gate, measurement, isa, work)
        judgements.append(
            Judgement(gate, value, gate.reached(value, gate.gate, factor), gate.reached(value, gate.goal, factor))
        )
    return judgements


def describe(case: Case, setup: Setup, measurement: Measurement, isa: str) -> dict[str, Any]:
    """Return what goes into ``extra_info``: plain numbers and strings."""
    ours = choose(measurement, OURS, isa)
    seconds = measurement.median(ours)
    others = [c for c in measurement.contenders if c is not ours]
    sums = [c for c in others if c.name == SUM]
    return {
        "case": case.key,
        "row": case.row,
        "kernel": case.kernel,
        "data": case.data,
        "isa": isa,
        "median_us": seconds * 1e6,
        "best_decile_us": measurement.best_decile(ours) * 1e6,
        "gigabytes_per_second": setup.moved / seconds * 1e-9,
        "fraction_of_sum": measurement.ratio(choose(measurement, SUM, isa), ours) if sums else None,
        "others": {
            other.key: {
                "median_us": measurement.median(other) * 1e6,
                "best_decile_us": measurement.best_decile(other) * 1e6,
                "ratio": measurement.ratio(other, ours),
                "best_decile_ratio": measurement.best_decile_ratio(other, ours),
                "rounds": len(measurement.times(other)),
            }
            for other in others
        },
        "gates": [
            {
                "label": judgement.gate.label,
                "kind": judgement.gate.kind.name,
                "value": judgement.value,
                "gate": judgement.gate.threshold(judgement.gate.gate, case.gated.factor(isa) if case.gated else 1.0),
                "goal": judgement.gate.threshold(judgement.gate.goal, case.gated.factor(isa) if case.gated else 1.0),
                "met": judgement.met,
                "goal_met": judgement.goal_met,
            }
            for judgement in judge(case, measurement, isa, setup.work)
        ],
    }


def assert_same(ours: object, reference: object, what: str) -> None:
    """Raise AssertionError unless every value is the same; NaN equals NaN."""
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(reference), err_msg=what)
