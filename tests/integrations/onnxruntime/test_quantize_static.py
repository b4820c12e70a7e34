"""onnxruntime's quantize_static on our calibrators: its signature, its models, and nothing left behind."""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, calibrate

import quantstats as qs
from quantstats.errors import NonFiniteError, ParameterError
from quantstats.integrations import onnxruntime as ours
from quantstats.integrations.onnxruntime.release import SUPPORTED_VERSIONS, require_supported

from .models import Array, Reader

CNN = Path(__file__).resolve().parents[3] / "examples/digits/digits_cnn.onnx"
quantize_module = importlib.import_module("onnxruntime.quantization.quantize")


def reader(digits: Array, batch: int = 8) -> Reader:
    return Reader([{"image": digits[start : start + batch]} for start in range(0, 128, batch)])


def both(network: Path, digits: Array, directory: Path, **arguments: Any) -> tuple[bytes, bytes]:
    """The models that onnxruntime's function writes and ours."""
    for name, quantize in (("theirs", quantization.quantize_static), ("ours", ours.quantize_static)):
        quantize(network, directory / f"{name}.onnx", reader(digits), **arguments)
    return (directory / "theirs.onnx").read_bytes(), (directory / "ours.onnx").read_bytes()


def scales(path: Path) -> dict[str, float]:
    """The scales of activations, by name."""
    return {
        constant.name: float(numpy_helper.to_array(constant))
        for constant in onnx.load(path).graph.initializer
        if constant.name.endswith("_scale") and not constant.dims
    }


def test_the_signature_is_onnxruntimes() -> None:
    assert inspect.signature(ours.quantize_static) == inspect.signature(quantization.quantize_static)
    assert inspect.signature(ours.create_calibrator).replace(return_annotation=None).parameters.keys() == (
        inspect.signature(calibrate.create_calibrator).parameters.keys()
    )
    assert "quantstats" in (ours.quantize_static.__doc__ or "")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"quant_format": QuantFormat.QOperator},
        {"activation_type": QuantType.QUInt8, "per_channel": True},
        {"activation_type": QuantType.QUInt16},
        {"extra_options": {"CalibTensorRangeSymmetric": True}},
        {"extra_options": {"ActivationSymmetric": True}},
        {"extra_options": {"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.1, "CalibStridedMinMax": 4}},
        {"extra_options": {"CalibStridedMinMax": 4}},
        {"op_types_to_quantize": ["Conv", "MatMul", "Gemm"]},
        {"calibrate_method": CalibrationMethod.Entropy},
    ],
    ids=lambda arguments: " ".join(map(str, arguments)) or "default",
)
def test_the_model_is_onnxruntimes_bit_for_bit(
    arguments: dict[str, Any], network: Path, digits: Array, tmp_path: Path
) -> None:
    theirs, mine = both(network, digits, tmp_path, **arguments)
    assert mine == theirs


def test_the_model_may_be_in_memory(digits: Array, tmp_path: Path) -> None:
    ours.quantize_static(onnx.load(CNN), tmp_path / "memory.onnx", reader(digits))
    ours.quantize_static(CNN, tmp_path / "file.onnx", reader(digits))
    assert (tmp_path / "memory.onnx").read_bytes() == (tmp_path / "file.onnx").read_bytes()


@pytest.mark.parametrize("symmetric", [False, True])
def test_scales_of_percentiles_are_within_a_bin(symmetric: bool, network: Path, digits: Array, tmp_path: Path) -> None:
    options = {"CalibPercentile": 99.9, "CalibTensorRangeSymmetric": symmetric}
    both(network, digits, tmp_path, calibrate_method=CalibrationMethod.Percentile, extra_options=options)
    expected, found = scales(tmp_path / "theirs.onnx"), scales(tmp_path / "ours.onnx")
    both(network, digits, tmp_path)
    widest = scales(tmp_path / "theirs.onnx")
    assert found.keys() == expected.keys()
    assert any(found[name] < 0.95 * widest[name] for name in found)
    for name, scale in found.items():
        # A scale is a range over 255, and what the bins of theirs have is the range of minimum and maximum over 2048.
        assert abs(scale - expected[name]) <= 2 * widest[name] * 2 / 2048


def test_models_agree_with_the_original(network: Path, digits: Array, tmp_path: Path) -> None:
    images = {"image": digits[:64]}
    expected = onnxruntime.InferenceSession(network).run(None, images)[0].argmax(axis=-1)
    for method in (CalibrationMethod.Percentile, CalibrationMethod.Entropy, qs.RangeEstimatorParametersSet.MSE):
        ours.quantize_static(network, tmp_path / "int8.onnx", reader(digits), calibrate_method=method)
        found = onnxruntime.InferenceSession(tmp_path / "int8.onnx").run(None, images)[0].argmax(axis=-1)
        assert (found == expected).mean() >= 0.95


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("kind", "bits"), [(QuantType.QInt8, 8), (QuantType.QInt16, 16)])
def test_range_estimators_know_the_quantizer(
    kind: QuantType, bits: int, symmetric: bool, digits: Array, tmp_path: Path
) -> None:
    # A heavy tail, so that the range depends on the number of levels.
    x = digits + np.random.default_rng(0).standard_t(2, digits.shape).astype(np.float32)
    estimator = qs.RangeEstimator(qs.RangeEstimatorParametersSet.MSE, symmetric=symmetric)
    for batch in np.split(x[:128], 16):
        estimator.update(batch)
    mode = qs.QuantizationMode.SYMMETRIC if symmetric else qs.QuantizationMode.ASYMMETRIC
    config = qs.QuantizerConfig(bits, mode, signedness_to_force=symmetric or None, narrow_range=symmetric)
    low, high = (float(bound) for bound in estimator.range(config=config))
    ours.quantize_static(
        CNN,
        tmp_path / "quantized.onnx",
        reader(x),
        activation_type=kind,
        calibrate_method=qs.RangeEstimatorParametersSet.MSE,
        extra_options={"ActivationSymmetric": symmetric},
    )
    step = (high - low) / ((1 << bits) - (2 if symmetric else 1))
    assert scales(tmp_path / "quantized.onnx")["image_scale"] == pytest.approx(step, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calibration_cache_path": "cache.json"}, "calibration_cache_path='cache.json'"),
        ({"activation_type": QuantType.QFLOAT8E4M3FN}, "activation_type=.*CalibrationMethod.Distribution"),
        ({"activation_type": [1]}, r"activation_type=\[1\]"),
        ({"calibrate_method": "MSE"}, "calibrate_method='MSE'"),
        ({"calibrate_method": [1]}, r"calibrate_method=\[1\]"),
    ],
)
def test_what_range_estimators_do_not_go_with(
    arguments: dict[str, Any], message: str, digits: Array, tmp_path: Path
) -> None:
    given = {"calibrate_method": qs.RangeEstimatorParametersSet.MSE, **arguments}
    with pytest.raises(ParameterError, match=message):
        ours.quantize_static(CNN, tmp_path / "int8.onnx", reader(digits), **given)
    assert not (tmp_path / "int8.onnx").exists()


