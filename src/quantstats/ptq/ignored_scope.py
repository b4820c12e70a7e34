"""Which operations of a graph an ignored scope keeps in floating point."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from quantstats.errors import IgnoredScopeError
from quantstats.parameters import IgnoredScope, Subgraph
from quantstats.ptq.graph import QuantizationGraph


def ignored_operations(graph: QuantizationGraph, scope: IgnoredScope | None) -> Mapping[str, str]:
    """Return the operations that a scope matches, each with the rule that matched it first, in words for a person.

    Patterns match from the start of a name, as :func:`re.match` does and as nncf applies them. A subgraph is every
    operation on any path from one of its inputs to one of its outputs, both ends included.

    :raises IgnoredScopeError: if ``scope.validate`` and a rule matches nothing; the message names every such rule and
        the closest names that exist.
    """
    if scope is None:
        return {}
    names = [operation.name for operation in graph]
    known = set(names)
    types = {operation.type for operation in graph}
    ignored: dict[str, str] = {}
    unmatched: list[str] = []

    for name in scope.names:
        if name in known:
            ignored.setdefault(name, f"name {name!r}")
        else:
            unmatched.append(f"name {name!r}{_closest(name, names)}")
    for pattern in scope.patterns:
        expression = re.compile(pattern)
        matched = [name for name in names if expression.match(name)]
        for name in matched:
            ignored.setdefault(name, f"pattern {pattern!r}")
        if not matched:
            unmatched.append(f"pattern {pattern!r}{_closest(pattern, names)}")
    for type_ in scope.types:
        if type_ in types:
            for operation in graph:
                if operation.type == type_:
                    ignored.setdefault(operation.name, f"type {type_!r}")
        else:
            unmatched.append(f"type {type_!r}{_closest(type_, types)}")
    for subgraph in scope.subgraphs:
        rule = f"subgraph from {', '.join(subgraph.inputs)} to {', '.join(subgraph.outputs)}"
        missing = [name for name in (*subgraph.inputs, *subgraph.outputs) if name not in known]
        matched = [] if missing else _between(graph, subgraph)
        for name in matched:
            ignored.setdefault(name, rule)
        if missing:
            unmatched.append(f"{rule} (no operation {missing[0]!r}{_closest(missing[0], names)})")
        elif not matched:
            unmatched.append(f"{rule} (no path)")

    if unmatched and scope.validate:
        raise IgnoredScopeError(
            f"ignored scope matches no operation for {'; '.join(unmatched)}; "
            "correct the scope, or set validate=False to let it pass"
        )
    return ignored


def _between(graph: QuantizationGraph, subgraph: Subgraph) -> list[str]:
    """Operations that are reachable from an input and from which an output is reachable."""
    after = set(subgraph.inputs)
    for operation in graph:
        if any(tensor in graph.producers and graph.producers[tensor].name in after for tensor in operation.inputs):
            after.add(operation.name)
    before = set(subgraph.outputs)
    for operation in reversed(graph.operations):
        if any(port.operation in before for tensor in operation.outputs for port in graph.readers.get(tensor, ())):
            before.add(operation.name)
    return [operation.name for operation in graph if operation.name in after and operation.name in before]


def _closest(name: str, candidates: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, sorted(candidates), n=3, cutoff=0.5)
    return f", closest: {', '.join(repr(candidate) for candidate in found)}" if found else ""
