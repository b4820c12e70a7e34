"""The tensor functions of nncf over NumPy arrays, served by the kernels.

nncf dispatches each function on the type of the array. What stands here takes the place of its NumPy implementations,
with the same arguments, result types and results:

- extrema and histograms have the bits of NumPy's;
- quantiles, percentiles and medians are interpolated in float64 and rounded once to the dtype of the array. nncf leaves
  quantiles of float32 data in float64: ours are within half a unit in the last place of float32, in which scales are
  stored. Medians of float64 data can differ in the last place. Where interpolation meets ``Inf - Inf`` and NumPy gives
  NaN, the result is the infinity;
- means accumulate in float64. NumPy sums float32 in float32: pairwise along the innermost axis, where its error is a
  few units in the last place; one after another along the other axes, where it grows with the length. Ours is within
  half a unit of the true mean. Means of few numbers are left to NumPy, so that aggregating samples gives its bits;
- masked medians have the bits of NumPy's masked arrays. Masked means differ from theirs as other means do, and where
  all is masked the result is their zero.

What the kernels do not take (integers, small arrays) or would do otherwise (histograms of float16, masked medians of
float64, NaN and Inf beside a mask) goes to nncf's own functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels

Array = npt.NDArray[Any]
Axis = int | tuple[int, ...] | None

# A kernel call takes a few hundred nanoseconds more than NumPy's own loops over so few elements.
_SMALL = 256
# Below this length NumPy's float32 sum of contiguous numbers has the bits of few additions, and takes no time.
_FEW_TERMS = 4096
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16))


def served() -> Iterator[tuple[MutableMapping[type, Callable[..., Any]], type, Callable[..., Any]]]:
    """The registries of nncf, the type of array, and the function that takes the place of the present one."""
    from nncf.tensor.functions import numeric

    for name, make in _MAKERS.items():
        registry = getattr(numeric, name).registry
        yield registry, np.ndarray, make(registry[np.ndarray])


def is_served(array: Any) -> bool:
    """Whether the kernels take an array and are worth their call."""
    return isinstance(array, np.ndarray) and array.dtype in _FLOATS and array.size >= _SMALL


def is_counted(array: Any) -> bool:
    """Whether the kernels take an array for a histogram, with NumPy's counts.

    NumPy takes the edges of bins for float16 in float16, the kernel in float32.
    """
    return is_served(array) and array.dtype != np.float16


def quantile(
    array: Array, q: npt.ArrayLike, axis: Axis = None, *, keepdims: bool = False, magnitudes: bool = False
) -> Array:
    """Quantiles in float64, as nncf has them, of values or of their magnitudes."""
    kernel = kernels.abs_quantile if magnitudes else kernels.quantile
    return np.array(kernel(array, q, axis, keepdims=keepdims, nan_policy="propagate"), dtype=np.float64)


def number_reduced(array: Array, axes: tuple[int, ...]) -> int:
    """How many elements become one by a reduction along axes."""
    return math.prod(array.shape[axis] for axis in axes)


def _max(original: Callable[..., Any]) -> Callable[..., Any]:
    def served_max(a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        if not is_served(a):
            return np.asarray(original(a, axis=axis, keepdims=keepdims))
        return np.array(kernels.min_max(a, axis, keepdims=keepdims, nan_policy="propagate")[1], dtype=a.dtype)

    return served_max


def _min(original: Callable[..., Any]) -> Callable[..., Any]:
    def served_min(a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        if not is_served(a):
            return np.asarray(original(a, axis=axis, keepdims=keepdims))
        return np.array(kernels.min_max(a, axis, keepdims=keepdims, nan_policy="propagate")[0], dtype=a.dtype)

    return served_min


def _mean(original: Callable[..., Any]) -> Callable[..., Any]:
    def served_mean(a: Array, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Array:
        if dtype is not None or not is_served(a) or a.size < _FEW_TERMS:
            return np.asarray(original(a, axis=axis, keepdims=keepdims, dtype=dtype))
        return np.array(kernels.mean(a, axis, keepdims=keepdims, nan_policy="propagate"), dtype=a.dtype)

    return served_mean


def _median(original: Callable[..., Any]) -> Callable[..., Any]:
    def served_median(a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        if not is_served(a):
            return np.asarray(original(a, axis=axis, keepdims=keepdims))
        return np.array(kernels.median(a, axis, keepdims=keepdims, nan_policy="propagate"), dtype=a.dtype)

    return served_median


def _quantile(original: Callable[..., Any]) -> Callable[..., Any]:
    def served_quantile(a: Array, q: float | Sequence[float], axis: Axis = None, keepdims: bool = False) -> Array:
        if not is_served(a):
            return np.asarray(original(a, q, axis=axis, keepdims=keepdims))
        return quantile(a, q, axis, keepdims=keepdims)

    return served_quantile


def _percentile(original: Callable[..., Any]) -> Callable[..., Any]:
    def served_percentile(a: Array, q: float | Sequence[float], axis: Axis, keepdims: bool = False) -> Any:
        if not is_served(a):
            return original(a, q, axis=axis, keepdims=keepdims)
        # nncf has a NumPy scalar here where one number is left, and an array of no dimension in the other functions.
        return quantile(a, np.true_divide(np.array(q), 100), axis, keepdims=keepdims)[()]

    return served_percentile


def _histogram(original: Callable[..., Any]) -> Callable[..., Any]:
    def served_histogram(a: Array, bins: int, *, range: tuple[float, float] | None = None) -> Array:
        if not is_counted(a):
            return np.asarray(original(a, bins, range=range))
        return kernels.histogram(a, bins, range)[0]

    return served_histogram


def masked_mean_dtype(x: Array) -> np.dtype[Any]:
    """The dtype of the mean of a masked array: NumPy divides the sum by an integer, which makes float64 of float32."""
    return x.dtype if x.dtype == np.float16 else np.dtype(np.float64)


def _masked_mean(original: Callable[..., Any]) -> Callable[..., Any]:
    def served_masked_mean(x: Array, mask: Array | None, axis: Axis, keepdims: bool = False) -> Any:
        if mask is None or not _is_masked_well(x, mask):
            return original(x, mask, axis=axis, keepdims=keepdims)
        masked = np.count_nonzero(mask, axis=axis, keepdims=keepdims)
        length = x.size // np.size(masked)
        # Zeros in their place keep the sum. Where all is masked, the mean is theirs.
        mean = kernels.mean(x * ~mask, axis, keepdims=keepdims) * (length / np.maximum(length - masked, 1))
        return np.asarray(mean, masked_mean_dtype(x))[()]

    return served_masked_mean


def _masked_median(original: Callable[..., Any]) -> Callable[..., Any]:
    def served_masked_median(x: Array, mask: Array | None, axis: Axis, keepdims: bool = False) -> Any:
        # Half of a float64 sum can differ in the last place from the point half way.
        if mask is None or x.dtype == np.float64 or not _is_masked_well(x, mask):
            return original(x, mask, axis=axis, keepdims=keepdims)
        kept = np.where(mask, x.dtype.type(np.nan), x)
        # NaN where all is masked.
        median = np.nan_to_num(kernels.median(kept, axis, keepdims=keepdims, nan_policy="ignore"))
        return np.asarray(median, x.dtype)[()]

    return served_masked_median


def _is_masked_well(x: Array, mask: Array) -> bool:
    """Whether the kernels can do without the masked elements: as zeros or NaN, so that the others must be finite."""
    return (
        is_served(x)
        and mask.dtype == np.bool_
        and mask.shape == x.shape
        and not mask.all()
        and bool(np.isfinite(kernels.min_max(x, nan_policy="propagate")).all())
    )


_MAKERS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "max": _max,
    "min": _min,
    "mean": _mean,
    "median": _median,
    "quantile": _quantile,
    "percentile": _percentile,
    "histogram": _histogram,
    "masked_mean": _masked_mean,
    "masked_median": _masked_median,
}
