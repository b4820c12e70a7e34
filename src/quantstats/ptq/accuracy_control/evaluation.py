"""Calling the validation function of a user, and what is learnt from the runs that it makes."""

from __future__ import annotations

import enum
import heapq
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quantstats.adapters.protocol import Array, Runnable, Sample
from quantstats.errors import DataError, ParameterError
from quantstats.ptq.accuracy_control.output_noise import ReferenceOutputs, fingerprint, normalized_error
from quantstats.ptq.accuracy_control.validation_data import ValidationData
from quantstats.ptq.dataset import normalize_sample
from quantstats.ptq.graph import QuantizationGraph

# A trial ends when the standard error of its mean is below this share of the mean, after so many runs at least.
_CERTAINTY = 0.1
_FEWEST_RUNS = 32

_RETURN = "a metric, or a metric and a list with a number or the outputs of each item"


class ValidatedModel:
    """What a validation function gets: a model to call, the same for every framework.

    ``model(feed)``, or ``model.run(feed)``, runs it once and returns its outputs by name. A feed is what a sample of
    calibration is: a mapping from names of inputs to arrays, a list of arrays, or one array for a model with one input.
    A mapping may hold more, such as a label, which is not read.

    :param runnable: The model.
    :param graph: The graph of the original.
    :param observe: Told of every run.
    """

    def __init__(
        self, runnable: Runnable, graph: QuantizationGraph, observe: Callable[[Sample, Mapping[str, Array]], None]
    ) -> None:
        self._runnable = runnable
        self._graph = graph
        self._observe = observe
        self._runs = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(self._runnable.inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(self._runnable.outputs)

    def __call__(self, feed: Any) -> dict[str, Array]:
        """Return the outputs by name.

        :raises DataError: if the feed does not fit the model.
        """
        if isinstance(feed, Mapping):
            feed = {name: feed[name] for name in self._graph.inputs if name in feed}
        sample = normalize_sample(feed, self._graph, self._runs)
        outputs = self._runnable(sample)
        self._runs += 1
        self._observe(sample, outputs)
        # The arrays of a runnable are the caller's until its next call only; a validation function may gather them.
        return {name: np.array(value) for name, value in outputs.items()}

    def run(self, feed: Any) -> dict[str, Array]:
        """Return the outputs by name; the same as calling the model."""
        return self(feed)


class ValueKind(enum.Enum):
    """What a validation function returns besides the metric.

    :param NOTHING: The metric alone.
    :param NUMBERS: A number for each item: the more, the better.
    :param OUTPUTS: One array, or several, for each item.
    """

    NOTHING = "nothing"
    NUMBERS = "numbers"
    OUTPUTS = "outputs"


@dataclass(frozen=True)
class HurtRun:
    """A run of the validation in which the quantized model differs from the original.

    :param key: Tells the sample from others.
    :param sample: What both were fed.
    :param reference: The outputs of the original.
    :param noise: The error of the quantized one, see :func:`normalized_error`.
    """

    key: bytes
    sample: Sample
    reference: tuple[Array, ...]
    noise: float


@dataclass
class Outcome:
    """The result of one call of the validation function.

    :param metric: The more, the better.
    :param kind: What there is besides.
    :param numbers: A number for each item, or empty.
    :param outputs: Arrays for each item, or empty.
    :param runs: How often the model was run.
    :param noise: Mean of :func:`normalized_error` over the runs that the original made too; ``None`` if there is none.
    :param hurt: Those of them with the largest errors, if they were asked for; the worst first.
    """

    metric: float
    kind: ValueKind
    numbers: list[float] = field(default_factory=list)
    outputs: list[tuple[Array, ...]] = field(default_factory=list)
    runs: int = 0
    noise: float | None = None
    hurt: list[HurtRun] = field(default_factory=list)


class Evaluator:
    """Validates models with the function of a user.

    :param validation_fn: Called with a :class:`ValidatedModel` and the items.
    :param data: The validation data.
    :param graph: The graph of the original.
    """

    def __init__(
        self, validation_fn: Callable[[Any, Iterable[Any]], Any], data: ValidationData, graph: QuantizationGraph
    ) -> None:
        self._validation_fn = validation_fn
        self._data = data
        self._graph = graph
        self._reference = ReferenceOutputs()
        #: how often a model was run, in any call
        self.runs = 0

    def validate_original(self, runnable: Runnable) -> Outcome:
        """Validate the floating-point model on all items and remember its outputs.

        :raises ParameterError: if the function returns what is no metric.
        :raises DataError: if the function does not run the model.
        """
        self._reference = ReferenceOutputs()

        def remember(sample: Sample, outputs: Mapping[str, Array]) -> None:
            self._reference.add(fingerprint(sample, self._graph.inputs), outputs)

        outcome = self._call(runnable, remember, None)
        if outcome.runs == 0:
            raise DataError(
                "validation_fn did not run the model: the validation data are empty, or it does not call its first "
                "argument; give at least one item, and call the model with the inputs of each"
            )
        return outcome

    def validate(self, runnable: Runnable, indices: Sequence[int] | None = None, *, keep: int = 0) -> Outcome:
        """Validate a quantized model and compare its outputs with those of the original.

        :param runnable: The model.
        :param indices: Positions of the items, ascending; ``None`` for all.
        :param keep: How many of the runs that are hurt most to keep.
        :raises ParameterError: if the function returns what is no metric.
        """
        noises: list[float] = []
        worst: list[tuple[float, int, HurtRun]] = []

        def compare(sample: Sample, outputs: Mapping[str, Array]) -> None:
            key = fingerprint(sample, self._graph.inputs)
            reference = self._reference.get(key)
            if reference is None:
                return
            noise = normalized_error(reference, outputs.values())
            noises.append(noise)
            order = -len(noises)  # of equal ones the earliest stays
            if keep and (len(worst) < keep or (noise, order) > worst[0][:2]):
                kept = HurtRun(key, {name: np.array(value) for name, value in sample.items()}, reference, noise)
                (heapq.heappush if len(worst) < keep else heapq.heapreplace)(worst, (noise, order, kept))

        outcome = self._call(runnable, compare, indices)
        outcome.noise = math.fsum(noises) / len(noises) if noises else None
        outcome.hurt = [run for _, _, run in sorted(worst, key=lambda entry: entry[:2], reverse=True)]
        return outcome

    def rerun(self, runnable: Runnable, runs: Sequence[HurtRun]) -> float:
        """Return the mean :func:`normalized_error` of a model over some runs, without the validation function.

        Not all are made if the mean is certain before: if its standard error falls below a tenth of it. The order
        must not follow the noise.
        """
        mean, squares = 0.0, 0.0
        for count, run in enumerate(runs, 1):
            noise = normalized_error(run.reference, runnable(run.sample).values())
            self.runs += 1
            # Welford's update of the mean and of the sum of squared deviations.
            step = noise - mean
            mean += step / count
            squares += step * (noise - mean)
            if count >= _FEWEST_RUNS and squares <= (_CERTAINTY * mean) ** 2 * count * (count - 1):
                break
        return mean

    def _call(
        self,
        runnable: Runnable,
        observe: Callable[[Sample, Mapping[str, Array]], None],
        indices: Sequence[int] | None,
    ) -> Outcome:
        runs = 0

        def count(sample: Sample, outputs: Mapping[str, Array]) -> None:
            nonlocal runs
            runs += 1
            self.runs += 1
            observe(sample, outputs)

        items = self._data.items(indices)
        outcome = _parsed(self._validation_fn(ValidatedModel(runnable, self._graph, count), items))
        outcome.runs = runs
        expected = self._data.length_hint() if indices is None else len(indices)
        found = len(outcome.numbers) or len(outcome.outputs)
        if outcome.kind is not ValueKind.NOTHING and expected is not None and found != expected:
            raise ParameterError(
                f"validation_fn returned {found} values for {expected} items; return one for each, or the metric alone"
            )
        return outcome


def _parsed(result: Any) -> Outcome:
    values = None
    if isinstance(result, tuple):
        if len(result) != 2:
            raise ParameterError(f"validation_fn returned a tuple of {len(result)}; return {_RETURN}")
        result, values = result
    metric = None if isinstance(result, bool) else _number(result)
    if metric is None:
        raise ParameterError(f"validation_fn returned {_shown(result)} as the metric; return {_RETURN}")
    if not math.isfinite(metric):
        raise ParameterError(
            f"validation_fn returned the metric {metric}, which cannot be compared; return a finite number: the more, "
            "the better"
        )
    if values is None:
        return Outcome(metric, ValueKind.NOTHING)
    if not isinstance(values, (list, tuple, np.ndarray)):
        raise ParameterError(f"validation_fn returned {_shown(values)} as the values of the items; return {_RETURN}")
    if len(values) == 0:
        return Outcome(metric, ValueKind.NOTHING)
    found = [_number(value) for value in values]
    if all(number is not None for number in found):
        bad = next((index for index, number in enumerate(found) if not math.isfinite(number or 0.0)), None)
        if bad is not None:
            raise ParameterError(
                f"validation_fn returned {found[bad]} as the value of item {bad}; return a finite number: the more, "
                "the better"
            )
        return Outcome(metric, ValueKind.NUMBERS, numbers=[number for number in found if number is not None])
    return Outcome(metric, ValueKind.OUTPUTS, outputs=[_arrays(value, index) for index, value in enumerate(values)])


def _number(value: Any) -> float | None:
    """The number that a value is, or holds as its only element: of Python, NumPy, or a framework's tensor."""
    if isinstance(value, (str, bytes, dict, list, tuple)) or value is None:
        return None
    if isinstance(value, numbers.Real):
        return float(value)
    try:
        array = np.asarray(value)
        return float(array.reshape(())) if array.size == 1 and array.dtype.kind in "biuf" else None
    except (TypeError, ValueError, RuntimeError):
        return None


def _arrays(value: Any, index: int) -> tuple[Array, ...]:
    pieces = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else [value]
    arrays = []
    for piece in pieces:
        try:
            array = np.asarray(piece)
        except (TypeError, ValueError, RuntimeError):
            array = np.asarray(None)
        if array.dtype.kind not in "biuf" and "float" not in array.dtype.name:
            raise ParameterError(
                f"validation_fn returned {_shown(piece)} as an output of item {index}; return {_RETURN}"
            )
        arrays.append(array)
    return tuple(arrays)


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"a {type(value).__name__}, {text if len(text) <= 60 else text[:57] + '...'}"


__all__ = ["Evaluator", "HurtRun", "Outcome", "ValidatedModel", "ValueKind"]
