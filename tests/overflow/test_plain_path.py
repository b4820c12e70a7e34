"""Certificate, safe scales and simulator against onnxruntime on a CPU without VNNI, on trained and seeded networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import quantstats as qs
from benchmarks.networks import images, resnet18
from benchmarks.plain_path import Hidden, PlainPath
from quantstats import kernels
from quantstats.adapters.onnx import OnnxAdapter
from quantstats.adapters.onnx.integer_layers import QuantizedGraph, QuantizedNode
from quantstats.adapters.onnx.saturation import SaturatingModel
from quantstats.overflow import PAIRINGS, LayerKind, analyze, certify, simulate

from . import models as small

Array = NDArray[Any]
DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
NETWORKS = ("digits_cnn", "digits_transformer", "resnet18")
DISABLE, FIRST_LAYER, ENABLE, AUTO = (
    qs.OverflowFix.DISABLE,
    qs.OverflowFix.FIRST_LAYER,
    qs.OverflowFix.ENABLE,
    qs.OverflowFix.AUTO,
)
FIXES = (DISABLE, FIRST_LAYER, ENABLE, AUTO)
RULES = {kind: PAIRINGS["onnxruntime"].rule(kind) for kind in LayerKind}
IMAGE_SIZE = 64
# Samples that are simulated; the real thing takes all of them.
SIMULATED = 24


@cache
def network(name: str) -> tuple[onnx.ModelProto, Array, Array]:
    """A network, samples to calibrate it with, and unseen ones."""
    if name == "resnet18":
        return resnet18(image_size=IMAGE_SIZE), images(64, IMAGE_SIZE, seed=5), images(64, IMAGE_SIZE, seed=6)
    model = onnx.load(DIGITS / f"{name}.onnx")
    key = model.graph.input[0].name
    with np.load(DIGITS / "calibration.npz") as calibration, np.load(DIGITS / "test.npz") as test:
        return model, calibration[key], test[key]


@cache
def quantized(name: str, fix: qs.OverflowFix) -> onnx.ModelProto:
    model, calibration, _ = network(name)
    advanced = qs.AdvancedQuantizationParameters(overflow_fix=fix, overflow_pairing="onnxruntime")
    family = qs.ModelType.TRANSFORMER if name == "digits_transformer" else None
    data = [sample[None] for sample in calibration]
    made: onnx.ModelProto = qs.quantize(
        model, data, model_type=family, advanced_parameters=advanced, subset_size=64, progress=False
    )
    return made


def feed(name: str, count: int | None = None) -> dict[str, Array]:
    """One batch of unseen samples."""
    model, _, test = network(name)
    return {model.graph.input[0].name: test[:count]}


@cache
def reference(name: str) -> Array:
    """The output of the network in floating point."""
    adapter = OnnxAdapter(network(name)[0])
    (output,) = adapter.graph().outputs
    found: Array = adapter.run(feed(name), [output])[output]
    return found


@pytest.fixture(scope="module")
def outputs(plain_path: PlainPath) -> dict[Hidden, dict[tuple[str, qs.OverflowFix], Array]]:
    """What onnxruntime makes of every network and fix, by what is hidden from it."""
    keys = [(name, fix) for name in NETWORKS for fix in FIXES]
    jobs = [(quantized(*key), [feed(key[0])]) for key in keys]
    return {
        hidden: {key: output for key, [(output,)] in zip(keys, plain_path.run(jobs, hidden), strict=True)}
        for hidden in Hidden
    }


def decibels(signal: Array, found: Array) -> float:
    noise = np.sum(np.square(found.astype(np.float64) - signal))
    return float(10 * np.log10(np.sum(np.square(signal, dtype=np.float64)) / noise)) if noise else float("inf")


# -- layers --------------------------------------------------------------------------------------------------------


def isolated(graph: QuantizedGraph, found: QuantizedNode) -> tuple[onnx.ModelProto, list[str]]:
    """One layer as a model, from the levels that it reads to those that it gives, and the names of what it reads."""
    before = [graph.producers[name] for name in found.node.input if name in graph.producers]
    assert all(node.op_type == "DequantizeLinear" for node in before)
    after = [node for node in graph.readers.get(found.node.output[0], []) if node.op_type == "QuantizeLinear"][:1]
    nodes = list({node.output[0]: node for node in [*before, found.node, *after]}.values())
    names = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in graph.model.graph.initializer if tensor.name in names]
    known = {tensor.name for tensor in constants}
    levels = [node.input[0] for node in before if node.input[0] not in known]
    levels = list(dict.fromkeys(levels))
    made = onnx.helper.make_graph(
        nodes,
        "layer",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in levels],
        [onnx.ValueInfoProto(name=nodes[-1].output[0])],
        constants,
    )
    opsets = graph.model.opset_import
    return onnx.helper.make_model(made, opset_imports=opsets, ir_version=graph.model.ir_version), levels


def levels_of(model: onnx.ModelProto, sample: Mapping[str, Array]) -> dict[str, Array]:
    """The levels of all activations of a model."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.output[:]
    names = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return SaturatingModel(made, RULES).run(sample, exact=True)


