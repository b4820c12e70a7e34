"""Quantizers against nncf: every configuration, with and without half range, on ranges of many sizes."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest

from quantstats.parameters import QuantizationMode
from quantstats.quantizer import Quantizer, QuantizerConfig, quantizer_from_range

SYMMETRIC, ASYMMETRIC = QuantizationMode.SYMMETRIC, QuantizationMode.ASYMMETRIC
ULPS = 2


class Nncf(NamedTuple):
    """The functions of nncf that the tests call; importing it takes a second."""

    calculate_quantizer_parameters: Any
    calculate_scale_zero_point: Any
    statistic: Any
    tensor: Any
    weights: Any


@pytest.fixture(scope="module")
def nncf() -> Nncf:
    from nncf.common.quantization.structs import QuantizerGroup
    from nncf.common.tensor_statistics.statistics import MinMaxTensorStatistic
    from nncf.quantization.fake_quantize import calculate_quantizer_parameters, calculate_scale_zero_point
    from nncf.tensor import Tensor

    return Nncf(
        calculate_quantizer_parameters,
        calculate_scale_zero_point,
        MinMaxTensorStatistic,
        Tensor,
        QuantizerGroup.WEIGHTS,
    )


def ranges(shape: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Bounds of both signs, of one sign, tiny, huge, empty, and around zero."""
    rng = np.random.default_rng(7)
    found = []
    for magnitude in (1e-30, 1e-9, 1e-5, 1e-4, 4e-4, 8e-4, 1e-2, 1.0, 37.0, 1e4, 1e30):
        a, b = np.sort(rng.normal(size=(2, *shape)) * magnitude, axis=0).astype(np.float32)
        found += [(a, b), (np.abs(a), np.abs(a) + np.abs(b)), (-np.abs(a) - np.abs(b), -np.abs(a))]
        found += [(a, a), (np.zeros_like(a), np.abs(b)), (-np.abs(b), np.zeros_like(b)), (-np.abs(b), np.abs(b))]
    found.append((np.zeros(shape, np.float32), np.zeros(shape, np.float32)))
    return found


def theirs(nncf: Nncf, lo: np.ndarray, hi: np.ndarray, config: QuantizerConfig, half_range: bool) -> Any:
    statistic = nncf.statistic(nncf.tensor(lo), nncf.tensor(hi))
    return nncf.calculate_quantizer_parameters(statistic, config.to_nncf(), nncf.weights, half_range)


def check_against_nncf(nncf: Nncf, ours: Quantizer, expected: Any, config: QuantizerConfig) -> None:
    assert ours.levels == expected.levels
    for name in ("input_low", "input_high"):
        np.testing.assert_array_max_ulp(
            getattr(ours, name), getattr(expected, name).data.reshape(ours.scale.shape), ULPS
        )
    wide = QuantizerConfig(config.num_bits, config.mode)
    scale, zero_point = nncf.calculate_scale_zero_point(
        expected.input_low, expected.input_high, *wide.level_range(signed=ours.signed), config.narrow_range
    )
    np.testing.assert_array_max_ulp(ours.scale, np.asarray(scale.data, np.float32).reshape(ours.scale.shape), ULPS)
    zero_point = np.asarray(zero_point.data).reshape(ours.scale.shape)
    if config.narrow_range and config.mode is SYMMETRIC and not ours.signed:
        # nncf leaves out level 0 of an unsigned symmetric range when it exports, but counts from 0 elsewhere.
        zero_point = zero_point - 1
    if ours.half_range and ours.signed and not config.narrow_range:
        # nncf's zero point is 1 here: its low border, level -128.504, rounds to -129. A symmetric quantizer has 0.
        zero_point = zero_point - 1
    if config.mode is SYMMETRIC and ours.signed:
        # With the least scale allowed, nncf's zero point follows the low border, which then is no level any more.
        zero_point = np.where(ours.scale == np.finfo(np.float32).eps, 0, zero_point)
    np.testing.assert_array_equal(ours.zero_point, zero_point)


@pytest.mark.parametrize("num_bits", [2, 3, 4, 5, 6, 7, 8, 16])
@pytest.mark.parametrize("mode", [SYMMETRIC, ASYMMETRIC])
def test_quantizers_equal_those_of_nncf(nncf: Nncf, num_bits: int, mode: QuantizationMode) -> None:
    for per_channel, force, narrow in itertools.product((False, True), (None, True, False), (False, True)):
        config = QuantizerConfig(num_bits, mode, per_channel, force, narrow)
        for lo, hi in ranges((1, 5, 1, 1) if per_channel else (1, 1, 1, 1)):
            ours = quantizer_from_range(lo, hi, config)
            assert ours.axis == (1 if per_channel else None)
            check_against_nncf(nncf, ours, theirs(nncf, lo, hi, config, False), config)


def test_half_range_quantizers_equal_those_of_nncf(nncf: Nncf) -> None:
    for per_channel, force, narrow in itertools.product((False, True), (None, True, False), (False, True)):
        config = QuantizerConfig(8, SYMMETRIC, per_channel, force, narrow)
        for lo, hi in ranges((5, 1, 1, 1) if per_channel else (1,)):
            ours = quantizer_from_range(lo, hi, config, half_range=True)
            check_against_nncf(nncf, ours, theirs(nncf, lo, hi, config, True), config)


def test_levels_equal_those_of_nncf() -> None:
    from nncf.common.quantization.quantizers import calculate_asymmetric_level_ranges, calculate_symmetric_level_ranges

    for num_bits, narrow in itertools.product((2, 3, 4, 5, 6, 7, 8, 16), (False, True)):
        symmetric = QuantizerConfig(num_bits, SYMMETRIC, narrow_range=narrow)
        for signed in (False, True):
            assert symmetric.level_range(signed=signed) == calculate_symmetric_level_ranges(num_bits, signed, narrow)
        asymmetric = QuantizerConfig(num_bits, ASYMMETRIC, narrow_range=narrow)
        assert asymmetric.level_range(signed=False) == calculate_asymmetric_level_ranges(num_bits, narrow)
