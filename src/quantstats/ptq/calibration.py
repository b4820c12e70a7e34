"""Running the model over calibration data and estimating the range of every quantized activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from types import MappingProxyType
from typing import Any

from quantstats.adapters.protocol import Array, Extrema, ModelAdapter, ReducingAdapter, Sample
from quantstats.errors import ModelError, NonFiniteError, QuantizationError
from quantstats.parameters import QuantizationMode
from quantstats.ptq.bias_correction.means import InputMean
from quantstats.ptq.graph import QuantizationGraph
from quantstats.ptq.non_finite import refusal
from quantstats.ptq.overlap import run_ahead
from quantstats.ptq.plan import ActivationQuantizer, QuantizationPlan
from quantstats.ptq.progress import Progress, silent
from quantstats.range_estimator import RangeEstimatorParameters, resolve
from quantstats.statistics import RangeEstimator

# What a run gives: whole tensors, and the extrema of others.
_Found = tuple[Mapping[str, Array], Mapping[str, Extrema]]


def observe(
    adapter: ModelAdapter[Any],
    graph: QuantizationGraph,
    plan: QuantizationPlan,
    samples: Iterable[Sample],
    *,
    params: RangeEstimatorParameters | None = None,
    batchwise: bool = False,
    inplace: bool = False,
    means: Mapping[str, InputMean] = MappingProxyType({}),
    progress: Progress = silent,
    total: int | None = None,
) -> Mapping[str, RangeEstimator]:
    """Run the floating-point model and show every sample of each quantized activation to a range estimator.

    Constants that are read as activations are not observed: their values are known.

    :param adapter: The model.
    :param graph: Its graph.
    :param plan: The plan whose activation quantizers need ranges.
    :param samples: Checked samples, see :meth:`~quantstats.ptq.dataset.Dataset.samples`.
    :param params: How ranges are estimated; fields left ``None`` take the default of the place.
    :param batchwise: Treat each item of axis 0 as a sample of its own.
    :param inplace: Let the framework reduce the activations of which only extrema are needed, if the adapter can, so
        that they are not handed out. The estimators end up with the same bits.
    :param means: What collects the mean of each channel besides, by tensor. These tensors are always handed out.
    :param progress: Called before the first and after every sample.
    :param total: Number of samples to expect, as far as it is known.
    :return: An estimator for each :attr:`ActivationQuantizer.tensor` that is not a constant.
    :raises NonFiniteError: if an activation holds NaN or Inf.
    :raises QuantizationError: if an estimator cannot take an activation; the message names the tensor.
    """
    observed = {a.tensor: a for a in plan.activations if not graph.tensors[a.tensor].constant}
    estimators: dict[str, RangeEstimator] = {}
    reduced: dict[str, tuple[int, ...] | None] = {}
    reducing = adapter if inplace and isinstance(adapter, ReducingAdapter) else None
    if reducing is not None:
        for tensor, quantizer in observed.items():
            if tensor in means:
                continue
            estimator = _reducible(graph, quantizer, params, batchwise)
            if estimator is not None:
                estimators[tensor], reduced[tensor] = estimator, estimator.reduction_axes
    # In topological order, so that an error names where NaN begins.
    watched = sorted({*observed, *means}, key=_positions(graph).__getitem__)
    taps = tuple(tensor for tensor in watched if tensor not in reduced)
    progress(0, total, len(observed))

    def run(sample: Sample) -> _Found:
        return _run(adapter, reducing, sample, taps, reduced)

    with closing(run_ahead(adapter, run, samples, size_of=_bytes_of)) as runs:
        for index, (sample, (values, extrema)) in enumerate(runs):
            suspect = [tensor for tensor, found in extrema.items() if not found.finite]
            if suspect:
                # The tensor itself tells what is wrong, or that only the check of the framework overflowed.
                values = {**values, **adapter.run(sample, suspect)}
            for tensor, value in values.items():
                if tensor in observed and tensor not in estimators:
                    estimators[tensor] = _estimator(observed[tensor], value.ndim, params, batchwise)
            try:
                for tensor in watched:
                    if tensor not in values:
                        estimators[tensor].update_extrema(extrema[tensor].minimum, extrema[tensor].maximum)
                    elif tensor in observed:
                        estimators[tensor].update(values[tensor])
                    if tensor in means:
                        means[tensor].update(values[tensor])
            except NonFiniteError as error:
                raise NonFiniteError(refusal(graph, tensor, values[tensor], index)) from error
            except QuantizationError as error:
                raise type(error)(f"tensor {tensor!r} in sample {index}: {error}") from error
            progress(index + 1, total, len(observed))
    return estimators


def _positions(graph: QuantizationGraph) -> Mapping[str, int]:
    """Where in topological order each activation is computed."""
    computed = (tensor for operation in graph for tensor in operation.outputs)
    return {tensor: index for index, tensor in enumerate((*graph.inputs, *computed))}


def _reducible(
    graph: QuantizationGraph, quantizer: ActivationQuantizer, params: RangeEstimatorParameters | None, batchwise: bool
) -> RangeEstimator | None:
    """The estimator of an activation that the framework can reduce; ``None`` if the tensor itself is needed.

    A model input is in memory already; axes can be named only where the rank is known.
    """
    described = graph.tensors[quantizer.tensor]
    if quantizer.tensor not in graph.producers or described.dtype != "float32":
        return None
    rank = None if described.shape is None else len(described.shape)
    if rank is None and (batchwise or quantizer.channel_axis is not None):
        return None
    estimator = _estimator(quantizer, rank or 0, params, batchwise)
    return estimator if estimator.needs_extrema_only and estimator.reduction_axes != () else None


def _run(
    adapter: ModelAdapter[Any],
    reducing: ReducingAdapter | None,
    sample: Sample,
    taps: tuple[str, ...],
    reduced: Mapping[str, tuple[int, ...] | None],
) -> _Found:
    """One run; whole tensors for all if the framework cannot reduce one of them, as where it is empty."""
    if reducing is not None and reduced:
        try:
            return reducing.run_reduced(sample, taps, reduced)
        except ModelError:
            pass  # If it was the model itself that failed, the next line tells.
    return adapter.run(sample, (*taps, *reduced)), {}


def _bytes_of(found: _Found) -> int:
    return sum(value.nbytes for value in found[0].values())


def _estimator(
    quantizer: ActivationQuantizer, rank: int, params: RangeEstimatorParameters | None, batchwise: bool
) -> RangeEstimator:
    resolved = resolve(params, is_weight=False, per_channel=quantizer.config.per_channel)
    symmetric = quantizer.config.mode is QuantizationMode.SYMMETRIC
    kept = set() if quantizer.channel_axis is None else {quantizer.channel_axis}
    aggregated: tuple[int, ...] = (0,)
    if batchwise and rank > 0 and 0 not in kept:
        # Items of axis 0 stay apart when a sample is reduced, and are pooled with the samples: axis 0 of a reduced
        # sample is axis 1 of the stack.
        kept.add(0)
        aggregated = (0, 1)
    reduced = tuple(axis for axis in range(rank) if axis not in kept) if kept else None
    return RangeEstimator(resolved, reduction_axes=reduced, aggregation_axes=aggregated, symmetric=symmetric)
