"""Products of unsigned and signed bytes as a CPU without VNNI sums them, for matrices and convolutions.

Sums are those of the raw bytes; zero points are taken out afterwards, as runtimes do: what saturates is the sum before
the correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantstats import kernels
from quantstats.errors import ParameterError
from quantstats.overflow.pairing import AnyPairs, LayerKind, NoPairs, Pairing, PairRule, find_pairing

__all__ = ["Sums", "convolution_sums", "exact_product", "matrix_sums", "saturating_conv"]

# A stack of smaller matrices is multiplied at once, of larger ones one by one.
_LEAST_MATRIX = 512


@dataclass(frozen=True)
class Sums:
    """Sums of products.

    :param values: int32.
    :param saturated: how many pairs saturated.
    :param pairs: how many pairs were added up.
    """

    values: NDArray[np.int32]
    saturated: int
    pairs: int


def matrix_sums(
    a: NDArray[np.uint8], b: NDArray[Any], rule: PairRule, *, channels: int | None = None, spatial: int = 1
) -> Sums:
    """``a @ b`` with the saturation of a rule.

    :param a: uint8 [M, K].
    :param b: int8 [K, N]; uint8 is multiplied exactly, since no instruction pairs unsigned bytes.
    :param rule: which products are pairs. Any pair is none in particular, so `AnyPairs` is an error.
    :param channels: how many of the K are channels; K = channels * spatial. Default: all.
    """
    m, k = a.shape
    n = b.shape[1]
    if isinstance(rule, AnyPairs):
        raise ParameterError(
            "pairing 'any' says that every two products may be a pair, not which are; name a runtime's"
        )
    if isinstance(rule, NoPairs) or b.dtype != np.int8:
        return Sums(exact_product(a, b), 0, 0)
    channels = k if channels is None else channels
    number = m * n * ((k + 1) // 2)
    if not rule.is_plain(channels, spatial):
        partners = rule.partners(channels, spatial)
        order = partners.reshape(-1)
        a = np.take(np.concatenate([a, np.zeros((m, 1), np.uint8)], axis=1), order, axis=1)
        b = np.take(np.concatenate([b, np.zeros((1, n), np.int8)], axis=0), order, axis=0)
        number = m * n * len(partners)
    values, saturated = kernels.saturating_matmul(a, b, return_count=True)
    return Sums(values, saturated, number)


def exact_product(a: NDArray[np.uint8], b: NDArray[Any]) -> NDArray[np.int32]:
    """``a @ b`` of bytes in int32, of matrices or equally long stacks of them.

    The saturating kernel computes it in two halves that cannot saturate: weights of seven bits, and what they lack.
    """
    if a.ndim > 2:
        if b.shape[-2] * b.shape[-1] < _LEAST_MATRIX:
            product: NDArray[np.int32] = np.matmul(a.astype(np.int32), b.astype(np.int32))
            return product
        return np.stack([exact_product(left, right) for left, right in zip(a, b, strict=True)])
    shift = 1 if b.dtype == np.int8 else 2
    upper, lower = (b >> shift).astype(np.int8), (b & ((1 << shift) - 1)).astype(np.int8)
    return kernels.saturating_matmul(a, upper) * np.int32(1 << shift) + kernels.saturating_matmul(a, lower)


def convolution_sums(
    x: NDArray[np.uint8],
    weight: NDArray[Any],
    rule: PairRule,
    *,
    pad_level: int = 0,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    group: int = 1,
) -> Sums:
    """Convolution sums [N, outputs, ...] through a matrix of patches (im2col), with the saturation of a rule.

    :param x: uint8 [N, channels, ...], any number of spatial axes.
    :param weight: int8 or uint8 [outputs, channels / group, ...].
    :param rule: as in `matrix_sums`.
    :param pad_level: the level of padding, which is the zero point of `x`.
    :param strides: as in ONNX, one per spatial axis. Default 1.
    :param dilations: likewise.
    :param pads: beginnings, then ends. Default 0.
    :param group: number of groups.
    """
    rank = x.ndim - 2
    strides = list(strides or [1] * rank)
    dilations = list(dilations or [1] * rank)
    pads = list(pads or [0] * 2 * rank)
    outputs, channels, *kernel = weight.shape
    _check_convolution(x, weight, strides, dilations, pads, group)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=pad_level)
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + rank)))
    steps = (
        slice(None),
        slice(None),
        *(slice(None, None, s) for s in strides),
        *(slice(None, None, d) for d in dilations),
    )
    windows = windows[steps]  # [N, C, *positions, *kernel]
    positions = windows.shape[2 : 2 + rank]
    spatial = int(np.prod(kernel))
    each = outputs // group
    found = np.empty((len(x), outputs, int(np.prod(positions))), np.int32)
    saturated = pairs = 0
    matrices = weight.reshape(group, each, channels * spatial)
    for image, patches in enumerate(windows):
        by_group = patches.reshape(group, channels, *positions, *kernel)
        # [group, positions, channels, kernel]
        order = (0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))
        rows = by_group.transpose(order).reshape(group, -1, channels * spatial)
        if isinstance(rule, NoPairs) or weight.dtype != np.int8:
            found[image] = exact_product(rows, matrices.transpose(0, 2, 1)).transpose(0, 2, 1).reshape(outputs, -1)
            continue
        for index, (a, b) in enumerate(zip(rows, matrices, strict=True)):
            sums = matrix_sums(a, b.T, rule, channels=channels, spatial=spatial)
            found[image, index * each : (index + 1) * each] = sums.values.T
            saturated, pairs = saturated + sums.saturated, pairs + sums.pairs
    return Sums(found.reshape(len(x), outputs, *positions), saturated, pairs)


def saturating_conv(
    x_u8: NDArray[np.uint8],
    weight_s8: NDArray[np.int8],
    *,
    x_zero_point: int = 0,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    group: int = 1,
    pairing: str | Pairing = "adjacent",
    return_count: bool = False,
) -> NDArray[np.int32] | tuple[NDArray[np.int32], int]:
    """Convolution of bytes as CPUs without VNNI compute it: pairs of products saturate at 16 bits.

    The sums are of raw bytes, ``sum(x_u8 * weight_s8)``, before the zero point is taken out.

    :param x_u8: uint8 [N, channels, ...], any number of spatial axes.
    :param weight_s8: int8 [outputs, channels / group, ...].
    :param x_zero_point: the level with which `x_u8` is padded.
    :param strides: as in ONNX, one per spatial axis. Default 1.
    :param dilations: likewise.
    :param pads: beginnings of the spatial axes, then ends. Default 0.
    :param group: number of groups.
    :param pairing: which products are added into 16 bits, a name of `PAIRINGS` but for ``"any"``, or a `Pairing`.
    :param return_count: also return how many pairs saturated.
    :return: int32 [N, outputs, ...], or that and the count.
    :raises ParameterError: shapes or parameters do not fit together.
    """
    for name, array, dtype in (("x_u8", x_u8, np.uint8), ("weight_s8", weight_s8, np.int8)):
        if array.dtype != dtype or array.ndim < 3:
            raise ParameterError(
                f"{name} is {array.dtype} of shape {array.shape}; pass {np.dtype(dtype)} with at least three axes"
            )
    sums = convolution_sums(
        x_u8,
        weight_s8,
        find_pairing(pairing).rule(LayerKind.of_convolution(weight_s8.shape, group)),
        pad_level=x_zero_point,
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=group,
    )
    return (sums.values, sums.saturated) if return_count else sums.values


def _check_convolution(
    x: NDArray[Any],
    weight: NDArray[Any],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    group: int,
) -> None:
    rank = x.ndim - 2
    if weight.ndim != x.ndim or x.shape[1] != weight.shape[1] * group or weight.shape[0] % group:
        raise ParameterError(
            f"an input of shape {x.shape} and a weight of shape {weight.shape} do not fit {group} groups; pass "
            "[N, C, ...] and [outputs, C / groups, ...]"
        )
    if (len(strides), len(dilations), len(pads)) != (rank, rank, 2 * rank):
        raise ParameterError(
            f"strides={list(strides)}, dilations={list(dilations)}, pads={list(pads)} do not fit {rank} spatial axes; "
            f"give {rank}, {rank} and {2 * rank} numbers"
        )
