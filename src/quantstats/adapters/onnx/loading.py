"""Reading a model: from a path, an ``onnx.ModelProto`` or an ``onnx_ir.Model`` to one form, or a clear error."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnx_ir as ir

from quantstats.adapters.onnx.runtime import one_line
from quantstats.errors import ModelError, ParameterError, UnsupportedModelError

OnnxModel: TypeAlias = "str | os.PathLike[str] | onnx.ModelProto | ir.Model"

# Operators that only quantized models have, besides everything that starts with QLinear.
_QUANTIZED_OPERATORS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "ConvInteger",
        "MatMulInteger",
        "QGemm",
        "QAttention",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "MatMulNBits",
        "MatMulBnb4",
    }
)

# Operators that quantization is for.
_WITH_WEIGHT = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

_OLDEST_OPSET = 10


class ModelForm(enum.Enum):
    """The Python form in which a model comes and its quantized twin goes."""

    PROTO = "onnx.ModelProto"
    IR = "onnx_ir.Model"


@dataclass(frozen=True)
class LoadedModel:
    """A model as it was given. Nothing may change ``model``: it can be the caller's.

    :param model: The model; external data are memory-mapped.
    :param form: What a result should be.
    :param source: What messages call the model.
    """

    model: ir.Model
    form: ModelForm
    source: str


def load_model(model: OnnxModel, *, external_data_dir: str | os.PathLike[str] | None = None) -> LoadedModel:
    """Read a floating-point model.

    :param external_data_dir: Where the external data of a path or an ``onnx.ModelProto`` are; ``None`` takes the
        directory of the path. An ``onnx_ir.Model`` knows by itself.
    :raises ParameterError: if that is no directory, or the model an ``onnx_ir.Model``.
    :raises ModelError: if the file or its external data cannot be read, or it is not an ONNX model.
    :raises UnsupportedModelError: if the model is quantized already, has an opset older than 10, or is float32 nowhere.
    :raises TypeError: if ``model`` is none of the forms.
    """
    if isinstance(model, ir.Model):
        loaded = LoadedModel(model, ModelForm.IR, "the model")
    elif isinstance(model, onnx.ModelProto):
        loaded = LoadedModel(_from_proto(model, "the model"), ModelForm.PROTO, "the model")
    elif isinstance(model, str | os.PathLike):
        path = Path(model)
        loaded = LoadedModel(_from_path(path), ModelForm.PROTO, str(path))
    else:
        raise TypeError(
            f"model is a {type(model).__name__}; give the path of an ONNX file, an onnx.ModelProto or an onnx_ir.Model"
        )
    if external_data_dir is not None:
        _read_external_data_from(Path(external_data_dir), loaded)
    _check_opset(loaded)
    _check_external_data(loaded)
    _check_not_quantized(loaded)
    _check_float_type(loaded)
    return loaded


def _read_external_data_from(directory: Path, loaded: LoadedModel) -> None:
    if not directory.is_dir():
        raise ParameterError(f"external_data_dir={str(directory)!r} is no directory; give the one that holds the files")
    if loaded.form is ModelForm.IR:
        raise ParameterError(
            f"external_data_dir={str(directory)!r} is for paths and onnx.ModelProto; an onnx_ir.Model knows where its "
            "data are: use onnx_ir.external_data.set_base_dir()"
        )
    ir.external_data.set_base_dir(loaded.model.graph, directory)


def _from_path(path: Path) -> ir.Model:
    if not path.exists():
        raise ModelError(f"{path}: no such file; check the path of the model")
    if path.is_dir():
        raise ModelError(f"{path} is a directory; give the path of an ONNX file in it")
    try:
        proto = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error
    except Exception as error:  # protobuf's DecodeError, json's and the text format's errors share no other base
        raise ModelError(f"{path} is not an ONNX model ({one_line(error)}); export the model to ONNX first") from error
    loaded = _from_proto(proto, str(path))
    ir.external_data.set_base_dir(loaded.graph, path.parent)
    return loaded


def _from_proto(proto: onnx.ModelProto, source: str) -> ir.Model:
    # Almost any short file is a valid message of fields that ONNX does not know.
    if not proto.HasField("graph") or not proto.opset_import or not proto.graph.node:
        raise ModelError(f"{source} is not an ONNX model with operations; export the model to ONNX first")
    _check_names(proto.graph, frozenset(), source)
    try:
        return ir.from_proto(proto)
    except Exception as error:
        raise ModelError(f"{source} is not a valid ONNX model: {one_line(error)}; check how it was exported") from error


def _check_names(graph: onnx.GraphProto, outer: frozenset[str], source: str) -> None:
    """Refuse a graph that reads what nothing writes."""
    known = {""}.union(
        outer,
        (value.name for value in graph.input),
        (value.name for value in graph.initializer),
        (value.values.name for value in graph.sparse_initializer),
        (name for node in graph.node for name in node.output),
    )
    for node in graph.node:
        for name in node.input:
            if name not in known:
                raise ModelError(
                    f"{source} is invalid: {node.op_type} {node.name!r} reads {name!r}, which nothing writes; check "
                    "how it was exported"
                )
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _check_names(inner, frozenset(known), source)


def _check_opset(loaded: LoadedModel) -> None:
    opset = loaded.model.opset_imports.get("")
    if opset is None:
        raise UnsupportedModelError(
            f"{loaded.source} does not import the standard ONNX operators; nothing in it can be quantized"
        )
    if opset < _OLDEST_OPSET:
        raise UnsupportedModelError(
            f"{loaded.source} has opset {opset}; opset {_OLDEST_OPSET} or newer is needed: export it again with a "
            "newer opset"
        )


def _check_external_data(loaded: LoadedModel) -> None:
    missing: dict[str, str] = {}
    for value in initializers(loaded.model):
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        path = Path(tensor.path)
        if not path.is_file():
            missing.setdefault(str(path), f"external data {path} of tensor {tensor.name!r} is missing")
        elif path.stat().st_size < (tensor.offset or 0) + tensor.nbytes:
            missing.setdefault(str(path), f"external data {path} ends before tensor {tensor.name!r} does")
    if missing:
        raise ModelError(f"{loaded.source}: {'; '.join(missing.values())}; put the complete file beside the model")


def _check_not_quantized(loaded: LoadedModel) -> None:
    for node in loaded.model.graph.all_nodes():
        if node.op_type in _QUANTIZED_OPERATORS or node.op_type.startswith("QLinear"):
            raise UnsupportedModelError(
                f"{loaded.source} is quantized already: it has {node.op_type} ({node.name or 'unnamed'!r}); "
                "give the floating-point model"
            )


def _check_float_type(loaded: LoadedModel) -> None:
    """Refuse a model in which no weight is float32.

    onnxruntime would run its 16-bit operations on a CPU by casting every operand, so that nothing stays to fuse.
    """
    refused: tuple[ir.Node, ir.DataType] | None = None
    for node in loaded.model.graph:
        if node.op_type not in _WITH_WEIGHT or node.domain != "" or len(node.inputs) < 2:
            continue
        dtype = next((value.dtype for value in reversed(node.inputs[:2]) if value is not None and value.dtype), None)
        if dtype is None or dtype is ir.DataType.FLOAT:
            return
        refused = refused or (node, dtype)
    if refused is not None:
        node, dtype = refused
        raise UnsupportedModelError(
            f"{loaded.source} computes in {dtype.name.lower()} ({node.op_type} {node.name or 'unnamed'!r}); only "
            "float32 operations can be quantized: export the model in float32"
        )


def initializers(model: ir.Model) -> Iterator[ir.Value]:
    """All constants of a model, those of subgraphs included."""
    for graph in model.graphs():
        yield from graph.initializers.values()


def constant_bytes(model: ir.Model) -> int:
    """Total size of all constants in bytes."""
    return sum(value.const_value.nbytes for value in initializers(model) if value.const_value is not None)


def in_memory_tensor(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    """A copy of a tensor that needs no file."""
    return ir.Tensor(np.array(tensor.numpy()), dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)
