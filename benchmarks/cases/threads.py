"""Two threads against one, for every kernel, and against our own two-threaded `sum()`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Environment, Setup, assert_same
from benchmarks.cases.common import SIZES, TAILS
from benchmarks.data import normal
from benchmarks.gates import SUM, share
from benchmarks.harness import Contender

ROWS_PER_COLUMN = 300
PROBABILITIES = np.array(TAILS)


def _quantize(target: Any, x: Any) -> Callable[[], object]:
    return partial(target.quantize_linear, x, 0.03, 0, None, -128, 127, "int8", np.empty(x.shape, np.int8))


def _fake_quantize(target: Any, x: Any) -> Callable[[], object]:
    return partial(target.fake_quantize, x, 0.03, 0, None, -128, 127, np.empty_like(x))


def _bit_histogram(target: Any, x: Any) -> Callable[[], object]:
    # The counters are the result that is compared, and they only grow.
    def call() -> object:
        counts = np.zeros(65536, np.uint64)
        target.bit_histogram(x, counts)
        return counts

    return call


def _columns(x: Any) -> Any:
    return x[: x.size // ROWS_PER_COLUMN * ROWS_PER_COLUMN].reshape(ROWS_PER_COLUMN, -1)


KERNELS: dict[str, Callable[[Any, Any], Callable[[], object]]] = {
    "min_max": lambda target, x: partial(target.min_max, x, None, False, "raise"),
    "min_max, axis 0": lambda target, x: partial(target.min_max, x.reshape(-1, 64), 0, False, "raise"),
    "mean": lambda target, x: partial(target.mean, x, None, False, "raise"),
    "quantile, tails": lambda target, x: partial(target.quantile, x, PROBABILITIES, None, False, "raise"),
    "median": lambda target, x: partial(target.median, x, None, False, "raise"),
    "median of columns": lambda target, x: partial(target.median, _columns(x), 0, False, "raise"),
    "mean_no_outliers": lambda target, x: partial(target.mean_no_outliers, _columns(x), 0, 1e-4, False, "raise"),
    "bit_histogram": _bit_histogram,
    "histogram": lambda target, x: partial(target.histogram, x, 2048, (-4.0, 4.0)),
    "quantize_linear": _quantize,
    "fake_quantize": _fake_quantize,
}


def two_threads(count: int, kernel: str) -> Callable[[Environment], Setup]:
    """One kernel with one thread and with two."""

    def build(environment: Environment) -> Setup:
        import quantstats

        one, two = partial(quantstats.set_num_threads, 1), partial(quantstats.set_num_threads, 2)
        x = normal(count)

        def check(target: Any) -> None:
            one()
            single: Any = KERNELS[kernel](target, x)()
            two()
            double: Any = KERNELS[kernel](target, x)()
            one()
            pairs = zip(single, double, strict=True) if isinstance(single, tuple) else ((single, double),)
            for left, right in pairs:
                assert_same(right, left, "two threads against one")

        contenders = []
        for isa, target in environment.targets.items():
            contenders += [
                Contender("ours", KERNELS[kernel](target, x), isa, enter=two),
                Contender("one thread", KERNELS[kernel](target, x), isa, enter=one),
                Contender(SUM, partial(target.mean, x, None, False, "ignore"), isa, enter=two),
            ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [x], x.nbytes, checks)

    return build


CASES = tuple(
    Case(row, "threads", kernel, two_threads(SIZES[size], kernel), (share(SUM),))
    for row, size in (("threads_l2", "1 MB"), ("threads", "16 MB"))
    for kernel in KERNELS
)
