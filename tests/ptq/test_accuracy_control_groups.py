"""Which quantizers are removed together, and what a plan is without them."""

from __future__ import annotations

import numpy as np
import pytest

from quantstats.adapters.testing import check_adapter
from quantstats.advanced_parameters import AdvancedQuantizationParameters
from quantstats.parameters import ModelType
from quantstats.ptq.accuracy_control.groups import find_groups, revert
from quantstats.ptq.placement import place
from quantstats.ptq.quantize import make_plan

from .framework import NumpyAdapter, attention_network, images, outputs_of, residual_network, sequences
from .graphs import GraphBuilder


def groups_of(b: GraphBuilder, **options: bool) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    graph = b.build()
    return [(group.operations, group.tensors) for group in find_groups(graph, place(graph, **options))]


def test_a_chain_has_a_group_for_every_operation() -> None:
    b = GraphBuilder()
    x = b.relu("relu", b.conv("a", b.input("x")))
    b.output(b.linear("c", b.linear("b", x)))
    assert groups_of(b) == [(("a",), ("x",)), (("b",), ("relu.out",)), (("c",), ("b.out",))]


def test_operations_that_read_one_quantizer_go_together() -> None:
    b = GraphBuilder()
    x = b.conv("a", b.input("x"))
    b.output(b.linear("left", x), b.linear("right", x))
    assert groups_of(b) == [(("a",), ("x",)), (("left", "right"), ("a.out",))]


def test_all_operands_of_an_operation_go_together() -> None:
    """The addition ties the quantizer of the branch to that of the shortcut, and so to what reads the shortcut."""
    b = GraphBuilder()
    x = b.conv("stem", b.input("x"))
    branch = b.conv("two", b.conv("one", x))
    b.output(b.linear("head", b.elementwise("add", x, branch)))
    assert groups_of(b) == [
        (("stem",), ("x",)),
        (("one", "add"), ("stem.out", "two.out")),
        (("two",), ("one.out",)),
        (("head",), ("add.out",)),
    ]


def test_data_movement_ties_readers_together() -> None:
    b = GraphBuilder()
    x = b.conv("a", b.input("x"))
    b.output(b.linear("left", b.move("reshape", x)), b.linear("right", b.move("transpose", x)))
    assert groups_of(b) == [(("a",), ("x",)), (("left", "right"), ("a.out",))]


def test_a_shared_weight_ties_its_readers_together() -> None:
    b = GraphBuilder()
    b.output(b.linear("one", b.input("x"), weight="w"), b.linear("two", b.input("y"), weight="w"))
    assert groups_of(b) == [(("one", "two"), ("x", "y"))]


def test_a_quantizer_that_nobody_reads_as_integers_belongs_to_its_producer() -> None:
    b = GraphBuilder()
    x = b.relu("relu", b.conv("a", b.input("x")))
    b.output(b.float("softmax", x))
    assert groups_of(b) == [(("a",), ("x", "relu.out"))]


def test_a_quantized_output_of_a_floating_point_operation_stands_alone() -> None:
    b = GraphBuilder()
    b.output(b.float("softmax", b.linear("a", b.input("x"))))
    assert groups_of(b, quantize_outputs=True) == [(("a",), ("x",)), ((), ("softmax.out",))]


def test_names_are_unique_and_every_quantizer_is_in_one_group() -> None:
    for network, model_type in ((residual_network(), None), (attention_network(), ModelType.TRANSFORMER)):
        graph = NumpyAdapter(network).graph()
        plan = place(graph, model_type=model_type)
        groups = find_groups(graph, plan)
        assert len({group.name for group in groups}) == len(groups)
        assert sorted(tensor for group in groups for tensor in group.tensors) == sorted(
            activation.tensor for activation in plan.activations
        )
        operations = [operation for group in groups for operation in group.operations]
        assert len(operations) == len(set(operations))
        assert {port.operation for weight in plan.weights for port in weight.readers} <= set(operations)


@pytest.mark.parametrize("which", [residual_network, attention_network])
def test_a_plan_without_all_groups_is_the_floating_point_model(which: object) -> None:
    network = residual_network() if which is residual_network else attention_network()
    data = images(4) if which is residual_network else sequences(4)
    adapter = NumpyAdapter(network)
    plan = make_plan(adapter, data, progress=False)
    groups = find_groups(adapter.graph(), plan)
    reverted = revert(plan, groups)
    assert (reverted.activations, reverted.weights, dict(reverted.biases)) == ((), (), {})
    assert not any(decision.quantized for decision in reverted.decisions.values())
    (name,) = network.inputs
    for x in data:
        for output, value in outputs_of(network, {name: x}).items():
            np.testing.assert_array_equal(adapter.emit(reverted)({name: x})[output], value)


def test_a_reverted_group_leaves_the_others_as_they_are() -> None:
    adapter = NumpyAdapter(residual_network())
    plan = make_plan(adapter, images(4), progress=False)
    groups = find_groups(adapter.graph(), plan)
    for group in groups:
        reverted = revert(plan, [group])
        assert [a for a in plan.activations if a.tensor not in group.tensors] == list(reverted.activations)
        kept = [w for w in plan.weights if w.readers[0].operation not in group.operations]
        assert kept == list(reverted.weights)
        assert {name for name in plan.biases if name not in group.operations} == set(reverted.biases)
        changed = {name for name in plan.decisions if plan.decisions[name] != reverted.decisions[name]}
        assert changed == {*group.operations, *group.clamps}
        rounded = revert(plan, [group], keep_weights=True)
        assert rounded.weights == plan.weights
        assert rounded.activations == reverted.activations
        # Reverting in two steps is reverting at once.
        other = groups[0] if group is not groups[0] else groups[-1]
        assert revert(reverted, [other]) == revert(plan, [group, other])


def test_emitted_models_of_reverted_plans_run() -> None:
    """What the check of adapters does with every operation reverted by itself: the model still has its outputs."""
    network = residual_network()
    adapter = NumpyAdapter(network)
    check_adapter(adapter, images(2), run_emitted=outputs_of)
    plan = make_plan(adapter, images(4), advanced_parameters=AdvancedQuantizationParameters(), progress=False)
    for group in find_groups(adapter.graph(), plan):
        emitted = adapter.emit(revert(plan, [group]))
        assert not {port.operation for port in emitted.rounding} & set(group.operations)
        assert np.isfinite(emitted({"image": images(1)[0]})["classify.out"]).all()
