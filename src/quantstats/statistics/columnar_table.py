"""The sample table in columns: one array for all rows, which grows by doubling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats.errors import ParameterError
from quantstats.statistics.column import Column
from quantstats.statistics.table_memory import TableBuffer, TableMemory

__all__ = ["ColumnarTable"]

Array = npt.NDArray[Any]

_CHUNK_BYTES = 1 << 20  # What is read of a table in a file at a time.
_DIRTY_BYTES = 64 << 10  # What is written to one before its pages are let go.


class ColumnarTable:
    """Rows of reduced values, for many samples and many columns: 4 bytes a value and no object a row.

    A sample adds one row for each of its items: one, or as many as its batch has where the items of a batch are samples
    of their own, or none if the tensor was empty. A row holds a value for each column and channel. A negative zero is
    stored as +0.0, so that a minimum of several zeros does not depend on their order.

    :param columns: what the columns are.
    :param memory: where the rows are kept; tables may share it.
    """

    def __init__(self, columns: Sequence[Column], memory: TableMemory | None = None) -> None:
        self._columns = tuple(columns)
        self._index = {column: index for index, column in enumerate(self._columns)}
        self._memory = TableMemory() if memory is None else memory
        self._buffer: TableBuffer | None = None  # [capacity, columns, channels]
        self._length = 0
        self._items: list[int] = []
        self._dirty = 0

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the columns are."""
        return self._columns

    @property
    def num_samples(self) -> int:
        """How many samples were added, empty ones included."""
        return len(self._items)

    @property
    def items(self) -> npt.NDArray[np.int64]:
        """How many rows each sample has, in the order of the samples: int64 [samples]."""
        return np.array(self._items, np.int64)

    @property
    def values(self) -> Array:
        """All values, read-only: float32 or float64 [rows, columns, channels]; [0, columns, 0] before the first row.

        Of a table that is in a file they are the mapped file: pages become resident as they are read.
        """
        if self._buffer is None:
            return np.zeros((0, len(self._columns), 0), np.float32)
        view = self._buffer.array[: self._length].view()
        view.flags.writeable = False
        return view

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes, without the room that is kept for more."""
        return self.values.nbytes

    @property
    def spilled(self) -> bool:
        """Whether the values are in a file."""
        return self._buffer is not None and self._buffer.mapped

    def matrix(self, column: Column) -> Array:
        """The values of one column: [rows, channels]. Raises `ParameterError` if the table does not have it."""
        index = self._index.get(column)
        if index is None:
            raise ParameterError(f"{column} was not collected; the table has {self._columns}")
        values = self.values
        if not self.spilled:
            return values[:, index]
        found = np.empty((values.shape[0], values.shape[2]), values.dtype)
        for rows in self._chunks(self._length):
            found[rows] = values[rows, index]
        return found

    def chunks(self, order: npt.NDArray[np.intp] | None = None) -> Iterator[Array]:
        """All values, a megabyte of whole rows at a time: contiguous arrays [rows, columns, channels].

        :param order: the row at each place; None for the order of the table.
        """
        values = self.values
        for rows in self._chunks(self._length if order is None else len(order)):
            yield np.ascontiguousarray(values[rows] if order is None else values[order[rows]])

    def _chunks(self, count: int) -> Iterator[slice]:
        """Slices of rows of about a megabyte. What a file has of the slice before is not resident any more."""
        step = max(_CHUNK_BYTES // max(self.values[:1].nbytes, 1), 1)
        for rows in (slice(start, min(start + step, count)) for start in range(0, count, step)):
            yield rows
            if self._buffer is not None:
                self._buffer.release()

    def fits(self, block: Array) -> bool:
        """Whether rows of this dtype and number of channels can be added."""
        if self._buffer is None or not len(block):
            return True
        mine = self._buffer.array
        return (mine.dtype, mine.shape[1:]) == (block.dtype, block.shape[1:])

    def append(self, block: Array) -> None:
        """Add the rows of one sample: [items, columns, channels], float32 or float64; see `fits`."""
        self._add(block)
        self._items.append(len(block))

    def extend(self, block: Array, items: npt.NDArray[np.int64]) -> None:
        """Add the rows of several samples, `items` of them for each; see `fits`."""
        self.restore([block], items)

    def restore(self, blocks: Iterable[Array], items: npt.NDArray[np.int64]) -> None:
        """Take in rows that come in blocks, which need not begin where a sample does."""
        for block in blocks:
            self._add(block)
        self._items.extend(items.tolist())

    def merge(self, other: ColumnarTable) -> None:
        """Add all samples of `other`; see `fits`. Neither table becomes resident as a whole."""
        self.reserve(other.values)
        self.restore(other.chunks(), other.items)

    def reserve(self, block: Array) -> None:
        """Make room for the rows of `block`, so that adding them cannot fail any more; see `fits`.

        :raises DataError: there is no room in the file system.
        """
        if len(block):
            self._reserve(self._length + len(block), block)

    def _add(self, block: Array) -> None:
        if not len(block):
            return
        end = self._length + len(block)
        self._reserve(end, block)
        assert self._buffer is not None
        np.add(block, block.dtype.type(0), out=self._buffer.array[self._length : end])
        self._length = end
        self._dirty += block.nbytes
        if self._dirty > _DIRTY_BYTES:
            self._buffer.release()
            self._dirty = 0

    def _reserve(self, rows: int, like: Array) -> None:
        old = self._buffer
        if not rows or (old is not None and rows <= len(old.array)):
            return
        capacity = rows if old is None else max(rows, 2 * len(old.array))
        grown = self._memory.allocate((capacity, *like.shape[1:]), like.dtype, old)
        for part in self._chunks(self._length):
            assert old is not None
            grown.array[part] = old.array[part]
            grown.release()
        self._buffer = grown

    def row_order(self, samples: Sequence[int]) -> npt.NDArray[np.intp]:
        """The rows of `samples` one after the other: sample k of the new order is the old one `samples[k]`."""
        items = self.items
        starts = np.concatenate([[0], np.cumsum(items)])
        rows = [np.arange(starts[sample], starts[sample + 1]) for sample in samples]
        return np.concatenate([np.zeros(0, np.intp), *rows])

    def reordered(self, order: Sequence[int], memory: TableMemory | None = None) -> ColumnarTable:
        """The same table with all its samples in another order: the new sample k is the old one `order[k]`."""
        twin = ColumnarTable(self._columns, memory)
        rows = self.row_order(order)
        values = self.values
        twin._reserve(len(rows), values)
        for part in self._chunks(len(rows)):
            twin._add(values[rows[part]])
        twin._items = self.items[list(order)].tolist()
        return twin

    def has_bits_of(self, other: ColumnarTable) -> bool:
        """Whether `other` has the same rows in the same order, bit for bit, and the same samples."""
        mine, its = self.values, other.values
        if (mine.dtype, mine.shape, self._items) != (its.dtype, its.shape, other._items):
            return False
        return all(x.tobytes() == y.tobytes() for x, y in zip(self.chunks(), other.chunks(), strict=True))

    def __getstate__(self) -> tuple[tuple[Column, ...], TableMemory, Array, list[int]]:
        return self._columns, self._memory, np.array(self.values), self._items

    def __setstate__(self, state: tuple[tuple[Column, ...], TableMemory, Array, list[int]]) -> None:
        columns, memory, values, items = state
        ColumnarTable.__init__(self, columns, memory)
        self.extend(values, np.array(items, np.int64))
