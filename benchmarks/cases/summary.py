"""The fused summary beside the single kernels; no gate, since no peer has one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Environment, Setup, assert_same
from benchmarks.cases.common import SIZES, TAILS, ours, sums
from benchmarks.data import normal
from benchmarks.gates import share, speed
from benchmarks.harness import Contender


def summary(count: int, q: tuple[float, ...]) -> Callable[[Environment], Setup]:
    """Minimum, maximum, largest magnitude, mean, quantiles and counts, in one call and in several."""

    def build(environment: Environment) -> Setup:
        x = normal(count)
        probabilities = np.array(q)

        def separate(target: Any) -> list[Any]:
            values = [*target.min_max(x, None, False, "raise"), target.abs_max(x, None, False, "raise")]
            values.append(target.mean(x, None, False, "raise"))
            values.append(target.quantile(x, probabilities, None, False, "raise") if q else np.empty(0, np.float32))
            return values

        def fused(target: Any) -> Callable[[], Any]:
            return partial(target.summarize, x, None, q, False, "raise", None)

        def check(target: Any) -> None:
            found = fused(target)()
            for one, expected in zip(found[:5], separate(target), strict=True):
                assert_same(one, expected, "summary")
            assert [int(number) for number in found[5:]] == [0, 0, 0]

        contenders = [
            *ours(environment, fused),
            *(Contender("separate calls", partial(separate, t), isa) for isa, t in environment.targets.items()),
            *sums(environment, x),
        ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [x], x.nbytes, checks)

    return build


_BESIDE = (speed("separate calls"), share("sum()"))

CASES = (
    Case("", "summarize", "moments, 4M, normal", summary(SIZES["16 MB"], ()), _BESIDE),
    Case("", "summarize", "moments and both tails, 4M, normal", summary(SIZES["16 MB"], TAILS), _BESIDE),
)
