"""Histograms against numpy.histogram and numpy.bincount, on every instruction set, count for count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantstats import _core, kernels
from quantstats._core import Target

Array = npt.NDArray[Any]

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
KEYS = 65536


def check(target: Target, x: Array, bins: int, limits: Any = None) -> None:
    wide = x if x.dtype == np.float64 else x.astype(np.float32)
    counts, edges = target.histogram(x, bins, limits)
    wanted, wanted_edges = np.histogram(wide, bins, limits)
    assert counts.dtype == np.int64
    assert edges.dtype == wanted_edges.dtype
    np.testing.assert_array_equal(edges, wanted_edges)
    np.testing.assert_array_equal(counts, wanted)


def keys(x: Array) -> Array:
    """The bins of float32 values that are not NaN, by sorting key."""
    upper = np.ascontiguousarray(x, np.float32).view(np.uint32).ravel() >> 16
    return np.where(upper & 0x8000, ~upper & 0xFFFF, upper | 0x8000)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bins", [1, 2, 7, 100, 2048, 20_000])
def test_range_of_the_data(target: Target, dtype: Any, bins: int) -> None:
    rng = np.random.default_rng(0)
    for n in (1, 3, 16, 17, 255, 256, 257, 8191, 8193, 50_000):
        x = rng.normal(size=n).astype(dtype)
        if n > 1:
            check(target, x, bins)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "limits",
    [
        (-1, 1),
        (0.0, 2.5),
        (-0.3, 0.1),
        (np.float32(-0.3), np.float32(0.1)),
        (np.float64(-0.3), np.float64(0.1)),
        (5, 9),
    ],
)
def test_given_range(target: Target, dtype: Any, limits: Any) -> None:
    x = np.random.default_rng(0).normal(size=30_000)
    x[::50], x[1::50], x[2::50], x[3::50] = np.nan, np.inf, -np.inf, 0.0
    x = x.astype(dtype)
    with np.errstate(invalid="ignore"):
        for bins in (1, 10, 333, 2048):
            check(target, x, bins, limits)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-3.0, 7.0), (0.1, 0.7), (1000.0, 1001.0), (-1e-20, 2e-20), (0.0, 1e30)]
)
def test_values_on_the_edges(target: Target, dtype: Any, low: float, high: float) -> None:
    """Every edge, and its neighbours, where a computed index is wrong as often as not."""
    for bins in (3, 10, 128, 1000):
        limits = (dtype(low), dtype(high))
        edges = np.histogram_bin_edges(np.empty(0, dtype), bins, limits)
        x = np.concatenate([edges, np.nextafter(edges, dtype(np.inf)), np.nextafter(edges, dtype(-np.inf))])
        for values in (x, x[::-1], np.tile(x, 5)):
            check(target, values, bins, limits)
            # The edges in double precision, where they need not be numbers of the data's type.
            check(target, values, bins, (np.float64(low), np.float64(high)))


def test_edges_that_float32_does_not_resolve(target: Target) -> None:
    """Bins a few float32 apart, so that the tolerance of computed indices is exceeded and bins are searched."""
    x = (1000 + np.random.default_rng(0).random(20_000)).astype(np.float32)
    for bins in (1000, 5000, 16_000):
        check(target, x, bins, (np.float32(1000), np.float32(1001)))


@pytest.mark.parametrize("limits", [(-3.4e38, 3.4e38), (0.0, 1e-43), (-1e-38, 1e-38), (1.0, 1.0000005)])
def test_extreme_ranges(target: Target, limits: tuple[float, float]) -> None:
    """Ranges whose width overflows float32 or is denormal. The oracle is a search among NumPy's own edges."""
    low, high = np.float32(limits[0]), np.float32(limits[1])
    x = np.random.default_rng(0).uniform(limits[0], limits[1], 5000).astype(np.float32)
    counts, edges = target.histogram(x, 4, (np.float64(low), np.float64(high)))
    inside = x[(x >= edges[0]) & (x <= edges[-1])].astype(np.float64)
    index = np.minimum(np.searchsorted(edges, inside, "right") - 1, 3)
    np.testing.assert_array_equal(counts, np.bincount(index, minlength=4))
    assert counts.sum() == inside.size


