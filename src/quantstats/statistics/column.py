"""Columns of the sample table: which value a sample is reduced to."""

from __future__ import annotations

from dataclasses import dataclass

from quantstats.range_estimator import RangeEstimatorParameters, StatisticsCollectorParameters, StatisticsType

__all__ = ["Column", "columns_of"]

_QUANTILES = (StatisticsType.QUANTILE, StatisticsType.ABS_QUANTILE)


@dataclass(frozen=True)
class Column:
    """One reduced value of a sample.

    :param statistics_type: which statistic; not RAW.
    :param probability: the quantile's probability in [0, 1] for QUANTILE and ABS_QUANTILE, None for the others.
    :param clipping_value: v clamps the sample to [-v, v] before; None does not.
    """

    statistics_type: StatisticsType
    probability: float | None = None
    clipping_value: float | None = None


def columns_of(params: RangeEstimatorParameters, *, symmetric: bool) -> tuple[Column, Column]:
    """The columns that the min and the max branch of complete, non-HISTOGRAM `params` aggregate.

    The min branch asks for the quantile at ``quantile_outlier_prob``, the max branch at one minus that. A max branch
    that asks for MAX takes ABS_MAX if `symmetric`.
    """
    return _column(params.min, upper=False, symmetric=symmetric), _column(params.max, upper=True, symmetric=symmetric)


def _column(branch: StatisticsCollectorParameters, *, upper: bool, symmetric: bool) -> Column:
    kind = branch.statistics_type
    assert kind is not None, "parameters are complete here: see quantstats.range_estimator.resolve"
    if upper and symmetric and kind is StatisticsType.MAX:
        kind = StatisticsType.ABS_MAX
    probability = None
    if kind in _QUANTILES:
        probability = 1.0 - branch.quantile_outlier_prob if upper else branch.quantile_outlier_prob
    return Column(kind, probability, branch.clipping_value)
