"""The C functions of quantstats.cython_api, called by an extension module that a user would write."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
import sysconfig
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from quantstats import _core, cython_api, get_num_threads, kernels

#: how a tensor is passed
TENSOR = "void const *, int32_t, int32_t, int64_t const *, int64_t const *"

# Only additions are allowed here: a changed line breaks compiled clients.
SIGNATURES = {
    "min_max": "int64_t (float const *, int64_t, float *, float *)",
    "quantize_s8": "int (float const *, int64_t, float, int32_t, int32_t, int32_t, int8_t *)",
    "quantize_u8": "int (float const *, int64_t, float, int32_t, int32_t, int32_t, uint8_t *)",
    "quantile": "int64_t (float const *, int64_t, double const *, int32_t, float *)",
    "last_error": "char const *(void)",
    "isa": "char const *(void)",
    "num_threads": "int32_t (void)",
    "set_num_threads": "int (int32_t)",
    "tensor_outputs": f"int64_t ({TENSOR}, uint64_t)",
    "tensor_min_max": f"int ({TENSOR}, uint64_t, void *, void *, int64_t *)",
    "tensor_abs_max": f"int ({TENSOR}, uint64_t, void *, int64_t *)",
    "tensor_mean": f"int ({TENSOR}, uint64_t, void *, int64_t *)",
    "tensor_quantile": f"int ({TENSOR}, uint64_t, double const *, int32_t, void *, int64_t *)",
    "tensor_abs_quantile": f"int ({TENSOR}, uint64_t, double const *, int32_t, void *, int64_t *)",
    "tensor_median": f"int ({TENSOR}, uint64_t, void *, int64_t *)",
    "tensor_mean_no_outliers": f"int ({TENSOR}, uint64_t, double, void *, int64_t *)",
    "tensor_median_no_outliers": f"int ({TENSOR}, uint64_t, double, void *, int64_t *)",
    "tensor_summarize": f"int ({TENSOR}, uint64_t, double const *, int32_t, void *, void *, void *, void *, void *, "
    "int64_t *, int64_t *, int64_t *)",
    "tensor_histogram": f"int ({TENSOR}, double, double, int64_t, int64_t *, void *)",
    "tensor_bit_histogram": f"int ({TENSOR}, uint64_t *, int64_t *)",
    "tensor_quantize": f"int ({TENSOR}, float const *, int32_t const *, int32_t, int32_t, int32_t, void *, int32_t, "
    "int64_t const *)",
    "tensor_dequantize": f"int ({TENSOR}, float const *, int32_t const *, int32_t, float *, int64_t const *)",
    "tensor_fake_quantize": f"int ({TENSOR}, float const *, int32_t const *, int32_t, int32_t, int32_t, float *, "
    "int64_t const *)",
    "saturating_matmul": "int (uint8_t const *, int64_t, int64_t, int8_t const *, int64_t, int64_t, int64_t, "
    "int64_t, int64_t, int32_t *, int64_t *)",
    "certify": "int (int8_t const *, int64_t, int64_t, int64_t, int64_t, int32_t, int, int32_t *, int32_t *, "
    "int64_t *, int64_t *)",
}

CLIENT = """
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t
from quantstats cimport cython_api as api
from quantstats.cython_api cimport min_max, quantile, quantize_s8, quantize_u8

def client_min_max(const float[::1] x):
    cdef float low, high
    cdef Py_ssize_t n = x.shape[0]
    cdef long nan
    with nogil:
        nan = min_max(&x[0] if n else NULL, n, &low, &high)
    return low, high, nan

def client_quantize_s8(const float[::1] x, float scale, int zero_point, int qmin, int qmax, int8_t[::1] out):
    return quantize_s8(&x[0], x.shape[0], scale, zero_point, qmin, qmax, &out[0])

def client_quantize_u8(const float[::1] x, float scale, int zero_point, int qmin, int qmax, uint8_t[::1] out):
    return quantize_u8(&x[0], x.shape[0], scale, zero_point, qmin, qmax, &out[0])

def client_quantile(const float[::1] x, const double[::1] q, float[::1] out):
    cdef Py_ssize_t n = x.shape[0]
    cdef long nan
    with nogil:
        nan = quantile(&x[0] if n else NULL, n, &q[0], <int> q.shape[0], &out[0])
    return nan

