"""From a range to a quantizer: levels, scale, zero point.

The formulas are those of nncf (``nncf.quantization.fake_quantize``), evaluated in float32 as there, so that the same
statistics give the same quantizers. They are written out on the semantics page.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import _twins, kernels
from quantstats._validation import check_bool, check_member, check_num_bits
from quantstats.errors import NonFiniteError, ParameterError
from quantstats.parameters import QuantizationMode

__all__ = ["Quantizer", "QuantizerConfig", "quantizer_from_range"]

Float32Array = npt.NDArray[np.float32]

# A symmetric high border is at least this share of the widest channel's, so that a channel of zeros gets a usable
# scale, and at least _LEAST_HIGH if all channels are zero.
_LEAST_SHARE_OF_WIDEST = 0.01
_LEAST_HIGH = 8e-5
# An asymmetric range of at most this width is widened by as much on either side.
_LEAST_WIDTH = 8e-4


@dataclass(frozen=True)
class QuantizerConfig:
    """What a quantizer looks like before its range is known.

    :param num_bits: bit width: 2 to 8, or 16.
    :param mode: symmetric or asymmetric.
    :param per_channel: one range per channel, or one for the tensor.
    :param signedness_to_force: True makes a symmetric quantizer signed even for data without negative values; None
        and False choose by the data.
    :param narrow_range: drops one level, see `level_range`.
    :raises ParameterError: a value is outside its limits.
    """

    num_bits: int = 8
    mode: QuantizationMode = QuantizationMode.SYMMETRIC
    per_channel: bool = False
    signedness_to_force: bool | None = None
    narrow_range: bool = False

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_num_bits(owner, "num_bits", self.num_bits)
        check_member(owner, "mode", self.mode, QuantizationMode)
        check_bool(owner, "per_channel", self.per_channel)
        check_bool(owner, "narrow_range", self.narrow_range)
        if self.signedness_to_force is not None:
            check_bool(owner, "signedness_to_force", self.signedness_to_force)

    @classmethod
    def from_nncf(cls, obj: Any) -> QuantizerConfig:
        """The same configuration, read from nncf's ``QuantizerConfig``."""
        return cls(
            num_bits=obj.num_bits,
            mode=QuantizationMode.from_nncf(obj.mode),
            per_channel=obj.per_channel,
            signedness_to_force=obj.signedness_to_force,
            narrow_range=obj.narrow_range,
        )

    def to_nncf(self) -> Any:
        """nncf's ``QuantizerConfig`` with the same fields. Imports nncf."""
        return _twins.nncf_class("nncf.common.quantization.structs.QuantizerConfig")(
            num_bits=self.num_bits,
            mode=self.mode.to_nncf(),
            per_channel=self.per_channel,
            signedness_to_force=self.signedness_to_force,
            narrow_range=self.narrow_range,
        )

    def level_range(self, *, signed: bool) -> tuple[int, int]:
        """Lowest and highest level.

        Symmetric signed [-2^(b-1), 2^(b-1) - 1]; unsigned or asymmetric [0, 2^b - 1]. `narrow_range` raises the low
        level of a signed or asymmetric range by one and lowers the high level of an unsigned symmetric one.
        """
        narrow = int(self.narrow_range)
        if self.mode is QuantizationMode.ASYMMETRIC:
            return narrow, (1 << self.num_bits) - 1
        if signed:
            return -(1 << (self.num_bits - 1)) + narrow, (1 << (self.num_bits - 1)) - 1
        return 0, (1 << self.num_bits) - 1 - narrow


