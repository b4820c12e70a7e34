"""Plans with numbers for test models, what onnxruntime makes of the result, and what the result should compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.advanced_parameters import OverflowFix
from quantstats.parameters import QuantizationMode
from quantstats.ptq.placement import place
from quantstats.ptq.plan import QuantizationPlan
from quantstats.quantizer import Quantizer, QuantizerConfig, quantizer_from_range

Array = NDArray[Any]


def min_max_plan(adapter: OnnxAdapter, sample: Mapping[str, Array], **options: Any) -> QuantizationPlan:
    """The driver's placement with min-max ranges of one sample, full weight range."""
    options.setdefault("overflow_fix", OverflowFix.DISABLE)
    return with_min_max(adapter, place(adapter.graph(), **options), sample)


def with_min_max(adapter: OnnxAdapter, plan: QuantizationPlan, sample: Mapping[str, Array]) -> QuantizationPlan:
    """The plan with ranges of one sample."""
    tensors = adapter.graph().tensors
    observed = dict(adapter.run(sample, [q.tensor for q in plan.activations if not tensors[q.tensor].constant]))
    observed |= {q.tensor: adapter.constant(q.tensor) for q in plan.activations if tensors[q.tensor].constant}
    activations = {q.tensor: _quantizer(observed[q.tensor], q.config, q.channel_axis) for q in plan.activations}
    weights = {
        (w.tensor, w.channel_axis): _quantizer(adapter.constant(w.tensor), w.config, w.channel_axis, w.half_range)
        for w in plan.weights
    }
    return plan.with_quantizers(activations, weights)


def _quantizer(x: Array, config: QuantizerConfig, axis: int | None, half_range: bool = False) -> Quantizer:
    others = None if axis is None else tuple(i for i in range(x.ndim) if i != axis)
    low, high = x.min(axis=others), x.max(axis=others)
    if config.mode is QuantizationMode.SYMMETRIC:
        high = np.maximum(np.abs(low), np.abs(high))
        low = np.where(low < 0, -high, low)
    return quantizer_from_range(low, high, config, half_range, axis=axis)


def run(
    model: onnx.ModelProto, feeds: Mapping[str, Array], *, optimized: bool = True, outputs: list[str] | None = None
) -> dict[str, Array]:
    """Run a model with all or none of onnxruntime's optimizations."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = outputs or [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def optimized_graph(model: onnx.ModelProto, directory: Path) -> onnx.GraphProto:
    """The graph that onnxruntime executes."""
    path = directory / "optimized.onnx"
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path).graph


def executed_types(model: onnx.ModelProto, directory: Path) -> list[str]:
    """Types of the operations that onnxruntime executes, less those that change the layout of a convolution."""
    graph = optimized_graph(model, directory)
    types = [node.op_type for node in graph.node]
    if any(kind in types for kind in ("QLinearConv", "NhwcMaxPool")):
        types = [kind for kind in types if kind != "Transpose"]
    return types


def fake_quantized(model: onnx.ModelProto, plan: QuantizationPlan, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What a plan for a model of one computing operation means, without QuantizeLinear.

    Inputs, weights and the output are rounded by the quantizers' own `fake_quantize`; the floating-point model computes
    in between.
    """
    by_tensor = {p.tensor: q.quantizer for q in plan.activations for p in q.places}
    rounded = onnx.ModelProto.FromString(model.SerializeToString())
    for weight in plan.weights:
        (initializer,) = (i for i in rounded.graph.initializer if i.name == weight.tensor)
        assert weight.quantizer is not None
        value = weight.quantizer.fake_quantize(numpy_helper.to_array(initializer))
        initializer.CopyFrom(numpy_helper.from_array(value, weight.tensor))
    inputs = dict(feeds)
    for name, value in feeds.items():
        quantizer = by_tensor.get(name)
        if quantizer is not None:
            inputs[name] = quantizer.fake_quantize(value)
    results = run(rounded, inputs, optimized=False)
    for name, value in results.items():
        quantizer = by_tensor.get(name)
        if quantizer is not None:
            results[name] = quantizer.fake_quantize(value)
    return results


def output_step(plan: QuantizationPlan, output: str) -> float:
    """Distance of two levels of an output; 0 if it is not quantized."""
    for quantizer in plan.activations:
        if quantizer.quantizer is not None and any(p.tensor == output for p in quantizer.places):
            return float(np.max(quantizer.quantizer.scale))
    return 0.0


def product_step(plan: QuantizationPlan) -> float:
    """Largest input scale times largest weight scale: the step in which an int32 bias is rounded."""
    scales = [
        max((float(np.max(q.quantizer.scale)) for q in quantizers if q.quantizer is not None), default=0.0)
        for quantizers in (plan.activations, plan.weights)
    ]
    return scales[0] * scales[1]


def sqnr(expected: Array, actual: Array) -> float:
    """Signal to quantization noise in dB."""
    noise = float(np.sum(np.square(expected.astype(np.float64) - actual)))
    return float(10 * np.log10(float(np.sum(np.square(expected.astype(np.float64)))) / noise))


def replace_activations(plan: QuantizationPlan, **changes: Any) -> QuantizationPlan:
    """The plan with fields of every activation quantizer changed."""
    return dataclasses.replace(plan, activations=tuple(dataclasses.replace(a, **changes) for a in plan.activations))
