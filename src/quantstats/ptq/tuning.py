"""Searching the parameters of a quantization: preset, range estimators, granularity of weights, bias correction.

One parameter after the other takes the value with the best score, with those before it as found and those after it as
given. Every plan is derived from the same statistics, so none of this calibrates. Of the many range estimators only
those that the statistics promise the least noise are tried.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantstats.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
from quantstats.errors import DataError, ParameterError
from quantstats.parameters import QuantizationPreset
from quantstats.ptq.plan import ActivationQuantizer, QuantizationPlan, WeightQuantizer
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)

# How many range estimators of activations are tried, those of the least predicted noise.
_TRIED_ESTIMATORS = 3


def _bounds(statistic: StatisticsType) -> tuple[StatisticsCollectorParameters, ...]:
    """Candidates for one bound: the extreme over all samples, and means of quantiles that cut off more and less."""
    aggregator = AggregatorType.MIN if statistic is StatisticsType.MIN else AggregatorType.MAX
    return (
        StatisticsCollectorParameters(statistic, aggregator),
        *(
            StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=p)
            for p in (1e-3, 1e-4)
        ),
    )


#: Range estimators of activations that are searched.
ACTIVATION_ESTIMATORS = (
    RangeEstimatorParametersSet.MEAN_MINMAX,
    *(
        RangeEstimatorParameters(min=low, max=high)
        for low, high in itertools.product(_bounds(StatisticsType.MIN), _bounds(StatisticsType.MAX))
    ),
    RangeEstimatorParametersSet.HISTOGRAM,
    RangeEstimatorParametersSet.MSE,
)


@dataclass(frozen=True)
class Settings:
    """What a plan follows from, besides the statistics.

    :param preset: See `QuantizationPreset`.
    :param advanced: Everything else.
    :param fast_bias_correction: Which bias correction, where it is not disabled.
    :param changes: What differs from what the user gave, in words.
    """

    preset: QuantizationPreset | None
    advanced: AdvancedQuantizationParameters
    fast_bias_correction: bool = True
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join(self.changes) or "as given"

    def with_preset(self, preset: QuantizationPreset) -> Settings:
        """Return the settings with another preset."""
        return dataclasses.replace(self, preset=preset, changes=(*self.changes, f"preset {preset.value}"))

    def with_advanced(self, change: str, **fields: Any) -> Settings:
        """Return the settings with other fields of the advanced parameters.

        :param change: What is changed, in words.
        """
        advanced = dataclasses.replace(self.advanced, **fields)
        return dataclasses.replace(self, advanced=advanced, changes=(*self.changes, change))

    @property
    def names_activation_mode(self) -> bool:
        """Whether the scheme of activations is given, so that the preset does not decide it."""
        given = self.advanced.activations_quantization_params
        return given is not None and given.mode is not None


def tune_hyperparams(
    start: Settings,
    plan_of: Callable[[Settings], QuantizationPlan],
    predicted_noise: Callable[[QuantizationPlan], float],
    scores: Callable[[Sequence[tuple[str, QuantizationPlan]]], Sequence[Any]],
) -> Settings:
    """Return the best settings found.

    :param start: The settings as given.
    :param plan_of: Derives a plan from statistics. An error of parameters or data means that the model, or what was
        collected, does not go with the settings, which are passed over.
    :param predicted_noise: Sum of the noise-to-signal ratios of a plan's quantizers.
    :param scores: Measures plans with what they are called; less is better.
    """
    best, plan = start, plan_of(start)
    seen = {fingerprint(plan)}
    (best_score,) = scores([(str(start), plan)])
    for alternatives, most in _PARAMETERS:
        candidates: list[tuple[float, Settings, QuantizationPlan]] = []
        for settings in alternatives(best):
            try:
                plan = plan_of(settings)
            except (DataError, ParameterError):
                continue
            # Many settings come to the same plan: a preset where the user names the modes, a quantile of few values.
            if fingerprint(plan) not in seen:
                seen.add(fingerprint(plan))
                candidates.append((predicted_noise(plan), settings, plan))
        candidates.sort(key=lambda candidate: (candidate[0], str(candidate[1])))
        candidates = candidates[:most]
        found = scores([(str(settings), plan) for _, settings, plan in candidates])
        for score, (_, settings, _) in zip(found, candidates, strict=True):
            if score < best_score:
                best, best_score = settings, score
    return best


def fingerprint(plan: QuantizationPlan) -> str:
    """Return what tells a plan from others: a SHA-256 of all its numbers, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    quantizers: tuple[ActivationQuantizer | WeightQuantizer, ...] = (*plan.activations, *plan.weights)
    for quantizer in quantizers:
        numbers = quantizer.quantizer
        assert numbers is not None
        digest.update(f"{quantizer.tensor}\0{quantizer.channel_axis}\0{quantizer.config}\0".encode())
        digest.update(f"{numbers.level_low}\0{numbers.level_high}\0{numbers.axis}\0".encode())
        digest.update(
            np.ascontiguousarray(numbers.scale).tobytes() + np.ascontiguousarray(numbers.zero_point).tobytes()
        )
    for name in sorted(plan.biases):
        digest.update(f"{name}\0".encode() + plan.biases[name].tobytes())
    return digest.hexdigest()


