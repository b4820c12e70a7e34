"""The command as a process: its exit status, its streams, and what an interrupt leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

COMMAND = (sys.executable, "-m", "quantstats.cli")

# Far longer than anything here takes, even on a machine that does other things.
TIMEOUT = 120


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def test_the_console_script_is_this_command() -> None:
    script = Path(sys.executable).with_name("quantstats")
    result = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert "quantize" in result.stdout
    assert "config" in result.stdout


def test_quantize_writes_the_model_and_prints_the_table_on_standard_output(
    model: Path, data: Path, tmp_path: Path
) -> None:
    result = run("quantize", model, "--data", data, "-o", tmp_path / "o.onnx", "--latency-seconds", "0.01")
    assert result.returncode == 0, result.stderr
    assert "SQNR" in result.stdout
    assert result.stderr == ""
    assert (tmp_path / "o.onnx").exists()


def test_an_error_is_one_line_on_standard_error(data: Path, tmp_path: Path) -> None:
    result = run("quantize", tmp_path / "nowhere.onnx", "--data", data, "-o", tmp_path / "o.onnx")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "nowhere.onnx" in result.stderr


def test_usage_errors_are_status_2() -> None:
    assert run("quantize").returncode == 2
    assert run("--no-such-option").returncode == 2


def test_config_prints_the_instruction_sets() -> None:
    result = run("config")
    assert result.returncode == 0, result.stderr
    assert "scalar" in result.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_an_interrupt_in_the_middle_of_the_work_leaves_nothing(
    make_classifier: Callable[..., Path],
    make_images: Callable[[int], np.ndarray],
    tmp_path: Path,
    number: signal.Signals,
    status: int,
) -> None:
    model = make_classifier(tmp_path / "slow.onnx", slow=4)
    np.savez(tmp_path / "data.npz", image=make_images(60))
    before = set(tmp_path.iterdir())
    # Latency is measured last, when the new model is written beside its place: an interrupt there finds the most to
    # clean up. Without one it would go on for longer than the test waits.
    arguments = ("quantize", model, "--data", tmp_path / "data.npz", "-o", tmp_path / "o.onnx", "--subset-size", "20")
    arguments += ("--json", tmp_path / "o.json", "--latency-seconds", str(10 * TIMEOUT))
    process = subprocess.Popen(
        [sys.executable, "-c", _HEED_INTERRUPTS + _RUN, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: set(tmp_path.iterdir()) != before, process)
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == status, err
    assert out == ""
    assert "Traceback" not in err
    assert set(tmp_path.iterdir()) == before


def test_an_interrupt_while_calibrating_leaves_nothing(
    make_classifier: Callable[..., Path], make_images: Callable[[int], np.ndarray], tmp_path: Path
) -> None:
    model = make_classifier(tmp_path / "slow.onnx", slow=30)
    np.savez(tmp_path / "data.npz", image=make_images(20_000))
    before = set(tmp_path.iterdir())
    arguments = (
        "quantize",
        model,
        "--data",
        tmp_path / "data.npz",
        "-o",
        tmp_path / "o.onnx",
        "--subset-size",
        "19000",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", _HEED_INTERRUPTS + _ANNOUNCE_CALIBRATION + _RUN, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "calibrating\n"
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err == "interrupted: nothing is written\n"
    assert set(tmp_path.iterdir()) == before


# A shell starts jobs in the background with interrupts ignored, and a child inherits that from the test run.
_HEED_INTERRUPTS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
"""

_RUN = """
from quantstats.cli import main
main()
"""

# Prints one line once the first samples have been read.
_ANNOUNCE_CALIBRATION = """
from quantstats.cli.data import SampleFiles

rows, count = SampleFiles.rows, 0

def announced(self, *arguments):
    global count
    count += 1
    if count == 5:
        print("calibrating", flush=True)
    return rows(self, *arguments)

SampleFiles.rows = announced
"""


@pytest.mark.parametrize("module", ["typer", "rich", "onnx", "onnxruntime"])
def test_a_missing_library_is_one_line_with_what_to_install(
    model: Path, data: Path, tmp_path: Path, module: str
) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from quantstats.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "quantize", model, "--data", data, "-o", tmp_path / "o.onnx"],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: {module} is not installed; install the extras: pip install 'quantstats-native[onnx,cli]'\n"
    )
    assert not (tmp_path / "o.onnx").exists()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the command does not get there"
        time.sleep(0.01)
