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
    same of the magnitudes. RAW: the values themselves, for the aggregators that look at the distribution of all values:
    HISTOGRAM, MSE, ENTROPY, PERCENTILE, AUTO.
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
    channel, the samples strictly outside the quantiles at ``quantile_outlier_prob`` and one minus that.

    The others find both bounds together, from the distribution of all values of all samples; they are explained at
    `RangeEstimatorParametersSet`. HISTOGRAM: the range with the least L2 quantization error among the edges of 2,048
    equal bins, as nncf has it. MSE, ENTROPY, PERCENTILE, AUTO: not in nncf.
    """

    MEAN = "mean"
    MAX = "max"
    MIN = "min"
    MEDIAN = "median"
    MEAN_NO_OUTLIERS = "mean_no_outliers"
    MEDIAN_NO_OUTLIERS = "median_no_outliers"
    HISTOGRAM = "histogram"
    MSE = "mse"
    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    AUTO = "auto"

    @classmethod
    def _nncf_path(cls) -> str:
        return f"{_NNCF_MODULE}.AggregatorType"

    def to_nncf(self) -> Any:
        """nncf's member with the same value. Imports nncf. Raises `ParameterError` for a member that nncf lacks."""
        nearest = _NEAREST_IN_NNCF.get(self.value)
        if nearest is not None:
            raise ParameterError(
                f"AggregatorType.{self.name} does not exist in nncf; the nearest that it has is "
                f"RangeEstimatorParametersSet.{nearest}"
            )
        return super().to_nncf()


# Aggregators that nncf lacks, by value, and its preset that comes closest.
_NEAREST_IN_NNCF = {"mse": "HISTOGRAM", "entropy": "HISTOGRAM", "percentile": "MEAN_QUANTILE", "auto": "HISTOGRAM"}

# Aggregators that find both bounds together from the distribution of all values.
_OF_DISTRIBUTION = (
    AggregatorType.HISTOGRAM,
    AggregatorType.MSE,
    AggregatorType.ENTROPY,
    AggregatorType.PERCENTILE,
    AggregatorType.AUTO,
)


