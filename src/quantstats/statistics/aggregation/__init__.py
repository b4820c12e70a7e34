"""Aggregation: the values of all samples become one.

Every aggregator is a function of a matrix with a row for each value and a column for each channel. None depends on
the order of the rows, bit for bit: order statistics by nature, sums because `order_free_mean` sorts first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels
from quantstats.range_estimator import AggregatorType
from quantstats.statistics.aggregation.no_outliers import mean_no_outliers, median_no_outliers
from quantstats.statistics.aggregation.order_free_mean import order_free_mean
from quantstats.statistics.aggregation.pooling import check_poolable, pool

__all__ = ["aggregate", "check_poolable", "order_free_mean", "pool"]


def aggregate(matrix: npt.NDArray[Any], aggregator: AggregatorType, quantile_outlier_prob: float) -> npt.NDArray[Any]:
    """One value for each column of `matrix` [values, channels], in its dtype (float32 or float64).

    `quantile_outlier_prob` is read by the no-outliers aggregators only. HISTOGRAM does not aggregate rows and is not
    accepted. `matrix` needs at least one row and holds finite values.
    """
    if aggregator is AggregatorType.MIN:
        result = kernels.min_max(matrix, 0)[0]
    elif aggregator is AggregatorType.MAX:
        result = kernels.min_max(matrix, 0)[1]
    elif aggregator is AggregatorType.MEAN:
        result = order_free_mean(matrix)
    elif aggregator is AggregatorType.MEDIAN:
        result = kernels.median(matrix, 0)
    elif aggregator is AggregatorType.MEAN_NO_OUTLIERS:
        result = mean_no_outliers(matrix, quantile_outlier_prob)
    elif aggregator is AggregatorType.MEDIAN_NO_OUTLIERS:
        result = median_no_outliers(matrix, quantile_outlier_prob)
    else:
        raise AssertionError(f"{aggregator} does not aggregate rows")
    return np.asarray(result)
