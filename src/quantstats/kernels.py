"""Array in, array out: the kernels as plain functions.

Arrays are float32, float64, float16 or bfloat16, of any shape and any strides; 16-bit floats are converted in
registers. They may be NumPy's or anything that has DLPack (torch, jax, onnxruntime's OrtValue), the buffer protocol or
``__array_interface__``, and are read in place, as an ``out`` is written in place; nothing is copied.

Results are float64 for float64 input and float32 for the others, which is exact for order statistics. They do not
depend on the instruction set in use. With ``axis=None`` and without ``keepdims`` a result is a NumPy scalar.

No call takes more memory besides its results than 6 % of its arrays and 2 MB, whatever the layout and the number of
threads; `histogram` needs 24 bytes for each bin as well. Threads keep theirs for the next call.

What is common to all functions:

axis
    ``None`` (all axes), an integer or a tuple of integers; negative ones count from the end.
keepdims
    Keep reduced axes with size one.
nan_policy
    ``"raise"`` (ValueError that tells the number of NaN), ``"ignore"`` (leave NaN out; NaN where nothing is left) or
    ``"propagate"`` (NaN for every slice that holds one). Infinities are ordinary values.

Errors: TypeError for an array of another dtype, on another device than the CPU, with a mask (``numpy.ma``), or not
shared by its owner (a torch tensor that requires gradients: pass ``x.detach()``), ``numpy.exceptions.AxisError`` for an
axis out of range, ValueError for a repeated axis and for a reduction over no elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from quantstats._core import _active

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from quantstats.typing import Tensor

    Axis = int | tuple[int, ...] | list[int] | None
    NanPolicy = Literal["raise", "ignore", "propagate"]
    Values = NDArray[Any] | np.floating[Any]
    Counts = NDArray[np.int64] | np.int64
    Edge = float | np.floating[Any]

__all__ = [
    "Summary",
    "abs_max",
    "abs_quantile",
    "bit_histogram",
    "dequantize_linear",
    "fake_quantize",
    "histogram",
    "mean",
    "mean_no_outliers",
    "median",
    "median_no_outliers",
    "min_max",
    "quantile",
    "quantize_linear",
    "saturating_matmul",
    "summarize",
]


class Summary(NamedTuple):
    """What `summarize` finds of one array; every value has the shape of a reduction along the same axes.

    Counts are int64; the other values are float64 for float64 input, else float32.
    """

    min: Values
    max: Values
    abs_max: Values
    mean: Values
    #: one plane per probability, along the leading axis
    quantiles: NDArray[Any]
    nan_count: Counts
    pos_inf_count: Counts
    neg_inf_count: Counts

    @property
    def inf_count(self) -> Counts:
        """Number of infinities of either sign."""
        return self.pos_inf_count + self.neg_inf_count


def min_max(
    x: Tensor, axis: Axis = None, *, keepdims: bool = False, nan_policy: NanPolicy = "raise"
) -> tuple[Values, Values]:
    """Return minimum and maximum along ``axis``, found in one read of ``x``.

    A zero is returned as +0.0, whichever zeros ``x`` holds.
    """
    return _active.min_max(x, axis, keepdims, nan_policy)


def abs_max(x: Tensor, axis: Axis = None, *, keepdims: bool = False, nan_policy: NanPolicy = "raise") -> Values:
    """Return the largest magnitude, ``max(abs(x))``, along ``axis``."""
    return _active.abs_max(x, axis, keepdims, nan_policy)


def mean(x: Tensor, axis: Axis = None, *, keepdims: bool = False, nan_policy: NanPolicy = "raise") -> Values:
    """Return the arithmetic mean along ``axis``.

    Accumulates in float64, in a fixed order that depends on the shape and the memory layout of ``x`` alone, and rounds
    once to the dtype of the result. Opposite infinities give NaN.
    """
    return _active.mean(x, axis, keepdims, nan_policy)


def quantile(
    x: Tensor, q: ArrayLike, axis: Axis = None, *, keepdims: bool = False, nan_policy: NanPolicy = "raise"
) -> Values:
    """Return the exact quantiles of ``x`` along ``axis`` with linear interpolation, at the cost of about one read.

    Equals ``np.quantile(x.astype(np.float64), q, axis)``, rounded to the dtype of the result: rank ``q * (n - 1)``,
    fraction and interpolation are float64. Where NumPy's formula meets ``Inf - Inf`` and gives NaN, the value is the
    order statistic itself or the limit, so NaN results from a position between -Inf and +Inf alone.

    :param x: array of any shape and strides.
    :param q: a probability in [0, 1], or an array of them, whose shape then leads the shape of the result.
    :raises ValueError: if a probability is outside [0, 1].
    """
    return _active.quantile(x, q, axis, keepdims, nan_policy)


def abs_quantile(
    x: Tensor, q: ArrayLike, axis: Axis = None, *, keepdims: bool = False, nan_policy: NanPolicy = "raise"
) -> Values:
    """Return the exact quantiles of the magnitudes ``abs(x)`` along ``axis``; see `quantile`."""
    return _active.abs_quantile(x, q, axis, keepdims, nan_policy)


def median(x: Tensor, axis: Axis = None, *, keepdims: bool = False, nan_policy: NanPolicy = "raise") -> Values:
    """Return the median along ``axis``: the 0.5 `quantile`."""
    return _active.median(x, axis, keepdims, nan_policy)


def summarize(
    x: Tensor,
    axis: Axis = None,
    *,
    quantiles: Sequence[float] = (),
    keepdims: bool = False,
    nan_policy: NanPolicy = "raise",
    histogram: Tensor | None = None,
) -> Summary:
    """Return minimum, maximum, largest magnitude, mean, quantiles and counts of NaN and Inf along ``axis``.

    Every value has the bits that `min_max`, `abs_max`, `mean` and `quantile` give. Where the innermost axis in memory
    is among the reduced ones, all of them come from one read of ``x``; where it is kept, quantiles take another.

    :param x: array of any shape and strides.
    :param quantiles: probabilities in [0, 1]; they lead the shape of `Summary.quantiles`.
    :param histogram: 65,536 counters to which all values of ``x`` are added, as by `bit_histogram`; unchanged if an
        error is raised. The values are counted in the same read where that is faster than another one: in arrays of
        32 MB and more that are reduced along runs of memory.
    :raises ValueError: if a probability is outside [0, 1].
    :raises TypeError: if `histogram` is another kind of array.
    """
    return Summary(*_active.summarize(x, axis, quantiles, keepdims, nan_policy, histogram))


def mean_no_outliers(
    x: Tensor,
    axis: Axis = 0,
    *,
    quantile: float = 1e-4,
    keepdims: bool = False,
    nan_policy: NanPolicy = "raise",
) -> Values:
    """Return the mean along ``axis`` of the values that are not outliers.

    An outlier lies strictly below the ``quantile``-quantile of its slice, or strictly above the (1 - ``quantile``)-
    quantile; quantiles are float64 numbers, whatever the dtype of ``x``, and values are compared with them unrounded.
    These are the survivors of ``nncf``'s no-outliers aggregators. Where every value is an outlier -- the quantiles of
    two different values lie between them -- all are kept. An infinity that survives enters the mean.

    The sum depends on the set of values alone, not on their order, and its error is below one unit in the last place
    of float64 relative to the greatest magnitude.

    :param x: array of any shape and strides; by default axis 0 holds the samples.
    :param quantile: probability of an outlier on either side, in (0, 0.5).
    :raises ValueError: if ``quantile`` is outside (0, 0.5).
    """
    return _active.mean_no_outliers(x, axis, quantile, keepdims, nan_policy)


def median_no_outliers(
    x: Tensor,
    axis: Axis = 0,
    *,
    quantile: float = 1e-4,
    keepdims: bool = False,
    nan_policy: NanPolicy = "raise",
) -> Values:
    """Return the `median` along ``axis`` of the values that are not outliers; see `mean_no_outliers`."""
    return _active.median_no_outliers(x, axis, quantile, keepdims, nan_policy)


@overload
def saturating_matmul(a_u8: Tensor, b_s8: Tensor, *, return_count: Literal[False] = ...) -> NDArray[np.int32]: ...
@overload
def saturating_matmul(a_u8: Tensor, b_s8: Tensor, *, return_count: Literal[True]) -> tuple[NDArray[np.int32], int]: ...
def saturating_matmul(
    a_u8: Tensor, b_s8: Tensor, *, return_count: bool = False
) -> NDArray[np.int32] | tuple[NDArray[np.int32], int]:
    """Return ``a_u8 @ b_s8`` as CPUs without VNNI compute it, by ``vpmaddubsw`` and ``vpmaddwd``.

    The products of elements 2i and 2i + 1 of the reduction axis are added and saturated to 16 bits; the pairs are added
    in 32 bits, which wrap around. An odd length is padded with a zero. Uses 272 KB of scratch memory.

    :param a_u8: uint8 matrix [M, K], of any strides.
    :param b_s8: int8 matrix [K, N], of any strides.
    :param return_count: also return how many of the M * ceil(K / 2) * N pairs saturated. Takes about three times as
        long.
    :return: int32 matrix [M, N], or that and the count.
    :raises ValueError: if an argument is no matrix, or the shapes do not match.
    :raises TypeError: if an argument has another dtype.
    """
    return _active.saturating_matmul(a_u8, b_s8, return_count)


def histogram(x: Tensor, bins: int, range: tuple[Edge, Edge] | None = None) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return counts in equal bins, and the bin edges, equal to those of ``numpy.histogram(x, bins, range)``.

    A bin holds the values from its lower edge, included, to the next edge, excluded; the last one includes both.
    float16 and bfloat16 input counts as ``x.astype(numpy.float32)``.

    Where the range is below about 5e-41, so that its edges are denormal numbers, NumPy counts some values beside the
    bin in which its own edges have them; the counts here are those of the edges.

    :param x: array of any shape and strides.
    :param bins: number of bins, at least 1.
    :param range: lowest and highest edge, both finite; values outside and NaN are left out. None takes the least and
        the greatest value of `x`, which must then be finite. Equal edges are moved apart by 0.5 on either side.
    :return: int64 counts of shape (`bins`,) and edges of shape (`bins` + 1,), of the dtype that NumPy gives them.
    :raises ValueError: if `bins` is not positive, `range` is not finite or descends, its edges cannot be told apart in
        their dtype, or `range` is None and `x` holds NaN or Inf.
    :raises TypeError: if `bins` is no integer or `range` no pair.
    """
    return _active.histogram(x, bins, range)


