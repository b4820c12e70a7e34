"""The driver from end to end, on a framework that it has never heard of."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from quantstats.adapters.protocol import Array
from quantstats.advanced_parameters import (
    AdvancedQuantizationParameters,
    OverflowFix,
    QuantizationParameters,
)
from quantstats.errors import DataError, NonFiniteError, ParameterError, QuantizationError
from quantstats.parameters import IgnoredScope, ModelType, QuantizationMode, QuantizationPreset, TargetDevice
from quantstats.ptq.dataset import Dataset
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.quantize import make_plan, quantize
from quantstats.quantizer import Quantizer
from quantstats.range_estimator import (
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)

from .framework import (
    Network,
    NetworkBuilder,
    NumpyAdapter,
    attention_network,
    images,
    outputs_of,
    residual_network,
    sequences,
)


def plan_of(network: Network, data: Any, **options: Any) -> QuantizationPlan:
    return make_plan(NumpyAdapter(network), data, progress=False, **options)


def activation(plan: QuantizationPlan, tensor: str) -> Quantizer:
    (found,) = (a.quantizer for a in plan.activations if a.tensor == tensor)
    assert found is not None
    return found


def sqnr(network: Network, other: Network, data: list[Array], output: str) -> float:
    """Signal to quantization noise in dB over all samples."""
    (name,) = network.inputs
    exact = np.concatenate([network({name: x})[output] for x in data])
    rounded = np.concatenate([other({name: x})[output] for x in data])
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - rounded) ** 2)))


# -- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fix", [OverflowFix.DISABLE, OverflowFix.FIRST_LAYER])
def test_quantized_networks_stay_close_on_unseen_data(fix: OverflowFix) -> None:
    advanced = AdvancedQuantizationParameters(overflow_fix=fix)
    for network, seen, unseen in (
        (residual_network(), images(64), images(16, seed=2)),
        (attention_network(), sequences(64), sequences(16, seed=2)),
    ):
        quantized = quantize(NumpyAdapter(network), seen, advanced_parameters=advanced, progress=False)
        for output in network.outputs:
            assert sqnr(network, quantized, unseen, output) > 24


def test_sixteen_bits_leave_almost_no_noise() -> None:
    """Noise falls by 6 dB a bit where clipping adds none: with the full range, 16 bits are 40 dB better than 8."""
    network, data = residual_network(), images(32)
    found = {}
    for bits in (8, 16):
        params = QuantizationParameters(num_bits=bits)
        advanced = AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.DISABLE,
            activations_quantization_params=params,
            weights_quantization_params=params,
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        )
        quantized = quantize(NumpyAdapter(network), data, advanced_parameters=advanced, progress=False)
        found[bits] = sqnr(network, quantized, data, "classify.out")
    assert found[16] > found[8] + 40


def test_quantized_layer_computes_what_integers_compute() -> None:
    """Rounded floating-point operands give the integer product times both scales: what a runtime's kernel does."""
    b = NetworkBuilder()
    network = b.build(b.dense("dense", b.input("x", None, 16), (16, 4)))
    data = list(np.random.default_rng(0).uniform(-1, 3, (20, 1, 16)).astype(np.float32))
    adapter = NumpyAdapter(network)
    plan = make_plan(adapter, data, preset=QuantizationPreset.MIXED, progress=False)
    (a,), (w,) = plan.activations, plan.weights
    assert a.quantizer is not None
    assert w.quantizer is not None
    x = a.quantizer.quantize(data[0]).astype(np.int64) - int(a.quantizer.zero_point)
    weight = w.quantizer.quantize(adapter.constant("dense.weight")).astype(np.int64)
    integer = (x @ weight) * (a.quantizer.scale.astype(np.float64) * w.quantizer.scale)
    np.testing.assert_allclose(adapter.emit(plan)({"x": data[0]})["dense.out"], integer, rtol=1e-5, atol=1e-6)


def test_model_is_not_changed() -> None:
    network = residual_network()
    constants = {name: value.copy() for name, value in network.constants.items()}
    quantize(NumpyAdapter(network), images(4), progress=False)
    assert not network.rounding
    for name, value in constants.items():
        np.testing.assert_array_equal(network.constants[name], value)


# -- ranges ----------------------------------------------------------------------------------------------------------


