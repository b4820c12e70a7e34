"""Additions and multiplications that are a step of a function which stays in floating point.

Exporters write LayerNorm, Gelu, Softmax and the like as a handful of elementwise operations. An Add or Mul among them
is no residual addition: quantizing it would round in the middle of a function that needs its precision.
"""

from __future__ import annotations

import onnx_ir as ir

# Results of these are steps of a function: a Mul or Add of one of them and another activation is the next step.
_STEPS = frozenset(
    {
        "Abs",
        "Cos",
        "Div",
        "Erf",
        "Exp",
        "Log",
        "Neg",
        "Pow",
        "Reciprocal",
        "ReduceL2",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        "Sin",
        "Softplus",
        "Sqrt",
        "Tanh",
    }
)
# With a constant, these change numbers and not the nature of a step: 1 + erf(x) is one as erf(x) is.
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div"})
# An addition before one of these is a mask.
_NORMALIZERS = frozenset({"Softmax", "LogSoftmax"})


def is_step_of_function(node: ir.Node) -> bool:
    """Whether an Add or Mul belongs to a decomposed function.

    It does if an operand is a step itself (through any elementwise operations with constants), if it is a power of a
    tensor, if it scales or shifts what belongs to one, or if all that reads it is a softmax.
    """
    if _is_power(node) or any(_is_step(operand) for operand in node.inputs) or _rescales_function(node):
        return True
    uses = list(node.outputs[0].uses())
    return bool(uses) and all(use.node.op_type in _NORMALIZERS for use in uses)


def _rescales_function(node: ir.Node) -> bool:
    activations = [operand for operand in node.inputs if operand is not None and not is_constant(operand)]
    inner = activations[0].producer() if len(activations) == 1 else None
    return inner is not None and inner.op_type in ("Add", "Mul") and inner.domain == "" and is_step_of_function(inner)


def _is_step(value: ir.Value | None) -> bool:
    while value is not None:
        node = value.producer()
        if node is None or node.domain != "":
            return False
        if node.op_type in _STEPS or _is_power(node):
            return True
        if node.op_type not in _ELEMENTWISE:
            return False
        activations = [operand for operand in node.inputs if not is_constant(operand)]
        if len(activations) != 1:
            return False
        value = activations[0]
    return False


def _is_power(node: ir.Node) -> bool:
    """Whether a node computes x * x, or (x * x) * x."""
    if node.op_type != "Mul" or node.domain != "":
        return False
    left, right = node.inputs
    return left is right or _is_square_of(left, right) or _is_square_of(right, left)


def _is_square_of(value: ir.Value | None, root: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    return (
        node is not None
        and (node.op_type, node.domain) == ("Mul", "")
        and node.inputs[0] is root
        and node.inputs[1] is root
    )


def is_constant(value: ir.Value | None) -> bool:
    """Whether a tensor is a constant of the model."""
    return value is not None and value.const_value is not None and not value.is_graph_input()
