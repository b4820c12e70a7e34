"""Graphs for tests, written one operation a line, with no framework behind them."""

from __future__ import annotations

from quantstats.ptq.graph import Operation, OperationKind, QuantizationGraph, Tensor, Weight


class GraphBuilder:
    """Collects operations; each method returns the name of the tensor that it adds.

    Kinds that runtimes run on integers only with a quantized output (all but matrix products) say so.
    """

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._tensors: dict[str, Tensor] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []

    def tensor(self, name: str, *, dtype: str | None = "float32", constant: bool = False) -> str:
        shape = (4, 4, 3, 3) if constant else (None, 4, 8, 8)
        self._tensors.setdefault(name, Tensor(name, dtype, shape, constant))
        return name

    def input(self, name: str, *, dtype: str | None = "float32") -> str:
        self._inputs.append(self.tensor(name, dtype=dtype))
        return name

    def constant(self, name: str, *, dtype: str | None = "float32") -> str:
        return self.tensor(name, dtype=dtype, constant=True)

    def output(self, *names: str) -> None:
        self._outputs.extend(names)

    def add(
        self,
        kind: OperationKind,
        name: str,
        *inputs: str,
        type: str | None = None,
        outputs: tuple[str, ...] | None = None,
        weight: Weight | None = None,
        activations: tuple[int, ...] | None = None,
        input_channel_axis: int | None = None,
        needs_output: bool = False,
        dtype: str | None = "float32",
    ) -> str:
        outputs = (f"{name}.out",) if outputs is None else outputs
        for output in outputs:
            self.tensor(output, dtype=dtype)
        if activations is None:
            activations = tuple(i for i, t in enumerate(inputs) if not self._tensors[t].constant)
        self._operations.append(
            Operation(
                name=name,
                kind=kind,
                type=type or kind.value.capitalize(),
                inputs=inputs,
                outputs=outputs,
                weight=weight,
                activations=activations,
                input_channel_axis=input_channel_axis,
                needs_output_quantizer=needs_output,
            )
        )
        return outputs[0]

    def conv(
        self,
        name: str,
        x: str,
        *,
        weight: str | None = None,
        axis: int | None = 0,
        kind: OperationKind = OperationKind.CONVOLUTION,
        input_channel_axis: int | None = 1,
    ) -> str:
        weight = self.constant(weight or f"{name}.weight")
        return self.add(
            kind,
            name,
            x,
            weight,
            type="Conv",
            weight=Weight(weight, 1, axis),
            activations=(0,),
            needs_output=True,
            input_channel_axis=input_channel_axis,
        )

    def linear(self, name: str, x: str, *, weight: str | None = None, needs_output: bool = False) -> str:
        weight = self.constant(weight or f"{name}.weight")
        return self.add(
            OperationKind.MATMUL,
            name,
            x,
            weight,
            type="MatMul",
            weight=Weight(weight, 1, 1),
            activations=(0,),
            needs_output=needs_output,
        )

    def matmul(self, name: str, a: str, b: str) -> str:
        return self.add(OperationKind.MATMUL, name, a, b, type="MatMul")

    def elementwise(self, name: str, a: str, b: str, *, type: str = "Add") -> str:
        return self.add(OperationKind.ELEMENTWISE, name, a, b, type=type, needs_output=True)

    def concat(self, name: str, *inputs: str) -> str:
        return self.add(OperationKind.CONCAT, name, *inputs, type="Concat", needs_output=True)

    def pool(self, name: str, x: str) -> str:
        return self.add(OperationKind.POOLING, name, x, type="AveragePool", needs_output=True)

    def relu(self, name: str, x: str) -> str:
        return self.add(OperationKind.ACTIVATION, name, x, type="Relu")

    def move(self, name: str, x: str, *, type: str = "Reshape", outputs: tuple[str, ...] | None = None) -> str:
        return self.add(OperationKind.MOVE, name, x, type=type, outputs=outputs)

    def float(self, name: str, *inputs: str, type: str = "Softmax", dtype: str | None = "float32") -> str:
        return self.add(OperationKind.FLOAT, name, *inputs, type=type, dtype=dtype)

    def build(self) -> QuantizationGraph:
        return QuantizationGraph(tuple(self._operations), self._tensors, tuple(self._inputs), tuple(self._outputs))
