"""Every function of the C interface gives the bits of the Python function, and refuses what is wrong."""

from __future__ import annotations

import ctypes
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import quantstats
from quantstats import _core, kernels

from .library import (
    ALL_AXES,
    ERROR_ARGUMENT,
    ERROR_ENVIRONMENT,
    ERROR_MEMORY,
    ERROR_VERSION,
    MEMBERS,
    OK,
    Capi,
    Library,
    Quantization,
    Summary,
    Tensor,
    axes_of,
    declared_members,
    library_path,
    result_dtype,
    tensor,
)

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
RNG = np.random.default_rng(5)
X = RNG.standard_normal((6, 40, 9))
X[1, 2, 3] = X[5, 0, 0] = np.nan
X[0, 0, 0] = np.inf

LAYOUTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.T,
    "strided, reversed": lambda x: x[::-1, ::3, 1::2],
    "broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
}
AXES: tuple[Any, ...] = (None, 0, 2, (0, 2), (0, 1, 2))

# The function, the arguments between axes and results, how many planes of results, and the Python function.
STATISTICS: dict[str, tuple[tuple[Any, ...], int, Callable[[NDArray[Any], Any], Any]]] = {
    "abs_max": ((), 1, lambda x, axis: kernels.abs_max(x, axis, nan_policy="ignore")),
    "mean": ((), 1, lambda x, axis: kernels.mean(x, axis, nan_policy="ignore")),
    "median": ((), 1, lambda x, axis: kernels.median(x, axis, nan_policy="ignore")),
    "quantile": (
        (np.array([0.5, 0.001, 1.0]), 3),
        3,
        lambda x, axis: kernels.quantile(x, [0.5, 0.001, 1.0], axis, nan_policy="ignore"),
    ),
    "abs_quantile": (
        (np.array([0.99, 0.2]), 2),
        2,
        lambda x, axis: kernels.abs_quantile(x, [0.99, 0.2], axis, nan_policy="ignore"),
    ),
    "mean_no_outliers": (
        (0.05,),
        1,
        lambda x, axis: kernels.mean_no_outliers(x, axis, quantile=0.05, nan_policy="ignore"),
    ),
    "median_no_outliers": (
        (0.05,),
        1,
        lambda x, axis: kernels.median_no_outliers(x, axis, quantile=0.05, nan_policy="ignore"),
    ),
}


def nan_counts(x: NDArray[Any], axis: Any) -> NDArray[np.int64]:
    return np.asarray(np.isnan(x.astype(np.float64)).sum(axis=axis, dtype=np.int64)).ravel()


@pytest.fixture
def _one_thread_after() -> Iterator[None]:
    before = quantstats.get_num_threads()
    yield
    quantstats.set_num_threads(before)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics(library: Library, name: str, dtype: Any, layout: str) -> None:
    between, planes, reference = STATISTICS[name]
    x = LAYOUTS[layout](X.astype(dtype))
    for axis in AXES:
        axes = axes_of(axis, x.ndim)
        outputs = library.call("outputs", x, axes)
        values, nan = np.full(planes * outputs, 7, result_dtype(x)), np.full(outputs, -1)
        assert library.call(name, x, axes, *between, values, nan) == OK
        np.testing.assert_array_equal(values, np.asarray(reference(x, axis)).ravel(), strict=True)
        np.testing.assert_array_equal(nan, nan_counts(x, axis))
        again = np.zeros_like(values)
        assert library.call(name, x, axes, *between, again, None) == OK
        np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_extrema_and_summary(library: Library, dtype: Any, layout: str) -> None:
    x = LAYOUTS[layout](X.astype(dtype))
    q = np.array([0.25, 0.999])
    for axis in AXES:
        axes = axes_of(axis, x.ndim)
        outputs = library.call("outputs", x, axes)
        summary = kernels.summarize(x, axis, quantiles=q, nan_policy="ignore")
        low, high, peak, mean = (np.zeros(outputs, result_dtype(x)) for _ in range(4))
        nan, pos_inf, neg_inf = (np.full(outputs, -1) for _ in range(3))
        assert library.call("min_max", x, axes, low, high, nan) == OK
        np.testing.assert_array_equal(low, np.ravel(summary.min))
        np.testing.assert_array_equal(high, np.ravel(summary.max))
        np.testing.assert_array_equal(nan, np.ravel(summary.nan_count))
        assert library.call("min_max", x, axes, None, peak, None) == OK
        np.testing.assert_array_equal(peak, high)

        values = np.zeros(2 * outputs, result_dtype(x))
        wanted = [low, high, peak, mean, nan, pos_inf, neg_inf]
        pointers = [a.ctypes.data for a in wanted]
        to = Summary(ctypes.sizeof(Summary), *pointers)
        assert library.call("summarize", x, axes, ctypes.pointer(to), q, 2, values) == OK
        expected = (*summary[:4], *summary[5:])
        for ours, theirs in zip(wanted, expected, strict=True):
            np.testing.assert_array_equal(ours, np.ravel(theirs))
        np.testing.assert_array_equal(values, np.ravel(summary.quantiles))

        # Any of them may be left out.
        mean[:] = 0
        only = Summary(ctypes.sizeof(Summary), None, None, None, mean.ctypes.data, None, None, None)
        assert library.call("summarize", x, axes, ctypes.pointer(only), None, 0, None) == OK
        np.testing.assert_array_equal(mean, np.ravel(summary.mean))


