"""Where quantizers go, on graphs small enough to see the answer."""

from __future__ import annotations

import dataclasses

import pytest

from quantstats.advanced_parameters import OverflowFix, QuantizationParameters
from quantstats.errors import IgnoredScopeError, NothingToQuantizeError, ParameterError
from quantstats.parameters import IgnoredScope, ModelType, QuantizationMode, QuantizationPreset, Subgraph
from quantstats.ptq.graph import OperationKind, Port, QuantizationGraph
from quantstats.ptq.placement import place
from quantstats.ptq.plan import ActivationQuantizer, Place, QuantizationPlan

from .graphs import GraphBuilder


def quantizers(plan: QuantizationPlan) -> dict[str, ActivationQuantizer]:
    return {quantizer.tensor: quantizer for quantizer in plan.activations}


def readers(plan: QuantizationPlan) -> dict[str, list[str]]:
    """Names of the operations that read each quantized tensor."""
    return {p.tensor: [r.operation for r in p.readers] for a in plan.activations for p in a.places}


def quantized(plan: QuantizationPlan) -> list[str]:
    return [name for name, decision in plan.decisions.items() if decision.quantized]


def residual_block() -> QuantizationGraph:
    g = GraphBuilder()
    x = g.relu("relu0", g.conv("conv0", g.input("x")))
    y = g.relu("relu1", g.conv("conv1", x))
    y = g.conv("conv2", y)
    y = g.relu("relu2", g.elementwise("add", x, y))
    g.output(g.conv("conv3", y))
    return g.build()


def test_residual_block_is_integer_throughout() -> None:
    plan = place(residual_block())
    assert quantized(plan) == ["conv0", "relu0", "conv1", "relu1", "conv2", "add", "relu2", "conv3"]
    assert readers(plan) == {
        "x": ["conv0"],
        "relu0.out": ["conv1", "add"],
        "relu1.out": ["conv2"],
        "conv2.out": ["add"],
        "relu2.out": ["conv3"],
        "conv3.out": [],
    }
    assert [w.tensor for w in plan.weights] == ["conv0.weight", "conv1.weight", "conv2.weight", "conv3.weight"]


def test_forced_output_of_the_last_convolution_is_the_model_output() -> None:
    last = quantizers(place(residual_block()))["conv3.out"]
    assert last.places == (Place("conv3.out", (), model_output=True),)


def test_weights_are_symmetric_per_channel_and_activations_symmetric_per_tensor() -> None:
    plan = place(residual_block())
    for weight in plan.weights:
        assert weight.channel_axis == 0
        assert weight.config.per_channel
        assert weight.config.mode is QuantizationMode.SYMMETRIC
        assert weight.readers == (Port(weight.tensor.removesuffix(".weight"), 1),)
    for activation in plan.activations:
        assert activation.channel_axis is None
        assert not activation.config.per_channel
        assert activation.config.mode is QuantizationMode.SYMMETRIC
        assert activation.quantizer is None


def test_addition_between_floating_point_operations_stays_in_floating_point() -> None:
    """The residual stream of a transformer: LayerNorm reads it, so an integer addition would only cost accuracy."""
    g = GraphBuilder()
    x = g.input("x")
    normed = g.float("norm1", x, type="LayerNormalization")
    x = g.elementwise("add1", x, g.linear("project", normed))
    normed = g.float("norm2", x, type="LayerNormalization")
    x = g.elementwise("add2", x, g.linear("feed_forward", normed))
    g.output(x)
    plan = place(g.build())
    assert quantized(plan) == ["project", "feed_forward"]
    assert readers(plan) == {"norm1.out": ["project"], "norm2.out": ["feed_forward"]}
    assert plan.decisions["add1"].reason == "its input 'x' is a model input in floating point"
    assert plan.decisions["norm1"].reason == "no integer kernel for LayerNormalization"


