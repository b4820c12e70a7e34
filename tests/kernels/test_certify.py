"""Worst pairs of weights against their definition in NumPy, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantstats import _core
from quantstats._core import Target

Array = npt.NDArray[Any]
LIMITS = [(128, 128), (129, 129), (163, 163), (254, 254), (255, 256), (32767, 32768)]


def pairs_of(length: int, any_pairs: bool) -> tuple[Array, Array]:
    """Positions of both weights of every pair; the zero that fills up an odd length comes after the last."""
    if any_pairs:
        first, second = np.triu_indices(length, 1)
        # A row of one weight has no pair of two, but the weight alone.
        return (first, second) if length > 1 else (np.array([0]), np.array([1]))
    first = np.arange(0, length, 2)
    return first, first + 1


def check(target: Target, rows: Array, any_pairs: bool, limits: tuple[int, int] = (128, 128)) -> None:
    first, second = pairs_of(rows.shape[1], any_pairs)
    padded = np.pad(rows.astype(np.int64), ((0, 0), (0, 1)))
    a, b = padded[:, first], padded[:, second]
    sums = [np.maximum(sign * a, 0) + np.maximum(sign * b, 0) for sign in (1, -1)]
    risky = (sums[0] > limits[0]) | (sums[1] > limits[1])
    for layout in (np.ascontiguousarray(rows), np.asfortranarray(rows)):
        positive, negative, positions, counts = target.certify_pairs(layout, *limits, any_pairs, True)
        np.testing.assert_array_equal(positive, sums[0].max(axis=1))
        np.testing.assert_array_equal(negative, sums[1].max(axis=1))
        np.testing.assert_array_equal(counts, np.count_nonzero(risky, axis=1) if rows.shape[1] > 1 else 0)
        check_positions(rows, positive, negative, positions, any_pairs, limits)
        uncounted = target.certify_pairs(layout, *limits, any_pairs, False)
        assert uncounted[3] is None
        for got, wanted in zip(uncounted[:3], (positive, negative, positions), strict=True):
            np.testing.assert_array_equal(got, wanted)


def check_positions(
    rows: Array, positive: Array, negative: Array, positions: Array, any_pairs: bool, limits: tuple[int, int]
) -> None:
    """The positions name a pair that exists and reaches the sum of the sign that is further beyond its limit."""
    below = negative - limits[1] > positive - limits[0]
    for row, sign, sum_, (i, j) in zip(
        rows.astype(int), np.where(below, -1, 1), np.where(below, negative, positive), positions, strict=True
    ):
        if sum_ == 0:
            assert (i, j) == (-1, -1)
            continue
        assert 0 <= i < len(row)
        assert i != j
        assert -1 <= j < len(row)
        assert max(sign * row[i], 0) + (max(sign * row[j], 0) if j >= 0 else 0) == sum_
        if not any_pairs:
            assert i % 2 == 0
            assert j == (i + 1 if i + 1 < len(row) else -1)


def random_rows(rows: int, length: int, seed: int = 0) -> Array:
    """Levels of a bell shape, with extremes."""
    rng = np.random.default_rng(seed)
    levels = np.clip(np.rint(rng.normal(scale=40, size=(rows, length))), -128, 127).astype(np.int8)
    levels[rng.random(levels.shape) < 0.02] = -128
    return levels


@pytest.mark.parametrize("any_pairs", [False, True])
@pytest.mark.parametrize("limits", LIMITS)
def test_every_pair_of_weights(target: Target, any_pairs: bool, limits: tuple[int, int]) -> None:
    """All 65,536 pairs, each a row of two."""
    weights = np.arange(-128, 128, dtype=np.int8)
    check(target, np.stack([np.repeat(weights, 256), np.tile(weights, 256)], axis=1), any_pairs, limits)


@pytest.mark.parametrize("any_pairs", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200])
@pytest.mark.parametrize("rows", [1, 65])
def test_sizes(target: Target, any_pairs: bool, length: int, rows: int) -> None:
    check(target, random_rows(rows, length, length), any_pairs)


@pytest.mark.parametrize("any_pairs", [False, True])
@pytest.mark.parametrize("rows", [1023, 1024, 1025, 1100, 2049])
def test_panels_of_rows(target: Target, any_pairs: bool, rows: int) -> None:
    check(target, random_rows(rows, 6, rows), any_pairs)


@pytest.mark.parametrize("any_pairs", [False, True])
@pytest.mark.parametrize("level", [0, 1, 127, -1, -127, -128])
def test_ties(target: Target, any_pairs: bool, level: int) -> None:
    check(target, np.full((3, 70), level, np.int8), any_pairs)


@pytest.mark.parametrize("limits", LIMITS)
def test_the_greatest_sum_does_not_fit_a_byte(target: Target, limits: tuple[int, int]) -> None:
    """-128 twice is 256; -128 and -127 before it is 255, and beyond it nothing tells them apart in a byte."""
    rows = np.zeros((4, 80), np.int8)
    rows[0, 4:6], rows[0, 70:72] = (-128, -127), (-128, -128)
    rows[1, 4:6] = -128, -127
    rows[2, 78:80] = -128
    rows[3, :2], rows[3, 2:4] = 127, (-128, -128)
    check(target, rows, False, limits)
    check(target, rows, True, limits)


def test_few_rows_of_many_weights(target: Target) -> None:
    rows = random_rows(2, 5001)
    positive, negative, _, counts = target.certify_pairs(rows, 128, 128, True, True)
    for row, most, least, count in zip(rows.astype(np.int64), positive, negative, counts, strict=True):
        assert most == np.sort(np.maximum(row, 0))[-2:].sum()
        assert least == np.sort(np.maximum(-row, 0))[-2:].sum()
        expected = 0
        for magnitudes in (np.maximum(row, 0), np.maximum(-row, 0)):
            histogram = np.bincount(magnitudes, minlength=129)
            sums = np.add.outer(np.arange(129), np.arange(129)) > 128
            sums[0, :] = sums[:, 0] = False
            ordered = int((np.outer(histogram, histogram) * sums).sum()) - int(histogram[65:].sum())
            expected += ordered // 2
        assert count == expected


def test_many_rows_on_many_threads(target: Target) -> None:
    rows = random_rows(3000, 700)
    first = np.maximum(rows[:, ::2].astype(int), 0) + np.maximum(rows[:, 1::2].astype(int), 0)
    for layout in (rows, np.asfortranarray(rows)):
        positive, *_ = target.certify_pairs(layout, 128, 128, False, True)
        np.testing.assert_array_equal(positive, first.max(axis=1))


@given(
    rows=st.integers(1, 40),
    length=st.integers(1, 90),
    seed=st.integers(0, 1000),
    any_pairs=st.booleans(),
    limits=st.sampled_from(LIMITS),
)
@settings(deadline=None, max_examples=60)
def test_laws(rows: int, length: int, seed: int, any_pairs: bool, limits: tuple[int, int]) -> None:
    for target in _core._targets.values():
        check(target, random_rows(rows, length, seed), any_pairs, limits)


@pytest.mark.parametrize(
    ("rows", "limits", "message"),
    [
        (np.zeros((3, 0), np.int8), (128, 128), r"rows has shape \(3, 0\)"),
        (np.zeros(3, np.int8), (128, 128), r"rows has shape \(3,\); pass a matrix"),
        (np.zeros((9, 9), np.int8)[::2, ::2], (128, 128), "contiguous along one axis"),
        (np.zeros((2, 2), np.int8), (127, 128), "the limits are 127 and 128"),
        (np.zeros((2, 2), np.int8), (255, 255), "the limits are 255 and 255"),
    ],
)
def test_errors(target: Target, rows: Array, limits: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        target.certify_pairs(rows, *limits, False, True)