def test_default_ranges_are_those_of_mean_extremes() -> None:
    data = images(20)
    plan = plan_of(residual_network(), data, preset=QuantizationPreset.MIXED)
    found = activation(plan, "image")
    low, high = np.mean([x.min() for x in data]), np.mean([x.max() for x in data])
    assert found.levels == 256
    assert found.input_low <= low * (1 - 1e-6)
    assert found.input_high >= high * (1 - 1e-6)
    assert float(found.input_high - found.input_low) == pytest.approx(high - low, rel=0.01)


def test_symmetric_range_follows_the_largest_magnitude() -> None:
    data = [x - 2 for x in images(20)]
    found = activation(plan_of(residual_network(), data), "image")
    assert float(found.input_high) == pytest.approx(np.mean([np.abs(x).max() for x in data]), rel=1e-6)
    assert (found.level_low, found.level_high, int(found.zero_point)) == (-128, 127, 0)


def test_rectified_activations_use_unsigned_levels() -> None:
    found = activation(plan_of(residual_network(), images(20)), "relu0.out")
    assert (found.level_low, found.level_high, int(found.zero_point), float(found.input_low)) == (0, 255, 0, 0.0)


def test_weights_have_a_scale_per_channel_of_the_largest_magnitude() -> None:
    network = residual_network()
    advanced = AdvancedQuantizationParameters(overflow_fix=OverflowFix.DISABLE)
    for weight in plan_of(network, images(4), advanced_parameters=advanced).weights:
        assert weight.quantizer is not None
        values = np.moveaxis(network.constants[weight.tensor], weight.channel_axis or 0, 0)
        largest = np.abs(values).reshape(len(values), -1).max(1)
        np.testing.assert_allclose(weight.quantizer.scale, largest / 127, rtol=1e-6)
        assert weight.quantizer.axis == weight.channel_axis


def test_symmetric_weights_are_signed_and_balanced_around_zero() -> None:
    """Even where no weight is negative: integer kernels take signed weights, and -128 has no positive counterpart."""
    b = NetworkBuilder()
    weight = b.constant("w", np.linspace(0, 1, 8).reshape(4, 2))
    network = b.build(b.layer("dense", "dense", b.input("x", None, 4), weight))
    (found,) = plan_of(network, [np.ones((1, 4), np.float32)]).weights
    assert found.quantizer is not None
    assert (found.quantizer.level_low, found.quantizer.level_high) == (-127, 127)


def test_constant_operand_of_an_addition_is_ranged_by_its_values() -> None:
    b = NetworkBuilder()
    shift = b.constant("shift", np.linspace(-3, 2, 8).reshape(1, 8, 1, 1))
    x = b.layer("add", "add", b.conv("conv0", b.input("image", None, 3, 8, 8), (3, 8)), shift)
    network = b.build(b.conv("conv1", x, (8, 4)))
    plan = plan_of(network, images(8))
    assert plan.decisions["add"].quantized
    assert float(activation(plan, "shift").input_high) == pytest.approx(3)
    assert [w.tensor for w in plan.weights] == ["conv0.weight", "conv1.weight"]
    assert sqnr(network, NumpyAdapter(network).emit(plan), images(8), "conv1.out") > 24


def test_half_range_weights_stay_within_64() -> None:
    network = residual_network()
    advanced = AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE)
    plan = plan_of(network, images(4), advanced_parameters=advanced)
    assert len(plan.weights) == 4
    for weight in plan.weights:
        assert weight.quantizer is not None
        levels = weight.quantizer.quantize(network.constants[weight.tensor])
        assert levels.min() >= -64
        assert levels.max() <= 63
        assert np.abs(levels.astype(np.int16)).max() >= 63


@pytest.mark.parametrize("name", [name for name in vars(RangeEstimatorParametersSet) if name.isupper()])
@pytest.mark.parametrize("preset", list(QuantizationPreset))
def test_every_range_estimator(name: str, preset: QuantizationPreset) -> None:
    data = images(12)
    advanced = AdvancedQuantizationParameters(
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, name)
    )
    network = residual_network()
    quantized = quantize(NumpyAdapter(network), data, preset=preset, advanced_parameters=advanced, progress=False)
    assert sqnr(network, quantized, data, "classify.out") > 18


def test_histogram_clips_more_where_levels_are_few() -> None:
    high = {}
    for bits in (4, 8):
        advanced = AdvancedQuantizationParameters(
            activations_quantization_params=QuantizationParameters(num_bits=bits),
            activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM,
        )
        high[bits] = activation(
            plan_of(residual_network(), images(8), advanced_parameters=advanced), "image"
        ).input_high
    assert high[4] < 0.9 * high[8]


