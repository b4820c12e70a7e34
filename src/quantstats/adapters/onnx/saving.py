"""Writing a model so that a reader finds the whole of it or nothing new."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir

from quantstats.adapters.onnx.cleanup import EXTERNAL_DATA_THRESHOLD
from quantstats.adapters.onnx.loading import constant_bytes
from quantstats.adapters.onnx.runtime import one_line
from quantstats.errors import ModelError


def save_model(
    model: onnx.ModelProto | ir.Model,
    path: str | os.PathLike[str],
    *,
    external_data_threshold: int = EXTERNAL_DATA_THRESHOLD,
) -> None:
    """Write a model to ``path``.

    The model is written to a temporary directory beside ``path`` and moved into place when it is complete, so an
    interruption leaves what was there before. A model whose constants exceed the threshold is two files: the constants
    go to ``<name>.data`` beside it, which is moved first.

    :param external_data_threshold: Total size of the constants in bytes from which they go to a file of their own.
    :raises ModelError: if the files cannot be written.
    """
    target = Path(path)
    in_ir = ir.from_proto(model) if isinstance(model, onnx.ModelProto) else model
    large = constant_bytes(in_ir) >= external_data_threshold
    data_name = f"{target.name}.data"
    try:
        directory = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ModelError(_cannot_write(target, error)) from error
    try:
        written = directory / target.name
        if large:
            ir.save(in_ir, written, external_data=data_name)
            (directory / data_name).replace(target.parent / data_name)
        else:
            proto = model if isinstance(model, onnx.ModelProto) else ir.to_proto(model)
            written.write_bytes(proto.SerializeToString())
        written.replace(target)
    except OSError as error:
        raise ModelError(_cannot_write(target, error)) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _cannot_write(target: Path, error: OSError) -> str:
    return f"{target} cannot be written: {error.strerror or one_line(error)}; choose another path for the model"
