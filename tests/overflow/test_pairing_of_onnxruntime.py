"""Which products onnxruntime adds into 16 bits without VNNI, asked of its kernels, against the rules as data.

Every output of a probe has two weights of 127 and otherwise zeros, every activation is 255: an output saturates if and
only if its two weights are a pair.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.plain_path import Hidden, PlainPath, saturation_probe
from quantstats.overflow import PAIRINGS, BlockPairs, LayerKind, NoPairs

Array = NDArray[Any]
Pairs = set[tuple[int, int]]

EXACT, SATURATED = 2 * 255 * 127, 32767
# Scale of a quantized output: what is exact becomes level 200, what saturates 101.
OUTPUT_SCALE = np.float32(EXACT / 200)
LEVELS = [Hidden.AVX512, Hidden.VNNI]


@dataclass
class Probe:
    """A layer whose outputs have two weights each, and how many channels and positions these are taken from."""

    model: onnx.ModelProto
    feed: Array
    kind: LayerKind
    channels: int
    spatial: int
    pairs: list[tuple[int, int]]
    decode: Callable[[Array], Array]

    def saturated(self, output: Array) -> Pairs:
        """The pairs that saturated: the same ones in every row, position and group, and all others exact."""
        found = self.decode(output).astype(np.float64)
        assert found.shape[-1] == len(self.pairs)
        found = found.reshape(-1, len(self.pairs))
        assert np.all(found == found[0])
        low, high = (SATURATED, EXACT) if found.max() > 255 else (np.rint(SATURATED / OUTPUT_SCALE), 200)
        assert set(np.unique(found)) <= {low, high}
        return {pair for pair, value in zip(self.pairs, found[0], strict=True) if value == low}

    def expected(self, pairing: str) -> Pairs:
        """Those that the rule has, among the ones that were probed."""
        rule = PAIRINGS[pairing].rule(self.kind)
        if isinstance(rule, NoPairs):
            return set()
        assert isinstance(rule, BlockPairs)
        partners = rule.partners(self.channels, self.spatial)
        return {(min(a, b), max(a, b)) for a, b in partners.tolist() if min(a, b) >= 0} & set(self.pairs)


def weights(pairs: Iterable[tuple[int, int]], length: int) -> Array:
    """[pairs, length]: 127 at the two positions of a pair."""
    found = [np.bincount(pair, minlength=length) for pair in pairs]
    return (np.stack(found) * 127).astype(np.int8)


def model(node: onnx.NodeProto, feed: Array, output: np.dtype[Any], constants: dict[str, Array]) -> onnx.ModelProto:
    def kind(dtype: np.dtype[Any]) -> int:
        return int(helper.np_dtype_to_tensor_dtype(dtype))

    graph = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info("a", kind(feed.dtype), feed.shape)],
        [helper.make_tensor_value_info("y", kind(output), None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def matrix(operator: str, rows: int, length: int) -> Probe:
    """A product [rows, length] x [length, pairs]: of all pairs, or of near ones along a long axis."""
    pairs = list(itertools.combinations(range(length), 2))
    if length > 100:
        pairs = [pair for pair in pairs if pair[1] - pair[0] in (1, 2, 3, 8, length // 2)]
    weight = weights(pairs, length).T
    feed = np.full((rows, length), 255, np.uint8)
    one, zero = np.float32(1), np.uint8(0)
    scales = {"one": one, "zero": zero, "weight_zero": np.int8(0), "scale": OUTPUT_SCALE}
    if operator == "MatMulInteger":
        node = helper.make_node(operator, ["a", "b"], ["y"])
        made = model(node, feed, np.dtype(np.int32), {"b": weight})
    elif operator == "MatMulIntegerToFloat":
        node = helper.make_node(operator, ["a", "b", "one", "one"], ["y"], domain="com.microsoft")
        made = model(node, feed, np.dtype(np.float32), {"b": weight, "one": one})
    elif operator == "QLinearMatMul":
        inputs = ["a", "one", "zero", "b", "one", "weight_zero", "scale", "zero"]
        made = model(helper.make_node(operator, inputs, ["y"]), feed, np.dtype(np.uint8), {"b": weight, **scales})
    else:
        inputs = ["a", "one", "zero", "b", "one", "weight_zero", "", "scale", "zero"]
        node = helper.make_node("QGemm", inputs, ["y"], domain="com.microsoft", transB=1)
        made = model(node, feed, np.dtype(np.uint8), {"b": weight.T, **scales})
    return Probe(made, feed, LayerKind.MATMUL, length, 1, pairs, lambda output: output)


def convolution(channels: int, kernel: tuple[int, ...], groups: int, *, aligned: bool = False, **attrs: Any) -> Probe:
    """A convolution of that many channels a group. Zero groups: depthwise, a group for each pair.

    `aligned` fills up the outputs to a multiple of 16, for which libraries like to have kernels of their own.
    """
    spatial = int(np.prod(kernel))
    pairs = list(itertools.combinations(range(channels * spatial), 2))
    weight = weights(pairs, channels * spatial)
    if aligned:
        weight = np.pad(weight, ((0, -len(weight) % 16), (0, 0)))
    repeats = 1 if groups == 0 else groups
    weight = np.tile(weight.reshape(-1, channels, *kernel), (repeats, 1) + (1,) * len(kernel))
    groups = groups or len(weight)
    feed = np.full((1, channels * groups, *(7,) * len(kernel)), 255, np.uint8)
    constants = {
        "b": weight,
        "one": np.float32(1),
        "ones": np.ones(len(weight), np.float32),
        "zero": np.uint8(0),
        "zeros": np.zeros(len(weight), np.int8),
        "scale": OUTPUT_SCALE,
    }
    inputs = ["a", "one", "zero", "b", "ones", "zeros", "scale", "zero"]
    node = helper.make_node("QLinearConv", inputs, ["y"], group=groups, **attrs)

    def decode(output: Array) -> Array:
        by_group = output.reshape(repeats, len(weight) // repeats, -1)[:, : len(pairs)]
        return np.moveaxis(by_group, 1, -1)

    kind = LayerKind.of_convolution(weight.shape, groups)
    return Probe(model(node, feed, np.dtype(np.uint8), constants), feed, kind, channels, spatial, pairs, decode)


# Rows: one takes a kernel for a vector. Lengths: with and without a rest of blocks of 4 and of 8; longer than a cache
# block of the reduction axis.
MATRICES = {
    f"{operator} {rows}x{length}": (operator, rows, length)
    for operator in ("MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul", "QGemm")
    for rows in (1, 2, 13)
    for length in (7, 8, 37, 50, 1201)
    if length < 100 or operator == "MatMulInteger"
}
CONVOLUTIONS: dict[str, Callable[[], Probe]] = {
    "1-d": lambda: convolution(3, (5,), 1),
    "3-d": lambda: convolution(1, (3, 3, 3), 1),
    "1x1": lambda: convolution(37, (1, 1), 1),
    "1x1, strides": lambda: convolution(8, (1, 1), 1, strides=[2, 2]),
    "1x1, groups": lambda: convolution(7, (1, 1), 2),
    "2x3": lambda: convolution(3, (2, 3), 1),
    "strides": lambda: convolution(3, (3, 3), 1, strides=[2, 2]),
    "dilations": lambda: convolution(3, (3, 3), 1, dilations=[2, 2]),
    "one channel": lambda: convolution(1, (3, 3), 1),
    "one channel, groups": lambda: convolution(1, (3, 3), 2),
    **{
        f"{channels} channels, {groups} groups, {'aligned' if aligned else 'any'} outputs": (
            lambda channels=channels, groups=groups, aligned=aligned: convolution(
                channels, (3, 3), groups, aligned=aligned
            )
        )
        for channels in (3, 4, 5, 8)
        for groups in (1, 4)
        for aligned in (False, True)
    },
}
DEPTHWISE: dict[str, Callable[[], Probe]] = {
    "3": lambda: convolution(1, (3,), 0),
    "3x3": lambda: convolution(1, (3, 3), 0),
    "3x3, aligned": lambda: convolution(1, (3, 3), 0, aligned=True),
    "3x3, strides": lambda: convolution(1, (3, 3), 0, strides=[2, 2]),
    "3x3, dilations": lambda: convolution(1, (3, 3), 0, dilations=[2, 2]),
    "5x5": lambda: convolution(1, (5, 5), 0),
    "2x3": lambda: convolution(1, (2, 3), 0),
    "7x7": lambda: convolution(1, (7, 7), 0),
}


def check(plain_path: PlainPath, probes: dict[str, Probe], hidden: Hidden) -> dict[str, Pairs]:
    results = plain_path.run([(probe.model, [{"a": probe.feed}]) for probe in probes.values()], hidden)
    outputs = [output for ((output,),) in results]
    found = {name: probes[name].saturated(output) for name, output in zip(probes, outputs, strict=True)}
    assert found == {name: probe.expected("onnxruntime") for name, probe in probes.items()}
    return found


@pytest.mark.parametrize("hidden", LEVELS)
def test_vnni_is_hidden(plain_path: PlainPath, hidden: Hidden) -> None:
    made, feed, exact, saturated = saturation_probe()
    (((output,),),) = plain_path.run([(made, [feed])], hidden)
    np.testing.assert_array_equal(output, saturated)
    assert not np.array_equal(output, exact)


@pytest.mark.parametrize("hidden", LEVELS)
def test_matrices_pair_neighbours(plain_path: PlainPath, hidden: Hidden) -> None:
    found = check(plain_path, {name: matrix(*arguments) for name, arguments in MATRICES.items()}, hidden)
    assert all(found.values())


@pytest.mark.parametrize("hidden", LEVELS)
def test_convolutions_pair_channels_of_a_position(plain_path: PlainPath, hidden: Hidden) -> None:
    probes = {name: make() for name, make in CONVOLUTIONS.items()}
    found = check(plain_path, probes, hidden)
    assert all(found.values())
    # The probe tells orders apart: neighbours in memory are other pairs.
    assert found["5 channels, 1 groups, any outputs"] != probes["5 channels, 1 groups, any outputs"].expected(
        "adjacent"
    )


@pytest.mark.parametrize("hidden", LEVELS)
def test_depthwise_convolutions_add_products_one_by_one(plain_path: PlainPath, hidden: Hidden) -> None:
    probes = {name: make() for name, make in DEPTHWISE.items()}
    assert {probe.kind for probe in probes.values()} == {LayerKind.DEPTHWISE_CONVOLUTION}
    check(plain_path, probes, hidden)


@pytest.mark.parametrize("hidden", LEVELS)
def test_kernels_that_never_saturate(plain_path: PlainPath, hidden: Hidden) -> None:
    """Those for int8 activations, which a shift by 128 would make 255, and ConvInteger: their sums are exact."""
    length = 37
    pairs = list(itertools.combinations(range(length), 2))
    weight = weights(pairs, length)
    jobs = []
    for rows in (1, 5):
        feed = np.full((rows, length), 127, np.int8)
        node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
        jobs.append((model(node, feed, np.dtype(np.int32), {"b": weight.T}), [{"a": feed}]))
    for groups in (1, 2, len(pairs)):
        kernel = weight if groups < len(pairs) else weight[:, :9]
        kernel = kernel.reshape(len(pairs), -1, 1, 1) if groups < len(pairs) else kernel.reshape(-1, 1, 3, 3)
        feed = np.full((1, kernel.shape[1] * groups, 5, 5), 255, np.uint8)
        node = helper.make_node("ConvInteger", ["a", "b"], ["y"], group=groups)
        jobs.append((model(node, feed, np.dtype(np.int32), {"b": kernel}), [{"a": feed}]))
    for ((matrix_sums,),) in plain_path.run(jobs[:2], hidden):
        assert np.all(matrix_sums == 2 * 127 * 127)
    pointwise, grouped, depthwise = (sums for ((sums,),) in plain_path.run(jobs[2:], hidden))
    assert np.all(pointwise == EXACT)
    assert np.all(grouped == EXACT)
    assert depthwise.max() == EXACT


def test_transposed_convolutions_are_computed_in_floating_point(plain_path: PlainPath) -> None:
    rng = np.random.default_rng(3)
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "weight_zero": np.int8(0),
        "b": rng.choice(np.array([-127, 127], np.int8), (8, 16, 3, 3)),
        "scale": np.float32(2000),
        "middle": np.uint8(128),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "one", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["b", "one", "weight_zero"], ["w"]),
        helper.make_node("ConvTranspose", ["x", "w"], ["sums"]),
        helper.make_node("QuantizeLinear", ["sums", "scale", "middle"], ["y"]),
    ]
    feed = rng.choice(np.array([0, 255], np.uint8), (1, 8, 9, 9))
    made = model(nodes[0], feed, np.dtype(np.uint8), constants)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    exact, *others = (plain_path.run([(made, [{"a": feed}])], hidden)[0][0][0] for hidden in Hidden)
    assert len(np.unique(exact)) > 10
    for found in others:
        np.testing.assert_array_equal(found, exact)
