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
SIGNATURES = {"min_max": "int64_t (float const *, int64_t, float *, float *)"}

CLIENT = """
from quantstats.cython_api cimport min_max

def client_min_max(const float[::1] x):
    cdef float low, high
    cdef Py_ssize_t n = x.shape[0]
    cdef long nan
    with nogil:
        nan = min_max(&x[0] if n else NULL, n, &low, &high)
    return low, high, nan
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


def test_signatures_are_append_only() -> None:
    exported = {name: str(capsule).split('"')[1] for name, capsule in cython_api.__pyx_capi__.items()}
    for name, signature in SIGNATURES.items():
        assert exported[name] == signature


def test_header_is_installed() -> None:
    header = resources.files("quantstats") / "include" / "quantstats" / "capi.h"
    assert "quantstats_capi" in header.read_text()
