"""The smallest safe scale: safe, least, never coarser than half range's, and worth it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantstats.errors import NonFiniteError, ParameterError
from quantstats.overflow import BlockPairs, LayerKind, Pairing, certify, smallest_safe_scale
from quantstats.quantizer import Quantizer, QuantizerConfig, quantizer_from_range

Array = NDArray[Any]
CHANNELS_LAST = Pairing("nhwc", {LayerKind.CONVOLUTION: BlockPairs(order=("spatial", "channel"), padded=True)})
WEIGHTS = QuantizerConfig(per_channel=True, signedness_to_force=True, narrow_range=True)


def quantizer(weight: Array, *, half_range: bool = False) -> Quantizer:
    """Per row, from minimum and maximum."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    return quantizer_from_range(-largest, largest, WEIGHTS, half_range, axis=0)


def safe(weight: Array, scale: Array, **arguments: Any) -> Array:
    """By quantizing with the real kernel, and certifying the levels."""
    levels = quantizer(weight).with_scale(scale).quantize(weight)
    return certify(levels, axis=0, count_pairs=False, **arguments).safe


def sqnr(weight: Array, rounded: Array) -> float:
    weight = weight.astype(np.float64)
    return float(10 * np.log10(np.sum(weight**2) / np.sum((rounded - weight) ** 2)))


def draw(rng: np.random.Generator, shape: tuple[int, ...], family: str) -> Array:
    if family == "normal":
        return rng.normal(size=shape).astype(np.float32)
    if family == "laplace":
        return rng.laplace(size=shape).astype(np.float32)
    if family == "heavy":
        return rng.standard_t(2, size=shape).astype(np.float32)
    # Multiples of a step: quotients that fall exactly between two levels.
    return (rng.integers(-127, 128, shape) / 64).astype(np.float32)


@given(
    seed=st.integers(0, 10_000),
    family=st.sampled_from(["normal", "laplace", "heavy", "ties"]),
    length=st.integers(1, 60),
    u_max=st.sampled_from([255, 254, 191, 129, 128, 60]),
    pairing=st.sampled_from(["any", "adjacent"]),
    exponent=st.integers(-3, 6),
)
@settings(deadline=None, max_examples=120)
def test_it_is_the_least_safe_float32_between_full_and_half_range(
    seed: int, family: str, length: int, u_max: int, pairing: str, exponent: int
) -> None:
    weight = draw(np.random.default_rng(seed), (12, length), family) * np.float32(10.0**exponent)
    scale = smallest_safe_scale(weight, axis=0, u_max=u_max, pairing=pairing)
    full, half = quantizer(weight).scale, quantizer(weight, half_range=True).scale
    assert scale.dtype == np.float32
    assert np.all(full <= scale)
    assert np.all(scale <= half)
    assert np.all(safe(weight, scale, u_max=u_max, pairing=pairing))
    below = np.nextafter(scale, np.float32(0))
    assert not np.any(safe(weight, below, u_max=u_max, pairing=pairing) & (scale > full))


def test_safety_is_monotonic_in_the_scale() -> None:
    """What makes bisection exact: scales in ascending order are unsafe up to one, and safe from there."""
    weight = draw(np.random.default_rng(5), (1, 24), "normal")
    full = float(quantizer(weight).scale[0])
    scales = np.linspace(0.5 * full, 2.5 * full, 4000, dtype=np.float32)
    for pairing in ("any", "adjacent"):
        verdicts = [bool(safe(weight, np.array([s]), pairing=pairing)[0]) for s in scales]
        first = verdicts.index(True)
        assert all(verdicts[first:])
        assert not any(verdicts[:first])
        least = float(smallest_safe_scale(weight, axis=0, pairing=pairing)[0])
        assert least == pytest.approx(scales[first], rel=1e-3)


@pytest.mark.parametrize("family", ["normal", "laplace"])
@pytest.mark.parametrize("length", [64, 256, 1024, 4608])
def test_adjacent_is_worth_3_db_over_half_range(family: str, length: int) -> None:
    weight = draw(np.random.default_rng(length), (64, length), family)
    half = sqnr(weight, quantizer(weight, half_range=True).fake_quantize(weight))
    found = {
        pairing: sqnr(
            weight,
            quantizer(weight).with_scale(smallest_safe_scale(weight, axis=0, pairing=pairing)).fake_quantize(weight),
        )
        for pairing in ("any", "adjacent")
    }
    assert found["adjacent"] >= half + 3
    assert half < found["any"] < found["adjacent"]


def test_a_lone_outlier_costs_little() -> None:
    weight = draw(np.random.default_rng(6), (8, 256), "normal")
    weight[:, 17] = 30
    scale = smallest_safe_scale(weight, axis=0)
    full = quantizer(weight).scale
    # Without it the second greatest weight is about 3: (30 + 3) / 128 against 30 / 127.
    assert np.all(scale < 1.2 * full)
    assert np.all(scale < 0.6 * quantizer(weight, half_range=True).scale)


def test_full_range_where_it_is_safe() -> None:
    weight = np.zeros((3, 10), np.float32)
    weight[0, [0, 5]] = 1, -1
    weight[1, [2, 3]] = 1, 0.007
    weight[2] = 0
    np.testing.assert_array_equal(smallest_safe_scale(weight, axis=0), quantizer(weight).scale)


def test_axes_and_packings() -> None:
    rng = np.random.default_rng(7)
    convolution = draw(rng, (6, 5, 3, 3), "normal")
    scale = smallest_safe_scale(convolution, axis=0, pairing=CHANNELS_LAST)
    assert np.all(safe(convolution, scale, pairing=CHANNELS_LAST))
    below = np.nextafter(scale, np.float32(0))
    full = quantizer(convolution).scale
    assert np.any(scale > full)
    assert not np.any(safe(convolution, below, pairing=CHANNELS_LAST) & (scale > full))
    # The same pairs, laid out so that they are neighbours.
    moved = np.pad(convolution.transpose(0, 2, 3, 1), ((0, 0), (0, 0), (0, 0), (0, 1))).reshape(6, -1)
    np.testing.assert_array_equal(scale, smallest_safe_scale(moved, axis=0, pairing="adjacent"))
    matrix = draw(rng, (30, 4), "laplace")
    np.testing.assert_array_equal(smallest_safe_scale(matrix, axis=1), smallest_safe_scale(matrix.T, axis=0))
    stack = np.stack([matrix, 2 * matrix])
    assert smallest_safe_scale(stack, axis=(0, 2), kind="matmul").shape == (2, 4)


def test_errors() -> None:
    with pytest.raises(NonFiniteError, match="weight_f32 has NaN or infinite values"):
        smallest_safe_scale([[1.0, np.nan]], axis=0)
    with pytest.raises(NonFiniteError, match="in float32"):
        smallest_safe_scale(np.array([[1e300, 1.0]]), axis=0)
    with pytest.raises(ParameterError, match="u_max=300"):
        smallest_safe_scale([[1.0, 2.0]], axis=0, u_max=300)
    with pytest.raises(ParameterError, match="has no axis"):
        smallest_safe_scale(1.0, axis=0)
