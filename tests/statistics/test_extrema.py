"""Samples that were reduced elsewhere leave what whole samples leave."""

from __future__ import annotations

import numpy as np
import pytest

from quantstats.errors import DataError, ParameterError
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
from quantstats.statistics import RangeEstimator

S, A = StatisticsType, AggregatorType
AXES = {"per tensor": (None, (0,)), "per channel": ((0, 2), (0,)), "per item": ((1, 2), (0, 1))}


def both(statistic: StatisticsType, clipping_value: float | None) -> RangeEstimatorParameters:
    branch = StatisticsCollectorParameters(statistic, A.MEAN, clipping_value)
    return RangeEstimatorParameters(min=branch, max=branch)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("clipping_value", [None, 0.7])
@pytest.mark.parametrize("statistic", [S.MIN, S.MAX, S.ABS_MAX], ids=lambda s: s.name)
@pytest.mark.parametrize("place", AXES)
def test_extrema_leave_what_the_sample_leaves(
    place: str, statistic: StatisticsType, clipping_value: float | None, dtype: type[np.floating]
) -> None:
    rng = np.random.default_rng(1)
    reduction_axes, aggregation_axes = AXES[place]
    whole, reduced = (
        RangeEstimator(
            both(statistic, clipping_value), reduction_axes=reduction_axes, aggregation_axes=aggregation_axes
        )
        for _ in range(2)
    )
    assert reduced.needs_extrema_only
    for batch in (2, 3):
        x = rng.normal(size=(batch, 3, 5)).astype(dtype)
        x[0, 0, 0] = -0.0
        whole.update(x)
        reduced.update_extrema(x.min(reduction_axes, keepdims=True), x.max(reduction_axes, keepdims=True))
    assert reduced == whole
    for found, expected in zip(reduced.range(), whole.range(), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["MEAN_QUANTILE", "HISTOGRAM"])
def test_estimators_that_need_more(name: str) -> None:
    estimator = RangeEstimator(getattr(RangeEstimatorParametersSet, name))
    assert not estimator.needs_extrema_only
    with pytest.raises(ParameterError, match=r"needs more of a sample than its extrema; call update\(\)"):
        estimator.update_extrema(np.float32([0]), np.float32([1]))


def test_extrema_that_do_not_fit() -> None:
    estimator = RangeEstimator(RangeEstimatorParametersSet.MINMAX, reduction_axes=(0,))
    with pytest.raises(ParameterError, match="give both of one sample"):
        estimator.update_extrema(np.zeros((1, 3), np.float32), np.zeros((1, 4), np.float32))
    estimator.update_extrema(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))
    with pytest.raises(DataError, match=r"reduces to shape \(1, 4\), earlier ones to \(1, 3\)"):
        estimator.update_extrema(np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32))
    assert estimator.num_samples == 1
