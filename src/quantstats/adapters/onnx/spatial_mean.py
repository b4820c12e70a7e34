"""Means over all spatial axes as what they are: a global average pooling, which has an integer kernel.

PyTorch writes ``x.mean((2, 3))``, and its newer exporter every global average pooling, as ReduceMean.
"""

from __future__ import annotations

import onnx_ir as ir

from quantstats.adapters.onnx.decomposed import is_constant
from quantstats.adapters.onnx.naming import UniqueNames, node_names, tensor_names
from quantstats.adapters.onnx.operators import int_attribute

# A mean over the last axis of three is that of a normalization at least as often as a pooling.
_LEAST_RANK = 4


def pool_spatial_means(graph: ir.Graph) -> None:
    """Replace, in place, each ReduceMean over the axes 2, 3, ... of a float tensor of rank 4 or more.

    The pooling keeps the node's name; where it drops the axes, a Squeeze follows.
    """
    tensors, nodes = UniqueNames(tensor_names(graph)), UniqueNames(node_names(graph))
    for node in list(graph):
        if node.domain != "" or node.op_type != "ReduceMean":
            continue
        x = node.inputs[0]
        if x is None or x.shape is None or x.dtype is not ir.DataType.FLOAT or x.shape.rank() < _LEAST_RANK:
            continue
        rank = x.shape.rank()
        axes = _axes(node)
        if axes is None or {axis % rank for axis in axes} != set(range(2, rank)):
            continue
        pooling = ir.node("GlobalAveragePool", [x], name=node.name)
        replacement = [pooling]
        pooled = pooling.outputs[0]
        pooled.dtype = ir.DataType.FLOAT
        pooled.shape = ir.Shape([*x.shape.dims[:2], *[1] * (rank - 2)])
        if int_attribute(node, "keepdims", 1) == 0:
            pooled.name = tensors.unique(f"{node.outputs[0].name}_pooled")
            dropped = ir.Value(
                name=tensors.unique(f"{node.outputs[0].name}_axes"),
                shape=ir.Shape([rank - 2]),
                type=ir.TensorType(ir.DataType.INT64),
                const_value=ir.tensor(list(range(2, rank)), dtype=ir.DataType.INT64),
            )
            graph.register_initializer(dropped)
            squeeze = ir.node("Squeeze", [pooled, dropped], name=nodes.unique(f"{node.name}_Squeeze"))
            replacement.append(squeeze)
        old, new = node.outputs[0], replacement[-1].outputs[0]
        graph.insert_before(node, replacement)
        name, new.type, new.shape = old.name, old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove([node], safe=True)
        new.name = name


def _axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a reduction: an attribute up to opset 17, then an input; ``None`` if they are not known."""
    if "axes" in node.attributes:
        return tuple(node.attributes["axes"].as_ints())
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or not is_constant(value) or value.const_value is None:
        return None
    return tuple(int(axis) for axis in value.const_value.numpy().reshape(-1))
