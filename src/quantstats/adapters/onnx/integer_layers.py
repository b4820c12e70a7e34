"""Which nodes of a quantized ONNX model multiply bytes: QDQ models of any tool, and integer operators.

A QDQ layer is a Conv, ConvTranspose, Gemm or MatMul behind DequantizeLinear nodes, which runtimes replace by an integer
kernel. Integer operators (QLinearConv, QLinearMatMul, QGemm, ConvInteger, MatMulInteger) are such kernels already.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper

from quantstats import kernels
from quantstats.adapters.onnx.loading import OnnxModel
from quantstats.adapters.onnx.runtime import one_line
from quantstats.errors import ModelError
from quantstats.overflow.layers import IntegerLayer
from quantstats.overflow.pairing import LayerKind

__all__ = ["Operand", "QuantizedGraph", "QuantizedNode", "attributes", "quantized_model", "subgraph_inputs"]

_QDQ_TYPES = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_CLAMPS = ("Relu", "Clip")
_MOVES = ("MaxPool", "ReduceMax", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity")
_QUANTIZERS = ("QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear")
# What quantizers append to the name of a tensor.
_SUFFIXES = ("_quantized", "_clipped", "_QuantizeLinear_Output")
_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))

# Positions of levels, scale and zero point of both operands; None where the operator has no scale.
_INTEGER_TYPES: Mapping[str, tuple[tuple[int, int | None, int], tuple[int, int | None, int]]] = {
    "QLinearConv": ((0, 1, 2), (3, 4, 5)),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
    "QGemm": ((0, 1, 2), (3, 4, 5)),
    "ConvInteger": ((0, None, 2), (1, None, 3)),
    "MatMulInteger": ((0, None, 2), (1, None, 3)),
}


def quantized_model(model: OnnxModel) -> onnx.ModelProto:
    """A quantized model as a ``ModelProto`` with its external data; the caller's own object if it is one.

    :raises ModelError: the file cannot be read, or is no ONNX model.
    """
    if isinstance(model, onnx.ModelProto):
        return model
    if isinstance(model, ir.Model):
        return ir.to_proto(model)
    if not isinstance(model, str | os.PathLike):
        raise TypeError(
            f"model is a {type(model).__name__}; give the path of an ONNX file, an onnx.ModelProto or an onnx_ir.Model"
        )
    path = Path(model)
    try:
        return onnx.load(str(path))
    except OSError:
        raise
    except Exception as error:  # protobuf and onnx raise classes without a common base
        raise ModelError(f"{path} cannot be read as an ONNX model: {one_line(error)}") from error


@dataclass(frozen=True, eq=False)
class Operand:
    """One operand of an integer multiplication.

    :param levels: name of the tensor of levels; ``""`` for a constant.
    :param constant: the levels of a constant.
    :param dtype: int8 or uint8.
    :param scale: float32, 0-d or 1-d; ``None`` if it is not constant.
    :param zero_point: int32, like `scale`.
    :param scale_name: the tensors, for an evaluator; ``""`` if the operator has none.
    :param zero_point_name: likewise.
    :param axis: channel axis of the scale, ``None`` per tensor.
    :param names: of the tensor, and what it may have been called before it was quantized.
    :param greatest: the greatest level that the model lets pass.
    :param moved: whether `levels` names real values instead, which lie on the levels: data were moved in between.
    """

    levels: str
    constant: NDArray[Any] | None
    dtype: np.dtype[Any]
    scale: NDArray[np.float32] | None
    zero_point: NDArray[np.int32] | None
    scale_name: str
    zero_point_name: str
    axis: int | None
    names: tuple[str, ...]
    greatest: int
    moved: bool = False

    @property
    def shift(self) -> int:
        """What makes unsigned bytes of the levels, as runtimes do with int8 activations."""
        return 128 if self.dtype == np.int8 else 0


@dataclass(frozen=True, eq=False)
class QuantizedNode:
    """An integer layer and where it is in the graph.

    :param node: the node.
    :param activation: the operand that is multiplied as unsigned bytes.
    :param weight: the other one; activations, too, in a product of two.
    :param weight_first: whether the weight is the left operand.
    :param bias: int32 levels of the bias in units of both scales, if it is stored like that.
    :param layer: what it is, in plain data.
    :param fused: whether a QuantizeLinear follows where onnxruntime needs one for an integer kernel.
    """

    node: onnx.NodeProto
    activation: Operand
    weight: Operand
    weight_first: bool
    bias: NDArray[np.int32] | None
    layer: IntegerLayer
    fused: bool


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def subgraph_inputs(node: onnx.NodeProto) -> Iterator[str]:
    """Every name that the subgraphs of a node read, its own tensors among them."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from inner.input
                yield from subgraph_inputs(inner)
            yield from (value.name for value in graph.output)


