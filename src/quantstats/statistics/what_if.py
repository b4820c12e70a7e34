"""What another estimator or bit width would do: predicted errors of every combination, from statistics alone."""

from __future__ import annotations

import statistics as numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantstats._validation import check_bit_widths, check_instance, check_mapping
from quantstats.errors import DataError, ParameterError, QuantizationError
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig, quantizer_from_range
from quantstats.range_estimator import RangeEstimatorParameters
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.inspection import tensors_with_values
from quantstats.statistics.predicted_error import clipped_share, predicted_sqnr

__all__ = ["DEFAULT_NUM_BITS", "Prediction", "PredictionSummary", "WhatIf", "what_if"]

DEFAULT_NUM_BITS = (8, 6, 4)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one estimator at one bit width does to one tensor.

    :param tensor: its name.
    :param estimator: name of the estimator.
    :param num_bits: bit width.
    :param low: lower bound that the estimator gives; the quantizer may widen it.
    :param high: upper bound.
    :param sqnr_db: predicted signal-to-quantization-noise ratio in decibels; infinite for a tensor of zeros.
    :param clipped: share of the values that saturate.
    """

    tensor: str
    estimator: str
    num_bits: int
    low: float
    high: float
    sqnr_db: float
    clipped: float


@dataclass(frozen=True, slots=True)
class PredictionSummary:
    """One estimator at one bit width over all tensors.

    :param median_sqnr_db: median of the predictions, of an even number the upper of the two in the middle.
    :param worst_sqnr_db: the least of them.
    :param worst_tensor: the tensor that has it.
    :param mean_clipped: mean of the clipped shares, every tensor weighing alike.
    :param best_for: number of tensors for which no other estimator at this bit width is predicted to be better.
    """

    estimator: str
    num_bits: int
    median_sqnr_db: float
    worst_sqnr_db: float
    worst_tensor: str
    mean_clipped: float
    best_for: int


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Predictions for every tensor, estimator and bit width.

    :param tensors: the tensors, by name.
    :param estimators: names of the estimators.
    :param num_bits: the bit widths.
    :param mode: the scheme of the quantizers.
    :param predictions: by tensor, estimator and bit width.
    """

    tensors: tuple[str, ...]
    estimators: tuple[str, ...]
    num_bits: tuple[int, ...]
    mode: QuantizationMode
    predictions: Mapping[tuple[str, str, int], Prediction]

    def best(self, tensor: str, num_bits: int) -> Prediction:
        """The prediction with the highest ratio, the first of equals."""
        return max((self.predictions[tensor, name, num_bits] for name in self.estimators), key=lambda p: p.sqnr_db)

    def summary(self) -> tuple[PredictionSummary, ...]:
        """A line for each estimator and bit width."""
        best = {(tensor, bits): self.best(tensor, bits).sqnr_db for tensor in self.tensors for bits in self.num_bits}
        lines = []
        for name in self.estimators:
            for bits in self.num_bits:
                found = [self.predictions[tensor, name, bits] for tensor in self.tensors]
                worst = min(found, key=lambda p: p.sqnr_db)
                lines.append(
                    PredictionSummary(
                        estimator=name,
                        num_bits=bits,
                        median_sqnr_db=numbers.median_high(p.sqnr_db for p in found),
                        worst_sqnr_db=worst.sqnr_db,
                        worst_tensor=worst.tensor,
                        mean_clipped=numbers.fmean(p.clipped for p in found),
                        best_for=sum(p.sqnr_db >= best[p.tensor, bits] for p in found),
                    )
                )
        return tuple(lines)


def what_if(
    statistics: CalibrationStatistics,
    estimators: Mapping[str, RangeEstimatorParameters],
    *,
    num_bits: Sequence[int] = DEFAULT_NUM_BITS,
    mode: QuantizationMode = QuantizationMode.SYMMETRIC,
    tensors: Sequence[str] | None = None,
) -> WhatIf:
    """Predict what quantizing tensors, each as a whole, costs with several estimators and bit widths.

    :param statistics: what was collected.
    :param estimators: the estimators by name.
    :param num_bits: bit widths, 2 to 8 or 16.
    :param mode: the scheme.
    :param tensors: their names; None for all that have values.
    :raises DataError: no sample was collected.
    :raises ParameterError: a tensor was not observed, a parameter is invalid, or an estimator needs what was not
        collected.
    """
    check_instance("what_if", "statistics", statistics, CalibrationStatistics)
    example = "{'minmax': RangeEstimatorParametersSet.MINMAX}"
    check_mapping("what_if", "estimators", estimators, RangeEstimatorParameters, example)
    check_bit_widths("what_if", "num_bits", num_bits)
    if not estimators or not num_bits:
        raise ParameterError("there is nothing to predict; give an estimator and a bit width at least")
    configs = {bits: QuantizerConfig(num_bits=bits, mode=mode) for bits in num_bits}
    if tensors is None:
        tensors = tensors_with_values(statistics)
    if not tensors:
        raise DataError("the statistics hold no sample with values, so nothing can be predicted; calibrate first")
    predictions = {}
    for tensor in tensors:
        histogram = statistics[tensor].histogram
        for name, params in estimators.items():
            for bits, config in configs.items():
                low, high = statistics.range(
                    tensor, params, symmetric=mode is QuantizationMode.SYMMETRIC, num_bits=bits
                )
                try:
                    quantizer = quantizer_from_range(low, high, config)
                    predictions[tensor, name, bits] = Prediction(
                        tensor=tensor,
                        estimator=name,
                        num_bits=bits,
                        low=float(low.item()),
                        high=float(high.item()),
                        sqnr_db=predicted_sqnr(histogram, quantizer),
                        clipped=clipped_share(histogram, quantizer),
                    )
                except QuantizationError as error:
                    raise type(error)(f"tensor {tensor!r}, {name} at {bits} bits: {error}") from error
    return WhatIf(tuple(tensors), tuple(estimators), tuple(configs), mode, predictions)
