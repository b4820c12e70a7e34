"""What one call costs where there is next to no data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np

from benchmarks.case import Case, Environment, Setup, assert_same
from benchmarks.data import normal
from benchmarks.gates import Gate, Kind, speed
from benchmarks.harness import Clock, Contender

ELEMENTS = 10


def activate(target: Any) -> None:
    """Let the public functions use the kernels of `target`."""
    from quantstats import kernels

    vars(kernels)["_active"] = target


def through_public_function(environment: Environment) -> Setup:
    """`quantstats.kernels.min_max(a)` as a user calls it, beside ``a.min(), a.max()``."""
    import torch

    from quantstats import kernels

    active = vars(kernels)["_active"]
    a = normal(ELEMENTS).copy()
    t = torch.from_numpy(a)
    min_max = kernels.min_max

    def block(repetitions: int, clock: Clock) -> int:
        start = clock()
        for _ in repeat(None, repetitions):
            min_max(a)
        return clock() - start

    def numpy_block(repetitions: int, clock: Clock) -> int:
        start = clock()
        for _ in repeat(None, repetitions):
            a.min()
            a.max()
        return clock() - start

    def torch_block(repetitions: int, clock: Clock) -> int:
        aminmax = torch.aminmax
        start = clock()
        for _ in repeat(None, repetitions):
            aminmax(t)
        return clock() - start

    def numpy_call() -> None:
        a.min()
        a.max()

    def check(target: Any) -> None:
        activate(target)
        assert_same(min_max(a), (a.min(), a.max()), "min_max")
        activate(active)

    contenders = [
        *(
            Contender("ours", partial(min_max, a), isa, enter=partial(activate, target), block=block)
            for isa, target in environment.targets.items()
        ),
        # The last to be entered leaves the module as it was.
        Contender("numpy min+max", numpy_call, enter=partial(activate, active), block=numpy_block),
        Contender("torch.aminmax", partial(torch.aminmax, t), enter=partial(activate, active), block=torch_block),
    ]
    checks: dict[str, Callable[[], None]] = {isa: partial(check, target) for isa, target in environment.targets.items()}
    return Setup(contenders, [], a.nbytes, checks)


def through_public_quantize(environment: Environment) -> Setup:
    """`quantstats.kernels.quantize_linear(a, ...)` of ten elements."""
    from quantstats import kernels

    a = normal(ELEMENTS).copy()
    out = np.empty(a.shape, np.int8)

    def call() -> object:
        return kernels.quantize_linear(a, 0.1, 0, qmin=-128, qmax=127, out=out)

    def check(target: Any) -> None:
        expected = np.clip(np.rint(a / np.float32(0.1)), -128, 127)
        assert_same(target.quantize_linear(a, 0.1, 0, None, -128, 127, "int8", out), expected, "levels")

    contenders = [
        Contender("ours", call, isa, enter=partial(activate, target)) for isa, target in environment.targets.items()
    ]
    checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
    return Setup(contenders, [], a.nbytes, checks)


def of_running_statistic(name: str, environment: Environment) -> Setup:
    """`update(value)` of a class of `quantstats.streaming`, which knows no instruction sets."""
    from quantstats import streaming

    running = getattr(streaming, name)()
    update = running.update

    def block(repetitions: int, clock: Clock) -> int:
        start = clock()
        for _ in repeat(None, repetitions):
            update(1.25)
        return clock() - start

    def check(_: Any) -> None:
        fresh = getattr(streaming, name)()
        for value in (1.0, 2.0, 6.0):
            fresh.update(value)
        found = fresh.mean if name == "RunningMean" else (fresh.minimum, fresh.maximum)
        assert found == (3.0 if name == "RunningMean" else (1.0, 6.0))
        assert fresh.count == 3

    isas = list(environment.targets)
    contenders = [Contender("ours", partial(update, 1.25), isa, block=block) for isa in isas]
    return Setup(contenders, [], 8, {isa: partial(check, None) for isa in isas})


CASES = (
    Case("small_call", "calls", "min_max", through_public_function, (speed("torch.aminmax"),)),
    Case("", "calls", "quantize_linear, 10 elements, out=", through_public_quantize, (Gate(Kind.TIME),)),
    *(
        Case("running_update", "calls", f"{name}.update", partial(of_running_statistic, name))
        for name in ("RunningRange", "RunningMean", "RunningHistogram")
    ),
)