def client_tensor(const float[:, :] x, const double[::1] q, const float[::1] scale, values, levels, reals, counts):
    cdef int64_t[2] shape = [x.shape[0], x.shape[1]], strides = [x.strides[0], x.strides[1]]
    cdef int32_t n_q = <int32_t> q.shape[0]
    cdef float[:, ::1] v = values
    cdef int8_t[:, ::1] s8 = levels
    cdef float[:, :, ::1] real = reals
    cdef int64_t[:, ::1] count = counts
    cdef int[15] status
    cdef uint64_t[65536] bits
    cdef const float* p = &x[0, 0]
    with nogil:
        status[0] = api.tensor_outputs(p, api.FLOAT32, 2, shape, strides, 1) == shape[1]
        status[1] = api.tensor_min_max(p, api.FLOAT32, 2, shape, strides, 1, &v[0, 0], &v[1, 0], &count[0, 0])
        status[2] = api.tensor_abs_max(p, api.FLOAT32, 2, shape, strides, 1, &v[2, 0], NULL)
        status[3] = api.tensor_mean(p, api.FLOAT32, 2, shape, strides, 1, &v[3, 0], NULL)
        status[4] = api.tensor_median(p, api.FLOAT32, 2, shape, strides, 1, &v[4, 0], NULL)
        status[5] = api.tensor_quantile(p, api.FLOAT32, 2, shape, strides, 1, &q[0], 1, &v[5, 0], NULL)
        status[6] = api.tensor_abs_quantile(p, api.FLOAT32, 2, shape, strides, 1, &q[0], 1, &v[6, 0], NULL)
        status[7] = api.tensor_mean_no_outliers(p, api.FLOAT32, 2, shape, strides, 1, 0.1, &v[7, 0], NULL)
        status[8] = api.tensor_median_no_outliers(p, api.FLOAT32, 2, shape, strides, 1, 0.1, &v[8, 0], NULL)
        status[9] = api.tensor_summarize(
            p, api.FLOAT32, 2, shape, strides, 1, &q[0], n_q,
            &v[9, 0], &v[10, 0], &v[11, 0], &v[12, 0], &v[13, 0], &count[1, 0], &count[2, 0], &count[3, 0],
        )
        status[10] = api.tensor_histogram(
            p, api.FLOAT32, 2, shape, strides, -1, 1, 4, &count[4, 0], NULL
        )
        status[11] = api.tensor_bit_histogram(p, api.FLOAT32, 2, shape, strides, bits, &count[5, 0])
        status[12] = api.tensor_quantize(
            p, api.FLOAT32, 2, shape, strides, &scale[0], NULL, 1, -8, 7, &s8[0, 0], api.INT8, NULL
        )
        status[13] = api.tensor_dequantize(
            &s8[0, 0], api.INT8, 2, shape, NULL, &scale[0], NULL, 1, &real[0, 0, 0], NULL
        )
        status[14] = api.tensor_fake_quantize(
            p, api.FLOAT32, 2, shape, strides, &scale[0], NULL, 1, -8, 7, &real[1, 0, 0], NULL
        )
    return status[0], list(status)[1:]

def client_library(int threads):
    return api.isa(), api.set_num_threads(threads), api.num_threads(), api.last_error()

