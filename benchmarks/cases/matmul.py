"""The saturating product; it has no gate, since no peer offers it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Environment, Setup, assert_same
from benchmarks.cases.common import moved, ours
from benchmarks.gates import Gate, Kind
from benchmarks.harness import Contender

M, K, N = 256, 1152, 256


def saturating(environment: Environment) -> Setup:
    """[256, 1152] x [1152, 256], beside NumPy's product in int32 and that of the same sizes in float32."""
    rng = np.random.default_rng(6)
    a = rng.integers(0, 128, (M, K), np.uint8)
    b = rng.integers(-64, 64, (K, N), np.int8)
    a32, b32 = a.astype(np.float32), b.astype(np.float32)
    out = np.empty((M, N), np.float32)

    def check(target: Any) -> None:
        # No pair can saturate with these values, so the plain product is the reference; it is exact in float32.
        assert_same(target.saturating_matmul(a, b, False), (a32 @ b32).astype(np.int32), "product")

    contenders = [
        *ours(environment, lambda target: partial(target.saturating_matmul, a, b, False)),
        Contender("numpy float32 product", partial(np.matmul, a32, b32, out=out)),
    ]
    checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
    return Setup(contenders, [a, b], moved(a, b), checks, work=M * K * N)


CASES = (Case("", "saturating_matmul", "[256, 1152] x [1152, 256]", saturating, (Gate(Kind.RATE),)),)
