"""ONNX models for tests, written one operation a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


class ModelBuilder:
    """Collects nodes; each method returns the name of the tensor that it adds. Weights are reproducible noise."""

    def __init__(self, opset: int = 17, *, seed: int = 5) -> None:
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, *shape: int | str, dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, *names: str, dtype: int = TensorProto.FLOAT) -> None:
        self.outputs += [helper.make_tensor_value_info(name, dtype, None) for name in names]

    def constant(self, array: Any, name: str | None = None) -> str:
        self._count += 1
        name = name or f"constant{self._count}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def noise(self, *shape: int, name: str | None = None, scale: float | None = None) -> str:
        fan_in = int(np.prod(shape[1:])) or 1
        spread = fan_in**-0.5 if scale is None else scale
        return self.constant((self.rng.normal(size=shape) * spread).astype(np.float32), name)

    def positive(self, *shape: int) -> str:
        return self.constant(self.rng.uniform(0.5, 2.0, shape).astype(np.float32))

    def op(
        self,
        op_type: str,
        *inputs: str,
        name: str | None = None,
        out: str | Sequence[str] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node and return its first output. ``name=""`` leaves it unnamed."""
        self._count += 1
        label = name if name is not None else f"{op_type.lower()}{self._count}"
        outputs = [out or f"{label or op_type}_{self._count}_out"] if isinstance(out, str | None) else list(out)
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=label, domain=domain, **attributes))
        return outputs[0]

    def batch_norm(self, x: str, channels: int) -> str:
        parameters = [self.positive(channels), self.noise(channels), self.noise(channels), self.positive(channels)]
        return self.op("BatchNormalization", x, *parameters)

    def conv(
        self, x: str, inputs: int, outputs: int, *kernel: int, group: int = 1, bias: bool = True, **more: Any
    ) -> str:
        """A convolution that keeps the size; ``kernel`` defaults to 3 x 3."""
        kernel = kernel or (3, 3)
        weight = self.noise(outputs, inputs // group, *kernel)
        constants = [weight, self.noise(outputs)] if bias else [weight]
        return self.op("Conv", x, *constants, group=group, pads=[k // 2 for k in kernel] * 2, **more)

    def build(self, *, ir_version: int = 8, functions: Sequence[onnx.FunctionProto] = ()) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "test", self.inputs, self.outputs, self.initializers)
        domains = {node.domain for node in self.nodes if node.domain}
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
        return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=list(functions))


def small_cnn(*, opset: int = 17) -> onnx.ModelProto:
    """Conv, BatchNorm, Relu, MaxPool, residual Add, average and Gemm: input ``x`` [batch, 3, 8, 8], output ``y``."""
    b = ModelBuilder(opset)
    x = b.input("x", "batch", 3, 8, 8)
    stem = b.op("Relu", b.batch_norm(b.conv(x, 3, 8, bias=False, name="stem"), 8), name="stem_relu")
    pooled = b.op("MaxPool", stem, kernel_shape=[2, 2], strides=[2, 2], name="pool")
    branch = b.conv(b.op("Relu", b.conv(pooled, 8, 8, name="first")), 8, 8, name="second")
    total = b.op("Relu", b.op("Add", pooled, branch, name="residual"))
    flat = b.op("Flatten", b.op("GlobalAveragePool", total, name="average"))
    b.op("Gemm", flat, b.noise(5, 8, name="head.weight"), b.noise(5, name="head.bias"), transB=1, name="head", out="y")
    b.output("y")
    return b.build()


def conditional_model() -> onnx.ModelProto:
    """A convolution whose result ``features`` the branches of an If read, and a convolution of what they give.

    Inputs ``x`` [1, 4, 8, 8] and the boolean ``flag``, output ``y``. One branch convolves, the other clamps.
    """

    def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(
            list(nodes), name, [], [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)]
        )

    b = ModelBuilder()
    x = b.input("x", 1, 4, 8, 8)
    flag = b.input("flag", dtype=TensorProto.BOOL)
    b.op("Conv", x, b.noise(4, 4, 1, 1), b.noise(4), name="conv", out="features")
    weight = numpy_helper.from_array(b.rng.normal(size=(4, 4, 1, 1)).astype(np.float32))
    inside = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("Conv", ["features", "w"], ["then_out"], name="inner"),
    ]
    b.op(
        "If",
        flag,
        name="choice",
        out="chosen",
        then_branch=branch("then", *inside),
        else_branch=branch("else", helper.make_node("Relu", ["features"], ["else_out"], name="inner_relu")),
    )
    b.op("Conv", "chosen", b.noise(4, 4, 1, 1), b.noise(4), name="last", out="y")
    b.output("y")
    return b.build()
