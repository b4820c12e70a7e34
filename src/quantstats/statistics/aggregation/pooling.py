"""Gather the values that are aggregated together: stack the samples and flatten the aggregated axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats.errors import DataError, ParameterError

__all__ = ["check_poolable", "pool"]

Array = npt.NDArray[Any]


def _own_axes(ndim: int, aggregation_axes: Sequence[int]) -> tuple[int, ...]:
    """The aggregated axes of a reduced sample: axis k of the stack is axis k - 1 of the sample."""
    own = tuple(axis - 1 for axis in aggregation_axes if axis > 0)
    if any(axis >= ndim for axis in own):
        raise ParameterError(
            f"aggregation_axes={tuple(aggregation_axes)} is beyond the {ndim + 1} axes of a stack of "
            f"{ndim}-dimensional samples; axis 0 counts the samples, axis k is axis k - 1 of a sample"
        )
    return own


def _kept_shape(shape: tuple[int, ...], aggregation_axes: Sequence[int]) -> tuple[int, ...]:
    own = _own_axes(len(shape), aggregation_axes)
    return tuple(1 if axis in own else size for axis, size in enumerate(shape))


def check_poolable(shape: tuple[int, ...], like: tuple[int, ...], aggregation_axes: Sequence[int]) -> None:
    """Reduced samples of `shape` and `like` must agree but for the aggregated axes, else raises `DataError`."""
    if _kept_shape(shape, aggregation_axes) != _kept_shape(like, aggregation_axes):
        raise DataError(
            f"a sample reduces to shape {shape}, earlier ones to {like}: sizes may differ only along aggregated axes; "
            "check the channel axis and the data"
        )


def pool(values: Sequence[Array], aggregation_axes: Sequence[int]) -> tuple[Array, tuple[int, ...]]:
    """All values as a matrix [pooled values, channels], and the shape of an aggregated result.

    `values` are the reduced samples, at least one; `check_poolable` holds for any two. The result's shape is theirs
    with size 1 at the aggregated axes. Samples of unequal size along these contribute all their items.
    """
    own = _own_axes(values[0].ndim, aggregation_axes)
    shape = _kept_shape(values[0].shape, aggregation_axes)
    channels = int(np.prod(shape, dtype=np.int64))
    if not own:  # all of one shape
        return np.stack(values).reshape(-1, channels), shape
    front = tuple(range(len(own)))
    return np.concatenate([np.moveaxis(v, own, front).reshape(-1, channels) for v in values]), shape
