"""A small network with every kind of layer that multiplies bytes, and what other tools make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import quantstats as qs

from ..adapters.onnx.models import ModelBuilder

Array = NDArray[Any]


def network() -> onnx.ModelProto:
    """Convolutions (plain, grouped, depthwise), a pooling that moves data, a MatMul of three axes, a Gemm."""
    b = ModelBuilder(seed=11)
    x = b.input("x", "n", 3, 12, 12)
    x = b.op("Relu", b.conv(x, 3, 16, name="plain"))
    x = b.op("Relu", b.conv(x, 16, 16, group=4, name="grouped"))
    x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = b.op("Relu", b.conv(x, 16, 16, group=16, name="depthwise"))
    x = b.op("Reshape", x, b.constant(np.array([0, 16, 36])))
    x = b.op("MatMul", x, b.noise(36, 24, scale=0.2), name="matmul")
    x = b.op("Flatten", x)
    b.output(b.op("Gemm", x, b.noise(10, 384), b.noise(10), transB=1, name="gemm", out="y"))
    return b.build()


def samples(count: int = 8, seed: int = 2) -> list[dict[str, Array]]:
    """Images whose pixels are never negative, so that their levels reach 255."""
    rng = np.random.default_rng(seed)
    return [{"x": rng.uniform(0, 1, (1, 3, 12, 12)).astype(np.float32)} for _ in range(count)]


def quantized(fix: qs.OverflowFix | None, pairing: str = "any", **arguments: Any) -> onnx.ModelProto:
    """The network by quantstats, without bias correction: what differs is the weights' scales alone."""
    advanced = qs.AdvancedQuantizationParameters(
        overflow_fix=fix, overflow_pairing=pairing, disable_bias_correction=True, **arguments.pop("advanced", {})
    )
    found: onnx.ModelProto = qs.quantize(
        network(), samples(), advanced_parameters=advanced, progress=False, **arguments
    )
    return found


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._samples = iter(samples())

    def get_next(self) -> dict[str, Array] | None:
        return next(self._samples, None)


def by_onnxruntime(directory: Path, style: str) -> onnx.ModelProto:
    """The network by onnxruntime's own quantizer, in one of its two forms, ``"QDQ"`` or ``"QOperator"``."""
    source, result = directory / "fp32.onnx", directory / f"{style}.onnx"
    onnx.save(network(), source)
    quantize_static(
        source,
        result,
        _Reader(),
        quant_format=QuantFormat[style],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return onnx.load(result)


def run(model: onnx.ModelProto, sample: dict[str, Array]) -> Array:
    """The output that onnxruntime's integer kernels give on this machine."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    output: Array = session.run(None, sample)[0]
    return output
