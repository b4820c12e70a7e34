"""One pass over the calibration data that leaves statistics of every tensor that a quantizer may need."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from quantstats._validation import check_bool, check_instance
from quantstats.adapters import adapter_for
from quantstats.adapters.protocol import ModelAdapter
from quantstats.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.parameters import IgnoredScope, ModelType, QuantizationPreset
from quantstats.ptq.checks import check_parameters
from quantstats.ptq.dataset import Dataset
from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.identity import model_hash
from quantstats.ptq.placement import place
from quantstats.ptq.progress import Progress, reporting
from quantstats.range_estimator import RangeEstimatorParameters
from quantstats.statistics.calibration import CalibrationStatistics, columns_for


def calibrate(
    model: Any,
    calibration_dataset: Any,
    *,
    subset_size: int = 300,
    per_channel: bool = False,
    range_estimators: Sequence[RangeEstimatorParameters] = (),
    sample_ids: Iterable[str | int] | None = None,
    preset: QuantizationPreset | None = None,
    model_type: ModelType | None = None,
    ignored_scope: IgnoredScope | None = None,
    advanced_parameters: AdvancedQuantizationParameters | None = None,
    progress: bool | Progress = True,
) -> CalibrationStatistics:
    """Run the floating-point model over data and return statistics of all activations that would be quantized.

    :func:`quantize` takes them in place of data, with any range estimator, bit width and scheme. Preset, model type,
    ignored scope and advanced parameters are those of :func:`quantize`; give both the same ones where they decide which
    tensors are quantized.

    :param model: As for :func:`quantize`.
    :param calibration_dataset: As for :func:`quantize`.
    :param subset_size: The largest number of samples to read. Data may end earlier.
    :param per_channel: Collect per channel too, wherever :func:`quantize` could quantize per channel. Without it, only
        what `advanced_parameters` has quantized per channel is.
    :param range_estimators: Estimators whose ranges are to be exact although they need more than is collected by
        default: a quantile at another probability, a clipped mean. Those of `advanced_parameters` are among them.
    :param sample_ids: An id for each sample that is read, unique over all runs that are to be merged; ``None`` counts
        from 0. The shard of samples 100 to 199 has ``range(100, 200)``.
    :param progress: A callback, or whether to show a bar on the terminal.
    :raises ParameterError: if a parameter has a value that cannot be honoured.
    :raises DataError: if the data do not fit the model, are empty, or have another number of ids.
    :raises NonFiniteError: if an activation holds NaN or Inf; the message names tensor and sample.
    :raises IgnoredScopeError: if a rule of the scope matches nothing.
    :raises NothingToQuantizeError: if no operation is left to quantize.
    :raises ModelError: if the model cannot be read or run.
    """
    owner = "calibrate"
    advanced = AdvancedQuantizationParameters() if advanced_parameters is None else advanced_parameters
    check_instance(owner, "advanced_parameters", advanced, AdvancedQuantizationParameters)
    settings, advanced = advanced.backend_params, dataclasses.replace(advanced, backend_params={})
    check_parameters(
        owner,
        preset=preset,
        subset_size=subset_size,
        model_type=model_type,
        ignored_scope=ignored_scope,
        advanced=advanced,
    )
    check_bool(owner, "per_channel", per_channel)
    estimators = list(range_estimators)
    for estimator in estimators:
        check_instance(owner, "range_estimators", estimator, RangeEstimatorParameters)
        estimator.validate()
    if advanced.activations_range_estimator_params is not None:
        estimators.append(advanced.activations_range_estimator_params)
    dataset = Dataset.of(calibration_dataset)
    adapter = adapter_for(model, settings)
    graph = adapter.graph()
    activations = advanced.activations_quantization_params
    if per_channel:
        activations = dataclasses.replace(activations or QuantizationParameters(), per_channel=True)
    plan = place(
        graph,
        preset=preset,
        model_type=model_type,
        overflow_fix=advanced.overflow_fix,
        activations=activations,
        weights=advanced.weights_quantization_params,
        quantize_outputs=advanced.quantize_outputs,
        ignored_scope=ignored_scope,
    )
    taps = {a.tensor: a.channel_axis for a in plan.activations if not graph.tensors[a.tensor].constant}
    batchwise = advanced.batchwise_statistics
    statistics = CalibrationStatistics(
        taps,
        model_hash=model_hash(adapter, graph),
        columns=columns_for(estimators),
        batchwise=dataset.batch_size > 1 if batchwise is None else batchwise,
    )
    known = dataset.length_hint()
    with reporting(progress) as report:
        _collect(
            adapter,
            graph,
            dataset,
            statistics,
            subset_size=subset_size,
            sample_ids=sample_ids,
            progress=report,
            total=None if known is None else min(known, subset_size),
        )
    return statistics


def _collect(
    adapter: ModelAdapter[Any],
    graph: QuantizationGraph,
    dataset: Dataset,
    statistics: CalibrationStatistics,
    *,
    subset_size: int,
    sample_ids: Iterable[str | int] | None,
    progress: Progress,
    total: int | None,
) -> None:
    taps = tuple(statistics.taps)
    ids = None if sample_ids is None else _checked_ids(sample_ids)
    progress(0, total, len(taps))
    for index, sample in enumerate(dataset.samples(graph, subset_size)):
        sample_id = str(index) if ids is None else next(ids, None)
        if sample_id is None:
            raise DataError(
                f"there are {index} sample ids, and the data have more samples; give an id for each, or set subset_size"
            )
        try:
            statistics.update(sample_id, adapter.run(sample, taps))
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{error}; or keep the operations that read the tensor in floating point by an ignored scope"
            ) from error
        progress(index + 1, total, len(taps))


def _checked_ids(sample_ids: Iterable[str | int]) -> Iterator[str]:
    for sample_id in sample_ids:
        if isinstance(sample_id, bool) or not isinstance(sample_id, str | int):
            raise ParameterError(f"calibrate.sample_ids has {sample_id!r}; ids are strings or integers")
        yield str(sample_id)
