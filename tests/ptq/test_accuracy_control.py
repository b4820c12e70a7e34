"""Accuracy control from end to end, on a framework that it has never heard of."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantstats.adapters.protocol import Array, Sample
from quantstats.advanced_parameters import (
    AdvancedAccuracyRestorerParameters,
    AdvancedQuantizationParameters,
    QuantizationParameters,
    RestoreMode,
)
from quantstats.errors import DataError, ParameterError
from quantstats.parameters import DropType, QuantizationPreset
from quantstats.ptq.accuracy_control import AccuracyControlResult, quantize_with_accuracy_control, restore_accuracy
from quantstats.ptq.collection import calibrate
from quantstats.ptq.dataset import Dataset
from quantstats.ptq.plan import QuantizationPlan

from .framework import Network, NumpyAdapter, Piece, images, residual_network

# Few enough levels that a network of random weights gives other answers.
COARSE = AdvancedQuantizationParameters(
    activations_quantization_params=QuantizationParameters(num_bits=5), disable_bias_correction=True
)
CALIBRATION = 24
VALIDATION = 40


class CountingAdapter(NumpyAdapter):
    """Counts how often the model is run, and as what."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.calibration_runs = 0
        self.other_runs = 0

    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        self.calibration_runs += 1
        return super().run(sample, taps)

    def runnable(
        self,
        plan: QuantizationPlan | None = None,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Piece:
        piece = super().runnable(plan, inputs=inputs, outputs=outputs)
        adapter = self

        class Counted(Piece):
            def __init__(self) -> None:
                self.inputs, self.outputs = piece.inputs, piece.outputs

            def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
                adapter.other_runs += 1
                return piece(feed)

        return Counted()


def logits(model: Any, x: Array) -> Array:
    value: Array = model({"image": x})["classify.out"]
    return value


# Without its mean, that of the random weights alone, the output depends on the image.
CENTRE = np.mean([logits(residual_network(), x) for x in images(VALIDATION, 3)], axis=0)


def answer(output: Array) -> int:
    return int((output - CENTRE).argmax())


def items(network: Network, count: int = VALIDATION, seed: int = 3) -> list[tuple[Array, int]]:
    """Images, each with the answer of the floating-point network as its label."""
    return [(x, answer(logits(network, x))) for x in images(count, seed)]


def accuracy(model: Any, data: Iterable[Any]) -> float:
    return float(np.mean([answer(model(x)["classify.out"]) == label for x, label in data]))


def accuracy_and_numbers(model: Any, data: Iterable[Any]) -> tuple[float, list[bool]]:
    right = [answer(model.run({"image": x})["classify.out"]) == label for x, label in data]
    return float(np.mean(right)), right


def accuracy_and_outputs(model: Any, data: Iterable[Any]) -> tuple[float, list[Array]]:
    data = list(data)
    outputs = [model([x])["classify.out"] for x, _ in data]
    return float(np.mean([answer(y) == label for y, (_, label) in zip(outputs, data, strict=True)])), outputs


def control(
    adapter: NumpyAdapter | None = None,
    validation_fn: Callable[[Any, Iterable[Any]], Any] = accuracy,
    *,
    validation: Any = None,
    restorer: AdvancedAccuracyRestorerParameters | None = None,
    **options: Any,
) -> AccuracyControlResult:
    adapter = NumpyAdapter(residual_network()) if adapter is None else adapter
    options.setdefault("max_drop", 0.0)
    options.setdefault("advanced_quantization_parameters", COARSE)
    return restore_accuracy(
        adapter,
        images(CALIBRATION),
        items(residual_network()) if validation is None else validation,
        validation_fn,
        advanced_accuracy_restorer_parameters=restorer,
        progress=False,
        **options,
    )


# -- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [accuracy, accuracy_and_numbers, accuracy_and_outputs])
def test_the_drop_is_met_with_part_of_the_model_in_floating_point(function: Callable[..., Any]) -> None:
    network = residual_network()
    result = control(validation_fn=function)
    report = result.report
    assert report.int8_metric < report.fp32_metric == 1.0
    assert report.reached
    assert 0 < len(report.reverted_operations) < report.quantized_operations
    # The model is what the report says of it.
    assert accuracy(lambda x: result.model({"image": x}), items(network)) == report.metric == 1.0
    floating = {name for name, decision in result.plan.decisions.items() if not decision.quantized}
    assert set(report.reverted_operations) <= floating
    assert not set(report.reverted_operations) & {p.operation for w in result.plan.weights for p in w.readers}
    assert report.steps[0].reverted == ()
    assert report.validations == len(report.steps) + 1
    best = next(step for step in report.steps if step.reverted == tuple(group.name for group in report.reverted))
    assert (best.metric, best.decision) == (report.metric, "within max_drop")


def test_the_model_alone_is_what_the_short_function_returns() -> None:
    found = quantize_with_accuracy_control(
        NumpyAdapter(residual_network()),
        images(CALIBRATION),
        items(residual_network()),
        accuracy,
        max_drop=0.0,
        advanced_quantization_parameters=COARSE,
        progress=False,
    )
    assert found.rounding == control().model.rounding


def test_nothing_is_reverted_where_int8_is_good_enough() -> None:
    report = control(max_drop=1.0).report
    assert report.reached
    assert (report.reverted, report.validations, report.trials) == ((), 2, 0)


def test_two_runs_give_the_same() -> None:
    one, other = control(), control()
    assert one.report == other.report
    assert one.model.rounding == other.model.rounding


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("function", [accuracy, accuracy_and_numbers])
def test_workers_do_not_change_the_result(workers: int, function: Callable[..., Any]) -> None:
    restorer = AdvancedAccuracyRestorerParameters(num_ranking_workers=workers)
    assert control(validation_fn=function, restorer=restorer).report == control(validation_fn=function).report


@pytest.mark.parametrize(("drop_type", "max_drop"), [(DropType.ABSOLUTE, 5.0), (DropType.RELATIVE, 0.05)])
def test_drop_type(drop_type: DropType, max_drop: float) -> None:
    """A metric in percent: a share of it, or points of it."""

    def percent(model: Any, data: Iterable[Any]) -> float:
        return 100 * accuracy(model, data)

    report = control(validation_fn=percent, drop_type=drop_type, max_drop=max_drop).report
    assert report.reached
    assert report.metric >= 95
    assert report.drop == pytest.approx((100 - report.metric) / (100 if drop_type is DropType.RELATIVE else 1))
    tight = control(validation_fn=percent, drop_type=DropType.ABSOLUTE, max_drop=0.05).report
    assert tight.metric > 99
    assert len(tight.reverted) > len(report.reverted)


def test_a_share_of_a_negative_metric_is_one_of_its_magnitude() -> None:
    def loss(model: Any, data: Iterable[Any]) -> float:
        return accuracy(model, data) - 3.0

    report = control(validation_fn=loss, drop_type=DropType.RELATIVE, max_drop=0.02).report
    assert report.fp32_metric == -2.0
    assert report.reached
    assert report.metric >= -2.04


# -- the count of runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tune", [False, True])
def test_the_model_is_calibrated_once_whatever_is_tried(tune: bool) -> None:
    adapter = CountingAdapter(residual_network())
    restorer = AdvancedAccuracyRestorerParameters(tune_hyperparams=tune, convert_to_mixed_preset=tune)
    report = control(adapter, restorer=restorer).report
    assert adapter.calibration_runs == CALIBRATION
    assert report.trials >= (12 if tune else 6)
    assert adapter.other_runs == report.model_runs - CALIBRATION
    assert adapter.other_runs <= (report.validations + report.trials) * VALIDATION


def test_calibration_data_are_read_once_even_if_bias_corrections_are_tried() -> None:
    """A full bias correction runs the model on samples that the calibration has kept."""
    advanced = AdvancedQuantizationParameters(activations_quantization_params=QuantizationParameters(num_bits=4))
    result = restore_accuracy(
        NumpyAdapter(residual_network()),
        (x for x in images(CALIBRATION)),
        items(residual_network()),
        accuracy,
        max_drop=0.0,
        subset_size=20,
        fast_bias_correction=False,
        advanced_quantization_parameters=advanced,
        advanced_accuracy_restorer_parameters=AdvancedAccuracyRestorerParameters(tune_hyperparams=True),
        progress=False,
    )
    assert result.report.reached


def test_statistics_take_the_place_of_calibration() -> None:
    adapter = CountingAdapter(residual_network())
    statistics = calibrate(adapter, images(CALIBRATION), advanced_parameters=COARSE, progress=False)
    adapter.calibration_runs = 0
    result = restore_accuracy(
        adapter,
        None,
        items(residual_network()),
        accuracy,
        max_drop=0.0,
        advanced_quantization_parameters=COARSE,
        statistics=statistics,
        progress=False,
    )
    assert adapter.calibration_runs == 0
    assert result.model.rounding == control().model.rounding


def test_trials_by_outputs_do_not_call_the_validation_function() -> None:
    calls: list[int] = []

    def counted(model: Any, data: Iterable[Any]) -> float:
        data = list(data)
        calls.append(len(data))
        return accuracy(model, data)

    report = control(validation_fn=counted).report
    assert report.trials >= 4
    assert calls == [VALIDATION] * report.validations


def test_trials_by_numbers_call_it_on_the_samples_that_int8_hurts_most() -> None:
    seen: list[list[int]] = []
    right: list[list[bool]] = []
    data = items(residual_network())
    position = {id(x): index for index, (x, _) in enumerate(data)}

    def noted(model: Any, chosen: Iterable[Any]) -> tuple[float, list[bool]]:
        chosen = list(chosen)
        metric, numbers = accuracy_and_numbers(model, chosen)
        seen.append([position[id(x)] for x, _ in chosen])
        right.append(numbers)
        return metric, numbers

    restorer = AdvancedAccuracyRestorerParameters(ranking_subset_size=3)
    control(validation=data, validation_fn=noted, restorer=restorer)
    hurt = [index for index, (fp32, int8) in enumerate(zip(right[0], right[1], strict=True)) if fp32 > int8]
    assert len(hurt) > 3
    subsets = [chosen for chosen in seen if len(chosen) < VALIDATION]
    assert subsets
    assert all(chosen == hurt[:3] for chosen in subsets)


# -- the restorer's parameters ---------------------------------------------------------------------------------------


def test_max_num_iterations_limits_what_is_reverted(caplog: pytest.LogCaptureFixture) -> None:
    needed = len(control().report.reverted)
    assert needed > 1
    with caplog.at_level(logging.WARNING, "quantstats"):
        result = control(restorer=AdvancedAccuracyRestorerParameters(max_num_iterations=needed - 1))
    report = result.report
    assert not report.reached
    assert len(report.reverted) <= needed - 1
    assert report.metric == max(step.metric for step in report.steps)
    assert report.metric >= report.int8_metric
    assert accuracy(lambda x: result.model({"image": x}), items(residual_network())) == report.metric
    assert "no plan was found that meets max_drop=0" in caplog.text


def test_no_iterations_leave_the_quantized_model(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "quantstats"):
        report = control(restorer=AdvancedAccuracyRestorerParameters(max_num_iterations=0)).report
    assert (report.reverted, report.validations, report.reached) == ((), 2, False)
    assert "no plan was found" in caplog.text


def test_all_groups_return_to_floating_point_if_nothing_less_does(caplog: pytest.LogCaptureFixture) -> None:
    """A metric that any rounding spoils."""
    network = residual_network()

    def exactness(model: Any, data: Iterable[Any]) -> float:
        return float(np.mean([np.array_equal(model(x)["classify.out"], y) for x, y in data]))

    data = [(x, network({"image": x})["classify.out"]) for x in images(8, 3)]
    with caplog.at_level(logging.WARNING, "quantstats"):
        report = control(validation=data, validation_fn=exactness).report
    assert report.reached
    assert len(report.reverted_operations) == report.quantized_operations
    assert "only with all" in caplog.text


def test_tuned_parameters_can_do_without_reverting() -> None:
    """Ranges of a quarter of the values are the mistake; estimators that do not clip mend it."""
    from quantstats.range_estimator import (
        AggregatorType,
        RangeEstimatorParameters,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    bound = StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=0.25)
    advanced = AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParameters(min=bound, max=bound)
    )
    plain = control(max_drop=0.05, advanced_quantization_parameters=advanced).report
    restorer = AdvancedAccuracyRestorerParameters(tune_hyperparams=True)
    tuned = control(max_drop=0.05, advanced_quantization_parameters=advanced, restorer=restorer).report
    assert plain.reached
    assert tuned.reached
    assert plain.reverted
    assert tuned.reverted == ()
    assert "activations ranged by" in tuned.settings
    assert tuned.validations == 3


