"""Calibration engine of post-training quantization on CPUs.

``quantstats.kernels`` reads arrays at memory speed, :class:`RangeEstimator` turns samples into ranges,
:func:`quantizer_from_range` turns ranges into scales and zero points, and :func:`quantize` does all of it for a model.
Importing the package needs NumPy alone; a framework is imported when a model of that framework comes in.
"""

import importlib
from typing import TYPE_CHECKING, Any

from quantstats import errors, kernels
from quantstats._paths import get_cmake_dir, get_include, get_pkgconfig_dir
from quantstats.advanced_parameters import (
    AdvancedAccuracyRestorerParameters,
    AdvancedBiasCorrectionParameters,
    AdvancedQuantizationParameters,
    OverflowFix,
    QuantizationParameters,
    RestoreMode,
)
from quantstats.configuration import get_num_threads, set_num_threads, show_config
from quantstats.errors import (
    DataError,
    IgnoredScopeError,
    ModelError,
    NonFiniteError,
    NothingToQuantizeError,
    ParameterError,
    QuantizationError,
    UnsupportedModelError,
)
from quantstats.parameters import (
    DropType,
    IgnoredScope,
    ModelType,
    QuantizationMode,
    QuantizationPreset,
    Subgraph,
    TargetDevice,
)
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)

if TYPE_CHECKING:
    from quantstats import overflow
    from quantstats.ptq.accuracy_control import (
        AccuracyControlReport,
        AccuracyControlResult,
        quantize_with_accuracy_control,
        restore_accuracy,
    )
    from quantstats.ptq.collection import calibrate
    from quantstats.ptq.dataset import Dataset
    from quantstats.ptq.quantize import quantize
    from quantstats.quantizer import Quantizer, QuantizerConfig, quantizer_from_range
    from quantstats.statistics.calibration import CalibrationStatistics
    from quantstats.statistics.derived_range import DerivedRange
    from quantstats.statistics.estimator import RangeEstimator
    from quantstats.statistics.non_finite import NonFinitePolicy

__version__ = "0.1.0"

__all__ = [
    "AccuracyControlReport",
    "AccuracyControlResult",
    "AdvancedAccuracyRestorerParameters",
    "AdvancedBiasCorrectionParameters",
    "AdvancedQuantizationParameters",
    "AggregatorType",
    "CalibrationStatistics",
    "DataError",
    "Dataset",
    "DerivedRange",
    "DropType",
    "IgnoredScope",
    "IgnoredScopeError",
    "ModelError",
    "ModelType",
    "NonFiniteError",
    "NonFinitePolicy",
    "NothingToQuantizeError",
    "OverflowFix",
    "ParameterError",
    "QuantizationError",
    "QuantizationMode",
    "QuantizationParameters",
    "QuantizationPreset",
    "Quantizer",
    "QuantizerConfig",
    "RangeEstimator",
    "RangeEstimatorParameters",
    "RangeEstimatorParametersSet",
    "RestoreMode",
    "StatisticsCollectorParameters",
    "StatisticsType",
    "Subgraph",
    "TargetDevice",
    "UnsupportedModelError",
    "calibrate",
    "errors",
    "get_cmake_dir",
    "get_include",
    "get_num_threads",
    "get_pkgconfig_dir",
    "kernels",
    "overflow",
    "quantize",
    "quantize_with_accuracy_control",
    "quantizer_from_range",
    "restore_accuracy",
    "set_num_threads",
    "show_config",
]

# Where the names are that take more than parameters and kernels. Each is imported when it is first asked for, so that
# a program which only reads arrays does not wait for the driver.
_LAZY = {
    "AccuracyControlReport": "quantstats.ptq.accuracy_control",
    "AccuracyControlResult": "quantstats.ptq.accuracy_control",
    "CalibrationStatistics": "quantstats.statistics.calibration",
    "Dataset": "quantstats.ptq.dataset",
    "DerivedRange": "quantstats.statistics.derived_range",
    "NonFinitePolicy": "quantstats.statistics.non_finite",
    "Quantizer": "quantstats.quantizer",
    "QuantizerConfig": "quantstats.quantizer",
    "RangeEstimator": "quantstats.statistics.estimator",
    "calibrate": "quantstats.ptq.collection",
    "quantize": "quantstats.ptq.quantize",
    "quantize_with_accuracy_control": "quantstats.ptq.accuracy_control",
    "quantizer_from_range": "quantstats.quantizer",
    "restore_accuracy": "quantstats.ptq.accuracy_control",
}


def __getattr__(name: str) -> Any:
    if name == "overflow":
        return importlib.import_module("quantstats.overflow")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
