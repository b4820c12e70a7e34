"""Ranges from collected statistics: any estimator, without the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats.errors import ParameterError
from quantstats.quantizer import QuantizerConfig
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    StatisticsCollectorParameters,
    StatisticsType,
)
from quantstats.statistics.aggregation import aggregate
from quantstats.statistics.bit_histogram import BitHistogram
from quantstats.statistics.column import Column, columns_of
from quantstats.statistics.columnar_table import ColumnarTable
from quantstats.statistics.distribution_range import distribution_range, quantizer_config
from quantstats.statistics.reduction import clamp
from quantstats.statistics.tensor_statistics import TensorStatistics

__all__ = ["DerivedRange", "derive_range"]

Array = npt.NDArray[Any]

_OF_EXTREMA = (StatisticsType.MIN, StatisticsType.MAX, StatisticsType.ABS_MAX)
_QUANTILES = (StatisticsType.QUANTILE, StatisticsType.ABS_QUANTILE)
# These never fall when a value rises. The no-outliers aggregators may: a value that rises can become an outlier.
_MONOTONE = (AggregatorType.MIN, AggregatorType.MAX, AggregatorType.MEAN, AggregatorType.MEDIAN)


@dataclass(frozen=True, eq=False)
class DerivedRange:
    """A range, and how far it may be from the one that the data themselves would have given.

    It unpacks as a pair: ``low, high = statistics.range(...)``.

    :param low: lower bound: float32, or float64 for float64 samples, of the tensor's rank with size 1 but along the
        channel axis. 0-d for HISTOGRAM, MSE, ENTROPY, PERCENTILE and AUTO.
    :param high: upper bound, likewise.
    :param low_error: the largest possible distance of `low` from the exact value; 0 where `low` is exact, to the bit.
    :param high_error: the same of `high`.
    """

    low: Array
    high: Array
    low_error: float = 0.0
    high_error: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether both bounds have the bits that a run with these parameters gives."""
        return self.low_error == 0.0 == self.high_error

    def __iter__(self) -> Iterator[Array]:
        yield self.low
        yield self.high


def derive_range(
    tensor: TensorStatistics,
    params: RangeEstimatorParameters,
    *,
    per_channel: bool,
    symmetric: bool,
    num_bits: int = 8,
    strict: bool,
    config: QuantizerConfig | None = None,
) -> DerivedRange:
    """The range that a `RangeEstimator` with complete `params` gives for the samples in `tensor`.

    :param config: all of the quantizer that is to follow, in place of `num_bits`; of the mode that `symmetric` says.
    :raises DataError: no sample was collected, or none with a finite value.
    :raises ParameterError: the statistics do not hold what the parameters need, or `config` is of another mode.
    """
    quantizer = quantizer_config(config, num_bits=num_bits, symmetric=symmetric)
    tensor.require_values()
    if params.is_histogram:
        return _from_histogram(tensor, params, quantizer)
    table, shape = tensor.table, [1] * (tensor.rank or 0)
    if per_channel:
        if tensor.channel_table is None or tensor.channel_axis is None:
            raise ParameterError("no statistics per channel were collected; calibrate with per_channel=True")
        table = tensor.channel_table
        shape[tensor.channel_axis] = table.values.shape[2]
    bounds: list[Array] = []
    errors: list[float] = []
    for column, branch in zip(columns_of(params, symmetric=symmetric), (params.min, params.max), strict=True):
        matrix = _exactly(table, column)
        if matrix is not None:
            bound, error = _aggregate(matrix, branch), 0.0
        else:
            bound, error = _estimate(table, tensor.histogram, column, branch, per_channel=per_channel, strict=strict)
        bounds.append(bound.reshape(shape))
        errors.append(error)
    return DerivedRange(bounds[0], bounds[1], errors[0], errors[1])