def test_the_mixed_preset_is_tried_first() -> None:
    data = [(x - 1, y) for x, y in items(residual_network())]
    network = residual_network()
    data = [(x, answer(logits(network, x))) for x, _ in data]
    restorer = AdvancedAccuracyRestorerParameters(convert_to_mixed_preset=True)
    report = control(validation=data, restorer=restorer).report
    assert report.steps[1].settings == "preset mixed"
    better = report.steps[1].metric > report.steps[0].metric
    assert report.settings == ("preset mixed" if better else "as given")
    mixed = control(validation=data, restorer=restorer, preset=QuantizationPreset.MIXED).report
    assert all(step.settings == "as given" for step in mixed.steps)
    assert mixed.int8_metric == report.steps[1].metric


def test_only_activations_leaves_the_weights_rounded() -> None:
    both = control()
    restorer = AdvancedAccuracyRestorerParameters(restore_mode=RestoreMode.ONLY_ACTIVATIONS)
    result = control(restorer=restorer)
    assert both.report.reverted
    assert result.report.reverted
    rounded = {port.operation for weight in result.plan.weights for port in weight.readers}
    assert len(result.plan.weights) == 4 > len(both.plan.weights)
    assert set(result.report.reverted_operations) & rounded
    read = {port.operation for a in result.plan.activations for place in a.places for port in place.readers}
    assert not set(result.report.reverted_operations) & read


