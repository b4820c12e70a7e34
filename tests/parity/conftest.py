from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def nncf() -> Iterator[SimpleNamespace]:
    """nncf without its log; importing it takes a second."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters

    nncf.set_log_level(logging.ERROR)
    yield SimpleNamespace(module=nncf, smooth_quant=AdvancedSmoothQuantParameters)
    nncf.set_log_level(logging.INFO)
