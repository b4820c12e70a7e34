"""Reducing one sample: each column's value, and how often the tensor is read for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantstats import kernels
from quantstats.range_estimator import RangeEstimatorParametersSet, StatisticsType
from quantstats.statistics import Column, RangeEstimator, columns_of
from quantstats.statistics.reduction import SampleReducer, clamp, reduced_shape

from ..reference import numpy_kernels

S = StatisticsType


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that are called, in order."""
    called: list[str] = []

    def watch(name: str) -> None:
        original = getattr(kernels, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(kernels, name, counted)

    for name in ("summarize", "min_max", "abs_max", "mean", "quantile", "abs_quantile", "median", "bit_histogram"):
        watch(name)
    return called


@pytest.mark.parametrize("name", ["MINMAX", "MEAN_MINMAX", "MEDIAN_MINMAX", "MEAN_NO_OUTLIERS_MINMAX", "MEAN_QUANTILE"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_one_read_for_an_update(reads: list[str], name: str, symmetric: bool) -> None:
    estimator = RangeEstimator(getattr(RangeEstimatorParametersSet, name), symmetric=symmetric)
    estimator.update(np.ones((3, 4), np.float32))
    assert reads == ["summarize"]


def test_the_histogram_reads_once_more_to_count(reads: list[str]) -> None:
    RangeEstimator(RangeEstimatorParametersSet.HISTOGRAM).update(np.ones((3, 4), np.float32))
    assert reads == ["summarize", "bit_histogram"]


def test_all_columns_together_take_one_read_and_one_for_magnitudes(reads: list[str]) -> None:
    columns = [Column(S.MIN), Column(S.MAX), Column(S.ABS_MAX), Column(S.MEAN), Column(S.MAX, clipping_value=1.0)]
    columns += [Column(S.QUANTILE, p) for p in (0.1, 0.9)] + [Column(S.ABS_QUANTILE, p) for p in (0.1, 0.9)]
    SampleReducer(columns)(np.full((3, 4), -1, np.float32), (0, 1))
    assert reads == ["summarize", "abs_quantile"]


def test_magnitudes_of_values_that_are_not_negative_take_no_read_of_their_own(reads: list[str]) -> None:
    quantiles = [Column(S.QUANTILE, p) for p in (0.9, 0.1, 0.3)]
    magnitudes = [Column(S.ABS_QUANTILE, p) for p in (0.3, 0.9)]
    x = np.maximum(np.random.default_rng(2).normal(size=(2, 3, 40)), 0).astype(np.float32)
    x[0, 0, :5] = -0.0
    expected = [kernels.abs_quantile(x, column.probability, (0, 2)) for column in magnitudes]
    reads.clear()
    found = SampleReducer([*quantiles, *magnitudes])(x, (0, 2))[len(quantiles) :]
    assert reads == ["summarize"]
    for value, other in zip(found, expected, strict=True):
        assert value.reshape(-1).tobytes() == np.asarray(other).tobytes()
    # Other probabilities are not known from the values', and one negative value makes the magnitudes others.
    reads.clear()
    SampleReducer([*quantiles, Column(S.ABS_QUANTILE, 0.5)])(x, (0, 2))
    x[1, 2, 7] = -1e-30
    SampleReducer([*quantiles, *magnitudes])(x, (0, 2))
    assert reads == ["summarize", "abs_quantile"] * 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2), (1,), ()])
def test_values_equal_their_definition(axes: tuple[int, ...], dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5, 30)).astype(dtype)
    wide = x if dtype is np.float64 else x.astype(np.float32)
    limit = wide.dtype.type(0.7)  # No float16 number: the clamp must not round it to one.
    clipped = np.clip(wide, -limit, limit)
    # Reducing over an added axis of size 1 is no reduction.
    over, reduced = (x, axes) if axes else (x[np.newaxis], (0,))
    over_clipped = clipped if axes else clipped[np.newaxis]
    plain = numpy_kernels.summarize(over, reduced, quantiles=(0.05, 0.9))
    clamped = numpy_kernels.summarize(over_clipped, reduced, quantiles=(0.9,))
    expected = {
        Column(S.MIN): plain.min,
        Column(S.MAX): plain.max,
        Column(S.ABS_MAX): plain.abs_max,
        Column(S.MEAN): plain.mean,
        Column(S.QUANTILE, 0.05): plain.quantiles[0],
        Column(S.QUANTILE, 0.9): plain.quantiles[1],
        Column(S.ABS_QUANTILE, 0.9): numpy_kernels.abs_quantile(over, 0.9, reduced),
        Column(S.MIN, clipping_value=0.7): clamped.min,
        Column(S.ABS_MAX, clipping_value=0.7): clamped.abs_max,
        Column(S.MEAN, clipping_value=0.7): clamped.mean,
        Column(S.QUANTILE, 0.9, 0.7): clamped.quantiles[0],
        Column(S.ABS_QUANTILE, 0.9, 0.7): numpy_kernels.abs_quantile(over_clipped, 0.9, reduced),
    }
    for column, value in zip(expected, SampleReducer(list(expected))(x, axes), strict=True):
        assert value.shape == reduced_shape(x.shape, axes)
        assert value.dtype == (np.float64 if dtype is np.float64 else np.float32)
        tolerance = {"rtol": 1e-6, "atol": 1e-7} if column.statistics_type is S.MEAN else {"rtol": 0}
        np.testing.assert_allclose(value.ravel(), np.ravel(expected[column]), **tolerance, err_msg=str(column))


def test_columns_of_a_range() -> None:
    params = RangeEstimatorParametersSet.MEAN_QUANTILE
    assert columns_of(params, symmetric=True) == (Column(S.QUANTILE, 1e-4), Column(S.QUANTILE, 1 - 1e-4))
    params = RangeEstimatorParametersSet.MINMAX
    assert columns_of(params, symmetric=False) == (Column(S.MIN), Column(S.MAX))
    assert columns_of(params, symmetric=True) == (Column(S.MIN), Column(S.ABS_MAX))


def test_a_limit_beyond_the_dtype_clamps_nothing() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        x = np.array([-6e4, 3.0], dtype)
        np.testing.assert_array_equal(clamp(x, 1e300), x)