def extremes(like: Sequence[Array], seed: int) -> list[Array]:
    """Levels of 0 and 255 at random: far more saturation than data give."""
    rng = np.random.default_rng(seed)
    return [rng.choice(np.array([0, 255], np.uint8), array.shape) for array in like]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("fix", [DISABLE, FIRST_LAYER, AUTO])
def test_layers_that_are_wrong_were_flagged(plain_path: PlainPath, name: str, fix: qs.OverflowFix) -> None:
    graph = QuantizedGraph(quantized(name, fix))
    levels = levels_of(graph.model, feed(name, 1))
    jobs, layers = [], []
    for index, found in enumerate(graph.nodes):
        layer, names = isolated(graph, found)
        seen = [levels[name] for name in names]
        feeds = [dict(zip(names, arrays, strict=True)) for arrays in (seen, extremes(seen, index))]
        jobs.append((layer, feeds))
        layers.append(found.layer.name)
    exact, plain = (plain_path.run(jobs, hidden) for hidden in (Hidden.NOTHING, Hidden.VNNI))
    wrong = {
        layer
        for layer, ours, theirs in zip(layers, exact, plain, strict=True)
        if not all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    }
    flagged = {layer.name for layer in analyze(graph.model, pairing="onnxruntime").at_risk}
    assert wrong <= flagged
    assert flagged <= {layer.name for layer in analyze(graph.model, pairing="any").at_risk}
    assert bool(wrong) == (fix in (DISABLE, FIRST_LAYER))


@pytest.mark.parametrize("seed", range(3))
def test_the_certificate_is_exact(plain_path: PlainPath, seed: int) -> None:
    """An output is flagged if and only if the worst input of one of its pairs makes its sum wrong."""
    rng = np.random.default_rng(seed)
    length, count = int(rng.integers(20, 60)), 64
    weight = np.rint(rng.normal(scale=30, size=(length, count)).clip(-128, 127)).astype(np.int8)
    certificate = certify(weight, axis=1, pairing="onnxruntime")
    inputs = np.zeros((count, length), np.uint8)
    for row, pair in zip(inputs, certificate.worst_pair, strict=True):
        row[pair[pair >= 0]] = 255
    (((sums,),),) = plain_path.run([(product(weight), [{"a": inputs}])])
    wrong = np.diag(sums != inputs.astype(np.int32) @ weight.astype(np.int32))
    np.testing.assert_array_equal(wrong, ~certificate.safe)
    assert 0 < wrong.sum() < count


# -- whole models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_auto_gives_the_same_with_and_without_vnni(outputs: Any, name: str) -> None:
    key = (name, AUTO)
    np.testing.assert_array_equal(outputs[Hidden.VNNI][key], outputs[Hidden.NOTHING][key])
    # Without AVX-512 the floating-point operations between layers may round otherwise.
    assert decibels(outputs[Hidden.NOTHING][key], outputs[Hidden.AVX512][key]) > 40
    assert not np.array_equal(outputs[Hidden.VNNI][name, DISABLE], outputs[Hidden.NOTHING][name, DISABLE])


