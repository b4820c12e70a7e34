"""The order in which full bias correction runs a model: waves between the operations that are corrected.

A wave ends at operations that are corrected, none of which depends on another. What lies between it and the waves
before is computed in it, so every operation is computed once in all waves together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from quantstats.ptq.graph import Operation, QuantizationGraph


@dataclass(frozen=True, slots=True)
class Wave:
    """Operations that are computed together.

    :param ends: Names of the operations at which it ends, in topological order.
    :param inputs: Tensors that it reads of what was computed before, and of the model's inputs.
    :param outputs: Tensors that it computes and that later waves read, or that its ends write.
    :param alive: Tensors that later waves read, whoever computed them.
    """

    ends: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    alive: tuple[str, ...]


def waves_between(graph: QuantizationGraph, ends: Collection[str]) -> tuple[Wave, ...]:
    """Cut a model behind some operations.

    :param ends: Names of operations. Those on which none of them depends are left out.
    """
    needed = _ancestors(graph, ends)
    waiting = [operation for operation in graph if operation.name in needed]
    available = {*graph.inputs, *(name for name, tensor in graph.tensors.items() if tensor.constant), ""}
    constants = available.difference(graph.inputs)
    waves: list[Wave] = []
    while waiting:
        fresh: set[str] = set()
        computed: list[Operation] = []
        later: list[Operation] = []
        for operation in waiting:
            if not available.issuperset(operation.inputs):
                later.append(operation)
                continue
            computed.append(operation)
            (fresh if operation.name in ends else available).update(operation.outputs)
        available |= fresh
        read_later = {tensor for operation in later for tensor in operation.inputs}
        written = [tensor for operation in computed for tensor in operation.outputs if tensor]
        inside = set(written)
        waves.append(
            Wave(
                ends=tuple(operation.name for operation in computed if operation.name in ends),
                inputs=_ordered(t for o in computed for t in o.inputs if t not in constants and t not in inside),
                outputs=tuple(t for t in written if t in read_later or t in fresh),
                alive=tuple(sorted(t for t in available if t in read_later and t not in constants)),
            )
        )
        waiting = later
    return tuple(waves)


def _ancestors(graph: QuantizationGraph, ends: Collection[str]) -> set[str]:
    """Names of the operations that some operations depend on, and theirs."""
    found: set[str] = set()
    waiting = list(ends)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        producers = (graph.producers.get(tensor) for tensor in graph.operation(name).inputs)
        waiting.extend(producer.name for producer in producers if producer is not None)
    return found


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
