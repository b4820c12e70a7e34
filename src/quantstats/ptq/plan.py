"""Everything that the driver decides about a model, as immutable data.

Each algorithm is a function from plan to plan: placement makes one without numbers, range estimation fills the numbers
in, later steps refine it. An adapter emits the quantized model from the original model and a plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantstats.errors import ParameterError
from quantstats.overflow.pairing import Pairing
from quantstats.ptq.graph import Port
from quantstats.quantizer import Quantizer, QuantizerConfig


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor at which a quantizer acts, and who reads the quantized values.

    :param tensor: Name of the tensor.
    :param readers: The operands that read the quantized tensor; others keep reading the floating-point one.
    :param model_output: True if the model output of this name is the quantized tensor.
    """

    tensor: str
    readers: tuple[Port, ...]
    model_output: bool = False


@dataclass(frozen=True, slots=True)
class ActivationQuantizer:
    """A quantizer of activations.

    :param tensor: The tensor whose values decide the range: the one that is observed in calibration. It may be a
        constant that an integer operation reads like an activation (an operand of an addition): it is not observed.
    :param places: Where it acts. The first place is ``tensor`` itself; the others are tensors that hold the same values
        after operations that only move data, and share the scale so that those operations run on integers.
    :param config: Bits, scheme, granularity.
    :param channel_axis: Axis of the channels for per-channel quantization, else ``None``.
    :param quantizer: Scale, zero point and levels; ``None`` before ranges are known.
    """

    tensor: str
    places: tuple[Place, ...]
    config: QuantizerConfig
    channel_axis: int | None = None
    quantizer: Quantizer | None = None


@dataclass(frozen=True, slots=True)
class WeightQuantizer:
    """A quantizer of a constant.

    :param tensor: Name of the constant.
    :param readers: The operands that read the quantized constant; several where a weight is shared.
    :param config: Bits, scheme, granularity.
    :param channel_axis: Axis of the output channels in the constant as it is stored, ``None`` for per tensor.
    :param half_range: True if the values must stay in half of the levels, so that u8 x s8 products cannot saturate.
    :param pairing: If given, the scale is the finest at which the levels cannot saturate 16-bit sums of products that
        are paired like this, and that of the full range where it can be.
    :param quantizer: Scale, zero point and levels; ``None`` before ranges are known.
    """

    tensor: str
    readers: tuple[Port, ...]
    config: QuantizerConfig
    channel_axis: int | None = None
    half_range: bool = False
    quantizer: Quantizer | None = None
    pairing: Pairing | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an operation is quantized, and why it is or is not, in words for a person."""

    quantized: bool
    reason: str


@dataclass(frozen=True)
class QuantizationPlan:
    """All decisions about one model.

    :param activations: Quantizers of activations, in topological order of their tensors.
    :param weights: Quantizers of constants, in topological order of their first reader.
    :param decisions: For every operation that computes, by name: quantized or left in floating point, and why.
    :param biases: New bias vectors, float32, by the name of the operation; others keep theirs. An operation that has
        no bias gets one.
    """

    activations: tuple[ActivationQuantizer, ...]
    weights: tuple[WeightQuantizer, ...]
    decisions: Mapping[str, Decision]
    biases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QuantizationPlan):
            return NotImplemented
        return (
            (self.activations, self.weights, self.decisions) == (other.activations, other.weights, other.decisions)
            and self.biases.keys() == other.biases.keys()
            and all(np.array_equal(bias, other.biases[name]) for name, bias in self.biases.items())
        )

    __hash__ = None  # type: ignore[assignment]

    def with_biases(self, biases: Mapping[str, NDArray[Any]]) -> QuantizationPlan:
        """Return the plan with new biases in addition to those that it has.

        :param biases: Bias vector by the name of the operation; of another dtype, it is rounded to float32.
        :raises ParameterError: if a bias is no vector or holds NaN or Inf.
        """
        rounded: dict[str, NDArray[np.float32]] = {}
        for name, bias in biases.items():
            with np.errstate(over="ignore"):
                vector = np.array(bias, np.float32)
            if vector.ndim != 1 or not np.isfinite(vector).all():
                raise ParameterError(
                    f"the bias of operation {name!r} has shape {vector.shape} and "
                    f"{np.count_nonzero(~np.isfinite(vector))} values that are not finite; give a vector of finite ones"
                )
            vector.setflags(write=False)
            rounded[name] = vector
        return dataclasses.replace(self, biases={**self.biases, **rounded})

    def with_quantizers(
        self, activations: Mapping[str, Quantizer], weights: Mapping[tuple[str, int | None], Quantizer]
    ) -> QuantizationPlan:
        """Return the plan with the numbers filled in.

        :param activations: Quantizer by :attr:`ActivationQuantizer.tensor`.
        :param weights: Quantizer by :attr:`WeightQuantizer.tensor` and :attr:`WeightQuantizer.channel_axis`.
        """
        return dataclasses.replace(
            self,
            activations=tuple(
                dataclasses.replace(a, quantizer=activations.get(a.tensor, a.quantizer)) for a in self.activations
            ),
            weights=tuple(
                dataclasses.replace(w, quantizer=weights.get((w.tensor, w.channel_axis), w.quantizer))
                for w in self.weights
            ),
        )

    def without(
        self, *operations: str, tensors: Collection[str] = (), keep_weights: bool = False, reason: str = "reverted"
    ) -> QuantizationPlan:
        """Return the plan with some operations back in floating point.

        A quantizer of activations goes as a whole if one of the operations reads it. So give all operations together
        that share one; :func:`~quantstats.ptq.accuracy_control.groups.find_groups` finds them.

        :param operations: Names of operations.
        :param tensors: Further quantizers of activations to remove, by :attr:`ActivationQuantizer.tensor`.
        :param keep_weights: Leave the weights of the operations rounded: they stay small, and are multiplied in
            floating point.
        :param reason: Why, for the decisions about the operations.
        """
        reverted = frozenset(operations)
        return dataclasses.replace(
            self,
            activations=tuple(
                a
                for a in self.activations
                if a.tensor not in tensors
                and not any(port.operation in reverted for place in a.places for port in place.readers)
            ),
            weights=self.weights if keep_weights else tuple(_weights_without(self.weights, reverted)),
            decisions={
                name: Decision(False, reason) if name in reverted else decision
                for name, decision in self.decisions.items()
            },
            # A bias makes up for the rounding of the weights that it is added to.
            biases={name: bias for name, bias in self.biases.items() if keep_weights or name not in reverted},
        )


def _weights_without(weights: tuple[WeightQuantizer, ...], reverted: frozenset[str]) -> Iterator[WeightQuantizer]:
    for weight in weights:
        readers = tuple(port for port in weight.readers if port.operation not in reverted)
        if readers:
            yield weight if len(readers) == len(weight.readers) else dataclasses.replace(weight, readers=readers)
