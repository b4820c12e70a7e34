"""Full bias correction: from outputs of the quantized model, operation after operation.

In topological order, the mean of each operation's output in the quantized model, in which everything before is
quantized and corrected already, is compared with its mean in the floating-point model, and the difference is added to
its bias (the empirical correction of Nagel et al., Data-Free Quantization Through Weight Equalization and Bias
Correction, 2019). So the shift makes up for rounded weights, for clipped and rounded activations, and for what earlier
layers left.

A new bias only shifts the output that was measured. So the model is cut behind the corrected operations, see
:mod:`~quantstats.ptq.bias_correction.waves`; for each sample the tensors that are alive at the cut are kept, the shift
is added to those that were corrected, and the next piece starts there. All pieces together compute every operation
once: the whole costs one run of the quantized and one of the floating-point model for each sample, whatever the number
of operations.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantstats.adapters.protocol import Array, ModelAdapter, Sample
from quantstats.advanced_parameters import AdvancedBiasCorrectionParameters
from quantstats.errors import DataError
from quantstats.ptq.bias_correction.correctable import CorrectableOperation, correctable_operations, without_biases
from quantstats.ptq.bias_correction.correction import BiasCorrection, Corrections, channel_mean
from quantstats.ptq.bias_correction.waves import Wave, waves_between
from quantstats.ptq.graph import OperationKind, Port, QuantizationGraph
from quantstats.ptq.plan import QuantizationPlan

THRESHOLD = 1000.0

# What of activations is kept at a cut, for all samples together.
_CACHE_BYTES = 1 << 28

_logger = logging.getLogger(__name__)


def correct_full(
    adapter: ModelAdapter[Any],
    graph: QuantizationGraph,
    plan: QuantizationPlan,
    samples: Iterable[Sample],
    *,
    params: AdvancedBiasCorrectionParameters | None = None,
    cache_bytes: int = _CACHE_BYTES,
) -> BiasCorrection:
    """Return the plan with biases corrected by outputs of the quantized model.

    :param adapter: The model.
    :param graph: Its graph.
    :param plan: A plan with numbers. What it has of biases of these operations already does not matter.
    :param samples: Checked samples, see :meth:`~quantstats.ptq.dataset.Dataset.samples`. Each weighs alike.
    :param params: Whether operations without bias get one, and the threshold of the largest relative shift, 1000 by
        default. A shift is relative to the bias plus the epsilon of float32.
    :param cache_bytes: How much memory activations between two pieces of the model may take. Where the samples would
        take more by the size of the first one, only the first samples that fit are used, and always one.
    :raises DataError: if there are no samples.
    :raises ModelError: if the model cannot be run.
    """
    params = AdvancedBiasCorrectionParameters() if params is None else params
    threshold = THRESHOLD if params.threshold is None else params.threshold
    operations = {
        operation.name: operation
        for operation in correctable_operations(graph, plan, apply_for_all_nodes=params.apply_for_all_nodes)
    }
    plan = without_biases(plan, operations.values())
    corrections = Corrections(adapter, plan, threshold=threshold, relative=_relative)
    waves = waves_between(graph, operations)
    used = _that_fit(adapter, waves, samples, cache_bytes)
    expected = _float_means(adapter, operations.values(), used)
    kept: list[dict[str, Array]] = [dict(sample) for sample in used]
    for wave in waves:
        means = _run_wave(adapter, plan, wave, operations, kept)
        for name in wave.ends:
            operation = operations[name]
            shift = corrections.shift(operation, expected[name] - means[name], unit=_unit_of_bias(graph, plan, name))
            if shift is not None and operation.output in wave.alive:
                for tensors in kept:
                    _add(tensors[operation.output], shift, operation.output_axis)
    return corrections.result()


def _relative(bias: Array, shift: Array) -> Array:
    return np.abs(shift / (bias + np.finfo(np.float32).eps))


def _unit_of_bias(graph: QuantizationGraph, plan: QuantizationPlan, name: str) -> NDArray[np.float32] | None:
    """What the bias of an operation is a multiple of once it is 32-bit integers: input scale times weight scale.

    ``None`` where it stays in floating point: added behind a matrix product, or beside operands that no integer kernel
    takes.
    """
    operation = graph.operation(name)
    assert operation.weight is not None
    if operation.bias not in operation.inputs and operation.kind is OperationKind.MATMUL:
        return None
    read = Port(name, operation.activations[0])
    weight = Port(name, operation.weight.operand)
    inputs = next((a.quantizer for a in plan.activations for p in a.places if read in p.readers), None)
    weights = next((w.quantizer for w in plan.weights if weight in w.readers), None)
    if inputs is None or weights is None or inputs.axis is not None or max(inputs.num_bits, weights.num_bits) > 8:
        return None
    return np.asarray(inputs.scale * weights.scale, np.float32)


def _that_fit(
    adapter: ModelAdapter[Any], waves: Sequence[Wave], samples: Iterable[Sample], cache_bytes: int
) -> list[Sample]:
    """The first samples whose activations can be kept at every cut."""
    used: list[Sample] = []
    limit = 1
    for sample in samples:
        if not used:
            tensors = tuple(dict.fromkeys(name for wave in waves for name in wave.alive))
            sizes = {name: value.nbytes for name, value in adapter.run(sample, tensors).items()}
            largest = max((sum(sizes[name] for name in wave.alive) for wave in waves), default=0)
            limit = max(1, cache_bytes // max(1, largest))
        if len(used) == limit:
            _logger.info("biases are corrected with the first %d samples; more do not fit %d bytes", limit, cache_bytes)
            break
        used.append(sample)
    if not used:
        raise DataError("full bias correction needs samples and there are none; give calibration data")
    return used


def _float_means(
    adapter: ModelAdapter[Any], operations: Iterable[CorrectableOperation], samples: Sequence[Sample]
) -> Mapping[str, NDArray[np.float64]]:
    """Mean of each channel that each operation writes in the floating-point model."""
    operations = list(operations)
    taps = tuple(dict.fromkeys(operation.output for operation in operations))
    sums: dict[str, Any] = dict.fromkeys((operation.name for operation in operations), 0.0)
    for sample in samples:
        values = adapter.run(sample, taps)
        for operation in operations:
            sums[operation.name] += channel_mean(values[operation.output], operation.output_axis)
    return {name: total / len(samples) for name, total in sums.items()}


def _run_wave(
    adapter: ModelAdapter[Any],
    plan: QuantizationPlan,
    wave: Wave,
    operations: Mapping[str, CorrectableOperation],
    kept: list[dict[str, Array]],
) -> Mapping[str, NDArray[np.float64]]:
    """Compute the wave for all samples, keep what is alive behind it, and return the means of what its ends write."""
    piece = adapter.runnable(plan, inputs=wave.inputs, outputs=wave.outputs)
    sums: dict[str, Any] = dict.fromkeys(wave.ends, 0.0)
    for index, tensors in enumerate(kept):
        found = piece(tensors)
        for name in wave.ends:
            operation = operations[name]
            sums[name] += channel_mean(found[operation.output], operation.output_axis)
        kept[index] = {name: np.array(found[name]) if name in found else tensors[name] for name in wave.alive}
    return {name: total / len(kept) for name, total in sums.items()}


def _add(x: Array, shift: NDArray[np.float32], axis: int) -> None:
    """Add to each entry of an axis, in place."""
    along = [1] * x.ndim
    along[axis] = shift.size
    x += shift.reshape(along)
