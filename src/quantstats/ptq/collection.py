"""One pass over the calibration data that leaves statistics of every tensor that a quantizer may need."""

from __future__ import annotations

import copy
import dataclasses
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Executor
from contextlib import nullcontext
from typing import Any

from quantstats._validation import check_bool, check_count, check_instance
from quantstats.adapters import adapter_for
from quantstats.adapters.protocol import Sample
from quantstats.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
from quantstats.errors import DataError, ParameterError
from quantstats.parameters import IgnoredScope, ModelType, QuantizationPreset
from quantstats.ptq.bias_correction import channel_mean_taps
from quantstats.ptq.checkpoint import Checkpoint, uninterrupted
from quantstats.ptq.checks import check_parameters
from quantstats.ptq.dataset import Dataset
from quantstats.ptq.identity import graph_hash, model_hash
from quantstats.ptq.non_finite import warn_of_non_finite
from quantstats.ptq.placement import place
from quantstats.ptq.progress import Progress, reporting
from quantstats.ptq.shards import collect_in_shards, pack_model, take_sample
from quantstats.range_estimator import RangeEstimatorParameters
from quantstats.statistics.calibration import CalibrationStatistics, columns_for
from quantstats.statistics.non_finite import NonFinitePolicy, check_policy
from quantstats.statistics.table_memory import DEFAULT_MEMORY_LIMIT


def calibrate(
    model: Any,
    calibration_dataset: Any,
    *,
    subset_size: int = 300,
    per_channel: bool = False,
    range_estimators: Sequence[RangeEstimatorParameters] = (),
    sample_ids: Iterable[str | int] | None = None,
    non_finite: NonFinitePolicy = "raise",
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 50,
    executor: Executor | None = None,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
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
    :param sample_ids: An id for each sample, unique over all runs that are to be merged; ``None`` counts from 0. The
        shard of samples 100 to 199 has ``range(100, 200)``, or ``itertools.count(100)``.
    :param non_finite: What to do about activations that are NaN or infinite: ``"raise"``; ``"ignore"`` leaves them out;
        ``"clamp"`` makes an infinity the largest finite value of its sign and dtype, and NaN 0, as a quantizer does.
        The last two log a warning, and the statistics keep the counts.
    :param checkpoint: A file to write after each `every` samples. If it exists already, the calibration goes on from
        it: samples that it has are not run again, and the result has the bits of a calibration in one go. They are
        compared with those of the data by their ids and by a hash of their inputs. Needs the extra ``stats``.
    :param every: See `checkpoint`.
    :param executor: Runs the model on several samples at a time: any executor of :mod:`concurrent.futures`, Dask's
        (``client.get_executor()``) or mpi4py's. The model must be a path that every worker can read, or be picklable,
        as an ``onnx.ModelProto`` is.
    :param memory_limit: Bytes of tables that stay in memory; the others are in temporary files.
    :param progress: A callback, or whether to show a bar on the terminal.
    :raises ParameterError: if a parameter has a value that cannot be honoured.
    :raises DataError: if the data do not fit the model, are empty, or have another number of samples than there are
        ids, unless `subset_size` ends them or the ids have no length; if the checkpoint is of another model, parameters
        or data.
    :raises NonFiniteError: if an activation holds NaN or Inf; the message names tensor, sample, channels and counts.
    :raises IgnoredScopeError: if a rule of the scope matches nothing.
    :raises NothingToQuantizeError: if no operation is left to quantize.
    :raises ModelError: if the model cannot be read or run.
    :raises QuantizationError: if a worker of the executor died.
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
        progress=progress,
    )
    check_bool(owner, "per_channel", per_channel)
    check_policy(owner, non_finite)
    check_count(owner, "memory_limit", memory_limit, least=0)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ParameterError(
            f"calibrate.executor={executor!r} has no submit(); give a concurrent.futures.Executor, such as "
            "ProcessPoolExecutor() or Dask's client.get_executor()"
        )
    saved = None if checkpoint is None else Checkpoint(checkpoint, every)
    _check_several("range_estimators", range_estimators, "write range_estimators=[RangeEstimatorParametersSet.MINMAX]")
    if sample_ids is not None:
        _check_several("sample_ids", sample_ids, "give an id for each sample, or None")
    estimators = list(range_estimators)
    for estimator in estimators:
        check_instance(owner, "range_estimators", estimator, RangeEstimatorParameters)
        estimator.validate()
    if advanced.activations_range_estimator_params is not None:
        estimators.append(advanced.activations_range_estimator_params)
    dataset = Dataset.of(calibration_dataset)
    known = dataset.length_hint()
    if known is not None and known <= subset_size:
        _check_number(sample_ids, known)
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
    means: Mapping[str, int] = {}
    if not advanced.disable_bias_correction:
        all_nodes = advanced.bias_correction_params.apply_for_all_nodes
        means = channel_mean_taps(graph, plan, apply_for_all_nodes=all_nodes)
    batchwise = advanced.batchwise_statistics
    empty = CalibrationStatistics(
        taps,
        model_hash=model_hash(adapter, graph),
        graph_hash=graph_hash(graph),
        columns=columns_for(estimators),
        batchwise=dataset.batch_size > 1 if batchwise is None else batchwise,
        channel_means=means,
        non_finite=non_finite,
        memory_limit=memory_limit,
    )
    packed = None if executor is None else pack_model(model, settings)
    # Tasks are sent empty statistics; without tasks there is no need for a second half megabyte for each tensor.
    statistics = empty if executor is None else copy.deepcopy(empty)
    if saved is not None:
        statistics = saved.resume(statistics)
    guard = nullcontext if saved is None else uninterrupted
    total = None if known is None else min(known, subset_size)
    seen: set[str] = set()
    with reporting(progress) as report:
        report(statistics.num_samples, total, len(taps))

        def told(taken: int) -> None:
            if saved is not None:
                saved.note(statistics)
            for done in range(statistics.num_samples - taken, statistics.num_samples):
                report(done + 1, total, len(taps))

        def merge(part: CalibrationStatistics) -> None:
            with guard():
                statistics.merge(part)
            told(part.num_samples)

        known_ids = frozenset(statistics.sample_ids)

        def missing() -> Iterator[tuple[str, Sample]]:
            for sample_id, sample in _numbered(dataset.samples(graph, subset_size), sample_ids, seen):
                if saved is not None:
                    saved.check_inputs(sample_id, sample, taken=sample_id in known_ids)
                if sample_id not in known_ids:
                    yield sample_id, sample
            if len(seen) < subset_size:
                _check_number(sample_ids, len(seen))

        try:
            if executor is None or packed is None:
                for sample_id, sample in missing():
                    take_sample(adapter, graph, statistics, sample_id, sample, guard=guard)
                    told(1)
            else:
                left = None if total is None else max(total - len(known_ids), 0)
                remedy = (
                    "run it again with checkpoint=, which keeps what is done"
                    if saved is None
                    else f"run it again: what was done is in the checkpoint {os.fspath(checkpoint or '')!r}"
                )
                collect_in_shards(executor, packed, empty, missing(), total=left, taken=merge, remedy=remedy)
        except BaseException:
            # Whatever went wrong with this sample, or who broke it off: those before it need not be run again.
            if saved is not None:
                saved.write(statistics)
            raise
    if saved is not None:
        saved.write(statistics)
        saved.check_complete(statistics, seen)
    warn_of_non_finite(statistics)
    return statistics