def test_special_data(target: Target) -> None:
    check(target, np.zeros(1000, np.float32), 10)
    check(target, np.full(1000, 7.25, np.float32), 10)
    check(target, np.empty(0, np.float32), 10)
    check(target, np.empty((3, 0), np.float64), 10, (0.0, 3.0))
    relu = np.maximum(np.random.default_rng(0).normal(size=30_000), 0).astype(np.float32)
    check(target, relu, 2048)
    check(target, -relu, 2048)
    whole_numbers = np.random.default_rng(0).integers(-50, 50, 30_000).astype(np.float32)
    check(target, whole_numbers, 100, (-50.0, 50.0))
    check(target, whole_numbers, 99)
    check(target, np.array(0.5, np.float32), 3, (0, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_values_that_come_again_and_again_on_the_edges(target: Target, dtype: Any) -> None:
    """Which bin a value on an edge belongs to is remembered: for that value alone."""
    rng = np.random.default_rng(5)
    edges = np.linspace(-4, 4, 65)
    x = np.concatenate([rng.choice(edges, 5000), np.full(500, -4.0), np.full(500, 4.0), rng.normal(size=5000)])
    check(target, x.astype(dtype), 64, (-4.0, 4.0))
    check(target, np.nextafter(x.astype(np.float32), np.float32(0)), 64, (-4.0, 4.0))
    check(target, np.repeat(rng.choice(edges, 700), 17).astype(dtype), 64, (-4.0, 4.0))


VIEWS: dict[str, Callable[[Array], Array]] = {
    "transposed": lambda x: x.transpose(2, 0, 1),
    "reversed": lambda x: x[::-1, :, ::-1],
    "every third": lambda x: x[:, ::3, ::3],
    "broadcast": lambda x: np.broadcast_to(x[:, :1, :], x.shape),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(target: Target, view: Callable[[Array], Array], dtype: Any) -> None:
    x = view(np.random.default_rng(0).normal(size=(6, 30, 41)).astype(dtype))
    check(target, x, 64)
    check(target, x, 64, (-1.5, 0.5))
    counts = np.zeros(KEYS, np.uint64)
    assert target.bit_histogram(x, counts) == 0
    np.testing.assert_array_equal(counts, np.bincount(keys(x), minlength=KEYS))


@given(
    x=hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1000, 1000, width=32)),
    bins=st.integers(1, 300),
    low=st.floats(-1000, 1000, width=32),
    width=st.floats(2.0**-6, 1000, width=32),
)
@settings(deadline=None, max_examples=200)
def test_laws(x: Array, bins: int, low: float, width: float) -> None:
    limits: Any = (np.float32(low), np.float32(low) + np.float32(width))
    try:
        wanted, edges = np.histogram(x, bins, limits)
    except ValueError:  # edges that float32 cannot tell apart
        with pytest.raises(ValueError, match="Too many bins"):
            kernels.histogram(x, bins, limits)
        assume(False)
    for target in _core._targets.values():
        counts, got_edges = target.histogram(x, bins, limits)
        np.testing.assert_array_equal(got_edges, edges)
        np.testing.assert_array_equal(counts, wanted)
        assert counts.sum() == np.count_nonzero((x >= edges[0]) & (x <= edges[-1]))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 256, 300, 8192, 70_000, 1_100_000])
def test_bit_histogram(target: Target, size: int) -> None:
    rng = np.random.default_rng(size)
    x = rng.integers(0, 1 << 32, size, np.uint32).view(np.float32)
    number = x[~np.isnan(x)]
    counts = np.arange(KEYS, dtype=np.uint64)
    assert target.bit_histogram(x, counts) == x.size - number.size
    np.testing.assert_array_equal(counts, np.arange(KEYS) + np.bincount(keys(number), minlength=KEYS))
    # Added to what was there.
    normal = rng.normal(size=size).astype(np.float32)
    before = counts.copy()
    assert target.bit_histogram(normal, counts) == 0
    np.testing.assert_array_equal(counts - before, np.bincount(keys(normal), minlength=KEYS))


