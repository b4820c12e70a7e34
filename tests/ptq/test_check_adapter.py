"""The adapter check passes a right adapter and tells what is wrong with each wrong one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from quantstats.adapters.protocol import Array, Extrema, Sample
from quantstats.adapters.testing import AdapterError, check_adapter
from quantstats.ptq.graph import Operation, OperationKind, QuantizationGraph, Weight
from quantstats.ptq.plan import QuantizationPlan

from .framework import (
    Network,
    NetworkBuilder,
    NumpyAdapter,
    Piece,
    attention_network,
    images,
    outputs_of,
    residual_network,
    sequences,
)


def test_right_adapters_pass() -> None:
    check_adapter(NumpyAdapter(residual_network()), images(2), run_emitted=outputs_of)
    check_adapter(NumpyAdapter(attention_network()), sequences(2), run_emitted=outputs_of)


def test_a_network_with_nothing_to_quantize_passes() -> None:
    b = NetworkBuilder()
    network = b.build(b.layer("softmax", "softmax", b.input("x", None, 3)))
    check_adapter(NumpyAdapter(network), [np.ones((1, 3), np.float32)], run_emitted=outputs_of)


class Wrong(NumpyAdapter):
    """An adapter of the residual network whose graph is edited."""

    def __init__(self, edit: Callable[[QuantizationGraph], QuantizationGraph] = lambda graph: graph) -> None:
        super().__init__(residual_network())
        self._graph = edit(self._graph)


def with_operation(name: str, **changes: Any) -> Callable[[QuantizationGraph], QuantizationGraph]:
    def edit(graph: QuantizationGraph) -> QuantizationGraph:
        operations = tuple(dataclasses.replace(o, **changes) if o.name == name else o for o in graph)
        return QuantizationGraph(operations, graph.tensors, graph.inputs, graph.outputs)

    return edit


def with_tensor(name: str, **changes: Any) -> Callable[[QuantizationGraph], QuantizationGraph]:
    def edit(graph: QuantizationGraph) -> QuantizationGraph:
        tensors = {**graph.tensors, name: dataclasses.replace(graph.tensors[name], **changes)}
        return QuantizationGraph(graph.operations, tensors, graph.inputs, graph.outputs)

    return edit


def reordered(graph: QuantizationGraph) -> QuantizationGraph:
    return QuantizationGraph(graph.operations[::-1], graph.tensors, graph.inputs, graph.outputs)


def with_outputs(*outputs: str) -> Callable[[QuantizationGraph], QuantizationGraph]:
    return lambda graph: QuantizationGraph(graph.operations, graph.tensors, graph.inputs, outputs)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (reordered, "order is not topological"),
        (with_outputs("nowhere"), "output 'nowhere' is written by no operation"),
        (with_outputs(), "the graph has no outputs"),
        (with_operation("conv1", inputs=("relu0.out", "absent")), "conv1' reads 'absent', which is not among"),
        (
            with_operation("conv1", outputs=("relu0.out",)),
            "writes 'relu0.out', which is an input, a constant or written",
        ),
        (with_operation("conv1", weight=Weight("conv1.weight", 0, 0)), "weight 'conv1.weight' is not its operand 0"),
        (with_operation("conv1", weight=Weight("relu0.out", 0, 0)), "weight 'relu0.out' is not a constant"),
        (with_operation("conv1", weight=Weight("conv1.weight", 1, 4)), "channel axis of weight 'conv1.weight' is 4"),
        (with_operation("conv1", activations=(0, 1)), "its weight is an activation operand as well"),
        (with_operation("conv1", activations=(5,)), "activation operand 5 does not exist"),
        (with_operation("conv1", activations=()), "names no activation operands"),
        (with_operation("conv1", bias="relu0.out"), "bias 'relu0.out' is not a constant"),
        (with_operation("conv1", input_channel_axis=7), "input channel axis of 'relu0.out' is 7"),
        (with_operation("conv1", type=""), "has an empty name or type"),
        (
            with_operation("relu0", kind=OperationKind.MOVE),
            "'relu0' is MOVE, but 'relu0.out' has values not in its input",
        ),
        (
            with_tensor("conv1.weight", shape=(8, 8, 3)),
            r"constant\('conv1.weight'\) has shape .* stated is \(8, 8, 3\)",
        ),
        (
            with_tensor("conv1.weight", dtype="float16"),
            r"constant\('conv1.weight'\) has dtype float32, stated is float16",
        ),
        (with_tensor("conv1.out", shape=(None, 9, 8, 8)), r"tap 'conv1.out' has shape \(1, 8, 8, 8\)"),
        (with_tensor("conv1.out", dtype="float64"), "tap 'conv1.out' has dtype float32, stated is float64"),
    ],
)
def test_wrong_graph(edit: Callable[[QuantizationGraph], QuantizationGraph], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        check_adapter(Wrong(edit), images(1))


class Unstable(Wrong):
    def graph(self) -> QuantizationGraph:
        self._graph = with_operation(self._graph.operations[0].name, type=self._graph.operations[0].type + "!")(
            self._graph
        )
        return self._graph


class Writable(Wrong):
    def constant(self, tensor: str) -> Array:
        return super().constant(tensor).copy()


class Forgetful(Wrong):
    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        return {tap: value for tap, value in super().run(sample, taps).items() if tap != "add.out"}


class Generous(Wrong):
    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        return super().run(sample, [*taps, "add.out"])


class Random(Wrong):
    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        noise = np.float32(np.random.default_rng(len(taps)).normal())
        return {tap: value + noise if tap == "image" else value for tap, value in super().run(sample, taps).items()}


class Careless(Wrong):
    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        sample["image"][:] = 0
        return super().run(sample, taps)


class Mute(Wrong):
    def emit(self, plan: QuantizationPlan) -> Any:
        return None


class Inexact(Wrong):
    """Changes the model even where the plan has nothing to say."""

    def emit(self, plan: QuantizationPlan) -> Network:
        emitted = super().emit(plan)
        constants = {name: value * np.float32(1.01) for name, value in emitted.constants.items()}
        return dataclasses.replace(emitted, constants=constants)


class Renaming(Wrong):
    def emit(self, plan: QuantizationPlan) -> Network:
        return dataclasses.replace(super().emit(plan), outputs=("add.out",))


class Editing(Wrong):
    """Emits by changing itself."""

    def emit(self, plan: QuantizationPlan) -> Network:
        emitted = super().emit(plan)
        self._network = emitted
        return emitted


class Whole(Wrong):
    """Ignores where it is to be cut."""

    def runnable(
        self,
        plan: QuantizationPlan | None = None,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Piece:
        return super().runnable(plan)


class Unquantized(Wrong):
    """Runs the floating-point model whatever the plan."""

    def runnable(
        self,
        plan: QuantizationPlan | None = None,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Piece:
        return super().runnable(None, inputs=inputs, outputs=outputs)


class Shifted(Wrong):
    """Adds to what is fed at a cut."""

    def runnable(
        self,
        plan: QuantizationPlan | None = None,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Any:
        piece = super().runnable(plan, inputs=inputs, outputs=outputs)
        if inputs is None or "image" in inputs:
            return piece
        return lambda feed: piece({name: value + np.float32(1) for name, value in feed.items()})


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (Unstable, "graph\\(\\) returns a different graph at the second call"),
        (Writable, "can be written to"),
        (Forgetful, r"run\(\) does not return exactly the taps: missing \['add.out'\]"),
        (Generous, r"run\(\) without taps returns something"),
        (Random, r"run\(\) with fewer taps gives other values for 'image'"),
        (Careless, r"run\(\) changes its sample"),
        (Mute, r"emit\(\) of a plan without quantizers returns None"),
        (Inexact, "model emitted from an empty plan differs"),
        (Renaming, r"other outputs: missing \['classify.out'\], not asked for \['add.out'\]"),
        (Editing, r"run\(\) after emit\(\) gives other values"),
        (
            Whole,
            r"runnable\(\) takes {'inputs': \['no tensor has this name'\]} for tensors; it must raise ParameterError",
        ),
        (Unquantized, r"runnable\(\) of a plan gives other values for 'classify.out'"),
        (Shifted, r"runnable\(\), cut at conv0.out, gives other values for 'classify.out'"),
    ],
)
def test_wrong_behaviour(adapter: type[Wrong], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        check_adapter(adapter(), images(2), run_emitted=outputs_of)


def test_names_must_be_unique() -> None:
    operation = Operation("same", OperationKind.FLOAT, "Softmax", ("x",), ("y",))
    with pytest.raises(ValueError, match="operation name 'same' is not unique"):
        QuantizationGraph((operation, dataclasses.replace(operation, outputs=("z",))), {}, ("x",), ("y",))


class Reducing(NumpyAdapter):
    """Offers reductions; a test makes one of them wrong."""

    def __init__(self, spoil: Callable[[Extrema], Extrema] = lambda found: found, *, log: bool = False) -> None:
        b = NetworkBuilder()
        x = b.conv("conv", b.input("image", None, 3, 8, 8), (3, 4))
        super().__init__(b.build(b.conv("last", b.layer("log", "log", x), (4, 2))) if log else residual_network())
        self._spoil = spoil

    def run_reduced(
        self, sample: Sample, taps: Sequence[str], reductions: Mapping[str, tuple[int, ...] | None]
    ) -> tuple[Mapping[str, Array], Mapping[str, Extrema]]:
        values = self.run(sample, [*taps, *reductions])
        extrema = {
            name: Extrema(
                values[name].min(axes, keepdims=True),
                values[name].max(axes, keepdims=True),
                bool(np.isfinite(values[name]).all()),
            )
            for name, axes in reductions.items()
        }
        return {name: values[name] for name in taps}, {name: self._spoil(found) for name, found in extrema.items()}


def test_right_reductions_pass() -> None:
    check_adapter(Reducing(), images(2), run_emitted=outputs_of)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found._replace(minimum=np.nextafter(found.minimum, np.float32(0))),
        lambda found: found._replace(maximum=found.minimum),
        lambda found: found._replace(maximum=found.maximum.ravel()[:1]),
    ],
    ids=["minimum", "maximum", "axes"],
)
def test_wrong_reductions(spoil: Callable[[Extrema], Extrema]) -> None:
    with pytest.raises(AdapterError, match=r"run_reduced\(\) gives other extrema for"):
        check_adapter(Reducing(spoil), images(1))


def test_reductions_that_hide_nan() -> None:
    adapter = Reducing(lambda found: found._replace(finite=True), log=True)
    with pytest.raises(AdapterError, match=r"run_reduced\(\) calls 'log.out' finite, but it holds NaN or Inf"):
        check_adapter(adapter, images(1))