def test_addition_read_only_in_floating_point_stays() -> None:
    g = GraphBuilder()
    x = g.input("x")
    total = g.elementwise("add", g.conv("conv1", x), g.conv("conv2", x))
    g.output(g.float("softmax", total))
    plan = place(g.build())
    assert not plan.decisions["add"].quantized
    assert plan.decisions["add"].reason == "its output is read only in floating point"
    # The convolutions write integers only, so what the addition reads is quantized all the same.
    assert readers(plan) == {"x": ["conv1", "conv2"], "conv1.out": ["add"], "conv2.out": ["add"]}


def test_chain_of_followers_holds_together() -> None:
    """Additions that support one another are integer as far as both ends of the chain are."""
    g = GraphBuilder()
    x = g.input("x")
    first = g.elementwise("add1", g.conv("conv1", x), g.conv("conv2", x))
    second = g.elementwise("add2", first, first)
    pooled = g.pool("pool", second)
    g.output(g.linear("classify", g.move("flatten", pooled)))
    plan = place(g.build())
    assert quantized(plan) == ["conv1", "conv2", "add1", "add2", "pool", "classify"]


def test_chain_of_followers_falls_together() -> None:
    g = GraphBuilder()
    x = g.input("x")
    tensor = g.elementwise("add0", g.conv("conv1", x), g.conv("conv2", x))
    for i in range(1, 20):
        tensor = g.elementwise(f"add{i}", tensor, tensor)
    g.output(tensor)
    assert quantized(place(g.build())) == ["conv1", "conv2"]


def test_addition_of_a_tensor_that_is_quantized_for_another_reader_is_integer() -> None:
    g = GraphBuilder()
    x = g.input("x")
    total = g.elementwise("add", x, g.conv("conv1", x))
    g.output(g.conv("conv2", total))
    plan = place(g.build())
    assert "add" in quantized(plan)
    assert readers(plan)["x"] == ["conv1", "add"]


def test_gate_by_a_floating_point_sigmoid_stays() -> None:
    g = GraphBuilder()
    x = g.conv("conv1", g.input("x"))
    g.output(g.conv("conv2", g.elementwise("gate", x, g.float("sigmoid", x, type="Sigmoid"), type="Mul")))
    plan = place(g.build())
    assert plan.decisions["gate"].reason == "its input 'sigmoid.out' is computed by sigmoid (Sigmoid) in floating point"
    assert readers(plan)["conv1.out"] == ["sigmoid", "gate"]
    assert readers(plan)["gate.out"] == ["conv2"]


def test_constant_operand_of_an_integer_addition_gets_a_quantizer() -> None:
    g = GraphBuilder()
    x = g.conv("conv1", g.input("x"))
    g.output(g.conv("conv2", g.elementwise("shift", x, g.constant("offset"))))
    plan = place(g.build())
    assert "shift" in quantized(plan)
    assert readers(plan)["offset"] == ["shift"]
    assert [w.tensor for w in plan.weights] == ["conv1.weight", "conv2.weight"]


def test_constant_added_to_a_floating_point_product_is_its_bias() -> None:
    g = GraphBuilder()
    x = g.linear("hidden", g.input("x"))
    x = g.relu("relu", g.elementwise("bias", x, g.constant("b")))
    g.output(g.linear("classify", x))
    plan = place(g.build())
    assert readers(plan) == {"x": ["hidden"], "relu.out": ["classify"]}
    assert plan.decisions["bias"].reason == "follows hidden in floating point, as a bias does"
    assert plan.decisions["relu"].reason == "computed with hidden"


def test_quantizer_passes_through_moves_and_shares_its_scale() -> None:
    g = GraphBuilder()
    x = g.relu("relu", g.conv("conv1", g.input("x")))
    x = g.move("transpose", g.move("pool", x, type="MaxPool"), type="Transpose")
    g.output(g.linear("classify", x))
    plan = place(g.build())
    assert [p.tensor for p in quantizers(plan)["relu.out"].places] == ["relu.out", "pool.out", "transpose.out"]
    assert readers(plan) == {
        "x": ["conv1"],
        "relu.out": ["pool"],
        "pool.out": ["transpose"],
        "transpose.out": ["classify"],
    }
    assert "pool" not in plan.decisions


