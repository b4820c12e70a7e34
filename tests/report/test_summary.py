"""The summary: what it counts, and what JSON gets."""

from __future__ import annotations

import json
import math

import pytest

from quantstats.ptq.graph import Operation, OperationKind, QuantizationGraph, Tensor
from quantstats.ptq.plan import Decision, QuantizationPlan
from quantstats.report.latency import Latency
from quantstats.report.sqnr import OutputError
from quantstats.report.summary import (
    EvaluationData,
    FloatOperations,
    LatencySummary,
    OperationsSummary,
    Pair,
    Summary,
    summarize_operations,
    to_dict,
)


def operation(name: str, kind: str) -> Operation:
    return Operation(name, OperationKind.FLOAT, kind, inputs=("x",), outputs=(f"{name}_out",))


def test_operations_are_counted_by_type_and_grouped_by_reason() -> None:
    graph = QuantizationGraph(
        operations=(
            operation("conv0", "Conv"),
            operation("reshape", "Reshape"),
            operation("conv1", "Conv"),
            operation("soft0", "Softmax"),
            operation("conv2", "Conv"),
            operation("soft1", "Softmax"),
            operation("conv3", "Conv"),
        ),
        tensors={},
        inputs=("x",),
        outputs=("conv3_out",),
    )
    plan = QuantizationPlan(
        activations=(),
        weights=(),
        decisions={
            "conv0": Decision(True, "convolution"),
            "conv1": Decision(False, "ignored"),
            "soft0": Decision(False, "no integer kernel"),
            "conv2": Decision(True, "convolution"),
            "soft1": Decision(False, "no integer kernel"),
            "conv3": Decision(False, "weight is not constant"),
        },
    )
    operations = summarize_operations(graph, plan)
    assert operations == OperationsSummary(
        quantized={"Conv": 2},
        left_in_float=(
            FloatOperations("Conv", "ignored", {"conv1": "ignored"}),
            FloatOperations(
                "Softmax", "no integer kernel", {"soft0": "no integer kernel", "soft1": "no integer kernel"}
            ),
            FloatOperations("Conv", "weight is not constant", {"conv3": "weight is not constant"}),
        ),
    )
    assert operations.quantized_count == 2
    assert operations.float_count == 4


def test_reasons_that_differ_in_names_only_are_one_and_the_names_are_kept() -> None:
    graph = QuantizationGraph(
        operations=(operation("/a/MatMul", "MatMul"), operation("Add", "Add"), operation("/b/Add", "Add")),
        tensors={"t 1": Tensor("t 1", None, None), "/a/out": Tensor("/a/out", None, None)},
        inputs=("x",),
        outputs=("y",),
    )
    reasons = {"Add": "follows /a/MatMul in float, as Add does", "/b/Add": "follows '/a/out' in float, as Add does"}
    plan = QuantizationPlan((), (), {name: Decision(False, reason) for name, reason in reasons.items()})
    assert summarize_operations(graph, plan).left_in_float == (
        FloatOperations("Add", "follows ... in float, as Add does", reasons),
    )


def summary(**changes: object) -> Summary:
    left = FloatOperations("Softmax", "follows ...", {"s": "follows conv"})
    values: dict[str, object] = {
        "model": "a.onnx",
        "output": "b.onnx",
        "calibration_samples": 300,
        "observed_tensors": 12,
        "quantization_seconds": 0.25,
        "operations": OperationsSummary({"Conv": 2}, (left,)),
        "evaluation_data": EvaluationData(50, "held back"),
        "outputs": {"logits": OutputError(1000.0, 1.0, 3, 100, floating=True)},
        "file_bytes": Pair(4000, 1000),
    }
    return Summary(**{**values, **changes})  # type: ignore[arg-type]


def test_json_holds_every_figure() -> None:
    latency = LatencySummary(1, fp32=Latency(0.3, 0.2, 99), int8=Latency(0.1, 0.05, 99))
    data = json.loads(json.dumps(to_dict(summary(latency=latency, accuracy=Pair(0.99, 0.98))), allow_nan=False))
    assert data["calibration"] == {"samples": 300, "observed_tensors": 12, "seconds": 0.25}
    assert data["operations"] == {
        "quantized": {"Conv": 2},
        "left_in_float": [{"type": "Softmax", "reason": "follows ...", "operations": {"s": "follows conv"}}],
    }
    assert data["evaluation_data"] == {"samples": 50, "origin": "held back", "seen_in_calibration": False}
    assert data["outputs"]["logits"]["sqnr_db"] == pytest.approx(30)
    assert data["file_bytes"] == {"fp32": 4000, "int8": 1000, "ratio": 4.0}
    assert data["latency"]["speed_up"] == pytest.approx(3)
    assert data["latency"]["runs"] == 99
    assert data["top1_accuracy"] == {"fp32": 0.99, "int8": 0.98}


@pytest.mark.parametrize("noise", [0.0, math.inf])
def test_json_has_no_infinity(noise: float) -> None:
    outputs = {"y": OutputError(1.0, noise, 1, 1, floating=True)}
    text = json.dumps(to_dict(summary(outputs=outputs)), allow_nan=False)
    assert json.loads(text)["outputs"]["y"]["sqnr_db"] is None


def test_what_was_not_measured_is_null() -> None:
    data = to_dict(summary())
    assert data["latency"] is None
    assert data["top1_accuracy"] is None
