"""Top-1 accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from quantstats.report.accuracy import count_correct


def test_counts_rows_whose_highest_score_is_the_label() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], np.float32)
    assert count_correct(scores, np.array([1, 0, 0])) == 2


def test_scores_may_have_more_axes() -> None:
    scores = np.eye(3, dtype=np.float32)[np.array([[0, 1], [2, 2]])]
    assert count_correct(scores, np.array([[0, 1], [2, 0]])) == 3


@pytest.mark.parametrize("labels", [np.zeros((2, 1), int), np.zeros(3, int), np.zeros((), int)])
def test_labels_of_another_shape_are_an_error(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"labels of shape .* scores of shape \(2, 10\)"):
        count_correct(np.zeros((2, 10)), labels)


def test_labels_must_be_integers() -> None:
    with pytest.raises(ValueError, match="float64"):
        count_correct(np.zeros((2, 10)), np.zeros(2))
