"""Contenders that many cases share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.case import OURS, Environment
from benchmarks.gates import SUM
from benchmarks.harness import Contender

Axis = int | tuple[int, ...] | None
TAILS = (1e-4, 1 - 1e-4)
SIZES = {"1 MB": 1 << 18, "4 MB": 1 << 20, "16 MB": 1 << 22, "256 MB": 1 << 26}


def ours(environment: Environment, call: Callable[[Any], Callable[[], object]], variant: str = "") -> list[Contender]:
    """Return our contender for every instruction set; `call` makes it from the table of kernels."""
    return [Contender(OURS, call(target), isa, variant) for isa, target in environment.targets.items()]


def sums(environment: Environment, x: NDArray[Any], name: str = SUM) -> list[Contender]:
    """Return our `sum()` of the same memory: the mean of all elements, which does nothing but read and add."""
    flat = x.reshape(-1)
    return [
        Contender(name, partial(target.mean, flat, None, False, "ignore"), isa)
        for isa, target in environment.targets.items()
    ]


def moved(*arrays: NDArray[Any]) -> int:
    """Return the bytes of all arrays."""
    return sum(array.nbytes for array in arrays)


def linear_quantile(x: NDArray[Any], q: float | tuple[float, ...], axis: Axis = None) -> NDArray[Any]:
    """Return the reference: NumPy's quantile in float64, rounded once; float64 input keeps float64.

    NumPy interpolates between two equal infinities by ``Inf - Inf``; the order statistic itself is meant there.
    """
    wide = x.astype(np.float64)
    with np.errstate(invalid="ignore"):
        values = np.asarray(np.quantile(wide, q, axis=axis))
    if np.isnan(values).any():
        below, above = (np.asarray(np.quantile(wide, q, axis=axis, method=m)) for m in ("lower", "higher"))
        values = np.where(below == above, below, values)
    return values if x.dtype == np.float64 else values.astype(np.float32)
