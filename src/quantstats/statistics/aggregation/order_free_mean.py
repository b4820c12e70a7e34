"""A mean that does not depend on the order of its terms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["order_free_mean"]

Float64Array = npt.NDArray[np.float64]

# Above this magnitude sums of float64 terms may overflow; such terms are scaled by a power of two, which is exact.
_LARGE = 2.0**960
_SCALE = 2.0**-64


def order_free_mean(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Mean of each column of `matrix` [values, channels], in the dtype of `matrix`.

    Where float64 has room for every sum of the terms, as it usually has for float32 terms, no addition rounds and any
    order will do. Elsewhere terms are sorted and then added pairwise in float64, with the rounding error of each
    addition carried along (Knuth's two-sum). Sorting makes the result independent of the order of the rows; the
    compensation makes it that of an exact sum but for the last rounding, whatever cancels.
    """
    count = matrix.shape[0]
    if _adds_exactly(matrix):
        exact: npt.NDArray[Any] = (matrix.sum(axis=0, dtype=np.float64) / count).astype(matrix.dtype)
        return exact
    terms = np.sort(np.ascontiguousarray(matrix.T), axis=1).astype(np.float64)
    if np.any(np.abs(terms[:, [0, -1]]) > _LARGE):
        mean = _compensated_sum(terms * _SCALE) / count / _SCALE
    else:
        mean = _compensated_sum(terms) / count
    result: npt.NDArray[Any] = mean.astype(matrix.dtype)
    return result


def _adds_exactly(matrix: npt.NDArray[Any]) -> bool:
    """Whether every sum of values of a column is a float64 number, so that no addition rounds.

    All values are multiples of the least value's unit in the last place, so all sums are; and below 2^53 of those
    units they are float64 numbers.
    """
    if matrix.dtype != np.float32:
        return False
    magnitudes = np.abs(matrix)
    largest = float(magnitudes.max())
    if largest == 0.0:
        return True
    least = float(magnitudes.min(where=magnitudes > 0, initial=largest))
    # float32 has 24 bits of mantissa, and no unit below 2^-149.
    unit = math.ldexp(1.0, max(math.frexp(least)[1] - 24, -149))
    return bool(largest * matrix.shape[0] <= 2.0**53 * unit)


def _compensated_sum(terms: Float64Array) -> Float64Array:
    """Sum over the last axis, in a fixed order."""
    error = np.zeros_like(terms)
    while (count := terms.shape[1]) > 1:
        half = count // 2
        a, b = terms[:, :half], terms[:, half : 2 * half]
        total = a + b
        a_rounded = total - b
        lost = (a - a_rounded) + (b - (total - a_rounded))
        error = np.concatenate([error[:, :half] + error[:, half : 2 * half] + lost, error[:, 2 * half :]], axis=1)
        terms = np.concatenate([total, terms[:, 2 * half :]], axis=1)
    return terms[:, 0] + error[:, 0]
