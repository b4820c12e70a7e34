"""Quantization that keeps accuracy: what int8 hurts most returns to floating point."""

from quantstats.ptq.accuracy_control.driver import quantize_with_accuracy_control, restore_accuracy
from quantstats.ptq.accuracy_control.report import AccuracyControlReport, AccuracyControlResult, RevertedGroup, Step

__all__ = [
    "AccuracyControlReport",
    "AccuracyControlResult",
    "RevertedGroup",
    "Step",
    "quantize_with_accuracy_control",
    "restore_accuracy",
]
