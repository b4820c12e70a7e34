"""Every field of the parameter classes changes the ONNX model that onnxruntime runs in the way that it documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import quantstats as qs
from quantstats.adapters.onnx import OnnxAdapter, running
from quantstats.adapters.protocol import Array
from quantstats.errors import ParameterError
from quantstats.parameters import IgnoredScope, ModelType, QuantizationMode, QuantizationPreset, Subgraph, TargetDevice
from quantstats.ptq.quantize import make_plan
from quantstats.range_estimator import AggregatorType as A
from quantstats.range_estimator import (
    RangeEstimatorParameters,
    StatisticsCollectorParameters,
)
from quantstats.range_estimator import RangeEstimatorParametersSet as Set
from quantstats.range_estimator import StatisticsType as S

from ..adapters.onnx.models import ModelBuilder, small_cnn
from ..adapters.onnx.quantization import executed_types, run, sqnr

SYMMETRIC, ASYMMETRIC = QuantizationMode.SYMMETRIC, QuantizationMode.ASYMMETRIC
Parameters = qs.QuantizationParameters


def samples(count: int = 8, *, batch: int = 1, seed: int = 6) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0.3, 1, (batch, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def quantized(model: onnx.ModelProto, data: Any = None, **fields: Any) -> onnx.ModelProto:
    """The model that `quantize` makes; arguments of the driver by their name, fields of the advanced parameters too."""
    driver = ("preset", "target_device", "model_type", "ignored_scope", "subset_size")
    arguments = {name: fields.pop(name) for name in driver if name in fields}
    fields.setdefault("overflow_fix", qs.OverflowFix.DISABLE)
    advanced = qs.AdvancedQuantizationParameters(**fields)
    data = samples() if data is None else data
    found: onnx.ModelProto = qs.quantize(model, data, advanced_parameters=advanced, progress=False, **arguments)
    return found


def rounded(model: onnx.ModelProto, **fields: Any) -> onnx.ModelProto:
    """What `quantize` makes without bias correction: all noise is that of rounding."""
    return quantized(model, disable_bias_correction=True, **fields)


def constants(model: onnx.ModelProto) -> dict[str, Array]:
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def activation_parameters(model: onnx.ModelProto) -> dict[str, tuple[Array, Array]]:
    """Scale and zero point of every QuantizeLinear, by the tensor that it writes."""
    known = constants(model)
    return {
        node.output[0]: (known[node.input[1]], known[node.input[2]])
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }


def weights(model: onnx.ModelProto) -> dict[str, Array]:
    """Integer weights by name: what DequantizeLinear reads directly, but for biases."""
    known = constants(model)
    return {
        node.input[0]: known[node.input[0]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in known and known[node.input[0]].dtype != np.int32
    }


def element_type(model: onnx.ModelProto, tensor: str) -> str:
    """The ONNX type of a constant."""
    return onnx.TensorProto.DataType.Name(next(i.data_type for i in model.graph.initializer if i.name == tensor))


def outputs(model: onnx.ModelProto, data: list[dict[str, Array]], *, optimized: bool = True) -> Array:
    return np.concatenate([run(model, sample, optimized=optimized)["y"] for sample in data])


def output_sqnr(model: onnx.ModelProto, int8: onnx.ModelProto) -> float:
    data = samples(8, seed=77)
    return sqnr(outputs(model, data), outputs(int8, data))


# -- QuantizationParameters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [SYMMETRIC, ASYMMETRIC])
@pytest.mark.parametrize("opset", [17, 21])
def test_num_bits_of_weights(mode: QuantizationMode, opset: int) -> None:
    """The levels of the weights are those of the bits, in 4, 8 or 16, and each bit is worth about 6 dB."""
    model = small_cnn(opset=opset)
    noise = {}
    for bits in (2, 3, 4, 5, 6, 7, 8, 16):
        int8 = rounded(model, weights_quantization_params=Parameters(num_bits=bits, mode=mode))
        onnx.checker.check_model(int8)
        stored = 4 if bits <= 4 and opset >= 21 else 8 if bits <= 8 else 16
        for tensor, levels in weights(int8).items():
            assert element_type(int8, tensor) == f"{'UINT' if mode is ASYMMETRIC else 'INT'}{stored}"
            levels = levels.astype(np.int32)
            low, high = (0, 2**bits - 1) if mode is ASYMMETRIC else (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
            assert low <= levels.min()
            assert levels.max() <= high
            assert np.unique(levels).size <= 2**bits
            assert max(abs(int(levels.min())), abs(int(levels.max()))) == high
        noise[bits] = output_sqnr(model, int8)
    assert all(noise[bits + 2] > noise[bits] + 6 for bits in (2, 3, 4))
    assert noise[8] > 25
    assert noise[16] > noise[8] - 1  # the noise of the activations is what is left


@pytest.mark.parametrize("mode", [SYMMETRIC, ASYMMETRIC])
@pytest.mark.parametrize("per_channel", [True, False])
def test_four_bit_types(mode: QuantizationMode, per_channel: bool) -> None:
    """Weights of 4 bits take half a byte each, with the levels, scales and outputs that they have in int8."""
    model = small_cnn(opset=21)
    weight = Parameters(num_bits=4, mode=mode, per_channel=per_channel)
    packed = rounded(model, weights_quantization_params=weight)
    wide = rounded(model, weights_quantization_params=weight, backend_params={"four_bit_types": False})
    raw = {tensor.name: tensor for tensor in packed.graph.initializer}
    assert weights(packed).keys() == weights(wide).keys()
    for name, levels in weights(wide).items():
        assert element_type(wide, name).endswith("INT8")
        assert len(raw[name].raw_data) == (levels.size + 1) // 2
        np.testing.assert_array_equal(weights(packed)[name].astype(np.int8), levels.astype(np.int8))
    data = samples(4)
    # Floating-point kernels on the same numbers, whose activations now and then round to the neighbouring level.
    assert sqnr(outputs(wide, data), outputs(packed, data)) > 35


@pytest.mark.parametrize("mode", [SYMMETRIC, ASYMMETRIC])
def test_num_bits_of_activations(mode: QuantizationMode) -> None:
    """Levels below 8 bits are clipped inside uint8; each bit is worth about 6 dB; 16 bits leave the weights' noise."""
    model = small_cnn()
    noise = {}
    for bits in (2, 3, 4, 5, 6, 7, 8, 16):
        int8 = rounded(model, activations_quantization_params=Parameters(num_bits=bits, mode=mode))
        onnx.checker.check_model(int8)
        for tensor, (_, zero_point) in activation_parameters(int8).items():
            assert zero_point.dtype == (np.uint8 if bits <= 8 else np.uint16), tensor
        clips = [node for node in int8.graph.node if node.op_type == "Clip"]
        assert bool(clips) == (bits < 8)
        data = samples(4)
        for value in (tensors_of(int8, sample, "Clip") for sample in data) if clips else ():
            assert all(np.unique(levels).size <= 2**bits for levels in value)
        noise[bits] = output_sqnr(model, int8)
    assert all(noise[bits + 2] > noise[bits] + 6 for bits in (2, 3, 4))
    assert noise[16] > noise[8]


