"""The mean of each channel of one tensor, a row for each sample: what bias correction needs of an activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels
from quantstats.errors import DataError, NonFiniteError
from quantstats.range_estimator import StatisticsType
from quantstats.statistics.aggregation import order_free_mean
from quantstats.statistics.column import Column
from quantstats.statistics.columnar_table import ColumnarTable
from quantstats.statistics.non_finite import (
    NonFinitePolicy,
    count_non_finite,
    describe_non_finite,
    drop_empty_items,
    mend,
)
from quantstats.statistics.reduction import as_sample
from quantstats.statistics.table_memory import TableMemory
from quantstats.typing import Tensor

__all__ = ["ChannelMeans"]

Array = npt.NDArray[Any]

_COLUMNS = (Column(StatisticsType.MEAN),)


class ChannelMeans:
    """Means along one axis of a tensor over many samples: 4 bytes a channel and sample.

    :param channel_axis: the axis that is kept; negative ones count from the end.
    :param batchwise: whether each item of axis 0 is a sample of its own, wherever axis 0 is not the channel axis.
    :param non_finite: what to do about NaN and infinities.
    :param memory: where the table is kept.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        channel_axis: int,
        *,
        batchwise: bool = False,
        non_finite: NonFinitePolicy = "raise",
        memory: TableMemory | None = None,
    ) -> None:
        self.channel_axis = channel_axis
        self.batchwise = batchwise
        self.non_finite: NonFinitePolicy = non_finite
        #: float32 [rows, 1, channels]
        self.table = ColumnarTable(_COLUMNS, memory)

    @property
    def num_samples(self) -> int:
        """How many samples were taken in, empty ones included."""
        return self.table.num_samples

    def reduce(self, x: npt.ArrayLike | Tensor) -> Array:
        """The rows of one sample, float32 [items, 1, channels], which `add` takes in. Nothing is changed.

        :raises NonFiniteError: `x` holds NaN or Inf and they are refused or leave nothing of a channel, or it holds
            float64 values whose mean is beyond float32.
        :raises DataError: `x` has a dtype without statistics, no such axis, or another number of channels than before.
        """
        sample = as_sample(x)
        if not -sample.ndim <= self.channel_axis < sample.ndim:
            raise DataError(
                f"a sample of shape {sample.shape} has no axis {self.channel_axis} for channels; check the channel axis"
            )
        if not sample.size:
            return np.zeros((0, 1, 0), np.float32)
        rows = self._means(sample, "propagate")
        if not np.isfinite(rows).all():
            if any(count_non_finite(sample)):
                if self.non_finite == "raise":
                    raise NonFiniteError(describe_non_finite(sample, self.channel_axis))
                rows = drop_empty_items(self._means(mend(sample, self.non_finite), "ignore"))
            if not np.isfinite(rows).all():
                raise NonFiniteError(f"the mean of a channel of a tensor of shape {sample.shape} is beyond float32")
        if not self.table.fits(rows):
            raise DataError(
                f"a sample has {rows.shape[2]} channels along axis {self.channel_axis}, earlier ones had "
                f"{self.table.values.shape[2]}; check the channel axis and the data"
            )
        return rows

    def _means(self, sample: Array, nan_policy: kernels.NanPolicy) -> Array:
        axis = self.channel_axis % sample.ndim
        items = sample.shape[0] if self.batchwise and axis != 0 else 1
        kept = {axis, 0} if self.batchwise else {axis}
        reduced = tuple(index for index in range(sample.ndim) if index not in kept)
        # Without an axis to reduce every value is its own mean.
        means = kernels.mean(sample, reduced, nan_policy=nan_policy) if reduced else sample
        with np.errstate(over="ignore"):
            return np.asarray(means).reshape(items, 1, -1).astype(np.float32)

    def add(self, rows: Array) -> None:
        """Take in the rows of a sample that `reduce` read."""
        self.table.append(rows)

    def mean(self) -> npt.NDArray[np.float32]:
        """The mean over all samples: float32 [channels]. It does not depend on their order, bit for bit.

        Samples weigh alike, whatever their size.

        :raises DataError: no sample was taken in.
        """
        if not len(self.table.values):
            raise DataError("a mean needs at least one sample and none was collected; give calibration data")
        mean: npt.NDArray[np.float32] = order_free_mean(self.table.matrix(_COLUMNS[0]))
        return mean

    def difference(self, other: ChannelMeans) -> str | None:
        """Why the samples of `other` cannot be added to these, in words; None if they can."""
        for what, mine, its in (
            ("channel axis of the means", self.channel_axis, other.channel_axis),
            ("batchwise means", self.batchwise, other.batchwise),
            ("policy for values that are not finite", self.non_finite, other.non_finite),
        ):
            if mine != its:
                return f"{what}: {mine} and {its}"
        if not self.table.fits(other.table.values):
            return f"{self.table.values.shape[2]} and {other.table.values.shape[2]} channels"
        return None

    def merge(self, other: ChannelMeans) -> None:
        """Add the samples of `other`, between which and these there is no `difference`. `other` is not changed."""
        self.table.merge(other.table)

    def reordered(self, order: Sequence[int], memory: TableMemory) -> ChannelMeans:
        """The same means with the samples in another order: the new sample k is the old one `order[k]`."""
        twin = ChannelMeans(self.channel_axis, batchwise=self.batchwise, non_finite=self.non_finite)
        twin.table = self.table.reordered(order, memory)
        return twin

    def __repr__(self) -> str:
        return f"<ChannelMeans of {self.num_samples} samples along axis {self.channel_axis}>"