def test_move_that_floating_point_reads_too_does_not_pass_a_quantizer() -> None:
    """Else the floating-point reader would see rounded values for another's sake."""
    g = GraphBuilder()
    moved = g.move("reshape", g.input("x"))
    g.output(g.linear("project", moved), g.float("softmax", moved))
    plan = place(g.build())
    assert readers(plan) == {"reshape.out": ["project"]}


def test_move_whose_output_the_model_shows_does_not_pass_a_quantizer() -> None:
    g = GraphBuilder()
    moved = g.move("reshape", g.input("x"))
    g.output(g.linear("project", moved), moved)
    (quantizer,) = place(g.build()).activations
    assert quantizer.places == (Place("reshape.out", (Port("project", 0),)),)


def test_move_behind_a_forced_quantizer_passes_even_if_floating_point_reads_it() -> None:
    g = GraphBuilder()
    moved = g.move("reshape", g.conv("conv", g.input("x")))
    g.output(g.linear("project", moved), g.float("softmax", moved), moved)
    quantizer = quantizers(place(g.build()))["conv.out"]
    assert [p.tensor for p in quantizer.places] == ["conv.out", "reshape.out"]
    assert [r.operation for r in quantizer.places[1].readers] == ["project", "softmax"]
    assert quantizer.places[1].model_output


def test_split_passes_a_quantizer_to_all_its_outputs() -> None:
    g = GraphBuilder()
    g.move("split", g.input("x"), type="Split", outputs=("q", "k"))
    g.output(g.matmul("attend", "q", "k"))
    assert readers(place(g.build())) == {"x": ["split"], "q": ["attend"], "k": ["attend"]}


def test_split_with_one_floating_point_reader_passes_none() -> None:
    g = GraphBuilder()
    g.move("split", g.input("x"), type="Split", outputs=("q", "k", "gate"))
    g.output(g.matmul("attend", "q", "k"), g.float("sigmoid", "gate"))
    assert readers(place(g.build())) == {"q": ["attend"], "k": ["attend"]}


def test_attention() -> None:
    g = GraphBuilder()
    normed = g.float("norm", g.input("x"), type="LayerNormalization")
    heads = {}
    for name in ("q", "k", "v"):
        projected = g.elementwise(f"{name}_bias", g.linear(name, normed), g.constant(f"{name}_b"))
        heads[name] = g.move(f"{name}_heads", g.move(f"{name}_reshape", projected), type="Transpose")
    scores = g.elementwise("scale", g.matmul("scores", heads["q"], heads["k"]), g.constant("root"), type="Mul")
    context = g.matmul("context", g.float("softmax", scores), heads["v"])
    g.output(g.linear("out", g.move("join", context)))
    plan = place(g.build())
    assert quantized(plan) == ["q", "k", "v", "scores", "context", "out"]
    roots = [a.tensor for a in plan.activations]
    assert roots == ["norm.out", "q_bias.out", "k_bias.out", "v_bias.out", "softmax.out", "context.out"]
    assert readers(plan)["norm.out"] == ["q", "k", "v"]
    assert readers(plan)["q_heads.out"] == ["scores"]
    assert readers(plan)["join.out"] == ["out"]


def test_operand_read_twice() -> None:
    g = GraphBuilder()
    x = g.input("x")
    g.output(g.matmul("gram", x, x))
    (quantizer,) = place(g.build()).activations
    assert quantizer.places == (Place("x", (Port("gram", 0), Port("gram", 1))),)


