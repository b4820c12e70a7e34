"""Exact quantiles and medians: whole tensors, rows, channels, and data that are hard to sample."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.case import Case, Environment, Setup, assert_same
from benchmarks.cases.common import SIZES, TAILS, Axis, linear_quantile, ours, sums
from benchmarks.data import ADVERSARIAL, adversarial, normal
from benchmarks.gates import share, speed
from benchmarks.harness import Contender
from benchmarks.peers import tensor

Array = NDArray[Any]
Probabilities = float | tuple[float, ...]
# The probabilities that a calibration run collects by default.
NINE = (1e-5, 1e-4, 1e-3, 0.01, 0.5, 0.99, 0.999, 1 - 1e-4, 1 - 1e-5)


def quantile(
    x: Array, q: Probabilities, axis: Axis = None, policy: str = "raise"
) -> Callable[[Any], Callable[[], object]]:
    """Return what calls our kernel."""
    if q == 0.5:
        return lambda target: partial(target.median, x, axis, False, policy)
    probabilities = np.array(q, np.float64)
    return lambda target: partial(target.quantile, x, probabilities, axis, False, policy)


def checks(
    environment: Environment, x: Array, q: Probabilities, axis: Axis = None, policy: str = "raise"
) -> dict[str, Callable[[], None]]:
    """Return a comparison with NumPy's float64 quantile for every instruction set."""

    @cache
    def reference() -> Array:
        return linear_quantile(x[~np.isnan(x)] if policy == "ignore" else x, q, axis)

    def check(target: Any) -> None:
        assert_same(quantile(x, q, axis, policy)(target)(), reference(), f"quantiles {q}")

    return {isa: partial(check, target) for isa, target in environment.targets.items()}


def partition(x: Array, rank: int, axis: int = -1) -> list[Contender]:
    """Return np.partition for a single rank, which takes NumPy's vectorized path; into new and into old memory."""
    name = "np.partition, one kth"
    scratch = x.copy()

    def in_place() -> None:
        np.copyto(scratch, x)
        scratch.partition(rank, axis=axis)

    return [
        Contender(name, partial(np.partition, x, rank, axis)),
        Contender(name, in_place, variant="preallocated"),
    ]


def whole(count: int, q: Probabilities, *, peers: bool = True, largest: bool = False) -> Callable[[Environment], Setup]:
    """Quantiles of a whole tensor."""

    def build(environment: Environment) -> Setup:
        import torch

        x = normal(count)
        contenders = [*ours(environment, quantile(x, q)), *sums(environment, x)]
        if peers:
            contenders.append(Contender("np.quantile", partial(np.quantile, x, q)))
        if peers and not largest:
            first = q if isinstance(q, float) else q[0]
            contenders += partition(x, int(first * (count - 1)))
            t = tensor(x)
            if q == 0.5:
                contenders.append(Contender("torch.median", t.median))
            else:
                probabilities = torch.tensor(q, dtype=torch.float32)
                contenders.append(Contender("torch.quantile", partial(torch.quantile, t, probabilities)))
        return Setup(contenders, [x], x.nbytes, checks(environment, x, q))

    return build


def of_dtype(count: int, dtype: str) -> Callable[[Environment], Setup]:
    """Both tails of an array of another dtype, beside our `sum()` of it."""

    def build(environment: Environment) -> Setup:
        import ml_dtypes

        kind = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}[dtype]
        x = normal(count).astype(kind)
        contenders = [*ours(environment, quantile(x, TAILS)), *sums(environment, x)]
        return Setup(contenders, [x], x.nbytes, checks(environment, x, TAILS))

    return build