def test_no_elements(library: Library) -> None:
    x = np.zeros((3, 0), np.float32)
    values, nan = np.zeros(6, np.float32), np.full(3, 9)
    q = np.array([0.1, 0.9])
    for name, between in (
        ("abs_max", ()),
        ("mean", ()),
        ("median", ()),
        ("quantile", (q, 2)),
        ("mean_no_outliers", (0.1,)),
    ):
        values[:], nan[:] = 0, 9
        assert library.call(name, x, 2, *between, values, nan) == OK
        planes = 2 if name == "quantile" else 1
        assert np.isnan(values[: 3 * planes]).all()
        assert (values[3 * planes :] == 0).all()
        assert (nan == 0).all()
        # Without outputs nothing is written.
        assert library.call(name, x.T, 2, *between, values, nan) == OK
    counts = np.full(4, 9)
    assert library.call("histogram", x, 0.0, 1.0, 4, counts, None) == OK
    assert (counts == 0).all()
    assert library.call("quantize_f32_s8", None, 0, 0.1, 0, -8, 7, None) == 0


def test_c_order_without_strides(library: Library) -> None:
    x = X.astype(np.float32)
    given = tensor(x, strides=False)
    values = np.zeros(40, np.float32)
    assert library.call("median", ctypes.pointer(given), axes_of((0, 2), 3), values, None) == OK
    np.testing.assert_array_equal(values, kernels.median(x, (0, 2), nan_policy="ignore"))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize(("low", "high", "bins"), [(-1.0, 1.0, 10), (0.0, 0.3, 7), (0.5, 0.5, 3), (-3e3, 1e-3, 2048)])
