"""Arrays of other libraries: their memory is read in place, whatever the protocol, and what cannot be read is told."""

from __future__ import annotations

import array
import ctypes
import gc
import weakref
from collections.abc import Callable
from typing import Any

import jax
import ml_dtypes
import numpy as np
import onnxruntime
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import quantstats
from quantstats import _core, kernels
from quantstats._arrays import as_array
from quantstats.errors import DataError
from quantstats.range_estimator import RangeEstimatorParametersSet

X = np.random.default_rng(8).standard_normal((40, 6, 5)).astype(np.float32)


class Interface:
    """Nothing but ``__array_interface__``."""

    def __init__(self, x: np.ndarray[Any, Any]) -> None:
        self.owner = x
        self.__array_interface__ = x.__array_interface__


def to_jax(x: np.ndarray[Any, Any]) -> jax.Array:
    with jax.enable_x64(True):  # else float64 becomes float32
        return jax.device_put(x, jax.devices("cpu")[0])


PROVIDERS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "numpy": lambda x: x,
    "torch": torch.from_numpy,
    "jax": to_jax,
    "OrtValue": onnxruntime.OrtValue.ortvalue_from_numpy,
    "OrtValue in C": lambda x: onnxruntime.OrtValue.ortvalue_from_numpy(x)._ortvalue,
    "memoryview": memoryview,
    "array_interface": Interface,
}


def address(x: Any) -> int:
    """Where the first element is, as its owner says."""
    if isinstance(x, np.ndarray):
        return x.ctypes.data
    if isinstance(x, jax.Array):
        return x.unsafe_buffer_pointer()
    if isinstance(x, torch.Tensor | onnxruntime.OrtValue) or hasattr(x, "data_ptr"):
        return int(x.data_ptr())
    if isinstance(x, Interface):
        return x.owner.ctypes.data
    return np.frombuffer(x, np.uint8).ctypes.data


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_memory_is_shared(provider: str, dtype: Any) -> None:
    x = X.astype(dtype)
    given = PROVIDERS[provider](x)
    shared, bfloat16 = _core.share_memory(given)
    assert shared.ctypes.data == address(given)
    assert (shared.dtype, shared.shape, bfloat16) == (x.dtype, x.shape, False)
    np.testing.assert_array_equal(kernels.quantile(given, [0.1, 0.5], 1), kernels.quantile(x, [0.1, 0.5], 1))


def test_bfloat16_of_jax() -> None:
    x = jax.numpy.asarray(X, jax.numpy.bfloat16)
    shared, bfloat16 = _core.share_memory(x)
    assert bfloat16
    assert shared.ctypes.data == address(x)
    np.testing.assert_array_equal(kernels.median(x, 0), np.median(np.asarray(x, np.float32), 0))


def test_array_module() -> None:
    for code in "fd":
        x = array.array(code, X.ravel().tolist())
        assert _core.share_memory(x)[0].ctypes.data == x.buffer_info()[0]
        assert kernels.min_max(x) == (X.min(), X.max())