def test_weight_range_estimator() -> None:
    params = RangeEstimatorParameters(max=StatisticsCollectorParameters(clipping_value=0.05))
    advanced = AdvancedQuantizationParameters(overflow_fix=OverflowFix.DISABLE, weights_range_estimator_params=params)
    for weight in plan_of(residual_network(), images(4), advanced_parameters=advanced).weights:
        assert weight.quantizer is not None
        np.testing.assert_allclose(weight.quantizer.scale, np.float32(0.05 / 127), rtol=1e-6)


def test_histogram_of_weights_per_channel_is_refused() -> None:
    advanced = AdvancedQuantizationParameters(weights_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM)
    with pytest.raises(ParameterError, match="weights are quantized per channel"):
        plan_of(residual_network(), images(4), advanced_parameters=advanced)


def test_activations_per_channel() -> None:
    advanced = AdvancedQuantizationParameters(activations_quantization_params=QuantizationParameters(per_channel=True))
    data = images(8)
    plan = plan_of(residual_network(), data, advanced_parameters=advanced)
    found = activation(plan, "image")
    assert found.axis == 1
    largest = np.abs(np.concatenate(data)).max((0, 2, 3))
    np.testing.assert_allclose(found.input_high, largest, rtol=1e-6)  # MIN/MAX over all samples is the default here


def test_order_of_samples_does_not_matter() -> None:
    data = images(16)
    assert plan_of(residual_network(), data) == plan_of(residual_network(), data[::-1])


def test_batchwise_statistics_do_not_depend_on_the_batch_size() -> None:
    data = images(16)
    batches = [np.concatenate(data[i : i + 4]) for i in range(0, 16, 4)]
    one = plan_of(residual_network(), data)
    advanced = AdvancedQuantizationParameters(batchwise_statistics=True)
    four = plan_of(residual_network(), batches, advanced_parameters=advanced)
    whole = plan_of(residual_network(), batches)
    np.testing.assert_array_equal(activation(four, "image").scale, activation(one, "image").scale)
    for left, right in zip(one.activations, four.activations, strict=True):
        assert left.quantizer is not None
        assert right.quantizer is not None
        # The products behind a layer are summed in another order for another batch size.
        np.testing.assert_allclose(left.quantizer.scale, right.quantizer.scale, rtol=1e-5)
    assert activation(whole, "image").scale > activation(one, "image").scale


def test_a_loader_with_a_batch_size_has_batchwise_statistics_by_default() -> None:
    class Loader(list[Array]):
        batch_size = 4

    data = images(16)
    batches = [np.concatenate(data[i : i + 4]) for i in range(0, 16, 4)]
    one, four = plan_of(residual_network(), data), plan_of(residual_network(), Loader(batches))
    np.testing.assert_array_equal(activation(four, "image").scale, activation(one, "image").scale)
    off = AdvancedQuantizationParameters(batchwise_statistics=False)
    whole = plan_of(residual_network(), Loader(batches), advanced_parameters=off)
    assert activation(whole, "image").scale > activation(one, "image").scale


# -- data and progress -----------------------------------------------------------------------------------------------


def test_no_more_than_subset_size_samples_are_read() -> None:
    read = []

    def endless() -> Iterator[Array]:
        for i in itertools.count():
            read.append(i)
            yield images(1, seed=i)[0]

    plan = plan_of(residual_network(), endless(), subset_size=5)
    assert read == [0, 1, 2, 3, 4]
    assert plan == plan_of(residual_network(), [images(1, seed=i)[0] for i in range(5)])


def test_progress_is_told_after_every_sample() -> None:
    calls: list[tuple[int, int | None, int]] = []

    def note(done: int, total: int | None, tensors: int) -> None:
        calls.append((done, total, tensors))

    adapter = NumpyAdapter(residual_network())
    plan = make_plan(adapter, images(5), subset_size=3, progress=note)
    tensors = len(plan.activations)
    assert calls == [(0, 3, tensors), (1, 3, tensors), (2, 3, tensors), (3, 3, tensors)]
    calls.clear()
    make_plan(adapter, iter(images(2)), progress=note)
    assert calls == [(0, None, tensors), (1, None, tensors), (2, None, tensors)]


def test_progress_bar_is_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    make_plan(NumpyAdapter(residual_network()), images(2), progress=True)
    assert capsys.readouterr() == ("", "")


