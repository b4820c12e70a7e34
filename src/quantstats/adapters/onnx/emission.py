"""From a plan to a quantized model: QuantizeLinear and DequantizeLinear around what onnxruntime fuses.

A quantized tensor is followed by the pair, and its readers read the dequantized values; onnxruntime replaces
DequantizeLinear, operation, QuantizeLinear by one integer kernel. What that asks for decides the details here:

- activations are uint8 (see :func:`~quantstats.adapters.onnx.levels.stored_levels`);
- what is looked up in a table of integers is dequantized behind the lookup: onnxruntime would dequantize a whole table
  at every call;
- weights are integer constants of 8 or 16 bits, or of 4 where at most as many are asked for and the opset has them
  (onnxruntime computes with those in floating point); the bias of a convolution or Gemm is int32 in units of input
  scale times weight scale;
- nothing stands between an operation and QuantizeLinear. A Relu or Clip in that place is dropped if the levels begin
  or end where it clips, else it becomes a Clip of integers behind QuantizeLinear: rounding is monotonic, so clipping
  commutes with it exactly.
"""

from __future__ import annotations

import dataclasses
import logging
import math

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from quantstats import __version__
from quantstats.adapters.onnx.biases import set_biases
from quantstats.adapters.onnx.cleanup import CleanModel
from quantstats.adapters.onnx.decomposed import is_constant
from quantstats.adapters.onnx.levels import CONTRIB_DOMAIN, StoredLevels, quantize_constant, stored_levels
from quantstats.adapters.onnx.loading import in_memory_tensor, initializers
from quantstats.adapters.onnx.naming import UniqueNames, node_names, tensor_names
from quantstats.adapters.onnx.operators import OPERATORS, int_attribute
from quantstats.adapters.onnx.subgraphs import captured_tensors, replace_captured
from quantstats.errors import ParameterError
from quantstats.ptq.graph import Port
from quantstats.ptq.plan import ActivationQuantizer, Place, QuantizationPlan, WeightQuantizer
from quantstats.quantizer import Quantizer

_ACTIVATION_CLAMPS = ("Relu", "Clip")
_INT32_MAX = 2**31 - 1

_logger = logging.getLogger(__name__)


