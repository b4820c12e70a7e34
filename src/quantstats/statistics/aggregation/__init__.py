"""Aggregation: the values of all samples become one.

Every aggregator is a function of a matrix with a row for each value and a column for each channel. None depends on
the order of the rows, bit for bit: order statistics by nature, sums because they are exact but for one rounding or
take their terms in sorted order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels
from quantstats.range_estimator import AggregatorType
from quantstats.statistics.aggregation.order_free_mean import order_free_mean
from quantstats.statistics.aggregation.pooling import check_poolable, pool

__all__ = ["aggregate", "check_poolable", "order_free_mean", "pool"]


def aggregate(matrix: npt.NDArray[Any], aggregator: AggregatorType, quantile_outlier_prob: float) -> npt.NDArray[Any]:
    """One value for each column of `matrix` [values, channels], in its dtype (float32 or float64).

    `quantile_outlier_prob` is read by the no-outliers aggregators only: a value is an outlier if it lies strictly
    outside its column's quantiles at that probability and at one minus it. A column where that holds for every value,
    as for a pair, keeps them all: dropping all would leave nothing to estimate a range from. HISTOGRAM does not
    aggregate rows and is not accepted. `matrix` needs at least one row and holds finite values.
    """
    result: Any
    if aggregator is AggregatorType.MIN:
        result = kernels.min_max(matrix, 0)[0]
    elif aggregator is AggregatorType.MAX:
        result = kernels.min_max(matrix, 0)[1]
    elif aggregator is AggregatorType.MEAN:
        result = order_free_mean(matrix)
    elif aggregator is AggregatorType.MEDIAN:
        result = kernels.median(matrix, 0)
    elif aggregator is AggregatorType.MEAN_NO_OUTLIERS:
        result = kernels.mean_no_outliers(matrix, 0, quantile=quantile_outlier_prob)
    elif aggregator is AggregatorType.MEDIAN_NO_OUTLIERS:
        result = kernels.median_no_outliers(matrix, 0, quantile=quantile_outlier_prob)
    else:
        raise AssertionError(f"{aggregator} does not aggregate rows")
    return np.asarray(result)
