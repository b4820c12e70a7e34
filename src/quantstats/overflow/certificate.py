"""The certificate: whether any input at all can saturate the 16-bit sums of a layer, proven from its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantstats._core import _active
from quantstats.errors import ParameterError
from quantstats.overflow.layout import WeightRows, check_u_max, layer_kind, weight_rows
from quantstats.overflow.pairing import AnyPairs, LayerKind, NoPairs, Pairing, PairRule, find_pairing, pair_limits

__all__ = ["Certificate", "certify", "certify_rows"]


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is proven of a layer, per output. Arrays have the shape of the output axes; they are read-only.

    :param safe: bool: no input can saturate a pair of products of this output.
    :param worst_sum: int32: the weights of one sign in the worst pair, added: -256 to 254.
    :param worst_pair: int64 [..., 2]: positions of the worst pair among the reduced weights in C order, see
        `reduction_shape`. -1 stands for no weight: the other one alone is all of it, or no pair has a worst case.
    :param pairs_at_risk: int64: pairs that some input saturates; None if they were not counted.
    :param num_pairs: pairs of one output. With the pairing ``"any"``, all pairs of two weights.
    :param u_max: the greatest activation.
    :param pairing: name of the pairing.
    :param reduction_shape: sizes of the reduced axes, for ``numpy.unravel_index(worst_pair, reduction_shape)``.
    """

    safe: NDArray[np.bool_]
    worst_sum: NDArray[np.int32]
    worst_pair: NDArray[np.int64]
    pairs_at_risk: NDArray[np.int64] | None
    num_pairs: int
    u_max: int
    pairing: str
    reduction_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    @property
    def all_safe(self) -> bool:
        """Whether every output is safe."""
        return bool(np.all(self.safe))

    @property
    def worst_case(self) -> NDArray[np.int32]:
        """What the worst pair adds up to before it is forced into [-32768, 32767]: int32."""
        return self.worst_sum * np.int32(self.u_max)

    @property
    def share_at_risk(self) -> NDArray[np.float64]:
        """Pairs at risk among all pairs of an output, 0 to 1.

        :raises ParameterError: they were not counted.
        """
        if self.pairs_at_risk is None:
            raise ParameterError("pairs at risk were not counted; call certify(..., count_pairs=True)")
        return self.pairs_at_risk / max(self.num_pairs, 1)


def certify(
    weight_s8: NDArray[np.int8],
    *,
    axis: int | Sequence[int],
    u_max: int = 255,
    pairing: str | Pairing = "any",
    kind: LayerKind | str | None = None,
    count_pairs: bool = True,
) -> Certificate:
    """Prove, per output, whether u8 x s8 arithmetic with 16-bit sums of two products can saturate. Exact both ways.

    ``vpmaddubsw`` adds two products into 16 bits. With activations in [0, `u_max`] a pair of weights a, b can saturate
    if and only if u_max * (max(a, 0) + max(b, 0)) > 32767 or u_max * (max(-a, 0) + max(-b, 0)) > 32768: weights of
    different signs never add up. For 255 that is a sum of magnitudes of 129 or more.

    :param weight_s8: int8 levels as the runtime multiplies them, of any shape and strides.
    :param axis: the axis of the outputs, for example 0 of a convolution's weight and 1 of a matrix [K, N]; several for
        a batch of matrices, (0, 2) of [B, K, N]. All other axes are reduced.
    :param u_max: the greatest level of the activations as unsigned bytes. 255 unless fewer levels can be written; int8
        activations are shifted by 128 and also reach 255.
    :param pairing: which weights are pairs, a name of `PAIRINGS` or a `Pairing`.
    :param kind: the kind of layer; by default a matrix multiplication for a matrix, else a convolution of one group.
    :param count_pairs: also count the pairs at risk. With the pairing ``"any"`` that takes several times as long.
    :raises ParameterError: an argument is malformed.
    """
    dtype = getattr(weight_s8, "dtype", type(weight_s8).__name__)
    if dtype != np.int8:
        raise ParameterError(f"weight_s8 is {dtype}; pass an int8 array: only signed weights take part in u8 x s8")
    kind = layer_kind(kind, weight_s8)
    found_pairing = find_pairing(pairing)
    rows = weight_rows(weight_s8, axis, kind)
    rule = found_pairing.rule(kind)
    return certify_rows(rows, rule, check_u_max(u_max), name=found_pairing.name, count_pairs=count_pairs)


def certify_rows(
    weights: WeightRows, rule: PairRule, u_max: int, *, name: str, count_pairs: bool, target: Any = _active
) -> Certificate:
    """`certify` for rows and one rule; `target` has the kernels."""
    shape = weights.kept_shape
    if isinstance(rule, NoPairs):
        return Certificate(
            safe=np.ones(shape, np.bool_),
            worst_sum=np.zeros(shape, np.int32),
            worst_pair=np.full((*shape, 2), -1, np.int64),
            pairs_at_risk=np.zeros(shape, np.int64) if count_pairs else None,
            num_pairs=0,
            u_max=u_max,
            pairing=name,
            reduction_shape=weights.reduction_shape,
        )
    partners = None
    if isinstance(rule, AnyPairs):
        rows, length = weights.rows, weights.rows.shape[1]
        num_pairs = length * (length - 1) // 2
    elif rule.is_plain(weights.channels, weights.spatial):
        rows = weights.rows
        num_pairs = (rows.shape[1] + 1) // 2
    else:
        partners = rule.partners(weights.channels, weights.spatial)
        rows = weights.arranged(partners)
        num_pairs = len(partners)
    if 1 not in rows.strides:
        rows = np.ascontiguousarray(rows)
    limits = pair_limits(u_max)
    positive, negative, positions, at_risk = target.certify_pairs(
        rows, *limits, isinstance(rule, AnyPairs), count_pairs
    )
    if partners is not None:
        # Position -1 of the kernel, no weight, finds the entry that stands for it.
        positions = np.append(partners.reshape(-1), -1)[positions]
    below = negative - limits[1] > positive - limits[0]
    return Certificate(
        safe=((positive <= limits[0]) & (negative <= limits[1])).reshape(shape),
        worst_sum=np.where(below, -negative, positive).reshape(shape),
        worst_pair=positions.reshape(*shape, 2),
        pairs_at_risk=None if at_risk is None else at_risk.reshape(shape),
        num_pairs=num_pairs,
        u_max=u_max,
        pairing=name,
        reduction_shape=weights.reduction_shape,
    )
