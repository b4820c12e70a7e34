"""Quantize and fake-quantize, per tensor and per channel.

Gates compare our call with `out=` with each peer. "numpy idiom" is the expression as one writes it, with and without a
preallocated output; the same chain worked out in place, step by step, is shown beside it. What allocates on both sides
is information.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.case import Case, Environment, Setup, assert_same
from benchmarks.cases.common import SIZES, moved, ours
from benchmarks.data import adversarial, normal
from benchmarks.gates import MEMCPY, share, speed
from benchmarks.harness import Contender
from benchmarks.peers import (
    dequantize_operator,
    numpy_quantize,
    numpy_quantize_in_place,
    numpy_quantize_to,
    quantize_operator,
    tensor,
)

ALLOCATING = "allocating"
IDIOM = "numpy idiom"
IN_PLACE = "numpy in place"
_Integers = dict[str, type[np.integer[Any]]]
DTYPES: _Integers = {"uint8": np.uint8, "int8": np.int8}
# Of normal data a few values saturate.
SCALE = np.float32(0.0313)
ZERO_POINT = {"uint8": 128, "int8": -3}


def per_tensor(count: int, dtype: str, data: str = "normal") -> Callable[[Environment], Setup]:
    """Quantize with one scale."""

    def build(environment: Environment) -> Setup:
        import torch

        x = normal(count) if data == "normal" else adversarial(data, count)
        kind = DTYPES[dtype]
        low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
        zero = ZERO_POINT[dtype]
        out = np.empty(x.shape, kind)
        scratch = np.empty(x.shape, np.float32)
        operator = quantize_operator(x, np.asarray(SCALE), np.asarray(zero, kind), None, environment.threads)
        t = tensor(x)
        qtype = torch.quint8 if dtype == "uint8" else torch.qint8

        def call(target: Any, into: NDArray[Any] | None) -> Callable[[], object]:
            return partial(target.quantize_linear, x, SCALE, zero, None, low, high, dtype, into)

        def check(target: Any) -> None:
            assert_same(call(target, out)(), operator.run()[0], "levels, against onnxruntime")

        contenders = [
            *ours(environment, lambda target: call(target, out)),
            *(Contender(ALLOCATING, call(target, None), isa) for isa, target in environment.targets.items()),
            Contender(IDIOM, partial(numpy_quantize, x, SCALE, np.float32(zero), kind)),
            Contender(IDIOM, partial(numpy_quantize_to, x, SCALE, np.float32(zero), out), variant="out="),
            Contender(IN_PLACE, partial(numpy_quantize_in_place, x, SCALE, np.float32(zero), scratch, out)),
            Contender("onnxruntime run", operator.run),
            Contender("onnxruntime io-binding", operator.bound([out])),
            Contender("torch", partial(torch.quantize_per_tensor, t, float(SCALE), zero, qtype)),
        ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [x, out], moved(x, out), checks)

    return build


def fake(count: int) -> Callable[[Environment], Setup]:
    """Round to levels and back with one scale."""

    def build(environment: Environment) -> Setup:
        import torch

        x = normal(count)
        out = np.empty_like(x)
        t = tensor(x)

        def call(target: Any, into: NDArray[Any] | None) -> Callable[[], object]:
            return partial(target.fake_quantize, x, SCALE, -3, None, -128, 127, into)

        def check(target: Any) -> None:
            part = x[: 1 << 20]
            levels = np.clip(np.rint(part / SCALE) + np.float32(-3), -128, 127)
            expected = ((levels - np.float32(-3)) * SCALE).astype(np.float32)
            assert_same(target.fake_quantize(x, SCALE, -3, None, -128, 127, None)[: part.size], expected, "values")

        contenders = [
            *ours(environment, lambda target: call(target, out)),
            *(Contender(ALLOCATING, call(target, None), isa) for isa, target in environment.targets.items()),
            Contender(MEMCPY, partial(np.copyto, out, x)),
            Contender("torch", partial(torch.fake_quantize_per_tensor_affine, t, float(SCALE), -3, -128, 127)),
        ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [x, out], moved(x, out), checks)

    return build


def dequantize(count: int) -> Callable[[Environment], Setup]:
    """From int8 levels back to float32 with one scale."""

    def build(environment: Environment) -> Setup:
        q = np.random.default_rng(7).integers(-128, 128, count, np.int8)
        out = np.empty(q.shape, np.float32)
        zero = ZERO_POINT["int8"]
        operator = dequantize_operator(q, np.asarray(SCALE), np.asarray(zero, np.int8), environment.threads)

        def call(target: Any) -> Callable[[], object]:
            return partial(target.dequantize_linear, q, SCALE, zero, None, out)

        def check(target: Any) -> None:
            assert_same(call(target)(), operator.run()[0], "values, against onnxruntime")

        def idiom() -> None:
            np.multiply(q.astype(np.float32) - np.float32(zero), SCALE, out=out)

        contenders = [
            *ours(environment, call),
            Contender("onnxruntime", operator.run, variant="run"),
            Contender("onnxruntime", operator.bound([out]), variant="io-binding"),
            Contender(IDIOM, idiom),
        ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [q, out], moved(q, out), checks)

    return build


def per_channel(shape: tuple[int, ...], axis: int) -> Callable[[Environment], Setup]:
    """Quantize to int8 with a scale per channel."""

    def build(environment: Environment) -> Setup:
        import torch

        x = normal(int(np.prod(shape))).reshape(shape)
        scales = np.random.default_rng(5).uniform(0.02, 0.05, shape[axis]).astype(np.float32)
        zeros = np.zeros(shape[axis], np.int8)
        out = np.empty(shape, np.int8)
        scratch = np.empty_like(x)
        operator = quantize_operator(x, scales, zeros, axis, environment.threads)
        along = tuple(-1 if i == axis else 1 for i in range(len(shape)))
        t = tensor(x)
        t_scales, t_zeros = torch.from_numpy(scales), torch.zeros(shape[axis], dtype=torch.int64)

        def call(target: Any, into: NDArray[Any] | None) -> Callable[[], object]:
            return partial(target.quantize_linear, x, scales, zeros, axis, -128, 127, "int8", into)

        def check(target: Any) -> None:
            assert_same(call(target, out)(), operator.run()[0], "levels, against onnxruntime")

        shaped, shaped_zeros = scales.reshape(along), zeros.reshape(along).astype(np.float32)
        contenders = [
            *ours(environment, lambda target: call(target, out)),
            *(Contender(ALLOCATING, call(target, None), isa) for isa, target in environment.targets.items()),
            Contender(IDIOM, partial(numpy_quantize, x, shaped, shaped_zeros, np.int8)),
            Contender(IDIOM, partial(numpy_quantize_to, x, shaped, shaped_zeros, out), variant="out="),
            Contender(IN_PLACE, partial(numpy_quantize_in_place, x, shaped, shaped_zeros, scratch, out)),
            Contender("onnxruntime", operator.run, variant="run"),
            Contender("onnxruntime", operator.bound([out]), variant="io-binding"),
            Contender("torch", partial(torch.quantize_per_channel, t, t_scales, t_zeros, axis, torch.qint8)),
        ]
        checks = {isa: partial(check, target) for isa, target in environment.targets.items()}
        return Setup(contenders, [x, out], moved(x, out), checks)

    return build


_BESIDE = (
    speed(IN_PLACE),
    speed("onnxruntime run", subject=ALLOCATING),
    speed("torch", subject=ALLOCATING),
)

CASES = (
    *(
        Case("quantize", "quantize_linear", f"{dtype}, {label}", per_tensor(SIZES[size], dtype), _BESIDE, quick)
        for label, size, quick in (("4M", "16 MB", True), ("64M", "256 MB", False))
        for dtype in DTYPES
    ),
    Case(
        "",
        "quantize_linear",
        "int8, 4M, denormal",
        per_tensor(SIZES["16 MB"], "int8", "denormal"),
        (speed("onnxruntime run"), speed("onnxruntime io-binding"), speed("torch")),
    ),
    Case("fake_quantize", "fake_quantize", "64M", fake(SIZES["256 MB"]), (speed("torch", subject=ALLOCATING),), False),
    Case(
        "",
        "fake_quantize",
        "4M",
        fake(SIZES["16 MB"]),
        (share(MEMCPY), speed("torch"), speed("torch", subject=ALLOCATING)),
    ),
    Case("", "dequantize_linear", "4M", dequantize(SIZES["16 MB"]), (speed("onnxruntime"), speed(IDIOM))),
    Case("quantize_channels", "quantize_linear", "axis 0", per_channel((512, 4608), 0), (speed(IN_PLACE),)),
    Case(
        "",
        "quantize_linear",
        "[512, 4608], axis 1",
        per_channel((512, 4608), 1),
        (speed("torch"), speed("onnxruntime"), speed(IDIOM), speed(IN_PLACE)),
    ),
)
