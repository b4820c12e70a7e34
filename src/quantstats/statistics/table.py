"""The sample table: a row of reduced values for each sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats.errors import ParameterError
from quantstats.statistics.column import Column

__all__ = ["SampleTable"]

Array = npt.NDArray[Any]


class SampleTable:
    """A growing table with a row for each sample and the given columns.

    A row holds one array for each column, all of one shape (that of the reduced sample); rows may differ in shape.
    Tables are equal if they hold the same rows, in whatever order, bit for bit: nothing that is derived from a table
    depends on the order. A negative zero is stored as +0.0, so that a minimum of several zeros has no order either.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, columns: Iterable[Column]) -> None:
        self._columns = tuple(dict.fromkeys(columns))
        self._rows: list[tuple[Array, ...]] = []

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns, without repetition."""
        return self._columns

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Size of all values in bytes."""
        return sum(value.nbytes for row in self._rows for value in row)

    def append(self, values: Sequence[Array]) -> None:
        """Add a row: one array for each of `columns`, in their order."""
        if len(values) != len(self._columns):
            raise ParameterError(f"a row of {len(values)} values for {len(self._columns)} columns; give one for each")
        self._rows.append(tuple(np.asarray(value) + value.dtype.type(0) for value in values))

    def merge(self, other: SampleTable) -> None:
        """Add the rows of `other`, which must have the same columns. `other` is not changed."""
        if other._columns != self._columns:
            raise ParameterError(
                f"tables with columns {self._columns} and {other._columns} cannot be merged; "
                "collect both with the same parameters"
            )
        self._rows.extend(list(other._rows))

    def values(self, column: Column) -> list[Array]:
        """The values of one column, one array for each sample."""
        if column not in self._columns:
            raise ParameterError(f"{column} was not collected; the table has {self._columns}")
        index = self._columns.index(column)
        return [row[index] for row in self._rows]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SampleTable):
            return NotImplemented
        return self._columns == other._columns and self._canonical() == other._canonical()

    def _canonical(self) -> list[tuple[str, tuple[int, ...], bytes]]:
        return sorted((row[0].dtype.str, row[0].shape, b"".join(v.tobytes() for v in row)) for row in self._rows)

    def __copy__(self) -> SampleTable:
        twin = SampleTable(self._columns)
        twin._rows = list(self._rows)
        return twin

    def __repr__(self) -> str:
        kinds = ", ".join(column.statistics_type.name for column in self._columns)
        return f"<SampleTable of {len(self)} samples: {kinds}>"
