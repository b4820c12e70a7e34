"""Quantization that keeps the accuracy of the floating-point model."""

from __future__ import annotations

import dataclasses
import logging
import math
import numbers
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from quantstats._validation import check_bool, check_instance, check_member
from quantstats.adapters import adapter_for
from quantstats.adapters.protocol import ModelAdapter, Sample, SavingAdapter
from quantstats.advanced_parameters import (
    AdvancedAccuracyRestorerParameters,
    AdvancedQuantizationParameters,
    RestoreMode,
)
from quantstats.errors import DataError, ParameterError
from quantstats.parameters import DropType, IgnoredScope, ModelType, QuantizationPreset, TargetDevice
from quantstats.ptq.accuracy_control.evaluation import Evaluator
from quantstats.ptq.accuracy_control.groups import find_groups
from quantstats.ptq.accuracy_control.journal import Journal
from quantstats.ptq.accuracy_control.measurement import Candidate, Measurement, Trial
from quantstats.ptq.accuracy_control.predicted_noise import PredictedNoise
from quantstats.ptq.accuracy_control.progress import Progress, reporting
from quantstats.ptq.accuracy_control.report import AccuracyControlReport, AccuracyControlResult, RevertedGroup
from quantstats.ptq.accuracy_control.restoration import Restoration
from quantstats.ptq.accuracy_control.validation_data import ValidationData
from quantstats.ptq.checks import check_parameters
from quantstats.ptq.collection import calibrate
from quantstats.ptq.dataset import Dataset, normalize_sample
from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.identity import model_hash
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.quantize import make_plan
from quantstats.ptq.tuning import ACTIVATION_ESTIMATORS, Settings, fingerprint, tune_hyperparams
from quantstats.statistics.calibration import CalibrationStatistics

_logger = logging.getLogger(__name__)

#: What accuracy control writes into ``intermediate_model_dir``.
JOURNAL_NAME = "journal.jsonl"
MODEL_STEM = "intermediate_model"


def quantize_with_accuracy_control(
    model: Any,
    calibration_dataset: Any,
    validation_dataset: Any,
    validation_fn: Callable[[Any, Iterable[Any]], Any],
    *,
    max_drop: float = 0.01,
    drop_type: DropType = DropType.ABSOLUTE,
    preset: QuantizationPreset | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    fast_bias_correction: bool = True,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_quantization_parameters: AdvancedQuantizationParameters | None = None,
    advanced_accuracy_restorer_parameters: AdvancedAccuracyRestorerParameters | None = None,
    statistics: CalibrationStatistics | None = None,
    progress: bool | Progress = True,
) -> Any:
    """Return an int8 model that loses at most `max_drop` of the accuracy of the floating-point one.

    The model is quantized and validated. If it loses more, the operations that int8 hurts most return to floating
    point. The model is calibrated once; everything else derives from these statistics. :func:`restore_accuracy` does
    the same and returns a report too.

    :param model: As for :func:`quantize`.
    :param calibration_dataset: As for :func:`quantize`.
    :param validation_dataset: Any iterable that can be read more than once, of items that `validation_fn` understands.
    :param validation_fn: Called with a :class:`~quantstats.ptq.accuracy_control.evaluation.ValidatedModel` and an
        iterable of items: all, or some of them. It runs the model on each and returns a metric, the more the better, or
        a metric and a list with a number or the outputs of each item.
    :param max_drop: Largest allowed drop of the metric.
    :param drop_type: ABSOLUTE: fp32 - int8. RELATIVE: that, divided by the magnitude of fp32.
    :param preset: As for :func:`quantize`.
    :param target_device: As for :func:`quantize`.
    :param subset_size: The largest number of samples to calibrate on.
    :param fast_bias_correction: As for :func:`quantize`.
    :param model_type: As for :func:`quantize`.
    :param ignored_scope: As for :func:`quantize`.
    :param advanced_quantization_parameters: The ``advanced_parameters`` of :func:`quantize`.
    :param advanced_accuracy_restorer_parameters: How accuracy is restored.
    :param statistics: What :func:`calibrate` collected of this model; `calibration_dataset` is not read then.
    :param progress: A callback, or whether to show the progress on the terminal.
    :return: The quantized model, in the same form. If no plan was found that meets `max_drop`, the best one, and a
        warning is logged.
    :raises ParameterError: if a parameter has a value that cannot be honoured, or `validation_fn` returns what is no
        metric.
    :raises DataError: if data do not fit the model, or are empty; if a journal is of another run.
    :raises QuantizationError: as for :func:`quantize`. What `validation_fn` raises passes through.
    """
    return restore_accuracy(
        model,
        calibration_dataset,
        validation_dataset,
        validation_fn,
        max_drop=max_drop,
        drop_type=drop_type,
        preset=preset,
        target_device=target_device,
        subset_size=subset_size,
        fast_bias_correction=fast_bias_correction,
        model_type=model_type,
        ignored_scope=ignored_scope,
        advanced_quantization_parameters=advanced_quantization_parameters,
        advanced_accuracy_restorer_parameters=advanced_accuracy_restorer_parameters,
        statistics=statistics,
        progress=progress,
    ).model


