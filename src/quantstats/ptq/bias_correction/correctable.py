"""Which operations have a bias to correct, and where their channels are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from quantstats.ptq.graph import OperationKind, Port, QuantizationGraph
from quantstats.ptq.plan import QuantizationPlan

_KINDS = frozenset({OperationKind.CONVOLUTION, OperationKind.TRANSPOSED_CONVOLUTION, OperationKind.MATMUL})


@dataclass(frozen=True, slots=True)
class CorrectableOperation:
    """A convolution or matrix multiplication with a quantized weight.

    :param name: Its name.
    :param input: The activation that it reads.
    :param input_axis: Axis of the channels in it, ``None`` if that is not known.
    :param output: The tensor that it writes. The bias of a matrix multiplication may be added behind it; the shift of a
        mean is the same there.
    :param output_axis: Axis of ``output`` along which the bias runs.
    :param bias: Name of the constant bias, ``None`` if it has none.
    """

    name: str
    input: str
    input_axis: int | None
    output: str
    output_axis: int
    bias: str | None


def correctable_operations(
    graph: QuantizationGraph, plan: QuantizationPlan, *, apply_for_all_nodes: bool
) -> tuple[CorrectableOperation, ...]:
    """Return the operations whose bias can be corrected, in topological order.

    :param apply_for_all_nodes: Operations without bias are among them.
    """
    rounded = {port for weight in plan.weights for port in weight.readers}
    found = []
    for operation in graph:
        if operation.kind not in _KINDS or operation.weight is None or len(operation.activations) != 1:
            continue
        if Port(operation.name, operation.weight.operand) not in rounded:
            continue
        if operation.bias is None and not apply_for_all_nodes:
            continue
        matrix = operation.kind is OperationKind.MATMUL
        if not matrix and operation.input_channel_axis is None:
            continue
        found.append(
            CorrectableOperation(
                name=operation.name,
                input=operation.inputs[operation.activations[0]],
                input_axis=operation.input_channel_axis,
                output=operation.outputs[0],
                # A convolution leaves its channels where they were; a matrix product has columns.
                output_axis=-1 if matrix or operation.input_channel_axis is None else operation.input_channel_axis,
                bias=operation.bias,
            )
        )
    return tuple(found)


def without_biases(plan: QuantizationPlan, operations: Iterable[CorrectableOperation]) -> QuantizationPlan:
    """Return the plan in which some operations have the biases of the model."""
    names = {operation.name for operation in operations}
    return dataclasses.replace(plan, biases={name: bias for name, bias in plan.biases.items() if name not in names})


def channel_mean_taps(
    graph: QuantizationGraph, plan: QuantizationPlan, *, apply_for_all_nodes: bool = True
) -> dict[str, int]:
    """Return the tensors whose mean per channel fast bias correction needs, each with the axis of its channels.

    :param apply_for_all_nodes: Those of operations without bias are among them.
    """
    taps: dict[str, int] = {}
    for operation in correctable_operations(graph, plan, apply_for_all_nodes=apply_for_all_nodes):
        if operation.input_axis is not None:
            taps.setdefault(operation.input, operation.input_axis)
    return taps
