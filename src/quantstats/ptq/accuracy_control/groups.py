"""Quantizers that only make sense together, and what returns to floating point when they are removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quantstats.ptq.graph import Operation, OperationKind, QuantizationGraph
from quantstats.ptq.plan import ActivationQuantizer, QuantizationPlan

# What stands between an operation and the quantizer of what it computes.
_BEHIND = frozenset({OperationKind.MOVE, OperationKind.ACTIVATION, OperationKind.ELEMENTWISE})
_NEVER_INTEGER = frozenset({OperationKind.MOVE, OperationKind.ACTIVATION, OperationKind.FLOAT, OperationKind.SOFTMAX})


@dataclass(frozen=True, slots=True)
class Group:
    """Quantizers that are removed together.

    :param operations: Names of the operations that return to floating point with them, in topological order. Empty for
        a quantizer that stands behind an operation in floating point, at a model output.
    :param tensors: The quantizers of activations, by :attr:`ActivationQuantizer.tensor`.
    :param clamps: Names of the activation functions that are computed with the operations.
    """

    operations: tuple[str, ...]
    tensors: tuple[str, ...]
    clamps: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The first operation, or tensor where there is none; unique among the groups of a plan."""
        return (self.operations or self.tensors)[0]


def revert(plan: QuantizationPlan, groups: Iterable[Group], *, keep_weights: bool = False) -> QuantizationPlan:
    """Return a plan without the quantizers of some of its groups.

    :param keep_weights: Leave the weights of the operations rounded, see :meth:`QuantizationPlan.without`.
    """
    groups = tuple(groups)
    return plan.without(
        *(name for group in groups for name in (*group.operations, *group.clamps)),
        tensors=frozenset(tensor for group in groups for tensor in group.tensors),
        keep_weights=keep_weights,
        reason="reverted to floating point for the sake of accuracy",
    )


def find_groups(graph: QuantizationGraph, plan: QuantizationPlan) -> tuple[Group, ...]:
    """Return the groups of a plan, in topological order of their first operations.

    An operation needs all its operands quantized, or none; and a quantizer is of use as long as all integer operations
    that read it, directly or through operations that only move data, are there to do so. So groups are the connected
    components of operations and the quantizers, of activations and of shared weights, that they read. A quantizer that
    no integer operation reads exists for the operation that computes the tensor, and belongs to that one.
    """
    order = {operation.name: index for index, operation in enumerate(graph)}
    integer = {
        operation.name
        for operation in graph
        if operation.kind not in _NEVER_INTEGER
        and operation.name in plan.decisions
        and plan.decisions[operation.name].quantized
    }
    sets = _DisjointSets(integer)
    tensors: dict[str, list[str]] = {}  # by a member of the group
    alone: list[str] = []
    for quantizer in plan.activations:
        readers = [port.operation for place in quantizer.places for port in place.readers if port.operation in integer]
        if not readers:
            producer = _producer(graph, quantizer, integer)
            readers = [] if producer is None else [producer]
        if readers:
            sets.join(readers)
            tensors.setdefault(readers[0], []).append(quantizer.tensor)
        else:
            alone.append(quantizer.tensor)
    for weight in plan.weights:
        sets.join([port.operation for port in weight.readers if port.operation in integer])

    members: dict[str, list[str]] = {}
    for operation in graph:
        if operation.name in integer:
            members.setdefault(sets.find(operation.name), []).append(operation.name)
    read: dict[str, list[str]] = {}
    for member, names in tensors.items():
        read.setdefault(sets.find(member), []).extend(names)
    clamps = _clamps(graph, plan, integer)
    rank = {quantizer.tensor: index for index, quantizer in enumerate(plan.activations)}
    groups = [
        Group(
            tuple(operations),
            tuple(sorted(read.get(root, ()), key=rank.__getitem__)),
            tuple(name for operation in operations for name in clamps.get(operation, ())),
        )
        for root, operations in members.items()
    ]
    groups.sort(key=lambda group: order[group.operations[0]])
    return (*groups, *(Group((), (tensor,)) for tensor in alone))


def _producer(graph: QuantizationGraph, quantizer: ActivationQuantizer, integer: set[str]) -> str | None:
    """The integer operation whose result a quantizer rounds, if there is one."""
    operation = graph.producers.get(quantizer.tensor)
    while operation is not None and operation.name not in integer:
        operation = _before(graph, operation) if operation.kind in _BEHIND else None
    return None if operation is None else operation.name


def _before(graph: QuantizationGraph, operation: Operation) -> Operation | None:
    return next((graph.producers[tensor] for tensor in operation.inputs if tensor in graph.producers), None)


def _clamps(graph: QuantizationGraph, plan: QuantizationPlan, integer: set[str]) -> Mapping[str, list[str]]:
    """The activation functions that are computed with each integer operation."""
    found: dict[str, list[str]] = {}
    for operation in graph:
        decision = plan.decisions.get(operation.name)
        if operation.kind is OperationKind.ACTIVATION and decision is not None and decision.quantized:
            owner = _before(graph, operation)
            while owner is not None and owner.name not in integer:
                owner = _before(graph, owner) if owner.kind in _BEHIND else None
            if owner is not None:
                found.setdefault(owner.name, []).append(operation.name)
    return found


class _DisjointSets:
    """Sets of names that grow together; the representative of a set does not depend on the order of joining."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}

    def find(self, name: str) -> str:
        while (parent := self._parent[name]) != name:
            self._parent[name] = self._parent[parent]
            name = self._parent[name]
        return name

    def join(self, names: Iterable[str]) -> None:
        roots = sorted({self.find(name) for name in names})
        for root in roots[1:]:
            self._parent[root] = roots[0]


__all__ = ["Group", "find_groups", "revert"]
