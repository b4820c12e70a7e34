"""Two calibrations side by side as a table on a terminal, and as a dictionary."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantstats.statistics.comparison import Comparison, RangePair, Sides

# Names that a line lists before it only counts.
_LISTED = 5


def render_comparison(found: Comparison, *, names: tuple[str, str]) -> Group:
    """Return what differs, line by line, and a table of the ranges that are apart beyond the tolerance.

    :param found: the comparison.
    :param names: what the two sides are called.
    """
    parts: list[RenderableType] = [Text(line) for line in _lines(found, names)]
    if found.differing:
        parts.append(_table(found.differing, names))
    parts.append(Text(_conclusion(found), style="italic"))
    return Group(*parts)


def _lines(found: Comparison, names: tuple[str, str]) -> list[str]:
    same = found.models[0] == found.models[1]
    lines = [f"model: {'the same' if same else ' and '.join(hash_[:12] or 'unknown' for hash_ in found.models)}"]
    if found.batchwise[0] != found.batchwise[1]:
        lines.append(f"items of a batch are samples: {' and '.join('yes' if b else 'no' for b in found.batchwise)}")
    for what, sides in (("samples", found.samples), ("tensors", found.tensors), ("columns", found.columns)):
        lines.append(f"{what}: {_sides(sides, names)}")
    return lines


def _sides(sides: Sides, names: tuple[str, str]) -> str:
    if sides.same:
        return f"the same {len(sides.both):,}"
    parts = [f"{len(sides.both):,} on both sides"]
    for name, only in zip(names, (sides.only_first, sides.only_second), strict=True):
        if only:
            more = f" and {len(only) - _LISTED:,} more" if len(only) > _LISTED else ""
            parts.append(f"only in {name}: {', '.join(only[:_LISTED])}{more}")
    return "; ".join(parts)


def _table(pairs: tuple[RangePair, ...], names: tuple[str, str]) -> Table:
    table = Table(title="ranges that differ", title_justify="left")
    table.add_column("tensor", overflow="fold")
    table.add_column("estimator")
    for name in names:
        table.add_column(Text(name), justify="right", overflow="fold")
    table.add_column("difference", justify="right")
    for pair in pairs:
        table.add_row(
            Text(pair.tensor),
            pair.estimator,
            _range(pair.first),
            _range(pair.second),
            f"{100 * pair.difference:.1f} %",
        )
    return table


def _conclusion(found: Comparison) -> str:
    farthest = max((pair.difference for pair in found.ranges), default=0.0)
    limit = f"{100 * found.tolerance:g} % of the width"
    if found.differing:
        apart = f"{len(found.differing)} of {len(found.ranges)} ranges differ by more than {limit}"
    else:
        apart = f"no range differs by more than {limit}; the largest difference is {100 * farthest:.2g} %"
    return apart if found.tensors.same else f"the tensors differ, and {apart}"


def comparison_to_dict(found: Comparison) -> dict[str, Any]:
    """Return plain numbers and strings: what `quantstats compare --json` writes."""
    return {
        "agree": found.agree,
        "tolerance": found.tolerance,
        "models": list(found.models),
        "batchwise": list(found.batchwise),
        "samples": _sides_to_dict(found.samples),
        "tensors": _sides_to_dict(found.tensors),
        "columns": _sides_to_dict(found.columns),
        "ranges": [
            {
                "tensor": pair.tensor,
                "estimator": pair.estimator,
                "first": list(pair.first),
                "second": list(pair.second),
                "difference": pair.difference,
            }
            for pair in found.ranges
        ],
    }


def _sides_to_dict(sides: Sides) -> dict[str, Any]:
    return {"both": len(sides.both), "only_first": list(sides.only_first), "only_second": list(sides.only_second)}


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.4g} .. {bounds[1]:.4g}"


__all__ = ["comparison_to_dict", "render_comparison"]
