"""A framework of a few lines in NumPy, with its adapter: what the driver must be able to quantize without knowing it.

A network is a list of layers over named tensors. The adapter's emitted model computes with rounded values where the
plan says so, so its outputs show what quantization does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quantstats.adapters.protocol import Array, Sample
from quantstats.errors import DataError, ParameterError
from quantstats.ptq.graph import Operation, OperationKind, Port, QuantizationGraph, Tensor, Weight
from quantstats.ptq.plan import QuantizationPlan
from quantstats.quantizer import Quantizer


@dataclass(frozen=True)
class Layer:
    name: str
    function: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """Layers in order. ``rounding`` says which reading ends and outputs see quantized values.

    ``biases`` replace those of convolutions; a dense layer has none but there.
    """

    layers: tuple[Layer, ...]
    constants: Mapping[str, Array]
    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    rounding: Mapping[Port, Quantizer] = field(default_factory=dict)
    output_rounding: Mapping[str, Quantizer] = field(default_factory=dict)
    biases: Mapping[str, Array] = field(default_factory=dict)

    def __call__(self, sample: Sample) -> dict[str, Array]:
        """Return every tensor; model outputs are rounded where the network says so."""
        values: dict[str, Array] = {**self.constants, **sample}
        for layer in self.layers:
            values.update(self.results(layer, values))
        return self.rounded(values)

    def results(self, layer: Layer, values: Mapping[str, Array]) -> dict[str, Array]:
        """What a layer computes of the tensors that it reads."""
        operands = [self._read(values[t], Port(layer.name, i)) for i, t in enumerate(layer.inputs)]
        bias = self.biases.get(layer.name)
        if bias is not None and layer.function == "convolve":
            operands[2:] = [bias]
        with np.errstate(all="ignore"):
            results = FUNCTIONS[layer.function].compute(*operands)
        if bias is not None and layer.function != "convolve":
            results = results + bias
        return dict(zip(layer.outputs, results if isinstance(results, tuple) else (results,), strict=True))

    def rounded(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Tensors with the model outputs among them rounded."""
        return {
            n: self.output_rounding[n].fake_quantize(v) if n in self.output_rounding else v for n, v in values.items()
        }

    def _read(self, value: Array, port: Port) -> Array:
        quantizer = self.rounding.get(port)
        return value if quantizer is None else quantizer.fake_quantize(value)


@dataclass(frozen=True)
class Function:
    """What the layer computes, and how the adapter describes it to the driver."""

    compute: Callable[..., Any]
    kind: OperationKind
    activations: tuple[int, ...] = (0,)
    weight_axis: int | None = None
    input_channel_axis: int | None = None
    needs_output_quantizer: bool = True