def tensors_of(model: onnx.ModelProto, sample: Mapping[str, Array], op_type: str) -> list[Array]:
    """Outputs of all operations of a type."""
    names = [node.output[0] for node in model.graph.node if node.op_type == op_type]
    tapped = onnx.ModelProto.FromString(model.SerializeToString())
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return [run(tapped, sample, optimized=False)[name] for name in names]


def test_mode_of_activations() -> None:
    model = small_cnn()
    symmetric = activation_parameters(quantized(model, activations_quantization_params=Parameters(mode=SYMMETRIC)))
    asymmetric = activation_parameters(quantized(model, activations_quantization_params=Parameters(mode=ASYMMETRIC)))
    assert {int(zero) for _, zero in symmetric.values()} <= {0, 128}
    assert {int(zero) for _, zero in asymmetric.values()} - {0, 128}


def test_mode_of_weights() -> None:
    model = small_cnn()
    for mode, dtype in ((SYMMETRIC, np.int8), (ASYMMETRIC, np.uint8)):
        int8 = quantized(model, weights_quantization_params=Parameters(mode=mode))
        assert {levels.dtype for levels in weights(int8).values()} == {np.dtype(dtype)}
        assert output_sqnr(model, int8) > 25


def test_signedness_to_force_of_activations() -> None:
    """True gives rectified activations signed levels, of which half stay unused; False and None go by the data."""
    model = small_cnn()
    found = {
        force: activation_parameters(
            quantized(model, activations_quantization_params=Parameters(signedness_to_force=force))
        )
        for force in (None, True, False)
    }
    rectified = [tensor for tensor, (_, zero) in found[None].items() if int(zero) == 0]
    assert len(rectified) >= 3
    for tensor in rectified:
        assert int(found[True][tensor][1]) == 128
        assert float(found[True][tensor][0]) == pytest.approx(float(found[None][tensor][0]) * 255 / 127, rel=1e-6)
    assert found[None] == found[False]


