"""Top-1 accuracy of a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def count_correct(scores: NDArray[Any], labels: NDArray[Any]) -> int:
    """Return how many labels have the highest score.

    :param scores: Shape [..., classes]; the first of equal scores wins.
    :param labels: Integers in [0, classes), shape [...].
    :raises ValueError: The shapes do not belong together, or the labels are not integers.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    if scores.ndim == 0 or scores.shape[:-1] != labels.shape:
        raise ValueError(
            f"labels of shape {labels.shape} do not fit scores of shape {scores.shape}: "
            "scores need one more axis, the classes"
        )
    return int(np.count_nonzero(np.argmax(scores, axis=-1) == labels))


__all__ = ["count_correct"]
