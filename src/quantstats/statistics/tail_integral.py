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

from functools import cached_property

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
        self._lower = edges
        self._counts = counts
        self._width = width = edges[1:] - edges[:-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            density = np.where(width > 0, counts / width, 0.0)
        # A row before the bins, in which T is linear, and one behind, in which it is zero.
        self._edge = np.concatenate([edges, edges[-1:]])
        # Of the values above the upper edge of each bin: how many.
        self._above = np.concatenate([[self.count], self.count - np.cumsum(counts), [0.0]])
        self._half_density = np.concatenate([[0.0], density / 2, [0.0]])
        # Whether the first bin begins above its lower border.
        self._cut = bool(edges[0].astype(np.float32).view(np.uint32) & np.uint32(0xFFFF))

    # What not everyone asks for.

    @cached_property
    def _beyond(self) -> Float64Array:
        """The integral of the tail from the upper edge of each bin."""
        return self._from_above(self._width * (self._above[1:-1] + self._counts / 2))

    @cached_property
    def _clipped(self) -> Float64Array:
        """The integral of twice the tail's integral: what it costs to clip at the upper edge of each bin."""
        width, beyond = self._width, self._beyond[1:-1]
        return self._from_above(width * (2 * beyond + width * (self._above[1:-1] + self._counts / 3)))

    @staticmethod
    def _from_above(piece: Float64Array) -> Float64Array:
        """The sums of the pieces above each bin, with the rows before and behind the bins."""
        above = np.cumsum(piece[::-1])[::-1] - piece
        return np.concatenate([[above[0] + piece[0] if piece.size else 0.0], above, [0.0]])

    @cached_property
    def _power(self) -> Float64Array:
        low, high = self._lower[:-1], self._lower[1:]
        power: Float64Array = (low * low + low * high + high * high) / 3 * self._counts
        return power

    @cached_property
    def power(self) -> float:
        """Sum of squares."""
        return float(self._power.sum())

    def _row(self, boundary: Float64Array) -> tuple[npt.NDArray[np.intp], Float64Array]:
        """The row of the table for each boundary, and how far the upper edge of its bin lies above it.

        Rows before the first and behind the last stand for these.
        """
        with np.errstate(over="ignore"):
            key = (boundary.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.intp)
        key -= self._first - 1
        if self._cut:
            key[boundary < self._lower[0]] = 0
        distance = self._edge.take(key, mode="clip")
        distance -= boundary
        return key, np.maximum(distance, 0.0, out=distance)

    def __call__(self, boundary: Float64Array) -> Float64Array:
        """T at each of several boundaries, not negative."""
        if not self.count:
            return np.zeros_like(boundary)
        row, distance = self._row(boundary)
        # The searches spend their time here, so no more arrays are made than must be.
        value: Float64Array = self._half_density.take(row, mode="clip")
        value *= distance
        value += self._above.take(row, mode="clip")
        value *= distance
        value += self._beyond.take(row, mode="clip")
        return value

    def above(self, boundary: Float64Array) -> Float64Array:
        """How many magnitudes lie above each of several boundaries, not negative."""
        if not self.count:
            return np.zeros_like(boundary)
        row, distance = self._row(boundary)
        value: Float64Array = self._half_density.take(row, mode="clip")
        value *= 2
        value *= distance
        value += self._above.take(row, mode="clip")
        return value

    def clipping(self, boundary: Float64Array) -> Float64Array:
        """Sum of squared errors of clipping at each of several boundaries: of ``max(x - b, 0)^2``."""
        row, distance = self._row(boundary)
        half_density, above, beyond, clipped = (
            table.take(row, mode="clip") for table in (self._half_density, self._above, self._beyond, self._clipped)
        )
        cubic = distance * (half_density * (2 / 3))
        value: Float64Array = clipped + distance * (2 * beyond + distance * (above + cubic))
        return value

    def least_boundary(self, error: float) -> float:
        """A boundary below which clipping costs more than `error`: the lower edge of the bin where it begins to."""
        # Descending with the edges: row k is the cost at the lower edge of bin k, clipping at 0 costs everything.
        at_edge = self._clipped[:-1]
        dear = int(np.searchsorted(-at_edge, -error, side="left"))  # how many edges cost more
        return 0.0 if self.power <= error or dear == 0 else float(self._lower[dear - 1])

    def greatest_dead_zone(self, error: float) -> float:
        """A boundary above which rounding everything below it to zero costs more than `error`; infinite if none is."""
        below = np.concatenate([[0.0], np.cumsum(self._power)])  # of the values below each edge
        dear = int(np.searchsorted(below, error, side="right"))
        return float(self._lower[dear]) if dear < self._lower.size else float("inf")

    def errors(self, step: Float64Array, levels: int) -> Float64Array:
        """Sum of squared errors for each step and each number of levels besides zero, from 0 to `levels`.

        :param step: [n], distances of neighbouring levels.
        :param levels: the largest number of levels besides zero.
        :returns: [n, levels + 1].
        """
        gain = np.zeros((step.size, levels + 1))
        if not self.count:
            return gain
        boundary = step[:, np.newaxis] * (np.arange(levels) + 0.5)
        np.cumsum(self(boundary), axis=1, out=gain[:, 1:])
        error: Float64Array = np.maximum(self.power - 2 * step[:, np.newaxis] * gain, 0.0)
        return error

    def error(self, step: Float64Array, levels: int) -> Float64Array:
        """Sum of squared errors for each step, with `levels` levels besides zero: [n]."""
        if not self.count:
            return np.zeros_like(step)
        boundary = step[:, np.newaxis] * (np.arange(levels) + 0.5)
        error: Float64Array = np.maximum(self.power - 2 * step * self(boundary).sum(axis=1), 0.0)
        return error
