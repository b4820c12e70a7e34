"""libquantstats by ctypes: the structs of quantstats/capi.h, and its functions for NumPy arrays."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import quantstats

OK, ERROR_ARGUMENT, ERROR_MEMORY, ERROR_VERSION, ERROR_ENVIRONMENT = 0, -1, -2, -3, -4
ALL_AXES = 2**64 - 1
DTYPES = {
    name: tag
    for tag, name in [
        *enumerate(("float32", "float64", "float16", "bfloat16")),
        *enumerate(("int8", "uint8", "int16", "uint16", "int32"), start=16),
    ]
}


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("ndim", c_int32),
        ("dtype", c_int32),
    )


class Summary(ctypes.Structure):
    _fields_ = (
        ("size", c_size_t),
        ("min", c_void_p),
        ("max", c_void_p),
        ("abs_max", c_void_p),
        ("mean", c_void_p),
        ("nan", c_void_p),
        ("pos_inf", c_void_p),
        ("neg_inf", c_void_p),
    )


class Quantization(ctypes.Structure):
    _fields_ = (
        ("scale", c_void_p),
        ("zero_point", c_void_p),
        ("axis", c_int32),
        ("qmin", c_int32),
        ("qmax", c_int32),
    )


TENSOR = POINTER(Tensor)
_OUT = c_void_p

# Only additions are allowed here, at the end: a changed line breaks compiled programs.
MEMBERS: dict[str, tuple[Any, list[Any]]] = {
    "min_max_f32": (c_int64, [_OUT, c_int64, _OUT, _OUT]),
    "quantize_f32_s8": (c_int, [_OUT, c_int64, ctypes.c_float, c_int32, c_int32, c_int32, _OUT]),
    "quantize_f32_u8": (c_int, [_OUT, c_int64, ctypes.c_float, c_int32, c_int32, c_int32, _OUT]),
    "quantile_f32": (c_int64, [_OUT, c_int64, _OUT, c_int32, _OUT]),
    "last_error": (c_char_p, []),
    "package_version": (c_char_p, []),
    "isa": (c_char_p, []),
    "num_threads": (c_int32, []),
    "set_num_threads": (c_int, [c_int32]),
    "outputs": (c_int64, [TENSOR, c_uint64]),
    "min_max": (c_int, [TENSOR, c_uint64, _OUT, _OUT, _OUT]),
    "abs_max": (c_int, [TENSOR, c_uint64, _OUT, _OUT]),
    "mean": (c_int, [TENSOR, c_uint64, _OUT, _OUT]),
    "quantile": (c_int, [TENSOR, c_uint64, _OUT, c_int32, _OUT, _OUT]),
    "abs_quantile": (c_int, [TENSOR, c_uint64, _OUT, c_int32, _OUT, _OUT]),
    "median": (c_int, [TENSOR, c_uint64, _OUT, _OUT]),
    "mean_no_outliers": (c_int, [TENSOR, c_uint64, c_double, _OUT, _OUT]),
    "median_no_outliers": (c_int, [TENSOR, c_uint64, c_double, _OUT, _OUT]),
    "summarize": (c_int, [TENSOR, c_uint64, POINTER(Summary), _OUT, c_int32, _OUT]),
    "histogram": (c_int, [TENSOR, c_double, c_double, c_int64, _OUT, _OUT]),
    "bit_histogram": (c_int, [TENSOR, _OUT, _OUT]),
    "quantize": (c_int, [TENSOR, POINTER(Quantization), TENSOR]),
    "dequantize": (c_int, [TENSOR, POINTER(Quantization), TENSOR]),
    "fake_quantize": (c_int, [TENSOR, POINTER(Quantization), TENSOR]),
    "saturating_matmul": (c_int, [TENSOR, TENSOR, TENSOR, _OUT]),
    "certify": (c_int, [TENSOR, c_int32, c_int, _OUT, _OUT, _OUT, _OUT]),
}


class Capi(ctypes.Structure):
    _fields_ = (
        ("version", c_uint32),
        ("size", c_uint32),
        *((name, ctypes.CFUNCTYPE(result, *parameters)) for name, (result, parameters) in MEMBERS.items()),
    )


def library_path() -> Path:
    return Path(quantstats.get_include()).parent / "lib" / "libquantstats.so"


def declared_members() -> list[str]:
    """The function pointers of `quantstats_capi`, as the installed header declares them."""
    header = (Path(quantstats.get_include()) / "quantstats" / "capi.h").read_text()
    body = re.search(r"typedef struct quantstats_capi \{(.*?)\} quantstats_capi;", header, re.DOTALL)
    assert body is not None
    return re.findall(r"\(\*(\w+)\)\(", body[1])


class Library:
    """The C interface: `call` passes arrays as tensors or as plain memory, and returns the status."""

    def __init__(self) -> None:
        self.dll = ctypes.CDLL(str(library_path()))
        self.dll.quantstats_get_capi.argtypes = [c_uint32, c_size_t, POINTER(POINTER(Capi))]
        self.dll.quantstats_last_error.restype = c_char_p
        pointer = POINTER(Capi)()
        assert self.dll.quantstats_get_capi(1, ctypes.sizeof(Capi), pointer) == OK, self.error()
        self.address = ctypes.addressof(pointer.contents)
        self.api = pointer.contents

    def error(self) -> str:
        text: bytes = self.dll.quantstats_last_error()
        return text.decode()

    def call(self, name: str, *arguments: Any) -> Any:
        parameters = MEMBERS[name][1]
        passed = [_passed(a, kind) for a, kind in zip(arguments, parameters, strict=True)]
        return getattr(self.api, name)(*passed)


def _passed(argument: Any, kind: Any) -> Any:
    if kind is TENSOR:
        return ctypes.pointer(tensor(argument)) if isinstance(argument, np.ndarray) else argument
    if kind is _OUT and isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return argument.ctypes.data
    return argument


def tensor(x: NDArray[Any], *, strides: bool = True) -> Tensor:
    """A tensor that shares the memory of `x`, which must live as long; C order without `strides`."""
    shape = (c_int64 * x.ndim)(*x.shape)
    steps = (c_int64 * x.ndim)(*x.strides) if strides else None
    return Tensor(x.ctypes.data, shape, steps, x.ndim, DTYPES[x.dtype.name])


def axes_of(axis: int | Sequence[int] | None, ndim: int) -> int:
    if axis is None:
        return ALL_AXES
    chosen = (axis,) if isinstance(axis, int) else axis
    return sum(1 << (a % ndim) for a in chosen)


def result_dtype(x: NDArray[Any]) -> type[np.floating[Any]]:
    return np.float64 if x.dtype == np.float64 else np.float32
