"""Two models side by side on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from quantstats.report.accuracy import count_correct
from quantstats.report.sqnr import OutputError, output_error
from quantstats.report.summary import Pair

Array = NDArray[Any]
Runner = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How the outputs of two models compare.

    :param samples: Number of samples compared.
    :param outputs: Error of each output, by name.
    :param accuracy: Top-1 accuracy of both, in [0, 1]; ``None`` without labels.
    """

    samples: int
    outputs: Mapping[str, OutputError]
    accuracy: Pair | None


def evaluate(fp32: Runner, int8: Runner, batches: Iterable[Mapping[str, Array]], labels: Array | None) -> Evaluation:
    """Run both models on every batch and compare their outputs.

    :param fp32: The original: from a batch (an array for each input) to an array for each output.
    :param int8: The quantized model.
    :param batches: Axis 0 of every array counts the samples.
    :param labels: A label for each sample that the batches hold, in their order, or ``None``. The first output then
        holds the scores, shape [samples, classes].
    :raises ValueError: Outputs, or labels and scores, do not belong together.
    """
    errors: dict[str, OutputError] = {}
    samples = fp32_correct = int8_correct = 0
    for batch in batches:
        size = next(iter(batch.values())).shape[0]
        expected, actual = fp32(batch), int8(batch)
        for name, reference in expected.items():
            error = output_error(reference, actual[name])
            errors[name] = errors[name] + error if name in errors else error
        if labels is not None:
            scores = next(iter(expected))
            part = labels[samples : samples + size]
            fp32_correct += count_correct(expected[scores], part)
            int8_correct += count_correct(actual[scores], part)
        samples += size
    accuracy = Pair(fp32_correct / samples, int8_correct / samples) if labels is not None and samples else None
    return Evaluation(samples, errors, accuracy)


__all__ = ["Evaluation", "Runner", "evaluate"]