@dataclass
class StatisticsCollectorParameters(TwinDataclass):
    """How one bound of a range is estimated.

    :param statistics_type: what a sample is reduced to; None takes the default of the place (see `resolve`).
    :param aggregator_type: how samples are aggregated; None takes the default of the place.
    :param clipping_value: v > 0 clamps the values to [-v, v] before the statistic is taken; None does not clamp.
    :param quantile_outlier_prob: the probability, in (0, 0.5), that the QUANTILE and ABS_QUANTILE statistics and the
        no-outliers aggregators treat as outliers at either tail. One value serves the statistic and the aggregator.
    :raises ParameterError: a value is outside its limits, or RAW is used without an aggregator of the distribution
        (HISTOGRAM, MSE, ENTROPY, PERCENTILE, AUTO), or one of these without RAW.
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
        aggregator = self.aggregator_type
        if self.statistics_type is StatisticsType.RAW and aggregator not in (None, *_OF_DISTRIBUTION):
            raise ParameterError(
                f"{owner}.aggregator_type={aggregator} cannot aggregate the RAW statistic; "
                "use AggregatorType.HISTOGRAM, MSE, ENTROPY, PERCENTILE or AUTO"
            )
        if aggregator in _OF_DISTRIBUTION and self.statistics_type not in (None, StatisticsType.RAW):
            raise ParameterError(
                f"{owner}.statistics_type={self.statistics_type} cannot feed the {aggregator.name} aggregator; "
                "use StatisticsType.RAW"
            )


@dataclass
class RangeEstimatorParameters(TwinDataclass):
    """How a range is estimated: one `StatisticsCollectorParameters` for each bound.

    :param min: how the lower bound is estimated.
    :param max: how the upper bound is estimated.
    :raises ParameterError: RAW with HISTOGRAM, MSE, ENTROPY, PERCENTILE or AUTO is on one bound only (they find both
        together), the bounds have two of these, or they differ in `clipping_value`.
    """

    _NNCF_PATH: ClassVar[str] = f"{_NNCF_MODULE}.RangeEstimatorParameters"
    _NESTED: ClassVar[dict[str, Any]] = {"min": StatisticsCollectorParameters, "max": StatisticsCollectorParameters}

    min: StatisticsCollectorParameters = field(default_factory=StatisticsCollectorParameters)
    max: StatisticsCollectorParameters = field(default_factory=StatisticsCollectorParameters)

    def __post_init__(self) -> None:
        self.validate()

    @property
    def is_histogram(self) -> bool:
        """Whether both bounds come from the histogram of all values: HISTOGRAM, MSE, ENTROPY, PERCENTILE or AUTO."""
        return self.min.aggregator_type in _OF_DISTRIBUTION

    def validate(self) -> None:
        """Raises `ParameterError` if the bounds do not fit together. Called at construction, and again before use."""
        owner = type(self).__name__
        for name in ("min", "max"):
            branch = getattr(self, name)
            check_instance(owner, name, branch, StatisticsCollectorParameters)
            branch.validate()
        branches = (self.min, self.max)
        joint = [b.aggregator_type for b in branches if b.aggregator_type in _OF_DISTRIBUTION]
        if joint or any(branch.statistics_type is StatisticsType.RAW for branch in branches):
            aggregator = joint[0] if joint else AggregatorType.HISTOGRAM
            for name, branch in zip(("min", "max"), branches, strict=True):
                if (branch.statistics_type, branch.aggregator_type) != (StatisticsType.RAW, aggregator):
                    raise ParameterError(
                        f"{owner}.{name} has statistics_type={branch.statistics_type}, "
                        f"aggregator_type={branch.aggregator_type}, but {aggregator.name} finds both bounds together; "
                        f"set RAW and {aggregator.name} on min and max, "
                        f"or take RangeEstimatorParametersSet.{aggregator.name}"
                    )
            if self.min.clipping_value != self.max.clipping_value:
                raise ParameterError(
                    f"{owner}: min.clipping_value={self.min.clipping_value!r} and "
                    f"max.clipping_value={self.max.clipping_value!r} differ, but {aggregator.name} has one "
                    "distribution; give both the same value"
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

    The following look at the distribution of all values of all samples, a histogram of 65,536 bins, and give one range
    per tensor for the bits, scheme and levels of the quantizer that follows. They are not in nncf.

    - MSE: the range with the least sum of ``(x - q(x))^2`` over all values, among all steps of the quantizer and all
      levels that zero can have (J. Max, "Quantizing for minimum distortion", 1960, for levels of equal distance; R.
      Banner and others, "Post training 4-bit quantization of convolutional networks for rapid-deployment", 2019, for
      clipping activations by it). The whole range, if that is no more than 0.02 dB worse.
    - ENTROPY: the thresholds with the least Kullback-Leibler divergence between the distribution of the clipped values
      and what quantization leaves of it (S. Migacz, "8-bit inference with TensorRT", 2017).
    - PERCENTILE: from the quantile at ``quantile_outlier_prob`` of the min branch to that at one minus the probability
      of the max branch, of all values; symmetric, the latter of the magnitudes (H. Wu and others, "Integer quantization
      for deep learning inference", 2020). MEAN_QUANTILE takes quantiles of each sample instead.
    - AUTO: of the ranges of all estimators the one whose quantizer promises the highest signal-to-noise ratio on the
      values (see `quantstats.statistics.predicted_sqnr`). No range promises more than that of MSE; the whole range, of
      MINMAX, is taken in its place if it promises as much but for 0.2 dB.
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
    MSE = _Preset((StatisticsType.RAW, AggregatorType.MSE), (StatisticsType.RAW, AggregatorType.MSE))
    ENTROPY = _Preset((StatisticsType.RAW, AggregatorType.ENTROPY), (StatisticsType.RAW, AggregatorType.ENTROPY))
    PERCENTILE = _Preset(
        (StatisticsType.RAW, AggregatorType.PERCENTILE), (StatisticsType.RAW, AggregatorType.PERCENTILE)
    )
    AUTO = _Preset((StatisticsType.RAW, AggregatorType.AUTO), (StatisticsType.RAW, AggregatorType.AUTO))


# Every access to a preset copies it; these are read alone.
_MINMAX, _MEAN_MINMAX = RangeEstimatorParametersSet.MINMAX, RangeEstimatorParametersSet.MEAN_MINMAX


def _override(
    default: StatisticsCollectorParameters, user: StatisticsCollectorParameters
) -> StatisticsCollectorParameters:
    given = {f.name: getattr(user, f.name) for f in dataclasses.fields(user) if getattr(user, f.name) is not None}
    return dataclasses.replace(default, **given)


def resolve(params: RangeEstimatorParameters | None, *, is_weight: bool, per_channel: bool) -> RangeEstimatorParameters:
    """Complete parameters for one place: a user's partial `params`, merged field by field over the place's defaults.

    Where `params` are None, weights and per-channel activations take MINMAX and other activations AUTO. Fields left
    None in `params` that are given take the defaults of nncf: MIN/MIN and MAX/MAX for weights and per-channel
    activations, MIN/MEAN and MAX/MEAN for other activations. The result is a new object without None in
    `statistics_type` and `aggregator_type`; `params` is not changed.

    :raises ParameterError: `params` is invalid, or asks for HISTOGRAM, MSE, ENTROPY, PERCENTILE or AUTO, which estimate
        one range per tensor, where `per_channel` holds.
    """
    by_extrema = is_weight or per_channel
    if params is None:
        return RangeEstimatorParametersSet.MINMAX if by_extrema else RangeEstimatorParametersSet.AUTO
    check_instance("resolve", "params", params, RangeEstimatorParameters)
    params.validate()
    if params.is_histogram and per_channel:
        place = "weights" if is_weight else "activations"
        name = params.min.aggregator_type.name if params.min.aggregator_type else None
        raise ParameterError(
            f"RangeEstimatorParameters: {name} estimates one range per tensor, but these {place} are quantized per "
            "channel; use another estimator such as RangeEstimatorParametersSet.MINMAX, or set per_channel=False"
        )
    default = _MINMAX if by_extrema else _MEAN_MINMAX
    return RangeEstimatorParameters(min=_override(default.min, params.min), max=_override(default.max, params.max))
