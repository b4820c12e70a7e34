"""``quantstats overflow``: what it reports, its exit status, and what it refuses."""

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
def int8(model: Path, data: Path, tmp_path: Path) -> Callable[[qs.OverflowFix], Path]:
    """Quantize the classifier with a fix, and give the path."""

    def make(fix: qs.OverflowFix) -> Path:
        path = tmp_path / f"{fix}.onnx"
        with np.load(data) as archive:
            advanced = qs.AdvancedQuantizationParameters(overflow_fix=fix)
            onnx.save(qs.quantize(model, archive["image"], advanced_parameters=advanced, progress=False), path)
        return path

    return make


def test_a_model_at_risk_fails_if_asked_to(quantstats: Command, int8: Callable[[qs.OverflowFix], Path]) -> None:
    path = int8(qs.OverflowFix.DISABLE)
    shown = quantstats("overflow", path)
    assert shown.exit_code == 0, shown.output
    assert "at risk" in shown.stdout
    assert "2 of 2 layers can saturate" in shown.stdout
    failed = quantstats("overflow", path, "--fail-on-risk")
    assert (failed.exit_code, failed.stdout) == (1, shown.stdout)


def test_a_safe_model_passes(quantstats: Command, int8: Callable[[qs.OverflowFix], Path]) -> None:
    shown = quantstats("overflow", int8(qs.OverflowFix.AUTO), "--fail-on-risk")
    assert shown.exit_code == 0, shown.output
    assert "proven: no input saturates a sum in any of 2 layers" in shown.stdout
    assert "at risk" not in shown.stdout.replace("outputs at risk", "").replace("pairs at risk", "")


def test_the_document_is_the_report(quantstats: Command, int8: Callable[[qs.OverflowFix], Path]) -> None:
    path = int8(qs.OverflowFix.DISABLE)
    result = quantstats("overflow", path, "--pairing", "adjacent", "--json", "-")
    assert result.exit_code == 0, result.output
    report = qs.overflow.analyze(path, pairing="adjacent")
    document = json.loads(result.stdout)
    assert document == {"model": str(path), **json.loads(json.dumps(report.to_dict()))}
    assert [layer["safe"] for layer in document["layers"]] == [layer.safe for layer in report.layers]


def test_statistics_and_simulation(
    quantstats: Command, model: Path, data: Path, int8: Callable[[qs.OverflowFix], Path], tmp_path: Path
) -> None:
    statistics = tmp_path / "statistics"
    assert quantstats("calibrate", model, "--data", data, "-o", statistics, "-q").exit_code == 0
    out = tmp_path / "report.json"
    options = ("--statistics", statistics, "--pairing", "adjacent", "--simulate", data, "--subset-size", 3)
    result = quantstats("overflow", int8(qs.OverflowFix.DISABLE), *options, "--json", out)
    assert result.exit_code == 0, result.output
    assert "Simulated on 3 samples" in result.stdout
    document = json.loads(out.read_text())
    first = document["layers"][0]
    assert first["observed_u_max"] <= 255
    assert first["predicted_sqnr_db"] is None or first["predicted_sqnr_db"] > 0
    assert document["simulation"]["samples"] == 3
    # 64 positions, 8 outputs, 9 weights in 5 pairs.
    assert document["simulation"]["layers"][0]["pairs"] == 3 * 64 * 8 * 5


def test_a_bound_on_activations(quantstats: Command, int8: Callable[[qs.OverflowFix], Path]) -> None:
    path = int8(qs.OverflowFix.DISABLE)
    assert quantstats("overflow", path, "--u-max", 128, "--fail-on-risk").exit_code == 0


def test_the_target_of_quantize(quantstats: Command, model: Path, data: Path, tmp_path: Path) -> None:
    for target, safe in (("avx2", True), ("vnni", False)):
        path = tmp_path / f"{target}.onnx"
        options = ("--data", data, "--target", target, "--latency-seconds", 0, "-q")
        assert quantstats("quantize", model, *options, "-o", path).exit_code == 0
        assert quantstats("overflow", path, "--fail-on-risk").exit_code == (0 if safe else 1)
    path = tmp_path / "adjacent.onnx"
    options = ("--data", data, "--overflow-fix", "auto", "--pairing", "adjacent", "--latency-seconds", 0, "-q")
    assert quantstats("quantize", model, *options, "-o", path).exit_code == 0
    assert quantstats("overflow", path, "--pairing", "adjacent", "--fail-on-risk").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pairing", "odd"), "pairing='odd' is unknown; use one of any, adjacent"),
        (("--simulate", "x.npz"), "--simulate needs to know which products are pairs"),
        (("--statistics", "missing"), "missing"),
    ],
)
def test_errors(
    quantstats: Command, int8: Callable[[qs.OverflowFix], Path], options: tuple[str, ...], message: str
) -> None:
    result = quantstats("overflow", int8(qs.OverflowFix.DISABLE), *options)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert message in line
