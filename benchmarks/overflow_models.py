"""Whole models by overflow fix, on this CPU with VNNI and with it hidden, and what the simulator says of it.

The digits models on their test samples and a ResNet-18 with seeded weights on random images, each quantized with every
fix; the SQNR of the outputs against floating point, in dB, over all samples. Without VNNI onnxruntime runs in
a process from which it is hidden (see `benchmarks.plain_path`): first AVX-512 stays, then AVX2 alone.

    python -m benchmarks.overflow_models [--samples 1000] [--image-size 64] [--seed 0]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import quantstats as qs
from benchmarks.networks import images, resnet18
from benchmarks.plain_path import Hidden, PlainPath
from quantstats.adapters.onnx import OnnxAdapter
from quantstats.adapters.onnx.saturation import SaturatingModel
from quantstats.overflow import PAIRINGS, LayerKind, analyze

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
FIXES = (
    (qs.OverflowFix.DISABLE, "any"),
    (qs.OverflowFix.FIRST_LAYER, "any"),
    (qs.OverflowFix.ENABLE, "any"),
    (qs.OverflowFix.AUTO, "any"),
    (qs.OverflowFix.AUTO, "adjacent"),
    (qs.OverflowFix.AUTO, "onnxruntime"),
)
# As many images as the digits models have samples to calibrate with take minutes.
CALIBRATION_IMAGES, TEST_IMAGES = 64, 64

Array = NDArray[Any]


@dataclass(frozen=True)
class Network:
    """A network and its data.

    :param samples: to calibrate with.
    :param test: unseen ones, as one batch.
    """

    name: str
    model: onnx.ModelProto
    samples: list[Array]
    test: Array
    family: qs.ModelType | None = None


@dataclass(frozen=True)
class Row:
    """A network with one fix.

    :param at_risk: integer layers that some input can saturate with the pairs that onnxruntime adds up.
    :param layers: all of them.
    :param sqnr: in dB, by what is hidden from onnxruntime.
    :param simulated: in dB, as the simulator has it.
    """

    network: str
    fix: str
    at_risk: int
    layers: int
    sqnr: dict[Hidden, float]
    simulated: float


def digits(name: str, samples: int) -> Network:
    """One of the digits models, ``"digits_cnn"`` or ``"digits_transformer"``."""
    model = onnx.load(DIGITS / f"{name}.onnx")
    key = model.graph.input[0].name
    with np.load(DIGITS / "calibration.npz") as calibration, np.load(DIGITS / "test.npz") as test:
        data = [sample[None] for sample in calibration[key]]
        family = qs.ModelType.TRANSFORMER if name == "digits_transformer" else None
        return Network(name, model, data, test[key][:samples], family)


def resnet(samples: int, image_size: int, seed: int) -> Network:
    """ResNet-18 with seeded weights."""
    calibration = [image[None] for image in images(CALIBRATION_IMAGES, image_size, seed=5)]
    test = images(min(samples, TEST_IMAGES), image_size, seed=6)
    return Network("resnet18", resnet18(image_size=image_size, seed=seed), calibration, test)


def measure(network: Network, plain_path: PlainPath) -> Iterator[Row]:
    """Quantize a network with every fix and run it."""
    adapter = OnnxAdapter(network.model)
    (output,) = adapter.graph().outputs
    feed = {network.model.graph.input[0].name: network.test}
    reference = adapter.run(feed, [output])[output]
    made = {}
    for fix, pairing in FIXES:
        advanced = qs.AdvancedQuantizationParameters(overflow_fix=fix, overflow_pairing=pairing)
        made[f"{fix}, {pairing}" if fix is qs.OverflowFix.AUTO else str(fix)] = qs.quantize(
            network.model, network.samples, model_type=network.family, advanced_parameters=advanced, progress=False
        )
    jobs = [(model, [feed]) for model in made.values()]
    found = {hidden: plain_path.run(jobs, hidden) for hidden in Hidden}
    rules = {kind: PAIRINGS["onnxruntime"].rule(kind) for kind in LayerKind}
    for index, (fix_name, model) in enumerate(made.items()):
        report = analyze(model, pairing="onnxruntime")
        yield Row(
            network=network.name,
            fix=fix_name,
            at_risk=len(report.at_risk),
            layers=len(report.layers),
            sqnr={hidden: decibels(reference, results[index][0][0]) for hidden, results in found.items()},
            simulated=decibels(reference, SaturatingModel(model, rules).run(feed)[output]),
        )


def decibels(signal: Array, found: Array) -> float:
    """Signal to noise in dB."""
    signal = signal.astype(np.float64)
    return float(10 * np.log10(np.sum(signal**2) / np.sum((found - signal) ** 2)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000, help=f"most test samples; {TEST_IMAGES} of the ResNet")
    parser.add_argument("--image-size", type=int, default=64, help="of the ResNet")
    parser.add_argument("--seed", type=int, default=0, help="of the ResNet's weights")
    arguments = parser.parse_args()
    table = Table(title="SQNR of outputs against fp32, dB", title_justify="left")
    for column in ("model", "overflow fix", "layers at risk", "VNNI", "AVX-512", "AVX2", "simulated"):
        table.add_column(column, justify="left" if column in ("model", "overflow fix") else "right")
    with tempfile.TemporaryDirectory() as directory:
        plain_path = PlainPath(Path(directory))
        networks = (
            digits("digits_cnn", arguments.samples),
            digits("digits_transformer", arguments.samples),
            resnet(arguments.samples, arguments.image_size, arguments.seed),
        )
        for network in networks:
            for row in measure(network, plain_path):
                values = (row.sqnr[hidden] for hidden in (Hidden.NOTHING, Hidden.VNNI, Hidden.AVX512))
                risk = f"{row.at_risk} of {row.layers}"
                table.add_row(row.network, row.fix, risk, *(f"{v:.2f}" for v in (*values, row.simulated)))
    console = Console(width=120)
    console.print(table)
    console.print(f"VNNI hidden: {plain_path.way}")


if __name__ == "__main__":
    main()
