"""What a plan becomes: the pairs, their types and names, and the cases in which fusion takes care."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.advanced_parameters import OverflowFix, QuantizationParameters
from quantstats.errors import ParameterError
from quantstats.parameters import IgnoredScope, QuantizationMode, QuantizationPreset
from quantstats.ptq.graph import Port
from quantstats.ptq.plan import ActivationQuantizer, Place, QuantizationPlan
from quantstats.quantizer import QuantizerConfig, quantizer_from_range

from .models import ModelBuilder, conditional_model, small_cnn
from .quantization import executed_types, fake_quantized, min_max_plan, output_step, product_step, run, sqnr

FEEDS = {"x": np.random.default_rng(3).normal(size=(4, 3, 8, 8)).astype(np.float32)}


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {initializer.name: numpy_helper.to_array(initializer) for initializer in model.graph.initializer}


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    (found,) = (n for n in model.graph.node if n.name == name)
    return found


def producer(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    (found,) = (n for n in model.graph.node if tensor in n.output)
    return found


def test_weights_activations_and_biases_are_stored_as_the_kernels_want_them() -> None:
    adapter = OnnxAdapter(small_cnn())
    plan = min_max_plan(adapter, FEEDS)
    emitted = adapter.emit(plan)
    values = constants(emitted)

    quantize = node(emitted, "x_QuantizeLinear")
    dequantize = node(emitted, "x_DequantizeLinear")
    assert quantize.input[0] == "x"
    assert list(quantize.input[1:]) == list(dequantize.input[1:]) == ["x_scale", "x_zero_point"]
    assert dequantize.input[0] == quantize.output[0] == "x_quantized"
    assert node(emitted, "stem").input[0] == "x_dequantized"
    assert values["x_zero_point"].dtype == np.uint8
    assert values["x_zero_point"] == 128  # symmetric and signed: the middle of uint8
    assert values["x_scale"].shape == ()

    weights = {weight.tensor: weight for weight in plan.weights}
    head = weights["head.weight"].quantizer
    assert head is not None
    stored = values["head.weight_quantized"]
    assert stored.dtype == np.int8
    np.testing.assert_array_equal(stored, head.quantize(adapter.constant("head.weight")))
    np.testing.assert_array_equal(values["head.weight_scale"], head.scale)
    assert [a.i for a in node(emitted, "head.weight_DequantizeLinear").attribute if a.name == "axis"] == [0]
    assert "head.weight" not in values

    bias = producer(emitted, node(emitted, "head").input[2])
    levels, scale = values[bias.input[0]], values[bias.input[1]]
    assert levels.dtype == np.int32
    input_pair = producer(emitted, node(emitted, "head").input[0])
    np.testing.assert_array_equal(scale, values[input_pair.input[1]] * head.scale)
    np.testing.assert_allclose(levels * scale, adapter.constant("head.bias"), atol=float(scale.max()) / 2)


def test_result_has_the_form_of_the_model(tmp_path: Path) -> None:
    model = small_cnn()
    onnx.save(model, tmp_path / "model.onnx")
    forms = [(model, onnx.ModelProto), (tmp_path / "model.onnx", onnx.ModelProto), (ir.from_proto(model), ir.Model)]
    emitted = []
    for given, form in forms:
        adapter = OnnxAdapter(given)
        result = adapter.emit(min_max_plan(adapter, FEEDS))
        assert isinstance(result, form)
        emitted.append(ir.to_proto(result) if isinstance(result, ir.Model) else result)
    assert emitted[0] == emitted[1] == emitted[2]


def test_emitting_is_repeatable_and_leaves_the_adapter_alone() -> None:
    adapter = OnnxAdapter(small_cnn())
    before = adapter.run(FEEDS, ["y"])["y"]
    graph = adapter.graph()
    plan = min_max_plan(adapter, FEEDS)
    assert adapter.emit(plan) == adapter.emit(plan)
    assert adapter.graph() == graph
    np.testing.assert_array_equal(adapter.run(FEEDS, ["y"])["y"], before)


def test_ignored_operations_stay_as_they_are() -> None:
    adapter = OnnxAdapter(small_cnn())
    plan = min_max_plan(adapter, FEEDS, ignored_scope=IgnoredScope(names=["second", "head"]))
    emitted = adapter.emit(plan)
    for name in ("second", "head"):
        assert all(value in constants(emitted) for value in node(emitted, name).input[1:])
    assert sqnr(run(small_cnn(), FEEDS)["y"], run(emitted, FEEDS)["y"]) > 30


def test_half_range_weights_stay_within_64_levels() -> None:
    adapter = OnnxAdapter(small_cnn())
    emitted = adapter.emit(min_max_plan(adapter, FEEDS, overflow_fix=OverflowFix.ENABLE))
    stored = [value for name, value in constants(emitted).items() if value.dtype == np.int8 and value.ndim > 1]
    assert len(stored) == 4
    for value in stored:
        assert value.min() >= -64
        assert value.max() <= 63


def test_shared_weight_is_stored_once() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 3, 8, 8)
    weight = b.noise(3, 3, 3, 3, name="shared")
    y = b.op("Conv", x, weight, b.noise(3), pads=[1] * 4)
    b.output(b.op("Conv", b.op("Relu", y), weight, b.noise(3), pads=[1] * 4))
    adapter = OnnxAdapter(b.build())
    emitted = adapter.emit(min_max_plan(adapter, FEEDS))
    assert [n for n in constants(emitted) if n.startswith("shared")] == [
        "shared_quantized",
        "shared_scale",
        "shared_zero_point",
    ]
    assert len([n for n in emitted.graph.node if n.name.startswith("shared_DequantizeLinear")]) == 1


def test_shared_weight_with_two_channel_axes_is_stored_for_each() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 5)
    weight = b.noise(5, 5, name="tied")
    hidden = b.op("Gemm", x, weight, b.noise(5), transB=1)
    b.output(b.op("Gemm", hidden, weight, b.noise(5)))
    adapter = OnnxAdapter(b.build())
    feeds = {"x": b.rng.normal(size=(7, 5)).astype(np.float32)}
    emitted = adapter.emit(min_max_plan(adapter, feeds))
    assert {"tied_quantized", "tied_quantized_1"} <= constants(emitted).keys()
    for name, expected in run(b.build(), feeds).items():
        assert sqnr(expected, run(emitted, feeds)[name]) > 30


def test_weight_that_also_has_a_reader_in_floating_point_stays_for_it() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 5)
    weight = b.noise(5, 5, name="tied")
    b.output(b.op("MatMul", x, weight), b.op("Sub", x, b.op("Sigmoid", b.op("Sub", x, weight))))
    adapter = OnnxAdapter(b.build())
    emitted = adapter.emit(min_max_plan(adapter, {"x": np.ones((5, 5), np.float32)}))
    assert {"tied", "tied_quantized"} <= constants(emitted).keys()


def test_taken_names_are_avoided() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 5)
    clash = b.op("MatMul", x, b.noise(5, 5, name="x_scale"), name="x_QuantizeLinear", out="x_dequantized")
    b.output(b.op("MatMul", clash, b.noise(5, 5, name="w")))
    model = b.build()
    adapter = OnnxAdapter(model)
    feeds = {"x": b.rng.normal(size=(7, 5)).astype(np.float32)}
    emitted = adapter.emit(min_max_plan(adapter, feeds))
    onnx.checker.check_model(emitted, full_check=True)
    assert "x_QuantizeLinear_1" in {n.name for n in emitted.graph.node}
    for name, expected in run(model, feeds).items():
        assert sqnr(expected, run(emitted, feeds)[name]) > 30


def test_quantized_output_keeps_its_name() -> None:
    model = small_cnn()
    adapter = OnnxAdapter(model)
    plan = min_max_plan(adapter, FEEDS, quantize_outputs=True)
    emitted = adapter.emit(plan)
    assert [value.name for value in emitted.graph.output] == ["y"]
    assert producer(emitted, "y").op_type == "DequantizeLinear"
    step = output_step(plan, "y")
    actual = run(emitted, FEEDS)["y"]
    np.testing.assert_allclose(actual / step, np.rint(actual / step), atol=1e-3)


def test_output_in_the_middle_reads_what_the_integer_kernel_writes(tmp_path: Path) -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 3, 8, 8)
    b.op("Relu", b.conv(x, 3, 4), out="features")
    b.op("GlobalAveragePool", b.conv("features", 4, 4), out="y")
    b.output("features", "y")
    model = b.build()
    adapter = OnnxAdapter(model)
    emitted = adapter.emit(min_max_plan(adapter, FEEDS))
    assert [value.name for value in emitted.graph.output] == ["features", "y"]
    assert producer(emitted, "features").op_type == "DequantizeLinear"
    assert executed_types(emitted, tmp_path).count("QLinearConv") == 2
    for name, expected in run(model, FEEDS).items():
        assert sqnr(expected, run(emitted, FEEDS)[name]) > 30


# Relu and Clip between an operation and its quantizer


def _clamped(clamp: str, low: float = 0.0, high: float = 6.0) -> tuple[onnx.ModelProto, OnnxAdapter]:
    b = ModelBuilder()
    y = b.conv(b.input("x", "batch", 3, 8, 8), 3, 4, name="conv")
    if clamp == "Relu":
        b.op("Relu", y, name="clamp", out="y")
    else:
        bounds = [b.constant(np.float32(low)), b.constant(np.float32(high))]
        b.op("Clip", y, *bounds, name="clamp", out="y")
    b.output("y")
    return b.build(), OnnxAdapter(b.build())


def _with_output_range(adapter: OnnxAdapter, low: float, high: float, config: QuantizerConfig) -> QuantizationPlan:
    plan = min_max_plan(adapter, FEEDS, quantize_outputs=True)
    ranged = tuple(
        dataclasses.replace(a, config=config, quantizer=quantizer_from_range(low, high, config))
        if a.tensor == "y"
        else a
        for a in plan.activations
    )
    return dataclasses.replace(plan, activations=ranged)


SYMMETRIC = QuantizerConfig()
SIGNED = QuantizerConfig(signedness_to_force=True)
ASYMMETRIC = QuantizerConfig(mode=QuantizationMode.ASYMMETRIC)


@pytest.mark.parametrize(
    ("clamp", "limits", "output_range", "config", "integer_clip"),
    [
        ("Relu", (0, 6), (0, 1.5), SYMMETRIC, None),
        ("Relu", (0, 6), (0, 1.5), ASYMMETRIC, None),
        ("Relu", (0, 6), (-1.5, 1.5), SYMMETRIC, (128, 255)),
        ("Relu", (0, 6), (0, 1.5), SIGNED, (128, 255)),
        ("Clip", (0, 1), (0, 1), SYMMETRIC, None),
        ("Clip", (0, 1), (0, 0.9), SYMMETRIC, None),
        ("Clip", (0, 1), (0, 2), SYMMETRIC, (0, 128)),
        ("Clip", (-0.5, 0.5), (-1, 1), SYMMETRIC, (64, 191)),
        ("Clip", (0.5, 1), (0, 1), SYMMETRIC, (128, 255)),
    ],
)
def test_clamp_becomes_levels(
    clamp: str,
    limits: tuple[float, float],
    output_range: tuple[float, float],
    config: QuantizerConfig,
    integer_clip: tuple[int, int] | None,
    tmp_path: Path,
) -> None:
    model, adapter = _clamped(clamp, *limits)
    plan = _with_output_range(adapter, *output_range, config)
    emitted = adapter.emit(plan)
    onnx.checker.check_model(emitted, full_check=True)
    types = [n.op_type for n in emitted.graph.node]
    assert "Relu" not in types
    if integer_clip is None:
        assert "Clip" not in types
    else:
        (clip,) = (n for n in emitted.graph.node if n.op_type == "Clip")
        stored = tuple(constants(emitted)[name] for name in clip.input[1:])
        assert {value.dtype for value in stored} == {np.dtype(np.uint8)}
        assert np.abs(np.int64(stored) - integer_clip).max() <= 1
    assert "QLinearConv" in executed_types(emitted, tmp_path)

    expected = fake_quantized(model, plan, FEEDS)["y"]
    noise = 0.5 * product_step(plan) + 1e-5
    for optimized in (False, True):
        actual = run(emitted, FEEDS, optimized=optimized)["y"]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=output_step(plan, "y") + noise)
        assert np.mean(np.abs(actual - expected) > noise) < 0.02


def test_two_clamps_in_a_row_are_both_kept(tmp_path: Path) -> None:
    b = ModelBuilder()
    y = b.op("Relu", b.conv(b.input("x", "batch", 3, 8, 8), 3, 4))
    b.op("Clip", y, b.constant(np.float32(-1)), b.constant(np.float32(0.5)), out="y")
    b.output("y")
    adapter = OnnxAdapter(b.build())
    plan = _with_output_range(adapter, -1, 1, SYMMETRIC)
    emitted = adapter.emit(plan)
    assert {"QLinearConv", "Clip"} <= set(executed_types(emitted, tmp_path))
    actual = run(emitted, FEEDS)["y"]
    assert actual.min() == 0
    assert actual.max() == pytest.approx(0.5, abs=output_step(plan, "y"))


def test_clamp_with_a_reader_in_floating_point_stays() -> None:
    b = ModelBuilder()
    b.op("Relu", b.conv(b.input("x", "batch", 3, 8, 8), 3, 4), name="relu", out="r")
    b.output(b.conv("r", 4, 4), b.op("Sigmoid", "r", name="sigmoid"))
    adapter = OnnxAdapter(b.build())
    plan = min_max_plan(adapter, FEEDS)
    readers = {p.tensor: p.readers for a in plan.activations for p in a.places}["r"]
    assert Port("sigmoid", 0) in readers
    kept = Place("r", tuple(port for port in readers if port.operation != "sigmoid"))
    plan = dataclasses.replace(
        plan,
        activations=tuple(dataclasses.replace(a, places=(kept,)) if a.tensor == "r" else a for a in plan.activations),
    )
    emitted = adapter.emit(plan)
    assert node(emitted, "relu").output[0] == "r"
    assert node(emitted, "sigmoid").input[0] == "r"
    assert node(emitted, "r_QuantizeLinear").input[0] == "r"
    for name, expected in run(b.build(), FEEDS).items():
        assert sqnr(expected, run(emitted, FEEDS)[name]) > 30


# Other bit widths and granularities


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_narrower_activations_are_clipped_to_their_levels(bits: int, tmp_path: Path) -> None:
    b = ModelBuilder()
    b.op("Conv", b.input("x", "batch", 3, 8, 8), b.noise(4, 3, 1, 1, name="w"), out="y")
    b.output("y")
    model = b.build()
    adapter = OnnxAdapter(model)
    narrow = QuantizationParameters(num_bits=bits)
    plan = min_max_plan(adapter, FEEDS, quantize_outputs=True, activations=narrow, weights=narrow)
    emitted = adapter.emit(plan)
    clip = node(emitted, "x_Clip")
    low, high = (constants(emitted)[name] for name in clip.input[1:])
    assert (low, high) == (128 - 2 ** (bits - 1), 127 + 2 ** (bits - 1))
    outside = {"x": FEEDS["x"] * 3}  # values beyond the range are what saturation of uint8 would not clip
    expected = fake_quantized(model, plan, outside)["y"]
    actual = run(emitted, outside)["y"]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=output_step(plan, "y") + 1e-5)
    assert np.mean(np.abs(actual - expected) > 1e-5) < 0.02
    assert "QLinearConv" in executed_types(emitted, tmp_path)


def test_narrow_range_of_activations_is_kept() -> None:
    adapter = OnnxAdapter(small_cnn())
    plan = min_max_plan(adapter, FEEDS, activations=QuantizationParameters(narrow_range=True))
    clip = node(adapter.emit(plan), "x_Clip")
    assert constants(adapter.emit(plan))[clip.input[1]] == 1


@pytest.mark.parametrize(("opset", "domain"), [(17, "com.microsoft"), (21, "")])
def test_sixteen_bit_activations(opset: int, domain: str) -> None:
    adapter = OnnxAdapter(small_cnn(opset=opset))
    wide = QuantizationParameters(num_bits=16)
    plan = min_max_plan(adapter, FEEDS, activations=wide)
    emitted = adapter.emit(plan)
    onnx.checker.check_model(emitted)
    assert node(emitted, "x_QuantizeLinear").domain == domain
    assert constants(emitted)["x_zero_point"].dtype == np.uint16
    assert {i.domain for i in emitted.opset_import} == {"", domain}
    eight = adapter.emit(min_max_plan(adapter, FEEDS))
    expected = run(small_cnn(opset=opset), FEEDS)["y"]
    assert sqnr(expected, run(emitted, FEEDS)["y"]) > sqnr(expected, run(eight, FEEDS)["y"])


@pytest.mark.parametrize("per_channel", [False, True])
def test_narrow_sixteen_bit_levels_are_clipped_in_floating_point(per_channel: bool) -> None:
    """onnxruntime has no Clip of uint16; a value beyond the range must not get the level that the range leaves out."""
    b = ModelBuilder(21)
    b.op("Conv", b.input("x", "batch", 3, 8, 8), b.noise(4, 3, 1, 1, name="w"), out="y")
    b.output("y")
    adapter = OnnxAdapter(b.build())
    wide = QuantizationParameters(num_bits=16, narrow_range=True, per_channel=per_channel)
    plan = min_max_plan(adapter, FEEDS, activations=wide)
    emitted = adapter.emit(plan)
    outside = {"x": FEEDS["x"] * 3}
    (levels,) = run(emitted_with(emitted, "x_quantized"), outside, outputs=["x_quantized"]).values()
    assert levels.dtype == np.uint16
    assert (levels.min(), levels.max()) == (1, 65535)
    expected = fake_quantized(b.build(), plan, outside)["y"]
    np.testing.assert_allclose(run(emitted, outside)["y"], expected, rtol=0, atol=output_step(plan, "y") + 1e-5)


def emitted_with(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """The model with one more output."""
    tapped = onnx.ModelProto.FromString(model.SerializeToString())
    tapped.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return tapped


@pytest.mark.parametrize("mode", QuantizationMode)
def test_asymmetric_and_symmetric_weights_compute_what_they_mean(mode: QuantizationMode) -> None:
    for op_type, shape, weight in (("Conv", (3, 8, 8), (4, 3, 1, 1)), ("MatMul", (5,), (5, 6)), ("Gemm", (5,), (5, 6))):
        b = ModelBuilder()
        x = b.input("x", "batch", *shape)
        values = b.rng.normal(loc=0.3, size=weight).astype(np.float32)
        b.op(op_type, x, b.constant(values, "w"), out="y")
        b.output("y")
        adapter = OnnxAdapter(b.build())
        feeds = {"x": b.rng.normal(loc=0.2, size=(3, *shape)).astype(np.float32)}
        plan = min_max_plan(adapter, feeds, weights=QuantizationParameters(mode=mode), quantize_outputs=True)
        expected = fake_quantized(b.build(), plan, feeds)["y"]
        actual = run(adapter.emit(plan), feeds)["y"]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=output_step(plan, "y") + 1e-5, err_msg=op_type)


def test_per_channel_activations_compute_what_they_mean() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 3, 8, 8)
    b.op("Conv", x, b.noise(3, 1, 3, 3, name="w"), b.noise(3), group=3, out="y")
    b.output("y")
    adapter = OnnxAdapter(b.build())
    feeds = {"x": FEEDS["x"] * np.float32([1, 10, 100]).reshape(3, 1, 1)}
    plan = min_max_plan(adapter, feeds, activations=QuantizationParameters(per_channel=True))
    emitted = adapter.emit(plan)
    onnx.checker.check_model(emitted, full_check=True)
    assert [a.i for a in node(emitted, "x_QuantizeLinear").attribute] == [1]
    assert constants(emitted)["x_zero_point"].shape == (3,)
    expected = fake_quantized(b.build(), plan, feeds)["y"]
    np.testing.assert_allclose(run(emitted, feeds)["y"], expected, rtol=1e-4, atol=1e-4)


# Biases


def test_bias_beyond_32_bits_stays_in_floating_point(caplog: pytest.LogCaptureFixture) -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 4)
    b.op("Gemm", x, b.noise(4, 3, scale=1e-7), b.constant(np.float32([1e9, 0, 0]), "huge"), name="g", out="y")
    b.output("y")
    model = b.build()
    adapter = OnnxAdapter(model)
    feeds = {"x": b.rng.normal(size=(3, 4)).astype(np.float32)}
    with caplog.at_level(logging.WARNING):
        emitted = adapter.emit(min_max_plan(adapter, feeds))
    assert "bias 'huge' of Gemm 'g' stays in floating point" in caplog.text
    assert node(emitted, "g").input[2] == "huge"
    np.testing.assert_allclose(run(emitted, feeds)["y"], run(model, feeds)["y"], rtol=1e-6, atol=1e-6)


def test_long_sums_do_not_keep_a_bias_from_the_integers() -> None:
    b = ModelBuilder()
    width = 70_000  # 255 * 127 * width does not fit 32 bits
    x = b.input("x", "batch", width)
    b.op("Gemm", x, b.noise(width, 2, scale=0.01), b.noise(2, name="b"), name="g", out="y")
    b.output("y")
    adapter = OnnxAdapter(b.build())
    feeds = {"x": b.rng.normal(size=(2, width)).astype(np.float32)}
    emitted = adapter.emit(min_max_plan(adapter, feeds))
    assert constants(emitted)["b_quantized"].dtype == np.int32
    assert sqnr(run(b.build(), feeds)["y"], run(emitted, feeds)["y"]) > 30


def test_subgraphs_read_what_the_integer_kernel_writes(tmp_path: Path) -> None:
    model = conditional_model()
    adapter = OnnxAdapter(model)
    for flag in (True, False):
        feeds = {"x": np.random.default_rng(2).normal(size=(1, 4, 8, 8)).astype(np.float32), "flag": np.array(flag)}
        emitted = adapter.emit(min_max_plan(adapter, feeds, quantize_outputs=True))
        onnx.checker.check_model(emitted, full_check=True)
        assert executed_types(emitted, tmp_path).count("QLinearConv") == 2
        assert sqnr(run(model, feeds)["y"], run(emitted, feeds)["y"]) > 30


# Plans that do not fit


def test_plan_without_numbers_is_refused() -> None:
    adapter = OnnxAdapter(small_cnn())
    plan = min_max_plan(adapter, FEEDS)
    empty = dataclasses.replace(plan, weights=(dataclasses.replace(plan.weights[0], quantizer=None),))
    with pytest.raises(ParameterError, match="no scale for"):
        adapter.emit(empty)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (Place("nothing", ()), "'nothing', which is no activation"),
        (Place("x", (Port("nobody", 0),)), "operand 0 of operation 'nobody'"),
        (Place("x", (Port("stem", 7),)), "operand 7 of operation 'stem'"),
        (Place("x", (Port("head", 0),)), "reads 'x', but it reads"),
    ],
)
def test_plan_of_another_model_is_refused(place: Place, message: str) -> None:
    adapter = OnnxAdapter(small_cnn())
    plan = min_max_plan(adapter, FEEDS)
    wrong = ActivationQuantizer(place.tensor, (place,), SYMMETRIC, quantizer=plan.activations[0].quantizer)
    with pytest.raises(ParameterError, match=message):
        adapter.emit(dataclasses.replace(plan, activations=(wrong,), weights=()))


def test_empty_plan_is_the_cleaned_model() -> None:
    adapter = OnnxAdapter(small_cnn())
    emitted = adapter.emit(QuantizationPlan((), (), {}))
    np.testing.assert_allclose(run(emitted, FEEDS)["y"], run(small_cnn(), FEEDS)["y"], rtol=1e-5, atol=1e-5)


def test_transposed_convolution_computes_what_it_means() -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 3, 8, 8)
    b.op("ConvTranspose", x, b.noise(3, 4, 3, 3, name="w"), b.noise(4), out="y")
    b.output("y")
    adapter = OnnxAdapter(b.build())
    plan = min_max_plan(adapter, FEEDS, quantize_outputs=True, preset=QuantizationPreset.MIXED)
    expected = fake_quantized(b.build(), plan, FEEDS)["y"]
    actual = run(adapter.emit(plan), FEEDS)["y"]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=output_step(plan, "y") + 0.5 * product_step(plan) + 1e-5)
