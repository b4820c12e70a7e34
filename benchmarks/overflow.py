"""Saturation in figures: what remedies leave of weights, and what a certificate costs.

Two tables. SQNR of random weights with the full range, half of it, and the smallest safe scales. Time of certifying a
matrix of weights against one read of as many bytes, which is the minimum and maximum by our own kernel, on one thread.
Whole models are measured by `benchmarks.overflow_models`.

    python benchmarks/overflow.py [--size 4096]
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import quantstats as qs
from quantstats._core import _targets
from quantstats.overflow import smallest_safe_scale
from quantstats.quantizer import Quantizer, QuantizerConfig, quantizer_from_range

ROUNDS = 25

Array = NDArray[Any]


def decibels(signal: Array, found: Array) -> float:
    """Signal to noise in dB."""
    signal = signal.astype(np.float64)
    return float(10 * np.log10(np.sum(signal**2) / np.sum((found - signal) ** 2)))


def quantizer(weight: Array, *, half_range: bool) -> Quantizer:
    """The quantizer of a matrix, a scale for each row."""
    largest = np.abs(weight).max(axis=1)
    config = QuantizerConfig(per_channel=True, signedness_to_force=True, narrow_range=True)
    return quantizer_from_range(-largest, largest, config, half_range, axis=0)


def remedies() -> Table:
    """SQNR of random weights by remedy."""
    table = Table(title="SQNR of weights, dB", title_justify="left")
    for column in ("weights", "full", "half", "safe, any", "safe, adjacent"):
        table.add_column(column, justify="left" if column == "weights" else "right")
    rng = np.random.default_rng(0)
    for family in ("normal", "laplace", "standard_t"):
        for length in (64, 256, 1024, 4608):
            draw = getattr(rng, family)
            weight = (draw(3, size=(64, length)) if family == "standard_t" else draw(size=(64, length))).astype("f4")
            full = quantizer(weight, half_range=False)
            found = [full, quantizer(weight, half_range=True)]
            found += [full.with_scale(smallest_safe_scale(weight, axis=0, pairing=p)) for p in ("any", "adjacent")]
            row = (f"{decibels(weight, each.fake_quantize(weight)):.1f}" for each in found)
            table.add_row(f"{family} [64, {length}]", *row)
    return table


def certificates(size: int) -> Table:
    """CPU time of certifying a square matrix, by instruction set, relative to the minimum and maximum of its bytes."""
    table = Table(title=f"Certifying int8 [{size}, {size}]: time over one read", title_justify="left")
    names = ("adjacent, [N, K]", "adjacent, [K, N]", "any, [N, K]", "any, [K, N]")
    for column in ("instruction set", "read, ms", *names):
        table.add_column(column, justify="left" if column == "instruction set" else "right")
    rng = np.random.default_rng(1)
    rows = np.clip(np.rint(rng.normal(scale=35, size=(size, size))), -127, 127).astype(np.int8)
    columns = np.asfortranarray(rows)
    read = rng.normal(size=rows.nbytes // 4).astype(np.float32)
    threads = qs.get_num_threads()
    qs.set_num_threads(1)
    try:
        for isa, target in _targets.items():
            calls: dict[str, Callable[[], Any]] = {
                "read": lambda target=target: target.min_max(read, None, False, "ignore"),
                names[0]: lambda target=target: target.certify_pairs(rows, 128, 128, False, False),
                names[1]: lambda target=target: target.certify_pairs(columns, 128, 128, False, False),
                names[2]: lambda target=target: target.certify_pairs(rows, 128, 128, True, False),
                names[3]: lambda target=target: target.certify_pairs(columns, 128, 128, True, False),
            }
            best = dict.fromkeys(calls, float("inf"))
            for name in random.Random(0).sample(list(calls) * ROUNDS, len(calls) * ROUNDS):
                start = time.thread_time()
                calls[name]()
                best[name] = min(best[name], time.thread_time() - start)
            ratios = (f"{best[name] / best['read']:.1f}" for name in names)
            table.add_row(isa, f"{best['read'] * 1e3:.2f}", *ratios)
    finally:
        qs.set_num_threads(threads)
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the certified matrix")
    arguments = parser.parse_args()
    console = Console(width=120)
    for table in (remedies(), certificates(arguments.size)):
        console.print(table)


if __name__ == "__main__":
    main()
