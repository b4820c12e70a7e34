from __future__ import annotations

import numpy as np
import pytest

import quantstats as qs
from quantstats.errors import DataError, ParameterError
from quantstats.statistics import CalibrationStatistics
from quantstats.statistics.comparison import RangePair, compare_statistics

Presets = qs.RangeEstimatorParametersSet
ESTIMATORS = {"MINMAX": Presets.MINMAX, "MEAN_MINMAX": Presets.MEAN_MINMAX}


def collected(values: dict[str, list[float]], *, model_hash: str = "m", first: int = 0) -> CalibrationStatistics:
    """A sample for each number, with the values 0 and that number."""
    statistics = CalibrationStatistics(dict.fromkeys(values), model_hash=model_hash)
    for index, numbers in enumerate(zip(*values.values(), strict=True)):
        rows = {name: np.array([0, number], np.float32) for name, number in zip(values, numbers, strict=True)}
        statistics.update(str(first + index), rows)
    return statistics


def test_equal_statistics_agree_however_close() -> None:
    statistics = collected({"x": [1.0, 3.0], "y": [-2.0, 5.0]})
    found = compare_statistics(statistics, statistics, ESTIMATORS, tolerance=0)
    assert found.agree
    assert found.differing == ()
    assert [(pair.tensor, pair.estimator) for pair in found.ranges] == [
        (tensor, estimator) for tensor in ("x", "y") for estimator in ESTIMATORS
    ]
    assert found.samples.same
    assert found.tensors.same
    assert found.columns.same
    assert found.models == ("m", "m")


def test_ranges_differ_beyond_the_tolerance() -> None:
    first, second = collected({"x": [8.0, 10.0], "y": [1.0, 1.0]}), collected({"x": [8.0, 9.0], "y": [1.0, 1.0]})
    found = compare_statistics(first, second, ESTIMATORS, tolerance=0.06)
    pairs = {(pair.tensor, pair.estimator): pair for pair in found.ranges}
    assert pairs["x", "MINMAX"] == RangePair("x", "MINMAX", (0.0, 10.0), (0.0, 9.0))
    assert pairs["x", "MINMAX"].difference == pytest.approx(0.1)
    assert pairs["x", "MEAN_MINMAX"].difference == pytest.approx(0.5 / 9)
    assert found.differing == (pairs["x", "MINMAX"],)
    assert not found.agree
    assert compare_statistics(first, second, ESTIMATORS, tolerance=0.1).agree
    closer = compare_statistics(first, second, ESTIMATORS, tolerance=0.01)
    assert [pair.estimator for pair in closer.differing] == ["MINMAX", "MEAN_MINMAX"]


def test_the_wider_range_is_the_measure_whichever_side_has_it() -> None:
    wide, narrow = (-3.0, 1.0), (0.0, 1.0)
    assert RangePair("x", "e", wide, narrow).difference == RangePair("x", "e", narrow, wide).difference == 0.75
    assert RangePair("x", "e", (4.0, 5.0), (3.0, 5.0)).difference == 0.2  # zero is part of the width
    assert RangePair("x", "e", (0.0, 0.0), (0.0, 0.0)).difference == 0.0


def test_samples_tensors_and_models_may_differ_and_are_named() -> None:
    first = collected({"x": [1.0, 2.0], "a": [1.0, 2.0]})
    second = collected({"x": [2.0, 1.0], "b": [1.0, 1.0]}, model_hash="n", first=1)
    found = compare_statistics(first, second, ESTIMATORS)
    assert found.models == ("m", "n")
    assert (found.samples.both, found.samples.only_first, found.samples.only_second) == (("1",), ("0",), ("2",))
    assert (found.tensors.both, found.tensors.only_first, found.tensors.only_second) == (("x",), ("a",), ("b",))
    assert {pair.tensor for pair in found.ranges} == {"x"}
    assert found.differing == ()
    assert not found.agree  # A tensor is on one side only.


def test_symmetric_ranges_ask_for_magnitudes() -> None:
    first, second = collected({"x": [-4.0, 2.0]}), collected({"x": [-2.0, 2.0]})
    (pair,) = compare_statistics(first, second, {"MINMAX": Presets.MINMAX}, symmetric=True).ranges
    assert (pair.first, pair.second) == ((-4.0, 4.0), (-2.0, 2.0))


def test_what_cannot_be_compared_is_refused() -> None:
    statistics = collected({"x": [1.0]})
    with pytest.raises(DataError, match="the second statistics hold no sample"):
        compare_statistics(statistics, CalibrationStatistics({"x": None}), ESTIMATORS)
    with pytest.raises(ParameterError, match=r"compare\.second=5 is not a CalibrationStatistics .*load\(path\)"):
        compare_statistics(statistics, 5, ESTIMATORS)  # type: ignore[arg-type]
    for estimators in (list(ESTIMATORS.values()), {"minmax": "minmax"}):
        with pytest.raises(ParameterError, match=r"compare\.estimators"):
            compare_statistics(statistics, statistics, estimators)  # type: ignore[arg-type]
    for tolerance in (-0.1, float("nan"), float("inf"), "x"):
        with pytest.raises(ParameterError, match=r"compare\.tolerance"):
            compare_statistics(statistics, statistics, ESTIMATORS, tolerance=tolerance)