def test_the_quantized_model_is_saved_where_the_adapter_can(tmp_path: Path) -> None:
    class Saving(NumpyAdapter):
        def save(self, model: Network, stem: Path) -> Path:
            path = stem.with_suffix(".json")
            path.write_text(json.dumps(sorted(port.operation for port in model.rounding)))
            return path

    restorer = AdvancedAccuracyRestorerParameters(intermediate_model_dir=str(tmp_path / "made" / "here"))
    control(Saving(residual_network()), restorer=restorer)
    saved = json.loads((tmp_path / "made" / "here" / "intermediate_model.json").read_text())
    assert {"conv0", "conv1", "conv2", "classify"} <= set(saved)
    assert (tmp_path / "made" / "here" / "journal.jsonl").exists()


# -- validation data -------------------------------------------------------------------------------------------------


class OneByOne:
    """Begins anew for every iterator, and knows neither length nor positions."""

    def __init__(self, data: list[Any]) -> None:
        self._data = data

    def __iter__(self) -> Any:
        return iter(self._data)


@pytest.mark.parametrize("form", [list, tuple, OneByOne, lambda data: Dataset(data, lambda item: item[0])])
def test_forms_of_validation_data(form: Callable[[Any], Any]) -> None:
    data = items(residual_network())
    expected = control(validation=data, validation_fn=accuracy_and_numbers).report
    assert control(validation=form(data), validation_fn=accuracy_and_numbers).report == expected


