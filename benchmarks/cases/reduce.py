"""Minimum and maximum, over every kind of axis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.case import Case, Environment, Setup, assert_same
from benchmarks.cases.common import SIZES, Axis, moved, ours, sums
from benchmarks.data import normal
from benchmarks.gates import SUM, share, speed
from benchmarks.harness import Contender
from benchmarks.peers import OnnxOperators, tensor

Array = NDArray[Any]


def numpy_min_max(x: Array, axis: Axis) -> Callable[[], object]:
    """Return NumPy's two reductions."""
    return lambda: (x.min(axis=axis), x.max(axis=axis))


def numpy_min_max_into(x: Array, axis: Axis) -> Callable[[], object]:
    """Return NumPy's two reductions into preallocated arrays."""
    low, high = x.min(axis=axis), x.max(axis=axis)
    return lambda: (x.min(axis=axis, out=low), x.max(axis=axis, out=high))


def torch_aminmax(x: Array, axis: int | None, name: str) -> list[Contender]:
    """Return torch.aminmax, with and without preallocated results."""
    import torch

    t = tensor(x)
    out = tuple(torch.aminmax(t, dim=axis))
    return [
        Contender(name, partial(torch.aminmax, t, dim=axis), variant="aminmax"),
        Contender(name, partial(torch.aminmax, t, dim=axis, out=out), variant="aminmax, out="),
    ]


def torch_two(x: Array, axis: int | tuple[int, ...], name: str) -> list[Contender]:
    """Return torch.amin and torch.amax, which take several axes, with and without preallocated results."""
    import torch

    t = tensor(x)
    low, high = torch.amin(t, axis), torch.amax(t, axis)

    def plain() -> None:
        torch.amin(t, axis)
        torch.amax(t, axis)

    def into() -> None:
        torch.amin(t, axis, out=low)
        torch.amax(t, axis, out=high)

    return [Contender(name, plain, variant="amin+amax"), Contender(name, into, variant="amin+amax, out=")]


def checks(environment: Environment, x: Array, axis: Axis) -> dict[str, Callable[[], None]]:
    """Return a comparison with NumPy for every instruction set."""

    def check(target: Any) -> None:
        low, high = target.min_max(x, axis, False, "raise")
        # 16-bit results are float32 here; the values are the same.
        assert_same(low, np.asarray(x.min(axis=axis)).astype(np.float32), "minimum")
        assert_same(high, np.asarray(x.max(axis=axis)).astype(np.float32), "maximum")

    return {isa: partial(check, target) for isa, target in environment.targets.items()}


def min_max(x: Array, axis: Axis) -> Callable[[Any], Callable[[], object]]:
    """Return what calls our kernel."""
    return lambda target: partial(target.min_max, x, axis, False, "raise")


def contiguous(count: int, torch_name: str) -> Callable[[Environment], Setup]:
    """Min and max of all elements of a contiguous array."""

    def build(environment: Environment) -> Setup:
        import bottleneck
        import torch

        x = normal(count)
        scalar = np.dtype(np.float32)
        operators = OnnxOperators(
            x,
            [("ReduceMin", [], {"keepdims": 0}), ("ReduceMax", [], {"keepdims": 0})],
            {},
            [(scalar, ()), (scalar, ())],
            environment.threads,
        )
        t = tensor(x)
        contenders = [
            *ours(environment, min_max(x, None)),
            *sums(environment, x),
            *(
                Contender("summarize", partial(target.summarize, x, None, (), False, "ignore", None), isa)
                for isa, target in environment.targets.items()
            ),
            Contender("numpy min+max", numpy_min_max(x, None)),
            *torch_aminmax(x, None, torch_name),
            Contender("torch.sum", t.sum),
            Contender("numpy sum", x.sum),
            Contender("onnxruntime", operators.run, variant="run"),
            Contender("onnxruntime", operators.bound([np.empty((), scalar), np.empty((), scalar)]), variant="binding"),
            Contender("bottleneck", lambda: (bottleneck.nanmin(x), bottleneck.nanmax(x))),
        ]
        assert torch.get_num_threads() == environment.threads
        return Setup(contenders, [x], x.nbytes, checks(environment, x, None))

    return build


