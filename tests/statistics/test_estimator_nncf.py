"""Ranges against nncf's collectors: every statistic with every aggregator, per tensor, per channel and per item."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
    resolve,
)
from quantstats.statistics import RangeEstimator

S, A = StatisticsType, AggregatorType
STATISTICS = [S.MIN, S.MAX, S.ABS_MAX, S.QUANTILE, S.ABS_QUANTILE, S.MEAN]
AGGREGATORS = [A.MEAN, A.MAX, A.MIN, A.MEDIAN, A.MEAN_NO_OUTLIERS, A.MEDIAN_NO_OUTLIERS]
EXACT_STATISTICS = {S.MIN, S.MAX, S.ABS_MAX}
EXACT_AGGREGATORS = {A.MAX, A.MIN}
EPSILON = float(np.finfo(np.float32).eps)
PROBABILITY = 0.05

# reduction axes and aggregation axes of an NCHW sample, as nncf's RangeInitCollectorParams gives them
PLACES = {
    "per tensor": ((0, 1, 2, 3), (0,)),
    "per channel": ((0, 2, 3), (0,)),
    "per tensor, batchwise": ((1, 2, 3), (0, 1)),
    "per channel, batchwise": ((2, 3), (0, 1)),
}


@pytest.fixture(scope="module")
def nncf() -> SimpleNamespace:
    """The parts of nncf that the tests call; importing it takes a second."""
    from nncf.common.quantization.initialization.range import RangeInitCollectorParams
    from nncf.common.tensor_statistics import collectors
    from nncf.common.tensor_statistics.statistics import MinMaxTensorStatistic
    from nncf.quantization.algorithms.min_max.algorithm import MinMaxQuantization
    from nncf.quantization.algorithms.min_max.onnx_backend import ONNXMinMaxAlgoBackend
    from nncf.tensor import Tensor

    return SimpleNamespace(
        RangeInitCollectorParams=RangeInitCollectorParams,
        collectors=collectors,
        MinMaxTensorStatistic=MinMaxTensorStatistic,
        MinMaxQuantization=MinMaxQuantization,
        ONNXMinMaxAlgoBackend=ONNXMinMaxAlgoBackend,
        Tensor=Tensor,
    )


def theirs(
    nncf: SimpleNamespace,
    params: RangeEstimatorParameters,
    samples: list[np.ndarray],
    reduction_axes: tuple[int, ...],
    aggregation_axes: tuple[int, ...],
    symmetric: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """The range that nncf's own algorithm collects with these parameters."""
    algorithm = nncf.MinMaxQuantization()
    algorithm._backend_entity = nncf.ONNXMinMaxAlgoBackend()
    collector = algorithm._get_statistic_collector(
        params.to_nncf(), symmetric, reduction_axes, aggregation_axes, False, num_samples=None
    )
    for sample in samples:
        collector.register_input_for_all_reducers(nncf.Tensor(sample))
    statistics = collector.get_statistics()
    return np.asarray(statistics.min_values.data), np.asarray(statistics.max_values.data)


def ours(params: RangeEstimatorParameters, samples: list[np.ndarray], **axes: Any) -> tuple[np.ndarray, np.ndarray]:
    estimator = RangeEstimator(params, **axes)
    for sample in samples:
        estimator.update(sample)
    return estimator.range()


def both(statistic: StatisticsType, aggregator: AggregatorType) -> RangeEstimatorParameters:
    return RangeEstimatorParameters(
        min=StatisticsCollectorParameters(statistic, aggregator, quantile_outlier_prob=PROBABILITY),
        max=StatisticsCollectorParameters(statistic, aggregator, quantile_outlier_prob=PROBABILITY),
    )


def samples_of(count: int = 9, batch: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    scale = np.array([0.1, 1.0, 5.0, 40.0])[:, None, None]
    return [(rng.normal(size=(batch, 4, 6, 5)) * scale * rng.uniform(0.5, 2)).astype(np.float32) for _ in range(count)]


def tolerance(statistic: StatisticsType, aggregator: AggregatorType, largest: float) -> float:
    """What nncf's float32 arithmetic may lose: nothing for order statistics."""
    if statistic in EXACT_STATISTICS and aggregator in EXACT_AGGREGATORS:
        return 0.0
    if statistic in EXACT_STATISTICS:
        return 2 * EPSILON * largest  # A sum of a few values.
    # nncf computes the rank of a quantile in float32, which shifts the interpolation; its means add in float32.
    return 64 * EPSILON * largest


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: s.name)
def test_every_statistic_and_aggregator(
    nncf: SimpleNamespace, statistic: StatisticsType, place: str, symmetric: bool
) -> None:
    samples = samples_of()
    largest = max(float(np.abs(x).max()) for x in samples)
    reduction_axes, aggregation_axes = PLACES[place]
    for aggregator in AGGREGATORS:
        params = both(statistic, aggregator)
        if symmetric and statistic is S.MAX:
            # A min branch that asks for MAX becomes ABS_MAX in nncf too; only a max branch does here.
            params.min.statistics_type = S.MIN
        expected = theirs(nncf, params, samples, reduction_axes, aggregation_axes, symmetric)
        found = ours(
            params, samples, reduction_axes=reduction_axes, aggregation_axes=aggregation_axes, symmetric=symmetric
        )
        for a, b in zip(found, expected, strict=True):
            assert a.shape == b.shape
            assert a.dtype == np.float32
            np.testing.assert_allclose(
                a, b, rtol=0, atol=tolerance(statistic, aggregator, largest), err_msg=aggregator.name
            )


