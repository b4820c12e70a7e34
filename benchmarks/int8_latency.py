"""The int8 digits CNN of quantstats beside those of onnxruntime's own static quantizer: latency and SQNR, in one run.

All quantizers get the same 300 samples and the MinMax estimator: quantstats with `RangeEstimatorParametersSet.MINMAX`
and `OverflowFix.DISABLE`, onnxruntime's `quantize_static` in QDQ format, per channel, with int8 weights and both QUInt8
and QInt8 activations, after its recommended pre-processing (`quant_pre_process`). Latency is that of single calls in
shuffled rounds, each session with the default settings and one more: threads stop spinning when a call ends, so that
the sessions do not disturb each other. SQNR is that of the logits over the test split, against the fp32 model.

    python benchmarks/int8_latency.py [--batch 1] [--seconds 10] [--model digits_cnn.onnx]

Exit status 1 if quantstats is more than 0.5 dB below the better rival, or slower than the quicker rival by more than
the tolerance (5 %, since two sessions with the same graph differ by a few).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.table import Table

import quantstats as qs
from quantstats.cli.runtime import OnnxRunner
from quantstats.report.latency import measure_latency
from quantstats.report.sqnr import output_error

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
SAMPLES = 300
SQNR_MARGIN_DB = 0.5
LATENCY_TOLERANCE = 1.05


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """The samples as onnxruntime's quantizer reads them."""

    def __init__(self, images: np.ndarray) -> None:
        self._samples: Iterator[dict[str, Any]] = iter([{"image": image[np.newaxis]} for image in images])

    def get_next(self) -> dict[str, Any] | None:
        """Return the next sample, ``None`` after the last."""
        return next(self._samples, None)


def quantize_with_quantstats(model: Path, images: np.ndarray, output: Path) -> None:
    """Quantize with settings that mean the same as those of the rivals."""
    parameters = qs.AdvancedQuantizationParameters(
        overflow_fix=qs.OverflowFix.DISABLE,
        activations_range_estimator_params=qs.RangeEstimatorParametersSet.MINMAX,
    )
    int8 = qs.quantize(model, images, subset_size=len(images), advanced_parameters=parameters, progress=False)
    onnx.save(int8, output)


def quantize_with_onnxruntime(model: Path, images: np.ndarray, output: Path, activations: QuantType) -> None:
    """Quantize with `quantize_static`."""
    prepared = output.with_suffix(".prepared.onnx")
    quant_pre_process(model, prepared)
    quantize_static(
        prepared,
        output,
        Reader(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=activations,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


def make_models(model: Path, images: np.ndarray, directory: Path) -> dict[str, Path]:
    """Write every int8 model and return the paths, the original among them."""
    paths = {"fp32": model}
    for name in ("quantstats", "onnxruntime, QUInt8", "onnxruntime, QInt8"):
        paths[name] = directory / f"{name.replace(', ', '_')}.onnx"
    quantize_with_quantstats(model, images, paths["quantstats"])
    quantize_with_onnxruntime(model, images, paths["onnxruntime, QUInt8"], QuantType.QUInt8)
    quantize_with_onnxruntime(model, images, paths["onnxruntime, QInt8"], QuantType.QInt8)
    return paths


def main() -> int:
    """Measure, print a table, and compare with the best rival."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--model", default="digits_cnn.onnx", help="file in examples/digits")
    arguments = parser.parse_args()

    images = np.load(DIGITS / "calibration.npz")["image"][:SAMPLES]
    test = np.load(DIGITS / "test.npz")["image"]
    with tempfile.TemporaryDirectory() as directory:
        paths = make_models(DIGITS / arguments.model, images, Path(directory))
        runners = {name: OnnxRunner(path) for name, path in paths.items()}

    outputs = {name: runner({"image": test})["logits"] for name, runner in runners.items()}
    sqnr = {name: output_error(outputs["fp32"], logits).sqnr_db for name, logits in outputs.items() if name != "fp32"}
    batch = {"image": test[: arguments.batch]}

    def call(runner: OnnxRunner) -> Callable[[], object]:
        return lambda: runner(batch)

    calls = {name: call(runner) for name, runner in runners.items()}
    times = measure_latency(calls, seconds=arguments.seconds, max_rounds=100_000, warm_up=50)

    ours = times["quantstats"].median_ms
    rounds = times["quantstats"].runs
    table = Table(title=f"{arguments.model}, batch {arguments.batch}, {rounds} shuffled rounds")
    table.add_column("")
    for heading in ("median", "best decile", "quantstats takes", "SQNR"):
        table.add_column(heading, justify="right")
    for name, latency in times.items():
        table.add_row(
            name,
            f"{1000 * latency.median_ms:.1f} us",
            f"{1000 * latency.best_decile_ms:.1f} us",
            f"{ours / latency.median_ms:.3f} of it",
            f"{sqnr[name]:.2f} dB" if name in sqnr else "",
        )
    Console().print(table)

    rivals = [name for name in sqnr if name != "quantstats"]
    close = float(sqnr["quantstats"] or 0) >= max(float(sqnr[name] or 0) for name in rivals) - SQNR_MARGIN_DB
    fast = ours <= LATENCY_TOLERANCE * min(times[name].median_ms for name in rivals)
    print(f"SQNR within {SQNR_MARGIN_DB} dB of the best rival: {close}; as fast as the quickest rival: {fast}")
    return 0 if close and fast else 1


if __name__ == "__main__":
    sys.exit(main())
