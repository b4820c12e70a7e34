"""What nncf does to graphs before it calibrates, without the parts that cannot change the result.

- Shape inference looks at the constants that are shapes, axes and the like, which are integers or few. nncf infers the
  shapes of a model several times, and each time onnx writes and parses it twice; here that is done without the values
  of its large floating-point constants.
- The search for patterns of operations passes over those of which the graph lacks an operation or a connection. nncf
  has about 200 patterns, of which a network has a few.
- A pattern that joins the others is added to their graph; nncf copies that graph each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

# Elements of a constant from which on its values are left out; scales of Resize, which are looked at, are fewer.
_LARGE = 1024


def served() -> Iterator[tuple[Any, str, Any]]:
    """What of nncf is changed, the name of an attribute of it, and what takes its place."""
    from nncf.common import insertion_point_graph
    from nncf.common.graph import graph
    from nncf.common.graph.patterns import GraphPattern

    name = "_unite_with_copy_of_graph"
    yield GraphPattern, name, _unite_in_place(GraphPattern.__dict__[name])
    for module in (graph, insertion_point_graph):
        name = "find_subgraphs_matching_pattern"
        yield module, name, _among_possible_patterns(getattr(module, name))
    try:
        from nncf.onnx.graph import model_transformer, nncf_graph_builder, passes
    except ImportError:  # nncf without ONNX
        return
    for module in (model_transformer, nncf_graph_builder, passes):
        yield module, "onnx", _Onnx(module.onnx)


class _Onnx:
    """The package onnx, but for shape inference."""

    def __init__(self, package: Any) -> None:
        self._package = package
        self.shape_inference = _ShapeInference(package)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._package, name)


class _ShapeInference:
    """The module ``onnx.shape_inference``, but for the values of large constants."""

    def __init__(self, package: Any) -> None:
        self._package = package

    def __getattr__(self, name: str) -> Any:
        return getattr(self._package.shape_inference, name)

    def infer_shapes(self, model: Any, *arguments: Any, **options: Any) -> Any:
        """What onnx returns: a copy of the model with the types and shapes that follow from its inputs."""
        infer = self._package.shape_inference.infer_shapes
        if arguments or options or not isinstance(model, self._package.ModelProto):
            return infer(model, *arguments, **options)
        light = _without_values(model)
        if light is None:
            return infer(model)
        inferred = infer(light)
        for tensor, complete in zip(inferred.graph.initializer, model.graph.initializer, strict=True):
            if _is_left_out(complete):
                tensor.CopyFrom(complete)
        return inferred


def _is_left_out(tensor: Any) -> bool:
    # FLOAT, FLOAT16 and DOUBLE of onnx.TensorProto.DataType.
    return tensor.data_type in (1, 10, 11) and tensor.HasField("raw_data") and math.prod(tensor.dims) >= _LARGE


def _without_values(model: Any) -> Any:
    """A copy without the values that are left out; None if there are none, or if it would not be complete."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    if not any(map(_is_left_out, model.graph.initializer)):
        return None
    if len(UnknownFieldSet(model)) or len(UnknownFieldSet(model.graph)):
        return None
    light = type(model)()
    _copy_fields(model, light, but="graph")
    _copy_fields(model.graph, light.graph, but="initializer")
    for tensor in model.graph.initializer:
        if _is_left_out(tensor):
            _copy_fields(tensor, light.graph.initializer.add(), but="raw_data")
        else:
            light.graph.initializer.add().CopyFrom(tensor)
    return light


def _copy_fields(message: Any, to: Any, *, but: str) -> None:
    """Copy all fields of a protobuf message except one, whose value is not even looked at."""
    for field in message.DESCRIPTOR.fields:
        if field.name == but:
            continue
        try:
            present = message.HasField(field.name)
        except ValueError:  # a repeated field
            getattr(to, field.name).MergeFrom(getattr(message, field.name))
            continue
        if present and field.message_type is not None:
            getattr(to, field.name).CopyFrom(getattr(message, field.name))
        elif present:
            setattr(to, field.name, getattr(message, field.name))


def _unite_in_place(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def unite(self: Any, graph: Any) -> Any:
        # nncf's own gives the nodes new names; united with nothing it takes no time.
        alone = type(self)()
        alone._node_counter = self._node_counter
        copied = original(alone, graph)
        if not copied.nodes.isdisjoint(self._graph.nodes):
            return original(self, graph)  # an error
        self._node_counter = alone._node_counter
        self._graph.add_nodes_from(copied.nodes(data=True))
        several = {"keys": True} if copied.is_multigraph() else {}
        self._graph.add_edges_from(copied.edges(data=True, **several))
        return copied

    return unite


def _among_possible_patterns(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def find_subgraphs_matching_pattern(graph: Any, pattern_graph: Any, strict: bool = True) -> Any:
        return original(graph, _PossiblePatterns(pattern_graph, graph), strict)

    return find_subgraphs_matching_pattern


class _PossiblePatterns:
    """A ``GraphPattern`` of nncf, but for the patterns that are nowhere in a graph.

    A pattern is somewhere only if each of its nodes, by itself, matches a node of the graph, and each of its edges an
    edge between two such nodes.
    """

    def __init__(self, pattern_graph: Any, graph: Any) -> None:
        self._pattern_graph = pattern_graph
        self._graph = graph
        self._matching: dict[Any, set[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pattern_graph, name)

    def get_weakly_connected_subgraphs(self) -> list[Any]:
        """The patterns, in their order."""
        return [pattern for pattern in self._pattern_graph.get_weakly_connected_subgraphs() if self._may_match(pattern)]

    def _may_match(self, pattern: Any) -> bool:
        nodes = {node: self._nodes_like(attributes) for node, attributes in pattern.nodes(data=True)}
        return all(nodes.values()) and all(
            any(not nodes[last].isdisjoint(self._graph.succ[node]) for node in nodes[first])
            for first, last in pattern.edges()
        )

    def _nodes_like(self, attributes: Any) -> set[Any]:
        """The nodes of the graph that match a node of a pattern."""
        from nncf.common.graph import graph_matching

        key = tuple(
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in attributes.items()
            if name not in graph_matching.ATTRS_TO_SKIP
        )
        found = self._matching.get(key)
        if found is None:
            match = graph_matching._are_nodes_matched
            found = {node for node, described in self._graph.nodes(data=True) if match(described, attributes)}
            self._matching[key] = found
        return found
