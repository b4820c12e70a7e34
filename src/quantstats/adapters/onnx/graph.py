"""The driver's view of a cleaned ONNX model."""

from __future__ import annotations

import onnx_ir as ir

from quantstats.adapters.onnx.cleanup import CleanModel
from quantstats.adapters.onnx.decomposed import is_constant, is_step_of_function
from quantstats.adapters.onnx.operators import OPERATORS, Operator
from quantstats.adapters.onnx.subgraphs import captured_tensors
from quantstats.ptq.graph import Operation, OperationKind, QuantizationGraph, Tensor, Weight

# Kinds that quantization is for; the others follow them. Of those, some read constants beside activations.
_WITH_CONSTANTS = frozenset({OperationKind.ELEMENTWISE, OperationKind.CONCAT})
_WITH_WEIGHT = frozenset({OperationKind.CONVOLUTION, OperationKind.TRANSPOSED_CONVOLUTION, OperationKind.MATMUL})


def build_graph(clean: CleanModel) -> QuantizationGraph:
    """Describe a model.

    The operations inside a subgraph (If, Loop, Scan) are not listed: the node that holds it reads, besides its own
    inputs, every tensor that the subgraph captures.
    """
    graph = clean.model.graph
    operations = tuple(_operation(node) for node in graph)
    tensors: dict[str, Tensor] = {}
    for value in (*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)):
        if value.name:
            tensors[value.name] = _tensor(value)
    return QuantizationGraph(
        operations=operations,
        tensors=tensors,
        inputs=tuple(_name(value) for value in graph.inputs),
        outputs=tuple(_name(value) for value in graph.outputs),
    )


def _operation(node: ir.Node) -> Operation:
    operator = OPERATORS.get(node.op_type) if node.domain == "" else None
    inputs = tuple(_name(value) for value in (*node.inputs, *captured_tensors(node)))
    outputs = tuple(_name(value) for value in node.outputs)
    described = None if operator is None or not _computes_in_float32(node) else _describe(node, operator)
    kind, weight, bias, activations = described or (OperationKind.FLOAT, None, None, ())
    quantizable = described is not None and operator is not None
    return Operation(
        name=node.name or "",
        kind=kind,
        type=node.op_type,
        inputs=inputs,
        outputs=outputs,
        weight=weight,
        bias=bias,
        activations=activations,
        input_channel_axis=_input_channel_axis(node, operator, weight) if quantizable and operator else None,
        needs_output_quantizer=quantizable and operator is not None and operator.needs_output_quantizer,
    )


_Description = tuple[OperationKind, Weight | None, str | None, tuple[int, ...]]


def _describe(node: ir.Node, operator: Operator) -> _Description | None:
    """Kind, weight, bias and activation operands of a node; ``None`` if no integer kernel computes it."""
    if operator.condition is not None and not operator.condition(node):
        return None
    present = [position for position, value in enumerate(node.inputs) if value is not None]
    operands = tuple(present) if operator.activations is None else operator.activations
    constants = tuple(position for position in operands if is_constant(node.inputs[position]))
    activations = tuple(position for position in operands if position not in constants)

    if operator.kind in _WITH_WEIGHT:
        return _with_weight(node, operator, constants, activations)
    if node.op_type == "Gather" and constants:
        return _embedding(node)
    if not activations or (constants and operator.kind not in _WITH_CONSTANTS):
        return None
    if operator.kind is OperationKind.ELEMENTWISE and is_step_of_function(node):
        return None
    if operator.kind is OperationKind.ACTIVATION and not all(
        value is None or is_constant(value) for value in node.inputs[1:]
    ):
        return None
    return operator.kind, None, None, activations


def _embedding(node: ir.Node) -> _Description | None:
    table = node.inputs[0]
    # A scale for every row is no smaller than rows of one number.
    if table is None or table.const_value is None or len(table.const_value.shape) < 2:
        return None
    return OperationKind.EMBEDDING, Weight(tensor=_name(table), operand=0, channel_axis=0), None, ()


def _with_weight(
    node: ir.Node, operator: Operator, constants: tuple[int, ...], activations: tuple[int, ...]
) -> _Description | None:
    position = operator.weight
    if position is not None and not is_constant(node.inputs[position]):
        return None
    if position is None and constants:
        position = constants[0]
    if len(constants) > 1 or not activations or (node.op_type == "Gemm" and position == 0):
        return None
    weight = None
    if position is not None:
        value = node.inputs[position]
        assert value is not None
        assert value.const_value is not None
        axis = None
        # A constant first operand has its channels in rows, for which there is no integer kernel per channel.
        if operator.weight_axis is not None and position == 1:
            axis = operator.weight_axis(node, len(value.const_value.shape))
        weight = Weight(tensor=_name(value), operand=position, channel_axis=axis)
    if operator.bias is None:
        added = added_bias(node)
        return operator.kind, weight, None if added is None else _name(added), activations
    bias = node.inputs[operator.bias] if len(node.inputs) > operator.bias else None
    if bias is None:
        return operator.kind, weight, None, activations
    # A bias that varies by row or is computed: no kernel has it (a vector is what clean-up makes of all others).
    if not is_constant(bias) or bias.shape is None or bias.shape.rank() != 1:
        return None
    return operator.kind, weight, _name(bias), activations


def added_bias(node: ir.Node) -> ir.Value | None:
    """The constant vector that the one reader of a MatMul adds."""
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output() or uses[0].node.op_type != "Add":
        return None
    other = uses[0].node.inputs[1 - uses[0].idx] if uses[0].idx < 2 else None
    if other is None or not is_constant(other) or other.shape is None:
        return None
    sizes = other.shape.numpy()
    return other if sizes and sizes[-1] > 1 and all(size == 1 for size in sizes[:-1]) else None


def _input_channel_axis(node: ir.Node, operator: Operator, weight: Weight | None) -> int | None:
    if operator.input_channel_axis is not None:
        return operator.input_channel_axis(node)
    if operator.kind is OperationKind.MATMUL and weight is not None:
        value = node.inputs[1 - weight.operand]
        rank = None if value is None or value.shape is None else value.shape.rank()
        if rank is not None and rank > 1:
            return rank - 1 if weight.operand == 1 else rank - 2
    return None


def _computes_in_float32(node: ir.Node) -> bool:
    """True also where the model does not tell a type: then onnxruntime would have found a contradiction."""
    values = (node.inputs[0] if node.inputs else None, node.outputs[0] if node.outputs else None)
    types = {value.dtype for value in values if value is not None and value.dtype is not None}
    return types <= {ir.DataType.FLOAT}


def _tensor(value: ir.Value) -> Tensor:
    tensor = value.const_value if is_constant(value) else None
    dtype = value.dtype if tensor is None else tensor.dtype
    shape: ir.Shape | None = value.shape
    return Tensor(
        name=_name(value),
        dtype=None if dtype is None else _numpy_name(dtype),
        shape=None if shape is None else tuple(size if isinstance(size, int) else None for size in shape),
        constant=tensor is not None,
    )


def _numpy_name(dtype: ir.DataType) -> str | None:
    try:
        return str(dtype.numpy())
    except TypeError:  # undefined
        return None


def _name(value: ir.Value | None) -> str:
    return "" if value is None or value.name is None else value.name
