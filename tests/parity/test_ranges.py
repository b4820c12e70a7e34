"""Every range estimator against nncf's reducers and aggregators, over distributions, probabilities and sample shapes.

nncf computes in the dtype of its input, and with it the rank of a quantile. Both libraries get the same float32 values;
nncf reads them as float64, and what a sample is reduced to is rounded to float32 in between, as the table of samples
stores it. Then order statistics must agree to the bit, and sums within two units in the last place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    StatisticsCollectorParameters,
    StatisticsType,
)
from quantstats.statistics import RangeEstimator

Array = NDArray[np.float32]
S, A = StatisticsType, AggregatorType
STATISTICS = [S.MIN, S.MAX, S.ABS_MAX, S.QUANTILE, S.ABS_QUANTILE, S.MEAN]
AGGREGATORS = [A.MEAN, A.MAX, A.MIN, A.MEDIAN, A.MEAN_NO_OUTLIERS, A.MEDIAN_NO_OUTLIERS]
WITH_PROBABILITY = {S.QUANTILE, S.ABS_QUANTILE, A.MEAN_NO_OUTLIERS, A.MEDIAN_NO_OUTLIERS}
SUMS = {S.MEAN, A.MEAN, A.MEAN_NO_OUTLIERS}
PROBABILITIES = [1e-4, 0.01, 0.25]
COUNTS = [1, 3, 8]
ULPS = 2

# reduction axes and aggregation axes of an NCHW sample
PLACES = {
    "per tensor": ((0, 1, 2, 3), (0,)),
    "per channel": ((0, 2, 3), (0,)),
    "per tensor, batchwise": ((1, 2, 3), (0, 1)),
    "per channel, batchwise": ((2, 3), (0, 1)),
}


def _ties(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(-3, 4, shape).astype(np.float32)


DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.normal(size=shape).astype(np.float32),
    "heavy tails": lambda rng, shape: (rng.standard_cauchy(shape) ** 3).astype(np.float32),
    "relu": lambda rng, shape: np.maximum(rng.normal(size=shape), 0).astype(np.float32),
    "ties": _ties,
    "shifted": lambda rng, shape: rng.normal(1000.0, 1.0, shape).astype(np.float32),
    "all negative": lambda rng, shape: -rng.lognormal(0.0, 2.0, shape).astype(np.float32),
}


@pytest.fixture(scope="module")
def nncf() -> SimpleNamespace:
    """The parts of nncf that the tests call; importing it takes a second."""
    from nncf.common.tensor_statistics import collectors
    from nncf.tensor import Tensor

    return SimpleNamespace(collectors=collectors, Tensor=Tensor)


def samples_of(distribution: str, count: int, *, equal: bool) -> list[Array]:
    rng = np.random.default_rng([count, int(equal), list(DISTRIBUTIONS).index(distribution)])
    spread = np.array([0.1, 1.0, 30.0], np.float32)[:, None, None]
    shapes = [(3, 3, 5, 4) if equal else (1 + i % 3, 3, 2 + i % 4, 5) for i in range(count)]
    return [DISTRIBUTIONS[distribution](rng, shape) * spread for shape in shapes]


def reduced(
    nncf: SimpleNamespace, statistic: StatisticsType, samples: list[Array], axes: tuple[int, ...], probability: float
) -> list[Array]:
    """What nncf's reducer makes of each sample, rounded to float32."""
    c = nncf.collectors
    if statistic in (S.QUANTILE, S.ABS_QUANTILE):
        reducer = (c.QuantileReducer if statistic is S.QUANTILE else c.AbsQuantileReducer)(
            axes=axes, quantile=[probability]
        )
    else:
        reducer = {S.MIN: c.MinReducer, S.MAX: c.MaxReducer, S.ABS_MAX: c.AbsMaxReducer, S.MEAN: c.MeanReducer}[
            statistic
        ](axes=axes)
    return [reducer([nncf.Tensor(x.astype(np.float64))])[0].data.astype(np.float32) for x in samples]


