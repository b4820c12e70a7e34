"""What memory calibration takes beyond the model's inference: quantstats, onnxruntime's Percentile, nncf's HISTOGRAM.

Each measurement is a process of its own. It does the same on a network of three layers first, so that all libraries
are loaded, notes its resident memory, runs and notes the peak (VmHWM of /proc, so Linux only). The same for plain
inference of the same model on the same images is subtracted. Images are made one at a time, so that they take no
memory, but for nncf, which takes a list. The slope between two numbers of images is the memory that each image adds;
what does not grow serves any number of them.

    python -m benchmarks.calibration_memory [--images 4 12] [--size 224]

Exit status 1 if quantstats takes more than 64 MB and 1 MB for each observed tensor.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from rich.console import Console
from rich.table import Table

from benchmarks.networks import images, mobilenet_v2

BASE_MB, MB_PER_TENSOR = 64, 1


def pictures(count: int, size: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Images one at a time: of a few that repeat, since memory does not depend on what they show."""
    few = images(min(count, 4), size)
    for index in range(count):
        yield {"input": few[index % len(few)][np.newaxis]}


Measured = Callable[[], dict[str, Any]]


def inference(path: str, count: int, size: int) -> Measured:
    """Return the run of the model alone."""
    import onnxruntime as ort

    def run() -> dict[str, Any]:
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        for sample in pictures(count, size):
            session.run(None, sample)
        return {}

    return run


def quantstats(path: str, count: int, size: int) -> Measured:
    """Return a calibration from which every estimator follows."""
    import quantstats as qs

    def run() -> dict[str, Any]:
        found = qs.calibrate(path, pictures(count, size), subset_size=count, progress=False)
        return {"tensors": len(found.taps)}

    return run


def quantstats_per_channel(path: str, count: int, size: int) -> Measured:
    """Return a calibration per channel whose tables stay below 16 MB of memory."""
    import quantstats as qs

    def run() -> dict[str, Any]:
        samples = pictures(count, size)
        found = qs.calibrate(path, samples, subset_size=count, per_channel=True, memory_limit=16 << 20, progress=False)
        return {"tensors": len(found.taps)}

    return run


class Reader:
    """Images for onnxruntime, one at a time."""

    def __init__(self, count: int, size: int) -> None:
        self._samples = pictures(count, size)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next image, None at the end."""
        return next(self._samples, None)


def onnxruntime_percentile(path: str, count: int, size: int) -> Measured:
    """Return onnxruntime's calibration by percentiles."""
    from onnxruntime.quantization import calibrate

    def run() -> dict[str, Any]:
        calibrator = calibrate.create_calibrator(
            path,
            augmented_model_path=path + ".augmented.onnx",
            calibrate_method=calibrate.CalibrationMethod.Percentile,
        )
        calibrator.collect_data(Reader(count, size))
        return {"tensors": len(calibrator.compute_data().data)}

    return run


def nncf_histogram(path: str, count: int, size: int) -> Measured:
    """Return nncf's quantization with its histogram estimator, without bias correction."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)

    def run() -> dict[str, Any]:
        advanced = AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM, disable_bias_correction=True
        )
        data = nncf.Dataset(list(pictures(count, size)))
        nncf.quantize(onnx.load(path), data, subset_size=count, advanced_parameters=advanced)
        return {}

    return run


TOOLS = {
    "quantstats": quantstats,
    "quantstats, per channel": quantstats_per_channel,
    "onnxruntime Percentile": onnxruntime_percentile,
    "nncf HISTOGRAM": nncf_histogram,
}


def status(field: str) -> float:
    """A field of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field + ":")).split()[1]) / 1024


def small_network() -> onnx.ModelProto:
    """A convolution and a matrix product over images of 16 x 16, "input" float32 [batch, 3, 16, 16]."""
    weights = {"w": np.ones((4, 3, 3, 3), np.float32), "v": np.ones((4, 2), np.float32)}
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["a"], "average"),
        helper.make_node("Flatten", ["a"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "v"], ["output"], "classify"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what tools print from the result."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def child(tool: str, path: str, count: int, size: int) -> None:
    """Measure one run in this process and print what it took."""
    list(pictures(1, size))
    make = {"inference": inference, **TOOLS}[tool]
    with tempfile.TemporaryDirectory() as directory, quiet():
        small = Path(directory) / "small.onnx"
        onnx.save(small_network(), small)
        make(str(small), 1, 16)()
    run = make(path, count, size)
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # The peak starts again from here.
    with quiet():
        found = run()
    print(json.dumps({"peak": status("VmHWM") - before, **found}))


def measure(module: str, tool: str, path: Path, count: int, size: int) -> dict[str, Any]:
    """What a process of its own measures, in which a module of the benchmarks runs as ``--child``."""
    command = [sys.executable, "-m", module, "--child", tool, "--model", str(path)]
    command += ["--images", str(count), "--size", str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, nargs="+", default=[4, 12])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.model, arguments.images[0], arguments.size)
        return 0
    counts = sorted(arguments.images)
    table = Table(title=f"Peak memory of calibration above inference in MB, MobileNetV2 at {arguments.size}")
    for heading in ("", "tensors", *(f"{count} images" for count in counts), "for each image", "allowed"):
        table.add_column(heading, justify="left" if not heading else "right")
    failed = False
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mobilenet.onnx"
        onnx.save(mobilenet_v2(image_size=arguments.size), path)
        own = [
            measure("benchmarks.calibration_memory", "inference", path, count, arguments.size)["peak"]
            for count in counts
        ]
        table.add_row("inference itself", "", *(f"{peak:.0f}" for peak in own), "", "")
        for tool in TOOLS:
            found = [measure("benchmarks.calibration_memory", tool, path, count, arguments.size) for count in counts]
            above = [result["peak"] - base for result, base in zip(found, own, strict=True)]
            slope = (above[-1] - above[0]) / (counts[-1] - counts[0]) if len(counts) > 1 else float("nan")
            tensors = found[0].get("tensors")
            allowed = BASE_MB + MB_PER_TENSOR * tensors if tool == "quantstats" else None
            failed |= allowed is not None and max(above) > allowed
            table.add_row(
                tool,
                str(tensors or ""),
                *(f"{peak:.0f}" for peak in above),
                f"{slope:.1f}",
                "" if allowed is None else str(allowed),
            )
    Console().print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
