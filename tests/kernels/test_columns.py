"""Order statistics of columns, and the aggregators that drop outliers, against NumPy and nncf."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantstats import _core, kernels
from quantstats._core import Target

Array = npt.NDArray[Any]

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
PROBABILITIES = [0.5, 0.0, 1.0, 1e-4, 0.9999, 0.3]
# Around the blocks of the sorting network and its passes.
FEW_ROWS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 129, 255, 257, 300, 513, 1025]
# Around the number of rows that are sorted whole: 2048 of float64, 4096 of the other types.
MANY_ROWS = [2047, 2048, 2049, 4095, 4096, 4097]


def result_dtype(x: Array) -> type[Any]:
    return np.float64 if x.dtype == np.float64 else np.float32


def reference(x: Array, q: Any, axis: Any = 0) -> Array:
    """NumPy's quantile in float64, rounded once; + 0 makes zeros positive."""
    return np.asarray(np.quantile(x.astype(np.float64), q, axis=axis), result_dtype(x)) + 0


def survivors(column: Array, p: float) -> Array:
    """The values within the quantiles p and 1 - p of a column without NaN, all of them if there are none."""
    wide = column.astype(np.float64)
    low, high = np.quantile(wide, [p, 1 - p])
    kept = wide[~((wide < low) | (wide > high))]
    return kept if kept.size else wide


def median_reference(x: Array, p: float) -> Array:
    return np.asarray([np.quantile(survivors(c, p), 0.5) for c in x.T], result_dtype(x)) + 0


def exact_mean(values: Array) -> float:
    """The exact sum, rounded, over the count."""
    return math.fsum(values.tolist()) / values.size


def mean_reference(x: Array, p: float) -> Array:
    return np.asarray([exact_mean(survivors(c, p)) for c in x.T], result_dtype(x)) + 0


def assert_within_ulps(actual: Array, desired: Array, ulps: float) -> None:
    assert actual.dtype == desired.dtype
    error = np.abs(actual.astype(np.longdouble) - desired) / np.spacing(np.abs(desired))
    assert np.max(error) <= ulps


def data(rows: int, columns: int, dtype: Any, seed: int = 0) -> Array:
    """Normal columns, rectified ones (half zeros, of either sign), and columns of few values."""
    rng = np.random.default_rng((seed, rows, columns))
    x = rng.standard_normal((rows, columns))
    x[:, 1::4] = np.maximum(x[:, 1::4], 0)
    x[:, 2::4] = np.round(x[:, 2::4])
    x[rng.random(x.shape) < 0.02] = -0.0
    return x.astype(dtype)


