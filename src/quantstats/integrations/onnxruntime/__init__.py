"""Calibration of onnxruntime's static quantization from streaming statistics.

::

    from quantstats.integrations.onnxruntime import quantize_static

    quantize_static("model.onnx", "model_int8.onnx", reader, calibrate_method=CalibrationMethod.Percentile)

`quantize_static` is onnxruntime's function with other calibrators, which read each tensor where it lies, sample by
sample, and keep what does not grow with their number (see `calibrators`). `accelerate` serves the functions of
``onnxruntime.quantization`` themselves, for code that calls them by name.

- MinMax gives the bits of onnxruntime's, so the int8 model is the same.
- Percentile gives a range within one bin of onnxruntime's histogram.
- Entropy makes onnxruntime's search over the same bins, and Distribution its sums.

The inputs may have any shapes, which may differ from sample to sample; neither the order of the samples nor their batch
size changes a range (but for MinMax with a moving average, which is defined by them).
"""

# The classes below derive from onnxruntime's, so its absence is told first.
from quantstats.integrations.onnxruntime.release import SUPPORTED_VERSIONS, require_supported

require_supported()

from quantstats.integrations.onnxruntime.calibrators import (  # noqa: E402
    DistributionCalibrater,
    EntropyCalibrater,
    HistogramCalibrater,
    MinMaxCalibrater,
    PercentileCalibrater,
    RangeEstimatorCalibrater,
    StreamingCalibrater,
)
from quantstats.integrations.onnxruntime.quantization import create_calibrator, quantize_static  # noqa: E402
from quantstats.integrations.onnxruntime.switch import accelerate, disable, enable, is_enabled  # noqa: E402

__all__ = [
    "SUPPORTED_VERSIONS",
    "DistributionCalibrater",
    "EntropyCalibrater",
    "HistogramCalibrater",
    "MinMaxCalibrater",
    "PercentileCalibrater",
    "RangeEstimatorCalibrater",
    "StreamingCalibrater",
    "accelerate",
    "create_calibrator",
    "disable",
    "enable",
    "is_enabled",
    "quantize_static",
]
