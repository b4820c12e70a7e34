"""Tensors of known distributions, for the tests of ranges that look at all values."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantstats.parameters import QuantizationMode
from quantstats.quantizer import Quantizer, QuantizerConfig
from quantstats.statistics import BitHistogram

Array = np.ndarray[Any, Any]

MODES = list(QuantizationMode)
CONFIGS = [QuantizerConfig(num_bits, mode) for mode in MODES for num_bits in (2, 4, 6, 8, 16)]
SMOOTH = ("normal", "laplace", "relu", "uniform", "student t, 2", "log-normal", "shifted", "negative", "with outlier")
DEGENERATE = ("constant", "negative constant", "zeros", "one value", "two values", "few", "tiny", "tinier", "huge")


def draw(kind: str, size: int = 40_000) -> Array:
    """A float32 tensor, always the same for one kind and size."""
    rng = np.random.default_rng(6)
    drawn = {
        "normal": lambda: rng.normal(size=size),
        "laplace": lambda: rng.laplace(size=size),
        "relu": lambda: np.maximum(rng.normal(size=size), 0),
        "uniform": lambda: rng.uniform(-1, 1, size),
        "student t, 2": lambda: rng.standard_t(2, size),
        "log-normal": lambda: np.exp(2 * rng.normal(size=size)),
        "shifted": lambda: rng.normal(5, 1, size),
        "negative": lambda: -rng.gamma(2, size=size),
        "with outlier": lambda: np.append(rng.normal(size=size - 1), 40.0),
        "constant": lambda: np.full(7, 2.5),
        "negative constant": lambda: np.full(7, -2.5),
        "zeros": lambda: np.zeros(7),
        "one value": lambda: np.array([0.3]),
        "two values": lambda: rng.choice([-1.0, 3.0], 1000),
        "few": lambda: np.array([-0.2, 0.0, 1e-3, 5.0]),
        "tiny": lambda: 1e-4 * rng.normal(size=1000),
        "tinier": lambda: 1e-38 * rng.normal(size=1000),
        "huge": lambda: 1e37 * rng.normal(size=1000),
    }[kind]()
    return np.asarray(drawn, np.float32)


def histogram_of(x: Array) -> BitHistogram:
    """The histogram of one tensor."""
    histogram = BitHistogram()
    histogram.add(x, float(x.min()), float(x.max()))
    return histogram


def true_sqnr(x: Array, quantizer: Quantizer) -> float:
    """In decibels, of quantizing the values themselves; 300 without an error."""
    values = x.astype(np.float32)
    exact = values.astype(np.float64)
    noise = float(np.sum((exact - quantizer.fake_quantize(values)) ** 2))
    return float(10 * np.log10(np.sum(exact**2) / noise)) if noise else 300.0