def _numbered(
    samples: Iterable[Sample], sample_ids: Iterable[str | int] | None, seen: set[str]
) -> Iterator[tuple[str, Sample]]:
    """Give every sample its id, which becomes one of those `seen`."""
    ids = None if sample_ids is None else _checked_ids(sample_ids)
    for index, sample in enumerate(samples):
        sample_id = str(index) if ids is None else next(ids, None)
        if sample_id is None:
            raise DataError(
                f"there are {index} sample ids, and the data have more samples; give an id for each, or set subset_size"
            )
        if sample_id in seen:
            raise DataError(f"sample {sample_id!r} is there twice; give every sample an id of its own")
        seen.add(sample_id)
        yield sample_id, sample


def _check_several(field: str, value: Any, remedy: str) -> None:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ParameterError(f"calibrate.{field}={value!r} is not a list; {remedy}")


def _checked_ids(sample_ids: Iterable[Any]) -> Iterator[str]:
    for sample_id in sample_ids:
        if isinstance(sample_id, bool) or not isinstance(sample_id, str | numbers.Integral):
            raise ParameterError(f"calibrate.sample_ids has {sample_id!r}; ids are strings or integers")
        yield str(sample_id)


def _check_number(sample_ids: Any, samples: int) -> None:
    """Refuse more ids than the data have samples. Ids without a length may go on for ever."""
    if isinstance(sample_ids, Sized) and len(sample_ids) > samples:
        raise DataError(
            f"there are {len(sample_ids)} sample ids, and the data have {samples} samples; give one for each of these"
        )