class QuantizedGraph:
    """A quantized model and its integer layers, in topological order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        graph = model.graph
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in graph.output}
        self.nodes = tuple(self._find())

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a constant, ``None`` if the tensor is none."""
        tensor = self._initializers.get(name)
        if tensor is not None:
            return np.asarray(numpy_helper.to_array(tensor))
        node = self.producers.get(name)
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            return np.asarray(numpy_helper.to_array(node.attribute[0].t))
        if node.op_type == "Identity":
            return self.constant(node.input[0])
        return None

    def _find(self) -> Iterator[QuantizedNode]:
        for index, node in enumerate(self.model.graph.node):
            if node.op_type in _INTEGER_TYPES:
                positions = _INTEGER_TYPES[node.op_type]
                operands = [self._integer_operand(node, *position) for position in positions]
            elif node.op_type in _QDQ_TYPES and node.domain in ("", "ai.onnx"):
                operands = [self._dequantized(name) for name in node.input[:2]]
            else:
                continue
            left, right = operands
            if left is None or right is None or (left.constant is not None and right.constant is not None):
                continue
            given = attributes(node)
            if node.op_type.endswith("Gemm") and (given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0):
                continue
            # Of two activations the right one is packed like a weight.
            weight_first = left.constant is not None
            activation, weight = (right, left) if weight_first else (left, right)
            layer = self._layer(node, node.name or f"{node.op_type}_{index}", activation, weight, weight_first)
            bias = self._bias(node)
            # No kernel of integers has a scale for each channel of its input.
            fused = activation.axis is None and self._fused(node)
            yield QuantizedNode(node, activation, weight, weight_first, bias, layer, fused)

    def _layer(
        self, node: onnx.NodeProto, name: str, activation: Operand, weight: Operand, weight_first: bool
    ) -> IntegerLayer:
        constant = weight.constant
        rank = 2 if constant is None else constant.ndim
        if "Conv" in node.op_type:
            groups = int(attributes(node).get("group", 1))
            transposed = node.op_type == "ConvTranspose"
            kind = LayerKind.TRANSPOSED_CONVOLUTION
            if not transposed and constant is not None:
                kind = LayerKind.of_convolution(constant.shape, groups)
            axes: tuple[int, ...] = (1,) if transposed else (0,)
        else:
            kind = LayerKind.MATMUL
            reduced = rank - 1 if weight_first else max(rank - 2, 0)
            if node.op_type.endswith("Gemm") and attributes(node).get("transB", 0):
                reduced = 1
            axes = tuple(axis for axis in range(rank) if axis != reduced) or (0,)
        return IntegerLayer(
            name=name,
            type=node.op_type,
            kind=kind,
            activations=activation.names,
            u_max=activation.greatest + activation.shift,
            activation_scale=None if activation.axis is not None else activation.scale,
            activation_zero_point=(
                None
                if activation.zero_point is None or activation.axis is not None
                else int(activation.zero_point) + activation.shift
            ),
            weight=constant,
            weight_dtype=weight.dtype,
            weight_scale=np.ones((), np.float32) if weight.scale is None else weight.scale,
            weight_zero_point=np.zeros((), np.int32) if weight.zero_point is None else weight.zero_point,
            weight_axis=weight.axis,
            output_axes=axes,
        )

    def _dequantized(self, name: str) -> Operand | None:
        """What a DequantizeLinear of bytes gives, also behind operations that only move data."""
        node = self.producers.get(name)
        if node is not None and node.op_type in _MOVES and (inner := self._dequantized(node.input[0])) is not None:
            if inner.constant is None:
                # Runtimes move integers instead.
                return None if inner.axis is not None else dataclasses.replace(inner, levels=name, moved=True)
            if node.op_type != "Transpose":
                return None
            order = attributes(node).get("perm", list(range(inner.constant.ndim))[::-1])
            axis = None if inner.axis is None else list(order).index(inner.axis)
            return dataclasses.replace(inner, constant=inner.constant.transpose(order), axis=axis)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        axis = int(attributes(node).get("axis", 1))
        zero_point = node.input[2] if len(node.input) > 2 else ""
        return self._operand(node.input[0], node.input[1], zero_point, axis)

    def _integer_operand(self, node: onnx.NodeProto, levels: int, scale: int | None, zero: int) -> Operand | None:
        zero_point = node.input[zero] if len(node.input) > zero else ""
        axis = 0 if "Conv" in node.op_type or attributes(node).get("transB", 0) else -1
        return self._operand(node.input[levels], "" if scale is None else node.input[scale], zero_point, axis)

    def _operand(self, levels: str, scale_name: str, zero_point_name: str, axis: int) -> Operand | None:
        scale = self.constant(scale_name) if scale_name else np.ones((), np.float32)
        zero = self.constant(zero_point_name) if zero_point_name else None
        constant = self._constant_levels(levels)
        dtype = self._dtype(levels) if constant is None else constant.dtype
        if dtype is None and zero is not None:
            dtype = zero.dtype
        if dtype not in _BYTES or (scale is not None and scale.ndim > 1):
            return None
        if zero_point_name == "":
            zero = np.zeros((), np.int32) if scale is None else np.zeros(scale.shape, np.int32)
        per_channel = scale is not None and scale.size > 1
        rank = 0 if constant is None else constant.ndim
        if scale is not None and not per_channel:
            scale = scale.reshape(())
        return Operand(
            levels="" if constant is not None else levels,
            constant=constant,
            dtype=np.dtype(dtype),
            scale=None if scale is None else scale.astype(np.float32),
            zero_point=None if zero is None else zero.astype(np.int32).reshape(() if zero.size == 1 else -1),
            scale_name=scale_name,
            zero_point_name=zero_point_name,
            axis=(axis + rank if axis < 0 else axis) if per_channel else None,
            names=self._names(levels),
            greatest=self._greatest(levels, np.dtype(dtype)),
        )

    def _constant_levels(self, name: str) -> NDArray[Any] | None:
        """The levels of a constant; of one that is quantized when the model is loaded, as they will be."""
        value = self.constant(name)
        if value is not None:
            return value
        node = self.producers.get(name)
        if node is None or node.op_type != "QuantizeLinear":
            return None
        real, scale = self.constant(node.input[0]), self.constant(node.input[1])
        zero = self.constant(node.input[2]) if len(node.input) > 2 else np.zeros((), np.uint8)
        if real is None or scale is None or zero is None or zero.dtype not in _BYTES or scale.ndim > 1:
            return None
        limits = np.iinfo(zero.dtype)
        axis = int(attributes(node).get("axis", 1)) if scale.size > 1 else None
        return kernels.quantize_linear(
            real.astype(np.float32),
            scale.astype(np.float32).reshape(-1 if axis is not None else ()),
            zero.astype(np.int32).reshape(-1 if axis is not None and zero.size > 1 else ()),
            axis=axis,
            qmin=int(limits.min),
            qmax=int(limits.max),
            dtype=zero.dtype.type,
        )

    def _dtype(self, name: str) -> np.dtype[Any] | None:
        """Element type of a tensor of levels, found where they are made."""
        node = self.producers.get(name)
        if node is None:
            value = next((v for v in self.model.graph.input if v.name == name), None)
            return None if value is None else onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if node.op_type == "DynamicQuantizeLinear":
            return np.dtype(np.uint8)
        if node.op_type == "QuantizeLinear":
            if len(node.input) < 3 or not node.input[2]:
                return np.dtype(np.uint8)
            zero = self.constant(node.input[2])
            return None if zero is None else zero.dtype
        if node.op_type.startswith("QLinear") and node.op_type != "QLinearConcat":
            zero = self.constant(node.input[7]) if len(node.input) > 7 else None
            return None if zero is None else zero.dtype
        return self._dtype(node.input[0]) if node.input else None

    def _names(self, name: str) -> tuple[str, ...]:
        """The names under which a tensor of levels may have been observed, on the way back to what computed it.

        A tensor before a clamp that quantization has absorbed is observed behind it, under the name that the levels
        were given their own from.
        """
        found = []
        while True:
            found += [name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)]
            found.append(name)
            node = self.producers.get(name)
            if node is None or node.op_type not in (*_CLAMPS, *_MOVES, *_QUANTIZERS):
                return tuple(dict.fromkeys(found))
            name = node.input[0]

    def _greatest(self, name: str, dtype: np.dtype[Any]) -> int:
        """The greatest level that can come: that of the type, or where a Clip of integers ends."""
        node = self.producers.get(name)
        greatest = int(np.iinfo(dtype).max)
        if node is not None and node.op_type == "Clip" and len(node.input) > 2 and node.input[2]:
            limit = self.constant(node.input[2])
            if limit is not None and limit.dtype == dtype:
                return min(greatest, int(limit))
        return greatest

    def _bias(self, node: onnx.NodeProto) -> NDArray[np.int32] | None:
        position = {"Conv": 2, "Gemm": 2, "ConvTranspose": 2, "QLinearConv": 8, "QGemm": 6}.get(node.op_type)
        if position is None or len(node.input) <= position or not node.input[position]:
            return None
        name = node.input[position]
        dequantize = self.producers.get(name)
        if dequantize is not None and dequantize.op_type == "DequantizeLinear":
            name = dequantize.input[0]
        value = self.constant(name)
        return value if value is not None and value.dtype == np.int32 else None

    def _fused(self, node: onnx.NodeProto) -> bool:
        """Whether onnxruntime has an integer kernel: a convolution must write integers, others need not."""
        if node.op_type == "ConvTranspose":
            return False
        if node.op_type != "Conv":
            return True
        name = node.output[0]
        while name not in self.outputs:
            found = self.readers.get(name, [])
            if found and all(reader.op_type == "QuantizeLinear" for reader in found):
                return True
            if len(found) != 1 or found[0].op_type not in _CLAMPS:
                return False
            name = found[0].output[0]
        return False
