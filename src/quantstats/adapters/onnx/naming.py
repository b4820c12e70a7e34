"""Names: those that a model has, and those that are not taken yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir


class UniqueNames:
    """Hands out names; the same requests in the same order always give the same names."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def unique(self, wanted: str) -> str:
        """Return ``wanted``, or it with the first free number appended, and take it."""
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


def tensor_names(graph: ir.Graph) -> Iterator[str]:
    """Names of all tensors of a graph and of the graphs inside it."""
    for inner in (graph, *graph.subgraphs()):
        for value in (*inner.inputs, *inner.initializers.values()):
            if value.name:
                yield value.name
        for node in inner:
            yield from (output.name for output in node.outputs if output.name)


def node_names(graph: ir.Graph) -> Iterator[str]:
    """Names of all nodes of a graph and of the graphs inside it."""
    yield from (node.name for node in graph.all_nodes() if node.name)