def test_activation_with_another_reader_of_its_input_does_not_belong_to_the_producer() -> None:
    g = GraphBuilder()
    x = g.conv("conv1", g.input("x"))
    rectified = g.relu("relu", x)
    g.output(g.conv("conv2", rectified), g.conv("conv3", x))
    plan = place(g.build())
    assert readers(plan) == {
        "x": ["conv1"],
        "conv1.out": ["relu", "conv3"],
        "relu.out": ["conv2"],
        "conv2.out": [],
        "conv3.out": [],
    }
    assert not plan.decisions["relu"].quantized


def test_output_in_the_middle_of_the_graph_is_quantized_only_where_it_must_be() -> None:
    g = GraphBuilder()
    hidden = g.linear("hidden", g.input("x"))
    features = g.conv("conv", hidden)
    g.output(hidden, features, g.float("softmax", features))
    plan = place(g.build())
    middle = quantizers(plan)["hidden.out"].places[0]
    assert [r.operation for r in middle.readers] == ["conv"]
    assert not middle.model_output  # the matrix product has a floating-point output as well
    assert quantizers(plan)["conv.out"].places[0].model_output


def test_activation_stays_behind_an_output_that_the_model_shows() -> None:
    g = GraphBuilder()
    x = g.conv("conv1", g.input("x"))
    g.output(x, g.conv("conv2", g.relu("relu", x)))
    plan = place(g.build())
    assert quantizers(plan)["conv1.out"].places[0].model_output
    assert "relu.out" in quantizers(plan)


def test_quantize_outputs() -> None:
    g = GraphBuilder()
    x = g.input("x")
    g.output(g.float("softmax", g.linear("classify", x)), g.move("reshape", g.linear("embed", x)), x)
    assert [a.tensor for a in place(g.build()).activations] == ["x"]
    plan = place(g.build(), quantize_outputs=True)
    assert [a.tensor for a in plan.activations] == ["x", "softmax.out", "embed.out"]
    outputs = [p.tensor for a in plan.activations for p in a.places if p.model_output]
    assert outputs == ["softmax.out", "reshape.out"]


def test_concatenation_between_convolutions() -> None:
    g = GraphBuilder()
    x = g.input("x")
    joined = g.concat("concat", g.conv("conv1", x), g.relu("relu", g.conv("conv2", x)))
    g.output(g.conv("conv3", joined))
    plan = place(g.build())
    assert "concat" in quantized(plan)
    assert set(readers(plan)) == {"x", "conv1.out", "relu.out", "concat.out", "conv3.out"}


def test_transposed_convolution() -> None:
    g = GraphBuilder()
    g.output(g.conv("up", g.input("x"), kind=OperationKind.TRANSPOSED_CONVOLUTION, axis=1))
    (weight,) = place(g.build()).weights
    assert weight.channel_axis == 1
    assert weight.half_range


def test_weight_without_a_channel_axis_is_quantized_per_tensor() -> None:
    g = GraphBuilder()
    g.output(g.conv("up", g.input("x"), kind=OperationKind.TRANSPOSED_CONVOLUTION, axis=None))
    (weight,) = place(g.build()).weights
    assert weight.channel_axis is None
    assert not weight.config.per_channel


def test_shared_weight_has_one_quantizer_for_all_quantized_readers() -> None:
    g = GraphBuilder()
    x = g.conv("conv1", g.input("x"), weight="shared")
    x = g.conv("conv2", x, weight="shared")
    g.output(g.conv("ignored", x, weight="shared"))
    (weight,) = place(g.build(), ignored_scope=IgnoredScope(names=["ignored"])).weights
    assert weight.readers == (Port("conv1", 1), Port("conv2", 1))
    assert weight.half_range  # for the sake of its first reader


def test_shared_weight_with_two_channel_axes_has_a_quantizer_for_each() -> None:
    g = GraphBuilder()
    x = g.conv("conv1", g.input("x"), weight="shared", axis=0)
    g.output(g.conv("conv2", x, weight="shared", axis=1))
    assert [(w.tensor, w.channel_axis) for w in place(g.build()).weights] == [("shared", 0), ("shared", 1)]
    per_tensor = place(g.build(), weights=QuantizationParameters(per_channel=False)).weights
    assert [(w.tensor, w.channel_axis) for w in per_tensor] == [("shared", None)]


