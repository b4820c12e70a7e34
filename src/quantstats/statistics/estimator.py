"""`RangeEstimator`: samples in, range out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels
from quantstats._validation import check_axes, check_bool, check_instance, check_num_bits
from quantstats.errors import DataError, ParameterError
from quantstats.quantizer import QuantizerConfig
from quantstats.range_estimator import RangeEstimatorParameters, StatisticsType, resolve
from quantstats.statistics.aggregation import aggregate, check_poolable, pool
from quantstats.statistics.bit_histogram import BitHistogram
from quantstats.statistics.column import columns_of
from quantstats.statistics.distribution_range import distribution_range, quantizer_config
from quantstats.statistics.reduction import (
    SampleReducer,
    as_sample,
    clamp,
    extremum,
    reduced_shape,
    reduction_axes_of,
    require_finite,
)
from quantstats.statistics.table import SampleTable
from quantstats.typing import Tensor

__all__ = ["RangeEstimator", "range_from_table"]

Array = npt.NDArray[Any]

# All that these need of a sample is its least and its greatest value.
_OF_EXTREMA = (StatisticsType.MIN, StatisticsType.MAX, StatisticsType.ABS_MAX)


def range_from_table(
    table: SampleTable,
    params: RangeEstimatorParameters,
    *,
    aggregation_axes: Sequence[int] = (0,),
    symmetric: bool = False,
) -> tuple[Array, Array]:
    """Lower and upper bound, from a table that has the columns of `params` (see `columns_of`).

    :param params: complete parameters of an estimator that does not need the distribution of all values.
    :returns: arrays of the shape of a reduced sample, with size 1 at the aggregated axes.
    :raises DataError: the table is empty.
    :raises ParameterError: the table lacks a column.
    """
    if not len(table):
        raise DataError("a range needs at least one sample and none was collected; give calibration data")
    bounds = []
    for column, branch in zip(columns_of(params, symmetric=symmetric), (params.min, params.max), strict=True):
        matrix, shape = pool(table.values(column), aggregation_axes)
        assert branch.aggregator_type is not None
        bounds.append(aggregate(matrix, branch.aggregator_type, branch.quantile_outlier_prob).reshape(shape))
    return bounds[0], bounds[1]


class RangeEstimator:
    """Estimates a quantization range from samples of a tensor.

    It keeps what the samples are reduced to, not the samples. Neither the order of samples nor how they are spread
    over estimators that are merged later changes the range, by a single bit. It pickles, copies and compares; two
    estimators are equal if they have the same parameters and saw the same samples in any order (more precisely:
    samples with the same reduced values).

    :param params: how the range is estimated. Fields left None take the defaults of a per-tensor activation; for
        another place complete them first with `quantstats.range_estimator.resolve`.
    :param reduction_axes: the axes of a sample that are reduced, and kept as size 1; None reduces all. Per channel:
        all but the channel axis.
    :param aggregation_axes: the axes of the stack of reduced samples over which values are aggregated: axis 0 counts
        the samples and must be among them, axis k is axis k - 1 of a sample. With ``(0, 1)``, and 0 not among the
        reduction axes, each item of a batch is a sample of its own.
    :param symmetric: whether the range is for a symmetric quantizer: a max branch that asks for MAX takes ABS_MAX, and
        those that look at the distribution of all values search symmetric ranges.
    :raises ParameterError: a parameter is invalid.

    HISTOGRAM, MSE, ENTROPY, PERCENTILE and AUTO look at all values of a tensor together and do not use the axes.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        params: RangeEstimatorParameters,
        *,
        reduction_axes: Sequence[int] | None = None,
        aggregation_axes: Sequence[int] = (0,),
        symmetric: bool = False,
    ) -> None:
        check_bool("RangeEstimator", "symmetric", symmetric)
        if reduction_axes is not None:
            check_axes("RangeEstimator", "reduction_axes", reduction_axes)
        check_axes("RangeEstimator", "aggregation_axes", aggregation_axes)
        self._params = resolve(params, is_weight=False, per_channel=False)
        self._reduction_axes = None if reduction_axes is None else tuple(sorted(set(reduction_axes)))
        self._aggregation_axes = tuple(sorted(set(aggregation_axes)))
        self._symmetric = symmetric
        if not self._aggregation_axes or self._aggregation_axes[0] != 0:
            raise ParameterError(
                f"aggregation_axes={tuple(aggregation_axes)} must contain 0, the axis that counts the samples, and no "
                "negative axis; use (0,), or (0, 1) to make each item of a batch a sample"
            )
        histogram = self._params.is_histogram
        self._table = SampleTable(() if histogram else columns_of(self._params, symmetric=symmetric))
        self._histogram = BitHistogram() if histogram else None
        self._reducer = SampleReducer(self._table.columns)
        self._reduced_shape: tuple[int, ...] | None = None
        self._known: tuple[tuple[int, ...], tuple[int, ...]] | None = None  # a shape that fits, and its reduced axes
        self._num_samples = 0

    @property
    def params(self) -> RangeEstimatorParameters:
        """A copy of the parameters, complete."""
        return copy.deepcopy(self._params)

    @property
    def reduction_axes(self) -> tuple[int, ...] | None:
        """The axes of a sample that are reduced; None for all."""
        return self._reduction_axes

    @property
    def aggregation_axes(self) -> tuple[int, ...]:
        """The axes of the stack of reduced samples over which values are aggregated."""
        return self._aggregation_axes

    @property
    def symmetric(self) -> bool:
        """Whether the range is for a symmetric quantizer."""
        return self._symmetric

    @property
    def num_samples(self) -> int:
        """How many samples were taken in; empty ones do not count."""
        return self._num_samples

    def update(self, x: npt.ArrayLike | Tensor) -> None:
        """Take in one sample: an array of float32, float64, float16 or bfloat16, of any strides. It is not kept.

        An empty array is no sample and changes nothing (a detector may find no box). On an error nothing changes.

        :raises NonFiniteError: `x` holds NaN or Inf.
        :raises DataError: `x` has another dtype, or another number of channels than earlier samples.
        :raises ParameterError: `x` has too few dimensions for the axes.
        """
        sample = as_sample(x)
        if sample.size == 0:
            return
        if self._histogram is not None:
            self._update_histogram(self._histogram, sample)
        else:
            if self._known is None or self._known[0] != sample.shape:
                self._known = sample.shape, self._fitting_axes(sample.shape)
            row = self._reducer(sample, self._known[1])
            self._table.append(row)
            self._reduced_shape = row[0].shape
        self._num_samples += 1

    def _fitting_axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes to reduce in a sample of `shape`, which must go with the samples before."""
        axes = reduction_axes_of(len(shape), self._reduction_axes)
        reduced = reduced_shape(shape, axes)
        check_poolable(reduced, self._reduced_shape or reduced, self._aggregation_axes)
        return axes

    @property
    def needs_extrema_only(self) -> bool:
        """Whether the least and the greatest value of a sample are all that is taken of it: see `update_extrema`."""
        return self._histogram is None and all(c.statistics_type in _OF_EXTREMA for c in self._table.columns)

    def update_extrema(self, minimum: Array, maximum: Array) -> None:
        """Take in one sample that was reduced elsewhere, for an estimator that `needs_extrema_only`.

        It leaves the same bits as `update` with the whole sample.

        :param minimum: the sample's least values, finite, along the reduction axes, which are kept with size 1.
        :param maximum: the greatest values, of the same shape.
        :raises ParameterError: the estimator needs more than extrema, or the shapes differ.
        :raises DataError: the values have another dtype, or another number of channels than earlier samples.
        """
        if not self.needs_extrema_only:
            raise ParameterError(f"{self!r} needs more of a sample than its extrema; call update() with the sample")
        if minimum.shape != maximum.shape or minimum.dtype != maximum.dtype:
            raise ParameterError(
                f"minimum is {minimum.dtype} of shape {minimum.shape}, maximum {maximum.dtype} of shape "
                f"{maximum.shape}; give both of one sample"
            )
        low, high = as_sample(minimum), as_sample(maximum)
        if self._reduced_shape is not None and low.shape != self._reduced_shape:
            check_poolable(low.shape, self._reduced_shape, self._aggregation_axes)
        self._table.append([extremum(low, high, column) for column in self._table.columns])
        self._reduced_shape = low.shape
        self._num_samples += 1

    def _update_histogram(self, histogram: BitHistogram, sample: Array) -> None:
        summary = kernels.summarize(sample, nan_policy="ignore")
        require_finite(sample, summary)
        extrema = np.array([summary.min, summary.max])
        limit = self._params.min.clipping_value
        if limit is not None and float(np.abs(extrema).max()) > limit:
            sample, extrema = clamp(sample, limit), clamp(extrema, limit)
        histogram.add(sample, float(extrema[0]), float(extrema[1]))

    def merge(self, other: RangeEstimator) -> None:
        """Take in all samples of `other`, which is not changed.

        :raises ParameterError: `other` is no estimator, or has other parameters or axes.
        :raises DataError: `other` saw another number of channels.
        """
        check_instance("RangeEstimator.merge", "other", other, RangeEstimator)
        if self._settings() != other._settings():
            raise ParameterError(
                f"estimators with different settings cannot be merged: {self._settings()} and {other._settings()}; "
                "collect both with the same ones"
            )
        if self._reduced_shape is not None and other._reduced_shape is not None:
            check_poolable(other._reduced_shape, self._reduced_shape, self._aggregation_axes)
        self._table.merge(other._table)
        if self._histogram is not None and other._histogram is not None:
            self._histogram.merge(other._histogram)
        self._reduced_shape = self._reduced_shape or other._reduced_shape
        self._known = None
        self._num_samples += other._num_samples

    def range(self, *, num_bits: int = 8, config: QuantizerConfig | None = None) -> tuple[Array, Array]:
        """Lower and upper bound: float32 arrays (float64 for float64 samples) of the shape of a reduced sample, with
        size 1 at the aggregated axes. 0-d for HISTOGRAM, MSE, ENTROPY, PERCENTILE and AUTO.

        :param num_bits: the bit width of the quantizer, whose error HISTOGRAM, MSE, ENTROPY and AUTO minimise; other
            estimators do not depend on it.
        :param config: all of the quantizer, in place of `num_bits`; its mode must be what `symmetric` says.
        :raises DataError: no sample was taken in.
        :raises ParameterError: `config` is of another mode.
        """
        check_num_bits("RangeEstimator.range", "num_bits", num_bits)
        quantizer = quantizer_config(config, num_bits=num_bits, symmetric=self._symmetric)
        if self._histogram is None:
            return range_from_table(
                self._table, self._params, aggregation_axes=self._aggregation_axes, symmetric=self._symmetric
            )
        if not self._num_samples:
            raise DataError("a range needs at least one sample and none was collected; give calibration data")
        return distribution_range(self._histogram, self._params, quantizer)

    def state(self) -> dict[str, Array]:
        """All that was collected, as arrays for a file of another library; `restore` takes it in again.

        :returns: ``num_samples``, and ``counts`` [65536] and ``extrema`` [2] of the histogram of all values, or a
            float32 (float64 for float64 samples) array ``rows`` [samples, columns, ...] of the reduced samples.
        :raises DataError: the reduced samples differ in shape.
        """
        state = {"num_samples": np.array(self._num_samples, np.int64)}
        if self._histogram is not None:
            state["counts"] = self._histogram.counts.astype(np.int64)
            state["extrema"] = np.array([self._histogram.minimum, self._histogram.maximum])
        elif self._num_samples:
            columns = [self._table.values(column) for column in self._table.columns]
            if len({value.shape for value in columns[0]}) > 1:
                raise DataError("samples of different shapes have no common array; pickle the estimator instead")
            state["rows"] = np.stack([np.stack(values) for values in columns], axis=1)
        return state

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take in what `state` gave of an estimator with the same settings, in place of what was collected.

        :raises DataError: the state is incomplete or that of an estimator with other settings.
        """
        needed = ["num_samples"] if self._histogram is None else ["num_samples", "counts", "extrema"]
        missing = [name for name in needed if name not in state]
        num_samples = 0 if missing else int(state["num_samples"])
        if self._histogram is None and num_samples and "rows" not in state:
            missing.append("rows")
        if missing:
            raise DataError(f"the state has no {missing[0]!r}; it is of another kind of estimator than {self!r}")
        twin = RangeEstimator(
            self._params,
            reduction_axes=self._reduction_axes,
            aggregation_axes=self._aggregation_axes,
            symmetric=self._symmetric,
        )
        if twin._histogram is not None:
            for name, shape in (("counts", twin._histogram.counts.shape), ("extrema", (2,))):
                if state[name].shape != shape:
                    raise DataError(f"{name} have shape {state[name].shape}, not {shape}; the state is damaged")
            twin._histogram.counts[:] = state["counts"]
            twin._histogram.minimum, twin._histogram.maximum = (float(value) for value in state["extrema"])
            if not twin._histogram.fits_together:
                raise DataError(
                    f"extrema are {state['extrema'].tolist()}, which the counted values are not; the state is damaged"
                )
        elif num_samples:
            rows = state["rows"]
            if rows.shape[:2] != (num_samples, len(twin._table.columns)):
                raise DataError(
                    f"rows have shape {rows.shape}, not ({num_samples}, {len(twin._table.columns)}, ...); the state is "
                    f"of another estimator than {self!r}"
                )
            for row in rows:
                twin._table.append(list(row))
            twin._reduced_shape = rows.shape[2:]
        twin._num_samples = num_samples
        self.__dict__.update(twin.__dict__)

    def _settings(self) -> tuple[RangeEstimatorParameters, tuple[int, ...] | None, tuple[int, ...], bool]:
        return self._params, self._reduction_axes, self._aggregation_axes, self._symmetric

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeEstimator):
            return NotImplemented
        return (
            self._settings() == other._settings()
            and self._num_samples == other._num_samples
            and self._table == other._table
            and self._histogram == other._histogram
        )

    def __copy__(self) -> RangeEstimator:
        twin = RangeEstimator(
            self._params,
            reduction_axes=self._reduction_axes,
            aggregation_axes=self._aggregation_axes,
            symmetric=self._symmetric,
        )
        twin.merge(self)
        return twin

    def __repr__(self) -> str:
        branches = (self._params.min, self._params.max)
        kinds = " ".join(
            f"{name}={branch.statistics_type.name}/{branch.aggregator_type.name}"
            for name, branch in zip(("min", "max"), branches, strict=True)
            if branch.statistics_type and branch.aggregator_type
        )
        return f"<RangeEstimator {kinds}: {self._num_samples} samples>"
