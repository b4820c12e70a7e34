"""Array in, array out: the kernels as plain functions.

Arrays are float32, float64, float16 or bfloat16 (``ml_dtypes``), of any shape and any strides; 16-bit floats are
converted in registers. Results are float64 for float64 input and float32 for the others, which is exact for order
statistics. They do not depend on the instruction set in use. With ``axis=None`` and without ``keepdims`` a result is a
NumPy scalar.

What is common to all functions:

axis
    ``None`` (all axes), an integer or a tuple of integers; negative ones count from the end.
keepdims
    Keep reduced axes with size one.
nan_policy
    ``"raise"`` (ValueError that tells the number of NaN), ``"ignore"`` (leave NaN out; NaN where nothing is left) or
    ``"propagate"`` (NaN for every slice that holds one). Infinities are ordinary values.

Errors: TypeError for an array of another dtype, ``numpy.exceptions.AxisError`` for an axis out of range, ValueError for
a repeated axis and for a reduction over no elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from quantstats._core import _active

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Axis = int | tuple[int, ...] | list[int] | None
    NanPolicy = Literal["raise", "ignore", "propagate"]
    Values = NDArray[Any] | np.floating[Any]

__all__ = ["abs_max", "mean", "min_max"]


def min_max(
    x: ArrayLike, axis: Axis = None, *, keepdims: bool = False, nan_policy: NanPolicy = "raise"
) -> tuple[Values, Values]:
    """Return minimum and maximum along ``axis``, found in one read of ``x``.

    A zero is returned as +0.0, whichever zeros ``x`` holds.
    """
    return _active.min_max(x, axis, keepdims, nan_policy)


def abs_max(x: ArrayLike, axis: Axis = None, *, keepdims: bool = False, nan_policy: NanPolicy = "raise") -> Values:
    """Return the largest magnitude, ``max(abs(x))``, along ``axis``."""
    return _active.abs_max(x, axis, keepdims, nan_policy)


def mean(x: ArrayLike, axis: Axis = None, *, keepdims: bool = False, nan_policy: NanPolicy = "raise") -> Values:
    """Return the arithmetic mean along ``axis``.

    Accumulates in float64, in a fixed order that depends on the shape and the memory layout of ``x`` alone, and rounds
    once to the dtype of the result. Opposite infinities give NaN.
    """
    return _active.mean(x, axis, keepdims, nan_policy)