def bit_histogram(x: Tensor, counts: Tensor) -> int:
    """Add the values of ``x`` to 65,536 counters and return the number of NaN, which are not counted.

    The counter of a value is the upper half h of its float32 bits (sign, exponent, 7 bits of mantissa), so ordered that
    counters ascend with the values: ``~h`` for a set sign bit, else ``h | 0x8000``. Every bin but those next to zero is
    1/128 of a power of two wide. Infinities have bins of their own. float64 is cut to float32 towards zero, as the bins
    cut float32.

    :param x: array of any shape and strides.
    :param counts: writeable, C-contiguous uint64 array of shape (65536,), changed in place; no memory of `x`.
    :raises TypeError: if `counts` is another kind of array.
    :raises ValueError: if `counts` overlaps `x`.
    """
    return _active.bit_histogram(x, counts)


def quantize_linear(
    x: Tensor,
    scale: ArrayLike | Tensor,
    zero_point: ArrayLike | Tensor,
    *,
    axis: int | None = None,
    qmin: int,
    qmax: int,
    dtype: DTypeLike = "int8",
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the integer levels of ``x``: ``clip(round(x / scale) + zero_point, qmin, qmax)``, as ONNX QuantizeLinear.

    The quotient is the float32 one, bit for bit, and is rounded half to even. NaN becomes the zero point, infinities
    saturate. float64 input is rounded to float32 first.

    :param x: array of any shape and strides.
    :param scale: positive and finite; one number, or one for every channel. Rounded to float32.
    :param zero_point: integer in [`qmin`, `qmax`]; one, or one for every channel.
    :param axis: the channel axis of `x`, needed when there are several scales or zero points.
    :param qmin: lowest level; -8 to 7 in int8 stand for four bits, say.
    :param qmax: highest level, above `qmin`.
    :param dtype: int8, uint8, int16 or uint16.
    :param out: array of the shape of `x` and of `dtype` that takes the result, of any strides that keep its elements
        apart; must not overlap `x`.
    :return: a C-contiguous array of `dtype`, or `out`.
    :raises ValueError: if a scale is not positive and finite, a zero point or level is out of its range, the number of
        scales or zero points is not the size of `axis`, or `out` has another shape, is read-only, overlaps `x`, or has
        elements that share memory.
    :raises TypeError: if a dtype is none of those named.
    """
    return _active.quantize_linear(x, scale, zero_point, axis, qmin, qmax, dtype, out)


def dequantize_linear(
    q: Tensor,
    scale: ArrayLike | Tensor,
    zero_point: ArrayLike | Tensor,
    *,
    axis: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[np.float32]:
    """Return the real values of the levels ``q``: ``(q - zero_point) * scale`` in float32, as ONNX DequantizeLinear.

    :param q: int8, uint8, int16, uint16 or int32 array of any shape and strides.
    :param scale: positive and finite; one number, or one for every channel. Rounded to float32.
    :param zero_point: integer in the range of the dtype of `q`, one, or one for every channel; 0 for int32, which holds
        biases.
    :param axis: the channel axis of `q`, needed when there are several scales or zero points.
    :param out: float32 array of the shape of `q`, of any strides; must not overlap `q`, unless it shares its elements.
    :return: a C-contiguous float32 array, or `out`.
    :raises ValueError: as `quantize_linear`.
    :raises TypeError: if a dtype is none of those named.
    """
    return _active.dequantize_linear(q, scale, zero_point, axis, out)


def fake_quantize(
    x: Tensor,
    scale: ArrayLike | Tensor,
    zero_point: ArrayLike | Tensor,
    *,
    axis: int | None = None,
    qmin: int,
    qmax: int,
    out: NDArray[Any] | None = None,
) -> NDArray[np.float32]:
    """Return ``x`` as it is after quantization: `quantize_linear`, then `dequantize_linear`, in one pass.

    :param x: array of any shape and strides.
    :param scale: as in `quantize_linear`.
    :param zero_point: as in `quantize_linear`.
    :param axis: as in `quantize_linear`.
    :param qmin: lowest level, -32768 or more.
    :param qmax: highest level, above `qmin`, 65535 or less.
    :param out: float32 array of the shape of `x`, of any strides; a float32 `x` itself, or no memory of `x`.
    :return: a C-contiguous float32 array, or `out`. A zero is +0.0; NaN becomes 0.
    :raises ValueError: as `quantize_linear`.
    :raises TypeError: if a dtype is none of those named.
    """
    return _active.fake_quantize(x, scale, zero_point, axis, qmin, qmax, out)
