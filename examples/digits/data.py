"""The digits data of both examples: one fixed split, scaled to [0, 1], and the archives made from it.

The data are the 1,797 images of 8 x 8 pixels of `sklearn.datasets.load_digits`, a copy of the test set of the UCI
"Optical Recognition of Handwritten Digits" collection. Pixels are the integers 0 to 16; dividing them by 16 is exact
in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SPLIT_SEED = 20
TEST_COUNT = 597
CALIBRATION_COUNT = 512

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Split(NamedTuple):
    """Images float32 [count, 1, 8, 8] in [0, 1] and labels int64 [count], in 0 to 9."""

    images: Images
    labels: Labels


def load_splits() -> tuple[Split, Split]:
    """The training split (1,200 samples) and the test split (597), stratified by label; the same on every call."""
    digits = load_digits()
    images = (digits.images.astype(np.float32) / np.float32(16))[:, np.newaxis]
    labels = digits.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=TEST_COUNT, stratify=labels, random_state=SPLIT_SEED
    )
    return Split(train_images, train_labels), Split(test_images, test_labels)


def write_archives(directory: Path, train: Split, test: Split) -> None:
    """Write `calibration.npz` (key `image`) and `test.npz` (keys `image` and `label`) into `directory`.

    Calibration takes the first samples of the training split, whose order is already random. There are more of them
    than the 300 that a calibration reads by default, so that some are left to measure the result on data that the
    calibration has not seen.
    """
    np.savez_compressed(directory / "calibration.npz", image=train.images[:CALIBRATION_COUNT])
    np.savez_compressed(directory / "test.npz", image=test.images, label=test.labels)
