"""What a framework must tell and do so that the driver can quantize its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


__all__ = ["Array", "Extrema", "ModelAdapter", "ReducingAdapter", "Sample"]
