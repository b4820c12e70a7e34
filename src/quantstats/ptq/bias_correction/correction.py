"""From measured shifts to new biases: the threshold, and what was left as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantstats.adapters.protocol import Array, ModelAdapter
from quantstats.ptq.bias_correction.correctable import CorrectableOperation
from quantstats.ptq.plan import QuantizationPlan

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BiasCorrection:
    """What a bias correction did.

    :param plan: The plan with the new biases.
    :param shifts: What was added to the bias of each corrected operation, float32 [channels], by name.
    :param skipped: Why each other operation keeps its bias, by name.
    """

    plan: QuantizationPlan
    shifts: Mapping[str, NDArray[np.float32]]
    skipped: Mapping[str, str]


class Corrections:
    """Collects the shifts of a plan's operations.

    :param adapter: The model, for its biases.
    :param plan: The plan to correct. What it has of biases already is replaced.
    :param threshold: An operation whose largest relative shift reaches it keeps its bias.
    :param relative: The relative shift of each channel, of bias and shift.
    """

    def __init__(
        self,
        adapter: ModelAdapter[Any],
        plan: QuantizationPlan,
        *,
        threshold: float,
        relative: Callable[[Array, Array], Array],
    ) -> None:
        self._adapter = adapter
        self._plan = plan
        self._threshold = threshold
        self._relative = relative
        self._biases: dict[str, NDArray[np.float32]] = {}
        self._shifts: dict[str, NDArray[np.float32]] = {}
        self._skipped: dict[str, str] = {}

    def skip(self, operation: CorrectableOperation, reason: str) -> None:
        """Leave an operation as it is."""
        self._skipped[operation.name] = reason

    def shift(
        self, operation: CorrectableOperation, shift: NDArray[np.float64], *, unit: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32] | None:
        """Shift the bias of an operation, and return by how much; ``None`` if it stays as it is.

        An operation without bias has nothing that a shift could be relative to, so no threshold holds it back.

        :param unit: What the emitted model rounds biases to multiples of; the shift is one from multiple to multiple.
        """
        bias: Array | None = None if operation.bias is None else self._adapter.constant(operation.bias).reshape(-1)
        if bias is None:
            bias = np.zeros(shift.shape, np.float32)
        elif bias.shape != shift.shape:
            self.skip(operation, f"its bias has {bias.size} values, its output {shift.size} channels")
            return None
        else:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                largest = float(np.max(self._relative(bias.astype(np.float64), shift), initial=0.0))
            if not largest < self._threshold:
                self.skip(operation, f"its largest relative shift is {largest:.3g}, the threshold {self._threshold:g}")
                return None
        before = bias if unit is None else (np.rint(bias / unit) * unit).astype(np.float32)
        corrected = (before + shift).astype(np.float32)
        if unit is not None:
            corrected = (np.rint(corrected / unit) * unit).astype(np.float32)
        if not np.isfinite(corrected).all():
            self.skip(operation, "the shift is not finite")
            return None
        self._biases[operation.name] = corrected
        self._shifts[operation.name] = corrected - before
        return self._shifts[operation.name]

    def result(self) -> BiasCorrection:
        """Return the plan with all shifts, and what they are."""
        _logger.info("%d biases corrected, %d left as they are", len(self._biases), len(self._skipped))
        for name, reason in self._skipped.items():
            _logger.debug("the bias of %s is not corrected: %s", name, reason)
        return BiasCorrection(self._plan.with_biases(self._biases), self._shifts, self._skipped)


def channel_mean(x: Array, axis: int) -> NDArray[np.float64]:
    """Mean of each entry of an axis, float64."""
    kept = axis % x.ndim
    mean: NDArray[np.float64] = x.mean(tuple(other for other in range(x.ndim) if other != kept), dtype=np.float64)
    return mean
