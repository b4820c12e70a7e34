"""Statistics files: safetensors with JSON metadata and a checksum over both.

Format version 2. The metadata has one entry, ``quantstats``, a JSON object:

======================  ================================================================================================
``format``              2
``model_hash``          identifies the model
``batchwise``           whether each item of axis 0 is a sample of its own
``sample_ids``          the ids, sorted
``columns``             ``[statistic, probability or null, clipping value or null]`` for each column of the tables
``tensors``             by name: ``channel_axis``, ``dtype``, ``rank``, ``nan_count``, ``minimum``, ``maximum`` (the
                        last two are null before the first value)
``channel_means``       by name: the axis whose means are kept
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

Version 1 lacks ``channel_means``; it is read as if there were none.

Nothing in a file is executed, and equal statistics give equal files where the versions are equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Mapping
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
from quantstats.statistics.tensor_statistics import TensorStatistics

__all__ = ["FORMAT_VERSION", "Content", "load", "require_safetensors", "save"]

#: What is written. Every version up to this one is read.
FORMAT_VERSION = 2

Array = npt.NDArray[Any]

_ENTRY = "quantstats"


@dataclass(frozen=True)
class Content:
    """What a file holds.

    :param model_hash: identifies the model.
    :param batchwise: whether each item of axis 0 is a sample of its own.
    :param columns: what a sample is reduced to.
    :param sample_ids: the ids in the order of the rows; sorted in a file.
    :param tensors: the statistics by tensor; sorted by name in a file.
    :param channel_means: the means by tensor, likewise.
    """

    model_hash: str
    batchwise: bool
    columns: tuple[Column, ...]
    sample_ids: tuple[str, ...]
    tensors: Mapping[str, TensorStatistics]
    channel_means: Mapping[str, ChannelMeans]


def save(content: Content, path: str | os.PathLike[str]) -> None:
    """Write a statistics file; see `CalibrationStatistics.save`."""
    safetensors = require_safetensors()
    from quantstats import __version__

    arrays: dict[str, Array] = {}
    description: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "model_hash": content.model_hash,
        "batchwise": content.batchwise,
        "sample_ids": list(content.sample_ids),
        "columns": [[str(c.statistics_type.value), c.probability, c.clipping_value] for c in content.columns],
        "tensors": {},
        "channel_means": {name: means.channel_axis for name, means in content.channel_means.items()},
        "versions": {"quantstats": __version__, "numpy": np.__version__},
    }
    for name, tensor in content.tensors.items():
        description["tensors"][name] = {
            "channel_axis": tensor.channel_axis,
            "dtype": tensor.dtype,
            "rank": tensor.rank,
            "nan_count": tensor.nan_count,
            "minimum": _finite_or_none(tensor.histogram.minimum),
            "maximum": _finite_or_none(tensor.histogram.maximum),
        }
        arrays[f"{name}/table"], arrays[f"{name}/items"] = tensor.table.values, tensor.table.items
        if tensor.channel_table is not None:
            arrays[f"{name}/channel_table"] = tensor.channel_table.values
            arrays[f"{name}/channel_items"] = tensor.channel_table.items
        bins = np.flatnonzero(tensor.histogram.counts)
        arrays[f"{name}/bins"], arrays[f"{name}/counts"] = bins.astype(np.uint16), tensor.histogram.counts[bins]
    for name, means in content.channel_means.items():
        arrays[f"{name}/means"], arrays[f"{name}/mean_items"] = means.table.values, means.table.items
    description["sha256"] = _checksum(description, arrays)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    _write(Path(path), safetensors.numpy.save(contiguous, {_ENTRY: _json(description)}))


def load(path: str | os.PathLike[str]) -> Content:
    """Read a statistics file; see `CalibrationStatistics.load`."""
    safetensors = require_safetensors()
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file; check the path of the statistics")
    try:
        with safetensors.safe_open(file, framework="np") as content:
            metadata = content.metadata() or {}
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}; check its permissions") from error
    except safetensors.SafetensorError as error:
        raise DataError(f"{file} is truncated or no statistics file ({error}); collect or copy it again") from error
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
    if expected != _checksum(description, arrays):
        _refuse(file, "its checksum does not match")
    try:
        return _restore(description, arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        _refuse(file, f"{type(error).__name__}: {error}", error)


def _refuse(file: Path, reason: str, cause: Exception | None = None) -> NoReturn:
    raise DataError(f"{file} was changed or is damaged ({reason}); collect or copy it again") from cause


def _restore(description: Mapping[str, Any], arrays: Mapping[str, Array]) -> Content:
    columns = tuple(
        Column(StatisticsType(kind), probability, clip) for kind, probability, clip in description["columns"]
    )
    batchwise, sample_ids = description["batchwise"], tuple(description["sample_ids"])
    if len(set(sample_ids)) != len(sample_ids):
        raise ValueError("sample ids repeat")
    tensors = {}
    for name, entry in description["tensors"].items():
        tensor = TensorStatistics(columns, channel_axis=entry["channel_axis"], batchwise=batchwise)
        tensor.dtype, tensor.rank, tensor.nan_count = entry["dtype"], entry["rank"], entry["nan_count"]
        _fill(tensor.table, arrays[f"{name}/table"], arrays[f"{name}/items"], len(sample_ids))
        if tensor.channel_table is not None:
            items = arrays[f"{name}/channel_items"]
            _fill(tensor.channel_table, arrays[f"{name}/channel_table"], items, len(sample_ids))
        tensor.histogram.counts[arrays[f"{name}/bins"]] = arrays[f"{name}/counts"]
        if entry["minimum"] is not None:
            tensor.histogram.minimum, tensor.histogram.maximum = entry["minimum"], entry["maximum"]
        tensors[name] = tensor
    channel_means = {}
    for name, axis in description["channel_means"].items() if description["format"] > 1 else ():
        means = ChannelMeans(axis, batchwise=batchwise)
        _fill(means.table, arrays[f"{name}/means"], arrays[f"{name}/mean_items"], len(sample_ids))
        channel_means[name] = means
    return Content(
        model_hash=description["model_hash"],
        batchwise=batchwise,
        columns=columns,
        sample_ids=sample_ids,
        tensors=tensors,
        channel_means=channel_means,
    )


def _fill(table: ColumnarTable, values: Array, items: Array, num_samples: int) -> None:
    if len(items) != num_samples:
        raise ValueError(f"a table of {len(items)} samples, and {num_samples} sample ids")
    if values.ndim != 3 or values.shape[1] != len(table.columns) or len(values) != items.sum():
        raise ValueError(f"a table of shape {values.shape} for {len(table.columns)} columns and {items.sum()} rows")
    table.extend(values, items)


def _checksum(description: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(_json(description).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\0{name}\0{array.dtype.str}{array.shape}\0".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def _json(description: Mapping[str, Any]) -> str:
    return json.dumps(description, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
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