def test_progress_bar_shows_samples_and_tensors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    plan = make_plan(NumpyAdapter(residual_network()), images(2), progress=True)
    shown = capsys.readouterr().err
    assert "Calibrating" in shown
    assert f"{len(plan.activations)} tensors" in shown


@pytest.mark.parametrize("data", [[], iter([]), np.zeros((0, 3, 8, 8), np.float32)])
def test_empty_data(data: Any) -> None:
    with pytest.raises(DataError, match="calibration data are empty"):
        plan_of(residual_network(), data)


def test_wrong_sample_names_its_index() -> None:
    with pytest.raises(DataError, match=r"input 'image' of sample 2 has shape \[1, 3, 8, 7\]"):
        plan_of(residual_network(), [*images(2), np.zeros((1, 3, 8, 7), np.float32)])


# -- NaN and Inf -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "counts"),
    [(np.nan, "2 NaN, 0 +Inf and 0 -Inf"), (np.inf, "0 NaN, 2 +Inf and 0 -Inf"), (-np.inf, "0 NaN, 0 +Inf and 2 -Inf")],
)
def test_non_finite_input(value: float, counts: str) -> None:
    data = images(4)
    data[3][0, 0, 0, :2] = value
    message = f"tensor 'image' has {counts} among 192 values, in channel 0 of axis 1, in sample 3; remove them from"
    with pytest.raises(NonFiniteError, match=re.escape(message)):
        plan_of(residual_network(), data)


def test_non_finite_activation_names_the_operation() -> None:
    b = NetworkBuilder()
    network = b.build(b.dense("dense", b.layer("log", "log", b.input("x", None, 4)), (4, 2)))
    data = [np.ones((1, 4), np.float32), np.array([[1, 2, -1, 0]], np.float32)]
    message = r"tensor 'log.out' \(output of log\) has 1 NaN, 0 \+Inf and 1 -Inf among 4 values, .*in sample 1; check"
    with pytest.raises(NonFiniteError, match=message) as error:
        plan_of(network, data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("estimator", ["MEAN_MINMAX", "MEAN_QUANTILE", "HISTOGRAM"])
@pytest.mark.parametrize("fast", [True, False])
def test_a_policy_changes_nothing_where_all_is_finite(estimator: str, fast: bool) -> None:
    options = {
        "advanced_parameters": AdvancedQuantizationParameters(
            activations_range_estimator_params=getattr(RangeEstimatorParametersSet, estimator)
        ),
        "fast_bias_correction": fast,
    }
    plain = plan_of(residual_network(), images(10), **options)
    for policy in ("ignore", "clamp"):
        assert plan_of(residual_network(), iter(images(10)), non_finite=policy, **options) == plain


def test_what_is_not_finite_is_left_out_or_clamped(caplog: pytest.LogCaptureFixture) -> None:
    """A logarithm of what is not positive: its range is that of the finite values, or reaches to the largest float."""
    b = NetworkBuilder()
    network = b.build(b.dense("dense", b.layer("log", "log", b.input("x", None, 4)), (4, 2)))
    data = [np.array([x], np.float32) for x in ([1, 2, 4, 8], [1, 2, -1, 0], [1, 1, 0.5, 16])]

    def range_of_log(**options: Any) -> tuple[float, float]:
        advanced = AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX, disable_bias_correction=True
        )
        plan = plan_of(network, data, preset=QuantizationPreset.MIXED, advanced_parameters=advanced, **options)
        (found,) = (a.quantizer for a in plan.activations if a.tensor == "log.out")
        assert found is not None
        return float(found.input_low.item()), float(found.input_high.item())

    low, high = range_of_log(non_finite="ignore")
    assert (low, high) == pytest.approx((np.log(0.5), np.log(16)), abs=0.01)
    assert caplog.messages == [
        "values that are not finite were left out of the statistics of tensors: 'log.out' (1 NaN, 0 +Inf and 1 -Inf)"
    ]
    assert range_of_log(non_finite="clamp")[0] == np.finfo(np.float32).min
    with pytest.raises(ParameterError, match=r"quantize\.non_finite='drop'; use 'raise', 'ignore' or 'clamp'"):
        range_of_log(non_finite="drop")


def test_non_finite_weight_names_the_constant() -> None:
    b = NetworkBuilder()
    network = b.build(b.layer("dense", "dense", b.input("x", None, 1), b.constant("w", [[np.inf, 0.0]])))
    with pytest.raises(NonFiniteError, match="constant 'w': 0 NaN and 1 infinite"):
        plan_of(network, [np.ones((1, 1), np.float32)])


