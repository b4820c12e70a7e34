"""AUTO against MEAN_MINMAX, MINMAX and HISTOGRAM: how close int8 outputs are to those in fp32, and what it costs.

Models: the digits CNN and transformer on their test set, with accuracy, and networks of the shapes of ResNet-18,
MobileNetV2 and BERT with seeded weights on inputs that calibration does not see. Each is calibrated on several random
subsets, quantized from the statistics of each with every estimator, all else at its default, and run.

A difference of output SQNR between two quantized models has noise: another range rounds all values differently, and the
sum of many small errors differs by chance. What the table calls *noise* is the standard error of the mean difference
over the subsets. The criterion is that no mean difference lies below -0.1 dB by more than its noise.

    python benchmarks/auto_estimator.py [--subsets 8] [--models digits_cnn ...] [--no-times]

Exit status 1 if AUTO is worse on any model.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import quantstats as qs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.networks.bert import bert_like
from benchmarks.networks.inputs import images, tokens
from benchmarks.networks.mobilenet import mobilenet_v2
from benchmarks.networks.resnet import resnet18

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
RIVALS = ("MEAN_MINMAX", "MINMAX", "HISTOGRAM")
ESTIMATORS = ("AUTO", *RIVALS)
WORST_DB = -0.1
IMAGE_SIZE = 96
ROUNDS = 5

Sample = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Case:
    """A model, what it is calibrated and tested on, and how many samples a subset has."""

    model: onnx.ModelProto
    calibration: Sequence[Sample]
    test: Sequence[Sample]
    subset: int
    labels: NDArray[np.int64] | None = None
    model_type: qs.ModelType | None = None


def digits(name: str, model_type: qs.ModelType | None) -> Case:
    """An example model."""
    test = np.load(DIGITS / "test.npz")
    seen = [{"image": image[np.newaxis]} for image in np.load(DIGITS / "calibration.npz")["image"]]
    return Case(onnx.load(DIGITS / f"{name}.onnx"), seen, [{"image": test["image"]}], 40, test["label"], model_type)


def network(model: onnx.ModelProto, data: NDArray[np.generic], model_type: qs.ModelType | None = None) -> Case:
    """A network with seeded weights; the last quarter of the data tests it."""
    samples = [{model.graph.input[0].name: item[np.newaxis]} for item in data]
    seen = len(samples) * 3 // 4
    return Case(model, samples[:seen], samples[seen:], 12, None, model_type)


CASES = {
    "digits_cnn": lambda: digits("digits_cnn", None),
    "digits_transformer": lambda: digits("digits_transformer", qs.ModelType.TRANSFORMER),
    "resnet18": lambda: network(resnet18(image_size=IMAGE_SIZE, num_classes=100), images(80, IMAGE_SIZE)),
    "mobilenet_v2": lambda: network(mobilenet_v2(image_size=IMAGE_SIZE, num_classes=100), images(80, IMAGE_SIZE)),
    "bert_like": lambda: network(bert_like(), tokens(80), qs.ModelType.TRANSFORMER),
}


def outputs(model: onnx.ModelProto, samples: Sequence[Sample]) -> NDArray[np.float64]:
    """First output for all samples, [items, values]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = [session.run(None, sample)[0] for sample in samples]
    return np.concatenate([value.reshape(len(value), -1) for value in found]).astype(np.float64)


def advanced(estimator: str) -> qs.AdvancedQuantizationParameters:
    """All at its default but the estimator of activations."""
    params = getattr(qs.RangeEstimatorParametersSet, estimator)
    return qs.AdvancedQuantizationParameters(activations_range_estimator_params=params)


def measure(case: Case, subsets: int) -> dict[str, tuple[NDArray[np.float64], float | None]]:
    """Output SQNR of every subset, and mean accuracy, by estimator."""
    reference = outputs(case.model, case.test)
    sqnr: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    accuracy: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for subset in range(subsets):
        chosen = np.random.default_rng(subset).permutation(len(case.calibration))[: case.subset]
        statistics = qs.calibrate(
            case.model, [case.calibration[i] for i in chosen], model_type=case.model_type, progress=False
        )
        for name in ESTIMATORS:
            int8 = qs.quantize(
                case.model,
                statistics=statistics,
                model_type=case.model_type,
                advanced_parameters=advanced(name),
                progress=False,
            )
            found = outputs(int8, case.test)
            noise = np.sum((reference - found) ** 2)
            sqnr[name].append(float(10 * np.log10(np.sum(reference**2) / noise)))
            if case.labels is not None:
                accuracy[name].append(float(np.mean(found.argmax(axis=1) == case.labels)))
    return {
        name: (np.array(sqnr[name]), float(np.mean(accuracy[name])) if accuracy[name] else None) for name in ESTIMATORS
    }


def cost(case: Case) -> float:
    """CPU time of quantizing from data with AUTO against MEAN_MINMAX, the least of several rounds."""
    data = case.calibration[: case.subset]
    order = ["AUTO", "MEAN_MINMAX"] * ROUNDS
    random.Random(0).shuffle(order)
    times: dict[str, list[float]] = {name: [] for name in order}
    for name in order:
        start = time.process_time()
        qs.quantize(case.model, data, model_type=case.model_type, advanced_parameters=advanced(name), progress=False)
        times[name].append(time.process_time() - start)
    return min(times["AUTO"]) / min(times["MEAN_MINMAX"])


def main() -> int:
    """Print the tables, and compare with the criterion."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--subsets", type=int, default=8)
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--times", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    if arguments.subsets < 2:
        parser.error(f"--subsets {arguments.subsets} leaves no noise to tell; give at least 2")

    table = Table("model", "AUTO", title=f"output SQNR against fp32 in dB, mean of {arguments.subsets} subsets")
    for rival in RIVALS:
        table.add_column(rival, justify="right")
        table.add_column("AUTO better by", justify="right")
    table.add_column("accuracy, AUTO / " + " / ".join(RIVALS))
    table.add_column("CPU time, AUTO : MEAN_MINMAX", justify="right")
    worst = np.inf
    for name in arguments.models:
        case = CASES[name]()
        found = measure(case, arguments.subsets)
        row = [name, f"{found['AUTO'][0].mean():.2f}"]
        for rival in RIVALS:
            difference = found["AUTO"][0] - found[rival][0]
            error = difference.std(ddof=1) / np.sqrt(arguments.subsets)
            worst = min(worst, float(difference.mean() + error))
            row += [f"{found[rival][0].mean():.2f}", f"{difference.mean():+.2f} (noise {error:.2f})"]
        accuracies = [found[estimator][1] for estimator in ESTIMATORS]
        row.append(" / ".join(f"{100 * value:.2f} %" for value in accuracies if value is not None))
        row.append(f"{cost(case):.2f}" if arguments.times else "")
        table.add_row(*row)
    Console(width=200).print(table)
    print(f"least mean difference plus noise: {worst:+.2f} dB (criterion: at least {WORST_DB} dB)")
    return 0 if worst >= WORST_DB else 1


if __name__ == "__main__":
    sys.exit(main())
