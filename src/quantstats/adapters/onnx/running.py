"""Running the floating-point model with taps on any of its tensors, or with reductions of them."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from quantstats.adapters.onnx.cleanup import CleanModel
from quantstats.adapters.onnx.handover import hand_over
from quantstats.adapters.onnx.naming import UniqueNames, node_names, tensor_names
from quantstats.adapters.onnx.runtime import Session
from quantstats.adapters.protocol import Array, Extrema, Sample
from quantstats.errors import DataError, ParameterError

# Every session holds a copy of the weights, in the layout of its kernels. The driver alternates between few sets of
# taps, so a small number is enough; of a large model one copy is as much as one wants.
_MAX_SESSIONS = 2
_MAX_SESSIONS_OF_LARGE_MODEL = 1

# The sum tells what the other two do not: onnxruntime's extrema may pass over a NaN, a sum never does.
_REDUCTIONS = ("ReduceMin", "ReduceMax", "ReduceSum")
# Where the axes of a reduction became an input instead of an attribute.
_OPSET_OF_AXES_INPUT = {"ReduceMin": 18, "ReduceMax": 18, "ReduceSum": 13}

_Reductions = tuple[tuple[str, tuple[int, ...] | None], ...]


class TappedRunner:
    """Runs a model and returns any of its tensors.

    A tensor that is tapped or reduced is read once more, so onnxruntime does not fuse it away; the rest of the graph is
    optimized.
    """

    def __init__(self, clean: CleanModel, *, num_threads: int | None = None) -> None:
        self._clean = clean
        self._num_threads = num_threads
        graph = clean.model.graph
        self._inputs = tuple(value.name for value in graph.inputs if value.name)
        self._constants = frozenset(graph.initializers)
        self._tensors = frozenset(self._inputs).union(
            (value.name for node in graph for value in node.outputs if value.name), self._constants
        )
        self._names = UniqueNames([*tensor_names(graph), *node_names(graph)])
        self._reduced_names: dict[str, tuple[str, ...]] = {}
        # Several threads may run the model at a time. What is made once is made by one of them.
        self._making = threading.Lock()
        self._sessions: OrderedDict[tuple[frozenset[str], _Reductions], Session] = OrderedDict()

    def run(self, sample: Sample, taps: Sequence[str]) -> dict[str, Array]:
        """Return the value of each tap for one sample.

        :raises ParameterError: if a tap is no tensor of the model that is computed.
        :raises DataError: if the sample lacks an input.
        :raises ModelError: if onnxruntime fails.
        """
        return self.run_reduced(sample, taps, {})[0]

    def run_reduced(
        self, sample: Sample, taps: Sequence[str], reductions: Mapping[str, tuple[int, ...] | None]
    ) -> tuple[dict[str, Array], dict[str, Extrema]]:
        """Return the value of each tap, and the extrema of other tensors, which then never leave onnxruntime.

        :param reductions: Axes to reduce, ``None`` for all, by the name of a computed float32 tensor.
        :raises ParameterError: if a name is no tensor of the model that is computed.
        :raises DataError: if the sample lacks an input.
        :raises ModelError: if onnxruntime fails, as some versions do where a tensor to reduce is empty.
        """
        missing = [name for name in self._inputs if name not in sample]
        if missing:
            raise DataError(
                f"the sample has no {', '.join(map(repr, missing))}; {self._clean.source} needs the inputs "
                f"{', '.join(map(repr, self._inputs))}"
            )
        for name in reductions:
            if name in self._inputs or name in self._constants or name not in self._tensors:
                raise ParameterError(f"{name!r} is not computed by {self._clean.source}; take names from its graph")
        computed: list[str] = []
        found: dict[str, Array] = {}
        for tap in dict.fromkeys(taps):
            if tap in self._inputs:
                found[tap] = sample[tap]
            elif tap in self._tensors and tap not in self._constants:
                computed.append(tap)
            else:
                raise ParameterError(f"{tap!r} is no activation of {self._clean.source}; take names from its graph")
        extrema: dict[str, Extrema] = {}
        if computed or reductions:
            feeds = {name: sample[name] for name in self._inputs}
            with self._making:
                outputs = {tensor: self._names_of_reduced(tensor) for tensor in reductions}
                session = self._session(frozenset(computed), tuple(reductions.items()))
            values = session.run([*computed, *(name for names in outputs.values() for name in names)], feeds)
            found.update((tap, values[tap]) for tap in computed)
            for tensor, names in outputs.items():
                # The extrema of an empty tensor are infinite.
                finite = all(_is_finite(values[name]) for name in names)
                extrema[tensor] = Extrema(values[names[0]], values[names[1]], finite)
        return {tap: found[tap] for tap in taps}, extrema

    def _names_of_reduced(self, tensor: str) -> tuple[str, ...]:
        names = self._reduced_names.get(tensor)
        if names is None:
            names = tuple(self._names.unique(f"{tensor}_{kind}") for kind in _REDUCTIONS)
            self._reduced_names[tensor] = names
        return names

    def _session(self, taps: frozenset[str], reductions: _Reductions) -> Session:
        key = taps, reductions
        session = self._sessions.get(key)
        if session is None:
            large = self._clean.external_data is not None
            while len(self._sessions) >= (_MAX_SESSIONS_OF_LARGE_MODEL if large else _MAX_SESSIONS):
                self._sessions.popitem(last=False)
            serialized, constants = self._with_outputs(taps, reductions)
            session = Session(
                serialized,
                constants=constants,
                source=self._clean.source,
                external_data=self._clean.external_data,
                num_threads=self._num_threads,
                # Taps leave the block as arrays of their own, so it would be a second one for each of them.
                plans_memory=False,
            )
            self._sessions[key] = session
        self._sessions.move_to_end(key)
        return session

    def _with_outputs(self, taps: frozenset[str], reductions: _Reductions) -> tuple[bytes, Mapping[str, Array]]:
        proto, constants = hand_over(self._clean.model)
        outputs = {value.name: value for value in proto.graph.output}
        # Without a type: onnxruntime infers it, and outputs that nobody wants are not computed.
        wanted = [outputs.get(tap) or onnx.ValueInfoProto(name=tap) for tap in sorted(taps)]
        del proto.graph.output[:]
        proto.graph.output.extend(wanted)
        for tensor, axes in reductions:
            self._append_reductions(proto.graph, tensor, axes)
        return proto.SerializeToString(), constants

    def _append_reductions(self, graph: onnx.GraphProto, tensor: str, axes: tuple[int, ...] | None) -> None:
        opset = self._clean.model.graph.opset_imports[""]
        names = self._names_of_reduced(tensor)
        for kind, name in zip(_REDUCTIONS, names, strict=True):
            inputs = [tensor]
            attributes: dict[str, Any] = {"keepdims": 1}
            if axes is not None and opset >= _OPSET_OF_AXES_INPUT[kind]:
                inputs.append(f"{name}_axes")
                graph.initializer.append(onnx.numpy_helper.from_array(np.array(axes, np.int64), inputs[1]))
            elif axes is not None:
                attributes["axes"] = axes
            graph.node.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
            graph.output.append(onnx.ValueInfoProto(name=name))


def _is_finite(x: Array) -> bool:
    # NumPy takes microseconds for a scalar, and there are three for each tensor and sample.
    return math.isfinite(x.item()) if x.size == 1 else bool(np.isfinite(x).all())
