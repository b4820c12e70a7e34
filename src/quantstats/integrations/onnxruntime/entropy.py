"""The thresholds of onnxruntime's Entropy calibration.

It compares the histogram cut at each pair of thresholds with what a coarser one of `quantized_bins` leaves of it, both
smoothed, and takes the pair with the least Kullback-Leibler divergence. Its candidates, sums and roundings are kept, so
that the same histogram gives the same thresholds; the sums are over arrays here, where onnxruntime adds bin by bin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["least_divergence_thresholds"]

Array = npt.NDArray[Any]


def least_divergence_thresholds(
    counts: npt.NDArray[np.int64], edges: Array, quantized_bins: int
) -> tuple[Array, Array]:
    """Lower and upper threshold, 0-d, of the dtype of `edges`.

    :param counts: [bins], in equal bins whose range is symmetric about zero. At least `quantized_bins`.
    :param edges: [bins + 1].
    :param quantized_bins: in how many parts each range is merged.
    """
    middle, half = counts.size // 2, quantized_bins // 2
    candidates = [(middle - reach, min(middle + reach + 1, counts.size)) for reach in range(half, middle + 1)]
    divergences = [float(edges.dtype.type(_divergence(counts, *cut, quantized_bins))) for cut in candidates]
    start, end = candidates[int(np.argmin(divergences))]
    return edges[start], edges[end]


def _divergence(counts: npt.NDArray[np.int64], start: int, end: int, quantized_bins: int) -> float:
    from onnxruntime.quantization.calibrate import entropy
    from onnxruntime.quantization.quant_utils import smooth_distribution

    inside = counts[start:end]
    reference = inside.copy()
    reference[0] += counts[:start].sum()
    reference[-1] += counts[end:].sum()

    length = inside.size // quantized_bins
    whole = quantized_bins * length  # What is left over belongs to the last part, but is not spread over its own bins.
    mass = inside[:whole].reshape(quantized_bins, length).sum(axis=1)
    mass[-1] += inside[whole:].sum()
    occupied = (reference[:whole] != 0).reshape(quantized_bins, length).sum(axis=1)
    spread = np.where(occupied != 0, mass / np.maximum(occupied, 1), 0).astype(np.int64)
    candidate = np.zeros_like(inside)
    candidate[:whole] = np.repeat(spread, length)

    p, q = smooth_distribution(reference), smooth_distribution(candidate)
    return np.inf if p is None or q is None else float(entropy(p, q))
