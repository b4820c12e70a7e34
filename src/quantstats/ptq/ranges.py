"""From observed activations and constant weights to numbers: scales, zero points and levels of a plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from quantstats.adapters.protocol import Array, ModelAdapter
from quantstats.errors import NonFiniteError, QuantizationError
from quantstats.parameters import QuantizationMode
from quantstats.ptq.graph import Port, QuantizationGraph
from quantstats.ptq.plan import QuantizationPlan, WeightQuantizer
from quantstats.ptq.saturation import by_reader, products, safe_quantizer
from quantstats.quantizer import Quantizer, QuantizerConfig, quantizer_from_range
from quantstats.range_estimator import RangeEstimatorParameters, resolve
from quantstats.statistics import RangeEstimator


class EstimatesRange(Protocol):
    """What is ready to tell a range: a :class:`~quantstats.statistics.RangeEstimator` after its samples."""

    def range(self, *, config: QuantizerConfig | None = None) -> tuple[Array, Array]:
        """Return lower and upper bound for a quantizer of that configuration."""
        ...


def fill_ranges(
    plan: QuantizationPlan,
    graph: QuantizationGraph,
    adapter: ModelAdapter[Any],
    estimators: Mapping[str, EstimatesRange],
    *,
    weight_params: RangeEstimatorParameters | None = None,
) -> QuantizationPlan:
    """Return the plan with a quantizer for every activation and every weight.

    :param plan: A plan from placement.
    :param graph: The model's graph.
    :param adapter: The model, for its constants.
    :param estimators: Estimator by :attr:`ActivationQuantizer.tensor`, after calibration, or ranges from statistics.
        Where a tensor is a constant, its values decide.
    :param weight_params: How ranges of weights are estimated; fields left ``None`` take the default of the place.
    :raises NonFiniteError: if a constant holds NaN or Inf.
    :raises QuantizationError: if an estimator gives no usable range; the message names the tensor.
    """
    activations: dict[str, Quantizer] = {}
    for activation in plan.activations:
        tensor, config = activation.tensor, activation.config
        if graph.tensors[tensor].constant:
            activations[tensor] = _of_constant(adapter, tensor, config, activation.channel_axis, weight_params)
        else:
            axis = activation.channel_axis
            activations[tensor] = _quantizer(estimators[tensor], tensor, config, axis, half_range=False)
    # A weight that must not saturate depends on the levels of the activations that it is multiplied by.
    readers = by_reader(plan.activations, activations)
    weights = {
        (weight.tensor, weight.channel_axis): _of_weight(adapter, weight, weight_params, graph, readers)
        for weight in plan.weights
    }
    return plan.with_quantizers(activations, weights)


def _of_weight(
    adapter: ModelAdapter[Any],
    weight: WeightQuantizer,
    params: RangeEstimatorParameters | None,
    graph: QuantizationGraph,
    readers: Mapping[Port, Quantizer],
) -> Quantizer:
    def quantizer(*, half_range: bool) -> Quantizer:
        return _of_constant(adapter, weight.tensor, weight.config, weight.channel_axis, params, half_range=half_range)

    if weight.pairing is None:
        return quantizer(half_range=weight.half_range)
    values = adapter.constant(weight.tensor)
    found = tuple(products(weight, values.ndim, graph, readers))
    return safe_quantizer(values, quantizer(half_range=False), quantizer(half_range=True), found, weight.pairing)


def _of_constant(
    adapter: ModelAdapter[Any],
    tensor: str,
    config: QuantizerConfig,
    axis: int | None,
    params: RangeEstimatorParameters | None,
    *,
    half_range: bool = False,
) -> Quantizer:
    values = adapter.constant(tensor)
    reduced = None if axis is None else tuple(other for other in range(values.ndim) if other != axis)
    estimator = RangeEstimator(
        resolve(params, is_weight=True, per_channel=config.per_channel),
        reduction_axes=reduced,
        symmetric=config.mode is QuantizationMode.SYMMETRIC,
    )
    try:
        estimator.update(values)
    except NonFiniteError as error:
        raise NonFiniteError(f"constant {tensor!r}: {error}") from error
    return _quantizer(estimator, tensor, config, axis, half_range=half_range)


def _quantizer(
    estimator: EstimatesRange, tensor: str, config: QuantizerConfig, axis: int | None, *, half_range: bool
) -> Quantizer:
    try:
        # Half of the range has the levels of one bit less.
        written = dataclasses.replace(config, num_bits=config.num_bits - 1) if half_range else config
        low, high = estimator.range(config=written)
        return quantizer_from_range(low, high, config, half_range, axis=axis)
    except QuantizationError as error:
        raise type(error)(f"tensor {tensor!r}: {error}") from error
