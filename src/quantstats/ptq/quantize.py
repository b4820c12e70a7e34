"""Post-training quantization from end to end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from quantstats._validation import check_instance
from quantstats.adapters import adapter_for
from quantstats.adapters.protocol import ModelAdapter
from quantstats.advanced_parameters import AdvancedQuantizationParameters
from quantstats.errors import DataError
from quantstats.parameters import IgnoredScope, ModelType, QuantizationPreset, TargetDevice
from quantstats.ptq.calibration import observe
from quantstats.ptq.checks import check_parameters
from quantstats.ptq.dataset import Dataset
from quantstats.ptq.derivation import derive_ranges
from quantstats.ptq.estimators import check_estimators
from quantstats.ptq.placement import place
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.progress import Progress, reporting
from quantstats.ptq.ranges import fill_ranges
from quantstats.statistics.calibration import CalibrationStatistics


def quantize(
    model: Any,
    calibration_dataset: Any = None,
    *,
    preset: QuantizationPreset | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_parameters: AdvancedQuantizationParameters | None = None,
    statistics: CalibrationStatistics | None = None,
    progress: bool | Progress = True,
) -> Any:
    """Return an int8 model made of a floating-point one and some calibration data. The model itself is not changed.

    :param model: For ONNX a path, an ``onnx.ModelProto`` or an ``onnx_ir.Model``; else an object that is a
        :class:`~quantstats.adapters.protocol.ModelAdapter`.
    :param calibration_dataset: A :class:`~quantstats.ptq.dataset.Dataset` or any iterable of samples. May be left out,
        and is not read, where `statistics` are given.
    :param preset: ``performance`` (all symmetric) or ``mixed`` (asymmetric activations); ``None`` takes ``mixed`` for
        transformers, else ``performance``.
    :param target_device: ANY or CPU.
    :param subset_size: The largest number of samples to read. Data may end earlier.
    :param model_type: ``ModelType.TRANSFORMER`` for models with attention blocks.
    :param ignored_scope: Operations that stay in floating point.
    :param advanced_parameters: Overflow fix, quantization parameters, range estimators.
    :param statistics: What :func:`calibrate` collected of this model. Ranges are derived from it, to the bit as from
        the data themselves, and the model is not run.
    :param progress: A callback, or whether to show a bar on the terminal.
    :return: The quantized model, in the same form (an ``onnx.ModelProto`` for a path).
    :raises ParameterError: if a parameter has a value that cannot be honoured.
    :raises DataError: if the data do not fit the model, or are empty; if the statistics are of another model or lack a
        tensor.
    :raises NonFiniteError: if an activation or a constant holds NaN or Inf.
    :raises IgnoredScopeError: if a rule of the scope matches nothing.
    :raises NothingToQuantizeError: if no operation is left to quantize.
    :raises ModelError: if the model cannot be read or run.
    """
    settings: Mapping[str, Any] = {}
    if isinstance(advanced_parameters, AdvancedQuantizationParameters):
        settings = advanced_parameters.backend_params
        advanced_parameters = dataclasses.replace(advanced_parameters, backend_params={})
    adapter = adapter_for(model, settings)
    plan = make_plan(
        adapter,
        calibration_dataset,
        preset=preset,
        target_device=target_device,
        subset_size=subset_size,
        model_type=model_type,
        ignored_scope=ignored_scope,
        advanced_parameters=advanced_parameters,
        statistics=statistics,
        progress=progress,
    )
    return adapter.emit(plan)


def make_plan(
    adapter: ModelAdapter[Any],
    calibration_dataset: Any = None,
    *,
    preset: QuantizationPreset | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_parameters: AdvancedQuantizationParameters | None = None,
    statistics: CalibrationStatistics | None = None,
    progress: bool | Progress = True,
) -> QuantizationPlan:
    """Return the plan that :func:`quantize` emits: every decision and every number about the quantized model.

    Placement comes first, so a model with nothing to quantize or a scope without a match fails before any data is read.
    Parameters and errors are those of :func:`quantize`.
    """
    advanced = AdvancedQuantizationParameters() if advanced_parameters is None else advanced_parameters
    check_parameters(
        "quantize",
        preset=preset,
        subset_size=subset_size,
        model_type=model_type,
        ignored_scope=ignored_scope,
        advanced=advanced,
        target_device=target_device,
    )
    if statistics is not None:
        check_instance("quantize", "statistics", statistics, CalibrationStatistics)
    elif calibration_dataset is None:
        raise DataError("there is nothing to calibrate with; give calibration_dataset, or statistics from calibrate()")
    graph = adapter.graph()
    plan = place(
        graph,
        preset=preset,
        model_type=model_type,
        overflow_fix=advanced.overflow_fix,
        activations=advanced.activations_quantization_params,
        weights=advanced.weights_quantization_params,
        quantize_outputs=advanced.quantize_outputs,
        ignored_scope=ignored_scope,
    )
    check_estimators(plan, advanced)
    weight_params = advanced.weights_range_estimator_params
    if statistics is not None:
        derived = derive_ranges(
            adapter,
            graph,
            plan,
            statistics,
            params=advanced.activations_range_estimator_params,
            batchwise=advanced.batchwise_statistics,
        )
        return fill_ranges(plan, graph, adapter, derived, weight_params=weight_params)
    dataset = Dataset.of(calibration_dataset)
    batchwise = advanced.batchwise_statistics
    if batchwise is None:
        batchwise = dataset.batch_size > 1
    known = dataset.length_hint()
    with reporting(progress) as report:
        estimators = observe(
            adapter,
            graph,
            plan,
            dataset.samples(graph, subset_size),
            params=advanced.activations_range_estimator_params,
            batchwise=batchwise,
            inplace=advanced.inplace_statistics,
            progress=report,
            total=None if known is None else min(known, subset_size),
        )
    return fill_ranges(plan, graph, adapter, estimators, weight_params=weight_params)