# -- parameters, in the order in which they are searched -------------------------------------------------------------


def _presets(settings: Settings) -> Iterator[Settings]:
    if not settings.names_activation_mode:
        yield from map(settings.with_preset, QuantizationPreset)


def _weight_granularities(settings: Settings) -> Iterator[Settings]:
    given = settings.advanced.weights_quantization_params or QuantizationParameters()
    for per_channel in (True, False):
        yield settings.with_advanced(
            f"weights per {'channel' if per_channel else 'tensor'}",
            weights_quantization_params=dataclasses.replace(given, per_channel=per_channel),
        )


def _weight_estimators(settings: Settings) -> Iterator[Settings]:
    yield settings.with_advanced(
        "weights ranged by extrema", weights_range_estimator_params=RangeEstimatorParametersSet.MINMAX
    )


def _activation_estimators(settings: Settings) -> Iterator[Settings]:
    for params in ACTIVATION_ESTIMATORS:
        yield settings.with_advanced(
            f"activations ranged by {_described(params)}", activations_range_estimator_params=params
        )


def _described(params: RangeEstimatorParameters) -> str:
    if params.is_histogram and params.min.aggregator_type is not None:
        return params.min.aggregator_type.value
    return f"{_bound(params.min)} to {_bound(params.max)}"


def _bound(params: StatisticsCollectorParameters) -> str:
    words = [choice.value for choice in (params.aggregator_type, params.statistics_type) if choice is not None]
    probability = f" {params.quantile_outlier_prob:g}" if params.statistics_type is StatisticsType.QUANTILE else ""
    return " of ".join(words) + probability


def _bias_corrections(settings: Settings) -> Iterator[Settings]:
    if settings.advanced.disable_bias_correction:
        return  # as the user wants it
    yield settings.with_advanced("no bias correction", disable_bias_correction=True)
    for fast in (True, False):
        corrected = settings.with_advanced(
            f"{'fast' if fast else 'full'} bias correction", disable_bias_correction=False
        )
        yield dataclasses.replace(corrected, fast_bias_correction=fast)


_PARAMETERS: tuple[tuple[Callable[[Settings], Iterator[Settings]], int], ...] = (
    (_presets, 2),
    (_weight_estimators, 1),
    (_activation_estimators, _TRIED_ESTIMATORS),
    # Behind the ranges of activations: noise of theirs can hide that of weights.
    (_weight_granularities, 1),
    (_bias_corrections, 2),
)

__all__ = ["ACTIVATION_ESTIMATORS", "Settings", "fingerprint", "tune_hyperparams"]