@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=lambda a: a.name)
def test_samples_of_unequal_shape(nncf: SimpleNamespace, aggregator: AggregatorType) -> None:
    samples = [x[: 1 + i % 3] for i, x in enumerate(samples_of())]
    largest = max(float(np.abs(x).max()) for x in samples)
    for place in PLACES.values():
        reduction_axes, aggregation_axes = place
        params = both(S.MAX, aggregator)
        expected = theirs(nncf, params, samples, reduction_axes, aggregation_axes, False)
        found = ours(params, samples, reduction_axes=reduction_axes, aggregation_axes=aggregation_axes)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.ravel(), b.ravel(), rtol=0, atol=tolerance(S.MAX, aggregator, largest))


@pytest.mark.parametrize("batchwise", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_axes_of_a_place_are_those_that_nncf_uses(
    nncf: SimpleNamespace, per_channel: bool, batchwise: bool
) -> None:
    place = nncf.RangeInitCollectorParams(is_weights=False, scheme="symmetric", per_channel=per_channel)
    found = place.get_reduction_aggregation_axes((3, 4, 6, 5), (1,) if per_channel else (), batchwise)
    name = ("per channel" if per_channel else "per tensor") + (", batchwise" if batchwise else "")
    assert (tuple(found[0]), found[1]) == PLACES[name]


PARTIAL = [
    None,
    RangeEstimatorParameters(),
    RangeEstimatorParameters(min=StatisticsCollectorParameters(aggregator_type=A.MEDIAN)),
    RangeEstimatorParameters(max=StatisticsCollectorParameters(statistics_type=S.QUANTILE, quantile_outlier_prob=0.1)),
    RangeEstimatorParameters(
        min=StatisticsCollectorParameters(statistics_type=S.MEAN),
        max=StatisticsCollectorParameters(aggregator_type=A.MEAN_NO_OUTLIERS),
    ),
]


@pytest.mark.parametrize("index", range(len(PARTIAL)))
@pytest.mark.parametrize(("is_weight", "per_channel"), list(itertools.product([False, True], repeat=2)))
def test_partial_parameters(nncf: SimpleNamespace, index: int, is_weight: bool, per_channel: bool) -> None:
    params = PARTIAL[index]
    user = None if params is None else params.to_nncf()
    algorithm = nncf.MinMaxQuantization(activations_range_estimator_params=user, weights_range_estimator_params=user)
    expected = algorithm._get_range_estimator_parameters(
        SimpleNamespace(is_weight_target_point=lambda: is_weight), SimpleNamespace(per_channel=per_channel)
    )
    found = resolve(params, is_weight=is_weight, per_channel=per_channel)
    if params is None and not is_weight and not per_channel:
        assert found == RangeEstimatorParametersSet.AUTO  # ours where the user names nothing
    else:
        assert RangeEstimatorParameters.from_nncf(expected) == found


def l2_error(x: np.ndarray, low: float, high: float, levels: int = 256) -> float:
    """Mean squared error of a quantizer with `levels` levels from `low` to `high`."""
    step = (high - low) / (levels - 1)
    return float(np.mean((np.clip(np.rint((x - low) / step), 0, levels - 1) * step + low - x) ** 2))


@pytest.mark.parametrize("distribution", ["normal", "laplace", "relu", "skewed", "outlier"])
def test_histogram_is_at_least_as_good_as_that_of_nncf(nncf: SimpleNamespace, distribution: str) -> None:
    rng = np.random.default_rng(11)
    x = rng.laplace(size=(8, 20_000)) if distribution == "laplace" else rng.normal(size=(8, 20_000))
    if distribution == "relu":
        x = np.maximum(x, 0)
    elif distribution == "skewed":
        x = np.exp(x) - 0.5
    elif distribution == "outlier":
        x[0, 0] = 60.0
    samples = list(x.astype(np.float32))
    aggregator = nncf.collectors.HistogramAggregator()
    for sample in samples:
        aggregator.register_reduced_input(nncf.Tensor(sample))
    expected = aggregator.aggregate()
    keys = (nncf.MinMaxTensorStatistic.MIN_STAT, nncf.MinMaxTensorStatistic.MAX_STAT)
    their_low, their_high = (float(expected[key].data) for key in keys)
    low, high = ours(RangeEstimatorParametersSet.HISTOGRAM, samples)
    # Both ranges must include zero to be compared, since a quantizer widens them to it.
    error = l2_error(x, min(float(low), 0.0), max(float(high), 0.0))
    assert error <= 1.02 * l2_error(x, min(their_low, 0.0), max(their_high, 0.0))
