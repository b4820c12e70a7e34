"""Calibration with reductions inside onnxruntime (inplace_statistics=True) against our kernels (False), in one run.

Both give the same plan. The range estimator is MEAN_MINMAX, which needs extrema alone. Models: the digits CNN and
convolutional networks of several activation sizes with random weights. Times are those of making the plan, loading the
model into onnxruntime once included; calls are shuffled after one untimed call of each. A ratio above 1 says that the
graph is slower than the kernels.

    python benchmarks/inplace_statistics.py [--samples 30] [--rounds 7]
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from rich.console import Console
from rich.table import Table

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.advanced_parameters import AdvancedQuantizationParameters
from quantstats.ptq.quantize import make_plan
from quantstats.range_estimator import RangeEstimatorParametersSet

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"

# channels, height and width, layers, and whether the convolutions are depthwise: less work for each activation
NETWORKS = {
    "16 x 32 x 32, 8 layers": (16, 32, 8, False),
    "32 x 56 x 56, 6 layers": (32, 56, 6, False),
    "64 x 112 x 112, 4 depthwise layers": (64, 112, 4, True),
}


def network(channels: int, size: int, layers: int, depthwise: bool) -> onnx.ModelProto:
    """Convolutions and Relus in a row."""
    rng = np.random.default_rng(0)
    nodes, weights, tensor = [], [], "x"
    for i in range(layers):
        inputs = 1 if depthwise else channels
        weight = rng.normal(size=(channels, inputs, 3, 3)) * (2 / (9 * inputs)) ** 0.5
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{i}"))
        group = channels if depthwise else 1
        nodes.append(helper.make_node("Conv", [tensor, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1] * 4, group=group))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], f"relu{i}"))
        tensor = f"r{i}"
    shape = [1, channels, size, size]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def timed(adapter: OnnxAdapter, samples: list[dict[str, np.ndarray]], inplace: bool) -> float:
    """Seconds of one calibration."""
    # Bias correction would hand out the inputs of what it corrects either way.
    advanced = AdvancedQuantizationParameters(
        inplace_statistics=inplace,
        activations_range_estimator_params=RangeEstimatorParametersSet.MEAN_MINMAX,
        disable_bias_correction=True,
    )
    start = time.perf_counter()
    make_plan(adapter, samples, advanced_parameters=advanced, progress=False)
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    images = np.load(DIGITS / "calibration.npz")["image"][: arguments.samples]
    cases = {"digits": (onnx.load(DIGITS / "digits_cnn.onnx"), [{"image": image[None]} for image in images])}
    rng = np.random.default_rng(1)
    for name, shape in NETWORKS.items():
        size = (1, shape[0], shape[1], shape[1])
        data = [{"x": rng.normal(size=size).astype(np.float32)} for _ in range(arguments.samples)]
        cases[name] = network(*shape), data

    table = Table("model", "graph", "kernels", "graph / kernels")
    for name, (model, data) in cases.items():
        adapter = OnnxAdapter(model)
        calls = [True, False] * arguments.rounds
        random.Random(2).shuffle(calls)
        times: dict[bool, list[float]] = {True: [], False: []}
        for inplace in (True, False):
            timed(adapter, data, inplace)
        for inplace in calls:
            times[inplace].append(timed(adapter, data, inplace))
        graph, kernels = float(np.median(times[True])), float(np.median(times[False]))
        table.add_row(name, f"{1e3 * graph:.1f} ms", f"{1e3 * kernels:.1f} ms", f"{graph / kernels:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
