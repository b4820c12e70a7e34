"""`RangeEstimator`: places, clipping, bad input, and the laws that hold for every estimator."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
from quantstats.statistics import Column, RangeEstimator, SampleTable, range_from_table

S, A = StatisticsType, AggregatorType

OF_DISTRIBUTION = (A.HISTOGRAM, A.MSE, A.ENTROPY, A.PERCENTILE, A.AUTO)
ESTIMATORS = {
    f"{statistic.name}/{aggregator.name}": RangeEstimatorParameters(
        StatisticsCollectorParameters(statistic, aggregator, quantile_outlier_prob=0.1),
        StatisticsCollectorParameters(statistic, aggregator, quantile_outlier_prob=0.1),
    )
    for statistic, aggregator in itertools.product(S, A)
    if (statistic is S.RAW) == (aggregator in OF_DISTRIBUTION)
}
BY_ROWS = [name for name in ESTIMATORS if not name.startswith("RAW")]
MINMAX = RangeEstimatorParametersSet.MINMAX


def estimate(params: RangeEstimatorParameters, samples: list[Any], **places: Any) -> RangeEstimator:
    estimator = RangeEstimator(params, **places)
    for sample in samples:
        estimator.update(sample)
    return estimator


def same_bits(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)
    )


# Values of unlike magnitude with many ties and both zeros: what makes sums and minima depend on their order.
values = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e8, -1e8, 0.1, 2.0**-149, 3e38, -3e38]), st.floats(-1e3, 1e3, width=32)
)


@st.composite
def sample_lists(draw: st.DrawFn) -> list[np.ndarray]:
    """Samples of shape [batch, 3, 2] with batches of different size."""
    return [
        np.array(draw(st.lists(values, min_size=6 * batch, max_size=6 * batch)), np.float32).reshape(batch, 3, 2)
        for batch in draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    ]


PLACES = [
    {},
    {"symmetric": True},
    {"reduction_axes": (0, 2)},
    {"reduction_axes": (1, 2), "aggregation_axes": (0, 1)},
    {"reduction_axes": (2,), "aggregation_axes": (0, 1)},
]


# Laws


@pytest.mark.parametrize("name", ESTIMATORS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_order_and_shards_do_not_matter_by_a_single_bit(name: str, data: st.DataObject) -> None:
    samples = data.draw(sample_lists())
    place = data.draw(st.sampled_from(PLACES))
    whole = estimate(ESTIMATORS[name], samples, **place)

    shuffled = data.draw(st.permutations(samples))
    cut = data.draw(st.integers(0, len(samples)))
    first = estimate(ESTIMATORS[name], shuffled[:cut], **place)
    second = estimate(ESTIMATORS[name], shuffled[cut:], **place)
    before = copy.deepcopy(second)
    first.merge(second)

    assert second == before
    assert first.num_samples == len(samples)
    assert first == whole
    assert same_bits(first.range(), whole.range())


@pytest.mark.parametrize("name", ESTIMATORS)
@settings(max_examples=5, deadline=None)
@given(samples=sample_lists(), place=st.sampled_from(PLACES))
def test_copies_are_equal_and_independent(name: str, samples: list[np.ndarray], place: dict[str, Any]) -> None:
    estimator = estimate(ESTIMATORS[name], samples, **place)
    for twin in (copy.copy(estimator), copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert twin == estimator
        assert same_bits(twin.range(), estimator.range())
        twin.update(samples[0])
        assert twin != estimator
        assert estimator.num_samples == len(samples)


@pytest.mark.parametrize("name", BY_ROWS)
@settings(max_examples=10, deadline=None)
@given(samples=sample_lists(), symmetric=st.booleans())
def test_per_channel_is_per_tensor_of_each_channel(name: str, samples: list[np.ndarray], symmetric: bool) -> None:
    together = estimate(ESTIMATORS[name], samples, reduction_axes=(0, 2), symmetric=symmetric).range()
    for channel in range(3):
        alone = estimate(ESTIMATORS[name], [x[:, channel] for x in samples], symmetric=symmetric).range()
        for bound, expected in zip(together, alone, strict=True):
            # A mean adds in an order that depends on the layout; everything else is exact.
            largest = max(float(np.abs(x).max()) for x in samples)
            atol = 2.0**-48 * largest if "MEAN/" in name else 0.0
            np.testing.assert_allclose(
                bound[0, channel, 0], expected.ravel()[0], rtol=2.0**-23 if atol else 0, atol=atol
            )


@pytest.mark.parametrize("name", BY_ROWS)
@settings(max_examples=10, deadline=None)
@given(samples=sample_lists())
def test_batchwise_is_one_sample_for_each_item(name: str, samples: list[np.ndarray]) -> None:
    batchwise = estimate(ESTIMATORS[name], samples, reduction_axes=(1, 2), aggregation_axes=(0, 1)).range()
    items = estimate(ESTIMATORS[name], [item[np.newaxis] for x in samples for item in x]).range()
    assert same_bits(batchwise, items)


@given(samples=sample_lists())
def test_the_histogram_stays_within_the_data(samples: list[np.ndarray]) -> None:
    low, high = estimate(RangeEstimatorParametersSet.HISTOGRAM, samples).range()
    assert min(x.min() for x in samples) <= low <= high <= max(x.max() for x in samples)


def test_equality_sees_every_setting() -> None:
    base = RangeEstimator(MINMAX)
    assert base == RangeEstimator(MINMAX)
    for other in (
        RangeEstimator(RangeEstimatorParametersSet.MEAN_MINMAX),
        RangeEstimator(MINMAX, symmetric=True),
        RangeEstimator(MINMAX, reduction_axes=(0,)),
        RangeEstimator(MINMAX, aggregation_axes=(0, 1)),
    ):
        assert base != other
        with pytest.raises(ParameterError, match="different settings cannot be merged"):
            base.merge(other)
    assert base != "estimator"


def test_merging_with_itself_doubles_the_samples() -> None:
    for params in (MINMAX, RangeEstimatorParametersSet.HISTOGRAM):
        estimator = estimate(params, [np.arange(4.0, dtype=np.float32)])
        estimator.merge(estimator)
        assert estimator == estimate(params, [np.arange(4.0, dtype=np.float32)] * 2)


# Results


def test_shapes_and_dtypes() -> None:
    x = np.ones((2, 3, 4), np.float32)
    assert estimate(MINMAX, [x]).range()[0].shape == (1, 1, 1)
    assert estimate(MINMAX, [x], reduction_axes=(0, -1)).range()[0].shape == (1, 3, 1)
    assert estimate(MINMAX, [x], reduction_axes=()).range()[0].shape == (2, 3, 4)
    assert estimate(MINMAX, [np.float32(3)]).range()[0].shape == ()
    assert estimate(RangeEstimatorParametersSet.HISTOGRAM, [x]).range()[0].shape == ()
    for dtype, result in ((np.float64, np.float64), (np.float16, np.float32), (ml_dtypes.bfloat16, np.float32)):
        for params in (MINMAX, RangeEstimatorParametersSet.MEAN_QUANTILE):
            assert {bound.dtype for bound in estimate(params, [x.astype(dtype)]).range()} == {np.dtype(result)}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_16_bit_floats_give_what_their_float32_values_give(name: str, dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(4, 50)).astype(dtype)
    assert same_bits(
        estimate(ESTIMATORS[name], [x]).range(), estimate(ESTIMATORS[name], [x.astype(np.float32)]).range()
    )


def test_unresolved_fields_take_the_defaults_of_an_activation() -> None:
    estimator = RangeEstimator(RangeEstimatorParameters())
    assert estimator.params == RangeEstimatorParametersSet.MEAN_MINMAX
    estimator.params.min.aggregator_type = A.MAX  # A copy: the estimator keeps its own.
    assert estimator.params == RangeEstimatorParametersSet.MEAN_MINMAX


def test_a_symmetric_max_is_the_largest_magnitude() -> None:
    x = np.array([-5.0, 1.0, 2.0], np.float32)
    assert [float(b[0]) for b in estimate(MINMAX, [x], symmetric=True).range()] == [-5.0, 5.0]
    assert [float(b[0]) for b in estimate(MINMAX, [x]).range()] == [-5.0, 2.0]


def test_a_symmetric_histogram_mirrors_its_bounds_where_there_are_negative_values() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=5_000).astype(np.float32) - 1
    low, high = estimate(RangeEstimatorParametersSet.HISTOGRAM, [x], symmetric=True).range()
    assert low == -high
    low, high = estimate(RangeEstimatorParametersSet.HISTOGRAM, [np.abs(x)], symmetric=True).range()
    assert (low, high > 1) == (0, True)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_clipping_comes_before_the_statistic(name: str) -> None:
    # 1.1 is not a float32 number; clipping a float32 tensor rounds it.
    samples = [(np.random.default_rng(i).normal(size=(3, 40)) * 2).astype(np.float32) for i in range(5)]
    params = copy.deepcopy(ESTIMATORS[name])
    params.min.clipping_value = params.max.clipping_value = 1.1
    found = estimate(params, samples, symmetric=True).range()
    clipped = [np.clip(x, np.float32(-1.1), np.float32(1.1)) for x in samples]
    assert same_bits(found, estimate(ESTIMATORS[name], clipped, symmetric=True).range())


def test_branches_clip_on_their_own() -> None:
    params = copy.deepcopy(ESTIMATORS["MEAN/MEAN"])
    params.max.clipping_value = 1.0
    low, high = estimate(params, [np.array([-4.0, 1.0, 6.0], np.float32)]).range()
    assert (low[0], high[0]) == (1.0, np.float32(1 / 3))


def test_two_samples_without_outliers_are_not_both_dropped() -> None:
    # Both lie outside the quantiles between them; dropping both would leave no range.
    samples = [np.full(3, value, np.float32) for value in (2.0, 4.0)]
    for aggregator in ("MEAN_NO_OUTLIERS", "MEDIAN_NO_OUTLIERS"):
        assert estimate(ESTIMATORS[f"MAX/{aggregator}"], samples).range()[1] == 3.0


def test_it_keeps_reduced_values_alone() -> None:
    estimator = estimate(RangeEstimatorParametersSet.MEAN_QUANTILE, [np.ones((64, 1024), np.float32)] * 20)
    assert len(pickle.dumps(estimator)) < 20_000
    histogram = estimate(RangeEstimatorParametersSet.HISTOGRAM, [np.ones((64, 1024), np.float32)] * 20)
    assert len(pickle.dumps(histogram)) < 20_000


def test_other_estimators_come_from_the_same_table() -> None:
    columns = (Column(S.MIN), Column(S.MAX))
    table = SampleTable(columns)
    samples = [np.random.default_rng(i).normal(size=50).astype(np.float32) for i in range(8)]
    for x in samples:
        table.append([x.min(keepdims=True), x.max(keepdims=True)])
    for name in ("MINMAX", "MEAN_MINMAX", "MEDIAN_MINMAX", "MEAN_NO_OUTLIERS_MINMAX"):
        params = getattr(RangeEstimatorParametersSet, name)
        assert same_bits(range_from_table(table, params), estimate(params, samples).range())
    with pytest.raises(ParameterError, match="was not collected"):
        range_from_table(table, RangeEstimatorParametersSet.MEAN_QUANTILE)


# Bad input


@pytest.mark.parametrize("name", ESTIMATORS)
def test_nan_and_inf_are_counted_and_leave_the_estimator_as_it_was(name: str) -> None:
    params = copy.deepcopy(ESTIMATORS[name])
    for clipping in (None, 1.0):
        params.min.clipping_value = params.max.clipping_value = clipping
        estimator = estimate(params, [np.ones((2, 3), np.float32)])
        before = copy.deepcopy(estimator)
        x = np.array([[np.nan, 1.0, np.inf], [-np.inf, np.nan, np.nan]], np.float32)
        with pytest.raises(NonFiniteError, match=r"3 NaN and 2 infinite values of 6 in a tensor of shape \(2, 3\)"):
            estimator.update(x)
        assert estimator == before


def test_empty_samples_are_no_samples() -> None:
    for params in (MINMAX, RangeEstimatorParametersSet.HISTOGRAM):
        estimator = RangeEstimator(params)
        estimator.update(np.empty((0, 4), np.float32))
        assert estimator == RangeEstimator(params)
        with pytest.raises(DataError, match="at least one sample"):
            estimator.range()


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.bool_, np.complex64, object])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(DataError, match=r"not of (int|bool|complex|object)"):
        RangeEstimator(MINMAX).update(np.ones(3, dtype))


def test_a_change_of_channels_is_refused_at_once() -> None:
    estimator = estimate(MINMAX, [np.ones((2, 3), np.float32)], reduction_axes=(0,))
    before = copy.deepcopy(estimator)
    with pytest.raises(DataError, match=r"reduces to shape \(1, 4\), earlier ones to \(1, 3\)"):
        estimator.update(np.ones((2, 4), np.float32))
    with pytest.raises(DataError, match=r"shape \(1, 5\)"):
        estimator.merge(estimate(MINMAX, [np.ones((2, 5), np.float32)], reduction_axes=(0,)))
    assert estimator == before


@pytest.mark.parametrize("axes", [(), (1,), (-1, 0)])
def test_samples_must_be_aggregated(axes: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="must contain 0"):
        RangeEstimator(MINMAX, aggregation_axes=axes)


@pytest.mark.parametrize("name", ["reduction_axes", "aggregation_axes"])
@pytest.mark.parametrize(
    ("axes", "message"),
    [("a", "is not a sequence of axes"), (1, "is not a"), ((0, 1.0), "is not a"), ((0, 0), "twice")],
)
def test_axes_are_different_integers(name: str, axes: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=rf"RangeEstimator\.{name}=.* {message}"):
        RangeEstimator(MINMAX, **{name: axes})


def test_only_estimators_are_merged() -> None:
    with pytest.raises(ParameterError, match=r"RangeEstimator\.merge\.other=5 is not a RangeEstimator.*; build one$"):
        RangeEstimator(MINMAX).merge(5)  # type: ignore[arg-type]


def test_axes_beyond_the_sample() -> None:
    with pytest.raises(ParameterError, match=r"reduction_axes=\(0, 2\) has axis 2, but the sample has 2 dimensions"):
        RangeEstimator(MINMAX, reduction_axes=(0, 2)).update(np.ones((2, 3), np.float32))
    with pytest.raises(ParameterError, match=r"aggregation_axes=\(0, 3\) is beyond the 3 axes"):
        RangeEstimator(MINMAX, aggregation_axes=(0, 3)).update(np.ones((2, 3), np.float32))


def test_num_bits_of_the_histogram_are_validated() -> None:
    estimator = estimate(RangeEstimatorParametersSet.HISTOGRAM, [np.ones(3, np.float32)])
    with pytest.raises(ParameterError, match="num_bits=9"):
        estimator.range(num_bits=9)
