"""A narrow, typed view of onnxruntime: sessions, and the clean-up that it does when it loads a model.

onnxruntime ships without type hints and reports everything as its own exceptions; this is the one place that knows.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime

from quantstats.adapters.protocol import Array
from quantstats.errors import ModelError

# Errors of onnxruntime reach Python as exceptions; what it would log besides is noise to a user.
_LOG_FATAL = 4

# Clean-ups that onnxruntime does at its basic level and that are not wanted here. ConstantSharing gives equal constants
# one name, so that a bias would be called after another layer. MatMulAddFusion turns a three-dimensional MatMul into
# Reshape, Gemm, Reshape if all dimensions are known, and so changes the graph with the exporter's batch dimension.
_UNWANTED_OPTIMIZERS = ("ConstantSharing", "MatMulAddFusion")


# What onnxruntime calls the element types that matter here.
_NUMPY_TYPES = {
    f"tensor({name})": np.dtype(numpy_name)
    for name, numpy_name in {
        "float": "float32",
        "double": "float64",
        "float16": "float16",
        "int8": "int8",
        "uint8": "uint8",
        "int32": "int32",
        "int64": "int64",
        "bool": "bool",
    }.items()
}


class OptimizationLevel(enum.Enum):
    """How much onnxruntime rewrites a model before it runs it."""

    NONE = "ORT_DISABLE_ALL"
    BASIC = "ORT_ENABLE_BASIC"
    ALL = "ORT_ENABLE_ALL"


class Session:
    """A loaded model.

    :param model: A serialized ``ModelProto``, or the path of one.
    :param source: What messages call the model.
    :param level: How much the model is rewritten first.
    :param external_data: Directory of the external data of a serialized model; a path knows its own.
    :param constants: Values of initializers that are external data of the model, by name, in place of their files. The
        session reads them where they are, so nobody may change them.
    :param num_threads: Threads inside an operation; ``None`` takes ``QUANTSTATS_NUM_THREADS`` where it is set, else
        what onnxruntime chooses.
    :param written_to: Write the rewritten model to this path.
    :param written_data: Name of a file beside ``written_to`` for its large constants.
    :param integer_kernels: False computes QuantizeLinear and DequantizeLinear as they stand, in floating point.
    :param plans_memory: Whether activations get one block of memory, laid out after the first run.
    :raises ModelError: if onnxruntime cannot load the model.
    """

    def __init__(
        self,
        model: bytes | Path,
        *,
        source: str,
        level: OptimizationLevel = OptimizationLevel.ALL,
        external_data: Path | None = None,
        constants: Mapping[str, Array] = MappingProxyType({}),
        num_threads: int | None = None,
        written_to: Path | None = None,
        written_data: str | None = None,
        disabled_optimizers: Sequence[str] = (),
        integer_kernels: bool = True,
        plans_memory: bool = True,
    ) -> None:
        self._source = source
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_FATAL
        options.enable_mem_pattern = plans_memory
        # Threads that wait for work in a loop take the CPU from the statistics between two runs, and from whatever else
        # the machine does: on a busy one, calibration takes twice as long with them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level.value)
        threads = _threads_from_environment() if num_threads is None else num_threads
        if threads:
            options.intra_op_num_threads = threads
        if not integer_kernels:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if external_data is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(external_data))
        # onnxruntime keeps addresses only.
        self._constants = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in constants.items()}
        if constants:
            options.add_external_initializers(list(self._constants), list(self._constants.values()))
        if written_to is not None:
            options.optimized_model_filepath = str(written_to)
            if written_data is not None:
                options.add_session_config_entry(
                    "session.optimized_model_external_initializers_file_name", written_data
                )
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(disabled_optimizers),
            )
        except Exception as error:  # the classes of onnxruntime's exceptions have no common base but Exception
            raise ModelError(f"{source} cannot be loaded by onnxruntime: {one_line(error)}") from error

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the named outputs.

        :raises ModelError: if onnxruntime fails.
        """
        try:
            values = self._session.run(list(outputs), dict(feeds))
        except Exception as error:
            raise ModelError(f"{self._source} cannot be run by onnxruntime: {one_line(error)}") from error
        return dict(zip(outputs, values, strict=True))

    def output_types(self) -> dict[str, tuple[np.dtype[Any] | None, tuple[int | str | None, ...] | None]]:
        """Element type and shape of each output; ``None`` for what is no tensor of a NumPy type."""
        found: dict[str, tuple[np.dtype[Any] | None, tuple[int | str | None, ...] | None]] = {}
        for output in self._session.get_outputs():
            dtype = _NUMPY_TYPES.get(output.type)
            # onnxruntime gives [] both for a scalar and for an unknown rank.
            found[output.name] = (dtype, tuple(output.shape) or None)
        return found


def write_cleaned(
    model: bytes | Path,
    to: Path,
    *,
    source: str,
    level: OptimizationLevel,
    external_data: Path | None,
    constants: Mapping[str, Array],
    written_data: str | None,
) -> None:
    """Write the model as onnxruntime's clean-up leaves it.

    At the basic level constants and BatchNorm are folded and no-ops removed; at none, constants become initializers.

    :param to: Path of the result.
    :param external_data: Directory of the external data of a serialized model.
    :param constants: Values of initializers in place of external data; see :class:`Session`.
    :param written_data: Name of a file beside ``to`` for the large constants; ``None`` keeps them where they are.
    :raises ModelError: if onnxruntime cannot load the model.
    """
    Session(
        model,
        source=source,
        level=level,
        external_data=external_data,
        constants=constants,
        written_to=to,
        written_data=written_data,
        disabled_optimizers=_UNWANTED_OPTIMIZERS,
    )


def one_line(error: BaseException) -> str:
    """The text of an exception on one line of at most 500 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 500 else text[:497] + "..."


def thread_count(num_threads: int | None) -> int:
    """How many threads a session has inside an operation, for an argument ``num_threads`` of :class:`Session`.

    What onnxruntime chooses is the number of physical cores, which no interface tells; the number of CPUs stands for it
    here.
    """
    threads = _threads_from_environment() if num_threads is None else num_threads
    if threads:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads_from_environment() -> int:
    text = os.environ.get("QUANTSTATS_NUM_THREADS", "")
    return int(text) if text.isdecimal() else 0
