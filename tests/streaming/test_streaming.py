"""Statistics of values that come one at a time: exact, in any order, merged, copied and pickled."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantstats import kernels
from quantstats.streaming import RunningHistogram, RunningMean, RunningRange

CLASSES = [RunningHistogram, RunningMean, RunningRange]
FINITE = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40)
EXTREMES = [0.0, -0.0, 5e-324, -5e-324, 1.7e308, -1.7e308, 3.5e38, -3.5e38, 1e-45, 1e-46, -2e-39, 1.0, -1.0]


def taken(kind: Any, values: Iterable[float]) -> Any:
    running = kind()
    for value in values:
        running.update(value)
    return running


@given(FINITE)
def test_mean_is_the_exact_one_rounded_once(values: list[float]) -> None:
    assert taken(RunningMean, values).mean == float(sum(map(Fraction, values)) / len(values))


def test_mean_of_what_cancels() -> None:
    assert taken(RunningMean, [1e308, 1.0, -1e308, 1e308, -1e308, 2.0]).mean == 0.5
    assert taken(RunningMean, EXTREMES * 7).mean == float(sum(map(Fraction, EXTREMES)) / len(EXTREMES))
    assert taken(RunningMean, [1.7e308] * 40).mean == 1.7e308


@given(FINITE)
def test_range(values: list[float]) -> None:
    running = taken(RunningRange, values)
    assert (running.minimum, running.maximum) == (min(values), max(values))
    for bound in (running.minimum, running.maximum):
        assert bound != 0 or math.copysign(1, bound) == 1


@given(FINITE)
def test_histogram_counts_as_the_kernel(values: list[float]) -> None:
    expected = np.zeros(65536, np.uint64)
    x = np.array(values + EXTREMES)
    kernels.bit_histogram(x, expected)
    running = taken(RunningHistogram, values + EXTREMES)
    np.testing.assert_array_equal(running.counts, expected)
    assert (running.minimum, running.maximum) == (x.min(), x.max())


def test_quantile_bounds() -> None:
    x = np.random.default_rng(2).standard_normal(3000).astype(np.float32)
    running = taken(RunningHistogram, x.tolist())
    for q in (0.0, 0.001, 0.4, 0.9, 1.0):
        low, high = running.quantile_bounds(q)
        assert low <= kernels.quantile(x, q) <= high
        low, high = running.quantile_bounds(q, magnitudes=True)
        assert low <= kernels.abs_quantile(x, q) <= high <= low * (1 + 1 / 32)
    with pytest.raises(ValueError, match=r"probability is 1\.5; pass a number between 0 and 1"):
        running.quantile_bounds(1.5)
    running.update(math.inf)
    with pytest.raises(ValueError, match=r"from .* to inf> has no quantiles"):
        running.quantile_bounds(0.5)


@pytest.mark.parametrize("kind", CLASSES)
@given(values=FINITE, cut=st.integers(0, 40), seed=st.integers(0, 99))
def test_order_and_merging_change_nothing(kind: Any, values: list[float], cut: int, seed: int) -> None:
    whole = taken(kind, values)
    shuffled = np.random.default_rng(seed).permutation(values).tolist()
    merged = taken(kind, shuffled[:cut])
    rest = taken(kind, shuffled[cut:])
    before = copy.copy(rest)
    merged.merge(rest)
    assert merged == whole
    assert rest == before


@pytest.mark.parametrize("kind", CLASSES)
def test_copies_are_equal_and_independent(kind: Any) -> None:
    running = taken(kind, [0.5, -3.25, math.nan, math.inf, 1e300])
    for twin in (copy.copy(running), copy.deepcopy(running), pickle.loads(pickle.dumps(running))):
        assert twin == running
        assert (twin.count, twin.nan_count) == (4, 1)
        assert repr(twin) == repr(running)
        twin.update(-7.0)
        assert twin != running
    assert running != object()
    with pytest.raises(TypeError, match="unhashable"):
        hash(running)


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_no_number_is_refused(kind: Any) -> None:
    running = kind()
    with pytest.raises(TypeError):
        running.update("1")
    with pytest.raises(TypeError):
        running.merge(3)
    with pytest.raises(TypeError):
        running.merge(None)
    assert (running.count, running.nan_count) == (0, 0)


def test_no_values() -> None:
    for value in (RunningRange().minimum, RunningRange().maximum, RunningMean().mean, RunningHistogram().maximum):
        assert math.isnan(value)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([1.0, math.inf], math.inf),
        ([-math.inf, 1.0], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan], math.nan),
    ],
)
def test_mean_of_infinities(values: list[float], mean: float) -> None:
    np.testing.assert_equal(taken(RunningMean, values).mean, mean)
