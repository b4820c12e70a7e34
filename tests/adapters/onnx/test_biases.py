"""New biases: they are what the model adds, the integer kernels stay, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.errors import ParameterError
from quantstats.parameters import QuantizationPreset
from quantstats.ptq.plan import QuantizationPlan

from .models import Array, ModelBuilder, small_cnn
from .quantization import executed_types, min_max_plan, run

RNG = np.random.default_rng(21)
IMAGES = {"x": RNG.normal(size=(2, 4, 8, 8)).astype(np.float32)}
TOKENS = {"x": RNG.normal(size=(2, 5, 16)).astype(np.float32)}
ROWS = {"x": RNG.normal(size=(7, 16)).astype(np.float32)}


def _transposed(b: ModelBuilder, *, group: int = 1, bias: bool = True) -> str:
    constants = [b.noise(4, 6 // group, 3, 3), *([b.noise(6)] if bias else [])]
    return b.op("ConvTranspose", b.input("x", "batch", 4, 8, 8), *constants, group=group)


def _gemm(b: ModelBuilder, *, bias: bool, trans_b: int = 0) -> str:
    weight = b.noise(*((6, 16) if trans_b else (16, 6)), scale=0.3)
    return b.op("Gemm", b.input("x", "batch", 16), *[weight, b.noise(6)][: 1 + bias], transB=trans_b)


def _matmul(b: ModelBuilder, *bias: int) -> str:
    y = b.op("MatMul", b.input("x", "batch", 5, 16), b.noise(16, 6, scale=0.3), name="layer")
    return b.op("Add", b.noise(*bias), y) if bias else y


# What makes the operation, a sample, the axis of the channels, and the integer kernels that it becomes.
OPERATIONS = {
    "convolution": (lambda b: b.conv(b.input("x", "batch", 4, 8, 8), 4, 6), IMAGES, 1, {"QLinearConv"}),
    "convolution without bias": (
        lambda b: b.conv(b.input("x", "batch", 4, 8, 8), 4, 6, bias=False),
        IMAGES,
        1,
        {"QLinearConv"},
    ),
    "grouped convolution without bias": (
        lambda b: b.conv(b.input("x", "batch", 4, 8, 8), 4, 6, group=2, bias=False),
        IMAGES,
        1,
        {"QLinearConv"},
    ),
    "transposed": (_transposed, IMAGES, 1, set()),
    "transposed, grouped, without bias": (lambda b: _transposed(b, group=2, bias=False), IMAGES, 1, set()),
    "gemm": (lambda b: _gemm(b, bias=True), ROWS, 1, {"QGemm"}),
    "gemm without bias": (lambda b: _gemm(b, bias=False), ROWS, 1, {"QGemm"}),
    "gemm, transposed weight, without bias": (lambda b: _gemm(b, bias=False, trans_b=1), ROWS, 1, {"QGemm"}),
    "matmul": (lambda b: _matmul(b, 6), TOKENS, 2, {"MatMulIntegerToFloat"}),
    "matmul with a bias of rank 3": (lambda b: _matmul(b, 1, 1, 6), TOKENS, 2, {"MatMulIntegerToFloat"}),
    "matmul without bias": (_matmul, TOKENS, 2, {"MatMulIntegerToFloat"}),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("preset", list(QuantizationPreset))
def test_bias_is_added(name: str, preset: QuantizationPreset, tmp_path: Path) -> None:
    build, sample, axis, kernels = OPERATIONS[name]
    b = ModelBuilder()
    b.op("Relu", build(b), out="y")
    b.output("y")
    model = b.build()
    adapter = OnnxAdapter(model)
    graph = adapter.graph()
    (operation,) = (o for o in graph if o.weight is not None)
    plan = min_max_plan(adapter, sample, preset=preset)
    old = np.zeros(6, np.float32) if operation.bias is None else adapter.constant(operation.bias).reshape(-1)
    bias = old - np.linspace(0.05, 0.8, 6).astype(np.float32)  # what comes out stays within the range of the quantizer
    corrected = adapter.emit(plan.with_biases({operation.name: bias}))
    onnx.checker.check_model(corrected, full_check=True)
    assert kernels <= set(executed_types(corrected, tmp_path))

    # Before the Relu, of the whole model and of parts of it that are cut before and behind the addition of a bias.
    (clamp,) = (o for o in graph if o.type == "Relu")
    behind = clamp.inputs[0]
    before = adapter.runnable(plan, outputs=[behind])(sample)[behind]
    after = adapter.runnable(plan.with_biases({operation.name: bias}), outputs=[behind])(sample)[behind]
    along = [-1 if other == axis else 1 for other in range(before.ndim)]
    np.testing.assert_allclose(after, before + (bias - old).reshape(along), rtol=1e-4, atol=5e-3)
    product = operation.outputs[0]
    if product != behind:
        first = adapter.runnable(plan.with_biases({operation.name: bias}), outputs=[product])(sample)
        rest = adapter.runnable(plan.with_biases({operation.name: bias}), inputs=[product], outputs=[behind])
        np.testing.assert_allclose(rest(first)[behind], after, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run(corrected, sample)["y"], np.maximum(after, 0), rtol=1e-3, atol=0.05 * after.std())


def test_int32_units() -> None:
    """The bias that is stored is the new one in units of input scale times weight scale."""
    adapter = OnnxAdapter(small_cnn())
    sample = {"x": RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)}
    bias = RNG.normal(size=5).astype(np.float32)
    emitted = adapter.emit(min_max_plan(adapter, sample).with_biases({"head": bias}))
    constants = {i.name: numpy_helper.to_array(i) for i in emitted.graph.initializer}
    (pair,) = (n for n in emitted.graph.node if n.input[0] == "head.bias_corrected_quantized")
    levels, unit = constants[pair.input[0]], constants[pair.input[1]]
    assert levels.dtype == np.int32
    np.testing.assert_array_equal(levels, np.rint(bias.astype(np.float64) / unit))


def test_the_model_and_other_readers_keep_their_bias() -> None:
    b = ModelBuilder()
    weight, bias = b.noise(4, 4, 1, 1), b.noise(4, name="shared")
    x = b.input("x", "batch", 4, 8, 8)
    b.op("Conv", x, weight, bias, name="one", out="y1")
    b.op("Conv", x, weight, bias, name="two", out="y2")
    b.output("y1", "y2")
    adapter = OnnxAdapter(b.build())
    original = adapter.constant("shared").copy()
    plan = QuantizationPlan((), (), {}).with_biases({"one": np.float32([1, 2, 3, 4])})
    exact = adapter.run(IMAGES, ["y1", "y2"])
    found = run(adapter.emit(plan), IMAGES)
    shift = (np.float32([1, 2, 3, 4]) - original)[:, np.newaxis, np.newaxis]
    np.testing.assert_allclose(found["y1"], exact["y1"] + shift, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["y2"], exact["y2"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(adapter.constant("shared"), original)
    np.testing.assert_allclose(adapter.run(IMAGES, ["y1"])["y1"], exact["y1"], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "bias", "message"),
    [
        ("nothing", np.zeros(5), "gives 'nothing' a bias, which is no convolution or matrix multiplication"),
        ("stem_relu", np.zeros(8), "gives 'stem_relu' a bias, which is no convolution or matrix multiplication"),
        ("head", np.zeros(4), r"gives Gemm 'head' a bias of shape \(4,\), and it has 5 output channels"),
        ("stem", np.zeros(1), r"gives Conv 'stem' a bias of shape \(1,\), and it has 8 output channels"),
    ],
)
def test_biases_that_do_not_fit(name: str, bias: Array, message: str) -> None:
    plan = QuantizationPlan((), (), {}).with_biases({name: bias})
    with pytest.raises(ParameterError, match=message):
        OnnxAdapter(small_cnn()).emit(plan)


@pytest.mark.parametrize("bias", [np.zeros((2, 2)), np.float32([1, np.nan]), np.float64([1e300])])
def test_biases_that_are_no_finite_vectors(bias: Array) -> None:
    with pytest.raises(ParameterError, match=r"the bias of operation 'head' has shape .* give a vector of finite ones"):
        QuantizationPlan((), (), {}).with_biases({"head": bias})
