"""The result of one quantization, as immutable data that goes to a table or to JSON."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from quantstats.ptq.accuracy_control.report import AccuracyControlReport
from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.plan import QuantizationPlan
from quantstats.report.latency import Latency
from quantstats.report.sqnr import OutputError


@dataclass(frozen=True, slots=True)
class FloatOperations:
    """Operations of one type that stay in floating point for the same reason.

    :param type: The framework's name of the type.
    :param reason: The reason, with an ellipsis in place of names of single operations and tensors.
    :param operations: The exact reason of each operation, by its name.
    """

    type: str
    reason: str
    operations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OperationsSummary:
    """What became of the operations that compute.

    :param quantized: Number of quantized operations by type, in the order of their first appearance in the model.
    :param left_in_float: The others, grouped by type and reason, in the same order.
    """

    quantized: Mapping[str, int]
    left_in_float: tuple[FloatOperations, ...]

    @property
    def quantized_count(self) -> int:
        """Number of operations that run on integers."""
        return sum(self.quantized.values())

    @property
    def float_count(self) -> int:
        """Number of operations that stay in floating point."""
        return sum(len(group.operations) for group in self.left_in_float)


def summarize_operations(graph: QuantizationGraph, plan: QuantizationPlan) -> OperationsSummary:
    """Group the decisions of a plan by operation type and reason.

    Reasons often name the neighbour that they are about; without such names, those that are alike become equal.
    """
    # A node may bear the name of a type, and "no integer kernel for Softmax" is about the type.
    names = {operation.name for operation in graph}.union(graph.tensors) - {operation.type for operation in graph}
    quantized: dict[str, int] = defaultdict(int)
    left: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for operation in graph:
        decision = plan.decisions.get(operation.name)
        if decision is None:
            continue
        if decision.quantized:
            quantized[operation.type] += 1
        else:
            left[operation.type, _without(names, decision.reason)][operation.name] = decision.reason
    return OperationsSummary(
        quantized=dict(quantized),
        left_in_float=tuple(FloatOperations(kind, reason, operations) for (kind, reason), operations in left.items()),
    )


def _without(names: Set[str], reason: str) -> str:
    """Return a reason with an ellipsis in place of the words that are one of the names, quoted or not."""
    return " ".join("..." if word.strip("'\",;:") in names else word for word in reason.split(" "))


@dataclass(frozen=True, slots=True)
class Pair:
    """One quantity of the original model and of the quantized one."""

    fp32: float
    int8: float

    @property
    def ratio(self) -> float:
        """How many times more the original takes: ``fp32 / int8``."""
        return self.fp32 / self.int8 if self.int8 else math.inf


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Latency of both models.

    :param batch_size: Samples in one call.
    :param fp32: Times of the original.
    :param int8: Times of the quantized model, from the same shuffled run.
    """

    batch_size: int
    fp32: Latency
    int8: Latency

    @property
    def speed_up(self) -> float:
        """Median of the original over median of the quantized model."""
        return self.fp32.median_ms / self.int8.median_ms if self.int8.median_ms else math.inf


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """The samples that the outputs were compared on.

    :param samples: How many.
    :param origin: Where they come from, in words for a person that go on after "300 samples".
    :param seen_in_calibration: True if calibration used the same samples, because there were no others.
    """

    samples: int
    origin: str
    seen_in_calibration: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of quantizing one model.

    :param model: Path of the original.
    :param output: Path of the quantized model.
    :param calibration_samples: Number of samples that calibration ran on, or of runs that statistics are of.
    :param observed_tensors: Number of activation tensors whose ranges calibration found.
    :param quantization_seconds: Wall time from the loaded model to the quantized one.
    :param operations: What is quantized, what is not, and why.
    :param evaluation_data: What the outputs were compared on; ``None`` if there were no samples to compare them on.
    :param outputs: Error of each model output, by name; empty if they were not compared.
    :param file_bytes: Size of both models on disk, external data included.
    :param latency: Time of one call of both models; ``None`` if it was not measured.
    :param accuracy: Top-1 accuracy of both models, in [0, 1]; ``None`` without labels.
    :param accuracy_control: What was done for the accuracy; ``None`` if no drop was asked for.
    """

    model: str
    output: str
    calibration_samples: int
    observed_tensors: int
    quantization_seconds: float
    operations: OperationsSummary
    evaluation_data: EvaluationData | None
    outputs: Mapping[str, OutputError]
    file_bytes: Pair
    latency: LatencySummary | None = None
    accuracy: Pair | None = None
    accuracy_control: AccuracyControlReport | None = None


def to_dict(summary: Summary) -> dict[str, Any]:
    """Return the summary as JSON can hold it: plain dictionaries, lists, strings, finite numbers.

    Names carry the unit. An SQNR that is not a finite number (no noise at all, an output of integers) is ``None``;
    ``agreement``, the share of identical elements, tells which.
    """
    return {
        "model": summary.model,
        "output": summary.output,
        "calibration": {
            "samples": summary.calibration_samples,
            "observed_tensors": summary.observed_tensors,
            "seconds": summary.quantization_seconds,
        },
        "operations": {
            "quantized": dict(summary.operations.quantized),
            "left_in_float": [
                {"type": group.type, "reason": group.reason, "operations": dict(group.operations)}
                for group in summary.operations.left_in_float
            ],
        },
        "evaluation_data": None if summary.evaluation_data is None else dataclasses.asdict(summary.evaluation_data),
        "outputs": {
            name: {
                "sqnr_db": _finite(error.sqnr_db),
                "agreement": error.agreement,
                "elements": error.elements,
            }
            for name, error in summary.outputs.items()
        },
        "file_bytes": _pair(summary.file_bytes),
        "latency": None if summary.latency is None else _latency(summary.latency),
        "top1_accuracy": None if summary.accuracy is None else dataclasses.asdict(summary.accuracy),
        "accuracy_control": None if summary.accuracy_control is None else summary.accuracy_control.to_dict(),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _pair(pair: Pair) -> dict[str, float | None]:
    return {"fp32": pair.fp32, "int8": pair.int8, "ratio": _finite(pair.ratio)}


def _latency(latency: LatencySummary) -> dict[str, Any]:
    return {
        "batch_size": latency.batch_size,
        "runs": latency.int8.runs,
        "fp32_median_ms": latency.fp32.median_ms,
        "int8_median_ms": latency.int8.median_ms,
        "fp32_best_decile_ms": latency.fp32.best_decile_ms,
        "int8_best_decile_ms": latency.int8.best_decile_ms,
        "speed_up": _finite(latency.speed_up),
    }


__all__ = [
    "EvaluationData",
    "FloatOperations",
    "LatencySummary",
    "OperationsSummary",
    "Pair",
    "Summary",
    "summarize_operations",
    "to_dict",
]