def test_unusable_range_names_the_tensor() -> None:
    params = RangeEstimatorParameters(
        min=StatisticsCollectorParameters(statistics_type=StatisticsType.MAX),
        max=StatisticsCollectorParameters(statistics_type=StatisticsType.MIN),
    )
    advanced = AdvancedQuantizationParameters(activations_range_estimator_params=params)
    with pytest.raises(QuantizationError, match=r"tensor 'image': lo=.* exceeds hi="):
        plan_of(residual_network(), images(2), preset=QuantizationPreset.MIXED, advanced_parameters=advanced)


# -- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_device": TargetDevice.GPU}, "target_device=GPU is not supported"),
        ({"target_device": TargetDevice.CPU_SPR}, "target_device=CPU_SPR is not supported.*TargetDevice.CPU"),
        ({"subset_size": 0}, "subset_size=0"),
        ({"subset_size": True}, "subset_size=True"),
        ({"subset_size": 2.5}, r"subset_size=2\.5"),
        ({"preset": "fast"}, "preset='fast' is not a QuantizationPreset"),
        ({"model_type": "cnn"}, "model_type='cnn' is not a ModelType"),
        ({"ignored_scope": ["conv0"]}, r"ignored_scope=\['conv0'\] is not a IgnoredScope"),
        ({"advanced_parameters": {}}, r"advanced_parameters=\{\} is not a AdvancedQuantizationParameters"),
        ({"fast_bias_correction": 1}, "fast_bias_correction=1"),
        ({"advanced_parameters": AdvancedQuantizationParameters(backend_params={"a": 1})}, "backend_params has 'a'"),
    ],
)
def test_parameter_that_cannot_be_honoured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        plan_of(residual_network(), images(1), **options)


def test_decisions_are_made_before_data_are_read() -> None:
    class Unreadable:
        def __iter__(self) -> Iterator[Array]:
            raise AssertionError("the data are read")

    with pytest.raises(QuantizationError, match="nothing is left to quantize"):
        plan_of(residual_network(), Unreadable(), ignored_scope=IgnoredScope(patterns=[".*"]))


def test_preset_and_model_type_reach_the_quantizers() -> None:
    plan = plan_of(attention_network(), sequences(4), model_type=ModelType.TRANSFORMER, target_device=TargetDevice.CPU)
    modes = {a.tensor: a.config.mode for a in plan.activations}
    assert modes.pop("q.out") is modes.pop("k.out") is QuantizationMode.SYMMETRIC
    assert set(modes.values()) == {QuantizationMode.ASYMMETRIC}
    assert activation(plan, "norm.out").level_low == 0


def test_a_transformer_keeps_what_needs_precision_in_floating_point() -> None:
    plan = plan_of(attention_network(), sequences(4), model_type=ModelType.TRANSFORMER)
    quantized = {name for name, decision in plan.decisions.items() if decision.quantized}
    assert quantized == {"q", "k", "v", "scores", "project", "classify"}
    assert plan.decisions["context"].reason.startswith("in a transformer, what a softmax weighs")
    assert plan_of(attention_network(), sequences(4)).decisions["context"].quantized


def test_an_explicit_mode_wins_over_the_model_type() -> None:
    params = QuantizationParameters(mode=QuantizationMode.ASYMMETRIC)
    advanced = AdvancedQuantizationParameters(activations_quantization_params=params)
    plan = plan_of(attention_network(), sequences(4), model_type=ModelType.TRANSFORMER, advanced_parameters=advanced)
    assert {a.config.mode for a in plan.activations} == {QuantizationMode.ASYMMETRIC}


def test_quantize_outputs_rounds_the_output() -> None:
    network = residual_network()
    advanced = AdvancedQuantizationParameters(quantize_outputs=True)
    quantized = quantize(NumpyAdapter(network), images(8), advanced_parameters=advanced, progress=False)
    values = outputs_of(quantized, {"image": images(1)[0]})["classify.out"]
    scale = quantized.output_rounding["classify.out"].scale
    np.testing.assert_allclose(values / scale, np.round(values / scale), atol=1e-3)


def test_dataset_object_is_accepted() -> None:
    data = Dataset([(x, 0) for x in images(4)], lambda pair: pair[0])
    assert plan_of(residual_network(), data) == plan_of(residual_network(), images(4))
