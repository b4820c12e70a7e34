"""Ranges of activations from statistics that were collected before, in place of a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantstats.adapters.protocol import Array, ModelAdapter
from quantstats.errors import DataError, ParameterError
from quantstats.parameters import QuantizationMode
from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.identity import model_hash
from quantstats.ptq.plan import ActivationQuantizer, QuantizationPlan
from quantstats.quantizer import QuantizerConfig
from quantstats.range_estimator import RangeEstimatorParameters, resolve
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.derived_range import derive_range


@dataclass(frozen=True, slots=True)
class _FromStatistics:
    """The range of one quantizer."""

    statistics: CalibrationStatistics
    quantizer: ActivationQuantizer
    params: RangeEstimatorParameters | None

    def range(self, *, config: QuantizerConfig | None = None) -> tuple[Array, Array]:
        per_channel = self.quantizer.config.per_channel
        low, high = derive_range(
            self.statistics[self.quantizer.tensor],
            resolve(self.params, is_weight=False, per_channel=per_channel),
            per_channel=per_channel,
            symmetric=self.quantizer.config.mode is QuantizationMode.SYMMETRIC,
            strict=True,
            config=config,
        )
        return low, high


def derive_ranges(
    adapter: ModelAdapter[Any],
    graph: QuantizationGraph,
    plan: QuantizationPlan,
    statistics: CalibrationStatistics,
    *,
    params: RangeEstimatorParameters | None = None,
    batchwise: bool | None = None,
) -> Mapping[str, _FromStatistics]:
    """Return ranges as :func:`~quantstats.ptq.calibration.observe` finds them in the same samples, without a run.

    :param adapter: The model, for its constants: its hash must be that of the statistics.
    :param graph: Its graph.
    :param plan: The plan whose activation quantizers need ranges.
    :param statistics: What was collected.
    :param params: How ranges are estimated; fields left ``None`` take the default of the place.
    :param batchwise: Whether items of axis 0 must have been samples of their own; ``None`` takes what was collected.
    :raises DataError: if the statistics are of another model, or lack a tensor.
    :raises ParameterError: if `batchwise` is not what was collected.
    """
    found = model_hash(adapter, graph)
    if statistics.model_hash != found:
        raise DataError(
            f"the statistics are of another model: hash {statistics.model_hash or 'unknown'}, and this one has "
            f"{found}; calibrate this model, with the weights that it has"
        )
    if batchwise is not None and batchwise != statistics.batchwise:
        raise ParameterError(
            f"AdvancedQuantizationParameters.batchwise_statistics={batchwise}, but the statistics were collected with "
            f"{statistics.batchwise}; leave it None, or calibrate again"
        )
    derived = {}
    for activation in plan.activations:
        if graph.tensors[activation.tensor].constant:
            continue
        if activation.tensor not in statistics:
            raise DataError(
                f"the statistics lack tensor {activation.tensor!r}, which is to be quantized; give calibrate() the "
                "same model_type, ignored_scope and advanced_parameters"
            )
        axis = statistics.taps[activation.tensor]
        if activation.channel_axis is not None and axis != activation.channel_axis:
            raise DataError(
                f"the statistics of tensor {activation.tensor!r} are "
                f"{'per tensor only' if axis is None else f'per entry of axis {axis}'}, and it is to be quantized "
                f"along axis {activation.channel_axis}; calibrate with per_channel=True"
            )
        derived[activation.tensor] = _FromStatistics(statistics, activation, params)
    return derived
