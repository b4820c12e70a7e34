"""Builds a network and runs it while it grows, so that a layer can be fitted to the data that reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]

OPSET = 17
IR_VERSION = 8
BATCH = "batch"
INPUT, OUTPUT = "input", "output"
BATCH_NORM_EPSILON = 1e-5

# A network with random weights multiplies every disturbance from layer to layer, quantization error included; one that
# was trained does not. What training does and random numbers do not: most of an activation passes the rectifier, and
# the branch of a block adds little to its identity. Both are means over the channels of BatchNormalization parameters.
OFFSET_BEFORE_RECTIFIER = 0.5
GAIN_OF_BRANCH = 0.5


class NetworkBuilder:
    """Collects nodes and evaluates each at once; its methods take names of tensors and return that of the one added.

    :param data: What the input, named "input", is evaluated on; its first axis is the batch, dynamic in the network.
    :param seed: Of the weights.
    """

    def __init__(self, data: Array, *, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._values: dict[str, Array] = {INPUT: data}
        self._input = helper.make_tensor_value_info(
            INPUT, helper.np_dtype_to_tensor_dtype(data.dtype), [BATCH, *data.shape[1:]]
        )

    def weight(self, name: str, array: Array) -> str:
        """Add a constant."""
        self._weights.append(numpy_helper.from_array(array, name))
        self._values[name] = array
        return name

    def op(self, op_type: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add a node with one output, named as the node is with "_output" behind."""
        output = f"{name}_output"
        node = helper.make_node(op_type, inputs, [output], name=name, **attributes)
        self._nodes.append(node)
        self._values[output] = _evaluate(node, [self._values[tensor] for tensor in inputs])
        return output

    def forget(self, *tensors: str) -> None:
        """Free the values of tensors that no further node reads."""
        for tensor in tensors:
            self._values.pop(tensor, None)

    def conv(self, x: str, outputs: int, kernel: int, *, name: str, stride: int = 1, groups: int = 1) -> str:
        """Add a square convolution without bias that keeps the size at stride 1, with He-initialized weights."""
        inputs = self._values[x].shape[1] // groups
        spread = np.sqrt(2.0 / (inputs * kernel * kernel))
        array = self.rng.normal(scale=spread, size=(outputs, inputs, kernel, kernel)).astype(np.float32)
        return self.op(
            "Conv",
            x,
            self.weight(f"{name}.weight", array),
            name=name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=groups,
        )

    def batch_norm(self, x: str, *, name: str, gain: float = 1.0, offset: float = 0.0) -> str:
        """Add a BatchNormalization of axis 1 whose mean and variance are those of `x` on the data.

        Its own scales, `gain` on average, and biases, `offset` on average, are drawn: they differ from channel to
        channel as those that training finds do.
        """
        value = self._values[x]
        channels, axes = value.shape[1], (0, *range(2, value.ndim))
        parameters = {
            "scale": gain * np.exp(self.rng.normal(scale=0.3, size=channels)),
            "bias": offset + gain * self.rng.normal(scale=0.3, size=channels),
            "mean": value.mean(axis=axes, dtype=np.float64),
            "variance": value.var(axis=axes, dtype=np.float64),
        }
        names = [self.weight(f"{name}.{key}", array.astype(np.float32)) for key, array in parameters.items()]
        output = self.op("BatchNormalization", x, *names, name=name, epsilon=BATCH_NORM_EPSILON)
        self.forget(x)
        return output

    def linear(self, x: str, outputs: int, *, name: str, gain: float = 1.0) -> str:
        """Add a Gemm of [batch, channels] or, for more axes, MatMul and Add over the last, with a bias.

        The variance of the weights is `gain` / inputs.
        """
        value = self._values[x]
        inputs = value.shape[-1]
        array = self.rng.normal(scale=np.sqrt(gain / inputs), size=(inputs, outputs)).astype(np.float32)
        bias = self.weight(f"{name}.bias", self.rng.normal(scale=0.05, size=outputs).astype(np.float32))
        if value.ndim == 2:
            return self.op("Gemm", x, self.weight(f"{name}.weight", array.T.copy()), bias, name=name, transB=1)
        product = self.op("MatMul", x, self.weight(f"{name}.weight", array), name=f"{name}_matmul")
        return self.op("Add", product, bias, name=name)

    def model(self, output: str, name: str) -> onnx.ModelProto:
        """Return the network, whose output, named "output", is the tensor given."""
        (last,) = (node for node in self._nodes if output in node.output)
        last.output[0] = OUTPUT
        value = self._values[output]
        result = helper.make_tensor_value_info(
            OUTPUT, helper.np_dtype_to_tensor_dtype(value.dtype), [BATCH, *value.shape[1:]]
        )
        graph = helper.make_graph(self._nodes, name, [self._input], [result], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model


def _evaluate(node: onnx.NodeProto, inputs: Sequence[Array]) -> Array:
    """Run one node by itself."""
    infos = {
        name: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(node.input, inputs, strict=True)
    }
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "node", list(infos.values()), outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, dict(zip(node.input, inputs, strict=True)))
    return np.asarray(result)
