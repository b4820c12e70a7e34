"""Reports and simulations of whole models, whoever quantized them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantstats as qs
from quantstats.adapters.onnx.saturation import SaturatingModel
from quantstats.errors import ModelError, ParameterError, UnsupportedModelError
from quantstats.overflow import PAIRINGS, LayerKind, analyze, simulate

from ..adapters.onnx.models import ModelBuilder
from .models import by_onnxruntime, network, quantized, run, samples

FULL = qs.OverflowFix.DISABLE
KINDS = ["convolution", "grouped_convolution", "depthwise_convolution", "matmul", "matmul"]


def saturating(model: onnx.ModelProto, pairing: str = "adjacent") -> SaturatingModel:
    return SaturatingModel(model, {kind: PAIRINGS[pairing].rule(kind) for kind in LayerKind})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, onnx.ModelProto]:
    """The network by quantstats, and by onnxruntime in both of its forms; all with the full range."""
    directory = tmp_path_factory.mktemp("models")
    return {
        "quantstats": quantized(FULL),
        "QDQ": by_onnxruntime(directory, "QDQ"),
        "QOperator": by_onnxruntime(directory, "QOperator"),
    }


@pytest.mark.parametrize("name", ["quantstats", "QDQ", "QOperator"])
def test_every_layer_is_found(models: dict[str, onnx.ModelProto], name: str) -> None:
    report = analyze(models[name], pairing="adjacent")
    assert [layer.kind for layer in report.layers] == KINDS
    assert [layer.outputs for layer in report.layers] == [16, 16, 16, 24, 10]
    assert not report.safe
    assert len(report.at_risk) == 5
    for layer in report.layers:
        assert layer.outputs_at_risk > 0
        assert abs(layer.worst_case) > 32767
        assert 0 < layer.pairs_at_risk < layer.pairs
        decibels = layer.weight_sqnr_db
        assert decibels is not None
        assert decibels["full"] - decibels["half"] == pytest.approx(6.02, abs=0.01)
        assert decibels["half"] < decibels["any"] <= decibels["adjacent"] < decibels["full"]


def test_sums_that_cannot_saturate_give_what_onnxruntime_gives() -> None:
    """Half of the range everywhere: onnxruntime's kernels are exact on any CPU, and so is the simulation."""
    model = quantized(qs.OverflowFix.ENABLE)
    for sample in samples(3, seed=9):
        found = saturating(model).run(sample)["y"]
        np.testing.assert_allclose(found, run(model, sample), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["quantstats", "QDQ", "QOperator"])
def test_exact_sums_are_near_floating_point(models: dict[str, onnx.ModelProto], name: str) -> None:
    for sample in samples(3, seed=9):
        found, reference = saturating(models[name]).run(sample, exact=True)["y"], run(network(), sample)
        noise = float(np.sum(np.square(found - reference)))
        assert 10 * np.log10(float(np.sum(np.square(reference))) / noise) > 25


@pytest.mark.parametrize("name", ["quantstats", "QDQ", "QOperator"])
def test_the_simulation_saturates_where_the_report_says(models: dict[str, onnx.ModelProto], name: str) -> None:
    found = simulate(models[name], samples(3), pairing="adjacent")
    assert found.samples == 3
    assert [layer.name for layer in found.layers] == [layer.name for layer in analyze(models[name]).layers]
    for layer in found.layers:
        assert 0 <= layer.saturated <= layer.pairs
        assert (layer.sqnr_db == float("inf")) == (layer.saturated == 0)
    assert found.saturated > 0
    (output,) = found.outputs
    assert 0 < output.sqnr_db < 60
    # All sums of a layer: positions x outputs x pairs of an output.
    assert found.layers[0].pairs == 3 * 144 * 16 * 14
    assert found.layers[2].pairs == 3 * 36 * 16 * 5


def test_a_safe_model_is_exact() -> None:
    model = quantized(qs.OverflowFix.AUTO, "adjacent")
    found = simulate(model, samples(2), pairing="adjacent")
    assert found.saturated == 0
    assert found.outputs[0].sqnr_db == float("inf")


def test_a_metric_is_evaluated_with_both_arithmetics(models: dict[str, onnx.ModelProto]) -> None:
    data = samples(3)

    def mean(predict: Any, samples: Any) -> float:
        return float(np.mean([predict(sample)["y"] for sample in samples]))

    found = simulate(models["quantstats"], data, pairing="adjacent", metric=mean)
    model = saturating(models["quantstats"])
    assert found.metric == mean(model.run, data)
    assert found.exact_metric == mean(lambda sample: model.run(sample, exact=True), data)
    assert found.metric != found.exact_metric