@dataclass(frozen=True, eq=False)
class Quantizer:
    """A quantizer with its parameters found. Immutable; its arrays are read-only.

    Per tensor (`axis` is None) the arrays are 0-d; per channel they are 1-d, one value for each index of `axis`.

    :param input_low: float32, the real value of the lowest level.
    :param input_high: float32, the real value of the highest level.
    :param levels: number of levels from `level_low` to `level_high`.
    :param level_low: lowest integer level.
    :param level_high: highest integer level.
    :param scale: float32, real distance of two neighbouring levels; at least float32 epsilon.
    :param zero_point: int32, the level that stands for 0.0; between `level_low` and `level_high`, so that it fits
        `dtype`.
    :param axis: the channel axis, or None.
    :param num_bits: bit width.
    :param half_range: whether only the middle half of the levels is written, see `clip_low`.
    """

    input_low: Float32Array
    input_high: Float32Array
    levels: int
    level_low: int
    level_high: int
    scale: Float32Array
    zero_point: npt.NDArray[np.int32]
    axis: int | None
    num_bits: int = 8
    half_range: bool = False

    def __post_init__(self) -> None:
        for name in ("input_low", "input_high", "scale", "zero_point"):
            array = np.array(getattr(self, name), dtype=np.int32 if name == "zero_point" else np.float32)
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def signed(self) -> bool:
        """Whether there are negative levels."""
        return self.level_low < 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """The storage type: int8, uint8, int16 or uint16."""
        if self.num_bits <= 8:
            return np.dtype(np.int8 if self.signed else np.uint8)
        return np.dtype(np.int16 if self.signed else np.uint16)

    @property
    def clip_low(self) -> int:
        """Lowest level that `quantize` writes: `level_low`, or -64 for signed 8-bit half range.

        The levels are clipped here as well as scaled, since an estimated range may be narrower than the data, and a
        value outside it must not use the other half.
        """
        return -(1 << (self.num_bits - 2)) if self.half_range and self.signed else self.level_low

    @property
    def clip_high(self) -> int:
        """Highest level that `quantize` writes: `level_high`, or for half range 63 (signed) or 127 (unsigned)."""
        if not self.half_range:
            return self.level_high
        return (1 << (self.num_bits - 2 if self.signed else self.num_bits - 1)) - 1

    def quantize(self, x: npt.NDArray[Any], *, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Levels of the real values `x`, as `dtype`: round(x / scale) half to even, plus zero point, saturated."""
        return kernels.quantize_linear(
            x,
            self.scale,
            self.zero_point,
            axis=self.axis,
            qmin=self.clip_low,
            qmax=self.clip_high,
            dtype=self.dtype.type,
            out=out,
        )

    def dequantize(self, q: npt.NDArray[Any], *, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Real values of the levels `q`: (q - zero_point) * scale, as float32."""
        return kernels.dequantize_linear(q, self.scale, self.zero_point, axis=self.axis, out=out)

    def fake_quantize(self, x: npt.NDArray[Any], *, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """`dequantize(quantize(x))` in one pass."""
        return kernels.fake_quantize(
            x, self.scale, self.zero_point, axis=self.axis, qmin=self.clip_low, qmax=self.clip_high, out=out
        )

    def with_scale(self, scale: Float32Array) -> Quantizer:
        """The same levels at other distances, for a symmetric quantizer: a zero point of 0 stays on zero.

        :param scale: float32, positive, of the shape of `scale`.
        """
        return dataclasses.replace(
            self,
            scale=scale,
            input_low=np.float32(self.level_low) * scale,
            input_high=np.float32(self.level_high) * scale,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantizer):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name)) for field in dataclasses.fields(self)
        )

    def __hash__(self) -> int:
        return hash((self.scale.tobytes(), self.zero_point.tobytes(), self.level_low, self.level_high, self.axis))


def quantizer_from_range(
    lo: npt.ArrayLike,
    hi: npt.ArrayLike,
    cfg: QuantizerConfig,
    half_range: bool = False,
    *,
    axis: int | None = None,
) -> Quantizer:
    """The quantizer for values between `lo` and `hi`.

    :param lo: lower bounds. Per tensor: any array of one element. Per channel: 1-d with `axis` given, or of the
        tensor's rank with size 1 everywhere but at the channel axis, which is then inferred (give `axis` if all sizes
        are 1). Computed in float32.
    :param hi: upper bounds, of the same shape.
    :param cfg: the quantizer's configuration. With `per_channel` false, `axis` must be None.
    :param half_range: find the range for one bit less and stretch it, so that only the middle half of the levels is
        used while the scale is that of `cfg.num_bits`. For symmetric 8-bit quantizers.
    :param axis: the channel axis of the tensor.
    :raises ParameterError: shapes do not fit together or with `cfg`, a lower bound exceeds its upper bound, or
        `half_range` is asked of another quantizer than a symmetric 8-bit one.
    :raises NonFiniteError: a bound is NaN or infinite, in float32.
    """
    low, high, axis = _bounds(lo, hi, cfg, axis)
    if half_range and (cfg.mode is not QuantizationMode.SYMMETRIC or cfg.num_bits != 8):
        raise ParameterError(
            f"half_range=True is defined for symmetric 8-bit weights, not for {cfg.num_bits} bits {cfg.mode}; "
            "set half_range=False, or mode=SYMMETRIC and num_bits=8"
        )

    signed = cfg.mode is QuantizationMode.SYMMETRIC and (cfg.signedness_to_force is True or bool(np.any(low < 0)))
    level_low, level_high = cfg.level_range(signed=signed)
    levels = level_high - level_low + 1
    if cfg.mode is QuantizationMode.ASYMMETRIC:
        input_low, input_high = _asymmetric_range(low, high, cfg.num_bits)
    elif half_range:
        half_levels = 1 << (cfg.num_bits - 1)
        input_low, input_high = _symmetric_range(high, half_levels, signed=signed, narrow_range=cfg.narrow_range)
        stretch = (levels - 1) / (half_levels - 1)
        input_low, input_high = input_low * stretch, input_high * stretch
    else:
        input_low, input_high = _symmetric_range(high, levels, signed=signed, narrow_range=cfg.narrow_range)

    epsilon = np.finfo(np.float32).eps
    scale = np.maximum((input_high - input_low) / (levels - 1), epsilon)
    if cfg.mode is QuantizationMode.ASYMMETRIC:
        zero_point = np.clip(level_low - np.round(input_low / scale), level_low, level_high).astype(np.int32)
    else:
        # The general formula gives the same but for half range: its low border is level -128.5, which would round to a
        # zero point of 1 and push the highest weight out of the half.
        zero_point = np.zeros(scale.shape, np.int32)
    return Quantizer(
        input_low=input_low,
        input_high=input_high,
        levels=levels,
        level_low=level_low,
        level_high=level_high,
        scale=scale,
        zero_point=zero_point,
        axis=axis,
        num_bits=cfg.num_bits,
        half_range=half_range,
    )


