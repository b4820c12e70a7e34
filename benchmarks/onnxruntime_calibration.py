"""Wall time and memory of onnxruntime's quantize_static by percentiles, with its calibrator and with ours.

The network has the shapes of MobileNetV2 and seeded weights. Each call is a process of its own, in shuffled order. It
quantizes a network of three layers first, so that all libraries are loaded, notes its resident memory, quantizes and
notes the peak (VmHWM of /proc, so Linux only). Images are made one at a time, so that they take no memory. The least of
the rounds counts, which other processes disturb least.

    python -m benchmarks.onnxruntime_calibration [--images 32] [--size 224] [--rounds 3]

Exit status 1 if a ratio is below its goal.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console
from rich.table import Table

from benchmarks.calibration_memory import Reader, measure, quiet, small_network, status
from benchmarks.networks import mobilenet_v2

#: How many times as fast, and how many times less memory.
GOALS = {"seconds": 3.0, "peak": 5.0}
WAYS = ("onnxruntime", "quantstats")


def child(way: str, path: Path, count: int, size: int) -> None:
    """Measure one call in this process and print what it took."""
    from onnxruntime import quantization

    from quantstats.integrations.onnxruntime import quantize_static

    logging.disable(logging.WARNING)
    quantize: Callable[..., None] = quantize_static if way == "quantstats" else quantization.quantize_static
    method = quantization.CalibrationMethod.Percentile
    with tempfile.TemporaryDirectory() as directory:
        small, written = Path(directory) / "small.onnx", Path(directory) / "int8.onnx"
        onnx.save(small_network(), small)
        with quiet():
            quantize(small, written, Reader(2, 16), calibrate_method=method)
        reader = Reader(count, size)
        gc.collect()
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # The peak starts again from here.
        start = time.perf_counter()
        with quiet():
            quantize(path, written, reader, calibrate_method=method)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": status("VmHWM") - before}))


def main() -> int:
    """Measure, print a table, and compare with the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.model, arguments.images, arguments.size)
        return 0

    calls = list(WAYS) * arguments.rounds
    random.Random(0).shuffle(calls)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mobilenet.onnx"
        onnx.save(mobilenet_v2(image_size=arguments.size), path)
        for way in calls:
            found[way].append(
                measure("benchmarks.onnxruntime_calibration", way, path, arguments.images, arguments.size)
            )

    title = f"quantize_static by percentiles, MobileNetV2, {arguments.images} images of {arguments.size}"
    table = Table(title=title)
    for heading in ("", *WAYS, "ratio", "goal"):
        table.add_column(heading, justify="right" if heading else "left")
    met = True
    for field, (name, unit) in {"seconds": ("wall time", "s"), "peak": ("peak memory", "MB")}.items():
        theirs, ours = (min(result[field] for result in found[way]) for way in WAYS)
        met &= theirs / ours >= GOALS[field]
        mark = "pass" if theirs / ours >= GOALS[field] else "short"
        table.add_row(
            name, f"{theirs:.1f} {unit}", f"{ours:.1f} {unit}", f"{theirs / ours:.2f}", f"{GOALS[field]:.1f} {mark}"
        )
    Console().print(table)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
