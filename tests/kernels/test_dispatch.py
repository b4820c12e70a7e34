"""Choice of the instruction set when the package is imported."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quantstats import _core


def run(isa: str | None, code: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "QUANTSTATS_ISA"}
    if isa is not None:
        environment["QUANTSTATS_ISA"] = isa
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


SHOW = "from quantstats import _core; print(_core.build_info()['isa_active'], _core._active.isa)"


@pytest.mark.parametrize("isa", _core.build_info()["isa_runnable"])
def test_environment_selects(isa: str) -> None:
    done = run(isa, SHOW)
    assert done.stdout.split() == [isa, isa], done.stderr


def test_best_runnable_is_the_default() -> None:
    best = _core.build_info()["isa_runnable"][0]
    for unset in (None, ""):
        done = run(unset, SHOW)
        assert done.stdout.split() == [best, best], done.stderr


@pytest.mark.parametrize("value", ["sse9", "AVX2", " avx2"])
def test_unknown_value_is_an_import_error(value: str) -> None:
    done = run(value, "from quantstats import _core")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: environment variable QUANTSTATS_ISA"), done.stderr
    assert repr(value) in last
    for isa in _core.build_info()["isa_built"]:
        assert isa in last


def test_targets_are_the_runnable_instruction_sets() -> None:
    info = _core.build_info()
    assert tuple(_core._targets) == info["isa_runnable"]
    assert set(info["isa_runnable"]) <= set(info["isa_built"])
    assert info["isa_built"][-1] == info["isa_runnable"][-1] == "scalar"
    for name, target in _core._targets.items():
        assert target.isa == name
        assert target.min_max(np.float32([3, 1, 2]), None, False, "raise") == (1, 3)


def test_x86_64_builds_everything(instruction_sets: tuple[str, ...]) -> None:
    assert _core.build_info()["isa_built"] == instruction_sets


def test_runnable_agrees_with_the_kernel_of_the_system() -> None:
    """Every level of x86-64 that Linux reports is found, and none that it does not."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        assert "scalar" in _core._targets
        return
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = set(next(line for line in lines if line.startswith("flags")).split(":")[1].split())
    v3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"} <= flags
    v4 = v3 and {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags
    assert ("avx2" in _core._targets, "avx512" in _core._targets) == (v3, v4)
    assert "sse2" in _core._targets
