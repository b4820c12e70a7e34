"""The peers, each called the way it is fastest: onnxruntime, torch, nncf, and NumPy idioms.

Frameworks are imported when a case needs them, so that the tables of this suite can be read without them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Scale = Array | np.floating[Any]


def tensor(x: Array) -> Any:
    """Return a torch tensor that shares the memory of `x`."""
    import torch

    if x.dtype.name == "bfloat16":
        return tensor(x.view(np.int16)).view(torch.bfloat16)
    with warnings.catch_warnings():
        # torch warns of read-only arrays; nothing here writes to them.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(x)


class OnnxOperators:
    """A model of single operators that all read `x`, run by onnxruntime.

    :param nodes: (operator, further inputs, attributes) of each; output i is called ``y<i>``.
    :param constants: the further inputs by name.
    :param outputs: dtype and shape of each output.
    """

    def __init__(
        self,
        x: Array,
        nodes: Sequence[tuple[str, Sequence[str], Mapping[str, Any]]],
        constants: Mapping[str, Array],
        outputs: Sequence[tuple[np.dtype[Any], tuple[int, ...]]],
        threads: int,
    ) -> None:
        import onnx
        import onnxruntime as ort
        from onnx import helper, numpy_helper

        made = [
            helper.make_node(operator, ["x", *inputs], [f"y{i}"], **attributes)
            for i, (operator, inputs, attributes) in enumerate(nodes)
        ]
        graph = helper.make_graph(
            made,
            "operators",
            [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
            [
                helper.make_tensor_value_info(f"y{i}", helper.np_dtype_to_tensor_dtype(dtype), shape)
                for i, (dtype, shape) in enumerate(outputs)
            ],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        onnx.checker.check_model(model)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Waiting threads would otherwise burn the CPU time of the contenders that follow.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._feed = {"x": x}
        self._input = ort.OrtValue.ortvalue_from_numpy(x)

    def run(self) -> list[Array]:
        """Run plainly: the outputs are new arrays."""
        outputs: list[Array] = self._session.run(None, self._feed)
        return outputs

    def bound(self, outs: Sequence[Array]) -> Callable[[], object]:
        """Return a call that writes to `outs`, by io-binding."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("x", self._input)
        for i, out in enumerate(outs):
            binding.bind_output(f"y{i}", "cpu", 0, out.dtype.type, list(out.shape), out.ctypes.data)
        session = self._session
        return lambda: session.run_with_iobinding(binding)


def quantize_operator(x: Array, scale: Array, zero_point: Array, axis: int | None, threads: int) -> OnnxOperators:
    """Return ONNX QuantizeLinear of `x`."""
    attributes = {} if axis is None else {"axis": axis}
    node = ("QuantizeLinear", ["scale", "zero_point"], attributes)
    return OnnxOperators(x, [node], {"scale": scale, "zero_point": zero_point}, [(zero_point.dtype, x.shape)], threads)


def dequantize_operator(q: Array, scale: Array, zero_point: Array, threads: int) -> OnnxOperators:
    """Return ONNX DequantizeLinear of `q`."""
    node: tuple[str, list[str], dict[str, Any]] = ("DequantizeLinear", ["scale", "zero_point"], {})
    constants = {"scale": scale, "zero_point": zero_point}
    return OnnxOperators(q, [node], constants, [(np.dtype(np.float32), q.shape)], threads)


def numpy_quantize(x: Array, scale: Scale, zero_point: Scale, out_dtype: type[np.integer[Any]]) -> Array:
    """Quantize with NumPy as one writes it."""
    limits = np.iinfo(out_dtype)
    levels: Array = np.clip(np.rint(x / scale) + zero_point, limits.min, limits.max).astype(out_dtype)
    return levels


def numpy_quantize_to(x: Array, scale: Scale, zero_point: Scale, out: Array) -> None:
    """Quantize with NumPy as one writes it, into a preallocated output."""
    limits = np.iinfo(out.dtype)
    np.copyto(out, np.clip(np.rint(x / scale) + zero_point, limits.min, limits.max), casting="unsafe")


def numpy_quantize_in_place(x: Array, scale: Scale, zero_point: Scale, scratch: Array, out: Array) -> None:
    """Quantize with NumPy without any new array, in a float32 array of the size of `x`."""
    limits = np.iinfo(out.dtype)
    np.divide(x, scale, out=scratch)
    np.rint(scratch, out=scratch)
    np.add(scratch, zero_point, out=scratch)
    np.clip(scratch, np.float32(limits.min), np.float32(limits.max), out=scratch)
    np.copyto(out, scratch, casting="unsafe")


def nncf_no_outliers(x: Array, quantile: float, median: bool) -> Callable[[], object]:
    """Return nncf's own aggregation over axis 0 without outliers, on the NumPy backend."""
    from nncf.common.tensor_statistics.collectors import MeanNoOutliersAggregator, MedianNoOutliersAggregator
    from nncf.tensor import Tensor

    aggregator = (MedianNoOutliersAggregator if median else MeanNoOutliersAggregator)(quantile=quantile)
    stacked = Tensor(x)
    return lambda: aggregator._aggregation_fn(stacked, (0,), False)


def set_threads(count: int) -> None:
    """Give torch and quantstats `count` threads; onnxruntime gets them with each session."""
    import torch

    import quantstats

    torch.set_num_threads(count)
    quantstats.set_num_threads(count)


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
