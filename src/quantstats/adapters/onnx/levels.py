"""How ONNX stores the levels of a quantizer: element type, scale, zero point, and what saturation does not clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from quantstats.quantizer import Quantizer

# 16-bit levels are in the standard from here on; before, onnxruntime has them in a domain of its own.
_OPSET_OF_16_BITS = 21
# So are 4-bit levels, for which there is nothing before.
_OPSET_OF_4_BITS = 21
CONTRIB_DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class StoredLevels:
    """The levels of a quantizer as ONNX holds them.

    :param dtype: Element type of the quantized tensor.
    :param scale: float32, 0-d or one value per channel.
    :param zero_point: Of ``dtype``, same shape as ``scale``.
    :param shift: What is added to a level of the quantizer to store it.
    :param low: Lowest stored level.
    :param high: Highest stored level.
    :param axis: Channel axis, ``None`` per tensor.
    :param domain: Domain of QuantizeLinear and DequantizeLinear for this type.
    """

    dtype: ir.DataType
    scale: NDArray[np.float32]
    zero_point: NDArray[Any]
    shift: int
    low: int
    high: int
    axis: int | None
    domain: str

    @property
    def saturates(self) -> bool:
        """Whether the levels are all that the type has, so that saturation alone clips to them."""
        limits = np.iinfo(self.dtype.numpy())
        return self.low == limits.min and self.high == limits.max

    @property
    def has_integer_clip(self) -> bool:
        """Whether onnxruntime's Clip takes the type."""
        return self.dtype.bitwidth == 8

    def level(self, value: float) -> int | None:
        """The stored level of a real value, clipped; ``None`` if channels differ."""
        scaled = np.rint(np.float32(value) / self.scale).astype(np.float64) + self.zero_point
        levels = np.unique(np.clip(scaled, self.low, self.high))
        return int(levels[0]) if levels.size == 1 else None


def stored_levels(quantizer: Quantizer, *, unsigned: bool, opset: int, four_bits: bool = False) -> StoredLevels:
    """Return how ONNX stores a quantizer.

    :param unsigned: Store signed levels as unsigned ones, everything shifted by half of the type: the same numbers.
        A type that is the same everywhere lets onnxruntime fuse Add, Concat and MatMul, whose kernels ask for
        operands of one type; and an unsigned left operand is what x86 multiplies.
    :param opset: Opset of the model.
    :param four_bits: Take 4-bit types, two levels in a byte, for at most 16 levels if the opset has them. For
        constants: of an activation nothing is stored.
    """
    signed = quantizer.level_low < 0
    bits = 8 if quantizer.num_bits <= 8 else 16
    if four_bits and quantizer.num_bits <= 4 and opset >= _OPSET_OF_4_BITS:
        bits = 4
    shift = 1 << (bits - 1) if signed and unsigned else 0
    dtype = ir.DataType[f"{'INT' if signed and not unsigned else 'UINT'}{bits}"]
    numpy_type = dtype.numpy()
    return StoredLevels(
        dtype=dtype,
        scale=quantizer.scale,
        zero_point=(quantizer.zero_point + shift).astype(numpy_type),
        shift=shift,
        low=quantizer.level_low + shift,
        high=quantizer.level_high + shift,
        axis=quantizer.axis,
        domain=CONTRIB_DOMAIN if bits == 16 and opset < _OPSET_OF_16_BITS else "",
    )


def quantize_constant(quantizer: Quantizer, stored: StoredLevels, array: NDArray[Any]) -> NDArray[Any]:
    """The levels of a constant, in the stored type."""
    levels = quantizer.quantize(array)
    if stored.dtype.bitwidth == 4:
        return (levels + stored.shift).astype(stored.dtype.numpy())
    if stored.shift:
        # Two's complement plus half of the type is the sign bit flipped, which is exact and needs no wider type.
        levels = levels.view(stored.dtype.numpy()) ^ stored.dtype.numpy().type(stored.shift)
    return levels
