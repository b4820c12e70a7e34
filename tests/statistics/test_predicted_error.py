"""The error that is predicted from the histogram against the error of quantizing the values themselves."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantstats.errors import DataError, ParameterError
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import Quantizer, QuantizerConfig, quantizer_from_range
from quantstats.statistics import BitHistogram, clipped_share, predicted_sqnr
from quantstats.statistics.predicted_error import squared_error

Array = np.ndarray[Any, Any]
MODES = list(QuantizationMode)


def histogram_of(x: Array) -> BitHistogram:
    histogram = BitHistogram()
    histogram.add(x, float(x.min()), float(x.max()))
    return histogram


def quantizer_of(x: Array, config: QuantizerConfig, share: float = 1.0) -> Quantizer:
    high = np.abs(x).max() if config.mode is QuantizationMode.SYMMETRIC else x.max()
    return quantizer_from_range(float(x.min()) * share, float(high) * share, config)


def true_sqnr(x: Array, quantizer: Quantizer) -> float:
    values = x.astype(np.float32)
    exact = values.astype(np.float64)
    noise = np.sum((exact - quantizer.fake_quantize(values)) ** 2)
    return float(10 * np.log10(np.sum(exact**2) / noise))


def draw(kind: str, size: int = 100_000) -> Array:
    rng = np.random.default_rng(5)
    drawn = {
        "normal": lambda: rng.normal(size=size),
        "laplace": lambda: rng.laplace(size=size),
        "relu": lambda: np.maximum(rng.normal(size=size), 0),
        "uniform": lambda: rng.uniform(-1, 1, size),
        "student t, 2": lambda: rng.standard_t(2, size),
        "cauchy": lambda: rng.standard_cauchy(size),
        "log-normal": lambda: np.exp(2 * rng.normal(size=size)),
        "shifted": lambda: rng.normal(5, 1, size),
        "negative": lambda: -rng.gamma(2, size=size),
        "tiny": lambda: 1e-3 * rng.normal(size=size),
        "huge": lambda: 1e30 * rng.normal(size=size),
    }[kind]()
    return np.asarray(drawn, np.float32)


KINDS = (
    "normal",
    "laplace",
    "relu",
    "uniform",
    "student t, 2",
    "cauchy",
    "log-normal",
    "shifted",
    "negative",
    "tiny",
    "huge",
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_bits", [2, 4, 6, 8, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_prediction_is_that_of_quantizing(kind: str, num_bits: int, mode: QuantizationMode) -> None:
    x = draw(kind)
    histogram = histogram_of(x)
    for share in (1.0, 0.5, 0.1):
        quantizer = quantizer_of(x, QuantizerConfig(num_bits, mode), share)
        # At 16 bits the float32 arithmetic of the quantizer itself adds to the error.
        tolerance = 0.1 if num_bits < 16 else 0.3
        assert predicted_sqnr(histogram, quantizer) == pytest.approx(true_sqnr(x, quantizer), abs=tolerance)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_every_dtype(dtype: Any) -> None:
    x = draw("laplace").astype(dtype)
    for mode, num_bits in ((mode, num_bits) for mode in MODES for num_bits in (4, 6, 8)):
        quantizer = quantizer_of(x, QuantizerConfig(num_bits, mode), 0.6)
        assert predicted_sqnr(histogram_of(x), quantizer) == pytest.approx(true_sqnr(x, quantizer), abs=0.3)


@pytest.mark.parametrize(
    "config", [QuantizerConfig(8, narrow_range=True), QuantizerConfig(4, signedness_to_force=True)]
)
def test_narrow_and_forced_levels(config: QuantizerConfig) -> None:
    x = draw("relu" if config.signedness_to_force else "normal")
    quantizer = quantizer_of(x, config, 0.7)
    assert predicted_sqnr(histogram_of(x), quantizer) == pytest.approx(true_sqnr(x, quantizer), abs=0.05)


def test_half_range_saturates_at_half_of_the_levels() -> None:
    x = draw("normal")
    half = quantizer_from_range(-2.0, 2.0, QuantizerConfig(8, narrow_range=True), half_range=True)
    assert predicted_sqnr(histogram_of(x), half) == pytest.approx(true_sqnr(x, half), abs=0.05)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_clipped_share_is_that_of_the_levels_that_do_not_exist(kind: str, mode: QuantizationMode) -> None:
    x = draw(kind)
    for share in (1.0, 0.5, 0.1):
        quantizer = quantizer_of(x, QuantizerConfig(8, mode), share)
        level = np.rint(x.astype(np.float64) / quantizer.scale) + quantizer.zero_point
        expected = np.mean((level < quantizer.clip_low) | (level > quantizer.clip_high))
        assert clipped_share(histogram_of(x), quantizer) == pytest.approx(expected, abs=2e-3)
        if share == 1.0:
            assert expected == 0.0 == clipped_share(histogram_of(x), quantizer)


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=2).map(sorted),
    st.floats(1e-3, 50),
    st.integers(-200, 0),
    st.integers(0, 200),
)
def test_the_error_of_a_bin_is_its_integral(borders: list[float], step: float, lowest: int, highest: int) -> None:
    low, high = borders
    points = np.linspace(low, high, 200_001)
    middles = (points[1:] + points[:-1]) / 2
    levels = np.clip(np.rint(middles / step), lowest, highest) * step
    expected = np.mean((middles - levels) ** 2)
    found = squared_error(np.array([low]), np.array([high]), np.array([3.0]), step, lowest, highest)
    assert found.shape == ()
    assert float(found) == pytest.approx(3.0 * expected, rel=1e-3, abs=1e-7 * step**2)


def test_a_bin_without_width_has_the_error_of_its_value() -> None:
    value = np.array([0.3])
    found = squared_error(value, value, np.ones(1), [0.25, 1.0, 0.1], [-1, -1, 0], [1, 1, 2])
    np.testing.assert_allclose(found, [0.05**2, 0.3**2, 0.1**2])


@pytest.mark.parametrize("mode", MODES)
def test_degenerate_tensors(mode: QuantizationMode) -> None:
    config = QuantizerConfig(8, mode)
    zeros = np.zeros(5, np.float32)
    assert predicted_sqnr(histogram_of(zeros), quantizer_of(zeros, config)) == math.inf
    assert clipped_share(histogram_of(zeros), quantizer_of(zeros, config)) == 0.0
    for value in (2.5, -2.5):
        constant = np.full(7, value, np.float32)
        quantizer = quantizer_of(constant, config)
        predicted = predicted_sqnr(histogram_of(constant), quantizer)
        if mode is QuantizationMode.SYMMETRIC:
            assert predicted > 120  # The value is a level, but for the rounding of the scale to float32.
        else:
            assert predicted == pytest.approx(true_sqnr(constant, quantizer), abs=0.01)  # A range of zero is widened.
        assert clipped_share(histogram_of(constant), quantizer_of(constant, config, 0.5)) == 1.0


def test_zeros_count_among_the_values_that_do_not_saturate() -> None:
    x = np.array([0, 0, 0, 9], np.float32)
    assert clipped_share(histogram_of(x), quantizer_from_range(0.0, 1.0, QuantizerConfig())) == 0.25


def test_infinities_are_left_out() -> None:
    x = draw("normal")
    histogram, quantizer = histogram_of(x), quantizer_of(x, QuantizerConfig(), 0.5)
    expected = predicted_sqnr(histogram, quantizer), clipped_share(histogram, quantizer)
    histogram.counts[[0xFF80, 0x007F]] += np.uint64(5)
    assert (predicted_sqnr(histogram, quantizer), clipped_share(histogram, quantizer)) == expected


@pytest.mark.parametrize("predict", [predicted_sqnr, clipped_share])
def test_what_has_no_answer_is_refused(predict: Any) -> None:
    with pytest.raises(DataError, match="empty histogram"):
        predict(BitHistogram(), quantizer_from_range(0.0, 1.0, QuantizerConfig()))
    per_channel = quantizer_from_range([-1.0, -1.0], [1.0, 1.0], QuantizerConfig(per_channel=True), axis=0)
    with pytest.raises(ParameterError, match="scale for each entry of axis 0"):
        predict(histogram_of(draw("normal")), per_channel)
