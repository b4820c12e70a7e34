"""How close the outputs of a quantized model are to those of the original."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class OutputError:
    """The error of one output, summed over the elements of all samples compared so far.

    Adding two of them gives the error over both sets of samples.

    :param signal: Sum of the squared reference values; 0 for an output that is not floating point.
    :param noise: Sum of the squared differences; infinite where one of the two is not finite and the other differs.
    :param equal: Number of elements that are identical.
    :param elements: Number of elements compared.
    :param floating: True if the output is floating point, so that a signal-to-noise ratio means something.
    """

    signal: float
    noise: float
    equal: int
    elements: int
    floating: bool

    def __add__(self, other: OutputError) -> OutputError:
        if self.floating != other.floating:
            raise ValueError("an output cannot be floating point in one sample and not in another")
        return OutputError(
            self.signal + other.signal,
            self.noise + other.noise,
            self.equal + other.equal,
            self.elements + other.elements,
            self.floating,
        )

    @property
    def sqnr_db(self) -> float | None:
        """Signal-to-quantization-noise ratio, ``10 * log10(signal / noise)``, in decibels.

        Infinite if there is no noise, minus infinity if there is noise and no signal, ``None`` if the output is not
        floating point.
        """
        if not self.floating:
            return None
        if self.noise == 0:
            return math.inf
        if self.signal == 0 or math.isinf(self.noise):
            return -math.inf
        return 10 * math.log10(self.signal / self.noise)

    @property
    def agreement(self) -> float:
        """Share of the elements that are identical, in [0, 1]; 1 if there are none."""
        return self.equal / self.elements if self.elements else 1.0


def output_error(reference: Array, actual: Array) -> OutputError:
    """Return the error of ``actual`` against ``reference``, two arrays of one shape.

    Sums are taken in float64. Where the reference is infinite or NaN (a masked logit, say) and ``actual`` holds the
    same, the element counts neither as signal nor as noise.

    :raises ValueError: The shapes differ.
    """
    reference, actual = np.asarray(reference), np.asarray(actual)
    if reference.shape != actual.shape:
        raise ValueError(f"the output has shape {actual.shape} where the original gives {reference.shape}")
    if not _is_floating(reference):
        return OutputError(0.0, 0.0, int(np.count_nonzero(reference == actual)), reference.size, floating=False)
    expected, got = reference.astype(np.float64), actual.astype(np.float64)
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    finite = np.isfinite(expected) & np.isfinite(got)
    signal = float(np.sum(np.square(expected, where=finite, out=np.zeros_like(expected))))
    difference = np.subtract(got, expected, where=finite, out=np.zeros_like(expected))
    noise = float(np.sum(np.square(difference)))
    if bool(np.any(~finite & ~same)):
        noise = math.inf
    return OutputError(signal, noise, int(np.count_nonzero(same)), reference.size, floating=True)


def _is_floating(x: Array) -> bool:
    # bfloat16 comes from ml_dtypes as kind "V" and is no np.floating, but its type is named after what it is.
    return x.dtype.kind == "f" or "float" in x.dtype.name


__all__ = ["OutputError", "output_error"]
