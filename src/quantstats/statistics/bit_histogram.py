"""A histogram of all values of a tensor that does not depend on the order in which they come.

Its bins are fixed before any data is seen: the upper 16 bits of the float32 pattern (sign, exponent and 7 bits of
mantissa), 65,536 counters. So each bin is at most 1/128 of its value wide whatever the range of the data, counting is
an addition of integers, and merging two histograms is exact. A histogram of equal bins must be stretched whenever a
value falls outside, which moves counts by guesswork and makes the result depend on the order of the samples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels

__all__ = ["BitHistogram"]

_BINS = 65_536
_ZERO_KEYS = (0x7FFF, 0x8000)  # The bins of -0.0 and +0.0, with denormals below 9.2e-41 in magnitude.
_FIRST_FINITE, _LAST_FINITE = 0x0080, 0xFF7F
_GREATEST = float(np.finfo(np.float32).max)


class BitHistogram:
    """Counts of float32 values by their upper 16 bits, with the exact minimum and maximum.

    Bin k holds the values whose upper half h has the key k: ``~h`` if the sign bit of h is set, else ``h | 0x8000``.
    Keys ascend with the values. float64 values are cut to float32 to be counted; 16-bit floats convert exactly.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.uint64] = np.zeros(_BINS, np.uint64)
        self.minimum = math.inf
        self.maximum = -math.inf

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def zeros(self) -> int:
        """How many of the values are zero, or denormals below 9.2e-41 in magnitude."""
        return int(self.counts[list(_ZERO_KEYS)].sum())

    def add(
        self,
        x: npt.NDArray[Any],
        minimum: float,
        maximum: float,
        *,
        counts: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        """Count the values of `x`, all finite, whose least and greatest value are `minimum` and `maximum`.

        :param counts: counters of the values of `x`, if they were counted before.
        """
        if counts is None:
            kernels.bit_histogram(x, self.counts)
        else:
            self.counts += counts
        self.widen(minimum, maximum)

    def widen(self, minimum: float, maximum: float) -> None:
        """Take in the extrema of values that are counted already."""
        self.minimum = min(self.minimum, minimum)
        self.maximum = max(self.maximum, maximum)

    @property
    def fits_together(self) -> bool:
        """Whether minimum and maximum lie in the first and the last bin that has values; a file can say otherwise."""
        keys = np.flatnonzero(self.counts)
        if not keys.size:
            return (self.minimum, self.maximum) == (math.inf, -math.inf)
        lower, upper = _bin_edges(keys[[0, -1]])
        extrema = np.array([self.minimum, self.maximum])
        return bool(np.all((lower <= extrema) & (extrema <= upper)))

    def merge(self, other: BitHistogram) -> None:
        """Add the counts of `other`, which is not changed."""
        self.counts += other.counts
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)

    def uniform(self, bins: int, *, with_zeros: bool = True) -> npt.NDArray[np.float64]:
        """The same distribution in `bins` bins of equal width from the minimum to the maximum.

        A bit bin is taken as evenly filled, so its count is divided among the bins that it overlaps. At least one
        value must have been counted. If all are equal they are in the last bin.

        :param with_zeros: False leaves out the values that are zero (or denormal).
        """
        counts = self.counts
        keys = np.flatnonzero(counts != 0)
        if not with_zeros:
            keys = keys[(keys != _ZERO_KEYS[0]) & (keys != _ZERO_KEYS[1])]
        if keys.size == 0:
            return np.zeros(bins)
        low, high = _bin_edges(keys)
        low, high = np.clip((low, high), self.minimum, self.maximum)
        below = np.concatenate([[0], np.cumsum(counts[keys], dtype=np.float64)])
        # The cumulative distribution is a polygon through (edge, count below it).
        at = np.column_stack([low, high]).ravel()
        count = np.column_stack([below[:-1], below[1:]]).ravel()
        edges = np.linspace(self.minimum, self.maximum, bins + 1)
        cumulative = np.interp(edges, at, count)
        cumulative[0], cumulative[-1] = 0.0, below[-1]  # A value repeated at the border is a step there.
        return np.diff(cumulative)

    def spread(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The finite values that are not zero, as counts between borders: lower and upper borders and counts, [bins].

        Only bins that hold values are given, in ascending order. The outermost two end at the minimum and the maximum,
        so a bin may have no width. Zeros (and denormals below 9.2e-41 in magnitude) are left out: a quantizer has zero
        as one of its levels.
        """
        counts = self.counts[_FIRST_FINITE : _LAST_FINITE + 1]
        keys = np.flatnonzero(counts != 0) + _FIRST_FINITE
        keys = keys[(keys != _ZERO_KEYS[0]) & (keys != _ZERO_KEYS[1])]
        low, high = _bin_edges(keys)
        low, high = np.clip((low, high), max(self.minimum, -_GREATEST), min(self.maximum, _GREATEST))
        return low, high, self.counts[keys].astype(np.float64)

    def magnitudes(self, *, negative: bool) -> tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The finite values of one sign without zeros, as counts between neighbouring borders.

        :returns: the upper half of the float32 pattern of the lowest border; borders of the magnitudes in ascending
            order, [bins + 1]; counts, [bins]. The outermost borders are the least and the greatest magnitude as far as
            they are known. No bins if there are no such values.
        """
        counts = (
            self.counts[_ZERO_KEYS[0] - 1 : _FIRST_FINITE - 1 : -1]
            if negative
            else self.counts[_ZERO_KEYS[1] + 1 : _LAST_FINITE + 1]
        )
        occupied = counts != 0
        if not occupied.any():
            return 0, np.zeros(1), np.zeros(0)
        first, last = int(occupied.argmax()) + 1, counts.size - int(occupied[::-1].argmax())
        with np.errstate(over="ignore"):
            borders = (np.arange(first, last + 2, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
        least, greatest = (-self.maximum, -self.minimum) if negative else (self.minimum, self.maximum)
        borders[-1] = min(borders[-1], greatest, _GREATEST)
        borders[0] = min(max(borders[0], least), borders[-1])
        return first, borders, counts[first - 1 : last].astype(np.float64)

    def clamped(self, limit: float, dtype: npt.DTypeLike) -> BitHistogram:
        """The histogram of the same values after each was clamped to [-limit, limit], as it would have been counted.

        :param dtype: float64 if the values were, else float32: the limit is rounded to it.
        """
        bounds = np.array([-limit, limit], dtype)
        lowest, highest = (self._key_of(bound) for bound in bounds)
        twin = BitHistogram()
        twin.counts[lowest : highest + 1] = self.counts[lowest : highest + 1]
        twin.counts[lowest] += self.counts[:lowest].sum(dtype=np.uint64)
        twin.counts[highest] += self.counts[highest + 1 :].sum(dtype=np.uint64)
        low, high = (float(bound) for bound in bounds)
        twin.minimum, twin.maximum = min(max(self.minimum, low), high), min(max(self.maximum, low), high)
        return twin

    @staticmethod
    def _key_of(value: np.floating[Any]) -> int:
        counts = np.zeros(_BINS, np.uint64)
        kernels.bit_histogram(np.array([value]), counts)
        return int(np.argmax(counts))

    def quantile(self, probability: float, *, magnitudes: bool = False) -> float:
        """The quantile of all counted values (`linear` interpolation), with the values of a bin spread evenly over it.

        At least one value must have been counted. The error is at most the width of the bin.

        :param probability: in [0, 1].
        :param magnitudes: take the quantile of the absolute values.
        """
        counts, least, greatest = self._of_magnitudes() if magnitudes else (self.counts, self.minimum, self.maximum)
        if counts[:_FIRST_FINITE].any() or counts[_LAST_FINITE + 1 :].any():
            counts = counts.copy()
            counts[:_FIRST_FINITE] = counts[_LAST_FINITE + 1 :] = 0
        blocks = counts.reshape(256, 256)  # Most of the sums are needed for whole blocks only.
        before = np.concatenate([[0], np.cumsum(blocks.sum(axis=1))]).astype(np.float64)
        rank = probability * (float(before[-1]) - 1)
        # The value with rank k of n in a bin lies in the middle of the bin's part k.
        block = int(np.searchsorted(before, rank, side="right")) - 1
        below = before[block] + np.cumsum(blocks[block], dtype=np.float64)
        index = int(np.searchsorted(below, rank, side="right"))
        key = 256 * block + index
        if key in _ZERO_KEYS:
            return min(max(0.0, least), greatest)
        low, high = (float(edge[0]) for edge in _bin_edges(np.array([key])))
        low, high = max(low, least), min(high, greatest)
        count = float(counts[key])
        share = (rank - (float(below[index]) - count) + 0.5) / count
        return low + (high - low) * min(share, 1.0)

    def _of_magnitudes(self) -> tuple[npt.NDArray[np.uint64], float, float]:
        counts = np.zeros_like(self.counts)
        counts[0x8000:] = self.counts[0x8000:] + self.counts[0x7FFF::-1]
        return counts, 0.0, max(-self.minimum, self.maximum)

    def quantile_bounds(self, probability: float, *, magnitudes: bool = False) -> tuple[float, float]:
        """Between which values the quantile of all counted values lies (`linear` interpolation), from its bins' edges.

        At least one value must have been counted.

        :param probability: in [0, 1].
        :param magnitudes: take the quantile of the absolute values.
        """
        counts, low, high = self._of_magnitudes() if magnitudes else (self.counts, self.minimum, self.maximum)
        below = np.cumsum(counts)
        rank = probability * (int(below[-1]) - 1)
        lower, upper = np.searchsorted(below, [math.floor(rank), math.ceil(rank)], side="right")
        edges = _bin_edges(np.array([lower, upper]))
        return max(low, float(edges[0][0])), min(high, float(edges[1][1]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BitHistogram):
            return NotImplemented
        return (self.minimum, self.maximum) == (other.minimum, other.maximum) and np.array_equal(
            self.counts, other.counts
        )

    def __copy__(self) -> BitHistogram:
        twin = BitHistogram()
        twin.merge(self)
        return twin

    def __getstate__(self) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint64], float, float]:
        # Most counters are zero: a tensor's values span a few decades of the 76 that float32 has.
        keys = np.flatnonzero(self.counts)
        return keys.astype(np.uint16), self.counts[keys], self.minimum, self.maximum

    def __setstate__(self, state: tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint64], float, float]) -> None:
        keys, counts, self.minimum, self.maximum = state
        self.counts = np.zeros(_BINS, np.uint64)
        self.counts[keys] = counts

    def __repr__(self) -> str:
        return f"<BitHistogram of {self.total} values from {self.minimum} to {self.maximum}>"


def _bin_edges(keys: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lower and upper edge of the bins `keys`, which hold finite values."""
    negative = keys < 0x8000
    upper_half = np.where(negative, ~keys & 0xFFFF, keys)
    magnitude = (upper_half & 0x7FFF).astype(np.uint32)
    inner = (magnitude << 16).view(np.float32).astype(np.float64)
    outer = ((magnitude + 1) << 16).view(np.float32).astype(np.float64)  # Infinite for the last finite bin.
    return np.where(negative, -outer, inner), np.where(negative, -inner, outer)