VIEWS: dict[str, Callable[[Any], Any]] = {
    "whole": lambda t: t,
    "transposed": lambda t: t.permute(2, 0, 1),
    "strided": lambda t: t[1::2, ::3],
    "broadcast": lambda t: t[:1].expand(7, 6, 5),
    "no dimensions": lambda t: t[3, 2, 1],
    "empty": lambda t: t[:0],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_torch_views_are_read_in_place(dtype: torch.dtype, view: str) -> None:
    tensor = VIEWS[view](torch.from_numpy(X).to(dtype))
    shared, bfloat16 = _core.share_memory(tensor)
    assert bfloat16 == (dtype is torch.bfloat16)
    if tensor.numel():
        assert shared.ctypes.data == tensor.data_ptr()
        item = tensor.element_size()
        assert shared.strides == tuple(s * item for s in tensor.stride())
        wide = tensor.to(torch.float64 if dtype is torch.float64 else torch.float32).numpy()
        assert kernels.min_max(tensor) == (wide.min(), wide.max())
        summary = kernels.summarize(tensor, quantiles=[0.25])
        np.testing.assert_array_equal(summary.quantiles, kernels.quantile(wide, [0.25]))
    else:
        assert shared.shape == tuple(tensor.shape)


def test_every_kernel_takes_tensors() -> None:
    x = X[:, :, 0].copy()
    t = torch.from_numpy(x)
    counts, expected = np.zeros(65536, np.uint64), np.zeros(65536, np.uint64)
    kernels.bit_histogram(t, counts)
    kernels.bit_histogram(x, expected)
    np.testing.assert_array_equal(counts, expected)
    for compute in (
        kernels.min_max,
        kernels.abs_max,
        kernels.mean,
        kernels.median,
        lambda a: kernels.abs_quantile(a, 0.9, 0),
        kernels.mean_no_outliers,
        kernels.median_no_outliers,
        lambda a: kernels.histogram(a, 16, (-1.0, 1.0)),
        lambda a: kernels.quantize_linear(a, [0.1] * 6, [0, 1, 2, 3, 4, 5], axis=1, qmin=-128, qmax=127),
        lambda a: kernels.fake_quantize(a, 0.1, 0, qmin=-8, qmax=7),
    ):
        ours, theirs = compute(t), compute(x)
        for a, b in zip(ours, theirs, strict=True) if isinstance(theirs, tuple) else [(ours, theirs)]:
            np.testing.assert_array_equal(a, b)
    levels = kernels.quantize_linear(x, 0.1, 0, qmin=-128, qmax=127)
    np.testing.assert_array_equal(
        kernels.dequantize_linear(torch.from_numpy(levels), 0.1, 0), kernels.dequantize_linear(levels, 0.1, 0)
    )
    left, right = np.abs(levels).astype(np.uint8), np.ascontiguousarray(levels.T)
    product = kernels.saturating_matmul(torch.from_numpy(left), torch.from_numpy(right))  # type: ignore[arg-type]
    np.testing.assert_array_equal(product, kernels.saturating_matmul(left, right))


def test_results_go_into_tensors() -> None:
    t = torch.from_numpy(X)
    levels = torch.empty(40, 6, 5, dtype=torch.int8)
    out: Any = levels
    assert kernels.quantize_linear(t, 0.1, 0, qmin=-128, qmax=127, out=out) is out
    np.testing.assert_array_equal(levels.numpy(), kernels.quantize_linear(X, 0.1, 0, qmin=-128, qmax=127))
    in_place: Any = t.clone()
    assert kernels.fake_quantize(in_place, 0.1, 0, qmin=-128, qmax=127, out=in_place) is in_place
    np.testing.assert_array_equal(in_place.numpy(), kernels.fake_quantize(X, 0.1, 0, qmin=-128, qmax=127))
    with pytest.raises(TypeError, match=r"out \(bfloat16, shape \(40, 6, 5\)\) must have dtype float32"):
        kernels.fake_quantize(t, 0.1, 0, qmin=-8, qmax=7, out=t.to(torch.bfloat16))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="out is a list; pass an array or None"):
        kernels.fake_quantize(t, 0.1, 0, qmin=-8, qmax=7, out=[0.0])  # type: ignore[arg-type]


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "gradients": (
        lambda: torch.zeros(3, requires_grad=True),
        r"x is a torch\.Tensor that requires gradients; pass x\.detach\(\)",
    ),
    "negated view": (
        lambda: torch.zeros(3, dtype=torch.complex64).conj().imag,
        r"x is a torch\.Tensor whose memory holds the negated values; pass x\.resolve_neg\(\)",
    ),
    "no memory": (
        lambda: torch.zeros(3, device="meta"),
        r"x is a torch\.Tensor that does not share its memory: Unknown device type meta",
    ),
    "sparse": (lambda: torch.zeros(3).to_sparse(), r"x is a torch\.Tensor that does not share its memory: .*strided"),
    "fake": (
        lambda: FakeTensorMode().from_tensor(torch.zeros(3)),
        r"x is a .*\.FakeTensor whose type computes by its own __torch_dispatch__.*; pass a plain torch\.Tensor",
    ),
    "masked": (
        lambda: np.ma.masked_array(X, X > 0),
        r"x is a masked array, .* fill it, x\.filled\(\.\.\.\), or pass x\.compressed\(\)",
    ),
    "complex": (lambda: torch.zeros(3, dtype=torch.complex64), r"DLPack type 5 of 64 bits, 1 lanes"),
    "float8": (lambda: torch.zeros(3, dtype=torch.float8_e4m3fn), r"no kernel reads; convert it, for example to fl"),
    "integers": (lambda: torch.zeros(3, dtype=torch.int32), r"x \(int32, shape \(3,\)\) is not a floating-point"),
    "text": (lambda: "0.5", r"x is a str; pass an array of float32"),
    "nothing": (lambda: None, r"x is a NoneType; pass an array of float32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(TypeError, match=message):
        kernels.min_max(make())


def test_errors_name_the_type_of_a_tensor() -> None:
    with pytest.raises(ValueError, match=r"axis 3 is out of range for x \(bfloat16, shape \(40, 6, 5\)\)"):
        kernels.quantize_linear(torch.from_numpy(X).to(torch.bfloat16), 0.1, 0, axis=3, qmin=-8, qmax=7)


# A library of our own, with every freedom that DLPack gives it.


class DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = (("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", DELETER))


class ManagedVersioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", DELETER),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    )


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_VERSIONED, _UNVERSIONED = b"dltensor_versioned", b"dltensor"


class Library:
    """Shares an array by a capsule that counts how often it is given back."""

    def __init__(
        self,
        x: np.ndarray[Any, Any],
        *,
        versioned: bool = True,
        major: int = 1,
        flags: int = 0,
        device: tuple[int, int] = (1, 0),
        strides: bool = True,
        offset: int = 0,
        code: int = 2,
    ) -> None:
        self.x, self.device, self.versioned = x, device, versioned
        self.exported = self.deleted = 0
        item = x.itemsize
        self._shape = (ctypes.c_int64 * x.ndim)(*x.shape)
        self._strides = (ctypes.c_int64 * x.ndim)(*(s // item for s in x.strides))
        self._deleter = DELETER(self._delete)
        tensor = DLTensor(x.ctypes.data - offset, *device, x.ndim, code, 8 * item, 1, self._shape)
        if strides:
            tensor.strides = self._strides
        tensor.byte_offset = offset
        self.managed = (
            ManagedVersioned(major, 0, None, self._deleter, flags, tensor)
            if versioned
            else Managed(tensor, None, self._deleter)
        )

    def _delete(self, _: int) -> None:
        self.deleted += 1

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **options: Any) -> Any:
        if options and not self.versioned:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        assert options.get("copy") in (None, False)
        self.exported += 1
        return _new_capsule(ctypes.addressof(self.managed), _VERSIONED if self.versioned else _UNVERSIONED, None)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("options", [{}, {"strides": False}, {"offset": 8}, {"device": (3, 0)}], ids=str)
def test_dlpack_is_taken_and_given_back(versioned: bool, options: dict[str, Any]) -> None:
    library = Library(X, versioned=versioned, **options)
    assert kernels.min_max(library) == (X.min(), X.max())  # type: ignore[arg-type]
    assert (library.exported, library.deleted) == (1, 1)
    shared = _core.share_memory(library)[0]
    view = shared[::2]
    assert shared.ctypes.data == X.ctypes.data
    assert shared.flags.writeable == versioned  # the others cannot tell
    del shared
    gc.collect()
    assert (library.exported, library.deleted) == (2, 1)  # the view still needs the memory
    del view
    assert library.deleted == 2


def test_read_only_memory_of_dlpack_stays_so() -> None:
    library: Any = Library(X.copy(), flags=1)
    assert not _core.share_memory(library)[0].flags.writeable
    with pytest.raises(ValueError, match=r"out .* is read-only"):
        kernels.fake_quantize(X, 0.1, 0, qmin=-8, qmax=7, out=library)


def test_arrays_of_jax_do_not_change() -> None:
    x: Any = to_jax(X)
    with pytest.raises(ValueError, match=r"out .* is read-only; pass a writeable array"):
        kernels.fake_quantize(X, 0.1, 0, qmin=-8, qmax=7, out=x)
    np.testing.assert_array_equal(x, X)


def test_tensors_of_old_releases_of_torch_can_be_written() -> None:
    class Old:
        """A tensor as it was before DLPack had versions."""

        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

        def __dlpack_device__(self) -> Any:
            return self.tensor.__dlpack_device__()

        def __dlpack__(self) -> Any:
            return torch.utils.dlpack.to_dlpack(self.tensor)

    tensor = torch.zeros(X.shape)
    assert not _core.share_memory(Old(tensor))[0].flags.writeable
    Old.__module__, Old.__name__ = "torch", "Tensor"
    out: Any = Old(tensor)
    kernels.fake_quantize(X, 0.1, 0, qmin=-8, qmax=7, out=out)
    np.testing.assert_array_equal(tensor.numpy(), kernels.fake_quantize(X, 0.1, 0, qmin=-8, qmax=7))


def test_a_parameter_is_a_tensor() -> None:
    parameter = torch.nn.Parameter(torch.from_numpy(X))
    for given in (parameter.detach(), parameter.requires_grad_(False)):
        assert kernels.min_max(given) == (X.min(), X.max())


def test_a_view_of_another_type_is_an_array() -> None:
    class Named(np.ndarray[Any, Any]):
        pass

    assert kernels.min_max(X.view(Named)) == (X.min(), X.max())
    with pytest.raises(TypeError, match="out is a masked array"):
        kernels.fake_quantize(X, 0.1, 0, qmin=-8, qmax=7, out=np.ma.masked_array(X.copy()))


def test_counts_go_into_tensors() -> None:
    counts = torch.zeros(65536, dtype=torch.uint64)
    expected = np.zeros(65536, np.uint64)
    kernels.bit_histogram(X, expected)
    kernels.bit_histogram(X, counts)
    np.testing.assert_array_equal(counts.numpy(), expected)
    kernels.summarize(X, histogram=counts)
    np.testing.assert_array_equal(counts.numpy(), 2 * expected)


def test_scales_are_tensors() -> None:
    scale = torch.tensor([0.125, 0.5, 0.75, 1.0, 2.0, 3.0])
    expected = kernels.fake_quantize(X, scale.numpy(), [0] * 6, axis=1, qmin=-8, qmax=7)
    zeros = torch.zeros(6, dtype=torch.int32)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        actual = kernels.fake_quantize(X, scale.to(dtype), zeros, axis=1, qmin=-8, qmax=7)
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": (2, 1)}, r"x is a .*\.Library on device CUDA:1; .* copy it there first, for example with x\.cpu"),
        ({"device": (10, 0)}, r"on device ROCm:0"),
        ({"device": (99, 3)}, r"on device DLPack type 99:3"),
        ({"major": 2}, r"shares its memory by version 2 of DLPack"),
        ({"code": 3}, r"DLPack type 3 of 32 bits"),
    ],
)
def test_dlpack_that_cannot_be_read(options: dict[str, Any], message: str) -> None:
    library: Any = Library(X, **options)
    with pytest.raises(TypeError, match=message):
        kernels.min_max(library)
    assert library.exported == library.deleted


