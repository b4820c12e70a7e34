"""Accuracy control on the command line: a validation function by its name, or the accuracy on labelled samples."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from quantstats.advanced_parameters import AdvancedAccuracyRestorerParameters
from quantstats.cli.data import Batches, SampleFiles
from quantstats.errors import DataError, ParameterError
from quantstats.parameters import DropType
from quantstats.report.accuracy import count_correct

Array = NDArray[Any]
ValidationFunction = Callable[[Any, Iterable[Any]], Any]


@dataclass(frozen=True, slots=True)
class AccuracyTarget:
    """How much the quantized model may lose, and of what.

    :param max_drop: Largest drop of the metric.
    :param drop_type: How it is measured.
    :param validation: The function that returns the metric, as ``module:function``; ``None`` for the top-1 accuracy.
    :param validation_data: Samples to validate on; ``None`` for those that the models are compared on.
    :param restorer: How accuracy is restored.
    """

    max_drop: float
    drop_type: DropType = DropType.ABSOLUTE
    validation: str | None = None
    validation_data: Path | None = None
    restorer: AdvancedAccuracyRestorerParameters | None = None


class LabelledBatches:
    """Batches as a validation function gets them: an array for each input, and the labels under their name.

    :param files: The samples.
    :param batches: Those of them to validate on.
    """

    def __init__(self, files: SampleFiles, batches: Batches) -> None:
        self._files = files
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        start = self._batches.start
        for batch in self._batches:
            stop = start + next(iter(batch.values())).shape[0]
            if self._files.labels_name is None:
                yield batch
            else:
                yield {**batch, self._files.labels_name: self._files.labels(start, stop)}
            start = stop


def validation_function(target: AccuracyTarget, labels: str | None) -> ValidationFunction:
    """Return the function that the target names, or the top-1 accuracy on the labels.

    :param labels: Name of the array with the labels, if there is one.
    :raises ParameterError: if there is no such function, or neither a function nor labels.
    """
    if target.validation is not None:
        return _function(target.validation)
    if labels is None:
        raise ParameterError(
            "--max-drop needs something to measure the drop by; give --validation module:function, or --labels with "
            "the name of the array that holds the labels"
        )
    return _top1(labels)


def _function(name: str) -> ValidationFunction:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ParameterError(f"--validation {name!r} does not name a function; write it as module:function")
    # As `python -m` does: modules beside the data are found, which an installed script does not look for.
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ParameterError(
            f"--validation {name!r}: module {module_name!r} cannot be imported ({error}); give one that is in this "
            "directory or installed"
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ParameterError(
            f"--validation {name!r}: module {module_name!r} has no function {attribute!r}; give one that takes a model "
            "and an iterable of samples"
        )
    function: ValidationFunction = found
    return function


def _top1(labels: str) -> ValidationFunction:
    def top1_accuracy(model: Any, batches: Iterable[Mapping[str, Array]]) -> float:
        """Share of the labels that have the highest score in the first output."""
        correct = count = 0
        for batch in batches:
            scores = model(batch)[model.outputs[0]]
            try:
                correct += count_correct(scores, batch[labels])
            except ValueError as error:
                raise DataError(f"the accuracy cannot be measured on labels {labels!r}: {error}") from error
            count += batch[labels].size
        return correct / count

    return top1_accuracy


__all__ = ["AccuracyTarget", "LabelledBatches", "validation_function"]
