"""How much noise the quantizers of a group add, told from statistics and constants without running the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantstats.adapters.protocol import Array, ModelAdapter
from quantstats.ptq.accuracy_control.groups import Group
from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.plan import ActivationQuantizer, QuantizationPlan, WeightQuantizer
from quantstats.quantizer import Quantizer
from quantstats.statistics.bit_histogram import BitHistogram
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.predicted_error import predicted_sqnr, signal_power

# Noise beyond this share of the signal leaves nothing of it.
_MOST = 1e3


class PredictedNoise:
    """Noise-to-signal ratios of a plan's quantizers.

    :param adapter: The model, for its constants.
    :param graph: Its graph.
    :param plan: The plan, with all its numbers.
    :param statistics: What was collected of the activations.
    """

    def __init__(
        self,
        adapter: ModelAdapter[Any],
        graph: QuantizationGraph,
        plan: QuantizationPlan,
        statistics: CalibrationStatistics,
    ) -> None:
        self._adapter = adapter
        self._graph = graph
        self._statistics = statistics
        self._activations = {activation.tensor: activation for activation in plan.activations}
        self._weights = plan.weights
        self._found: dict[str, float] = {}

    def of_group(self, group: Group, *, with_weights: bool = True) -> float:
        """Return the sum of the ratios of the quantizers of a group: independent noises add up."""
        noise = sum(self.of_activation(self._activations[tensor]) for tensor in group.tensors)
        if with_weights:
            operations = set(group.operations)
            noise += sum(self.of_weight(w) for w in self._weights if operations & {p.operation for p in w.readers})
        return float(noise)

    def of_plan(self) -> float:
        """Return the sum of the ratios of all quantizers."""
        noise = sum(map(self.of_activation, self._activations.values())) + sum(map(self.of_weight, self._weights))
        return float(noise)

    def of_activation(self, activation: ActivationQuantizer) -> float:
        """Return ``sum((q(x) - x)^2) / sum(x^2)`` as the statistics predict it."""
        noise = self._found.get(activation.tensor)
        if noise is None:
            assert activation.quantizer is not None
            if self._graph.tensors[activation.tensor].constant:
                noise = _ratio(self._adapter.constant(activation.tensor), activation.quantizer)
            else:
                noise = _predicted(self._statistics[activation.tensor].histogram, activation.quantizer)
            self._found[activation.tensor] = noise
        return noise

    def of_weight(self, weight: WeightQuantizer) -> float:
        """Return the mean over the inputs of an operation of the noise-to-signal ratio of their weights.

        The sum of squares over a whole weight would hide it where few weights are so large that all others round to
        zero: large weights go with inputs that are small, so every input counts alike.
        """
        key = f"{weight.tensor}\0{weight.channel_axis}"
        noise = self._found.get(key)
        if noise is None:
            assert weight.quantizer is not None
            values = np.asarray(self._adapter.constant(weight.tensor), np.float32)
            described = self._graph.operation(weight.readers[0].operation).weight
            axis = None if described is None else described.channel_axis
            noise = self._found[key] = _ratio_by_input(values, weight.quantizer, axis)
        return noise


def _predicted(histogram: BitHistogram, quantizer: Quantizer) -> float:
    if not histogram.total:
        return 0.0
    if quantizer.axis is None and not np.ndim(quantizer.scale):
        return float(min(np.power(10.0, -predicted_sqnr(histogram, quantizer) / 10), _MOST))
    # The histogram is of the whole tensor: evenly spread noise of the mean channel, without the clipped values.
    low, high, counts = histogram.spread()
    signal = signal_power(low, high, counts) / histogram.total
    noise = float(np.mean(np.square(quantizer.scale, dtype=np.float64))) / 12
    return min(noise / signal, _MOST) if signal > 0 else 0.0


def _ratio(values: Array, quantizer: Quantizer) -> float:
    values = np.asarray(values, np.float32)
    signal = float(np.sum(np.square(values, dtype=np.float64)))
    return min(float(np.sum(_squared_error(values, quantizer))) / signal, _MOST) if signal > 0 else 0.0


def _ratio_by_input(values: Array, quantizer: Quantizer, channel_axis: int | None) -> float:
    noise, signal = _squared_error(values, quantizer), np.square(values, dtype=np.float64)
    if channel_axis is not None:
        noise, signal = noise.sum(channel_axis), signal.sum(channel_axis)
    some = signal > 0
    return float(np.mean(noise[some] / signal[some])) if some.any() else 0.0


def _squared_error(values: Array, quantizer: Quantizer) -> Array:
    rounded = quantizer.fake_quantize(np.ascontiguousarray(values))
    error: Array = np.square(rounded - values, dtype=np.float64)
    return error


__all__ = ["PredictedNoise"]
