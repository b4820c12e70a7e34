"""Which cases a run has, and measuring one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.case import Case, Environment, Setup, describe
from benchmarks.cases import CASES
from benchmarks.harness import Measurement, clock_for, measure
from benchmarks.peers import available_cpus, set_threads

SECONDS = 1.5
QUICK_SECONDS = 0.3
# The reference and the fall-back for plain x86-64: right, and not what the gates are for.
UNGATED = ("scalar", "sse2")


def selected(*, quick: bool, cpus: int | None = None) -> list[Case]:
    """Return the cases of a run on a machine with `cpus` CPUs."""
    count = available_cpus() if cpus is None else cpus
    return [
        case for case in CASES if (case.quick or not quick) and not (case.gated and case.gated.two_cpus and count < 2)
    ]


def vector_targets() -> dict[str, Any]:
    """Return the kernels of every instruction set that runs here and has gates, best first."""
    from quantstats._core import _targets

    return {isa: target for isa, target in _targets.items() if isa not in UNGATED}


@dataclass
class Outcome:
    """A case after its run: either numbers per instruction set or, in `error`, why there are none."""

    setup: Setup | None = None
    measurement: Measurement | None = None
    error: Exception | None = None


def run(case: Case, environment: Environment, seconds: float) -> Outcome:
    """Check the results of every instruction set, then time all contenders in one run."""
    from quantstats import kernels

    threads = 2 if case.gated and case.gated.two_cpus else environment.threads
    clock = clock_for(threads)
    active = vars(kernels)["_active"]
    set_threads(environment.threads)
    setup = case.build(environment)
    try:
        for check in setup.checks.values():
            check()
        return Outcome(setup, measure(setup.contenders, budget=seconds, buffers=setup.buffers, clock=clock))
    finally:
        vars(kernels)["_active"] = active
        set_threads(environment.threads)


class Suite:
    """Runs each case once, however many instruction sets are reported of it."""

    def __init__(self, environment: Environment, seconds: float) -> None:
        self._environment = environment
        self._seconds = seconds
        self._outcomes: dict[str, Outcome] = {}

    def result(self, case: Case, isa: str) -> tuple[list[float], dict[str, Any]]:
        """Return our times in seconds and what goes into ``extra_info``; raises what the run raised."""
        outcome = self._outcomes.get(case.key)
        if outcome is None:
            try:
                outcome = run(case, self._environment, self._seconds)
                # Arrays of one case are not kept for the next.
                outcome.setup = Setup((), (), outcome.setup.moved, {}, outcome.setup.work) if outcome.setup else None
            except Exception as error:  # raised again below, for every instruction set
                outcome = Outcome(error=error)
            self._outcomes[case.key] = outcome
        if outcome.error is not None:
            raise outcome.error
        assert outcome.setup is not None
        assert outcome.measurement is not None
        information = describe(case, outcome.setup, outcome.measurement, isa)
        information["threads"] = self._environment.threads
        ours = next(c for c in outcome.measurement.contenders if c.name == "ours" and c.isa == isa)
        return outcome.measurement.times(ours), information
