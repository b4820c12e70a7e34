"""Reduce one sample to a row of the table, reading the tensor as few times as the columns allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels
from quantstats._arrays import as_array
from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.range_estimator import StatisticsType
from quantstats.statistics.column import Column
from quantstats.typing import Tensor

__all__ = [
    "SampleReducer",
    "as_sample",
    "clamp",
    "extremum",
    "reduced_shape",
    "reduction_axes_of",
    "require_finite",
]

Array = npt.NDArray[Any]
_Selection = slice | npt.NDArray[np.intp]

# These commute with clamping: the clamped tensor's statistic is the clamped statistic. A mean does not, nor does a
# quantile, which interpolates between a value that is clamped and one that may not be.
_COMMUTES_WITH_CLIPPING = (StatisticsType.MIN, StatisticsType.MAX, StatisticsType.ABS_MAX)


def as_sample(x: npt.ArrayLike | Tensor) -> Array:
    """`x` as an array of a floating-point dtype, that shares its memory: see `as_array`.

    Raises `DataError` for any other dtype, and for what does not share it.
    """
    try:
        array = as_array(x)
    except TypeError as error:
        raise DataError(str(error)) from error
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
    nan, inf = _total(summary.nan_count), _total(summary.pos_inf_count) + _total(summary.neg_inf_count)
    if nan or inf:
        raise NonFiniteError(
            f"{nan} NaN and {inf} infinite values of {x.size} in a tensor of shape {x.shape}; "
            "mend the data or the model, or leave this sample out"
        )


def _total(counts: npt.NDArray[np.int64] | np.int64) -> int:
    # NumPy's sum of a scalar costs more than reducing a small tensor does.
    return int(counts.sum()) if isinstance(counts, np.ndarray) else int(counts)


def extremum(minimum: Array, maximum: Array, column: Column) -> Array:
    """The value of a MIN, MAX or ABS_MAX `column`, from a sample's extrema; float32, or float64 if they are."""
    if column.statistics_type is StatisticsType.MIN:
        value = minimum
    elif column.statistics_type is StatisticsType.MAX:
        value = maximum
    else:
        value = np.maximum(np.abs(minimum), np.abs(maximum))
    if value.dtype.itemsize < 4:
        value = value.astype(np.float32)
    return value if column.clipping_value is None else clamp(value, column.clipping_value)


def clamp(x: Array, limit: float) -> Array:
    """`x` clamped to [-limit, limit]; 16-bit floats become float32 first, so that the limit is not rounded to them."""
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    bound = wide.dtype.type(min(limit, float(np.finfo(wide.dtype).max)))
    clamped: Array = np.clip(wide, -bound, bound)
    return clamped


