"""Time of quantization with accuracy control, and what it costs the model, against nncf in one run.

The digits CNN with 8 % of the activations clipped at either end, which nobody would ask for: accuracy falls by
10 points, and operations have to return to floating point until it is back. Both get the same model, calibration
samples and 400 validation images, and a validation function that gives the same numbers; nncf's has to make a session
of the protobuf that it gets. The rounds are in shuffled order.

    python benchmarks/accuracy_control.py [--rounds 3] [--goal 0.3]

Exit status 1 if quantstats takes more than the goal of nncf's time, reverts more operations, calls the validation
function more than half as often, or is less accurate on the images that neither has seen.
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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
import onnxruntime
from nncf.quantization import advanced_parameters as nncf_parameters
from nncf.quantization import range_estimator as nncf_estimators
from rich.console import Console
from rich.table import Table

import quantstats as qs

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
VALIDATION = 400
CLIPPED = 0.08
MAX_DROP = 0.001


@dataclass
class Cost:
    """What one library needed.

    :param seconds: Wall time of each round.
    :param cpu: Time of all threads of each round.
    :param calls: How many items the validation function got, call by call, in the last round.
    :param reverted: Number of operations in floating point.
    :param accuracy: On the images that neither has seen.
    """

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    reverted: int = 0
    accuracy: float = 0.0

    @property
    def validations(self) -> int:
        """Calls on all validation images."""
        return self.calls.count(VALIDATION)


def clipping(module: Any) -> Any:
    """Range estimators that clip, of either library."""
    bound = module.StatisticsCollectorParameters(
        module.StatisticsType.QUANTILE, module.AggregatorType.MEAN, quantile_outlier_prob=CLIPPED
    )
    return module.RangeEstimatorParameters(min=bound, max=bound)


class Case:
    """The model, its data, and both ways to quantize it."""

    def __init__(self) -> None:
        self.model = onnx.load(DIGITS / "digits_cnn.onnx")
        self.calibration = [{"image": image[np.newaxis]} for image in np.load(DIGITS / "calibration.npz")["image"]]
        with np.load(DIGITS / "test.npz") as test:
            self.images, self.labels = test["image"], test["label"]
        self.items = [(self.images[i : i + 1], self.labels[i]) for i in range(VALIDATION)]

    def quantstats(self, cost: Cost) -> onnx.ModelProto:
        """Quantize with quantstats; the validation function gives the metric alone, so outputs rank the groups."""

        def validate(model: Any, items: Iterable[Any]) -> float:
            right = [float(model(image)["logits"].argmax() == label) for image, label in items]
            cost.calls.append(len(right))
            return float(np.mean(right))

        advanced = qs.AdvancedQuantizationParameters(activations_range_estimator_params=clipping(qs.range_estimator))
        result = qs.restore_accuracy(
            self.model,
            self.calibration,
            self.items,
            validate,
            max_drop=MAX_DROP,
            advanced_quantization_parameters=advanced,
            progress=False,
        )
        cost.reverted = len(result.report.reverted_operations)
        return result.model

    def nncf(self, cost: Cost) -> onnx.ModelProto:
        """Quantize with nncf; the validation function gives the value of each image too, or nncf calls it for each."""

        def validate(model: onnx.ModelProto, items: Iterable[Any]) -> tuple[float, list[float]]:
            session = _session(model)
            right = [float(session.run(None, {"image": image})[0].argmax() == label) for image, label in items]
            cost.calls.append(len(right))
            return float(np.mean(right)), right

        log = _ReportOfNncf()
        nncf.common.logging.nncf_logger.addHandler(log)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # Drawing nncf's progress bar would count as its time.
                model = nncf.quantize_with_accuracy_control(
                    self.model,
                    nncf.Dataset(self.calibration),
                    nncf.Dataset(self.items, lambda item: {"image": item[0]}),
                    validate,
                    max_drop=MAX_DROP,
                    advanced_quantization_parameters=nncf_parameters.AdvancedQuantizationParameters(
                        activations_range_estimator_params=clipping(nncf_estimators)
                    ),
                )
        finally:
            nncf.common.logging.nncf_logger.removeHandler(log)
        cost.reverted = log.reverted
        return model

    def unseen_accuracy(self, model: onnx.ModelProto) -> float:
        """Return the accuracy on the images behind those of the validation."""
        logits = _session(model).run(None, {"image": self.images[VALIDATION:]})[0]
        return float(np.mean(logits.argmax(1) == self.labels[VALIDATION:]))


class _ReportOfNncf(logging.Handler):
    """Counts the operations that nncf says it has reverted; its functions return the model alone."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.reverted = 0

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage().split()
        if words[:1] == ["Reverted"] and words[2:3] == ["operations"]:
            self.reverted += int(words[1])


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def measure(rounds: int) -> dict[str, Cost]:
    """Run both so many times, in shuffled order."""
    case = Case()
    ways: dict[str, Callable[[Cost], onnx.ModelProto]] = {"quantstats": case.quantstats, "nncf": case.nncf}
    for way in ways.values():
        way(Cost())  # Imports and first calls are not what is measured.
    costs = {name: Cost() for name in ways}
    order = [name for name in ways for _ in range(rounds)]
    random.Random(0).shuffle(order)
    for name in order:
        cost = costs[name]
        cost.calls.clear()
        wall, cpu = time.perf_counter(), time.process_time()
        model = ways[name](cost)
        cost.seconds.append(time.perf_counter() - wall)
        cost.cpu.append(time.process_time() - cpu)
        cost.accuracy = case.unseen_accuracy(model)
    return costs


def main() -> int:
    """Measure, print a table, and compare with the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--goal", type=float, default=0.3)
    arguments = parser.parse_args()
    nncf.set_log_level(logging.INFO)
    for handler in nncf.common.logging.nncf_logger.handlers:
        handler.setLevel(logging.ERROR)

    costs = measure(arguments.rounds)
    table = Table(title=f"digits_cnn.onnx, {CLIPPED:.0%} clipped, max_drop {MAX_DROP}, {arguments.rounds} rounds")
    table.add_column("")
    for heading in ("median", "best", "CPU time", "full calls", "all calls", "reverted", "unseen"):
        table.add_column(heading, justify="right")
    for name, cost in costs.items():
        times = (statistics.median(cost.seconds), min(cost.seconds), statistics.median(cost.cpu))
        counts = (cost.validations, len(cost.calls), cost.reverted)
        table.add_row(name, *(f"{t:.2f} s" for t in times), *map(str, counts), f"{cost.accuracy:.4f}")
    Console().print(table)
    print("calls of the validation function, on all images and in all; operations reverted; accuracy on unseen images")

    ours, theirs = costs["quantstats"], costs["nncf"]
    ratio = statistics.median(ours.seconds) / statistics.median(theirs.seconds)
    print(f"ratio of wall time: {ratio:.3f} (goal: at most {arguments.goal})")
    met = (
        ratio <= arguments.goal
        and ours.reverted <= theirs.reverted
        and 2 * len(ours.calls) <= len(theirs.calls)
        and ours.accuracy >= theirs.accuracy
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
