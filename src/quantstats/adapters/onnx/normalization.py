"""Fully connected layers in the one form that has an integer kernel with bias: Gemm, plain factors, a bias vector.

onnxruntime fuses a quantized Gemm only if alpha and beta are 1, and folds BatchNorm into convolutions and MatMul alone.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quantstats.adapters.onnx.naming import UniqueNames, tensor_names

_Floats: TypeAlias = NDArray[np.float32]


def normalize_fully_connected(graph: ir.Graph) -> None:
    """Rewrite the Gemm nodes of a graph, and the MatMul nodes that are one, in place.

    MatMul keeps its node name; the result keeps the name of the last node that was folded.
    """
    names = UniqueNames(tensor_names(graph))
    for node in list(graph):
        if node.domain == "" and node.op_type == "MatMul":
            node = _matmul_with_bias(graph, node, names) or node
        if node.domain == "" and node.op_type == "Gemm":
            _plain_factors(graph, node, names)
            _fold_batch_norm(graph, node, names)


def _matmul_with_bias(graph: ir.Graph, node: ir.Node, names: UniqueNames) -> ir.Node | None:
    """Make a two-dimensional MatMul and the addition of its bias one Gemm."""
    left, weight = node.inputs
    addition = _only_reader(graph, node, "Add")
    matrix = _floats(weight)
    if addition is None or left is None or left.shape is None or left.shape.rank() != 2:
        return None
    if matrix is None or matrix.ndim != 2:
        return None
    bias = next((value for value in addition.inputs if value is not node.outputs[0]), None)
    vector = _per_column(bias, matrix.shape[1])
    if bias is None or vector is None:
        return None
    if _floats(bias) is None or bias.shape != ir.Shape(vector.shape):
        bias = _constant(graph, names, f"{bias.name}_vector", vector)
    gemm = ir.node("Gemm", [left, weight, bias], name=node.name)
    graph.insert_before(node, gemm)
    _take_over(graph, gemm, addition)
    graph.remove([node], safe=True)
    return gemm


def _plain_factors(graph: ir.Graph, node: ir.Node, names: UniqueNames) -> None:
    """Fold alpha and beta into the constants, and spread the bias to a value for each column."""
    weight, bias = node.inputs[1], _bias(node)
    matrix = _floats(weight)
    if weight is None or matrix is None or matrix.ndim != 2:
        return
    vector = _per_column(bias, matrix.shape[_column_axis(node)])
    if bias is not None and vector is None:
        return
    alpha, beta = (node.attributes[n].as_float() if n in node.attributes else 1.0 for n in ("alpha", "beta"))
    if alpha != 1:
        node.replace_input_with(1, _constant(graph, names, f"{weight.name}_scaled", matrix * np.float32(alpha)))
        node.attributes["alpha"] = ir.AttrFloat32("alpha", 1.0)
    if bias is not None and vector is not None and (beta != 1 or bias.shape != ir.Shape(vector.shape)):
        node.replace_input_with(2, _constant(graph, names, f"{bias.name}_vector", vector * np.float32(beta)))
    if beta != 1:
        node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)


def _fold_batch_norm(graph: ir.Graph, node: ir.Node, names: UniqueNames) -> None:
    """Fold a BatchNorm that alone reads a Gemm.

    With g = scale / sqrt(variance + epsilon): w' = w * g, b' = (b - mean) * g + shift.
    """
    norm = _only_reader(graph, node, "BatchNormalization")
    weight, bias = node.inputs[1], _bias(node)
    matrix = _floats(weight)
    if norm is None or norm.inputs[0] is not node.outputs[0] or weight is None or matrix is None or matrix.ndim != 2:
        return
    training = "training_mode" in norm.attributes and norm.attributes["training_mode"].as_int() != 0
    columns = matrix.shape[_column_axis(node)]
    found = [_per_column(value, columns) for value in norm.inputs[1:5]]
    scale, shift, mean, variance = (None if v is None else v.astype(np.float64) for v in found)
    if training or scale is None or shift is None or mean is None or variance is None:
        return
    old = np.zeros(columns, np.float32) if bias is None else _per_column(bias, columns)
    if old is None:
        return
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    gain = scale / np.sqrt(variance + epsilon)
    folded = matrix * (gain[:, None] if _column_axis(node) == 0 else gain)
    vector = (old - mean) * gain + shift
    inputs = [
        node.inputs[0],
        _constant(graph, names, f"{weight.name}_folded", folded.astype(np.float32)),
        _constant(graph, names, f"{norm.outputs[0].name}_bias", vector.astype(np.float32)),
    ]
    gemm = ir.Node("", "Gemm", inputs, node.attributes.values(), name=node.name)
    graph.insert_before(node, gemm)
    _take_over(graph, gemm, norm)
    graph.remove([node], safe=True)


def _only_reader(graph: ir.Graph, node: ir.Node, op_type: str) -> ir.Node | None:
    """The node of that type if it is the one thing that reads the result of ``node``."""
    output = node.outputs[0]
    uses = list(output.uses())
    if output.is_graph_output() or len(uses) != 1:
        return None
    reader = uses[0].node
    return reader if reader.op_type == op_type and reader.domain == "" and reader.graph is graph else None


def _take_over(graph: ir.Graph, node: ir.Node, last: ir.Node) -> None:
    """Let ``node`` produce what ``last`` did, under the same name, and remove ``last``."""
    old, new = last.outputs[0], node.outputs[0]
    name, new.type, new.shape = old.name, old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove([last], safe=True)
    new.name = name


def _bias(node: ir.Node) -> ir.Value | None:
    return node.inputs[2] if len(node.inputs) > 2 else None


def _column_axis(gemm: ir.Node) -> int:
    """Axis of the weight along which the columns of the result lie."""
    return 0 if "transB" in gemm.attributes and gemm.attributes["transB"].as_int() else 1


def _floats(value: ir.Value | None) -> _Floats | None:
    """The value of a float32 constant."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    array: NDArray[Any] = value.const_value.numpy()
    return array if array.dtype == np.float32 else None


def _per_column(value: ir.Value | None, columns: int) -> _Floats | None:
    """A constant as one value for each column; ``None`` if it is no float32 constant or varies by row."""
    array = _floats(value)
    if array is None or array.ndim > 2 or any(n != 1 for n in array.shape[:-1]) or array.size not in (1, columns):
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (columns,)))


def _constant(graph: ir.Graph, names: UniqueNames, name: str, array: _Floats) -> ir.Value:
    value = ir.Value(
        name=names.unique(name),
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.tensor(array),
    )
    graph.register_initializer(value)
    return value
