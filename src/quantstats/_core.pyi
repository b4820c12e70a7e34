from collections.abc import Sequence
from typing import Any, Literal, TypedDict, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from quantstats.typing import Tensor

_Axis = int | tuple[int, ...] | list[int] | None
_NanPolicy = Literal["raise", "ignore", "propagate"]
# An array, or a NumPy scalar where the result has no dimensions.
_Values = NDArray[Any] | np.floating[Any]
_Counts = NDArray[np.int64] | np.int64
_Edge = float | np.floating[Any]

class Target:
    @property
    def isa(self) -> str: ...
    def min_max(self, x: Tensor, axis: _Axis, keepdims: bool, nan_policy: _NanPolicy, /) -> tuple[_Values, _Values]: ...
    def abs_max(self, x: Tensor, axis: _Axis, keepdims: bool, nan_policy: _NanPolicy, /) -> _Values: ...
    def mean(self, x: Tensor, axis: _Axis, keepdims: bool, nan_policy: _NanPolicy, /) -> _Values: ...
    def quantile(self, x: Tensor, q: ArrayLike, axis: _Axis, keepdims: bool, nan_policy: _NanPolicy, /) -> _Values: ...
    def abs_quantile(
        self, x: Tensor, q: ArrayLike, axis: _Axis, keepdims: bool, nan_policy: _NanPolicy, /
    ) -> _Values: ...
    def median(self, x: Tensor, axis: _Axis, keepdims: bool, nan_policy: _NanPolicy, /) -> _Values: ...
    # the number of order statistics that missed their sampled bracket
    def _quantile_fallbacks(self, x: Tensor, q: ArrayLike, axis: _Axis, magnitude: bool) -> int: ...
    def mean_no_outliers(
        self, x: Tensor, axis: _Axis, quantile: float, keepdims: bool, nan_policy: _NanPolicy, /
    ) -> _Values: ...
    def median_no_outliers(
        self, x: Tensor, axis: _Axis, quantile: float, keepdims: bool, nan_policy: _NanPolicy, /
    ) -> _Values: ...
    # quantiles whatever the layout, NaN left out, and the number of columns that were found by bisection
    def _column_quantiles(
        self, x: Tensor, q: Sequence[float], axis: _Axis, magnitude: bool
    ) -> tuple[_Values, _Counts, int]: ...
    # min, max, abs_max, mean, quantiles, and the counts of NaN, +Inf and -Inf
    def summarize(
        self,
        x: Tensor,
        axis: _Axis,
        quantiles: ArrayLike,
        keepdims: bool,
        nan_policy: _NanPolicy,
        histogram: Tensor | None,
        /,
    ) -> tuple[_Values, _Values, _Values, _Values, NDArray[Any], _Counts, _Counts, _Counts]: ...
    @overload
    def saturating_matmul(self, a_u8: Tensor, b_s8: Tensor, return_count: Literal[False]) -> NDArray[np.int32]: ...
    @overload
    def saturating_matmul(
        self, a_u8: Tensor, b_s8: Tensor, return_count: Literal[True]
    ) -> tuple[NDArray[np.int32], int]: ...
    @overload
    def saturating_matmul(
        self, a_u8: Tensor, b_s8: Tensor, return_count: bool
    ) -> NDArray[np.int32] | tuple[NDArray[np.int32], int]: ...
    def certify_pairs(
        self, rows: NDArray[np.int8], positive_limit: int, negative_limit: int, any_pairs: bool, count: bool, /
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64] | None]: ...
    def histogram(
        self, x: Tensor, bins: int, range: tuple[_Edge, _Edge] | None
    ) -> tuple[NDArray[np.int64], NDArray[Any]]: ...
    def bit_histogram(self, x: Tensor, counts: Tensor) -> int: ...
    def quantize_linear(
        self,
        x: Tensor,
        scale: ArrayLike | Tensor,
        zero_point: ArrayLike | Tensor,
        axis: int | None,
        qmin: int,
        qmax: int,
        dtype: DTypeLike,
        out: NDArray[Any] | None,
        /,
    ) -> NDArray[Any]: ...
    def dequantize_linear(
        self,
        q: Tensor,
        scale: ArrayLike | Tensor,
        zero_point: ArrayLike | Tensor,
        axis: int | None,
        out: NDArray[Any] | None,
        /,
    ) -> NDArray[np.float32]: ...
    def fake_quantize(
        self,
        x: Tensor,
        scale: ArrayLike | Tensor,
        zero_point: ArrayLike | Tensor,
        axis: int | None,
        qmin: int,
        qmax: int,
        out: NDArray[Any] | None,
        /,
    ) -> NDArray[np.float32]: ...

class _BuildInfo(TypedDict):
    isa_built: tuple[str, ...]
    isa_runnable: tuple[str, ...]
    isa_active: str
    compiler: str
    build_type: str

# the memory of x as an array, and whether its elements, then given as uint16, are bfloat16
def share_memory(x: object) -> tuple[NDArray[Any], bool]: ...
def build_info() -> _BuildInfo: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...

# CPUs that the operating system grants, and the quota of the cgroup (0.0: none), by the files below `root`
def _usable_cpus(root: str) -> int: ...
def _cgroup_cpus(root: str) -> float: ...

_targets: dict[str, Target]
_active: Target
_C_API: Any  # PyCapsule "quantstats._core._C_API", see quantstats/capi.h
