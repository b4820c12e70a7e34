"""What accuracy control did, as immutable data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from quantstats.parameters import DropType
from quantstats.ptq.plan import QuantizationPlan


@dataclass(frozen=True, slots=True)
class Step:
    """One validation of a quantized model.

    :param settings: How it was quantized, in words.
    :param reverted: The groups that were in floating point, by name, in the order of the ranking.
    :param metric: What the validation function returned.
    :param drop: The drop, see :func:`~quantstats.ptq.accuracy_control.drop.accuracy_drop`.
    :param decision: What followed from it, in words.
    """

    settings: str
    reverted: tuple[str, ...]
    metric: float
    drop: float
    decision: str


@dataclass(frozen=True, slots=True)
class RevertedGroup:
    """Operations that were returned to floating point together.

    :param name: The first of them.
    :param operations: All of them, in topological order.
    """

    name: str
    operations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AccuracyControlReport:
    """The course of a run.

    :param fp32_metric: Metric of the floating-point model.
    :param int8_metric: Metric of the quantized model before anything was changed.
    :param metric: Metric of the result.
    :param drop: Its drop.
    :param max_drop: The drop that was allowed.
    :param drop_type: How it is measured.
    :param reached: Whether the result is within it.
    :param settings: How the result is quantized, in words.
    :param reverted: What is in floating point in the result, the group that int8 hurt most first.
    :param quantized_operations: Number of operations that were quantized before.
    :param steps: All validations of quantized models, in order.
    :param validations: Calls of the validation function on all validation data, with that of the floating-point model.
    :param trials: Models that were measured on the ranking subset.
    :param model_runs: Runs of any model in this process: calibration, validations and trials.
    :param resumed_steps: Results that were taken from the journal of an earlier run in place of being measured.
    """

    fp32_metric: float
    int8_metric: float
    metric: float
    drop: float
    max_drop: float
    drop_type: DropType
    reached: bool
    settings: str
    reverted: tuple[RevertedGroup, ...]
    quantized_operations: int
    steps: tuple[Step, ...]
    validations: int
    trials: int
    model_runs: int
    resumed_steps: int = 0

    @property
    def reverted_operations(self) -> tuple[str, ...]:
        """The operations that are in floating point, group by group."""
        return tuple(operation for group in self.reverted for operation in group.operations)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        return {**dataclasses.asdict(self), "drop_type": self.drop_type.value}


@dataclass(frozen=True)
class AccuracyControlResult:
    """What :func:`~quantstats.restore_accuracy` returns.

    :param model: The quantized model, in the form of the original.
    :param report: What was done, and what it came to.
    :param plan: The plan that the model was emitted from.
    """

    model: Any
    report: AccuracyControlReport
    plan: QuantizationPlan


__all__ = ["AccuracyControlReport", "AccuracyControlResult", "RevertedGroup", "Step"]