@pytest.mark.parametrize("rows", FEW_ROWS + MANY_ROWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_quantiles_equal_numpy(target: Target, rows: int, dtype: Any) -> None:
    for columns in (1, 5, 16, 17, 70):
        x = data(rows, columns, dtype)
        values, nan, bisected = target._column_quantiles(x, PROBABILITIES, 0, False)
        np.testing.assert_array_equal(values, reference(x, PROBABILITIES))
        assert not np.signbit(np.asarray(values)[np.asarray(values) == 0]).any()
        assert values.dtype == result_dtype(x)
        assert np.all(nan == 0)
        assert bisected == 0
        values, _, _ = target._column_quantiles(x, PROBABILITIES, 0, True)
        np.testing.assert_array_equal(values, reference(np.abs(x), PROBABILITIES))


def test_the_network_sorts_every_sequence_of_zeros_and_ones(target: Target) -> None:
    """The zero-one principle: a comparator network that sorts these sorts everything."""
    for rows in range(1, 13):
        bits = (np.arange(2**rows)[None, :] >> np.arange(rows)[:, None]) & 1
        x = bits.astype(np.float32)
        ranks = np.arange(rows) / max(rows - 1, 1)
        values, _, _ = target._column_quantiles(x, ranks.tolist(), 0, False)
        np.testing.assert_array_equal(np.round(values), np.sort(x, axis=0))


@pytest.mark.parametrize("rows", [20_000, 100_003])
def test_many_rows(target: Target, rows: int) -> None:
    x = data(rows, 20, np.float32)
    q = [0.5, 1e-4, 0.9999]
    values, _, bisected = target._column_quantiles(x, q, 0, False)
    np.testing.assert_array_equal(values, reference(x, q))
    assert bisected == 0


def adversarial(rows: int) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    ramp = np.arange(rows, dtype=np.float32)
    zeros = np.zeros(rows, np.float32)
    half, most = zeros.copy(), zeros.copy()
    half[::2] = rng.standard_normal(half[::2].size)
    most[::100] = rng.standard_normal(most[::100].size)
    outlier = zeros.copy()
    outlier[rows // 2] = 1e30
    return {
        "equal": np.full(rows, 3.25, np.float32),
        "two values": (rng.random(rows) < 0.5).astype(np.float32),
        "ascending": ramp,
        "descending": ramp[::-1].copy(),
        "half zeros": half,
        "99 % zeros": most,
        "one outlier": outlier,
        "cauchy cubed": (rng.standard_cauchy(rows) ** 3).astype(np.float32),
        "denormal": (rng.integers(-500, 500, rows) * 1.4e-45).astype(np.float32),
        "periodic": np.sin(ramp * (2 * np.pi / 512)).astype(np.float32),
        "huge": (rng.standard_normal(rows) * 1e38).clip(-3e38, 3e38).astype(np.float32),
    }


@pytest.mark.parametrize("rows", [300, 5000, 40_000])
def test_adversarial_columns(target: Target, rows: int) -> None:
    columns = adversarial(rows)
    x = np.stack(list(columns.values()), axis=1)
    values, _, bisected = target._column_quantiles(x, PROBABILITIES, 0, False)
    np.testing.assert_array_equal(values, reference(x, PROBABILITIES))
    assert bisected == 0, list(columns)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranks_that_hide_from_any_sample_are_found_by_bisection(target: Target, dtype: Any) -> None:
    """Ever smaller heaps: whatever is sampled, what remains inside the bracket looks alike."""
    rng = np.random.default_rng(5)
    rows = 60_000
    # 4,000 distinct tiny values among huge gaps, and the median in the middle of them.
    x = np.where(rng.random((rows, 3)) < 0.5, -1e30, 1e30)
    tiny = rng.permutation(rows)[:4000]
    x[tiny] = rng.standard_normal((4000, 3)) * 1e-30
    x = x.astype(dtype)
    values, _, _ = target._column_quantiles(x, [0.5, 0.49, 0.51], 0, False)
    np.testing.assert_array_equal(values, reference(x, [0.5, 0.49, 0.51]))


@pytest.mark.parametrize("rows", [30, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_left_out_column_by_column(target: Target, rows: int, dtype: Any) -> None:
    x = data(rows, 35, dtype)
    rng = np.random.default_rng(2)
    share = np.linspace(0, 1, 35)
    x[rng.random(x.shape) < share] = np.nan
    x[:, 34] = np.nan
    values, nan, _ = target._column_quantiles(x, PROBABILITIES, 0, False)
    np.testing.assert_array_equal(nan, np.isnan(x).sum(axis=0))
    assert np.isnan(np.asarray(values)[:, 34]).all()
    for c in range(34):
        valid = x[:, c][~np.isnan(x[:, c])]
        np.testing.assert_array_equal(np.asarray(values)[:, c], reference(valid, PROBABILITIES))


@pytest.mark.parametrize("rows", [31, 5001])
def test_infinities_are_values_of_the_order(target: Target, rows: int) -> None:
    x = np.sort(data(rows, 3, np.float32), axis=0)
    x[: rows // 4, 0] = -np.inf
    x[-rows // 4 :, 1] = np.inf
    x[: rows // 2, 2] = -np.inf
    x[rows // 2 :, 2] = np.inf
    q = [0.0, 0.1, 0.5, 0.9, 1.0]
    values = np.asarray(target._column_quantiles(x, q, 0, False)[0])
    order = np.sort(x, axis=0)
    ranks = (np.asarray(q) * (rows - 1)).round().astype(int)
    np.testing.assert_array_equal(values[[0, 2, 4]], order[ranks][[0, 2, 4]])
    assert values[1, 0] == -np.inf
    assert values[3, 1] == np.inf


VIEWS: dict[str, Callable[[Array], tuple[Array, Any]]] = {
    "axis 0": lambda x: (x, 0),
    "axis 1, rows": lambda x: (x, 1),
    "axis 2": lambda x: (x, 2),
    "axes 0 and 1": lambda x: (x, (0, 1)),
    "axes 0 and 2": lambda x: (x, (0, 2)),
    "all": lambda x: (x, None),
    "every second column": lambda x: (x[:, :, ::2], (0, 1)),
    "reversed": lambda x: (x[::-1, :, ::-1], (0, 1)),
    "transposed": lambda x: (x.transpose(2, 0, 1), (1, 2)),
    "few columns of a wide row": lambda x: (x[:, :, 5:8], (0, 1)),
    "broadcast samples": lambda x: (np.broadcast_to(x[:1], x.shape), 0),
    "broadcast columns": lambda x: (np.broadcast_to(x[:, :, :1], x.shape), (0, 1)),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape", [(37, 6, 33), (70, 65, 19)])
def test_axes_and_strides(target: Target, view: str, dtype: Any, shape: tuple[int, int, int]) -> None:
    x, axis = VIEWS[view](np.random.default_rng(3).standard_normal(shape).astype(dtype))
    values, _, _ = target._column_quantiles(x, PROBABILITIES, axis, False)
    np.testing.assert_array_equal(values, reference(x, PROBABILITIES, axis))
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    kept = [i for i in range(x.ndim) if i not in axes]
    matrix = x.transpose(*axes, *kept).reshape(-1, int(np.prod([x.shape[i] for i in kept])))
    median = np.asarray(target.median_no_outliers(x, axis, 0.01, False, "raise"))
    np.testing.assert_array_equal(median.ravel(), median_reference(matrix, 0.01))
    mean = np.asarray(target.mean_no_outliers(x, axis, 0.01, True, "raise"))
    assert mean.shape == tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    assert_within_ulps(mean.ravel(), mean_reference(matrix, 0.01), 1)


@pytest.mark.parametrize("axis", [0, (0, 1)])
def test_public_quantiles_over_samples(axis: Any) -> None:
    x = np.random.default_rng(4).standard_normal((30, 20, 50)).astype(np.float32)
    np.testing.assert_array_equal(kernels.median(x, axis), reference(x, 0.5, axis))
    np.testing.assert_array_equal(kernels.quantile(x, [0.1, 0.9], axis), reference(x, [0.1, 0.9], axis))
    np.testing.assert_array_equal(kernels.abs_quantile(x, 0.99, axis), reference(np.abs(x), 0.99, axis))


# ------------------------------------------------------------------------------------------------------ no outliers


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8, 9, 50, 300, 2049, 5000])
@pytest.mark.parametrize("p", [1e-4, 0.01, 0.2, 0.49])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_outliers_equals_the_definition(target: Target, rows: int, p: float, dtype: Any) -> None:
    x = data(rows, 21, dtype, seed=6)
    median = target.median_no_outliers(x, 0, p, False, "raise")
    np.testing.assert_array_equal(median, median_reference(x, p))
    mean = np.asarray(target.mean_no_outliers(x, 0, p, False, "raise"))
    assert_within_ulps(mean, mean_reference(x, p), 1)


def nncf_aggregate(x: Array, p: float, name: str) -> Array:
    from nncf.common.tensor_statistics import collectors
    from nncf.tensor import Tensor

    aggregator = getattr(collectors, name)(aggregation_axes=(0,), quantile=p)
    for sample in x:
        aggregator.register_reduced_input(Tensor(sample))
    return np.asarray(aggregator.aggregate().data)


@pytest.mark.parametrize("p", [1e-4, 0.01, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_outliers_equals_nncf(p: float, dtype: Any) -> None:
    x = data(300, 64, dtype, seed=7)
    # nncf averages in the dtype of the samples, so the last bits are its own.
    tolerance = 64 * np.finfo(dtype).eps
    mean = nncf_aggregate(x, p, "MeanNoOutliersAggregator")
    np.testing.assert_allclose(kernels.mean_no_outliers(x, quantile=p), mean, rtol=tolerance, atol=tolerance)
    median = nncf_aggregate(x, p, "MedianNoOutliersAggregator")
    np.testing.assert_allclose(kernels.median_no_outliers(x, quantile=p), median, rtol=tolerance, atol=0)


def test_values_are_compared_with_unrounded_quantiles(target: Target) -> None:
    """The quantile lies a little above the smallest value, which it would be if it were rounded to float32."""
    x = np.ones((300, 1), np.float32)
    x[0] = 1 - 2**-24
    x[-1] = 1 + 2**-23
    low = np.quantile(x.astype(np.float64), 1e-4)
    assert low > x[0, 0]
    assert np.float32(low) == x[0, 0]
    assert target.mean_no_outliers(x, 0, 1e-4, False, "raise") == 1.0


def test_all_are_kept_where_all_are_outliers(target: Target) -> None:
    x = np.array([[1.0, 5.0], [2.0, 5.0]], np.float32)
    np.testing.assert_array_equal(target.mean_no_outliers(x, 0, 1e-4, False, "raise"), [1.5, 5.0])
    np.testing.assert_array_equal(target.median_no_outliers(x, 0, 1e-4, False, "raise"), [1.5, 5.0])


@pytest.mark.parametrize("rows", [300, 5000, 70_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mean_depends_on_the_set_of_values_alone(rows: int, dtype: Any) -> None:
    rng = np.random.default_rng(8)
    x = (rng.standard_normal((rows, 3)) * 10.0 ** rng.integers(-20, 20, (rows, 3))).astype(dtype)
    means = []
    for target in _core._targets.values():
        for order in (slice(None), slice(None, None, -1), rng.permutation(rows)):
            means.append(np.asarray(target.mean_no_outliers(x[order], 0, 1e-4, False, "raise")).tobytes())
    assert len(set(means)) == 1
    assert_within_ulps(np.frombuffer(means[0], dtype), mean_reference(x, 1e-4), 1)


@pytest.mark.parametrize("columns", [41, 64])
@pytest.mark.parametrize("rows", [9, 300, 1024, 1025])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_mean_is_exact_whatever_the_range_of_a_column(target: Target, rows: int, columns: int, dtype: Any) -> None:
    """Column k holds magnitudes that are 2^k apart: a plain sum in double is exact up to some k, and rounded beyond."""
    rng = np.random.default_rng(rows)
    ratio = 2.0 ** np.minimum(np.arange(columns), 29 if dtype is np.float16 else 60)
    x = rng.uniform(1, 2, (rows, columns)) * rng.choice([-1.0, 1.0, 0.0], (rows, columns))
    x[::2] *= ratio
    x = (x / 2.0**24 if dtype is np.float16 else x).astype(dtype)
    for matrix in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        mean = np.asarray(target.mean_no_outliers(matrix, 0, 1e-4, False, "raise"))
        np.testing.assert_array_equal(mean, mean_reference(x, 1e-4))


@pytest.mark.parametrize("rows", [100, 5000])
def test_the_mean_survives_cancellation_and_the_limits_of_the_type(target: Target, rows: int) -> None:
    x = np.zeros((rows, 3))
    x[:, 0] = np.resize([2.0**60, 1.0, -(2.0**60)], rows)  # a plain sum loses the ones
    x[:, 1] = np.resize([1.7e308, 1.6e308], rows)  # a plain sum overflows
    x[:, 2] = 5e-324 * np.arange(rows)
    mean = np.asarray(target.mean_no_outliers(x, 0, 1e-4, False, "raise"))
    assert mean[0] == exact_mean(survivors(x[:, 0], 1e-4))
    assert mean[1] == exact_mean(survivors(x[:, 1] / 2**16, 1e-4)) * 2**16
    assert mean[2] == pytest.approx(5e-324 * (rows - 1) / 2, abs=5e-324)


@pytest.mark.parametrize("rows", [60, 5000])
@pytest.mark.parametrize("name", ["mean_no_outliers", "median_no_outliers"])
def test_nan_policy(target: Target, rows: int, name: str) -> None:
    x = data(rows, 5, np.float32)
    expected = {"mean_no_outliers": mean_reference, "median_no_outliers": median_reference}[name]
    x[1, 2] = x[3, 2] = np.nan
    x[:, 4] = np.nan
    aggregate = getattr(target, name)
    with pytest.raises(ValueError, match=rf"x \(float32, shape \({rows}, 5\)\) holds {rows + 2} NaN; pass nan_policy"):
        aggregate(x, 0, 0.01, False, "raise")
    ignored = aggregate(x, 0, 0.01, False, "ignore")
    assert np.isnan(ignored[4])
    np.testing.assert_allclose(ignored[:2], expected(x[:, :2], 0.01), rtol=1e-7)
    kept = x[:, 2:3][~np.isnan(x[:, 2])]
    np.testing.assert_allclose(ignored[2:3], expected(kept, 0.01), rtol=1e-7)
    propagated = aggregate(x, 0, 0.01, False, "propagate")
    np.testing.assert_array_equal(np.isnan(propagated), [False, False, True, False, True])
    np.testing.assert_array_equal(propagated[[0, 1, 3]], ignored[[0, 1, 3]])


@pytest.mark.parametrize("rows", [50, 5000])
@pytest.mark.parametrize("p", [1e-4, 0.3])
def test_surviving_infinities_enter_the_mean(target: Target, rows: int, p: float) -> None:
    x = data(rows, 4, np.float64)
    half = rows // 2
    x[:half, 0] = np.inf
    x[:half, 1] = -np.inf
    x[:half, 2] = np.inf
    x[half:, 2] = -np.inf
    x[3, 3] = np.nan
    mean = target.mean_no_outliers(x, 0, p, False, "ignore")
    assert mean[0] == np.inf
    assert mean[1] == -np.inf
    assert np.isnan(mean[2])
    assert np.isfinite(mean[3])


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 20)), elements=st.floats(-4, 4, width=16)),
    st.sampled_from([1e-4, 0.05, 0.25, 0.45]),
)
def test_laws(x: Array, p: float) -> None:
    low, high = x.min(axis=0), x.max(axis=0)
    results = {}
    for isa, target in _core._targets.items():
        mean = np.asarray(target.mean_no_outliers(x, 0, p, False, "raise"))
        median = np.asarray(target.median_no_outliers(x, 0, p, False, "raise"))
        assert np.all((low <= mean) & (mean <= high))
        np.testing.assert_array_equal(median, median_reference(x, p))
        np.testing.assert_array_equal(target.median_no_outliers(-x, 0, p, False, "raise"), 0 - median)
        np.testing.assert_array_equal(target.median_no_outliers(x[::-1], 0, p, False, "raise"), median)
        quantiles = np.asarray(target._column_quantiles(x, [0.0, p, 0.5, 1 - p, 1.0], 0, False)[0])
        assert np.all(np.diff(quantiles, axis=0) >= 0)
        results[isa] = (mean.tobytes(), median.tobytes(), quantiles.tobytes())
    assert len(set(results.values())) == 1


@pytest.mark.parametrize("quantile", [0.0, 0.5, -0.1, 1.0, float("nan")])
def test_the_probability_of_an_outlier_is_checked(quantile: float) -> None:
    x = np.ones((3, 2), np.float32)
    with pytest.raises(
        ValueError, match=r"quantile is .*; pass the probability of an outlier on one side, between 0 and 0\.5"
    ):
        kernels.mean_no_outliers(x, quantile=quantile)


def test_bad_arguments() -> None:
    x = np.ones((3, 2), np.float32)
    with pytest.raises(TypeError, match=r"quantile is \[0\.1\]; pass one probability"):
        kernels.median_no_outliers(x, quantile=[0.1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x \(float32, shape \(0, 2\)\): the reduced axes hold no element"):
        kernels.mean_no_outliers(x[:0])
    with pytest.raises(np.exceptions.AxisError):
        kernels.mean_no_outliers(x, 2)
    assert kernels.mean_no_outliers(x[:, :0]).shape == (0,)
