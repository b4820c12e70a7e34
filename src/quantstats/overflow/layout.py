"""Weights as rows: one for each output, along which products are added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantstats.errors import ParameterError
from quantstats.overflow.pairing import LayerKind

__all__ = ["WeightRows", "check_u_max", "layer_kind", "weight_rows"]


@dataclass(frozen=True)
class WeightRows:
    """The weights of a layer, a row for each output.

    :param rows: [outputs, channels * spatial]: the weights that are reduced for an output, in C order.
    :param channels: input channels of a group, or the length of the reduction axis of a matrix.
    :param spatial: positions of the kernel; 1 for a matrix.
    :param kept_shape: sizes of the output axes, in the order in which they were named.
    :param reduction_shape: sizes of the other axes.
    """

    rows: NDArray[Any]
    channels: int
    spatial: int
    kept_shape: tuple[int, ...]
    reduction_shape: tuple[int, ...]

    def arranged(self, partners: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in which elements 2i and 2i + 1 are the partners of pair i; a partner of -1 is a zero."""
        padded = np.concatenate([self.rows, np.zeros((len(self.rows), 1), self.rows.dtype)], axis=1)
        return np.take(padded, partners.reshape(-1), axis=1)


def weight_rows(weight: NDArray[Any], axis: int | Sequence[int], kind: LayerKind) -> WeightRows:
    """Make rows of a weight; a view of it where its layout allows.

    :param axis: the axis of the outputs, or several.
    :param kind: the first of the other axes of a convolution's weight is that of the channels.
    :raises ParameterError: an axis does not exist or is given twice, or there is nothing to reduce.
    """
    given = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    kept = tuple(int(a) + weight.ndim if a < 0 else int(a) for a in given)
    if len(set(kept)) < len(kept) or any(not 0 <= a < weight.ndim for a in kept) or len(kept) >= weight.ndim:
        raise ParameterError(
            f"axis={axis!r} does not name output axes of a weight of shape {weight.shape}; give existing axes, each "
            "once, and leave one to reduce"
        )
    if weight.size == 0:
        raise ParameterError(f"the weight of shape {weight.shape} is empty; give one with elements")
    reduced = tuple(a for a in range(weight.ndim) if a not in kept)
    kept_shape = tuple(weight.shape[a] for a in kept)
    reduction_shape = tuple(weight.shape[a] for a in reduced)
    length = int(np.prod(reduction_shape))
    rows = weight.transpose(*kept, *reduced).reshape(-1, length)
    channels = length if kind is LayerKind.MATMUL else reduction_shape[0]
    return WeightRows(rows, channels, length // channels, kept_shape, reduction_shape)


def layer_kind(kind: LayerKind | str | None, weight: NDArray[Any]) -> LayerKind:
    """The kind that was asked for, else a matrix multiplication for a matrix and a convolution for more axes.

    :raises ParameterError: `kind` names none.
    """
    if kind is None:
        return LayerKind.MATMUL if weight.ndim <= 2 else LayerKind.CONVOLUTION
    try:
        return LayerKind(kind)
    except ValueError:
        raise ParameterError(f"kind={kind!r} is unknown; use one of {', '.join(map(str, LayerKind))}") from None


def check_u_max(u_max: Any) -> int:
    """`u_max` must be a level that a uint8 activation can have, other than zero.

    :raises ParameterError: it is not.
    """
    if isinstance(u_max, bool) or not isinstance(u_max, int | np.integer) or not 1 <= u_max <= 255:
        raise ParameterError(f"u_max={u_max!r} is not an integer of 1 to 255; give the greatest uint8 activation")
    return int(u_max)
