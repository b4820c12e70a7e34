"""Turning the calibrators on and off inside onnxruntime.quantization."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onnxruntime import quantization as package
from onnxruntime.quantization import calibrate

from quantstats.integrations.onnxruntime.quantization import create_calibrator, quantize_module

# Each holds the function under its own name; `quantize_static` takes that of the last.
_MODULES = (package, calibrate, quantize_module)
_NAME = "create_calibrator"

_lock = threading.RLock()
_holders = 0
_before: list[Any] = []


def enable() -> None:
    """Make onnxruntime calibrate with the calibrators of quantstats until `disable`, which must be called as often."""
    global _holders
    with _lock:
        if _holders == 0:
            _before[:] = [getattr(module, _NAME) for module in _MODULES]
            for module in _MODULES:
                setattr(module, _NAME, create_calibrator)
        _holders += 1


def disable() -> None:
    """End what `enable` began. Without it, nothing happens."""
    global _holders
    with _lock:
        if _holders == 0:
            return
        _holders -= 1
        if _holders == 0:
            for module, function in zip(_MODULES, _before, strict=True):
                setattr(module, _NAME, function)
            _before.clear()


def is_enabled() -> bool:
    """Whether onnxruntime calibrates with the calibrators of quantstats now."""
    return _holders > 0


@contextmanager
def accelerate() -> Iterator[None]:
    """Make onnxruntime calibrate with the calibrators of quantstats within a ``with`` block; see `enable`.

    It serves calls of ``onnxruntime.quantization.quantize_static`` and ``create_calibrator`` in all threads. Blocks may
    nest and overlap; the last one that ends restores everything. A call that began in a block keeps its calibrator.
    """
    enable()
    try:
        yield
    finally:
        disable()
