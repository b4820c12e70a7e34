"""The range whose quantizer has the least L2 error on a distribution.

The error of a quantizer on a histogram has a closed form: within a bin, values are evenly spread, so the squared
distance to the nearest level integrates piecewise. `quantization_error` sums that over the bins. Passing a boundary b
between two levels, a step apart, lowers the squared distance of x from the upper of them by ``2 * step * (b - x)`` if x
is below. So the error is the squared distance of all values from the highest level, less twice the step times the sum
over the boundaries of ``G(b) = sum of max(b - x, 0)``, and G is a quadratic polynomial in each bin, whose coefficients
take one pass over the bins. A candidate range then costs a few operations for each level.

The candidates lie on the bin edges: first a coarse grid of the whole space, which no local minimum can trap, then ever
finer steps around the best. What a candidate clips is a lower bound of its error, known in advance for every edge;
those whose bound exceeds the error of another are not evaluated.

The quantizer modelled is the one that `quantstats.quantizer` makes of the range: an asymmetric range is widened to
zero, a symmetric one is [-high, high], or [0, high] for data without negative values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["BINS", "BoundaryIntegral", "least_error_range", "quantization_error"]

BINS = 2_048

Float64Array = npt.NDArray[np.float64]
Edges = npt.NDArray[np.intp]
# Gives the error of each of several candidates, by their first and last bin edges.
_Errors = Callable[[Edges, Edges], Float64Array]

_COARSE_STEPS = 16
_COARSE_STEPS_SYMMETRIC = 64
_FIRST_EVALUATED = 16  # Enough for a good error to compare the costs of clipping with.


def quantization_error(
    counts: Float64Array, minimum: float, maximum: float, bottom: Float64Array, top: Float64Array, steps: int
) -> Float64Array:
    """Sum of squared quantization errors of a histogram, for each of several quantizers.

    :param counts: [bins], counts in equal bins from `minimum` to `maximum`, evenly spread within a bin.
    :param bottom: [n], the lowest level's value of each quantizer.
    :param top: [n], the highest level's value, above `bottom`; values outside are clipped to the borders.
    :param steps: how many steps lie between the two: levels - 1.
    """
    edges = np.linspace(minimum, maximum, counts.size + 1)
    step = ((top - bottom) / steps)[:, np.newaxis]
    # In steps from the bottom level; the level nearest to `position` is k, and r the distance from it.
    position = (edges - bottom[:, np.newaxis]) / step
    k = np.clip(np.floor(position + 0.5), 0, steps)
    r = position - k
    # Antiderivative of the squared distance: each level passed adds the integral of r^2 over [-1/2, 1/2], 1/12.
    antiderivative = (k / 12 + r * r * r / 3) * (step * step * step)
    density = counts / ((maximum - minimum) / counts.size)
    error: Float64Array = np.sum(density * np.diff(antiderivative, axis=1), axis=1)
    return error


class BoundaryIntegral:
    """Quantization errors of a histogram of equal bins, level by level: see the head of this module."""

    def __init__(self, counts: Float64Array, minimum: float, maximum: float) -> None:
        bins = counts.size
        self._counts, self._minimum, self._maximum = counts, minimum, maximum
        self._width = width = (maximum - minimum) / bins
        self._total = float(counts.sum())
        below = np.concatenate([[0.0], np.cumsum(counts)])
        # In bins from the minimum: G at the lower edge of each bin, with rows before the first and behind the last.
        integral = np.concatenate([[0.0], np.cumsum((below[:-1] + below[1:]) / 2)])
        self._integral = np.concatenate([[0.0], integral])
        self._below = np.concatenate([[0.0], below])
        self._half_counts = np.concatenate([[0.0], counts / 2, [0.0]])
        # First and second moments about the middle.
        middle = np.arange(bins) - (bins - 1) / 2
        self._first = float(counts @ middle)
        self._second = float(counts @ (middle * middle)) + self._total / 12
        # The costs of clipping at each edge, from below and from above.
        piece = np.concatenate([[0.0], np.cumsum(2 * (integral[:-1] + below[:-1] / 2 + counts / 6))])
        self._clipped_low = piece * width * width
        above = self._total - below
        beyond = np.concatenate([np.cumsum(((above[:-1] + above[1:]) / 2)[::-1])[::-1], [0.0]])
        piece = 2 * (beyond[1:] + above[1:] / 2 + counts / 6)
        self._clipped_high = np.concatenate([np.cumsum(piece[::-1])[::-1], [0.0]]) * width * width

    def rounding(self, steps: int) -> float:
        """How far the errors of quantizers with `steps` steps may be off by rounding."""
        by_levels = steps < self._counts.size
        return 1e-14 * self._total * (self._maximum - self._minimum) ** 2 if by_levels else 0.0

    def clipping(self, start: npt.NDArray[np.intp], end: npt.NDArray[np.intp]) -> Float64Array:
        """What it costs to clip at the edges `start` and `end`."""
        cost: Float64Array = self._clipped_low[start] + self._clipped_high[end]
        return cost

    def errors(self, bottom: Float64Array, top: Float64Array, steps: int) -> Float64Array:
        """The same as `quantization_error`, but for rounding."""
        if steps >= self._counts.size:
            return quantization_error(self._counts, self._minimum, self._maximum, bottom, top, steps)
        # In bins from the minimum.
        first, last = (bottom - self._minimum) / self._width, (top - self._minimum) / self._width
        step = (last - first) / steps
        t = step[:, np.newaxis] * (np.arange(steps) + 0.5)
        t += first[:, np.newaxis]
        # Below the minimum G is zero whatever t is, above the maximum it is linear in the distance from there.
        edge = np.floor(t)
        np.minimum(edge, self._counts.size, out=edge)
        t -= edge
        edge += 1
        row = edge.astype(np.intp)
        # This is where the time goes, so no more arrays are made than must be.
        integral = self._half_counts.take(row, mode="clip")
        integral *= t
        integral += self._below.take(row, mode="clip")
        integral *= t
        integral += self._integral.take(row, mode="clip")
        from_middle = last - self._counts.size / 2
        whole = self._second - 2 * from_middle * self._first + from_middle * from_middle * self._total
        error: Float64Array = (whole - 2 * step * integral.sum(axis=1)) * (self._width * self._width)
        return error


def least_error_range(
    counts: Float64Array, minimum: float, maximum: float, *, num_bits: int, symmetric: bool
) -> tuple[float, float]:
    """The range within [`minimum`, `maximum`] with the least quantization error; the wider one of equals.

    :param counts: [bins], counts in equal bins from `minimum` to `maximum`. Leave zeros out: they have no error. A
        distribution of one value, or of zeros alone, gives the whole range.
    :param num_bits: bit width of the quantizer.
    :param symmetric: True gives (-high, high) for data with negative values (high may be -minimum), (0, high) for
        other data. False gives a free lower and upper bound, the lower not above zero unless `minimum` is, the upper
        not below zero unless `maximum` is.
    """
    largest = max(-minimum, maximum)
    signed = minimum < 0
    if not minimum < maximum or not counts.any():
        return (-largest if signed else 0.0, largest) if symmetric else (minimum, maximum)
    bins = counts.size
    width = (maximum - minimum) / bins
    steps = (1 << num_bits) - 1
    integral = BoundaryIntegral(counts, minimum, maximum)

    tolerance = integral.rounding(steps)

    def errors(bottom: Float64Array, top: Float64Array, clipping: Float64Array) -> Float64Array:
        """The errors, infinite where `clipping`, a lower bound, is above the error of another."""
        found = np.full(clipping.size, np.inf)
        order = np.argsort(clipping, kind="stable")
        least, start = np.inf, 0
        for end in (_FIRST_EVALUATED, 4 * _FIRST_EVALUATED, clipping.size):
            part = order[start:end]
            part = part[clipping[part] <= least * (1 + 1e-6) + 2 * tolerance]
            if not part.size:  # Those that follow clip even more.
                break
            found[part] = part_errors = integral.errors(bottom[part], top[part], steps)
            least, start = min(least, float(part_errors.min())), end
        return found

    if symmetric:

        def symmetric_errors(_: Edges, end: Edges) -> Float64Array:
            high = largest * end / bins
            # There is one level more below zero than above.
            bottom = -high * ((steps + 1) / (steps - 1)) if signed else np.zeros_like(high)
            if high.size <= _FIRST_EVALUATED:
                return integral.errors(bottom, high, steps)
            # The edges that lie outside of these, whatever rounding does.
            outer = np.floor((bottom - minimum) / width) - 1, np.ceil((high - minimum) / width) + 1
            outer_start, outer_end = (np.clip(edge, 0, bins).astype(np.intp) for edge in outer)
            return errors(bottom, high, integral.clipping(outer_start, outer_end))

        spacing = bins // _COARSE_STEPS_SYMMETRIC
        ends = bins - np.arange(_COARSE_STEPS_SYMMETRIC) * bins // _COARSE_STEPS_SYMMETRIC
        _, end = _search(np.zeros_like(ends), ends, symmetric_errors, 0, 1, bins, spacing, tolerance)
        high = largest * end / bins
        return (-high if signed else 0.0), high

    # The edge at or around zero: bounds do not cross it, since the quantizer includes zero anyway.
    last_start = min(max(int(np.ceil(-minimum / width)), 0), bins)
    first_end = min(max(int(np.floor(-minimum / width)), 0), bins)

    def asymmetric_errors(start: Edges, end: Edges) -> Float64Array:
        bottom, top = np.minimum(minimum + start * width, 0.0), np.maximum(minimum + end * width, 0.0)
        # A border that is moved to zero clips no value, so the edge's cost is still a lower bound: it is zero.
        return errors(bottom, top, integral.clipping(start, end))

    starts = _evenly(0, last_start - 1 if last_start else 0)
    ends = _evenly(bins, first_end + 1 if first_end < bins else bins)
    spacing = max(last_start, bins - first_end) // _COARSE_STEPS
    last_start, first_end = max(last_start - 1, 0), min(first_end + 1, bins)
    start, end = _search(*_pairs(starts, ends), asymmetric_errors, last_start, first_end, bins, spacing, tolerance)
    return (
        minimum if start == 0 else min(minimum + start * width, 0.0),
        maximum if end == bins else max(minimum + end * width, 0.0),
    )


def _evenly(first: int, last: int) -> Edges:
    """Edges from `first` to `last`, each once."""
    return np.unique(np.linspace(first, last, _COARSE_STEPS + 1).astype(np.intp))[:: -1 if first > last else 1]


def _pairs(starts: Edges, ends: Edges) -> tuple[Edges, Edges]:
    """All candidates of those edges, in the order of the starts, and of one start in that of the ends."""
    start, end = np.repeat(starts, ends.size), np.tile(ends, starts.size)
    proper = start < end
    return start[proper], end[proper]


def _first_least(errors: Float64Array, tolerance: float) -> int:
    return int(np.argmax(errors <= errors.min() + tolerance))


def _search(
    start: Edges,
    end: Edges,
    errors: _Errors,
    last_start: int,
    first_end: int,
    bins: int,
    spacing: int,
    tolerance: float,
) -> tuple[int, int]:
    """The best candidate of a coarse grid, widest first, improved by ever smaller steps around it.

    Errors that differ by no more than `tolerance` are equal.
    """
    found = errors(start, end)
    index = _first_least(found, tolerance)
    best, least = (int(start[index]), int(end[index])), float(found[index])
    step = max(spacing // 2, 1)
    known: dict[tuple[int, int], float] = {}
    while step:
        offsets = (-2 * step, -step, 0, step, 2 * step)
        starts = sorted({min(max(best[0] + offset, 0), last_start) for offset in offsets})
        ends = sorted({min(max(best[1] + offset, first_end), bins) for offset in offsets}, reverse=True)
        around = [(s, e) for s in starts for e in ends if s < e]
        # Many were around the last best one too.
        new = [candidate for candidate in around if candidate not in known]
        if new:
            known.update(zip(new, errors(*np.array(new, np.intp).T).tolist(), strict=True))
        found = np.array([known[candidate] for candidate in around])
        index = _first_least(found, tolerance)
        if found[index] < least - tolerance:
            best, least = around[index], float(found[index])
        else:
            step //= 2
    return best
