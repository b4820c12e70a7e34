from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import quantstats as qs
from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.statistics import CalibrationStatistics
from quantstats.statistics.inspection import TensorInspection, inspect_statistics, inspect_tensor
from quantstats.statistics.what_if import what_if

Presets = qs.RangeEstimatorParametersSet
BY_SAMPLE = ("MINMAX", "MEAN_MINMAX", "MEDIAN_MINMAX", "MEAN_NO_OUTLIERS_MINMAX", "MEAN_QUANTILE")
OF_ALL_VALUES = ("HISTOGRAM", "MSE", "ENTROPY", "PERCENTILE", "AUTO")


def collected(samples: Mapping[str, np.ndarray], *, batchwise: bool = False) -> CalibrationStatistics:
    statistics = CalibrationStatistics({"x": None}, batchwise=batchwise)
    for sample_id, values in samples.items():
        statistics.update(sample_id, {"x": values})
    return statistics


def of_maxima(maxima: Sequence[float]) -> CalibrationStatistics:
    """Samples with values from 0 up to the given maxima."""
    return collected({str(index): np.linspace(0, high, 5, dtype=np.float32) for index, high in enumerate(maxima)})


@pytest.fixture(scope="module")
def samples() -> dict[str, np.ndarray]:
    """Batches of one to three items, whose spread differs from one to the next."""
    rng = np.random.default_rng(3)
    return {
        str(index): (rng.normal(size=(1 + index % 3, 40)) * rng.lognormal()).astype(np.float32) for index in range(23)
    }


@pytest.mark.parametrize("batchwise", [False, True])
@pytest.mark.parametrize("preset", BY_SAMPLE)
def test_ranges_of_some_samples_are_those_of_statistics_of_these(
    preset: str, batchwise: bool, samples: dict[str, np.ndarray]
) -> None:
    params = getattr(Presets, preset)
    found = inspect_tensor(collected(samples, batchwise=batchwise), "x", params, replicates=10)

    def bounds(ids: Sequence[str]) -> tuple[float, ...]:
        part = collected({sample_id: samples[sample_id] for sample_id in ids}, batchwise=batchwise)
        return tuple(float(bound.item()) for bound in part.range("x", params))

    assert [point.samples for point in found.growth] == [1, 2, 5, 11, 23]
    for point in found.growth:
        assert (point.low, point.high) == bounds([str(index) for index in range(point.samples)])
    assert (found.low.value, found.high.value) == bounds(list(samples))
    without = {sample: bounds([other for other in samples if other != sample]) for sample in samples}
    for place, bound in enumerate((found.low, found.high)):
        moves = {sample: abs(rest[place] - bound.value) for sample, rest in without.items()}
        assert bound.sample_id is not None
        assert moves[bound.sample_id] == max(moves.values())
        assert bound.without == without[bound.sample_id][place]


def test_intervals_are_those_of_a_percentile_bootstrap(samples: dict[str, np.ndarray]) -> None:
    maxima = np.array([values.max() for values in samples.values()])
    draws = np.random.default_rng(7).integers(len(maxima), size=(len(maxima), 400))
    found = inspect_tensor(collected(samples), "x", confidence=0.8, replicates=400, seed=7)
    np.testing.assert_allclose(found.high.interval, np.quantile(maxima[draws].mean(axis=0), [0.1, 0.9]), rtol=1e-6)
    least, greatest = inspect_tensor(collected(samples), "x", Presets.MINMAX).high.interval
    assert least < greatest == maxima.max()


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation() -> None:
    maxima = np.random.default_rng(1).normal(10, 1, size=400)
    low, high = inspect_tensor(of_maxima(maxima.tolist()), "x", confidence=0.95, replicates=4000).high.interval
    assert (high - low) / 2 == pytest.approx(1.96 * maxima.std() / 20, rel=0.06)
    assert (high + low) / 2 == pytest.approx(maxima.mean(), abs=0.01)


def test_neither_the_order_of_samples_nor_a_file_changes_the_result(
    samples: dict[str, np.ndarray], tmp_path: Path
) -> None:
    statistics = collected(samples, batchwise=True)
    expected = inspect_statistics(statistics)
    assert inspect_statistics(collected(dict(reversed(samples.items())), batchwise=True)) == expected
    statistics.save(tmp_path / "s")
    assert inspect_statistics(CalibrationStatistics.load(tmp_path / "s")) == expected
    assert inspect_statistics(statistics, seed=1) != expected


def test_numbers_in_ids_count_as_numbers() -> None:
    growth = inspect_tensor(of_maxima(range(1, 13)), "x", Presets.MINMAX).growth
    assert [(point.samples, point.high) for point in growth] == [(1, 1.0), (3, 3.0), (6, 6.0), (12, 12.0)]


def test_empty_samples_do_not_count() -> None:
    statistics = collected({"a": np.zeros((0, 3), np.float32), "b": np.ones((2, 3), np.float32)})
    found = inspect_tensor(statistics, "x")
    assert (found.samples, found.high.value, found.deciding_sample) == (1, 1.0, None)
    assert found.hints == ("there is a single sample",)


