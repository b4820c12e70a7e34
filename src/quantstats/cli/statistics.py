"""Statistics as files: collect them from a model and data, and merge those of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.advanced_parameters import AdvancedQuantizationParameters
from quantstats.cli.data import Batches, SampleFiles
from quantstats.cli.output import check_output, staged_outputs
from quantstats.cli.progress import Stages
from quantstats.errors import DataError, ParameterError, QuantizationError
from quantstats.parameters import IgnoredScope, ModelType
from quantstats.ptq.collection import calibrate
from quantstats.ptq.dataset import Dataset
from quantstats.statistics import CalibrationStatistics
from quantstats.statistics.calibration_file import require_safetensors
from quantstats.statistics.non_finite import NonFinitePolicy


@dataclass(frozen=True, slots=True)
class CalibrateJob:
    """What the command line asks for. Paths are as the user gave them.

    :param model: The fp32 ONNX model.
    :param data: Samples, see :mod:`quantstats.cli.data`.
    :param output: Where the statistics go.
    :param first: Position of the first sample to read.
    :param subset_size: Most samples to read.
    :param batch_size: Samples in one run; ``None`` takes what the model fixes, else 1.
    :param per_channel: Collect per channel too.
    :param id_prefix: What the id of a sample has before its position in the data.
    :param non_finite: What to do about activations that are NaN or infinite.
    :param checkpoint: A file that keeps what is done, to go on from if the run is killed.
    :param every: After how many runs of the model it is written.
    :param overwrite: Replace an output that exists.
    """

    model: Path
    data: Path
    output: Path
    first: int = 0
    subset_size: int = 300
    batch_size: int | None = None
    per_channel: bool = False
    model_type: ModelType | None = None
    ignored_scope: IgnoredScope | None = None
    advanced_parameters: AdvancedQuantizationParameters | None = None
    id_prefix: str = ""
    non_finite: NonFinitePolicy = "raise"
    checkpoint: Path | None = None
    every: int = 50
    overwrite: bool = False


def run_calibration(job: CalibrateJob, *, console: Console) -> CalibrationStatistics:
    """Collect statistics and write them: the file is complete, or there is none.

    :param job: What to do.
    :param console: Where progress is shown, if it is a terminal.
    :raises QuantizationError: The model, the data or a parameter cannot be used.
    """
    check_output(job.output, overwrite=job.overwrite, sources=(job.model, job.data))
    if job.checkpoint is not None:
        check_output(job.checkpoint, overwrite=True, sources=(job.model, job.data))  # One that exists is gone on from.
        if job.checkpoint.resolve() == job.output.resolve():
            raise ParameterError(f"checkpoint {str(job.checkpoint)!r} is the output too; give another name")
    require_safetensors()
    adapter = OnnxAdapter(job.model)
    graph = adapter.graph()
    batches = _batches(job, SampleFiles(job.data, [graph.tensors[n] for n in graph.inputs], batch_size=job.batch_size))
    with (
        Stages(console) as stages,
        stages.calibration(batches.batch_size, batches.samples) as progress,
        staged_outputs(job.output, overwrite=job.overwrite) as (staged,),
    ):
        statistics = calibrate(
            adapter,
            Dataset(batches),
            subset_size=len(batches),
            per_channel=job.per_channel,
            sample_ids=(
                f"{job.id_prefix}{position}" for position in range(job.first, batches.stop, batches.batch_size)
            ),
            model_type=job.model_type,
            ignored_scope=job.ignored_scope,
            advanced_parameters=job.advanced_parameters,
            non_finite=job.non_finite,
            checkpoint=job.checkpoint,
            every=job.every,
            progress=progress,
        )
        statistics.save(staged)
    return statistics


def _batches(job: CalibrateJob, data: SampleFiles) -> Batches:
    # A model that fixes its batch can only take whole ones.
    unit = data.fixed_batch or 1
    available = (len(data) - job.first) // unit * unit
    if available <= 0:
        raise DataError(
            f"data {str(job.data)!r} hold {len(data)} samples, so there is nothing to read from sample {job.first} on; "
            "give a smaller --first"
        )
    return data.batches(job.first, job.first + min(available, max(1, job.subset_size // unit) * unit))


def run_merge(
    files: Sequence[Path], output: Path, *, skip_duplicates: bool = False, overwrite: bool = False
) -> CalibrationStatistics:
    """Merge statistics files into one. Their order does not matter.

    :param files: At least one.
    :param output: Where the result goes.
    :param skip_duplicates: Count samples once that a file shares with those before it, if one has all of the other's.
    :param overwrite: Replace an output that exists.
    :raises QuantizationError: A file cannot be read, or does not go with those before it; the message names it.
    """
    check_output(output, overwrite=overwrite, sources=tuple(files))
    merged = CalibrationStatistics.load(files[0])
    for file in files[1:]:
        try:
            merged.merge(CalibrationStatistics.load(file), duplicates="skip" if skip_duplicates else "raise")
        except QuantizationError as error:
            raise type(error)(f"{file}: {error}") from error
    with staged_outputs(output, overwrite=overwrite) as (staged,):
        merged.save(staged)
    return merged


__all__ = ["CalibrateJob", "run_calibration", "run_merge"]
