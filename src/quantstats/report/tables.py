"""The summary of a quantization as a table on a terminal."""

from __future__ import annotations

import math
from collections import defaultdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantstats.ptq.accuracy_control.report import AccuracyControlReport
from quantstats.report.sqnr import OutputError
from quantstats.report.summary import OperationsSummary, Summary


def render(summary: Summary) -> Group:
    """Return the whole result: what was quantized, and how close, small and fast the quantized model is."""
    head = (
        f"{summary.output}\ncalibrated on {_count(summary.calibration_samples, 'sample')}, "
        f"{_count(summary.observed_tensors, 'tensor')}, in {summary.quantization_seconds:.2f} s"
    )
    data = summary.evaluation_data
    foot = (
        "outputs not compared: there are no samples; give --test-data"
        if data is None
        else f"outputs compared on {_count(data.samples, 'sample')} {data.origin}"
    )
    controlled: list[RenderableType] = []
    if summary.accuracy_control is not None:
        controlled = [control_table(summary.accuracy_control), ""]
    return Group(
        Text(head),
        "",
        operations_table(summary.operations),
        "",
        *controlled,
        comparison_table(summary),
        Text(foot, style="italic"),
    )


def control_table(report: AccuracyControlReport) -> Table:
    """Return a table with a row per validation of accuracy control, the result marked."""
    reached = "" if report.reached else ", not reached"
    table = Table(title=f"max drop {report.max_drop:g}, {report.drop_type.value}{reached}", title_justify="left")
    table.add_column("reverted to float", overflow="fold")
    table.add_column("metric", justify="right")
    table.add_column("drop", justify="right")
    table.add_column("")
    table.add_row(Text("fp32"), f"{report.fp32_metric:.6g}", "", "")
    result = (report.settings, tuple(group.name for group in report.reverted))
    for step in report.steps:
        marked = "result" if (step.settings, step.reverted) == result else ""
        what = "\n".join(step.reverted) or f"nothing ({step.settings})"
        table.add_row(Text(what), f"{step.metric:.6g}", f"{step.drop:.6g}", marked)
    return table


def operations_table(operations: OperationsSummary) -> Table:
    """Return a table with a row per operation type: how many run on integers, how many do not, and why."""
    table = Table(title="Operations", title_justify="left", show_footer=True)
    table.add_column("type", footer="all")
    table.add_column("int8", justify="right", footer=str(operations.quantized_count))
    table.add_column("float", justify="right", footer=str(operations.float_count))
    table.add_column("why in float", overflow="fold")
    left: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for group in operations.left_in_float:
        left[group.type].append((len(group.operations), group.reason))
    for kind in dict.fromkeys([*operations.quantized, *left]):
        reasons = left.get(kind, [])
        lines = [reason if len(reasons) == 1 else f"{count} x {reason}" for count, reason in reasons]
        # Text, not str: names and reasons come from the model, and rich would take "[0]" in them for markup.
        table.add_row(
            Text(kind),
            str(operations.quantized.get(kind, 0) or ""),
            str(sum(count for count, _ in reasons) or ""),
            Text("\n".join(lines)),
        )
    return table


def comparison_table(summary: Summary) -> Table:
    """Return a table that sets the quantized model beside the original."""
    table = Table(title="int8 against fp32", title_justify="left")
    table.add_column("", overflow="fold")
    table.add_column("fp32", justify="right")
    table.add_column("int8", justify="right")
    table.add_column("result", justify="right")
    for name, error in summary.outputs.items():
        table.add_row(Text(f"output {name}"), "", "", _closeness(error))
    if summary.accuracy is not None:
        fp32, int8 = 100 * summary.accuracy.fp32, 100 * summary.accuracy.int8
        table.add_row("top-1 accuracy", f"{fp32:.2f} %", f"{int8:.2f} %", f"{int8 - fp32:+.2f} points")
    size = summary.file_bytes
    table.add_row("file size", file_size(size.fp32), file_size(size.int8), f"{size.ratio:.2f}x smaller")
    latency = summary.latency
    if latency is not None:
        table.add_row(
            f"latency, batch {latency.batch_size}",
            duration(latency.fp32.median_ms),
            duration(latency.int8.median_ms),
            _speed_up(latency.speed_up),
        )
    return table


def file_size(size: float) -> str:
    """Return a number of bytes in the unit that fits: ``"97.3 KB"``, with 1 KB = 1,000 bytes."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit, length in (("KB", 1e3), ("MB", 1e6)):
        if size < 999.95 * length:
            return f"{size / length:.1f} {unit}"
    return f"{size / 1e9:.1f} GB"


def duration(milliseconds: float) -> str:
    """Return a time in the unit that fits, with three digits: ``"41.2 us"``."""
    for unit, length in (("us", 1e-3), ("ms", 1.0)):
        value = milliseconds / length
        if value < 999.5:
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return f"{milliseconds / 1e3:.2f} s"


def _closeness(error: OutputError) -> str:
    sqnr = error.sqnr_db
    if sqnr is None:
        return f"{100 * error.agreement:.2f} % equal"
    if sqnr == math.inf:
        return "identical"
    if sqnr == -math.inf:
        return "SQNR -inf dB"
    return f"SQNR {sqnr:.1f} dB"


def _speed_up(speed_up: float) -> str:
    return f"{speed_up:.2f}x faster" if speed_up >= 1 else f"{1 / speed_up:.2f}x slower"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


__all__ = ["comparison_table", "control_table", "duration", "file_size", "operations_table", "render"]