def test_values_that_are_not_finite_are_counted_and_named() -> None:
    statistics = CalibrationStatistics({"x": None, "lost": None}, non_finite="ignore")
    nothing = np.array([math.nan, math.inf], np.float32)
    statistics.update("0", {"x": nothing, "lost": nothing})
    statistics.update("1", {"x": np.array([1, -math.inf], np.float32), "lost": nothing})
    (found,) = inspect_statistics(statistics)
    assert (found.tensor, found.samples, found.non_finite) == ("x", 1, (1, 1, 1))
    assert found.hints == ("there is a single sample with finite values, beside 1 NaN, 1 +Inf and 1 -Inf",)
    with pytest.raises(NonFiniteError, match=r"^tensor 'lost': a range needs .*, for 2 NaN, 2 \+Inf and 0 -Inf were"):
        inspect_tensor(statistics, "lost")
    lost = CalibrationStatistics({"lost": None}, non_finite="ignore")
    lost.update("0", {"lost": nothing})
    for refused in (inspect_statistics, lambda of: what_if(of, {"minmax": Presets.MINMAX})):
        with pytest.raises(
            NonFiniteError, match=r"^tensor 'lost': a range needs .* for 1 NaN, 1 \+Inf and 0 -Inf were"
        ):
            refused(lost)


def test_of_many_samples_the_extreme_ones_are_left_out() -> None:
    maxima = np.random.default_rng(2).normal(10, 1, size=700)
    maxima[[333, 444]] = 40, -10
    found = inspect_tensor(of_maxima(maxima.tolist()), "x")
    assert found.high.sample_id == "333"
    assert found.low.sample_id == "444"


@pytest.mark.parametrize(
    ("maxima", "preset", "shares", "hint"),
    [
        # One sample far beyond the others: without it the range is half as wide.
        ([10.0] * 19 + [20.0] + [10.0] * 21, "MINMAX", (0.5, 0.5, 0.0), "sample 19 alone moves the range by 50 %"),
        # The largest one is there twice: neither alone sets the range.
        ([10.0, 20.0] + [10.0] * 20 + [20.0], "MINMAX", (0.5, 0.0, 0.0), "other samples would move the range by up to"),
        # Only the second half has the largest, but there it is so frequent that every draw has it.
        ([10.0] * 21 + [12.0] * 20, "MINMAX", (0.0, 0.0, 1 / 6), "the second half of the samples moved the range"),
        ([10.0] * 40, "MEAN_MINMAX", (0.0, 0.0, 0.0), None),
    ],
)
def test_hints(maxima: list[float], preset: str, shares: tuple[float, ...], hint: str | None) -> None:
    found = inspect_tensor(of_maxima(maxima), "x", getattr(Presets, preset))
    assert found.width == max(maxima)
    assert (found.interval_share, found.sample_share, found.growth_share) == pytest.approx(shares)
    assert any(line.startswith(hint) for line in found.hints) if hint else found.hints == ()
    assert inspect_tensor(of_maxima(maxima), "x", getattr(Presets, preset), tolerance=0.51).hints == ()


def test_a_tensor_of_zeros_has_nothing_to_hint_at() -> None:
    found = inspect_tensor(of_maxima([0.0, 0.0, 0.0]), "x")
    assert (found.width, found.interval_share, found.sample_share, found.growth_share) == (0, 0, 0, 0)
    assert found.hints == ()


def test_all_tensors_with_values_are_inspected_by_name() -> None:
    statistics = CalibrationStatistics(dict.fromkeys(["z", "a", "empty"]))
    for index in range(3):
        values = np.full((2, 2), index, np.float32)
        statistics.update(str(index), {"z": values, "a": -values, "empty": np.zeros((0, 2), np.float32)})
    found: tuple[TensorInspection, ...] = inspect_statistics(statistics)
    assert [inspection.tensor for inspection in found] == ["a", "z"]
    assert [inspection.tensor for inspection in inspect_statistics(statistics, tensors=["z"])] == ["z"]
    with pytest.raises(DataError, match="tensor 'empty': a range needs at least one sample"):
        inspect_tensor(statistics, "empty")


@pytest.mark.parametrize("preset", OF_ALL_VALUES)
def test_an_estimator_of_all_values_together_is_refused(preset: str) -> None:
    with pytest.raises(ParameterError, match=f"'{preset.lower()}' looks at the values of all samples together"):
        inspect_tensor(of_maxima([1.0, 2.0]), "x", getattr(Presets, preset))


def test_wrong_arguments_are_refused() -> None:
    statistics = of_maxima([1.0, 2.0])
    with pytest.raises(ParameterError, match="'y' was not observed"):
        inspect_tensor(statistics, "y")
    with pytest.raises(ParameterError, match=r"inspect\.statistics=5 is not a CalibrationStatistics"):
        inspect_statistics(5)  # type: ignore[arg-type]
    for tolerance in (-0.1, math.nan, "a"):
        with pytest.raises(ParameterError, match=r"inspect\.tolerance="):
            inspect_tensor(statistics, "x", tolerance=tolerance)  # type: ignore[arg-type]
    for confidence in (1, "a"):
        with pytest.raises(ParameterError, match=r"inspect\.confidence="):
            inspect_tensor(statistics, "x", confidence=confidence)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="replicates"):
        inspect_tensor(statistics, "x", replicates=0)
    with pytest.raises(DataError, match="hold no sample"):
        inspect_statistics(CalibrationStatistics({"x": None}))
    other = qs.StatisticsCollectorParameters(
        qs.StatisticsType.QUANTILE, qs.AggregatorType.MEAN, quantile_outlier_prob=0.02
    )
    with pytest.raises(ParameterError, match=r"tensor 'x': Column\(.*0\.02.* was not collected of each sample"):
        inspect_tensor(statistics, "x", qs.RangeEstimatorParameters(other, other))