def _convolve(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Convolution [N, C, H, W] * [O, C, K, K] with padding that keeps the size."""
    pad = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True)
    return np.asarray(y if bias is None else y + bias[None, :, None, None], x.dtype)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True), x.dtype)


def _layer_norm(x: Array) -> Array:
    return np.asarray((x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-5), x.dtype)


def _matmul(x: Array, y: Array) -> Array:
    product: Array = np.matmul(x, y)
    return product


_KIND = OperationKind
FUNCTIONS: Mapping[str, Function] = {
    "convolve": Function(_convolve, _KIND.CONVOLUTION, weight_axis=0, input_channel_axis=1),
    "dense": Function(_matmul, _KIND.MATMUL, weight_axis=1, needs_output_quantizer=False),
    "matmul": Function(_matmul, _KIND.MATMUL, activations=(0, 1), needs_output_quantizer=False),
    "add": Function(np.add, _KIND.ELEMENTWISE, activations=(0, 1)),
    "average": Function(lambda x: x.mean((2, 3), dtype=np.float32), _KIND.POOLING),
    "concat": Function(lambda *xs: np.concatenate(xs, 1), _KIND.CONCAT, activations=(0, 1)),
    "relu": Function(lambda x: np.maximum(x, np.float32(0)), _KIND.ACTIVATION),
    "transpose": Function(lambda x: np.swapaxes(x, -1, -2), _KIND.MOVE),
    "flatten": Function(lambda x: x.reshape(len(x), -1), _KIND.MOVE),
    "split": Function(lambda x: tuple(np.split(x, 2, 1)), _KIND.MOVE),
    "softmax": Function(_softmax, _KIND.SOFTMAX),
    "layer_norm": Function(_layer_norm, _KIND.FLOAT),
    "log": Function(lambda x: np.log(x), _KIND.FLOAT),
}


class Piece:
    """The layers of a network between some tensors."""

    def __init__(self, network: Network, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        self.inputs, self.outputs = inputs, outputs
        self._network = network
        writers = {output: layer for layer in network.layers for output in layer.outputs}
        for name in (*inputs, *outputs):
            if name not in writers and name not in network.inputs:
                raise ParameterError(f"{name!r} is no activation")
        known, needed = {*inputs, *network.constants}, set[str]()
        waiting = [name for name in outputs if name not in network.inputs or name not in inputs]
        while waiting:
            name = waiting.pop()
            if name not in writers:
                raise ParameterError(f"{', '.join(outputs)} cannot be computed without {name!r}")
            if writers[name].name not in needed:
                needed.add(writers[name].name)
                waiting += [read for read in writers[name].inputs if read not in known]
        self._layers = [layer for layer in network.layers if layer.name in needed]

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        for name in self.inputs:
            if name not in feed:
                raise DataError(f"the feed has no {name!r}")
        fed = {name: feed[name] for name in self.inputs}
        values = {**self._network.constants, **fed}
        computed = dict(fed)
        for layer in self._layers:
            results = self._network.results(layer, values)
            computed.update(results)
            values.update({name: value for name, value in results.items() if name not in fed})
        return self._network.rounded({name: computed[name] for name in self.outputs})


class NumpyAdapter:
    """The adapter: the driver's view of a :class:`Network`."""

    def __init__(self, network: Network) -> None:
        self._network = network
        probe = network({name: np.ones([d or 1 for d in shape], np.float32) for name, shape in network.inputs.items()})
        dynamic = {name for name, shape in network.inputs.items() if shape[0] is None}
        self._ranks = {name: value.ndim for name, value in probe.items()}
        tensors = {}
        for name, value in probe.items():
            constant = name in network.constants
            shape: tuple[int | None, ...] = value.shape
            if not constant and dynamic and value.ndim:
                shape = (None, *shape[1:])
            tensors[name] = Tensor(name, value.dtype.name, shape, constant)
        self._graph = QuantizationGraph(
            tuple(self._describe(layer) for layer in network.layers), tensors, tuple(network.inputs), network.outputs
        )

    def _describe(self, layer: Layer) -> Operation:
        function = FUNCTIONS[layer.function]
        weight = None
        if function.weight_axis is not None:
            weight = Weight(layer.inputs[1], 1, function.weight_axis)
        return Operation(
            name=layer.name,
            kind=function.kind,
            type=layer.function,
            inputs=layer.inputs,
            outputs=layer.outputs,
            weight=weight,
            bias=layer.inputs[2] if layer.function == "convolve" and len(layer.inputs) > 2 else None,
            activations=tuple(o for o in function.activations if layer.inputs[o] not in self._network.constants),
            input_channel_axis=self._input_channel_axis(layer, function),
            needs_output_quantizer=function.needs_output_quantizer,
        )

    def _input_channel_axis(self, layer: Layer, function: Function) -> int | None:
        if layer.function != "dense":
            return function.input_channel_axis
        return self._ranks[layer.inputs[0]] - 1

    def graph(self) -> QuantizationGraph:
        return self._graph

    def constant(self, tensor: str) -> Array:
        value = self._network.constants[tensor].view()
        value.flags.writeable = False
        return value

    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        values = self._network(sample)
        return {tap: values[tap] for tap in taps}

    def emit(self, plan: QuantizationPlan) -> Network:
        rounding: dict[Port, Quantizer] = {}
        outputs: dict[str, Quantizer] = {}
        for activation in plan.activations:
            assert activation.quantizer is not None
            for place in activation.places:
                rounding.update(dict.fromkeys(place.readers, activation.quantizer))
                if place.model_output:
                    outputs[place.tensor] = activation.quantizer
        for weight in plan.weights:
            assert weight.quantizer is not None
            rounding.update(dict.fromkeys(weight.readers, weight.quantizer))
        biases = {name: np.asarray(bias) for name, bias in plan.biases.items()}
        for layer in self._network.layers:
            read, weight = (rounding.get(Port(layer.name, operand)) for operand in (0, 1))
            if layer.function == "convolve" and len(layer.inputs) > 2 and read is not None and weight is not None:
                # 32-bit integers in units of input scale times weight scale, as integer kernels have them.
                unit = np.asarray(read.scale * weight.scale, np.float32)
                bias = biases.get(layer.name, self._network.constants[layer.inputs[2]])
                if unit.ndim == 0 or unit.shape == bias.shape:
                    biases[layer.name] = np.asarray(np.rint(bias / unit) * unit, np.float32)
        return dataclasses.replace(self._network, rounding=rounding, output_rounding=outputs, biases=biases)

    def runnable(
        self,
        plan: QuantizationPlan | None = None,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Piece:
        return Piece(
            self._network if plan is None else self.emit(plan),
            tuple(self._network.inputs if inputs is None else inputs),
            tuple(self._network.outputs if outputs is None else outputs),
        )


class NetworkBuilder:
    """Writes networks, one layer a line; weights are drawn from a seeded generator."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self._layers: list[Layer] = []
        self._constants: dict[str, Array] = {}
        self._inputs: dict[str, tuple[int | None, ...]] = {}

    def input(self, name: str, *shape: int | None) -> str:
        self._inputs[name] = shape
        return name

    def constant(self, name: str, value: Any) -> str:
        self._constants[name] = np.asarray(value, np.float32)
        return name

    def layer(self, function: str, name: str, *inputs: str, outputs: tuple[str, ...] | None = None) -> str:
        outputs = (f"{name}.out",) if outputs is None else outputs
        self._layers.append(Layer(name, function, inputs, outputs))
        return outputs[0]

    def conv(self, name: str, x: str, channels: tuple[int, int], kernel: int = 3) -> str:
        scale = 1 / np.sqrt(channels[0] * kernel**2)
        weight = self.constant(f"{name}.weight", self.random.normal(0, scale, (*channels[::-1], kernel, kernel)))
        bias = self.constant(f"{name}.bias", self.random.normal(0, 0.1, channels[1]))
        return self.layer("convolve", name, x, weight, bias)

    def dense(self, name: str, x: str, features: tuple[int, int]) -> str:
        weight = self.constant(f"{name}.weight", self.random.normal(0, 1 / np.sqrt(features[0]), features))
        return self.layer("dense", name, x, weight)

    def build(self, *outputs: str) -> Network:
        return Network(tuple(self._layers), self._constants, self._inputs, outputs)


def residual_network(seed: int = 0) -> Network:
    """Convolutions with a residual addition, pooling and a classifier, over [N, 3, 8, 8] images."""
    b = NetworkBuilder(seed)
    x = b.layer("relu", "relu0", b.conv("conv0", b.input("image", None, 3, 8, 8), (3, 8)))
    y = b.layer("relu", "relu1", b.conv("conv1", x, (8, 8)))
    x = b.layer("relu", "relu2", b.layer("add", "add", x, b.conv("conv2", y, (8, 8))))
    return b.build(b.dense("classify", b.layer("average", "average", x), (8, 5)))


def attention_network(seed: int = 0) -> Network:
    """One head of self-attention with a residual stream, over [N, 6, 8] sequences."""
    b = NetworkBuilder(seed)
    x = b.input("sequence", None, 6, 8)
    normed = b.layer("layer_norm", "norm", x)
    q, k, v = (b.dense(name, normed, (8, 8)) for name in "qkv")
    scores = b.layer("softmax", "softmax", b.layer("matmul", "scores", q, b.layer("transpose", "transpose", k)))
    x = b.layer("add", "add", x, b.dense("project", b.layer("matmul", "context", scores, v), (8, 8)))
    return b.build(b.dense("classify", b.layer("layer_norm", "norm2", x), (8, 3)), x)


def images(count: int, seed: int = 1) -> list[Array]:
    return list(np.random.default_rng(seed).normal(0, 1, (count, 1, 3, 8, 8)).astype(np.float32))


def sequences(count: int, seed: int = 1) -> list[Array]:
    return list(np.random.default_rng(seed).normal(0, 1, (count, 1, 6, 8)).astype(np.float32))


def outputs_of(network: Network, sample: Sample) -> dict[str, Array]:
    """Return the outputs of a network."""
    values = network(sample)
    return {name: values[name] for name in network.outputs}