def emit_model(
    clean: CleanModel, plan: QuantizationPlan, *, four_bit_types: bool = True, in_place: bool = False
) -> ir.Model:
    """Return the quantized model that a plan describes; all its constants are in memory.

    :param four_bit_types: Store weights of at most 4 bits in the 4-bit types of ONNX, from opset 21 on; otherwise in
        int8, as on older opsets.
    :param in_place: Change the model, which then nobody may use as it was; otherwise a copy is made.
    :raises ParameterError: if the plan has a quantizer without numbers, or names what the model does not have.
    """
    model = clean.model if in_place else clean.model.clone()
    emission = _Emission(model, plan, four_bit_types=four_bit_types)
    # Biases need to know how both operands of their operation are quantized, so they come last.
    for weight in plan.weights:
        emission.quantize_weight(weight)
    for activation in plan.activations:
        emission.quantize_activation(activation)
    emission.quantize_biases()
    return emission.finish()


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The constants that a QuantizeLinear and its DequantizeLinear share."""

    stored: StoredLevels
    scale: ir.Value
    zero_point: ir.Value


class _Emission:
    """One quantized model in the making."""

    def __init__(self, model: ir.Model, plan: QuantizationPlan, *, four_bit_types: bool) -> None:
        self._four_bit_types = four_bit_types
        self._quantized = frozenset(place.tensor for quantizer in plan.activations for place in quantizer.places)
        self._model = model
        self._graph = self._model.graph
        self._opset = self._graph.opset_imports[""]
        self._tensor_names = UniqueNames(tensor_names(self._graph))
        self._node_names = UniqueNames(node_names(self._graph))
        set_biases(self._graph, plan.biases, tensor_names=self._tensor_names, node_names=self._node_names)
        self._nodes = {node.name: node for node in self._graph if node.name}
        self._captured = {name: captured_tensors(node) for name, node in self._nodes.items()}
        self._values = {value.name: value for value in self._graph.inputs if value.name}
        self._values.update((value.name, value) for node in self._graph for value in node.outputs if value.name)
        # What each operand of the original reads once quantized, to find the scales of a bias.
        self._read: dict[Port, StoredLevels] = {}

    # Weights

    def quantize_weight(self, weight: WeightQuantizer) -> None:
        quantizer = _numbers(weight.quantizer, weight.tensor)
        constant = self._graph.initializers.get(weight.tensor)
        if constant is None or constant.const_value is None:
            raise ParameterError(f"the plan quantizes weight {weight.tensor!r}, which is no constant of the model")
        array = constant.const_value.numpy()
        # onnxruntime multiplies unsigned by signed or unsigned; a constant left operand must be unsigned.
        by_side: dict[bool, list[Port]] = {}
        for port in weight.readers:
            unsigned = self._node(port).op_type == "MatMul" and port.operand == 0
            by_side.setdefault(unsigned, []).append(port)
        # Gather has no 4-bit types.
        four_bits = self._four_bit_types and not any(map(self._is_lookup, weight.readers))
        for unsigned, readers in by_side.items():
            stored = stored_levels(quantizer, unsigned=unsigned, opset=self._opset, four_bits=four_bits)
            levels = self._constant(f"{weight.tensor}_quantized", quantize_constant(quantizer, stored, array))
            pair = self._pair(weight.tensor, stored)
            multiplying = [port for port in readers if not self._is_lookup(port)]
            if multiplying:
                dequantized = self._dequantize(weight.tensor, levels, pair, before=self._node(multiplying[0]))
                self._rewire(multiplying, weight.tensor, dequantized, stored)
            for port in readers:
                if self._is_lookup(port):
                    self._rewire([port], weight.tensor, levels, stored)
                    self._dequantize_looked_up(self._node(port), pair)

    def _is_lookup(self, port: Port) -> bool:
        return self._node(port).op_type == "Gather"

    def _dequantize_looked_up(self, node: ir.Node, pair: _Pair) -> None:
        """Dequantize what a Gather of levels gives, to the bits that a Gather of the dequantized table gives."""
        looked_up, stored = node.outputs[0], pair.stored
        table = node.inputs[0]
        assert table is not None
        assert table.shape is not None
        name = looked_up.name or ""
        uses = tuple(looked_up.uses())
        # A new type, not another dtype in the old one: a clone shares that with its original.
        looked_up.name, looked_up.type = self._tensor_names.unique(f"{name}_levels"), ir.TensorType(stored.dtype)
        rank = table.shape.rank()
        axis = int_attribute(node, "axis", 0) % rank
        if stored.axis == axis:
            result = self._scaled_by_row(node, pair, name, rank)
        else:
            result = self._dequantize(name, looked_up, pair, after=looked_up)
        for use in uses:
            use.node.replace_input_with(use.idx, result)
        for index, output in enumerate(self._graph.outputs):
            if output is looked_up:
                self._graph.outputs[index] = result
        result.name, result.shape = name, looked_up.shape
        self._values[name] = result
        self._captured = {name: captured_tensors(node) for name, node in self._nodes.items()}

    def _scaled_by_row(self, node: ir.Node, pair: _Pair, name: str, rank: int) -> ir.Value:
        """Levels of rows times the scales of those rows, looked up alike: DequantizeLinear has one axis of scales only.

        A difference of levels is exact in float32, so the only rounding is that of DequantizeLinear, in the product.
        """
        stored, indices = pair.stored, node.inputs[1]
        assert indices is not None

        def by_row(of: str, numbers: NDArray[np.generic]) -> ir.Value:
            column = self._constant(f"{name}_{of}", numbers.astype(np.float32).reshape(-1, *(1,) * (rank - 1)))
            gather = ir.node(
                "Gather", [column, indices], {"axis": 0}, name=self._node_names.unique(f"{name}_{of}_of_row")
            )
            return self._append(gather, f"{name}_{of}_of_row", ir.DataType.FLOAT, None, after=result)

        def combined(op_type: str, other: ir.Value) -> ir.Value:
            combining = ir.node(op_type, [result, other], name=self._node_names.unique(f"{name}_{op_type}"))
            return self._append(combining, f"{name}_{op_type}", ir.DataType.FLOAT, None, after=other)

        cast = ir.node(
            "Cast", [node.outputs[0]], {"to": ir.DataType.FLOAT}, name=self._node_names.unique(f"{name}_Cast")
        )
        result = self._append(cast, f"{name}_Cast", ir.DataType.FLOAT, None, after=node.outputs[0])
        if stored.zero_point.any():
            result = combined("Sub", by_row("zero_point", stored.zero_point))
        return combined("Mul", by_row("scale", stored.scale))

    # Activations

    def quantize_activation(self, activation: ActivationQuantizer) -> None:
        quantizer = _numbers(activation.quantizer, activation.tensor)
        stored = stored_levels(quantizer, unsigned=True, opset=self._opset)
        pair = self._pair(activation.tensor, stored)
        for place in activation.places:
            constant = self._graph.initializers.get(place.tensor)
            if constant is not None and constant.const_value is not None:
                # An operand of an addition or concatenation; its kernel wants the type of the other operand.
                array = quantize_constant(quantizer, stored, constant.const_value.numpy())
                levels = self._constant(f"{place.tensor}_quantized", array)
                dequantized = self._dequantize(place.tensor, levels, pair, before=self._first_node())
                self._rewire(place.readers, place.tensor, dequantized, stored)
            else:
                self._quantize_place(place, pair)

    def _quantize_place(self, place: Place, pair: _Pair) -> None:
        value = self._values.get(place.tensor)
        if value is None:
            raise ParameterError(f"the plan quantizes tensor {place.tensor!r}, which is no activation of the model")
        source, stored = self._without_clamps(value, place, pair.stored)
        clips_integers = stored.has_integer_clip
        if not stored.saturates and not clips_integers:
            source = self._clipped_to_levels(place.tensor, source, stored)
        quantized = self._append(
            ir.node(
                "QuantizeLinear",
                [source, pair.scale, pair.zero_point],
                _axis_attribute(stored),
                domain=stored.domain,
                name=self._node_names.unique(f"{place.tensor}_QuantizeLinear"),
            ),
            f"{place.tensor}_quantized",
            stored.dtype,
            source.shape,
            after=source,
        )
        if not stored.saturates and clips_integers:
            low, high = (
                self._constant(f"{place.tensor}_{end}", np.array(level, stored.dtype.numpy()))
                for end, level in (("low", stored.low), ("high", stored.high))
            )
            quantized = self._append(
                ir.node("Clip", [quantized, low, high], name=self._node_names.unique(f"{place.tensor}_Clip")),
                f"{place.tensor}_clipped",
                stored.dtype,
                source.shape,
                after=quantized,
            )
        dequantized = self._dequantize(place.tensor, quantized, pair, after=quantized)
        read = dequantized if stored.axis is None else self._unfused(place.tensor, dequantized)
        self._rewire(place.readers, place.tensor, read, pair.stored)
        if place.model_output:
            self._replace_output(value, dequantized)
        if source is not value:
            self._remove_unread(value)

    def _clipped_to_levels(self, tensor: str, source: ir.Value, stored: StoredLevels) -> ir.Value:
        """The floating-point tensor between the values of the lowest and the highest level.

        Clipping commutes with rounding, since rounding is monotonic. No 16-bit kernel is kept from fusing by it.
        """
        if stored.axis is not None and source.shape is None:
            raise ParameterError(
                f"the quantizer of {tensor!r} has the levels {stored.low} to {stored.high} of "
                f"{stored.dtype.name.lower()} for each channel, but the model does not tell the rank of the tensor; "
                "use narrow_range=False or per_channel=False"
            )
        zero = stored.zero_point.astype(np.int64)
        for op_type, level, end in (("Min", stored.high, "high"), ("Max", stored.low, "low")):
            limit = ((level - zero) * stored.scale.astype(np.float64)).astype(np.float32)
            if stored.axis is not None and source.shape is not None:
                limit = limit.reshape(-1, *(1,) * (source.shape.rank() - stored.axis - 1))
            bound = self._constant(f"{tensor}_{end}", limit)
            node = ir.node(op_type, [source, bound], name=self._node_names.unique(f"{tensor}_{op_type}"))
            source = self._append(node, f"{tensor}_{op_type}", ir.DataType.FLOAT, source.shape, after=source)
        return source

    def _unfused(self, tensor: str, dequantized: ir.Value) -> ir.Value:
        """The dequantized tensor for readers that must not become integer kernels.

        onnxruntime fuses a convolution or MatMul whose input has a scale per channel, and its kernel then refuses to
        run. A maximum of one operand is itself, and no clean-up removes it.
        """
        node = ir.node("Max", [dequantized], name=self._node_names.unique(f"{tensor}_unfused"))
        return self._append(node, f"{tensor}_unfused", ir.DataType.FLOAT, dequantized.shape, after=dequantized)

    def _without_clamps(self, value: ir.Value, place: Place, stored: StoredLevels) -> tuple[ir.Value, StoredLevels]:
        """The tensor before the Relu and Clip that end in ``value``, and the levels that hold what they let pass.

        Nothing is skipped if anyone needs a tensor in between in floating point.
        """
        readers = set(place.readers)
        source, narrowed = value, stored
        while True:
            node = source.producer() if stored.has_integer_clip else None
            if node is None or node.domain != "" or node.op_type not in _ACTIVATION_CLAMPS:
                return source, narrowed
            if source is value:
                needed = any(Port(use.node.name or "", use.idx) not in readers for use in value.uses())
                if needed or (value.is_graph_output() and not place.model_output):
                    return source, narrowed
            before = node.inputs[0]
            if before is None or before.is_graph_output() or before.name in self._quantized or len(before.uses()) != 1:
                return source, narrowed
            limits = _clamp_limits(node)
            low, high = (None if limit is None else stored.level(limit) for limit in limits or (None, None))
            if limits is None or low is None or high is None:
                return source, narrowed
            # The outer clamp wins where the limits of two contradict, as it does in floating point.
            low, high = (min(max(level, narrowed.low), narrowed.high) for level in (low, high))
            source, narrowed = before, dataclasses.replace(narrowed, low=low, high=high)

    def _replace_output(self, value: ir.Value, dequantized: ir.Value) -> None:
        """Let the model output read the dequantized tensor, under its old name."""
        name = value.name
        value.name = self._tensor_names.unique(f"{name}_float")
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[index] = dequantized
        dequantized.name = name
        dequantized.type, dequantized.shape = value.type, value.shape

    def _remove_unread(self, value: ir.Value) -> None:
        """Remove the clamps whose result is not read any more."""
        node = value.producer()
        while node is not None and node.op_type in _ACTIVATION_CLAMPS and not node.outputs[0].uses():
            before = node.inputs[0]
            self._graph.remove([node], safe=True)
            node = None if before is None else before.producer()

    # Biases

    def quantize_biases(self) -> None:
        """Turn the bias of every operation whose input and weight are quantized into int32."""
        for name, node in self._nodes.items():
            operator = OPERATORS.get(node.op_type) if node.domain == "" else None
            if node.graph is None or operator is None or operator.bias is None or len(node.inputs) <= operator.bias:
                continue
            bias = node.inputs[operator.bias]
            activation, weight = self._read.get(Port(name, 0)), self._read.get(Port(name, 1))
            if bias is None or bias.const_value is None or activation is None or weight is None:
                continue
            if activation.axis is not None or activation.dtype.bitwidth != 8 or weight.dtype.bitwidth != 8:
                continue  # no integer kernel, so nobody to read an int32 bias
            reduction = _reduction_size(node)
            levels = _bias_levels(bias.const_value.numpy(), activation, weight, reduction)
            if levels is None:
                _logger.warning(
                    "bias %r of %s %r stays in floating point, and with it the operation: in units of input scale "
                    "times weight scale it does not fit 32 bits; check the range of its input and weight",
                    bias.name,
                    node.op_type,
                    name,
                )
                continue
            integers, scale = levels
            stored = StoredLevels(
                dtype=ir.DataType.INT32,
                scale=scale,
                zero_point=np.zeros(scale.shape, np.int32),
                shift=0,
                low=-_INT32_MAX - 1,
                high=_INT32_MAX,
                axis=0 if scale.ndim else None,
                domain="",
            )
            tensor = bias.name or f"{name}_bias"
            quantized = self._constant(f"{tensor}_quantized", integers)
            dequantized = self._dequantize(tensor, quantized, self._pair(tensor, stored), before=node)
            node.replace_input_with(operator.bias, dequantized)

    # Result

    def finish(self) -> ir.Model:
        graph = self._graph
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del graph.initializers[name]
        for value in initializers(self._model):
            if isinstance(value.const_value, ir.ExternalTensor):
                # The files of the working model go with the adapter.
                value.const_value = in_memory_tensor(value.const_value)
        graph.sort()
        if any(node.domain == CONTRIB_DOMAIN for node in graph):
            graph.opset_imports.setdefault(CONTRIB_DOMAIN, 1)
        needed = onnx.helper.find_min_ir_version_for(
            [onnx.helper.make_opsetid(domain, version) for domain, version in graph.opset_imports.items()], True
        )
        self._model.ir_version = max(self._model.ir_version or 0, needed)
        self._model.producer_name = "quantstats"
        self._model.producer_version = __version__
        return self._model

    # Pieces

    def _node(self, port: Port) -> ir.Node:
        node = self._nodes.get(port.operation)
        if node is None or port.operand >= len(node.inputs) + len(self._captured[port.operation]):
            raise ParameterError(
                f"the plan reads operand {port.operand} of operation {port.operation!r}, which the model does not have"
            )
        return node

    def _rewire(self, readers: tuple[Port, ...] | list[Port], tensor: str, to: ir.Value, stored: StoredLevels) -> None:
        for port in readers:
            node = self._node(port)
            captured = port.operand - len(node.inputs)
            current = node.inputs[port.operand] if captured < 0 else self._captured[port.operation][captured]
            if current is None or current.name != tensor:
                found = None if current is None else current.name
                raise ParameterError(
                    f"the plan says that operand {port.operand} of {port.operation!r} reads {tensor!r}, "
                    f"but it reads {found!r}"
                )
            if captured < 0:
                node.replace_input_with(port.operand, to)
            else:
                replace_captured(node, current, to)
            self._read[port] = stored

    def _pair(self, tensor: str, stored: StoredLevels) -> _Pair:
        return _Pair(
            stored,
            self._constant(f"{tensor}_scale", stored.scale),
            self._constant(f"{tensor}_zero_point", stored.zero_point),
        )

    def _dequantize(
        self,
        tensor: str,
        quantized: ir.Value,
        pair: _Pair,
        *,
        after: ir.Value | None = None,
        before: ir.Node | None = None,
    ) -> ir.Value:
        node = ir.node(
            "DequantizeLinear",
            [quantized, pair.scale, pair.zero_point],
            _axis_attribute(pair.stored),
            domain=pair.stored.domain,
            name=self._node_names.unique(f"{tensor}_DequantizeLinear"),
        )
        name = f"{tensor}_dequantized"
        return self._append(node, name, ir.DataType.FLOAT, quantized.shape, after=after, before=before)

    def _append(
        self,
        node: ir.Node,
        output: str,
        dtype: ir.DataType,
        shape: ir.Shape | None,
        *,
        after: ir.Value | None = None,
        before: ir.Node | None = None,
    ) -> ir.Value:
        value = node.outputs[0]
        value.name = self._tensor_names.unique(output)
        value.dtype = dtype
        value.shape = shape
        producer = None if after is None else after.producer()
        if before is not None:
            self._graph.insert_before(before, node)
        elif producer is not None:
            self._graph.insert_after(producer, node)
        else:
            self._graph.insert_before(self._first_node(), node)
        return value

    def _first_node(self) -> ir.Node:
        return self._graph[0]

    def _constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        unique = self._tensor_names.unique(name)
        tensor = ir.Tensor(np.ascontiguousarray(array).reshape(array.shape), name=unique)
        value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value


def _numbers(quantizer: Quantizer | None, tensor: str) -> Quantizer:
    if quantizer is None:
        raise ParameterError(f"the plan has no scale for {tensor!r}; fill it with QuantizationPlan.with_quantizers()")
    return quantizer


def _axis_attribute(stored: StoredLevels) -> dict[str, int] | None:
    return None if stored.axis is None else {"axis": stored.axis}


def _clamp_limits(node: ir.Node) -> tuple[float, float] | None:
    """The values between which a Relu or Clip lets pass; ``None`` if they are not constant."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    limits = [-math.inf, math.inf]
    for index, value in enumerate(node.inputs[1:3]):
        if value is None:
            continue
        if not is_constant(value) or value.const_value is None:
            return None
        limits[index] = float(value.const_value.numpy().reshape(()))
    return limits[0], limits[1]


