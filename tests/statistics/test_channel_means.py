"""Means of channels: the mean over samples, its freedom of order, what is refused, what it costs."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantstats import kernels
from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.channel_means import ChannelMeans


def collect(samples: list[Any], ids: Any = None, *, axis: int = 1, **options: Any) -> CalibrationStatistics:
    """Means of ``x``, which is not among the tensors with a range, and of ``y``, which is."""
    statistics = CalibrationStatistics({"y": None}, model_hash="m", channel_means={"x": axis, "y": 0}, **options)
    for sample_id, x in zip(range(len(samples)) if ids is None else ids, samples, strict=True):
        statistics.update(str(sample_id), {"x": x, "y": np.asarray(x).ravel()[:4]})
    return statistics


def samples_of(*batches: int, seed: int = 0, dtype: Any = np.float32) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(0.3, 2, (batch, 3, 5)).astype(dtype) for batch in batches]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_the_mean_of_means(axis: int, dtype: Any) -> None:
    samples = samples_of(2, 2, 2, dtype=dtype)
    others = tuple(index for index in range(3) if index != axis % 3)
    found = collect(samples, axis=axis).channel_mean("x")
    assert found.dtype == np.float32
    of_samples = np.stack([x.astype(np.float64).mean(others).astype(np.float32) for x in samples])
    np.testing.assert_array_equal(found, of_samples.mean(0, dtype=np.float64).astype(np.float32))


def test_samples_weigh_alike_and_items_of_batches_do_where_they_are_samples() -> None:
    samples = samples_of(1, 3)
    whole = np.mean([x.mean((0, 2), dtype=np.float64) for x in samples], 0)
    items = np.concatenate(samples).mean((0, 2), dtype=np.float64)
    assert not np.allclose(whole, items)
    np.testing.assert_allclose(collect(samples).channel_mean("x"), whole, rtol=1e-6)
    batchwise = collect(samples, batchwise=True)
    np.testing.assert_allclose(batchwise.channel_mean("x"), items, rtol=1e-6)
    # Along axis 0 there are no items.
    assert collect(samples[:1], axis=0, batchwise=True).channel_mean("x") == np.float32(samples[0].mean(dtype=float))


def test_a_vector_is_its_own_mean() -> None:
    x = np.array([1.5, -2.0, 0.25], np.float32)
    np.testing.assert_array_equal(collect([x, x], axis=0).channel_mean("x"), x)


values = st.sampled_from([0.0, -0.0, 1e8, -1e8, 0.1, 3e38, -3e38, 2.0**-149])


@given(terms=st.lists(values, min_size=2, max_size=8), data=st.data())
def test_any_split_and_any_order_give_the_same_bits_and_an_exact_mean(terms: list[float], data: st.DataObject) -> None:
    samples = [np.array([[term, 1.0]], np.float32) for term in terms]
    order = data.draw(st.permutations(range(len(terms))))
    cut = data.draw(st.integers(0, len(terms)))
    merged = collect([samples[i] for i in order[:cut]], order[:cut])
    merged.merge(collect([samples[i] for i in order[cut:]], order[cut:]))
    whole = collect(samples)
    assert merged == whole
    assert merged.channel_mean("x").tobytes() == whole.channel_mean("x").tobytes()
    exact = sum((Fraction(float(x[0, 0])) for x in samples), Fraction(0)) / len(samples)
    # A sum that cancels from 3e38 to 2^-149 is compensated, not exact: the last bit may differ.
    allowed = max(abs(exact) * Fraction(2) ** -23, Fraction(2) ** -149)
    assert abs(Fraction(float(whole.channel_mean("x")[0])) - exact) <= allowed


def test_means_are_part_of_the_file(tmp_path: Path) -> None:
    whole = collect(samples_of(2, 1, 3), "abc", batchwise=True)
    whole.save(tmp_path / "s")
    loaded = CalibrationStatistics.load(tmp_path / "s")
    assert loaded == whole
    assert loaded.channel_means == {"x": 1, "y": 0}
    for name in "xy":
        assert loaded.channel_mean(name).tobytes() == whole.channel_mean(name).tobytes()
    other = collect(samples_of(2, 1, 3, seed=1), "abc", batchwise=True)
    assert other != whole


def test_skipping_keeps_the_means_of_the_larger_side() -> None:
    samples = samples_of(1, 1, 1)
    part = collect(samples[1:], [1, 2])
    part.merge(collect(samples), duplicates="skip")
    assert part == collect(samples)
    changed = collect([samples[0], samples[1] + 1], [0, 1])
    changed._tensors = collect(samples[:2])._tensors
    with pytest.raises(DataError, match="have different values in tensor 'x'"):
        changed.merge(collect(samples), duplicates="skip")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.nan, "tensor 'x' in sample '1': 1 NaN, 0 \\+Inf and 0 -Inf among 15 values, in channel 2 of axis 1"),
        (np.inf, "tensor 'x' in sample '1': 0 NaN, 1 \\+Inf and 0 -Inf among 15 values, in channel 2 of axis 1"),
    ],
)
def test_a_sample_that_is_not_finite_changes_nothing(bad: float, message: str) -> None:
    statistics, sample = collect(samples_of(1)), samples_of(1)[0]
    sample[0, 2, 3] = bad
    with pytest.raises(NonFiniteError, match=message):
        statistics.update("1", {"x": sample, "y": np.ones(4, np.float32)})
    assert statistics == collect(samples_of(1))


def test_a_mean_beyond_float32_is_refused() -> None:
    with pytest.raises(NonFiniteError, match=r"the mean of a channel .* is beyond float32"):
        ChannelMeans(0).reduce(np.full((2, 3), 1e300))
    assert ChannelMeans(0).reduce(np.full((2, 3), 3e38))[0, 0, 0] == np.float32(3e38)


def test_what_does_not_fit_is_refused() -> None:
    statistics, y = collect(samples_of(1)), np.ones(4, np.float32)
    for sample, message in (
        (np.ones((1, 4, 5), np.float32), "tensor 'x' in sample '1': a sample has 4 channels along axis 1, .* had 3"),
        (np.ones(3, np.float32), r"a sample of shape \(3,\) has no axis 1"),
        (np.ones((1, 3), np.int64), "not of int64"),
    ):
        with pytest.raises(DataError, match=message):
            statistics.update("1", {"x": sample, "y": y})
    with pytest.raises(DataError, match="sample '1' has no values of tensor 'x'"):
        statistics.update("1", {"y": y})
    assert statistics == collect(samples_of(1))


def test_statistics_with_other_means_are_refused_with_the_difference() -> None:
    mine = collect(samples_of(1))
    none = CalibrationStatistics({"y": None}, model_hash="m")
    for other, message in (
        (none, "the means of the channels of tensor 'x' are on one side only"),
        (collect(samples_of(1), [1], axis=-2), "tensor 'x': channel axis of the means: 1 and -2"),
        (collect([np.ones((1, 2, 5), np.float32)], [1]), "tensor 'x': 3 and 2 channels"),
    ):
        with pytest.raises(DataError, match=message):
            mine.merge(other)
        assert mine == collect(samples_of(1))


def test_means_that_are_not_there() -> None:
    with pytest.raises(ParameterError, match="tensor 'z' were not collected; there are those of 'x', 'y'"):
        collect([]).channel_mean("z")
    with pytest.raises(ParameterError, match="'y' were not collected; there are none"):
        CalibrationStatistics({"y": None}).channel_mean("y")
    for samples in ([], [np.zeros((0, 3, 5), np.float32)] * 2):
        with pytest.raises(DataError, match="tensor 'x': a mean needs at least one sample"):
            collect(samples).channel_mean("x")


def test_a_sample_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(kernels, "mean", lambda x, axes, **options: calls.append(axes) or x.mean(axes))
    means = ChannelMeans(1, batchwise=True)
    means.add(means.reduce(np.ones((2, 3, 4, 5), np.float32)))
    assert calls == [(2, 3)]
    assert means.table.nbytes == math.prod((2, 3)) * 4
    assert repr(means) == "<ChannelMeans of 1 samples along axis 1>"
