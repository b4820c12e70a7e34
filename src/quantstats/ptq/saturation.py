"""Weights that cannot saturate 16-bit sums of u8 x s8 products: which scale each needs, from the plan and the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantstats.overflow.layout import WeightRows, weight_rows
from quantstats.overflow.pairing import LayerKind, Pairing, PairRule
from quantstats.overflow.safe_scale import least_safe_scales
from quantstats.ptq.graph import Operation, OperationKind, Port, QuantizationGraph
from quantstats.ptq.plan import ActivationQuantizer, WeightQuantizer
from quantstats.quantizer import Quantizer

__all__ = ["Product", "by_reader", "largest_unsigned_level", "products", "safe_quantizer"]


@dataclass(frozen=True)
class Product:
    """How one operation multiplies a weight.

    :param operation: its name.
    :param axes: axes of the weight that are outputs.
    :param kinds: the kinds of layer that it may be; several where the graph does not tell the number of groups.
    :param u_max: the greatest activation as an unsigned byte; ``None`` if activations are no bytes.
    """

    operation: str
    axes: tuple[int, ...]
    kinds: tuple[LayerKind, ...]
    u_max: int | None

    def rules(self, pairing: Pairing) -> tuple[PairRule, ...]:
        """The rules of a pairing that may apply."""
        return tuple(dict.fromkeys(pairing.rule(kind) for kind in self.kinds))

    def rows(self, weight: NDArray[Any]) -> WeightRows:
        """The weight as rows of reduced elements. A vector is one row."""
        return weight_rows(weight if weight.ndim > 1 else weight[None], self.axes, self.kinds[0])


def largest_unsigned_level(quantizer: Quantizer) -> int | None:
    """The greatest byte that activations can be, signed levels shifted by 128 as runtimes do; ``None`` for 16 bits.

    Levels are clipped to those of the quantizer, so this holds for every input, not just for those of calibration.
    """
    if quantizer.num_bits > 8:
        return None
    return quantizer.level_high + (128 if quantizer.signed else 0)


def products(
    weight: WeightQuantizer, rank: int, graph: QuantizationGraph, activations: Mapping[Port, Quantizer]
) -> Iterator[Product]:
    """Every operation that multiplies a weight; a lookup does not.

    :param rank: number of axes of the weight.
    :param activations: quantizer by the operand that reads its tensor.
    """
    for port in weight.readers:
        operation = graph.operation(port.operation)
        if operation.kind is OperationKind.EMBEDDING:
            continue
        others = [Port(operation.name, operand) for operand in operation.activations if operand != port.operand]
        levels = [largest_unsigned_level(activations[other]) if other in activations else 255 for other in others]
        known = [level for level in levels if level is not None]
        u_max = max(known) if known else None
        yield Product(operation.name, _output_axes(operation, rank), _kinds(operation, graph), u_max)


def by_reader(
    activations: tuple[ActivationQuantizer, ...], quantizers: Mapping[str, Quantizer]
) -> dict[Port, Quantizer]:
    """Activation quantizers by the operands that read them."""
    return {
        port: quantizers[activation.tensor]
        for activation in activations
        for place in activation.places
        for port in place.readers
    }


def safe_quantizer(
    values: NDArray[Any], full: Quantizer, half: Quantizer, found: tuple[Product, ...], pairing: Pairing
) -> Quantizer:
    """The quantizer of a weight with the finest scales at which no reader can saturate; `full` where that is proven.

    :param values: the weight.
    :param full: its quantizer with the full range.
    :param half: its quantizer with half of the range.
    :param found: who multiplies it.
    """
    scale = np.array(full.scale)
    weight = values.astype(np.float32, copy=False)
    for product in found:
        if product.u_max is None or product.u_max == 0:
            continue
        rows = product.rows(weight)
        least = np.broadcast_to(_over_rows(scale, full.axis, product.axes, rows.kept_shape), rows.kept_shape)
        for rule in product.rules(pairing):
            safe = least_safe_scales(
                rows, rule, product.u_max, least.reshape(-1), full.level_low, full.level_high
            ).reshape(rows.kept_shape)
            others = tuple(i for i, axis in enumerate(product.axes) if axis != full.axis)
            scale = np.maximum(scale, np.max(safe, axis=others))
    if np.array_equal(scale, full.scale):
        return full
    # An estimated range may be narrower than the data. Half range clips what is beyond it; a scale alone does not.
    if np.any(scale > half.scale):
        return half
    return full.with_scale(scale)


def _over_rows(
    scale: NDArray[np.float32], axis: int | None, axes: tuple[int, ...], kept_shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Scales of a tensor or of its channels, shaped to broadcast over the outputs."""
    if axis is None:
        return scale
    return scale.reshape([size if kept == axis else 1 for kept, size in zip(axes, kept_shape, strict=True)])


def _output_axes(operation: Operation, rank: int) -> tuple[int, ...]:
    assert operation.weight is not None
    axis = operation.weight.channel_axis
    if operation.kind is OperationKind.TRANSPOSED_CONVOLUTION:
        # With groups an index of axis 1 stands for one channel of every group; all of their weights are one row, then.
        return (1,) if axis is None else (axis,)
    if operation.kind is OperationKind.CONVOLUTION or (rank == 2 and axis is not None):
        return (0,) if axis is None else (axis,)
    reduced = rank - 2 if operation.weight.operand == 1 else rank - 1
    return tuple(i for i in range(rank) if i != reduced) if rank > 1 else (0,)


def _kinds(operation: Operation, graph: QuantizationGraph) -> tuple[LayerKind, ...]:
    if operation.kind is OperationKind.MATMUL:
        return (LayerKind.MATMUL,)
    if operation.kind is OperationKind.TRANSPOSED_CONVOLUTION:
        return (LayerKind.TRANSPOSED_CONVOLUTION,)
    assert operation.weight is not None
    shape = graph.tensors[operation.weight.tensor].shape
    source = graph.tensors[operation.inputs[operation.activations[0]]].shape
    channels = None if source is None or operation.input_channel_axis is None else source[operation.input_channel_axis]
    if shape is None or channels is None or operation.weight.channel_axis != 0 or not shape[1]:
        return (LayerKind.CONVOLUTION, LayerKind.GROUPED_CONVOLUTION, LayerKind.DEPTHWISE_CONVOLUTION)
    sizes = tuple(size or 0 for size in shape)
    return (LayerKind.of_convolution(sizes, channels // sizes[1]),)