def client_products(const uint8_t[:, :] a, const int8_t[:, :] b, int32_t[:, ::1] out, int32_t[::1] found):
    cdef int64_t saturated, at_risk[64]
    cdef int first = api.saturating_matmul(
        &a[0, 0], a.strides[0], a.strides[1], &b[0, 0], b.strides[0], b.strides[1],
        a.shape[0], a.shape[1], b.shape[1], &out[0, 0], &saturated,
    )
    cdef int second = api.certify(
        &b[0, 0], b.shape[0], b.shape[1], b.strides[0], b.strides[1], 255, 1,
        &found[0], &found[b.shape[0]], NULL, at_risk
    )
    return first, second, saturated, at_risk[0]
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("client")
    source = folder / "quantstats_client.pyx"
    source.write_text(CLIENT)
    with resources.as_file(resources.files("quantstats") / "cython_api.pxd") as declarations:
        include = Path(declarations).parent.parent
        command = [sys.executable, "-m", "cython", "-3", "-I", str(include), str(source)]
        subprocess.run(command, check=True, capture_output=True)
    library = folder / f"quantstats_client{sysconfig.get_config_var('EXT_SUFFIX')}"
    python_h = sysconfig.get_paths()["include"]
    code = str(source.with_suffix(".c"))
    subprocess.run(
        ["gcc", "-shared", "-fPIC", f"-I{python_h}", code, "-o", str(library)], check=True, capture_output=True
    )
    spec = importlib.util.spec_from_file_location("quantstats_client", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_min_max(client: ModuleType) -> None:
    for n in (1, 7, 8, 9, 1000):
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        assert client.client_min_max(x) == (*kernels.min_max(x), 0)


def test_min_max_counts_nan(client: ModuleType) -> None:
    assert client.client_min_max(np.float32([np.nan, 2, 1])) == (1, 2, 1)
    low, high, nan = client.client_min_max(np.float32([]))
    assert math.isnan(low)
    assert math.isnan(high)
    assert nan == 0


@pytest.mark.parametrize("scale", [0.02, 1e-40])
def test_quantize(client: ModuleType, scale: float) -> None:
    for n in (1, 7, 8, 9, 63, 64, 65, 5000):
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        x[0] = np.nan
        signed = np.full(n, 99, np.int8)
        assert client.client_quantize_s8(x, scale, -3, -64, 63, signed) == 0
        np.testing.assert_array_equal(signed, kernels.quantize_linear(x, scale, -3, qmin=-64, qmax=63))
        unsigned = np.full(n, 99, np.uint8)
        assert client.client_quantize_u8(x, scale, 128, 0, 255, unsigned) == 0
        np.testing.assert_array_equal(
            unsigned, kernels.quantize_linear(x, scale, 128, qmin=0, qmax=255, dtype=np.uint8)
        )


@pytest.mark.parametrize(
    "parameters",
    [
        *[(scale, 0, -8, 7) for scale in (0.0, -1.0, np.inf, np.nan)],
        *[(1.0, 8, -8, 7), (1.0, -9, -8, 7), (1.0, 0, -129, 7), (1.0, 0, -8, 128), (1.0, 0, 0, 0)],
    ],
)
def test_quantize_refuses_parameters(client: ModuleType, parameters: tuple[float, int, int, int]) -> None:
    out = np.full(3, 99, np.int8)
    assert client.client_quantize_s8(np.ones(3, np.float32), *parameters, out) == -1
    assert (out == 99).all()


def test_quantile(client: ModuleType) -> None:
    q = np.array([0.5, 1e-4, 1.0])
    out = np.empty(3, np.float32)
    for n in (1, 7, 64, 1000, 50_000):
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        assert client.client_quantile(x, q, out) == 0
        np.testing.assert_array_equal(out, kernels.quantile(x, q))
    assert client.client_quantile(np.float32([np.nan, 2, 1]), q[:1], out) == 1
    assert out[0] == 1.5
    assert client.client_quantile(np.float32([]), q, out) == 0
    assert np.isnan(out).all()


@pytest.mark.parametrize("q", [[-0.1], [1.1], [np.nan], [0.5] * 33])
def test_quantile_refuses_probabilities(client: ModuleType, q: list[float]) -> None:
    out = np.full(33, 99, np.float32)
    assert client.client_quantile(np.ones(3, np.float32), np.array(q), out) == -1
    assert (out == 99).all()


def test_tensor_functions(client: ModuleType) -> None:
    x = np.random.default_rng(4).standard_normal((50, 24)).astype(np.float32)[::-1, ::2]
    q, scale = np.array([0.75, 0.01]), np.linspace(0.1, 0.5, 12, dtype=np.float32)
    values, counts = np.zeros((15, 12), np.float32), np.full((6, 12), -1)
    levels, reals = np.zeros(x.shape, np.int8), np.zeros((2, *x.shape), np.float32)
    outputs, statuses = client.client_tensor(x, q, scale, values, levels, reals, counts)
    assert outputs == 1
    assert statuses == [0] * 14
    low, high = kernels.min_max(x, 0)
    summary = kernels.summarize(x, 0, quantiles=q)
    expected = [
        *(low, high, kernels.abs_max(x, 0), kernels.mean(x, 0), kernels.median(x, 0)),
        *(kernels.quantile(x, 0.75, 0), kernels.abs_quantile(x, 0.75, 0)),
        *(kernels.mean_no_outliers(x, 0, quantile=0.1), kernels.median_no_outliers(x, 0, quantile=0.1)),
        *(summary.min, summary.max, summary.abs_max, summary.mean, *summary.quantiles),
    ]
    np.testing.assert_array_equal(values, np.array(expected))
    assert (counts[:4] == 0).all()
    np.testing.assert_array_equal(counts[4, :4], np.histogram(x, 4, (-1, 1))[0])
    assert counts[5, 0] == 0
    np.testing.assert_array_equal(levels, kernels.quantize_linear(x, scale, 0, axis=1, qmin=-8, qmax=7))
    np.testing.assert_array_equal(reals[0], reals[1])
    np.testing.assert_array_equal(reals[1], kernels.fake_quantize(x, scale, 0, axis=1, qmin=-8, qmax=7))


def test_products(client: ModuleType) -> None:
    rng = np.random.default_rng(6)
    a = rng.integers(0, 256, (5, 9)).astype(np.uint8)
    b = rng.integers(-128, 128, (9, 7)).astype(np.int8)
    out, found = np.zeros((5, 7), np.int32), np.zeros(18, np.int32)
    expected, count = kernels.saturating_matmul(a, b, return_count=True)
    positive, negative, _, at_risk = _core._active.certify_pairs(b, 128, 128, True, True)
    assert client.client_products(a, b, out, found) == (0, 0, count, at_risk[0])
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(found, np.concatenate([positive, negative]))


def test_library(client: ModuleType) -> None:
    before = get_num_threads()
    isa, status, threads, _ = client.client_library(before)
    assert (isa.decode(), status, threads) == (_core._active.isa, 0, before)
    assert client.client_library(0)[1:] == (-1, before, b"n is 0; pass the number of threads, at least 1")


def test_signatures_are_append_only() -> None:
    exported = {name: str(capsule).split('"')[1] for name, capsule in cython_api.__pyx_capi__.items()}
    assert exported == SIGNATURES


def test_header_is_installed() -> None:
    header = resources.files("quantstats") / "include" / "quantstats" / "capi.h"
    assert "quantstats_capi" in header.read_text()
