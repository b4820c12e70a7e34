"""The ONNX adapter: what the driver needs of an ONNX model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir

from quantstats._validation import check_bool, check_count
from quantstats.adapters.onnx import runtime
from quantstats.adapters.onnx.cleanup import EXTERNAL_DATA_THRESHOLD, clean_model
from quantstats.adapters.onnx.emission import emit_model
from quantstats.adapters.onnx.graph import build_graph
from quantstats.adapters.onnx.loading import ModelForm, OnnxModel, load_model
from quantstats.adapters.onnx.runnable import OnnxRunnable
from quantstats.adapters.onnx.running import TappedRunner
from quantstats.adapters.onnx.saving import save_model
from quantstats.adapters.protocol import Array, Extrema, Sample
from quantstats.errors import ParameterError
from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.plan import QuantizationPlan


class OnnxAdapter:
    """One floating-point ONNX model, as :class:`quantstats.adapters.protocol.ModelAdapter`.

    The model is cleaned first: raised to opset 13 if it is older, constants and BatchNorm folded, nodes without a name
    named. That cleaned model is what the graph shows, what runs, and what is quantized; names of the original stay
    wherever the thing they name does.

    :param model: Path of an ONNX file, an ``onnx.ModelProto`` or an ``onnx_ir.Model``. It is never changed.
    :param num_threads: Threads of onnxruntime; ``None`` takes ``QUANTSTATS_NUM_THREADS`` where it is set, else what
        onnxruntime chooses.
    :param external_data_dir: Directory of the external data files of an ``onnx.ModelProto`` or a path; ``None``
        takes the directory of the path.
    :param four_bit_types: Store weights of at most 4 bits in the 4-bit types of ONNX, if the model has opset 21 or
        newer. They halve the file, but onnxruntime computes with them in floating point; ``False`` stores the same
        levels in int8, for which it has integer kernels.
    :param external_data_threshold: Total size of the constants in bytes from which they stay memory-mapped files.
    :raises ParameterError: if ``num_threads`` is no positive integer, ``external_data_dir`` no directory, or
        ``four_bit_types`` no bool.
    :raises ModelError: if the model cannot be read or loaded.
    :raises UnsupportedModelError: if it is quantized already, older than opset 10, or float32 nowhere.
    """

    def __init__(
        self,
        model: OnnxModel,
        *,
        num_threads: int | None = None,
        external_data_dir: str | os.PathLike[str] | None = None,
        four_bit_types: bool = True,
        external_data_threshold: int = EXTERNAL_DATA_THRESHOLD,
    ) -> None:
        if num_threads is not None:
            check_count("backend_params", "num_threads", num_threads, least=1)
        check_bool("backend_params", "four_bit_types", four_bit_types)
        loaded = load_model(model, external_data_dir=external_data_dir)
        self._form = loaded.form
        self._clean = clean_model(loaded, external_data_threshold=external_data_threshold)
        self._graph = build_graph(self._clean)
        self._num_threads = num_threads
        self._four_bit_types = four_bit_types
        self._external_data_threshold = external_data_threshold
        self._runner = TappedRunner(self._clean, num_threads=num_threads)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user on what had to be changed in the model, such as its opset."""
        return self._clean.notes

    def graph(self) -> QuantizationGraph:
        """Return the graph of the cleaned model."""
        return self._graph

    def constant(self, tensor: str) -> Array:
        """Return a constant, read-only; a memory map if the model is large.

        :raises ParameterError: if the model has no constant of that name.
        """
        value = self._clean.model.graph.initializers.get(tensor)
        if value is None or value.const_value is None:
            raise ParameterError(f"{tensor!r} is no constant of {self._clean.source}; take names from its graph")
        array: Array = value.const_value.numpy().view()
        array.setflags(write=False)
        return array

    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        """Run the floating-point model with onnxruntime; see :meth:`TappedRunner.run`."""
        return self._runner.run(sample, taps)

    def run_reduced(
        self, sample: Sample, taps: Sequence[str], reductions: Mapping[str, tuple[int, ...] | None]
    ) -> tuple[Mapping[str, Array], Mapping[str, Extrema]]:
        """Run with reductions added to the graph; see :meth:`TappedRunner.run_reduced`."""
        return self._runner.run_reduced(sample, taps, reductions)

    @contextmanager
    def concurrently(self, runs: int) -> Iterator[int]:
        """Share the threads among several runs; see :class:`~quantstats.adapters.protocol.ConcurrentAdapter`."""
        threads = runtime.thread_count(self._num_threads)
        runs = min(runs, threads)
        if runs < 2:
            yield 1
            return
        alone = self._runner
        self._runner = TappedRunner(self._clean, num_threads=threads // runs)
        try:
            yield runs
        finally:
            self._runner = alone

    def emit(self, plan: QuantizationPlan) -> onnx.ModelProto | ir.Model:
        """Return the quantized model: an ``onnx_ir.Model`` for one, else an ``onnx.ModelProto``.

        :raises ParameterError: if the plan has a quantizer without numbers, or names what the model does not have.
        """
        emitted = emit_model(self._clean, plan, four_bit_types=self._four_bit_types)
        return emitted if self._form is ModelForm.IR else ir.to_proto(emitted)

    def save(self, model: onnx.ModelProto | ir.Model, stem: Path) -> Path:
        """Write a model to ``stem`` with the ending ``.onnx``; see :func:`save_model`."""
        path = stem.with_name(f"{stem.name}.onnx")
        save_model(model, path)
        return path

    def runnable(
        self,
        plan: QuantizationPlan | None = None,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> OnnxRunnable:
        """Return the model, or a part of it, in a session of onnxruntime.

        See :meth:`quantstats.adapters.protocol.ModelAdapter.runnable`. Only the part is emitted and loaded; the session
        holds a copy of its weights.
        """
        return OnnxRunnable(
            self._clean,
            plan,
            inputs=inputs,
            outputs=outputs,
            num_threads=self._num_threads,
            four_bit_types=self._four_bit_types,
            external_data_threshold=self._external_data_threshold,
        )
