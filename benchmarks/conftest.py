"""Options of the suite, and what it adds to the JSON of pytest-benchmark."""

from __future__ import annotations

import platform
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.case import Environment
from benchmarks.peers import available_cpus
from benchmarks.replay import CLOCK
from benchmarks.suite import QUICK_SECONDS, SECONDS, Suite, selected, vector_targets

_CHOSEN = pytest.StashKey[list[dict[str, str]]]()
_FAILED = pytest.StashKey[dict[str, str]]()
_SUITE = pytest.StashKey[Suite]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this suite."""
    group = parser.getgroup("quantstats")
    group.addoption("--quick", action="store_true", help="fewer rounds, and nothing of 256 MB")
    group.addoption("--seconds", type=float, help="time for each case")
    group.addoption("--threads", type=int, default=1, help="threads of ours and of the peers")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one benchmark per case and instruction set; those of a case are neighbours and share its run."""
    if "case" in metafunc.fixturenames:
        cases = selected(quick=metafunc.config.getoption("quick"))
        isas = list(vector_targets())
        metafunc.parametrize(
            ("case", "isa"),
            [
                pytest.param(
                    case,
                    isa,
                    id=f"{case.key} [{isa}]",
                    marks=pytest.mark.benchmark(group=case.kernel, timer=CLOCK),
                )
                for case in cases
                for isa in isas
            ],
        )


def _parameters(item: pytest.Item) -> tuple[str, str] | None:
    """Return the keys of case and instruction set of a benchmark."""
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return (parameters["case"].key, parameters["isa"]) if "case" in parameters else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember what is going to run, so that a benchmark that fails is not forgotten in the report."""
    session.config.stash[_CHOSEN] = [
        dict(zip(("case", "isa"), parameters, strict=True))
        for parameters in map(_parameters, session.items)
        if parameters is not None
    ]
    session.config.stash[_FAILED] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep one line of every failure."""
    report = yield
    parameters = _parameters(item)
    if report.failed and parameters is not None and call.excinfo is not None:
        key = f"{parameters[0]} [{parameters[1]}]"
        text = call.excinfo.exconly().strip().splitlines()
        item.config.stash[_FAILED][key] = " ".join(line.strip() for line in text[:3])[:200]
    return report


def cpu_name() -> str:
    """Return the CPU's name as the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: object, output_json: dict[str, Any]) -> None:
    """Tell the report what was to run and what failed."""
    output_json["quantstats"] = {
        "chosen": config.stash[_CHOSEN],
        "failed": config.stash[_FAILED],
        "threads": config.getoption("threads"),
        "quick": config.getoption("quick"),
        "cpu": cpu_name(),
        "cpus": available_cpus(),
    }


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config) -> Suite:
    """The runs of this session."""
    environment = Environment(vector_targets(), pytestconfig.getoption("threads"))
    usual = QUICK_SECONDS if pytestconfig.getoption("quick") else SECONDS
    return Suite(environment, pytestconfig.getoption("seconds") or usual)
