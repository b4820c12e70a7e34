"""Rounding against NumPy's division and rint, on every instruction set, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.stride_tricks import as_strided

from quantstats import _core, kernels
from quantstats._core import Target

Array = npt.NDArray[Any]

LEVELS: list[tuple[Any, int, int, int]] = [  # dtype, qmin, qmax, zero point
    (np.int8, -128, 127, 0),
    (np.int8, -64, 63, -5),
    (np.int8, -8, 7, 7),
    (np.uint8, 0, 255, 128),
    (np.uint8, 1, 254, 1),
    (np.int16, -32768, 32767, -32768),
    (np.uint16, 0, 65535, 31000),
]
# Scales in common use, the borders of the multiplying path, and those that only division can serve.
SCALES = [0.1, 1 / 3, 1.0, 127.5, 1.1920929e-7, 2.0**-78, np.nextafter(np.float32(2.0**-78), np.float32(0)), 2.0**76]
SCALES += [1.5 * 2.0**76, 3e38, 1.1754944e-38, 1e-40, 1.4e-45]


def columns(x: Array, values: Any, axis: int | None) -> Array:
    """`values`, one per channel, in a shape that broadcasts against `x`."""
    value: Array = np.asarray(values)
    if axis is None or value.ndim == 0:
        return value
    return value.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def steps(x: Array, scale: Any, axis: int | None = None) -> Array:
    """round(x / scale) by NumPy's float32 division, as float64; NaN gives 0."""
    with np.errstate(all="ignore"):
        quotient = x.astype(np.float32) / columns(x, np.asarray(scale, np.float32), axis)
    assert quotient.dtype == np.float32
    return np.nan_to_num(np.rint(quotient).astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)


def quantized(x: Array, scale: Any, zero_point: Any, low: int, high: int, dtype: Any, axis: int | None = None) -> Array:
    zero_point = columns(x, np.asarray(zero_point, np.float64), axis)
    levels: Array = np.clip(steps(x, scale, axis) + zero_point, low, high).astype(dtype)
    return levels


def dequantized(q: Array, scale: Any, zero_point: Any, axis: int | None = None) -> Array:
    distance = q.astype(np.int64) - columns(q, zero_point, axis)
    with np.errstate(over="ignore"):
        real: Array = distance.astype(np.float32) * columns(q, np.asarray(scale, np.float32), axis)
    return real


def assert_same_bits(got: Array, wanted: Array) -> None:
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    unsigned = f"u{got.itemsize}"
    np.testing.assert_array_equal(np.ascontiguousarray(got).view(unsigned), np.ascontiguousarray(wanted).view(unsigned))


