"""Every quantized operation runs as an integer kernel of onnxruntime, and computes what the plan means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.parameters import QuantizationPreset

from .models import ModelBuilder, small_cnn
from .quantization import executed_types, fake_quantized, min_max_plan, output_step, product_step, run, sqnr

PRESETS = [QuantizationPreset.PERFORMANCE, QuantizationPreset.MIXED]


def _convolution(shape: tuple[int, ...], **options: object) -> Callable[[ModelBuilder], str]:
    def build(b: ModelBuilder) -> str:
        kernel = (3,) * (len(shape) - 1)
        return b.conv(b.input("x", "batch", *shape), shape[0], 8, *kernel, **options)  # type: ignore[arg-type]

    return build


def _gemm(
    b: ModelBuilder, *, trans_a: int = 0, trans_b: int = 0, bias: tuple[int, ...] | None = (6,), **factors: float
) -> str:
    x = b.input("x", *((16, 4) if trans_a else ("batch", 16)))
    weight = b.noise(*((6, 16) if trans_b else (16, 6)), scale=0.3)
    constants = [weight] if bias is None else [weight, b.noise(*bias)]
    return b.op("Gemm", x, *constants, transA=trans_a, transB=trans_b, **factors)


def _matmul(*x_shape: int | str, weight: tuple[int, ...]) -> Callable[[ModelBuilder], str]:
    return lambda b: b.op("MatMul", b.input("x", *x_shape), b.noise(*weight, scale=0.3))


def _constant_left(b: ModelBuilder) -> str:
    return b.op("MatMul", b.noise(6, 16, scale=0.3), b.input("x", "batch", 16, 5))


def _attention_scores(b: ModelBuilder) -> str:
    return b.op("MatMul", b.input("x", "batch", 2, 5, 16), b.input("z", "batch", 2, 16, 7))


# One computing operation with quantized inputs: builder, does it need a quantized output, integer kernels expected.
LEADERS: dict[str, tuple[Callable[[ModelBuilder], str], bool, set[str]]] = {
    "conv": (_convolution((4, 9, 9)), True, {"QLinearConv"}),
    "conv without bias": (_convolution((4, 9, 9), bias=False), True, {"QLinearConv"}),
    "conv strided dilated": (_convolution((4, 9, 9), strides=[2, 2], dilations=[2, 2]), True, {"QLinearConv"}),
    "conv depthwise": (_convolution((8, 9, 9), group=8), True, {"QLinearConv"}),
    "conv grouped": (_convolution((8, 9, 9), group=2), True, {"QLinearConv"}),
    "conv 1-d": (_convolution((4, 19)), True, {"QLinearConv"}),
    "conv 3-d": (_convolution((4, 5, 5, 5)), True, {"QLinearConv"}),
    "gemm": (_gemm, False, {"QGemm"}),
    "gemm transB": (lambda b: _gemm(b, trans_b=1), False, {"QGemm"}),
    "gemm transA": (lambda b: _gemm(b, trans_a=1), False, {"QGemm"}),
    "gemm transA transB": (lambda b: _gemm(b, trans_a=1, trans_b=1), False, {"QGemm"}),
    "gemm without bias": (lambda b: _gemm(b, bias=None), False, {"QGemm"}),
    "gemm bias row": (lambda b: _gemm(b, bias=(1, 6)), False, {"QGemm"}),
    "gemm bias scalar": (lambda b: _gemm(b, bias=()), False, {"QGemm"}),
    "gemm alpha beta": (lambda b: _gemm(b, alpha=0.5, beta=3.0), False, {"QGemm"}),
    "matmul 2-d": (_matmul("batch", 16, weight=(16, 6)), False, {"MatMulIntegerToFloat"}),
    "matmul 3-d": (_matmul("batch", 5, 16, weight=(16, 6)), False, {"MatMulIntegerToFloat"}),
    "matmul static 3-d": (_matmul(2, 5, 16, weight=(16, 6)), False, {"MatMulIntegerToFloat"}),
    "matmul batched weight": (_matmul("batch", 3, 5, 16, weight=(3, 16, 6)), False, {"MatMulIntegerToFloat"}),
    "matmul constant left": (_constant_left, False, {"MatMulIntegerToFloat"}),
    "matmul of activations": (_attention_scores, False, {"MatMulIntegerToFloat"}),
}


def _model(build: Callable[[ModelBuilder], str]) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    b = ModelBuilder()
    b.output(build(b))
    feeds = {
        value.name: b.rng.normal(loc=0.4, size=[dim.dim_value or 3 for dim in value.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for value in b.inputs
    }
    return b.build(), feeds


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("case", LEADERS)
def test_leader_runs_on_integers(case: str, preset: QuantizationPreset, tmp_path: Path) -> None:
    build, needs_output, kernels = LEADERS[case]
    model, feeds = _model(build)
    adapter = OnnxAdapter(model)
    plan = min_max_plan(adapter, feeds, preset=preset, quantize_outputs=needs_output)
    assert all(decision.quantized for decision in plan.decisions.values()), plan.decisions
    emitted = adapter.emit(plan)
    onnx.checker.check_model(emitted, full_check=True)

    executed = executed_types(emitted, tmp_path)
    assert kernels <= set(executed)
    assert set(executed) <= kernels | {"QuantizeLinear", "DequantizeLinear"}
    assert executed.count("DequantizeLinear") == int(needs_output)

    (output,) = adapter.graph().outputs
    expected = fake_quantized(_normalized(adapter, model), plan, feeds)[output]
    # The bias is rounded to int32, and float32 sums differ in the last bits; either can move a value over the border
    # between two levels.
    noise = 0.5 * product_step(plan) + 1e-5 * float(np.abs(expected).max())
    for optimized in (False, True):
        actual = run(emitted, feeds, optimized=optimized)[output]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=output_step(plan, output) + noise)
        assert np.mean(np.abs(actual - expected) > noise) < 0.02


def _normalized(adapter: OnnxAdapter, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the constants that the plan names: those of the adapter, where clean-up has made new ones."""
    if {i.name for i in model.graph.initializer} >= {
        operation.weight.tensor for operation in adapter.graph() if operation.weight is not None
    }:
        return model
    (operation,) = adapter.graph()
    assert operation.weight is not None
    node = model.graph.node[0]
    b = ModelBuilder()
    weight = b.constant(adapter.constant(operation.weight.tensor), operation.weight.tensor)
    bias = b.constant(adapter.constant(operation.bias), operation.bias) if operation.bias else ""
    b.op("Gemm", node.input[0], weight, bias, out=node.output[0])
    b.inputs, b.outputs = list(model.graph.input), list(model.graph.output)
    return b.build()


