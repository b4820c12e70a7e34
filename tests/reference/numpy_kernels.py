"""What each kernel computes, in plain NumPy: the definition that the statistics and quantizers rest on.

Functions have the signatures of `quantstats.kernels`, so this module can stand in for it in a test. Sums are taken in
float64, quantile ranks and interpolation too; results are float64 for float64 input and float32 otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Axes = int | Sequence[int] | None


class Summary(NamedTuple):
    """All results of one read."""

    min: Array
    max: Array
    abs_max: Array
    mean: Array
    quantiles: Array
    nan_count: Array
    inf_count: Array


def _result_dtype(x: Array) -> type[Any]:
    return np.float64 if x.dtype == np.float64 else np.float32


def _axes(axis: Axes) -> int | tuple[int, ...] | None:
    return axis if axis is None or isinstance(axis, int) else tuple(axis)


def summarize(x: Array, axis: Axes = None, *, quantiles: Sequence[float] = (), nan_policy: str = "raise") -> Summary:
    """Finite input only, but for the counts."""
    wide, dtype, axes = x.astype(np.float64), _result_dtype(x), _axes(axis)
    nan, inf = np.isnan(wide).sum(axes), np.isinf(wide).sum(axes)
    if np.any(nan) or np.any(inf):
        if nan_policy == "raise":
            raise ValueError("NaN or Inf")
        wide = np.where(np.isfinite(wide), wide, 0.0)
    return Summary(
        min=np.asarray(wide.min(axes) + 0.0, dtype),
        max=np.asarray(wide.max(axes) + 0.0, dtype),
        abs_max=np.asarray(np.abs(wide).max(axes), dtype),
        mean=np.asarray(wide.mean(axes), dtype),
        quantiles=np.asarray(np.quantile(wide, list(quantiles), axes), dtype),
        nan_count=np.asarray(nan),
        inf_count=np.asarray(inf),
    )


def min_max(x: Array, axis: Axes = None) -> tuple[Array, Array]:
    """Smallest and greatest value."""
    summary = summarize(x, axis)
    return summary.min, summary.max


def quantile(x: Array, q: Any, axis: Axes = None) -> Array:
    """Order statistic, interpolated linearly."""
    return np.asarray(np.quantile(x.astype(np.float64), q, _axes(axis)), _result_dtype(x))


def abs_quantile(x: Array, q: Any, axis: Axes = None) -> Array:
    """Order statistic of the magnitudes."""
    return quantile(np.abs(x), q, axis)


def median(x: Array, axis: Axes = None) -> Array:
    """The 0.5 quantile."""
    return quantile(x, 0.5, axis)


def _inliers(x: Array, probability: float) -> list[Array]:
    """Per column of a matrix, the values within its quantiles; all of them if that leaves none."""
    columns = []
    for column in x.T.astype(np.float64):
        low, high = np.quantile(column, [probability, 1.0 - probability])
        kept = column[(column >= low) & (column <= high)]
        columns.append(kept if kept.size else column)
    return columns


def mean_no_outliers(x: Array, axis: int = 0, *, quantile: float = 1e-4) -> Array:
    """Mean of what lies within the quantiles, of a matrix over axis 0, from an exact sum."""
    assert axis == 0
    return np.asarray([math.fsum(column) / column.size for column in _inliers(x, quantile)], _result_dtype(x))


def median_no_outliers(x: Array, axis: int = 0, *, quantile: float = 1e-4) -> Array:
    """Median of what lies within the quantiles, of a matrix over axis 0."""
    assert axis == 0
    return np.asarray([np.quantile(column, 0.5) for column in _inliers(x, quantile)], _result_dtype(x))


def bit_histogram(x: Array, counts: npt.NDArray[np.uint64]) -> None:
    """Add to the counter of each value's upper 16 bits, keyed in ascending order of the values."""
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(x, np.float32)
    # float64 is cut, not rounded.
    single = np.where(np.abs(single) > np.abs(x), np.nextafter(single, np.float32(0)), single)
    upper = single.view(np.uint32).ravel() >> 16
    keys = np.where(upper & 0x8000, ~upper & 0xFFFF, upper | 0x8000)
    counts += np.bincount(keys, minlength=65_536).astype(np.uint64)


def _parameters(x: Array, scale: Any, zero_point: Any, axis: int | None) -> tuple[Array, Array]:
    scale, zero_point = np.asarray(scale, np.float32), np.asarray(zero_point, np.int64)
    if axis is not None:
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return scale, zero_point


def quantize_linear(
    x: Array,
    scale: Any,
    zero_point: Any,
    *,
    axis: int | None = None,
    qmin: int,
    qmax: int,
    dtype: Any = np.int8,
    out: Array | None = None,
) -> Array:
    """round(x / scale) half to even, plus zero point, saturated."""
    scale, zero_point = _parameters(x, scale, zero_point, axis)
    levels = np.clip(np.rint(x.astype(np.float32) / scale).astype(np.float64) + zero_point, qmin, qmax).astype(dtype)
    if out is None:
        return levels
    out[...] = levels
    return out


def dequantize_linear(
    q: Array, scale: Any, zero_point: Any, *, axis: int | None = None, out: Array | None = None
) -> Array:
    """(q - zero_point) * scale in float32."""
    scale, zero_point = _parameters(q, scale, zero_point, axis)
    values = (q.astype(np.int64) - zero_point).astype(np.float32) * scale
    if out is None:
        return values
    out[...] = values
    return out


def fake_quantize(
    x: Array, scale: Any, zero_point: Any, *, axis: int | None = None, qmin: int, qmax: int, out: Array | None = None
) -> Array:
    """quantize_linear, then dequantize_linear."""
    levels = quantize_linear(x, scale, zero_point, axis=axis, qmin=qmin, qmax=qmax, dtype=np.int64)
    return dequantize_linear(levels, scale, zero_point, axis=axis, out=out)