class SampleReducer:
    """Reduces samples to rows of the table.

    One `summarize` call serves every column that needs no clamped copy of the tensor, and all their quantiles;
    ABS_QUANTILE columns take another call, unless nothing is negative, and so does each limit that columns are clamped
    to. Which call finds which column is worked out once, since small tensors take less time than that.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        def limit_of_copy(column: Column) -> float | None:
            return None if column.statistics_type in _COMMUTES_WITH_CLIPPING else column.clipping_value

        # Even when every column asks for a clamped copy the tensor itself is summarized: an Inf must not hide in the
        # clamp.
        limits = dict.fromkeys((None, *map(limit_of_copy, columns)))
        self._calls = tuple(
            _Call(limit, [(i, column) for i, column in enumerate(columns) if limit_of_copy(column) == limit])
            for limit in limits
        )
        self._num_columns = len(columns)

    def __call__(self, x: Array, axes: tuple[int, ...], *, skip_nan: bool = False) -> list[Array]:
        """The value of each column: arrays of `x`'s rank, of size 1 at `axes`; float64 for float64 input, else float32.

        `x` must not be empty.

        :param skip_nan: leave NaN out; what has nothing else is NaN. `x` holds no Inf then.
        :raises NonFiniteError: `x` holds NaN or Inf, and `skip_nan` is False.
        """
        shape = reduced_shape(x.shape, axes)
        return [row.reshape(shape) for row in self.matrix(x, axes, skip_nan=skip_nan)]

    def matrix(
        self,
        x: Array,
        axes: tuple[int, ...],
        *,
        skip_nan: bool = False,
        histogram: npt.NDArray[np.uint64] | None = None,
    ) -> Array:
        """The same as one array: [columns, values], the values of the other axes in C order.

        :param histogram: counters to which all values of `x` are added, as `summarize` does; not after an error.
        """
        reduced: tuple[int, ...] | None = None if len(axes) == x.ndim else axes
        if not axes:  # Nothing to reduce: each value is a slice of its own.
            x, reduced = x[np.newaxis], (0,)
        rows: Array | None = None
        for call in self._calls:
            clamped = x if call.limit is None else clamp(x, call.limit)
            counters = histogram if call.limit is None else None
            summary = kernels.summarize(
                clamped, reduced, quantiles=call.quantiles, nan_policy="ignore", histogram=counters
            )
            if not skip_nan:
                require_finite(clamped, summary)
            if rows is None:
                minimum = np.asarray(summary.min)
                rows = np.empty((self._num_columns, minimum.size), minimum.dtype)
            call.fill(rows, summary, clamped, reduced)
        assert rows is not None
        return rows


class _Call:
    """What one read of a sample, clamped to `limit` or as it is, finds for some columns.

    :ivar limit: what the sample is clamped to, None for no clamp.
    :ivar quantiles: probabilities of the quantiles that the read must find.
    """

    def __init__(self, limit: float | None, columns: Sequence[tuple[int, Column]]) -> None:
        self.limit = limit
        self.quantiles = _probabilities(columns, StatisticsType.QUANTILE)
        self._abs_quantiles = _probabilities(columns, StatisticsType.ABS_QUANTILE)
        self._fields: list[tuple[int, str, float | None]] = []  # row index, field of Summary, limit to clamp it to
        planes: list[tuple[int, int]] = []  # row index, plane of the quantiles
        abs_planes: list[tuple[int, int]] = []
        for index, column in columns:
            kind, probability = column.statistics_type, column.probability
            if kind is StatisticsType.QUANTILE and probability is not None:
                planes.append((index, self.quantiles.index(probability)))
            elif kind is StatisticsType.ABS_QUANTILE and probability is not None:
                abs_planes.append((index, self._abs_quantiles.index(probability)))
            else:
                clip = column.clipping_value if kind in _COMMUTES_WITH_CLIPPING else None
                self._fields.append((index, str(kind.value), clip))
        self._rows, self._planes = _pairs(planes)
        self._abs_rows, self._abs_planes = _pairs(abs_planes)
        # Where all quantiles of magnitudes are asked for of the values too: the planes of these.
        known = all(probability in self.quantiles for probability in self._abs_quantiles)
        self._planes_of_abs = (
            _selection([self.quantiles.index(self._abs_quantiles[plane]) for _, plane in abs_planes]) if known else None
        )

    def fill(self, rows: Array, summary: kernels.Summary, x: Array, axes: tuple[int, ...] | None) -> None:
        """Write the rows of the columns of this call; `summary` is that of `x`, which is clamped already."""
        for index, field, limit in self._fields:
            value = getattr(summary, field)
            if limit is not None:
                value = clamp(np.asarray(value), limit)
            rows[index] = value.reshape(-1) if isinstance(value, np.ndarray) else value
        quantiles = summary.quantiles.reshape(-1, rows.shape[1])
        if self._rows is not None:
            rows[self._rows] = quantiles[self._planes]
        if self._abs_rows is None:
            return
        if self._planes_of_abs is not None and _all_at_least_zero(summary.min):
            # Without negative values magnitudes are the values, and their quantiles are known: no other read.
            rows[self._abs_rows] = quantiles[self._planes_of_abs]
            return
        of_magnitudes = np.asarray(kernels.abs_quantile(x, self._abs_quantiles, axes, nan_policy="ignore"))
        rows[self._abs_rows] = of_magnitudes.reshape(-1, rows.shape[1])[self._abs_planes]


def _all_at_least_zero(minimum: Array | np.floating[Any]) -> bool:
    # NumPy takes microseconds for the `all` of a scalar.
    return bool((minimum >= 0).all()) if isinstance(minimum, np.ndarray) else bool(minimum >= 0)


def _pairs(pairs: Sequence[tuple[int, int]]) -> tuple[_Selection | None, _Selection | None]:
    if not pairs:
        return None, None
    rows, planes = zip(*pairs, strict=True)
    return _selection(rows), _selection(planes)


def _selection(indices: Sequence[int]) -> _Selection:
    """Indices as a slice if they follow one another, which NumPy takes in a tenth of the time."""
    first = indices[0] if indices else 0
    following = slice(first, first + len(indices))
    return following if list(indices) == list(range(first, following.stop)) else np.array(indices, np.intp)


def _probabilities(columns: Sequence[tuple[int, Column]], kind: StatisticsType) -> tuple[float, ...]:
    found = {c.probability for _, c in columns if c.statistics_type is kind and c.probability is not None}
    return tuple(sorted(found))
