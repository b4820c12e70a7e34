"""A model as onnxruntime is given it: the graph as a message, its large constants as the arrays that they are.

A constant within the message is copied into it, with it, and out of it again, which takes longer than what onnxruntime
makes of the model.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from quantstats.adapters.protocol import Array

# Bytes of a constant from which it is worth a name of its own. Shapes, axes and scales, whose values onnxruntime wants
# to see when it reads the message, have fewer.
_LARGE = 4096

_DTYPES = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.UINT8})


def hand_over(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return a model without its large constants, and these by name. In the message they are external data.

    The model is not changed, and the constants are its arrays where it has any, not copies.
    """
    twin = model.clone()
    constants: dict[str, Array] = {}
    for name, value in twin.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or value.is_graph_output() or not is_handed_over(tensor):
            continue
        constants[name] = tensor.numpy()
        shape = ir.Shape(tensor.shape.numpy())
        value.const_value = ir.ExternalTensor("constants", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)
    return ir.to_proto(twin), constants


def is_handed_over(tensor: ir.TensorProtocol) -> bool:
    """Whether a constant is large, in memory, and of an element type that NumPy has."""
    return tensor.dtype in _DTYPES and tensor.nbytes >= _LARGE and not isinstance(tensor, ir.ExternalTensor)