def values(n: int, scale: float, seed: int = 0) -> Array:
    """Values within and beyond the levels, half of them on or next to ties, with every kind of special value."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        x = (rng.normal(scale=100, size=n) * np.float64(scale)).astype(np.float32)
        ties = (rng.integers(-300, 300, size=n) + 0.5) * np.float64(scale)
        x[::4] = ties[::4].astype(np.float32)
        x[1::4] = np.nextafter(ties[1::4].astype(np.float32), np.float32(np.inf))
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-39, 3.4028235e38, -3.4028235e38, 1e-30]
    at = rng.permutation(n)[: min(n // 4, len(special))]
    x[at] = np.array(special, np.float32)[: at.size]
    return x


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("dtype", "low", "high", "zero_point"), LEVELS)
def test_quantize_is_division_rounded(
    target: Target, scale: float, dtype: Any, low: int, high: int, zero_point: int
) -> None:
    for n in (0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 200, 1023, 1024, 1025, 3000):
        x = values(n, scale, n)
        got = target.quantize_linear(x, scale, zero_point, None, low, high, dtype, None)
        assert_same_bits(got, quantized(x, scale, zero_point, low, high, dtype))


@pytest.mark.parametrize("scale", SCALES)
def test_fake_quantize_is_quantize_then_dequantize(target: Target, scale: float) -> None:
    for low, high, zero_point in ((-128, 127, 3), (0, 255, 0), (0, 65535, 40000), (-32768, 65535, -32768)):
        for n in (1, 16, 65, 2000):
            x = values(n, scale, n)
            got = target.fake_quantize(x, scale, zero_point, None, low, high, None)
            wanted = dequantized(quantized(x, scale, zero_point, low, high, np.int64), scale, zero_point)
            assert_same_bits(got, wanted)


def test_quotients_next_to_midpoints(target: Target) -> None:
    """Inputs whose exact quotient lies as near as can be to the midpoint between a tie and the float beside it.

    There one unit in the last place decides between two levels, so a quotient that is not correctly rounded shows.
    """
    rng = np.random.default_rng(1)
    for dtype, low, high in ((np.int8, -128, 127), (np.uint16, 0, 65535)):
        scale = rng.uniform(1, 2, 40_000).astype(np.float32)
        tie = (rng.integers(low, high, scale.size) + 0.5).astype(np.float32)
        beside = np.nextafter(tie, rng.choice([-np.inf, np.inf], scale.size).astype(np.float32))
        midpoint = (tie.astype(np.float64) + beside) / 2
        x = (midpoint * scale).astype(np.float32)
        x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
        scale = np.tile(scale, 3)
        # One channel per element, and one run per scale: both ways through the kernel.
        zero_points = np.zeros(scale.size, np.int32)
        wanted = np.clip(np.rint(x / scale).astype(np.float64), low, high).astype(dtype)
        got = target.quantize_linear(x, scale, zero_points, 0, low, high, dtype, None)
        assert_same_bits(got, wanted)
        repeated = np.repeat(x[:3000, np.newaxis], 40, axis=1)
        got = target.quantize_linear(repeated, scale[:3000], 0, 0, low, high, dtype, None)
        assert_same_bits(got, np.repeat(wanted[:3000, np.newaxis], 40, axis=1))


@pytest.mark.parametrize(("dtype", "bits"), [(np.int8, 16), (np.uint16, 8)])
def test_scales_next_to_short_significands(target: Target, dtype: Any, bits: int) -> None:
    """Quotients beside ties come closest to midpoints for scales that are few units from a multiple of 2^bits."""
    rng = np.random.default_rng(2)
    info = np.iinfo(dtype)
    steps_away = np.concatenate([np.arange(-12, 13), [100, -100]])
    significands = (rng.integers(2 ** (23 - bits), 2 ** (24 - bits), 40) << bits)[:, np.newaxis] + steps_away
    for scale in np.ldexp(np.maximum(significands, 2**23), -20).astype(np.float32).ravel():
        ties = (rng.integers(info.min, info.max, 30) + 0.5).astype(np.float32)
        x = (ties.astype(np.float64) * np.float64(scale)).astype(np.float32)
        near = [x]
        for direction in (np.float32(np.inf), np.float32(-np.inf)):
            beside = x
            for _ in range(3):
                beside = np.nextafter(beside, direction)
                near.append(beside)
        x = np.concatenate(near)
        got = target.quantize_linear(x, scale, 0, None, info.min, info.max, dtype, None)
        assert_same_bits(got, quantized(x, scale, 0, info.min, info.max, dtype))


@pytest.mark.parametrize(("dtype", "zero_point"), [(np.uint8, 7), (np.int16, -9)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38, 2.0**31, -(2.0**31), -32768.0, 32767.0])
def test_values_out_of_range_among_others(target: Target, value: float, dtype: Any, zero_point: int) -> None:
    """One value, some in a row and every other one, which the kernels do not meet in the same way."""
    info = np.iinfo(dtype)
    x = np.random.default_rng(3).normal(scale=50, size=5000).astype(np.float32)
    for where in (slice(0, 1), slice(777, 778), slice(4999, 5000), slice(1000, 3500), slice(1, None, 2)):
        mixed = x.copy()
        mixed[where] = value
        got = target.quantize_linear(mixed, 1.0, zero_point, None, info.min, info.max, dtype, None)
        wanted = quantized(mixed, 1.0, zero_point, info.min, info.max, dtype)
        assert_same_bits(got, wanted)
        real = target.fake_quantize(mixed, 1.0, zero_point, None, info.min, info.max, None)
        assert_same_bits(real, dequantized(wanted, 1.0, zero_point))
        # The same with parameters that change from element to element.
        channels = np.full(10, zero_point)
        by_channel = target.quantize_linear(
            mixed.reshape(-1, 10), np.ones(10, np.float32), channels, 1, info.min, info.max, dtype, None
        )
        assert_same_bits(by_channel, wanted.reshape(-1, 10))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("scale", [0.05, 2.0**-20, 1e-40])
def test_every_16_bit_float(target: Target, dtype: Any, scale: float) -> None:
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    got = target.quantize_linear(x, scale, 10, None, -128, 127, np.int8, None)
    assert_same_bits(got, quantized(x, scale, 10, -128, 127, np.int8))
    got = target.fake_quantize(x, scale, 10, None, -128, 127, None)
    assert_same_bits(got, dequantized(quantized(x, scale, 10, -128, 127, np.int8), scale, 10))


def test_float64_is_rounded_to_float32_first(target: Target) -> None:
    for n in (1, 3, 4, 5, 8, 15, 16, 17, 64, 100, 2000):
        x = values(n, 0.1, n).astype(np.float64) * (1 + 1e-12)
        x[0] = 1e300
        with np.errstate(over="ignore"):
            single = x.astype(np.float32)
        assert_same_bits(
            target.quantize_linear(x, 0.1, 1, None, -128, 127, np.int8, None),
            target.quantize_linear(single, 0.1, 1, None, -128, 127, np.int8, None),
        )
        assert_same_bits(
            target.fake_quantize(x[::-1], 0.1, 1, None, -128, 127, None),
            target.fake_quantize(single[::-1], 0.1, 1, None, -128, 127, None),
        )


def test_special_values(target: Target) -> None:
    x = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 0.25, 0.75, -0.25, 1.25], np.float32)
    got = target.quantize_linear(x, 0.5, 3, None, -4, 100, np.int8, None)
    assert got.tolist() == [3, 3, 100, -4, 3, 3, 3, 3, 5, 3, 5]
    real = target.fake_quantize(x, 0.5, 3, None, -4, 100, None)
    assert_same_bits(real, np.array([0, 0, 48.5, -3.5, 0, 0, 0, 0, 1, 0, 1], np.float32))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32])
def test_dequantize(target: Target, dtype: Any) -> None:
    info = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    zero_points = [0] if dtype == np.int32 else [0, info.min, info.max, 17]
    for zero_point in zero_points:
        for scale in (0.1, 1e-42, 1e30):
            for n in (0, 1, 8, 15, 16, 33, 64, 65, 1000):
                q = rng.integers(info.min, info.max, n, dtype, endpoint=True)
                wanted = dequantized(q, scale, zero_point)
                assert_same_bits(target.dequantize_linear(q, scale, zero_point, None, None), wanted)
                assert_same_bits(target.dequantize_linear(q[::-2], scale, zero_point, None, None), wanted[::-2])


@pytest.mark.parametrize(
    "shape", [(5,), (40, 3), (3, 70), (70, 1), (2, 5, 7), (3, 40, 4, 5), (2, 1300), (2, 3, 1, 4, 5)]
)
def test_channels_along_every_axis(target: Target, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=shape) * 20).astype(np.float32)
    for axis in range(-len(shape), len(shape)):
        scale = rng.uniform(0.05, 0.5, shape[axis]).astype(np.float32)
        zero_point = rng.integers(-20, 20, shape[axis]).astype(np.int8)
        wanted = quantized(x, scale, zero_point, -128, 127, np.int8, axis)
        assert_same_bits(target.quantize_linear(x, scale, zero_point, axis, -128, 127, np.int8, None), wanted)
        real = dequantized(wanted, scale, zero_point, axis)
        assert_same_bits(target.dequantize_linear(wanted, scale, zero_point, axis, None), real)
        assert_same_bits(target.fake_quantize(x, scale, zero_point, axis, -128, 127, None), real)
        # A scale that only division can serve changes the way of all channels, not their results.
        extreme = scale.copy()
        extreme[0] = 1e-40
        got = target.quantize_linear(x, extreme, zero_point, axis, -128, 127, np.int8, None)
        assert_same_bits(got, quantized(x, extreme, zero_point, -128, 127, np.int8, axis))


def test_one_parameter_for_all_channels(target: Target) -> None:
    x = np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 4, 5)
    scale, zero_point = np.array([0.01, 0.02, 0.03, 0.04], np.float32), np.array([1, 2, 3, 4], np.uint8)
    for one_scale in (0.01, np.float32(0.01), np.array([0.01], np.float32)):
        got = target.quantize_linear(x, one_scale, zero_point, 1, 0, 255, np.uint8, None)
        assert_same_bits(got, quantized(x, np.full(4, 0.01), zero_point, 0, 255, np.uint8, 1))
    for one_zero_point in (9, np.int64(9), np.array([9], np.uint8)):
        got = target.quantize_linear(x, scale, one_zero_point, 1, 0, 255, np.uint8, None)
        assert_same_bits(got, quantized(x, scale, np.full(4, 9), 0, 255, np.uint8, 1))
        got = target.quantize_linear(x, 0.01, one_zero_point, None, 0, 255, np.uint8, None)
        assert_same_bits(got, quantized(x, 0.01, 9, 0, 255, np.uint8))


VIEWS: dict[str, Callable[[Array], Array]] = {
    "transposed": lambda x: x.transpose(2, 0, 1),
    "reversed": lambda x: x[::-1, :, ::-1],
    "every second": lambda x: x[:, ::2, ::2],
    "every third": lambda x: x[::3, 1:, 2::3],
    "broadcast": lambda x: np.broadcast_to(x[:, :1, :], x.shape),
    "one column": lambda x: x[:, :, 3:4],
    "fortran": np.asfortranarray,
    "zero-dimensional": lambda x: x[1, 2, 3],
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_any_strides_of_input_and_output(target: Target, view: Callable[[Array], Array], dtype: Any) -> None:
    with np.errstate(over="ignore"):
        x = np.asarray(view(values(6 * 10 * 41, 0.1).reshape(6, 10, 41).astype(dtype)))
    axis = None if x.ndim == 0 else 1
    n = 1 if axis is None else x.shape[1]
    scale, zero_point = np.linspace(0.05, 0.2, n, dtype=np.float32), np.arange(n) % 7
    if axis is None:
        scale, zero_point = scale[0], zero_point[0]
    wanted = quantized(x, scale, zero_point, 0, 255, np.uint8, axis)
    got = target.quantize_linear(x, scale, zero_point, axis, 0, 255, np.uint8, None)
    assert got.flags.c_contiguous
    assert_same_bits(got, wanted)
    # Outputs: every second element of a larger array, backwards; and Fortran order.
    room = np.full([2 * s for s in x.shape], 77, np.uint8)
    out = room[tuple(slice(None, None, -2) for _ in x.shape)] if x.ndim else np.empty((), np.uint8)
    assert target.quantize_linear(x, scale, zero_point, axis, 0, 255, np.uint8, out) is out
    assert_same_bits(out, wanted)
    if x.ndim:
        assert np.count_nonzero(room != 77) <= out.size
    real = np.empty(x.shape, np.float32, order="F")
    assert target.fake_quantize(x, scale, zero_point, axis, 0, 255, real) is real
    assert_same_bits(real, dequantized(wanted, scale, zero_point, axis))


def test_unaligned_memory(target: Target) -> None:
    x = values(3000, 0.1)
    buffer = np.zeros(x.nbytes + 1, np.uint8)
    odd = buffer[1:].view(np.float32)
    odd[:] = x
    assert not odd.flags.aligned
    got = target.quantize_linear(odd, 0.1, 0, None, -128, 127, np.int8, None)
    assert_same_bits(got, quantized(x, 0.1, 0, -128, 127, np.int8))
    target.fake_quantize(x, 0.1, 0, None, -128, 127, odd)
    assert_same_bits(odd, dequantized(got, 0.1, 0))


@pytest.mark.parametrize("offset", [0, 1, 5, 63])
def test_output_too_large_for_the_cache(target: Target, offset: int) -> None:
    """Non-temporal stores, from an address of any alignment. The input repeats one row, so that it takes no memory."""
    row = values(1_000_001, 0.1)
    wanted = quantized(row, 0.1, 0, -128, 127, np.int8)
    x = np.broadcast_to(row, (34, row.size))
    out = np.zeros(x.size + offset, np.int8)[offset:].reshape(x.shape)
    target.quantize_linear(x, 0.1, 0, None, -128, 127, np.int8, out)
    assert (out == wanted).all()
    x = np.broadcast_to(row, (9, row.size))
    real = np.zeros(x.size + offset, np.float32)[offset:].reshape(x.shape)
    target.fake_quantize(x, 0.1, 0, None, -128, 127, real)
    assert (real == dequantized(wanted, 0.1, 0)).all()


def test_in_place(target: Target) -> None:
    x = values(5000, 0.1).reshape(50, 100)
    wanted = target.fake_quantize(x, 0.1, 0, None, -128, 127, None)
    for view in (x.copy(), x.copy()[::2, ::-1], x.copy().T):
        expected = target.fake_quantize(view, 0.1, 0, None, -128, 127, None)
        assert target.fake_quantize(view, 0.1, 0, None, -128, 127, view) is view
        assert_same_bits(view, expected)
    once = target.fake_quantize(wanted, 0.1, 0, None, -128, 127, None)
    assert_same_bits(once, wanted)


def test_floating_point_mode_is_restored(target: Target) -> None:
    denormal = np.full(4096, 1e-40, np.float32)
    target.quantize_linear(denormal, 1.0, 0, None, -128, 127, np.int8, None)
    target.fake_quantize(denormal, 1.0, 0, None, -128, 127, None)
    assert (denormal * np.float32(0.5) > 0).all()


@given(
    x=hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=20), elements=st.floats(width=32, allow_nan=False)),
    scale=st.floats(2.0**-149, 2.0**127, width=32),
    zero_point=st.integers(-128, 127),
)
@settings(deadline=None, max_examples=200)
def test_laws(x: Array, scale: float, zero_point: int) -> None:
    results = [
        target.quantize_linear(x, scale, zero_point, None, -128, 127, np.int8, None)
        for target in _core._targets.values()
    ]
    q = results[0]
    for other in results[1:]:
        assert_same_bits(other, q)
    # Monotonic in x, and zero is exact.
    order = np.argsort(x, axis=None)
    assert (np.diff(q.ravel()[order].astype(int)) >= 0).all()
    assert (q[x == 0] == zero_point).all()
    if 2.0**-100 < scale < 2.0**100:
        # Levels survive the way to real values and back, and fake quantization is idempotent.
        real = kernels.dequantize_linear(q, scale, zero_point)
        back = kernels.quantize_linear(real, scale, zero_point, qmin=-128, qmax=127)
        assert_same_bits(back, q)
        fake = kernels.fake_quantize(x, scale, zero_point, qmin=-128, qmax=127)
        assert_same_bits(fake, real)
        # An unsaturated value moves by half a step at most, but for the rounding of the product.
        inside = (q > -128) & (q < 127)
        moved = np.abs(real.astype(np.float64) - x)[inside]
        assert (moved <= 0.5 * scale * (1 + 1e-4)).all()


X = np.zeros((2, 3), np.float32)
LEVEL_ARGUMENTS: dict[str, Any] = {"scale": 0.1, "zero_point": 0, "qmin": -128, "qmax": 127}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"scale": 0.0}, ValueError, "scale is 0.0 .*positive"),
        ({"scale": -1.0}, ValueError, "scale is -1.0 .*positive"),
        ({"scale": float("nan")}, ValueError, "scale is nan"),
        ({"scale": float("inf")}, ValueError, "scale is inf"),
        ({"scale": 1e-60}, ValueError, "scale is 0.0 .as float32"),
        ({"scale": "big"}, TypeError, "scale .* no real numbers"),
        ({"scale": [0.1, -2.0, 0.1], "axis": 1}, ValueError, "scale is -2.0 for channel 1"),
        ({"scale": [0.1, 0.2, 0.3]}, ValueError, "scale holds 3 values, but axis is None"),
        ({"scale": [0.1, 0.2], "axis": 1}, ValueError, "scale holds 2 values, but axis 1 of x .* has size 3"),
        ({"scale": [[0.1]], "axis": 1}, ValueError, "scale .* more than one dimension"),
        ({"zero_point": [1, 2], "axis": -1}, ValueError, "zero_point holds 2 values, but axis 1 of x .* has size 3"),
        ({"zero_point": 128}, ValueError, r"zero_point is 128, outside \[qmin, qmax\] = \[-128, 127\]"),
        ({"zero_point": [0, 0, 9], "axis": 1, "qmax": 7}, ValueError, "zero_point is 9 for channel 2"),
        ({"zero_point": 10**30}, ValueError, f"zero_point is {10**30}; a zero point is a level"),
        ({"scale": torch.zeros(1, requires_grad=True)}, TypeError, r"scale is .* pass scale\.detach"),
        ({"zero_point": 1.0}, TypeError, "zero_point .* no integers"),
        ({"axis": 2}, np.exceptions.AxisError, "axis 2 is out of range for x .float32, shape .2, 3.."),
        ({"axis": 10**30}, np.exceptions.AxisError, f"axis {10**30} is out of range"),
        ({"axis": 1.0}, TypeError, "axis is 1.0; pass an integer"),
        ({"axis": np.array([0, 1])}, TypeError, r"axis is array\(\[0, 1\]\); pass an integer"),
        ({"qmin": np.array([0, 1])}, TypeError, r"qmin is array\(\[0, 1\]\); pass an integer"),
        ({"qmin": -(10**30)}, ValueError, f"qmin is -{10**30}, outside"),
        ({"qmax": 10**30}, ValueError, f"qmax is {10**30}, outside"),
        ({"qmin": -129}, ValueError, r"qmin is -129, outside \[-128, 127\], the range of int8"),
        ({"qmax": 128}, ValueError, r"qmax is 128, outside \[-128, 127\], the range of int8"),
        ({"qmin": 3, "qmax": 3}, ValueError, "qmin must be less than qmax"),
        ({"dtype": np.float32}, TypeError, "dtype is float32; pass int8"),
        ({"dtype": np.int32}, TypeError, "dtype is int32; pass int8"),
        ({"dtype": "foo"}, TypeError, "dtype is 'foo'; pass int8"),
        ({"dtype": torch.int8}, TypeError, r"dtype is torch\.int8; pass int8"),
        ({"dtype": ">i2"}, TypeError, "dtype is >i2; pass int8"),
        ({"out": [1]}, TypeError, "out is a list"),
        ({"out": np.zeros((2, 3), np.uint8)}, TypeError, "out .uint8.* must have dtype int8"),
        ({"out": np.zeros((3, 2), np.int8)}, ValueError, "out .* must have the shape of x"),
        ({"out": np.broadcast_to(np.int8(0), (2, 3))}, ValueError, "out .* is read-only"),
        ({"out": X.view(np.int8)[:, :3]}, ValueError, "out .* overlaps the memory of x"),
        (
            {"out": as_strided(np.zeros(3, np.int8), (2, 3), (0, 1))},
            ValueError,
            "out .* has elements that share memory",
        ),
        (
            {"out": as_strided(np.zeros(9, np.int8), (2, 3), (2, 1))},
            ValueError,
            "out .* has elements that share memory",
        ),
        ({"x": X.astype(np.int32)}, TypeError, "x .int32"),
    ],
)
def test_errors_of_quantize(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kernels.quantize_linear(**{"x": X, **LEVEL_ARGUMENTS, **changes})


def test_errors_of_the_others() -> None:
    with pytest.raises(ValueError, match=r"zero_point is 200, outside int8 = "):
        kernels.dequantize_linear(np.zeros(3, np.int8), 0.1, 200)
    with pytest.raises(ValueError, match=r"zero_point is 1, outside the zero points of int32, which holds biases"):
        kernels.dequantize_linear(np.zeros(3, np.int32), 0.1, 1)
    with pytest.raises(TypeError, match=r"q .float32, shape .3,.. holds no levels"):
        kernels.dequantize_linear(np.zeros(3, np.float32), 0.1, 0)
    with pytest.raises(TypeError, match=r"q is a list"):
        kernels.dequantize_linear([1, 2], 0.1, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"qmax is 65536, outside"):
        kernels.fake_quantize(X, 0.1, 0, qmin=0, qmax=65536)
    x = np.zeros(10, np.float32)
    with pytest.raises(ValueError, match=r"out .* overlaps the memory of x"):
        kernels.fake_quantize(x[1:], 0.1, 0, qmin=0, qmax=255, out=x[:-1])