def test_signedness_to_force_of_weights() -> None:
    """False lets weights without negative values have unsigned levels; weights with negative ones stay signed."""
    b = ModelBuilder()
    y = b.op("Relu", b.op("Conv", b.input("x", 1, 3, 8, 8), b.positive(4, 3, 3, 3), pads=[1] * 4))
    b.op("Conv", y, b.noise(4, 4, 3, 3), pads=[1] * 4, out="y")
    b.output("y")
    model = b.build()
    for force, expected in ((None, [np.int8, np.int8]), (True, [np.int8, np.int8]), (False, [np.uint8, np.int8])):
        int8 = quantized(model, weights_quantization_params=Parameters(signedness_to_force=force))
        assert [levels.dtype for levels in weights(int8).values()] == expected
        assert output_sqnr(model, int8) > 25


def test_per_channel_of_weights(tmp_path: Path) -> None:
    model = small_cnn()
    noise = {}
    for per_channel in (True, False):
        int8 = rounded(model, weights_quantization_params=Parameters(per_channel=per_channel))
        known = constants(int8)
        scales = [
            known[node.input[1]].ndim
            for node in int8.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in weights(int8)
        ]
        assert set(scales) == {int(per_channel)}
        assert "QLinearConv" in executed_types(int8, tmp_path)
        noise[per_channel] = output_sqnr(model, int8)
    assert noise[True] > noise[False]


def test_per_channel_of_activations() -> None:
    """A scale for each channel of what convolutions read; less noise, though onnxruntime cannot fuse it."""
    b = ModelBuilder()
    spread = np.logspace(-1, 1, 3, dtype=np.float32).reshape(3, 1, 1, 1)
    x = b.input("x", "batch", 3, 8, 8)
    scaled = b.op("Relu", b.op("Conv", x, b.constant(spread), group=3), out="scaled")
    b.op("Conv", scaled, b.constant(1 / spread), group=3, out="y")
    b.output("y")
    model = b.build()
    noise = {}
    for per_channel in (True, False):
        int8 = quantized(model, activations_quantization_params=Parameters(per_channel=per_channel))
        scale, zero = activation_parameters(int8)["scaled_quantized"]
        assert scale.shape == zero.shape == ((3,) if per_channel else ())
        noise[per_channel] = output_sqnr(model, int8)
    assert noise[True] > noise[False] + 3


