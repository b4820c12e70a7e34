"""Wall time of quantizing the digits CNN: quantstats.quantize against nncf.quantize, in one run.

Both get the same model, already in memory, the same samples and their default settings, range estimator included; what
they return is an int8 model in memory. Imports, reading the model and reading the data are not timed. Calls run in a
shuffled order after one untimed call of each. Both correct biases by default; both are timed without it too, and the
ratio that counts is the worse one of like against like.

    python benchmarks/quantize_digits.py [--samples 300] [--rounds 5] [--goal 0.25]

Exit status 1 if the ratio is above the goal.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters as NncfAdvancedParameters
from rich.console import Console
from rich.table import Table

import quantstats as qs
from quantstats.report.latency import Latency, measure_latency

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"


def with_quantstats(model: onnx.ModelProto, samples: list[dict[str, Any]]) -> onnx.ModelProto:
    """Quantize with quantstats and its defaults."""
    return qs.quantize(model, samples, subset_size=len(samples), progress=False)


def with_quantstats_without_bias_correction(model: onnx.ModelProto, samples: list[dict[str, Any]]) -> onnx.ModelProto:
    """Quantize with quantstats, whose biases stay as they are."""
    parameters = qs.AdvancedQuantizationParameters(disable_bias_correction=True)
    return qs.quantize(model, samples, subset_size=len(samples), advanced_parameters=parameters, progress=False)


def with_nncf(model: onnx.ModelProto, samples: list[dict[str, Any]]) -> onnx.ModelProto:
    """Quantize with nncf and its defaults."""
    with contextlib.redirect_stdout(io.StringIO()):  # Drawing nncf's progress bar would count as its time.
        return nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples))


def with_nncf_without_bias_correction(model: onnx.ModelProto, samples: list[dict[str, Any]]) -> onnx.ModelProto:
    """Quantize with nncf, whose biases stay as they are."""
    parameters = NncfAdvancedParameters(disable_bias_correction=True)
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples), advanced_parameters=parameters)


RIVALS = {
    "quantstats": with_quantstats,
    "quantstats, no bias correction": with_quantstats_without_bias_correction,
    "nncf": with_nncf,
    "nncf, no bias correction": with_nncf_without_bias_correction,
}


def measure(samples: int, rounds: int) -> dict[str, Latency]:
    """Return the time of each rival over that many rounds."""
    model = onnx.load(DIGITS / "digits_cnn.onnx")
    images = np.load(DIGITS / "calibration.npz")["image"]
    if samples > len(images):
        raise SystemExit(f"error: there are {len(images)} samples, not {samples}")
    data = [{"image": image[np.newaxis]} for image in images[:samples]]

    def call(quantize: Callable[..., onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
        return lambda: quantize(model, data)

    calls = {name: call(quantize) for name, quantize in RIVALS.items()}
    return measure_latency(calls, seconds=0, min_rounds=rounds, max_rounds=rounds, warm_up=1)


def main() -> int:
    """Measure, print a table and the ratio, and compare with the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--goal", type=float, default=0.25)
    arguments = parser.parse_args()
    nncf.set_log_level(logging.ERROR)

    times = measure(arguments.samples, arguments.rounds)
    ours = times["quantstats"]
    table = Table(title=f"quantizing digits_cnn.onnx, {arguments.samples} samples, {arguments.rounds} rounds")
    table.add_column("")
    for heading in ("median", "best decile", "quantstats takes"):
        table.add_column(heading, justify="right")
    for name, latency in times.items():
        ratio = f"{ours.median_ms / latency.median_ms:.3f} of it"
        table.add_row(name, f"{latency.median_ms:.0f} ms", f"{latency.best_decile_ms:.0f} ms", ratio)
    Console().print(table)

    without = ", no bias correction"
    ratio = max(times[f"quantstats{how}"].median_ms / times[f"nncf{how}"].median_ms for how in ("", without))
    print(f"ratio to nncf, like against like: {ratio:.3f} (goal: at most {arguments.goal})")
    return 0 if ratio <= arguments.goal else 1


if __name__ == "__main__":
    sys.exit(main())
