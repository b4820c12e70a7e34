"""Bias correction against nncf's, where nncf corrects, and on models with which nncf's fails.

nncf gets the cleaned model, in which convolutions have their BatchNorm in weight and bias.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import nncf
import numpy as np
import onnx
import pytest
from nncf.quantization import advanced_parameters as theirs
from numpy.typing import NDArray
from onnx import numpy_helper

import quantstats as qs
from benchmarks.networks import bert_like, images, resnet18, tokens
from quantstats.adapters.onnx import OnnxAdapter
from quantstats.adapters.protocol import Array, Sample
from quantstats.ptq.bias_correction import InputMean, channel_mean_taps, correct_fast, correct_full
from quantstats.ptq.bias_correction.correctable import CorrectableOperation, correctable_operations
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.quantize import make_plan

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"
UNLIMITED = 1e30
WITHOUT = qs.AdvancedQuantizationParameters(disable_bias_correction=True, overflow_fix=qs.OverflowFix.DISABLE)

nncf.set_log_level(logging.ERROR)


def cleaned(model: onnx.ModelProto | Path) -> onnx.ModelProto:
    found: onnx.ModelProto = OnnxAdapter(model).emit(QuantizationPlan((), (), {}))
    return found


@cache
def digits() -> tuple[OnnxAdapter, onnx.ModelProto, list[Sample], QuantizationPlan]:
    model = cleaned(EXAMPLES / "digits_cnn.onnx")
    adapter = OnnxAdapter(model)
    with np.load(EXAMPLES / "calibration.npz") as stored:
        data: list[Sample] = [{"image": image[np.newaxis]} for image in stored["image"][:60]]
    return adapter, model, data, make_plan(adapter, data, advanced_parameters=WITHOUT, progress=False)


def nncf_biases(
    model: onnx.ModelProto, data: list[Sample], *, fast: bool, threshold: float = UNLIMITED
) -> Mapping[str, Array]:
    parameters = theirs.AdvancedQuantizationParameters(
        overflow_fix=theirs.OverflowFix.DISABLE,
        bias_correction_params=theirs.AdvancedBiasCorrectionParameters(threshold=threshold),
    )
    with contextlib.redirect_stdout(io.StringIO()):
        int8 = nncf.quantize(model, nncf.Dataset(data), fast_bias_correction=fast, advanced_parameters=parameters)
    constants = {i.name: numpy_helper.to_array(i) for i in int8.graph.initializer}
    return {node.name: constants[node.input[2]] for node in int8.graph.node if node.op_type in ("Conv", "Gemm")}


def channel_means(adapter: OnnxAdapter, plan: QuantizationPlan, data: list[Sample]) -> dict[str, NDArray[np.float32]]:
    taps = channel_mean_taps(adapter.graph(), plan)
    means = {tensor: InputMean(tensor, axis) for tensor, axis in taps.items()}
    for sample in data:
        for tensor, value in adapter.run(sample, list(taps)).items():
            means[tensor].update(value)
    return {tensor: mean.mean() for tensor, mean in means.items()}


def mean_of(x: Array) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.moveaxis(x.astype(np.float64), 1, 0).reshape(x.shape[1], -1).mean(1)
    return mean


def mean_errors(adapter: OnnxAdapter, plan: QuantizationPlan, data: list[Sample]) -> dict[str, float]:
    """Largest mean error of a channel of every corrected operation, relative to the root mean square of its output."""
    operations = correctable_operations(adapter.graph(), plan, apply_for_all_nodes=False)
    outputs = {operation.name: _behind_bias(adapter, operation) for operation in operations}
    exact, rounded = (adapter.runnable(p, outputs=list(outputs.values())) for p in (None, plan))
    pairs = [(exact(sample), rounded(sample)) for sample in data]
    found = {}
    for operation in operations:
        name = outputs[operation.name]
        difference = np.mean([np.moveaxis(q[name] - x[name], operation.output_axis, 1) for x, q in pairs], 0)
        scale = np.sqrt(np.mean([np.mean(x[name] ** 2) for x, _ in pairs]))
        found[operation.name] = float(np.abs(mean_of(difference)).max() / scale)
    return found


def _behind_bias(adapter: OnnxAdapter, operation: CorrectableOperation) -> str:
    graph = adapter.graph()
    if operation.bias in graph.operation(operation.name).inputs:
        return operation.output
    return graph.operation(graph.readers[operation.output][0].operation).outputs[0]


def border_terms(adapter: OnnxAdapter, plan: QuantizationPlan, data: list[Sample]) -> dict[str, NDArray[np.float64]]:
    """E[W x] - mean of W E[x]: what the mean input misses of the mean output, without any quantization."""
    graph = adapter.graph()
    operations = correctable_operations(graph, plan, apply_for_all_nodes=False)
    means = channel_means(adapter, plan, data)
    outputs = [operation.output for operation in operations]
    measured = dict.fromkeys(outputs, 0.0)
    for sample in data:
        for name, value in adapter.run(sample, outputs).items():
            measured[name] = measured[name] + mean_of(value) / len(data)
    found = {}
    for operation in operations:
        shape = [length or 1 for length in graph.tensors[operation.input].shape or ()]
        along = [-1 if axis == 1 else 1 for axis in range(len(shape))]
        x = np.ascontiguousarray(np.broadcast_to(means[operation.input].reshape(along), shape))
        y = adapter.runnable(inputs=[operation.input], outputs=[operation.output])({operation.input: x})
        found[operation.name] = measured[operation.output] - mean_of(y[operation.output])
    return found


def test_fast_equals_nncf_but_for_borders() -> None:
    """nncf's shift is ours where nothing is padded. Elsewhere it adds what its mean input misses at the borders.

    nncf corrects no depthwise convolution.
    """
    adapter, model, data, plan = digits()
    params = qs.AdvancedBiasCorrectionParameters(threshold=UNLIMITED)
    ours = correct_fast(adapter, adapter.graph(), plan, channel_means(adapter, plan, data), params=params).plan.biases
    expected = nncf_biases(model, data, fast=True)
    borders = border_terms(adapter, plan, data)
    compared = [name for name in ours if "depthwise" not in name]
    assert len(compared) == 7
    for name in compared:
        np.testing.assert_allclose(ours[name] + borders[name], expected[name], rtol=0, atol=2e-6, err_msg=name)
    plain = [name for name in compared if np.abs(borders[name]).max() < 2e-6]
    assert len(plain) == 4
    for name in plain:
        np.testing.assert_allclose(ours[name], expected[name], rtol=0, atol=2e-6, err_msg=name)


def test_fast_is_closer_than_nncf_where_borders_count() -> None:
    """The default threshold lets nncf take the border of the first convolution for an error, and add it."""
    adapter, model, data, plan = digits()
    means = channel_means(adapter, plan, data)
    ours = correct_fast(adapter, adapter.graph(), plan, means).plan
    theirs_too = plan.with_biases(nncf_biases(model, data, fast=True, threshold=2.0))
    before, after, other = (mean_errors(adapter, p, data)["/stem/conv/Conv"] for p in (plan, ours, theirs_too))
    assert after < before / 4
    assert other > before * 4


def test_full_equals_nncf() -> None:
    """nncf leaves activations in floating point while it corrects; with such a plan the biases are the same.

    Behind the residual addition nncf goes on with activations from before the correction, and its means do not agree.
    """
    adapter, model, data, plan = digits()
    weights_only = dataclasses.replace(plan, activations=())
    corrected = correct_full(adapter, adapter.graph(), weights_only, data).plan
    ours, expected = corrected.biases, nncf_biases(model, data, fast=False, threshold=1000)
    assert ours.keys() == expected.keys()
    names = list(ours)
    addition = names.index("/separable2/depthwise/conv/Conv")
    assert addition == 5
    for name in names[:addition]:
        np.testing.assert_allclose(ours[name], expected[name], rtol=0, atol=2e-6, err_msg=name)
        assert np.abs(ours[name] - adapter.constant(adapter.graph().operation(name).bias or "")).max() > 1e-3
    assert max(mean_errors(adapter, corrected, data).values()) < 1e-5
    theirs_too = mean_errors(adapter, weights_only.with_biases(expected), data)
    assert max(theirs_too[name] for name in names[addition:]) > 1e-3


def test_full_on_a_transformer_with_which_nncf_fails() -> None:
    model = bert_like(layers=1, hidden=32, heads=2, seq=8, vocab=50)
    data: list[Sample] = [{"input": x[np.newaxis]} for x in tokens(10, 8, 50, seed=1)]
    with pytest.raises(Exception, match="Duplicate definition-site"):
        nncf_biases(cleaned(model), data, fast=False)
    adapter = OnnxAdapter(model)
    plan = make_plan(adapter, data, subset_size=50, fast_bias_correction=False, progress=False)
    assert len(plan.biases) == 6
    before = mean_errors(adapter, dataclasses.replace(plan, biases={}), data)
    assert min(before.values()) > 1e-3
    assert max(mean_errors(adapter, plan, data).values()) < 1e-6


def test_full_on_resnet() -> None:
    """nncf fails here, too, after a quarter of a minute."""
    adapter = OnnxAdapter(resnet18(image_size=32, num_classes=10))
    data: list[Sample] = [{"input": x[np.newaxis]} for x in images(8, 32, seed=1)]
    plan = make_plan(adapter, data, subset_size=40, fast_bias_correction=False, progress=False)
    assert len(plan.biases) == 21
    before = mean_errors(adapter, dataclasses.replace(plan, biases={}), data)
    assert min(before.values()) > 1e-3
    assert max(mean_errors(adapter, plan, data).values()) < 2e-4
