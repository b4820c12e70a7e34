"""What differs between two calibrations: models, samples, tensors, and the ranges that estimators give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quantstats._validation import check_instance, check_mapping, check_share_of_width
from quantstats.errors import DataError
from quantstats.range_estimator import RangeEstimatorParameters
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.inspection import DEFAULT_TOLERANCE, width_with_zero

__all__ = ["Comparison", "RangePair", "Sides", "compare_statistics"]


@dataclass(frozen=True, slots=True)
class Sides:
    """Which of two sets have what.

    :param both: what both have.
    :param only_first: what only the first has.
    :param only_second: what only the second has.
    """

    both: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether both have the same."""
        return not self.only_first and not self.only_second


@dataclass(frozen=True, slots=True)
class RangePair:
    """The ranges of one tensor by one estimator.

    :param tensor: its name.
    :param estimator: name of the estimator.
    :param first: lower and upper bound on the first side.
    :param second: the same on the second.
    """

    tensor: str
    estimator: str
    first: tuple[float, float]
    second: tuple[float, float]

    @property
    def difference(self) -> float:
        """How far the bounds are apart, those that are farther, as a share of the wider range, zero included."""
        distance = max(abs(a - b) for a, b in zip(self.first, self.second, strict=True))
        width = max(width_with_zero(*self.first), width_with_zero(*self.second))
        return distance / width if distance else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two calibrations side by side.

    :param models: hashes of the two models.
    :param batchwise: whether items of a batch were samples of their own, on either side.
    :param samples: ids of the samples.
    :param tensors: the tensors.
    :param columns: what samples were reduced to.
    :param ranges: of every tensor that both have values of, by every estimator.
    :param tolerance: the share of a range's width that ranges may differ by.
    """

    models: tuple[str, str]
    batchwise: tuple[bool, bool]
    samples: Sides
    tensors: Sides
    columns: Sides
    ranges: tuple[RangePair, ...]
    tolerance: float

    @property
    def differing(self) -> tuple[RangePair, ...]:
        """The ranges that differ beyond the tolerance, the farthest apart first."""
        beyond = (pair for pair in self.ranges if pair.difference > self.tolerance)
        return tuple(sorted(beyond, key=lambda pair: -pair.difference))

    @property
    def agree(self) -> bool:
        """Whether both have the same tensors and no range differs beyond the tolerance."""
        return self.tensors.same and not self.differing


def compare_statistics(
    first: CalibrationStatistics,
    second: CalibrationStatistics,
    estimators: Mapping[str, RangeEstimatorParameters],
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    symmetric: bool = False,
    num_bits: int = 8,
) -> Comparison:
    """Compare two calibrations. They may be of different models: tensors are matched by name.

    :param first: one side.
    :param second: the other.
    :param estimators: the estimators by name whose ranges are compared.
    :param tolerance: the share of a range's width that ranges may differ by, 0 for none.
    :param symmetric: whether ranges are for symmetric quantizers.
    :param num_bits: the bit width for estimators that depend on it.
    :raises DataError: a side holds no sample.
    :raises ParameterError: a parameter is invalid, or an estimator needs what was not collected.
    """
    for name, side in (("first", first), ("second", second)):
        check_instance("compare", name, side, CalibrationStatistics)
    example = "{'minmax': RangeEstimatorParametersSet.MINMAX}"
    check_mapping("compare", "estimators", estimators, RangeEstimatorParameters, example)
    check_share_of_width("compare", "tolerance", tolerance)
    for name, side in (("first", first), ("second", second)):
        if not side.num_samples:
            raise DataError(f"the {name} statistics hold no sample, so there are no ranges to compare; calibrate first")
    tensors = _sides(first.taps, second.taps)
    ranges = tuple(
        RangePair(
            tensor,
            name,
            _range(first, tensor, params, symmetric=symmetric, num_bits=num_bits),
            _range(second, tensor, params, symmetric=symmetric, num_bits=num_bits),
        )
        for tensor in tensors.both
        if first[tensor].dtype is not None and second[tensor].dtype is not None
        for name, params in estimators.items()
    )
    return Comparison(
        models=(first.model_hash, second.model_hash),
        batchwise=(first.batchwise, second.batchwise),
        samples=_sides(dict.fromkeys(first.sample_ids), dict.fromkeys(second.sample_ids)),
        tensors=tensors,
        columns=_sides(
            {str(column): None for column in first.columns}, {str(column): None for column in second.columns}
        ),
        ranges=ranges,
        tolerance=tolerance,
    )


def _sides(first: Mapping[str, object], second: Mapping[str, object]) -> Sides:
    return Sides(
        both=tuple(sorted(name for name in first if name in second)),
        only_first=tuple(sorted(name for name in first if name not in second)),
        only_second=tuple(sorted(name for name in second if name not in first)),
    )


def _range(
    statistics: CalibrationStatistics,
    tensor: str,
    params: RangeEstimatorParameters,
    *,
    symmetric: bool,
    num_bits: int,
) -> tuple[float, float]:
    low, high = statistics.range(tensor, params, symmetric=symmetric, num_bits=num_bits)
    return float(low.item()), float(high.item())
