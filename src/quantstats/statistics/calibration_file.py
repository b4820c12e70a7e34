"""Statistics files: safetensors with JSON metadata and a checksum over both.

Format version 2. The metadata has one entry, ``quantstats``, a JSON object:

======================  ================================================================================================
``format``              2
``model_hash``          identifies the model
``graph_hash``          identifies the model without its constants
``taps_hash``           identifies what is observed and how it is reduced
``batchwise``           whether each item of axis 0 is a sample of its own
``non_finite``          ``raise``, ``ignore`` or ``clamp``: what was done about NaN and infinities
``sample_ids``          the ids, sorted
``columns``             ``[statistic, probability or null, clipping value or null]`` for each column of the tables
``tensors``             by name: ``channel_axis``, ``dtype``, ``rank``, ``minimum``, ``maximum`` (the last two are null
                        before the first value), and counts of values: ``nan_count``, ``pos_inf_count``,
                        ``neg_inf_count``, ``zero_count`` (which follows from the histogram)
``channel_means``       by name: the axis whose means are kept
``input_hashes``        in a checkpoint alone: by id, what identifies the inputs that the model read
``versions``            of quantstats and NumPy that wrote the file; for a person
``sha256``              of the object without this entry, and of all arrays
======================  ================================================================================================

The arrays of the tensor NAME are

======================  ================================================================================================
``NAME/table``          float32 or float64 [rows, columns, 1]
``NAME/items``          int64 [samples]: how many rows each sample has
``NAME/channel_table``  [rows, columns, channels] and
``NAME/channel_items``  int64 [samples], where channel_axis is not null
``NAME/bins``           uint16 [n]: the bins of the bit histogram that are not empty, ascending
``NAME/counts``         uint64 [n]: their counts
======================  ================================================================================================

Of a tensor in ``channel_means`` they are ``NAME/means``, float32 [rows, 1, channels], and ``NAME/mean_items``, int64
[samples].

Version 1 lacks ``graph_hash``, ``taps_hash``, ``non_finite`` (it is ``raise``), ``channel_means`` (there are none), and
all counts of values but ``nan_count``, which is zero.

Nothing in a file is executed, and equal statistics give equal files where the versions are equal.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from quantstats.errors import DataError, QuantizationError
from quantstats.range_estimator import StatisticsType
from quantstats.statistics.channel_means import ChannelMeans
from quantstats.statistics.column import Column
from quantstats.statistics.columnar_table import ColumnarTable
from quantstats.statistics.non_finite import NonFiniteCounts, NonFinitePolicy
from quantstats.statistics.reduction import SampleReducer
from quantstats.statistics.table_memory import TableMemory
from quantstats.statistics.taps_hash import taps_hash
from quantstats.statistics.tensor_statistics import TensorStatistics

__all__ = ["FORMAT_VERSION", "Content", "load", "load_input_hashes", "remove_partial", "require_safetensors", "save"]

#: What is written. Every version up to this one is read.
FORMAT_VERSION = 2

Array = npt.NDArray[Any]

_ENTRY = "quantstats"
_PARTIAL = ".partial"
_DTYPES = {"F32": "float32", "F64": "float64", "I64": "int64", "U64": "uint64", "U16": "uint16"}
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Content:
    """What a file holds.

    :param model_hash: identifies the model.
    :param graph_hash: identifies the model without its constants.
    :param batchwise: whether each item of axis 0 is a sample of its own.
    :param non_finite: what was done about NaN and infinities.
    :param columns: what a sample is reduced to.
    :param sample_ids: the ids in the order of the rows; sorted in a file.
    :param tensors: the statistics by tensor; sorted by name in a file.
    :param channel_means: the means by tensor, likewise.
    """

    model_hash: str
    graph_hash: str
    batchwise: bool
    non_finite: NonFinitePolicy
    columns: tuple[Column, ...]
    sample_ids: tuple[str, ...]
    tensors: Mapping[str, TensorStatistics]
    channel_means: Mapping[str, ChannelMeans]


@dataclass(frozen=True)
class _Stream:
    """An array of a file, a piece at a time, so that a table larger than memory passes through."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[Array]]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @classmethod
    def of(cls, array: Array) -> _Stream:
        contiguous = np.ascontiguousarray(array)
        return cls(array.dtype, array.shape, lambda: iter([contiguous]))

    @classmethod
    def of_table(cls, table: ColumnarTable, order: npt.NDArray[np.intp]) -> tuple[_Stream, _Stream]:
        """The values and the items of a table with its samples in another order."""
        rows = table.row_order(order.tolist())
        values = cls(table.values.dtype, table.values.shape, lambda: table.chunks(rows))
        return values, cls.of(table.items[order])

    @classmethod
    def of_file(cls, content: Any, name: str) -> _Stream:
        part = content.get_slice(name)
        shape = tuple(part.get_shape())
        dtype = np.dtype(_DTYPES[part.get_dtype()])
        step = max(_PIECE_BYTES // max(math.prod(shape[1:]) * dtype.itemsize, 1), 1)
        starts = range(0, shape[0], step)
        return cls(dtype, shape, lambda: (part[start : min(start + step, shape[0])] for start in starts))

    def whole(self) -> Array:
        pieces = list(self.pieces())
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros((0, *self.shape[1:]), self.dtype), *pieces])


