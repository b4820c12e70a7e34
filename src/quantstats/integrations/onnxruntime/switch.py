"""Turning the calibrators on and off inside onnxruntime.quantization."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial

from onnxruntime import quantization as package
from onnxruntime.quantization import calibrate

from quantstats.integrations.onnxruntime.quantization import create_calibrator, quantize_module
from quantstats.integrations.switch import Replacement, Switch

# Each holds the function under its own name; `quantize_static` takes that of the last.
_MODULES = (package, calibrate, quantize_module)


def _replacements() -> Iterator[Replacement]:
    for module in _MODULES:
        yield Replacement(partial(setattr, module), "create_calibrator", module.create_calibrator, create_calibrator)


_switch = Switch(_replacements)


def enable() -> None:
    """Make onnxruntime calibrate with the calibrators of quantstats until `disable`, which must be called as often."""
    _switch.enable()


def disable() -> None:
    """End what `enable` began. Without it, nothing happens."""
    _switch.disable()


def is_enabled() -> bool:
    """Whether onnxruntime calibrates with the calibrators of quantstats now."""
    return _switch.is_on


def accelerate() -> AbstractContextManager[None]:
    """Make onnxruntime calibrate with the calibrators of quantstats within a ``with`` block; see `enable`.

    It serves calls of ``onnxruntime.quantization.quantize_static`` and ``create_calibrator`` in all threads. Blocks may
    nest and overlap; the last one that ends restores everything. A call that began in a block keeps its calibrator.
    """
    return _switch.on()