def restore_accuracy(
    model: Any,
    calibration_dataset: Any,
    validation_dataset: Any,
    validation_fn: Callable[[Any, Iterable[Any]], Any],
    *,
    max_drop: float = 0.01,
    drop_type: DropType = DropType.ABSOLUTE,
    preset: QuantizationPreset | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    fast_bias_correction: bool = True,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_quantization_parameters: AdvancedQuantizationParameters | None = None,
    advanced_accuracy_restorer_parameters: AdvancedAccuracyRestorerParameters | None = None,
    statistics: CalibrationStatistics | None = None,
    progress: bool | Progress = True,
) -> AccuracyControlResult:
    """Quantize with accuracy control and return the model together with a report of what was done.

    Parameters and errors are those of :func:`quantize_with_accuracy_control`.
    """
    owner = "quantize_with_accuracy_control"
    advanced = _given(owner, advanced_quantization_parameters, AdvancedQuantizationParameters)
    restorer = _given(owner, advanced_accuracy_restorer_parameters, AdvancedAccuracyRestorerParameters)
    backend, advanced = advanced.backend_params, dataclasses.replace(advanced, backend_params={})
    check_parameters(
        owner,
        preset=preset,
        subset_size=subset_size,
        model_type=model_type,
        ignored_scope=ignored_scope,
        advanced=advanced,
        progress=progress,
        target_device=target_device,
    )
    check_bool(owner, "fast_bias_correction", fast_bias_correction)
    check_member(owner, "drop_type", drop_type, DropType)
    _check_max_drop(owner, max_drop)
    if not callable(validation_fn):
        raise ParameterError(
            f"{owner}.validation_fn={validation_fn!r} is not callable; give a function of a model and data items"
        )
    data = ValidationData(validation_dataset)
    if statistics is not None:
        check_instance(owner, "statistics", statistics, CalibrationStatistics)
    elif calibration_dataset is None:
        raise DataError("there is nothing to calibrate with; give calibration_dataset, or statistics from calibrate()")

    adapter = adapter_for(model, backend)
    with reporting(progress) as report:
        calibration_runs = 0
        dataset = None if calibration_dataset is None else Dataset.of(calibration_dataset)
        # A full bias correction runs the quantized model on a part of the calibration data, which may come only once.
        first: _FirstSamples | None = None
        if dataset is not None and (restorer.tune_hyperparams or not fast_bias_correction):
            first = _FirstSamples(dataset, adapter.graph(), max(1, subset_size // 5))  # as many as it reads
            dataset = Dataset(first)
        if statistics is None:
            statistics = calibrate(
                adapter,
                dataset,
                subset_size=subset_size,
                range_estimators=ACTIVATION_ESTIMATORS if restorer.tune_hyperparams else (),
                preset=preset,
                model_type=model_type,
                ignored_scope=ignored_scope,
                advanced_parameters=advanced,
                progress=lambda done, total, tensors: report("Calibrating", done, total, f"{tensors} tensors"),
            )
            calibration_runs = statistics.num_samples

        collected = statistics

        def plan_of(settings: Settings) -> QuantizationPlan:
            return make_plan(
                adapter,
                None if first is None else first.samples(),
                preset=settings.preset,
                target_device=target_device,
                subset_size=subset_size,
                fast_bias_correction=settings.fast_bias_correction,
                model_type=model_type,
                ignored_scope=ignored_scope,
                advanced_parameters=settings.advanced,
                statistics=collected,
                progress=False,
            )

        start = Settings(preset, advanced, fast_bias_correction)
        plan = plan_of(start)
        header = {
            "model": model_hash(adapter, adapter.graph()),
            "plan": fingerprint(plan),
            "validation_items": data.length_hint(),
            "parameters": {
                "max_drop": float(max_drop),
                "drop_type": drop_type.value,
                "subset_size": subset_size,
                **{
                    f"advanced_accuracy_restorer_parameters.{name}": value
                    for name, value in _plain(restorer).items()
                    if name not in ("num_ranking_workers", "intermediate_model_dir")
                },
                "advanced_quantization_parameters": _plain(advanced),
                "preset": _plain(preset),
                "model_type": _plain(model_type),
                "fast_bias_correction": fast_bias_correction,
                "ignored_scope": _plain(ignored_scope),
            },
        }
        directory = _intermediate_directory(restorer)
        if directory is not None and isinstance(adapter, SavingAdapter):
            adapter.save(adapter.emit(plan), directory / MODEL_STEM)
        with Journal(None if directory is None else directory / JOURNAL_NAME, header) as journal:
            evaluator = Evaluator(validation_fn, data, adapter.graph())
            control = _Control(
                adapter,
                statistics,
                plan_of,
                journal,
                Measurement(
                    adapter,
                    evaluator,
                    journal,
                    max_drop=max_drop,
                    drop_type=drop_type,
                    subset_size=restorer.ranking_subset_size or subset_size,
                    workers=restorer.num_ranking_workers or 1,
                    progress=report,
                ),
                restorer,
            )
            best, int8 = control.run(start, plan)
            result = AccuracyControlReport(
                fp32_metric=control.fp32_metric,
                int8_metric=int8.metric,
                metric=best.metric,
                drop=best.drop,
                max_drop=float(max_drop),
                drop_type=drop_type,
                reached=best.passes,
                settings=best.settings,
                reverted=tuple(RevertedGroup(group.name, group.operations) for group in best.reverted),
                quantized_operations=sum(len(group.operations) for group in find_groups(adapter.graph(), plan)),
                steps=tuple(control.measurement.steps),
                validations=len(control.measurement.steps) + 1,
                trials=control.measurement.trials,
                model_runs=calibration_runs + evaluator.runs,
                resumed_steps=journal.resumed,
            )
            journal.take(
                {"step": "result", "reverted": [group.name for group in best.reverted]},
                lambda: {"metric": best.metric, "drop": best.drop, "reached": best.passes},
            )
    _warn(result)
    return AccuracyControlResult(adapter.emit(best.plan), result, best.plan)


class _Control:
    """The course of one run, from the plan as given to the one that is returned."""

    def __init__(
        self,
        adapter: ModelAdapter[Any],
        statistics: CalibrationStatistics,
        plan_of: Callable[[Settings], QuantizationPlan],
        journal: Journal,
        measurement: Measurement,
        restorer: AdvancedAccuracyRestorerParameters,
    ) -> None:
        self._adapter = adapter
        self._graph = adapter.graph()
        self._statistics = statistics
        self._plan_of = plan_of
        self._journal = journal
        self._restorer = restorer
        self.measurement = measurement
        self.fp32_metric = 0.0

    def run(self, start: Settings, plan: QuantizationPlan) -> tuple[Candidate, Candidate]:
        """Return the result, and the plan as given."""
        self.fp32_metric = self.measurement.validate_original()
        int8 = self.measurement.validate(plan, str(start), focus=True)
        best, settings = int8, start
        if not best.passes and self._restorer.convert_to_mixed_preset:
            best, settings = self._better(best, settings, self._mixed(settings))
        if not best.passes and self._restorer.tune_hyperparams:
            tuned = tune_hyperparams(settings, self._plan_of, self._noise, self._scores)
            best, settings = self._better(best, settings, tuned if tuned is not settings else None)
        if not best.passes:
            best = self._restored(best)
        return best, int8

    def _mixed(self, settings: Settings) -> Settings | None:
        if settings.names_activation_mode:
            return None
        return settings.with_preset(QuantizationPreset.MIXED)

    def _better(self, best: Candidate, settings: Settings, other: Settings | None) -> tuple[Candidate, Settings]:
        """Validate other settings, and keep whichever are better."""
        if other is None:
            return best, settings
        plan = self._plan_of(other)
        if fingerprint(plan) == fingerprint(best.plan):
            return best, settings
        before = self.measurement.focused
        candidate = self.measurement.validate(plan, str(other), focus=True)
        if candidate.passes or candidate.metric > best.metric:
            return candidate, other
        self.measurement.focus(before)
        return best, settings

    def _noise(self, plan: QuantizationPlan) -> float:
        return PredictedNoise(self._adapter, self._graph, plan, self._statistics).of_plan()

    def _scores(self, plans: Sequence[tuple[str, QuantizationPlan]]) -> Sequence[Any]:
        return self.measurement.scores([Trial("Tuning", name, plan) for name, plan in plans])

    def _restored(self, start: Candidate) -> Candidate:
        restoration = Restoration(
            start,
            find_groups(self._graph, start.plan),
            PredictedNoise(self._adapter, self._graph, start.plan, self._statistics),
            self.measurement,
            self._journal,
            limit=self._restorer.max_num_iterations,
            keep_weights=self._restorer.restore_mode is RestoreMode.ONLY_ACTIVATIONS,
        )
        found = restoration.run()
        if found is not None:
            return found
        # The highest metric; of equal ones what leaves most on integers, then what was found first.
        return min(self.measurement.candidates, key=lambda c: (-c.metric, len(c.reverted)))


class _FirstSamples:
    """Calibration data that keeps copies of its first samples as they are read, for another pass over these."""

    def __init__(self, dataset: Dataset, graph: QuantizationGraph, count: int) -> None:
        self._dataset = dataset
        self._graph = graph
        self._count = count
        self._kept: list[Sample] = []
        self.batch_size = dataset.batch_size

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Sample]:
        for index, item in enumerate(self._dataset):
            sample = normalize_sample(item, self._graph, index)
            if index == len(self._kept) and index < self._count:
                self._kept.append({name: value.copy() for name, value in sample.items()})
            yield sample

    def samples(self) -> list[Sample]:
        """Return the first samples, reading them if that was not done yet."""
        if not self._kept:
            for _ in zip(range(self._count), self, strict=False):
                pass
        return self._kept


def _given(owner: str, value: Any, cls: type[Any]) -> Any:
    if value is None:
        return cls()
    name = "advanced_quantization_parameters"
    if cls is AdvancedAccuracyRestorerParameters:
        name = "advanced_accuracy_restorer_parameters"
    check_instance(owner, name, value, cls)
    return value


def _check_max_drop(owner: str, max_drop: Any) -> None:
    real = isinstance(max_drop, numbers.Real) and not isinstance(max_drop, bool)
    if not real or not math.isfinite(max_drop) or max_drop < 0:
        raise ParameterError(
            f"{owner}.max_drop={max_drop!r} is not a finite number of at least 0; give the largest drop of the metric "
            "that is allowed, such as 0.01"
        )


def _intermediate_directory(restorer: AdvancedAccuracyRestorerParameters) -> Path | None:
    if restorer.intermediate_model_dir is None:
        return None
    directory = Path(restorer.intermediate_model_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"intermediate_model_dir {str(directory)!r} cannot be made: {error.strerror or error}; choose another"
        ) from error
    return directory


def _plain(value: Any) -> Any:
    """A parameter as JSON can hold it."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _warn(report: AccuracyControlReport) -> None:
    counts = f"{len(report.reverted_operations)} of {report.quantized_operations} operations in floating point"
    if not report.reached:
        _logger.warning(
            "no plan was found that meets max_drop=%g: the best one has a drop of %g (%s; metric %g, of fp32 %g) with "
            "%s; allow a larger drop, more max_num_iterations, or use tune_hyperparams",
            report.max_drop,
            report.drop,
            report.drop_type.value,
            report.metric,
            report.fp32_metric,
            counts,
        )
    elif report.reverted and len(report.reverted_operations) == report.quantized_operations:
        _logger.warning(
            "max_drop=%g is met only with all %d operations in floating point; allow a larger drop, or use "
            "tune_hyperparams",
            report.max_drop,
            report.quantized_operations,
        )
    else:
        _logger.info("metric %g of %g, with %s", report.metric, report.fp32_metric, counts)


__all__ = ["quantize_with_accuracy_control", "restore_accuracy"]
