"""The report on saturation as tables on a terminal, and as a dictionary."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantstats.overflow.analysis import LayerReport, OverflowReport
from quantstats.overflow.simulation import Simulation

__all__ = ["overflow_to_dict", "render_overflow"]


def render_overflow(report: OverflowReport, simulation: Simulation | None = None) -> Group:
    """Return a row per layer, what each remedy leaves of the weights, and the simulation if there is one."""
    parts: list[RenderableType] = [_risk_table(report)]
    if any(not layer.safe and layer.weight_sqnr_db for layer in report.layers):
        parts += ["", _remedy_table(report)]
    if simulation is not None:
        parts += ["", _simulation_table(simulation)]
    parts.append(Text(_conclusion(report), style="italic"))
    return Group(*parts)


def overflow_to_dict(report: OverflowReport, simulation: Simulation | None = None) -> dict[str, Any]:
    """Plain data for JSON; infinite values become ``None``."""
    document = report.to_dict()
    if simulation is not None:
        document["simulation"] = {
            "pairing": simulation.pairing,
            "samples": simulation.samples,
            "layers": [
                {
                    "name": layer.name,
                    "saturated": layer.saturated,
                    "pairs": layer.pairs,
                    "sqnr_db": _json(layer.sqnr_db),
                }
                for layer in simulation.layers
            ],
            "outputs": [{"name": output.name, "sqnr_db": _json(output.sqnr_db)} for output in simulation.outputs],
        }
    return document


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _risk_table(report: OverflowReport) -> Table:
    table = Table(title=f"Saturation, pairing {report.pairing!r}", title_justify="left")
    predicted = any(layer.predicted_sqnr_db is not None for layer in report.layers)
    table.add_column("layer", overflow="fold")
    table.add_column("type")
    table.add_column("16-bit sums")
    for column in ("outputs at risk", "pairs at risk", "worst case", "u max"):
        table.add_column(column, justify="right")
    if predicted:
        table.add_column("predicted SQNR", justify="right")
    for layer in report.layers:
        row: list[RenderableType] = [
            Text(layer.name),
            layer.type,
            Text("safe", style="green") if layer.safe else Text("at risk", style="red"),
            f"{layer.outputs_at_risk:,} / {layer.outputs:,}" if layer.outputs else "",
            _share(layer),
            f"{layer.worst_case:,}" if layer.outputs else "",
            _levels(layer),
        ]
        table.add_row(*row, *([_db(layer.predicted_sqnr_db)] if predicted else []))
    return table


def _remedy_table(report: OverflowReport) -> Table:
    table = Table(title="Predicted SQNR of the weights by remedy, dB", title_justify="left")
    at_risk = [layer for layer in report.at_risk if layer.weight_sqnr_db]
    names = list(dict.fromkeys(name for layer in at_risk for name in layer.weight_sqnr_db or {}))
    table.add_column("layer", overflow="fold")
    for name in names:
        table.add_column(name if name in ("full", "half") else f"safe, {name}", justify="right")
    for layer in at_risk:
        found = layer.weight_sqnr_db or {}
        table.add_row(Text(layer.name), *(f"{found[name]:.1f}" if name in found else "" for name in names))
    return table


def _simulation_table(simulation: Simulation) -> Table:
    title = f"Simulated on {simulation.samples:,} samples without VNNI, pairing {simulation.pairing!r}"
    table = Table(title=title, title_justify="left")
    table.add_column("layer", overflow="fold")
    for column in ("saturated pairs", "of", "SQNR"):
        table.add_column(column, justify="right")
    for layer in simulation.layers:
        table.add_row(Text(layer.name), f"{layer.saturated:,}", f"{layer.pairs:,}", _db(layer.sqnr_db))
    for output in simulation.outputs:
        table.add_row(Text(f"output {output.name}"), "", "", _db(output.sqnr_db))
    return table


def _share(layer: LayerReport) -> str:
    return f"{layer.pairs_at_risk:,} ({layer.pairs_at_risk / layer.pairs:.2%})" if layer.pairs else ""


def _levels(layer: LayerReport) -> str:
    if layer.observed_u_max is None:
        return str(layer.u_max)
    return f"{layer.u_max}, seen {layer.observed_u_max}"


def _db(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f} dB" if math.isfinite(value) else "exact"


def _conclusion(report: OverflowReport) -> str:
    if not report.layers:
        return "no layer multiplies bytes: nothing can saturate"
    if report.safe:
        return f"proven: no input saturates a sum in any of {len(report.layers)} layers"
    return (
        f"{len(report.at_risk)} of {len(report.layers)} layers can saturate on a CPU without VNNI; "
        "quantize with --overflow-fix auto for such a CPU"
    )
