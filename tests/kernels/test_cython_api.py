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

from quantstats import cython_api, kernels

# Only additions are allowed here: a changed line breaks compiled clients.
SIGNATURES = {
    "min_max": "int64_t (float const *, int64_t, float *, float *)",
    "quantize_s8": "int (float const *, int64_t, float, int32_t, int32_t, int32_t, int8_t *)",
    "quantize_u8": "int (float const *, int64_t, float, int32_t, int32_t, int32_t, uint8_t *)",
    "quantile": "int64_t (float const *, int64_t, double const *, int32_t, float *)",
}

CLIENT = """
from libc.stdint cimport int8_t, uint8_t
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


def test_signatures_are_append_only() -> None:
    exported = {name: str(capsule).split('"')[1] for name, capsule in cython_api.__pyx_capi__.items()}
    for name, signature in SIGNATURES.items():
        assert exported[name] == signature


def test_header_is_installed() -> None:
    header = resources.files("quantstats") / "include" / "quantstats" / "capi.h"
    assert "quantstats_capi" in header.read_text()
