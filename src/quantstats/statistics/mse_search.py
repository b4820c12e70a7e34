"""The range whose quantizer has the least mean squared error on a tensor, from the histogram of its values.

A quantizer with zero as a level is a step and the numbers of levels below and above zero. A symmetric scheme fixes
those numbers, an asymmetric one their sum, and `TailIntegral` gives the error for all ways to split it at once. So
there is one unknown, the step. Two bounds close it in, with the error of any step tried before: clipping alone costs
more below some step, and above some step it costs more that all values below half of it round to zero. Both costs are
monotone in the step, so the bounds lose no optimum. What lies between is searched on a grid, and finer around its best
two steps.

At 16 bits a step is so small against what a histogram resolves that the rounding error is that of Bennett, ``step^2 /
12`` for each value (W. R. Bennett, "Spectra of quantized signals", 1948), and the error separates into this and the
costs of clipping on either side.

Symmetric, unsigned and asymmetric quantizers are those of `quantstats.quantizer`. Its least scales bound the step too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantstats.errors import NonFiniteError
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig, quantizer_from_range
from quantstats.statistics.bit_histogram import BitHistogram
from quantstats.statistics.predicted_error import squared_error
from quantstats.statistics.tail_integral import TailIntegral

__all__ = ["least_mse_range", "whole_range"]

Float64Array = npt.NDArray[np.float64]

# The quantizer widens a symmetric bound below the first, and an asymmetric range below the second.
_LEAST_HIGH = 8e-5
_LEAST_WIDTH = 8e-4
# What a range that clips must promise over the whole range. Where values lie on a grid of their own, as evenly
# distributed pixels do, the whole range may have no error at all, which the histogram does not tell.
_LEAST_GAIN_DB = 0.02
# Levels times steps on the first grid, and steps on the finer ones.
_GRID = 12_000
_FINER = 9
_MOST_LEVELS = 1024
_BORDERS = 192


@dataclass(frozen=True)
class _Choice:
    """A quantizer: its step, the levels below and above zero, and the sum of its squared errors."""

    step: float
    below: int
    above: int
    error: float


def whole_range(histogram: BitHistogram, config: QuantizerConfig) -> tuple[float, float]:
    """The range that clips nothing: minimum and maximum, or for a symmetric quantizer what reaches both."""
    if config.mode is QuantizationMode.ASYMMETRIC:
        return histogram.minimum, histogram.maximum
    largest = max(-histogram.minimum, histogram.maximum)
    return (-largest if histogram.minimum < 0 else 0.0), largest


def least_mse_range(
    histogram: BitHistogram, config: QuantizerConfig, *, least_gain: float = _LEAST_GAIN_DB
) -> tuple[float, float]:
    """The range whose quantizer has the least sum of squared errors on the values that `histogram` counted.

    :param histogram: of all values; at least one.
    :param config: the quantizer that is to follow, per tensor.
    :param least_gain: by how many decibels it must be better than the whole range, which is given otherwise.
    :returns: for a symmetric quantizer (-high, high), or (0, high) for data without negative values; for an asymmetric
        one a range that has zero on a level, and may reach a step further than the values.
    """
    whole = whole_range(histogram, config)
    negative, positive = TailIntegral(histogram, negative=True), TailIntegral(histogram, negative=False)
    if not negative.count + positive.count:
        return whole
    found = _Search(negative, positive, histogram.minimum < 0, config).best()
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            quantizer = quantizer_from_range(*whole, config)
    except NonFiniteError:  # float64 values beyond float32: the quantizer that follows will say so.
        return whole
    zero, step = int(quantizer.zero_point), np.array([float(quantizer.scale)])
    if not np.isfinite(step[0]):  # The range is wider than float32 can hold.
        return whole
    below, above = zero - quantizer.level_low, quantizer.level_high - zero
    if below + above < _MOST_LEVELS:
        error, least = float((negative.error(step, below) + positive.error(step, above))[0]), found.error
    else:
        steps, levels = (step[0], found.step), ((-below, -found.below), (above, found.above))
        error, least = squared_error(*histogram.spread(), steps, *levels)
    if error <= least * 10 ** (least_gain / 10):
        return whole
    if config.mode is QuantizationMode.ASYMMETRIC:
        # The quantizer puts zero on one of 2^bits levels also where narrow_range leaves one of them out.
        top, width = (1 << config.num_bits) - 1, found.step * (found.below + found.above)
        zero = round(found.below * top / (found.below + found.above))
        return -zero * width / top, (top - zero) * width / top
    high = found.step * found.above
    return (-high if histogram.minimum < 0 else 0.0), high


def _bennett(
    negative: TailIntegral, positive: TailIntegral, low: Float64Array, high: Float64Array, levels: int
) -> Float64Array:
    """The error of `levels` very fine levels from -low to high."""
    cost: Float64Array = (
        np.square((low + high) / levels) / 12 * (negative.count + positive.count)
        + negative.clipping(low)
        + positive.clipping(high)
    )
    return cost


class _Search:
    def __init__(self, negative: TailIntegral, positive: TailIntegral, signed: bool, config: QuantizerConfig) -> None:
        self._negative, self._positive = negative, positive
        symmetric = config.mode is QuantizationMode.SYMMETRIC
        lowest, highest = config.level_range(signed=signed or config.signedness_to_force is True)
        self._steps = highest - lowest
        # Levels below and above zero, where the scheme fixes them.
        self._fixed = (-lowest, highest) if symmetric else None
        largest = max(negative.largest, positive.largest)
        # Since zero is a level, an asymmetric range may have to reach a step further than the values.
        widest = largest / highest if symmetric else (negative.largest + positive.largest) / (self._steps - 1)
        # A little more than what the quantizer widens, so that rounding to float32 does not fall below it.
        least = (_LEAST_HIGH / highest if symmetric else _LEAST_WIDTH / self._steps) * (1 + 1e-6)
        self._least = max(least, float(np.finfo(np.float32).eps))
        self._widest = max(widest, self._least)

    def best(self) -> _Choice:
        """The quantizer with the least error."""
        if self._steps >= _MOST_LEVELS:
            return self._finest()
        best = self._best_of(np.maximum(self._widest * 2.0 ** -np.arange(6.0), self._least))
        evaluated = self._steps if self._fixed else 2 * self._steps
        grid = np.geomspace(*self._bounds(best.error), max(24, min(512, _GRID // evaluated)))
        errors, _ = self._evaluate(grid)
        # The best two that have no better neighbour.
        padded = np.concatenate([[np.inf], errors, [np.inf]])
        valleys = np.flatnonzero((errors <= padded[:-2]) & (errors <= padded[2:]))
        for valley in valleys[np.argsort(errors[valleys], kind="stable")[:2]]:
            low, high = grid[max(valley - 1, 0)], grid[min(valley + 1, grid.size - 1)]
            for _ in range(2):
                found = self._best_of(np.linspace(low, high, _FINER))
                best = min(best, found, key=lambda choice: choice.error)
                spacing = (high - low) / (_FINER - 1)
                low, high = max(found.step - spacing, low), min(found.step + spacing, high)
        return best

    def _evaluate(self, steps: Float64Array) -> tuple[Float64Array, npt.NDArray[np.intp]]:
        """The least error with each step, and its number of levels below zero."""
        if self._fixed is not None:
            below, above = self._fixed
            return self._negative.error(steps, below) + self._positive.error(steps, above), np.full(steps.size, below)
        errors = self._negative.errors(steps, self._steps) + self._positive.errors(steps, self._steps)[:, ::-1]
        least = errors.argmin(axis=1)
        return errors[np.arange(steps.size), least], least

    def _best_of(self, steps: Float64Array) -> _Choice:
        errors, below = self._evaluate(steps)
        best = int(errors.argmin())
        return _Choice(float(steps[best]), int(below[best]), self._steps - int(below[best]), float(errors[best]))

    def _bounds(self, error: float) -> tuple[float, float]:
        """Steps outside of which every quantizer has a larger error than `error`, which one inside has."""
        sides = self._negative, self._positive
        boundaries = [side.least_boundary(error) for side in sides]
        if self._fixed is not None:
            low = max(bound / (levels + 0.5) for bound, levels in zip(boundaries, self._fixed, strict=True))
        else:
            low = sum(boundaries) / (self._steps + 1)
        high = 2 * min(side.greatest_dead_zone(error) for side in sides)
        # The widest step is the last that is tried, whatever rounding does to the bounds.
        high = min(max(high, self._least), self._widest)
        return min(max(low, self._least), high), high

    def _finest(self) -> _Choice:
        """The quantizer with the least error by Bennett's formula."""
        shrink = np.concatenate([2.0 ** (-np.arange(_BORDERS) / 16), [0.0]])
        if self._fixed is not None:
            below, above = self._fixed
            steps = np.maximum(self._widest * shrink[:-1], self._least)
            errors = _bennett(self._negative, self._positive, steps * below, steps * above, self._steps)
            best = int(errors.argmin())
            return _Choice(float(steps[best]), below, above, float(errors[best]))
        low, high = self._negative.largest * shrink, self._positive.largest * shrink
        count = self._negative.count + self._positive.count
        step = (low[:, np.newaxis] + high) / self._steps
        errors = (
            np.square(step) / 12 * count + self._negative.clipping(low)[:, np.newaxis] + self._positive.clipping(high)
        )
        errors[step < self._least] = np.inf
        row, column = np.unravel_index(int(errors.argmin()), errors.shape)
        if not np.isfinite(errors[row, column]):
            return _Choice(self._least, 0, self._steps, np.inf)
        best_step = float(step[row, column])
        below = round(float(low[row]) / best_step)
        return _Choice(best_step, below, self._steps - below, float(errors[row, column]))
