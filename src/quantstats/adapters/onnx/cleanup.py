"""From a model as it was exported to the one that is quantized: constants and BatchNorm folded, names unique.

onnxruntime's basic level does the folding, and yields standard operators only. What it leaves and what an integer
kernel needs of pooling and fully connected layers follows in `spatial_mean` and `normalization`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from quantstats.adapters.onnx import runtime
from quantstats.adapters.onnx.handover import hand_over, is_handed_over
from quantstats.adapters.onnx.loading import LoadedModel, constant_bytes, in_memory_tensor, initializers
from quantstats.adapters.onnx.naming import UniqueNames, tensor_names
from quantstats.adapters.onnx.normalization import normalize_fully_connected
from quantstats.adapters.onnx.opset import raise_opset
from quantstats.adapters.onnx.runtime import OptimizationLevel
from quantstats.adapters.onnx.scratch import ScratchDirectory
from quantstats.adapters.onnx.spatial_mean import pool_spatial_means
from quantstats.adapters.protocol import Array
from quantstats.errors import ModelError

# A serialized model must stay below 2 GiB. Constants above this total live in a file and are memory-mapped.
EXTERNAL_DATA_THRESHOLD = 3 << 29

# What the fusions of onnxruntime put before the name of a constant that they change.
_FUSION_PREFIXES = re.compile(r"^(?:(?:Conv(?:Bn|Mul|Add)|MatMulBn)Fusion_(?:W|B|BN_B|Mul_B|Add_B|GemmB)_)+")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CleanModel:
    """The model that is observed and quantized.

    :param model: Its graph; nothing may change it.
    :param source: What messages call it.
    :param notes: Lines for the user on what was changed.
    :param external_data: Directory of its large constants, or ``None`` if all are in memory. It lives as long as this
        object.
    """

    model: ir.Model
    source: str
    notes: tuple[str, ...]
    external_data: Path | None
    _scratch: ScratchDirectory | None = field(repr=False)


def clean_model(loaded: LoadedModel, *, external_data_threshold: int = EXTERNAL_DATA_THRESHOLD) -> CleanModel:
    """Fold, raise to opset 13, name and infer shapes.

    :param external_data_threshold: Total size of the constants in bytes from which they stay in files.
    :raises ModelError: if onnxruntime cannot load the model, or its opset cannot be raised.
    """
    prepared = _prepare(loaded)
    raised, note = raise_opset(prepared, loaded.source)
    notes = [] if note is None else [note]

    scratch: ScratchDirectory | None = ScratchDirectory()
    assert scratch is not None
    external = constant_bytes(raised) >= external_data_threshold
    folded = _fold(raised, scratch.path, loaded.source, OptimizationLevel.BASIC, external=external)
    foreign = _foreign_operators(folded, raised)
    if foreign:
        # Only an onnxruntime whose basic level does more can come here; without folding the model is still right.
        _logger.warning("onnxruntime's clean-up made %s; %s is not folded", ", ".join(foreign), loaded.source)
        folded = _fold(raised, scratch.path, loaded.source, OptimizationLevel.NONE, external=external)
    if not external:
        scratch.remove()
        scratch = None
    _restore_header(folded, raised)
    _restore_node_names(folded, raised)
    _restore_constant_names(folded, raised)
    # Shapes that cannot be inferred stay unknown, which everything here bears.
    common_passes.ShapeInferencePass(check_type=False, strict_mode=False)(folded)
    _complete_types(folded, loaded.source, None if scratch is None else scratch.path)
    pool_spatial_means(folded.graph)
    normalize_fully_connected(folded.graph)
    common_passes.RemoveUnusedNodesPass()(folded)
    return CleanModel(folded, loaded.source, tuple(notes), None if scratch is None else scratch.path, scratch)


def _prepare(loaded: LoadedModel) -> ir.Model:
    """A copy whose nodes have unique names, without functions and without initializers that a caller may override."""
    try:
        model = loaded.model.clone()
    except Exception as error:  # onnx-ir raises RuntimeError, with the reason as its cause
        reason = runtime.one_line(error.__cause__ or error)
        raise ModelError(f"{loaded.source} is invalid: {reason}; check how it was made") from error
    if model.functions:
        inlined = common_passes.InlinePass()(model)
        model = inlined.model
    common_passes.RemoveInitializersFromInputsPass()(model)
    _name_nodes(model.graph)
    return model


def _name_nodes(graph: ir.Graph) -> None:
    names = UniqueNames(node.name for node in graph if node.name)
    seen: set[str] = set()
    for index, node in enumerate(graph):
        if not node.name:
            node.name = names.unique(f"{node.op_type}_{index}")
        elif node.name in seen:
            node.name = names.unique(node.name)
        seen.add(node.name)


def _foreign_operators(folded: ir.Model, original: ir.Model) -> list[str]:
    """Operators of domains that the original does not use; other runtimes do not know them."""
    domains = {node.domain for node in original.graph.all_nodes()} | {""}
    return sorted({f"{n.domain}:{n.op_type}" for n in folded.graph.all_nodes() if n.domain not in domains})


def _fold(model: ir.Model, directory: Path, source: str, level: OptimizationLevel, *, external: bool) -> ir.Model:
    """Write what onnxruntime makes of a model to a directory, and read it."""
    cleaned = directory / "cleaned.onnx"
    data_directories = {
        Path(value.const_value.base_dir or ".").resolve()
        for value in initializers(model)
        if isinstance(value.const_value, ir.ExternalTensor)
    }
    in_memory = sum(
        value.const_value.nbytes
        for value in initializers(model)
        if value.const_value is not None and not isinstance(value.const_value, ir.ExternalTensor)
    )
    serialized: bytes | Path
    constants: Mapping[str, Array] = {}
    if len(data_directories) > 1 or in_memory >= EXTERNAL_DATA_THRESHOLD:
        serialized = directory / "source.onnx"
        ir.save(model, serialized, external_data="source.data")
        data_directory = None
    else:
        # The data are read where they are: no copy of gigabytes.
        proto, constants = hand_over(model)
        serialized = proto.SerializeToString()
        data_directory = next(iter(data_directories), None)
    runtime.write_cleaned(
        serialized,
        cleaned,
        source=source,
        level=level,
        external_data=data_directory,
        constants=constants,
        written_data="cleaned.data" if external else None,
    )
    result = ir.load(cleaned)
    if not external:
        for value in initializers(result):
            if isinstance(value.const_value, ir.ExternalTensor):
                # onnxruntime has left them where they were, in files that may change or go while the adapter lives.
                value.const_value.base_dir = directory if data_directory is None else data_directory
                value.const_value = in_memory_tensor(value.const_value)
            elif isinstance(value.const_value, ir.TensorProtoTensor) and is_handed_over(value.const_value):
                # A message copies its bytes whenever they are asked for.
                tensor = value.const_value
                value.const_value = ir.Tensor(tensor.numpy(), tensor.dtype, shape=tensor.shape, name=tensor.name)
    if isinstance(serialized, Path):
        serialized.unlink()
        (directory / "source.data").unlink(missing_ok=True)
    return result


def _complete_types(model: ir.Model, source: str, external_data: Path | None) -> None:
    """Ask onnxruntime for the types that ONNX cannot infer: those behind operators of other domains."""
    unknown = {
        value.name: value for node in model.graph for value in node.outputs if value.name and value.dtype is None
    }
    if not unknown:
        return
    proto = ir.to_proto(model)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown)
    session = runtime.Session(
        proto.SerializeToString(),
        source=source,
        level=OptimizationLevel.NONE,
        external_data=external_data,
    )
    for name, (dtype, shape) in session.output_types().items():
        value = unknown[name]
        if dtype is not None:
            value.dtype = ir.DataType.from_numpy(dtype)
            if shape is not None:
                value.shape = ir.Shape(shape)


def _restore_header(folded: ir.Model, original: ir.Model) -> None:
    """onnxruntime writes its own header and imports every domain that it knows."""
    folded.ir_version = original.ir_version
    folded.producer_name = original.producer_name
    folded.producer_version = original.producer_version
    folded.domain = original.domain
    folded.model_version = original.model_version
    folded.doc_string = original.doc_string
    folded.metadata_props.clear()
    folded.metadata_props.update(original.metadata_props)
    folded.graph.opset_imports.clear()
    folded.graph.opset_imports.update(original.graph.opset_imports)


def _restore_constant_names(folded: ir.Model, original: ir.Model) -> None:
    """Call a folded weight as the weight was called, where onnxruntime has put the name of the fusion before it."""
    taken = set(tensor_names(folded.graph))
    for name, value in list(folded.graph.initializers.items()):
        plain = _FUSION_PREFIXES.sub("", name)
        if plain != name and plain not in taken and plain in original.graph.initializers:
            del folded.graph.initializers[name]
            value.name = plain
            folded.graph.register_initializer(value)
            taken.add(plain)


def _restore_node_names(folded: ir.Model, original: ir.Model) -> None:
    """Name nodes that a fusion made after the operation of the original that they compute, so that users find it."""
    original_names = {node.name for node in original.graph}
    producers = {value.name: node for node in original.graph for value in node.outputs if value.name}
    kept = {node.name for node in folded.graph if node.name in original_names}
    names = UniqueNames(name for name in kept if name)
    for node in folded.graph:
        if node.name in kept:
            continue
        ancestor = producers.get(node.outputs[0].name or "")
        found = ancestor
        # A fusion gives its result the name of the last node's; the first that has vanished is the operation.
        while ancestor is not None and ancestor.name not in kept:
            found = ancestor
            first = ancestor.inputs[0] if ancestor.inputs else None
            ancestor = None if first is None else first.producer()
        node.name = names.unique((found.name if found is not None else None) or node.op_type)