def _reduction_size(node: ir.Node) -> int:
    """How many products an output of a convolution or Gemm sums."""
    weight = node.inputs[1]
    assert weight is not None
    assert weight.shape is not None
    sizes = weight.shape.numpy()
    if node.op_type == "Gemm":
        transposed = "transB" in node.attributes and node.attributes["transB"].as_int() != 0
        return int(sizes[1 if transposed else 0])
    return int(np.prod(sizes[1:] if node.op_type == "Conv" else (sizes[0], *sizes[2:])))


def _largest(stored: StoredLevels) -> int:
    """The largest magnitude of a level less its zero point."""
    zero = stored.zero_point.astype(np.int64)
    return int(max((stored.high - zero).max(), (zero - stored.low).max()))


def _bias_levels(
    bias: NDArray[np.float32], activation: StoredLevels, weight: StoredLevels, reduction: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
    """The bias in units of input scale times weight scale, and that scale; ``None`` if there is no such int32.

    The kernel accumulates products on top of the bias. So the largest sum of products must fit as well, or, where a sum
    is so long that it could overflow by itself, half of what 32 bits hold: sums of that size do not occur.
    """
    scale = np.asarray(activation.scale * weight.scale, dtype=np.float32)
    if scale.ndim and scale.shape != bias.shape:
        return None
    levels = np.rint(bias.astype(np.float64) / scale)
    limit = _INT32_MAX - min(reduction * _largest(activation) * _largest(weight), _INT32_MAX // 2)
    if not np.all(np.isfinite(levels)) or (levels.size and float(np.abs(levels).max()) > limit):
        return None
    return levels.astype(np.int32), scale
