"""Calibration engine of post-training quantization on CPUs."""

__version__ = "0.1.0"
