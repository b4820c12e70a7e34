"""The hand-written stub of the compiled module says what the module has: names, parameters, what is positional."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# What a stub cannot say of any class of pybind11: its metaclass, and the __init__ that refuses to make an instance.
ALLOWED = r"""
quantstats\._core\.Target
quantstats\._core\.Target\.__init__
"""


def stubtest(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # In another directory: beside the sources, mypy would look for the modules there.
    command = [sys.executable, "-m", "mypy.stubtest", "quantstats._core", "--concise", *options]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_stub_of_the_compiled_module(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed.txt"
    allowed.write_text(ALLOWED)
    result = stubtest(tmp_path, "--allowlist", str(allowed))
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_check_finds_what_differs(tmp_path: Path) -> None:
    # Without the list, what pybind11 adds is reported: the check did look at the module.
    result = stubtest(tmp_path)
    assert result.returncode == 1
    assert "quantstats._core.Target" in result.stdout
