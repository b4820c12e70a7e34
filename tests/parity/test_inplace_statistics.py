"""`inplace_statistics`: onnxruntime reduces the activations, or quantstats does; the plan is the same by the bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.adapters.protocol import Array, Extrema, Sample
from quantstats.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
from quantstats.errors import NonFiniteError
from quantstats.parameters import QuantizationPreset
from quantstats.ptq.bias_correction import channel_mean_taps
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.quantize import make_plan
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)

from ..adapters.onnx.models import ModelBuilder, small_cnn

Set = RangeEstimatorParametersSet
Reductions = Mapping[str, tuple[int, ...] | None]


class WatchedAdapter(OnnxAdapter):
    """Remembers which tensors were handed out and which were reduced."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
        self.handed_out: set[str] = set()
        self.reduced: set[str] = set()

    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        self.handed_out.update(taps)
        return super().run(sample, taps)

    def run_reduced(
        self, sample: Sample, taps: Sequence[str], reductions: Reductions
    ) -> tuple[Mapping[str, Array], Mapping[str, Extrema]]:
        self.handed_out.update(taps)
        self.reduced.update(reductions)
        return super().run_reduced(sample, taps, reductions)


def samples(count: int = 4, batch: int = 2) -> list[Array]:
    rng = np.random.default_rng(9)
    return [rng.normal(0.3, 1, (batch, 3, 8, 8)).astype(np.float32) for _ in range(count)]


def plan_of(
    model: onnx.ModelProto, data: Any, inplace: bool, **options: Any
) -> tuple[QuantizationPlan, WatchedAdapter]:
    preset = options.pop("preset", None)
    # The default of activations looks at all values; with no field given an estimator has the defaults of nncf.
    options.setdefault("activations_range_estimator_params", RangeEstimatorParameters())
    adapter = WatchedAdapter(model)
    advanced = AdvancedQuantizationParameters(inplace_statistics=inplace, **options)
    return make_plan(adapter, data, preset=preset, advanced_parameters=advanced, progress=False), adapter


def clipped(limit: float) -> RangeEstimatorParameters:
    branch = StatisticsCollectorParameters(clipping_value=limit)
    return RangeEstimatorParameters(min=branch, max=branch)


ABS_MAX = RangeEstimatorParameters(
    max=StatisticsCollectorParameters(StatisticsType.ABS_MAX, AggregatorType.MEAN_NO_OUTLIERS)
)


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preset": QuantizationPreset.MIXED},
        {"batchwise_statistics": True},
        {"activations_quantization_params": QuantizationParameters(per_channel=True)},
        {"activations_range_estimator_params": Set.MINMAX},
        {"activations_range_estimator_params": Set.MEDIAN_MINMAX},
        {"activations_range_estimator_params": ABS_MAX},
        {"activations_range_estimator_params": clipped(0.7), "preset": QuantizationPreset.MIXED},
    ],
    ids=["default", "mixed", "batchwise", "per channel", "minmax", "median", "abs max", "clipped"],
)
def test_same_bits_and_no_activation_leaves_the_graph(opset: int, options: dict[str, Any]) -> None:
    model = small_cnn(opset=opset)
    inside, watched = plan_of(model, samples(), True, disable_bias_correction=True, **options)
    outside, plain = plan_of(model, samples(), False, disable_bias_correction=True, **options)
    assert inside == outside
    assert watched.handed_out <= {"x"}
    assert len(watched.reduced) > 4
    assert plain.reduced == set()
    assert plain.handed_out == watched.reduced | {"x"}


@pytest.mark.parametrize("options", [{}, {"batchwise_statistics": True}], ids=["default", "batchwise"])
def test_bias_correction_gets_the_inputs_of_what_it_corrects(options: dict[str, Any]) -> None:
    inside, watched = plan_of(small_cnn(), samples(), True, **options)
    outside, plain = plan_of(small_cnn(), samples(), False, **options)
    assert inside == outside
    assert inside.biases
    taps = channel_mean_taps(watched.graph(), inside, apply_for_all_nodes=False)
    assert watched.handed_out == {"x", *taps}
    assert watched.reduced.isdisjoint(taps)
    assert len(watched.reduced) > 2
    assert plain.handed_out == watched.reduced | watched.handed_out


@pytest.mark.parametrize("name", ["MEAN_QUANTILE", "HISTOGRAM"])
def test_statistics_that_need_the_tensor_get_it(name: str) -> None:
    options = {"activations_range_estimator_params": getattr(Set, name)}
    inside, watched = plan_of(small_cnn(), samples(), True, **options)
    assert inside == plan_of(small_cnn(), samples(), False, **options)[0]
    assert watched.reduced == set()
    assert len(watched.handed_out) > 4


def _logarithm() -> onnx.ModelProto:
    """A convolution of the logarithm of a convolution: NaN for negative, Inf for zero."""
    b = ModelBuilder()
    x = b.op("Conv", b.input("x", "batch", 3, 8, 8), b.constant(np.eye(3, dtype=np.float32)[:, :, None, None]))
    b.output(b.conv(b.op("Log", x, name="log", out="logarithm"), 3, 4))
    return b.build()


@pytest.mark.parametrize(("value", "counts"), [(-1.0, "1 NaN, 0 +Inf and 0 -Inf"), (0.0, "0 NaN, 0 +Inf and 1 -Inf")])
def test_nan_and_inf_are_found_and_counted_either_way(value: float, counts: str) -> None:
    data = [np.abs(x) + 1 for x in samples()]
    data[2][1, 2, 3, 4] = value
    messages = []
    for inplace in (True, False):
        with pytest.raises(NonFiniteError) as error:
            plan_of(_logarithm(), data, inplace)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert (
        f"tensor 'logarithm' (output of log) has {counts} among 384 values, in channel 2 of axis 1, in sample 2"
        in messages[0]
    )


def test_sum_that_overflows_is_no_alarm() -> None:
    """Infinity in the framework's check makes the driver look at the tensor, which is finite."""
    b = ModelBuilder()
    eye = b.constant(np.eye(3, dtype=np.float32)[:, :, None, None])
    b.output(b.conv(b.op("Relu", b.op("Conv", b.input("x", "batch", 3, 8, 8), eye)), 3, 4))
    data = [np.full((1, 3, 8, 8), 3e37, np.float32)]
    # The last convolution may overflow in int8; its range is what counts here.
    inside, watched = plan_of(b.build(), data, True)
    assert inside == plan_of(b.build(), data, False)[0]
    assert watched.reduced
    assert watched.handed_out > {"x"}


def test_empty_activations_are_no_samples() -> None:
    """As in a detector that finds no box in an image: an empty tensor has no extrema."""
    b = ModelBuilder()
    x, keep = b.input("x", 5, 4), b.input("keep", 5, dtype=onnx.TensorProto.BOOL)
    rows = b.op("Relu", b.op("MatMul", b.op("Compress", x, keep, axis=0), b.noise(4, 4)))
    b.output(b.op("MatMul", rows, b.noise(4, 2)))
    rng = np.random.default_rng(1)
    data = [{"x": rng.normal(size=(5, 4)).astype(np.float32), "keep": np.arange(5) < count} for count in (3, 0, 2)]
    inside, watched = plan_of(b.build(), data, True)
    assert inside == plan_of(b.build(), data, False)[0]
    assert watched.reduced
