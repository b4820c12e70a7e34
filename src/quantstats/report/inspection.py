"""An inspection of calibration statistics as a table on a terminal, and as a dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantstats.statistics.inspection import BoundInspection, TensorInspection
from quantstats.statistics.non_finite import NonFiniteCounts


def render_inspection(
    inspections: Sequence[TensorInspection], *, title: str, confidence: float, growth: bool = False
) -> Group:
    """Return a table with a row for each tensor, and a line that says whether more samples would change ranges.

    Its columns are the shares of `TensorInspection`: how far other samples, all but one, or half of them move a bound.
    Where values were not finite two more tell how many.

    :param inspections: what was found.
    :param title: what the table is of.
    :param confidence: of the intervals.
    :param growth: add for each tensor its range against the number of samples, and the intervals of its bounds.
    """
    table = Table(title=Text(title), title_justify="left")
    table.add_column("tensor", overflow="fold")
    for heading in ("low", "high", "interval", "one sample", "2nd half"):
        table.add_column(heading, justify="right")
    table.add_column("set by", overflow="fold")
    not_finite = any(any(found.non_finite) for found in inspections)
    if not_finite:
        table.add_column("NaN", justify="right")
        table.add_column("Inf", justify="right")
    for found in inspections:
        table.add_row(
            Text(found.tensor),
            _number(found.low.value),
            _number(found.high.value),
            _share(found.interval_share, found.tolerance),
            _share(found.sample_share, found.tolerance),
            _share(found.growth_share, found.tolerance),
            Text(found.deciding_sample or ""),
            *(_non_finite(found.non_finite) if not_finite else ()),
        )
    parts: list[RenderableType] = [table]
    if growth:
        for found in inspections:
            parts += [_growth_table(found), Text(_intervals(found, confidence))]
    return Group(*parts, Text(_conclusion(inspections), style="italic"))


def _non_finite(counts: NonFiniteCounts) -> tuple[str, str]:
    return f"{counts.nan:,}", f"{counts.pos_inf + counts.neg_inf:,}"


def _growth_table(found: TensorInspection) -> Table:
    table = Table(title=Text(found.tensor), title_justify="left")
    for heading in ("first samples", "low", "high"):
        table.add_column(heading, justify="right")
    for point in found.growth:
        table.add_row(f"{point.samples:,}", _number(point.low), _number(point.high))
    return table


def _intervals(found: TensorInspection, confidence: float) -> str:
    parts = []
    for name, bound in (("low", found.low), ("high", found.high)):
        low, high = bound.interval
        part = f"{name} {_number(low)} .. {_number(high)}"
        if bound.sample_id is not None:
            part += f", {_number(bound.without)} without sample {bound.sample_id}"
        parts.append(part)
    return f"{100 * confidence:g} % interval: {'; '.join(parts)}"


def _conclusion(inspections: Sequence[TensorInspection]) -> str:
    changing = [found for found in inspections if found.hints]
    if not changing:
        return "nothing says that more samples would change a range"
    first = max(changing, key=lambda found: max(found.interval_share, found.sample_share, found.growth_share))
    return (
        f"more samples would change the range of {len(changing)} of {len(inspections)} tensors, most that of "
        f"{first.tensor}: {'; '.join(first.hints)}"
    )


def inspection_to_dict(inspections: Sequence[TensorInspection]) -> dict[str, Any]:
    """Return plain numbers and strings: by tensor what `quantstats inspect --json` writes."""
    return {
        found.tensor: {
            "samples": found.samples,
            "low": _bound(found.low),
            "high": _bound(found.high),
            "growth": [{"samples": point.samples, "low": point.low, "high": point.high} for point in found.growth],
            "interval_share": found.interval_share,
            "sample_share": found.sample_share,
            "growth_share": found.growth_share,
            "deciding_sample": found.deciding_sample,
            "non_finite": found.non_finite._asdict(),
            "hints": list(found.hints),
        }
        for found in inspections
    }


def _bound(bound: BoundInspection) -> dict[str, Any]:
    return {
        "value": bound.value,
        "interval": list(bound.interval),
        "sample_id": bound.sample_id,
        "without": bound.without,
    }


def _share(share: float, tolerance: float) -> Text:
    return Text(f"{100 * share:.1f} %", style="bold red" if share > tolerance else "")


def _number(value: float) -> str:
    return f"{value:.4g}"


__all__ = ["inspection_to_dict", "render_inspection"]
