"""New biases of convolutions and matrix multiplications, put where onnxruntime's kernels look for a bias."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quantstats.adapters.onnx.graph import added_bias
from quantstats.adapters.onnx.naming import UniqueNames
from quantstats.adapters.onnx.operators import OPERATORS, int_attribute
from quantstats.errors import ParameterError
from quantstats.ptq.graph import OperationKind

_WITH_BIAS = frozenset({OperationKind.CONVOLUTION, OperationKind.TRANSPOSED_CONVOLUTION, OperationKind.MATMUL})


def set_biases(
    graph: ir.Graph,
    biases: Mapping[str, NDArray[np.float32]],
    *,
    tensor_names: UniqueNames,
    node_names: UniqueNames,
) -> None:
    """Give operations other biases, in place.

    A convolution or Gemm has its bias as an operand, new if it had none. That of a MatMul is the constant that an Add
    behind it adds; where there is no such Add, one is put right behind the MatMul and takes over the name of its
    output. So the MatMul itself still becomes an integer kernel.

    :param biases: Bias vector by the name of the operation. Constants that others read too stay as they are.
    :raises ParameterError: if there is no such operation, or the vector has another length than the channels.
    """
    nodes = {node.name: node for node in graph if node.name}
    for name, bias in biases.items():
        node = nodes.get(name)
        operator = None if node is None or node.domain != "" else OPERATORS.get(node.op_type)
        if node is None or operator is None or operator.kind not in _WITH_BIAS:
            raise ParameterError(f"the plan gives {name!r} a bias, which is no convolution or matrix multiplication")
        channels = _channels(node)
        if channels is not None and bias.shape != (channels,):
            raise ParameterError(
                f"the plan gives {node.op_type} {name!r} a bias of shape {bias.shape}, and it has {channels} output "
                "channels"
            )
        if operator.bias is not None:
            old = node.inputs[operator.bias] if len(node.inputs) > operator.bias else None
            if old is None and len(node.inputs) <= operator.bias:
                node.resize_inputs(operator.bias + 1)
            label = f"{name}_bias" if old is None else f"{old.name}_corrected"
            node.replace_input_with(operator.bias, _constant(graph, tensor_names, label, bias))
            continue
        old = added_bias(node)
        if old is None:
            _add_behind(graph, node, bias, tensor_names, node_names)
            continue
        addition = next(iter(node.outputs[0].uses())).node
        assert old.shape is not None
        shaped = bias.reshape(old.shape.numpy())
        constant = _constant(graph, tensor_names, f"{old.name}_corrected", shaped)
        addition.replace_input_with(next(i for i, value in enumerate(addition.inputs) if value is old), constant)


def _add_behind(
    graph: ir.Graph,
    node: ir.Node,
    bias: NDArray[np.float32],
    tensor_names: UniqueNames,
    node_names: UniqueNames,
) -> None:
    product = node.outputs[0]
    constant = _constant(graph, tensor_names, f"{node.name}_bias", bias)
    addition = ir.node("Add", [product, constant], name=node_names.unique(f"{node.name}_Add"))
    total = addition.outputs[0]
    total.type, total.shape = product.type, product.shape
    graph.insert_after(node, addition)
    ir.convenience.replace_all_uses_with(product, total, replace_graph_outputs=True)
    addition.replace_input_with(0, product)
    name = product.name
    product.name = tensor_names.unique(f"{name}_product")
    total.name = name


def _channels(node: ir.Node) -> int | None:
    """Output channels of the operation, as far as its weight tells."""
    position = next((i for i, value in enumerate(node.inputs[:2]) if value is not None and value.const_value), None)
    if position is None:
        return None
    weight = node.inputs[position]
    assert weight is not None
    assert weight.const_value is not None
    sizes = weight.const_value.shape.numpy()
    match node.op_type:
        case "Conv":
            return sizes[0]
        case "ConvTranspose":
            return sizes[1] * int_attribute(node, "group", 1)
        case "Gemm":
            return sizes[0 if int_attribute(node, "transB", 0) else 1]
        case _:
            return sizes[-1] if position == 1 and len(sizes) > 1 else None


def _constant(graph: ir.Graph, names: UniqueNames, name: str, array: NDArray[np.float32]) -> ir.Value:
    unique = names.unique(name)
    tensor = ir.Tensor(array, name=unique)
    value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