@pytest.mark.parametrize("method", list(CalibrationMethod))
def test_ranges_pass_through_onnxruntimes_cache(method: CalibrationMethod, digits: Array, tmp_path: Path) -> None:
    options = {"calibrate_method": method, "calibration_cache_path": tmp_path / "cache.json"}
    ours.quantize_static(CNN, tmp_path / "first.onnx", reader(digits), **options)
    quantization.quantize_static(CNN, tmp_path / "second.onnx", None, **options)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


def test_a_sample_with_nan_is_named(digits: Array, tmp_path: Path) -> None:
    bad = digits[:24].copy()
    bad[17, 0, 3, 3] = np.nan
    with pytest.raises(NonFiniteError, match=r"tensor 'image' of sample 2 has 1 NaN"):
        ours.quantize_static(CNN, tmp_path / "int8.onnx", Reader([{"image": part} for part in np.split(bad, 3)]))


def calibrators() -> list[Any]:
    return [module.create_calibrator for module in (quantization, calibrate, quantize_module)]


def test_acceleration_serves_onnxruntimes_functions_and_restores_them(digits: Array, tmp_path: Path) -> None:
    before = calibrators()
    quantization.quantize_static(
        CNN, tmp_path / "theirs.onnx", reader(digits), calibrate_method=CalibrationMethod.Percentile
    )
    with ours.accelerate():
        with pytest.raises(ZeroDivisionError), ours.accelerate():
            raise ZeroDivisionError
        assert ours.is_enabled()
        assert calibrators() == [ours.create_calibrator] * 3
        arguments = {"calibrate_method": CalibrationMethod.Percentile}
        quantization.quantize_static(CNN, tmp_path / "served.onnx", reader(digits), **arguments)
        ours.quantize_static(CNN, tmp_path / "ours.onnx", reader(digits), **arguments)
    assert calibrators() == before
    assert not ours.is_enabled()
    ours.disable()
    assert not ours.is_enabled()
    assert (tmp_path / "served.onnx").read_bytes() == (tmp_path / "ours.onnx").read_bytes()
    assert (tmp_path / "served.onnx").read_bytes() != (tmp_path / "theirs.onnx").read_bytes()


def test_other_threads_keep_onnxruntimes_calibrators(digits: Array, tmp_path: Path) -> None:
    """While our function runs, onnxruntime's own is what it was."""
    seen: list[list[Any]] = []
    waiting, seen_all = threading.Event(), threading.Event()

    class Waits(Reader):
        def get_next(self) -> dict[str, Array] | None:
            waiting.set()
            assert seen_all.wait(60)
            return super().get_next()

    samples = [{"image": digits[:8]}]
    before = calibrators()
    worker = threading.Thread(
        target=ours.quantize_static, args=(CNN, tmp_path / "ours.onnx", Waits(samples)), daemon=True
    )
    worker.start()
    try:
        assert waiting.wait(60)
        seen.append(calibrators())
    finally:
        seen_all.set()
    worker.join(60)
    assert seen == [before]
    quantization.quantize_static(CNN, tmp_path / "theirs.onnx", Reader(samples))
    assert (tmp_path / "ours.onnx").read_bytes() == (tmp_path / "theirs.onnx").read_bytes()


def test_a_function_that_was_replaced_is_refused(monkeypatch: pytest.MonkeyPatch, digits: Array) -> None:
    def replaced(model_input: Any, model_output: Any, calibrate_method: Any = None) -> None:
        raise AssertionError

    monkeypatch.setattr(quantize_module, "quantize_static", replaced)
    with pytest.raises(ImportError, match="replaced does not use create_calibrator"):
        ours.quantize_static(CNN, "int8.onnx")


@pytest.mark.parametrize("version", ["1.21.1", "1.32.0", "2.0.0"])
def test_other_releases_are_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    with pytest.raises(ImportError, match=rf"onnxruntime {version} is not supported; install one from 1\.22 to before"):
        require_supported()


def test_this_release_is_supported() -> None:
    require_supported()
    first, beyond = SUPPORTED_VERSIONS
    assert first <= tuple(map(int, onnxruntime.__version__.split(".")[:2])) < beyond


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError) as caught:
        require_supported()
    assert str(caught.value) == "onnxruntime is not installed; install it with: pip install 'quantstats-native[onnx]'"
