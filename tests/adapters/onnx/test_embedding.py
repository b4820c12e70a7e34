"""Tables that are looked up: stored as integers, and dequantized behind the lookup."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.adapters.testing import check_adapter
from quantstats.advanced_parameters import OverflowFix, QuantizationParameters
from quantstats.parameters import IgnoredScope, ModelType, QuantizationMode
from quantstats.ptq.accuracy_control.groups import find_groups
from quantstats.ptq.graph import OperationKind, Weight
from quantstats.ptq.placement import place

from .models import ModelBuilder
from .quantization import Array, min_max_plan, run

TOKENS = {"tokens": np.random.default_rng(1).integers(0, 11, (2, 5))}


def embedding(*, axis: int = 0, rank: int = 2, opset: int = 17, table: Array | None = None) -> onnx.ModelProto:
    """A lookup that is a model output and goes through LayerNormalization into a product; output ``y``."""
    b = ModelBuilder(opset)
    tokens = b.input("tokens", "batch", 5, dtype=TensorProto.INT64)
    if table is None:
        table = b.rng.normal(0.3, 1, (11, 12, 13)[:rank]).astype(np.float32)
    b.op("Gather", b.constant(table, "table"), tokens, axis=axis, name="lookup", out="found")
    width = 12 if rank == 2 and axis == 0 else 13 if axis != 2 else 5
    if rank == 2 and axis % 2:
        width = 5
    normed = b.op("LayerNormalization", "found", b.positive(width), b.noise(width))
    b.op("MatMul", normed, b.noise(width, 3), out="y")
    b.output("found", "y")
    return b.build()


def test_the_graph_tells_the_table() -> None:
    operation = OnnxAdapter(embedding()).graph().operation("lookup")
    assert operation.kind is OperationKind.EMBEDDING
    assert operation.weight == Weight("table", operand=0, channel_axis=0)
    assert operation.activations == ()


def test_rows_of_one_number_and_integers_are_no_embedding() -> None:
    b = ModelBuilder()
    tokens = b.input("tokens", "batch", 5, dtype=TensorProto.INT64)
    b.op("Gather", b.noise(11), tokens, name="numbers", out="n")
    b.op("Gather", b.constant(np.arange(22).reshape(11, 2)), tokens, name="integers", out="i")
    b.output("n")
    b.output("i", dtype=TensorProto.INT64)
    graph = OnnxAdapter(b.build()).graph()
    assert {graph.operation(name).kind for name in ("numbers", "integers")} == {OperationKind.FLOAT}


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("mode", QuantizationMode)
@pytest.mark.parametrize(("rank", "axis"), [(2, 0), (2, 1), (2, -1), (3, 0), (3, 1)])
@pytest.mark.parametrize("bits", [4, 8])
def test_looked_up_values_are_those_of_the_rounded_table(
    rank: int, axis: int, mode: QuantizationMode, per_channel: bool, bits: int
) -> None:
    adapter = OnnxAdapter(embedding(rank=rank, axis=axis, opset=21))
    parameters = QuantizationParameters(num_bits=bits, mode=mode, per_channel=per_channel)
    plan = min_max_plan(adapter, TOKENS, weights=parameters)
    quantizer = next(w.quantizer for w in plan.weights if w.tensor == "table")
    assert quantizer is not None
    expected = np.take(quantizer.fake_quantize(adapter.constant("table")), TOKENS["tokens"], axis=axis)
    emitted = adapter.emit(plan)
    for optimized in (True, False):
        np.testing.assert_array_equal(run(emitted, TOKENS, optimized=optimized)["found"], expected)
    (stored,) = (i for i in emitted.graph.initializer if i.name == "table_quantized")
    assert stored.data_type in (TensorProto.INT8, TensorProto.UINT8)
    assert "table" not in {i.name for i in emitted.graph.initializer}


def test_no_call_dequantizes_the_table() -> None:
    """DequantizeLinear in front of Gather computes every row of the table, to read a few."""
    adapter = OnnxAdapter(embedding())
    emitted = adapter.emit(min_max_plan(adapter, TOKENS))
    (lookup,) = (n for n in emitted.graph.node if n.name == "lookup")
    assert lookup.input[0] == "table_quantized"
    assert not any("table_quantized" in n.input for n in emitted.graph.node if n.op_type == "DequantizeLinear")


def test_one_table_for_the_lookup_and_for_the_product_at_the_end() -> None:
    b = ModelBuilder()
    tokens = b.input("tokens", "batch", dtype=TensorProto.INT64)
    b.op("Gather", b.noise(11, 8, name="table"), tokens, name="lookup", out="found")
    hidden = b.op("LayerNormalization", "found", b.positive(8), b.noise(8))
    b.op("Gemm", hidden, "table", b.noise(11), transB=1, name="head", out="y")
    b.output("found", "y")
    adapter = OnnxAdapter(b.build())
    sample = {"tokens": np.arange(11)}
    for fix in (OverflowFix.DISABLE, OverflowFix.ENABLE):
        plan = min_max_plan(adapter, sample, overflow_fix=fix)
        (weight,) = plan.weights
        assert {port.operation for port in weight.readers} == {"lookup", "head"}
        assert weight.half_range == (fix is OverflowFix.ENABLE)
        emitted = adapter.emit(plan)
        assert sum(list(i.dims) == [11, 8] for i in emitted.graph.initializer) == 1
        assert weight.quantizer is not None
        np.testing.assert_array_equal(
            run(emitted, sample)["found"], weight.quantizer.fake_quantize(adapter.constant("table"))
        )
    assert [group.operations for group in find_groups(adapter.graph(), plan)] == [("lookup", "head")]


@pytest.mark.parametrize("model_type", [None, ModelType.TRANSFORMER])
@pytest.mark.parametrize("fix", [OverflowFix.ENABLE, OverflowFix.AUTO])
def test_a_table_is_not_multiplied_and_cannot_overflow(fix: OverflowFix, model_type: ModelType | None) -> None:
    adapter = OnnxAdapter(embedding())
    table, product = place(adapter.graph(), overflow_fix=fix, model_type=model_type).weights
    assert (table.tensor, table.half_range, table.pairing) == ("table", False, None)
    assert product.half_range or product.pairing is not None


def test_a_table_is_ignored_and_reverted_like_an_operation() -> None:
    adapter = OnnxAdapter(embedding())
    plan = place(adapter.graph())
    assert plan.decisions["lookup"].quantized
    assert next(group.operations for group in find_groups(adapter.graph(), plan)) == ("lookup",)
    ignoring = place(adapter.graph(), ignored_scope=IgnoredScope(types=["Gather"]))
    assert not ignoring.decisions["lookup"].quantized
    for without in (ignoring, plan.without("lookup")):
        assert [w.tensor for w in without.weights] == [w.tensor for w in plan.weights if w.tensor != "table"]


def test_a_branch_reads_what_is_looked_up() -> None:
    """A subgraph that captures the result of a lookup reads the dequantized one."""
    b = ModelBuilder()
    tokens = b.input("tokens", "batch", dtype=TensorProto.INT64)
    flag = b.input("flag", dtype=TensorProto.BOOL)
    b.op("Gather", b.noise(11, 8, name="table"), tokens, name="lookup", out="found")
    branches = {
        f"{branch}_branch": helper.make_graph(
            [helper.make_node(op, ["found"], [f"{branch}_out"])],
            branch,
            [],
            [helper.make_tensor_value_info(f"{branch}_out", TensorProto.FLOAT, None)],
        )
        for branch, op in (("then", "Neg"), ("else", "Abs"))
    }
    chosen = b.op("If", flag, out="chosen", **branches)
    b.op("MatMul", b.op("Tanh", chosen), b.noise(8, 3), out="y")
    b.output("chosen", "y")
    adapter = OnnxAdapter(b.build())
    sample = {"tokens": np.arange(11), "flag": np.array(True)}
    plan = min_max_plan(adapter, sample)
    quantizer = next(w.quantizer for w in plan.weights if w.tensor == "table")
    assert quantizer is not None
    found = run(adapter.emit(plan), sample)["chosen"]
    np.testing.assert_array_equal(found, -quantizer.fake_quantize(adapter.constant("table")))


def test_protocol() -> None:
    samples = [{"tokens": np.random.default_rng(seed).integers(0, 11, (2, 5))} for seed in range(3)]

    def run_emitted(emitted: onnx.ModelProto, sample: Mapping[str, Array]) -> Mapping[str, Array]:
        return run(emitted, sample)

    check_adapter(OnnxAdapter(embedding()), samples, run_emitted=run_emitted)


def test_a_quantizer_behind_the_lookup_reads_the_dequantized_rows() -> None:
    b = ModelBuilder()
    tokens = b.input("tokens", "batch", 5, dtype=TensorProto.INT64)
    b.op("Gather", b.noise(11, 8, name="table"), tokens, name="lookup", out="found")
    b.op("MatMul", "found", b.noise(8, 3), out="y")
    b.output("y")
    adapter = OnnxAdapter(b.build())
    plan = min_max_plan(adapter, TOKENS)
    assert [activation.tensor for activation in plan.activations] == ["found"]
    emitted = adapter.emit(plan)
    (quantize,) = (n for n in emitted.graph.node if n.op_type == "QuantizeLinear")
    assert quantize.input[0] == "found"
    activations = plan.activations[0].quantizer
    weights = {w.tensor: w.quantizer for w in plan.weights}
    table, matrix = weights["table"], next(q for name, q in weights.items() if name != "table")
    assert activations is not None
    assert table is not None
    assert matrix is not None
    rows = activations.fake_quantize(table.fake_quantize(adapter.constant("table"))[TOKENS["tokens"]])
    (name,) = (w.tensor for w in plan.weights if w.tensor != "table")
    expected = rows @ matrix.fake_quantize(adapter.constant(name))
    np.testing.assert_allclose(run(emitted, TOKENS)["y"], expected, rtol=1e-4, atol=1e-4)