def _from_histogram(
    tensor: TensorStatistics, params: RangeEstimatorParameters, config: QuantizerConfig
) -> DerivedRange:
    histogram, limit = tensor.histogram, params.min.clipping_value
    if limit is not None and max(-histogram.minimum, histogram.maximum) > limit:
        histogram = histogram.clamped(limit, np.float64 if tensor.dtype == "float64" else np.float32)
    return DerivedRange(*distribution_range(histogram, params, config))


def _aggregate(matrix: Array, branch: StatisticsCollectorParameters) -> Array:
    assert branch.aggregator_type is not None, "parameters are complete here: see quantstats.range_estimator.resolve"
    return aggregate(matrix, branch.aggregator_type, branch.quantile_outlier_prob)


def _exactly(table: ColumnarTable, column: Column) -> Array | None:
    """The values of a column, [rows, channels], if they follow from what was collected to the bit."""
    if column in table.columns:
        return table.matrix(column)
    limit = column.clipping_value
    if limit is None:
        return None
    plain = Column(column.statistics_type, column.probability)
    if plain not in table.columns:
        return None
    if column.statistics_type in _OF_EXTREMA:
        return clamp(table.matrix(plain), limit)
    # A clamp that changes no value changes no order statistic. It may change the last bit of a mean, which depends on
    # how the values lie in memory.
    largest = float(table.matrix(Column(StatisticsType.ABS_MAX)).max())
    return table.matrix(plain) if column.statistics_type in _QUANTILES and largest <= limit else None


def _estimate(
    table: ColumnarTable,
    histogram: BitHistogram,
    column: Column,
    branch: StatisticsCollectorParameters,
    *,
    per_channel: bool,
    strict: bool,
) -> tuple[Array, float]:
    """A quantile at a probability that was not collected, and its largest possible error.

    The quantile of each row lies between those at the next probabilities that were collected. An aggregator that never
    falls when a value rises keeps the order, so the exact bound lies between two that the table gives; of a single row
    it also lies within the histogram's bin. The estimate is the quantile of all values together, drawn between these.
    """
    kind, probability = column.statistics_type, column.probability
    remedy = "calibrate with range_estimators=[...] that contains these parameters"
    if kind not in _QUANTILES or probability is None or column.clipping_value is not None:
        raise ParameterError(f"{column} was not collected and does not follow from what was; {remedy}")
    collected = sorted(
        c.probability
        for c in table.columns
        if c.statistics_type is kind and c.clipping_value is None and c.probability is not None
    )
    listed = ", ".join(f"{p:.6g}" for p in collected)
    if strict or per_channel or branch.aggregator_type not in _MONOTONE:
        reason = (
            ""
            if strict
            else ", and has no bound per channel"
            if per_channel
            else f", and has no bound with the aggregator {branch.aggregator_type}"
        )
        raise ParameterError(
            f"the {kind} at probability {probability!r} was not collected{reason}; use one of {listed}, or {remedy}"
        )
    magnitudes = kind is StatisticsType.ABS_QUANTILE
    below = max((p for p in collected if p < probability), default=None)
    above = min((p for p in collected if p > probability), default=None)
    if below is not None:
        lower = _aggregate(table.matrix(Column(kind, below)), branch)
    elif magnitudes:
        lower = np.zeros(1, table.values.dtype)
    else:
        lower = _aggregate(table.matrix(Column(StatisticsType.MIN)), branch)
    largest = StatisticsType.ABS_MAX if magnitudes else StatisticsType.MAX
    upper = _aggregate(table.matrix(Column(largest) if above is None else Column(kind, above)), branch)
    in_bin = histogram.quantile_bounds(probability, magnitudes=magnitudes)
    low, high = float(lower.item()), float(upper.item())
    estimate = min(max((in_bin[0] + in_bin[1]) / 2, low), high)
    if len(table.values) == 1:
        low, high = max(low, in_bin[0]), min(high, in_bin[1])
        estimate = (low + high) / 2
    value = np.asarray(estimate, table.values.dtype)
    return value, max(float(value) - low, high - float(value), 0.0)
