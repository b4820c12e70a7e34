"""Data sets. All are deterministic; the large ones are kept for the cases that follow."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MEGA = 1 << 20

Float32 = NDArray[np.float32]


@lru_cache(maxsize=3)
def normal(count: int) -> Float32:
    """Standard normal float32; read-only, since cases share it."""
    x = np.random.default_rng(count).standard_normal(count, dtype=np.float32)
    x.flags.writeable = False
    return x


def _all_equal(x: Float32) -> Float32:
    return np.full_like(x, 0.7)


def _two_values(x: Float32) -> Float32:
    return np.where(x > 0, np.float32(1.5), np.float32(-0.25))


def _sorted(x: Float32) -> Float32:
    return np.sort(x)


def _half_zeros(x: Float32) -> Float32:
    return np.maximum(x, np.float32(0))


def _mostly_zeros(x: Float32) -> Float32:
    return np.where(np.random.default_rng(1).random(x.size, dtype=np.float32) < 0.99, np.float32(0), x)


def _with(x: Float32, values: list[float], part: float) -> Float32:
    rng = np.random.default_rng(2)
    result = x.copy()
    where = rng.integers(0, x.size, int(part * x.size))
    result[where] = rng.choice(np.array(values, np.float32), where.size)
    return result


def _nan(x: Float32) -> Float32:
    return _with(x, [np.nan], 0.01)


def _infinite(x: Float32) -> Float32:
    return _with(x, [np.inf, -np.inf], 0.01)


def _cauchy_cubed(x: Float32) -> Float32:
    rng = np.random.default_rng(3)
    cubes = rng.standard_cauchy(x.size) ** 3
    return np.clip(cubes, -3e38, 3e38).astype(np.float32)


def _denormal(x: Float32) -> Float32:
    return (x * np.float32(1e-39)).astype(np.float32)


def _periodic(x: Float32) -> Float32:
    # The period of 4 KB is that of pages; it must not resonate with a sample drawn at regular places.
    return np.resize(x[:1024], x.size)


ADVERSARIAL = {
    "all equal": _all_equal,
    "two values": _two_values,
    "sorted": _sorted,
    "50 % zeros": _half_zeros,
    "99 % zeros": _mostly_zeros,
    "1 % NaN": _nan,
    "1 % Inf": _infinite,
    "cauchy^3": _cauchy_cubed,
    "denormal": _denormal,
    "periodic": _periodic,
}


def adversarial(name: str, count: int) -> Float32:
    """Return `count` values of the data set `name` of `ADVERSARIAL`."""
    return ADVERSARIAL[name](normal(count))
