"""Post-training quantization from end to end."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from quantstats._validation import check_bool, check_instance
from quantstats.adapters import adapter_for
from quantstats.adapters.protocol import ModelAdapter, Sample
from quantstats.advanced_parameters import AdvancedBiasCorrectionParameters, AdvancedQuantizationParameters
from quantstats.errors import DataError, ParameterError
from quantstats.parameters import IgnoredScope, ModelType, QuantizationPreset, TargetDevice
from quantstats.ptq.bias_correction import InputMean, channel_mean_taps, correct_fast, correct_full
from quantstats.ptq.calibration import observe
from quantstats.ptq.checks import check_parameters
from quantstats.ptq.collection import calibrate
from quantstats.ptq.dataset import Dataset
from quantstats.ptq.derivation import derive_ranges
from quantstats.ptq.estimators import check_estimators
from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.placement import place
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.progress import Progress, reporting
from quantstats.ptq.ranges import fill_ranges
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.non_finite import NonFinitePolicy, check_policy

_logger = logging.getLogger(__name__)


def quantize(
    model: Any,
    calibration_dataset: Any = None,
    *,
    preset: QuantizationPreset | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    subset_size: int = 300,
    fast_bias_correction: bool = True,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_parameters: AdvancedQuantizationParameters | None = None,
    statistics: CalibrationStatistics | None = None,
    non_finite: NonFinitePolicy = "raise",
    progress: bool | Progress = True,
) -> Any:
    """Return an int8 model made of a floating-point one and some calibration data. The model itself is not changed.

    :param model: For ONNX a path, an ``onnx.ModelProto`` or an ``onnx_ir.Model``; else an object that is a
        :class:`~quantstats.adapters.protocol.ModelAdapter`.
    :param calibration_dataset: A :class:`~quantstats.ptq.dataset.Dataset` or any iterable of samples. Left out where
        `statistics` are given, unless biases are corrected fully.
    :param preset: ``performance`` (all symmetric) or ``mixed`` (asymmetric activations); ``None`` takes ``mixed`` for
        transformers, else ``performance``.
    :param target_device: The CPU that will run the model: ANY or CPU of any generation, or AVX2, AVX512 or VNNI.
    :param subset_size: The largest number of samples to read. Data may end earlier.
    :param fast_bias_correction: How biases make up for the mean error of quantization, unless
        `advanced_parameters` disable it. True: for each operation by itself, from the mean of its input. False: from
        the outputs of the quantized model on the first fifth of `subset_size` samples, which takes account of clipped
        activations and of what earlier operations left, and about two more runs of the model on each of them.
    :param model_type: ``ModelType.TRANSFORMER`` for models with attention blocks.
    :param ignored_scope: Operations that stay in floating point.
    :param advanced_parameters: Overflow fix, quantization parameters, range estimators, bias correction.
    :param statistics: What :func:`calibrate` collected of this model. Ranges are derived from it, to the bit as from
        the data themselves, and the model is not run, except for a full bias correction.
    :param non_finite: What to do about activations that are NaN or infinite, as for :func:`calibrate`: ``"raise"``,
        ``"ignore"`` or ``"clamp"``. Not read where `statistics` are given, which have a policy of their own.
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
    reads_data = not fast_bias_correction and not getattr(advanced_parameters, "disable_bias_correction", False)
    if statistics is not None and calibration_dataset is not None and not reads_data:
        raise ParameterError(
            "calibration_dataset and statistics are both given, but ranges come from one of them; leave one out, or "
            "give fast_bias_correction=False, which runs the quantized model on the data"
        )
    adapter = adapter_for(model, settings)
    plan = make_plan(
        adapter,
        calibration_dataset,
        preset=preset,
        target_device=target_device,
        subset_size=subset_size,
        fast_bias_correction=fast_bias_correction,
        model_type=model_type,
        ignored_scope=ignored_scope,
        advanced_parameters=advanced_parameters,
        statistics=statistics,
        non_finite=non_finite,
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
    fast_bias_correction: bool = True,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_parameters: AdvancedQuantizationParameters | None = None,
    statistics: CalibrationStatistics | None = None,
    non_finite: NonFinitePolicy = "raise",
    progress: bool | Progress = True,
) -> QuantizationPlan:
    """Return the plan that :func:`quantize` emits: every decision and every number about the quantized model.

    Placement comes first, so a model with nothing to quantize or a scope without a match fails before any data is read.
    Parameters and errors are those of :func:`quantize`, but data that would not be read may be given.
    """
    advanced = AdvancedQuantizationParameters() if advanced_parameters is None else advanced_parameters
    check_parameters(
        "quantize",
        preset=preset,
        subset_size=subset_size,
        model_type=model_type,
        ignored_scope=ignored_scope,
        advanced=advanced,
        progress=progress,
        target_device=target_device,
    )
    check_bool("quantize", "fast_bias_correction", fast_bias_correction)
    corrects = not advanced.disable_bias_correction
    fast, full = corrects and fast_bias_correction, corrects and not fast_bias_correction
    check_policy("quantize", non_finite)
    if statistics is not None:
        check_instance("quantize", "statistics", statistics, CalibrationStatistics)
        if full and calibration_dataset is None:
            raise DataError(
                "fast_bias_correction=False runs the quantized model, so statistics alone do not do; give "
                "calibration_dataset too, or leave fast_bias_correction=True"
            )
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
        target_device=target_device,
        overflow_pairing=advanced.overflow_pairing,
    )
    check_estimators(plan, advanced)
    weight_params = advanced.weights_range_estimator_params
    bias_params = advanced.bias_correction_params
    # A fifth as many samples, as nncf has it: means need fewer than extrema do.
    bias_samples = max(1, subset_size // 5)
    kept: list[Sample] = []
    if statistics is None and non_finite != "raise":
        # Statistics know how to leave values out or to clamp them, and ranges that follow from them have the same bits.
        dataset = Dataset.of(calibration_dataset)
        if advanced.batchwise_statistics is None:  # The samples alone, which go on, do not tell the size of a batch.
            advanced = dataclasses.replace(advanced, batchwise_statistics=dataset.batch_size > 1)
        statistics = calibrate(
            adapter,
            _keeping(dataset.samples(graph, subset_size), kept, bias_samples if full else 0),
            subset_size=subset_size,
            non_finite=non_finite,
            preset=preset,
            model_type=model_type,
            ignored_scope=ignored_scope,
            advanced_parameters=advanced,
            progress=progress,
        )
    if statistics is not None:
        derived = derive_ranges(
            adapter,
            graph,
            plan,
            statistics,
            params=advanced.activations_range_estimator_params,
            batchwise=advanced.batchwise_statistics,
        )
        plan = fill_ranges(plan, graph, adapter, derived, weight_params=weight_params)
        if full:
            samples = kept or Dataset.of(calibration_dataset).samples(graph, bias_samples)
            return correct_full(adapter, graph, plan, samples, params=bias_params).plan
        if fast:
            return _corrected_from_statistics(adapter, graph, plan, statistics, bias_params)
        return plan
    dataset = Dataset.of(calibration_dataset)
    batchwise = advanced.batchwise_statistics
    if batchwise is None:
        batchwise = dataset.batch_size > 1
    means: dict[str, InputMean] = {}
    if fast:
        taps = channel_mean_taps(graph, plan, apply_for_all_nodes=bias_params.apply_for_all_nodes)
        means = {tensor: InputMean(tensor, axis, batchwise=batchwise) for tensor, axis in taps.items()}
    known = dataset.length_hint()
    with reporting(progress) as report:
        estimators = observe(
            adapter,
            graph,
            plan,
            _keeping(dataset.samples(graph, subset_size), kept, bias_samples if full else 0),
            params=advanced.activations_range_estimator_params,
            batchwise=batchwise,
            inplace=advanced.inplace_statistics,
            means=means,
            progress=report,
            total=None if known is None else min(known, subset_size),
        )
    plan = fill_ranges(plan, graph, adapter, estimators, weight_params=weight_params)
    if full:
        return correct_full(adapter, graph, plan, kept, params=bias_params).plan
    if fast:
        found = {tensor: collected.mean() for tensor, collected in means.items()}
        return correct_fast(adapter, graph, plan, found, params=bias_params).plan
    return plan


def _keeping(samples: Iterable[Sample], kept: list[Sample], count: int) -> Iterator[Sample]:
    """Hand on samples, and keep copies of the first: data may come only once, in arrays that are used again."""
    for sample in samples:
        if len(kept) < count:
            kept.append({name: value.copy() for name, value in sample.items()})
        yield sample


def _corrected_from_statistics(
    adapter: ModelAdapter[Any],
    graph: QuantizationGraph,
    plan: QuantizationPlan,
    statistics: CalibrationStatistics,
    params: AdvancedBiasCorrectionParameters,
) -> QuantizationPlan:
    taps = channel_mean_taps(graph, plan, apply_for_all_nodes=params.apply_for_all_nodes)
    found = {
        tensor: statistics.channel_mean(tensor)
        for tensor, axis in taps.items()
        if statistics.channel_means.get(tensor) == axis
    }
    if len(found) < len(taps):
        lacking = next(tensor for tensor in taps if tensor not in found)
        _logger.warning(
            "the statistics lack the channel means of %d of %d tensors, such as %r, so the biases of operations that "
            "read them stay as they are; calibrate again with these parameters, or set disable_bias_correction=True",
            len(taps) - len(found),
            len(taps),
            lacking,
        )
    return correct_fast(adapter, graph, plan, found, params=params).plan
