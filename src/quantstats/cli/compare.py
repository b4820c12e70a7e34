"""Two statistics files side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantstats.parameters import QuantizationPreset
from quantstats.range_estimator import RangeEstimatorParameters
from quantstats.statistics import CalibrationStatistics
from quantstats.statistics.comparison import Comparison, compare_statistics


@dataclass(frozen=True, slots=True)
class CompareJob:
    """What the command line asks for.

    :param first: A statistics file.
    :param second: Another.
    :param estimators: Parameters of the estimators whose ranges are compared, by name.
    :param preset: Whether ranges are for symmetric (performance) or asymmetric (mixed) quantizers.
    :param tolerance: Share of a range's width that ranges may differ by.
    """

    first: Path
    second: Path
    estimators: Mapping[str, RangeEstimatorParameters]
    preset: QuantizationPreset
    tolerance: float


def run_comparison(job: CompareJob) -> Comparison:
    """Compare the files.

    :raises QuantizationError: A file cannot be read, or a parameter cannot be used.
    """
    return compare_statistics(
        CalibrationStatistics.load(job.first),
        CalibrationStatistics.load(job.second),
        job.estimators,
        tolerance=job.tolerance,
        symmetric=job.preset is QuantizationPreset.PERFORMANCE,
    )


__all__ = ["CompareJob", "run_comparison"]
