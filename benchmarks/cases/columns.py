"""Order statistics over samples, one per column: medians, and mean and median without outliers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.case import Case, Environment, Setup, assert_same
from benchmarks.cases.common import linear_quantile, ours, sums
from benchmarks.data import normal
from benchmarks.gates import share, speed
from benchmarks.harness import Contender
from benchmarks.peers import nncf_no_outliers, tensor

VECTORS = 64
OUTLIER_PROBABILITY = 1e-4
EPSILON = float(np.finfo(np.float32).eps)


def samples(rows: int, columns: int, data: str = "normal") -> NDArray[np.float32]:
    """Return one row per sample; ``ReLU`` data have as many zeros as others."""
    x = normal(rows * columns).reshape(rows, columns)
    return np.maximum(x, np.float32(0)) if data == "ReLU" else x


def medians(rows: int, columns: int, data: str) -> Callable[[Environment], Setup]:
    """Median of every column."""

    def build(environment: Environment) -> Setup:
        import bottleneck
        import torch

        x = samples(rows, columns, data)
        t = tensor(x)

        def check(target: Any) -> None:
            assert_same(target.median(x, 0, False, "raise"), linear_quantile(x, 0.5, 0), "median")

        contenders = [
            *ours(environment, lambda target: partial(target.median, x, 0, False, "raise")),
            *sums(environment, x),
            Contender("np.median", partial(np.median, x, axis=0)),
            Contender("np.sort", partial(np.sort, x, axis=0)),
            Contender("np.partition", partial(np.partition, x, rows // 2, axis=0)),
            Contender("bottleneck", partial(bottleneck.median, x, axis=0)),
            Contender("torch.median", partial(torch.median, t, dim=0)),
        ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [x], x.nbytes, checks)

    return build


def vector(length: int) -> Callable[[Environment], Setup]:
    """Median of a short vector; every call takes another one, since branches learn a vector by heart."""

    def build(environment: Environment) -> Setup:
        import bottleneck

        x = samples(VECTORS, length)
        vectors = list(x)

        def each(function: Callable[..., object], *arguments: object) -> Callable[[], None]:
            def call() -> None:
                for one in vectors:
                    function(one, *arguments)

            return call

        def check(target: Any) -> None:
            for one in vectors:
                assert_same(target.median(one, None, False, "raise"), linear_quantile(one, 0.5), "median")

        contenders = [
            *(
                Contender("ours", each(target.median, None, False, "raise"), isa, inner=VECTORS)
                for isa, target in environment.targets.items()
            ),
            Contender("bottleneck", each(bottleneck.median), inner=VECTORS),
            Contender("np.median", each(np.median), inner=VECTORS),
        ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [x], vectors[0].nbytes, checks)

    return build


def no_outliers(rows: int, columns: int, which: str) -> Callable[[Environment], Setup]:
    """Mean or median of every column without its outliers."""

    def build(environment: Environment) -> Setup:
        x = samples(rows, columns)
        nncf = nncf_no_outliers(x, OUTLIER_PROBABILITY, which == "median")

        def call(target: Any) -> Callable[[], object]:
            function = target.median_no_outliers if which == "median" else target.mean_no_outliers
            return partial(function, x, 0, OUTLIER_PROBABILITY, False, "raise")

        def check(target: Any) -> None:
            wide = x.astype(np.float64)
            low, high = np.quantile(wide, [OUTLIER_PROBABILITY, 1 - OUTLIER_PROBABILITY], axis=0)
            kept = np.ma.masked_array(wide, (wide < low) | (wide > high))
            if which == "median":
                expected = np.nanmedian(kept.filled(np.nan), axis=0)
                assert_same(call(target)(), expected.astype(np.float32), "median")
            else:
                # NumPy's own sum is rounded at every step; the last bit of float32 may differ.
                np.testing.assert_allclose(np.asarray(call(target)()), kept.mean(axis=0).data, EPSILON, EPSILON)

        contenders = [
            *ours(environment, call),
            *sums(environment, x),
            Contender("nncf", nncf),
        ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [x], x.nbytes, checks)

    return build


_PEERS = (speed("np.median"), speed("np.sort"), speed("bottleneck"))

CASES = (
    Case(
        "column_median",
        "column_median",
        "normal",
        medians(300, 768, "normal"),
        (speed("np.partition"), speed("torch.median"), share("sum()")),
    ),
    Case("", "column_median", "300 x 768, ReLU", medians(300, 768, "ReLU"), _PEERS),
    Case("", "column_median", "10000 x 64, normal", medians(10_000, 64, "normal"), _PEERS),
    Case("", "column_median", "30 x 100000, normal", medians(30, 100_000, "normal"), _PEERS),
    Case("vector_median", "vector_median", "normal", vector(300), (speed("np.median"),)),
    *(
        Case("no_outliers", "no_outliers", which, no_outliers(300, 768, which), (share("sum()"),))
        for which in ("mean", "median")
    ),
)
