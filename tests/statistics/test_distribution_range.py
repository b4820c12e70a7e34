"""PERCENTILE and AUTO, and what all ranges of a distribution have in common: estimators, clipping, configurations."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantstats.errors import ParameterError
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig, quantizer_from_range
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
from quantstats.statistics import CalibrationStatistics, RangeEstimator, predicted_sqnr
from quantstats.statistics.distribution_range import distribution_range
from quantstats.statistics.mse_search import least_mse_range, whole_range

from .distributions import CONFIGS, DEGENERATE, MODES, SMOOTH, draw, histogram_of

NAMES = ["HISTOGRAM", "MSE", "ENTROPY", "PERCENTILE", "AUTO"]
Array = np.ndarray[Any, Any]


def params_of(
    name: str, clip: float | None = None, low: float = 1e-4, high: float | None = None
) -> RangeEstimatorParameters:
    branches = [
        StatisticsCollectorParameters(StatisticsType.RAW, AggregatorType[name], clip, p)
        for p in (low, low if high is None else high)
    ]
    return RangeEstimatorParameters(*branches)


def range_of(x: Array, params: RangeEstimatorParameters, config: QuantizerConfig) -> tuple[float, float]:
    estimator = RangeEstimator(params, symmetric=config.mode is QuantizationMode.SYMMETRIC)
    estimator.update(x)
    low, high = estimator.range(config=config)
    assert low.dtype == high.dtype == np.float32
    assert low.shape == high.shape == ()
    return float(low), float(high)


@pytest.mark.parametrize("p", [1e-3, 0.01, 0.2, 0.49])
@pytest.mark.parametrize("kind", SMOOTH)
def test_percentiles_are_those_of_all_values(kind: str, p: float) -> None:
    x = draw(kind)
    low, high = range_of(x, params_of("PERCENTILE", low=p, high=p / 2), QuantizerConfig(8, QuantizationMode.ASYMMETRIC))
    largest = float(np.quantile(np.abs(x), 1 - p / 2))
    # A value is known to 1/128.
    np.testing.assert_allclose((low, high), (np.quantile(x, p), np.quantile(x, 1 - p / 2)), rtol=1 / 128, atol=1e-7)
    low, high = range_of(x, params_of("PERCENTILE", low=p, high=p / 2), QuantizerConfig())
    assert high == pytest.approx(largest, rel=1 / 128)
    assert low == (-high if x.min() < 0 else 0.0)


@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 4.0]), min_size=1, max_size=30), st.floats(0, 1))
def test_a_percentile_that_a_value_has_is_that_value_in_bfloat16(items: list[float], p: float) -> None:
    x = np.array(items, ml_dtypes.bfloat16)
    histogram = histogram_of(x)
    found = histogram.quantile(p)
    lower, upper = (float(np.quantile(np.array(items), p, method=m)) for m in ("lower", "higher"))
    assert lower - abs(lower) / 128 <= found <= upper + abs(upper) / 128
    assert min(items) <= found <= max(items)
    assert histogram.quantile(0.0, magnitudes=True) <= histogram.quantile(1.0, magnitudes=True) <= max(map(abs, items))


@pytest.mark.parametrize("kind", [*SMOOTH, *DEGENERATE])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.mode.value}-{c.num_bits}")
def test_auto_clips_where_that_gains_a_fifth_of_a_decibel(kind: str, config: QuantizerConfig) -> None:
    x = draw(kind)
    histogram = histogram_of(x)
    whole, best = whole_range(histogram, config), least_mse_range(histogram, config)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        gain = predicted_sqnr(histogram, quantizer_from_range(*best, config)) - predicted_sqnr(
            histogram, quantizer_from_range(*whole, config)
        )
    found = range_of(x, RangeEstimatorParametersSet.AUTO, config)
    if gain > 0.21:
        np.testing.assert_array_equal(np.float32(found), np.float32(best))
    elif not gain > 0.19:
        np.testing.assert_array_equal(np.float32(found), np.float32(whole))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SMOOTH)
def test_no_candidate_promises_a_smaller_error_than_auto(kind: str, mode: QuantizationMode) -> None:
    x, config = draw(kind), QuantizerConfig(6, mode)
    histogram = histogram_of(x)
    promised = {
        name: predicted_sqnr(histogram, quantizer_from_range(*range_of(x, params_of(name), config), config))
        for name in NAMES
    }
    assert promised["AUTO"] >= max(promised.values()) - 0.2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_tensors_have_ranges_that_a_quantizer_takes(kind: str, name: str) -> None:
    x = draw(kind)
    for config in CONFIGS:
        low, high = range_of(x, params_of(name), config)
        quantizer = quantizer_from_range(low, high, config)
        assert np.isfinite(quantizer.fake_quantize(x)).all()
        if config.mode is QuantizationMode.SYMMETRIC:
            assert low == (-high if x.min() < 0 else 0.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", MODES)
def test_clipping_comes_before_the_search(name: str, mode: QuantizationMode) -> None:
    x, config = draw("student t, 2"), QuantizerConfig(8, mode)
    expected = range_of(np.clip(x, -2.5, 2.5), params_of(name), config)
    assert range_of(x, params_of(name, 2.5), config) == expected
    assert max(map(abs, expected)) <= 2.5 * (1 + 1 / 127)
    statistics = CalibrationStatistics({"x": None})
    statistics.update("0", {"x": x})
    symmetric = mode is QuantizationMode.SYMMETRIC
    found = statistics.range("x", params_of(name, 2.5), symmetric=symmetric, config=config, strict=True)
    assert tuple(map(float, found)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_says_what_the_bits_do(name: str) -> None:
    x = draw("laplace")
    estimator = RangeEstimator(params_of(name), symmetric=True)
    estimator.update(x)
    assert estimator.range(num_bits=4) == estimator.range(config=QuantizerConfig(4))
    with pytest.raises(ParameterError, match=r"config\.mode=asymmetric with symmetric=True"):
        estimator.range(config=QuantizerConfig(8, QuantizationMode.ASYMMETRIC))


@pytest.mark.parametrize("name", ["HISTOGRAM", "MSE", "AUTO"])
def test_fewer_bits_clip_more(name: str) -> None:
    histogram = histogram_of(draw("laplace"))
    high = [float(distribution_range(histogram, params_of(name), QuantizerConfig(bits))[1]) for bits in (4, 6, 8)]
    assert high[0] < high[1] < high[2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", MODES)
def test_batches_and_shards_leave_the_same_bits(name: str, mode: QuantizationMode) -> None:
    x, config = draw("log-normal"), QuantizerConfig(8, mode)
    expected = range_of(x, params_of(name), config)
    symmetric = mode is QuantizationMode.SYMMETRIC
    for parts in (2, 7):
        shards = [RangeEstimator(params_of(name), symmetric=symmetric) for _ in range(parts)]
        for shard, part in zip(shards, np.array_split(x, parts), strict=True):
            for batch in np.array_split(part, 3):
                shard.update(batch)
        merged = RangeEstimator(params_of(name), symmetric=symmetric)
        for shard in reversed(shards):
            merged.merge(shard)
        assert tuple(map(float, merged.range(config=config))) == expected
