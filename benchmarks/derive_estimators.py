"""CPU time of deriving the ranges of every estimator, for both schemes, from a statistics file of 100 tensors.

Tensors have the distributions of activations: even around zero, after ReLU, GELU and softmax, with heavy tails. The
file is written, read, and every preset of `RangeEstimatorParametersSet` is asked for every tensor at 8 bits, symmetric
and asymmetric. Time is that of the thread's CPU, the least of several rounds in shuffled order.

    python benchmarks/derive_estimators.py [--tensors 100] [--samples 30] [--rounds 5] [--goal 1.0]

Exit status 1 if all together take longer than the goal.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from quantstats.range_estimator import RangeEstimatorParametersSet
from quantstats.statistics import CalibrationStatistics

Array = NDArray[np.float32]
PRESETS = [name for name in vars(RangeEstimatorParametersSet) if name.isupper()]
VALUES = 4_096  # of a sample


def _gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * 0.5 * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))


DISTRIBUTIONS: list[Callable[[np.random.Generator], NDArray[np.float64]]] = [
    lambda rng: rng.normal(size=VALUES),
    lambda rng: rng.laplace(size=VALUES),
    lambda rng: np.maximum(rng.normal(size=VALUES), 0),
    lambda rng: _gelu(2 * rng.normal(size=VALUES)),
    lambda rng: rng.dirichlet(np.full(64, 0.3), VALUES // 64),
    lambda rng: rng.standard_t(3, VALUES),
    lambda rng: np.clip(3 * rng.normal(size=VALUES), 0, 6),
]


def collect(tensors: int, samples: int) -> CalibrationStatistics:
    """Statistics of that many tensors."""
    statistics = CalibrationStatistics({f"tensor{index}": None for index in range(tensors)})
    for sample in range(samples):
        values = {}
        for index, name in enumerate(statistics.taps):
            rng = np.random.default_rng([sample, index])
            # Tensors differ in scale, samples a little.
            scale = 2.0 ** (index % 9 - 4) * np.exp(0.1 * rng.normal())
            values[name] = (scale * DISTRIBUTIONS[index % len(DISTRIBUTIONS)](rng)).astype(np.float32)
        statistics.update(str(sample), values)
    return statistics


def derive(statistics: CalibrationStatistics, preset: str, symmetric: bool) -> float:
    """Seconds of CPU time for all tensors."""
    params = getattr(RangeEstimatorParametersSet, preset)
    start = time.thread_time()
    for tensor in statistics.taps:
        statistics.range(tensor, params, symmetric=symmetric, strict=True)
    return time.thread_time() - start


def main() -> int:
    """Print the table, and compare the sum with the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tensors", type=int, default=100)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--goal", type=float, default=1.0)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statistics"
        collect(arguments.tensors, arguments.samples).save(path)
        statistics = CalibrationStatistics.load(path)
    cases = list(itertools.product(PRESETS, (True, False)))
    order = cases * arguments.rounds
    random.Random(0).shuffle(order)
    times: dict[tuple[str, bool], list[float]] = {case: [] for case in cases}
    for case in order:
        times[case].append(derive(statistics, *case))
    least = {case: 1e3 * min(seconds) for case, seconds in times.items()}

    table = Table("estimator", title=f"{arguments.tensors} tensors, 8 bits, CPU time")
    for heading in ("symmetric", "asymmetric", "both"):
        table.add_column(heading, justify="right")
    for preset in PRESETS:
        pair = [least[preset, symmetric] for symmetric in (True, False)]
        table.add_row(preset, *(f"{value:.0f} ms" for value in (*pair, sum(pair))))
    total = sum(least.values())
    table.add_row("all", *(f"{sum(v for (_, s), v in least.items() if s is which):.0f} ms" for which in (True, False)),
                  f"{total:.0f} ms")  # fmt: skip
    Console().print(table)
    print(f"all estimators, both schemes: {total / 1e3:.2f} s (goal: at most {arguments.goal} s)")
    return 0 if total / 1e3 <= arguments.goal else 1


if __name__ == "__main__":
    sys.exit(main())