def hard(name: str, q: Probabilities) -> Callable[[Environment], Setup]:
    """Quantiles of an adversarial data set, beside the same of normal data."""

    def build(environment: Environment) -> Setup:
        easy = normal(SIZES["16 MB"])
        x = adversarial(name, easy.size)
        policy = "ignore" if np.isnan(x).any() else "raise"
        contenders = [
            *ours(environment, quantile(x, q, None, policy)),
            *(
                Contender("normal data", quantile(easy, q, None, policy)(target), isa, buffers=[easy])
                for isa, target in environment.targets.items()
            ),
            *sums(environment, x),
        ]
        return Setup(contenders, [x], x.nbytes, checks(environment, x, q, None, policy))

    return build


def rows(q: Probabilities) -> Callable[[Environment], Setup]:
    """Quantiles of every row of a weight."""

    def build(environment: Environment) -> Setup:
        x = normal(512 * 4608).reshape(512, 4608)
        first = q if isinstance(q, float) else q[0]
        contenders = [
            *ours(environment, quantile(x, q, 1)),
            *sums(environment, x),
            Contender("np.quantile", partial(np.quantile, x, q, axis=1)),
            *partition(x, int(first * (x.shape[1] - 1)), 1),
        ]
        return Setup(contenders, [x], x.nbytes, checks(environment, x, q, 1))

    return build


def channels(shape: tuple[int, ...], axis: tuple[int, ...], q: Probabilities) -> Callable[[Environment], Setup]:
    """Quantiles of every channel of an activation."""

    def build(environment: Environment) -> Setup:
        x = normal(int(np.prod(shape))).reshape(shape)
        contenders = [
            *ours(environment, quantile(x, q, axis)),
            *sums(environment, x),
            Contender("np.quantile", partial(np.quantile, x, q, axis=axis)),
        ]
        return Setup(contenders, [x], x.nbytes, checks(environment, x, q, axis))

    return build


_KERNEL = "quantile"
_NCHW = (32, 64, 56, 56)
_HARD: dict[str, Probabilities] = {"tails": TAILS, "median": 0.5}

CASES = (
    Case("quantile_tails", _KERNEL, "4M, normal", whole(SIZES["16 MB"], TAILS)),
    Case("median", "median", "4M, normal", whole(SIZES["16 MB"], 0.5)),
    Case("quantile_large", _KERNEL, "64M, normal", whole(SIZES["256 MB"], TAILS, largest=True), quick=False),
    *(
        Case("quantile_adversarial", _KERNEL, f"{name}, {which}", hard(name, q))
        for name in ADVERSARIAL
        for which, q in _HARD.items()
    ),
    Case("quantile_rows", _KERNEL, "tails", rows(TAILS), (share("sum()"),)),
    Case("quantile_channels", _KERNEL, "tails", channels(_NCHW, (0, 2, 3), TAILS)),
    Case(
        "",
        _KERNEL,
        "tails, 256K (1 MB), normal",
        whole(SIZES["1 MB"], TAILS),
        (share("sum()"), speed("np.quantile"), speed("np.partition, one kth")),
    ),
    *(
        Case("", _KERNEL, f"tails, {dtype}, 4M, normal", of_dtype(SIZES["16 MB"], dtype), (share("sum()"),))
        for dtype in ("float16", "bfloat16", "float64")
    ),
    Case(
        "",
        _KERNEL,
        "nine probabilities, 4M, normal",
        whole(SIZES["16 MB"], NINE, peers=False),
        (share("sum()"),),
    ),
    Case(
        "",
        _KERNEL,
        "median per row, [512, 4608]",
        rows(0.5),
        (speed("np.quantile"), speed("np.partition, one kth"), share("sum()")),
    ),
    Case(
        "",
        _KERNEL,
        "tails per channel, channels last [32, 56, 56, 64]",
        channels((32, 56, 56, 64), (0, 1, 2), TAILS),
        (speed("np.quantile"), share("sum()")),
    ),
    Case(
        "",
        "median",
        "64M, normal",
        whole(SIZES["256 MB"], 0.5, peers=False),
        (share("sum()"),),
        quick=False,
    ),
)
