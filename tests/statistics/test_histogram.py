"""The bit histogram and the search for the range with the least error."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantstats.range_estimator import RangeEstimatorParametersSet
from quantstats.statistics import BitHistogram, RangeEstimator
from quantstats.statistics.histogram_search import BINS, BoundaryIntegral, least_error_range, quantization_error

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def histogram_of(x: np.ndarray) -> BitHistogram:
    histogram = BitHistogram()
    histogram.add(x, float(x.min()), float(x.max()))
    return histogram


def quantized(x: np.ndarray, bottom: float, top: float, steps: int) -> np.ndarray:
    step = (top - bottom) / steps
    return np.clip(np.rint((x - bottom) / step), 0, steps) * step + bottom


def sqnr(x: np.ndarray, low: float, high: float, levels: int) -> float:
    noise = np.sum((x - quantized(x, low, high, levels - 1)) ** 2)
    return float(10 * np.log10(np.sum(x**2) / max(noise, 1e-12)))


@given(st.lists(finite, min_size=1, max_size=50))
def test_every_value_is_counted_once_in_the_bin_of_its_upper_half(items: list[float]) -> None:
    x = np.array(items, np.float32)
    histogram = histogram_of(x)
    assert histogram.total == x.size
    assert (histogram.minimum, histogram.maximum) == (x.min(), x.max())
    upper = x.view(np.uint32) >> 16
    keys = np.where(upper >= 0x8000, 0xFFFF - upper, upper + 0x8000)
    np.testing.assert_array_equal(np.repeat(np.arange(65_536), histogram.counts.astype(int)), np.sort(keys))


@given(st.lists(finite, min_size=2, max_size=50, unique=True), st.integers(1, 300))
def test_the_uniform_histogram_keeps_every_count(items: list[float], bins: int) -> None:
    x = np.array(items, np.float32)
    if x.min() == x.max():
        return
    uniform = histogram_of(x).uniform(bins)
    assert uniform.shape == (bins,)
    assert uniform.min() >= 0
    np.testing.assert_allclose(uniform.sum(), x.size, rtol=1e-9)


def test_the_uniform_histogram_follows_the_data() -> None:
    x = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    bins = 64  # Each wider than any bit bin here, so only the borders' counts are estimated.
    expected, _ = np.histogram(x, bins, (x.min(), x.max()))
    found = histogram_of(x).uniform(bins)
    np.testing.assert_allclose(found, expected, atol=0.003 * x.size)
    np.testing.assert_allclose(np.cumsum(found), np.cumsum(expected), atol=0.003 * x.size)


def test_a_value_repeated_at_a_border_stays_in_its_bin() -> None:
    x = np.array([-1.0] * 7 + [0.5] + [6.0] * 9, np.float32)
    uniform = histogram_of(x).uniform(70)
    assert (uniform[0], uniform[-1]) == (7, 9)


def test_zeros_can_be_left_out() -> None:
    x = np.array([0.0, -0.0, 0.0, 1.0, 2.0], np.float32)
    assert histogram_of(x).uniform(10).sum() == 5
    assert histogram_of(x).uniform(10, with_zeros=False).sum() == 2
    assert not histogram_of(np.zeros(4, np.float32)).uniform(10, with_zeros=False).any()


def test_float64_beyond_float32_is_counted_in_the_outermost_bin() -> None:
    histogram = histogram_of(np.array([1e300, -1e300, 1.0]))
    assert histogram.total == 3
    assert histogram.counts[0x8000 | 0x7F7F] == histogram.counts[0xFFFF ^ 0xFF7F] == 1
    assert histogram.maximum == 1e300


def test_copy_pickle_compare_merge() -> None:
    x = np.random.default_rng(0).normal(size=100).astype(np.float32)
    histogram = histogram_of(x)
    for twin in (copy.copy(histogram), copy.deepcopy(histogram), pickle.loads(pickle.dumps(histogram))):
        assert twin == histogram
        twin.merge(histogram)
        assert twin != histogram
        assert twin == histogram_of(np.concatenate([x, x]))
    assert histogram.total == 100


@pytest.mark.parametrize("levels", [4, 16, 256])
@pytest.mark.parametrize(("bottom", "top"), [(-3.0, 2.0), (-0.7, 0.4), (0.0, 5.0), (-9.0, 0.0)])
def test_the_closed_form_error_is_the_error(levels: int, bottom: float, top: float) -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 50, 200).astype(np.float64)
    low, high = -4.0, 5.0
    found = quantization_error(counts, low, high, np.array([bottom]), np.array([top]), levels - 1)
    # Each bin as many points, evenly spread.
    points = (np.arange(200)[:, None] + (np.arange(4000) + 0.5) / 4000) / 200 * (high - low) + low
    expected = np.sum(counts * np.mean((points - quantized(points, bottom, top, levels - 1)) ** 2, axis=1))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


@pytest.mark.parametrize("steps", [3, 15, 255])
@pytest.mark.parametrize("minimum", [-4.0, 0.0, 2.0, -7.0])
def test_the_error_by_levels_is_the_error_by_bins(steps: int, minimum: float) -> None:
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 50, 300) * rng.integers(0, 2, 300).astype(np.float64)
    maximum = minimum + 5.0
    integral = BoundaryIntegral(counts, minimum, maximum)
    edges = np.linspace(minimum, maximum, 301)
    start, end = np.array([(0, 300), (10, 290), (100, 180), (0, 40), (250, 300), (7, 8)]).T
    found = integral.errors(edges[start], edges[end], steps)
    expected = quantization_error(counts, minimum, maximum, edges[start], edges[end], steps)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=integral.rounding(steps))
    # What lies outside of a range is clipped, which is part of its error, and all of it for infinitely many levels.
    clipping = integral.clipping(start, end)
    assert np.all(clipping <= expected * (1 + 1e-9))
    fine = quantization_error(counts, minimum, maximum, edges[start], edges[end], 10_000)
    np.testing.assert_allclose(clipping[1:], fine[1:], rtol=1e-4)
    # A quantizer wider than the values.
    wide = np.array([minimum - 1.0]), np.array([maximum + 2.0])
    np.testing.assert_allclose(
        integral.errors(*wide, steps), quantization_error(counts, minimum, maximum, *wide, steps), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("distribution", "num_bits", "clip"),
    [
        ("normal", 4, 2.48),
        ("normal", 6, 3.28),
        ("normal", 8, 3.92),
        ("laplace", 4, 4.81),
        ("laplace", 6, 7.36),
        ("laplace", 8, 9.87),
    ],
)
def test_the_optimal_symmetric_clip_of_known_distributions(distribution: str, num_bits: int, clip: float) -> None:
    draw = getattr(np.random.default_rng(3), distribution)
    estimator = RangeEstimator(RangeEstimatorParametersSet.HISTOGRAM, symmetric=True)
    x = draw(size=1 << 20).astype(np.float32)
    estimator.update(x)
    high = float(estimator.range(num_bits=num_bits)[1])
    # The literature's levels are placed evenly between -clip and clip; ours reach one level further down.
    assert abs(high - clip) <= 0.05 * clip
    if num_bits == 8:
        found = sqnr(x.astype(np.float64), -high * 256 / 254, high, 256)
        assert abs(found - {"normal": 40.5, "laplace": 35.2}[distribution]) <= 0.5


def exhaustive(counts: np.ndarray, low: float, high: float, steps: int) -> float:
    """Least error of any range whose borders are bin edges, with zero inside."""
    bins = counts.size
    edges = np.linspace(low, high, bins + 1)
    pairs = [(a, b) for a in edges[edges <= 1e-12] for b in edges[edges >= -1e-12] if a < b]
    bottom, top = np.array(pairs).T
    return float(quantization_error(counts, low, high, bottom, top, steps).min())


@pytest.mark.parametrize("seed", range(8))
def test_the_search_finds_what_trying_every_range_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(rng.uniform(-2, 2), 1, 5_000), rng.laplace(size=3_000) * rng.uniform(0.2, 3)])
    low, high = -6.0, 10.0  # Zero is an edge.
    counts = np.histogram(np.clip(x, low, high), 128, (low, high))[0].astype(np.float64)
    a, b = least_error_range(counts, low, high, num_bits=4, symmetric=False)
    found = quantization_error(counts, low, high, np.array([a]), np.array([b]), 15)[0]
    assert found <= 1.001 * exhaustive(counts, low, high, 15)


@pytest.mark.parametrize("num_bits", [4, 6, 8])
@pytest.mark.parametrize("kind", ["normal", "laplace", "relu", "uniform", "two values", "shifted"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_never_worse_than_the_whole_range_on_the_data_it_saw(kind: str, num_bits: int, symmetric: bool) -> None:
    rng = np.random.default_rng(4)
    x = {
        "normal": lambda: rng.normal(size=50_000),
        "laplace": lambda: rng.laplace(size=50_000),
        "relu": lambda: np.maximum(rng.normal(size=50_000), 0),
        "uniform": lambda: rng.uniform(-1, 1, 50_000),
        "two values": lambda: rng.choice([-1.0, 3.0], 50_000),
        "shifted": lambda: rng.normal(5, 1, 50_000),
    }[kind]().astype(np.float32)
    estimator = RangeEstimator(RangeEstimatorParametersSet.HISTOGRAM, symmetric=symmetric)
    estimator.update(x)
    low, high = (float(bound) for bound in estimator.range(num_bits=num_bits))
    levels = 1 << num_bits
    wide = x.astype(np.float64)
    if symmetric:
        whole, stretch = float(np.abs(x).max()), levels / (levels - 2)
        borders = (-high * stretch, high), (-whole * stretch, whole)
        if x.min() >= 0:
            borders = (0.0, high), (0.0, whole)
    else:
        borders = (min(low, 0.0), max(high, 0.0)), (min(float(x.min()), 0.0), max(float(x.max()), 0.0))
    # Within 2,048 bins values are taken as evenly spread, which 0.05 dB allows for.
    assert sqnr(wide, *borders[0], levels) >= sqnr(wide, *borders[1], levels) - 0.05


@pytest.mark.parametrize("symmetric", [False, True])
def test_constants_and_zeros(symmetric: bool) -> None:
    for value in (0.0, 3.0, -2.0):
        estimator = RangeEstimator(RangeEstimatorParametersSet.HISTOGRAM, symmetric=symmetric)
        estimator.update(np.full(10, value, np.float32))
        low, high = estimator.range()
        assert np.isfinite([low, high]).all()
        assert high == (abs(value) if symmetric else value)
        assert low == (min(value, -abs(value)) if symmetric and value < 0 else low)


def test_no_counts_give_the_whole_range() -> None:
    assert least_error_range(np.zeros(BINS), -1.0, 2.0, num_bits=8, symmetric=False) == (-1.0, 2.0)
