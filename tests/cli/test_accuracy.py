"""``quantstats quantize --max-drop``: accuracy control on the command line."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from rich.console import Console
from typer.testing import Result

from quantstats.cli.progress import Stages

# Closeness to what the floating-point model computes, which any rounding lowers.
MODULE = """
import numpy as np

CALLS = []
REFERENCE = np.load({reference!r})


def closeness(model, batches):
    scores = np.concatenate([model(batch)["scores"] for batch in batches])
    CALLS.append(len(scores))
    return float(100 - 100 * np.abs(scores - REFERENCE[: len(scores)]).mean() / np.abs(REFERENCE).mean())


class Metrics:
    @staticmethod
    def constant(model, batches):
        return float(len([model(batch) for batch in batches]))


number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path, data: Path) -> str:
    """Name of a module in the working directory."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    with np.load(data) as archive:
        np.save(tmp_path / "reference.npy", session.run(["scores"], {"image": archive["image"]})[0])
    name = f"metrics_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(reference=str(tmp_path / "reference.npy")))
    return name


def operators(path: Path) -> dict[str, str]:
    """Type of what computes each node's first input: DequantizeLinear, if the node is quantized."""
    graph = onnx.load(path).graph
    producers = {output: node.op_type for node in graph.node for output in node.output}
    return {node.name: producers.get(node.input[0], "") for node in graph.node}


def test_operations_return_to_floating_point_until_the_drop_is_met(
    quantstats: Callable[..., Result], module: str, model: Path, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "int8.onnx"
    options = ("--data", data, "--test-data", data, "-o", output, "--latency-seconds", 0, "--json", "-")
    validated = ("--max-drop", 0.5, "--validation", f"{module}:closeness")
    result = quantstats("quantize", model, *options, *validated)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["accuracy_control"]
    assert report["fp32_metric"] > 99.99
    assert report["int8_metric"] < report["fp32_metric"] - 0.5
    assert report["reached"]
    assert report["metric"] >= report["fp32_metric"] - 0.5
    assert report["validations"] == len(sys.modules[module].CALLS)
    assert set(sys.modules[module].CALLS) == {40}
    reverted = [operation for group in report["reverted"] for operation in group["operations"]]
    assert 0 < len(reverted) < report["quantized_operations"]
    found = operators(output)
    assert all(found[name] != "DequantizeLinear" for name in reverted)
    left = json.loads(result.stdout)["operations"]["left_in_float"]
    assert set(reverted) <= {name for group in left for name in group["operations"]}


def test_the_table_has_a_row_for_every_validation(
    quantstats: Callable[..., Result], module: str, model: Path, data: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--test-data", data, "-o", tmp_path / "int8.onnx", "--latency-seconds", 0)
    result = quantstats("quantize", model, *options, "--max-drop", 0.5, "--validation", f"{module}:closeness")
    assert result.exit_code == 0, result.output
    assert "max drop 0.5, absolute" in result.stdout
    assert "nothing (as given)" in result.stdout
    (row,) = [line for line in result.stdout.splitlines() if line.rstrip().endswith("result │")]
    assert "│" in row


def test_top1_accuracy_is_the_default_metric(
    quantstats: Callable[..., Result], model: Path, data: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "-o", tmp_path / "int8.onnx", "--latency-seconds", 0, "--json", "-")
    result = quantstats("quantize", model, *options, "--labels", "label", "--max-drop", 0.9, "--drop-type", "RELATIVE")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    report = summary["accuracy_control"]
    assert report["drop_type"] == "relative"
    # Both are taken on the samples that calibration leaves.
    assert summary["evaluation_data"]["samples"] == 5
    assert (report["fp32_metric"], report["metric"]) == tuple(summary["top1_accuracy"].values())


def test_a_drop_that_is_not_met_is_a_note(
    quantstats: Callable[..., Result], module: str, model: Path, data: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--test-data", data, "-o", tmp_path / "int8.onnx", "--latency-seconds", 0)
    result = quantstats("quantize", model, *options, "--max-drop", 0, "--validation", f"{module}:closeness")
    assert result.exit_code == 0, result.output
    assert "note: max_drop=0 is met only with all 3 operations in floating point" in result.stderr


def test_a_second_run_takes_the_results_from_the_journal(
    quantstats: Callable[..., Result], module: str, model: Path, data: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "intermediate"
    options = ("--data", data, "--test-data", data, "--latency-seconds", 0, "--json", "-")
    validated = ("--max-drop", 0.5, "--validation", f"{module}:closeness", "--intermediate-dir", directory)
    first = quantstats("quantize", model, *options, *validated, "-o", tmp_path / "a.onnx")
    assert first.exit_code == 0, first.output
    calls = len(sys.modules[module].CALLS)
    second = quantstats("quantize", model, *options, *validated, "-o", tmp_path / "b.onnx")
    assert second.exit_code == 0, second.output
    assert len(sys.modules[module].CALLS) == calls
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    onnx.checker.check_model(str(directory / "intermediate_model.onnx"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-drop", 0.1), "--max-drop needs something to measure the drop by; give --validation"),
        (("--max-drop", 0.1, "--validation", "module"), "--validation 'module' does not name a function; write it as"),
        (("--max-drop", 0.1, "--validation", "no_such:f"), "module 'no_such' cannot be imported"),
        (("--max-drop", 0.1, "--validation", "{module}:number"), "has no function 'number'; give one that takes a"),
        (("--max-drop", 0.1, "--validation", "{module}:missing"), "has no function 'missing'"),
        (("--validation", "{module}:closeness"), "belong to accuracy control; give --max-drop too"),
        (("--tune-hyperparams",), "belong to accuracy control; give --max-drop too"),
        (("--max-drop", 0.1, "--labels", "label", "--validation-data", "none.npz"), "data 'none.npz' do not exist"),
    ],
)
def test_wrong_options_are_named(
    quantstats: Callable[..., Result],
    module: str,
    model: Path,
    data: Path,
    tmp_path: Path,
    options: tuple[object, ...],
    message: str,
) -> None:
    given = [str(option).format(module=module) for option in options]
    result = quantstats("quantize", model, "--data", data, "-o", tmp_path / "int8.onnx", *given)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert not (tmp_path / "int8.onnx").exists()


def test_a_function_may_be_an_attribute(
    quantstats: Callable[..., Result], module: str, model: Path, data: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "-o", tmp_path / "int8.onnx", "--latency-seconds", 0, "--json", "-")
    result = quantstats("quantize", model, *options, "--max-drop", 0, "--validation", f"{module}:Metrics.constant")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["accuracy_control"]["metric"] == 5.0


def test_a_line_for_every_kind_of_work() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, _environ={})
    with Stages(console) as stages, stages.accuracy_control() as show:
        show("Validating", 1, None, "fp32: 0.99")
        show("Ranking", 1, 4, "conv")
        show("Ranking", 2, 4, "gemm")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert re.search(r"Validating .*fp32: 0\.99", text)
    assert re.search(r"Ranking .*50% gemm", text)