def test_validation_data_as_arrays() -> None:
    data = items(residual_network())
    arrays = {"image": np.concatenate([x for x, _ in data]), "label": np.array([label for _, label in data])}

    def function(model: Any, samples: Iterable[Any]) -> tuple[float, list[bool]]:
        # The label that goes with the image is not read.
        right = [bool(answer(model(s)["classify.out"]) == s["label"][0]) for s in samples]
        return float(np.mean(right)), right

    report = control(validation=arrays, validation_fn=function).report
    assert report == control(validation=data, validation_fn=accuracy_and_numbers).report


def test_outputs_may_be_gathered_over_runs() -> None:
    """An adapter may use its arrays again; what a validation function holds does not change."""

    class Reusing(NumpyAdapter):
        def runnable(self, plan: QuantizationPlan | None = None, **parts: Any) -> Any:
            piece = super().runnable(plan, **parts)
            buffers: dict[str, Array] = {}

            class Buffered:
                inputs, outputs = piece.inputs, piece.outputs

                def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
                    for name, value in piece(feed).items():
                        buffers.setdefault(name, np.empty_like(value))[:] = value
                    return buffers

            return Buffered()

    reused = control(Reusing(residual_network()), accuracy_and_outputs).report
    assert reused == control(validation_fn=accuracy_and_outputs).report


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (float("nan"), "returned the metric nan"),
        (float("inf"), "returned the metric inf"),
        ("0.9", "returned a str, '0.9' as the metric"),
        (None, "returned a NoneType, None as the metric"),
        (True, "returned a bool, True as the metric"),
        ([0.5], "returned a list"),
        (np.ones(3), "returned a ndarray"),
        ((0.5, None, 1), "returned a tuple of 3"),
        ((0.5, 7), "returned a int, 7 as the values"),
        ((0.5, [1.0]), f"returned 1 values for {VALIDATION} items"),
        ((0.5, [0.5] * (VALIDATION - 1) + [float("nan")]), f"returned nan as the value of item {VALIDATION - 1}"),
        ((0.5, ["a"] * VALIDATION), "returned a str, 'a' as an output of item 0"),
    ],
)
def test_what_is_no_metric_is_refused(returned: Any, message: str) -> None:
    def nonsense(model: Any, data: Iterable[Any]) -> Any:
        accuracy(model, data)
        return returned

    with pytest.raises(ParameterError, match=f"validation_fn {message}") as caught:
        control(validation_fn=nonsense)
    assert "; return" in str(caught.value) or ", which cannot be compared; return" in str(caught.value)


