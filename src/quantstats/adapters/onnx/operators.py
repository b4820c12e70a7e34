"""The table of ONNX operators: what each is for quantization, which operands are activations, weight and bias.

The facts are those of onnxruntime's CPU kernels: an operator is not ``FLOAT`` if a quantized form of it runs on
integers there. ``ConvTranspose`` has none yet and is listed for other runtimes, ``Softmax`` to tell an attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx_ir as ir

from quantstats.ptq.graph import OperationKind


@dataclass(frozen=True, slots=True)
class Operator:
    """A row of the table.

    :param kind: The role for quantization.
    :param activations: Positions of the activation operands; ``None`` for all operands.
    :param weight: Position of the operand that must be a constant, ``None`` if the operator has none.
    :param weight_axis: Axis of the output channels in the weight, from the node and the weight's rank.
    :param bias: Position of the bias.
    :param input_channel_axis: Axis of the channels in the activation operands.
    :param needs_output_quantizer: The integer kernel writes integers only.
    :param condition: Whether the attributes of a node allow all this; a node that fails it is ``FLOAT``.
    """

    kind: OperationKind
    activations: tuple[int, ...] | None = (0,)
    weight: int | None = None
    weight_axis: Callable[[ir.Node, int], int | None] | None = None
    bias: int | None = None
    input_channel_axis: Callable[[ir.Node], int] | None = None
    needs_output_quantizer: bool = False
    condition: Callable[[ir.Node], bool] | None = None


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    """Value of an integer attribute."""
    return node.attributes[name].as_int() if name in node.attributes else default


def _channels_second(_: ir.Node) -> int:
    return 1


def _first_axis(_: ir.Node, __: int) -> int | None:
    return 0


def _transposed_convolution_axis(node: ir.Node, _: int) -> int | None:
    # The weight is [in, out / groups, ...]: with groups an index of axis 1 stands for one channel of every group.
    return 1 if int_attribute(node, "group", 1) == 1 else None


def _gemm_weight_axis(node: ir.Node, _: int) -> int | None:
    return 0 if int_attribute(node, "transB", 0) else 1


def _gemm_input_axis(node: ir.Node) -> int:
    return 0 if int_attribute(node, "transA", 0) else 1


def _matmul_weight_axis(_: ir.Node, rank: int) -> int | None:
    # onnxruntime fuses a batch of matrices with a scale per column and then refuses to run it.
    return 1 if rank == 2 else None


def _factors_are_one(node: ir.Node) -> bool:
    return all(node.attributes[n].as_float() == 1.0 for n in ("alpha", "beta") if n in node.attributes)


def _one_output(node: ir.Node) -> bool:
    """Indices of a maximum pooling and the mask of a dropout are not data that it moves."""
    return not any(output.uses() or output.is_graph_output() for output in node.outputs[1:])


def _no_dilations(node: ir.Node) -> bool:
    return "dilations" not in node.attributes or all(d == 1 for d in node.attributes["dilations"].as_ints())


def _nearest(node: ir.Node) -> bool:
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"
    # tf_crop_and_resize fills with a value of its own.
    transform = "coordinate_transformation_mode"
    return mode == "nearest" and (
        transform not in node.attributes or node.attributes[transform].as_string() != "tf_crop_and_resize"
    )


_MOVE = Operator(OperationKind.MOVE)
_ELEMENTWISE = Operator(OperationKind.ELEMENTWISE, activations=(0, 1), needs_output_quantizer=True)
_ACTIVATION = Operator(OperationKind.ACTIVATION)

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Conv": Operator(
            OperationKind.CONVOLUTION,
            weight=1,
            weight_axis=_first_axis,
            bias=2,
            input_channel_axis=_channels_second,
            needs_output_quantizer=True,
        ),
        "ConvTranspose": Operator(
            OperationKind.TRANSPOSED_CONVOLUTION,
            weight=1,
            weight_axis=_transposed_convolution_axis,
            bias=2,
            input_channel_axis=_channels_second,
        ),
        "Gemm": Operator(
            OperationKind.MATMUL,
            activations=(0, 1),
            weight_axis=_gemm_weight_axis,
            bias=2,
            input_channel_axis=_gemm_input_axis,
            condition=_factors_are_one,
        ),
        "MatMul": Operator(OperationKind.MATMUL, activations=(0, 1), weight_axis=_matmul_weight_axis),
        "Add": _ELEMENTWISE,
        "Mul": _ELEMENTWISE,
        "AveragePool": Operator(OperationKind.POOLING, needs_output_quantizer=True, condition=_no_dilations),
        "GlobalAveragePool": Operator(OperationKind.POOLING, needs_output_quantizer=True),
        "Concat": Operator(OperationKind.CONCAT, activations=None, needs_output_quantizer=True),
        "Relu": _ACTIVATION,
        "Clip": _ACTIVATION,
        "Softmax": Operator(OperationKind.SOFTMAX),
        "MaxPool": Operator(OperationKind.MOVE, condition=_one_output),
        "Dropout": Operator(OperationKind.MOVE, condition=_one_output),
        "Resize": Operator(OperationKind.MOVE, condition=_nearest),
        **dict.fromkeys(
            (
                "DepthToSpace",
                "Expand",
                "Flatten",
                "Gather",
                "Identity",
                "ReduceMax",
                "ReduceMin",
                "Reshape",
                "Slice",
                "Split",
                "Squeeze",
                "Tile",
                "Transpose",
                "Unsqueeze",
            ),
            _MOVE,
        ),
    }
)
