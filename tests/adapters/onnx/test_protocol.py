"""The adapter keeps the protocol that the driver relies on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest

from quantstats.adapters import adapter_for
from quantstats.adapters.onnx import OnnxAdapter
from quantstats.adapters.testing import check_adapter

from .models import ModelBuilder, small_cnn
from .quantization import Array, run


def _branches() -> onnx.ModelProto:
    """Two inputs, two outputs, one of them in the middle; moves, a concatenation with a constant, an attention."""
    b = ModelBuilder()
    image, vector = b.input("image", "batch", 4, 8, 8), b.input("vector", "batch", 16)
    features = b.op("Clip", b.conv(image, 4, 8), b.constant(np.float32(0)), b.constant(np.float32(6)), out="features")
    tokens = b.op("Transpose", b.op("Reshape", features, b.constant(np.int64([0, 8, 64]))), perm=[0, 2, 1])
    scores = b.op("Softmax", b.op("MatMul", tokens, b.op("Transpose", tokens, perm=[0, 2, 1])), axis=-1)
    mixed = b.op("ReduceMean", b.op("MatMul", scores, tokens), axes=[1], keepdims=0)
    joined = b.op("Concat", mixed, b.op("Gemm", vector, b.noise(16, 8), b.noise(8)), axis=1)
    b.op("Add", b.op("MatMul", joined, b.noise(16, 3)), b.noise(3), out="y")
    b.output("features", "y")
    return b.build()


def _recurrent() -> onnx.ModelProto:
    b = ModelBuilder(14)
    x = b.input("x", 5, "batch", 4)
    b.op("LSTM", x, b.noise(1, 24, 4), b.noise(1, 24, 6), hidden_size=6, out=("", "state"))
    b.output(b.op("MatMul", "state", b.noise(6, 3)))
    return b.build()


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, tuple[int, ...]]]] = {
    "convolutional": (small_cnn, {"x": (3, 3, 8, 8)}),
    "opset 11": (lambda: small_cnn(opset=11), {"x": (3, 3, 8, 8)}),
    "branches": (_branches, {"image": (3, 4, 8, 8), "vector": (3, 16)}),
    "recurrent": (_recurrent, {"x": (5, 3, 4)}),
}


@pytest.mark.parametrize("threshold", [None, 1])
@pytest.mark.parametrize("model", MODELS)
def test_protocol(model: str, threshold: int | None) -> None:
    build, shapes = MODELS[model]
    rng = np.random.default_rng(7)
    samples = [{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(3)]
    options = {} if threshold is None else {"external_data_threshold": threshold}

    def run_emitted(emitted: onnx.ModelProto, sample: Mapping[str, Array]) -> Mapping[str, Array]:
        return run(emitted, sample)

    check_adapter(OnnxAdapter(build(), **options), samples, run_emitted=run_emitted)


def test_adapter_is_found_by_the_kind_of_the_model() -> None:
    assert isinstance(adapter_for(small_cnn()), OnnxAdapter)
