from __future__ import annotations

import pytest

from quantstats import _core
from quantstats._core import Target


@pytest.fixture(params=sorted(_core._targets), ids=str)
def target(request: pytest.FixtureRequest) -> Target:
    """The kernels of one runnable instruction set; a test that takes it runs on each of them."""
    return _core._targets[request.param]