def test_several_inputs_and_unused_tensor_types() -> None:
    g = GraphBuilder()
    image, ids = g.input("image"), g.input("ids", dtype="int64")
    untyped = g.input("untyped", dtype=None)
    g.output(g.conv("conv", image), g.linear("lookup", ids), g.linear("unknown", untyped))
    plan = place(g.build())
    assert [a.tensor for a in plan.activations] == ["image", "conv.out"]
    assert plan.decisions["lookup"].reason == "'ids' has element type int64"
    assert plan.decisions["unknown"].reason == "'untyped' has no known element type"


def test_convolution_with_a_computed_weight_stays() -> None:
    g = GraphBuilder()
    x = g.input("x")
    dynamic = g.add(OperationKind.CONVOLUTION, "dynamic", x, x, activations=(0,))
    g.output(g.conv("conv", dynamic))
    assert place(g.build()).decisions["dynamic"].reason == "its weight is not a constant"


# -- schemes -------------------------------------------------------------------------------------------------------


def test_mixed_preset_has_asymmetric_activations() -> None:
    for plan in (
        place(residual_block(), preset=QuantizationPreset.MIXED),
        place(residual_block(), model_type=ModelType.TRANSFORMER),
    ):
        assert {a.config.mode for a in plan.activations} == {QuantizationMode.ASYMMETRIC}
        assert {w.config.mode for w in plan.weights} == {QuantizationMode.SYMMETRIC}


def test_parameters_override_the_preset_field_by_field() -> None:
    plan = place(
        residual_block(),
        preset=QuantizationPreset.MIXED,
        activations=QuantizationParameters(mode=QuantizationMode.SYMMETRIC, signedness_to_force=True),
        weights=QuantizationParameters(num_bits=4),
    )
    config = plan.activations[0].config
    assert (config.num_bits, config.mode, config.signedness_to_force) == (8, QuantizationMode.SYMMETRIC, True)
    assert plan.weights[0].config.num_bits == 4
    assert plan.weights[0].config.per_channel


def test_overflow_fix_by_default_halves_convolutions_on_the_input_only() -> None:
    g = GraphBuilder()
    x = g.input("x")
    first = g.conv("first", g.move("pad", x, type="Pad"))
    second = g.conv("second", g.relu("clamp", x))
    g.output(g.linear("classify", g.elementwise("add", first, second)), g.linear("direct", x))
    assert [w.tensor for w in place(g.build()).weights if w.half_range] == ["first.weight"]


@pytest.mark.parametrize(
    ("fix", "halved"), [(OverflowFix.ENABLE, 4), (OverflowFix.FIRST_LAYER, 1), (OverflowFix.DISABLE, 0)]
)
def test_overflow_fix(fix: OverflowFix, halved: int) -> None:
    assert sum(w.half_range for w in place(residual_block(), overflow_fix=fix).weights) == halved


@pytest.mark.parametrize(
    "weights", [QuantizationParameters(num_bits=4), QuantizationParameters(mode=QuantizationMode.ASYMMETRIC)]
)
def test_overflow_fix_needs_8_bit_symmetric_weights(weights: QuantizationParameters) -> None:
    for fix in (OverflowFix.ENABLE, OverflowFix.FIRST_LAYER):
        with pytest.raises(ParameterError, match=r"overflow_fix='\w+' needs 8-bit symmetric weights.*disable"):
            place(residual_block(), overflow_fix=fix, weights=weights)
    assert not any(w.half_range for w in place(residual_block(), weights=weights).weights)


def test_overflow_fix_is_off_by_default_with_wider_activations() -> None:
    plan = place(residual_block(), activations=QuantizationParameters(num_bits=16))
    assert not any(w.half_range for w in plan.weights)


