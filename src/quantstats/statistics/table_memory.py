"""Where tables are kept: in memory up to a limit, beyond it in memory-mapped temporary files."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats._validation import check_count
from quantstats.errors import DataError

__all__ = ["DEFAULT_MEMORY_LIMIT", "TableBuffer", "TableMemory"]

Array = npt.NDArray[Any]

#: Bytes of tables that stay in memory.
DEFAULT_MEMORY_LIMIT = 256 << 20

_FILE_BYTES = 64 << 20  # Buffers share files of this size: a process may open about a thousand.
_PAGE = mmap.PAGESIZE


class TableBuffer:
    """Room for the rows of a table.

    :param array: the room itself.
    :param mapping: the memory-mapped file that it is in, and where; None for plain memory.
    """

    def __init__(self, array: Array, mapping: tuple[mmap.mmap, int] | None = None) -> None:
        self.array = array
        self._mapping = mapping

    @property
    def mapped(self) -> bool:
        """Whether it is in a file."""
        return self._mapping is not None

    def release(self) -> None:
        """Let the pages of the file go, which are resident since they were read or written. They stay readable."""
        if self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapping, start = self._mapping
            # The mapping is shared, so what was written is in the file's pages, not in those that go.
            mapping.madvise(mmap.MADV_DONTNEED, start, _whole_pages(self.array.nbytes))


class TableMemory:
    """Hands out buffers for tables that share a limit.

    What does not fit below the limit goes to temporary files in the directory of :func:`tempfile.gettempdir` (set by
    ``TMPDIR``). They have no name from the start on, so they are gone with the process, however it ends.

    :param limit: bytes that stay in memory.
    """

    def __init__(self, limit: int = DEFAULT_MEMORY_LIMIT) -> None:
        check_count("CalibrationStatistics", "memory_limit", limit, least=0)
        self.limit = limit
        #: bytes in memory and in files
        self.resident = 0
        self.spilled = 0
        self._file: mmap.mmap | None = None
        self._end = 0

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike, old: TableBuffer | None = None) -> TableBuffer:
        """A buffer in place of `old`, whose room is counted as free; its values are not moved.

        :raises DataError: the file system has no room.
        """
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        others = self.resident - (0 if old is None or old.mapped else old.array.nbytes)
        if others + nbytes <= self.limit:
            self.resident = others + nbytes
            return TableBuffer(np.empty(shape, dtype))
        size = _whole_pages(nbytes)
        if self._file is None or self._end + size > len(self._file):
            self._file, self._end = _temporary_mapping(max(size, _FILE_BYTES)), 0
        self.resident = others
        start = self._end
        self._end += size
        self.spilled += nbytes
        array = np.frombuffer(self._file, dtype, math.prod(shape), start).reshape(shape)
        return TableBuffer(array, (self._file, start))

    def __reduce__(self) -> tuple[type[TableMemory], tuple[int]]:
        return TableMemory, (self.limit,)


def _whole_pages(nbytes: int) -> int:
    return max(-(-nbytes // _PAGE), 1) * _PAGE


def _temporary_mapping(size: int) -> mmap.mmap:
    try:
        with tempfile.TemporaryFile(prefix="quantstats-") as file:
            if hasattr(os, "posix_fallocate"):
                # Without blocks of its own a full disk would show as a signal when a page is written.
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise DataError(
            f"{size} bytes of a temporary file for tables cannot be had in {tempfile.gettempdir()!r}: "
            f"{error.strerror or error}; free space, set TMPDIR to a larger disk, or raise memory_limit"
        ) from error
