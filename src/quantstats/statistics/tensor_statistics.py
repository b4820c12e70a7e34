"""What is kept of one observed tensor: a row of reduced values for each sample, and the histogram of all values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quantstats import kernels
from quantstats.errors import DataError, NonFiniteError
from quantstats.range_estimator import StatisticsType
from quantstats.statistics.bit_histogram import BitHistogram
from quantstats.statistics.column import Column
from quantstats.statistics.columnar_table import ColumnarTable
from quantstats.statistics.non_finite import (
    ALL_FINITE,
    NonFiniteCounts,
    NonFinitePolicy,
    count_non_finite,
    describe_non_finite,
    drop_empty_items,
    mend,
)
from quantstats.statistics.reduction import SampleReducer, as_sample
from quantstats.statistics.table_memory import TableMemory
from quantstats.typing import Tensor

__all__ = ["DEFAULT_COLUMNS", "DEFAULT_PROBABILITIES", "TensorStatistics", "ValueCounts"]

Array = npt.NDArray[Any]

_TAILS = (1e-5, 1e-4, 1e-3, 1e-2)

#: Probabilities of the quantiles that are collected by default. The upper ones are 1 - p as a range estimator computes
#: it, to the bit: columns are found by equality.
DEFAULT_PROBABILITIES = (*_TAILS, 0.5, *(1.0 - p for p in reversed(_TAILS)))

#: What every sample is reduced to.
DEFAULT_COLUMNS = (
    Column(StatisticsType.MIN),
    Column(StatisticsType.MAX),
    Column(StatisticsType.ABS_MAX),
    Column(StatisticsType.MEAN),
    *(Column(StatisticsType.QUANTILE, p) for p in DEFAULT_PROBABILITIES),
    *(Column(StatisticsType.ABS_QUANTILE, p) for p in DEFAULT_PROBABILITIES),
)

# The bins of the histogram that hold zeros and denormals too small to tell from zero.
_ZERO_BINS = (0x7FFF, 0x8000)

# Bytes of a sample that is counted while it is reduced.
_COUNTED_WHILE_REDUCED = 32 << 20


class ValueCounts(NamedTuple):
    """How many values of a kind a tensor had over all samples.

    :param total: all values, those that are not finite included.
    :param zeros: zeros of either sign, and denormals below 9.2e-41 in magnitude, which share a bin with them.
    :param nan: NaN.
    :param pos_inf: positive infinities.
    :param neg_inf: negative infinities.
    """

    total: int
    zeros: int
    nan: int
    pos_inf: int
    neg_inf: int


@lru_cache(maxsize=16)
def _name_of(dtype: np.dtype[Any]) -> str:
    # NumPy puts the name together at every access, which takes longer than reading a small tensor.
    return dtype.name


@dataclass(frozen=True)
class ReducedSample:
    """One sample of a tensor, reduced but not yet taken in.

    :param value: the sample itself, for the histogram; mended where it was not finite.
    :param rows: [items, columns, 1] for the table of the tensor; no items for an empty sample.
    :param channel_rows: [items, columns, channels] for the table per channel, if there is one.
    :param non_finite: how many values were not finite.
    :param counts: counters of the histogram, if the sample was counted while it was reduced.
    """

    value: Array
    rows: Array
    channel_rows: Array | None
    non_finite: NonFiniteCounts = ALL_FINITE
    counts: npt.NDArray[np.uint64] | None = None


class TensorStatistics:
    """Statistics of one tensor over many samples.

    :param columns: what a sample is reduced to; MIN and MAX are among them.
    :param channel_axis: the axis whose entries get rows of their own, besides those of the whole tensor; None for no
        table per channel.
    :param batchwise: whether each item of axis 0 is a sample of its own, wherever axis 0 is not the channel axis.
    :param non_finite: what to do about NaN and infinities.
    :param memory: where the tables are kept.
    :param reducer: one of these columns, which tensors may share; None makes one.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        channel_axis: int | None = None,
        batchwise: bool = False,
        non_finite: NonFinitePolicy = "raise",
        memory: TableMemory | None = None,
        reducer: SampleReducer | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self._min_index = self.columns.index(Column(StatisticsType.MIN))
        self._max_index = self.columns.index(Column(StatisticsType.MAX))
        self.channel_axis = channel_axis
        self.batchwise = batchwise
        self.non_finite: NonFinitePolicy = non_finite
        #: dtype and rank of the tensor, None before the first sample that is not empty
        self.dtype: str | None = None
        self.rank: int | None = None
        memory = TableMemory() if memory is None else memory
        self.table = ColumnarTable(self.columns, memory)
        self.channel_table = None if channel_axis is None else ColumnarTable(self.columns, memory)
        #: of all values that are finite, or were made so
        self.histogram = BitHistogram()
        #: how many values were not finite
        self.non_finite_counts: NonFiniteCounts = ALL_FINITE
        self._reducer = SampleReducer(self.columns) if reducer is None else reducer

    @property
    def num_samples(self) -> int:
        """How many samples were taken in, empty ones included."""
        return self.table.num_samples

    @property
    def counts(self) -> ValueCounts:
        """How many values there were, and how many of them are zero or not finite."""
        bad = self.non_finite_counts
        clamped = self.non_finite == "clamp"
        return ValueCounts(
            total=self.histogram.total + (0 if clamped else sum(bad)),
            # Clamping makes NaN zero.
            zeros=int(self.histogram.counts[list(_ZERO_BINS)].sum()) - (bad.nan if clamped else 0),
            nan=bad.nan,
            pos_inf=bad.pos_inf,
            neg_inf=bad.neg_inf,
        )

    @property
    def nbytes(self) -> int:
        """Size of tables and histogram in bytes."""
        return sum(table.nbytes for table in self.tables()) + self.histogram.counts.nbytes

    def require_values(self) -> None:
        """Raise `DataError` if there is nothing that a range could follow from."""
        if self.dtype is not None:
            return
        if any(self.non_finite_counts):
            raise NonFiniteError(
                f"a range needs at least one finite value and there is none, for {self.non_finite_counts} were left "
                "out; mend the model or the data, or calibrate with non_finite='clamp'"
            )
        raise DataError("a range needs at least one sample and none was collected; give calibration data")

    def reduce(self, x: npt.ArrayLike | Tensor) -> ReducedSample:
        """Read one sample; `add` takes in what comes out. Nothing is changed.

        :raises NonFiniteError: `x` holds NaN or Inf and they are refused, or leave nothing of a channel.
        :raises DataError: `x` has a dtype without statistics, or another dtype, rank or number of channels than before.
        """
        sample = as_sample(x)
        if not sample.size:
            none = np.zeros((0, len(self.columns), 0), np.float32)
            return ReducedSample(sample, none, none)
        found = (_name_of(sample.dtype), sample.ndim)
        if self.dtype is not None and found != (self.dtype, self.rank):
            raise DataError(
                f"a sample is {found[0]} with {found[1]} axes, earlier ones were {self.dtype} with {self.rank}; "
                "give samples of one kind"
            )
        if self.channel_axis is not None and not -sample.ndim <= self.channel_axis < sample.ndim:
            raise DataError(
                f"a sample of shape {sample.shape} has no axis {self.channel_axis} for channels; collect it per tensor"
            )
        try:
            reduced = self._reduce(sample)
        except NonFiniteError as error:
            if self.non_finite == "raise":
                raise NonFiniteError(describe_non_finite(sample, self.channel_axis)) from error
            reduced = self._reduce(mend(sample, self.non_finite), skip_nan=self.non_finite == "ignore")
            reduced = replace(reduced, non_finite=count_non_finite(sample))
        per_channel = reduced.channel_rows
        if self.channel_table is not None and per_channel is not None and not self.channel_table.fits(per_channel):
            raise DataError(
                f"a sample has {per_channel.shape[2]} channels along axis {self.channel_axis}, earlier ones had "
                f"{self.channel_table.values.shape[2]}; check the channel axis and the data"
            )
        return reduced

    def _reduce(self, sample: Array, *, skip_nan: bool = False) -> ReducedSample:
        # Counted in the read that finds the rows where that is faster than another read: see `kernels.summarize`.
        counts = np.zeros_like(self.histogram.counts) if sample.nbytes >= _COUNTED_WHILE_REDUCED else None
        rows = self._rows(sample, None, skip_nan, counts)
        per_channel = None
        if self.channel_axis is not None:
            per_channel = self._rows(sample, self.channel_axis % sample.ndim, skip_nan)
        return ReducedSample(sample, rows, per_channel, counts=counts)

    def _rows(
        self,
        sample: Array,
        channel_axis: int | None,
        skip_nan: bool,
        histogram: npt.NDArray[np.uint64] | None = None,
    ) -> Array:
        kept = () if channel_axis is None else (channel_axis,)
        items = 1
        if self.batchwise and sample.ndim > 0 and channel_axis != 0:
            kept = (*kept, 0)
            items = sample.shape[0]
        axes = tuple(axis for axis in range(sample.ndim) if axis not in kept) if kept else tuple(range(sample.ndim))
        values = self._reducer.matrix(sample, axes, skip_nan=skip_nan, histogram=histogram)
        rows = values.reshape(len(self.columns), items, -1).transpose(1, 0, 2)
        return drop_empty_items(rows) if skip_nan else rows

    def tables(self) -> tuple[ColumnarTable, ...]:
        """The table, and the table per channel if there is one."""
        return (self.table,) if self.channel_table is None else (self.table, self.channel_table)

    def reserve(self, reduced: ReducedSample) -> None:
        """Make room for a sample that `reduce` read, so that adding it cannot fail any more.

        :raises DataError: there is no room in the file system.
        """
        self.table.reserve(reduced.rows)
        if self.channel_table is not None and reduced.channel_rows is not None:
            self.channel_table.reserve(reduced.channel_rows)

    def count(self, reduced: ReducedSample) -> None:
        """Count the values of a sample that `reduce` read while they are in the cache; `add` or `uncount` follows."""
        if reduced.counts is None and len(reduced.rows):
            kernels.bit_histogram(reduced.value, self.histogram.counts)

    def uncount(self, reduced: ReducedSample) -> None:
        """Undo `count`, for a sample that is not added after all."""
        if reduced.counts is None and len(reduced.rows):
            counts = np.zeros_like(self.histogram.counts)
            kernels.bit_histogram(reduced.value, counts)
            self.histogram.counts -= counts

    def add(self, reduced: ReducedSample, *, counted: bool = False) -> None:
        """Take in a sample that `reduce` read. The sample itself is not kept.

        :param counted: whether it went through `count`.
        """
        self.table.append(reduced.rows)
        if self.channel_table is not None:
            assert reduced.channel_rows is not None
            self.channel_table.append(reduced.channel_rows)
        if reduced.non_finite is not ALL_FINITE:
            self.non_finite_counts = self.non_finite_counts.plus(reduced.non_finite)
        rows = reduced.rows
        if len(rows):
            self.dtype, self.rank = _name_of(reduced.value.dtype), reduced.value.ndim
            if len(rows) == 1:  # NumPy takes microseconds for the least of one value.
                extrema = rows.item(self._min_index), rows.item(self._max_index)
            else:
                extrema = float(rows[:, self._min_index].min()), float(rows[:, self._max_index].max())
            if counted and reduced.counts is None:
                self.histogram.widen(*extrema)
            else:
                self.histogram.add(reduced.value, *extrema, counts=reduced.counts)

    def difference(self, other: TensorStatistics) -> str | None:
        """Why the samples of `other` cannot be added to these, in words; None if they can."""
        for what, mine, its in (
            ("columns", self.columns, other.columns),
            ("channel axis", self.channel_axis, other.channel_axis),
            ("batchwise statistics", self.batchwise, other.batchwise),
            ("policy for values that are not finite", self.non_finite, other.non_finite),
        ):
            if mine != its:
                return f"{what}: {mine} and {its}"
        if self.dtype is not None and other.dtype is not None:
            if (self.dtype, self.rank) != (other.dtype, other.rank):
                return f"{self.dtype} with {self.rank} axes and {other.dtype} with {other.rank}"
            if self.channel_table is not None and other.channel_table is not None:
                mine, its = self.channel_table.values.shape[2], other.channel_table.values.shape[2]
                if mine != its:
                    return f"{mine} and {its} channels"
        return None

    def merge(self, other: TensorStatistics) -> None:
        """Add the samples of `other`, between which and these there is no `difference`. `other` is not changed."""
        self.dtype = self.dtype or other.dtype
        self.rank = other.rank if self.rank is None else self.rank
        self.table.merge(other.table)
        if self.channel_table is not None and other.channel_table is not None:
            self.channel_table.merge(other.channel_table)
        self.histogram.merge(other.histogram)
        self.non_finite_counts = self.non_finite_counts.plus(other.non_finite_counts)

    def reordered(self, order: Sequence[int], memory: TableMemory) -> TensorStatistics:
        """The same statistics with the samples in another order: the new sample k is the old one `order[k]`."""
        twin = TensorStatistics(
            self.columns,
            channel_axis=self.channel_axis,
            batchwise=self.batchwise,
            non_finite=self.non_finite,
            memory=memory,
            reducer=self._reducer,
        )
        twin.dtype, twin.rank, twin.non_finite_counts = self.dtype, self.rank, self.non_finite_counts
        twin.table = self.table.reordered(order, memory)
        twin.channel_table = None if self.channel_table is None else self.channel_table.reordered(order, memory)
        twin.histogram.merge(self.histogram)
        return twin

    def has_bits_of(self, other: TensorStatistics) -> bool:
        """Whether `other` has the same values, samples in the same order, bit for bit."""
        if (self.dtype, self.rank, self.non_finite_counts, self.histogram) != (
            other.dtype,
            other.rank,
            other.non_finite_counts,
            other.histogram,
        ):
            return False
        if self.channel_table is not None and other.channel_table is not None:
            return self.table.has_bits_of(other.table) and self.channel_table.has_bits_of(other.channel_table)
        return self.table.has_bits_of(other.table)

    def __repr__(self) -> str:
        kind = "no values yet" if self.dtype is None else f"{self.dtype} with {self.rank} axes"
        return f"<TensorStatistics of {self.num_samples} samples: {kind}>"