def _between_convolutions(follower: Callable[[ModelBuilder, str, str], str]) -> Callable[[ModelBuilder], str]:
    """Two convolutions of the input, what is tested, and a convolution of its result."""

    def build(b: ModelBuilder) -> str:
        x = b.input("x", "batch", 4, 8, 8)
        result = follower(b, b.conv(x, 4, 4), b.conv(x, 4, 4))
        return b.op("Conv", result, b.noise(3, 4 if "concat" not in result else 8, 1, 1), b.noise(3))

    return build


def _four(b: ModelBuilder) -> list[str]:
    """Start, end and axis of a slice that leaves the last four channels."""
    return [b.constant([1]), b.constant([5]), b.constant([1])]


FOLLOWERS: dict[str, tuple[Callable[[ModelBuilder, str, str], str], set[str]]] = {
    "add": (lambda b, p, q: b.op("Add", p, q), {"QLinearAdd"}),
    "add relu": (lambda b, p, q: b.op("Relu", b.op("Add", p, q)), {"QLinearAdd"}),
    "mul": (lambda b, p, q: b.op("Mul", p, q), {"QLinearMul"}),
    "concat": (lambda b, p, q: b.op("Concat", p, q, axis=1, out="concat"), {"QLinearConcat"}),
    "concat of relus": (
        lambda b, p, q: b.op("Concat", b.op("Relu", p), b.op("Relu", q), axis=1, out="concat"),
        {"QLinearConcat"},
    ),
    "add constant": (lambda b, p, q: b.op("Add", b.noise(1, 4, 8, 8), b.op("Add", p, q)), {"QLinearAdd"}),
    "mul constant": (lambda b, p, q: b.op("Mul", b.op("Add", p, q), b.positive(4, 1, 1)), {"QLinearAdd", "QLinearMul"}),
    "concat constant": (
        lambda b, p, q: b.op(
            "Slice", b.op("Concat", b.op("Add", p, q), b.noise(3, 1, 8, 8, name="more"), axis=1), *_four(b)
        ),
        {"QLinearAdd", "QLinearConcat", "Slice"},
    ),
    "average pool": (
        lambda b, p, q: b.op("AveragePool", b.op("Add", p, q), kernel_shape=[2, 2], strides=[2, 2]),
        {"QLinearAdd", "QLinearAveragePool"},
    ),
    "average pool padded": (
        lambda b, p, q: b.op(
            "AveragePool", b.op("Add", p, q), kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
        ),
        {"QLinearAdd", "QLinearAveragePool"},
    ),
    "global average pool": (
        lambda b, p, q: b.op("GlobalAveragePool", b.op("Add", p, q)),
        {"QLinearAdd", "QLinearGlobalAveragePool"},
    ),
    "max pool": (
        lambda b, p, q: b.op("MaxPool", b.op("Add", p, q), kernel_shape=[2, 2], strides=[2, 2]),
        {"QLinearAdd", "NhwcMaxPool"},
    ),
    "relu": (lambda b, p, q: b.op("Add", b.op("Relu", p), q), {"QLinearAdd"}),
    "clip": (
        lambda b, p, q: b.op("Add", b.op("Clip", p, b.constant(np.float32(0)), b.constant(np.float32(6))), q),
        {"QLinearAdd"},
    ),
    "clip inside the range": (
        lambda b, p, q: b.op("Add", b.op("Clip", p, b.constant(np.float32(-0.1)), b.constant(np.float32(0.2))), q),
        {"QLinearAdd", "Clip"},
    ),
    "resize": (
        lambda b, p, q: b.op("Resize", b.op("Add", p, q), "", b.constant(np.float32([1, 1, 2, 2])), mode="nearest"),
        {"QLinearAdd", "Resize"},
    ),
    "split": (
        lambda b, p, q: b.op(
            "Concat", b.op("Split", b.op("Add", p, q), axis=1, out=("left", "right")), "right", "left", axis=1, out="s"
        ),
        {"QLinearAdd", "Split", "QLinearConcat"},
    ),
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("case", FOLLOWERS)
def test_follower_runs_on_integers(case: str, preset: QuantizationPreset, tmp_path: Path) -> None:
    follower, kernels = FOLLOWERS[case]
    if case == "split":
        base = follower

        def follower(b: ModelBuilder, p: str, q: str) -> str:
            # Three halves of four channels are six; a 1 x 1 convolution brings them back to four.
            return b.op("Slice", base(b, p, q), b.constant([0]), b.constant([4]), b.constant([1]))

        kernels = kernels | {"Slice"}
    if case == "clip inside the range" and preset is QuantizationPreset.MIXED:
        # An asymmetric range ends where the Clip does, and saturation alone is the Clip.
        kernels = kernels - {"Clip"}
    model, feeds = _model(_between_convolutions(follower))
    adapter = OnnxAdapter(model)
    plan = min_max_plan(adapter, feeds, preset=preset, quantize_outputs=True)
    assert all(decision.quantized for decision in plan.decisions.values()), plan.decisions
    emitted = adapter.emit(plan)
    onnx.checker.check_model(emitted, full_check=True)

    executed = Counter(executed_types(emitted, tmp_path))
    assert executed.keys() - {"MaxPool"} <= kernels | {"QLinearConv", "QuantizeLinear", "DequantizeLinear"}
    assert kernels <= executed.keys()
    assert executed["QLinearConv"] == 3
    # The input is quantized once, the output dequantized once; everything in between stays integer.
    assert executed["QuantizeLinear"] == 1
    assert executed["DequantizeLinear"] == 1

    expected = run(model, feeds)
    for name, actual in run(emitted, feeds).items():
        assert sqnr(expected[name], actual) > 25, name
    unfused = run(emitted, feeds, optimized=False)
    for name, actual in run(emitted, feeds).items():
        # Integer kernels of pools and products round once more than their definition in floating point.
        np.testing.assert_allclose(actual, unfused[name], rtol=0, atol=3 * output_step(plan, name))


@pytest.mark.parametrize(
    "moves", ["Reshape", "Transpose", "Flatten", "Unsqueeze Squeeze", "Gather", "ReduceMax", "Tile"]
)
def test_data_moves_on_integers(moves: str, tmp_path: Path) -> None:
    b = ModelBuilder()
    x = b.conv(b.input("x", "batch", 4, 6, 6), 4, 8)
    if moves == "Reshape":
        x = b.op("Reshape", x, b.constant(np.int64([-1, 288])))
    elif moves == "Transpose":
        x = b.op("Flatten", b.op("Transpose", x, perm=[0, 2, 3, 1]))
    elif moves == "Flatten":
        x = b.op("Flatten", x)
    elif moves == "Unsqueeze Squeeze":
        x = b.op("Flatten", b.op("Squeeze", b.op("Relu", b.op("Unsqueeze", x, b.constant([1]))), b.constant([1])))
    elif moves == "Gather":
        x = b.op("Gather", x, b.constant(np.int64(2)), axis=2)
        x = b.op("Flatten", x)
    elif moves == "ReduceMax":
        x = b.op("Flatten", b.op("ReduceMax", x, axes=[2]))
    elif moves == "Tile":
        x = b.op("Flatten", b.op("Tile", x, b.constant(np.int64([1, 1, 2, 1]))))
    width = {"Gather": 48, "ReduceMax": 48, "Tile": 576}.get(moves, 288)
    b.op("Gemm", x, b.noise(width, 5, scale=0.1), b.noise(5), out="y")
    b.output("y")
    adapter = OnnxAdapter(b.build())
    feeds = {"x": b.rng.normal(size=(2, 4, 6, 6)).astype(np.float32)}
    emitted = adapter.emit(min_max_plan(adapter, feeds))

    executed = executed_types(emitted, tmp_path)
    assert {"QLinearConv", "QGemm"} <= set(executed)
    assert executed.count("QuantizeLinear") == (2 if moves.startswith("Unsqueeze") else 1)
    assert sqnr(run(b.build(), feeds)["y"], run(emitted, feeds)["y"]) > 25


def test_small_cnn_runs_on_integers_from_end_to_end(tmp_path: Path) -> None:
    model = small_cnn()
    feeds = {"x": np.random.default_rng(1).normal(size=(16, 3, 8, 8)).astype(np.float32)}
    adapter = OnnxAdapter(model)
    emitted = adapter.emit(min_max_plan(adapter, feeds))
    executed = Counter(executed_types(emitted, tmp_path))
    assert executed == {
        "QuantizeLinear": 1,
        "QLinearConv": 3,
        "NhwcMaxPool": 1,
        "QLinearAdd": 1,
        "QLinearGlobalAveragePool": 1,
        "Flatten": 1,
        "QGemm": 1,
    }
    assert sqnr(run(model, feeds)["y"], run(emitted, feeds)["y"]) > 30


def test_transformer_block_keeps_attention_products_on_integers(tmp_path: Path) -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 6, 16)

    def linear(x: str, inputs: int, outputs: int) -> str:
        return b.op("Add", b.op("MatMul", x, b.noise(inputs, outputs, scale=inputs**-0.5)), b.noise(outputs))

    def heads(x: str, *perm: int) -> str:
        return b.op("Transpose", b.op("Reshape", x, b.constant(np.int64([-1, 6, 2, 8]))), perm=list(perm))

    query, key, value = (linear(x, 16, 16) for _ in range(3))
    scores = b.op("MatMul", heads(query, 0, 2, 1, 3), heads(key, 0, 2, 3, 1))
    weights = b.op("Softmax", b.op("Mul", scores, b.constant(np.float32(8**-0.5))), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", weights, heads(value, 0, 2, 1, 3)), perm=[0, 2, 1, 3])
    merged = b.op("Reshape", mixed, b.constant(np.int64([-1, 6, 16])))
    b.output(linear(merged, 16, 16))
    model = b.build()
    feeds = {"x": b.rng.normal(size=(4, 6, 16)).astype(np.float32)}
    adapter = OnnxAdapter(model)
    emitted = adapter.emit(min_max_plan(adapter, feeds, preset=QuantizationPreset.MIXED))

    executed = Counter(executed_types(emitted, tmp_path))
    assert executed["MatMulIntegerToFloat"] + executed["QLinearMatMul"] == 6
    assert executed["MatMul"] == executed["DequantizeLinear"] == executed["QLinearSoftmax"] == 0
    for name, expected in run(model, feeds).items():
        assert sqnr(expected, run(emitted, feeds)[name]) > 25
