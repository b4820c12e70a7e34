"""Mean and median of the values that are not outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels
from quantstats.statistics.aggregation.order_free_mean import order_free_mean

__all__ = ["inliers", "mean_no_outliers", "median_no_outliers"]

Array = npt.NDArray[Any]


def inliers(matrix: Array, probability: float) -> npt.NDArray[np.bool_]:
    """Which values of `matrix` [values, channels] are not outliers.

    A value is an outlier if it lies strictly below its column's quantile at `probability`, or strictly above that at
    1 - `probability`. A column where that holds for all values keeps them all: both values of a pair lie outside the
    quantiles between them, and dropping both would leave nothing to estimate a range from.
    """
    low, high = np.asarray(kernels.quantile(matrix, (probability, 1.0 - probability), 0))
    kept = np.asarray((matrix >= low) & (matrix <= high))
    return kept | ~kept.any(axis=0)


def mean_no_outliers(matrix: Array, probability: float) -> Array:
    """Mean of the inliers of each column, in the dtype of `matrix`."""
    return order_free_mean(matrix, inliers(matrix, probability))


def median_no_outliers(matrix: Array, probability: float) -> Array:
    """Median of the inliers of each column, in the dtype of `matrix`."""
    result = np.array(kernels.median_no_outliers(matrix, 0, quantile=probability))
    whole = inliers(matrix, probability).all(axis=0)
    if whole.any():
        result[whole] = kernels.median(np.ascontiguousarray(matrix[:, whole]), 0)
    return result
