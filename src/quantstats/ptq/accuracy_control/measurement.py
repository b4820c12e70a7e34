"""Measuring plans: on all validation data, and, much cheaper, on the samples that quantization hurt most."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from quantstats.adapters.protocol import ModelAdapter, Runnable
from quantstats.errors import DataError, ParameterError
from quantstats.parameters import DropType
from quantstats.ptq.accuracy_control.drop import accuracy_drop, is_within
from quantstats.ptq.accuracy_control.evaluation import Evaluator, HurtRun, Outcome, ValueKind
from quantstats.ptq.accuracy_control.groups import Group
from quantstats.ptq.accuracy_control.journal import Journal
from quantstats.ptq.accuracy_control.output_noise import normalized_error
from quantstats.ptq.accuracy_control.progress import Progress
from quantstats.ptq.accuracy_control.report import Step
from quantstats.ptq.plan import QuantizationPlan

_logger = logging.getLogger(__name__)

_ALLOWED = "within max_drop"
_TOO_MUCH = "more than max_drop"


class Score(NamedTuple):
    """How much a plan hurts on the ranking subset; the less, the better, compared in this order.

    :param error: The metric with its sign changed, or the error of the outputs, by what the validation function gives.
    :param noise: The error of the model's outputs, which tells plans with the same metric apart.
    """

    error: float
    noise: float


@dataclass(frozen=True)
class Trial:
    """A plan to be measured on the ranking subset.

    :param purpose: Why, for the journal.
    :param name: What is tried, for the journal.
    :param plan: With all its numbers.
    """

    purpose: str
    name: str
    plan: QuantizationPlan


@dataclass(frozen=True)
class Candidate:
    """A plan that was validated.

    :param plan: With all its numbers.
    :param settings: How it quantizes, in words.
    :param reverted: The groups that it leaves in floating point.
    :param metric: What the validation function returned.
    :param drop: The drop.
    :param passes: Whether the drop is allowed.
    """

    plan: QuantizationPlan
    settings: str
    reverted: tuple[Group, ...]
    metric: float
    drop: float
    passes: bool


@dataclass(frozen=True)
class Focus:
    """What the ranking subset is taken from.

    :param candidate: The plan that hurts the samples.
    :param outcome: Its validation; ``None`` if that is from a journal, and is repeated once it is needed.
    """

    candidate: Candidate
    outcome: Outcome | None


class Measurement:
    """Measures plans of one model, or takes the results of an earlier run from its journal.

    :param adapter: The model.
    :param evaluator: The validation function and its data.
    :param journal: Where every result goes.
    :param max_drop: The drop that is allowed.
    :param drop_type: How it is measured.
    :param subset_size: Number of samples in the ranking subset.
    :param workers: How many models are prepared ahead by threads while one is measured.
    :param progress: Told of every result.
    """

    def __init__(
        self,
        adapter: ModelAdapter[Any],
        evaluator: Evaluator,
        journal: Journal,
        *,
        max_drop: float,
        drop_type: DropType,
        subset_size: int,
        workers: int,
        progress: Progress,
    ) -> None:
        self._adapter = adapter
        self._evaluator = evaluator
        self._journal = journal
        #: the drop that is allowed
        self.max_drop = max_drop
        self._drop_type = drop_type
        self._subset_size = subset_size
        self._workers = workers
        self._progress = progress
        self._fp32_metric = 0.0
        self._kind = ValueKind.NOTHING
        self._original: Outcome | None = None
        self._focus: Focus | None = None
        self._measure: Callable[[Runnable], Score] | None = None
        #: all validations of quantized models
        self.steps: list[Step] = []
        #: all of them as candidates
        self.candidates: list[Candidate] = []
        #: models measured on the ranking subset
        self.trials = 0

    def validate_original(self) -> float:
        """Validate the floating-point model and return its metric."""

        def measure() -> dict[str, Any]:
            self._original = self._evaluator.validate_original(self._adapter.runnable())
            return {"metric": self._original.metric, "values": self._original.kind.value}

        self._progress("Validating", 0, None, "fp32")
        found = self._journal.take({"step": "validation", "settings": "fp32", "reverted": []}, measure)
        self._fp32_metric, self._kind = found["metric"], ValueKind(found["values"])
        self._progress("Validating", 1, None, f"fp32: {self._fp32_metric:g}")
        return self._fp32_metric

    def validate(
        self, plan: QuantizationPlan, settings: str, reverted: tuple[Group, ...] = (), *, focus: bool = False
    ) -> Candidate:
        """Validate a plan on all validation data.

        :param settings: How the plan quantizes, in words.
        :param reverted: The groups that it leaves in floating point.
        :param focus: Take the ranking subset from the samples that this plan hurts most.
        """
        names = [group.name for group in reverted]
        outcome: Outcome | None = None

        def measure() -> dict[str, Any]:
            nonlocal outcome
            outcome = self._validate(plan, keep=focus)
            drop = accuracy_drop(self._fp32_metric, outcome.metric, self._drop_type)
            passes = is_within(drop, self.max_drop)
            return {"metric": outcome.metric, "drop": drop, "decision": _ALLOWED if passes else _TOO_MUCH}

        step = {"step": "validation", "settings": settings, "reverted": names}
        found = self._journal.take(step, measure)
        passes = is_within(found["drop"], self.max_drop)
        candidate = Candidate(plan, settings, reverted, found["metric"], found["drop"], passes)
        self.candidates.append(candidate)
        self.steps.append(Step(settings, tuple(names), candidate.metric, candidate.drop, found["decision"]))
        what = f"{len(names)} groups reverted" if names else settings
        self._progress("Validating", len(self.steps) + 1, None, f"{what}: {candidate.metric:g}")
        if focus:
            # Without the outputs of the original there was nothing to compare with.
            self.focus(Focus(candidate, None if self._original is None else outcome))
        return candidate

    @property
    def focused(self) -> Focus:
        """What the ranking subset is taken from."""
        assert self._focus is not None
        return self._focus

    def focus(self, focus: Focus) -> None:
        """Take the ranking subset from the samples that a candidate hurts most."""
        self._focus, self._measure = focus, None

    def scores(self, trials: Sequence[Trial]) -> list[Score]:
        """Measure plans on the ranking subset."""
        found: list[Score] = []
        measured: Iterator[Score] | None = None
        for index, trial in enumerate(trials):
            step = {"step": "trial", "purpose": trial.purpose, "name": trial.name}
            result = self._journal.replay(step)
            if result is None:
                if measured is None:
                    measured = self._measured([later.plan for later in trials[index:]])
                score = next(measured)
                result = self._journal.take(step, score._asdict)
            found.append(Score(result["error"], result["noise"]))
            self.trials += 1
            self._progress(trial.purpose, index + 1, len(trials), trial.name)
        return found

    def _measured(self, plans: Sequence[QuantizationPlan]) -> Iterator[Score]:
        measure = self._measure or self._start()
        yield from map(measure, self._prepared(plans))

    def _validate(self, plan: QuantizationPlan, *, keep: bool) -> Outcome:
        outcome = self._evaluator.validate(self._adapter.runnable(plan), keep=self._subset_size if keep else 0)
        if outcome.kind is not self._kind:
            raise ParameterError(
                f"validation_fn returned {self._kind.value} besides the metric for the floating-point model, and "
                f"{outcome.kind.value} for a quantized one; return the same for all models"
            )
        return outcome

    def _prepared(self, plans: Sequence[QuantizationPlan]) -> Iterator[Runnable]:
        """Yield the models of plans in order, made ahead by threads if there are several workers."""
        if self._workers == 1:
            yield from map(self._adapter.runnable, plans)
            return
        with ThreadPoolExecutor(self._workers) as pool:
            waiting: deque[Future[Runnable]] = deque()
            for plan in plans:
                waiting.append(pool.submit(self._adapter.runnable, plan))
                if len(waiting) == self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    # The ranking subset

    def _start(self) -> Callable[[Runnable], Score]:
        """Choose the ranking subset and return how a model is measured on it."""
        candidate, quantized = self.focused.candidate, self.focused.outcome
        original = self._original
        if original is None:
            # The results are from a journal, and what the model computed is not in there.
            original = self._original = self._evaluator.validate_original(self._adapter.runnable())
            _check_repeated("the floating-point model", original.metric, self._fp32_metric)
            quantized = None
        if quantized is None:
            quantized = self._validate(candidate.plan, keep=True)
            _check_repeated("the quantized model", quantized.metric, candidate.metric)
            self._focus = Focus(candidate, quantized)
        if self._kind is ValueKind.NUMBERS:
            lost = [x - y for x, y in zip(original.numbers, quantized.numbers, strict=True)]
            self._measure = self._by_metric(_largest(lost, self._subset_size))
        elif self._kind is ValueKind.OUTPUTS:
            pairs = zip(original.outputs, quantized.outputs, strict=True)
            indices = _largest([_error(x, y) for x, y in pairs], self._subset_size)
            self._measure = self._by_outputs(indices, original)
        else:
            # In the order of their hashes, which is none: whatever part of them is run stands for all.
            self._measure = self._by_runs(sorted(quantized.hurt, key=lambda run: run.key))
        return self._measure

    def _by_metric(self, indices: list[int]) -> Callable[[Runnable], Score]:
        def measure(runnable: Runnable) -> Score:
            outcome = self._evaluator.validate(runnable, indices)
            return Score(-outcome.metric, outcome.noise or 0.0)

        return measure

    def _by_outputs(self, indices: list[int], original: Outcome) -> Callable[[Runnable], Score]:
        reference = [original.outputs[index] for index in indices]

        def measure(runnable: Runnable) -> Score:
            outputs = self._evaluator.validate(runnable, indices).outputs
            error = sum(_error(x, y) for x, y in zip(reference, outputs, strict=True)) / len(reference)
            return Score(error, error)

        return measure

    def _by_runs(self, runs: list[HurtRun]) -> Callable[[Runnable], Score]:
        if not runs:
            _logger.warning(
                "validation_fn feeds the quantized model other data than the floating-point one, so their outputs "
                "cannot be compared; groups are ordered by predicted noise alone. Let it feed all models alike, or "
                "return the value of each item"
            )

        def measure(runnable: Runnable) -> Score:
            noise = self._evaluator.rerun(runnable, runs) if runs else 0.0
            return Score(noise, noise)

        return measure


def _largest(values: Sequence[float], count: int) -> list[int]:
    """Positions of the largest values, ascending; of equal values the earliest are taken."""
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))
    return sorted(order[:count])


def _error(reference: tuple[Any, ...], outputs: tuple[Any, ...]) -> float:
    if len(reference) != len(outputs):
        raise ParameterError(
            f"validation_fn returned {len(outputs)} outputs of an item for a quantized model, and {len(reference)} for "
            "the floating-point one; return the same ones for all models"
        )
    return normalized_error(reference, outputs)


def _check_repeated(what: str, metric: float, recorded: float) -> None:
    if metric != recorded:
        raise DataError(
            f"the journal has the metric {recorded!r} of {what}, and validation_fn returns {metric!r} now: data or "
            "function have changed; remove the journal, or choose another directory"
        )


__all__ = ["Candidate", "Focus", "Measurement", "Score", "Trial"]
