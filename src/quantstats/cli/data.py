"""Samples from files: one array per model input, axis 0 counts the samples.

Three forms are read: an ``.npz`` archive with an array per model input under the input's name; an ``.npy`` file, for a
model with one input; a directory of such files, read one after the other in the order of their names, for data that
would not fit into memory at once. Arrays of an archive that are not asked for are never read.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from quantstats.errors import DataError
from quantstats.ptq.dataset import native
from quantstats.ptq.graph import Tensor

Array = NDArray[Any]

_SUFFIXES = (".npz", ".npy")
_READ_ERRORS = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class _Header:
    """Shape and dtype of an array in a file, known without reading it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class _File:
    """One file and the arrays that it holds; an ``.npy`` file holds one, whose name is the model's only input."""

    path: Path
    headers: Mapping[str, _Header]
    samples: int


class SampleFiles:
    """The samples of one file or of a directory of files, checked against what a model needs.

    Everything that can be told from the headers is checked when this is made: names, dtypes, shapes, counts.

    :param path: An ``.npz`` or ``.npy`` file, or a directory of them.
    :param inputs: The model's inputs.
    :param labels: Name of an array with one integer label per sample, or ``None``.
    :param batch_size: Samples in one batch; ``None`` takes the length of axis 0 that the model fixes, else 1.
    :raises DataError: The data cannot be read or do not fit the model.
    """

    def __init__(
        self, path: Path, inputs: Sequence[Tensor], *, labels: str | None = None, batch_size: int | None = None
    ) -> None:
        self.path = path
        self.labels_name = labels
        self._inputs = {tensor.name: tensor for tensor in inputs}
        self.input_names = tuple(self._inputs)
        self.fixed_batch = _fixed_batch(inputs)
        if batch_size is not None and self.fixed_batch is not None and batch_size != self.fixed_batch:
            raise DataError(
                f"batch size {batch_size} does not fit the model, which fixes axis 0 of its inputs to "
                f"{self.fixed_batch}; leave the batch size out"
            )
        self.batch_size = batch_size or self.fixed_batch or 1
        self._files = tuple(self._check(file) for file in _paths(path))
        self._load = lru_cache(maxsize=1)(self._read)
        if len(self) == 0:
            raise DataError(f"data {str(path)!r} are empty: there is no sample; axis 0 of an array counts samples")
        if self.fixed_batch is not None and len(self) < self.fixed_batch:
            raise DataError(
                f"data {str(path)!r} hold {len(self)} samples, but the model takes {self.fixed_batch} at a time; "
                "add samples"
            )

    def __len__(self) -> int:
        return sum(file.samples for file in self._files)

    def batches(self, start: int = 0, stop: int | None = None) -> Batches:
        """Return samples ``start`` to ``stop`` (all by default) in batches."""
        return Batches(self, start, len(self) if stop is None else min(stop, len(self)))

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Return samples ``start`` to ``stop`` of one array.

        :raises DataError: They are spread over files whose shapes differ.
        """
        pieces = []
        offset = 0
        for file in self._files:
            first, last = max(start - offset, 0), min(stop - offset, file.samples)
            if first < last:
                pieces.append(self._load(file.path)[name][first:last])
            offset += file.samples
        if len(pieces) == 1:
            return native(pieces[0])
        shapes = sorted({piece.shape[1:] for piece in pieces})
        if len(shapes) > 1:
            raise DataError(
                f"data {str(self.path)!r}: samples {start} to {stop - 1} of {name!r} have different shapes, "
                f"{' and '.join(map(str, shapes))}, and cannot share a batch; use batch size 1"
            )
        return native(np.concatenate(pieces))

    def labels(self, start: int, stop: int) -> Array:
        """Return the labels of samples ``start`` to ``stop``."""
        if self.labels_name is None:
            raise ValueError("these samples have no labels")
        return self.rows(self.labels_name, start, stop)

    def _read(self, path: Path) -> dict[str, Array]:
        wanted = [*self._inputs, *([self.labels_name] if self.labels_name else [])]
        try:
            if path.suffix == ".npy":
                return {wanted[0]: np.load(path, mmap_mode="r", allow_pickle=False)}
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in wanted}
        except _READ_ERRORS as error:
            raise _unreadable(path, error) from error

    def _check(self, path: Path) -> _File:
        where = f"data {str(path)!r}"
        if path.suffix == ".npy":
            if len(self._inputs) != 1 or self.labels_name is not None:
                needs = [*self._inputs, *([self.labels_name] if self.labels_name else [])]
                raise DataError(
                    f"{where} hold one array, but {_quoted(needs)} are needed; "
                    "save them with numpy.savez, each under its name"
                )
            (name,) = self._inputs
            headers = {name: _npy_header(path)}
        else:
            headers = _npz_headers(path)
        missing = [name for name in self._inputs if name not in headers]
        if missing:
            raise DataError(
                f"{where} have no array for the model input{'s' if len(missing) > 1 else ''} {_quoted(missing)}; "
                f"they hold {_quoted(headers) or 'nothing'}: save one array per input under the input's name"
            )
        if self.labels_name is not None and self.labels_name not in headers:
            raise DataError(f"{where} have no labels {self.labels_name!r}; they hold {_quoted(headers)}")
        for name, tensor in self._inputs.items():
            _check_array(where, headers[name], tensor)
        return _File(path, headers, self._count(where, headers))

    def _count(self, where: str, headers: Mapping[str, _Header]) -> int:
        counts = {name: headers[name].shape[0] for name in self._inputs}
        if self.labels_name is not None:
            labels = headers[self.labels_name]
            if labels.dtype.kind not in "iu" or not labels.shape:
                raise DataError(
                    f"{where}: labels {self.labels_name!r} are {labels.dtype} {labels.shape}; "
                    "they must be integers, one for each sample"
                )
            counts[self.labels_name] = labels.shape[0]
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name!r} {count}" for name, count in counts.items())
            raise DataError(f"{where}: the arrays hold different numbers of samples ({listed}); make axis 0 equal")
        return next(iter(counts.values()))


class Batches:
    """A run of samples in batches, each an array for every model input; can be iterated over again and again.

    The last batch may be smaller, but where the model fixes its batch, samples that do not fill one are left out.

    :param files: The samples.
    :param start: The first of them.
    :param stop: One past the last.
    """

    def __init__(self, files: SampleFiles, start: int, stop: int) -> None:
        self._files = files
        if files.fixed_batch is not None:
            stop -= (stop - start) % files.fixed_batch
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return -(-self.samples // self._files.batch_size)

    @property
    def samples(self) -> int:
        """Number of samples in all batches."""
        return self.stop - self.start

    @property
    def batch_size(self) -> int:
        """Samples in a full batch."""
        return self._files.batch_size

    def smallest(self) -> dict[str, Array]:
        """Return the first sample as a batch of its own, or of as many as the model fixes."""
        stop = self.start + (self._files.fixed_batch or 1)
        return {name: self._files.rows(name, self.start, stop) for name in self._files.input_names}

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for first in range(self.start, self.stop, self._files.batch_size):
            last = min(first + self._files.batch_size, self.stop)
            yield {name: self._files.rows(name, first, last) for name in self._files.input_names}


def _check_array(where: str, header: _Header, tensor: Tensor) -> None:
    if tensor.dtype is not None and header.dtype.name != tensor.dtype:
        raise DataError(
            f"{where}: input {tensor.name!r} is {header.dtype}, but the model needs {tensor.dtype}; "
            f"convert it with .astype({tensor.dtype!r})"
        )
    if not header.shape:
        raise DataError(f"{where}: input {tensor.name!r} is a single number; axis 0 must count the samples")
    if tensor.shape is None:
        return
    fits = len(header.shape) == len(tensor.shape) and all(
        needed is None or got == needed for got, needed in zip(header.shape[1:], tensor.shape[1:], strict=True)
    )
    if not fits:
        needed = ", ".join("any" if length is None else str(length) for length in tensor.shape[1:])
        raise DataError(
            f"{where}: input {tensor.name!r} has shape {header.shape}, but the model needs "
            f"(samples{', ' if needed else ''}{needed})"
        )


def _fixed_batch(inputs: Sequence[Tensor]) -> int | None:
    lengths = {tensor.name: tensor.shape[0] for tensor in inputs if tensor.shape}
    fixed = {name: length for name, length in lengths.items() if length is not None}
    if len(set(fixed.values())) > 1:
        listed = ", ".join(f"{name!r} {length}" for name, length in fixed.items())
        raise DataError(
            f"the model fixes axis 0 of its inputs to different lengths ({listed}), so files of samples cannot feed "
            "it; call quantstats.quantize with a dataset of whole inputs"
        )
    return next(iter(fixed.values()), None)


def _paths(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
        if not found:
            raise DataError(f"data directory {str(path)!r} has no .npz or .npy file")
        return found
    if not path.exists():
        raise DataError(f"data {str(path)!r} do not exist; give an .npz or .npy file, or a directory of them")
    if path.suffix not in _SUFFIXES:
        raise DataError(
            f"data {str(path)!r} are neither .npz nor .npy; save one array per model input with numpy.savez"
        )
    return [path]


def _npz_headers(path: Path) -> dict[str, _Header]:
    try:
        with zipfile.ZipFile(path) as archive:
            headers = {}
            for member in archive.namelist():
                if member.endswith(".npy"):
                    with archive.open(member) as stream:
                        headers[member.removesuffix(".npy")] = _header(stream)
            return headers
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error


def _npy_header(path: Path) -> _Header:
    try:
        with path.open("rb") as stream:
            return _header(stream)
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error


def _header(stream: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return _Header(shape, dtype)


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"data {str(path)!r} cannot be read ({reason}); save arrays of numbers with numpy.savez")


def _quoted(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in names)


__all__ = ["Batches", "SampleFiles"]
