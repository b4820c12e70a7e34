"""The saturating product against its definition in NumPy, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantstats import _core, kernels
from quantstats._core import Target

Array = npt.NDArray[Any]


def reference(a: Array, b: Array) -> tuple[Array, int]:
    """Products of neighbours, summed and clipped to int16; then the sum over pairs. And the number of clipped pairs."""
    odd = a.shape[1] % 2
    u = np.pad(a.astype(np.int64), ((0, 0), (0, odd)))
    s = np.pad(b.astype(np.int64), ((0, odd), (0, 0)))
    total = np.zeros((a.shape[0], b.shape[1]), np.int64)
    clipped = 0
    for k in range(0, u.shape[1], 2):
        pair = np.outer(u[:, k], s[k]) + np.outer(u[:, k + 1], s[k + 1])
        saturated = np.clip(pair, -32768, 32767)
        clipped += int(np.count_nonzero(saturated != pair))
        total += saturated
    return total.astype(np.int32), clipped


def check(target: Target, a: Array, b: Array) -> None:
    wanted, clipped = reference(a, b)
    got = target.saturating_matmul(a, b, False)
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, wanted)
    got, count = target.saturating_matmul(a, b, True)
    np.testing.assert_array_equal(got, wanted)
    assert count == clipped


def random_pair(m: int, k: int, n: int, seed: int = 0) -> tuple[Array, Array]:
    """Bytes of which half are extreme, so that many pairs saturate."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (m, k), np.uint8)
    b = rng.integers(-128, 128, (k, n), np.int8)
    a[rng.random((m, k)) < 0.5] = 255
    b[rng.random((k, n)) < 0.25] = -128
    b[rng.random((k, n)) < 0.25] = 127
    return a, b


@pytest.mark.parametrize("u", [(255, 255), (255, 254), (128, 129), (1, 255), (0, 255), (127, 127)])
def test_every_pair_of_weights(target: Target, u: tuple[int, int]) -> None:
    weights = np.arange(-128, 128, dtype=np.int8)
    b = np.stack([np.repeat(weights, 256), np.tile(weights, 256)])
    a = np.array([u], np.uint8)
    check(target, a, b)
    pair = u[0] * b[0].astype(np.int64) + u[1] * b[1].astype(np.int64)
    np.testing.assert_array_equal(target.saturating_matmul(a, b, False)[0], np.clip(pair, -32768, 32767))


def test_every_pair_of_activations(target: Target) -> None:
    levels = np.arange(256, dtype=np.uint8)
    a = np.stack([np.repeat(levels, 256), np.tile(levels, 256)], axis=1)
    b = np.array([[127, -128, 64, 127, -127], [127, -128, 65, -128, -127]], np.int8)
    check(target, a, b)


def test_limit_of_certificates(target: Target) -> None:
    """With activations up to 255, magnitudes that sum to 128 are safe and 129 are not; 255 * 128 = 32640."""
    a = np.array([[255, 255]], np.uint8)
    safe = np.array([[64, 1, -128, -64], [64, 127, 0, -64]], np.int8)
    result, count = target.saturating_matmul(a, safe, True)
    assert count == 0
    assert result.tolist() == [[32640, 32640, -32640, -32640]]
    beyond = np.array([[64, -65], [65, -64]], np.int8)
    result, count = target.saturating_matmul(a, beyond, True)
    assert count == 2
    assert result.tolist() == [[32767, -32768]]


def test_extreme_sums_that_do_not_saturate(target: Target) -> None:
    """32767 and -32768 are sums like others when they are exact."""
    a = np.array([[255, 191], [255, 128]], np.uint8)
    b = np.array([[127, -128, 127], [2, -1, 3]], np.int8)
    # 255 * 127 + 191 * 2 = 32767 and 255 * -128 - 128 = -32768 just fit.
    result, count = target.saturating_matmul(a, b, True)
    assert result.tolist() == [[32767, -32768, 32767], [32641, -32768, 32767]]
    assert count == 3
    check(target, a, b)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7, 8, 9, 63, 1023, 1024, 1025, 1027, 2050])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 7), (4, 8), (5, 9), (8, 16), (9, 33), (1, 300)])
def test_sizes(target: Target, m: int, k: int, n: int) -> None:
    check(target, *random_pair(m, k, n, k))


@pytest.mark.parametrize("n", [2, 15, 16, 17, 31, 32, 255, 256, 257, 515])
def test_widths(target: Target, n: int) -> None:
    check(target, *random_pair(17, 70, n, n))


def test_any_strides(target: Target) -> None:
    a, b = random_pair(20, 80, 60)
    for left in (a.T.copy().T, a[::-1], a[:, ::-1], np.asfortranarray(a)):
        for right in (b.T.copy().T, b[::-1], b[:, ::-1], np.asfortranarray(b)):
            check(target, left, right)
    check(target, a[::3, ::2], b[::2, 1::4])
    check(target, np.broadcast_to(a[:1], (9, 80)), np.broadcast_to(b[:, :1], (80, 40)))


def test_sums_wrap_around(target: Target) -> None:
    """More than 2^31 / 32767 saturated pairs, on a reduction axis that takes no memory."""
    k = 2 * 70_000
    a = np.broadcast_to(np.uint8(255), (1, k))
    b = np.broadcast_to(np.int8(127), (k, 1))
    result, count = target.saturating_matmul(a, b, True)
    assert count == 70_000
    assert int(result[0, 0]) == 70_000 * 32767 - (1 << 32)


def test_empty(target: Target) -> None:
    assert target.saturating_matmul(np.empty((0, 3), np.uint8), np.empty((3, 2), np.int8), False).shape == (0, 2)
    assert target.saturating_matmul(np.empty((2, 3), np.uint8), np.empty((3, 0), np.int8), False).shape == (2, 0)
    result, count = target.saturating_matmul(np.empty((2, 0), np.uint8), np.empty((0, 3), np.int8), True)
    assert result.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert count == 0


@given(m=st.integers(1, 12), k=st.integers(1, 40), n=st.integers(1, 40), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_laws(m: int, k: int, n: int, seed: int) -> None:
    a, b = random_pair(m, k, n, seed)
    for target in _core._targets.values():
        check(target, a, b)
    # Seven-bit weights never saturate: the product is the exact one.
    half = (b >> 1).astype(np.int8)
    result, count = kernels.saturating_matmul(a, half, return_count=True)
    assert count == 0
    np.testing.assert_array_equal(result, a.astype(np.int32) @ half.astype(np.int32))


A, B = np.zeros((2, 3), np.uint8), np.zeros((3, 4), np.int8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((A.view(np.int8), B), TypeError, r"a_u8 \(int8, shape \(2, 3\)\) has another dtype; pass a matrix of uint8"),
        ((A, B.astype(np.int32)), TypeError, "b_s8 .int32.* has another dtype; pass a matrix of int8"),
        ((A > 0, B), TypeError, "a_u8 .bool.* has another dtype"),
        ((A[0], B), ValueError, "a_u8 .* has 1 dimensions; pass a matrix"),
        (([[1]], B), TypeError, "a_u8 is a list; pass a matrix of uint8"),
        ((A, B[:2]), ValueError, "a_u8 has 3 columns and b_s8 has 2 rows"),
    ],
)
def test_errors(arguments: tuple[Any, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kernels.saturating_matmul(*arguments)
