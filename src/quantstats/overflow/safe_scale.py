"""The finest scale of a weight whose rounded levels cannot saturate 16-bit sums of u8 x s8 products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from quantstats.errors import NonFiniteError, ParameterError
from quantstats.overflow.layout import WeightRows, check_u_max, layer_kind, weight_rows
from quantstats.overflow.pairing import AnyPairs, LayerKind, NoPairs, Pairing, PairRule, find_pairing, pair_limits
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig, quantizer_from_range

__all__ = ["least_safe_scales", "smallest_safe_scale"]

Float32Array = NDArray[np.float32]


def smallest_safe_scale(
    weight_f32: npt.ArrayLike,
    *,
    axis: int | Sequence[int],
    u_max: int = 255,
    pairing: str | Pairing = "any",
    kind: LayerKind | str | None = None,
) -> Float32Array:
    """Per output, the finest float32 scale whose rounded weights cannot saturate, and the full range's at the least.

    The rounding is that of a symmetric int8 quantizer: round(w / scale), the quotient in float32, half to even, clamped
    to [-127, 127]. For one weight the magnitude of its level never grows with the scale, since division, rounding and
    clamping are monotonic; so neither does the sum of a pair, and if no pair saturates at one scale, none does at any
    coarser one. Hence there is a least safe scale among the float32 numbers, and bisection finds exactly that: the
    float32 number below it saturates for some input, unless it is the full range's scale already.

    At the scale of half range, max(abs(w)) / 63.5, levels reach 64 at most, and two of them sum to 128. So the result
    is never coarser than half range's scale, whatever the weights, the pairing and `u_max`.

    :param weight_f32: weights of any shape; computed in float32.
    :param axis: the axis of the outputs, or several, as in `certify`.
    :param u_max: the greatest level of the activations as unsigned bytes.
    :param pairing: which weights are pairs, a name of `PAIRINGS` or a `Pairing`.
    :param kind: the kind of layer, as in `certify`.
    :return: float32 scales in the shape of the output axes.
    :raises ParameterError: an argument is malformed.
    :raises NonFiniteError: a weight is NaN or infinite in float32.
    """
    with np.errstate(over="ignore"):  # reported below
        weight = np.asarray(weight_f32).astype(np.float32, copy=False)
    if weight.ndim == 0:
        raise ParameterError("weight_f32 has no axis; pass an array with an axis of outputs and one to reduce")
    kind = layer_kind(kind, weight)
    rows = weight_rows(weight, axis, kind)
    largest = np.max(np.abs(rows.rows), axis=1)
    if not np.all(np.isfinite(largest)):
        raise NonFiniteError("weight_f32 has NaN or infinite values in float32; remove them")
    config = QuantizerConfig(
        mode=QuantizationMode.SYMMETRIC, per_channel=True, signedness_to_force=True, narrow_range=True
    )
    full = quantizer_from_range(-largest, largest, config, axis=0)
    rule = find_pairing(pairing).rule(kind)
    scale = least_safe_scales(rows, rule, check_u_max(u_max), full.scale, full.level_low, full.level_high)
    return scale.reshape(rows.kept_shape)


def least_safe_scales(
    weights: WeightRows, rule: PairRule, u_max: int, least: Float32Array, level_low: int, level_high: int
) -> Float32Array:
    """The least safe scale of every row that is not below `least`.

    :param weights: float32 rows.
    :param least: float32 [rows]: the scale of the full range.
    :param level_low: lowest level, -127 or -128.
    :param level_high: highest level, 127.
    """
    scale = np.array(least, np.float32)
    if isinstance(rule, NoPairs):
        return scale
    rows = weights.rows
    for limit, level, sign in zip(pair_limits(u_max), (level_high, -level_low), (1, -1), strict=True):
        magnitudes = np.maximum(rows * np.float32(sign), np.float32(0))
        if isinstance(rule, AnyPairs):
            # Levels ascend with the weights, so no pair has a greater sum than the two greatest weights.
            first, second = _two_greatest(magnitudes)
        else:
            partners = rule.partners(weights.channels, weights.spatial)
            padded = np.concatenate([magnitudes, np.zeros((len(rows), 1), np.float32)], axis=1)
            first, second = padded[:, partners[:, 0]], padded[:, partners[:, 1]]
        _raise_scales(scale, first, second, level, limit)
    return scale


def _raise_scales(scale: Float32Array, first: Float32Array, second: Float32Array, level: int, limit: int) -> None:
    """Raise the scale of every row until all its pairs, of weights `first` and `second` [rows, pairs], are safe."""
    total = first + second
    # Rounding adds 1 to a sum of two levels at most; the other 1 makes up for the rounding of float32.
    row, pair = np.nonzero(total > (scale * np.float32(limit - 2))[:, None])
    first, second, total = first[row, pair], second[row, pair], total[row, pair]
    # The pair of the greatest weights goes first: few others are at risk at the scale that it needs.
    order = np.lexsort((-total, row))
    row, first, second = row[order], first[order], second[order]
    leads = np.ones(len(row), np.bool_)
    leads[1:] = row[1:] != row[:-1]
    for chosen in (leads, ~leads):
        pairs = np.flatnonzero(chosen)
        pairs = pairs[_sum_of_levels(first[pairs], second[pairs], scale[row[pairs]], level) > limit]
        found = _bisect(first[pairs], second[pairs], scale[row[pairs]], level, limit)
        np.maximum.at(scale, row[pairs], found)


def _two_greatest(magnitudes: Float32Array) -> tuple[Float32Array, Float32Array]:
    """The greatest and the second greatest of every row, [rows, 1] each. Overwrites `magnitudes`."""
    row, greatest = np.arange(len(magnitudes)), np.argmax(magnitudes, axis=1)
    first = magnitudes[row, greatest]
    magnitudes[row, greatest] = 0
    return first[:, None], np.max(magnitudes, axis=1, keepdims=True)


def _sum_of_levels(first: Float32Array, second: Float32Array, scale: Float32Array, level: int) -> Float32Array:
    """The levels of two magnitudes, as the quantizer rounds them, added; an exact integer."""
    greatest = np.float32(level)
    levels: Float32Array = np.minimum(np.rint(first / scale), greatest) + np.minimum(np.rint(second / scale), greatest)
    return levels


def _bisect(first: Float32Array, second: Float32Array, unsafe: Float32Array, level: int, limit: int) -> Float32Array:
    """For every pair the least float32 scale at which it is safe, given one at which it is not.

    Between positive float32 numbers the integers that share their bits ascend alike. Both weights divided by their sum
    over (limit - 2) round to at most limit - 1 together, so that scale is safe, however the sum is rounded.
    """
    total = first.astype(np.float64) + second
    low = unsafe.view(np.int32).astype(np.int64)
    high = (total / (limit - 2)).astype(np.float32).view(np.int32).astype(np.int64)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        scale = middle.astype(np.int32).view(np.float32)
        safe = _sum_of_levels(first, second, scale, level) <= limit
        # Where the two have met, the middle is `low`, which is unsafe: nothing changes.
        high = np.where(safe, middle, high)
        low = np.where(safe, low, middle)
    return high.astype(np.int32).view(np.float32)
