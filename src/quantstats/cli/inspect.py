"""Statistics files for people: whether the samples are enough, and what other estimators and bit widths would do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from quantstats.cli.output import check_output, staged_outputs
from quantstats.parameters import QuantizationMode, QuantizationPreset
from quantstats.range_estimator import RangeEstimatorParameters
from quantstats.report.inspection import inspection_to_dict, render_inspection
from quantstats.report.what_if import render_what_if, what_if_to_dict
from quantstats.statistics import CalibrationStatistics
from quantstats.statistics.inspection import inspect_statistics
from quantstats.statistics.what_if import what_if


@dataclass(frozen=True, slots=True)
class InspectJob:
    """What the command line asks for.

    :param file: The statistics.
    :param estimator: Name and parameters of the estimator whose ranges are inspected.
    :param tensors: Names of the tensors; empty for all. Named ones are shown with how their range grew.
    :param tolerance: Share of a range's width from which on more samples are said to change it.
    :param confidence: Of the bootstrap intervals.
    :param seed: Of the bootstrap.
    """

    file: Path
    estimator: tuple[str, RangeEstimatorParameters]
    tensors: Sequence[str]
    tolerance: float
    confidence: float
    seed: int


@dataclass(frozen=True, slots=True)
class WhatIfJob:
    """What the command line asks for.

    :param file: The statistics.
    :param estimators: Parameters of the estimators, by name.
    :param tensors: Names of the tensors; empty for all.
    :param num_bits: Bit widths.
    :param preset: Whether quantizers of activations are symmetric (performance) or asymmetric (mixed).
    """

    file: Path
    estimators: Mapping[str, RangeEstimatorParameters]
    tensors: Sequence[str]
    num_bits: Sequence[int]
    preset: QuantizationPreset


def run_inspection(job: InspectJob) -> tuple[Group, dict[str, Any]]:
    """Inspect the ranges of a statistics file: what a terminal shows, and the same for JSON.

    :raises QuantizationError: The file cannot be read, or a parameter cannot be used.
    """
    statistics = CalibrationStatistics.load(job.file)
    name, params = job.estimator
    inspections = inspect_statistics(
        statistics,
        params,
        tensors=job.tensors or None,
        tolerance=job.tolerance,
        confidence=job.confidence,
        seed=job.seed,
    )
    # They have no range to show.
    all_left_out = {
        tensor: statistics[tensor].non_finite_counts
        for tensor in (() if job.tensors else sorted(statistics.taps))
        if statistics[tensor].dtype is None and any(statistics[tensor].non_finite_counts)
    }
    document = {
        "file": str(job.file),
        "model_hash": statistics.model_hash,
        "samples": statistics.num_samples,
        "estimator": name,
        "tolerance": job.tolerance,
        "confidence": job.confidence,
        "seed": job.seed,
        "tensors": inspection_to_dict(inspections),
        "without_finite_values": {tensor: counts._asdict() for tensor, counts in all_left_out.items()},
    }
    title = f"{job.file}: {statistics.num_samples:,} runs of the model, ranges by {name}"
    shown = render_inspection(inspections, title=title, confidence=job.confidence, growth=bool(job.tensors))
    for tensor, counts in all_left_out.items():
        shown.renderables.append(Text(f"{tensor} has no finite value: {counts}"))
    return shown, document


def run_what_if(job: WhatIfJob) -> tuple[Group, dict[str, Any]]:
    """Predict from a statistics file what estimators and bit widths do: what a terminal shows, and the same for JSON.

    :raises QuantizationError: The file cannot be read, or a parameter cannot be used.
    """
    statistics = CalibrationStatistics.load(job.file)
    symmetric = job.preset is QuantizationPreset.PERFORMANCE
    found = what_if(
        statistics,
        job.estimators,
        num_bits=job.num_bits,
        mode=QuantizationMode.SYMMETRIC if symmetric else QuantizationMode.ASYMMETRIC,
        tensors=job.tensors or None,
    )
    document = {
        "file": str(job.file),
        "model_hash": statistics.model_hash,
        "samples": statistics.num_samples,
        **what_if_to_dict(found),
    }
    return render_what_if(found, source=str(job.file)), document


def write_json(document: Mapping[str, Any], path: Path, *, overwrite: bool) -> None:
    """Write a JSON document: the file is complete, or there is none.

    :raises ParameterError: It cannot or must not be written there.
    """
    check_output(path, overwrite=overwrite)
    with staged_outputs(path, overwrite=overwrite) as (staged,):
        staged.write_text(to_json(document), encoding="utf-8")


def to_json(document: Mapping[str, Any]) -> str:
    """Return a JSON document that ends with a line break."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


__all__ = ["InspectJob", "WhatIfJob", "run_inspection", "run_what_if", "to_json", "write_json"]
