"""The sample table in columns: one array for all rows, which grows by doubling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats.errors import ParameterError
from quantstats.statistics.column import Column

__all__ = ["ColumnarTable"]

Array = npt.NDArray[Any]


class ColumnarTable:
    """Rows of reduced values, for many samples and many columns: 4 bytes a value and no object a row.

    A sample adds one row for each of its items: one, or as many as its batch has where the items of a batch are samples
    of their own, or none if the tensor was empty. A row holds a value for each column and channel. A negative zero is
    stored as +0.0, so that a minimum of several zeros does not depend on their order.

    :param columns: what the columns are.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        self._index = {column: index for index, column in enumerate(self._columns)}
        self._buffer: Array | None = None  # [capacity, columns, channels]
        self._length = 0
        self._items: list[int] = []

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
        """All values, read-only: float32 or float64 [rows, columns, channels]; [0, columns, 0] before the first row."""
        if self._buffer is None:
            return np.zeros((0, len(self._columns), 0), np.float32)
        view = self._buffer[: self._length].view()
        view.flags.writeable = False
        return view

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes, without the room that is kept for more."""
        return self.values.nbytes

    def matrix(self, column: Column) -> Array:
        """The values of one column: [rows, channels]. Raises `ParameterError` if the table does not have it."""
        index = self._index.get(column)
        if index is None:
            raise ParameterError(f"{column} was not collected; the table has {self._columns}")
        return self.values[:, index]

    def fits(self, block: Array) -> bool:
        """Whether rows of this dtype and number of channels can be added."""
        buffer = self._buffer
        return buffer is None or not len(block) or (buffer.dtype, buffer.shape[1:]) == (block.dtype, block.shape[1:])

    def append(self, block: Array) -> None:
        """Add the rows of one sample: [items, columns, channels], float32 or float64; see `fits`."""
        self.extend(block, np.array([len(block)], np.int64))

    def extend(self, block: Array, items: npt.NDArray[np.int64]) -> None:
        """Add the rows of several samples, `items` of them for each; see `fits`."""
        if len(block):
            self._reserve(self._length + len(block), block)
            assert self._buffer is not None
            end = self._length + len(block)
            np.add(block, block.dtype.type(0), out=self._buffer[self._length : end])
            self._length = end
        self._items.extend(items.tolist())

    def _reserve(self, rows: int, like: Array) -> None:
        if self._buffer is None:
            self._buffer = np.empty((rows, *like.shape[1:]), like.dtype)
        elif rows > len(self._buffer):
            grown = np.empty((max(rows, 2 * len(self._buffer)), *like.shape[1:]), like.dtype)
            grown[: self._length] = self._buffer[: self._length]
            self._buffer = grown

    def reordered(self, order: Sequence[int]) -> ColumnarTable:
        """The same table with its samples in another order: the new sample k is the old one `order[k]`."""
        twin = ColumnarTable(self._columns)
        items = self.items
        starts = np.concatenate([[0], np.cumsum(items)])
        rows = [np.arange(starts[sample], starts[sample + 1]) for sample in order]
        twin.extend(self.values[np.concatenate([np.zeros(0, np.intp), *rows])], items[list(order)])
        return twin
