"""The range with the least divergence: the sums against the published procedure, the search against all thresholds."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig, quantizer_from_range
from quantstats.statistics.entropy_search import BINS, divergences, least_divergence_range
from quantstats.statistics.mse_search import whole_range

from .distributions import CONFIGS, DEGENERATE, SMOOTH, draw, histogram_of, true_sqnr

SYMMETRIC, ASYMMETRIC = QuantizationMode.SYMMETRIC, QuantizationMode.ASYMMETRIC
Array = np.ndarray[Any, Any]


def divergence(counts: Array, start: int, end: int, cells: int) -> float:
    """What the procedure says, bin by bin."""
    reference = counts[start:end].copy()
    reference[0] += counts[:start].sum()
    reference[-1] += counts[end:].sum()
    candidate = np.zeros(end - start)
    for cell in range(cells):
        low, high = cell * (end - start) // cells, (cell + 1) * (end - start) // cells
        occupied = reference[low:high] > 0
        if occupied.any():
            candidate[low:high][occupied] = counts[start + low : start + high].sum() / occupied.sum()
    if candidate.sum() == 0 or np.any((reference > 0) & (candidate == 0)):
        return math.inf
    p, q = reference / reference.sum(), candidate / candidate.sum()
    return float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))


@pytest.mark.parametrize("seed", range(6))
def test_the_sums_are_the_divergence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(3 * np.exp(-(np.linspace(-2, 4, 96) ** 2))).astype(np.float64)
    counts[rng.integers(0, 96, 5)] = 0
    counts[[0, -1]] = rng.integers(0, 2, 2)  # Clipped bins that are empty, and ends that are.
    ranges = [(s, e) for s in range(0, 40, 3) for e in range(50, 97, 3)]
    start, end = np.array(ranges).T
    for cells in (2, 7, 10):
        found = divergences(counts, start, end, cells)
        expected = [divergence(counts, s, e, cells) for s, e in ranges]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert np.isfinite(found).any()


def test_clipped_values_alone_in_a_cell_have_no_divergence() -> None:
    counts = np.array([4.0, 4.0, 0.0, 0.0, 5.0])
    assert divergences(counts, np.array([0]), np.array([4]), 2) == math.inf
    assert np.isfinite(divergences(counts, np.array([0]), np.array([4]), 1))
    assert divergences(counts, np.array([2]), np.array([4]), 2) == math.inf  # Nothing is inside.


def fine_counts(x: Array) -> Array:
    magnitudes = np.abs(x[x != 0])
    return np.histogram(magnitudes, BINS, (0, magnitudes.max()))[0].astype(np.float64)


@pytest.mark.parametrize("num_bits", [4, 6, 8])
@pytest.mark.parametrize("kind", ["normal", "laplace", "log-normal", "relu"])
def test_the_search_finds_what_trying_every_threshold_finds(kind: str, num_bits: int) -> None:
    x = draw(kind)
    histogram, config = histogram_of(x), QuantizerConfig(num_bits)
    high = least_divergence_range(histogram, config)[1]
    largest = float(np.abs(x).max())
    cells = (1 << num_bits) if x.min() >= 0 else (1 << (num_bits - 1))
    magnitudes = histogram_of(np.abs(x[x != 0]))
    magnitudes.minimum = 0.0  # So that the bins begin at zero.
    counts = magnitudes.uniform(BINS)
    ends = np.arange(cells, BINS + 1)
    ends = ends[np.cumsum(counts)[ends - 1] >= 7 / 8 * counts.sum()]
    all_of_them = divergences(counts, np.zeros_like(ends), ends, cells)
    found = all_of_them[list(ends).index(round(high / largest * BINS))]
    # The divergence jumps by several per cent from one threshold to the next, as cells gain and lose a bin.
    assert found <= 1.08 * all_of_them.min()


@pytest.mark.parametrize("mode", [SYMMETRIC, ASYMMETRIC])
@pytest.mark.parametrize("size", [3, 30, 300])
def test_few_values_are_not_clipped_into_one_bin(size: int, mode: QuantizationMode) -> None:
    x = draw("normal", size)
    config = QuantizerConfig(8, mode)
    assert true_sqnr(x, quantizer_from_range(*least_divergence_range(histogram_of(x), config), config)) > 25


@pytest.mark.parametrize("mode", [SYMMETRIC, ASYMMETRIC])
@pytest.mark.parametrize("kind", ["student t, 2", "log-normal", "with outlier"])
def test_heavy_tails_are_clipped(kind: str, mode: QuantizationMode) -> None:
    histogram, config = histogram_of(draw(kind)), QuantizerConfig(8, mode)
    low, high = least_divergence_range(histogram, config)
    whole = whole_range(histogram, config)
    assert high - low < 0.7 * (whole[1] - whole[0])
    assert low <= 0 <= high or kind == "log-normal"


@pytest.mark.parametrize("config", [QuantizerConfig(8, mode) for mode in (SYMMETRIC, ASYMMETRIC)])
def test_an_even_distribution_is_kept_whole(config: QuantizerConfig) -> None:
    histogram = histogram_of(draw("uniform"))
    np.testing.assert_allclose(least_divergence_range(histogram, config), whole_range(histogram, config), rtol=0.02)


@pytest.mark.parametrize("num_bits", [6, 8])
@pytest.mark.parametrize("kind", ["normal", "laplace", "relu"])
def test_it_is_a_usable_range(kind: str, num_bits: int) -> None:
    x = draw(kind)
    for mode in (SYMMETRIC, ASYMMETRIC):
        config = QuantizerConfig(num_bits, mode)
        found = quantizer_from_range(*least_divergence_range(histogram_of(x), config), config)
        assert true_sqnr(x, found) > 6 * num_bits - 20


@pytest.mark.parametrize("kind", [*SMOOTH, *DEGENERATE])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.mode.value}-{c.num_bits}")
def test_ranges_lie_within_the_whole_one(kind: str, config: QuantizerConfig) -> None:
    histogram = histogram_of(draw(kind))
    low, high = least_divergence_range(histogram, config)
    whole = whole_range(histogram, config)
    slack = 1e-12 * max(abs(bound) for bound in whole)
    assert whole[0] - slack <= low <= high <= whole[1] + slack
    assert high > low or whole[0] == whole[1]
    if config.mode is SYMMETRIC:
        assert low == (-high if histogram.minimum < 0 else 0.0)
    if config.num_bits == 16:  # More levels than bins.
        assert (low, high) == whole


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sixteen_bit_floats_have_the_range_of_the_same_float32(dtype: Any) -> None:
    x = draw("laplace").astype(dtype)
    for config in CONFIGS:
        found = least_divergence_range(histogram_of(x), config)
        assert found == least_divergence_range(histogram_of(x.astype(np.float32)), config)
