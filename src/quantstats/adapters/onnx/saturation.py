"""A quantized ONNX model as a CPU without VNNI computes it: its integer layers with sums that saturate.

onnxruntime computes everything else, node by node and without rewriting. The integer layers are cut out of the graph
and computed from their levels; what lies between two of them is a model of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantstats import kernels
from quantstats.adapters.onnx.integer_layers import (
    Operand,
    QuantizedGraph,
    QuantizedNode,
    attributes,
    subgraph_inputs,
)
from quantstats.adapters.onnx.runtime import OptimizationLevel, Session
from quantstats.errors import DataError, UnsupportedModelError
from quantstats.overflow.arithmetic import Sums, convolution_sums, matrix_sums
from quantstats.overflow.layers import IntegerLayer
from quantstats.overflow.pairing import AnyPairs, LayerKind, NoPairs, PairRule
from quantstats.ptq.graph import QuantizationGraph, Tensor

__all__ = ["SaturatingModel", "input_signature"]

Array = NDArray[Any]
# Called for every integer layer that is computed: the layer, its output, and its output with exact sums.
Observer = Callable[[IntegerLayer, Sums, Array, Array], None]


@dataclass(eq=False)
class _Segment:
    """Nodes between integer layers; a session once the types of its inputs are known."""

    nodes: list[onnx.NodeProto]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    session: Session | None = field(default=None, repr=False)


class SaturatingModel:
    """A quantized model whose integer layers are computed here.

    :param model: a QDQ model, or one of integer operators.
    :param rules: which products of a kind of layer are added into 16 bits. Layers of a kind for which that is any pair,
        and those that onnxruntime computes in floating point, are left to onnxruntime.
    :raises UnsupportedModelError: the model has no integer layer.
    """

    def __init__(self, model: onnx.ModelProto, rules: Mapping[LayerKind, PairRule]) -> None:
        self._graph = QuantizedGraph(model)
        self._rules = dict(rules)
        chosen = [node for node in self._graph.nodes if node.fused and self._rule(node).__class__ is not AnyPairs]
        if not chosen:
            raise UnsupportedModelError(
                "the model has no layer that multiplies bytes; give a quantized model, of QDQ form or integer operators"
            )
        self.layers = tuple(node.layer for node in chosen)
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.signature = input_signature(model)
        self.inputs, self.outputs = self.signature.inputs, self.signature.outputs
        self._steps = self._plan({id(node.node): node for node in chosen})

    def _rule(self, node: QuantizedNode) -> PairRule:
        return self._rules.get(node.layer.kind, AnyPairs())

    def run(
        self, sample: Mapping[str, Array], observer: Observer | None = None, *, exact: bool = False
    ) -> dict[str, Array]:
        """Run the model on one sample.

        :param observer: called for every integer layer; both sums are computed for it.
        :param exact: compute all sums exactly.
        :raises DataError: an input is missing.
        """
        missing = [name for name in self.inputs if name not in sample]
        if missing:
            raise DataError(f"the sample has no array for the model input {missing[0]!r}; it has {sorted(sample)}")
        values: dict[str, Array] = {name: np.asarray(sample[name]) for name in self.inputs}
        for step in self._steps:
            if isinstance(step, _Segment):
                values.update(self._run_segment(step, values))
            else:
                values[step.node.output[0]] = self._compute(step, values, observer, exact)
        return {name: values[name] for name in self.outputs}

    # -- the plan ------------------------------------------------------------------------------------------------

    def _plan(self, chosen: Mapping[int, QuantizedNode]) -> list[_Segment | QuantizedNode]:
        needed, live = set(self.outputs), []
        for node in reversed(self._graph.model.graph.node):
            if needed.isdisjoint(node.output):
                continue
            live.append(node)
            found = chosen.get(id(node))
            needed.update(_layer_inputs(found) if found is not None else (*node.input, *subgraph_inputs(node)))
        steps: list[_Segment | QuantizedNode] = []
        for node in reversed(live):
            found = chosen.get(id(node))
            if found is not None:
                steps.append(found)
            elif steps and isinstance(steps[-1], _Segment):
                steps[-1].nodes.append(node)
            else:
                steps.append(_Segment([node]))
        wanted = set(self.outputs)
        for step in reversed(steps):
            if isinstance(step, _Segment):
                made = [name for node in step.nodes for name in node.output if name]
                read = dict.fromkeys(n for node in step.nodes for n in (*node.input, *subgraph_inputs(node)) if n)
                step.outputs = tuple(name for name in made if name in wanted)
                known = {*made, *self._initializers}
                # A name that only a subgraph knows is nobody's output, and is left out where inputs are looked up.
                step.inputs = tuple(name for name in read if name not in known)
                wanted.update(read)
            else:
                wanted.update(_layer_inputs(step))
        return steps

    # -- steps ---------------------------------------------------------------------------------------------------

    def _run_segment(self, step: _Segment, values: Mapping[str, Array]) -> dict[str, Array]:
        feeds = {name: values[name] for name in step.inputs if name in values}
        if step.session is None:
            step.session = self._session(step, feeds)
        return step.session.run(step.outputs, feeds)

    def _session(self, step: _Segment, feeds: Mapping[str, Array]) -> Session:
        read = {name for node in step.nodes for name in (*node.input, *subgraph_inputs(node))}
        inputs = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
            )
            for name, value in feeds.items()
        ]
        graph = onnx.helper.make_graph(
            step.nodes,
            "segment",
            inputs,
            [onnx.ValueInfoProto(name=name) for name in step.outputs],
            [tensor for name, tensor in self._initializers.items() if name in read],
        )
        whole = self._graph.model
        model = onnx.helper.make_model(
            graph, opset_imports=whole.opset_import, ir_version=whole.ir_version, functions=whole.functions
        )
        return Session(model.SerializeToString(), source="a part of the model", level=OptimizationLevel.NONE)

    def _compute(
        self, node: QuantizedNode, values: Mapping[str, Array], observer: Observer | None, exact: bool
    ) -> Array:
        rule = NoPairs() if exact else self._rule(node)
        levels = {True: self._levels(node.activation, values), False: self._levels(node.weight, values)}
        pad = int(self._value(node.activation.zero_point_name, values).reshape(-1)[0]) + node.activation.shift
        sums = _sums(node, levels[True], levels[False], rule, pad)
        output = self._output(node, sums.values, levels, values)
        if observer is not None:
            precise = _sums(node, levels[True], levels[False], NoPairs(), pad)
            reference = output if sums.saturated == 0 else self._output(node, precise.values, levels, values)
            observer(node.layer, sums, output, reference)
        return output

    def _levels(self, operand: Operand, values: Mapping[str, Array]) -> Array:
        if operand.constant is not None:
            return operand.constant
        if not operand.moved:
            return values[operand.levels]
        limits = np.iinfo(operand.dtype)
        return kernels.quantize_linear(
            values[operand.levels],
            self._value(operand.scale_name, values).astype(np.float32).reshape(()),
            self._value(operand.zero_point_name, values).astype(np.int32).reshape(()),
            qmin=int(limits.min),
            qmax=int(limits.max),
            dtype=operand.dtype.type,
        )

    def _value(self, name: str, values: Mapping[str, Array]) -> Array:
        value = self._graph.constant(name) if name else np.zeros((), np.int32)
        return values[name] if value is None else value

    def _output(
        self, node: QuantizedNode, sums: NDArray[np.int32], levels: Mapping[bool, Array], values: Mapping[str, Array]
    ) -> Array:
        """What the node writes: sums without zero points, with the bias, in real numbers or as levels."""
        activation, weight = node.activation, node.weight
        zero = self._value(activation.zero_point_name, values).astype(np.int64) + activation.shift
        weight_zero = self._value(weight.zero_point_name, values).astype(np.int64)
        corrected = sums.astype(np.int64) - _correction(node, levels[True], levels[False], zero, weight_zero)
        if node.bias is not None:
            corrected = corrected + _along_outputs(node, node.bias.astype(np.int64), corrected.ndim)
        kind = node.node.op_type
        if kind.endswith("Integer"):
            return np.asarray(corrected, np.int32)
        scale = self._value(activation.scale_name, values).astype(np.float32).reshape(())
        weight_scale = _along_outputs(node, self._value(weight.scale_name, values).astype(np.float32), corrected.ndim)
        written = _written(node.node)
        if written:
            step = self._value(written[0], values).astype(np.float32).reshape(())
            level_zero = self._value(written[1], values)
            limits = np.iinfo(level_zero.dtype)
            scaled = np.rint(corrected.astype(np.float32) * (scale * weight_scale / step)) + level_zero.astype(
                np.float32
            )
            return np.asarray(np.clip(scaled, limits.min, limits.max), level_zero.dtype)
        real = corrected.astype(np.float32) * (scale * weight_scale)
        if node.bias is None and kind in ("Conv", "Gemm") and len(node.node.input) > 2 and node.node.input[2]:
            bias = self._value(node.node.input[2], values)
            real = real + (_along_outputs(node, bias, real.ndim) if kind == "Conv" else bias)
        return np.asarray(real, np.float32)


def input_signature(model: onnx.ModelProto) -> QuantizationGraph:
    """A graph without operations: what a sample of a model must hold, and what the model gives."""
    constants = {tensor.name for tensor in model.graph.initializer}
    tensors = {}
    for value in model.graph.input:
        if value.name not in constants:
            described = value.type.tensor_type
            dtype = onnx.helper.tensor_dtype_to_np_dtype(described.elem_type).name
            shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in described.shape.dim)
            tensors[value.name] = Tensor(value.name, dtype, shape if described.HasField("shape") else None)
    return QuantizationGraph((), tensors, tuple(tensors), tuple(value.name for value in model.graph.output))


def _layer_inputs(node: QuantizedNode) -> list[str]:
    """Tensors from which an integer layer is computed; those that are constants are never made."""
    names = [name for operand in (node.activation, node.weight) for name in (operand.levels, operand.scale_name)]
    names += [operand.zero_point_name for operand in (node.activation, node.weight)]
    if node.bias is None:
        names += node.node.input[2:3] if node.node.op_type in ("Conv", "Gemm") else []
    names += _written(node.node)
    return [name for name in names if name]


def _written(node: onnx.NodeProto) -> list[str]:
    """Scale and zero point of the output of an integer operator that writes levels."""
    first = 7 if node.op_type == "QGemm" else 6
    return list(node.input[first : first + 2]) if node.op_type.startswith("Q") else []


def _unsigned(operand: Operand, levels: Array) -> NDArray[np.uint8]:
    """Levels as unsigned bytes: int8 ones are shifted by 128, which flips their sign bit."""
    shifted: NDArray[np.uint8] = levels.view(np.uint8) ^ np.uint8(operand.shift)
    return shifted


def _matrices(node: QuantizedNode, a: Array, b: Array) -> tuple[Array, Array]:
    """Activations [..., M, K] and weights [..., K, N] of a matrix multiplication, whichever is on the left."""
    if node.node.op_type.endswith("Gemm"):
        given = attributes(node.node)
        transposed = (given.get("transA", 0), given.get("transB", 0))
        left, right = (b, a) if node.weight_first else (a, b)
        left, right = (x.T if flag else x for x, flag in zip((left, right), transposed, strict=True))
        a, b = (right, left) if node.weight_first else (left, right)
    if node.weight_first:
        return _swapped(a), _swapped(b)
    return a, b


def _swapped(x: Array) -> Array:
    return x if x.ndim == 1 else np.swapaxes(x, -1, -2)


def _sums(node: QuantizedNode, activation: Array, weight: Array, rule: PairRule, pad: int) -> Sums:
    a = _unsigned(node.activation, activation)
    if "Conv" in node.node.op_type:
        return convolution_sums(a, weight, rule, **_convolution(node, a, weight, pad))
    a, b = _matrices(node, a, weight)
    vector = a.ndim == 1, b.ndim == 1
    a, b = (a[None] if vector[0] else a), (b[:, None] if vector[1] else b)
    if b.ndim == 2:
        sums = matrix_sums(a.reshape(-1, a.shape[-1]), b, rule)
        values = sums.values.reshape(*a.shape[:-1], b.shape[-1])
        saturated, pairs = sums.saturated, sums.pairs
    else:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        lefts = np.broadcast_to(a, (*batch, *a.shape[-2:])).reshape(-1, *a.shape[-2:])
        rights = np.broadcast_to(b, (*batch, *b.shape[-2:])).reshape(-1, *b.shape[-2:])
        found = [matrix_sums(left, right, rule) for left, right in zip(lefts, rights, strict=True)]
        values = np.stack([sums.values for sums in found]).reshape(*batch, a.shape[-2], b.shape[-1])
        saturated, pairs = sum(sums.saturated for sums in found), sum(sums.pairs for sums in found)
    if node.weight_first:
        values = np.swapaxes(values, -1, -2)
    squeezed = values.reshape(
        [n for i, n in enumerate(values.shape) if not _is_vector_axis(i, values.ndim, vector, node)]
    )
    return Sums(squeezed, saturated, pairs)


def _is_vector_axis(axis: int, rank: int, vector: tuple[bool, bool], node: QuantizedNode) -> bool:
    rows, columns = reversed(vector) if node.weight_first else vector
    return (rows and axis == rank - 2) or (columns and axis == rank - 1)


def _convolution(node: QuantizedNode, x: Array, weight: Array, pad: int) -> dict[str, Any]:
    """Attributes of a convolution, padding worked out; `pad` is its level."""
    given = attributes(node.node)
    rank = x.ndim - 2
    strides = list(given.get("strides", [1] * rank))
    dilations = list(given.get("dilations", [1] * rank))
    pads = list(given.get("pads", [0] * 2 * rank))
    automatic = given.get("auto_pad", b"NOTSET").decode()
    if automatic.startswith("SAME"):
        spans = [(size - 1) * dilation + 1 for size, dilation in zip(weight.shape[2:], dilations, strict=True)]
        totals = [
            max((-(-size // stride) - 1) * stride + span - size, 0)
            for size, stride, span in zip(x.shape[2:], strides, spans, strict=True)
        ]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        pads = small + large if automatic == "SAME_UPPER" else large + small
    return {
        "pad_level": pad,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "group": int(given.get("group", 1)),
    }


def _correction(node: QuantizedNode, activation: Array, weight: Array, zero: Array, weight_zero: Array) -> Array:
    """What zero points add to the sums of raw bytes."""
    a = _unsigned(node.activation, activation)
    if "Conv" in node.node.op_type:
        axes = tuple(range(1, weight.ndim))
        zero = zero.reshape(())
        total = _along_outputs(node, weight.astype(np.int64).sum(axis=axes), activation.ndim) * zero
        if np.any(weight_zero):
            ones = np.ones((weight.shape[0], *weight.shape[1:]), np.uint8)
            inputs = convolution_sums(a, ones, NoPairs(), **_convolution(node, a, weight, int(zero))).values.astype(
                np.int64
            )
            size = int(np.prod(weight.shape[1:]))
            total = total + _along_outputs(node, weight_zero, activation.ndim) * (inputs - zero * size)
        return total
    left, right = _matrices(node, a, weight)
    # One zero point for each row of activations or column of weights is possible in integer operators.
    of_columns = right.astype(np.int64).sum(axis=-2 if right.ndim > 1 else 0, keepdims=right.ndim > 1)
    zero = zero[..., None] if zero.ndim == 1 and zero.size > 1 else zero.reshape(())
    total = of_columns * zero
    if np.any(weight_zero):
        of_rows = left.astype(np.int64).sum(axis=-1, keepdims=True)
        total = total + weight_zero.reshape(() if weight_zero.size == 1 else weight_zero.shape) * (
            of_rows - zero * left.shape[-1]
        )
    if node.weight_first and np.ndim(total) > 1:
        total = np.swapaxes(total, -1, -2)
    return np.asarray(total)


def _along_outputs(node: QuantizedNode, value: Array, rank: int) -> Array:
    """One value, or one for each output channel, shaped to broadcast over an output of that rank."""
    if value.size == 1:
        return value.reshape(())
    if "Conv" in node.node.op_type:
        return value.reshape(-1, *[1] * (rank - 2))
    if node.weight_first:
        return value.reshape(-1, 1)
    return value
