"""Running the floating-point model with taps on any of its tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir

from quantstats.adapters.onnx.cleanup import CleanModel
from quantstats.adapters.onnx.runtime import Session
from quantstats.adapters.protocol import Array, Sample
from quantstats.errors import DataError, ParameterError

# Every session holds a copy of the weights, in the layout of its kernels. The driver alternates between few sets of
# taps, so a small number is enough; of a large model one copy is as much as one wants.
_MAX_SESSIONS = 2
_MAX_SESSIONS_OF_LARGE_MODEL = 1


class TappedRunner:
    """Runs a model and returns any of its tensors.

    A tensor that is tapped becomes an output, so onnxruntime does not fuse it away; the rest of the graph is optimized.
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
        self._proto: onnx.ModelProto | None = None
        self._sessions: OrderedDict[frozenset[str], Session] = OrderedDict()

    def run(self, sample: Sample, taps: Sequence[str]) -> dict[str, Array]:
        """Return the value of each tap for one sample.

        :raises ParameterError: if a tap is no tensor of the model that is computed.
        :raises DataError: if the sample lacks an input.
        :raises ModelError: if onnxruntime fails.
        """
        missing = [name for name in self._inputs if name not in sample]
        if missing:
            raise DataError(
                f"the sample has no {', '.join(map(repr, missing))}; {self._clean.source} needs the inputs "
                f"{', '.join(map(repr, self._inputs))}"
            )
        computed: list[str] = []
        found: dict[str, Array] = {}
        for tap in dict.fromkeys(taps):
            if tap in self._inputs:
                found[tap] = sample[tap]
            elif tap in self._tensors and tap not in self._constants:
                computed.append(tap)
            else:
                raise ParameterError(f"{tap!r} is no activation of {self._clean.source}; take names from its graph")
        if computed:
            feeds = {name: sample[name] for name in self._inputs}
            found.update(self._session(frozenset(computed)).run(computed, feeds))
        return {tap: found[tap] for tap in taps}

    def _session(self, taps: frozenset[str]) -> Session:
        session = self._sessions.get(taps)
        if session is None:
            large = self._clean.external_data is not None
            while len(self._sessions) >= (_MAX_SESSIONS_OF_LARGE_MODEL if large else _MAX_SESSIONS):
                self._sessions.popitem(last=False)
            session = Session(
                self._with_outputs(taps),
                source=self._clean.source,
                external_data=self._clean.external_data,
                num_threads=self._num_threads,
            )
            self._sessions[taps] = session
        self._sessions.move_to_end(taps)
        return session

    def _with_outputs(self, taps: frozenset[str]) -> bytes:
        if self._proto is None:
            self._proto = ir.to_proto(self._clean.model)
        outputs: Mapping[str, onnx.ValueInfoProto] = {value.name: value for value in self._proto.graph.output}
        original = list(self._proto.graph.output)
        del self._proto.graph.output[:]
        # Without a type: onnxruntime infers it, and outputs that nobody wants are not computed.
        self._proto.graph.output.extend(outputs.get(tap) or onnx.ValueInfoProto(name=tap) for tap in sorted(taps))
        try:
            serialized: bytes = self._proto.SerializeToString()
            return serialized
        finally:
            del self._proto.graph.output[:]
            self._proto.graph.output.extend(original)
