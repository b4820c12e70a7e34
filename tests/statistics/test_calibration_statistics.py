"""`CalibrationStatistics`: the bits of every estimator, the laws of merging, what is refused, what it costs."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantstats import kernels
from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
from quantstats.statistics import RangeEstimator
from quantstats.statistics.calibration import CalibrationStatistics, columns_for
from quantstats.statistics.columnar_table import ColumnarTable
from quantstats.statistics.tensor_statistics import DEFAULT_COLUMNS, DEFAULT_PROBABILITIES, TensorStatistics

S, A = StatisticsType, AggregatorType


def both(
    statistic: StatisticsType, aggregator: AggregatorType, p: float = 1e-2, clip: float | None = None
) -> RangeEstimatorParameters:
    branch = StatisticsCollectorParameters(statistic, aggregator, clip, p)
    return RangeEstimatorParameters(branch, branch)


OF_DISTRIBUTION = (A.HISTOGRAM, A.MSE, A.ENTROPY, A.PERCENTILE, A.AUTO)
ESTIMATORS = {
    f"{statistic.name}/{aggregator.name}": both(statistic, aggregator)
    for statistic, aggregator in itertools.product(S, A)
    if (statistic is S.RAW) == (aggregator in OF_DISTRIBUTION)
}
BY_ROWS = [name for name in ESTIMATORS if not name.startswith("RAW")]

values = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e8, -1e8, 0.1, 2.0**-149, 3e38, -3e38]), st.floats(-1e3, 1e3, width=32)
)


@st.composite
def sample_lists(draw: st.DrawFn, most: int = 6) -> list[np.ndarray]:
    """Samples of shape [batch, 3, 2] with batches of different size."""
    return [
        np.array(draw(st.lists(values, min_size=6 * batch, max_size=6 * batch)), np.float32).reshape(batch, 3, 2)
        for batch in draw(st.lists(st.integers(1, 3), min_size=1, max_size=most))
    ]


def collect(
    samples: Sequence[Any], ids: Sequence[Any] | None = None, *, axis: int | None = None, **options: Any
) -> CalibrationStatistics:
    statistics = CalibrationStatistics({"x": axis}, model_hash="m", **options)
    for sample_id, sample in zip(range(len(samples)) if ids is None else ids, samples, strict=True):
        statistics.update(str(sample_id), {"x": sample})
    return statistics


def estimate(params: RangeEstimatorParameters, samples: Sequence[Any], **places: Any) -> RangeEstimator:
    estimator = RangeEstimator(params, **places)
    for sample in samples:
        estimator.update(sample)
    return estimator


def assert_same_bits(found: Any, expected: tuple[np.ndarray, np.ndarray]) -> None:
    assert found.exact
    for x, y in zip(found, expected, strict=True):
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


# The bits of an estimator that asked from the start

PLACES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # how the statistics are collected, how the range is asked for, and the same for the estimator
    ({}, {}, {}),
    ({}, {"symmetric": True}, {"symmetric": True}),
    ({"axis": 1}, {"per_channel": True}, {"reduction_axes": (0, 2)}),
    ({"axis": 1}, {}, {}),
    ({"batchwise": True}, {}, {"reduction_axes": (1, 2), "aggregation_axes": (0, 1)}),
    ({"axis": 1, "batchwise": True}, {"per_channel": True}, {"reduction_axes": (2,), "aggregation_axes": (0, 1)}),
    (
        {"axis": 2, "batchwise": True},
        {"symmetric": True},
        {"reduction_axes": (1, 2), "aggregation_axes": (0, 1), "symmetric": True},
    ),
]


@pytest.mark.parametrize("name", ESTIMATORS)
@given(samples=sample_lists(), place=st.sampled_from(PLACES))
@settings(max_examples=15)
def test_every_estimator_has_the_bits_of_a_run_that_asked_for_it(
    name: str, samples: list[np.ndarray], place: tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
) -> None:
    how, asked, places = place
    params = ESTIMATORS[name]
    if params.is_histogram and asked.get("per_channel"):
        with pytest.raises(ParameterError, match="estimates one range per tensor"):
            collect(samples, **how).range("x", params, **asked)
        return
    assert_same_bits(collect(samples, **how).range("x", params, **asked), estimate(params, samples, **places).range())


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_dtype(name: str, dtype: Any) -> None:
    random = np.random.default_rng(0)
    samples = [random.normal(0.5, 2, (2, 3, 50)).astype(dtype).transpose(0, 2, 1) for _ in range(5)]
    assert_same_bits(collect(samples).range("x", ESTIMATORS[name]), estimate(ESTIMATORS[name], samples).range())


@pytest.mark.parametrize("p", [1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("statistic", [S.QUANTILE, S.ABS_QUANTILE])
def test_the_default_probabilities_are_answered_strictly(statistic: StatisticsType, p: float) -> None:
    samples = list(np.random.default_rng(1).normal(size=(4, 3000)).astype(np.float32))
    params = both(statistic, A.MEAN, p)
    assert_same_bits(collect(samples).range("x", params, strict=True), estimate(params, samples).range())
    assert {p, 1 - p, 0.5} <= set(DEFAULT_PROBABILITIES)


def test_partial_parameters_take_the_default_of_the_place() -> None:
    samples = list(np.random.default_rng(1).normal(size=(4, 3, 5)).astype(np.float32))
    statistics = collect(samples, axis=0)
    low, high = statistics.range("x", RangeEstimatorParameters())
    assert low == np.float32(np.mean([x.min() for x in samples], dtype=np.float64))
    assert_same_bits(statistics.range("x"), estimate(RangeEstimatorParametersSet.AUTO, samples).range())
    low, high = statistics.range("x", per_channel=True)
    np.testing.assert_array_equal(low[:, 0], np.min(samples, (0, 2)))
    np.testing.assert_array_equal(high[:, 0], np.max(samples, (0, 2)))


@given(samples=sample_lists(), limit=st.sampled_from([1e-3, 0.3, 1.0, 900.0, 1e30, 1e39]), wide=st.booleans())
@settings(max_examples=60)
def test_clipping_that_follows_from_extrema_and_histogram(samples: list[np.ndarray], limit: float, wide: bool) -> None:
    data = [x.astype(np.float64) * 1.1 if wide else x for x in samples]
    statistics = collect(data)
    for params in (
        both(S.MIN, A.MEAN, clip=limit),
        both(S.ABS_MAX, A.MEDIAN, clip=limit),
        both(S.RAW, A.HISTOGRAM, clip=limit),
    ):
        assert_same_bits(statistics.range("x", params, strict=True), estimate(params, data).range())
    assert_same_bits(
        statistics.range("x", both(S.MAX, A.MAX, clip=limit), symmetric=True),
        estimate(both(S.MAX, A.MAX, clip=limit), data, symmetric=True).range(),
    )


@given(samples=sample_lists(), limit=st.sampled_from([2.0**-140, 1e-3, 0.1, 1.0, 900.0]))
def test_a_clamped_histogram_is_that_of_the_clamped_values(samples: list[np.ndarray], limit: float) -> None:
    found = collect(samples)["x"].histogram.clamped(limit, np.float32)
    bound = np.float32(limit)
    assert found == collect([np.clip(x, -bound, bound) for x in samples])["x"].histogram


def test_batches_along_the_channel_axis_are_one_sample() -> None:
    samples = list(np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32))
    statistics = collect(samples, axis=0, batchwise=True)
    for name in BY_ROWS:
        expected = estimate(ESTIMATORS[name], samples, reduction_axes=(1,)).range()
        assert_same_bits(statistics.range("x", ESTIMATORS[name], per_channel=True), expected)


def test_a_negative_zero_is_stored_as_a_positive_one() -> None:
    table = ColumnarTable(DEFAULT_COLUMNS[:2])
    table.append(np.array([[[-0.0], [0.0]]], np.float32))
    assert table.values.tobytes() == bytes(8)


def test_clipping_of_16_bit_floats() -> None:
    samples = list(np.random.default_rng(0).normal(size=(4, 500)).astype(np.float16))
    for params in (both(S.MAX, A.MEAN, clip=0.7), both(S.RAW, A.HISTOGRAM, clip=0.7)):
        assert_same_bits(collect(samples).range("x", params), estimate(params, samples).range())


@pytest.mark.parametrize("statistic", [S.QUANTILE, S.ABS_QUANTILE])
def test_a_clip_beyond_all_values_changes_no_quantile(statistic: StatisticsType) -> None:
    samples = list(np.random.default_rng(0).normal(size=(4, 500)).astype(np.float32))
    params = both(statistic, A.MEAN, clip=100.0)
    assert_same_bits(collect(samples).range("x", params, strict=True), estimate(params, samples).range())


@pytest.mark.parametrize("params", [both(S.QUANTILE, A.MEAN, clip=0.5), both(S.MEAN, A.MEAN, clip=0.5)])
def test_clipping_that_does_not_follow_is_refused_unless_it_was_collected(params: RangeEstimatorParameters) -> None:
    samples = list(np.random.default_rng(0).normal(size=(4, 500)).astype(np.float32))
    with pytest.raises(ParameterError, match=r"tensor 'x': .*not collected.*calibrate with range_estimators"):
        collect(samples).range("x", params)
    more = collect(samples, columns=columns_for([params]))
    assert_same_bits(more.range("x", params, strict=True), estimate(params, samples).range())


# Probabilities that were not collected


@given(
    samples=sample_lists(),
    statistic=st.sampled_from([S.QUANTILE, S.ABS_QUANTILE]),
    aggregator=st.sampled_from([A.MIN, A.MAX, A.MEAN, A.MEDIAN]),
    p=st.one_of(st.floats(1e-9, 0.499), st.sampled_from([1e-7, 3e-3, 0.3])),
)
@settings(max_examples=150)
def test_the_error_bound_holds(
    samples: list[np.ndarray], statistic: StatisticsType, aggregator: AggregatorType, p: float
) -> None:
    params = both(statistic, aggregator, p)
    found = collect(samples).range("x", params)
    low, high = (float(x.item()) for x in estimate(params, samples).range())
    for bound, error, exact in ((found.low, found.low_error, low), (found.high, found.high_error, high)):
        # The exact bound was rounded to float32.
        assert abs(float(bound.item()) - exact) <= error + abs(exact) * 2.0**-23


def test_the_histogram_bounds_a_single_sample_to_its_bin() -> None:
    sample = np.random.default_rng(0).normal(10, 1, 100_000).astype(np.float32)
    found = collect([sample]).range("x", both(S.QUANTILE, A.MEAN, 0.03))
    assert not found.exact
    for bound, error, p in ((found.low, found.low_error, 0.03), (found.high, found.high_error, 0.97)):
        exact = np.quantile(sample.astype(np.float64), p)
        assert abs(float(bound.item()) - exact) <= error <= 2.0**-7 * exact
    assert found.low.shape == (1,)


def test_the_estimate_is_near_the_exact_bound_where_samples_are_alike() -> None:
    samples = list(np.random.default_rng(0).normal(0, 1, (20, 20_000)).astype(np.float32))
    params = both(S.QUANTILE, A.MEAN, 0.003)
    found, exact = collect(samples).range("x", params), estimate(params, samples).range()
    np.testing.assert_allclose(found.low, exact[0], rtol=0.01)
    np.testing.assert_allclose(found.high, exact[1], rtol=0.01)


@pytest.mark.parametrize(
    ("options", "params", "message"),
    [
        ({"strict": True}, both(S.QUANTILE, A.MEAN, 0.03), r"probability 0\.03 was not collected; use one of 1e-05"),
        ({"per_channel": True}, both(S.QUANTILE, A.MEAN, 0.03), "has no bound per channel"),
        ({}, both(S.QUANTILE, A.MEAN_NO_OUTLIERS, 0.03), "no bound with the aggregator"),
    ],
)
def test_an_uncollected_probability_is_refused(
    options: dict[str, Any], params: RangeEstimatorParameters, message: str
) -> None:
    samples = list(np.random.default_rng(0).normal(size=(4, 3, 50)).astype(np.float32))
    with pytest.raises(ParameterError, match=message):
        collect(samples, axis=0).range("x", params, **options)
    more = collect(samples, axis=0, columns=columns_for([params]))
    places = {"reduction_axes": (1,)} if options.get("per_channel") else {}
    assert_same_bits(more.range("x", params, **options), estimate(params, samples, **places).range())


@given(samples=sample_lists(), p=st.floats(0, 1), magnitudes=st.booleans())
def test_histogram_quantile_bounds(samples: list[np.ndarray], p: float, magnitudes: bool) -> None:
    pooled = np.concatenate([x.ravel() for x in samples]).astype(np.float64)
    low, high = collect(samples)["x"].histogram.quantile_bounds(p, magnitudes=magnitudes)
    exact = np.quantile(np.abs(pooled) if magnitudes else pooled, p)
    assert low - 1e-12 * abs(low) <= exact <= high + 1e-12 * abs(high)


# Merging


def shards_of(samples: list[np.ndarray], owners: list[int]) -> list[CalibrationStatistics]:
    return [
        collect([samples[i] for i in members], members, axis=1)
        for owner in sorted(set(owners))
        if (members := [i for i, of in enumerate(owners) if of == owner])
    ]


@given(samples=sample_lists(most=8), data=st.data())
def test_any_split_and_any_order_give_the_same_bits(samples: list[np.ndarray], data: st.DataObject) -> None:
    whole = collect(samples, axis=1)
    owners = data.draw(st.lists(st.integers(0, 3), min_size=len(samples), max_size=len(samples)))
    shards = data.draw(st.permutations(shards_of(samples, owners)))
    merged = CalibrationStatistics({"x": 1}, model_hash="m")
    # Merged as a tree: pairs first, then all.
    for left, right in itertools.zip_longest(shards[::2], shards[1::2]):
        if right is not None:
            left.merge(right)
        merged.merge(left)
    assert merged == whole
    for name, params in ESTIMATORS.items():
        assert_same_bits(merged.range("x", params), tuple(whole.range("x", params)))
        if name in BY_ROWS:
            assert_same_bits(
                merged.range("x", params, per_channel=True), tuple(whole.range("x", params, per_channel=True))
            )
    one, other = whole.canonical(), merged.canonical()
    assert one.sample_ids == other.sample_ids
    assert one["x"].table.values.tobytes() == other["x"].table.values.tobytes()


def test_merging_changes_the_left_side_only() -> None:
    samples = list(np.random.default_rng(0).normal(size=(4, 3, 50)).astype(np.float32))
    a, b = collect(samples[:2], [0, 1]), collect(samples[2:], [2, 3])
    before = copy.deepcopy(b)
    a.merge(b)
    a.update("4", {"x": samples[0]})
    assert b == before
    assert a.sample_ids == ("0", "1", "2", "3", "4")


def test_a_sample_on_both_sides_is_an_error() -> None:
    samples = list(np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32))
    a, b = collect(samples, [0, 1, 2]), collect(samples[1:], [1, 2])
    before = copy.deepcopy(a)
    with pytest.raises(DataError, match=r"sample '1' and 1 more are on both sides"):
        a.merge(b)
    assert a == before


def test_skipping_counts_a_shard_that_was_merged_twice_once() -> None:
    samples = list(np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32))
    whole, part = collect(samples), collect(samples[1:3], [1, 2])
    for left, right in ((whole, part), (part, whole), (whole, whole)):
        merged = copy.deepcopy(left)
        merged.merge(right, duplicates="skip")
        assert merged == collect(samples)
    grown = copy.deepcopy(part)
    grown.merge(whole, duplicates="skip")
    grown.update("new", {"x": samples[0]})
    assert whole == collect(samples)


def test_skipping_refuses_sides_that_overlap_in_part() -> None:
    samples = list(np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32))
    a, b = collect(samples[:2], [0, 1]), collect(samples[1:], [1, 2])
    with pytest.raises(DataError, match=r"both sides have sample '1', but only one has '0' and only the other '2'"):
        a.merge(b, duplicates="skip")


def test_skipping_refuses_other_values_of_the_same_id() -> None:
    samples = list(np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32))
    with pytest.raises(DataError, match="have different values in tensor 'x'"):
        collect(samples, [0, 1]).merge(collect(samples[:1], [1]), duplicates="skip")
    with pytest.raises(ParameterError, match="duplicates='drop'"):
        collect(samples).merge(collect(samples), duplicates="drop")  # type: ignore[arg-type]


def test_other_models_taps_and_tensors_are_refused_with_the_difference() -> None:
    x = np.ones((2, 3), np.float32)
    mine = collect([x], [0], axis=1)
    other_model = CalibrationStatistics({"x": 1}, model_hash="n")
    other_taps = CalibrationStatistics({"x": 1, "y": None}, model_hash="m")
    other_columns = CalibrationStatistics(
        {"x": 1}, model_hash="m", columns=columns_for([both(S.QUANTILE, A.MEAN, 0.2)])
    )
    for other, message in (
        (other_model, "the model: hash m and n"),
        (other_taps, "tensor 'y' is on one side only"),
        (other_columns, r"the columns: Column\(.*is on one side only"),
        (collect([x], [1]), "tensor 'x': channel axis: 1 and None"),
        (collect([x], [1], axis=1, batchwise=True), "tensor 'x': batchwise statistics: False and True"),
        (collect([x.astype(np.float64)], [1], axis=1), "float32 with 2 axes and float64 with 2"),
        (collect([x[np.newaxis]], [1], axis=1), "float32 with 2 axes and float32 with 3"),
        (collect([x.T], [1], axis=1), "3 and 2 channels"),
    ):
        with pytest.raises(DataError, match=message):
            mine.merge(other)
        assert mine == collect([x], [0], axis=1)
        assert mine != other


# Samples


def test_counts() -> None:
    samples = [np.array([0.0, -0.0, 1.0, -2.0], np.float32), np.array([0.0, 5.0], np.float32)]
    assert collect(samples)["x"].counts == (6, 3, 0, 0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_changes_nothing(bad: float) -> None:
    statistics = CalibrationStatistics({"a": None, "b": None})
    good = np.ones(4, np.float32)
    statistics.update("0", {"a": good, "b": good})
    before = copy.deepcopy(statistics)
    with pytest.raises(NonFiniteError, match=r"tensor 'b' in sample '1': . NaN, . \+Inf and . -Inf among 4 values"):
        statistics.update("1", {"a": good, "b": np.array([1, 2, bad, 3], np.float32)})
    assert statistics == before
    statistics.update("1", {"a": good, "b": good})


@pytest.mark.parametrize(
    ("sample_id", "sample", "message"),
    [
        ("0", np.ones((2, 3), np.float32), "sample '0' is in these statistics already"),
        ("1", np.ones((2, 3), np.float64), "tensor 'x' in sample '1': a sample is float64 with 2 axes"),
        ("1", np.ones((2, 3, 1), np.float32), "float32 with 3 axes, earlier ones were float32 with 2"),
        ("1", np.ones((2, 4), np.float32), "4 channels along axis 1, earlier ones had 3"),
        ("1", np.ones((2, 3), np.int32), "not of int32"),
        (1, np.ones((2, 3), np.float32), r"CalibrationStatistics\.update\.sample_id=1 is not a string"),
    ],
)
def test_a_sample_that_does_not_fit(sample_id: Any, sample: np.ndarray, message: str) -> None:
    statistics = collect([np.ones((2, 3), np.float32)], axis=1)
    with pytest.raises((DataError, ParameterError), match=message):
        statistics.update(sample_id, {"x": sample})
    with pytest.raises(DataError, match="no values of tensor 'x'"):
        statistics.update("1", {})
    with pytest.raises(DataError, match="has no axis 1 for channels"):
        collect([np.ones(2, np.float32)], axis=1)
    assert statistics == collect([np.ones((2, 3), np.float32)], axis=1)


def test_an_empty_tensor_is_a_sample_without_rows() -> None:
    full = np.arange(6, dtype=np.float32).reshape(2, 3)
    statistics = collect([np.zeros((0, 3), np.float32), full, np.zeros((0, 3), np.float32)], axis=1)
    assert statistics.num_samples == 3
    assert statistics["x"].table.items.tolist() == [0, 1, 0]
    params = RangeEstimatorParametersSet.MEAN_MINMAX
    assert_same_bits(statistics.range("x", params), estimate(params, [full]).range())
    with pytest.raises(DataError, match="tensor 'x': a range needs at least one sample"):
        collect([full[:0]]).range("x")


def test_a_scalar_is_a_tensor_too() -> None:
    assert collect([np.float32(3), np.float32(5)], batchwise=True).range("x", both(S.MAX, A.MEAN)).high == 4


def test_names_and_arguments_are_checked() -> None:
    statistics = collect([np.ones(3, np.float32)])
    assert "x" in statistics
    assert "y" not in statistics
    with pytest.raises(ParameterError, match="tensor 'y' was not observed; the statistics are of 'x'"):
        statistics.range("y")
    with pytest.raises(ParameterError, match="num_bits=9"):
        statistics.range("x", num_bits=9)
    with pytest.raises(ParameterError, match="symmetric=1 is not a bool"):
        statistics.range("x", symmetric=1)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="calibrate with per_channel=True"):
        statistics.range("x", per_channel=True)
    with pytest.raises(ParameterError, match="columns lack"):
        CalibrationStatistics({"x": None}, columns=DEFAULT_COLUMNS[1:])
    with pytest.raises(ParameterError, match=r"merge\.other=None .*CalibrationStatistics\.load\(path\)"):
        statistics.merge(None)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"range\.config=8 is not a QuantizerConfig"):
        statistics.range("x", config=8)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["taps", "channel_means"])
@pytest.mark.parametrize("value", [["x"], {"x": "a"}, {"x": True}, {1: 0}])
def test_axes_by_tensor_are_checked(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=rf"CalibrationStatistics\.{name}.*write "):
        CalibrationStatistics(**{"taps": {"x": None}, name: value})


@pytest.mark.parametrize("memory_limit", [0, 1 << 20])
def test_copies_are_equal_and_independent(memory_limit: int) -> None:
    samples = list(np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32))
    statistics = collect(samples[:2], axis=0, channel_means={"x": 0}, memory_limit=memory_limit)
    before = copy.deepcopy(statistics)
    for twin in (copy.copy(statistics), copy.deepcopy(statistics)):
        assert twin == statistics
        assert (twin.sample_ids, twin.memory_limit) == (statistics.sample_ids, memory_limit)
        twin.update("2", {"x": samples[2]})
        assert statistics == before
        twin.merge(collect(samples[2:], ["3"], axis=0, channel_means={"x": 0}))
        assert (twin.num_samples, statistics.num_samples) == (4, 2)
        assert statistics == before


def test_pickle_and_repr() -> None:
    statistics = collect(list(np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)), axis=0)
    assert pickle.loads(pickle.dumps(statistics)) == statistics
    assert repr(statistics) == "<CalibrationStatistics of 1 tensors, 3 samples>"
    assert repr(statistics["x"]) == "<TensorStatistics of 3 samples: float32 with 2 axes>"
    assert statistics != 1


# Cost


def test_the_size_does_not_depend_on_the_size_of_the_tensor() -> None:
    sizes = {n: collect([np.ones(n, np.float32)] * 20).nbytes for n in (10, 100_000)}
    assert sizes[10] == sizes[100_000] == 65_536 * 8 + 20 * 4 * len(DEFAULT_COLUMNS)


def test_a_sample_is_read_by_one_call_of_each_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str, kernel: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return kernel(*args, **options)

        return call

    names = [name for name in kernels.__all__ if name != "Summary"]
    for name in names:
        monkeypatch.setattr(kernels, name, counted(name, getattr(kernels, name)))
    collect([np.full((2, 3, 4), -1, np.float32), np.ones((2, 3, 4), np.float32)])
    # Without negative values magnitudes are the values.
    assert calls == ["summarize", "abs_quantile", "bit_histogram", "summarize", "bit_histogram"]


def test_a_table_that_grows_keeps_its_rows() -> None:
    samples = [np.full(4, k, np.float32) for k in range(40)]
    table = collect(samples)["x"].table
    np.testing.assert_array_equal(table.matrix(DEFAULT_COLUMNS[0])[:, 0], np.arange(40))
    assert not table.values.flags.writeable


@pytest.mark.parametrize("batchwise", [False, True])
@pytest.mark.parametrize("channel_axis", [None, 1])
def test_a_sample_counted_while_it_is_reduced_leaves_the_same(
    batchwise: bool, channel_axis: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large samples are counted in the read that reduces them, small ones in a read of their own."""
    rng = np.random.default_rng(3)
    samples = [rng.standard_normal((2, 3, 40), np.float32), rng.standard_normal((2, 3, 1_500_000), np.float32)]

    def collected() -> TensorStatistics:
        statistics = TensorStatistics(DEFAULT_COLUMNS, channel_axis=channel_axis, batchwise=batchwise)
        for sample in samples:
            statistics.add(statistics.reduce(sample))
        return statistics

    of_large = collected()
    for threshold in (0, 1 << 62):
        monkeypatch.setattr("quantstats.statistics.tensor_statistics._COUNTED_WHILE_REDUCED", threshold)
        assert collected().has_bits_of(of_large)
    assert of_large.histogram.total == sum(sample.size for sample in samples)