def test_numbers_of_one_element_are_numbers() -> None:
    def scalars(model: Any, data: Iterable[Any]) -> Any:
        metric, numbers = accuracy_and_numbers(model, data)
        return np.array([metric], np.float64), [np.float32(number) for number in numbers]

    assert control(validation_fn=scalars).report == control(validation_fn=accuracy_and_numbers).report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_drop": -0.1}, r"max_drop=-0.1 is not a finite number of at least 0"),
        ({"max_drop": float("nan")}, r"max_drop=nan is not a finite number"),
        ({"max_drop": True}, r"max_drop=True is not a finite number"),
        ({"drop_type": "absolute"}, r"drop_type='absolute' is not a DropType; use one of DropType.ABSOLUTE"),
        ({"validation_fn": 3}, r"validation_fn=3 is not callable"),
        ({"fast_bias_correction": 1}, r"fast_bias_correction=1 is not a bool"),
        ({"restorer": 1}, r"advanced_accuracy_restorer_parameters=1 is not a AdvancedAccuracyRestorerParameters"),
    ],
)
def test_parameters_that_cannot_be_honoured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        control(**options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "validation data are empty"),
        (OneByOne([]), "validation_fn did not run the model"),
        (iter([1]), "can be read only once"),
        (7, "validation data of type int cannot be iterated over"),
    ],
)
def test_validation_data_that_cannot_be_used(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        control(validation=data, validation_fn=lambda model, chosen: float(len([model(x) for x, _ in chosen])))


def test_a_share_of_zero_is_refused() -> None:
    def zero(model: Any, data: Iterable[Any]) -> float:
        return accuracy(model, data) - 1.0

    with pytest.raises(ParameterError, match=r"the metric of the floating-point model is 0.*use DropType.ABSOLUTE"):
        control(validation_fn=zero, drop_type=DropType.RELATIVE)


def test_a_feed_that_does_not_fit_is_named() -> None:
    with pytest.raises(DataError, match="input 'image' of sample 0 has dtype float64"):
        control(validation_fn=lambda model, data: float(len([model(x.astype(np.float64)) for x, _ in data])))


def test_another_kind_of_values_for_the_quantized_model_is_refused() -> None:
    calls = []

    def fickle(model: Any, data: Iterable[Any]) -> Any:
        calls.append(1)
        found = accuracy_and_numbers(model, data)
        return found if len(calls) == 1 else found[0]

    with pytest.raises(ParameterError, match="returned numbers besides the metric for the floating-point model, and"):
        control(validation_fn=fickle)


def test_other_data_for_every_model_is_ranked_by_predicted_noise(caplog: pytest.LogCaptureFixture) -> None:
    """A validation function with random augmentation: no output of one model can be compared with another's."""
    random = np.random.default_rng(0)

    def augmented(model: Any, data: Iterable[Any]) -> float:
        return accuracy(model, [(x + random.normal(0, 1e-6, x.shape).astype(np.float32), y) for x, y in data])

    with caplog.at_level(logging.WARNING, "quantstats"):
        report = control(validation_fn=augmented, max_drop=0.05).report
    assert "ordered by predicted noise alone" in caplog.text
    assert report.reached
