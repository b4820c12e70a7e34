"""``quantstats quantize --statistics``: the model that the data themselves give, without them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import Result

import quantstats as qs

Command = Callable[..., Result]


@pytest.fixture
def statistics(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> Path:
    """Statistics of the first 20 samples."""
    path = tmp_path / "s.safetensors"
    assert quantstats("calibrate", model, "--data", data, "-o", path, "--subset-size", 20, "-q").exit_code == 0
    return path


def error_of(result: Result) -> str:
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--range-estimator", "mean_quantile", "--preset", "mixed", "--overflow-fix", "disable"),
        ("--range-estimator", "mse", "--ignore-type", "Gemm"),
    ],
)
def test_the_model_is_that_of_the_data(
    quantstats: Command, model: Path, data: Path, statistics: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    common = (*options, "--latency-seconds", "0", "-q")
    outputs = [tmp_path / "from_data.onnx", tmp_path / "from_statistics.onnx"]
    sources = (("--data", data, "--subset-size", 20), ("--statistics", statistics))
    for out, source in zip(outputs, sources, strict=True):
        result = quantstats("quantize", model, *source, "-o", out, *common)
        assert (result.exit_code, result.output) == (0, "")
    first, second = (onnx.load(out) for out in outputs)
    assert first == second


def test_the_model_is_not_calibrated(
    quantstats: Command, model: Path, statistics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantstats.ptq.quantize.observe", lambda *_, **__: pytest.fail("the model is run"))
    out = tmp_path / "int8.onnx"
    result = quantstats("quantize", model, "--statistics", statistics, "-o", out, "--json", "-")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["calibration"]["samples"] == 20
    assert found["calibration"]["observed_tensors"] > 0
    assert found["operations"]["quantized"]["Conv"] == 1
    assert found["file_bytes"]["int8"] == out.stat().st_size
    # There are no samples to compare the models on.
    assert (found["evaluation_data"], found["outputs"], found["latency"], found["top1_accuracy"]) == (
        None,
        {},
        None,
        None,
    )


def test_the_table_says_that_nothing_is_compared(
    quantstats: Command, model: Path, statistics: Path, tmp_path: Path
) -> None:
    result = quantstats("quantize", model, "--statistics", statistics, "-o", tmp_path / "int8.onnx")
    assert result.exit_code == 0, result.output
    assert "calibrated on 20 samples" in result.stdout
    assert "outputs not compared: there are no samples; give --test-data" in result.stdout


def test_test_data_compare_the_models(
    quantstats: Command, model: Path, data: Path, statistics: Path, tmp_path: Path
) -> None:
    options = ("--test-data", data, "--labels", "label", "--latency-seconds", 0.05, "--batch-size", 4, "--json", "-")
    result = quantstats("quantize", model, "--statistics", statistics, "-o", tmp_path / "int8.onnx", *options)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["evaluation_data"] == {"samples": 40, "origin": "of data.npz", "seen_in_calibration": False}
    assert found["outputs"]["scores"]["sqnr_db"] > 10
    assert 0 <= found["top1_accuracy"]["int8"] <= 1
    assert found["latency"]["runs"] > 0


def test_data_and_statistics_exclude_each_other_and_one_is_needed(
    quantstats: Command, model: Path, data: Path, statistics: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8.onnx"
    line = error_of(quantstats("quantize", model, "-o", out))
    assert line.startswith("error: there is nothing to calibrate with; give --data with samples, or --statistics")
    line = error_of(quantstats("quantize", model, "--data", data, "--statistics", statistics, "-o", out))
    assert line.startswith("error: --data and --statistics are both given")
    line = error_of(quantstats("quantize", model, "--statistics", statistics, "--labels", "label", "-o", out))
    assert line.startswith("error: --labels 'label' needs samples to go with")
    assert not out.exists()


def test_wrong_statistics_are_refused(
    quantstats: Command,
    model: Path,
    data: Path,
    statistics: Path,
    make_classifier: Callable[..., Path],
    tmp_path: Path,
) -> None:
    out = tmp_path / "int8.onnx"
    line = error_of(quantstats("quantize", model, "--statistics", data, "-o", out))
    assert f"{data} is truncated or no statistics file" in line
    other = make_classifier(tmp_path / "other.onnx", slow=1)
    line = error_of(quantstats("quantize", other, "--statistics", statistics, "-o", out))
    assert "the statistics are of another model" in line
    line = error_of(quantstats("quantize", model, "--statistics", statistics, "-o", statistics, "--overwrite"))
    assert "would replace a file that is read" in line
    few = tmp_path / "few"
    with np.load(data) as archive:
        scope = qs.IgnoredScope(types=["Gemm"])
        qs.calibrate(model, archive["image"][:2], ignored_scope=scope, progress=False).save(few)
    line = error_of(quantstats("quantize", model, "--statistics", few, "-o", out))
    assert "the statistics lack tensor" in line
    assert not out.exists()
