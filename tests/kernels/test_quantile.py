"""Exact quantiles against NumPy, bit for bit, on every instruction set; and that the fast way is taken."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from quantstats import _core, kernels
from quantstats._core import Target

Array = NDArray[Any]

TAILS = [1e-4, 1 - 1e-4]
CALIBRATION = [1e-5, 1e-4, 1e-3, 1e-2, 0.5, 0.99, 0.999, 0.9999, 0.99999]
PROBABILITIES = [[0.5], TAILS, CALIBRATION, [0.0, 1.0], [0.7, 0.3, 0.3]]
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
# Around the vector widths, the base case, the sample of the recursion, the largest set that is copied, and beyond.
LENGTHS = [1, 2, 3, 15, 16, 17, 63, 64, 65, 129, 1000, 4608, 16_384, 16_385, 24_577, 60_000]
LARGE = 200_003


def generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng([2026, *seed])


def result_dtype(x: Array) -> type[np.floating[Any]]:
    return np.float64 if x.dtype == np.float64 else np.float32


def order_statistics(x: Array, q: float) -> float:
    """The definition for sets with infinities, where NumPy computes Inf - Inf."""
    s = np.sort(x.astype(np.float64))
    rank = q * (len(s) - 1)
    previous = int(rank)
    following = min(previous + 1, len(s) - 1)
    fraction = rank - previous
    a, b = float(s[previous]), float(s[following])
    if fraction == 0 or a == b:
        return a
    if np.isinf(a) and np.isinf(b):
        return np.nan
    if np.isinf(a) or np.isinf(b):
        return a if np.isinf(a) else b
    return b - (b - a) * (1 - fraction) if fraction >= 0.5 else a + (b - a) * fraction


def expected(x: Array, q: Any, axis: Any = None, **options: Any) -> Array:
    return np.asarray(np.quantile(x.astype(np.float64), q, axis, **options)).astype(result_dtype(x)) + 0


def assert_same_bits(actual: Any, desired: Array) -> None:
    actual = np.asarray(actual)
    assert actual.dtype == desired.dtype
    assert actual.shape == desired.shape
    bits = np.uint64 if desired.dtype == np.float64 else np.uint32
    same = (actual.view(bits) == desired.view(bits)) | (np.isnan(actual) & np.isnan(desired))
    assert same.all(), f"{actual[~same][:5]} instead of {desired[~same][:5]}"


def quantile(target: Target, x: Array, q: Any, axis: Any = None, nan_policy: Any = "raise") -> Any:
    return target.quantile(x, q, axis, False, nan_policy)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("n", LENGTHS)
def test_equals_numpy(target: Target, n: int, dtype: Any) -> None:
    x = generator(n).standard_normal(n).astype(dtype)
    for q in PROBABILITIES:
        assert_same_bits(quantile(target, x, q), expected(x, q))
        assert target._quantile_fallbacks(x, q, None, False) == 0
    assert_same_bits(target.abs_quantile(x, TAILS, None, False, "raise"), expected(np.abs(x), TAILS))
    assert_same_bits(target.median(x, None, False, "raise"), expected(x, 0.5))


def hard_sets(n: int) -> dict[str, Array]:
    random = generator(n)
    normal = random.standard_normal(n)
    rare = random.random(n) < 0.01
    return {
        "equal": np.full(n, -3.0),
        "two values": np.where(normal > 0, 1.0, -1.0),
        "signed zeros": np.where(normal > 0, 0.0, -0.0),
        "sorted": np.sort(normal),
        "reversed": -np.sort(normal),
        "organ pipe": np.concatenate([np.sort(normal[: n // 2]), -np.sort(-normal[n // 2 :])]),
        "half zero": np.maximum(normal, 0),
        "nearly all zero": normal * rare,
        "integers": np.round(3 * normal),
        "heavy tails": random.standard_cauchy(n) ** 3,
        "denormal": normal * 1e-40,
        "periodic": np.sin(np.arange(n) * (2 * np.pi / 64)),
        "one outlier": np.where(np.arange(n) == n // 3, 1e30, normal * 1e-3),
        "float16 grid": normal.astype(np.float16).astype(np.float64),
    }


@pytest.mark.parametrize("n", [300, 4608, 16_000, LARGE])
@pytest.mark.parametrize("name", hard_sets(2))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hard_sets_are_exact_and_need_no_fallback(target: Target, n: int, name: str, dtype: Any) -> None:
    x = hard_sets(n)[name].astype(dtype)
    for q in (CALIBRATION, TAILS, [0.5]):
        assert_same_bits(quantile(target, x, q), expected(x, q))
        assert target._quantile_fallbacks(x, q, None, False) == 0


# 16-bit floats are read as integers, groups of vectors at a time, and with too many brackets counted value by value.
@pytest.mark.parametrize("name", hard_sets(2))
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
def test_hard_sets_of_16_bits(target: Target, name: str, dtype: Any) -> None:
    x = np.clip(hard_sets(LARGE)[name], -6e4, 6e4).astype(dtype)
    for q in (CALIBRATION, TAILS, [0.5], [0.3, 0.7], np.linspace(0, 1, 20)):
        assert_same_bits(quantile(target, x, q), expected(x, q))
        assert target._quantile_fallbacks(x, q, None, False) == 0
        assert_same_bits(target.abs_quantile(x, q, None, False, "raise"), expected(np.abs(x), q))
    for n in (16_385, 16_385 + 63, 18_000, 65_536):  # whole groups and rests
        assert_same_bits(quantile(target, x[:n], CALIBRATION), expected(x[:n], CALIBRATION))
    plane = x[: LARGE // 8 * 8].reshape(-1, 8)
    assert_same_bits(quantile(target, plane[:, 3], CALIBRATION), expected(plane[:, 3], CALIBRATION))
    rows = x[:80_000].reshape(2, 2, 20_000)
    assert_same_bits(quantile(target, rows, TAILS, (0, 2)), expected(rows, TAILS, (0, 2)))


@pytest.mark.parametrize("share", [1e-5, 0.01, 0.999])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
def test_special_values_of_16_bits(target: Target, dtype: Any, share: float) -> None:
    random = generator(int(1 / share))
    x = random.standard_normal(LARGE).astype(dtype)
    for value in (np.inf, -np.inf, -0.0):
        x[random.random(LARGE) < share / 4] = value
    infinite = [order_statistics(x, q) for q in CALIBRATION]
    assert_same_bits(quantile(target, x, CALIBRATION), np.array(infinite, np.float32) + 0)
    # NaN of either sign lies beyond the infinities as an integer.
    nan = random.random(LARGE) < share
    x[nan] = np.nan
    x[nan & (random.random(LARGE) < 0.5)] *= dtype(-1)
    left = x[~np.isnan(x)]
    for q in (CALIBRATION, TAILS, [0.5]):
        wanted = np.array([order_statistics(left, one) for one in q], np.float32) + 0
        assert_same_bits(quantile(target, x, q, nan_policy="ignore"), wanted)
    assert int(target.summarize(x, None, CALIBRATION, False, "ignore", None)[5]) == LARGE - len(left)


@pytest.mark.parametrize("n", [100, 4608, 20_000, LARGE])
@pytest.mark.parametrize("share", [0.001, 0.3, 1.0])
def test_infinities_are_ordinary_values(target: Target, n: int, share: float) -> None:
    random = generator(n)
    x = random.standard_normal(n).astype(np.float32)
    x[random.random(n) < share / 2] = -np.inf
    x[random.random(n) < share / 2] = np.inf
    for probabilities in (CALIBRATION, TAILS):
        desired = np.array([order_statistics(x, q) for q in probabilities], np.float32)
        assert_same_bits(quantile(target, x, probabilities), desired)


def test_limits_between_finite_and_infinite(target: Target) -> None:
    assert quantile(target, np.array([1, np.inf], np.float32), 0.25) == np.inf
    assert quantile(target, np.array([1, np.inf], np.float32), 0.0) == 1
    assert quantile(target, np.array([-np.inf, 1], np.float32), 0.75) == -np.inf
    assert np.isnan(quantile(target, np.array([-np.inf, np.inf], np.float32), 0.5))


@pytest.mark.parametrize("n", [10, 4608, 20_000, LARGE])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999, 1.0])
def test_nan_is_left_out_counted_or_propagated(target: Target, n: int, share: float) -> None:
    random = generator(n)
    x = random.standard_normal(n).astype(np.float32)
    x[random.random(n) < share] = np.nan
    x[0] = np.nan
    rest = x[~np.isnan(x)]
    for q in (CALIBRATION, TAILS):
        desired = expected(rest, q) if rest.size else np.full(len(q), np.nan, np.float32)
        assert_same_bits(quantile(target, x, q, nan_policy="ignore"), desired)
        assert target._quantile_fallbacks(x, q, None, False) == 0
    assert np.isnan(quantile(target, x, CALIBRATION, nan_policy="propagate")).all()
    with pytest.raises(ValueError, match=rf"x \(float32, shape \({n},\)\) holds {n - rest.size} NaN"):
        quantile(target, x, CALIBRATION)


AXES = [None, 0, 1, 2, (0, 1), (0, 2), (1, 2), (0, 1, 2), ()]


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_axes_and_strides(target: Target, axis: Any, dtype: Any) -> None:
    x = generator(1).standard_normal((6, 75, 90)).astype(dtype)
    views = [x, x.transpose(2, 0, 1), x[::-1, :, ::-1], x[:, ::3, ::2], np.broadcast_to(x[:, :1], (6, 9, 90))]
    for view in views:
        q = [0.5] if axis == () else [0.02, 0.5, 0.98]
        assert_same_bits(quantile(target, view, q, axis), expected(view, q, axis))


def test_large_strided_sets(target: Target) -> None:
    x = generator(2).standard_normal((4, 3, 150, 150)).astype(np.float32)
    for view, axis in (
        (x, (0, 2, 3)),
        (x[..., ::2], None),
        (x.transpose(0, 2, 3, 1), (0, 1, 2)),
        (x[:, ::-1], (0, 2, 3)),
    ):
        assert_same_bits(quantile(target, view, CALIBRATION, axis), expected(view, CALIBRATION, axis))


def test_unaligned_data(target: Target) -> None:
    raw = np.zeros(4 * 30_000 + 1, np.uint8)
    x = raw[1:].view(np.float32)
    x[:] = generator(3).standard_normal(30_000)
    assert not x.flags.aligned
    assert_same_bits(quantile(target, x, CALIBRATION), expected(x.copy(), CALIBRATION))


def test_many_probabilities(target: Target) -> None:
    q = np.linspace(0, 1, 101)
    for n in (1000, LARGE):
        x = generator(n).standard_normal(n).astype(np.float32)
        assert_same_bits(quantile(target, x, q), expected(x, q))
        assert target._quantile_fallbacks(x, q, None, False) == 0


def test_missed_bracket_falls_back_and_is_counted(target: Target) -> None:
    # Values laid out against the strata of the sample: what the sample draws is large, all else small and different.
    # The generator is fixed, so drawing the sample's positions from the outside is a matter of trying each once.
    n = 20_000
    x = np.arange(n, dtype=np.float32)
    drawn = sampled_positions(n)
    x[drawn] += 10 * n
    assert_same_bits(quantile(target, x, [0.5]), expected(x, [0.5]))
    assert target._quantile_fallbacks(x, [0.5], None, False) == 2


def sampled_positions(n: int) -> NDArray[np.int64]:
    """SplitMix64 over equal strata, as in csrc/kernels/select_memory.inl.h."""
    m = 4 * int(np.sqrt(n))
    step = (n << 20) // m
    mask = (1 << 64) - 1
    positions = []
    for i in range(m):
        begin = i * step >> 20
        width = ((i + 1) * step >> 20) - begin
        z = (i + 1) * 0x9E3779B97F4A7C15 & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        positions.append(begin + (((z ^ z >> 31) >> 32) * width >> 32))
    return np.array(positions)


def test_fallbacks_never_happen_on_random_sets(target: Target) -> None:
    x = generator(4).standard_normal((40, 20_000)).astype(np.float32)
    assert target._quantile_fallbacks(x, CALIBRATION, 1, False) == 0
    assert target._quantile_fallbacks(x, CALIBRATION, 1, True) == 0


def test_shapes_follow_numpy(target: Target) -> None:
    x = generator(5).standard_normal((3, 4, 5)).astype(np.float32)
    for q in (0.25, [0.25], [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], []):
        for axis, keepdims in ((None, False), (None, True), (1, False), ((0, 2), True)):
            actual = target.quantile(x, q, axis, keepdims, "raise")
            assert_same_bits(actual, expected(x, q, axis, keepdims=keepdims))
    assert isinstance(target.quantile(x, 0.5, None, False, "raise"), np.float32)


@pytest.mark.parametrize(
    ("q", "error", "text"),
    [
        (-0.1, ValueError, "q holds -0.1"),
        ([0.5, 50.0], ValueError, "q holds 50.0"),
        (float("nan"), ValueError, "q holds nan"),
        ("half", TypeError, "q is 'half'"),
    ],
)
def test_probabilities_are_checked(q: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        kernels.quantile(np.ones(3, np.float32), q)


def test_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot reduce x \(float32, shape \(0, 3\)\)"):
        kernels.median(np.ones((0, 3), np.float32), 0)
    assert kernels.median(np.ones((3, 0), np.float32), 0).shape == (0,)


@pytest.mark.parametrize("q", [None, "half", [0.5, None], object()])
def test_probabilities_are_numbers(q: Any) -> None:
    for function in (kernels.quantile, kernels.abs_quantile):
        with pytest.raises((TypeError, ValueError), match=r"^q (is|holds) .*; p"):
            function(np.ones(3, np.float32), q)


def test_public_functions() -> None:
    x = generator(6).standard_normal((7, 9)).astype(np.float32)
    assert_same_bits(kernels.quantile(x, TAILS, 1, keepdims=True), expected(x, TAILS, 1, keepdims=True))
    assert_same_bits(kernels.abs_quantile(x, 0.3, 0), expected(np.abs(x), 0.3, 0))
    assert_same_bits(kernels.median(x, (0, 1)), expected(x, 0.5))


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.float32, st.integers(1, 300), elements=finite), st.floats(0, 1), st.floats(0, 1))
def test_laws(x: Array, p: float, q: float) -> None:
    p, q = sorted((p, q))
    results = []
    for target in _core._targets.values():
        low, high = quantile(target, x, [p, q])
        assert low <= high or np.isclose(low, high)
        assert x.min() <= low
        assert high <= x.max()
        assert_same_bits(quantile(target, np.random.default_rng(0).permutation(x), [p, q]), np.array([low, high]))
        assert_same_bits(quantile(target, x, [p, q]), expected(x, [p, q]))
        results.append((low, high))
    assert len(set(results)) == 1
