"""Raising a model to an opset that can hold per-channel quantization."""

from __future__ import annotations

import logging

import onnx
import onnx.version_converter
import onnx_ir as ir

from quantstats.adapters.onnx.loading import in_memory_tensor
from quantstats.adapters.onnx.runtime import one_line
from quantstats.errors import ModelError

# QuantizeLinear and DequantizeLinear take an axis from here on.
OLDEST_QUANTIZABLE_OPSET = 13

# Constants up to this size travel through the converter: it reads some (axes, shapes, clip bounds). Larger ones are
# weights, which it only has to pass on, and which could exceed what a serialized model holds.
_SMALL_CONSTANT = 1024

_logger = logging.getLogger(__name__)


def raise_opset(model: ir.Model, source: str) -> tuple[ir.Model, str | None]:
    """Return the model at opset 13 if it is older, and the line that says so; else the model itself and ``None``.

    :raises ModelError: if an operator has no conversion.
    """
    opset = model.opset_imports[""]
    if opset >= OLDEST_QUANTIZABLE_OPSET:
        return model, None
    skeleton, weights = _without_weights(model)
    try:
        converted = onnx.version_converter.convert_version(skeleton, OLDEST_QUANTIZABLE_OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own ConvertError
        raise ModelError(
            f"{source} cannot be raised from opset {opset} to {OLDEST_QUANTIZABLE_OPSET}: {one_line(error)}; "
            f"export it with opset {OLDEST_QUANTIZABLE_OPSET} or newer"
        ) from error
    raised = ir.from_proto(converted)
    inputs = {value.name: value for value in raised.graph.inputs}
    for name, tensor in weights.items():
        value = inputs[name]
        raised.graph.inputs.remove(value)
        value.const_value = tensor
        raised.graph.register_initializer(value)
    note = f"{source} is raised from opset {opset} to {OLDEST_QUANTIZABLE_OPSET}: per-channel quantization needs it"
    _logger.warning(note)
    return raised, note


def _without_weights(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """The model with its large constants turned into inputs, and those constants by name."""
    skeleton = model.clone()
    weights: dict[str, ir.TensorProtocol] = {}
    for name, value in list(skeleton.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None:
            continue
        if tensor.nbytes <= _SMALL_CONSTANT:
            if isinstance(tensor, ir.ExternalTensor):
                value.const_value = in_memory_tensor(tensor)
            continue
        weights[name] = tensor
        del skeleton.graph.initializers[name]
        value.const_value = None
        value.dtype = tensor.dtype
        value.shape = ir.Shape(tensor.shape.numpy())
        skeleton.graph.inputs.append(value)
    # The converter keeps weights as inputs only in models whose initializers need not be inputs.
    skeleton.ir_version = max(skeleton.ir_version or 0, 4)
    return ir.to_proto(skeleton), weights