def test_statistics_predict_the_loss(models: dict[str, onnx.ModelProto]) -> None:
    statistics = qs.calibrate(network(), samples(8), progress=False)
    report = analyze(models["quantstats"], statistics, pairing="adjacent")
    simulated = simulate(models["quantstats"], samples(8), pairing="adjacent")
    for layer, seen in zip(report.layers, simulated.layers, strict=True):
        assert layer.observed_u_max is not None
        assert layer.observed_u_max <= 255
        assert layer.predicted_sqnr_db is not None
        if seen.saturated > 100:
            # Activations are no independent draws, so this is a prediction of the order of magnitude.
            assert layer.predicted_sqnr_db == pytest.approx(seen.sqnr_db, abs=10)
    safe = analyze(quantized(qs.OverflowFix.AUTO, "adjacent"), statistics, pairing="adjacent")
    assert all(layer.predicted_sqnr_db == float("inf") for layer in safe.layers)


def test_small_activations_are_safe(models: dict[str, onnx.ModelProto]) -> None:
    report = analyze(models["quantstats"], u_max=128)
    assert report.safe
    assert {layer.reason for layer in report.layers} == {"activations up to 128 are too small"}


def test_unsigned_weights_are_safe() -> None:
    """A product of two activations multiplies unsigned bytes by unsigned ones, which no instruction pairs."""
    b = ModelBuilder()
    x, y = b.input("x", 2, 8, 16), b.input("y", 2, 16, 8)
    b.output(b.op("MatMul", x, y, name="product", out="z"))
    data = [{"x": np.ones((2, 8, 16), np.float32), "y": np.ones((2, 16, 8), np.float32)}]
    model = qs.quantize(b.build(), data, progress=False)
    (layer,) = analyze(model).layers
    assert layer.safe
    assert layer.reason == "both operands are unsigned"
    assert simulate(model, data).saturated == 0


@pytest.mark.parametrize("pairing", ["any", "adjacent"])
def test_weights_of_every_form(pairing: str) -> None:
    """Transposed convolutions, a stack of matrices, a constant on the left, a weight with two readers, a vector."""
    b = ModelBuilder(seed=3)
    x = b.op("ConvTranspose", b.input("x", 2, 4, 6, 6), b.noise(4, 6, 3, 3), name="transposed")
    x = b.op("Relu", b.op("ConvTranspose", x, b.noise(6, 2, 3, 3), group=2, name="transposed in groups"))
    x = b.op("Reshape", x, b.constant(np.array([2, 4, 100])))
    x = b.op("MatMul", x, b.noise(2, 100, 20), name="stack")
    x = b.op("MatMul", b.noise(8, 4), x, name="left")
    shared = b.noise(20, 20)
    x = b.op("Relu", b.op("MatMul", x, shared, name="first"))
    x = b.op("MatMul", x, shared, name="second")
    b.output(b.op("MatMul", x, b.noise(20), name="vector", out="y"))
    rng = np.random.default_rng(4)
    data = [{"x": rng.uniform(0, 1, (2, 4, 6, 6)).astype(np.float32)} for _ in range(3)]
    found = {}
    for fix in (qs.OverflowFix.AUTO, FULL):
        advanced = qs.AdvancedQuantizationParameters(overflow_fix=fix, overflow_pairing=pairing)
        model = qs.quantize(b.build(), data, advanced_parameters=advanced, progress=False)
        report = analyze(model, pairing=pairing)
        found[fix] = {layer.name: layer.safe for layer in report.layers}
        assert [layer.outputs for layer in report.layers] == [6, 2, 40, 0, 20, 20, 1]
    assert all(found[qs.OverflowFix.AUTO].values())
    # Unsigned on both sides, as onnxruntime wants a constant left operand.
    assert [name for name, safe in found[FULL].items() if safe] == ["left"]
    model = qs.quantize(
        b.build(),
        data,
        advanced_parameters=qs.AdvancedQuantizationParameters(overflow_fix=qs.OverflowFix.AUTO),
        progress=False,
    )
    simulated = saturating(model).run(data[0])["y"]
    np.testing.assert_allclose(simulated, run(model, data[0]), rtol=0, atol=1e-5 * float(np.abs(simulated).max()))


def test_reports_are_plain_data(models: dict[str, onnx.ModelProto]) -> None:
    report = analyze(models["QDQ"])
    document = report.to_dict()
    assert document["safe"] is False
    assert document["layers"][0]["name"] == report.layers[0].name
    assert set(document["layers"][0]) == {field.name for field in dataclasses.fields(report.layers[0])}


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="no layer that multiplies bytes"):
        simulate(network(), samples(1))
    assert analyze(network()).layers == ()
    with pytest.raises(ParameterError, match="pairing='any' does not say which products are pairs"):
        simulate(quantized(FULL), samples(1), pairing="any")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        analyze(broken)
    with pytest.raises(TypeError, match="model is a int"):
        analyze(3)