def inner(shape: tuple[int, ...], axis: Axis, torch_name: str) -> Callable[[Environment], Setup]:
    """Min and max over some axes of a contiguous array."""

    def build(environment: Environment) -> Setup:
        x = normal(int(np.prod(shape))).reshape(shape)
        contenders = [
            *ours(environment, min_max(x, axis)),
            *sums(environment, x),
            Contender("numpy min+max", numpy_min_max(x, axis)),
            Contender("numpy min+max", numpy_min_max_into(x, axis), variant="out="),
        ]
        assert axis is not None
        two = "torch.amin+amax" if torch_name == "torch.aminmax" else torch_name
        contenders += torch_two(x, axis, two)
        if isinstance(axis, int):
            one = "torch.aminmax" if torch_name == "torch.amin+amax" else torch_name
            contenders += torch_aminmax(x, axis, one)
        return Setup(contenders, [x], moved(x), checks(environment, x, axis))

    return build


def strided(stride: int) -> Callable[[Environment], Setup]:
    """Min and max of every `stride`-th element of 16 MB."""

    def build(environment: Environment) -> Setup:
        import bottleneck
        import torch

        base = normal(SIZES["16 MB"])
        x = base[::stride]
        t = tensor(x)
        contenders = [
            *ours(environment, min_max(x, None)),
            *sums(environment, base, f"{SUM} of whole lines"),
            Contender("numpy min+max", numpy_min_max(x, None)),
            Contender("torch.aminmax", partial(torch.aminmax, t)),
            Contender("bottleneck", lambda: (bottleneck.nanmin(x), bottleneck.nanmax(x))),
        ]
        return Setup(contenders, [base], base.nbytes, checks(environment, x, None))

    return build


def sixteen_bit(dtype: str) -> Callable[[Environment], Setup]:
    """Min and max of 4M 16-bit floats, beside those of as many float32."""

    def build(environment: Environment) -> Setup:
        import ml_dtypes
        import torch

        single = normal(SIZES["16 MB"])
        x = single.astype(np.float16 if dtype == "float16" else ml_dtypes.bfloat16)
        contenders = [
            *ours(environment, min_max(x, None)),
            *(
                Contender("float32", partial(target.min_max, single, None, False, "raise"), isa, buffers=[single])
                for isa, target in environment.targets.items()
            ),
            Contender("numpy min+max", numpy_min_max(x, None)),
            Contender("torch.aminmax", partial(torch.aminmax, tensor(x))),
        ]
        return Setup(contenders, [x], x.nbytes, checks(environment, x, None))

    return build


_KERNEL = "min_max"
_READING = (
    speed("torch.sum"),
    share("summarize"),
    speed("onnxruntime"),
    speed("bottleneck"),
)

CASES = (
    *(
        Case("min_max", _KERNEL, size, contiguous(SIZES[size], "torch.aminmax"), _READING, quick=size != "256 MB")
        for size in ("4 MB", "16 MB", "256 MB")
    ),
    Case("min_max_l2", _KERNEL, "1 MB", contiguous(SIZES["1 MB"], "torch"), _READING),
    Case(
        "min_max_inner_axes", _KERNEL, "[32, 64, 56, 56], axes (0, 2, 3)", inner((32, 64, 56, 56), (0, 2, 3), "torch")
    ),
    Case("min_max_inner_axes", _KERNEL, "[512, 4608], axis 1", inner((512, 4608), 1, "torch")),
    Case("min_max_outer_axis", _KERNEL, "[65536, 64], axis 0", inner((65536, 64), 0, "torch.amin+amax")),
    Case("min_max_outer_axis", _KERNEL, "[262144, 16], axis 0", inner((262144, 16), 0, "torch.amin+amax")),
    Case(
        "min_max_outer_axis",
        _KERNEL,
        "[32, 56, 56, 64], axes (0, 1, 2)",
        inner((32, 56, 56, 64), (0, 1, 2), "torch.amin+amax"),
    ),
    Case("min_max_few_channels", _KERNEL, "[1398101, 3], axis 0", inner((1398101, 3), 0, "torch.aminmax")),
    *(Case("min_max_strided", _KERNEL, f"stride {stride}", strided(stride)) for stride in (2, 3, 4, 5, 7, 8)),
    *(Case("min_max_16_bit", _KERNEL, f"{dtype}, 4M", sixteen_bit(dtype)) for dtype in ("float16", "bfloat16")),
)
