"""Time of an observer's calls and of its scale: quantstats against torch.ao, in one run with shuffled order.

Each observer is called as often as calibration has batches, and then gives scale and zero point, on one thread. The
batches are eight different ones, over and over. Times are medians over the rounds; an observer that torch has too is
compared with it, the others with torch's HistogramObserver.

    python -m benchmarks.torch_observers [--rounds 5] [--calls 100]

Exit status 1 if a HistogramObserver of quantstats is not five times as fast as torch's.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.ao.quantization as tq
from rich.console import Console
from rich.table import Table

import quantstats as qs
from quantstats.integrations import torch as observers

GOAL = 5.0
SHAPES = {"[1, 64, 56, 56]": (1, 64, 56, 56), "[32, 64, 56, 56]": (32, 64, 56, 56)}
CHANNELS = {"dtype": torch.qint8, "qscheme": torch.per_channel_symmetric, "ch_axis": 1}
OBSERVERS: dict[str, Callable[[], Any]] = {
    "torch HistogramObserver": tq.HistogramObserver,
    "HistogramObserver": observers.HistogramObserver,
    "MSEObserver": observers.MSEObserver,
    "QuantileObserver": observers.QuantileObserver,
    "AutoObserver": observers.AutoObserver,
    "torch MinMaxObserver": tq.MinMaxObserver,
    "MinMaxObserver": observers.MinMaxObserver,
    "torch PerChannelMinMaxObserver": lambda: tq.PerChannelMinMaxObserver(**CHANNELS),
    "MinMaxObserver, per channel": lambda: observers.MinMaxObserver(**CHANNELS),
}
PEERS = {
    "MinMaxObserver": "torch MinMaxObserver",
    "MinMaxObserver, per channel": "torch PerChannelMinMaxObserver",
}


def seconds(make: Callable[[], Any], batches: list[torch.Tensor], calls: int) -> float:
    """The time that a new observer takes for its calls and its scale."""
    observer = make()
    start = time.perf_counter()
    for call in range(calls):
        observer(batches[call % len(batches)])
    observer.calculate_qparams()
    return time.perf_counter() - start


def main() -> int:
    """Measure, print a table for each shape, and compare with the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    qs.set_num_threads(1)
    met = True
    for title, shape in SHAPES.items():
        generator = torch.Generator().manual_seed(0)
        batches = [torch.randn(shape, generator=generator) for _ in range(8)]
        times: dict[str, list[float]] = {name: [] for name in OBSERVERS}
        for make in OBSERVERS.values():
            seconds(make, batches, 1)
        calls = list(OBSERVERS) * arguments.rounds
        random.Random(0).shuffle(calls)
        for name in calls:
            times[name].append(seconds(OBSERVERS[name], batches, arguments.calls))
        median = {name: statistics.median(found) for name, found in times.items()}
        table = Table(title=f"{arguments.calls} calls with {title}, float32, one thread")
        for heading in ("observer", "time", "times as fast", "as"):
            table.add_column(heading, justify="right" if heading in ("time", "times as fast") else "left")
        for name, time_taken in median.items():
            peer = name if name.startswith("torch") else PEERS.get(name, "torch HistogramObserver")
            ratio = "" if peer == name else f"{median[peer] / time_taken:.1f}"
            table.add_row(name, f"{time_taken * 1000:.1f} ms", ratio, "" if peer == name else peer)
        Console().print(table)
        met &= median["torch HistogramObserver"] / median["HistogramObserver"] >= GOAL
    print(f"HistogramObserver at least {GOAL:.0f} times as fast as torch's: {'pass' if met else 'short'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
