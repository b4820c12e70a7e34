"""Quantizers: shapes and axes, levels, immutability, the laws of quantization, errors."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quantstats.errors import NonFiniteError, ParameterError
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import Quantizer, QuantizerConfig, quantizer_from_range

from ..reference import numpy_kernels

SYMMETRIC, ASYMMETRIC = QuantizationMode.SYMMETRIC, QuantizationMode.ASYMMETRIC
FLOAT32_EPSILON = float(np.finfo(np.float32).eps)

bounds = st.floats(-1e4, 1e4, width=32)
configs = st.builds(
    QuantizerConfig,
    num_bits=st.sampled_from([2, 3, 4, 5, 6, 7, 8, 16]),
    mode=st.sampled_from(list(QuantizationMode)),
    signedness_to_force=st.sampled_from([None, True, False]),
    narrow_range=st.booleans(),
)


def sqnr(x: np.ndarray, y: np.ndarray) -> float:
    noise = np.sum((x.astype(np.float64) - y) ** 2)
    return float(10 * np.log10(np.sum(x.astype(np.float64) ** 2) / noise))


def per_tensor(x: np.ndarray, config: QuantizerConfig, **kwargs: Any) -> Quantizer:
    high = np.abs(x).max() if config.mode is SYMMETRIC else x.max()
    return quantizer_from_range(x.min(), high, config, **kwargs)


# Shapes and axes


def test_per_tensor_accepts_any_shape_of_one_element() -> None:
    config = QuantizerConfig()
    first = quantizer_from_range(-1.0, 2.0, config)
    for shape in ((), (1,), (1, 1, 1, 1)):
        again = quantizer_from_range(np.full(shape, -1.0), np.full(shape, 2.0), config)
        assert again == first
        assert again.scale.shape == again.zero_point.shape == again.input_low.shape == ()
        assert again.axis is None


@pytest.mark.parametrize(
    ("shape", "axis", "found"),
    [
        ((3,), 1, 1),
        ((3,), -1, -1),
        ((1, 3, 1), None, 1),
        ((3, 1, 1, 1), None, 0),
        ((1, 3, 1), -2, 1),
        ((1, 1), 1, 1),
        ((1,), 0, 0),
    ],
)
def test_channel_axis(shape: tuple[int, ...], axis: int | None, found: int) -> None:
    quantizer = quantizer_from_range(np.zeros(shape), np.ones(shape), QuantizerConfig(per_channel=True), axis=axis)
    assert quantizer.axis == found
    assert quantizer.scale.shape == quantizer.zero_point.shape == (int(np.prod(shape)),)


@pytest.mark.parametrize(
    ("lo_shape", "hi_shape", "per_channel", "axis", "message"),
    [
        ((3,), (2,), True, 0, r"lo has shape \(3,\), hi has shape \(2,\)"),
        ((3,), (3,), False, None, r"shape \(3,\) with per_channel=False"),
        ((), (), False, 1, "axis=1 with per_channel=False"),
        ((3,), (3,), True, None, "axis is missing"),
        ((1, 1), (1, 1), True, None, "cannot be inferred"),
        ((2, 3), (2, 3), True, None, "cannot be inferred"),
        ((), (), True, None, "cannot be inferred"),
        ((1, 3), (1, 3), True, 0, "axis=0 does not fit"),
        ((1, 3), (1, 3), True, 2, "axis=2 does not fit"),
        ((0,), (0,), True, 0, "holds no value"),
    ],
)
def test_shapes_that_do_not_fit(
    lo_shape: tuple[int, ...], hi_shape: tuple[int, ...], per_channel: bool, axis: int | None, message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        quantizer_from_range(np.zeros(lo_shape), np.ones(hi_shape), QuantizerConfig(per_channel=per_channel), axis=axis)


def test_values_that_make_no_range() -> None:
    config = QuantizerConfig(per_channel=True)
    with pytest.raises(NonFiniteError, match="hi has 1 NaN or infinite values of 2"):
        quantizer_from_range(np.zeros(2), np.array([1.0, np.nan]), config, axis=0)
    with pytest.raises(NonFiniteError, match="lo has 1 NaN or infinite"):
        quantizer_from_range(-1e300, 1.0, QuantizerConfig())
    with pytest.raises(ParameterError, match=r"lo=3\.0 exceeds hi=2\.0 at channel 1"):
        quantizer_from_range(np.array([0.0, 3.0]), np.array([1.0, 2.0]), config, axis=0)


@pytest.mark.parametrize("config", [QuantizerConfig(mode=ASYMMETRIC), QuantizerConfig(4), QuantizerConfig(16)])
def test_half_range_is_for_symmetric_8_bit(config: QuantizerConfig) -> None:
    with pytest.raises(ParameterError, match="half_range=True is defined for symmetric 8-bit"):
        quantizer_from_range(-1.0, 1.0, config, half_range=True)


@pytest.mark.parametrize(("num_bits", "mode", "message"), [(1, SYMMETRIC, "num_bits=1"), (8, "symmetric", "mode=")])
def test_configurations_are_validated(num_bits: int, mode: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        QuantizerConfig(num_bits, mode)


# Levels and storage


@pytest.mark.parametrize(
    ("config", "lo", "levels", "dtype"),
    [
        (QuantizerConfig(8), -1.0, (-128, 127), np.int8),
        (QuantizerConfig(8), 0.0, (0, 255), np.uint8),
        (QuantizerConfig(8, signedness_to_force=True), 0.0, (-128, 127), np.int8),
        (QuantizerConfig(8, signedness_to_force=False), -1.0, (-128, 127), np.int8),
        (QuantizerConfig(8, narrow_range=True), -1.0, (-127, 127), np.int8),
        (QuantizerConfig(8, narrow_range=True), 0.0, (0, 254), np.uint8),
        (QuantizerConfig(8, ASYMMETRIC), -1.0, (0, 255), np.uint8),
        (QuantizerConfig(8, ASYMMETRIC, narrow_range=True), -1.0, (1, 255), np.uint8),
        (QuantizerConfig(4), -1.0, (-8, 7), np.int8),
        (QuantizerConfig(2, ASYMMETRIC), -1.0, (0, 3), np.uint8),
        (QuantizerConfig(16), -1.0, (-32768, 32767), np.int16),
        (QuantizerConfig(16, ASYMMETRIC), -1.0, (0, 65535), np.uint16),
    ],
)
def test_levels_and_storage(config: QuantizerConfig, lo: float, levels: tuple[int, int], dtype: Any) -> None:
    quantizer = quantizer_from_range(lo, 1.0, config)
    assert (quantizer.level_low, quantizer.level_high) == levels
    assert quantizer.levels == levels[1] - levels[0] + 1
    assert quantizer.dtype == dtype
    written = quantizer.quantize(np.linspace(-3, 3, 1001, dtype=np.float32))
    assert written.dtype == dtype
    # The data reaches further than the range, so both borders are hit; unsigned levels start at zero.
    assert (written.min(), written.max()) == levels


def test_a_channel_of_zeros_gets_a_usable_scale() -> None:
    config = QuantizerConfig(per_channel=True)
    quantizer = quantizer_from_range(np.array([0.0, -5.0]), np.array([0.0, 5.0]), config, axis=0)
    assert quantizer.input_high[0] == np.float32(0.01) * np.float32(5.0)
    alone = quantizer_from_range(0.0, 0.0, QuantizerConfig())
    assert alone.input_high == np.float32(8e-5)
    assert alone.scale > FLOAT32_EPSILON


def test_immutable() -> None:
    quantizer = quantizer_from_range([0.0, 1.0], [1.0, 2.0], QuantizerConfig(per_channel=True), axis=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        quantizer.levels = 3  # type: ignore[misc]
    for name in ("input_low", "input_high", "scale", "zero_point"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(quantizer, name)[0] = 1


def test_the_callers_arrays_are_not_shared() -> None:
    lo, hi = np.zeros(2, np.float32), np.ones(2, np.float32)
    quantizer = quantizer_from_range(lo, hi, QuantizerConfig(per_channel=True), axis=0)
    before = quantizer.input_high.copy()
    hi[:] = 7.0
    assert np.array_equal(quantizer.input_high, before)


def test_copy_pickle_compare_and_hash() -> None:
    config = QuantizerConfig(per_channel=True)
    quantizer = quantizer_from_range([-1.0, -2.0], [1.0, 2.0], config, axis=0)
    for twin in (copy.copy(quantizer), copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))):
        assert twin == quantizer
        assert hash(twin) == hash(quantizer)
    assert quantizer != quantizer_from_range([-1.0, -2.0], [1.0, 2.0], config, axis=1)
    assert quantizer != quantizer_from_range([-1.0, -2.0], [1.0, 2.5], config, axis=0)
    assert quantizer != "quantizer"


# Laws


@given(lo=bounds, hi=bounds, config=configs)
def test_scale_is_positive_and_the_zero_point_is_a_level(lo: float, hi: float, config: QuantizerConfig) -> None:
    quantizer = quantizer_from_range(min(lo, hi), max(lo, hi), config)
    assert quantizer.scale >= np.float32(FLOAT32_EPSILON)
    assert quantizer.level_low <= quantizer.zero_point <= quantizer.level_high
    assert quantizer.input_low <= 0 <= quantizer.input_high
    assert quantizer.fake_quantize(np.zeros(1, np.float32))[0] == 0.0


@given(lo=bounds, hi=bounds, num_bits=st.sampled_from([2, 3, 4, 5, 6, 7, 8, 16]))
def test_asymmetric_zero_lies_on_a_level_and_the_range_never_shrinks(lo: float, hi: float, num_bits: int) -> None:
    lo, hi = min(lo, hi), max(lo, hi)
    quantizer = quantizer_from_range(lo, hi, QuantizerConfig(num_bits, ASYMMETRIC))
    assume(quantizer.scale > FLOAT32_EPSILON)
    # A border that is negligible against the other one vanishes in the float32 width by which the two are compared.
    slack = FLOAT32_EPSILON * (hi - lo)
    assert quantizer.input_low <= lo + slack
    assert quantizer.input_high >= hi - slack
    assert not np.signbit(quantizer.input_high)
    level_of_zero = -np.float64(quantizer.input_low) / np.float64(quantizer.scale)
    assume(0 < quantizer.zero_point < quantizer.level_high)
    # The borders are float32 numbers, so the level is whole to float32's precision at the top level.
    assert abs(level_of_zero - round(level_of_zero)) <= 4 * FLOAT32_EPSILON * quantizer.levels
    assert round(level_of_zero) == quantizer.zero_point


def test_asymmetric_zero_nearest_to_the_lowest_level_moves_no_border() -> None:
    # Zero is half a level above the lowest of 4; to meet level 0 the low border would have to move inwards.
    quantizer = quantizer_from_range(-1.0, 5.0, QuantizerConfig(2, ASYMMETRIC))
    assert (quantizer.input_low, quantizer.input_high, quantizer.zero_point) == (-1.0, 5.0, 0)


@given(lo=bounds, hi=bounds, config=configs)
def test_symmetric_borders_mirror_each_other(lo: float, hi: float, config: QuantizerConfig) -> None:
    config = dataclasses.replace(config, mode=SYMMETRIC)
    quantizer = quantizer_from_range(min(lo, hi), max(lo, hi), config)
    assert quantizer.zero_point == 0
    assume(quantizer.scale > FLOAT32_EPSILON)
    if quantizer.signed:
        # level_low stands for input_low and level_high for input_high: one scale serves both.
        np.testing.assert_allclose(quantizer.level_low * quantizer.scale, quantizer.input_low, rtol=1e-6)
    np.testing.assert_allclose(quantizer.level_high * quantizer.scale, quantizer.input_high, rtol=1e-6)


@given(
    lo=bounds,
    hi=bounds,
    config=configs,
    half_range=st.booleans(),
    values=st.lists(st.floats(-1e5, 1e5, width=32), min_size=1, max_size=40),
)
def test_fake_quantize_is_quantize_then_dequantize_and_idempotent(
    lo: float, hi: float, config: QuantizerConfig, half_range: bool, values: list[float]
) -> None:
    half_range = half_range and config.mode is SYMMETRIC and config.num_bits == 8
    quantizer = quantizer_from_range(min(lo, hi), max(lo, hi), config, half_range)
    x = np.array(values, np.float32)
    levels = quantizer.quantize(x)
    once = quantizer.fake_quantize(x)
    np.testing.assert_array_equal(once, quantizer.dequantize(levels))
    np.testing.assert_array_equal(quantizer.fake_quantize(once), once)
    np.testing.assert_array_equal(quantizer.quantize(once), levels)
    assert levels.min() >= quantizer.clip_low
    assert levels.max() <= quantizer.clip_high


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_methods_equal_the_definition(seed: int, half_range: bool, per_channel: bool) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(3, 5, 4)) * 3).astype(np.float32)
    config = QuantizerConfig(mode=SYMMETRIC, per_channel=per_channel)
    lo, hi = (x.min((0, 2)), np.abs(x).max((0, 2))) if per_channel else (x.min(), np.abs(x).max())
    quantizer = quantizer_from_range(lo, hi, config, half_range, axis=1 if per_channel else None)
    expected = numpy_kernels.quantize_linear(
        x,
        quantizer.scale,
        quantizer.zero_point,
        axis=quantizer.axis,
        qmin=quantizer.clip_low,
        qmax=quantizer.clip_high,
        dtype=quantizer.dtype,
    )
    levels = quantizer.quantize(x)
    np.testing.assert_array_equal(levels, expected)
    expected = numpy_kernels.dequantize_linear(expected, quantizer.scale, quantizer.zero_point, axis=quantizer.axis)
    np.testing.assert_array_equal(quantizer.dequantize(levels), expected)
    np.testing.assert_array_equal(quantizer.fake_quantize(x), expected)
    out = np.empty_like(x)
    assert quantizer.fake_quantize(x, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_half_range_weights_stay_in_the_middle_half(narrow: bool, signed: bool) -> None:
    config = QuantizerConfig(narrow_range=narrow, signedness_to_force=signed)
    w = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    w = w if signed else np.abs(w)
    quantizer = quantizer_from_range(w.min(), np.abs(w).max(), config, half_range=True)
    levels = quantizer.quantize(w)
    low, high = (-64, 63) if signed else (0, 127)
    assert low <= levels.min()
    assert levels.max() <= high
    assert np.abs(levels.astype(int)).max() >= high  # The half is used up to its border.
    # Also where the range is narrower than the data, as a quantile estimator makes it.
    clipped = quantizer_from_range(-0.5 if signed else 0.0, 0.5, config, half_range=True).quantize(w)
    assert (clipped.min(), clipped.max()) == (low, high)


@pytest.mark.parametrize("distribution", ["normal", "laplace", "uniform"])
def test_half_range_costs_6_db(distribution: str) -> None:
    rng = np.random.default_rng(1)
    w = rng.uniform(-1, 1, 200_000) if distribution == "uniform" else getattr(rng, distribution)(size=200_000)
    w = w.astype(np.float32)
    full = sqnr(w, per_tensor(w, QuantizerConfig()).fake_quantize(w))
    half = sqnr(w, per_tensor(w, QuantizerConfig(), half_range=True).fake_quantize(w))
    assert 6.0 <= full - half <= 6.15


def test_a_bit_is_worth_6_db() -> None:
    w = np.random.default_rng(2).uniform(-1, 1, 200_000).astype(np.float32)
    found = [sqnr(w, per_tensor(w, QuantizerConfig(bits)).fake_quantize(w)) for bits in (5, 6, 7, 8)]
    # 20 log10 of the ratio of the levels above zero: (2^b - 1) / (2^(b-1) - 1)
    expected = [20 * np.log10((2**b - 1) / (2 ** (b - 1) - 1)) for b in (5, 6, 7)]
    np.testing.assert_allclose(np.diff(found), expected, atol=0.1)


def test_per_channel_is_never_worse_than_per_tensor() -> None:
    rng = np.random.default_rng(3)
    w = (rng.normal(size=(16, 200)) * rng.uniform(0.05, 3, (16, 1))).astype(np.float32)
    tensor = sqnr(w, per_tensor(w, QuantizerConfig()).fake_quantize(w))
    channels = quantizer_from_range(
        w.min(1, keepdims=True), np.abs(w).max(1, keepdims=True), QuantizerConfig(per_channel=True)
    )
    assert sqnr(w, channels.fake_quantize(w)) > tensor
