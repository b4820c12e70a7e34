"""What the package has to say about a model reaches the person, once, on standard error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from typer.testing import Result


@pytest.fixture
def old_model(make_classifier: Callable[..., Path], tmp_path: Path) -> Path:
    """The classifier in opset 11."""
    return make_classifier(tmp_path / "old.onnx", opset=11)


def test_a_model_of_an_old_opset_is_raised_with_a_line_that_says_so(
    quantstats: Callable[..., Result], old_model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.onnx"
    result = quantstats("quantize", old_model, "--data", data, "-o", out, "--latency-seconds", 0)
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("note: ")
    assert "opset 11" in line
    assert "13" in line
    assert onnx.load(out).opset_import[0].version == 13


def test_quiet_keeps_notes_back_and_no_handler_stays(
    quantstats: Callable[..., Result], old_model: Path, data: Path, tmp_path: Path
) -> None:
    result = quantstats("quantize", old_model, "--data", data, "-o", tmp_path / "o.onnx", "-q", "--latency-seconds", 0)
    assert (result.exit_code, result.output) == (0, "")
    assert logging.getLogger("quantstats").handlers == []
