"""onnxruntime's `create_calibrator` and `quantize_static` with the calibrators of quantstats."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

from onnxruntime.quantization.calibrate import CalibrationMethod
from onnxruntime.quantization.quant_utils import QuantType

from quantstats.errors import ParameterError
from quantstats.integrations.onnxruntime.calibrators import (
    DistributionCalibrater,
    EntropyCalibrater,
    MinMaxCalibrater,
    PercentileCalibrater,
    RangeEstimatorCalibrater,
    StreamingCalibrater,
)
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig
from quantstats.range_estimator import RangeEstimatorParameters

__all__ = ["create_calibrator", "quantize_static"]

# The module, whose name in its package stands for one of its functions.
quantize_module = importlib.import_module("onnxruntime.quantization.quantize")

# The arguments of each calibrator that come from the extra options, with onnxruntime's defaults.
_CALIBRATORS: dict[CalibrationMethod, tuple[type[StreamingCalibrater[Any]], dict[str, Any]]] = {
    CalibrationMethod.MinMax: (
        MinMaxCalibrater,
        {
            "symmetric": False,
            "moving_average": False,
            "averaging_constant": 0.01,
            "max_intermediate_outputs": None,
            "per_channel": False,
        },
    ),
    CalibrationMethod.Entropy: (EntropyCalibrater, {"num_bins": 128, "num_quantized_bins": 128, "symmetric": False}),
    CalibrationMethod.Percentile: (PercentileCalibrater, {"num_bins": 2048, "percentile": 99.999, "symmetric": True}),
    CalibrationMethod.Distribution: (DistributionCalibrater, {"num_bins": 2048, "scenario": "same"}),
}
# Bits of the integers that activations become.
_NUM_BITS = {
    QuantType.QInt4: 4,
    QuantType.QUInt4: 4,
    QuantType.QInt8: 8,
    QuantType.QUInt8: 8,
    QuantType.QInt16: 16,
    QuantType.QUInt16: 16,
}


def create_calibrator(
    model: str | Path,
    op_types_to_calibrate: Sequence[str] | None = None,
    augmented_model_path: str = "augmented_model.onnx",
    calibrate_method: CalibrationMethod | RangeEstimatorParameters = CalibrationMethod.MinMax,
    use_external_data_format: bool = False,
    providers: Sequence[str] | None = None,
    extra_options: Mapping[str, Any] | None = None,
) -> StreamingCalibrater[Any]:
    """A calibrator with its graph augmented and its session made.

    :param model: path of an ONNX model.
    :param calibrate_method: one of onnxruntime's methods, or the parameters of a range estimator.
    :param providers: the execution providers of the session; None for the CPU's.
    :param extra_options: what onnxruntime's `create_calibrator` takes from them, by the same names; for a range
        estimator ``symmetric`` and ``config``, a `QuantizerConfig`.
    :raises ParameterError: `calibrate_method` is no method that is known, or an option has a value that cannot be used.
    """
    if isinstance(calibrate_method, RangeEstimatorParameters):
        kind: type[StreamingCalibrater[Any]] = RangeEstimatorCalibrater
        defaults: dict[str, Any] = {"symmetric": False, "config": None}
        fixed: dict[str, Any] = {"params": calibrate_method}
    elif isinstance(calibrate_method, CalibrationMethod) and calibrate_method in _CALIBRATORS:
        (kind, defaults), fixed = _CALIBRATORS[calibrate_method], {}
    else:
        raise ParameterError(
            f"calibrate_method={calibrate_method!r}; use a CalibrationMethod of onnxruntime or the parameters of a "
            "range estimator, such as quantstats.RangeEstimatorParametersSet.MSE"
        )
    given = _options(extra_options)
    options = {name: given.get(name, default) for name, default in defaults.items()}
    calibrator = kind(
        model,
        op_types_to_calibrate,
        augmented_model_path,
        use_external_data_format=use_external_data_format,
        **fixed,
        **options,
    )
    calibrator.augment_graph()
    if providers:
        calibrator.execution_providers = providers
    calibrator.create_inference_session()
    return calibrator


def _options(extra_options: Any) -> Mapping[str, Any]:
    if not isinstance(extra_options or {}, Mapping):
        raise ParameterError(f"extra_options={extra_options!r} is not a mapping of options by name; give one, or None")
    return extra_options or {}


# The signature is that of the release that is installed; name and documentation are our own.
@functools.wraps(quantize_module.quantize_static, assigned=(), updated=())
def quantize_static(*args: Any, **kwargs: Any) -> None:
    """onnxruntime's ``quantize_static``, with its arguments, on the calibrators of quantstats.

    ``calibrate_method`` may be the parameters of a range estimator as well, such as
    ``quantstats.RangeEstimatorParametersSet.MSE``; a ``calibration_cache_path`` does not go with them.

    It runs onnxruntime's function, which finds our `create_calibrator` in place of its own. No module is changed, so
    other threads may call that function itself at the same time.

    :raises ParameterError: ``calibrate_method`` is no method that is known, or does not go with the other arguments.
    """
    function = quantize_module.quantize_static
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    create: Callable[..., Any] = create_calibrator
    if isinstance(bound.arguments["calibrate_method"], RangeEstimatorParameters):
        create = _creator_for_quantizer(bound.arguments)
    _with_globals(function, create_calibrator=create)(*bound.args, **bound.kwargs)


def _with_globals(function: FunctionType, **names: Any) -> FunctionType:
    """The same function, for which some global names stand for other objects."""
    missing = sorted(set(names) - set(function.__code__.co_names))
    if missing:
        raise ImportError(
            f"{function.__module__}.{function.__name__} does not use {', '.join(missing)}; it was replaced by another "
            "one, which quantstats cannot serve: undo that, or pass the calibrators of quantstats to it by hand"
        )
    twin = FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__, function.__defaults__)
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


def _creator_for_quantizer(arguments: Mapping[str, Any]) -> Callable[..., Any]:
    """`create_calibrator` for a range estimator, which takes the quantizer from the arguments of `quantize_static`."""
    if arguments.get("calibration_cache_path") is not None:
        raise ParameterError(
            f"calibration_cache_path={str(arguments['calibration_cache_path'])!r} with the parameters of a range "
            "estimator, which onnxruntime's cache cannot name; leave it out, or use a CalibrationMethod"
        )
    activation_type = arguments["activation_type"]
    if activation_type not in list(_NUM_BITS):
        raise ParameterError(
            f"activation_type={activation_type} with the parameters of a range estimator, which is for integers; use "
            "CalibrationMethod.Distribution"
        )
    symmetric = bool(_options(arguments["extra_options"]).get("ActivationSymmetric", False))
    config = QuantizerConfig(
        _NUM_BITS[activation_type],
        QuantizationMode.SYMMETRIC if symmetric else QuantizationMode.ASYMMETRIC,
        # onnxruntime's symmetric quantizers have as many levels below zero as above it, whatever the data.
        signedness_to_force=True if symmetric else None,
        narrow_range=symmetric,
    )

    def create(*args: Any, **kwargs: Any) -> StreamingCalibrater[Any]:
        return create_calibrator(*args, **{**kwargs, "extra_options": {"symmetric": symmetric, "config": config}})

    return create
