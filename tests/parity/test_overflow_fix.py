"""`OverflowFix` on ONNX models: which weights stay in [-64, 63], and that the result runs in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import quantstats as qs
from quantstats.adapters.protocol import Array
from quantstats.errors import ParameterError
from quantstats.parameters import QuantizationMode

from ..adapters.onnx.models import ModelBuilder
from ..adapters.onnx.quantization import run, sqnr

ENABLE, FIRST_LAYER, DISABLE = qs.OverflowFix.ENABLE, qs.OverflowFix.FIRST_LAYER, qs.OverflowFix.DISABLE
Model = tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]
IMAGE = {"x": (1, 4, 8, 8)}


class Builder(ModelBuilder):
    """Operations whose weight has their name."""

    def layer(self, op_type: str, x: str, name: str, *shape: int, **attributes: object) -> str:
        return self.op(op_type, x, self.noise(*shape, name=name), name=f"{name}_node", **attributes)

    def convolution(self, x: str, name: str, *shape: int, **attributes: object) -> str:
        y = self.layer("Conv", x, name, *shape, pads=[s // 2 for s in shape[2:]] * 2, **attributes)
        return self.op("Relu", y)

    def finish(self, y: str) -> onnx.ModelProto:
        self.op("MatMul", self.op("GlobalAveragePool", y), self.noise(1, 1, name="last"), name="last_node", out="y")
        self.output("y")
        return self.build()


def several_inputs() -> Model:
    """Every input has first convolutions of its own; the convolution behind the sum is no first one."""
    b = Builder()
    left = b.convolution(b.input("x", 1, 4, 8, 8), "left", 8, 4, 3, 3)
    right = b.convolution(b.input("z", 1, 4, 8, 8), "right", 8, 4, 3, 3)
    return b.finish(b.convolution(b.op("Add", left, right), "joint", 4, 8, 3, 3)), {**IMAGE, "z": (1, 4, 8, 8)}


def several_first_convolutions() -> Model:
    """All that read the input are first, whatever else reads it."""
    b = Builder()
    x = b.input("x", 1, 4, 8, 8)
    small, wide = b.convolution(x, "small", 4, 4, 1, 1), b.convolution(x, "wide", 4, 4, 5, 5)
    return b.finish(b.convolution(b.op("Concat", small, wide, x, axis=1), "joint", 4, 12, 1, 1)), IMAGE


def behind_moves() -> Model:
    """Moving data leaves a convolution the first; a computation does not."""
    b = Builder()
    x = b.input("x", 1, 8, 8, 4)
    moved = b.op("MaxPool", b.op("Transpose", x, perm=[0, 3, 1, 2]), kernel_shape=[2, 2], strides=[2, 2])
    b.op("Split", moved, axis=1, out=("half1", "half2"))
    moved_first = b.convolution("half1", "moved", 4, 2, 3, 3)
    computed = b.convolution(b.op("Sigmoid", "half2"), "computed", 4, 2, 3, 3)
    return b.finish(b.op("Add", moved_first, computed)), {"x": (1, 8, 8, 4)}


def transposed() -> Model:
    b = Builder()
    y = b.op("Relu", b.layer("ConvTranspose", b.input("x", 1, 4, 8, 8), "first", 4, 4, 2, 2, strides=[2, 2]))
    return b.finish(b.op("Relu", b.layer("ConvTranspose", y, "second", 4, 4, 2, 2, strides=[2, 2]))), IMAGE


def depthwise_and_grouped() -> Model:
    b = Builder()
    y = b.convolution(b.input("x", 1, 4, 8, 8), "depthwise", 4, 1, 3, 3, group=4)
    return b.finish(b.convolution(b.convolution(y, "grouped", 8, 2, 3, 3, group=2), "plain", 4, 8, 1, 1)), IMAGE


def grouped_first() -> Model:
    b = Builder()
    y = b.convolution(b.input("x", 1, 4, 8, 8), "grouped", 4, 2, 3, 3, group=2)
    return b.finish(b.convolution(y, "depthwise", 4, 1, 3, 3, group=4)), IMAGE


def fully_connected() -> Model:
    """A matrix multiplication that reads the input is no convolution: FIRST_LAYER leaves it alone."""
    b = Builder()
    flat = b.op("Relu", b.op("MatMul", b.input("x", 3, 16), b.noise(16, 8, name="matmul"), name="matmul_node"))
    b.op("Gemm", flat, b.noise(8, 4, name="gemm"), b.noise(4), name="gemm_node", out="y")
    b.output("y")
    return b.build(), {"x": (3, 16)}


def attention() -> Model:
    """A product of two activations has no weight to halve."""
    b = Builder()
    x = b.input("x", 1, 6, 8)
    q, k = (b.op("MatMul", x, b.noise(8, 8, name=name)) for name in ("query", "key"))
    b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 1]), out="y")
    b.output("y")
    return b.build(), {"x": (1, 6, 8)}


def shared() -> Model:
    """A weight that a first convolution shares with a later one is halved for both: there is one constant."""
    b = Builder()
    weight = b.noise(4, 4, 3, 3, name="shared")
    y = b.op("Relu", b.op("Conv", b.input("x", 1, 4, 8, 8), weight, pads=[1] * 4, name="one"))
    y = b.convolution(b.op("Relu", b.op("Conv", y, weight, pads=[1] * 4, name="two")), "other", 4, 4, 1, 1)
    return b.finish(y), IMAGE


# The model and its first layers
CASES: dict[str, tuple[Callable[[], Model], set[str]]] = {
    "several inputs": (several_inputs, {"left", "right"}),
    "several first convolutions": (several_first_convolutions, {"small", "wide"}),
    "behind moves": (behind_moves, {"moved"}),
    "transposed": (transposed, {"first"}),
    "depthwise and grouped": (depthwise_and_grouped, {"depthwise"}),
    "grouped first": (grouped_first, {"grouped"}),
    "fully connected": (fully_connected, set()),
    "attention": (attention, set()),
    "shared weight": (shared, {"shared"}),
}


def samples(shapes: dict[str, tuple[int, ...]], count: int = 6) -> list[dict[str, Array]]:
    rng = np.random.default_rng(8)
    return [{n: rng.normal(0.3, 1, s).astype(np.float32) for n, s in shapes.items()} for _ in range(count)]


def integer_weights(model: onnx.ModelProto, names: list[str]) -> dict[str, Array]:
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    return {name: constants[f"{name}_quantized"] for name in names}


@pytest.mark.parametrize("fix", [ENABLE, FIRST_LAYER, DISABLE, None])
@pytest.mark.parametrize("name", CASES)
def test_weights_in_half_range(name: str, fix: qs.OverflowFix | None) -> None:
    build, first = CASES[name]
    model, shapes = build()
    weights = [i.name for i in model.graph.initializer if not i.name.startswith("constant")]
    assert first <= set(weights)
    data = samples(shapes)
    # Ranges that clip nothing, so that the last line sees what rounding does.
    ranges = qs.RangeEstimatorParametersSet.MINMAX
    advanced = qs.AdvancedQuantizationParameters(overflow_fix=fix, activations_range_estimator_params=ranges)
    int8 = qs.quantize(model, data, advanced_parameters=advanced, progress=False)
    expected = {ENABLE: set(weights), FIRST_LAYER: first, DISABLE: set(), None: first}[fix]
    for weight, levels in integer_weights(int8, weights).items():
        assert levels.dtype == np.int8
        largest = int(np.abs(levels.astype(np.int16)).max())
        if weight in expected:
            assert -64 <= levels.min() <= levels.max() <= 63
            assert largest >= 63
        else:
            assert largest == 127
    exact, rounded = run(model, data[0])["y"], run(int8, data[0])["y"]
    assert sqnr(exact, rounded) > 20


@pytest.mark.parametrize("bits", [4, 7, 16])
@pytest.mark.parametrize("of", ["weights", "activations"])
def test_default_without_8_bits_is_disable(of: str, bits: int) -> None:
    """Sums of fewer bits cannot overflow, and 16 bits have another kernel."""
    model, shapes = several_inputs()
    params = {f"{of}_quantization_params": qs.QuantizationParameters(num_bits=bits)}
    advanced = qs.AdvancedQuantizationParameters(**params)
    int8 = qs.quantize(model, samples(shapes), advanced_parameters=advanced, progress=False)
    largest = int(np.abs(integer_weights(int8, ["left"])["left"].astype(np.int32)).max())
    assert largest == (2 ** (bits - 1) - 1 if of == "weights" else 127)


@pytest.mark.parametrize("fix", [ENABLE, FIRST_LAYER])
@pytest.mark.parametrize(
    "params",
    [qs.QuantizationParameters(mode=QuantizationMode.ASYMMETRIC), qs.QuantizationParameters(num_bits=4)],
    ids=["asymmetric", "4 bits"],
)
def test_half_range_of_other_weights_is_refused(fix: qs.OverflowFix, params: qs.QuantizationParameters) -> None:
    model, shapes = several_inputs()
    advanced = qs.AdvancedQuantizationParameters(overflow_fix=fix, weights_quantization_params=params)
    with pytest.raises(ParameterError, match=r"overflow_fix=.* needs 8-bit symmetric weights"):
        qs.quantize(model, samples(shapes), advanced_parameters=advanced, progress=False)
