"""Exceptions raised by quantstats.

Every message is one line that names the argument, tensor or operation, its value, and what to do about it.
Parameter and data errors are ``ValueError`` too, so callers that know nothing of quantstats can still catch them.
"""

__all__ = [
    "DataError",
    "IgnoredScopeError",
    "ModelError",
    "NonFiniteError",
    "NothingToQuantizeError",
    "ParameterError",
    "QuantizationError",
    "UnsupportedModelError",
]


class QuantizationError(Exception):
    """Base class of every error that quantstats raises on purpose."""


class ParameterError(QuantizationError, ValueError):
    """A parameter has a value that cannot be used, alone or together with another one."""


class IgnoredScopeError(ParameterError):
    """A rule of an ignored scope is malformed or matches nothing in the model."""


class DataError(QuantizationError, ValueError):
    """Calibration data is missing, empty, or has a name, dtype or shape that does not fit."""


class NonFiniteError(DataError):
    """A tensor, or a range derived from one, holds NaN or infinite values."""


class ModelError(QuantizationError):
    """The model cannot be read, run or written."""


class UnsupportedModelError(ModelError):
    """The model is valid, but uses something that quantstats does not handle."""


class NothingToQuantizeError(ModelError):
    """The model has no operation that quantization applies to, or all of them are ignored."""
