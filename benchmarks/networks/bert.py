"""A transformer encoder with the structure of BERT (Devlin et al., 2019), its operators as exporters write them."""

from __future__ import annotations

import math

import numpy as np
import onnx

from benchmarks.networks.builder import NetworkBuilder
from benchmarks.networks.inputs import tokens

STATISTICS_SEQUENCES = 8
EXPANSION = 4
LAYER_NORM_EPSILON = 1e-12


def bert_like(
    *, layers: int = 2, hidden: int = 128, heads: int = 4, seq: int = 32, vocab: int = 1000, seed: int = 0
) -> onnx.ModelProto:
    """Build an encoder: "input" int64 [batch, seq], token identifiers, "output" float32 [batch, seq, hidden].

    :raises ValueError: `hidden` is no multiple of `heads`.
    """
    if hidden % heads:
        raise ValueError(f"hidden={hidden} is no multiple of heads={heads}; give a width that the heads can share")
    builder = NetworkBuilder(tokens(STATISTICS_SEQUENCES, seq, vocab, seed=seed), seed=seed)
    _constants(builder, hidden, heads, seq)
    words = builder.weight("word_embeddings", builder.rng.normal(size=(vocab, hidden)).astype(np.float32))
    positions = builder.weight("position_embeddings", builder.rng.normal(size=(seq, hidden)).astype(np.float32))
    embedded = builder.op("Gather", words, "input", name="embed_words")
    placed = builder.op("Gather", positions, "positions", name="embed_positions")
    x = builder.op("Add", embedded, placed, name="embed")
    x = _layer_norm(builder, x, hidden, name="embed_norm")
    for index in range(layers):
        x = _layer(builder, x, hidden, name=f"layer{index}")
    return builder.model(x, "bert_like")


def _constants(builder: NetworkBuilder, hidden: int, heads: int, seq: int) -> None:
    width = hidden // heads
    scalars = {"root_of_width": math.sqrt(width), "root_of_two": math.sqrt(2.0), "one": 1.0, "half": 0.5}
    for name, value in scalars.items():
        builder.weight(name, np.asarray(value, np.float32))
    builder.weight("positions", np.arange(seq, dtype=np.int64))
    builder.weight("split_heads", np.asarray([0, 0, heads, width], np.int64))
    builder.weight("join_heads", np.asarray([0, 0, hidden], np.int64))


def _layer_norm(builder: NetworkBuilder, x: str, hidden: int, *, name: str) -> str:
    scale = np.exp(builder.rng.normal(scale=0.3, size=hidden)).astype(np.float32)
    offset = builder.rng.normal(scale=0.1, size=hidden).astype(np.float32)
    parameters = builder.weight(f"{name}.weight", scale), builder.weight(f"{name}.bias", offset)
    return builder.op("LayerNormalization", x, *parameters, name=name, axis=-1, epsilon=LAYER_NORM_EPSILON)


def _heads(builder: NetworkBuilder, x: str, hidden: int, axes: list[int], *, name: str) -> str:
    """Project and give every head an axis: [batch, seq, hidden] becomes [batch, seq, heads, width], then permuted."""
    x = builder.linear(x, hidden, name=name)
    x = builder.op("Reshape", x, "split_heads", name=f"{name}_reshape")
    return builder.op("Transpose", x, name=f"{name}_transpose", perm=axes)


def _attention(builder: NetworkBuilder, x: str, hidden: int, *, name: str) -> str:
    query = _heads(builder, x, hidden, [0, 2, 1, 3], name=f"{name}_query")
    key = _heads(builder, x, hidden, [0, 2, 3, 1], name=f"{name}_key")
    value = _heads(builder, x, hidden, [0, 2, 1, 3], name=f"{name}_value")
    scores = builder.op("MatMul", query, key, name=f"{name}_scores")
    scores = builder.op("Div", scores, "root_of_width", name=f"{name}_scale")
    weights = builder.op("Softmax", scores, name=f"{name}_softmax", axis=-1)
    context = builder.op("MatMul", weights, value, name=f"{name}_context")
    context = builder.op("Transpose", context, name=f"{name}_transpose", perm=[0, 2, 1, 3])
    context = builder.op("Reshape", context, "join_heads", name=f"{name}_reshape")
    return builder.linear(context, hidden, name=f"{name}_output")


def _gelu(builder: NetworkBuilder, x: str, *, name: str) -> str:
    """Add x / 2 * (1 + erf(x / sqrt(2))), the exact form."""
    error = builder.op("Erf", builder.op("Div", x, "root_of_two", name=f"{name}_div"), name=f"{name}_erf")
    doubled = builder.op("Mul", x, builder.op("Add", error, "one", name=f"{name}_add"), name=f"{name}_mul")
    return builder.op("Mul", doubled, "half", name=f"{name}_half")


def _layer(builder: NetworkBuilder, x: str, hidden: int, *, name: str) -> str:
    """Attention and feed-forward, each with a residual and a normalization behind it."""
    attended = _attention(builder, x, hidden, name=f"{name}_attention")
    x = builder.op("Add", attended, x, name=f"{name}_attention_residual")
    x = _layer_norm(builder, x, hidden, name=f"{name}_attention_norm")
    wide = builder.linear(x, EXPANSION * hidden, name=f"{name}_intermediate")
    wide = _gelu(builder, wide, name=f"{name}_gelu")
    narrow = builder.linear(wide, hidden, name=f"{name}_feed_forward")
    x = builder.op("Add", narrow, x, name=f"{name}_residual")
    return _layer_norm(builder, x, hidden, name=f"{name}_norm")
