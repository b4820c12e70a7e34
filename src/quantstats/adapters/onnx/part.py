"""A part of a model between given tensors, and what of a plan concerns it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from quantstats.adapters.onnx.cleanup import CleanModel
from quantstats.adapters.onnx.naming import UniqueNames, tensor_names
from quantstats.adapters.onnx.subgraphs import captured_tensors, replace_captured
from quantstats.errors import ParameterError
from quantstats.ptq.graph import Port
from quantstats.ptq.plan import ActivationQuantizer, Place, QuantizationPlan, WeightQuantizer


@dataclass(frozen=True)
class Part:
    """Some operations of a model as a model of their own.

    :param clean: The part. Its tensors have the names of the model's, but for those in ``computed``.
    :param computed: Of the tensors that are fed and computed, the name of the computed one.
    """

    clean: CleanModel
    computed: Mapping[str, str]


def extract_part(clean: CleanModel, inputs: Sequence[str], outputs: Sequence[str], *, in_place: bool = False) -> Part:
    """Return the operations that compute ``outputs`` from ``inputs``.

    :param inputs: Model inputs and computed tensors. Those that the outputs do not need are inputs of the
        part too.
    :param outputs: Computed tensors, at least one; a tensor may be among the inputs too.
    :param in_place: Change the model, which then nobody may use as it was; otherwise a copy is made.
    :raises ParameterError: if a name is neither, or the outputs need a model input that is not among the inputs.
    """
    model = clean.model if in_place else clean.model.clone()
    graph = model.graph
    model_inputs = {value.name: value for value in graph.inputs if value.name}
    values = {value.name: value for node in graph for value in node.outputs if value.name}
    for name in inputs:
        if name not in values and name not in model_inputs:
            raise ParameterError(f"{name!r} is no activation of {clean.source}; take names from its graph")
    for name in outputs:
        if name not in values:
            raise ParameterError(f"{name!r} is not computed by {clean.source}; take names from its graph")

    unique = UniqueNames(tensor_names(graph))
    capturing = [node for node in graph if captured_tensors(node)]
    fed: list[ir.Value] = []
    computed: dict[str, str] = {}
    for name in inputs:
        if name in model_inputs:
            fed.append(model_inputs[name])
            continue
        value = values[name]
        stand_in = ir.Value(name=name, type=value.type, shape=value.shape)
        _replace_reads(capturing, value, stand_in)
        value.name = unique.unique(f"{name}_computed")
        if name in outputs:
            computed[name] = value.name
        fed.append(stand_in)

    results = [values[name] for name in outputs]
    needed = _ancestors(results)
    graph.outputs.clear()
    graph.outputs.extend(results)
    graph.remove([node for node in graph if node not in needed], safe=True)
    missing = sorted(
        name for name, value in model_inputs.items() if name not in inputs and _is_read(value, needed) and name
    )
    if missing:
        raise ParameterError(
            f"{', '.join(map(repr, outputs))} cannot be computed from {', '.join(map(repr, inputs)) or 'nothing'} "
            f"alone; the model input {missing[0]!r} is needed too"
        )
    graph.inputs.clear()
    graph.inputs.extend(fed)
    for name, value in list(graph.initializers.items()):
        if not value.uses():
            del graph.initializers[name]
    return Part(dataclasses.replace(clean, model=model), computed)


def restrict_plan(plan: QuantizationPlan, operations: Collection[str], outputs: Collection[str]) -> QuantizationPlan:
    """Return what of a plan acts on some operations, and on the outputs of the whole model that are given."""

    def acting(place: Place) -> Place:
        return dataclasses.replace(
            place,
            readers=_within(place.readers, operations),
            model_output=place.model_output and place.tensor in outputs,
        )

    activations: list[ActivationQuantizer] = []
    for activation in plan.activations:
        places = tuple(place for place in map(acting, activation.places) if place.readers or place.model_output)
        if places:
            activations.append(dataclasses.replace(activation, places=places))
    weights: list[WeightQuantizer] = []
    for weight in plan.weights:
        readers = _within(weight.readers, operations)
        if readers:
            weights.append(dataclasses.replace(weight, readers=readers))
    return dataclasses.replace(
        plan,
        activations=tuple(activations),
        weights=tuple(weights),
        biases={name: bias for name, bias in plan.biases.items() if name in operations},
    )


def _within(readers: Iterable[Port], operations: Collection[str]) -> tuple[Port, ...]:
    return tuple(port for port in readers if port.operation in operations)


def _replace_reads(capturing: Iterable[ir.Node], old: ir.Value, new: ir.Value) -> None:
    for node in capturing:
        if any(value is old for value in captured_tensors(node)):
            replace_captured(node, old, new)
    for node, index in tuple(old.uses()):
        node.replace_input_with(index, new)


def _ancestors(values: Iterable[ir.Value]) -> set[ir.Node]:
    """The nodes that compute some values, and what those read."""
    found: set[ir.Node] = set()
    waiting = list(values)
    while waiting:
        node = waiting.pop().producer()
        if node is None or node in found:
            continue
        found.add(node)
        waiting.extend(value for value in (*node.inputs, *captured_tensors(node)) if value is not None)
    return found


def _is_read(value: ir.Value, nodes: Collection[ir.Node]) -> bool:
    return any(value in node.inputs or value in captured_tensors(node) for node in nodes)
