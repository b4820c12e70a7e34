"""The report: one table of all cases from the JSON of pytest-benchmark, then ``N of M gates met``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.case import Case
from benchmarks.cases import CASES
from benchmarks.gates import Gate, format_value

GOAL, GATE, SHORT, NONE = "✓✓", "✓", "✗", ""
SHOWN_FAILURES = 4
_STYLES = {GOAL: "bold green", GATE: "green", SHORT: "bold red", NONE: ""}


@dataclass
class Run:
    """A run as its file tells it."""

    isas: list[str]
    cases: list[Case]
    results: dict[tuple[str, str], Mapping[str, Any]]
    failed: dict[str, str]
    title: str
    missing: list[tuple[str, str]] = field(default_factory=list)


def load(document: Mapping[str, Any], known: Iterable[Case] = CASES) -> Run:
    """Read what pytest-benchmark wrote."""
    about = document["quantstats"]
    chosen = [(entry["case"], entry["isa"]) for entry in about["chosen"]]
    keys = {key for key, _ in chosen}
    results = {}
    for benchmark in document["benchmarks"]:
        information = benchmark["extra_info"]
        results[information["case"], information["isa"]] = information
    threads = about["threads"]
    return Run(
        isas=list(dict.fromkeys(isa for _, isa in chosen)),
        cases=[case for case in known if case.key in keys],
        results=results,
        failed=dict(about["failed"]),
        title=f"{about['cpu']}, {about['cpus']} CPUs; {threads} thread{'s' if threads > 1 else ''}"
        + (", quick run" if about["quick"] else ""),
        missing=[pair for pair in chosen if pair not in results],
    )


def mark(met: bool | None, goal_met: bool | None) -> str:
    """Return the sign of a comparison."""
    if met is False:
        return SHORT
    if goal_met:
        return GOAL
    return GATE if met else NONE


def count(run: Run) -> tuple[int, int]:
    """Return how many gates are met, of how many; a case that gave no result meets none of its gates."""
    met = total = 0
    for case in run.cases:
        for isa in run.isas:
            result = run.results.get((case.key, isa))
            if result is not None:
                judged = [gate["met"] for gate in result["gates"] if gate["met"] is not None]
                met += sum(judged)
                total += len(judged)
            elif (case.key, isa) in run.missing:
                total += sum(gate.gate is not None for gate in case.gates)
    return met, total


def goals(run: Run) -> tuple[int, int]:
    """Return how many goals are reached, of how many that were measured."""
    reached = [
        gate["goal_met"] for result in run.results.values() for gate in result["gates"] if gate["goal_met"] is not None
    ]
    return sum(reached), len(reached)


def final_line(run: Run) -> str:
    """Return the last line."""
    met, total = count(run)
    return f"{met} of {total} gates met"


def _speed_cell(result: Mapping[str, Any] | None) -> Text:
    if result is None:
        return Text("not measured", "bold red")
    microseconds, best = result["median_us"], result["best_decile_us"]
    unit, divisor = ("us", 1) if microseconds < 1000 else ("ms", 1000)
    text = f"{microseconds / divisor:.3g} {unit} ({best / divisor:.3g})"
    rate = result["gigabytes_per_second"]
    return Text(f"{text}  {rate:.3g} GB/s" if rate >= 0.1 else text)


def _gate_cell(result: Mapping[str, Any] | None, index: int, gate: Gate) -> Text:
    if result is None:
        return Text(SHORT if gate.gate is not None else "", _STYLES[SHORT])
    judged = result["gates"][index]
    sign = mark(judged["met"], judged["goal_met"])
    return Text(f"{format_value(gate.kind, judged['value'])} {sign:<2}", _STYLES[sign])


def table(run: Run) -> Table:
    """Return the table: a block of lines per case, one line per comparison."""
    result = Table(title=f"Kernels: {run.title}", title_justify="left")
    result.add_column("case, comparison", overflow="fold")
    result.add_column("gate", justify="right", no_wrap=True)
    result.add_column("goal", justify="right", no_wrap=True)
    for isa in run.isas:
        result.add_column(isa, justify="right", no_wrap=True)
    for case in run.cases:
        result.add_section()
        found: Sequence[Mapping[str, Any] | None] = [run.results.get((case.key, isa)) for isa in run.isas]
        result.add_row(Text(case.key, "bold"), "", "", *(_speed_cell(one) for one in found))
        for index, gate in enumerate(case.gates):
            limits = ("" if limit is None else format_value(gate.kind, limit) for limit in (gate.gate, gate.goal))
            cells = (_gate_cell(one, index, gate) for one in found)
            result.add_row(f"  {gate.label}", *limits, *cells)
    return result


def markdown(run: Run) -> str:
    """Return the table for a document: a line per case, a cell per instruction set."""
    lines = [f"{run.title}: {final_line(run)}.", "", "| case | " + " | ".join(run.isas) + " |"]
    lines.append("|---" * (1 + len(run.isas)) + "|")
    for case in run.cases:
        cells = []
        for isa in run.isas:
            result = run.results.get((case.key, isa))
            parts = [_speed_cell(result).plain]
            if result is not None:
                for gate, judged in zip(case.gates, result["gates"], strict=True):
                    value = f"{format_value(gate.kind, judged['value'])} {gate.label}"
                    sign = mark(judged["met"], judged["goal_met"])
                    parts.append(f"**{value} {sign}**" if sign == SHORT else f"{value} {sign}".strip())
            cells.append("; ".join(parts))
        lines.append(f"| {case.key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_reason(failed: Mapping[str, str]) -> dict[str, list[str]]:
    """Gather the benchmarks that failed for the same reason."""
    reasons: dict[str, list[str]] = {}
    for key, reason in failed.items():
        reasons.setdefault(reason, []).append(key)
    return reasons


def show(run: Run, console: Console) -> None:
    """Print the table, what failed, and the final line."""
    console.print(table(run))
    console.print(
        f"median of shuffled rounds (best decile); {GOAL} goal reached, {GATE} gate met, {SHORT} falls short; "
        "in L2, AVX2 must reach 0.8 of the number shown"
    )
    for reason, keys in by_reason(run.failed).items():
        more = f" and {len(keys) - SHOWN_FAILURES} more" if len(keys) > SHOWN_FAILURES else ""
        console.print(Text(f"{SHORT} {reason}\n  in {'; '.join(keys[:SHOWN_FAILURES])}{more}", "red"))
    reached, of = goals(run)
    console.print(f"{reached} of {of} goals reached")
    console.print(final_line(run))


def read(path: Path) -> Run:
    """Read the file at `path`."""
    return load(json.loads(path.read_text()))
