"""How much accuracy a quantized model loses, and whether that is allowed."""

from __future__ import annotations

import math

from quantstats.errors import ParameterError
from quantstats.parameters import DropType

# Differences of two metrics carry the rounding of both: 0.99 - 0.98 is not 0.01 in binary.
_ROUNDING = 1e-9


def accuracy_drop(fp32: float, quantized: float, drop_type: DropType) -> float:
    """Return what a quantized model loses: positive if it is worse than the floating-point model.

    ABSOLUTE: ``fp32 - quantized``. RELATIVE: that, divided by ``abs(fp32)``.

    :raises ParameterError: if a share of a metric of 0 is asked for.
    """
    if drop_type is DropType.ABSOLUTE:
        return fp32 - quantized
    if fp32 == 0.0:
        if quantized == 0.0:
            return 0.0
        raise ParameterError(
            "drop_type=DropType.RELATIVE, but the metric of the floating-point model is 0, and there is no share of 0; "
            "use DropType.ABSOLUTE"
        )
    return (fp32 - quantized) / abs(fp32)


def is_within(drop: float, max_drop: float) -> bool:
    """Whether a drop is allowed; a difference of rounding alone does not count."""
    return drop <= max_drop or math.isclose(drop, max_drop, rel_tol=_ROUNDING, abs_tol=_ROUNDING * 1e-3)


__all__ = ["accuracy_drop", "is_within"]
