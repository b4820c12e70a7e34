"""A histogram of equal bins that grows without moving a count by guesswork.

Its range is [-2**e, 2**e), with a fixed number of bins, so all edges are multiples of a power of two. A value outside
makes the range twice as wide, as often as it takes, and each bin of the wider range is made of whole bins of the one
before. So the counts are those that one pass over all values at once gives: they do not depend on the order of the
samples, and an outlier of any size takes no more memory.

The greatest magnitude m lies in (2**(e - 1), 2**e), which makes a bin narrower than m / 2048.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels

__all__ = ["NestedHistogram"]

_LOG_BINS = 12
_BINS = 1 << _LOG_BINS  # On either side of zero.
_LEAST_EXPONENT = -100  # Edges of narrower bins would be denormal. Zeros alone have this range.
_GREATEST_EXPONENT = 127  # Beyond, the outermost edge is no float32.


class NestedHistogram:
    """Counts of float32 or float16 values, all finite, in equal bins over a range that is a power of two.

    A bin holds its lower edge and not its upper one.
    """

    def __init__(self) -> None:
        self._exponent = _LEAST_EXPONENT
        self._counts: npt.NDArray[np.int64] = np.zeros(2 * _BINS, np.int64)

    @property
    def width(self) -> float:
        """The width of a bin."""
        return math.ldexp(1.0, self._exponent - _LOG_BINS)

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self._counts.sum())

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """The counts, [bins], in ascending order of the values."""
        return self._counts

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """The edges, [bins + 1]. Zero is the one in the middle."""
        return np.arange(-_BINS, _BINS + 1, dtype=np.float64) * np.float64(self.width)

    def add(self, x: npt.NDArray[Any], minimum: float, maximum: float) -> None:
        """Count the values of `x`, whose least and greatest value are `minimum` and `maximum`."""
        if greatest := max(-minimum, maximum):
            self._widen(max(math.frexp(greatest)[1], _LEAST_EXPONENT))
        if self._exponent > _GREATEST_EXPONENT:  # Half the values, in half the range, have the same bins.
            x = x * np.float32(0.5)
        reach = math.ldexp(1.0, min(self._exponent, _GREATEST_EXPONENT))
        if minimum < 0:
            self._counts += kernels.histogram(x, 2 * _BINS, (-reach, reach))[0]
        else:
            self._counts[_BINS:] += kernels.histogram(x, _BINS, (0.0, reach))[0]

    def _widen(self, exponent: int) -> None:
        steps = exponent - self._exponent
        if steps <= 0:
            return
        merged = 1 << min(steps, _LOG_BINS)
        wider = np.zeros_like(self._counts)
        kept = _BINS // merged
        wider[_BINS - kept : _BINS] = self._counts[:_BINS].reshape(kept, merged).sum(axis=1)
        wider[_BINS : _BINS + kept] = self._counts[_BINS:].reshape(kept, merged).sum(axis=1)
        self._counts, self._exponent = wider, exponent

    def lower_edge(self, rank: int, *, magnitudes: bool = False) -> float:
        """The lower edge of the bin that holds the value with `rank`, from 1 to `total`, in ascending order.

        :param magnitudes: order the absolute values.
        """
        counts, first = self._counts, -_BINS
        if magnitudes:
            counts, first = counts[_BINS:] + counts[_BINS - 1 :: -1], 0
        return (first + int(np.searchsorted(np.cumsum(counts), rank))) * self.width

    def uniform(self, edges: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Counts between other `edges`, [bins + 1], the outermost of which hold all values between them.

        A bin is taken as evenly filled where an edge cuts it; the counts are rounded so that their sum is the total.
        """
        below = np.concatenate([[0], np.cumsum(self._counts)]).astype(np.float64)
        own = np.clip(self.edges, edges[0], edges[-1])
        cumulative = np.rint(np.interp(edges, own, below)).astype(np.int64)
        cumulative[0], cumulative[-1] = 0, int(below[-1])
        counts: npt.NDArray[np.int64] = np.diff(cumulative)
        return counts
