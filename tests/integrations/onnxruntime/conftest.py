"""The digits, and quiet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from .models import Array

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def digits() -> Array:
    """Images, float32 [512, 1, 8, 8]."""
    return np.load(ROOT / "examples/digits/calibration.npz")["image"]


@pytest.fixture(params=["digits_cnn", "digits_transformer"])
def network(request: pytest.FixtureRequest) -> Path:
    return ROOT / f"examples/digits/{request.param}.onnx"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """onnxruntime recommends its preprocessing at every call."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