def aggregated(
    nncf: SimpleNamespace,
    aggregator: AggregatorType,
    values: list[Array],
    axes: tuple[int, ...],
    probability: float,
) -> Array:
    """What nncf's aggregator makes of the reduced samples, rounded to float32."""
    options = {"quantile": probability} if aggregator in (A.MEAN_NO_OUTLIERS, A.MEDIAN_NO_OUTLIERS) else {}
    found = nncf.collectors.AGGREGATORS_MAP[aggregator.to_nncf()](num_samples=None, aggregation_axes=axes, **options)
    for value in values:
        found.register_reduced_input(nncf.Tensor(value.astype(np.float64)))
    result: Array = np.asarray(found.aggregate().data).astype(np.float32)
    return result


def ours(
    statistic: StatisticsType, aggregator: AggregatorType, samples: list[Array], place: str, probability: float
) -> tuple[Array, Array]:
    branch = StatisticsCollectorParameters(statistic, aggregator, quantile_outlier_prob=probability)
    reduction_axes, aggregation_axes = PLACES[place]
    estimator = RangeEstimator(
        RangeEstimatorParameters(min=branch, max=branch),
        reduction_axes=reduction_axes,
        aggregation_axes=aggregation_axes,
    )
    for sample in samples:
        estimator.update(sample)
    return estimator.range()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: s.name)
def test_ranges_equal_those_of_nncf(
    nncf: SimpleNamespace, statistic: StatisticsType, place: str, distribution: str
) -> None:
    """120 bounds a call, 216 for quantiles: aggregators, probabilities, numbers and shapes of samples."""
    reduction_axes, aggregation_axes = PLACES[place]
    compared = 0
    for count, equal in itertools.product(COUNTS, (True, False)):
        samples = samples_of(distribution, count, equal=equal)
        for probability in PROBABILITIES:
            of_statistic = [
                reduced(nncf, statistic, samples, reduction_axes, p) for p in (probability, 1.0 - probability)
            ]
            for aggregator in AGGREGATORS:
                if probability != PROBABILITIES[0] and not WITH_PROBABILITY & {statistic, aggregator}:
                    continue  # the same case again
                found = ours(statistic, aggregator, samples, place, probability)
                ulps = ULPS if SUMS & {statistic, aggregator} else 0
                for bound, values in zip(found, of_statistic, strict=True):
                    expected = aggregated(nncf, aggregator, values, aggregation_axes, probability)
                    assert bound.dtype == np.float32
                    note = f"{aggregator.name}, {count} samples, equal={equal}, probability {probability}"
                    assert bound.size == expected.size, note
                    # Zeros have one sign here.
                    distance = np.abs(ordered(bound.ravel()) - ordered(expected.ravel() + np.float32(0)))
                    assert distance.max() <= ulps, f"{note}: {bound.ravel()} and {expected.ravel()}"
                    compared += 1
    assert compared == (216 if statistic in WITH_PROBABILITY else 120)


def ordered(x: Array) -> NDArray[np.int64]:
    """Integers that count the float32 numbers from zero, so that a difference is in units in the last place."""
    bits = np.ascontiguousarray(x, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


@pytest.mark.parametrize("aggregator", [A.MEAN_NO_OUTLIERS, A.MEDIAN_NO_OUTLIERS], ids=lambda a: a.name)
def test_two_samples_differ_on_purpose(nncf: SimpleNamespace, aggregator: AggregatorType) -> None:
    """Each of two lies outside the quantiles between them: nncf drops both and finds 0, here both count."""
    samples = [np.full((1, 3, 2, 2), value, np.float32) for value in (1.0, 2.0)]
    for bound in ours(S.MAX, aggregator, samples, "per tensor", 0.01):
        assert bound.item() == 1.5
    values = reduced(nncf, S.MAX, samples, (0, 1, 2, 3), 0.01)
    assert aggregated(nncf, aggregator, values, (0,), 0.01).item() == 0
