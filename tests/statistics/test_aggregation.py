"""Aggregators and pooling by themselves."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantstats.errors import DataError
from quantstats.range_estimator import AggregatorType
from quantstats.statistics.aggregation import aggregate, check_poolable, order_free_mean, pool
from quantstats.statistics.aggregation.order_free_mean import _adds_exactly

from ..reference import numpy_kernels

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=finite)


@given(matrices)
def test_the_mean_is_the_exact_one_rounded(matrix: np.ndarray) -> None:
    expected = np.array([math.fsum(column) / len(column) for column in matrix.T.astype(np.float64)])
    np.testing.assert_array_max_ulp(order_free_mean(matrix), expected.astype(np.float32), 1)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_the_mean_of_float64_neither_cancels_nor_overflows(values: list[float]) -> None:
    expected = float(sum(map(Fraction, values)) / len(values))
    found = order_free_mean(np.array(values)[:, np.newaxis])[0]
    # The carried errors are float64 themselves: about 2^-104 of the largest term is lost, and values too small for a
    # quotient are rounded to the least denormal.
    assert abs(found - expected) <= 2.0**-52 * abs(expected) + 2.0**-100 * max(map(abs, values)) + 2.0**-1073


def test_both_ways_to_add_agree_by_the_bit() -> None:
    narrow = np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32)
    narrow[np.abs(narrow) < 1e-3] = 0.0
    wide = np.column_stack([narrow, np.full(300, 1e-30, np.float32)])  # One column makes all be sorted and compensated.
    assert _adds_exactly(narrow)
    assert not _adds_exactly(wide)
    assert _adds_exactly(np.array([[np.finfo(np.float32).max], [0.0]], np.float32))
    assert _adds_exactly(np.full((2, 1), 2.0**-149, np.float32))
    assert order_free_mean(wide)[:-1].tobytes() == order_free_mean(narrow).tobytes()
    assert order_free_mean(wide)[-1] == np.float32(1e-30)


@given(matrices, st.randoms(use_true_random=False))
def test_aggregates_do_not_depend_on_the_order_of_rows(matrix: np.ndarray, random: object) -> None:
    order = list(range(len(matrix)))
    random.shuffle(order)  # type: ignore[attr-defined]
    canonical = matrix + np.float32(0)  # A table holds no negative zeros.
    for aggregator in AggregatorType:
        if aggregator.value not in ("histogram", "mse", "entropy", "percentile", "auto"):
            first = aggregate(canonical, aggregator, 0.1)
            assert first.shape == matrix.shape[1:]
            assert first.dtype == np.float32
            assert first.tobytes() == aggregate(canonical[order], aggregator, 0.1).tobytes()


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 64, 301])
@pytest.mark.parametrize("probability", [1e-4, 0.05, 0.49])
def test_aggregates_equal_their_definition(rows: int, probability: float) -> None:
    matrix = np.random.default_rng(rows).normal(size=(rows, 17)).astype(np.float32)
    matrix[:, 3] = 2.5
    matrix[: rows // 2, 4] = 0
    for aggregator, expected in {
        AggregatorType.MIN: matrix.min(0),
        AggregatorType.MAX: matrix.max(0),
        AggregatorType.MEAN: matrix.astype(np.float64).mean(0),
        AggregatorType.MEDIAN: numpy_kernels.median(matrix, 0),
        AggregatorType.MEAN_NO_OUTLIERS: numpy_kernels.mean_no_outliers(matrix, quantile=probability),
        AggregatorType.MEDIAN_NO_OUTLIERS: numpy_kernels.median_no_outliers(matrix, quantile=probability),
    }.items():
        found = aggregate(matrix, aggregator, probability)
        np.testing.assert_allclose(found, expected, rtol=2.0**-22, atol=1e-9, err_msg=aggregator.name)


def test_pooling_stacks_samples_and_flattens_aggregated_axes() -> None:
    a, b = np.arange(6.0).reshape(2, 3, 1), np.arange(6.0, 9.0).reshape(1, 3, 1)
    matrix, shape = pool([a, b], (0, 1))
    assert shape == (1, 3, 1)
    np.testing.assert_array_equal(matrix, [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    matrix, shape = pool([a, a], (0,))
    assert (matrix.shape, shape) == ((2, 6), (2, 3, 1))
    wide = np.arange(12.0).reshape(2, 3, 2)
    matrix, shape = pool([wide, wide[:, :, :1]], (0, 1, 3))
    assert shape == (1, 3, 1)
    assert [sorted(column) for column in matrix.T] == [[0, 0, 1, 6, 6, 7], [2, 2, 3, 8, 8, 9], [4, 4, 5, 10, 10, 11]]


def test_sizes_may_differ_along_aggregated_axes_alone() -> None:
    check_poolable((2, 3), (5, 3), (0, 1))
    with pytest.raises(DataError, match="may differ only along aggregated axes"):
        check_poolable((2, 3), (5, 3), (0,))
