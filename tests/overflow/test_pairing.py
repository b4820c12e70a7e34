"""Pairings as data: which positions are partners, and the limits of their sums."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from quantstats.errors import ParameterError
from quantstats.overflow import PAIRINGS, AnyPairs, BlockPairs, LayerKind, Pairing, find_pairing, pair_limits


def test_limits_are_exact_for_every_u_max() -> None:
    """By brute force over all sums of two magnitudes: the limit is the greatest that fits 16 bits."""
    for u_max in range(1, 256):
        above, below = pair_limits(u_max)
        assert u_max * above <= 32767 < u_max * (above + 1)
        assert u_max * below <= 32768 < u_max * (below + 1)
    assert pair_limits(255) == (128, 128)
    # Up to 128 no two int8 weights reach the limits: 254 and 256.
    assert pair_limits(128) == (255, 256)
    assert pair_limits(129) == (254, 254)


def test_the_default_pairs_neighbours() -> None:
    np.testing.assert_array_equal(BlockPairs().partners(5, 1), [[0, 1], [2, 3], [4, -1]])
    np.testing.assert_array_equal(BlockPairs().partners(1, 9)[-1], [8, -1])
    assert BlockPairs().is_plain(5, 9)


def test_spatial_first_pairs_channels() -> None:
    rule = BlockPairs(order=("spatial", "channel"))
    # Weights [3 channels, 4 positions]; laid out by position, the channels of a position are neighbours.
    expected = [[0, 4], [8, 1], [5, 9], [2, 6], [10, 3], [7, 11]]
    np.testing.assert_array_equal(rule.partners(3, 4), expected)
    assert not rule.is_plain(3, 4)
    assert rule.is_plain(7, 1)
    assert rule.is_plain(1, 9)


def test_padding_keeps_pairs_within_a_run() -> None:
    rule = BlockPairs(order=("spatial", "channel"), padded=True)
    np.testing.assert_array_equal(rule.partners(3, 2), [[0, 2], [4, -1], [1, 3], [5, -1]])


def test_partners_at_a_distance() -> None:
    rule = BlockPairs(block=4, pairs=((0, 2), (1, 3)))
    np.testing.assert_array_equal(rule.partners(6, 1), [[0, 2], [1, 3], [4, -1], [5, -1]])


def test_what_is_in_no_pair_is_added_alone() -> None:
    rule = BlockPairs(block=3, pairs=((0, 1),))
    np.testing.assert_array_equal(rule.partners(6, 1), [[0, 1], [2, -1], [3, 4], [5, -1]])


@pytest.mark.parametrize("rule", [BlockPairs(), BlockPairs(("spatial", "channel")), BlockPairs(block=4, padded=True)])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (3, 9), (4, 9), (7, 1), (8, 25)])
def test_every_weight_is_in_one_pair(rule: BlockPairs, sizes: tuple[int, int]) -> None:
    found = rule.partners(*sizes).reshape(-1)
    np.testing.assert_array_equal(np.sort(found[found >= 0]), np.arange(sizes[0] * sizes[1]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockPairs(order=("channel", "channel")), "order="),  # type: ignore[arg-type]
        (lambda: BlockPairs(block=1), "block=1"),
        (lambda: BlockPairs(pairs=((0, 0),)), "has a position twice"),
        (lambda: BlockPairs(pairs=((0, 2),)), "outside a block of 2"),
        (lambda: find_pairing("zigzag"), "pairing='zigzag' is unknown; use one of any, adjacent"),
    ],
)
def test_errors(make: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("shape", "groups", "kind"),
    [
        ((8, 4, 3, 3), 1, LayerKind.CONVOLUTION),
        ((8, 1, 3, 3), 8, LayerKind.DEPTHWISE_CONVOLUTION),
        ((16, 1, 3, 3), 8, LayerKind.GROUPED_CONVOLUTION),
        ((8, 2, 3), 4, LayerKind.GROUPED_CONVOLUTION),
        ((8, 1, 3, 3), 1, LayerKind.CONVOLUTION),
    ],
)
def test_kinds_of_convolutions(shape: tuple[int, ...], groups: int, kind: LayerKind) -> None:
    assert LayerKind.of_convolution(shape, groups) is kind


def test_pairings_are_values() -> None:
    mine = Pairing("mine", {LayerKind.MATMUL: BlockPairs(block=4, pairs=((0, 2), (1, 3)))})
    assert mine == pickle.loads(pickle.dumps(mine))
    assert hash(mine) == hash(pickle.loads(pickle.dumps(mine)))
    assert find_pairing(mine) is mine
    assert mine.rule(LayerKind.CONVOLUTION) == AnyPairs()
    assert find_pairing("adjacent") is PAIRINGS["adjacent"]
