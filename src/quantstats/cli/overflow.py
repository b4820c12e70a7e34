"""Whether a quantized model can saturate 16-bit sums: report and simulation from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quantstats.adapters.onnx.integer_layers import quantized_model
from quantstats.adapters.onnx.saturation import input_signature
from quantstats.cli.data import SampleFiles
from quantstats.errors import ParameterError
from quantstats.overflow.analysis import OverflowReport, analyze
from quantstats.overflow.simulation import Simulation, simulate
from quantstats.statistics.calibration import CalibrationStatistics

__all__ = ["OverflowJob", "run_overflow"]


@dataclass(frozen=True, slots=True)
class OverflowJob:
    """What the command line asks for. Paths are as the user gave them.

    :param model: The quantized ONNX model.
    :param statistics: Statistics of the floating-point model, or ``None``.
    :param pairing: Which weights are pairs.
    :param u_max: A bound on all activations, or ``None``.
    :param simulate: Samples to simulate the model on, or ``None``.
    :param subset_size: Most samples to simulate.
    """

    model: Path
    statistics: Path | None = None
    pairing: str = "any"
    u_max: int | None = None
    simulate: Path | None = None
    subset_size: int = 32


def run_overflow(job: OverflowJob) -> tuple[OverflowReport, Simulation | None]:
    """Analyze the model, and simulate it if there are samples.

    :raises QuantizationError: The model, the files or a parameter cannot be used.
    """
    if job.simulate is not None and job.pairing == "any":
        raise ParameterError(
            "--simulate needs to know which products are pairs, and --pairing any does not say; name that of a "
            "runtime, or adjacent"
        )
    model = quantized_model(job.model)
    statistics = None if job.statistics is None else CalibrationStatistics.load(job.statistics)
    report = analyze(model, statistics, pairing=job.pairing, u_max=job.u_max)
    if job.simulate is None:
        return report, None
    graph = input_signature(model)
    files = SampleFiles(job.simulate, [graph.tensors[name] for name in graph.inputs])
    unit = files.fixed_batch or 1
    batches = files.batches(0, max(unit, job.subset_size // unit * unit))
    return report, simulate(model, batches, pairing=job.pairing, subset_size=len(batches))
