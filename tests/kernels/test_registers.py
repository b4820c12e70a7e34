"""Kernels leave no dirty upper halves of vector registers, which slow down every SSE instruction after them."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quantstats._core import Target

# XGETBV with ECX = 1 tells which parts of the register state are in use: bit 2 the upper halves of YMM, bit 6 of ZMM.
SOURCE = """
unsigned in_use(void) { unsigned a, d; __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(1)); return a & 0x44; }
void clean(void) { __asm__ volatile("vzeroupper"); }
void dirty(void) { __asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0" ::: "xmm0"); }
"""
X = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)
KERNELS: dict[str, Callable[[Target], object]] = {
    "min_max": lambda target: target.min_max(X, None, False, "raise"),
    "min_max of a few": lambda target: target.min_max(X[0, :10], None, False, "raise"),
    "min_max of rows": lambda target: target.min_max(X, 1, False, "raise"),
    "min_max of columns": lambda target: target.min_max(X, 0, False, "raise"),
    "mean": lambda target: target.mean(X, None, False, "raise"),
    "quantile": lambda target: target.quantile(X, [0.01, 0.99], None, False, "raise"),
    "median of columns": lambda target: target.median(X, 0, False, "raise"),
    "quantize_linear": lambda target: target.quantize_linear(X, 0.1, 0, None, -128, 127, np.int8, None),
    "fake_quantize": lambda target: target.fake_quantize(X, 0.1, 0, None, -128, 127, None),
    "bit_histogram": lambda target: target.bit_histogram(X, np.zeros(65536, np.uint64)),
}


@pytest.fixture(scope="module")
def registers(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL | None:
    """Functions that look at the registers; None where there is no such state to look at."""
    cpu = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not cpu.exists() or not {"avx2", "xgetbv1"} <= set(cpu.read_text().split()):
        return None
    source = tmp_path_factory.mktemp("registers") / "registers.c"
    source.write_text(SOURCE)
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler is needed"
    library = source.with_suffix(".so")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", source, "-o", library], check=True)
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("kernel", KERNELS)
def test_upper_halves_are_clean(target: Target, kernel: str, registers: ctypes.CDLL | None) -> None:
    if registers is None:
        return
    call, clean, in_use = KERNELS[kernel], registers.clean, registers.in_use
    call(target)  # what is imported or bound on the first call is over
    clean()
    call(target)
    assert in_use() == 0


def test_the_check_sees_dirty_halves(registers: ctypes.CDLL | None) -> None:
    if registers is None:
        return
    dirty, in_use = registers.dirty, registers.in_use
    dirty()
    assert in_use() != 0
    registers.clean()
