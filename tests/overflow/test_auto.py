"""OverflowFix.AUTO through the driver: what is emitted is proven safe, and as fine as it can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import quantstats as qs
from quantstats.adapters.onnx import OnnxAdapter
from quantstats.errors import ParameterError
from quantstats.overflow import PAIRINGS, analyze, certify, smallest_safe_scale
from quantstats.parameters import TargetDevice
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.quantize import make_plan

from .models import network, quantized, samples

Array = NDArray[Any]
AUTO = qs.OverflowFix.AUTO


def plan(**fields: Any) -> QuantizationPlan:
    driver = {name: fields.pop(name) for name in ("target_device",) if name in fields}
    advanced = qs.AdvancedQuantizationParameters(**fields)
    return make_plan(OnnxAdapter(network()), samples(), advanced_parameters=advanced, progress=False, **driver)


def weights(model: onnx.ModelProto) -> dict[str, Array]:
    return {
        i.name: array
        for i in model.graph.initializer
        if (array := numpy_helper.to_array(i)).dtype == np.int8 and array.ndim > 1
    }


@pytest.mark.parametrize("pairing", ["any", "adjacent"])
def test_what_is_emitted_is_safe(pairing: str) -> None:
    model = quantized(AUTO, pairing)
    report = analyze(model, pairing=pairing)
    assert len(report.layers) == 5
    assert report.safe
    assert not analyze(quantized(qs.OverflowFix.DISABLE), pairing=pairing).safe
    assert qs.overflow.simulate(model, samples(2), pairing="adjacent").saturated == 0
    if pairing == "adjacent":
        assert not analyze(model, pairing="any").safe  # it is finer than what is safe for every packing
    else:
        assert analyze(model, pairing="adjacent").safe


@pytest.mark.parametrize("pairing", ["any", "adjacent"])
def test_scales_are_the_smallest_safe_ones(pairing: str) -> None:
    adapter = OnnxAdapter(network())
    full = {w.tensor: w for w in plan(overflow_fix=qs.OverflowFix.DISABLE).weights}
    half = {w.tensor: w for w in plan(overflow_fix=qs.OverflowFix.ENABLE).weights}
    for weight in plan(overflow_fix=AUTO, overflow_pairing=pairing).weights:
        assert weight.pairing is PAIRINGS[pairing]
        assert weight.quantizer is not None
        assert weight.channel_axis is not None
        values = adapter.constant(weight.tensor)
        expected = smallest_safe_scale(values, axis=weight.channel_axis, pairing=pairing)
        np.testing.assert_array_equal(weight.quantizer.scale, expected)
        levels = weight.quantizer.quantize(values)
        assert certify(levels, axis=weight.channel_axis, pairing=pairing).all_safe
        assert not weight.quantizer.half_range
        full_scale, half_scale = (q[weight.tensor].quantizer for q in (full, half))
        assert full_scale is not None
        assert half_scale is not None
        assert np.all(full_scale.scale <= weight.quantizer.scale)
        assert np.all(weight.quantizer.scale <= half_scale.scale)
        assert np.any(weight.quantizer.scale < half_scale.scale)


def test_levels_of_activations_decide() -> None:
    """Seven bits of unsigned activations reach 127, where no weights saturate; signed ones are shifted to 191."""
    seven = {"activations_quantization_params": qs.QuantizationParameters(num_bits=7)}
    unfixed = weights(quantized(qs.OverflowFix.DISABLE, advanced=seven))
    found = weights(quantized(AUTO, advanced=seven))
    report = analyze(quantized(qs.OverflowFix.DISABLE, advanced=seven))
    levels = {layer.name: layer.u_max for layer in report.layers}
    assert levels == {"plain": 127, "grouped": 127, "depthwise": 127, "matmul": 127, "gemm": 191}
    assert analyze(quantized(AUTO, advanced=seven)).safe
    changed = {name for name in found if not np.array_equal(found[name], unfixed[name])}
    assert changed == {next(name for name in found if found[name].shape == (10, 384))}


def test_one_scale_for_a_tensor_is_that_of_its_worst_output() -> None:
    params = {"weights_quantization_params": qs.QuantizationParameters(per_channel=False)}
    adapter = OnnxAdapter(network())
    for weight in plan(overflow_fix=AUTO, overflow_pairing="adjacent", **params).weights:
        assert weight.quantizer is not None
        values = adapter.constant(weight.tensor)
        axis = 1 if values.shape == (36, 24) else 0
        assert weight.quantizer.scale.shape == ()
        levels = weight.quantizer.quantize(values)
        assert certify(levels, axis=axis, pairing="adjacent").all_safe
        below = weight.quantizer.with_scale(np.nextafter(weight.quantizer.scale, np.float32(0)))
        full = np.abs(values).max() / np.float32(127)
        assert weight.quantizer.scale <= full * np.float32(1 + 1e-6) or not (
            certify(below.quantize(values), axis=axis, pairing="adjacent").all_safe
        )


def test_a_range_narrower_than_the_weights_falls_back_to_half_range() -> None:
    """Half range clips what is beyond an estimated range; a scale alone would have to reach all of it."""
    clipping = qs.RangeEstimatorParameters(
        min=qs.StatisticsCollectorParameters(clipping_value=0.05),
        max=qs.StatisticsCollectorParameters(clipping_value=0.05),
    )
    found = plan(overflow_fix=AUTO, weights_range_estimator_params=clipping).weights
    assert any(weight.quantizer is not None and weight.quantizer.half_range for weight in found)
    adapter = OnnxAdapter(network())
    for weight in found:
        assert weight.quantizer is not None
        assert weight.channel_axis is not None
        levels = weight.quantizer.quantize(adapter.constant(weight.tensor))
        assert certify(levels, axis=weight.channel_axis).all_safe


@pytest.mark.parametrize(
    ("target", "fix", "same_as"),
    [
        (TargetDevice.ANY, None, qs.OverflowFix.FIRST_LAYER),
        (TargetDevice.AVX2, None, AUTO),
        (TargetDevice.AVX512, None, AUTO),
        (TargetDevice.VNNI, None, qs.OverflowFix.DISABLE),
        (TargetDevice.VNNI, AUTO, qs.OverflowFix.DISABLE),
        (TargetDevice.VNNI, qs.OverflowFix.ENABLE, qs.OverflowFix.ENABLE),
        (TargetDevice.AVX2, qs.OverflowFix.DISABLE, qs.OverflowFix.DISABLE),
        (TargetDevice.CPU, AUTO, AUTO),
    ],
)
def test_the_target_decides(target: TargetDevice, fix: qs.OverflowFix | None, same_as: qs.OverflowFix) -> None:
    assert plan(target_device=target, overflow_fix=fix).weights == plan(overflow_fix=same_as).weights


def test_other_bit_widths_need_no_fix() -> None:
    four = {"weights_quantization_params": qs.QuantizationParameters(num_bits=4)}
    assert plan(target_device=TargetDevice.AVX2, **four).weights == plan(**four).weights
    with pytest.raises(ParameterError, match="overflow_fix='auto' needs 8-bit symmetric weights"):
        plan(overflow_fix=AUTO, **four)
    with pytest.raises(ParameterError, match="pairing='zigzag' is unknown"):
        plan(overflow_pairing="zigzag")
    with pytest.raises(ParameterError, match="overflow_pairing=None is not a string"):
        plan(overflow_pairing=None)