@pytest.mark.parametrize("quantize_outputs", [False, True])
@pytest.mark.parametrize(
    ("op_type", "constant_shapes", "shape"),
    [
        ("Conv", [(4, 3, 1, 1)], (1, 3, 8, 8)),
        ("Conv", [(4, 3, 1, 1), (4,)], (1, 3, 8, 8)),
        ("ConvTranspose", [(3, 4, 2, 2)], (1, 3, 8, 8)),
        ("MatMul", [(8, 4)], (3, 8)),
        ("MatMul", [(8, 4)], (1, 3, 8)),
        ("Gemm", [(8, 4)], (3, 8)),
        ("Gemm", [(8, 4), (4,)], (3, 8)),
    ],
    ids=["Conv", "Conv, bias", "ConvTranspose", "MatMul", "MatMul of rank 3", "Gemm", "Gemm, bias"],
)
def test_per_channel_activations_run(
    op_type: str, constant_shapes: list[tuple[int, ...]], shape: tuple[int, ...], quantize_outputs: bool
) -> None:
    """onnxruntime's integer kernels take one scale for an activation, so the operation must not become one of them."""
    b = ModelBuilder()
    b.op(op_type, b.input("x", *shape), *(b.noise(*sizes) for sizes in constant_shapes), out="y")
    b.output("y")
    model = b.build()
    rng = np.random.default_rng(2)
    data = [{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(4)]
    params = Parameters(per_channel=True)
    int8 = quantized(model, data, activations_quantization_params=params, quantize_outputs=quantize_outputs)
    assert activation_parameters(int8)["x_quantized"][0].ndim == 1
    plain, optimized = (outputs(int8, data[:1], optimized=wanted) for wanted in (False, True))
    np.testing.assert_allclose(optimized, plain, rtol=0, atol=0.05)
    assert sqnr(outputs(model, data[:1]), optimized) > 15


def test_narrow_range_of_weights() -> None:
    model = small_cnn()
    lowest = {}
    for narrow in (True, False):
        int8 = quantized(model, weights_quantization_params=Parameters(narrow_range=narrow))
        lowest[narrow] = min(int(levels.min()) for levels in weights(int8).values())
    assert lowest[True] == -127
    assert lowest[False] == -127  # a symmetric range reaches one level further down than any weight does
    asymmetric = Parameters(mode=ASYMMETRIC, narrow_range=True)
    assert (
        min(int(levels.min()) for levels in weights(quantized(model, weights_quantization_params=asymmetric)).values())
        == 1
    )


def test_narrow_range_of_activations() -> None:
    model = small_cnn()
    for mode, limits in ((SYMMETRIC, {(1, 255), (0, 254)}), (ASYMMETRIC, {(1, 255)})):
        int8 = quantized(model, activations_quantization_params=Parameters(narrow_range=True, mode=mode))
        known = constants(int8)
        found = {
            tuple(int(known[name]) for name in node.input[1:3]) for node in int8.graph.node if node.op_type == "Clip"
        }
        assert found == limits
        assert output_sqnr(model, int8) > 25


# -- AdvancedQuantizationParameters -----------------------------------------------------------------------------------


def test_quantize_outputs() -> None:
    """The model's outputs lie on 256 levels."""
    b = ModelBuilder()
    b.op("Gemm", b.op("Flatten", b.input("x", "batch", 3, 8, 8)), b.noise(192, 64), b.noise(64), out="y")
    b.output("y")
    model = b.build()
    for wanted in (True, False):
        int8 = quantized(model, quantize_outputs=wanted)
        last = int8.graph.output[0].name
        producer = next(node for node in int8.graph.node if last in node.output)
        assert (producer.op_type == "DequantizeLinear") == wanted
        assert (np.unique(outputs(int8, samples(40, seed=3))).size <= 256) == wanted


def test_batchwise_statistics() -> None:
    """True makes the range of batches of four that of their items, False that of the largest item of each batch."""
    model = small_cnn()
    single = samples(16)
    batches = [{"x": np.concatenate([s["x"] for s in single[i : i + 4]])} for i in range(0, 16, 4)]
    items = activation_parameters(quantized(model, single))["x_quantized"][0]
    on = activation_parameters(quantized(model, batches, batchwise_statistics=True))["x_quantized"][0]
    off = activation_parameters(quantized(model, batches, batchwise_statistics=False))["x_quantized"][0]
    assert on == items
    assert off > items


def test_disable_bias_correction_leaves_the_biases_as_they_are() -> None:
    """The int32 bias is the bias of the model in units of input scale times weight scale."""
    model = small_cnn()
    int8 = quantized(model, disable_bias_correction=True)
    known, original = constants(int8), constants(model)
    (bias, scale) = next(
        (known[node.input[0]], known[node.input[1]])
        for node in int8.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0].startswith("head.bias")
    )
    np.testing.assert_array_equal(bias, np.rint(original["head.bias"].astype(np.float64) / scale))


