"""The int8 digits models as onnxruntime executes them, beside those of its own static quantizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import quantstats as qs

from .quantization import executed_types, run, sqnr

EXAMPLES = Path(__file__).parents[3] / "examples" / "digits"
SAMPLES = 300


def images(name: str) -> Any:
    with np.load(EXAMPLES / f"{name}.npz") as data:
        return data["image"]


def test_every_operation_of_the_cnn_has_an_integer_kernel(tmp_path: Path) -> None:
    int8 = qs.quantize(EXAMPLES / "digits_cnn.onnx", images("calibration")[:SAMPLES], progress=False)
    executed = Counter(executed_types(int8, tmp_path))
    floating = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "Add", "Relu", "GlobalAveragePool", "MaxPool"}
    assert executed["QLinearConv"] == 7
    assert executed["QGemm"] == 2
    assert executed["QLinearAdd"] == executed["QLinearGlobalAveragePool"] == 1
    assert floating.isdisjoint(executed)


def test_every_matrix_product_with_a_weight_of_the_transformer_has_an_integer_kernel(tmp_path: Path) -> None:
    int8 = qs.quantize(
        EXAMPLES / "digits_transformer.onnx",
        images("calibration")[:SAMPLES],
        model_type=qs.ModelType.TRANSFORMER,
        progress=False,
    )
    executed = Counter(executed_types(int8, tmp_path))
    # 12 with weights and the two of queries and keys; what softmax weighs stays in floating point.
    assert executed["MatMulIntegerToFloat"] + executed["QLinearMatMul"] == 14
    assert executed["MatMul"] + executed["FusedMatMul"] == 2
    assert executed["QLinearConv"] == executed["QGemm"] == 1


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Samples as onnxruntime's quantizer reads them."""

    def __init__(self, samples: Any) -> None:
        self._samples: Iterator[dict[str, Any]] = iter([{"image": sample[np.newaxis]} for sample in samples])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._samples, None)


@pytest.mark.filterwarnings("ignore")  # those of onnxruntime's quantizer are not about this project
def test_sqnr_is_that_of_onnxruntime_or_better(tmp_path: Path) -> None:
    """With the same estimator, full range, per channel: at most 0.5 dB below the better of its two activation types."""
    model, data, test = EXAMPLES / "digits_cnn.onnx", images("calibration")[:SAMPLES], {"image": images("test")}
    parameters = qs.AdvancedQuantizationParameters(
        overflow_fix=qs.OverflowFix.DISABLE,
        activations_range_estimator_params=qs.RangeEstimatorParametersSet.MINMAX,
    )
    ours = qs.quantize(model, data, advanced_parameters=parameters, progress=False)
    exact = run(onnx.load(model), test)["logits"]
    prepared = tmp_path / "prepared.onnx"
    quant_pre_process(model, prepared)
    rivals = []
    for activations in (QuantType.QUInt8, QuantType.QInt8):
        path = tmp_path / "rival.onnx"
        quantize_static(
            prepared,
            path,
            Reader(data),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=activations,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        rivals.append(sqnr(exact, run(onnx.load(path), test)["logits"]))
    assert sqnr(exact, run(ours, test)["logits"]) >= max(rivals) - 0.5
