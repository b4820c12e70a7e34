"""Fast bias correction: one operation at a time, from the mean of its input.

The rounding of a weight W to Q(W) moves the mean of the output by E[W x] - E[Q(W) x] = (W - Q(W)) E[x], for the
operation is linear. What calibration keeps of E[x] is the mean of each channel; so the operation is computed once of an
input that holds these means at every position, with the weight as it was and as it is rounded, and the difference of
the two, averaged over positions, is added to the bias (Nagel et al., Data-Free Quantization Through Weight Equalization
and Bias Correction, 2019, section 4.2). Padding is part of what is computed.

Where every position of the input has the mean of its channel, as in fully connected layers and in convolutions of one
value, the mean error that weights cause is gone on the calibration data; elsewhere the difference between borders and
inside remains. The rounding of the activations themselves is not looked at: see `full`.

nncf takes the measured mean of the floating-point output in place of the operation computed with the weight as it was.
There, what the approximation of E[x] at the borders misses becomes a part of the shift; here it cancels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantstats.adapters.protocol import Array, ModelAdapter
from quantstats.advanced_parameters import AdvancedBiasCorrectionParameters
from quantstats.ptq.bias_correction.correctable import CorrectableOperation, correctable_operations, without_biases
from quantstats.ptq.bias_correction.correction import BiasCorrection, Corrections, channel_mean
from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.plan import QuantizationPlan

THRESHOLD = 2.0

# Positions along an axis whose length the model leaves open: only the share of the borders depends on it.
_OPEN_LENGTH = 32
# Operations are computed side by side in one run as long as their inputs together are not larger.
_INPUT_BYTES = 1 << 26


def correct_fast(
    adapter: ModelAdapter[Any],
    graph: QuantizationGraph,
    plan: QuantizationPlan,
    means: Mapping[str, NDArray[np.float32]],
    *,
    params: AdvancedBiasCorrectionParameters | None = None,
) -> BiasCorrection:
    """Return the plan with biases corrected by the means of the operations' inputs. The model itself is not run.

    :param adapter: The model.
    :param graph: Its graph.
    :param plan: A plan with numbers. What it has of biases of these operations already does not matter.
    :param means: Mean of each channel over the calibration data, float32 [channels], by tensor: those of
        :func:`~quantstats.ptq.bias_correction.channel_mean_taps`.
    :param params: Whether operations without bias get one, and the threshold of the largest relative shift, 2 by
        default. The shift of a channel whose bias is zero is infinitely large.
    :raises ModelError: if the adapter cannot run an operation by itself.
    """
    params = AdvancedBiasCorrectionParameters() if params is None else params
    threshold = THRESHOLD if params.threshold is None else params.threshold
    operations = correctable_operations(graph, plan, apply_for_all_nodes=params.apply_for_all_nodes)
    corrections = Corrections(adapter, without_biases(plan, operations), threshold=threshold, relative=_relative)
    candidates: list[CorrectableOperation] = []
    for operation in operations:
        reason = _obstacle(graph, operation, means)
        if reason is None:
            candidates.append(operation)
        else:
            corrections.skip(operation, reason)
    weights_only = dataclasses.replace(plan, activations=(), biases={})
    for group in _groups(graph, candidates, means):
        written = tuple(operation.output for operation in group)
        feed = {operation.input: _mean_input(graph, operation, means[operation.input]) for operation in group}
        exact = adapter.runnable(inputs=tuple(feed), outputs=written)(feed)
        exact = {name: value.copy() for name, value in exact.items()}
        rounded = adapter.runnable(weights_only, inputs=tuple(feed), outputs=written)(feed)
        for operation in group:
            difference = exact[operation.output].astype(np.float64) - rounded[operation.output]
            corrections.shift(operation, channel_mean(difference, operation.output_axis))
    return corrections.result()


def _relative(bias: Array, shift: Array) -> Array:
    return np.where(shift == 0, 0.0, np.abs(shift / bias))


def _obstacle(
    graph: QuantizationGraph, operation: CorrectableOperation, means: Mapping[str, NDArray[np.float32]]
) -> str | None:
    """Why an operation cannot be computed of the mean of its input, if so."""
    mean, shape = means.get(operation.input), graph.tensors[operation.input].shape
    if mean is None or operation.input_axis is None:
        return f"the mean of its input {operation.input!r} is not known"
    if shape is None:
        return f"the model does not tell the rank of its input {operation.input!r}"
    if shape[operation.input_axis] not in (None, mean.size):
        return f"the mean of its input {operation.input!r} was collected along another axis"
    return None


def _shape(graph: QuantizationGraph, operation: CorrectableOperation, channels: int) -> tuple[int, ...]:
    lengths = list(graph.tensors[operation.input].shape or ())
    assert operation.input_axis is not None
    lengths[operation.input_axis] = channels
    return tuple(length or (_OPEN_LENGTH if axis else 1) for axis, length in enumerate(lengths))


def _mean_input(graph: QuantizationGraph, operation: CorrectableOperation, mean: NDArray[np.float32]) -> Array:
    """The input with the mean of its channel at every position."""
    shape = _shape(graph, operation, mean.size)
    assert operation.input_axis is not None
    along = [mean.size if axis == operation.input_axis else 1 for axis in range(len(shape))]
    return np.ascontiguousarray(np.broadcast_to(mean.reshape(along), shape))


def _groups(
    graph: QuantizationGraph, operations: Iterable[CorrectableOperation], means: Mapping[str, NDArray[np.float32]]
) -> Iterator[list[CorrectableOperation]]:
    """Operations that are computed in one run: as many as have room for their inputs, at least one."""
    group: list[CorrectableOperation] = []
    held = 0
    for operation in operations:
        size = 4 * math.prod(_shape(graph, operation, means[operation.input].size))
        if group and held + size > _INPUT_BYTES:
            yield group
            group, held = [], 0
        group.append(operation)
        held += size
    if group:
        yield group
