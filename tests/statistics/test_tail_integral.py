"""The integral of the tail of a distribution, and the errors of quantizers that follow from it."""

from __future__ import annotations

import numpy as np
import pytest

from quantstats.statistics.predicted_error import squared_error
from quantstats.statistics.tail_integral import TailIntegral

from .distributions import DEGENERATE, SMOOTH, draw, histogram_of


def sides(kind: str) -> tuple[TailIntegral, TailIntegral]:
    histogram = histogram_of(draw(kind))
    return TailIntegral(histogram, negative=True), TailIntegral(histogram, negative=False)


@pytest.mark.parametrize("kind", SMOOTH)
def test_tails_are_those_of_the_values(kind: str) -> None:
    x = draw(kind).astype(np.float64)
    largest = np.abs(x).max()
    boundaries = largest * np.array([0, 1e-6, 0.01, 0.1, 0.35, 0.7, 0.999, 1.0, 1.5])
    for tail, magnitudes in zip(sides(kind), (-x[x < 0], x[x > 0]), strict=True):
        total, column = magnitudes.size, magnitudes[:, np.newaxis]
        # A value is known to 1/128.
        least, most = (np.maximum(column * (1 + sign / 128) - boundaries, 0) for sign in (-1, 1))
        for found, power in ((tail(boundaries), 1), (tail.clipping(boundaries), 2)):
            assert np.all(found >= (least**power).sum(axis=0) * (1 - 1e-9))
            assert np.all(found <= (most**power).sum(axis=0) * (1 + 1e-9))
        above = tail.above(boundaries)
        assert np.all(above <= np.sum(column > boundaries * 127 / 128, axis=0) + 1e-6)
        assert np.all(above >= np.sum(column > boundaries * 129 / 128, axis=0) - 1e-6)
        assert tail.count == total
        assert tail.largest == pytest.approx(magnitudes.max(initial=0))


@pytest.mark.parametrize("kind", [*SMOOTH, *DEGENERATE])
@pytest.mark.parametrize("levels", [(1, 2), (0, 15), (8, 7), (0, 255), (128, 127), (255, 0)])
def test_errors_by_levels_are_those_by_bins(kind: str, levels: tuple[int, int]) -> None:
    x = draw(kind)
    low, high, counts = histogram_of(x).spread()
    negative, positive = sides(kind)
    step = max(float(np.abs(x).max()), 1e-38) / max(levels) * np.array([1.3, 1.0, 0.77, 0.3, 0.01])
    below, above = levels
    expected = squared_error(low, high, counts, step, -below, above)
    found = negative.error(step, below) + positive.error(step, above)
    # What is subtracted from the sum of squares leaves its rounding.
    tolerance = 1e-13 * (negative.power + positive.power)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=tolerance)
    whole = negative.errors(step, below)[:, below] + positive.errors(step, above)[:, above]
    np.testing.assert_allclose(whole, found, rtol=1e-12, atol=tolerance)
    np.testing.assert_allclose(
        positive.errors(step, above)[:, above // 2], positive.error(step, above // 2), rtol=1e-12, atol=tolerance
    )


@pytest.mark.parametrize("kind", SMOOTH)
def test_the_bounds_are_where_clipping_and_a_dead_zone_cost_as_much(kind: str) -> None:
    for tail in sides(kind):
        for error in tail.power * np.array([1e-6, 1e-3, 0.1, 0.9]):
            low, high = tail.least_boundary(error), tail.greatest_dead_zone(error)
            if low > 0:
                assert tail.clipping(np.array([low]))[0] > error
                assert tail.clipping(np.array([low * (1 + 1 / 64)]))[0] <= error
            if np.isfinite(high):
                # All values below `high` round to zero with this step.
                assert tail.error(np.array([2 * high]), 1000)[0] >= error * (1 - 1e-9)
        assert tail.least_boundary(tail.power) == 0.0
        assert tail.greatest_dead_zone(tail.power * 2) == np.inf


def test_no_values_of_a_sign() -> None:
    negative, _ = sides("relu")
    assert (negative.count, negative.power, negative.largest) == (0, 0, 0)
    np.testing.assert_array_equal(negative(np.array([0.0, 1.0])), 0)
    np.testing.assert_array_equal(negative.errors(np.array([0.1]), 3), np.zeros((1, 4)))
