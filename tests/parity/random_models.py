"""Small random ONNX models made of the blocks that networks are made of, reproducible by a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from ..adapters.onnx.models import ModelBuilder


@dataclass(frozen=True)
class Image:
    """A tensor [1, channels, size, size]."""

    name: str
    channels: int
    size: int


def random_model(seed: int) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]:
    """Build a model of one or two inputs and one or more outputs; returns the shapes of the inputs beside it."""
    return _RandomModel(seed).build()


class _RandomModel:
    def __init__(self, seed: int) -> None:
        self.b = ModelBuilder(17, seed=seed)
        self.rng = np.random.default_rng([7, seed])
        self.shared: dict[int, str] = {}

    def build(self) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]:
        inputs = {"x": (1, 4, 8, 8)} | ({"z": (1, 4, 8, 8)} if self.rng.random() < 0.3 else {})
        images = [Image(self.b.input(name, *shape), shape[1], shape[2]) for name, shape in inputs.items()]
        image = images[0]
        if len(images) > 1:
            image = self._merge(*(self._convolution(one, 4 if self.rng.random() < 0.5 else 8) for one in images))
        blocks: list[Callable[[Image], Image]] = [
            self._separable,
            self._residual,
            self._residual,
            self._inception,
            self._pool,
            self._shared,
            self._scaled,
            self._convolution,
            self._convolution,
        ]
        if self.rng.random() < 0.8:
            image = self._convolution(image)
        for _ in range(self.rng.integers(2, 5)):
            image = blocks[self.rng.integers(len(blocks))](image)
            if self.rng.random() < 0.15:
                self.b.output(self._head(image))
        self.b.output(self._head(image) if self.rng.random() < 0.6 else self._attention(image))
        return self.b.build(), inputs

    def _chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _convolution(self, x: Image, channels: int | None = None, *, activated: bool | None = None) -> Image:
        channels = channels or int(self.rng.choice([4, 8]))
        kernel = (1, 1) if self._chance(0.3) else (3, 3)
        group = 2 if self._chance(0.15) else 1
        folded = self._chance(0.3)
        y = self.b.conv(x.name, x.channels, channels, *kernel, group=group, bias=not folded)
        if folded:
            y = self.b.batch_norm(y, channels)
        return Image(y if activated is False else self._activation(y), channels, x.size)

    def _activation(self, x: str) -> str:
        b = self.b
        six = np.float32(6)
        kind = self.rng.choice(["none", "relu", "relu", "relu", "clip", "hard swish", "swish", "leaky"])
        if kind == "relu":
            return b.op("Relu", x)
        if kind == "clip":
            return b.op("Clip", x, b.constant(np.float32(0)), b.constant(six))
        if kind == "hard swish":
            return b.op("HardSwish", x)
        if kind == "swish":
            return b.op("Mul", x, b.op("Sigmoid", x))
        if kind == "leaky":
            return b.op("LeakyRelu", x, alpha=0.1)
        return x

    def _separable(self, x: Image) -> Image:
        y = self.b.conv(x.name, x.channels, x.channels, group=x.channels)
        y = self.b.op("Relu", y) if self._chance(0.7) else y
        return self._convolution(Image(y, x.channels, x.size))

    def _residual(self, x: Image) -> Image:
        y = self._convolution(x, x.channels)
        y = self._convolution(y, x.channels, activated=False) if self._chance(0.6) else y
        total = self.b.op("Add", *((x.name, y.name) if self._chance(0.5) else (y.name, x.name)))
        return Image(self.b.op("Relu", total) if self._chance(0.7) else total, x.channels, x.size)

    def _merge(self, *branches: Image) -> Image:
        channels = [branch.channels for branch in branches]
        names = [branch.name for branch in branches]
        if len(set(channels)) == 1 and self._chance(0.5):
            return Image(self.b.op("Add", *names), channels[0], branches[0].size)
        return Image(self.b.op("Concat", *names, axis=1), sum(channels), branches[0].size)

    def _inception(self, x: Image) -> Image:
        left, right = self._convolution(x, 4), self._convolution(x, 4)
        joined = Image(self.b.op("Concat", left.name, right.name, axis=1), 8, x.size)
        return self._convolution(joined)

    def _pool(self, x: Image) -> Image:
        if x.size < 4:
            return x
        kind = "MaxPool" if self._chance(0.5) else "AveragePool"
        pooled = self.b.op(kind, x.name, kernel_shape=[2, 2], strides=[2, 2])
        return Image(pooled, x.channels, x.size // 2)

    def _shared(self, x: Image) -> Image:
        if x.channels not in self.shared:
            self.shared[x.channels] = self.b.noise(x.channels, x.channels, 3, 3)
        y = self.b.op("Conv", x.name, self.shared[x.channels], pads=[1] * 4)
        y = self.b.op("Conv", self.b.op("Relu", y), self.shared[x.channels], pads=[1] * 4)
        return Image(self.b.op("Relu", y), x.channels, x.size)

    def _scaled(self, x: Image) -> Image:
        shape = (1, x.channels, 1, 1) if self._chance(0.5) else (1, x.channels, x.size, x.size)
        y = self.b.op("Add" if self._chance(0.5) else "Mul", x.name, self.b.noise(*shape, scale=1.0))
        return self._convolution(Image(y, x.channels, x.size))

    def _head(self, x: Image) -> str:
        b = self.b
        if self._chance(0.6):
            flat, width = b.op("Flatten", b.op("GlobalAveragePool", x.name)), x.channels
        else:
            width = x.channels * x.size**2
            flat = b.op("Reshape", x.name, b.constant(np.int64([1, width])))
        if self._chance(0.5):
            flat = b.op("Relu", b.op("Gemm", flat, b.noise(width, 6), b.noise(6)))
            width = 6
        if self._chance(0.5):
            return b.op("Gemm", flat, b.noise(width, 3), b.noise(3))
        return b.op("Add", b.op("MatMul", flat, b.noise(width, 3)), b.noise(3))

    def _attention(self, x: Image) -> str:
        b, width = self.b, x.channels
        tokens = b.op("Reshape", x.name, b.constant(np.int64([1, width, x.size**2])))
        tokens = b.op("Transpose", tokens, perm=[0, 2, 1])
        if self._chance(0.5):
            tokens = b.op("LayerNormalization", tokens, b.positive(width), b.noise(width))
        query, key, value = (b.op("MatMul", tokens, b.noise(width, width)) for _ in range(3))
        scores = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 2, 1]))
        context = b.op("MatMul", b.op("Softmax", scores, axis=-1), value)
        projected = b.op("MatMul", context, b.noise(width, width))
        if self._chance(0.5):
            projected = b.op("Add", projected, tokens)
        return b.op("MatMul", b.op("ReduceMean", projected, axes=[1]), b.noise(width, 3))
