"""Which products a runtime adds into 16 bits: the packing of the reduction axis, as data.

``vpmaddubsw`` adds the products of two neighbouring bytes, and what is neighbouring depends on how a library lays the
reduction axis of a matrix multiplication or convolution out before it multiplies. A :class:`Pairing` holds a rule for
every kind of layer. A further runtime is a further entry of :data:`PAIRINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quantstats.errors import ParameterError

__all__ = [
    "PAIRINGS",
    "AnyPairs",
    "BlockPairs",
    "LayerKind",
    "NoPairs",
    "PairRule",
    "Pairing",
    "find_pairing",
    "pair_limits",
]

# What 16 bits hold.
_LEAST, _GREATEST = -32768, 32767
_MAX_BLOCK = 1024


def pair_limits(u_max: int) -> tuple[int, int]:
    """The greatest sum of two positive weights, and of the magnitudes of two negative ones, that cannot saturate.

    A pair adds u0 * a + u1 * b with both u in [0, `u_max`]. Its greatest value takes `u_max` for positive weights and 0
    for negative ones, so a pair saturates above if and only if u_max * (max(a, 0) + max(b, 0)) > 32767, and below if
    and only if u_max * (max(-a, 0) + max(-b, 0)) > 32768. For 255 both limits are 128; up to 128 no pair of int8
    weights reaches its limit. One weight alone never does: 255 * 128 = 32640.
    """
    return _GREATEST // u_max, -_LEAST // u_max


class LayerKind(str, Enum):
    """The kinds of layers for which runtimes have kernels of their own.

    MATMUL: a matrix multiplication, ONNX's MatMul and Gemm. CONVOLUTION: one group. DEPTHWISE_CONVOLUTION: a group has
    one input and one output channel. GROUPED_CONVOLUTION: any other number of groups. TRANSPOSED_CONVOLUTION: with any
    number of groups.
    """

    MATMUL = "matmul"
    CONVOLUTION = "convolution"
    GROUPED_CONVOLUTION = "grouped_convolution"
    DEPTHWISE_CONVOLUTION = "depthwise_convolution"
    TRANSPOSED_CONVOLUTION = "transposed_convolution"

    def __str__(self) -> str:
        return self.value

    @staticmethod
    def of_convolution(weight_shape: tuple[int, ...], groups: int) -> LayerKind:
        """The kind of a convolution with a weight [outputs, inputs / groups, ...]."""
        if groups == 1:
            return LayerKind.CONVOLUTION
        if weight_shape[1] == 1 and weight_shape[0] == groups:
            return LayerKind.DEPTHWISE_CONVOLUTION
        return LayerKind.GROUPED_CONVOLUTION


@dataclass(frozen=True)
class AnyPairs:
    """Any two products of an output may be added into 16 bits: what is safe here is safe for every packing."""


@dataclass(frozen=True)
class NoPairs:
    """Products are added into 32 bits one by one: nothing saturates."""


@dataclass(frozen=True)
class BlockPairs:
    """The reduction axis is laid out in blocks; fixed positions within a block are added into 16 bits.

    The default pairs elements 2i and 2i + 1 of the reduction axis. The weights of one output are [channel, spatial]:
    the input channels of its group by the kernel positions in C order (a matrix has one position).

    :param order: how they are laid out, outermost axis first.
    :param block: length of a block. The last one is filled up with zeros.
    :param pairs: positions in a block, each in one pair at most; what is in none is added alone.
    :param padded: whether every run of the innermost axis is filled up to whole blocks, so that no pair crosses it.
    :raises ParameterError: a position is outside the block or in two pairs.
    """

    order: tuple[Literal["channel", "spatial"], Literal["channel", "spatial"]] = ("channel", "spatial")
    block: int = 2
    pairs: tuple[tuple[int, int], ...] = ((0, 1),)
    padded: bool = False

    def __post_init__(self) -> None:
        if sorted(self.order) != ["channel", "spatial"]:
            raise ParameterError(f"BlockPairs.order={self.order!r}; use ('channel', 'spatial') in either order")
        if not 2 <= self.block <= _MAX_BLOCK:
            raise ParameterError(f"BlockPairs.block={self.block!r} is not a length of 2 to {_MAX_BLOCK}; give one")
        positions = [position for pair in self.pairs for position in pair]
        if len(set(positions)) < len(positions) or not set(positions) <= set(range(self.block)):
            raise ParameterError(
                f"BlockPairs.pairs={self.pairs!r} has a position twice or outside a block of {self.block}; "
                "give disjoint pairs of positions in the block"
            )

    def partners(self, channels: int, spatial: int) -> NDArray[np.int64]:
        """All pairs of an output: positions [pairs, 2] among its weights in C order, -1 where a zero is filled in."""
        grid = np.arange(channels * spatial, dtype=np.int64).reshape(channels, spatial)
        if self.order[0] == "spatial":
            grid = grid.T
        if self.padded:
            grid = np.pad(grid, ((0, 0), (0, -grid.shape[1] % self.block)), constant_values=-1)
        flat = grid.reshape(-1)
        blocks = np.pad(flat, (0, -flat.size % self.block), constant_values=-1).reshape(-1, self.block)
        paired = [position for pair in self.pairs for position in pair]
        alone = [position for position in range(self.block) if position not in paired]
        pairs = blocks[:, paired].reshape(len(blocks), -1, 2)
        singles = np.stack([blocks[:, alone], np.full((len(blocks), len(alone)), -1)], axis=-1)
        found = np.concatenate([pairs, singles], axis=1).reshape(-1, 2)
        return found[np.any(found >= 0, axis=1)]

    def is_plain(self, channels: int, spatial: int) -> bool:
        """Whether the pairs are 2i and 2i + 1 of the weights as they are."""
        natural = self.order[0] == "channel" or channels == 1 or spatial == 1
        run = spatial if self.order[0] == "channel" else channels
        whole = not self.padded or run % 2 == 0
        return natural and whole and self.block == 2 and self.pairs in (((0, 1),), ((1, 0),))


PairRule = AnyPairs | NoPairs | BlockPairs


@dataclass(frozen=True)
class Pairing:
    """How one runtime, or a family of them, pairs products.

    :param name: what users call it.
    :param rules: the rule of every kind of layer; a kind that is absent may pair anything.
    :param description: where the rules come from, for a person.
    """

    name: str
    rules: Mapping[LayerKind, PairRule] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", MappingProxyType(dict(self.rules)))

    def rule(self, kind: LayerKind) -> PairRule:
        """The rule for a kind of layer."""
        return self.rules.get(kind, AnyPairs())

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted(self.rules.items(), key=lambda item: item[0]))))

    def __reduce__(self) -> tuple[type[Pairing], tuple[str, dict[LayerKind, PairRule], str]]:
        # A read-only view does not pickle; what it shows does.
        return type(self), (self.name, dict(self.rules), self.description)


PAIRINGS: Mapping[str, Pairing] = MappingProxyType(
    {
        pairing.name: pairing
        for pairing in (
            Pairing("any", {}, "Every two weights of an output may be a pair. Safe for every packing."),
            Pairing(
                "adjacent",
                {
                    LayerKind.MATMUL: BlockPairs(),
                    LayerKind.CONVOLUTION: BlockPairs(),
                    LayerKind.GROUPED_CONVOLUTION: BlockPairs(),
                    LayerKind.DEPTHWISE_CONVOLUTION: BlockPairs(),
                },
                "Neighbours along the reduction axis of a matrix; of a convolution, neighbours among the weights "
                "[inputs, kernel height, kernel width] of an output in C order. Transposed convolutions: any.",
            ),
            Pairing(
                "onnxruntime",
                {
                    LayerKind.MATMUL: BlockPairs(),
                    LayerKind.CONVOLUTION: BlockPairs(order=("spatial", "channel")),
                    LayerKind.GROUPED_CONVOLUTION: BlockPairs(order=("spatial", "channel")),
                    LayerKind.DEPTHWISE_CONVOLUTION: NoPairs(),
                    LayerKind.TRANSPOSED_CONVOLUTION: NoPairs(),
                },
                "The kernels for uint8 activations and int8 weights that onnxruntime's CPU provider has for AVX2 and "
                "for AVX-512 without VNNI, found by probing 1.31 with single pairs of weights. Convolutions run on "
                "images with the channels last: neighbours among the weights [kernel height, kernel width, inputs] of "
                "an output, also across kernel positions. Depthwise convolutions are added up in 32 bits, transposed "
                "ones computed in floating point. Its kernels for int8 activations, and ConvInteger, never saturate.",
            ),
        )
    }
)


def find_pairing(pairing: str | Pairing) -> Pairing:
    """The pairing of that name, or `pairing` itself.

    :raises ParameterError: there is none of that name.
    """
    if isinstance(pairing, Pairing):
        return pairing
    found = PAIRINGS.get(pairing)
    if found is None:
        raise ParameterError(f"pairing={pairing!r} is unknown; use one of {', '.join(PAIRINGS)}, or make a Pairing")
    return found
