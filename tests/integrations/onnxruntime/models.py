"""A model of one operation, and readers of samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader

Array = NDArray[Any]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Samples from a list, in its order, or a range of them."""

    def __init__(self, samples: Iterable[dict[str, Array]]) -> None:
        self._all = list(samples)
        self._rest: Iterator[dict[str, Array]] = iter(self._all)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._rest, None)

    def __len__(self) -> int:
        return len(self._all)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(self._all[start_index:end_index])


def relu_model(path: Path, dtype: int = onnx.TensorProto.FLOAT, shape: tuple[Any, ...] = ("items", "length")) -> Path:
    """A model whose tensors are its input "x" and its output "y", without negative values."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], "relu")],
        "relu",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
