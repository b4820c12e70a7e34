"""Whether the samples are enough: how the range of a tensor depends on which samples there are.

Three questions about a range that an estimator aggregates from samples, each answered as a share of the range's width,
zero included, so that the answers of all tensors compare:

- *interval*: how far would the range lie elsewhere with other samples of the same kind? A percentile bootstrap (Efron
  and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13): samples are drawn with replacement, as many as
  there are, the range of each draw is taken, and the interval holds the central part of these. Draws are seeded. An
  extremum of a draw never exceeds that of the samples, so for the aggregators MIN and MAX the interval lies on the
  inner side, and tells how far apart the largest samples are.
- *one sample*: how far does the range move if the one sample is left out that it depends on most (a jackknife)?
- *growth*: how far did the second half of the samples, in the order of their ids, move the range?

More samples are said to change the range where one of the answers exceeds a tolerance. A range that is wider by the
default of 5 % costs 20 * log10(1.05) = 0.4 dB of signal-to-quantization-noise ratio.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats._validation import check_confidence, check_count, check_instance, check_share_of_width
from quantstats.errors import DataError, ParameterError, QuantizationError
from quantstats.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    StatisticsCollectorParameters,
    resolve,
)
from quantstats.statistics.aggregation import aggregate
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.column import Column, columns_of
from quantstats.statistics.non_finite import ALL_FINITE, NonFiniteCounts

__all__ = [
    "DEFAULT_TOLERANCE",
    "BoundInspection",
    "RangeOfFirst",
    "TensorInspection",
    "inspect_statistics",
    "inspect_tensor",
    "tensors_with_values",
    "width_with_zero",
]

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]

DEFAULT_TOLERANCE = 0.05

_BY_SAMPLE = (
    AggregatorType.MIN,
    AggregatorType.MAX,
    AggregatorType.MEAN,
    AggregatorType.MEDIAN,
    AggregatorType.MEAN_NO_OUTLIERS,
    AggregatorType.MEDIAN_NO_OUTLIERS,
)
# Of more samples than this, only those with the most extreme values are left out one by one.
_MOST_LEFT_OUT = 512
# Values that are aggregated in one call.
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class RangeOfFirst:
    """The range that the first samples give.

    :param samples: how many.
    :param low: lower bound.
    :param high: upper bound.
    """

    samples: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BoundInspection:
    """One bound of a range.

    :param value: what all samples give.
    :param interval: what other samples of the same kind would give, with the confidence asked for.
    :param sample_id: the sample without which the bound moves farthest; None if it moves without none.
    :param without: the bound without that sample; `value` if there is none.
    """

    value: float
    interval: tuple[float, float]
    sample_id: str | None
    without: float


@dataclass(frozen=True, slots=True)
class TensorInspection:
    """How the range of a tensor depends on the samples.

    :param tensor: its name.
    :param samples: how many samples have values of it.
    :param low: the lower bound.
    :param high: the upper bound.
    :param growth: the range of the first 1, ..., of a quarter, of half and of all samples in the order of their ids.
    :param tolerance: the share of the width from which on more samples are said to change the range.
    :param non_finite: how many of its values were not finite, in all samples.
    """

    tensor: str
    samples: int
    low: BoundInspection
    high: BoundInspection
    growth: tuple[RangeOfFirst, ...]
    tolerance: float
    non_finite: NonFiniteCounts = ALL_FINITE

    @property
    def width(self) -> float:
        """Width of the range, zero included, as a quantizer covers it."""
        return width_with_zero(self.low.value, self.high.value)

    @property
    def interval_share(self) -> float:
        """How far the interval of a bound reaches from the bound, as a share of the width; of the worse bound."""
        return self._share(end - bound.value for bound in (self.low, self.high) for end in bound.interval)

    @property
    def sample_share(self) -> float:
        """How far a bound moves without the sample that it depends on most, as a share of the width."""
        return self._share(bound.without - bound.value for bound in (self.low, self.high))

    @property
    def growth_share(self) -> float:
        """How far the second half of the samples moved a bound, as a share of the width; 0 for a single sample."""
        half = self.growth[-2] if len(self.growth) > 1 else self.growth[-1]
        return self._share((half.low - self.low.value, half.high - self.high.value))

    @property
    def deciding_sample(self) -> str | None:
        """The id of the sample that the range depends on most; None if the range does not move without any one."""
        moved = [bound for bound in (self.low, self.high) if bound.sample_id is not None]
        return max(moved, key=lambda bound: abs(bound.without - bound.value)).sample_id if moved else None

    @property
    def hints(self) -> tuple[str, ...]:
        """Why more samples would change the range; empty if nothing says that they would."""
        if self.samples == 1:
            beside = f" with finite values, beside {self.non_finite}" if any(self.non_finite) else ""
            return (f"there is a single sample{beside}",)
        found = []
        if self.sample_share > self.tolerance:
            found.append(f"sample {self.deciding_sample} alone moves the range by {_percent(self.sample_share)}")
        if self.interval_share > self.tolerance:
            found.append(f"other samples would move the range by up to {_percent(self.interval_share)}")
        if self.growth_share > self.tolerance:
            found.append(f"the second half of the samples moved the range by {_percent(self.growth_share)}")
        return tuple(found)

    def _share(self, distances: Any) -> float:
        largest = max(abs(distance) for distance in distances)
        return largest / self.width if largest else 0.0


def width_with_zero(low: float, high: float) -> float:
    """Width of a range that is widened to zero, as a quantizer widens it."""
    return max(high, 0.0) - min(low, 0.0)


def inspect_statistics(
    statistics: CalibrationStatistics,
    params: RangeEstimatorParameters | None = None,
    *,
    tensors: Sequence[str] | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> tuple[TensorInspection, ...]:
    """Inspect the ranges of several tensors.

    :param statistics: what was collected.
    :param params: the estimator of the ranges, one that aggregates values of samples; fields left None take the
        defaults of a per-tensor activation, MIN/MEAN and MAX/MEAN.
    :param tensors: their names; None for all that have values.
    :param tolerance: the share of a range's width from which on more samples are said to change it.
    :param confidence: of the bootstrap intervals, in (0, 1).
    :param replicates: draws of the bootstrap.
    :param seed: of the draws. The same statistics, in whatever order samples came, and the same seed give the same
        result.
    :returns: one inspection for each tensor, in the order of their names.
    :raises DataError: no sample was collected.
    :raises ParameterError: a tensor was not observed, a parameter is invalid, the estimator looks at all values
        together, or it needs a quantile that was not collected.
    """
    check_instance("inspect", "statistics", statistics, CalibrationStatistics)
    if tensors is None:
        tensors = tensors_with_values(statistics)
    if not tensors:
        raise DataError("the statistics hold no sample with values, so there is no range to inspect; calibrate first")
    return tuple(
        inspect_tensor(
            statistics,
            tensor,
            params,
            tolerance=tolerance,
            confidence=confidence,
            replicates=replicates,
            seed=seed,
        )
        for tensor in tensors
    )


def tensors_with_values(statistics: CalibrationStatistics) -> list[str]:
    """The tensors that have a range, by name; if none has, one whose error says what was left out, if any was."""
    named = [(name, statistics[name]) for name in sorted(statistics.taps)]
    found = [name for name, tensor in named if tensor.dtype is not None]
    return found or [name for name, tensor in named if any(tensor.non_finite_counts)][:1]


def inspect_tensor(
    statistics: CalibrationStatistics,
    tensor: str,
    params: RangeEstimatorParameters | None = None,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> TensorInspection:
    """Inspect the range of one tensor; see `inspect_statistics`."""
    check_instance("inspect", "statistics", statistics, CalibrationStatistics)
    check_share_of_width("inspect", "tolerance", tolerance)
    check_confidence("inspect", "confidence", confidence)
    check_count("inspect", "replicates", replicates, least=1)
    check_count("inspect", "seed", seed, least=0)
    # The default of an activation looks at all samples together; an estimator without fields has the defaults of nncf.
    resolved = resolve(params or RangeEstimatorParameters(), is_weight=False, per_channel=False)
    for branch in (resolved.min, resolved.max):
        assert branch.aggregator_type is not None
        if branch.aggregator_type not in _BY_SAMPLE:
            raise ParameterError(
                f"the aggregator {branch.aggregator_type.value!r} looks at the values of all samples together, so its "
                "range cannot be told for some of them; inspect another, such as RangeEstimatorParametersSet.MINMAX"
            )
    found = statistics[tensor]
    table = found.table
    try:
        found.require_values()
        columns = _columns(resolved, table.columns)
        bounds = [
            _SampledBound(table.matrix(column), table.items, statistics.sample_ids, branch)
            for column, branch in zip(columns, (resolved.min, resolved.max), strict=True)
        ]
    except QuantizationError as error:
        raise type(error)(f"tensor {tensor!r}: {error}") from error
    low, high = bounds
    samples = len(low.ids)
    sizes = sorted({samples >> shift for shift in range(samples.bit_length())} - {0})
    draws = _draws(samples, replicates, seed)
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    return TensorInspection(
        tensor=tensor,
        samples=samples,
        low=low.inspect(draws, tails),
        high=high.inspect(draws, tails),
        growth=tuple(
            RangeOfFirst(size, *(float(bound.of(np.arange(size)[:, np.newaxis])[0]) for bound in bounds))
            for size in sizes
        ),
        tolerance=tolerance,
        non_finite=found.non_finite_counts,
    )


def _columns(params: RangeEstimatorParameters, collected: Sequence[Column]) -> tuple[Column, ...]:
    columns = columns_of(params, symmetric=False)
    for column in columns:
        if column not in collected:
            raise ParameterError(
                f"{column} was not collected of each sample; inspect another estimator, or calibrate with "
                "range_estimators=[...] that contains these parameters"
            )
    return columns


@lru_cache(maxsize=4)
def _draws(samples: int, replicates: int, seed: int) -> Indices:
    """Positions of samples drawn with replacement: [samples, replicates]."""
    drawn: Indices = np.random.default_rng(seed).integers(samples, size=(samples, replicates)).astype(np.intp)
    drawn.setflags(write=False)
    return drawn


class _SampledBound:
    """One bound of a range, for any selection of the samples.

    :param matrix: [rows, 1], the column that the bound is aggregated from.
    :param items: how many rows each sample has.
    :param ids: ids of the samples.
    :param branch: how rows are aggregated.
    """

    def __init__(
        self,
        matrix: Array,
        items: npt.NDArray[np.int64],
        ids: Sequence[str],
        branch: StatisticsCollectorParameters,
    ) -> None:
        starts = np.concatenate([[0], np.cumsum(items)])
        present = [index for index in _in_order(ids) if items[index]]
        self.ids = tuple(ids[index] for index in present)
        self._rows = [np.arange(starts[index], starts[index + 1]) for index in present]
        self._values = values = np.ascontiguousarray(matrix[:, 0])
        self._branch = branch
        lengths = {len(rows) for rows in self._rows}
        # [samples, items], if all samples have as many.
        self._stacked = np.stack(self._rows) if len(lengths) == 1 else None
        self._constant = bool(np.all(values == values[0]))

    def of(self, selections: Indices) -> Array:
        """The bound for each of several selections: positions of samples, [size, selections] -> [selections]."""
        size, count = selections.shape
        if self._constant:
            return np.full(count, self._values[0])
        if self._stacked is None:
            picked = (np.concatenate([self._rows[sample] for sample in column]) for column in selections.T)
            return np.array([self._aggregate(self._values[rows][:, np.newaxis])[0] for rows in picked])
        items = self._stacked.shape[1]
        step = max(1, _CHUNK // (size * items))
        chunks = []
        for first in range(0, count, step):
            rows = self._stacked[selections[:, first : first + step]]  # [size, step, items]
            chunks.append(self._aggregate(self._values[np.moveaxis(rows, 2, 1).reshape(size * items, -1)]))
        return np.concatenate(chunks)

    def inspect(self, draws: Indices, tails: tuple[float, float]) -> BoundInspection:
        """Interval and deciding sample; `draws` are those of the bootstrap, `tails` the ends of its interval."""
        everyone = np.arange(len(self.ids))
        value = float(self.of(everyone[:, np.newaxis])[0])
        low, high = np.quantile(self.of(draws).astype(np.float64), tails)
        sample_id, without = None, value
        if len(self.ids) > 1:
            candidates = self._candidates()
            rest = self.of(np.stack([np.delete(everyone, sample) for sample in candidates], axis=1))
            farthest = int(np.argmax(np.abs(rest.astype(np.float64) - value)))
            if rest[farthest] != value:
                sample_id, without = self.ids[candidates[farthest]], float(rest[farthest])
        return BoundInspection(value, (float(low), float(high)), sample_id, without)

    def _candidates(self) -> Indices:
        """The samples that are worth leaving out, in the order of their ids."""
        everyone = np.arange(len(self.ids))
        if len(everyone) <= _MOST_LEFT_OUT:
            return everyone
        means = np.array([self._values[rows].mean(dtype=np.float64) for rows in self._rows])
        order = np.argsort(means, kind="stable")
        return np.sort(np.concatenate([order[: _MOST_LEFT_OUT // 2], order[-_MOST_LEFT_OUT // 2 :]]))

    def _aggregate(self, matrix: Array) -> Array:
        assert self._branch.aggregator_type is not None
        return aggregate(matrix, self._branch.aggregator_type, self._branch.quantile_outlier_prob)


def _in_order(ids: Sequence[str]) -> list[int]:
    """Positions of the ids in their order, numbers in them taken as numbers: "2" comes before "10"."""

    def key(index: int) -> list[str | int]:
        parts = re.split(r"([0-9]+)", ids[index])
        return [int(part) if place % 2 else part for place, part in enumerate(parts)]

    return sorted(range(len(ids)), key=key)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share < 10 else f"{share:.0f} times its width"