def save(content: Content, path: str | os.PathLike[str], input_hashes: Mapping[str, str]) -> None:
    """Write a statistics file; see `CalibrationStatistics.save`."""
    require_safetensors()  # Files that cannot be read again are of no use.
    from quantstats import __version__

    order = np.array(sorted(range(len(content.sample_ids)), key=content.sample_ids.__getitem__), np.intp)
    arrays: dict[str, _Stream] = {}
    description: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "model_hash": content.model_hash,
        "graph_hash": content.graph_hash,
        "taps_hash": taps_hash(
            {name: tensor.channel_axis for name, tensor in content.tensors.items()},
            {name: means.channel_axis for name, means in content.channel_means.items()},
            columns=content.columns,
            batchwise=content.batchwise,
            non_finite=content.non_finite,
        ),
        "batchwise": content.batchwise,
        "non_finite": content.non_finite,
        "sample_ids": [content.sample_ids[index] for index in order],
        "columns": [[str(c.statistics_type.value), c.probability, c.clipping_value] for c in content.columns],
        "tensors": {},
        "channel_means": {name: means.channel_axis for name, means in content.channel_means.items()},
        "versions": {"quantstats": __version__, "numpy": np.__version__},
    }
    for name, tensor in content.tensors.items():
        counts = tensor.counts
        description["tensors"][name] = {
            "channel_axis": tensor.channel_axis,
            "dtype": tensor.dtype,
            "rank": tensor.rank,
            "nan_count": counts.nan,
            "pos_inf_count": counts.pos_inf,
            "neg_inf_count": counts.neg_inf,
            "zero_count": counts.zeros,
            "minimum": _finite_or_none(tensor.histogram.minimum),
            "maximum": _finite_or_none(tensor.histogram.maximum),
        }
        arrays[f"{name}/table"], arrays[f"{name}/items"] = _Stream.of_table(tensor.table, order)
        if tensor.channel_table is not None:
            values, items = _Stream.of_table(tensor.channel_table, order)
            arrays[f"{name}/channel_table"], arrays[f"{name}/channel_items"] = values, items
        bins = np.flatnonzero(tensor.histogram.counts)
        arrays[f"{name}/bins"] = _Stream.of(bins.astype(np.uint16))
        arrays[f"{name}/counts"] = _Stream.of(tensor.histogram.counts[bins])
    for name, means in content.channel_means.items():
        arrays[f"{name}/means"], arrays[f"{name}/mean_items"] = _Stream.of_table(means.table, order)
    if input_hashes:
        description["input_hashes"] = dict(input_hashes)
    description["sha256"] = _checksum(description, arrays)
    _write(Path(path), _safetensors(arrays, {_ENTRY: _json(description)}))