def test_activations_per_channel_where_readers_agree_on_the_axis() -> None:
    g = GraphBuilder()
    x = g.conv("conv1", g.input("x"))
    pooled = g.move("pool", g.conv("depthwise", x), type="MaxPool")
    g.output(g.conv("conv2", pooled))
    plan = place(g.build(), activations=QuantizationParameters(per_channel=True))
    axes = {a.tensor: a.channel_axis for a in plan.activations}
    assert axes == {"x": 1, "conv1.out": 1, "depthwise.out": None, "conv2.out": None}
    assert all(a.config.per_channel == (a.channel_axis is not None) for a in plan.activations)


# -- ignored scope and nothing to quantize ---------------------------------------------------------------------------


def test_ignored_by_name_pattern_and_type() -> None:
    plan = place(residual_block(), ignored_scope=IgnoredScope(names=["conv1"], patterns=["conv[23]$"]))
    assert quantized(plan) == ["conv0", "relu0"]
    assert plan.decisions["conv1"].reason == "ignored by scope: name 'conv1'"
    assert plan.decisions["conv3"].reason == "ignored by scope: pattern 'conv[23]$'"
    plan = place(residual_block(), ignored_scope=IgnoredScope(types=["Add"]))
    assert plan.decisions["add"].reason == "ignored by scope: type 'Add'"
    assert "conv2" in quantized(plan)


def test_ignored_activation_does_not_belong_to_its_producer() -> None:
    plan = place(residual_block(), ignored_scope=IgnoredScope(names=["relu1"]))
    assert {"conv1.out", "relu1.out"} <= set(readers(plan))


def test_ignored_move_does_not_pass_a_quantizer() -> None:
    g = GraphBuilder()
    g.output(g.linear("project", g.move("reshape", g.input("x"))))
    assert readers(place(g.build())) == {"x": ["reshape"], "reshape.out": ["project"]}
    plan = place(g.build(), ignored_scope=IgnoredScope(types=["Reshape"]))
    assert readers(plan) == {"reshape.out": ["project"]}


def test_ignored_subgraph_is_every_path_between_its_ends() -> None:
    scope = IgnoredScope(subgraphs=[Subgraph(inputs=["conv1"], outputs=["add"])])
    plan = place(residual_block(), ignored_scope=scope)
    assert quantized(plan) == ["conv0", "relu0", "conv3"]
    assert plan.decisions["conv2"].reason == "ignored by scope: subgraph from conv1 to add"


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        (IgnoredScope(names=["con1"]), "name 'con1', closest: 'conv1'"),
        (IgnoredScope(patterns=["onv"]), "pattern 'onv'"),
        (IgnoredScope(types=["Conv2d"]), "type 'Conv2d', closest: 'Conv'"),
        (
            IgnoredScope(subgraphs=[Subgraph(["conv1"], ["ad"])]),
            r"conv1 to ad \(no operation 'ad'.*'add'",
        ),
        (IgnoredScope(subgraphs=[Subgraph(["add"], ["conv1"])]), r"subgraph from add to conv1 \(no path\)"),
    ],
)
def test_scope_that_matches_nothing(scope: IgnoredScope, message: str) -> None:
    with pytest.raises(IgnoredScopeError, match=message):
        place(residual_block(), ignored_scope=scope)
    place(residual_block(), ignored_scope=dataclasses.replace(scope, validate=False))


def test_nothing_to_quantize() -> None:
    g = GraphBuilder()
    g.output(g.float("softmax", g.elementwise("add", g.input("x"), g.input("y"))))
    with pytest.raises(NothingToQuantizeError, match="no convolution and no matrix multiplication among its 2"):
        place(g.build())


def test_everything_ignored() -> None:
    with pytest.raises(NothingToQuantizeError, match=r"all 4 convolutions.*4 x ignored by scope: type 'Conv'"):
        place(residual_block(), ignored_scope=IgnoredScope(types=["Conv"]))
