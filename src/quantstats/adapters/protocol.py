"""What a framework must tell and do so that the driver can quantize its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.plan import QuantizationPlan

Array = NDArray[Any]
Sample = Mapping[str, Array]

ModelT_co = TypeVar("ModelT_co", covariant=True)


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


__all__ = ["Array", "ModelAdapter", "Sample"]
