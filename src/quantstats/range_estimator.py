"""Parameters that say how a quantization range is estimated from the data that passes through a tensor.

Classes, fields, defaults and enumeration values are those of ``nncf.quantization.range_estimator``. They mean what
the tables of the semantics page say: each sample is reduced to one statistic per tensor or per channel, then the
statistics of all samples are aggregated to one bound.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from quantstats._twins import TwinDataclass, TwinEnum
from quantstats._validation import check_instance, check_member, check_positive, check_tail_probability
from quantstats.errors import ParameterError

__all__ = [
    "AggregatorType",
    "RangeEstimatorParameters",
    "RangeEstimatorParametersSet",
    "StatisticsCollectorParameters",
    "StatisticsType",
    "resolve",
]

_NNCF_MODULE = "nncf.quantization.range_estimator"


class StatisticsType(TwinEnum):
    """What one sample of a tensor is reduced to.

    MAX, MIN, MEAN: of the values. ABS_MAX: the largest magnitude. QUANTILE: the order statistic at probability
    ``quantile_outlier_prob`` (lower bound) or one minus that (upper bound), interpolated linearly. ABS_QUANTILE: the
    same of the magnitudes. RAW: the values themselves, for the HISTOGRAM aggregator.
    """

    MAX = "max"
    MIN = "min"
    ABS_MAX = "abs_max"
    QUANTILE = "quantile"
    ABS_QUANTILE = "abs_quantile"
    MEAN = "mean"
    RAW = "raw"

    @classmethod
    def _nncf_path(cls) -> str:
        return f"{_NNCF_MODULE}.StatisticsType"


class AggregatorType(TwinEnum):
    """How the statistics of all samples become one bound of the range.

    MEAN, MAX, MIN, MEDIAN: over the samples. MEAN_NO_OUTLIERS, MEDIAN_NO_OUTLIERS: the same after dropping, per
    channel, the samples strictly outside the quantiles at ``quantile_outlier_prob`` and one minus that. HISTOGRAM:
    both bounds together, as the range with the least L2 quantization error on the distribution of all values.
    """

    MEAN = "mean"
    MAX = "max"
    MIN = "min"
    MEDIAN = "median"
    MEAN_NO_OUTLIERS = "mean_no_outliers"
    MEDIAN_NO_OUTLIERS = "median_no_outliers"
    HISTOGRAM = "histogram"

    @classmethod
    def _nncf_path(cls) -> str:
        return f"{_NNCF_MODULE}.AggregatorType"


@dataclass
class StatisticsCollectorParameters(TwinDataclass):
    """How one bound of a range is estimated.

    :param statistics_type: what a sample is reduced to; None takes the default of the place (see `resolve`).
    :param aggregator_type: how samples are aggregated; None takes the default of the place.
    :param clipping_value: v > 0 clamps the values to [-v, v] before the statistic is taken; None does not clamp.
    :param quantile_outlier_prob: the probability, in (0, 0.5), that the QUANTILE and ABS_QUANTILE statistics and the
        no-outliers aggregators treat as outliers at either tail. One value serves the statistic and the aggregator.
    :raises ParameterError: a value is outside its limits, or RAW and HISTOGRAM are not used together.
    """

    _NNCF_PATH: ClassVar[str] = f"{_NNCF_MODULE}.StatisticsCollectorParameters"
    _NESTED: ClassVar[dict[str, Any]] = {"statistics_type": StatisticsType, "aggregator_type": AggregatorType}

    statistics_type: StatisticsType | None = None
    aggregator_type: AggregatorType | None = None
    clipping_value: float | None = None
    quantile_outlier_prob: float = 1e-4

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raises `ParameterError` if a value is outside its limits. Called at construction, and again before use."""
        owner = type(self).__name__
        if self.statistics_type is not None:
            check_member(owner, "statistics_type", self.statistics_type, StatisticsType)
        if self.aggregator_type is not None:
            check_member(owner, "aggregator_type", self.aggregator_type, AggregatorType)
        if self.clipping_value is not None:
            check_positive(owner, "clipping_value", self.clipping_value)
        check_tail_probability(owner, "quantile_outlier_prob", self.quantile_outlier_prob)
        if self.statistics_type is StatisticsType.RAW and self.aggregator_type not in (None, AggregatorType.HISTOGRAM):
            raise ParameterError(
                f"{owner}.aggregator_type={self.aggregator_type} cannot aggregate the RAW statistic; "
                "use AggregatorType.HISTOGRAM"
            )
        if self.aggregator_type is AggregatorType.HISTOGRAM and self.statistics_type not in (None, StatisticsType.RAW):
            raise ParameterError(
                f"{owner}.statistics_type={self.statistics_type} cannot feed the HISTOGRAM aggregator; "
                "use StatisticsType.RAW"
            )


