"""What holds for the placement on any graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import assume, given
from hypothesis import strategies as st

from quantstats.errors import NothingToQuantizeError
from quantstats.ptq.graph import OperationKind, Port, QuantizationGraph
from quantstats.ptq.placement import place
from quantstats.ptq.plan import QuantizationPlan

from .graphs import GraphBuilder

KINDS = ("conv", "linear", "matmul", "add", "shift", "concat", "pool", "relu", "move", "split", "float")
FOLLOWERS = (OperationKind.ELEMENTWISE, OperationKind.POOLING, OperationKind.CONCAT)


@st.composite
def graphs(draw: st.DrawFn) -> QuantizationGraph:
    """Graphs of up to a dozen operations of all kinds, with shared weights, constants, splits and several outputs."""
    g = GraphBuilder()
    tensors = [g.input("x"), g.input("y")]
    for i in range(draw(st.integers(1, 12))):
        name = f"op{i}"
        kind = draw(st.sampled_from(KINDS))
        a = draw(st.sampled_from(tensors))
        if kind == "conv":
            weight, axis = draw(st.sampled_from([None, "shared"])), draw(st.sampled_from([0, 1]))
            tensors.append(g.conv(name, a, weight=weight, axis=axis))
        elif kind == "linear":
            tensors.append(g.linear(name, a, needs_output=draw(st.booleans())))
        elif kind in ("matmul", "add", "concat"):
            of_two: dict[str, Callable[..., str]] = {"matmul": g.matmul, "add": g.elementwise, "concat": g.concat}
            tensors.append(of_two[kind](name, a, draw(st.sampled_from(tensors))))
        elif kind == "shift":
            tensors.append(g.elementwise(name, a, g.constant(f"{name}.constant")))
        elif kind == "split":
            outputs = (f"{name}.0", f"{name}.1")
            g.move(name, a, type="Split", outputs=outputs)
            tensors.extend(outputs)
        else:
            of_one: dict[str, Callable[..., str]] = {"pool": g.pool, "relu": g.relu, "move": g.move, "float": g.float}
            tensors.append(of_one[kind](name, a))
    g.output(*draw(st.lists(st.sampled_from(tensors[2:]), min_size=1, max_size=3, unique=True)))
    return g.build()


def placed(graph: QuantizationGraph, **options: bool) -> QuantizationPlan:
    try:
        return place(graph, **options)  # type: ignore[arg-type]
    except NothingToQuantizeError:
        assume(False)
        raise


def quantized_ports(plan: QuantizationPlan) -> list[Port]:
    return [port for a in plan.activations for p in a.places for port in p.readers]


@given(graphs(), st.booleans())
def test_places_point_at_what_exists_and_never_twice(graph: QuantizationGraph, quantize_outputs: bool) -> None:
    plan = placed(graph, quantize_outputs=quantize_outputs)
    assert max(Counter(quantized_ports(plan)).values(), default=0) <= 1
    tensors = [p.tensor for a in plan.activations for p in a.places]
    assert len(set(tensors)) == len(tensors)
    for activation in plan.activations:
        assert activation.tensor == activation.places[0].tensor
        for p in activation.places:
            assert p.readers or p.model_output
            assert all(port in graph.readers[p.tensor] for port in p.readers)
            assert not p.model_output or p.tensor in graph.outputs


@given(graphs())
def test_a_quantized_operation_reads_only_quantized_operands(graph: QuantizationGraph) -> None:
    plan = placed(graph)
    ports = set(quantized_ports(plan))
    computing = (
        operation for operation in graph if operation.kind not in (OperationKind.MOVE, OperationKind.ACTIVATION)
    )
    for operation in computing:
        if plan.decisions[operation.name].quantized:
            assert {Port(operation.name, operand) for operand in operation.activations} <= ports
            if operation.kind in FOLLOWERS:  # their constants, too
                assert {Port(operation.name, operand) for operand in range(len(operation.inputs))} <= ports


@given(graphs())
def test_floating_point_operations_read_rounded_values_only_behind_an_integer_kernel(graph: QuantizationGraph) -> None:
    plan = placed(graph)
    for activation in plan.activations:
        producer = graph.producers.get(activation.tensor)
        while producer is not None and producer.kind is OperationKind.ACTIVATION:
            producer = graph.producers.get(producer.inputs[0])
        forced = producer is not None and producer.needs_output_quantizer and plan.decisions[producer.name].quantized
        for p in activation.places:
            for port in p.readers:
                reader = graph.operation(port.operation)
                assert forced or reader.kind is OperationKind.MOVE or plan.decisions[reader.name].quantized
            assert forced or not p.model_output


@given(graphs())
def test_an_operation_that_needs_a_quantized_output_has_one(graph: QuantizationGraph) -> None:
    """Either every reader of its output reads it quantized, or a clamp is its only reader and the same holds there."""
    plan = placed(graph)
    places = {p.tensor: p for a in plan.activations for p in a.places}
    for operation in graph:
        if not operation.needs_output_quantizer or not plan.decisions[operation.name].quantized:
            continue
        tensor = operation.outputs[0]
        while tensor not in places and (ports := graph.readers.get(tensor, ())):
            assert tensor not in graph.outputs
            (port,) = ports
            assert graph.operation(port.operation).kind is OperationKind.ACTIVATION
            tensor = graph.operation(port.operation).outputs[0]
        if tensor in places:
            assert places[tensor].readers == graph.readers.get(tensor, ())
            assert places[tensor].model_output == (tensor in graph.outputs)
        else:
            assert tensor not in graph.outputs  # a dead end of the graph


@given(graphs())
def test_a_move_that_reads_integers_writes_them_with_the_same_quantizer(graph: QuantizationGraph) -> None:
    plan = placed(graph)
    for activation in plan.activations:
        tensors = {p.tensor for p in activation.places}
        for tensor in tensors - {activation.tensor}:
            producer = graph.producers[tensor]
            assert producer.kind is OperationKind.MOVE
            assert producer.inputs[0] in tensors
            for output in producer.outputs:
                assert output in tensors or (output not in graph.readers and output not in graph.outputs)


@given(graphs())
def test_followers_lie_before_a_quantized_operation(graph: QuantizationGraph) -> None:
    plan = placed(graph)
    places = {p.tensor for a in plan.activations for p in a.places}
    for operation in graph:
        if operation.kind in FOLLOWERS and plan.decisions[operation.name].quantized:
            reached, waiting = False, [operation.outputs[0]]
            while waiting:
                for port in graph.readers.get(waiting.pop(), ()):
                    reader = graph.operation(port.operation)
                    if reader.kind in (OperationKind.MOVE, OperationKind.ACTIVATION):
                        waiting.extend(reader.outputs)
                    elif plan.decisions[reader.name].quantized:
                        reached = True
            assert reached
            assert places


@given(graphs())
def test_weights_are_those_of_quantized_operations(graph: QuantizationGraph) -> None:
    plan = placed(graph)
    wanted = {
        Port(operation.name, operation.weight.operand): (operation.weight.tensor, operation.weight.channel_axis)
        for operation in graph
        if operation.weight is not None and plan.decisions[operation.name].quantized
    }
    found = {port: (w.tensor, w.channel_axis) for w in plan.weights for port in w.readers}
    assert found == wanted
    keys = [(w.tensor, w.channel_axis) for w in plan.weights]
    assert len(set(keys)) == len(keys)


@given(graphs(), st.booleans())
def test_placement_is_a_function_of_the_graph(graph: QuantizationGraph, quantize_outputs: bool) -> None:
    first = placed(graph, quantize_outputs=quantize_outputs)
    copy = QuantizationGraph(graph.operations, dict(graph.tensors), graph.inputs, graph.outputs)
    assert place(copy, quantize_outputs=quantize_outputs) == first


@given(graphs())
def test_every_operation_that_computes_has_a_decision_with_a_reason(graph: QuantizationGraph) -> None:
    plan = placed(graph)
    assert set(plan.decisions) == {operation.name for operation in graph if operation.kind is not OperationKind.MOVE}
    assert all(decision.reason for decision in plan.decisions.values())
