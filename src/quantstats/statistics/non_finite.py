"""NaN and infinities in a sample: counting, naming and mending them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from quantstats import kernels
from quantstats.errors import NonFiniteError, ParameterError

__all__ = [
    "ALL_FINITE",
    "NonFiniteCounts",
    "NonFinitePolicy",
    "check_policy",
    "count_non_finite",
    "describe_non_finite",
    "drop_empty_items",
    "mend",
]

Array = npt.NDArray[Any]

#: What to do about values that are not finite: refuse the sample, leave them out, or clamp them (see `mend`).
NonFinitePolicy: TypeAlias = Literal["raise", "ignore", "clamp"]

_LISTED = 8  # Channels that a message names.


class NonFiniteCounts(NamedTuple):
    """How many values of each kind."""

    nan: int = 0
    pos_inf: int = 0
    neg_inf: int = 0

    def plus(self, other: NonFiniteCounts) -> NonFiniteCounts:
        """The sums."""
        return NonFiniteCounts(*(mine + its for mine, its in zip(self, other, strict=True)))

    def __str__(self) -> str:
        return f"{self.nan} NaN, {self.pos_inf} +Inf and {self.neg_inf} -Inf"


#: No such value.
ALL_FINITE = NonFiniteCounts()


def check_policy(owner: str, value: Any) -> None:
    """Raise `ParameterError` if `value` is no `NonFinitePolicy`."""
    if value not in get_args(NonFinitePolicy):
        raise ParameterError(f"{owner}.non_finite={value!r}; use 'raise', 'ignore' or 'clamp'")


def count_non_finite(x: Array) -> NonFiniteCounts:
    """Count the values of `x`, which is not empty, that are not finite."""
    summary = kernels.summarize(x, nan_policy="ignore")
    return NonFiniteCounts(int(summary.nan_count), int(summary.pos_inf_count), int(summary.neg_inf_count))


def describe_non_finite(x: Array, channel_axis: int | None) -> str:
    """The counts in words, and which channels have such values.

    :param channel_axis: the axis of the channels; None, or an axis that `x` does not have, names none.
    """
    text = f"{count_non_finite(x)} among {x.size} values"
    if channel_axis is None or not -x.ndim <= channel_axis < x.ndim:
        return text
    axis = channel_axis % x.ndim
    slices: Array = np.moveaxis(np.isfinite(x), axis, 0).reshape(x.shape[axis], -1)
    channels = np.flatnonzero(~slices.all(axis=1)).tolist()
    more = f" and {len(channels) - _LISTED} more" if len(channels) > _LISTED else ""
    listed = ", ".join(map(str, channels[:_LISTED]))
    return f"{text}, in channel{'s' if len(channels) > 1 else ''} {listed}{more} of axis {axis}"


def mend(x: Array, policy: Literal["ignore", "clamp"]) -> Array:
    """A copy of `x` without infinities.

    ``"ignore"`` makes them NaN, which kernels leave out. ``"clamp"`` does what the quantized model will do to them: an
    infinity becomes the largest finite value of its sign that the dtype has, as it saturates there; NaN becomes 0, for
    QuantizeLinear makes it the zero point. So NaN widens no range.
    """
    mended = x.copy()
    infinite = np.isinf(mended)
    if policy == "ignore":
        mended[infinite] = np.nan
    else:
        largest = np.nextafter(np.array(np.inf, x.dtype), np.array(0, x.dtype))
        mended[infinite] = np.where(mended[infinite] > 0, largest, -largest)
        mended[np.isnan(mended)] = 0
    return mended


def drop_empty_items(rows: Array) -> Array:
    """`rows` [items, columns, channels] without the items of which no value was finite: all their entries are NaN.

    :raises NonFiniteError: an item lacks a channel only. Without it the row cannot be kept, and without the row the
        other channels would lose a sample unnoticed.
    """
    missing = np.asarray(np.isnan(rows).any(axis=1))
    empty = np.asarray(missing.all(axis=1))
    if missing[~empty].any():
        item, channel = (int(index[0]) for index in np.nonzero(missing & ~empty[:, np.newaxis]))
        raise NonFiniteError(
            f"channel {channel} of item {item} has no finite value, so non_finite='ignore' leaves nothing of it; "
            "mend the model, or use 'clamp'"
        )
    return rows[~empty]
