"""The table as a person sees it."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from quantstats.report.latency import Latency
from quantstats.report.sqnr import OutputError
from quantstats.report.summary import (
    EvaluationData,
    FloatOperations,
    LatencySummary,
    OperationsSummary,
    Pair,
    Summary,
)
from quantstats.report.tables import duration, file_size, render


def printed(summary: Summary) -> str:
    console = Console(file=io.StringIO(), width=110, color_system=None)
    with console.capture() as capture:
        console.print(render(summary))
    return capture.get()


def summary(**changes: object) -> Summary:
    values: dict[str, object] = {
        "model": "a.onnx",
        "output": "b.onnx",
        "calibration_samples": 300,
        "observed_tensors": 1,
        "quantization_seconds": 0.25,
        "operations": OperationsSummary(
            {"Conv": 2, "Gemm": 1},
            (
                FloatOperations("Softmax", "stays in floating point", {"s": "", "t": ""}),
                FloatOperations("Conv", "ignored", {"c": ""}),
                FloatOperations("Conv", "reads [0] of another", {"d": "", "e": ""}),
            ),
        ),
        "evaluation_data": EvaluationData(50, "of data.npz, held back"),
        "outputs": {"logits": OutputError(1000.0, 1.0, 3, 100, floating=True)},
        "file_bytes": Pair(416_512, 110_000),
        "latency": LatencySummary(1, Latency(0.3, 0.2, 99), Latency(0.1, 0.05, 99)),
        "accuracy": Pair(0.99, 0.985),
    }
    return Summary(**{**values, **changes})  # type: ignore[arg-type]


def row(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip(" │┃").startswith(start)]
    return [cell.strip() for cell in line.strip().strip("│┃").replace("┃", "│").split("│")]


def test_a_row_for_every_operation_type_with_counts_and_reasons() -> None:
    text = printed(summary())
    assert row(text, "Conv") == ["Conv", "2", "3", "1 x ignored"]
    assert "2 x reads [0] of another" in text
    assert row(text, "Gemm") == ["Gemm", "1", "", ""]
    assert row(text, "Softmax") == ["Softmax", "", "2", "stays in floating point"]
    assert row(text, "all") == ["all", "3", "5", ""]


def test_the_comparison() -> None:
    text = printed(summary())
    assert "calibrated on 300 samples, 1 tensor, in 0.25 s" in text
    assert row(text, "output logits") == ["output logits", "", "", "SQNR 30.0 dB"]
    assert row(text, "top-1 accuracy") == ["top-1 accuracy", "99.00 %", "98.50 %", "-0.50 points"]
    assert row(text, "file size") == ["file size", "416.5 KB", "110.0 KB", "3.79x smaller"]
    assert row(text, "latency") == ["latency, batch 1", "300 us", "100 us", "3.00x faster"]
    assert "outputs compared on 50 samples of data.npz, held back" in text


def test_a_slower_model_is_called_slower() -> None:
    slow = LatencySummary(8, Latency(1.0, 1.0, 9), Latency(1.5, 1.5, 9))
    assert row(printed(summary(latency=slow)), "latency")[-1] == "1.50x slower"


def test_without_labels_and_latency_there_are_no_rows_for_them() -> None:
    text = printed(summary(accuracy=None, latency=None))
    assert "accuracy" not in text
    assert "latency" not in text


def test_one_sample_is_singular_and_markup_in_a_name_stays_as_it_is() -> None:
    text = printed(summary(evaluation_data=EvaluationData(1, "of [red].npz", seen_in_calibration=True)))
    assert "outputs compared on 1 sample of [red].npz" in text


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OutputError(1.0, 0.0, 1, 1, floating=True), "identical"),
        (OutputError(1.0, math.inf, 0, 1, floating=True), "SQNR -inf dB"),
        (OutputError(0.0, 0.0, 3, 4, floating=False), "75.00 % equal"),
    ],
)
def test_outputs_without_a_finite_sqnr(error: OutputError, shown: str) -> None:
    assert row(printed(summary(outputs={"y[0]": error})), "output y[0]")[-1] == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_949, "999.9 KB"), (999_960, "1.0 MB"), (2.5e9, "2.5 GB")],
)
def test_file_size(size: float, shown: str) -> None:
    assert file_size(size) == shown


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (0.00123, "1.23 us"),
        (0.00999, "9.99 us"),
        (0.009996, "10.0 us"),
        (0.0412, "41.2 us"),
        (0.9994, "999 us"),
        (0.9996, "1.00 ms"),
        (31.2, "31.2 ms"),
        (2500, "2.50 s"),
    ],
)
def test_duration(milliseconds: float, shown: str) -> None:
    assert duration(milliseconds) == shown
