"""Two models, given as functions, on the same batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from quantstats.report.evaluation import evaluate
from quantstats.report.summary import Pair

Batch = Mapping[str, Any]


def exact(batch: Batch) -> Batch:
    return {"scores": batch["x"], "best": batch["x"].argmax(axis=-1)}


def coarse(batch: Batch) -> Batch:
    scores = np.round(batch["x"])
    return {"best": scores.argmax(axis=-1), "scores": scores}


def test_errors_do_not_depend_on_the_batches() -> None:
    x = np.random.default_rng(3).normal(scale=2, size=(10, 4)).astype(np.float32)
    whole = evaluate(exact, coarse, [{"x": x}], labels=None)
    split = evaluate(exact, coarse, [{"x": x[:3]}, {"x": x[3:9]}, {"x": x[9:]}], labels=None)
    assert whole.samples == split.samples == 10
    assert list(whole.outputs) == ["scores", "best"]
    assert split.outputs["scores"].noise == pytest.approx(float(((np.round(x) - x).astype(float) ** 2).sum()))
    assert split.outputs["scores"].sqnr_db == pytest.approx(whole.outputs["scores"].sqnr_db)
    assert split.outputs["best"] == whole.outputs["best"]
    assert whole.accuracy is None


def test_accuracy_takes_the_labels_in_the_order_of_the_samples() -> None:
    x = np.array([[0.0, 0.4], [1.0, 0.0], [0.0, 1.0]], np.float32)
    labels = np.array([1, 0, 0])
    result = evaluate(exact, coarse, [{"x": x[:2]}, {"x": x[2:]}], labels)
    assert result.accuracy == Pair(fp32=2 / 3, int8=1 / 3)


def test_labels_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(ValueError, match="labels of shape"):
        evaluate(exact, coarse, [{"x": np.zeros((2, 3), np.float32)}], np.zeros((2, 2), int))
