"""The reducers and aggregators of nncf that take several steps over an array, served in one.

- Quantiles of one tensor that are asked for apart -- one branch for the lower bound, one for the upper -- come from one
  read.
- A reducer whose aggregators have all the samples that they take does not reduce more. Of a weight nncf takes one
  sample, yet shows it to the reducers with every image.
- The magnitudes of ABS_MAX and ABS_QUANTILE are not written out before they are reduced.
- The no-outliers aggregators take the quantiles, the mask and the mean or median of the rest from one kernel, without
  NumPy's masked arrays.
- The HISTOGRAM aggregator reads a tensor once: where the bins of the range so far count all of its values, the range
  stays, and minimum and maximum are not asked for.
- It searches its range over plain float64 numbers. The search is nncf's, step by step and with its operations in its
  order, so the range has its bits; what goes away is the wrapping of every number in a tensor.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import kernels
from quantstats.integrations.nncf.tensor_functions import (
    is_counted,
    is_served,
    masked_mean_dtype,
    number_reduced,
    quantile,
)

Array = npt.NDArray[Any]
Float64Array = npt.NDArray[np.float64]

# How far apart in probability the bounds that nncf's search tries are.
_PROBABILITY_STEP = 1e-5


def served() -> Iterator[tuple[type, str, Callable[..., Any]]]:
    """The classes of nncf, the name of a method, and the function that takes its place."""
    from nncf.common.tensor_statistics import collectors

    for owner, name, make in (
        (collectors.AbsMaxReducer, "_reduce_out_of_place", _abs_max),
        (collectors.TensorCollector, "register_inputs", _register_inputs),
        (collectors.QuantileReducer, "_reduce_out_of_place", _quantile),
        (collectors.AbsQuantileReducer, "_reduce_out_of_place", _abs_quantile),
        (collectors.HistogramAggregator, "_register_reduced_input_impl", _register_in_histogram),
        (collectors.HistogramAggregator, "_non_linear_param_search", _histogram_search),
    ):
        yield owner, name, make(owner.__dict__[name])
    base = collectors.NoOutliersAggregatorBase
    yield base, "_aggregation_fn", _no_outliers(base.__dict__["_aggregation_fn"])


def _abs_max(original: Callable[..., Any]) -> Callable[..., Any]:
    from nncf.common.tensor_statistics.collectors import determine_reduction_axes
    from nncf.tensor import Tensor

    def abs_max(self: Any, x: list[Any]) -> list[Any]:
        array = x[0].data
        if not is_served(array):
            return list(original(self, x))
        axes = determine_reduction_axes(array.ndim, self._axes, self._axes_mode)
        found = kernels.abs_max(array, axes, keepdims=self._keepdims, nan_policy="propagate")
        return [Tensor(np.array(found, dtype=array.dtype))]

    return abs_max


class _Shared(threading.local):
    """The probabilities that the reducers of one collector ask for, while it reduces a sample, and what was found."""

    def __init__(self) -> None:
        self.wanted: Mapping[_Request, tuple[float, ...]] = {}
        self.found: dict[_Request, dict[float, Array]] = {}


# Which kind of quantiles of which array, reduced along which axes.
_Request = tuple[type, int, tuple[int, ...]]
_shared = _Shared()


def _register_inputs(original: Callable[..., Any]) -> Callable[..., Any]:
    from nncf.common.tensor_statistics.collectors import QuantileReducerBase

    def register_inputs(self: Any, inputs: Mapping[int, list[Any]]) -> None:
        if type(self).register_inputs is not register_inputs or not self.enabled:
            original(self, inputs)
            return
        waiting = {key[0] for key, aggregator in self._aggregators.items() if not _is_full(aggregator)}
        reducers = [(hash(reducer), reducer) for reducer in self._reducers]
        wanted: dict[_Request, tuple[float, ...]] = {}
        for reducer_hash, reducer in reducers:
            if reducer_hash in waiting and isinstance(reducer, QuantileReducerBase):
                request = _request(reducer, inputs[reducer_hash][0].data)
                wanted[request] = (*wanted.get(request, ()), *reducer._quantile)
        _shared.wanted, _shared.found = wanted, {}
        try:
            reduced = {
                reducer_hash: reducer(inputs[reducer_hash])
                for reducer_hash, reducer in reducers
                if reducer_hash in waiting
            }
        finally:
            _shared.wanted, _shared.found = {}, {}
        for (reducer_hash, port, _), aggregator in self._aggregators.items():
            outputs = reduced.get(reducer_hash)
            if outputs is not None:
                aggregator.register_reduced_input(outputs[port])

    return register_inputs


def _is_full(aggregator: Any) -> bool:
    """Whether an aggregator passes over all further samples."""
    from nncf.common.tensor_statistics.collectors import AggregatorBase

    return (
        type(aggregator).register_reduced_input is AggregatorBase.register_reduced_input
        and aggregator._num_samples is not None
        and aggregator._collected_samples >= aggregator._num_samples
    )


def _request(reducer: Any, array: Array) -> _Request:
    from nncf.common.tensor_statistics.collectors import determine_reduction_axes

    return type(reducer), id(array), determine_reduction_axes(array.ndim, reducer._axes, reducer._axes_mode)


def _quantile(original: Callable[..., Any]) -> Callable[..., Any]:
    return _quantiles(original, magnitudes=False)


def _abs_quantile(original: Callable[..., Any]) -> Callable[..., Any]:
    return _quantiles(original, magnitudes=True)


def _quantiles(original: Callable[..., Any], *, magnitudes: bool) -> Callable[..., Any]:
    from nncf.tensor import Tensor

    def quantiles(self: Any, x: list[Any]) -> list[Any]:
        array = x[0].data
        if not is_served(array):
            return list(original(self, x))
        request = _request(self, array)
        planes = _shared.found.get(request)
        if planes is None:
            probabilities = tuple(dict.fromkeys(_shared.wanted.get(request, self._quantile)))
            found = quantile(array, probabilities, request[2], keepdims=self._keepdims, magnitudes=magnitudes)
            planes = dict(zip(probabilities, found, strict=True))
            if request in _shared.wanted:
                _shared.found[request] = planes
        return [Tensor(planes[probability]) for probability in self._quantile]

    return quantiles


def _no_outliers(original: Callable[..., Any]) -> Callable[..., Any]:
    from nncf.common.tensor_statistics.collectors import MeanNoOutliersAggregator, MedianNoOutliersAggregator
    from nncf.tensor import Tensor

    kernel_of = {
        MeanNoOutliersAggregator: kernels.mean_no_outliers,
        MedianNoOutliersAggregator: kernels.median_no_outliers,
    }

    def no_outliers(self: Any, stacked_value: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
        array, kernel = stacked_value.data, kernel_of.get(type(self))
        if kernel is None or not is_served(array) or not _keeps_some(number_reduced(array, axis), self._quantile):
            return original(self, stacked_value, axis, keepdims)
        found = kernel(array, axis, quantile=self._quantile, keepdims=keepdims, nan_policy="propagate")
        dtype = masked_mean_dtype(array) if isinstance(self, MeanNoOutliersAggregator) else array.dtype
        return Tensor(np.asarray(found, dtype)[()])

    return no_outliers


def _keeps_some(length: int, quantile: float) -> bool:
    """Whether some rank lies between the quantiles, so that its value is no outlier.

    Where none does, nncf can drop all samples and go on with zero, while the kernels keep them all.
    """
    return math.ceil(quantile * (length - 1)) <= math.floor((1 - quantile) * (length - 1))


def _register_in_histogram(original: Callable[..., Any]) -> Callable[..., Any]:
    from nncf.tensor import Tensor

    def register(self: Any, x: Any) -> None:
        array, low, high = x.data, self.min_val, self.max_val
        # Equal bounds are moved apart by half a unit either side before values are counted.
        if low is not None and high is not None and low < high and is_counted(array):
            counts = kernels.histogram(array, self.bins, (low, high))[0]
            if int(counts.sum()) == array.size:
                self.histogram = self.histogram + Tensor(counts)
                return
        original(self, x)

    return register


def _histogram_search(original: Callable[..., Any]) -> Callable[..., Any]:
    def search(self: Any) -> tuple[float, float]:
        histogram = self.histogram.data
        if not isinstance(histogram, np.ndarray):
            low, high = original(self)
            return float(low), float(high)
        return _search_range(histogram, self.min_val, self.max_val, self.dst_nbins)

    return search


def _search_range(histogram: Array, low: float, high: float, levels: int) -> tuple[float, float]:
    """The range that nncf finds by moving the bounds inwards, by equal probabilities, while the error falls."""
    bins = histogram.shape[0]
    width = (high - low) / bins
    total = np.sum(histogram).item()
    cumulative = np.cumsum(histogram, axis=0).tolist()
    error_of = _ErrorOfRange(histogram, width, levels)
    lower, upper = 0.0, 1.0
    start, end = 0, bins - 1
    least = float("inf")
    while lower < upper:
        next_lower, next_upper = lower + _PROBABILITY_STEP, upper - _PROBABILITY_STEP
        left, right = start, end
        below, above = next_lower * total, next_upper * total
        while left < end and cumulative[left] < below:
            left += 1
        while right > start and cumulative[right] > above:
            right -= 1
        next_start, next_end = start, end
        if left - start > end - right:
            next_start, lower = left, next_lower
        else:
            next_end, upper = right, next_upper
        if (next_start, next_end) == (start, end):
            continue
        error = error_of(next_start, next_end)
        if error > least:
            break
        least, start, end = error, next_start, next_end
    return low + width * start, low + width * (end + 1)


class _ErrorOfRange:
    """The squared error of rounding a histogram's values, uniform within each bin, to the middles of equal intervals.

    The operations on each number are nncf's in nncf's order: anything else would change the last bits, and with them
    now and then the bin at which the search stops.
    """

    def __init__(self, histogram: Array, width: float, levels: int) -> None:
        self._bins = np.arange(0, histogram.shape[0])
        self._density = histogram / width if width else histogram
        self._width = width
        self._levels = levels

    def __call__(self, start: int, end: int) -> float:
        width = self._width * (end - start + 1) / self._levels
        if width == 0.0:
            return 0.0
        density = self._density
        begins = (self._bins - start) * self._width
        ends = begins + self._width
        interval_of_begin = np.clip(np.floor(begins / width), 0, self._levels - 1)
        interval_of_end = np.clip(np.floor(ends / width), 0, self._levels - 1)
        half = width / 2
        norm = _norm(begins - (interval_of_begin + 0.5) * width, np.full(begins.shape, half), density)
        norm += (interval_of_end - interval_of_begin - 1) * _norm(-half, half, density)
        norm += _norm(-half, ends - (interval_of_end * width + half), density)
        return float(np.sum(norm).item())


def _norm(begin: Float64Array | float, end: Float64Array | float, density: Float64Array) -> Float64Array:
    """The integral of ``density * x**2``."""
    norm = (end * end * end - begin * begin * begin) / 3
    return density * norm
