"""The commands and their options."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from quantstats.advanced_parameters import (
    AdvancedAccuracyRestorerParameters,
    AdvancedQuantizationParameters,
    OverflowFix,
)
from quantstats.cli import INTERRUPTED, missing_extra
from quantstats.errors import ParameterError, QuantizationError
from quantstats.parameters import DropType, IgnoredScope, ModelType, QuantizationPreset, TargetDevice
from quantstats.range_estimator import RangeEstimatorParameters, RangeEstimatorParametersSet
from quantstats.statistics.non_finite import NonFinitePolicy

app = typer.Typer(
    name="quantstats",
    help="Post-training quantization on CPUs.",
    no_args_is_help=True,
    add_completion=False,
    # An exception that gets here is a bug, and a bug is reported with the plain traceback.
    pretty_exceptions_enable=False,
)


class NonFiniteName(str, Enum):
    """What to do about values that are not finite, as a person types it."""

    RAISE = "raise"
    IGNORE = "ignore"
    CLAMP = "clamp"

    @property
    def policy(self) -> NonFinitePolicy:
        """As the library has it."""
        return self.value


class BiasCorrectionMode(str, Enum):
    """How biases are corrected."""

    FAST = "fast"
    FULL = "full"
    OFF = "off"

    def __str__(self) -> str:
        return self.value


class RangeEstimatorName(str, Enum):
    """The names of `RangeEstimatorParametersSet`, as options spell them."""

    MINMAX = "minmax"
    MEAN_MINMAX = "mean_minmax"
    MEDIAN_MINMAX = "median_minmax"
    MEAN_NO_OUTLIERS_MINMAX = "mean_no_outliers_minmax"
    MEAN_QUANTILE = "mean_quantile"
    HISTOGRAM = "histogram"
    MSE = "mse"
    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    AUTO = "auto"

    @property
    def parameters(self) -> RangeEstimatorParameters:
        """The parameters of that name."""
        parameters: RangeEstimatorParameters = getattr(RangeEstimatorParametersSet, self.name)
        return parameters


_ESTIMATORS = ", ".join(name.value for name in RangeEstimatorName)


# Options that several commands have.
_Model = Annotated[Path, typer.Argument(metavar="MODEL", help="The fp32 ONNX model.")]
_SAMPLES = (
    "Samples: an .npz with an array per model input, an .npy for a model with one input, or a directory of such files. "
    "Axis 0 counts the samples."
)
_Data = Annotated[Path, typer.Option(metavar="DATA", help=_SAMPLES)]
_BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Samples in one run. Default: what the model fixes, else 1.", show_default=False),
]
_Family = Annotated[
    ModelType | None, typer.Option(case_sensitive=False, help="Family of the model.", show_default=False)
]


_File = Annotated[Path, typer.Argument(metavar="FILE", help="Statistics that `calibrate` or `merge` wrote.")]
_Json = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Write the result as JSON; - writes it to standard output, not the table."),
]
_Estimators = Annotated[
    list[RangeEstimatorName] | None,
    typer.Option(
        case_sensitive=False,
        metavar="NAME",
        help=f"A range estimator: {_ESTIMATORS}. Repeatable.",
        show_default=False,
    ),
]
_Pairing = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Which weights the runtime adds up in pairs: any (safe for every runtime), adjacent, or a runtime's name.",
    ),
]
_Tolerance = Annotated[float, typer.Option(min=0.0, metavar="SHARE", help="Share of a range's width that matters.")]


@app.callback()
def quantstats() -> None:
    """Post-training quantization on CPUs: exact statistics at memory speed."""


@app.command(no_args_is_help=True)
def quantize(
    model: _Model,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Where the int8 model goes.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help=f"{_SAMPLES} Either these or --statistics.", show_default=False),
    ] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Statistics that `calibrate` wrote, in place of --data: the model is not calibrated again.",
            show_default=False,
        ),
    ] = None,
    test_data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Samples to compare the models on. Without it: samples of --data beyond the subset, or, if there are "
            "none, an eighth that is held back from calibration.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Array with the samples' labels: also compare the top-1 accuracy."),
    ] = None,
    subset_size: Annotated[int, typer.Option(min=1, help="Most samples to calibrate on.")] = 300,
    batch_size: _BatchSize = None,
    preset: Annotated[
        QuantizationPreset | None,
        typer.Option(
            case_sensitive=False,
            help="Scheme of activations: symmetric (performance) or asymmetric (mixed). Default: mixed for "
            "transformers, else performance.",
            show_default=False,
        ),
    ] = None,
    range_estimator: Annotated[
        RangeEstimatorName | None,
        typer.Option(
            case_sensitive=False,
            metavar="NAME",
            help=f"How ranges of activations are estimated: {_ESTIMATORS}. Default: auto.",
            show_default=False,
        ),
    ] = None,
    weights_range_estimator: Annotated[
        RangeEstimatorName | None,
        typer.Option(
            case_sensitive=False,
            metavar="NAME",
            help="How ranges of weights are estimated, by the same names. Default: minmax.",
            show_default=False,
        ),
    ] = None,
    bias_correction: Annotated[
        BiasCorrectionMode,
        typer.Option(
            case_sensitive=False,
            help="How biases make up for the mean error of quantization: from the mean input of each operation (fast), "
            "from runs of the quantized model (full), not at all (off).",
        ),
    ] = BiasCorrectionMode.FAST,
    overflow_fix: Annotated[
        OverflowFix | None,
        typer.Option(
            case_sensitive=False,
            help="How weights are kept from saturating on CPUs without VNNI: half of the range for all (enable) or for "
            "those of convolutions that read a model input (first_layer_only), the finest scale that is proven safe "
            "(auto), nothing (disable). Default: first_layer_only; for the targets avx2 and avx512 auto, for vnni "
            "disable.",
            show_default=False,
        ),
    ] = None,
    model_type: _Family = None,
    target_device: Annotated[
        TargetDevice,
        typer.Option(
            "--target-device", "--target", case_sensitive=False, help="Device that the int8 model will run on."
        ),
    ] = TargetDevice.ANY,
    pairing: _Pairing = "any",
    ignore_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave this operation in floating point. Repeatable."),
    ] = None,
    ignore_pattern: Annotated[
        list[str] | None,
        typer.Option(metavar="REGEX", help="Leave operations whose name matches in floating point. Repeatable."),
    ] = None,
    ignore_type: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="Leave operations of this type in floating point. Repeatable."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="DROP",
            help="Largest drop of the metric: what int8 hurts most returns to floating point until it is met.",
            show_default=False,
        ),
    ] = None,
    drop_type: Annotated[
        DropType,
        typer.Option(case_sensitive=False, help="The drop is a difference (absolute), or a share of the fp32 metric."),
    ] = DropType.ABSOLUTE,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Returns the metric of a model on samples, the more the better. Default: top-1 accuracy on --labels.",
            show_default=False,
        ),
    ] = None,
    validation_data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Samples to validate on. Default: those of --test-data.", show_default=False),
    ] = None,
    tune_hyperparams: Annotated[
        bool,
        typer.Option(
            "--tune-hyperparams",
            help="First search preset, range estimators, granularity of weights and bias correction.",
        ),
    ] = False,
    intermediate_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the journal goes from which a run that was killed resumes.", show_default=False
        ),
    ] = None,
    latency_seconds: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Time for measuring latency; 0 leaves it out.")
    ] = 2.0,
    json: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Write the summary as JSON; - writes it to standard output, not the table."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no table.")] = False,
) -> None:
    """Quantize an fp32 ONNX model to int8, and say how close, how small and how fast the result is.

    Example: quantstats quantize model.onnx --data samples.npz -o model_int8.onnx
    """
    with _exit_status():
        # Not at the top: `--help` and `config` need neither onnx nor onnxruntime.
        from quantstats.cli.accuracy import AccuracyTarget
        from quantstats.cli.quantize import QuantizeJob, run, to_json
        from quantstats.report.tables import render

        advanced = AdvancedQuantizationParameters(overflow_fix=overflow_fix, overflow_pairing=pairing)
        if range_estimator is not None:
            advanced.activations_range_estimator_params = range_estimator.parameters
        if weights_range_estimator is not None:
            advanced.weights_range_estimator_params = weights_range_estimator.parameters
        advanced.disable_bias_correction = bias_correction is BiasCorrectionMode.OFF
        if bias_correction is BiasCorrectionMode.FULL and statistics is not None:
            raise ParameterError(
                "--bias-correction full runs the quantized model, for which --statistics do not do; give --data in "
                "their place, or take --bias-correction fast"
            )
        scope = None
        if ignore_name or ignore_pattern or ignore_type:
            scope = IgnoredScope(names=ignore_name or [], patterns=ignore_pattern or [], types=ignore_type or [])
        accuracy = None
        if max_drop is not None:
            restorer = AdvancedAccuracyRestorerParameters(
                tune_hyperparams=tune_hyperparams,
                intermediate_model_dir=None if intermediate_dir is None else str(intermediate_dir),
            )
            accuracy = AccuracyTarget(max_drop, drop_type, validation, validation_data, restorer)
        elif validation or validation_data or tune_hyperparams or intermediate_dir:
            raise ParameterError(
                "--validation, --validation-data, --tune-hyperparams and --intermediate-dir belong to accuracy "
                "control; give --max-drop too, or leave them out"
            )
        to_stdout = json == "-"
        job = QuantizeJob(
            model=model,
            data=data,
            output=output,
            statistics=statistics,
            test_data=test_data,
            labels=labels,
            preset=preset,
            target_device=target_device,
            model_type=model_type,
            ignored_scope=scope,
            advanced_parameters=advanced,
            fast_bias_correction=bias_correction is not BiasCorrectionMode.FULL,
            subset_size=subset_size,
            batch_size=batch_size,
            overwrite=overwrite,
            latency_seconds=latency_seconds,
            json_path=None if json is None or to_stdout else Path(json),
            accuracy=accuracy,
        )
        console = Console(stderr=True, quiet=quiet)
        with _notes(console):
            summary = run(job, console=console)
        if to_stdout:
            typer.echo(to_json(summary), nl=False)
        elif not quiet:
            Console().print(render(summary))


@app.command(no_args_is_help=True)
def calibrate(
    model: _Model,
    data: _Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Where the statistics go.")],
    first: Annotated[int, typer.Option(min=0, help="Position of the first sample to read.")] = 0,
    subset_size: Annotated[int, typer.Option(min=1, help="Most samples to read.")] = 300,
    batch_size: _BatchSize = None,
    per_channel: Annotated[bool, typer.Option("--per-channel", help="Collect per channel too.")] = False,
    model_type: _Family = None,
    id_prefix: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="The id of a sample is this and its position in the data. Give every data set its own where "
            "statistics of several are merged.",
        ),
    ] = "",
    non_finite: Annotated[
        NonFiniteName, typer.Option(help="Activations that are NaN or infinite: refuse them, leave them out, or clamp.")
    ] = NonFiniteName.RAISE,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep what is done in this file; a run that was killed goes on from it when repeated."
        ),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Runs of the model between two writes of the checkpoint.")] = 50,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no result.")] = False,
) -> None:
    """Collect statistics from which every range estimator follows without another run of the model.

    Example: quantstats calibrate model.onnx --data samples.npz -o model.stats.safetensors
    """
    with _exit_status():
        from quantstats.cli.statistics import CalibrateJob, run_calibration

        job = CalibrateJob(
            model=model,
            data=data,
            output=output,
            first=first,
            subset_size=subset_size,
            batch_size=batch_size,
            per_channel=per_channel,
            model_type=model_type,
            id_prefix=id_prefix,
            non_finite=non_finite.policy,
            checkpoint=checkpoint,
            every=every,
            overwrite=overwrite,
        )
        console = Console(stderr=True, quiet=quiet)
        with _notes(console):
            statistics = run_calibration(job, console=console)
        if not quiet:
            typer.echo(f"{output}: {len(statistics.taps)} tensors, {statistics.num_samples} runs of the model")


@app.command(no_args_is_help=True)
def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Statistics of parts of the samples.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Where the merged statistics go.")],
    skip_duplicates: Annotated[
        bool,
        typer.Option("--skip-duplicates", help="Count a part once that is given twice, or is contained in another."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no result.")] = False,
) -> None:
    """Merge statistics of several runs: the file that one run over all samples writes, in whatever order.

    Example: quantstats merge part0.safetensors part1.safetensors -o model.stats.safetensors
    """
    with _exit_status():
        from quantstats.cli.statistics import run_merge

        statistics = run_merge(files, output, skip_duplicates=skip_duplicates, overwrite=overwrite)
        if not quiet:
            typer.echo(f"{output}: {len(statistics.taps)} tensors, {statistics.num_samples} runs of the model")


@app.command(no_args_is_help=True)
def inspect(
    file: _File,
    what_if: Annotated[
        bool,
        typer.Option(
            "--what-if",
            help="Predict the error of every range estimator and bit width instead, without running anything.",
        ),
    ] = False,
    tensor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Show this tensor alone, and how its range grew. Repeatable."),
    ] = None,
    range_estimator: _Estimators = None,
    bits: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Bit width for --what-if. Repeatable. Default: 8, 6 and 4.", show_default=False),
    ] = None,
    preset: Annotated[
        QuantizationPreset | None,
        typer.Option(
            case_sensitive=False,
            help="Scheme for --what-if: symmetric (performance) or asymmetric (mixed). Default: performance.",
            show_default=False,
        ),
    ] = None,
    tolerance: _Tolerance = 0.05,
    confidence: Annotated[float, typer.Option(metavar="SHARE", help="Confidence of the bootstrap intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    json: _Json = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
) -> None:
    """Say whether the samples were enough: how the range of every tensor depends on which samples there were.

    Example: quantstats inspect model.stats.safetensors
    """
    with _exit_status():
        from quantstats.cli.inspect import InspectJob, WhatIfJob, run_inspection, run_what_if
        from quantstats.statistics.what_if import DEFAULT_NUM_BITS

        if what_if:
            shown, document = run_what_if(
                WhatIfJob(
                    file=file,
                    estimators={name.value: name.parameters for name in range_estimator or RangeEstimatorName},
                    tensors=tensor or (),
                    num_bits=bits or DEFAULT_NUM_BITS,
                    preset=preset or QuantizationPreset.PERFORMANCE,
                )
            )
        else:
            chosen = range_estimator or [RangeEstimatorName.MEAN_MINMAX]
            if len(chosen) > 1 or bits or preset:
                raise ParameterError(
                    "several estimators, --bits and --preset go with --what-if; inspect one estimator at a time"
                )
            shown, document = run_inspection(
                InspectJob(
                    file=file,
                    estimator=(chosen[0].value, chosen[0].parameters),
                    tensors=tensor or (),
                    tolerance=tolerance,
                    confidence=confidence,
                    seed=seed,
                )
            )
        _show(shown, document, json=json, overwrite=overwrite)


@app.command(no_args_is_help=True)
def compare(
    first: _File,
    second: Annotated[Path, typer.Argument(metavar="OTHER", help="Statistics to compare them with.")],
    range_estimator: _Estimators = None,
    preset: Annotated[
        QuantizationPreset,
        typer.Option(case_sensitive=False, help="Scheme: symmetric (performance) or asymmetric (mixed)."),
    ] = QuantizationPreset.PERFORMANCE,
    tolerance: _Tolerance = 0.05,
    json: _Json = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
) -> None:
    """Say what differs between two calibrations. Exit status 1 if tensors do, or ranges by more than the tolerance.

    Example: quantstats compare january.safetensors february.safetensors --tolerance 0.1
    """
    with _exit_status():
        from quantstats.cli.compare import CompareJob, run_comparison
        from quantstats.report.comparison import comparison_to_dict, render_comparison

        found = run_comparison(
            CompareJob(
                first=first,
                second=second,
                estimators={name.value: name.parameters for name in range_estimator or RangeEstimatorName},
                preset=preset,
                tolerance=tolerance,
            )
        )
        shown = render_comparison(found, names=(str(first), str(second)))
        document = {"first": str(first), "second": str(second), **comparison_to_dict(found)}
        _show(shown, document, json=json, overwrite=overwrite)
    if not found.agree:
        raise typer.Exit(1)


def _show(shown: RenderableType, document: Mapping[str, Any], *, json: str | None, overwrite: bool) -> None:
    """Print a result, or write it as JSON; both if the JSON goes to a file."""
    from quantstats.cli.inspect import to_json, write_json

    if json == "-":
        typer.echo(to_json(document), nl=False)
        return
    if json is not None:
        write_json(document, Path(json), overwrite=overwrite)
    Console().print(shown)


@app.command(no_args_is_help=True)
def overflow(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An int8 ONNX model, whoever quantized it.")],
    statistics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Statistics of the fp32 model: predict how much saturation would cost."),
    ] = None,
    pairing: _Pairing = "any",
    u_max: Annotated[
        int | None,
        typer.Option(
            "--u-max", min=1, max=255, help="A bound on all activations, as unsigned bytes. Default: that of the model."
        ),
    ] = None,
    simulate: Annotated[
        Path | None, typer.Option(metavar="DATA", help=f"Run the model as a CPU without VNNI does. {_SAMPLES}")
    ] = None,
    subset_size: Annotated[int, typer.Option(min=1, help="Most samples to simulate.")] = 32,
    json: _Json = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    fail_on_risk: Annotated[
        bool, typer.Option("--fail-on-risk", help="Exit with status 1 if some input can saturate a layer.")
    ] = False,
) -> None:
    """Prove of every layer whether its sums can saturate on a CPU without VNNI, and say what remedies cost.

    Example: quantstats overflow model_int8.onnx --pairing adjacent --fail-on-risk
    """
    with _exit_status():
        from quantstats.cli.overflow import OverflowJob, run_overflow
        from quantstats.report.overflow import overflow_to_dict, render_overflow

        report, simulation = run_overflow(
            OverflowJob(
                model=model,
                statistics=statistics,
                pairing=pairing,
                u_max=u_max,
                simulate=simulate,
                subset_size=subset_size,
            )
        )
        document = {"model": str(model), **overflow_to_dict(report, simulation)}
        _show(render_overflow(report, simulation), document, json=json, overwrite=overwrite)
    if fail_on_risk and not report.safe:
        raise typer.Exit(1)


@app.command()
def config() -> None:
    """Say how this copy is built, which instruction sets it has, runs and uses, and how many threads."""
    with _exit_status():
        import quantstats as package

        package.show_config()


class _NoteHandler(logging.Handler):
    """Shows what the package logs as lines on a console, above a progress bar if there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(f"note: {record.getMessage()}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _notes(console: Console) -> Iterator[None]:
    """Show warnings of the package: what had to be changed in the model, what could not be done as asked."""
    logger = logging.getLogger("quantstats")
    handler = _NoteHandler(console)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _exit_status() -> Iterator[None]:
    """Turn what a user can mend into one line on standard error and exit status 1; an interrupt into status 130."""
    try:
        yield
    except QuantizationError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        line = missing_extra(error)
        if line is None:
            raise
        print(line, file=sys.stderr)
        raise typer.Exit(1) from None
    except OSError as error:
        name = f" {str(error.filename)!r}" if error.filename is not None else ""
        _fail(f"{error.strerror or error}{name}")
    except KeyboardInterrupt:
        print("interrupted: nothing is written", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _fail(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    raise typer.Exit(1)


__all__ = ["app"]