def test_a_capsule_of_something_else_is_refused() -> None:
    class Wrong(Library):
        def __dlpack__(self, **_: Any) -> Any:
            return 3

    with pytest.raises(TypeError, match=r"whose __dlpack__\(\) gives no DLPack capsule"):
        kernels.min_max(Wrong(X))  # type: ignore[arg-type]


def test_cuda_arrays_without_dlpack_are_refused() -> None:
    class OnDevice:
        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            return {}

    with pytest.raises(TypeError, match="OnDevice on a CUDA device; the kernels read the memory of the CPU"):
        kernels.min_max(OnDevice())  # type: ignore[arg-type]


# Ranges of tensors.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["MINMAX", "MEDIAN_MINMAX", "HISTOGRAM"])
def test_range_estimator_takes_tensors(name: str, dtype: torch.dtype) -> None:
    params = getattr(RangeEstimatorParametersSet, name)
    ours, reference = quantstats.RangeEstimator(params), quantstats.RangeEstimator(params)
    for sample in torch.from_numpy(X).to(dtype).split(10):
        ours.update(sample)
        reference.update(sample.to(torch.float32).numpy())
    assert ours == reference
    with pytest.raises(DataError, match=r"requires gradients; pass x\.detach\(\)"):
        ours.update(torch.zeros(3, requires_grad=True))


def test_bfloat16_of_another_library_becomes_that_of_ml_dtypes() -> None:
    tensor = torch.from_numpy(X).to(torch.bfloat16)
    shared = as_array(tensor)
    assert shared.dtype == ml_dtypes.bfloat16
    assert shared.ctypes.data == tensor.data_ptr()
    np.testing.assert_array_equal(shared.astype(np.float32), tensor.to(torch.float32).numpy())


def test_bfloat16_without_ml_dtypes_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    tensor = torch.from_numpy(X).to(torch.bfloat16)
    np.testing.assert_array_equal(as_array(tensor), tensor.to(torch.float32).numpy(), strict=True)


def test_a_tensor_lives_no_longer_than_the_call() -> None:
    owner = X.copy()
    gone = weakref.ref(owner)
    tensor = torch.from_numpy(owner)
    kernels.min_max(tensor)
    del owner
    assert gone() is not None
    del tensor
    assert gone() is None
