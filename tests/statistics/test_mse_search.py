"""The range with the least mean squared error: known optima, trying every quantizer, laws, degenerate tensors."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from quantstats.parameters import QuantizationMode
from quantstats.quantizer import Quantizer, QuantizerConfig, quantizer_from_range
from quantstats.statistics import BitHistogram, predicted_sqnr
from quantstats.statistics.mse_search import least_mse_range, whole_range
from quantstats.statistics.predicted_error import squared_error
from quantstats.statistics.tail_integral import TailIntegral

from .distributions import CONFIGS, DEGENERATE, SMOOTH, draw, histogram_of, true_sqnr

SYMMETRIC, ASYMMETRIC = QuantizationMode.SYMMETRIC, QuantizationMode.ASYMMETRIC
# Decibels that a range gives up where the whole one is as good, and that the spread within a bin costs.
SLACK = 0.02 + 0.03


def name_of(config: QuantizerConfig) -> str:
    return f"{config.mode.value}-{config.num_bits}"


def found_and_whole(histogram: BitHistogram, config: QuantizerConfig) -> tuple[Quantizer, Quantizer]:
    return (
        quantizer_from_range(*least_mse_range(histogram, config), config),
        quantizer_from_range(*whole_range(histogram, config), config),
    )


@pytest.mark.parametrize(
    ("distribution", "num_bits", "clip"),
    [
        ("normal", 4, 2.48),
        ("normal", 6, 3.28),
        ("normal", 8, 3.92),
        ("laplace", 4, 4.81),
        ("laplace", 6, 7.36),
        ("laplace", 8, 9.87),
    ],
)
def test_the_optimal_symmetric_clip_of_known_distributions(distribution: str, num_bits: int, clip: float) -> None:
    x = draw(distribution, 1 << 20)
    config = QuantizerConfig(num_bits)
    low, high = least_mse_range(histogram_of(x), config)
    assert low == -high
    # The literature's levels are placed evenly between -clip and clip; ours reach one level further down.
    assert high == pytest.approx(clip, rel=0.05)
    quantizer = quantizer_from_range(low, high, config)
    assert true_sqnr(x, quantizer) >= true_sqnr(x, quantizer_from_range(-clip, clip, config)) - 0.01
    if num_bits == 8:
        assert true_sqnr(x, quantizer) == pytest.approx({"normal": 40.5, "laplace": 35.2}[distribution], abs=0.3)


def least_error_of_all(histogram: BitHistogram, config: QuantizerConfig, steps: int) -> float:
    """The least error of any split of the levels and of many steps that clip or just do not, by the sum over bins."""
    low, high, counts = histogram.spread()
    lowest, highest = config.level_range(signed=histogram.minimum < 0)
    levels = highest - lowest
    largest = max(-float(low[0]), float(high[-1]))
    least = (8e-5 / highest if config.mode is SYMMETRIC else 8e-4 / levels) * (1 + 1e-6)
    widest = largest / highest
    if config.mode is ASYMMETRIC:
        widest = (max(float(high[-1]), 0) - min(float(low[0]), 0)) / (levels - 1)
    grid = np.geomspace(widest / 100, widest, steps)
    grid = np.append(grid[grid > least], least)
    splits = [-lowest] if config.mode is SYMMETRIC else range(levels + 1)
    return min(float(squared_error(low, high, counts, grid, -below, levels - below).min()) for below in splits)


@pytest.mark.parametrize("kind", ["normal", "laplace", "relu", "log-normal", "with outlier", "few", "two values"])
@pytest.mark.parametrize("config", [c for c in CONFIGS if c.num_bits in (2, 4)], ids=name_of)
def test_no_other_quantizer_has_a_smaller_error(kind: str, config: QuantizerConfig) -> None:
    histogram = histogram_of(draw(kind, 4_000))
    low, high, counts = histogram.spread()
    found, _ = found_and_whole(histogram, config)
    zero = int(found.zero_point)
    error = float(squared_error(low, high, counts, float(found.scale), found.level_low - zero, found.level_high - zero))
    power = float(((low**2 + low * high + high**2) / 3) @ counts)
    # The first term is what the whole range is given for; the second the resolution of float32 in the scale.
    assert error <= 10**0.002 * 1.005 * least_error_of_all(histogram, config, 500) + 1e-12 * power


@pytest.mark.parametrize("kind", ["normal", "laplace", "relu", "student t, 2", "shifted", "negative", "with outlier"])
def test_no_other_step_of_eight_symmetric_bits_has_a_smaller_error(kind: str) -> None:
    histogram = histogram_of(draw(kind))
    low, high, counts = histogram.spread()
    found, _ = found_and_whole(histogram, QuantizerConfig())
    error = float(squared_error(low, high, counts, float(found.scale), found.level_low, found.level_high))
    assert error <= 10**0.002 * 1.001 * least_error_of_all(histogram, QuantizerConfig(), 1500)


@pytest.mark.parametrize("kind", ["normal", "relu", "student t, 2", "shifted", "with outlier"])
def test_no_other_split_of_eight_asymmetric_bits_has_a_smaller_error(kind: str) -> None:
    histogram, config = histogram_of(draw(kind)), QuantizerConfig(8, ASYMMETRIC)
    found, _ = found_and_whole(histogram, config)
    negative, positive = TailIntegral(histogram, negative=True), TailIntegral(histogram, negative=False)
    steps = float(found.scale) * np.geomspace(1 / 8, 8, 2000)
    errors = negative.errors(steps, 255) + positive.errors(steps, 255)[:, ::-1]
    zero = int(found.zero_point)
    step = np.array([float(found.scale)])
    error = negative.errors(step, 255)[0, zero] + positive.errors(step, 255)[0, 255 - zero]
    assert error <= 10**0.002 * 1.001 * errors.min()


@pytest.mark.parametrize("kind", [*SMOOTH, *DEGENERATE])
@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_never_worse_than_the_whole_range(kind: str, config: QuantizerConfig) -> None:
    x = draw(kind)
    histogram = histogram_of(x)
    found, whole = found_and_whole(histogram, config)
    assert predicted_sqnr(histogram, found) >= predicted_sqnr(histogram, whole) - 1e-3
    if x.any() and true_sqnr(x, whole) < 100:  # Beyond that the rounding of the scale to float32 decides.
        assert true_sqnr(x, found) >= true_sqnr(x, whole) - SLACK


@pytest.mark.parametrize(
    "config",
    [
        QuantizerConfig(4, narrow_range=True),
        QuantizerConfig(4, ASYMMETRIC, narrow_range=True),
        QuantizerConfig(4, signedness_to_force=True),
    ],
)
@pytest.mark.parametrize("kind", ["normal", "relu", "laplace", "shifted"])
def test_levels_that_the_configuration_leaves_out(kind: str, config: QuantizerConfig) -> None:
    x = draw(kind)
    found, whole = found_and_whole(histogram_of(x), config)
    assert true_sqnr(x, found) >= true_sqnr(x, whole) + 1
    others = [
        quantizer_from_range(low * s, high * s, config)
        for low, high in [(x.min(), np.abs(x).max())]
        for s in np.linspace(0.3, 1, 71)
    ]
    assert true_sqnr(x, found) >= max(true_sqnr(x, other) for other in others) - SLACK


def test_forced_signs_halve_the_levels_that_a_positive_tensor_can_use() -> None:
    histogram = histogram_of(draw("relu"))
    unsigned = least_mse_range(histogram, QuantizerConfig(4))[1]
    signed = least_mse_range(histogram, QuantizerConfig(4, signedness_to_force=True))[1]
    assert signed < 0.9 * unsigned


@pytest.mark.parametrize("mode", [SYMMETRIC, ASYMMETRIC])
def test_a_constant_has_no_error(mode: QuantizationMode) -> None:
    for kind in ("constant", "negative constant"):
        x = draw(kind)
        found, _ = found_and_whole(histogram_of(x), QuantizerConfig(8, mode))
        assert true_sqnr(x, found) > 120


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_zeros_have_the_whole_range(config: QuantizerConfig) -> None:
    assert least_mse_range(histogram_of(draw("zeros")), config) == (0.0, 0.0)


def test_values_that_float32_cannot_tell_apart_or_hold() -> None:
    beyond = np.array([-1e300, 1e300, 1.0])
    for mode in (SYMMETRIC, ASYMMETRIC):
        assert np.isfinite(least_mse_range(histogram_of(beyond), QuantizerConfig(8, mode))).all()
    edge = np.array([-3.4e38, 3.4e38], np.float32)  # Its width is infinite in float32.
    assert least_mse_range(histogram_of(edge), QuantizerConfig(8, ASYMMETRIC)) == (float(edge[0]), float(edge[1]))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_sixteen_bit_floats_have_the_range_of_the_same_float32(dtype: Any, config: QuantizerConfig) -> None:
    x = draw("laplace", 4_000).astype(dtype)
    assert least_mse_range(histogram_of(x), config) == least_mse_range(histogram_of(x.astype(np.float32)), config)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
@pytest.mark.parametrize("factor", [2.0**-10, 2.0**30])
def test_ranges_scale_with_the_data(config: QuantizerConfig, factor: float) -> None:
    x = np.float32(64) * draw("laplace", 4_000)
    plain, scaled = (least_mse_range(histogram_of(v), config) for v in (x, x * np.float32(factor)))
    np.testing.assert_allclose(scaled, np.array(plain) * factor, rtol=1e-9)
