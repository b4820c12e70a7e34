"""Every kernel against its peers; `python -m benchmarks` runs this and prints the report."""

from __future__ import annotations

from typing import Any

from benchmarks.case import Case
from benchmarks.replay import replay
from benchmarks.suite import Suite


def test_kernel(case: Case, isa: str, suite: Suite, benchmark: Any) -> None:
    """Measure `case`, or take its run; a shortfall is a matter of the report, a wrong result fails here."""
    seconds, information = suite.result(case, isa)
    benchmark.extra_info.update(information)
    replay(benchmark, seconds)
