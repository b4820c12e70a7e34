"""A mean that does not depend on the order of its terms."""

from __future__ import annotations

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

    Terms are sorted and then added pairwise in float64, with the rounding error of each addition carried along
    (Knuth's two-sum). Sorting makes the result independent of the order of the rows; the compensation makes it that
    of an exact sum but for the last rounding, whatever cancels.
    """
    count = matrix.shape[0]
    terms = np.sort(np.ascontiguousarray(matrix.T), axis=1).astype(np.float64)
    if np.any(np.abs(terms[:, [0, -1]]) > _LARGE):
        mean = _compensated_sum(terms * _SCALE) / count / _SCALE
    else:
        mean = _compensated_sum(terms) / count
    result: npt.NDArray[Any] = mean.astype(matrix.dtype)
    return result


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
