"""Saturating products and convolutions against their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantstats.errors import ParameterError
from quantstats.overflow import BlockPairs, LayerKind, NoPairs, Pairing, saturating_conv
from quantstats.overflow.arithmetic import convolution_sums, exact_product, matrix_sums

Array = NDArray[Any]
CHANNELS_LAST = BlockPairs(order=("spatial", "channel"))
DISTANT = BlockPairs(block=4, pairs=((0, 2), (1, 3)))


def levels(seed: int, *shape: int) -> Array:
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 256, shape).astype(np.uint8)
    found[rng.random(shape) < 0.4] = 255
    return found


def weights(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed + 1).integers(-128, 128, shape).astype(np.int8)


def patches(x: Array, weight: Array, group: int, strides: Any, dilations: Any, pads: Any, pad: int) -> Any:
    """Of a two-dimensional convolution, one by one: where an output is, its activations and its weights."""
    padded = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])), constant_values=pad).astype(int)
    outputs, channels, height, width = weight.shape
    each = outputs // group
    rows = (padded.shape[2] - (height - 1) * dilations[0] - 1) // strides[0] + 1
    columns = (padded.shape[3] - (width - 1) * dilations[1] - 1) // strides[1] + 1
    for n, o, i, j in np.ndindex(len(x), outputs, rows, columns):
        first = o // each * channels
        top, left = i * strides[0], j * strides[1]
        window = padded[
            n,
            first : first + channels,
            top : top + (height - 1) * dilations[0] + 1 : dilations[0],
            left : left + (width - 1) * dilations[1] + 1 : dilations[1],
        ]
        yield (n, o, i, j), window, weight[o].astype(int)


CONVOLUTIONS = {
    "plain": ((2, 3, 6, 5), (4, 3, 3, 3), 1, (1, 1), (1, 1), (0, 0, 0, 0)),
    "padded": ((1, 2, 5, 5), (3, 2, 3, 3), 1, (1, 1), (1, 1), (1, 1, 1, 1)),
    "strides, dilations, uneven pads": ((1, 3, 9, 8), (2, 3, 3, 2), 1, (2, 3), (2, 1), (2, 1, 0, 3)),
    "groups": ((1, 6, 5, 5), (4, 3, 3, 3), 2, (1, 1), (1, 1), (1, 1, 1, 1)),
    "depthwise": ((2, 5, 6, 6), (5, 1, 3, 3), 5, (2, 2), (1, 1), (1, 1, 1, 1)),
    "depthwise with a multiplier": ((1, 3, 4, 4), (6, 1, 3, 3), 3, (1, 1), (1, 1), (0, 0, 0, 0)),
    "1 x 1": ((1, 7, 3, 3), (5, 7, 1, 1), 1, (1, 1), (1, 1), (0, 0, 0, 0)),
}


@pytest.mark.parametrize("rule", [BlockPairs(), CHANNELS_LAST, DISTANT, NoPairs()], ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_one_output_at_a_time(name: str, rule: Any) -> None:
    shape, kernel, group, strides, dilations, pads = CONVOLUTIONS[name]
    x, weight, pad = levels(1, *shape), weights(1, *kernel), 201
    sums = convolution_sums(
        x, weight, rule, pad_level=pad, strides=strides, dilations=dilations, pads=pads, group=group
    )
    saturated = pairs = 0
    for where, window, row in patches(x, weight, group, strides, dilations, pads, pad):
        products = (window * row).reshape(-1)
        if isinstance(rule, NoPairs):
            assert sums.values[where] == products.sum()
            continue
        partners = rule.partners(kernel[1], kernel[2] * kernel[3])
        added = np.append(products, 0)[partners].sum(axis=1)
        clipped = np.clip(added, -32768, 32767)
        assert sums.values[where] == clipped.sum()
        saturated += int(np.count_nonzero(added != clipped))
        pairs += len(partners)
    assert (sums.saturated, sums.pairs) == (saturated, pairs)
    assert isinstance(rule, NoPairs) or saturated > 0


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_exact_convolutions_are_those_of_onnxruntime(name: str) -> None:
    """Half-range weights cannot saturate, so ConvInteger gives the sums on any CPU; and so does the saturating one."""
    shape, kernel, group, strides, dilations, pads = CONVOLUTIONS[name]
    x, weight = levels(2, *shape), weights(2, *kernel) >> 1
    node = helper.make_node(
        "ConvInteger", ["x", "w"], ["y"], group=group, strides=strides, dilations=dilations, pads=pads
    )
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, shape),
        helper.make_tensor_value_info("w", TensorProto.INT8, kernel),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    model = helper.make_model(
        helper.make_graph([node], "conv", inputs, [output]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x, "w": weight})
    found, count = saturating_conv(
        x, weight, strides=strides, dilations=dilations, pads=pads, group=group, return_count=True
    )
    assert count == 0
    np.testing.assert_array_equal(found, expected)


def test_one_and_three_spatial_axes() -> None:
    for spatial, kernel in (((11,), (4,)), ((4, 5, 3), (2, 2, 2))):
        x, weight = levels(3, 2, 3, *spatial), weights(3, 4, 3, *kernel) >> 1
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=tuple(range(2, 2 + len(kernel))))
        subscripts = "nc" + "xyz"[: len(kernel)] + "ijk"[: len(kernel)] + ",oc" + "ijk"[: len(kernel)]
        expected = np.einsum(f"{subscripts}->no{'xyz'[: len(kernel)]}", windows.astype(int), weight.astype(int))
        np.testing.assert_array_equal(saturating_conv(x, weight), expected)


def test_exact_products_of_all_bytes() -> None:
    a = levels(4, 3, 700)
    for b in (weights(4, 700, 40), levels(5, 700, 40)):
        np.testing.assert_array_equal(exact_product(a, b), a.astype(int) @ b.astype(int))
    stack, others = levels(6, 4, 5, 9), weights(6, 4, 9, 2)
    np.testing.assert_array_equal(exact_product(stack, others), stack.astype(int) @ others.astype(int))
    stack, others = levels(7, 2, 5, 64), weights(7, 2, 64, 30)
    np.testing.assert_array_equal(exact_product(stack, others), stack.astype(int) @ others.astype(int))


def test_unsigned_weights_are_multiplied_exactly() -> None:
    a, b = levels(8, 4, 20), levels(9, 20, 6)
    sums = matrix_sums(a, b, BlockPairs())
    np.testing.assert_array_equal(sums.values, a.astype(int) @ b.astype(int))
    assert (sums.saturated, sums.pairs) == (0, 0)


def test_errors() -> None:
    x, weight = levels(0, 1, 4, 5, 5), weights(0, 2, 2, 3, 3)
    with pytest.raises(ParameterError, match="do not fit 1 groups"):
        saturating_conv(x, weight)
    with pytest.raises(ParameterError, match="do not fit 2 spatial axes"):
        saturating_conv(x, weight, group=2, strides=[1])
    with pytest.raises(ParameterError, match="weight_s8 is uint8"):
        saturating_conv(x, weight.view(np.uint8), group=2)
    with pytest.raises(ParameterError, match="not which are"):
        saturating_conv(x, weight, group=2, pairing="any")
    mine = Pairing("mine", {LayerKind.GROUPED_CONVOLUTION: NoPairs()})
    assert saturating_conv(x, weight, group=2, pairing=mine).shape == (1, 2, 3, 3)
