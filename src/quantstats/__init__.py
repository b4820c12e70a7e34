"""Calibration engine of post-training quantization on CPUs.

``quantstats.kernels`` reads arrays at memory speed, :class:`RangeEstimator` turns samples into ranges,
:func:`quantizer_from_range` turns ranges into scales and zero points, and :func:`quantize` does all of it for a model.
Importing the package needs NumPy alone; a framework is imported when a model of that framework comes in.
"""

from quantstats import errors, kernels, overflow
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
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
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
