"""Whole models against nncf's ONNX backend: the quantized tensors, their ranges, and the scales of the weights.

Where the two differ, they do so on purpose: each case lists the tensors, and docs/parity.md tells why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.advanced_parameters import AdvancedQuantizationParameters, OverflowFix, QuantizationParameters
from quantstats.parameters import IgnoredScope, ModelType, QuantizationMode, QuantizationPreset, Subgraph
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.quantize import make_plan
from quantstats.range_estimator import RangeEstimatorParametersSet as Set

from ..adapters.onnx.models import ModelBuilder, small_cnn

Array = NDArray[Any]
Sample = dict[str, Array]
DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
# The two runs of the floating-point model fuse different operations, so sums are taken in another order.
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Case:
    """A model, and where quantstats differs from nncf on purpose.

    :param only_ours: Tensors that quantstats alone quantizes.
    :param only_theirs: Tensors that nncf alone quantizes.
    :param other_range: Tensors that both quantize, with another range or granularity.
    :param other_weights: Weights that have another scale, or that only nncf quantizes.
    :param shape: Of the one input, by name; or the samples themselves.
    """

    build: Callable[[], onnx.ModelProto]
    shapes: dict[str, tuple[int, ...]]
    only_ours: frozenset[str] = frozenset()
    only_theirs: frozenset[str] = frozenset()
    other_range: frozenset[str] = frozenset()
    other_weights: frozenset[str] = frozenset()
    options: dict[str, Any] = field(default_factory=dict)

    def samples(self) -> list[Sample]:
        rng = np.random.default_rng(4)
        return [{name: self._value(rng, name, shape) for name, shape in self.shapes.items()} for _ in range(6)]

    def _value(self, rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
        if name == "tokens":
            return rng.integers(0, 20, shape)
        return (rng.normal(0.2, 1, shape) * (3 if name == "z" else 1)).astype(np.float32)


def depthwise() -> onnx.ModelProto:
    b = ModelBuilder()
    y = b.op("Relu", b.conv(b.input("x", 1, 4, 8, 8), 4, 8, out="c"), out="before")
    y = b.op("Relu", b.conv(y, 8, 8, group=8, out="d"), out="after")
    y = b.op("Relu", b.conv(y, 8, 16, 1, 1, out="p"), out="pointwise")
    b.op("GlobalAveragePool", b.conv(y, 16, 16, group=4, out="grouped"), out="y")
    b.output("y")
    return b.build()


def several_inputs_and_outputs() -> onnx.ModelProto:
    b = ModelBuilder()
    left = b.op("Relu", b.conv(b.input("x", 1, 3, 8, 8), 3, 8), out="left")
    right = b.op("Relu", b.conv(b.input("z", 1, 3, 8, 8), 3, 8), out="right")
    b.conv(b.op("Concat", left, right, axis=1, out="joined"), 16, 4, out="y1")
    b.conv(b.op("Add", left, right, out="sum"), 8, 4, out="y2")
    b.output("y1", "y2")
    return b.build()


def shared_weight() -> onnx.ModelProto:
    b = ModelBuilder()
    y, weight = b.input("x", 1, 4, 8, 8), b.noise(4, 4, 3, 3, name="shared")
    for i in range(2):
        y = b.op("Relu", b.op("Conv", y, weight, pads=[1] * 4), out=f"relu{i}")
    b.op("Conv", y, weight, pads=[1] * 4, out="y")
    b.output("y")
    return b.build()


def merging_branches() -> onnx.ModelProto:
    """An inception block and two residual sums in a row, one of them of a branch that is read twice."""
    b = ModelBuilder()
    stem = b.op("Relu", b.conv(b.input("x", 1, 3, 8, 8), 3, 8), out="stem")
    first = b.op("Relu", b.op("Add", stem, b.conv(stem, 8, 8, out="branch1")), out="sum1")
    second = b.op("Relu", b.op("Add", first, b.conv(first, 8, 8, 1, 1, out="branch2")), out="sum2")
    flat = b.op("Flatten", b.op("GlobalAveragePool", second, out="pooled"))
    b.op("Gemm", flat, b.noise(8, 4, name="head"), b.noise(4), out="y")
    b.output("y")
    return b.build()


def constant_operands() -> onnx.ModelProto:
    b = ModelBuilder()
    y = b.conv(b.input("x", 1, 4, 8, 8), 4, 4, out="product")
    y = b.op("Relu", b.op("Add", y, b.noise(1, 4, 8, 8, name="shift", scale=2.0)), out="shifted")
    y = b.op("GlobalAveragePool", b.op("Relu", b.conv(y, 4, 4), out="relu"), out="pooled")
    b.op("Gemm", b.op("Flatten", y), b.noise(4, 3), b.noise(3), out="y")
    b.output("y")
    return b.build()


def moved_data() -> onnx.ModelProto:
    b = ModelBuilder()
    y = b.op("Transpose", b.input("x", 1, 8, 8, 4), perm=[0, 3, 1, 2])
    y = b.op("MaxPool", b.op("Relu", b.conv(y, 4, 8), out="relu"), kernel_shape=[2, 2], strides=[2, 2])
    flat = b.op("Reshape", y, b.constant(np.int64([1, 128])))
    b.op("Gemm", flat, b.noise(128, 5), b.noise(5), out="y")
    b.output("y")
    return b.build()


def attention() -> onnx.ModelProto:
    """Embedding, LayerNorm, one head of attention with reshaped heads, residual sum."""
    b = ModelBuilder()
    embedded = b.op("Gather", b.noise(20, 8, name="table", scale=1.0), b.input("tokens", 1, 6, dtype=TensorProto.INT64))
    b.nodes[-1].output[0] = embedded = "embedded"
    normed = b.op("LayerNormalization", embedded, b.positive(8), b.noise(8), out="normed")
    q, k, v = (
        b.op("Transpose", b.op("MatMul", normed, b.noise(8, 8), out=name), perm=[1, 0, 2]) for name in ("q", "k", "v")
    )
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 1]), out="scores")
    context = b.op("MatMul", b.op("Softmax", scores, axis=-1, out="weights"), v, out="context")
    projected = b.op("MatMul", b.op("Transpose", context, perm=[1, 0, 2]), b.noise(8, 8), out="projected")
    total = b.op("Add", embedded, projected, out="total")
    b.op("MatMul", b.op("LayerNormalization", total, b.positive(8), b.noise(8), out="last"), b.noise(8, 3), out="y")
    b.output("y")
    return b.build()


def transposed() -> onnx.ModelProto:
    b = ModelBuilder()
    y = b.op("Relu", b.conv(b.input("x", 1, 4, 8, 8), 4, 8), out="relu")
    y = b.op("Relu", b.op("ConvTranspose", y, b.noise(8, 4, 2, 2), strides=[2, 2]), out="wide")
    b.op("GlobalAveragePool", b.op("Relu", b.conv(y, 4, 2), out="narrow"), out="pooled")
    b.op("Gemm", b.op("Flatten", "pooled"), b.noise(2, 3), b.noise(3), out="y")
    b.output("y")
    return b.build()


IMAGE = {"x": (1, 3, 8, 8)}
CHANNELS = {"x": (1, 4, 8, 8)}
CASES = {
    "residual": Case(small_cnn, IMAGE),
    "depthwise": Case(depthwise, CHANNELS, other_range=frozenset({"before"})),
    "several inputs and outputs": Case(
        several_inputs_and_outputs,
        {"x": (1, 3, 8, 8), "z": (1, 3, 8, 8)},
        only_ours=frozenset({"joined", "y1", "y2"}),
        other_range=frozenset({"left"}),
    ),
    "shared weight": Case(shared_weight, CHANNELS, only_ours=frozenset({"y"})),
    "merging branches": Case(merging_branches, IMAGE),
    "constant operands": Case(constant_operands, CHANNELS, only_ours=frozenset({"product", "shift"})),
    "moved data": Case(moved_data, {"x": (1, 8, 8, 4)}),
    "attention": Case(
        attention,
        {"tokens": (1, 6)},
        only_theirs=frozenset({"embedded", "projected"}),
    ),
    "attention as a transformer": Case(
        attention,
        {"tokens": (1, 6)},
        options={"model_type": ModelType.TRANSFORMER},
    ),
    "transposed": Case(transposed, CHANNELS),
    "digits": Case(
        lambda: onnx.load(DIGITS / "digits_cnn.onnx"),
        {"image": (1, 1, 8, 8)},
        other_range=frozenset({"/stem/relu/Relu_output_0", "/residual/relu/Relu_output_0"}),
    ),
    "digits transformer": Case(
        lambda: onnx.load(DIGITS / "digits_transformer.onnx"),
        {"image": (1, 1, 8, 8)},
        options={"model_type": ModelType.TRANSFORMER},
        only_ours=frozenset({"/patches/Conv_output_0"}),
    ),
}


def quantize_by_nncf(
    nncf: SimpleNamespace, model: onnx.ModelProto, samples: list[Sample], options: dict[str, Any]
) -> onnx.ModelProto:
    """What nncf makes of a model, without what changes it besides rounding."""
    converted = {name: value.to_nncf() for name, value in options.items() if value is not None}
    advanced = converted.pop("advanced_parameters", nncf.module.AdvancedQuantizationParameters())
    # Neither changes a range, but both change the values that are observed.
    advanced.disable_bias_correction = True
    advanced.disable_channel_alignment = True
    advanced.smooth_quant_alphas = nncf.smooth_quant(-1, -1)
    with contextlib.redirect_stdout(io.StringIO()):
        quantized: onnx.ModelProto = nncf.module.quantize(
            model,
            nncf.module.Dataset(samples),
            subset_size=len(samples),
            advanced_parameters=advanced,
            **converted,
        )
    return quantized


def theirs(
    nncf: SimpleNamespace, model: onnx.ModelProto, samples: list[Sample], options: dict[str, Any]
) -> tuple[dict[str, tuple[Array, Array]], dict[str, Array]]:
    """Range of every tensor that nncf quantizes, and scale of every constant, by name."""
    quantized = quantize_by_nncf(nncf, model, samples, options)
    constants = {i.name: numpy_helper.to_array(i) for i in quantized.graph.initializer}
    activations, weights = {}, {}
    for node in quantized.graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = constants[node.input[1]].astype(np.float64), constants[node.input[2]]
            limits = np.iinfo(zero.dtype)
            levels = [limit - zero.astype(np.int64) for limit in (limits.min, limits.max)]
            activations[node.input[0]] = (levels[0] * scale, levels[1] * scale)
        elif node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weights[node.input[0].removeprefix("q_output_").removesuffix("_1")] = constants[node.input[1]]
    return activations, weights


def compare(nncf: SimpleNamespace, case: Case, options: dict[str, Any]) -> QuantizationPlan:
    adapter, samples = OnnxAdapter(case.build()), case.samples()
    # nncf folds no BatchNorm, so it gets the model as the adapter cleans it.
    model = adapter.emit(QuantizationPlan((), (), {}))
    # Where both libraries are left to choose, quantstats has another default.
    advanced = options.get("advanced_parameters", AdvancedQuantizationParameters())
    if advanced.activations_range_estimator_params is None:
        advanced = dataclasses.replace(advanced, activations_range_estimator_params=Set.MEAN_MINMAX)
    options = {**options, "advanced_parameters": advanced}
    plan = make_plan(adapter, samples, progress=False, **options)
    activations, weights = theirs(nncf, model, samples, options)
    ours = {a.tensor: a.quantizer for a in plan.activations}
    assert set(ours) - set(activations) == case.only_ours
    assert set(activations) - set(ours) == case.only_theirs
    differing = set()
    for tensor, quantizer in ours.items():
        if tensor in activations:
            assert quantizer is not None
            zero = quantizer.zero_point.astype(np.int64)
            found = [(level - zero) * quantizer.scale for level in (quantizer.level_low, quantizer.level_high)]
            width = np.max(activations[tensor][1] - activations[tensor][0])
            same = all(
                a.shape == b.shape and np.allclose(a, b, rtol=0, atol=TOLERANCE * width)
                for a, b in zip(found, activations[tensor], strict=True)
            )
            if not same:
                differing.add(tensor)
    assert differing == case.other_range
    different_weights = set(weights) ^ {w.tensor for w in plan.weights}
    for weight in plan.weights:
        assert weight.quantizer is not None
        scale = weight.quantizer.scale
        expected = weights.get(weight.tensor)
        if expected is not None and not np.allclose(scale, expected.reshape(scale.shape), rtol=1e-6, atol=0):
            different_weights.add(weight.tensor)
    assert different_weights == case.other_weights
    return plan


@pytest.mark.parametrize("name", CASES)
def test_model(nncf: SimpleNamespace, name: str) -> None:
    compare(nncf, CASES[name], CASES[name].options)


def advanced(**fields: Any) -> dict[str, Any]:
    return {"advanced_parameters": AdvancedQuantizationParameters(**fields)}


PARAMETERS: dict[str, dict[str, Any]] = {
    "mixed": {"preset": QuantizationPreset.MIXED},
    "minmax": advanced(activations_range_estimator_params=Set.MINMAX),
    "median": advanced(activations_range_estimator_params=Set.MEDIAN_MINMAX),
    "no outliers": advanced(activations_range_estimator_params=Set.MEAN_NO_OUTLIERS_MINMAX),
    "quantile": advanced(activations_range_estimator_params=Set.MEAN_QUANTILE),
    "weights by quantile": advanced(weights_range_estimator_params=Set.MEAN_QUANTILE),
    "enable": advanced(overflow_fix=OverflowFix.ENABLE),
    "first layer": advanced(overflow_fix=OverflowFix.FIRST_LAYER),
    "disable": advanced(overflow_fix=OverflowFix.DISABLE),
    "weights per tensor": advanced(weights_quantization_params=QuantizationParameters(per_channel=False)),
    "asymmetric": advanced(activations_quantization_params=QuantizationParameters(mode=QuantizationMode.ASYMMETRIC)),
    "ignored name": {"ignored_scope": IgnoredScope(names=["second"])},
    "ignored type": {"ignored_scope": IgnoredScope(types=["Gemm"])},
    "ignored pattern": {"ignored_scope": IgnoredScope(patterns=["fir.*"])},
    "ignored subgraph": {"ignored_scope": IgnoredScope(subgraphs=[Subgraph(["first"], ["second"])])},
}
# A convolution's integer kernel writes integers, so they are quantized there and not behind the pooling; an addition
# with an operand computed in floating point, or read only there, stays in floating point.
DIFFERENCES = {
    "ignored name": {
        "only_ours": frozenset({"relu13_13_out"}),
        "only_theirs": frozenset({"second_16_out", "relu18_18_out"}),
    },
    "ignored type": {"only_theirs": frozenset({"relu18_18_out"})},
    "ignored pattern": {
        "only_ours": frozenset({"stem_relu_8_out"}),
        "only_theirs": frozenset({"pool_9_out"}),
    },
    "ignored subgraph": {
        "only_ours": frozenset({"stem_relu_8_out"}),
        "only_theirs": frozenset({"pool_9_out", "second_16_out", "relu18_18_out"}),
    },
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(nncf: SimpleNamespace, name: str) -> None:
    case = Case(small_cnn, IMAGE, **DIFFERENCES.get(name, {}))
    compare(nncf, case, PARAMETERS[name])
