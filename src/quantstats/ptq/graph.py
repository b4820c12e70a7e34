"""What an adapter tells of a model: operations, tensors, inputs and outputs, as plain immutable data.

The driver decides everything from a :class:`QuantizationGraph`; it never sees the framework's own graph. An adapter
maps each of its operation types to an :class:`OperationKind`, and that is all the driver knows about it.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType


class OperationKind(enum.Enum):
    """The role that an operation plays for quantization.

    :param CONVOLUTION: Convolution of an activation with a constant weight, of any rank; grouped, depthwise included.
    :param TRANSPOSED_CONVOLUTION: Transposed convolution with a constant weight.
    :param MATMUL: Matrix multiplication, with a constant weight (a fully connected layer) or of two activations.
    :param ELEMENTWISE: Addition or multiplication of two activations for which runtimes have integer kernels.
    :param POOLING: A pooling that computes (average); a maximum pooling only moves data.
    :param CONCAT: Concatenation of activations.
    :param EMBEDDING: A lookup: slices of a constant weight, by indices. It computes nothing; its weight is stored as
        integers, and what is looked up becomes floating point.
    :param MOVE: Only moves data (reshape, transpose, maximum pooling, ...): values of the output are values of the
        first input, so a quantizer passes through.
    :param ACTIVATION: A clamp (Relu, Clip) that belongs to the operation that produces its input.
    :param SOFTMAX: A softmax: stays in floating point; what it weighs by a matrix multiplication is an attention.
    :param FLOAT: Anything else: stays in floating point.
    """

    CONVOLUTION = "convolution"
    TRANSPOSED_CONVOLUTION = "transposed_convolution"
    MATMUL = "matmul"
    ELEMENTWISE = "elementwise"
    POOLING = "pooling"
    CONCAT = "concat"
    EMBEDDING = "embedding"
    MOVE = "move"
    ACTIVATION = "activation"
    SOFTMAX = "softmax"
    FLOAT = "float"


@dataclass(frozen=True, slots=True)
class Port:
    """One reading end of a tensor: operand ``operand`` of operation ``operation``."""

    operation: str
    operand: int


@dataclass(frozen=True, slots=True)
class Weight:
    """The constant operand of an operation that is quantized as a weight.

    :param tensor: Name of the constant.
    :param operand: Position among the operation's inputs.
    :param channel_axis: Axis of the output channels in the constant as it is stored; ``None`` where a channel is not an
        axis of its own, so that only per-tensor quantization is possible.
    """

    tensor: str
    operand: int
    channel_axis: int | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the model.

    :param name: Unique in the graph.
    :param kind: Its role, see :class:`OperationKind`.
    :param type: The framework's own name of the operation type, for example ``"Conv"``; ignored scopes match it.
    :param inputs: Names of the input tensors by position; ``""`` where an optional input is absent.
    :param outputs: Names of the output tensors by position.
    :param weight: The constant operand to quantize, if there is one.
    :param bias: Name of the constant bias, if there is one.
    :param activations: Positions among ``inputs`` that carry activations an integer kernel would read.
    :param input_channel_axis: Axis of the channels in the activation operands, for per-channel quantization.
    :param needs_output_quantizer: True if the runtime has an integer kernel only for a quantized output.
    """

    name: str
    kind: OperationKind
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight: Weight | None = None
    bias: str | None = None
    activations: tuple[int, ...] = ()
    input_channel_axis: int | None = None
    needs_output_quantizer: bool = False


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the model.

    :param name: Unique in the graph.
    :param dtype: NumPy name of the element type, for example ``"float32"``; ``None`` if the model does not say.
    :param shape: One entry per axis, ``None`` where the length is not fixed; ``None`` if even the rank is unknown.
    :param constant: True for a constant of the model.
    """

    name: str
    dtype: str | None
    shape: tuple[int | None, ...] | None
    constant: bool = False


@dataclass(frozen=True)
class QuantizationGraph:
    """A model as the driver sees it.

    :param operations: In topological order.
    :param tensors: Every tensor that an operation reads or writes, by name.
    :param inputs: Names of the model inputs that a sample must hold, in order.
    :param outputs: Names of the model outputs, in order.
    """

    operations: tuple[Operation, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    _by_name: Mapping[str, Operation] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        by_name = {operation.name: operation for operation in self.operations}
        if len(by_name) != len(self.operations):
            twice, _ = Counter(operation.name for operation in self.operations).most_common(1)[0]
            raise ValueError(f"operation name {twice!r} is not unique; an adapter must make names unique")
        object.__setattr__(self, "_by_name", MappingProxyType(by_name))

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def operation(self, name: str) -> Operation:
        """Return the operation of that name; ``KeyError`` if there is none."""
        return self._by_name[name]

    @cached_property
    def producers(self) -> Mapping[str, Operation]:
        """The operation that writes each tensor; model inputs and constants are absent."""
        return {tensor: operation for operation in self.operations for tensor in operation.outputs}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Port, ...]]:
        """Every operand that reads each tensor, in topological order; tensors that nothing reads are absent."""
        ports: dict[str, list[Port]] = {}
        for operation in self.operations:
            for operand, tensor in enumerate(operation.inputs):
                if tensor:
                    ports.setdefault(tensor, []).append(Port(operation.name, operand))
        return {tensor: tuple(found) for tensor, found in ports.items()}
