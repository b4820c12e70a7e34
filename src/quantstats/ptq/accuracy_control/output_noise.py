"""How far the outputs of a quantized model are from those of the original."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from quantstats.adapters.protocol import Array, Sample

# A noise that is not finite would not go into a journal, and is no worse than this one.
_MOST = sys.float_info.max


def normalized_error(reference: Iterable[Array], outputs: Iterable[Array]) -> float:
    """Return the mean over outputs of ``sum((y - x)^2) / sum(x^2)``, the normalised mean squared error.

    Outputs of integers count only where there are no others: then the share of elements that differ. Where both hold
    the same NaN or infinity, an element counts neither as signal nor as noise.

    :param reference: Outputs of the original.
    :param outputs: Outputs of the quantized model, in the same order, of the same shapes.
    :return: At least 0; the largest float where the ratio is not finite, or shapes differ.
    """
    floating: list[float] = []
    other: list[float] = []
    for x, y in zip(reference, outputs, strict=True):
        if x.shape != y.shape:
            return _MOST
        # bfloat16 comes from ml_dtypes as kind "V", but its type is named after what it is.
        if x.dtype.kind == "f" or (x.dtype.kind == "V" and "float" in x.dtype.name):
            floating.append(_ratio(x.astype(np.float64).ravel(), y.astype(np.float64).ravel()))
        else:
            other.append(float(np.mean(x != y)) if x.size else 0.0)
    found = floating or other
    return min(sum(found) / len(found), _MOST) if found else 0.0


def _ratio(x: Array, y: Array) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        difference = y - x
        noise, signal = float(difference @ difference), float(x @ x)
    if not math.isfinite(noise):
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        finite = np.isfinite(x) & np.isfinite(y)
        if not np.all(same | finite):
            return _MOST
        difference, x = np.where(finite, difference, 0.0), np.where(finite, x, 0.0)
        noise, signal = float(difference @ difference), float(x @ x)
    if noise == 0.0:
        return 0.0
    return min(noise / signal, _MOST) if signal > 0.0 else _MOST


def fingerprint(sample: Sample, names: Sequence[str]) -> bytes:
    """Return what tells a sample from others: 16 bytes of a hash of its arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        value = np.ascontiguousarray(sample[name])
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.digest()


class ReferenceOutputs:
    """What the original computes of each sample that it was run on.

    :param limit: Most bytes to keep; runs beyond it are not kept, and not compared.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        self._left = limit
        self._outputs: dict[bytes, tuple[Array, ...]] = {}

    def add(self, key: bytes, outputs: Mapping[str, Array]) -> None:
        """Keep a copy of the outputs of one run."""
        size = sum(value.nbytes for value in outputs.values())
        if key not in self._outputs and size <= self._left:
            self._left -= size
            self._outputs[key] = tuple(np.array(value) for value in outputs.values())

    def get(self, key: bytes) -> tuple[Array, ...] | None:
        """Return the outputs of a sample, if it was kept."""
        return self._outputs.get(key)


__all__ = ["ReferenceOutputs", "fingerprint", "normalized_error"]
