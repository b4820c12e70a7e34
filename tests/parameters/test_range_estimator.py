"""Range estimator parameters: limits at construction, presets, defaults of a place."""

from __future__ import annotations

import copy
import math
import pickle

import pytest

from quantstats.errors import ParameterError
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
    resolve,
)

PRESETS = ["MINMAX", "MEAN_MINMAX", "MEDIAN_MINMAX", "MEAN_NO_OUTLIERS_MINMAX", "MEAN_QUANTILE", "HISTOGRAM"]


@pytest.mark.parametrize("p", [0.0, 0.5, -1e-4, 1.0, math.nan, "0.1", True, None])
def test_quantile_outlier_prob_outside_its_limits(p: object) -> None:
    with pytest.raises(ParameterError, match=r"quantile_outlier_prob=.* between 0 and 0\.5"):
        StatisticsCollectorParameters(quantile_outlier_prob=p)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan, "6"])
def test_clipping_value_outside_its_limits(value: object) -> None:
    with pytest.raises(ParameterError, match=r"clipping_value=.* above 0"):
        StatisticsCollectorParameters(clipping_value=value)  # type: ignore[arg-type]


def test_a_string_is_no_enumeration_member_and_the_error_names_the_members() -> None:
    with pytest.raises(ParameterError, match=r"statistics_type='min' .*StatisticsType\.MIN"):
        StatisticsCollectorParameters(statistics_type="min")  # type: ignore[arg-type]


def test_raw_and_histogram_go_together() -> None:
    with pytest.raises(ParameterError, match=r"aggregator_type=.*MEAN.* use AggregatorType\.HISTOGRAM"):
        StatisticsCollectorParameters(StatisticsType.RAW, AggregatorType.MEAN)
    with pytest.raises(ParameterError, match=r"statistics_type=.*MAX.* use StatisticsType\.RAW"):
        StatisticsCollectorParameters(StatisticsType.MAX, AggregatorType.HISTOGRAM)
    histogram = StatisticsCollectorParameters(StatisticsType.RAW, AggregatorType.HISTOGRAM)
    with pytest.raises(ParameterError, match=r"RangeEstimatorParameters\.max .* HISTOGRAM finds both bounds"):
        RangeEstimatorParameters(min=histogram)
    with pytest.raises(ParameterError, match="HISTOGRAM finds both bounds"):
        RangeEstimatorParameters(
            min=StatisticsCollectorParameters(aggregator_type=AggregatorType.HISTOGRAM),
            max=StatisticsCollectorParameters(aggregator_type=AggregatorType.HISTOGRAM),
        )
    with pytest.raises(ParameterError, match=r"clipping_value=None and max\.clipping_value=3\.0 differ"):
        RangeEstimatorParameters(
            min=histogram,
            max=StatisticsCollectorParameters(StatisticsType.RAW, AggregatorType.HISTOGRAM, clipping_value=3.0),
        )


def test_a_branch_of_another_class_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"from_nncf\(\)"):
        RangeEstimatorParameters(min=object())  # type: ignore[arg-type]


def test_presets_do_not_change_under_their_users() -> None:
    mine = RangeEstimatorParametersSet.MINMAX
    mine.min.statistics_type = StatisticsType.MEAN
    assert RangeEstimatorParametersSet.MINMAX.min.statistics_type is StatisticsType.MIN


@pytest.mark.parametrize("name", PRESETS)
def test_presets_copy_pickle_and_compare(name: str) -> None:
    params = getattr(RangeEstimatorParametersSet, name)
    assert params == getattr(RangeEstimatorParametersSet, name)
    assert copy.deepcopy(params) == params
    assert pickle.loads(pickle.dumps(params)) == params
    assert params.is_histogram == (name == "HISTOGRAM")


@pytest.mark.parametrize(
    ("is_weight", "per_channel", "aggregators"),
    [
        (True, True, (AggregatorType.MIN, AggregatorType.MAX)),
        (True, False, (AggregatorType.MIN, AggregatorType.MAX)),
        (False, True, (AggregatorType.MIN, AggregatorType.MAX)),
        (False, False, (AggregatorType.MEAN, AggregatorType.MEAN)),
    ],
)
def test_defaults_of_a_place(
    is_weight: bool, per_channel: bool, aggregators: tuple[AggregatorType, AggregatorType]
) -> None:
    for params in (None, RangeEstimatorParameters()):
        found = resolve(params, is_weight=is_weight, per_channel=per_channel)
        assert (found.min.statistics_type, found.max.statistics_type) == (StatisticsType.MIN, StatisticsType.MAX)
        assert (found.min.aggregator_type, found.max.aggregator_type) == aggregators


def test_partial_parameters_override_field_by_field() -> None:
    user = RangeEstimatorParameters(
        min=StatisticsCollectorParameters(statistics_type=StatisticsType.QUANTILE, quantile_outlier_prob=0.01),
        max=StatisticsCollectorParameters(aggregator_type=AggregatorType.MEDIAN, clipping_value=6.0),
    )
    before = copy.deepcopy(user)
    found = resolve(user, is_weight=False, per_channel=False)
    assert found.min == StatisticsCollectorParameters(
        StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=0.01
    )
    assert found.max == StatisticsCollectorParameters(StatisticsType.MAX, AggregatorType.MEDIAN, clipping_value=6.0)
    assert user == before


def test_histogram_per_channel_is_refused_with_the_remedy() -> None:
    with pytest.raises(ParameterError, match=r"HISTOGRAM estimates one range per tensor.*per_channel=False"):
        resolve(RangeEstimatorParametersSet.HISTOGRAM, is_weight=True, per_channel=True)


def test_parameters_broken_after_construction_are_found_before_use() -> None:
    params = RangeEstimatorParametersSet.MEAN_QUANTILE
    params.max.quantile_outlier_prob = 0.7
    with pytest.raises(ParameterError, match=r"quantile_outlier_prob=0\.7"):
        resolve(params, is_weight=False, per_channel=False)
