"""What a user is told of activations that are not finite."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from quantstats.adapters.protocol import Array
from quantstats.ptq.graph import QuantizationGraph
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.non_finite import describe_non_finite
from quantstats.statistics.tensor_statistics import TensorStatistics

_logger = logging.getLogger(__name__)

_LISTED = 3  # Tensors that a warning names.


def refusal(graph: QuantizationGraph, tensor: str, value: Array, sample: object) -> str:
    """Why a sample is refused: tensor, operation, counts, channels, sample and the remedies, in one line."""
    producer = graph.producers.get(tensor)
    if producer is None:
        where, remedy = f"tensor {tensor!r}", "remove them from the data"
    else:
        where = f"tensor {tensor!r} (output of {producer.name})"
        remedy = (
            "check the data of this sample, or keep the operations that read the tensor in floating point by an "
            "ignored scope"
        )
    found = describe_non_finite(value, _channel_axis(graph, tensor))
    return f"{where} has {found}, in sample {sample!r}; {remedy}, or give non_finite='ignore' or 'clamp'"


def first_not_finite(statistics: CalibrationStatistics, values: Mapping[str, Array]) -> str | None:
    """The first observed tensor with a value that is not finite."""
    return next((tensor for tensor in statistics.observed if not np.isfinite(values[tensor]).all()), None)


def _channel_axis(graph: QuantizationGraph, tensor: str) -> int | None:
    """The axis of the channels of an activation, as the operations have it that read it."""
    for operation in graph:
        if tensor in operation.inputs and operation.input_channel_axis is not None:
            return operation.input_channel_axis
    return None


def warn_of_non_finite(statistics: CalibrationStatistics) -> None:
    """Log how many values were left out or clamped, if there were any."""
    found = [name for name in statistics.taps if any(statistics[name].non_finite_counts)]
    if found:
        listed = ", ".join(f"{name!r} ({_describe(statistics[name])})" for name in found[:_LISTED])
        more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        done = "left out of" if statistics.non_finite == "ignore" else "clamped in"
        _logger.warning("values that are not finite were %s the statistics of tensors: %s%s", done, listed, more)


def _describe(tensor: TensorStatistics) -> str:
    """What was not finite, and of how many samples nothing is left."""
    empty = int(np.count_nonzero(tensor.table.items == 0))
    lost = f", which leaves nothing of {empty} of {tensor.num_samples} samples" if empty else ""
    return f"{tensor.non_finite_counts}{lost}"
