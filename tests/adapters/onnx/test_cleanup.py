"""What becomes of a model before it is quantized: it computes the same, from fewer and plainer operations."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantstats.adapters.onnx import OnnxAdapter, runtime
from quantstats.errors import ModelError
from quantstats.ptq.graph import OperationKind

from .models import ModelBuilder, small_cnn
from .quantization import min_max_plan, run


def names(adapter: OnnxAdapter) -> list[str]:
    return [operation.name for operation in adapter.graph()]


def types(adapter: OnnxAdapter) -> list[str]:
    return [operation.type for operation in adapter.graph()]


def assert_computes_the_same(model: onnx.ModelProto, adapter: OnnxAdapter, **feeds: np.ndarray) -> None:
    outputs = list(adapter.graph().outputs)
    expected = run(model, feeds, optimized=False)
    actual = adapter.run(feeds, outputs)
    for name in outputs:
        np.testing.assert_allclose(actual[name], expected[name], rtol=2e-5, atol=2e-5)


def test_batch_norm_is_folded_and_names_stay() -> None:
    model = small_cnn()
    adapter = OnnxAdapter(model)
    expected = ["stem", "stem_relu", "pool", "first", "second", "residual", "average", "head"]
    assert [name for name in names(adapter) if name in expected] == expected
    assert "BatchNormalization" not in types(adapter)
    assert adapter.notes == ()
    stem = adapter.graph().operation("stem")
    assert stem.weight is not None
    weights = {i.name for i in model.graph.initializer}
    assert {stem.weight.tensor, stem.bias} <= weights
    assert_computes_the_same(model, adapter, x=np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32))


def test_constants_are_folded_and_no_ops_removed() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 4, 6, 6)
    weight = b.op("Transpose", b.op("Mul", b.noise(4, 4, 3, 3), b.constant(np.float32(2))), perm=[1, 0, 2, 3])
    b.op("Identity", b.op("Dropout", b.op("Conv", x, weight, name="conv")), out="y")
    b.output("y")
    model = b.build()
    adapter = OnnxAdapter(model)
    assert names(adapter) == ["conv"]
    assert_computes_the_same(model, adapter, x=b.rng.normal(size=(2, 4, 6, 6)).astype(np.float32))


def test_only_standard_operators_come_out() -> None:
    b = ModelBuilder(20)
    x = b.input("x", "batch", 4, 6, 6)
    y = b.op("Gelu", b.op("LayerNormalization", b.conv(x, 4, 4), b.positive(6)))
    b.output(b.op("HardSwish", b.op("Mish", y)))
    model = b.build()
    adapter = OnnxAdapter(model)
    emitted = adapter.emit(min_max_plan(adapter, {"x": np.ones((1, 4, 6, 6), np.float32)}, quantize_outputs=True))
    assert {node.domain for node in emitted.graph.node} == {""}
    assert {(item.domain, item.version) for item in emitted.opset_import} == {("", 20)}
    assert_computes_the_same(model, adapter, x=b.rng.normal(size=(2, 4, 6, 6)).astype(np.float32))


@pytest.mark.parametrize("threshold", [1, 1 << 30])
def test_model_is_not_folded_by_a_clean_up_that_uses_other_operators(
    threshold: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # An onnxruntime whose basic level fuses convolution and activation, as the next level does today.
    written = runtime.write_cleaned

    def eager(*arguments: Any, level: runtime.OptimizationLevel, **options: Any) -> None:
        fusing = runtime.OptimizationLevel.ALL if level is runtime.OptimizationLevel.BASIC else level
        written(*arguments, level=fusing, **options)

    monkeypatch.setattr(runtime, "write_cleaned", eager)
    model = small_cnn()
    with caplog.at_level(logging.WARNING):
        adapter = OnnxAdapter(model, external_data_threshold=threshold)
    assert "com.microsoft" in caplog.text
    assert "is not folded" in caplog.text
    assert "BatchNormalization" in types(adapter)
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}
    assert_computes_the_same(model, adapter, **feeds)
    emitted = adapter.emit(min_max_plan(adapter, feeds))
    assert {node.domain for node in emitted.graph.node} == {""}


def test_unnamed_and_twice_named_nodes_get_stable_names() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 4, 6, 6)
    y = b.op("Conv", b.op("Conv", x, b.noise(4, 4, 1, 1), name=""), b.noise(4, 4, 1, 1), name="twice")
    y = b.op("Relu", b.op("Conv", y, b.noise(4, 4, 1, 1), name="twice"), name="Conv_0")
    b.output(b.op("Sigmoid", y, name=""))
    first, second = OnnxAdapter(b.build()), OnnxAdapter(b.build())
    assert names(first) == names(second) == ["Conv_0_1", "twice", "twice_1", "Conv_0", "Sigmoid_4"]


def test_fused_operations_keep_the_name_of_the_one_they_compute() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 4)
    y = b.batch_norm(b.op("MatMul", x, b.noise(4, 8), name="dense"), 8)
    y = b.op("Add", b.op("MatMul", b.op("Relu", y, name="relu"), b.noise(8, 3), name="last"), b.noise(3), name="bias")
    b.output(y)
    model = b.build()
    adapter = OnnxAdapter(model)
    assert [(o.name, o.type) for o in adapter.graph()] == [("dense", "Gemm"), ("relu", "Relu"), ("last", "Gemm")]
    assert_computes_the_same(model, adapter, x=b.rng.normal(size=(3, 4)).astype(np.float32))


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [None, (), (1,), (6,), (1, 6)])
def test_gemm_gets_plain_factors_and_its_batch_norm(trans_b: int, bias: tuple[int, ...] | None) -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 5)
    constants = [b.noise(6, 5) if trans_b else b.noise(5, 6)] + ([] if bias is None else [b.noise(*bias)])
    y = b.op("Gemm", x, *constants, transB=trans_b, alpha=0.25, beta=1.5, name="dense")
    b.output(b.op("Relu", b.batch_norm(y, 6)))
    model = b.build()
    adapter = OnnxAdapter(model)
    dense = adapter.graph().operation("dense")
    assert types(adapter) == ["Gemm", "Relu"]
    assert dense.kind is OperationKind.MATMUL
    assert dense.weight is not None
    assert dense.weight.channel_axis == 1 - trans_b
    assert dense.bias is not None
    assert adapter.constant(dense.bias).shape == (6,)
    assert_computes_the_same(model, adapter, x=b.rng.normal(size=(3, 5)).astype(np.float32))


def test_equal_constants_keep_their_own_names() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 4)
    for layer in ("one", "two"):
        x = b.op("Gemm", x, b.noise(4, 4, name=f"{layer}.weight"), b.constant(np.zeros(4, np.float32), f"{layer}.bias"))
    b.output(x)
    assert [operation.bias for operation in OnnxAdapter(b.build()).graph()] == ["one.bias", "two.bias"]


@pytest.mark.parametrize("opset", [10, 11, 12])
def test_old_opsets_are_raised(opset: int, caplog: pytest.LogCaptureFixture) -> None:
    b = ModelBuilder(opset)
    y = b.batch_norm(b.conv(b.input("x", "batch", 4, 8, 8), 4, 8, bias=False, name="conv"), 8)
    if opset == 10:
        y = b.op("Clip", y, min=0.0, max=6.0, name="clip")
        y = b.op("Resize", y, b.constant(np.float32([1, 1, 2, 2])), mode="nearest", name="resize")
    else:
        y = b.op("Clip", y, b.constant(np.float32(0)), b.constant(np.float32(6)), name="clip")
    y = b.op("Squeeze", b.op("GlobalAveragePool", y), axes=[2, 3], name="squeeze")
    # Large enough that the converter does not see its value.
    b.output(b.op("Softmax", b.op("Gemm", y, b.noise(8, 300), b.noise(300), name="head"), axis=1))
    model = b.build()
    with caplog.at_level(logging.WARNING):
        adapter = OnnxAdapter(model)
    (note,) = adapter.notes
    assert f"from opset {opset} to 13" in note
    assert note in caplog.text
    assert [n for n in names(adapter) if n in ("conv", "clip", "squeeze", "head")] == [
        "conv",
        "clip",
        "squeeze",
        "head",
    ]
    feeds = {"x": b.rng.normal(size=(2, 4, 8, 8)).astype(np.float32)}
    assert_computes_the_same(model, adapter, **feeds)
    emitted = adapter.emit(min_max_plan(adapter, feeds))
    onnx.checker.check_model(emitted, full_check=True)
    assert emitted.opset_import[0].version == 13


def test_newer_opsets_stay() -> None:
    for opset in (13, 16, 21):
        model = small_cnn(opset=opset)
        adapter = OnnxAdapter(model)
        feeds = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}
        emitted = adapter.emit(min_max_plan(adapter, feeds))
        assert emitted.opset_import[0].version == opset
        assert emitted.ir_version >= model.ir_version
        onnx.checker.check_model(emitted, full_check=True)


def test_initializers_that_are_inputs_count_as_constants() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 4)
    weight = b.noise(4, 3, name="weight")
    b.input("weight", 4, 3)
    b.output(b.op("MatMul", x, weight))
    (operation,) = OnnxAdapter(b.build(ir_version=3)).graph()
    assert operation.weight is not None
    assert operation.weight.tensor == "weight"
    assert OnnxAdapter(b.build(ir_version=3)).graph().inputs == ("x",)


def test_model_functions_are_inlined() -> None:
    weight = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(np.ones((4, 4), np.float32)))
    body = [weight, helper.make_node("MatMul", ["a", "w"], ["m"]), helper.make_node("Relu", ["m"], ["r"])]
    function = helper.make_function("local", "Dense", ["a"], ["r"], body, [helper.make_opsetid("", 17)])
    b = ModelBuilder()
    b.output(b.op("Dense", b.input("x", "batch", 4), domain="local"))
    model = b.build(functions=[function])
    adapter = OnnxAdapter(model)
    assert types(adapter) == ["MatMul", "Relu"]
    assert_computes_the_same(model, adapter, x=b.rng.normal(size=(3, 4)).astype(np.float32))


def test_header_of_the_model_stays() -> None:
    model = small_cnn()
    model.doc_string, model.domain, model.model_version = "what it is", "org.example", 7
    model.metadata_props.add(key="author", value="somebody")
    adapter = OnnxAdapter(model)
    emitted = adapter.emit(min_max_plan(adapter, {"x": np.ones((1, 3, 8, 8), np.float32)}))
    assert (emitted.doc_string, emitted.domain, emitted.model_version) == ("what it is", "org.example", 7)
    assert {p.key: p.value for p in emitted.metadata_props}["author"] == "somebody"
    assert emitted.producer_name == "quantstats"
    assert emitted.graph.input == model.graph.input
    assert [value.name for value in emitted.graph.output] == ["y"]
    assert emitted.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_spatial_mean_is_a_global_average_pooling(axes: tuple[int, int], keepdims: int, opset: int) -> None:
    b = ModelBuilder(opset)
    x = b.input("x", "batch", 4, 6, 6)
    if opset < 18:
        b.op("ReduceMean", x, axes=axes, keepdims=keepdims, name="mean", out="y")
    else:
        b.op("ReduceMean", x, b.constant(np.int64(axes)), keepdims=keepdims, name="mean", out="y")
    b.output("y")
    model = b.build()
    adapter = OnnxAdapter(model)
    assert types(adapter) == ["GlobalAveragePool"] + ["Squeeze"] * (1 - keepdims)
    assert adapter.graph().operation("mean").kind is OperationKind.POOLING
    assert_computes_the_same(model, adapter, x=b.rng.normal(size=(2, 4, 6, 6)).astype(np.float32))


@pytest.mark.parametrize(("shape", "axes"), [((4, 6, 6), [1]), ((4, 6, 6), [3]), ((4, 6, 6), [1, 2, 3]), ((4, 6), [2])])
def test_other_means_stay(shape: tuple[int, ...], axes: list[int]) -> None:
    b = ModelBuilder()
    b.output(b.op("ReduceMean", b.input("x", "batch", *shape), axes=axes))
    assert types(OnnxAdapter(b.build())) == ["ReduceMean"]


def test_types_behind_operators_of_other_domains_are_known() -> None:
    b = ModelBuilder()
    y = b.op("QuickGelu", b.input("x", "batch", 4), domain="com.microsoft", out="behind")
    b.output(b.op("MatMul", b.op("Relu", y, out="further"), b.noise(4, 3), name="dense"))
    model = b.build()
    adapter = OnnxAdapter(model)
    assert [adapter.graph().tensors[name].dtype for name in ("behind", "further")] == ["float32", "float32"]
    feeds = {"x": b.rng.normal(size=(2, 4)).astype(np.float32)}
    emitted = adapter.emit(min_max_plan(adapter, feeds))
    assert {item.domain for item in emitted.opset_import} == {"", "com.microsoft"}
    assert_computes_the_same(model, adapter, **feeds)


def test_a_temporary_directory_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(
        ModelError, match=r"no temporary directory can be made in '.*gone': No such file .*; set TMPDIR"
    ):
        OnnxAdapter(small_cnn())