@dataclass
class RangeEstimatorParameters(TwinDataclass):
    """How a range is estimated: one `StatisticsCollectorParameters` for each bound.

    :param min: how the lower bound is estimated.
    :param max: how the upper bound is estimated.
    :raises ParameterError: HISTOGRAM with RAW is on one bound only (it finds both together), or the two bounds of a
        HISTOGRAM differ in `clipping_value`.
    """

    _NNCF_PATH: ClassVar[str] = f"{_NNCF_MODULE}.RangeEstimatorParameters"
    _NESTED: ClassVar[dict[str, Any]] = {"min": StatisticsCollectorParameters, "max": StatisticsCollectorParameters}

    min: StatisticsCollectorParameters = field(default_factory=StatisticsCollectorParameters)
    max: StatisticsCollectorParameters = field(default_factory=StatisticsCollectorParameters)

    def __post_init__(self) -> None:
        self.validate()

    @property
    def is_histogram(self) -> bool:
        """Whether both bounds come from the histogram search."""
        return self.min.aggregator_type is AggregatorType.HISTOGRAM

    def validate(self) -> None:
        """Raises `ParameterError` if the bounds do not fit together. Called at construction, and again before use."""
        owner = type(self).__name__
        for name in ("min", "max"):
            branch = getattr(self, name)
            check_instance(owner, name, branch, StatisticsCollectorParameters)
            branch.validate()
        kinds = [(branch.statistics_type, branch.aggregator_type) for branch in (self.min, self.max)]
        histogram = (StatisticsType.RAW, AggregatorType.HISTOGRAM)
        if any(kind[0] is histogram[0] or kind[1] is histogram[1] for kind in kinds):
            for name, kind in zip(("min", "max"), kinds, strict=True):
                if kind != histogram:
                    raise ParameterError(
                        f"{owner}.{name} has statistics_type={kind[0]}, aggregator_type={kind[1]}, but HISTOGRAM finds "
                        "both bounds together; set RAW and HISTOGRAM on min and max, "
                        "or take RangeEstimatorParametersSet.HISTOGRAM"
                    )
            if self.min.clipping_value != self.max.clipping_value:
                raise ParameterError(
                    f"{owner}: min.clipping_value={self.min.clipping_value!r} and "
                    f"max.clipping_value={self.max.clipping_value!r} differ, but HISTOGRAM has one distribution; "
                    "give both the same value"
                )


class _Preset:
    """Gives a fresh copy at every access: parameters are mutable, and a preset must not change under its users."""

    def __init__(
        self, minimum: tuple[StatisticsType, AggregatorType], maximum: tuple[StatisticsType, AggregatorType]
    ) -> None:
        self._params = RangeEstimatorParameters(
            min=StatisticsCollectorParameters(*minimum), max=StatisticsCollectorParameters(*maximum)
        )

    def __get__(self, instance: object, owner: type[object]) -> RangeEstimatorParameters:
        return copy.deepcopy(self._params)


class RangeEstimatorParametersSet:
    """Ready-made range estimators. Each attribute is a new `RangeEstimatorParameters` at every access.

    MINMAX: least minimum and greatest maximum of all samples. MEAN_MINMAX, MEDIAN_MINMAX: mean or median over the
    samples of their minima and maxima. MEAN_NO_OUTLIERS_MINMAX: the mean without outlying samples. MEAN_QUANTILE:
    the mean of the samples' quantiles. HISTOGRAM: the range with the least L2 quantization error.
    """

    MINMAX = _Preset((StatisticsType.MIN, AggregatorType.MIN), (StatisticsType.MAX, AggregatorType.MAX))
    MEAN_MINMAX = _Preset((StatisticsType.MIN, AggregatorType.MEAN), (StatisticsType.MAX, AggregatorType.MEAN))
    MEDIAN_MINMAX = _Preset((StatisticsType.MIN, AggregatorType.MEDIAN), (StatisticsType.MAX, AggregatorType.MEDIAN))
    MEAN_NO_OUTLIERS_MINMAX = _Preset(
        (StatisticsType.MIN, AggregatorType.MEAN_NO_OUTLIERS), (StatisticsType.MAX, AggregatorType.MEAN_NO_OUTLIERS)
    )
    MEAN_QUANTILE = _Preset(
        (StatisticsType.QUANTILE, AggregatorType.MEAN), (StatisticsType.QUANTILE, AggregatorType.MEAN)
    )
    HISTOGRAM = _Preset((StatisticsType.RAW, AggregatorType.HISTOGRAM), (StatisticsType.RAW, AggregatorType.HISTOGRAM))


def _override(
    default: StatisticsCollectorParameters, user: StatisticsCollectorParameters
) -> StatisticsCollectorParameters:
    given = {f.name: getattr(user, f.name) for f in dataclasses.fields(user) if getattr(user, f.name) is not None}
    return dataclasses.replace(default, **given)


def resolve(params: RangeEstimatorParameters | None, *, is_weight: bool, per_channel: bool) -> RangeEstimatorParameters:
    """Complete parameters for one place: a user's partial `params`, merged field by field over the place's defaults.

    Weights and per-channel activations default to MIN/MIN and MAX/MAX, other activations to MIN/MEAN and MAX/MEAN.
    The result is a new object without None in `statistics_type` and `aggregator_type`; `params` is not changed.

    :raises ParameterError: `params` is invalid, or asks for HISTOGRAM, which estimates one range per tensor, where
        `per_channel` holds.
    """
    default = (
        RangeEstimatorParametersSet.MINMAX if is_weight or per_channel else RangeEstimatorParametersSet.MEAN_MINMAX
    )
    if params is None:
        return default
    check_instance("resolve", "params", params, RangeEstimatorParameters)
    params.validate()
    if params.is_histogram and per_channel:
        place = "weights" if is_weight else "activations"
        raise ParameterError(
            f"RangeEstimatorParameters: HISTOGRAM estimates one range per tensor, but these {place} are quantized per "
            "channel; use another estimator such as RangeEstimatorParametersSet.MINMAX, or set per_channel=False"
        )
    return RangeEstimatorParameters(min=_override(default.min, params.min), max=_override(default.max, params.max))
