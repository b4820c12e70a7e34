"""The main job: a model and data in, a quantized model and what it is worth out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from rich.console import Console

from quantstats.adapters.onnx import OnnxAdapter, save_model
from quantstats.advanced_parameters import AdvancedQuantizationParameters
from quantstats.cli.accuracy import AccuracyTarget, LabelledBatches, ValidationFunction, validation_function
from quantstats.cli.data import Batches, SampleFiles
from quantstats.cli.output import check_output, staged_outputs
from quantstats.cli.progress import Stages
from quantstats.cli.runtime import OnnxRunner
from quantstats.errors import DataError, ParameterError, QuantizationError
from quantstats.parameters import IgnoredScope, ModelType, QuantizationPreset, TargetDevice
from quantstats.ptq.accuracy_control import AccuracyControlReport, AccuracyControlResult, restore_accuracy
from quantstats.ptq.dataset import Dataset
from quantstats.ptq.graph import QuantizationGraph, Tensor
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.progress import Progress
from quantstats.ptq.quantize import make_plan
from quantstats.report.evaluation import Evaluation, evaluate
from quantstats.report.latency import measure_latency
from quantstats.report.summary import (
    EvaluationData,
    LatencySummary,
    Pair,
    Summary,
    summarize_operations,
    to_dict,
)
from quantstats.statistics import CalibrationStatistics

Array = NDArray[Any]

# Where calibration could use every sample, one in this many is held back, to measure on data that it has not seen.
_HELD_BACK = 8


@dataclass(frozen=True, slots=True)
class QuantizeJob:
    """What the command line asks for. Paths are as the user gave them.

    :param model: The fp32 ONNX model.
    :param data: Samples to calibrate on, see :mod:`quantstats.cli.data`; ``None`` with ``statistics``.
    :param output: Where the int8 model goes.
    :param statistics: A statistics file in place of ``data``, and of the calibration.
    :param test_data: Samples to compare the models on; ``None`` takes those of ``data`` that calibration does not see.
        With ``statistics`` the models are compared on these or not at all.
    :param labels: Name of the array with the labels of the samples that the models are compared on.
    :param subset_size: Most samples to calibrate on.
    :param batch_size: Samples in one run; ``None`` takes what the model fixes, else 1.
    :param overwrite: Replace outputs that exist.
    :param latency_seconds: Time for measuring latency; 0 leaves it out.
    :param json_path: Where the summary goes as JSON, if anywhere.
    :param accuracy: How much accuracy may be lost; ``None`` quantizes all that can be quantized.
    """

    model: Path
    data: Path | None
    output: Path
    statistics: Path | None = None
    test_data: Path | None = None
    labels: str | None = None
    preset: QuantizationPreset | None = None
    target_device: TargetDevice = TargetDevice.ANY
    model_type: ModelType | None = None
    ignored_scope: IgnoredScope | None = None
    advanced_parameters: AdvancedQuantizationParameters | None = None
    fast_bias_correction: bool = True
    subset_size: int = 300
    batch_size: int | None = None
    overwrite: bool = False
    latency_seconds: float = 2.0
    json_path: Path | None = None
    accuracy: AccuracyTarget | None = None


def run(job: QuantizeJob, *, console: Console) -> Summary:
    """Do the job: all outputs are written, or, if anything fails, none.

    :param job: What to do.
    :param console: Where progress is shown, if it is a terminal.
    :raises QuantizationError: The model, the data or a parameter cannot be used.
    """
    _check_sources(job)
    validation_data = None if job.accuracy is None else job.accuracy.validation_data
    given = (job.model, job.data, job.statistics, job.test_data, validation_data)
    sources = tuple(path for path in given if path is not None)
    outputs = (job.output, *([job.json_path] if job.json_path else []))
    for output in outputs:
        check_output(output, overwrite=job.overwrite, sources=sources)
    if job.json_path is not None and job.json_path.resolve() == job.output.resolve():
        raise ParameterError(f"the summary and the model would both go to {str(job.output)!r}; give different names")

    statistics = None if job.statistics is None else CalibrationStatistics.load(job.statistics)
    adapter = OnnxAdapter(job.model)
    graph = adapter.graph()
    split = _split(job, [graph.tensors[name] for name in graph.inputs])
    validation = None if job.accuracy is None else _validation(job, job.accuracy, graph, split)
    with Stages(console) as stages:
        start = time.perf_counter()
        controlled: AccuracyControlReport | None = None
        if validation is None:
            plan = _plan(job, adapter, split.calibration, statistics, stages)
            model = adapter.emit(plan)
        else:
            result = _controlled(job, adapter, split.calibration, statistics, validation, stages)
            plan, model, controlled = result.plan, result.model, result.report
        seconds = time.perf_counter() - start

        with staged_outputs(*outputs, overwrite=job.overwrite) as (staged, *staged_json):
            save_model(model, staged)
            fp32, int8 = OnnxRunner(job.model), OnnxRunner(staged)
            test = split.test
            evaluation = None if test is None else _evaluate(fp32, int8, test, split, stages)
            summary = Summary(
                model=str(job.model),
                output=str(job.output),
                calibration_samples=_calibration_samples(split.calibration, statistics),
                observed_tensors=len(plan.activations),
                quantization_seconds=seconds,
                operations=summarize_operations(graph, plan),
                evaluation_data=None
                if evaluation is None
                else EvaluationData(evaluation.samples, split.origin, split.seen_in_calibration),
                outputs={} if evaluation is None else evaluation.outputs,
                file_bytes=Pair(_model_bytes(job.model), _model_bytes(staged)),
                latency=None if test is None else _latency(fp32, int8, test, job.latency_seconds, stages),
                accuracy=None if evaluation is None else evaluation.accuracy,
                accuracy_control=controlled,
            )
            for path in staged_json:
                path.write_text(to_json(summary), encoding="utf-8")
    return summary


def to_json(summary: Summary) -> str:
    """Return the summary as a JSON document that ends with a line break."""
    return json.dumps(to_dict(summary), indent=2, allow_nan=False) + "\n"


def _check_sources(job: QuantizeJob) -> None:
    if job.data is None and job.statistics is None:
        raise ParameterError(
            "there is nothing to calibrate with; give --data with samples, or --statistics with what "
            "`quantstats calibrate` wrote"
        )
    if job.data is not None and job.statistics is not None:
        raise ParameterError(
            "--data and --statistics are both given, but ranges come from one of them; leave one out, and give samples "
            "to compare the models on as --test-data"
        )
    if job.statistics is not None and job.labels is not None and job.test_data is None:
        raise ParameterError(
            f"--labels {job.labels!r} needs samples to go with, and --statistics holds none; give --test-data"
        )


def _calibration_samples(calibration: Batches | None, statistics: CalibrationStatistics | None) -> int:
    if statistics is not None:
        return statistics.num_samples
    return 0 if calibration is None else calibration.samples


@dataclass(frozen=True, slots=True)
class _Split:
    """Which samples calibrate, unless statistics take their place, and which compare the models, if any."""

    calibration: Batches | None
    test: Batches | None
    labels: Array | None
    origin: str
    seen_in_calibration: bool = False


def _split(job: QuantizeJob, inputs: Sequence[Tensor]) -> _Split:
    if job.data is None:
        if job.test_data is None:
            return _Split(None, None, None, "")
        files = SampleFiles(job.test_data, inputs, labels=job.labels, batch_size=job.batch_size)
        return _Split(None, files.batches(), _labels(files, files.batches()), f"of {job.test_data.name}")
    labels_in_data = job.labels if job.test_data is None else None
    data = SampleFiles(job.data, inputs, labels=labels_in_data, batch_size=job.batch_size)
    # A model that fixes its batch can only take whole ones.
    unit = data.fixed_batch or 1
    available, subset = len(data) // unit, max(1, job.subset_size // unit)
    if job.test_data is not None:
        files = SampleFiles(job.test_data, inputs, labels=job.labels, batch_size=job.batch_size)
        test = files.batches()
        calibration = data.batches(0, subset * unit)
        return _Split(calibration, test, _labels(files, test), f"of {job.test_data.name}")

    name, seen = job.data.name, False
    if available > subset:
        first, last = subset, available
        origin = f"of {name} that follow the calibration subset"
    elif available > 1:
        first, last = available - max(1, available // _HELD_BACK), available
        subset = first
        origin = f"of {name}, held back from calibration"
    else:
        first, last, subset = 0, available, available
        origin, seen = f"of {name}, the ones that calibrated: there are no others", True
    test = data.batches(first * unit, last * unit)
    return _Split(data.batches(0, subset * unit), test, _labels(data, test), origin, seen)


def _labels(files: SampleFiles, test: Batches) -> Array | None:
    return None if files.labels_name is None else files.labels(test.start, test.stop)


def _plan(
    job: QuantizeJob,
    adapter: OnnxAdapter,
    calibration: Batches | None,
    statistics: CalibrationStatistics | None,
    stages: Stages,
) -> QuantizationPlan:
    def plan(dataset: Dataset | None, subset_size: int, progress: bool | Progress) -> QuantizationPlan:
        return make_plan(
            adapter,
            dataset,
            preset=job.preset,
            target_device=job.target_device,
            subset_size=subset_size,
            fast_bias_correction=job.fast_bias_correction,
            model_type=job.model_type,
            ignored_scope=job.ignored_scope,
            advanced_parameters=job.advanced_parameters,
            statistics=statistics,
            progress=progress,
        )

    if calibration is None:
        return plan(None, job.subset_size, False)
    with stages.calibration(calibration.batch_size, calibration.samples) as progress:
        return plan(Dataset(calibration), len(calibration), progress)


@dataclass(frozen=True, slots=True)
class _Validation:
    """What accuracy control measures by."""

    function: ValidationFunction
    batches: LabelledBatches


def _validation(job: QuantizeJob, target: AccuracyTarget, graph: QuantizationGraph, split: _Split) -> _Validation:
    function = validation_function(target, job.labels)
    inputs = [graph.tensors[name] for name in graph.inputs]
    path = target.validation_data or job.test_data or job.data
    if path is None:
        raise ParameterError("--max-drop needs samples to validate on; give --validation-data or --test-data")
    files = SampleFiles(path, inputs, labels=job.labels, batch_size=job.batch_size)
    batches = files.batches()
    if path == job.data and split.test is not None:
        # Of the data that calibrate, those that they leave.
        batches = files.batches(split.test.start, split.test.stop)
    return _Validation(function, LabelledBatches(files, batches))


def _controlled(
    job: QuantizeJob,
    adapter: OnnxAdapter,
    calibration: Batches | None,
    statistics: CalibrationStatistics | None,
    validation: _Validation,
    stages: Stages,
) -> AccuracyControlResult:
    assert job.accuracy is not None
    with stages.accuracy_control() as progress:
        return restore_accuracy(
            adapter,
            None if calibration is None else Dataset(calibration),
            validation.batches,
            validation.function,
            max_drop=job.accuracy.max_drop,
            drop_type=job.accuracy.drop_type,
            preset=job.preset,
            target_device=job.target_device,
            subset_size=job.subset_size if calibration is None else len(calibration),
            fast_bias_correction=job.fast_bias_correction,
            model_type=job.model_type,
            ignored_scope=job.ignored_scope,
            advanced_quantization_parameters=job.advanced_parameters,
            advanced_accuracy_restorer_parameters=job.accuracy.restorer,
            statistics=statistics,
            progress=progress,
        )


def _evaluate(fp32: OnnxRunner, int8: OnnxRunner, test: Batches, split: _Split, stages: Stages) -> Evaluation:
    def batches(advance: Callable[[int], None]) -> Iterator[dict[str, Array]]:
        for batch in test:
            yield batch
            advance(next(iter(batch.values())).shape[0])

    try:
        with stages.counted("Comparing", test.samples) as advance:
            return evaluate(fp32, int8, batches(advance), split.labels)
    except QuantizationError:
        raise
    except ValueError as error:
        raise DataError(f"the models cannot be compared on the samples {split.origin}: {error}") from error


def _latency(
    fp32: OnnxRunner, int8: OnnxRunner, test: Batches, seconds: float, stages: Stages
) -> LatencySummary | None:
    if seconds == 0:
        return None
    sample = test.smallest()
    with stages.uncounted("Measuring latency"):
        times = measure_latency({"fp32": lambda: fp32(sample), "int8": lambda: int8(sample)}, seconds=seconds)
    return LatencySummary(next(iter(sample.values())).shape[0], times["fp32"], times["int8"])


def _model_bytes(path: Path) -> int:
    """Size of a model on disk, with the files of its external data."""
    model = onnx.load(str(path), load_external_data=False)
    external = {
        path.parent / ExternalDataInfo(tensor).location
        for tensor in _initializers(model.graph)
        if uses_external_data(tensor)
    }
    return sum(file.stat().st_size for file in {path, *external})


def _initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _initializers(inner)


__all__ = ["QuantizeJob", "run", "to_json"]
