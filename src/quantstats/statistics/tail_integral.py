"""The error of every uniform quantizer that has zero as a level, from a table made once of a histogram.

Let the values of one sign have magnitudes x, and a quantizer the levels ``k * step`` for k from 0 to n. Its output
rises by a step wherever x passes a boundary ``b_j = (j + 1/2) * step``, j < n, and passing it lowers the squared error
by ``x^2 - (x - step)^2`` for the first, in general by ``2 * step * (x - b_j)``. So the sum of squared errors is

    sum(x^2) - 2 * step * sum over j < n of T(b_j),      T(b) = sum of max(x - b, 0) over all x.

T is the integral of the tail of the distribution. With values evenly spread within the bins of a histogram it is a
quadratic polynomial in each bin, and its coefficients take one pass over the bins. Then a quantizer costs a few
operations for each *level*, not for each bin; the cumulative sums over j give all n at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quantstats.statistics.bit_histogram import BitHistogram

__all__ = ["TailIntegral"]

Float64Array = npt.NDArray[np.float64]


class TailIntegral:
    """The function T of the values of one sign.

    :param histogram: of all values of a tensor.
    :param negative: whether the magnitudes are those of the negative values, or of the positive ones.
    """

    def __init__(self, histogram: BitHistogram, *, negative: bool) -> None:
        first, edges, counts = histogram.magnitudes(negative=negative)
        self._first = first
        #: largest magnitude; 0 if there are no values of this sign
        self.largest = float(edges[-1]) if counts.size else 0.0
        #: how many values there are
        self.count = float(counts.sum())
        width = np.diff(edges)
        with np.errstate(divide="ignore", invalid="ignore"):
            density = np.where(width > 0, counts / width, 0.0)
        # Of the values above the upper edge of each bin: how many, and the integral of the tail from there.
        above = self.count - np.cumsum(counts)
        piece = width * (above + counts / 2)
        beyond = np.cumsum(piece[::-1])[::-1] - piece
        # The integral of twice the tail's integral: what it costs to clip there.
        piece2 = width * (2 * beyond + width * (above + counts / 3))
        clipped = np.cumsum(piece2[::-1])[::-1] - piece2
        # A row before the bins, in which T is linear, and one behind, in which it is zero.
        self._edge = np.concatenate([edges, edges[-1:]])
        self._above = np.concatenate([[self.count], above, [0.0]])
        self._beyond = np.concatenate([[beyond[0] + piece[0] if counts.size else 0.0], beyond, [0.0]])
        self._clipped = np.concatenate([[clipped[0] + piece2[0] if counts.size else 0.0], clipped, [0.0]])
        self._half_density = np.concatenate([[0.0], density / 2, [0.0]])
        # Whether the first bin begins above its lower border.
        self._cut = bool(edges[0].astype(np.float32).view(np.uint32) & np.uint32(0xFFFF))
        low, high = edges[:-1], edges[1:]
        power = (low * low + low * high + high * high) / 3 * counts
        #: sum of squares
        self.power = float(power.sum())
        # Of the values below each edge.
        self._power_below = np.concatenate([[0.0], np.cumsum(power)])
        self._lower = edges

    def _row(self, boundary: Float64Array) -> tuple[npt.NDArray[np.intp], Float64Array]:
        """The row of the table for each boundary, and how far the upper edge of its bin lies above it."""
        with np.errstate(over="ignore"):
            key = (boundary.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.intp)
        key -= self._first - 1
        row = np.minimum(np.maximum(key, 0, out=key), self._edge.size - 1, out=key)
        if self._cut:
            row[boundary < self._lower[0]] = 0
        return row, np.maximum(self._edge[row] - boundary, 0.0)

    def __call__(self, boundary: Float64Array) -> Float64Array:
        """T at each of several boundaries, not negative."""
        row, distance = self._row(boundary)
        value: Float64Array = self._beyond[row] + distance * (self._above[row] + distance * self._half_density[row])
        return value

    def above(self, boundary: Float64Array) -> Float64Array:
        """How many magnitudes lie above each of several boundaries, not negative."""
        row, distance = self._row(boundary)
        value: Float64Array = self._above[row] + distance * (2 * self._half_density[row])
        return value

    def clipping(self, boundary: Float64Array) -> Float64Array:
        """Sum of squared errors of clipping at each of several boundaries: of ``max(x - b, 0)^2``."""
        row, distance = self._row(boundary)
        cubic = distance * (self._half_density[row] * (2 / 3))
        value: Float64Array = self._clipped[row] + distance * (
            2 * self._beyond[row] + distance * (self._above[row] + cubic)
        )
        return value

    def least_boundary(self, error: float) -> float:
        """A boundary below which clipping costs more than `error`: the lower edge of the bin where it begins to."""
        # Descending with the edges: row k is the cost at the lower edge of bin k, clipping at 0 costs everything.
        at_edge = self._clipped[:-1]
        dear = int(np.searchsorted(-at_edge, -error, side="left"))  # how many edges cost more
        return 0.0 if self.power <= error or dear == 0 else float(self._lower[dear - 1])

    def greatest_dead_zone(self, error: float) -> float:
        """A boundary above which rounding everything below it to zero costs more than `error`; infinite if none is."""
        dear = int(np.searchsorted(self._power_below, error, side="right"))
        return float(self._lower[dear]) if dear < self._lower.size else float("inf")

    def errors(self, step: Float64Array, levels: int) -> Float64Array:
        """Sum of squared errors for each step and each number of levels besides zero, from 0 to `levels`.

        :param step: [n], distances of neighbouring levels.
        :param levels: the largest number of levels besides zero.
        :returns: [n, levels + 1].
        """
        boundary = step[:, np.newaxis] * (np.arange(levels) + 0.5)
        gain = np.zeros((step.size, levels + 1))
        np.cumsum(self(boundary), axis=1, out=gain[:, 1:])
        error: Float64Array = np.maximum(self.power - 2 * step[:, np.newaxis] * gain, 0.0)
        return error

    def error(self, step: Float64Array, levels: int) -> Float64Array:
        """Sum of squared errors for each step, with `levels` levels besides zero: [n]."""
        boundary = step[:, np.newaxis] * (np.arange(levels) + 0.5)
        error: Float64Array = np.maximum(self.power - 2 * step * self(boundary).sum(axis=1), 0.0)
        return error