@pytest.mark.parametrize("name", NETWORKS)
def test_auto_is_the_best_fix(outputs: Any, name: str) -> None:
    """Against floating point, in dB: at least every other fix without VNNI, at least half range everywhere with it."""
    plain, exact = (
        {fix: decibels(reference(name), outputs[hidden][name, fix]) for fix in FIXES}
        for hidden in (Hidden.AVX512, Hidden.NOTHING)
    )
    assert plain[AUTO] >= max(plain[fix] for fix in FIXES)
    assert exact[AUTO] >= exact[ENABLE]
    assert plain[DISABLE] < exact[DISABLE] - 3


# -- the simulator -------------------------------------------------------------------------------------------------


def product(weight: Array) -> onnx.ModelProto:
    """MatMulInteger by a constant."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "product",
        [onnx.helper.make_tensor_value_info("a", onnx.TensorProto.UINT8, ["m", len(weight)])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, None)],
        [onnx.numpy_helper.from_array(weight, "b")],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("hidden", [Hidden.AVX512, Hidden.VNNI])
def test_sums_are_those_of_the_simulator(plain_path: PlainPath, hidden: Hidden) -> None:
    rng = np.random.default_rng(7)
    shapes = [(1, 64, 16), (1, 37, 5), (3, 1, 1), (7, 255, 33), (64, 768, 50), (129, 1030, 17)]
    pairs = [(rng.integers(0, 256, (m, k), np.uint8), rng.integers(-128, 128, (k, n), np.int8)) for m, k, n in shapes]
    found = plain_path.run([(product(weight), [{"a": levels}]) for levels, weight in pairs], hidden)
    for (levels, weight), [(sums,)] in zip(pairs, found, strict=True):
        expected, saturated = kernels.saturating_matmul(levels, weight, return_count=True)
        np.testing.assert_array_equal(sums, expected)
        assert saturated > 0 or levels.shape[1] == 1


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("fix", [DISABLE, FIRST_LAYER])
def test_the_predicted_loss_is_what_the_cpu_shows(outputs: Any, name: str, fix: qs.OverflowFix) -> None:
    model, key = quantized(name, fix), (name, fix)
    exact, plain = (outputs[hidden][key][:SIMULATED] for hidden in (Hidden.NOTHING, Hidden.AVX512))
    sample = feed(name, SIMULATED)
    simulation = simulate(model, [sample], pairing="onnxruntime")
    assert simulation.saturated > 0
    assert simulation.outputs[0].sqnr_db == pytest.approx(decibels(exact, plain), abs=1)
    (simulated,) = SaturatingModel(model, RULES).run(sample).values()
    seen, predicted = (decibels(reference(name)[:SIMULATED], found) for found in (plain, simulated))
    assert predicted == pytest.approx(seen, abs=1)
    # All that differs is rounding in between; it reaches few outputs.
    assert decibels(plain, simulated) > 35


@pytest.mark.parametrize("maker", ["quantstats", "QDQ", "QOperator"])
def test_every_kind_of_layer_is_simulated(plain_path: PlainPath, maker: str, tmp_path: Path) -> None:
    """Grouped and depthwise convolutions among them, in models by quantstats and in both forms of onnxruntime's."""
    model = small.quantized(DISABLE) if maker == "quantstats" else small.by_onnxruntime(tmp_path, maker)
    data = small.samples(4, seed=9)
    exact, plain = (
        np.concatenate([output for (output,) in plain_path.run([(model, data)], hidden)[0]])
        for hidden in (Hidden.NOTHING, Hidden.AVX512)
    )
    simulated, unsaturated = (
        np.concatenate([SaturatingModel(model, RULES).run(sample, exact=e)["y"] for sample in data])
        for e in (False, True)
    )
    np.testing.assert_allclose(simulated, plain, rtol=0, atol=1e-6)
    np.testing.assert_allclose(unsaturated, exact, rtol=0, atol=1e-6)
    assert decibels(exact, plain) < 30
