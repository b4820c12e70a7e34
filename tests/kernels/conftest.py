from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from quantstats import _core
from quantstats._core import Target


@pytest.fixture(params=sorted(_core._targets), ids=str)
def target(request: pytest.FixtureRequest) -> Target:
    """The kernels of one runnable instruction set; a test that takes it runs on each of them."""
    return _core._targets[request.param]


@pytest.fixture(scope="session")
def instruction_sets(repository: Path) -> tuple[str, ...]:
    """The instruction sets that a build for this machine contains, best first."""
    rows = (repository / "csrc/dispatch/isa.def").read_text()
    names = tuple(re.findall(r"^QS_ISA\((\w+),", rows, re.MULTILINE))
    assert names[-1] == "scalar"
    return names if platform.machine() in ("x86_64", "AMD64") else names[-1:]
