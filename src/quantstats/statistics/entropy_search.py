"""The range that loses the least information: calibration by entropy, as in TensorRT.

S. Migacz, "8-bit inference with TensorRT" (GPU Technology Conference, 2017): for every threshold, compare the
distribution P of the clipped values with the distribution Q that quantization leaves of it, and take the threshold with
the least Kullback-Leibler divergence ``sum(p * log(p / q))``.

- P is the histogram up to the threshold. What lies beyond is added to its last bin, since clipping puts it there.
- Q has as many cells as there are levels. A cell holds the values inside the threshold that fall into it, without those
  that were clipped, spread evenly over those of its bins that are not empty in P. So merging bins costs information
  where they differ, and clipping costs what it piles up at the threshold.
- No threshold clips more than an eighth of the values. With few values one could clip nearly all of them into a bin
  that holds one already: P and Q are then one bin each, and do not diverge.
- A bin that is empty in P adds nothing, for ``p * log(p)`` is zero there. A cell that has clipped values only has no Q
  to compare with, and its threshold is not taken.

As published, thresholds are the edges of 2,048 bins of the magnitudes and zeros are left out: every level would be dear
in comparison with theirs, and they have no error. Asymmetric ranges keep what the minimum or the maximum leaves of
[-threshold, threshold], and their cells cover that range. The sums over bins and cells come from prefix sums, so a
threshold costs a few operations for each level.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig
from quantstats.statistics.bit_histogram import BitHistogram
from quantstats.statistics.mse_search import whole_range
from quantstats.statistics.tail_integral import TailIntegral

__all__ = ["BINS", "divergences", "least_divergence_range"]

BINS = 2_048

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

_COARSE_THRESHOLDS = 96
_MOST_CLIPPED = 1 / 8


def divergences(counts: Float64Array, start: IntArray, end: IntArray, cells: int) -> Float64Array:
    """Kullback-Leibler divergence of what `cells` levels leave of a histogram, for each of several ranges.

    :param counts: [bins], counts in bins of equal width.
    :param start: [n], the first edge of each range.
    :param end: [n], the last edge; at least `cells` above the first.
    :param cells: number of levels. Cell k ends before bin ``start + (k + 1) * (end - start) // cells``.
    :returns: [n], in nats; infinite where a cell has clipped values only.
    """
    return _Sums(counts).divergences(start, end, cells)


class _Sums:
    """What lies below each edge of a histogram."""

    def __init__(self, counts: Float64Array) -> None:
        self._counts = counts
        #: how many values
        self.values = np.concatenate([[0.0], np.cumsum(counts)])
        self._occupied = np.concatenate([[0.0], np.cumsum(counts > 0, dtype=np.float64)])
        self._entropy = np.concatenate([[0.0], np.cumsum(_x_log_x(counts))])

    def divergences(self, start: IntArray, end: IntArray, cells: int) -> Float64Array:
        """See the function of that name."""
        below = self.values
        clipped_low, clipped_high = below[start], below[-1] - below[end]
        inside = below[end] - below[start]

        edges = np.arange(cells + 1) * (end - start)[:, np.newaxis]
        edges //= cells
        edges += start[:, np.newaxis]
        mass, bins = below.take(edges, mode="clip"), self._occupied.take(edges, mode="clip")
        mass, bins = mass[:, 1:] - mass[:, :-1], bins[:, 1:] - bins[:, :-1]
        # An outermost bin that is empty but for what is clipped counts as one that is not.
        first, last = self._counts[start], self._counts[end - 1]
        bins[:, 0] += (first == 0) & (clipped_low > 0)
        bins[:, -1] += (last == 0) & (clipped_high > 0)
        total = mass.copy()
        total[:, 0] += clipped_low
        total[:, -1] += clipped_high
        with np.errstate(divide="ignore", invalid="ignore"):
            mass /= bins
            np.log(mass, out=mass)
            mass *= total
            cross = np.where(total > 0, mass, 0.0).sum(axis=1)
            scale = np.log(inside / below[-1])
            own = self._entropy[end] - self._entropy[start]
            own += _x_log_x(first + clipped_low) - _x_log_x(first) + _x_log_x(last + clipped_high) - _x_log_x(last)
            divergence: Float64Array = np.where(inside > 0, (own - cross) / below[-1] + scale, np.inf)
        return divergence


def least_divergence_range(histogram: BitHistogram, config: QuantizerConfig) -> tuple[float, float]:
    """The range between whose thresholds quantization loses the least information; the wider one of equals.

    :param histogram: of all values; at least one.
    :param config: the quantizer that is to follow, per tensor. With more levels than half of the bins nothing is
        clipped, as for 16 bits.
    """
    whole = whole_range(histogram, config)
    symmetric = config.mode is QuantizationMode.SYMMETRIC
    low, high = (0.0, whole[1]) if symmetric else (min(whole[0], 0.0), max(whole[1], 0.0))
    lowest, highest = config.level_range(signed=histogram.minimum < 0 or config.signedness_to_force is True)
    cells = (highest if symmetric else highest - lowest) + 1
    negative, positive = TailIntegral(histogram, negative=True), TailIntegral(histogram, negative=False)
    if not negative.count + positive.count or 2 * cells > BINS:
        return whole
    edges = np.linspace(low, high, BINS + 1)
    above = positive.above(np.maximum(edges, 0.0))
    # Of negative values those below an edge are wanted, of magnitudes all above it.
    below = negative.above(edges) if symmetric else -negative.above(np.maximum(-edges, 0.0))
    counts = -np.diff(above + below)
    zero = 0 if symmetric else round(-low / (high - low) * BINS)

    sums = _Sums(counts)
    inside = sums.values

    def found(thresholds: IntArray) -> Float64Array:
        start, end = np.maximum(zero - thresholds, 0), np.minimum(zero + thresholds, BINS)
        errors = np.full(thresholds.size, np.inf)
        wide = (end - start >= cells) & (inside[end] - inside[start] >= (1 - _MOST_CLIPPED) * inside[-1])
        errors[wide] = sums.divergences(start[wide], end[wide], cells)
        return errors

    widest = max(zero, BINS - zero)
    spacing = max(widest // _COARSE_THRESHOLDS, 1)
    best, least = widest, np.inf
    low_end, high_end = 1, widest
    while True:
        thresholds = np.arange(high_end, low_end - 1, -spacing)
        errors = found(thresholds)
        index = int(errors.argmin())
        if errors[index] < least:
            best, least = int(thresholds[index]), float(errors[index])
        if spacing == 1:
            break
        low_end, high_end = max(best - spacing, 1), min(best + spacing, widest)
        spacing = max(spacing // 5, 1)
    width = (high - low) / BINS
    if symmetric:
        return (-best * width if histogram.minimum < 0 else 0.0), best * width
    return (
        whole[0] if best >= zero else (zero - best) * width + low,
        whole[1] if best >= BINS - zero else (zero + best) * width + low,
    )


def _x_log_x(x: Float64Array) -> Float64Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x > 0, x * np.log(x), 0.0)