def test_histogram(library: Library, dtype: Any, low: float, high: float, bins: int) -> None:
    x = LAYOUTS["strided, reversed"](X.astype(dtype))
    wide = x.astype(result_dtype(x))
    expected_counts, expected_edges = np.histogram(wide[np.isfinite(wide)], bins, (low, high))
    counts, edges = np.full(bins, 9), np.zeros(bins + 1, result_dtype(x))
    assert library.call("histogram", x, low, high, bins, counts, edges) == OK
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_array_equal(edges, expected_edges, strict=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_bit_histogram(library: Library, dtype: Any) -> None:
    x = LAYOUTS["transposed"](X.astype(dtype))
    counts, expected = np.ones(65536, np.uint64), np.ones(65536, np.uint64)
    nan = np.zeros(1, np.int64)
    assert library.call("bit_histogram", x, counts, nan) == OK
    assert nan[0] == kernels.bit_histogram(x, expected)
    np.testing.assert_array_equal(counts, expected)


def quantization(scale: Any, zero_point: Any, axis: int | None, qmin: int = 0, qmax: int = 0) -> Quantization:
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    zeros = None if zero_point is None else np.atleast_1d(np.asarray(zero_point, np.int32))
    made = Quantization(
        scales.ctypes.data, None if zeros is None else zeros.ctypes.data, -1 if axis is None else axis, qmin, qmax
    )
    made.keep = scales, zeros
    return made


CHANNELS = 40
PER_CHANNEL: list[tuple[Any, Any, int | None]] = [
    (0.05, 3, None),
    (0.05, None, None),
    (RNG.uniform(0.01, 0.1, CHANNELS).astype(np.float32), RNG.integers(0, 7, CHANNELS).astype(np.int32), 1),
    (np.full(CHANNELS, 1e-40, np.float32), None, 1),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("case", range(len(PER_CHANNEL)))
def test_rounding(library: Library, case: int, dtype: Any) -> None:
    scale, zero_point, axis = PER_CHANNEL[case]
    zeros = 0 if zero_point is None else zero_point
    x = X.astype(dtype)[::-1]
    for level_dtype, qmin, qmax in (("int8", -128, 127), ("uint8", 0, 255), ("int16", -100, 32767), ("uint16", 0, 7)):
        parameters = quantization(scale, zero_point, axis, qmin, qmax)
        levels = np.zeros((9, 40, 6), level_dtype).T  # strides of its own
        assert library.call("quantize", x, ctypes.pointer(parameters), levels) == OK
        expected = kernels.quantize_linear(x, scale, zeros, axis=axis, qmin=qmin, qmax=qmax, dtype=level_dtype)
        np.testing.assert_array_equal(levels, expected)
        real = np.zeros(x.shape, np.float32)
        assert library.call("dequantize", levels, ctypes.pointer(parameters), real) == OK
        np.testing.assert_array_equal(real, kernels.dequantize_linear(levels, scale, zeros, axis=axis))
        fake = np.zeros(x.shape, np.float32)
        assert library.call("fake_quantize", x, ctypes.pointer(parameters), fake) == OK
        np.testing.assert_array_equal(fake, kernels.fake_quantize(x, scale, zeros, axis=axis, qmin=qmin, qmax=qmax))


def test_dequantize_sums(library: Library) -> None:
    sums = RNG.integers(-(2**31), 2**31, (3, CHANNELS)).astype(np.int32)
    scale = PER_CHANNEL[2][0]
    real = np.zeros(sums.shape, np.float32)
    assert library.call("dequantize", sums, ctypes.pointer(quantization(scale, None, 1)), real) == OK
    np.testing.assert_array_equal(real, kernels.dequantize_linear(sums, scale, 0, axis=1))


@pytest.mark.parametrize(("m", "k", "n"), [(5, 64, 33), (1, 1, 1), (3, 0, 4), (40, 301, 300)])
def test_saturating_matmul(library: Library, m: int, k: int, n: int) -> None:
    a = RNG.integers(0, 256, (k, m)).astype(np.uint8).T
    b = RNG.integers(-128, 128, (k, n)).astype(np.int8)
    expected, count = kernels.saturating_matmul(a, b, return_count=True)
    out, saturated = np.full((m, n + 3), 7, np.int32), np.full(1, -1)
    assert library.call("saturating_matmul", a, b, out[:, :n], saturated) == OK
    np.testing.assert_array_equal(out[:, :n], expected)
    assert (out[:, n:] == 7).all()
    assert saturated[0] == count
    assert library.call("saturating_matmul", a, b, out[:, :n], None) == OK
    np.testing.assert_array_equal(out[:, :n], expected)


@pytest.mark.parametrize("any_pairs", [False, True])
@pytest.mark.parametrize("u_max", [255, 200, 128, 3])
def test_certify(library: Library, u_max: int, any_pairs: bool) -> None:
    weights = RNG.integers(-128, 128, (20, 33)).astype(np.int8)
    for rows in (weights, np.asfortranarray(weights)):
        expected = _core._active.certify_pairs(rows, 32767 // u_max, 32768 // u_max, any_pairs, True)
        positive, negative = np.zeros(20, np.int32), np.zeros(20, np.int32)
        positions, at_risk = np.zeros((20, 2), np.int64), np.zeros(20, np.int64)
        assert library.call("certify", rows, u_max, any_pairs, positive, negative, positions, at_risk) == OK
        for ours, theirs in zip((positive, negative, positions, at_risk), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert library.call("certify", rows, u_max, any_pairs, at_risk, positions, None, None) == OK
        np.testing.assert_array_equal(at_risk.view(np.int32)[:20], positive)


@pytest.mark.usefixtures("_one_thread_after")
def test_threads_give_the_same_bits(library: Library) -> None:
    x = np.random.default_rng(1).standard_normal((1500, 1000)).astype(np.float32)
    q, levels = np.array([1e-4, 0.5]), quantization(0.01, 3, None, -128, 127)
    found = []
    for threads in (1, 2, 3):
        assert library.call("set_num_threads", threads) == OK
        assert library.call("num_threads") == quantstats.get_num_threads() == threads
        tails, medians, mean = np.zeros(2, np.float32), np.zeros(1000, np.float32), np.zeros(1, np.float32)
        out = np.zeros(x.shape, np.int8)
        assert library.call("quantile", x, ALL_AXES, q, 2, tails, None) == OK
        assert library.call("median", x, 1, medians, None) == OK
        assert library.call("mean", x, ALL_AXES, mean, None) == OK
        assert library.call("quantize", x, ctypes.pointer(levels), out) == OK
        found.append(b"".join(a.tobytes() for a in (tails, medians, mean, out)))
    assert found[0] == found[1] == found[2]


# What is refused.

F32 = np.ones((3, 4), np.float32)
I8 = np.ones((3, 4), np.int8)
ONE = np.zeros(12, np.float32)
HALF = np.array([0.5])
GOOD = quantization(0.1, 0, None, -8, 7)


def broken(**changes: Any) -> Any:
    made = tensor(F32)
    for name, value in changes.items():
        setattr(made, name, value)
    return ctypes.pointer(made)


def levels(**changes: Any) -> Any:
    made = quantization([0.1, 0.2, 0.3, 0.4], [0, 1, 2, 3], 1, -8, 7)
    for name, value in changes.items():
        setattr(made, name, value)
    return ctypes.pointer(made)


NULL_TENSOR = ctypes.POINTER(Tensor)()
REFUSED: list[tuple[str, tuple[Any, ...], str]] = [
    ("min_max", (NULL_TENSOR, ALL_AXES, ONE, ONE, None), "x is NULL; pass a quantstats_tensor"),
    ("min_max", (broken(dtype=9), ALL_AXES, ONE, ONE, None), "x->dtype is 9; pass one of"),
    ("min_max", (I8, ALL_AXES, ONE, ONE, None), "x->dtype is int8; pass a tensor of float32"),
    ("min_max", (broken(ndim=65), ALL_AXES, ONE, ONE, None), "x->ndim is 65; pass 0 to 64"),
    ("min_max", (broken(shape=None), ALL_AXES, ONE, ONE, None), "x->shape is NULL; pass 2 sizes"),
    ("min_max", (broken(shape=(ctypes.c_int64 * 2)(3, -4)), ALL_AXES, ONE, ONE, None), "x->shape[1] is -4"),
    ("min_max", (broken(data=None), ALL_AXES, ONE, ONE, None), "x->data is NULL, but the tensor has 12 elements"),
    (
        "outputs",
        (broken(shape=(ctypes.c_int64 * 2)(1 << 40, 1 << 40)), 0),
        f"x->shape[1] is {1 << 40}, which makes more bytes than 64 bits count",
    ),
    ("min_max", (broken(shape=(ctypes.c_int64 * 2)(1 << 61, 0)), 2, ONE, ONE, None), "x->shape[0] is"),
    ("outputs", (F32, 4), "axes is 0x4, but x has 2 dimensions"),
    ("abs_max", (F32, ALL_AXES, None, None), "abs_max is NULL; pass memory for outputs(x, axes) elements"),
    ("mean", (F32, ALL_AXES, None, None), "mean is NULL"),
    ("median", (F32, ALL_AXES, None, None), "median is NULL"),
    ("quantile", (F32, ALL_AXES, HALF, 0, ONE, None), "n_q is 0; pass 1 or more probabilities"),
    ("quantile", (F32, ALL_AXES, None, 1, ONE, None), "q is NULL; pass 1 probabilities"),
    ("quantile", (F32, ALL_AXES, HALF * 3, 1, ONE, None), "q[0] is 1.5; probabilities lie between 0 and 1"),
    ("abs_quantile", (F32, ALL_AXES, HALF * math.nan, 1, ONE, None), "q[0] is nan"),
    ("mean_no_outliers", (F32, ALL_AXES, 0.5, ONE, None), "p is 0.5; pass the probability of an outlier"),
    ("median_no_outliers", (F32, ALL_AXES, 0.0, ONE, None), "p is 0; pass"),
    ("summarize", (F32, ALL_AXES, None, None, 0, None), "summary is NULL"),
    ("summarize", (F32, ALL_AXES, ctypes.pointer(Summary(8)), None, 0, None), "summary is too small"),
    ("histogram", (F32, 0.0, 1.0, 0, ONE, None), "bins is 0; pass 1 to"),
    ("histogram", (F32, 1.0, 0.0, 4, ONE, None), "the range is from 1 to 0"),
    ("histogram", (F32, 0.0, math.inf, 4, ONE, None), "the range is from 0 to inf"),
    ("histogram", (F32, 1.0, 1.0 + 1e-6, 100, ONE, None), "have equal edges as float32; pass fewer bins"),
    ("histogram", (F32, 0.0, 1.0, 4, None, None), "counts is NULL"),
    ("bit_histogram", (F32, None, None), "counts is NULL; pass 65536 counters"),
    ("quantize", (F32, None, I8), "quantization is NULL"),
    ("quantize", (F32, levels(), I8.T), "out->shape[0] is 4, but that of the input is 3"),
    ("quantize", (F32, levels(), I8[0]), "out->ndim is 1, but the input has 2 dimensions"),
    ("quantize", (F32, levels(), F32), "out->dtype is float32; pass a tensor of int8"),
    ("quantize", (F32, levels(axis=2), I8), "axis is 2, but the tensor has 2 dimensions"),
    ("quantize", (F32, levels(qmin=-129), I8), "qmin is -129 and qmax is 7; pass qmin < qmax, both in [-128, 127]"),
    ("quantize", (F32, levels(qmin=7), I8), "qmin is 7 and qmax is 7"),
    ("quantize", (F32, levels(qmax=2), I8), "zero_point[3] is 3; pass a level, which lie in [-8, 2] here"),
    ("quantize", (F32, levels(scale=None), I8), "scale is NULL; pass 4 of them"),
    ("quantize", (F32, ctypes.pointer(quantization(-1, 0, None, -8, 7)), I8), "scale[0] is -1; pass a positive"),
    ("dequantize", (I8, levels(), I8), "out->dtype is int8; pass a tensor of float32"),
    ("dequantize", (F32, levels(), F32), "q->dtype is float32; pass a tensor of int8"),
    ("dequantize", (I8.astype(np.int32), levels(), F32), "zero_point[1] is 1; pass a level, which lie in [0, 0]"),
    ("fake_quantize", (F32, levels(qmax=65536), F32), "both in [-32768, 65535]"),
    ("saturating_matmul", (I8, I8, I8, None), "a has 2 dimensions and dtype int8; pass a matrix of uint8"),
    (
        "saturating_matmul",
        (I8.view(np.uint8), I8, np.zeros((3, 4), np.int32), None),
        "a is [3, 4], b [3, 4] and out [3, 4]; pass a [M, K], b [K, N] and out [M, N]",
    ),
    (
        "saturating_matmul",
        (I8.view(np.uint8), I8.T, np.zeros((3, 6), np.int32)[:, ::2], None),
        "the rows of out are 24 bytes apart and its columns 8",
    ),
    ("certify", (I8, 256, 1, ONE, ONE, None, None), "u_max is 256; pass the greatest activation, 1 to 255"),
    ("certify", (I8[:, ::2], 255, 1, ONE, ONE, None, None), "the strides of weights are 4 and 2"),
    ("certify", (I8, 255, 1, ONE, None, None, None), "negative is NULL"),
    ("set_num_threads", (0,), "n is 0; pass the number of threads, at least 1"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_wrong_is_told(library: Library, name: str, arguments: tuple[Any, ...], message: str) -> None:
    ONE[:] = 5
    assert library.call(name, *arguments) == ERROR_ARGUMENT
    assert message in library.error()
    assert (ONE == 5).all()
    assert library.call("last_error").decode() == library.error()


def test_memory_that_cannot_be_had(library: Library) -> None:
    # The scratch memory of a set of 2**60 bytes is more than addresses reach; the set itself is one element.
    shape, strides = (ctypes.c_int64 * 1)(1 << 58), (ctypes.c_int64 * 1)(0)
    huge = Tensor(F32.ctypes.data, shape, strides, 1, 0)
    value = np.full(1, 5, np.float32)
    assert library.call("quantile", ctypes.pointer(huge), ALL_AXES, HALF, 1, value, None) == ERROR_MEMORY
    assert re.match(r"no memory for \d+ bytes of intermediate results", library.error())
    assert value[0] == 5


# The table.


def test_members_are_append_only() -> None:
    assert declared_members() == list(MEMBERS)


def test_python_has_the_same_table(library: Library) -> None:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    assert get(_core._C_API, b"quantstats._core._C_API") == library.address
    assert (library.api.version, library.api.size) == (1, ctypes.sizeof(Capi))
    assert library.call("package_version").decode() == quantstats.__version__
    assert library.call("isa").decode() == _core._active.isa


@pytest.mark.parametrize(
    ("version", "extra", "status"), [(2, 0, ERROR_VERSION), (1, 8, ERROR_VERSION), (1, -8, OK), (0, 0, ERROR_VERSION)]
)
def test_versions_are_negotiated(library: Library, version: int, extra: int, status: int) -> None:
    pointer = ctypes.POINTER(Capi)()
    assert library.dll.quantstats_get_capi(version, ctypes.sizeof(Capi) + extra, pointer) == status
    assert bool(pointer) == (status == OK)
    if status != OK:
        assert "use a newer quantstats-native" in library.error()


_ALONE = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.quantstats_last_error.restype = ctypes.c_char_p
table = ctypes.c_void_p()
print(library.quantstats_get_capi(1, ctypes.c_size_t(8), ctypes.byref(table)), bool(table))
print(library.quantstats_last_error().decode())
"""


def alone(**environment: str) -> list[str]:
    """What the library says when a program without quantstats loads it."""
    command = [sys.executable, "-c", _ALONE, str(library_path())]
    done = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_the_environment_is_checked() -> None:
    status, message = alone(QUANTSTATS_ISA="mmx")
    assert status == f"{ERROR_ENVIRONMENT} False"
    assert "QUANTSTATS_ISA is 'mmx', an instruction set that is not built" in message
    status, message = alone(QUANTSTATS_NUM_THREADS="many")
    assert status == f"{ERROR_ENVIRONMENT} False"
    assert "QUANTSTATS_NUM_THREADS is 'many', not a number of threads" in message
    assert alone(QUANTSTATS_ISA="scalar", QUANTSTATS_NUM_THREADS="2")[0] == f"{OK} True"


def test_only_the_interface_is_exported_in_c() -> None:
    listed = subprocess.run(["nm", "-D", "--defined-only", library_path()], check=True, capture_output=True, text=True)
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    plain = {name for name in names if not name.startswith("_Z")}
    assert plain == {"quantstats_get_capi", "quantstats_last_error"}
    assert all("2qs" in name for name in names - plain)  # mangled: namespace qs, for the Python module alone
