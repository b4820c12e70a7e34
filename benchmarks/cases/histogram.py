"""Histograms: 65,536 counters on the bits of a float, and equal bins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.case import Case, Environment, Setup, assert_same
from benchmarks.cases.common import SIZES, ours, sums
from benchmarks.data import adversarial, normal
from benchmarks.gates import Gate, Kind, share, speed
from benchmarks.harness import Contender
from benchmarks.peers import tensor

BINS = 2048
KEYS = 65536


def expected_bits(x: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the reference: the upper half of the bits, so ordered that it ascends with the values."""
    upper = x[~np.isnan(x)].view(np.uint32) >> 16
    keys = np.where(upper & 0x8000, ~upper & 0xFFFF, upper | 0x8000)
    return np.bincount(keys, minlength=KEYS)


def bits(count: int, data: str) -> Callable[[Environment], Setup]:
    """The bit histogram."""

    def build(environment: Environment) -> Setup:
        import datasketches

        # The sketch refuses read-only arrays.
        x = normal(count).copy() if data == "normal" else adversarial(data, count)
        counts = np.zeros(KEYS, np.uint64)

        def check(target: Any) -> None:
            found = np.zeros(KEYS, np.uint64)
            assert target.bit_histogram(x, found) == np.isnan(x).sum()
            assert_same(found, expected_bits(x), "bit histogram")

        def sketch() -> None:
            datasketches.kll_floats_sketch(200).update(x)

        contenders = [
            *ours(environment, lambda target: partial(target.bit_histogram, x, counts)),
            *sums(environment, x),
            Contender("datasketches KLL", sketch),
        ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [x], x.nbytes, checks, work=x.size)

    return build


def equal_bins(count: int, data: str) -> Callable[[Environment], Setup]:
    """Equal bins over a fixed range that holds nearly all values."""

    def build(environment: Environment) -> Setup:
        import torch

        x = normal(count) if data == "normal" else adversarial(data, count)
        low, high = -4.0, 4.0
        t = tensor(x)
        out = torch.empty(BINS)

        def check(target: Any) -> None:
            counts, edges = target.histogram(x, BINS, (low, high))
            expected, expected_edges = np.histogram(x, BINS, (low, high))
            assert_same(counts, expected, "counts")
            assert_same(edges, expected_edges, "edges")

        contenders = [
            *ours(environment, lambda target: partial(target.histogram, x, BINS, (low, high))),
            *sums(environment, x),
            Contender("np.histogram", partial(np.histogram, x, BINS, (low, high))),
            Contender("torch.histc", partial(torch.histc, t, BINS, low, high)),
            Contender("torch.histc", partial(torch.histc, t, BINS, low, high, out=out), variant="out="),
        ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [x], x.nbytes, checks, work=x.size)

    return build


_UPDATES = Gate(Kind.RATE)
_RATE = (_UPDATES, speed("datasketches KLL"))

CASES = (
    Case("bit_histogram", "bit_histogram", "4M, normal", bits(SIZES["16 MB"], "normal"), (share("sum()"),)),
    *(
        Case("", "bit_histogram", f"4M, {data}", bits(SIZES["16 MB"], data), _RATE)
        for data in ("50 % zeros", "all equal", "sorted")
    ),
    Case("histogram", "histogram", "4M, normal", equal_bins(SIZES["16 MB"], "normal"), (_UPDATES, share("sum()"))),
    *(
        Case(
            "",
            "histogram",
            f"4M, {data}",
            equal_bins(SIZES["16 MB"], data),
            (_UPDATES, speed("np.histogram"), speed("torch.histc")),
        )
        for data in ("50 % zeros", "all equal")
    ),
)
