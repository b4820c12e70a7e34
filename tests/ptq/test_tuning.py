"""The search of parameters: which are tried, in which order, and what is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from quantstats.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
from quantstats.errors import ParameterError
from quantstats.parameters import QuantizationMode, QuantizationPreset
from quantstats.ptq.collection import calibrate
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.quantize import make_plan
from quantstats.ptq.tuning import ACTIVATION_ESTIMATORS, Settings, fingerprint, tune_hyperparams
from quantstats.range_estimator import RangeEstimatorParametersSet

from .framework import NumpyAdapter, images, residual_network

ADAPTER = NumpyAdapter(residual_network())
STATISTICS = calibrate(ADAPTER, images(16), range_estimators=ACTIVATION_ESTIMATORS, progress=False)


def plan_of(settings: Settings) -> QuantizationPlan:
    return make_plan(
        ADAPTER,
        preset=settings.preset,
        fast_bias_correction=settings.fast_bias_correction,
        advanced_parameters=settings.advanced,
        statistics=STATISTICS,
        progress=False,
    )


class Scores:
    """Scores plans by what they are called, and remembers what it was asked."""

    def __init__(self, score: Callable[[str], float] = lambda name: 0.0) -> None:
        self.asked: list[list[str]] = []
        self._score = score

    def __call__(self, plans: Sequence[tuple[str, QuantizationPlan]]) -> list[float]:
        self.asked.append([name for name, _ in plans])
        return [self._score(name) for name, _ in plans]

    @property
    def names(self) -> list[str]:
        return [name for names in self.asked for name in names]


def start(**fields: Any) -> Settings:
    return Settings(None, AdvancedQuantizationParameters(**fields))


def test_nothing_changes_where_nothing_is_better() -> None:
    scores = Scores()
    given = start()
    assert tune_hyperparams(given, plan_of, lambda plan: 0.0, scores) is given
    assert str(given) == "as given"
    assert scores.asked[0] == ["as given"]


def test_every_plan_is_measured_once() -> None:
    """The preset that is the default, weights per channel and extrema of weights come to the plan as given."""
    plans: list[str] = []

    def noted(named: Sequence[tuple[str, QuantizationPlan]]) -> list[float]:
        plans.extend(fingerprint(plan) for _, plan in named)
        return [0.0 for _ in named]

    tune_hyperparams(start(), plan_of, lambda plan: 0.0, noted)
    assert len(plans) == len(set(plans))


def test_one_parameter_after_the_other_takes_its_best_value() -> None:
    wanted = ("preset mixed", "activations ranged by min of min to max of max", "no bias correction")
    scores = Scores(lambda name: -sum(change in name.split(", ") for change in wanted))
    # Of the estimators those with the least predicted noise are tried; let that be the one that is wanted.
    minmax = AdvancedQuantizationParameters(activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)
    least = fingerprint(plan_of(Settings(QuantizationPreset.MIXED, minmax)))
    found = tune_hyperparams(start(), plan_of, lambda plan: float(fingerprint(plan) != least), scores)
    assert found.changes == wanted
    assert found.preset is QuantizationPreset.MIXED
    assert found.advanced.disable_bias_correction
    assert found.advanced.activations_range_estimator_params == RangeEstimatorParametersSet.MINMAX
    # What was found before goes into every later trial.
    after = scores.names[scores.names.index("preset mixed") + 1 :]
    assert all(name.startswith("preset mixed, ") for name in after)


def test_range_estimators_are_chosen_by_predicted_noise() -> None:
    scores = Scores()
    noise: dict[str, float] = {}

    def counted(plan: QuantizationPlan) -> float:
        return noise.setdefault(fingerprint(plan), float(len(noise)))

    tune_hyperparams(start(), plan_of, counted, scores)
    tried = [name for name in scores.names if "activations ranged by" in name]
    assert len(tried) == 3
    # They were asked for in the order of the candidates, so the first ones that differ from the default are tried.
    assert tried == list(dict.fromkeys(tried))
    assert len(noise) > 6


def test_what_the_user_names_is_left_alone() -> None:
    scores = Scores()
    mode = QuantizationParameters(mode=QuantizationMode.SYMMETRIC)
    tune_hyperparams(
        start(activations_quantization_params=mode, disable_bias_correction=True), plan_of, lambda plan: 0.0, scores
    )
    assert not [name for name in scores.names if "preset" in name or "bias" in name]


def test_settings_that_do_not_go_with_the_statistics_are_passed_over() -> None:
    """Quantiles at 1e-3 were collected by nobody here."""

    def strict(settings: Settings) -> QuantizationPlan:
        if "0.001" in str(settings):
            raise ParameterError("not collected")
        return plan_of(settings)

    scores = Scores()
    tune_hyperparams(start(), strict, lambda plan: 0.0, scores)
    assert not [name for name in scores.names if "0.001" in name]
    assert [name for name in scores.names if "0.0001" in name] or len(scores.names) > 4


def test_a_start_that_cannot_be_is_an_error() -> None:
    def refusing(settings: Settings) -> QuantizationPlan:
        raise ParameterError("no")

    with pytest.raises(ParameterError, match="no"):
        tune_hyperparams(start(), refusing, lambda plan: 0.0, Scores())


def test_fingerprints_tell_plans_apart_by_every_number() -> None:
    given = start()
    others = [
        given.with_preset(QuantizationPreset.MIXED),
        given.with_advanced("", weights_quantization_params=QuantizationParameters(per_channel=False)),
        given.with_advanced("", activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX),
        given.with_advanced("", disable_bias_correction=True),
    ]
    prints = [fingerprint(plan_of(settings)) for settings in (given, *others)]
    assert len(set(prints)) == len(prints)
    assert fingerprint(plan_of(given)) == prints[0]