@pytest.mark.parametrize("size", [1, 5, 16, 255, 257, 10_000, 1_100_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bit_histogram_of_zeros_and_nan_among_values(target: Target, dtype: Any, size: int) -> None:
    rng = np.random.default_rng(size)
    x = rng.choice([0.0, -0.0, np.nan, 1e-45, 6.0, -0.5], size, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1]).astype(dtype)
    if dtype is np.float64:
        x[x == 1e-45] = 0.0  # cut to zero
    counts = np.zeros(KEYS, np.uint64)
    assert target.bit_histogram(x, counts) == np.count_nonzero(np.isnan(x))
    np.testing.assert_array_equal(counts, np.bincount(keys(x[~np.isnan(x)].astype(np.float32)), minlength=KEYS))


@pytest.mark.parametrize("size", [20_000, 1_200_000])
def test_bit_histogram_of_data_that_are_dense_and_sparse_in_turn(target: Target, size: int) -> None:
    rng = np.random.default_rng(size)
    x = rng.normal(size=size).astype(np.float32)
    for begin in range(0, size, 3001):
        part = x[begin : begin + 1501]
        part[rng.random(part.size) < rng.choice([0.0, 0.01, 0.5, 1.0])] = rng.choice([0.0, np.nan])
    counts = np.zeros(KEYS, np.uint64)
    assert target.bit_histogram(x, counts) == np.count_nonzero(np.isnan(x))
    np.testing.assert_array_equal(counts, np.bincount(keys(x[~np.isnan(x)]), minlength=KEYS))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_bit_histogram_of_every_16_bit_float(target: Target, dtype: Any) -> None:
    x = np.arange(KEYS, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):
        single = x.astype(np.float32)
    counts = np.zeros(KEYS, np.uint64)
    assert target.bit_histogram(x, counts) == np.count_nonzero(np.isnan(single))
    np.testing.assert_array_equal(counts, np.bincount(keys(single[~np.isnan(single)]), minlength=KEYS))


def test_keys_ascend_with_the_values(target: Target) -> None:
    x = [-np.inf, -3.4e38, -1.0, -1e-40, -0.0, 0.0, 1e-40, 0.5, 1.0, 1.0078125, 3.4e38, np.inf]
    found = []
    for value in x:
        counts = np.zeros(KEYS, np.uint64)
        assert target.bit_histogram(np.array([value, np.nan], np.float32), counts) == 1
        assert counts.sum() == 1
        found.append(int(counts.argmax()))
    assert found == sorted(found)
    assert found[4:6] == [0x7FFF, 0x8000]
    assert found[8] + 1 == found[9]


def test_bit_histogram_cuts_float64_towards_zero(target: Target) -> None:
    edge = 1.0078125  # lower edge of a bin
    x = np.array([edge, np.nextafter(edge, 0), -edge, -np.nextafter(edge, 0), 1e300, -1e300, np.inf, np.nan, 5e-324])
    counts = np.zeros(KEYS, np.uint64)
    assert target.bit_histogram(x, counts) == 1
    largest = np.finfo(np.float32).max
    below = np.float32(1.0)
    single = np.array([edge, below, -edge, -below, largest, -largest, np.inf, 0.0], np.float32)
    np.testing.assert_array_equal(counts, np.bincount(keys(single), minlength=KEYS))


X = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, 0), ValueError, "bins is 0; pass 1 to"),
        ((X, 10**20), ValueError, "bins is 100000000000000000000; pass 1 to"),
        ((X, np.array([4, 5])), TypeError, r"bins is array\(\[4, 5\]\); pass an integer"),
        ((X, 2.0), TypeError, "bins is 2.0; pass an integer"),
        ((X, True), TypeError, "bins is True; pass an integer"),
        ((X, 4, (1, 0)), ValueError, r"range is \(1, 0\); pass finite numbers low <= high"),
        ((X, 4, (0, np.inf)), ValueError, "range is .*inf.*; pass finite numbers"),
        ((X, 4, (0, 1, 2)), TypeError, r"range is \(0, 1, 2\); pass \(low, high\) or None"),
        ((X, 4, "ab"), TypeError, r"range is 'ab'; pass \(low, high\) or None"),
        ((X, 4, ("a", "b")), ValueError, "range is .*; pass finite numbers"),
        ((np.array([1, np.nan], np.float32), 4), ValueError, r"x \(float32, shape \(2,\)\) holds 1 NaN.* pass range="),
        ((np.array([1, -np.inf]), 4), ValueError, "holds Inf, so it has no finite range; pass range="),
        ((X + np.float32(1e6), 1000, (1e6, 1e6 + 1)), ValueError, "Too many bins"),
        ((X, 4, (-1e308, 1e308)), ValueError, r"range is \(-1e\+308, 1e\+308\) and bins is 4: "),
        ((X.astype(np.int32), 4), TypeError, "x .int32"),
    ],
)
def test_errors(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kernels.histogram(*arguments)


@pytest.mark.parametrize(
    "counts",
    [
        np.zeros(KEYS, np.int64),
        np.zeros(KEYS - 1, np.uint64),
        np.zeros((1, KEYS), np.uint64),
        np.zeros(2 * KEYS, np.uint64)[::2],
        np.broadcast_to(np.uint64(0), KEYS),
        [0] * KEYS,
        torch.zeros(KEYS, dtype=torch.int64),
        None,
    ],
)
def test_errors_of_the_counters(counts: Any) -> None:
    with pytest.raises(TypeError, match="pass a writeable, C-contiguous uint64 array"):
        kernels.bit_histogram(X, counts)


def test_counters_are_no_values_of_the_array() -> None:
    counts = np.zeros(KEYS, np.uint64)
    for x in (counts.view(np.float64), counts.view(np.float32)[7:9]):
        with pytest.raises(ValueError, match=r"counts \(uint64, shape \(65536,\)\) overlaps the memory of x"):
            kernels.bit_histogram(x, counts)
        with pytest.raises(ValueError, match=r"histogram .* overlaps the memory of x"):
            kernels.summarize(x, histogram=counts)
    assert not counts.any()
