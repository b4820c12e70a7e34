"""A model, or a part of it, as it runs in onnxruntime: in floating point or as a plan quantizes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from quantstats.adapters.onnx.biases import set_biases
from quantstats.adapters.onnx.cleanup import EXTERNAL_DATA_THRESHOLD, CleanModel
from quantstats.adapters.onnx.emission import emit_model
from quantstats.adapters.onnx.handover import hand_over
from quantstats.adapters.onnx.loading import constant_bytes
from quantstats.adapters.onnx.naming import UniqueNames, node_names, tensor_names
from quantstats.adapters.onnx.part import extract_part, restrict_plan
from quantstats.adapters.onnx.runtime import Session
from quantstats.adapters.onnx.scratch import ScratchDirectory
from quantstats.adapters.protocol import Array
from quantstats.errors import DataError
from quantstats.ptq.plan import QuantizationPlan


class OnnxRunnable:
    """A :class:`quantstats.adapters.protocol.Runnable` of an ONNX model. It holds one session of onnxruntime.

    :param clean: The model.
    :param plan: How it is quantized; ``None`` for the floating-point model.
    :param inputs: Tensors that are fed; ``None`` for the model's inputs.
    :param outputs: Tensors that are returned; ``None`` for the model's outputs.
    :param num_threads: Threads inside an operation; ``None`` takes ``QUANTSTATS_NUM_THREADS`` where it is set, else
        what onnxruntime chooses.
    :param external_data_threshold: Total size of the constants in bytes from which onnxruntime reads them from a file.
    :raises ParameterError: if a name is no activation, or the outputs cannot be computed from the inputs.
    :raises ModelError: if onnxruntime cannot load the result.
    """

    def __init__(
        self,
        clean: CleanModel,
        plan: QuantizationPlan | None = None,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        num_threads: int | None = None,
        four_bit_types: bool = True,
        external_data_threshold: int = EXTERNAL_DATA_THRESHOLD,
    ) -> None:
        graph = clean.model.graph
        model_inputs = tuple(value.name for value in graph.inputs if value.name)
        model_outputs = tuple(value.name for value in graph.outputs if value.name)
        self._source = clean.source
        self._inputs = model_inputs if inputs is None else tuple(dict.fromkeys(inputs))
        self._outputs = model_outputs if outputs is None else tuple(dict.fromkeys(outputs))
        # A model input that is asked for is handed back.
        self._passed = frozenset(self._outputs).intersection(model_inputs, self._inputs)
        self._names = {name: name for name in self._outputs if name not in self._passed}
        self._session: Session | None = None
        self._scratch: ScratchDirectory | None = None
        if not self._names:
            return
        part = clean
        # A product of floating-point activations with rounded weights is what the plan says. onnxruntime would make it
        # one that rounds the activations too, each row by a scale of its own.
        integers = plan is None or bool(plan.activations)
        if self._inputs != model_inputs or tuple(self._names) != model_outputs:
            if plan is not None and plan.biases:
                # Before the cut, which may part a matrix product from the addition of its bias.
                part = _with_biases(clean, plan)
                plan = dataclasses.replace(plan, biases={})
            extracted = extract_part(part, self._inputs, tuple(self._names), in_place=part is not clean)
            part = extracted.clean
            self._names.update(extracted.computed)
            if plan is not None:
                operations = {node.name for node in part.model.graph if node.name}
                plan = restrict_plan(plan, operations, set(model_outputs).intersection(self._names))
        model = (
            part.model
            if plan is None
            else emit_model(part, plan, four_bit_types=four_bit_types, in_place=part is not clean)
        )
        how: dict[str, Any] = {"source": clean.source, "num_threads": num_threads, "integer_kernels": integers}
        if plan is not None and constant_bytes(model) >= external_data_threshold:
            self._scratch = ScratchDirectory()
            path = self._scratch.path / "quantized.onnx"
            ir.save(model, path, external_data="quantized.data")
            self._session = Session(path, **how)
        else:
            proto, constants = hand_over(model)
            self._session = Session(
                proto.SerializeToString(), external_data=part.external_data, constants=constants, **how
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that are fed."""
        return self._inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that are returned."""
        return self._outputs

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Return an array for each of ``outputs``.

        :raises DataError: if the feed lacks an input.
        :raises ModelError: if onnxruntime fails.
        """
        missing = [name for name in self._inputs if name not in feed]
        if missing:
            raise DataError(
                f"the feed has no {', '.join(map(repr, missing))}; {self._source} needs "
                f"{', '.join(map(repr, self._inputs))}"
            )
        found: dict[str, Array] = {name: feed[name] for name in self._passed}
        if self._session is not None:
            feeds = {name: feed[name] for name in self._inputs}
            values = self._session.run(list(self._names.values()), feeds)
            found.update((name, values[internal]) for name, internal in self._names.items())
        return {name: found[name] for name in self._outputs}


def _with_biases(clean: CleanModel, plan: QuantizationPlan) -> CleanModel:
    model = clean.model.clone()
    graph = model.graph
    set_biases(
        graph, plan.biases, tensor_names=UniqueNames(tensor_names(graph)), node_names=UniqueNames(node_names(graph))
    )
    return dataclasses.replace(clean, model=model)
