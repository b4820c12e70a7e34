"""Accuracy control on the digits CNN: where nncf has to revert half of the model, and where one layer is poisoned."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest

import quantstats as qs
from quantstats.adapters.protocol import Array

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"
VALIDATION = 400
MAX_DROP = 0.001
# The operation whose weights are poisoned, and the channel of its input that carries nothing.
POISONED = "/residual/second/conv/Conv"

with np.load(EXAMPLES / "test.npz") as _test:
    IMAGES, LABELS = _test["image"], _test["label"]
ITEMS = [(IMAGES[i : i + 1], int(LABELS[i])) for i in range(VALIDATION)]


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # A second thread would only wait, for so small a model.
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def accuracy(model: onnx.ModelProto, start: int, stop: int | None) -> float:
    scores = session(model).run(None, {"image": IMAGES[start:stop]})[0]
    return float(np.mean(scores.argmax(1) == LABELS[start:stop]))


def calibration() -> Array:
    with np.load(EXAMPLES / "calibration.npz") as data:
        images: Array = data["image"]
        return images


def right(model: Any, items: Iterable[Any]) -> list[float]:
    return [float(model(image)["logits"].argmax() == label) for image, label in items]


def metric(model: Any, items: Iterable[Any]) -> float:
    return float(np.mean(right(model, items)))


def metric_and_numbers(model: Any, items: Iterable[Any]) -> tuple[float, list[float]]:
    found = right(model, items)
    return float(np.mean(found)), found


def clipping(module: Any) -> Any:
    """Estimators that clip 8 % of the values at either end, of either library."""
    bound = module.StatisticsCollectorParameters(
        module.StatisticsType.QUANTILE, module.AggregatorType.MEAN, quantile_outlier_prob=0.08
    )
    return module.RangeEstimatorParameters(min=bound, max=bound)


@dataclass(frozen=True)
class OfNncf:
    """What nncf makes of the clipped model."""

    model: onnx.ModelProto
    calls: list[int]
    reverted: int


class _Reverted(logging.Handler):
    """nncf says how many operations it reverts in its log alone."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage().split()
        if words[:1] == ["Reverted"] and words[2:3] == ["operations"]:
            self.count += int(words[1])


@contextlib.contextmanager
def log_of_nncf() -> Iterator[_Reverted]:
    from nncf.common.logging import nncf_logger

    level, handlers, found = nncf_logger.level, nncf_logger.handlers[:], _Reverted()
    nncf_logger.setLevel(logging.INFO)
    nncf_logger.handlers[:] = [found]
    try:
        yield found
    finally:
        nncf_logger.setLevel(level)
        nncf_logger.handlers[:] = handlers


@pytest.fixture(scope="module")
def nncf_result() -> OfNncf:
    import nncf
    from nncf.quantization import advanced_parameters, range_estimator

    calls: list[int] = []

    def validate(model: onnx.ModelProto, items: Iterable[Any]) -> tuple[float, list[float]]:
        running = session(model)
        found = [float(running.run(None, {"image": image})[0].argmax() == label) for image, label in items]
        calls.append(len(found))
        return float(np.mean(found)), found

    with log_of_nncf() as log, contextlib.redirect_stdout(io.StringIO()):
        model = nncf.quantize_with_accuracy_control(
            onnx.load(EXAMPLES / "digits_cnn.onnx"),
            nncf.Dataset([{"image": image[np.newaxis]} for image in calibration()]),
            nncf.Dataset(ITEMS, lambda item: {"image": item[0]}),
            validate,
            max_drop=MAX_DROP,
            advanced_quantization_parameters=advanced_parameters.AdvancedQuantizationParameters(
                activations_range_estimator_params=clipping(range_estimator)
            ),
        )
    return OfNncf(model, calls, log.count)


@pytest.mark.parametrize("function", [metric, metric_and_numbers])
def test_clipped_activations_cost_no_more_than_with_nncf(function: Any, nncf_result: OfNncf) -> None:
    result = qs.restore_accuracy(
        EXAMPLES / "digits_cnn.onnx",
        calibration(),
        ITEMS,
        function,
        max_drop=MAX_DROP,
        advanced_quantization_parameters=qs.AdvancedQuantizationParameters(
            activations_range_estimator_params=clipping(qs.range_estimator)
        ),
        progress=False,
    )
    report = result.report
    assert report.fp32_metric - report.int8_metric > 0.05
    assert report.reached
    # onnxruntime runs what was validated.
    assert accuracy(result.model, 0, VALIDATION) == report.metric >= report.fp32_metric - MAX_DROP
    assert accuracy(result.model, VALIDATION, None) >= accuracy(nncf_result.model, VALIDATION, None) > 0.98
    assert report.quantized_operations == 11
    assert 0 < len(report.reverted_operations) <= nncf_result.reverted
    assert report.validations < nncf_result.calls.count(VALIDATION)
    assert 2 * report.validations <= len(nncf_result.calls)
    if function is metric:  # The outputs that were seen in validations rank the groups.
        assert report.model_runs < 0.75 * (sum(nncf_result.calls) + 300)


def poisoned() -> onnx.ModelProto:
    """The CNN with weights of 300 where the input is always zero: a channel that the layer before switches off."""
    model = onnx.load(EXAMPLES / "digits_cnn.onnx")
    constants = {initializer.name: initializer for initializer in model.graph.initializer}

    def value(name: str) -> Array:
        return onnx.numpy_helper.to_array(constants[name]).copy()

    def store(name: str, array: Array) -> None:
        constants[name].CopyFrom(onnx.numpy_helper.from_array(array, name))

    weight = value("residual.second.conv.weight")
    scale, bias = value("residual.first.norm.weight"), value("residual.first.norm.bias")
    channel = int((np.abs(weight).sum((0, 2, 3)) * np.abs(scale)).argmin())
    scale[channel], bias[channel] = 0.0, -1.0
    weight[:, channel] = 300.0
    store("residual.first.norm.weight", scale)
    store("residual.first.norm.bias", bias)
    store("residual.second.conv.weight", weight)
    return model


@pytest.mark.parametrize("function", [metric, metric_and_numbers])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_poisoned_layer_is_the_first_and_only_one_reverted(function: Any, per_channel: bool) -> None:
    result = qs.restore_accuracy(
        poisoned(),
        calibration()[:64],
        ITEMS,
        function,
        max_drop=0.005,
        advanced_quantization_parameters=qs.AdvancedQuantizationParameters(
            weights_quantization_params=qs.QuantizationParameters(per_channel=per_channel)
        ),
        progress=False,
    )
    report = result.report
    assert report.fp32_metric > 0.97
    assert report.int8_metric < report.fp32_metric - 0.01
    assert report.reached
    assert report.reverted_operations == (POISONED,)
    assert report.steps[1].reverted == (POISONED,)
    assert report.validations == 3
    assert accuracy(result.model, 0, VALIDATION) == report.metric
