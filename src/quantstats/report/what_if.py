"""Predicted errors of estimators and bit widths as tables on a terminal, and as a dictionary."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from quantstats.statistics.what_if import WhatIf


def render_what_if(found: WhatIf, *, source: str) -> Group:
    """Return a table of estimator x bit width for each tensor, and below it the same over all tensors.

    :param found: the predictions.
    :param source: what they are made from.
    """
    return Group(_by_tensor(found), _summary(found, source))


def _summary(found: WhatIf, source: str) -> Table:
    title = f"{source}: median / worst over {len(found.tensors)} tensors, {found.mode.value} quantizers"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("estimator", no_wrap=True)
    for bits in found.num_bits:
        table.add_column(f"{bits} bits", justify="right")
    lines = {(line.estimator, line.num_bits): line for line in found.summary()}
    best = {bits: max(lines[name, bits].median_sqnr_db for name in found.estimators) for bits in found.num_bits}
    for name in found.estimators:
        cells = []
        for bits in found.num_bits:
            line = lines[name, bits]
            ratios = f"{_decibels(line.median_sqnr_db)} / {_decibels(line.worst_sqnr_db)}"
            cells.append(_cell(ratios, line.mean_clipped, best=line.median_sqnr_db >= best[bits]))
        table.add_row(name, *cells)
    return table


def _by_tensor(found: WhatIf) -> Table:
    table = Table(title="predicted SQNR in dB, and share of clipped values", title_justify="left")
    table.add_column("tensor", overflow="fold")
    table.add_column("estimator", no_wrap=True)
    for bits in found.num_bits:
        table.add_column(f"{bits} bits", justify="right")
    for tensor in found.tensors:
        best = {bits: found.best(tensor, bits).sqnr_db for bits in found.num_bits}
        for name in found.estimators:
            row = [found.predictions[tensor, name, bits] for bits in found.num_bits]
            cells = [_cell(_decibels(p.sqnr_db), p.clipped, best=p.sqnr_db >= best[p.num_bits]) for p in row]
            table.add_row(Text(tensor if name == found.estimators[0] else ""), name, *cells)
        table.add_section()
    return table


def _cell(ratio: str, clipped: float, *, best: bool) -> Text:
    return Text(ratio, style="bold" if best else "").append(f"\n{_share(clipped)}", style="not bold")


def what_if_to_dict(found: WhatIf) -> dict[str, Any]:
    """Return plain numbers and strings: what `quantstats inspect --what-if --json` writes.

    Ratios that are not finite, as of a tensor of zeros, are None.
    """
    return {
        "mode": found.mode.value,
        "summary": [
            {
                "estimator": line.estimator,
                "num_bits": line.num_bits,
                "median_sqnr_db": _finite(line.median_sqnr_db),
                "worst_sqnr_db": _finite(line.worst_sqnr_db),
                "worst_tensor": line.worst_tensor,
                "mean_clipped": line.mean_clipped,
                "best_for": line.best_for,
            }
            for line in found.summary()
        ],
        "tensors": {
            tensor: [
                {
                    "estimator": name,
                    "num_bits": bits,
                    "low": found.predictions[tensor, name, bits].low,
                    "high": found.predictions[tensor, name, bits].high,
                    "sqnr_db": _finite(found.predictions[tensor, name, bits].sqnr_db),
                    "clipped": found.predictions[tensor, name, bits].clipped,
                }
                for name in found.estimators
                for bits in found.num_bits
            ]
            for tensor in found.tensors
        },
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _decibels(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "exact" if value > 0 else "-inf"


def _share(share: float) -> str:
    return "0 %" if share == 0 else f"{100 * share:.2g} %"


__all__ = ["render_what_if", "what_if_to_dict"]
