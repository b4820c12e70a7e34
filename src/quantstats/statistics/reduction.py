"""Reduce one sample to a row of the table, reading the tensor as few times as the columns allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels
from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.range_estimator import StatisticsType
from quantstats.statistics.column import Column

__all__ = ["as_sample", "clamp", "reduce_sample", "reduced_shape", "reduction_axes_of", "require_finite"]

Array = npt.NDArray[Any]

# These commute with clamping: the clamped tensor's statistic is the clamped statistic. A mean does not, nor does a
# quantile, which interpolates between a value that is clamped and one that may not be.
_COMMUTES_WITH_CLIPPING = (StatisticsType.MIN, StatisticsType.MAX, StatisticsType.ABS_MAX)


def as_sample(x: npt.ArrayLike) -> Array:
    """`x` as an array of a floating-point dtype. Raises `DataError` for any other dtype."""
    array = np.asarray(x)
    if array.dtype not in (np.float32, np.float64, np.float16) and array.dtype.name != "bfloat16":
        raise DataError(
            f"statistics are taken of float32, float64, float16 or bfloat16 values, not of {array.dtype}; "
            "convert the tensor, or do not observe it"
        )
    return array


def reduction_axes_of(ndim: int, reduction_axes: Sequence[int] | None) -> tuple[int, ...]:
    """The axes to reduce, sorted and not negative; all for None. Raises `ParameterError` if one is out of range."""
    if reduction_axes is None:
        return tuple(range(ndim))
    for axis in reduction_axes:
        if not -ndim <= axis < ndim:
            raise ParameterError(
                f"reduction_axes={tuple(reduction_axes)} has axis {axis}, but the sample has {ndim} dimensions; "
                "leave that axis out"
            )
    return tuple(sorted({axis % ndim for axis in reduction_axes}))


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with size 1 at each of `axes`."""
    return tuple(1 if index in axes else size for index, size in enumerate(shape))


def require_finite(x: Array, summary: kernels.Summary) -> None:
    """Raises `NonFiniteError` with the counts if `summary`, which is of all of `x`, counted NaN or Inf."""
    nan, inf = int(np.sum(summary.nan_count)), int(np.sum(summary.inf_count))
    if nan or inf:
        raise NonFiniteError(
            f"{nan} NaN and {inf} infinite values of {x.size} in a tensor of shape {x.shape}; "
            "mend the data or the model, or leave this sample out"
        )


def reduce_sample(x: Array, columns: Sequence[Column], axes: tuple[int, ...]) -> list[Array]:
    """The value of each column: arrays of `x`'s rank, of size 1 at `axes`; float64 for float64 input, else float32.

    `x` must not be empty. One `summarize` call serves every column that needs no clamped copy of the tensor, and all
    their quantiles; ABS_QUANTILE columns take another call.

    :raises NonFiniteError: `x` holds NaN or Inf.
    """
    shape = reduced_shape(x.shape, axes)
    if not axes:  # Nothing to reduce: each value is a slice of its own.
        x, axes = x[np.newaxis], (0,)

    values: dict[Column, Array] = {}
    plain = [column for column in columns if _needs_no_copy(column)]
    # Even when every column asks for a clamped copy the tensor itself is summarized: an Inf must not hide in the clamp.
    summary = _summarize_into(values, x, plain, axes)
    require_finite(x, summary)
    for limit in {column.clipping_value for column in columns if not _needs_no_copy(column)}:
        assert limit is not None
        group = [column for column in columns if not _needs_no_copy(column) and column.clipping_value == limit]
        _summarize_into(values, clamp(x, limit), group, axes)
    return [values[column].reshape(shape) for column in columns]


def clamp(x: Array, limit: float) -> Array:
    """`x` clamped to [-limit, limit]; 16-bit floats become float32 first, so that the limit is not rounded to them."""
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    bound = wide.dtype.type(min(limit, float(np.finfo(wide.dtype).max)))
    clamped: Array = np.clip(wide, -bound, bound)
    return clamped


def _needs_no_copy(column: Column) -> bool:
    return column.clipping_value is None or column.statistics_type in _COMMUTES_WITH_CLIPPING


def _summarize_into(
    values: dict[Column, Array], x: Array, columns: Sequence[Column], axes: tuple[int, ...]
) -> kernels.Summary:
    """Put the value of each of `columns` into `values`; returns the summary of `x`."""
    quantiles = _probabilities(columns, StatisticsType.QUANTILE)
    abs_quantiles = _probabilities(columns, StatisticsType.ABS_QUANTILE)
    summary = kernels.summarize(x, axes, quantiles=quantiles, nan_policy="ignore")
    if abs_quantiles:
        require_finite(x, summary)
        of_magnitudes = np.asarray(kernels.abs_quantile(x, abs_quantiles, axes))
    for column in columns:
        kind = column.statistics_type
        if kind is StatisticsType.QUANTILE:
            value = summary.quantiles[quantiles.index(_probability(column))]
        elif kind is StatisticsType.ABS_QUANTILE:
            value = of_magnitudes[abs_quantiles.index(_probability(column))]
        else:
            value = getattr(summary, kind.value)
        value = np.asarray(value)
        if column.clipping_value is not None and kind in _COMMUTES_WITH_CLIPPING:
            value = clamp(value, column.clipping_value)
        values[column] = value
    return summary


def _probability(column: Column) -> float:
    assert column.probability is not None
    return column.probability


def _probabilities(columns: Sequence[Column], kind: StatisticsType) -> tuple[float, ...]:
    return tuple(sorted({_probability(column) for column in columns if column.statistics_type is kind}))