def _safetensors(arrays: Mapping[str, _Stream], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file: length of the header, header in JSON, all arrays without a gap.

    The package wants all arrays in memory at once.
    """
    codes = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}
    # Wide elements come first, so that every array is aligned.
    ordered = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in ordered:
        array = arrays[name]
        header[name] = {
            "dtype": codes[array.dtype],
            "shape": array.shape,
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in ordered:
        for piece in arrays[name].pieces():
            if piece.size:
                yield piece.data


def load(path: str | os.PathLike[str], memory: TableMemory) -> Content:
    """Read a statistics file; see `CalibrationStatistics.load`.

    :param memory: where the tables are kept.
    """
    safetensors = require_safetensors()
    file = Path(path)
    if file.is_dir():
        raise DataError(f"{file} is a directory; give the path of a statistics file")
    if not file.is_file():
        raise DataError(f"{file}: no such file; check the path of the statistics")
    try:
        with safetensors.safe_open(file, framework="np") as content:
            return _read(file, content.metadata() or {}, content, memory)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}; check its permissions") from error
    except safetensors.SafetensorError as error:
        raise DataError(f"{file} is truncated or no statistics file ({error}); collect or copy it again") from error


def load_input_hashes(path: str | os.PathLike[str]) -> dict[str, str]:
    """The ``input_hashes`` of a file that `load` reads; there are none in one that is no checkpoint."""
    with require_safetensors().safe_open(path, framework="np") as content:
        found: dict[str, str] = json.loads(content.metadata()[_ENTRY]).get("input_hashes", {})
    return found


def _read(file: Path, metadata: Mapping[str, str], content: Any, memory: TableMemory) -> Content:
    if _ENTRY not in metadata:
        raise DataError(f"{file} is no statistics file of quantstats; give one that 'save' wrote")
    try:
        description = json.loads(metadata[_ENTRY])
    except json.JSONDecodeError as error:
        _refuse(file, f"its description is no JSON: {error}", error)
    version = description.get("format") if isinstance(description, dict) else None
    if version not in range(1, FORMAT_VERSION + 1):
        raise DataError(
            f"{file} has format version {version!r}, and this version of quantstats reads 1 to {FORMAT_VERSION}; "
            "use the version of quantstats that wrote it, or a newer one"
        )
    expected = description.pop("sha256", None)
    try:
        arrays = {name: _Stream.of_file(content, name) for name in content.keys()}  # noqa: SIM118 - no mapping
        if expected != _checksum(description, arrays):
            _refuse(file, "its checksum does not match")
        return _restore(description, arrays, memory)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, QuantizationError):
            raise
        _refuse(file, f"{type(error).__name__}: {error}", error)


def _refuse(file: Path, reason: str, cause: Exception | None = None) -> NoReturn:
    raise DataError(f"{file} was changed or is damaged ({reason}); collect or copy it again") from cause


def _restore(description: Mapping[str, Any], arrays: Mapping[str, _Stream], memory: TableMemory) -> Content:
    columns = tuple(
        Column(StatisticsType(kind), probability, clip) for kind, probability, clip in description["columns"]
    )
    first = description["format"] == 1
    batchwise = description["batchwise"]
    non_finite: NonFinitePolicy = "raise" if first else description["non_finite"]
    sample_ids = tuple(description["sample_ids"])
    if len(set(sample_ids)) != len(sample_ids):
        raise ValueError("sample ids repeat")

    def fill(table: ColumnarTable, values: str, items: str) -> None:
        _fill(table, arrays[values], arrays[items].whole(), len(sample_ids))

    reducer = SampleReducer(columns)
    tensors = {}
    for name, entry in description["tensors"].items():
        tensor = TensorStatistics(
            columns,
            channel_axis=entry["channel_axis"],
            batchwise=batchwise,
            non_finite=non_finite,
            memory=memory,
            reducer=reducer,
        )
        tensor.dtype, tensor.rank = entry["dtype"], entry["rank"]
        kinds = ("nan_count",) if first else ("nan_count", "pos_inf_count", "neg_inf_count")
        tensor.non_finite_counts = NonFiniteCounts(*(entry[kind] for kind in kinds))
        fill(tensor.table, f"{name}/table", f"{name}/items")
        if tensor.channel_table is not None:
            fill(tensor.channel_table, f"{name}/channel_table", f"{name}/channel_items")
        tensor.histogram.counts[arrays[f"{name}/bins"].whole()] = arrays[f"{name}/counts"].whole()
        if entry["minimum"] is not None:
            tensor.histogram.minimum, tensor.histogram.maximum = entry["minimum"], entry["maximum"]
        tensors[name] = tensor
    channel_means = {}
    for name, axis in {} if first else description["channel_means"].items():
        means = ChannelMeans(axis, batchwise=batchwise, non_finite=non_finite, memory=memory)
        fill(means.table, f"{name}/means", f"{name}/mean_items")
        channel_means[name] = means
    return Content(
        model_hash=description["model_hash"],
        graph_hash="" if first else description["graph_hash"],
        batchwise=batchwise,
        non_finite=non_finite,
        columns=columns,
        sample_ids=sample_ids,
        tensors=tensors,
        channel_means=channel_means,
    )


def _fill(table: ColumnarTable, values: _Stream, items: Array, num_samples: int) -> None:
    if len(items) != num_samples:
        raise ValueError(f"a table of {len(items)} samples, and {num_samples} sample ids")
    shape = values.shape
    if len(shape) != 3 or shape[1] != len(table.columns) or shape[0] != items.sum():
        raise ValueError(f"a table of shape {shape} for {len(table.columns)} columns and {items.sum()} rows")
    table.restore(values.pieces(), items)


def _checksum(description: Mapping[str, Any], arrays: Mapping[str, _Stream]) -> str:
    digest = hashlib.sha256(_json(description).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.dtype.str}{array.shape}\0".encode())
        for piece in array.pieces():
            digest.update(piece.data if piece.size else b"")
    return digest.hexdigest()


def _json(description: Mapping[str, Any]) -> str:
    return json.dumps(description, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def remove_partial(path: Path) -> None:
    """Remove what a process that was killed while it wrote `path` has left beside it."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            partial.unlink()


def _write(path: Path, content: Iterable[bytes | memoryview]) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
    try:
        with partial.open("xb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}; check directory and space") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def require_safetensors() -> Any:
    """Return the package, or raise `QuantizationError` that says how to install it."""
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise QuantizationError(
            "statistics files need the package 'safetensors'; install it with: pip install 'quantstats-native[stats]'"
        ) from error
    return safetensors
