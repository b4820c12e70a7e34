"""What a framework must tell and do so that the driver can quantize its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from numpy.typing import NDArray

from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.plan import QuantizationPlan

Array = NDArray[Any]
Sample = Mapping[str, Array]

ModelT_co = TypeVar("ModelT_co", covariant=True)


class Extrema(NamedTuple):
    """What one run finds of a tensor without handing it out.

    :param minimum: Least values, of the tensor's rank, with size 1 at the reduced axes.
    :param maximum: Greatest values, of the same shape.
    :param finite: Whether the tensor surely has values and none of them is NaN or Inf. If False, the driver looks at
        the tensor itself.
    """

    minimum: Array
    maximum: Array
    finite: bool


class Runnable(Protocol):
    """A model, or a part of it, that can be run; see :meth:`ModelAdapter.runnable`."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that are fed."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that are returned."""
        ...

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        :param feed: An array for each of ``inputs``, with the dtypes and shapes that the graph states. What it has
            besides is not read.
        :return: An array for each of ``outputs``. The arrays are the caller's until the next call.
        :raises DataError: if the feed lacks an input.
        :raises ModelError: if the framework fails.
        """
        ...


class ModelAdapter(Protocol[ModelT_co]):
    """One model of one framework.

    An adapter is made for one floating-point model, which it never changes: every call sees the original.
    """

    def graph(self) -> QuantizationGraph:
        """Return the model's graph. Every call returns an equal graph, with equal names."""
        ...

    def constant(self, tensor: str) -> Array:
        """Return the value of a constant of the graph, read-only; it may be a memory map."""
        ...

    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        """Run the floating-point model on one sample.

        :param sample: An array for each of ``graph().inputs``, with the model's dtypes.
        :param taps: Names of tensors to return: activations, model inputs and outputs alike.
        :return: An array for each tap. The arrays are the caller's until the next call.
        """
        ...

    def emit(self, plan: QuantizationPlan) -> ModelT_co:
        """Return the quantized model that a plan with all its numbers describes, in the framework's own form."""
        ...

    def runnable(
        self,
        plan: QuantizationPlan | None = None,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Runnable:
        """Return the model, or a part of it, as something to run: in floating point, or quantized by a plan.

        Every adapter has it, for without it a driver could emit a quantized model but not see what it computes:
        accuracy control validates one plan after another, and full bias correction measures the quantized model piece
        by piece. Both need no more of a framework than what :meth:`emit` and :meth:`run` need.

        The model can be cut at any activation, named as in the graph. At a cut a tensor is the floating-point value
        *before* its quantizer: what is fed is quantized for those readers that the plan lets read it quantized, and
        what is returned is what the operation computes. So parts that are run one after the other compute what the
        whole computes. The model's own outputs are what the model emitted from the plan returns. A tensor may be fed
        and returned: its readers read what is fed, and what is computed of it is returned; a model input is returned
        as it is fed.

        :param plan: A plan with all its numbers; ``None`` for the floating-point model.
        :param inputs: Tensors that are fed; ``None`` for the model's inputs.
        :param outputs: Tensors that are returned; ``None`` for the model's outputs.
        :raises ParameterError: if a name is no activation of the model, or the outputs cannot be computed from the
            inputs.
        :raises ModelError: if the framework cannot load the result.
        """
        ...


@runtime_checkable
class ReducingAdapter(Protocol):
    """What an adapter may offer besides: reductions that the framework computes where the tensor is.

    The driver uses it for ``inplace_statistics=True``, and runs without it where an adapter does not have it.
    """

    def run_reduced(
        self, sample: Sample, taps: Sequence[str], reductions: Mapping[str, tuple[int, ...] | None]
    ) -> tuple[Mapping[str, Array], Mapping[str, Extrema]]:
        """Run the floating-point model once; return some tensors, and of others their extrema alone.

        :param sample: As for :meth:`ModelAdapter.run`.
        :param taps: Names of tensors to return whole.
        :param reductions: The axes to reduce, by the name of a computed tensor; ``None`` for all axes.
        :return: An array for each tap, and the extrema for each name in ``reductions``, with the bits that NumPy's
            ``min`` and ``max`` give if the tensor is finite.
        """
        ...


@runtime_checkable
class ConcurrentAdapter(Protocol):
    """What an adapter may offer besides: runs of several samples at a time, from different threads.

    The driver uses it to calibrate with small samples, and runs one after the other where an adapter does not have it.
    """

    def concurrently(self, runs: int) -> AbstractContextManager[int]:
        """Return a context within which ``run`` and ``run_reduced`` may be called from several threads at a time.

        It gives how many calls make the best of the threads of the framework, from 1 to `runs`; one more is no error.
        What a call returns stays the caller's when the next one begins.

        :param runs: How many calls are wanted at a time.
        """
        ...


@runtime_checkable
class SavingAdapter(Protocol):
    """What an adapter may offer besides: writing its models to files.

    The driver uses it for ``intermediate_model_dir`` of accuracy control.
    """

    def save(self, model: Any, stem: Path) -> Path:
        """Write a model that :meth:`ModelAdapter.emit` returned, whole or not at all.

        :param model: The model.
        :param stem: Where, without the ending that its files have.
        :return: The path that was written.
        :raises ModelError: if it cannot be written.
        """
        ...


__all__ = [
    "Array",
    "ConcurrentAdapter",
    "Extrema",
    "ModelAdapter",
    "ReducingAdapter",
    "Runnable",
    "Sample",
    "SavingAdapter",
]
