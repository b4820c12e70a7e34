"""What the subgraphs of a node (If, Loop, Scan) read of the graph around them.

A captured tensor is an operand without a place among the node's inputs. The driver sees captured tensors as operands
behind the inputs, in the order of :func:`captured_tensors`.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def captured_tensors(node: ir.Node) -> list[ir.Value]:
    """Tensors of the node's own graph that its subgraphs read, each once, in the order of their first use."""
    captured: dict[ir.Value, None] = {}
    for graph in _subgraphs(node):
        for inner in graph:
            captured.update((value, None) for value in inner.inputs if value is not None and value.graph is node.graph)
        captured.update((value, None) for value in graph.outputs if value.graph is node.graph)
    return list(captured)


def replace_captured(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    """Let the subgraphs of a node read another tensor."""
    for graph in _subgraphs(node):
        for inner in graph:
            for index, value in enumerate(inner.inputs):
                if value is old:
                    inner.replace_input_with(index, new)
        for index, value in enumerate(graph.outputs):
            if value is old:
                graph.outputs[index] = new


def _subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs inside a node, at any depth."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = [attribute.as_graph()]
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = list(attribute.as_graphs())
        else:
            continue
        for graph in graphs:
            yield graph
            yield from graph.subgraphs()
