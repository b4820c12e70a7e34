"""Wall time of nncf.quantize, plain and served by the kernels, in one run with shuffled order.

The networks have the shapes of ResNet-18 and MobileNetV2 and seeded weights. Each call gets the same model in memory
and the same images; range estimators are nncf's presets, everything else is its default.

    python -m benchmarks.nncf_acceleration [--samples 300] [--image-size 224] [--rounds 1]

Exit status 1 if a ratio is below its goal.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import random
import statistics
import sys
import time
from collections.abc import Callable

import nncf
import numpy as np
import onnx
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from rich.console import Console
from rich.table import Table

from benchmarks.networks import images, mobilenet_v2, resnet18
from quantstats.integrations.nncf import accelerate

#: How many times as fast the whole call must be.
GOALS = {
    ("ResNet-18", "MEAN_QUANTILE"): 2.5,
    ("MobileNetV2", "MEAN_QUANTILE"): 4.0,
    ("ResNet-18", "HISTOGRAM"): 2.0,
    ("MobileNetV2", "HISTOGRAM"): 2.0,
}
NETWORKS = {"ResNet-18": resnet18, "MobileNetV2": mobilenet_v2}


def seconds(model: onnx.ModelProto, data: list[dict[str, np.ndarray]], estimator: str) -> float:
    """The time of one call of nncf.quantize."""
    parameters = AdvancedQuantizationParameters(
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, estimator)
    )
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # Drawing nncf's progress bar would count as its time.
        nncf.quantize(model, nncf.Dataset(data), subset_size=len(data), advanced_parameters=parameters)
    return time.perf_counter() - start


def main() -> int:
    """Measure, print a table, and compare with the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    nncf.set_log_level(logging.ERROR)

    data = [{"input": image[np.newaxis]} for image in images(arguments.samples, image_size=arguments.image_size)]
    models = {name: build(image_size=arguments.image_size) for name, build in NETWORKS.items()}
    contexts: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
        "plain": contextlib.nullcontext,
        "served": accelerate,
    }
    calls = [(case, way) for case in GOALS for way in contexts] * arguments.rounds
    random.Random(0).shuffle(calls)
    times: dict[tuple[tuple[str, str], str], list[float]] = {}
    for network in models.values():
        seconds(network, data[:2], "MEAN_QUANTILE")  # nncf imports and compiles patterns at its first call
    for case, way in calls:
        with contexts[way]():
            times.setdefault((case, way), []).append(seconds(models[case[0]], data, case[1]))

    table = Table(title=f"nncf.quantize, {arguments.samples} images of {arguments.image_size} x {arguments.image_size}")
    for heading in ("network", "estimator", "nncf", "served by quantstats", "times as fast", "goal"):
        table.add_column(heading, justify="left" if heading in ("network", "estimator") else "right")
    met = True
    for (network, estimator), goal in GOALS.items():
        plain, served = (statistics.median(times[(network, estimator), way]) for way in contexts)
        met &= plain / served >= goal
        mark = "pass" if plain / served >= goal else "short"
        table.add_row(
            network, estimator, f"{plain:.1f} s", f"{served:.1f} s", f"{plain / served:.2f}", f"{goal:.1f} {mark}"
        )
    Console().print(table)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