def _bounds(
    lo: npt.ArrayLike, hi: npt.ArrayLike, cfg: QuantizerConfig, axis: int | None
) -> tuple[Float32Array, Float32Array, int | None]:
    """Validated bounds in float32, 0-d or 1-d, and the channel axis."""
    with np.errstate(over="ignore"):  # a float64 bound beyond float32 becomes infinite and is reported below
        low, high = np.asarray(lo).astype(np.float32), np.asarray(hi).astype(np.float32)
    if low.shape != high.shape:
        raise ParameterError(f"lo has shape {low.shape}, hi has shape {high.shape}; give both the same shape")
    if low.size == 0:
        raise ParameterError(f"lo and hi have shape {low.shape}, which holds no value; give one value per range")
    if not cfg.per_channel:
        if axis is not None:
            raise ParameterError(f"axis={axis} with per_channel=False; leave axis out, or set per_channel=True")
        if low.size != 1:
            raise ParameterError(
                f"lo and hi have shape {low.shape} with per_channel=False; give one value each, or set per_channel=True"
            )
        low, high = low.reshape(()), high.reshape(())
    else:
        axis = _channel_axis(low.shape, axis)
        low, high = low.reshape(-1), high.reshape(-1)
    for name, bound in (("lo", low), ("hi", high)):
        bad = int(np.count_nonzero(~np.isfinite(bound)))
        if bad:
            raise NonFiniteError(
                f"{name} has {bad} NaN or infinite values of {bound.size} in float32; "
                "remove NaN and Inf from the data that the range was estimated on"
            )
    if np.any(low > high):
        index = int(np.argmax(low > high))
        raise ParameterError(
            f"lo={low.flat[index]} exceeds hi={high.flat[index]} at channel {index}; check the range estimator: its "
            "min branch must not give more than its max branch"
        )
    return low, high, axis


def _channel_axis(shape: tuple[int, ...], axis: int | None) -> int:
    if len(shape) == 1:
        if axis is None:
            raise ParameterError(f"lo and hi have shape {shape} and axis is missing; give the tensor's channel axis")
        return axis
    wide = [index for index, size in enumerate(shape) if size != 1]
    if axis is not None:
        given = axis + len(shape) if axis < 0 else axis
        if not 0 <= given < len(shape) or any(index != given for index in wide):
            raise ParameterError(
                f"axis={axis} does not fit lo and hi of shape {shape}: every other size must be 1; correct axis, or "
                "give 1-d lo and hi"
            )
        return given
    if len(wide) != 1:
        raise ParameterError(
            f"the channel axis cannot be inferred from lo and hi of shape {shape}; give axis, or a shape with one size "
            "above 1"
        )
    return wide[0]


def _symmetric_range(
    high: Float32Array, levels: int, *, signed: bool, narrow_range: bool
) -> tuple[Float32Array, Float32Array]:
    input_high = np.maximum(
        high, np.maximum(np.max(high) * np.float32(_LEAST_SHARE_OF_WIDEST), np.float32(_LEAST_HIGH))
    )
    if not signed:
        return np.zeros_like(input_high), input_high
    # Signed levels reach one further down than up, unless narrow; the low border follows.
    return -input_high * np.float32(1.0 if narrow_range else levels / (levels - 2)), input_high


def _asymmetric_range(low: Float32Array, high: Float32Array, num_bits: int) -> tuple[Float32Array, Float32Array]:
    """A range that includes zero, has zero exactly on a level, and is never narrower than the given one.

    If zero is nearest to the lowest or the highest level, no border can be moved outwards to meet it; the range then
    stays as it is, and the zero point rounds to that level.
    """
    widening = np.where(high - low > np.float32(_LEAST_WIDTH), np.float32(0), np.float32(_LEAST_WIDTH))
    low = np.minimum(low - widening, np.float32(0))
    high = np.maximum(high + widening, np.float32(0))

    top = np.float32((1 << num_bits) - 1)
    level_of_zero = np.round(-low * (top / (high - low)))
    with np.errstate(divide="ignore", invalid="ignore"):
        moved_low = np.where(level_of_zero < top, level_of_zero / (level_of_zero - top) * high, low)
        moved_high = np.where(level_of_zero > 0, (level_of_zero - top) / level_of_zero * low, high)
    low_moves = high - moved_low > moved_high - low
    # A moved border may be -0.0.
    return np.where(low_moves, moved_low, low) + np.float32(0), np.where(low_moves, high, moved_high) + np.float32(0)
