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

PRESETS = ["MINMAX", "MEAN_MINMAX", "MEDIAN_MINMAX", "MEAN_NO_OUTLIERS_MINMAX", "MEAN_QUANTILE"]
OF_DISTRIBUTION = ["HISTOGRAM", "MSE", "ENTROPY", "PERCENTILE", "AUTO"]


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


@pytest.mark.parametrize("name", OF_DISTRIBUTION)
def test_raw_and_an_aggregator_of_the_distribution_go_together(name: str) -> None:
    aggregator = AggregatorType[name]
    with pytest.raises(ParameterError, match=r"aggregator_type=.*MEAN.* use AggregatorType\.HISTOGRAM, MSE"):
        StatisticsCollectorParameters(StatisticsType.RAW, AggregatorType.MEAN)
    with pytest.raises(ParameterError, match=rf"statistics_type=.*MAX.* feed the {name}.* use StatisticsType\.RAW"):
        StatisticsCollectorParameters(StatisticsType.MAX, aggregator)
    joint = StatisticsCollectorParameters(StatisticsType.RAW, aggregator)
    with pytest.raises(
        ParameterError, match=rf"RangeEstimatorParameters\.max .* {name} finds both bounds.*Set\.{name}"
    ):
        RangeEstimatorParameters(min=joint)
    with pytest.raises(ParameterError, match=rf"{name} finds both bounds"):
        RangeEstimatorParameters(
            min=StatisticsCollectorParameters(aggregator_type=aggregator),
            max=StatisticsCollectorParameters(aggregator_type=aggregator),
        )
    with pytest.raises(ParameterError, match=rf"clipping_value=None and max\.clipping_value=3\.0 differ, but {name}"):
        RangeEstimatorParameters(
            min=joint, max=StatisticsCollectorParameters(StatisticsType.RAW, aggregator, clipping_value=3.0)
        )


def test_two_aggregators_of_the_distribution_do_not_go_together() -> None:
    branches = [StatisticsCollectorParameters(StatisticsType.RAW, a) for a in (AggregatorType.MSE, AggregatorType.AUTO)]
    with pytest.raises(ParameterError, match=r"max has .*AUTO.*, but MSE finds both bounds together"):
        RangeEstimatorParameters(*branches)
    with pytest.raises(ParameterError, match=r"RAW on min and max|HISTOGRAM finds both bounds"):
        RangeEstimatorParameters(min=StatisticsCollectorParameters(StatisticsType.RAW))


def test_a_branch_of_another_class_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"from_nncf\(\)"):
        RangeEstimatorParameters(min=object())  # type: ignore[arg-type]


def test_presets_do_not_change_under_their_users() -> None:
    mine = RangeEstimatorParametersSet.MINMAX
    mine.min.statistics_type = StatisticsType.MEAN
    assert RangeEstimatorParametersSet.MINMAX.min.statistics_type is StatisticsType.MIN


@pytest.mark.parametrize("name", PRESETS + OF_DISTRIBUTION)
def test_presets_copy_pickle_and_compare(name: str) -> None:
    params = getattr(RangeEstimatorParametersSet, name)
    assert params == getattr(RangeEstimatorParametersSet, name)
    assert copy.deepcopy(params) == params
    assert pickle.loads(pickle.dumps(params)) == params
    assert params.is_histogram == (name in OF_DISTRIBUTION)


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
    found = resolve(RangeEstimatorParameters(), is_weight=is_weight, per_channel=per_channel)
    if is_weight or per_channel:
        assert resolve(None, is_weight=is_weight, per_channel=per_channel) == found
    else:
        assert resolve(None, is_weight=is_weight, per_channel=per_channel) == RangeEstimatorParametersSet.AUTO
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


@pytest.mark.parametrize("name", OF_DISTRIBUTION)
def test_one_range_per_tensor_is_refused_per_channel_with_the_remedy(name: str) -> None:
    with pytest.raises(ParameterError, match=rf"{name} estimates one range per tensor.*per_channel=False"):
        resolve(getattr(RangeEstimatorParametersSet, name), is_weight=True, per_channel=True)


def test_parameters_broken_after_construction_are_found_before_use() -> None:
    params = RangeEstimatorParametersSet.MEAN_QUANTILE
    params.max.quantile_outlier_prob = 0.7
    with pytest.raises(ParameterError, match=r"quantile_outlier_prob=0\.7"):
        resolve(params, is_weight=False, per_channel=False)