def test_range_estimators_of_activations_and_weights() -> None:
    branch = StatisticsCollectorParameters(clipping_value=0.05)
    clipped = RangeEstimatorParameters(min=branch, max=branch)
    model = small_cnn()
    scale = activation_parameters(quantized(model, activations_range_estimator_params=clipped))["x_quantized"][0]
    assert float(scale) == pytest.approx(0.05 * 256 / 254 * 2 / 255, rel=0.01)
    int8 = quantized(model, weights_range_estimator_params=clipped)
    known = constants(int8)
    for node in int8.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights(int8):
            np.testing.assert_allclose(known[node.input[1]], 0.05 / 127, rtol=1e-6)


def test_backend_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ONNX adapter takes the threads of onnxruntime and the directory of external data, and nothing else."""
    asked = []

    class Watched(running.Session):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            asked.append(options["num_threads"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr(running, "Session", Watched)
    expected = quantized(small_cnn())
    onnx.save(small_cnn(), tmp_path / "model.onnx", save_as_external_data=True, size_threshold=16)
    without_data = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    settings = {"num_threads": 1, "external_data_dir": tmp_path}
    found = quantized(without_data, backend_params=settings)
    quantized(small_cnn(), backend_params={"num_threads": 6})
    assert asked[1:] == [1, 3]  # Two runs at a time share six threads.
    assert weights(found).keys() == weights(expected).keys()
    for name, levels in weights(expected).items():
        np.testing.assert_array_equal(weights(found)[name], levels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"threads": 1},
            "backend_params has 'threads', which the ONNX adapter does not know; it takes 'external_data_",
        ),
        ({"four_bit_types": 1}, "four_bit_types=1"),
        ({"num_threads": 0}, "num_threads=0 is not an integer of at least 1"),
        ({"external_data_dir": "nowhere"}, "external_data_dir='nowhere' is no directory"),
    ],
)
def test_backend_params_that_cannot_be_honoured(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        quantized(small_cnn(), backend_params=settings)


STATISTICS: dict[S, Callable[[Array, float], float]] = {
    S.MAX: lambda x, _: np.max(np.abs(x)),  # a symmetric range is as wide as the largest magnitude
    S.ABS_MAX: lambda x, _: np.max(np.abs(x)),
    S.QUANTILE: lambda x, p: np.quantile(x, 1 - p),
    S.ABS_QUANTILE: lambda x, p: np.quantile(np.abs(x), 1 - p),
    S.MEAN: lambda x, _: np.mean(x),
    S.MIN: lambda x, _: np.min(x),
}
AGGREGATORS: dict[A, Callable[[Array], float]] = {
    A.MAX: np.max,
    A.MIN: np.min,
    A.MEAN: np.mean,
    A.MEDIAN: np.median,
    A.MEAN_NO_OUTLIERS: lambda v: np.mean(_inliers(v)),
    A.MEDIAN_NO_OUTLIERS: lambda v: np.median(_inliers(v)),
}
PROBABILITY = 0.2


def _inliers(values: Array) -> Array:
    low, high = np.quantile(values, [PROBABILITY, 1 - PROBABILITY])
    found: Array = values[(values >= low) & (values <= high)]
    return found


@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=lambda a: a.name)
@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda s: s.name)
def test_statistics_type_and_aggregator_type(statistic: S, aggregator: A) -> None:
    """The scale of the input is the aggregated statistic divided by the highest level."""
    data = [{"x": sample["x"] + 5} for sample in samples()]  # the statistics of both signs are positive
    data[0]["x"][0, 0, 0, 0] = -1.0  # and the range is signed
    least = StatisticsCollectorParameters(S.MIN, A.MIN)
    branch = StatisticsCollectorParameters(statistic, aggregator, quantile_outlier_prob=PROBABILITY)
    params = RangeEstimatorParameters(min=least, max=branch)
    scale, zero = activation_parameters(quantized(small_cnn(), data, activations_range_estimator_params=params))[
        "x_quantized"
    ]
    of_samples = np.array([STATISTICS[statistic](sample["x"].astype(np.float64), PROBABILITY) for sample in data])
    assert int(zero) == 128
    expected = max(float(AGGREGATORS[aggregator](of_samples)), 8e-5)  # the least that a symmetric range reaches
    assert float(scale) == pytest.approx(expected / 127, rel=1e-6)


def test_quantile_outlier_prob() -> None:
    """A larger probability clips more."""
    scales = []
    for probability in (1e-4, 1e-2, 0.2):
        branch = StatisticsCollectorParameters(S.QUANTILE, A.MEAN, quantile_outlier_prob=probability)
        params = RangeEstimatorParameters(min=branch, max=branch)
        int8 = quantized(small_cnn(), activations_range_estimator_params=params)
        scales.append(float(activation_parameters(int8)["x_quantized"][0]))
    assert scales[0] > scales[1] > scales[2]


def test_raw_and_histogram() -> None:
    """Where levels are few, the range with the least error clips the tails."""
    scales = {
        name: activation_parameters(
            quantized(
                small_cnn(),
                activations_range_estimator_params=getattr(Set, name),
                activations_quantization_params=Parameters(num_bits=4),
            )
        )["x_quantized"][0]
        for name in ("HISTOGRAM", "MINMAX")
    }
    assert scales["HISTOGRAM"] < 0.9 * scales["MINMAX"]


@pytest.mark.parametrize(
    ("name", "statistic", "aggregator"),
    [
        ("MINMAX", S.MAX, A.MAX),
        ("MEAN_MINMAX", S.MAX, A.MEAN),
        ("MEDIAN_MINMAX", S.MAX, A.MEDIAN),
        ("MEAN_NO_OUTLIERS_MINMAX", S.MAX, A.MEAN_NO_OUTLIERS),
        ("MEAN_QUANTILE", S.QUANTILE, A.MEAN),
    ],
)
def test_sets_of_parameters(name: str, statistic: S, aggregator: A) -> None:
    """A set gives the model that its two branches, written out, give; no two sets give the same."""
    low = S.MIN if statistic is S.MAX else statistic
    aggregated = A.MIN if aggregator is A.MAX else aggregator
    written = RangeEstimatorParameters(
        min=StatisticsCollectorParameters(low, aggregated), max=StatisticsCollectorParameters(statistic, aggregator)
    )
    found = quantized(small_cnn(), activations_range_estimator_params=getattr(Set, name))
    assert found == quantized(small_cnn(), activations_range_estimator_params=written)
    for other in ("MINMAX", "MEAN_MINMAX", "MEDIAN_MINMAX", "MEAN_QUANTILE", "HISTOGRAM"):
        if other != name:
            assert found != quantized(small_cnn(), activations_range_estimator_params=getattr(Set, other))


# -- arguments of the driver -------------------------------------------------------------------------------------------


def test_preset() -> None:
    model = small_cnn()
    for preset, zeros in ((QuantizationPreset.PERFORMANCE, True), (QuantizationPreset.MIXED, False)):
        int8 = quantized(model, preset=preset)
        found = {int(zero) for _, zero in activation_parameters(int8).values()}
        assert (found <= {0, 128}) == zeros
        assert {levels.dtype for levels in weights(int8).values()} == {np.dtype(np.int8)}


def test_model_type() -> None:
    """A transformer: what the softmax weighs stays in floating point, queries and keys are symmetric."""
    b = ModelBuilder()
    x = b.input("x", "batch", 3, 8, 8)
    tokens = b.op("Reshape", x, b.constant(np.int64([0, 24, 8])))
    q, k, v = (b.op("MatMul", tokens, b.noise(8, 8, name=f"{n}.weight"), out=n) for n in "qkv")
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 2, 1]), name="scores")
    context = b.op("MatMul", b.op("Softmax", scores, axis=-1), v, name="context")
    b.op("MatMul", context, b.noise(8, 4), name="project", out="y")
    b.output("y")
    model = b.build()
    found = {}
    for model_type in (None, ModelType.TRANSFORMER):
        int8 = quantized(model, model_type=model_type)
        found[model_type] = int8, activation_parameters(int8)
        assert output_sqnr(model, int8) > 20
    assert {int(zero) for _, zero in found[None][1].values()} <= {0, 128}
    zeros = {tensor: int(zero) for tensor, (_, zero) in found[ModelType.TRANSFORMER][1].items()}
    symmetric = {tensor for tensor, zero in zeros.items() if zero == 128}
    assert {tensor.removesuffix("_quantized") for tensor in symmetric} >= {"q", "k"}
    assert set(zeros.values()) - {0, 128}
    assert "v_quantized" in found[None][1]
    assert "v_quantized" not in zeros


@pytest.mark.parametrize("device", list(TargetDevice))
def test_target_device(device: TargetDevice) -> None:
    """ANY and CPU give the same model, a kind of CPU that with its overflow fix; others are refused."""
    fixes = {TargetDevice.AVX2: "auto", TargetDevice.AVX512: "auto", TargetDevice.VNNI: "disable"}
    if device in (TargetDevice.ANY, TargetDevice.CPU, *fixes):
        fix = qs.OverflowFix(fixes.get(device, "first_layer_only"))
        expected = quantized(small_cnn(), overflow_fix=fix)
        assert quantized(small_cnn(), target_device=device, overflow_fix=None) == expected
    else:
        with pytest.raises(ParameterError, match=f"target_device={device.value} is not supported"):
            quantized(small_cnn(), target_device=device)


def test_subset_size() -> None:
    data = samples(6)
    data[-1]["x"] = data[-1]["x"] * 100
    assert quantized(small_cnn(), data, subset_size=5) == quantized(small_cnn(), data[:5])
    assert quantized(small_cnn(), data, subset_size=6) != quantized(small_cnn(), data[:5])


@pytest.mark.parametrize(
    ("scope", "ignored"),
    [
        (IgnoredScope(names=["second"]), {"second"}),
        (IgnoredScope(patterns=["(fir|sec)"]), {"first", "second"}),
        (IgnoredScope(types=["Conv"]), {"stem", "first", "second"}),
        (IgnoredScope(subgraphs=[Subgraph(["first"], ["second"])]), {"first", "second"}),
        (IgnoredScope(names=["stem"], types=["Gemm"]), {"stem", "head"}),
        (IgnoredScope(names=["second", "nothing"], validate=False), {"second"}),
    ],
    ids=["names", "patterns", "types", "subgraphs", "union", "validate"],
)
def test_ignored_scope(scope: IgnoredScope, ignored: set[str]) -> None:
    """An ignored operation reads its weight as it was; the others have integer weights."""
    model = small_cnn()
    int8 = quantized(model, ignored_scope=scope)
    producers = {output: node for node in int8.graph.node for output in node.output}
    layers = {node.name: node for node in int8.graph.node if node.op_type in ("Conv", "Gemm")}
    assert set(layers) == {"stem", "first", "second", "head"}
    in_float = {name for name, node in layers.items() if node.input[1] not in producers}
    assert in_float == ignored


def test_ignored_scope_that_matches_nothing_is_an_error_unless_told() -> None:
    with pytest.raises(qs.IgnoredScopeError, match="nothing"):
        quantized(small_cnn(), ignored_scope=IgnoredScope(names=["second", "nothing"]))


def test_dtype_of_integer_inputs_is_left_alone() -> None:
    b = ModelBuilder()
    embedded = b.op("Gather", b.noise(20, 8), b.input("x", 1, 6, dtype=TensorProto.INT64))
    b.op("MatMul", embedded, b.noise(8, 3), out="y")
    b.output("y")
    data = [{"x": np.random.default_rng(i).integers(0, 20, (1, 6))} for i in range(4)]
    plan = make_plan(OnnxAdapter(b.build()), data, progress=False)
    assert "x" not in {a.tensor for a in plan.activations}
