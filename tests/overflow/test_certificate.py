"""The certificate against brute force over all activations."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import quantstats as qs
from quantstats.errors import ParameterError
from quantstats.overflow import BlockPairs, LayerKind, NoPairs, Pairing, certify

Array = NDArray[Any]


def saturates(row: Array, u_max: int, pairs: list[tuple[int, int]]) -> list[bool]:
    """Whether some activations saturate each pair: both extremes of both activations, which bound a bilinear sum."""
    found = []
    for i, j in pairs:
        a, b = int(row[i]), int(row[j]) if j >= 0 else 0
        sums = [u * a + v * b for u in (0, u_max) for v in (0, u_max)]
        found.append(max(sums) > 32767 or min(sums) < -32768)
    return found


@pytest.mark.parametrize("u_max", [1, 127, 128, 129, 191, 254, 255])
def test_two_weights_by_brute_force_over_every_activation(u_max: int) -> None:
    """Pairs of weights with every pair of activations in [0, u_max], not just the extremes."""
    weights = [-128, -127, -65, -64, -1, 0, 1, 63, 64, 65, 126, 127]
    u = np.arange(u_max + 1)
    for a, b in itertools.product(weights, repeat=2):
        sums = np.add.outer(u * a, u * b)
        expected = bool(np.any((sums > 32767) | (sums < -32768)))
        for pairing in ("any", "adjacent"):
            found = certify(np.array([[a, b]], np.int8), axis=0, u_max=u_max, pairing=pairing)
            assert bool(found.safe[0]) is not expected, (a, b)
            assert int(found.pairs_at_risk[0]) == expected  # type: ignore[index]
            worst = int(found.worst_case[0])
            assert worst in (sums.max(), sums.min())
            assert (worst > 32767 or worst < -32768) == expected


@pytest.mark.parametrize("alphabet", [(-128, 0, 127), (-64, 64, 65), (-65, -63, 65)])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_all_rows_over_small_alphabets(alphabet: tuple[int, ...], length: int) -> None:
    rows = np.array(list(itertools.product(alphabet, repeat=length)), np.int8)
    every = list(itertools.combinations(range(length), 2))
    neighbours = [(i, i + 1 if i + 1 < length else -1) for i in range(0, length, 2)]
    for pairing, pairs in (("any", every), ("adjacent", neighbours)):
        found = certify(rows, axis=0, pairing=pairing)
        expected = [saturates(row, 255, pairs) for row in rows]
        np.testing.assert_array_equal(found.safe, [not any(row) for row in expected])
        np.testing.assert_array_equal(found.pairs_at_risk, [sum(row) for row in expected])
        assert found.num_pairs == len(pairs)
        np.testing.assert_allclose(found.share_at_risk, [sum(row) / max(len(pairs), 1) for row in expected])


def test_what_is_safe_survives_any_data_and_what_is_not_has_a_witness() -> None:
    """The kernel that saturates is the judge: certified rows never do, and the worst pair of the others does."""
    rng = np.random.default_rng(3)
    weight = rng.integers(-90, 91, (64, 30)).astype(np.int8)
    weight[:32] = np.clip(weight[:32], -64, 64)
    found = certify(weight, axis=0, pairing="adjacent")
    assert found.safe[:32].all()
    assert not found.safe.all()
    activations = rng.integers(0, 256, (500, 30)).astype(np.uint8)
    activations[rng.random(activations.shape) < 0.5] = 255
    _, count = qs.kernels.saturating_matmul(activations, weight[found.safe].T, return_count=True)
    assert count == 0
    for row, (i, j), safe in zip(weight, found.worst_pair, found.safe, strict=True):
        witness = np.zeros((1, 30), np.uint8)
        witness[0, [i, j]] = 255
        _, count = qs.kernels.saturating_matmul(witness, row[:, None], return_count=True)
        assert count == (not safe)


@pytest.mark.parametrize("pairing", ["any", "adjacent"])
def test_layouts_and_axes(pairing: str) -> None:
    rng = np.random.default_rng(4)
    matrix = rng.integers(-128, 128, (40, 12)).astype(np.int8)
    by_columns = certify(matrix, axis=1, pairing=pairing)
    for same in (
        certify(np.ascontiguousarray(matrix.T), axis=0, pairing=pairing),
        certify(np.asfortranarray(matrix), axis=-1, pairing=pairing),
        certify(np.repeat(matrix, 2, axis=1)[:, ::2], axis=1, pairing=pairing),
    ):
        np.testing.assert_array_equal(same.worst_sum, by_columns.worst_sum)
        np.testing.assert_array_equal(same.pairs_at_risk, by_columns.pairs_at_risk)
    stack = np.stack([matrix, matrix[::-1]])
    found = certify(stack, axis=(0, 2), pairing=pairing, kind="matmul")
    assert found.safe.shape == (2, 12)
    np.testing.assert_array_equal(found.worst_sum[0], by_columns.worst_sum)
    assert found.worst_pair.shape == (2, 12, 2)


def test_convolutions_are_flattened_in_c_order() -> None:
    weight = np.zeros((2, 3, 3, 3), np.int8)
    weight[0, 0, 0, 0] = weight[0, 0, 0, 1] = 100  # elements 0 and 1: neighbours
    weight[1, 0, 0, 1] = weight[1, 0, 0, 2] = 100  # elements 1 and 2: not of one pair
    found = certify(weight, axis=0, pairing="adjacent")
    assert found.safe.tolist() == [False, True]
    assert found.worst_pair.tolist() == [[0, 1], [0, 1]]
    assert found.worst_sum.tolist() == [200, 100]
    assert found.reduction_shape == (3, 3, 3)
    assert found.num_pairs == 14
    assert certify(weight, axis=0).safe.tolist() == [False, False]


def test_other_packings_are_data() -> None:
    """Channels of a position side by side, as a runtime has them that stores channels last."""
    channels_last = Pairing("nhwc", {LayerKind.CONVOLUTION: BlockPairs(order=("spatial", "channel"))})
    weight = np.zeros((1, 2, 3, 3), np.int8)
    weight[0, 0, 1, 1] = weight[0, 1, 1, 1] = -128
    assert certify(weight, axis=0, pairing="adjacent").all_safe
    found = certify(weight, axis=0, pairing=channels_last)
    assert not found.all_safe
    assert int(found.worst_sum[0]) == -256
    assert int(found.worst_case[0]) == -65280
    np.testing.assert_array_equal(
        np.unravel_index(found.worst_pair[0], found.reduction_shape), [[0, 1], [1, 1], [1, 1]]
    )
    alone = certify(weight, axis=0, pairing=Pairing("wide", {LayerKind.CONVOLUTION: NoPairs()}))
    assert alone.all_safe
    assert alone.num_pairs == 0


@given(seed=st.integers(0, 10_000), u_max=st.integers(1, 255), length=st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_laws(seed: int, u_max: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-128, 128, (8, length)).astype(np.int8)
    loose, tight = (certify(weight, axis=0, u_max=u_max, pairing=p) for p in ("adjacent", "any"))
    assert not np.any(tight.safe & ~loose.safe)  # safe for every packing, so for this one
    assert np.all(np.abs(tight.worst_case) <= 256 * u_max)
    assert np.all(tight.safe <= certify(weight, axis=0, u_max=max(u_max - 1, 1)).safe)
    order = rng.permutation(length)
    shuffled = certify(weight[:, order], axis=0, u_max=u_max)
    np.testing.assert_array_equal(shuffled.worst_sum, tight.worst_sum)
    np.testing.assert_array_equal(shuffled.pairs_at_risk, tight.pairs_at_risk)
    half = certify(weight >> 1, axis=0, u_max=u_max)
    assert half.all_safe
    uncounted = certify(weight, axis=0, u_max=u_max, count_pairs=False)
    np.testing.assert_array_equal(uncounted.worst_pair, tight.worst_pair)
    with pytest.raises(ParameterError, match="count_pairs=True"):
        _ = uncounted.share_at_risk


@pytest.mark.parametrize(
    ("weight", "arguments", "message"),
    [
        (np.zeros((2, 2), np.uint8), {"axis": 0}, "weight_s8 is uint8; pass an int8 array"),
        ([[1]], {"axis": 0}, "weight_s8 is list"),
        (np.zeros((2, 2), np.int8), {"axis": 2}, "axis=2 does not name output axes"),
        (np.zeros((2, 2), np.int8), {"axis": (0, 1)}, "leave one to reduce"),
        (np.zeros((2, 0), np.int8), {"axis": 0}, "is empty"),
        (np.zeros((2, 2), np.int8), {"axis": 0, "u_max": 256}, "u_max=256"),
        (np.zeros((2, 2), np.int8), {"axis": 0, "u_max": 0}, "u_max=0"),
        (np.zeros((2, 2), np.int8), {"axis": 0, "pairing": "odd"}, "pairing='odd' is unknown"),
        (np.zeros((2, 2), np.int8), {"axis": 0, "kind": "pool"}, "kind='pool' is unknown"),
    ],
)
def test_errors(weight: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        certify(weight, **arguments)
