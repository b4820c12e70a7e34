"""Layers of a quantized model that multiply bytes, as plain data: what an adapter tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantstats.overflow.layout import WeightRows, weight_rows
from quantstats.overflow.pairing import LayerKind

__all__ = ["IntegerLayer"]


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """A convolution or matrix multiplication of bytes.

    :param name: of the operation.
    :param type: the framework's own name of the operation type.
    :param kind: the kind of layer.
    :param activations: names that the multiplied tensor has or may have had before it was quantized, likeliest first,
        so that statistics of the floating-point model are found by one of them.
    :param u_max: the greatest level of the activations as unsigned bytes; int8 ones are shifted by 128.
    :param activation_scale: float32, 0-d; ``None`` if it is not a constant of the model.
    :param activation_zero_point: level that stands for 0, as an unsigned byte; ``None`` likewise.
    :param weight: int8 or uint8 levels; ``None`` if both operands are activations.
    :param weight_dtype: int8 or uint8: only a signed operand takes part in u8 x s8.
    :param weight_scale: float32, 0-d or one for each index of `weight_axis`.
    :param weight_zero_point: int32, likewise.
    :param weight_axis: channel axis of the scale, ``None`` per tensor.
    :param output_axes: axes of the weight that are outputs.
    """

    name: str
    type: str
    kind: LayerKind
    activations: tuple[str, ...]
    u_max: int
    activation_scale: NDArray[np.float32] | None
    activation_zero_point: int | None
    weight: NDArray[Any] | None
    weight_dtype: np.dtype[Any]
    weight_scale: NDArray[np.float32]
    weight_zero_point: NDArray[np.int32]
    weight_axis: int | None
    output_axes: tuple[int, ...]

    @property
    def signed(self) -> bool:
        """Whether one operand is signed, as u8 x s8 asks for; unsigned ones are multiplied in wider integers."""
        return self.weight_dtype == np.int8

    def rows(self, weight: NDArray[Any]) -> WeightRows:
        """A weight of this layer as rows; a vector is one row."""
        return weight_rows(weight if weight.ndim > 1 else weight[None], self.output_axes, self.kind)

    def real_weight(self) -> NDArray[np.float32]:
        """The weight in real numbers: (level - zero point) * scale."""
        assert self.weight is not None
        shape = [1] * self.weight.ndim
        if self.weight_axis is not None:
            shape[self.weight_axis] = -1
        scale, zero = (value.reshape(shape) for value in (self.weight_scale, self.weight_zero_point))
        real: NDArray[np.float32] = (self.weight.astype(np.float32) - zero.astype(np.float32)) * scale
        return real
