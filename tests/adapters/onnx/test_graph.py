"""What the driver is told of a model: roles, weights, axes; and what it must leave alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.ptq.graph import Operation, OperationKind, Weight

from .models import ModelBuilder, conditional_model


def only(model: onnx.ModelProto, op_type: str) -> Operation:
    (operation,) = (o for o in OnnxAdapter(model).graph() if o.type == op_type)
    return operation


def described(build: Callable[[ModelBuilder], str], op_type: str) -> Operation:
    b = ModelBuilder()
    b.output(build(b))
    return only(b.build(), op_type)


def test_convolution() -> None:
    operation = described(lambda b: b.conv(b.input("x", 1, 4, 8, 8), 4, 6, name="c"), "Conv")
    assert operation == Operation(
        name="c",
        kind=OperationKind.CONVOLUTION,
        type="Conv",
        inputs=("x", "constant1", "constant2"),
        outputs=operation.outputs,
        weight=Weight("constant1", operand=1, channel_axis=0),
        bias="constant2",
        activations=(0,),
        input_channel_axis=1,
        needs_output_quantizer=True,
    )


@pytest.mark.parametrize(("group", "axis"), [(1, 1), (2, None)])
def test_transposed_convolution(group: int, axis: int | None) -> None:
    operation = described(
        lambda b: b.op("ConvTranspose", b.input("x", 1, 4, 8, 8), b.noise(4, 6 // group, 3, 3), group=group),
        "ConvTranspose",
    )
    assert operation.kind is OperationKind.TRANSPOSED_CONVOLUTION
    assert operation.weight is not None
    assert operation.weight.channel_axis == axis
    assert operation.bias is None


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "axis", "input_axis"),
    [((3, 5), (5, 7), 1, 1), ((2, 3, 5), (5, 7), 1, 2), ((2, 3, 5), (2, 5, 7), None, 2), ((3, 5), (5,), None, 1)],
)
def test_matmul_with_a_weight(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], axis: int | None, input_axis: int
) -> None:
    operation = described(lambda b: b.op("MatMul", b.input("x", *x_shape), b.noise(*weight_shape)), "MatMul")
    assert operation.kind is OperationKind.MATMUL
    assert operation.weight is not None
    assert (operation.weight.operand, operation.weight.channel_axis) == (1, axis)
    assert operation.activations == (0,)
    assert operation.input_channel_axis == input_axis
    assert not operation.needs_output_quantizer


def test_matmul_with_the_weight_on_the_left_has_no_channels() -> None:
    operation = described(lambda b: b.op("MatMul", b.noise(7, 5), b.input("x", 2, 5, 3)), "MatMul")
    assert operation.weight is not None
    assert (operation.weight.operand, operation.weight.channel_axis) == (0, None)
    assert operation.activations == (1,)
    assert operation.input_channel_axis == 1


def test_matmul_of_activations() -> None:
    operation = described(lambda b: b.op("MatMul", b.input("x", 2, 5), b.input("z", 5, 3)), "MatMul")
    assert (operation.weight, operation.activations, operation.input_channel_axis) == (None, (0, 1), None)


def test_bias_that_follows_a_batched_matmul_is_reported() -> None:
    b = ModelBuilder()
    product = b.op("MatMul", b.input("x", "batch", 3, 5), b.noise(5, 7))
    b.output(b.op("Add", b.noise(7, name="the bias"), product))
    assert only(b.build(), "MatMul").bias == "the bias"
    addition = only(b.build(), "Add")
    assert addition.kind is OperationKind.ELEMENTWISE
    assert addition.activations == (1,)


def test_concat_with_a_constant() -> None:
    operation = described(lambda b: b.op("Concat", b.noise(1, 5), b.input("x", 2, 5), axis=0), "Concat")
    assert (operation.kind, operation.activations) == (OperationKind.CONCAT, (1,))


def test_convolution_with_computed_weight_or_bias_stays_in_floating_point() -> None:
    b = ModelBuilder()
    x, weight, bias = b.input("x", 1, 4, 8, 8), b.input("w", 4, 4, 3, 3), b.input("b", 4)
    b.output(b.op("Conv", x, weight), b.op("Conv", x, b.noise(4, 4, 3, 3), bias))
    assert {o.kind for o in OnnxAdapter(b.build()).graph()} == {OperationKind.FLOAT}


def test_gemm_with_a_matrix_to_add_stays_in_floating_point() -> None:
    operation = described(lambda b: b.op("Gemm", b.input("x", 3, 5), b.noise(5, 7), b.noise(3, 7)), "Gemm")
    assert operation.kind is OperationKind.FLOAT


@pytest.mark.parametrize(
    ("op_type", "kind"),
    [
        ("Add", OperationKind.ELEMENTWISE),
        ("Mul", OperationKind.ELEMENTWISE),
        ("Sub", OperationKind.FLOAT),
        ("Div", OperationKind.FLOAT),
    ],
)
def test_elementwise(op_type: str, kind: OperationKind) -> None:
    both = described(lambda b: b.op(op_type, b.input("x", 2, 5), b.input("z", 2, 5)), op_type)
    assert both.kind is kind
    assert both.activations == ((0, 1) if kind is OperationKind.ELEMENTWISE else ())
    one = described(lambda b: b.op(op_type, b.input("x", 2, 5), b.noise(5)), op_type)
    assert one.kind is kind
    assert one.activations == ((0,) if kind is OperationKind.ELEMENTWISE else ())
    assert one.weight is None


@pytest.mark.parametrize(
    ("op_type", "attributes", "constants", "kind"),
    [
        ("MaxPool", {"kernel_shape": [2, 2]}, [], OperationKind.MOVE),
        ("GlobalMaxPool", {}, [], OperationKind.FLOAT),
        ("AveragePool", {"kernel_shape": [2, 2]}, [], OperationKind.POOLING),
        ("AveragePool", {"kernel_shape": [2, 2], "dilations": [2, 2]}, [], OperationKind.FLOAT),
        ("GlobalAveragePool", {}, [], OperationKind.POOLING),
        ("ReduceMean", {"keepdims": 0}, [], OperationKind.FLOAT),
        ("Relu", {}, [], OperationKind.ACTIVATION),
        ("Clip", {}, [np.float32(0), np.float32(6)], OperationKind.ACTIVATION),
        ("Reshape", {}, [np.int64([0, -1])], OperationKind.MOVE),
        ("Transpose", {"perm": [0, 2, 3, 1]}, [], OperationKind.MOVE),
        ("Slice", {}, [np.int64([0]), np.int64([1]), np.int64([1])], OperationKind.MOVE),
        ("Gather", {"axis": 1}, [np.int64([0, 2])], OperationKind.MOVE),
        ("DepthToSpace", {"blocksize": 2}, [], OperationKind.MOVE),
        ("SpaceToDepth", {"blocksize": 2}, [], OperationKind.FLOAT),
        ("Pad", {}, [np.int64([0, 0, 1, 1, 0, 0, 1, 1])], OperationKind.FLOAT),
        ("Resize", {"mode": "nearest"}, ["", np.float32([1, 1, 2, 2])], OperationKind.MOVE),
        ("Resize", {"mode": "linear"}, ["", np.float32([1, 1, 2, 2])], OperationKind.FLOAT),
        ("Softmax", {}, [], OperationKind.SOFTMAX),
        ("Sigmoid", {}, [], OperationKind.FLOAT),
    ],
)
def test_kinds(op_type: str, attributes: dict[str, object], constants: list[object], kind: OperationKind) -> None:
    b = ModelBuilder(19 if "dilations" in attributes else 17)
    x = b.input("x", "batch", 4, 8, 8)
    inputs = [constant if isinstance(constant, str) else b.constant(constant) for constant in constants]
    b.output(b.op(op_type, x, *inputs, **attributes))
    assert only(b.build(), op_type).kind is kind


def test_clip_with_computed_bounds_stays_in_floating_point() -> None:
    operation = described(lambda b: b.op("Clip", b.input("x", 4), b.input("low"), b.input("high")), "Clip")
    assert operation.kind is OperationKind.FLOAT


def test_max_pool_that_tells_indices_stays_in_floating_point() -> None:
    b = ModelBuilder()
    b.op("MaxPool", b.input("x", 1, 4, 8, 8), kernel_shape=[2, 2], out=("y", "indices"))
    b.output("y")
    assert only(b.build(), "MaxPool").kind is OperationKind.MOVE
    b.output("indices", dtype=TensorProto.INT64)
    assert only(b.build(), "MaxPool").kind is OperationKind.FLOAT


def test_integers_are_not_activations() -> None:
    b = ModelBuilder()
    shape = b.op("Shape", b.input("x", "batch", 4))
    b.op("Concat", shape, shape, axis=0, out="twice")
    b.output("twice", dtype=TensorProto.INT64)
    concat = only(b.build(), "Concat")
    assert (concat.kind, concat.activations) == (OperationKind.FLOAT, ())


def _layer_norm(b: ModelBuilder, x: str, square: Callable[[ModelBuilder, str], str], *, rsqrt: bool) -> str:
    centred = b.op("Sub", x, b.op("ReduceMean", x, axes=[-1]))
    spread = b.op("Sqrt", b.op("Add", b.op("ReduceMean", square(b, centred), axes=[-1]), b.constant(np.float32(1e-5))))
    normalized = b.op("Mul", centred, b.op("Reciprocal", spread)) if rsqrt else b.op("Div", centred, spread)
    return b.op("Add", b.op("Mul", normalized, b.positive(8)), b.noise(8))


def _gelu_erf(b: ModelBuilder, x: str) -> str:
    erf = b.op("Erf", b.op("Div", x, b.constant(np.float32(2**0.5))))
    return b.op("Mul", b.op("Mul", x, b.op("Add", erf, b.constant(np.float32(1)))), b.constant(np.float32(0.5)))


def _gelu_tanh(b: ModelBuilder, x: str) -> str:
    cube = b.op("Mul", b.op("Mul", x, x), x)
    inner = b.op("Add", x, b.op("Mul", cube, b.constant(np.float32(0.044715))))
    tanh = b.op("Tanh", b.op("Mul", inner, b.constant(np.float32(0.797884))))
    return b.op("Mul", b.op("Mul", x, b.op("Add", tanh, b.constant(np.float32(1)))), b.constant(np.float32(0.5)))


def _softmax(b: ModelBuilder, x: str) -> str:
    exponential = b.op("Exp", b.op("Sub", x, b.op("ReduceMax", x, axes=[-1])))
    return b.op("Mul", exponential, b.op("Reciprocal", b.op("ReduceSum", exponential, b.constant([-1]))))


DECOMPOSED: dict[str, Callable[[ModelBuilder, str], str]] = {
    "layer norm with pow": lambda b, x: _layer_norm(
        b, x, lambda b, c: b.op("Pow", c, b.constant(np.float32(2))), rsqrt=False
    ),
    "layer norm with mul": lambda b, x: _layer_norm(b, x, lambda b, c: b.op("Mul", c, c), rsqrt=True),
    "gelu with erf": _gelu_erf,
    "gelu with tanh": _gelu_tanh,
    "softmax": _softmax,
    "mask": lambda b, x: b.op("Softmax", b.op("Add", x, b.input("mask", "batch", 8))),
}


@pytest.mark.parametrize("function", DECOMPOSED)
def test_steps_of_a_decomposed_function_stay_in_floating_point(function: str) -> None:
    # From opset 17 on onnxruntime makes a LayerNormalization of one.
    b = ModelBuilder(16)
    x = b.op("Relu", b.input("x", "batch", 8))
    b.output(DECOMPOSED[function](b, x))
    operations = list(OnnxAdapter(b.build()).graph())
    assert len(operations) > 2
    assert {o.kind for o in operations if o.type not in ("Relu", "ReduceMax", "Softmax")} == {OperationKind.FLOAT}


def test_residual_addition_beside_a_decomposed_function_is_elementwise() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 8)
    b.output(b.op("Add", x, _gelu_erf(b, x), name="residual"), b.op("Add", x, b.op("Relu", x), name="plain"))
    graph = OnnxAdapter(b.build()).graph()
    assert graph.operation("plain").kind is OperationKind.ELEMENTWISE


def test_subgraphs_are_not_entered_and_show_what_they_capture() -> None:
    graph = OnnxAdapter(conditional_model()).graph()
    assert [operation.name for operation in graph] == ["conv", "choice", "last"]
    choice = graph.operation("choice")
    assert choice.kind is OperationKind.FLOAT
    assert choice.inputs == ("flag", "features")
    assert choice.activations == ()


def test_tensors_tell_type_shape_and_constancy() -> None:
    b = ModelBuilder()
    b.output(b.op("Flatten", b.conv(b.input("x", "batch", 4, 8, 8), 4, 6, name="c"), name="f"))
    graph = OnnxAdapter(b.build()).graph()
    assert graph.tensors["x"].shape == (None, 4, 8, 8)
    assert graph.tensors["x"].dtype == "float32"
    assert graph.tensors["constant1"].constant
    assert graph.tensors["constant1"].shape == (6, 4, 3, 3)
    assert graph.tensors[graph.outputs[0]].shape == (None, 384)
    assert set(graph.tensors) >= {t for o in graph for t in (*o.inputs, *o.outputs) if t}


def test_every_call_gives_an_equal_graph() -> None:
    adapter = OnnxAdapter(_two_inputs())
    assert adapter.graph() == adapter.graph() == OnnxAdapter(_two_inputs()).graph()


def _two_inputs() -> onnx.ModelProto:
    b = ModelBuilder()
    left, right = b.input("left", "batch", 8), b.input("right", "batch", 8)
    hidden = b.op("Gemm", left, b.noise(8, 8), b.noise(8), out="hidden")
    b.op("Add", hidden, right, out="total")
    b.output("total", "hidden")
    return b.build()


def test_several_inputs_and_an_output_in_the_middle() -> None:
    graph = OnnxAdapter(_two_inputs()).graph()
    assert graph.inputs == ("left", "right")
    assert graph.outputs == ("total", "hidden")
