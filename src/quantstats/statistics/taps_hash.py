"""Telling apart what statistics are of: which tensors, along which axes, reduced to what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from quantstats.statistics.column import Column
from quantstats.statistics.non_finite import NonFinitePolicy

__all__ = ["taps_hash"]


def taps_hash(
    taps: Mapping[str, int | None],
    channel_means: Mapping[str, int],
    *,
    columns: Sequence[Column],
    batchwise: bool,
    non_finite: NonFinitePolicy,
) -> str:
    """SHA-256 of all parameters of statistics that decide whether two of one model merge: 64 hexadecimal digits."""
    described = {
        "taps": dict(taps),
        "channel_means": dict(channel_means),
        "columns": [[str(c.statistics_type.value), c.probability, c.clipping_value] for c in columns],
        "batchwise": batchwise,
        "non_finite": non_finite,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
