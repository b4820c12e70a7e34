"""Samples from files: what is read, in which batches, and what is refused with which words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quantstats.cli.data import SampleFiles
from quantstats.errors import DataError
from quantstats.ptq.graph import Tensor

IMAGE = Tensor("image", "float32", (None, 1, 2, 2))
MASK = Tensor("mask", "int64", (None, None))
FIXED = Tensor("image", "float32", (4, 1, 2, 2))


def images(count: int, first: int = 0) -> np.ndarray:
    return np.arange(first * 4, (first + count) * 4, dtype=np.float32).reshape(count, 1, 2, 2)


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def test_samples_are_slices_that_keep_the_batch_axis(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", image=images(3), mask=np.ones((3, 5), np.int64), unrelated=np.zeros(7))
    batches = list(SampleFiles(path, [IMAGE, MASK]).batches())
    assert [set(batch) for batch in batches] == [{"image", "mask"}] * 3
    np.testing.assert_array_equal(np.concatenate([batch["image"] for batch in batches]), images(3))
    assert batches[0]["image"].shape == (1, 1, 2, 2)


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (8, [5])])
def test_batches_and_the_rest(tmp_path: Path, size: int, lengths: list[int]) -> None:
    path = save(tmp_path / "d.npz", image=images(7))
    batches = SampleFiles(path, [IMAGE], batch_size=size).batches(1, 6)
    assert [len(batch["image"]) for batch in batches] == lengths
    assert len(batches) == len(lengths)
    assert batches.samples == 5
    np.testing.assert_array_equal(np.concatenate([batch["image"] for batch in batches]), images(5, first=1))


def test_a_batch_that_the_model_fixes_leaves_the_rest_out(tmp_path: Path) -> None:
    files = SampleFiles(save(tmp_path / "d.npz", image=images(11)), [FIXED])
    batches = files.batches()
    assert [len(batch["image"]) for batch in batches] == [4, 4]
    assert (len(batches), batches.samples) == (2, 8)
    assert batches.smallest()["image"].shape == (4, 1, 2, 2)


@pytest.mark.parametrize("size", [1, 3])
def test_samples_come_in_the_byte_order_of_the_machine(tmp_path: Path, size: int) -> None:
    for file, first in (("a.npz", 0), ("b.npz", 2)):
        save(tmp_path / file, image=images(2, first).astype(">f4"))
    found = [batch["image"] for batch in SampleFiles(tmp_path, [IMAGE], batch_size=size).batches()]
    assert b"".join(batch.tobytes() for batch in found) == images(4).tobytes()


def test_npy_for_a_model_with_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", images(3))
    files = SampleFiles(tmp_path / "d.npy", [IMAGE])
    np.testing.assert_array_equal(files.rows("image", 1, 3), images(2, first=1))


def test_a_directory_is_read_in_the_order_of_names_and_batches_cross_files(tmp_path: Path) -> None:
    save(tmp_path / "b.npz", image=images(2, first=3), label=np.array([3, 4]))
    save(tmp_path / "a.npz", image=images(3), label=np.array([0, 1, 2]))
    save(tmp_path / "c.npz", image=images(1, first=5), label=np.array([5]))
    (tmp_path / "notes.txt").write_text("not data")
    files = SampleFiles(tmp_path, [IMAGE], labels="label", batch_size=4)
    assert len(files) == 6
    first, second = files.batches()
    np.testing.assert_array_equal(first["image"], images(4))
    np.testing.assert_array_equal(second["image"], images(2, first=4))
    np.testing.assert_array_equal(files.labels(1, 5), [1, 2, 3, 4])


def test_samples_of_different_lengths_in_different_files(tmp_path: Path) -> None:
    tensor = Tensor("tokens", "int64", (None, None))
    for length in (5, 7):
        save(tmp_path / f"{length}.npz", tokens=np.ones((1, length), np.int64))
    assert [batch["tokens"].shape for batch in SampleFiles(tmp_path, [tensor]).batches()] == [(1, 5), (1, 7)]
    with pytest.raises(DataError, match=r"'tokens' have different shapes, \(5,\) and \(7,\).*batch size 1"):
        list(SampleFiles(tmp_path, [tensor], batch_size=2).batches())


def missing(path: Path) -> Path:
    return path / "none.npz"


def not_an_archive(path: Path) -> Path:
    (path / "d.npz").write_bytes(b"this is not a zip archive")
    return path / "d.npz"


def truncated(path: Path) -> Path:
    whole = save(path / "d.npz", image=images(300)).read_bytes()
    (path / "d.npz").write_bytes(whole[: len(whole) // 2])
    return path / "d.npz"


def truncated_npy(path: Path) -> Path:
    np.save(path / "d.npy", images(3))
    (path / "d.npy").write_bytes((path / "d.npy").read_bytes()[:20])
    return path / "d.npy"


def empty_directory(path: Path) -> Path:
    (path / "empty").mkdir()
    return path / "empty"


def other_suffix(path: Path) -> Path:
    (path / "d.csv").write_text("1,2")
    return path / "d.csv"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "none.npz' do not exist; give"),
        (not_an_archive, "d.npz' cannot be read (File is not a zip file)"),
        (truncated, "d.npz' cannot be read ("),
        (truncated_npy, "d.npy' cannot be read ("),
        (empty_directory, "empty' has no .npz or .npy file"),
        (other_suffix, "d.csv' are neither .npz nor .npy; save"),
    ],
)
def test_data_that_cannot_be_read(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        SampleFiles(make(tmp_path), [IMAGE])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": images(2)}, "no array for the model inputs 'image', 'mask'; they hold 'x'"),
        ({"image": images(2)}, "no array for the model input 'mask'; they hold 'image'"),
        ({}, "no array for the model inputs 'image', 'mask'; they hold nothing"),
        (
            {"image": images(2).astype(np.float64), "mask": np.ones((2, 3), int)},
            "input 'image' is float64, but the model needs float32; convert it with .astype('float32')",
        ),
        (
            {"image": images(2)[:, 0], "mask": np.ones((2, 3), int)},
            "input 'image' has shape (2, 2, 2), but the model needs (samples, 1, 2, 2)",
        ),
        (
            {"image": np.zeros((2, 3, 2, 2), np.float32), "mask": np.ones((2, 3), int)},
            "input 'image' has shape (2, 3, 2, 2), but the model needs (samples, 1, 2, 2)",
        ),
        (
            {"image": images(2), "mask": np.ones((2,), int)},
            "input 'mask' has shape (2,), but the model needs (samples, any)",
        ),
        ({"image": np.float32(1), "mask": np.ones((2, 3), int)}, "input 'image' is a single number"),
        ({"image": images(2), "mask": np.ones((3, 3), int)}, "different numbers of samples ('image' 2, 'mask' 3)"),
        ({"image": images(0), "mask": np.ones((0, 3), int)}, "are empty: there is no sample"),
    ],
)
def test_data_that_do_not_fit_the_model(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        SampleFiles(save(tmp_path / "d.npz", **arrays), [IMAGE, MASK])


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match="is object, but the model needs float32"):
        SampleFiles(tmp_path / "d.npz", [IMAGE])
    with pytest.raises(DataError, match="cannot be read"):
        list(SampleFiles(tmp_path / "d.npz", [Tensor("image", None, None)]).batches())


def test_npy_cannot_feed_two_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", images(3))
    with pytest.raises(DataError, match=r"one array, but 'image', 'mask' are needed; .*numpy\.savez"):
        SampleFiles(tmp_path / "d.npy", [IMAGE, MASK])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "have no labels 'y'; they hold 'image'"),
        (np.zeros(3, np.float32), "labels 'y' are float32 (3,); they must be integers"),
        (np.zeros(2, np.int64), "different numbers of samples ('image' 3, 'y' 2)"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: np.ndarray | None, message: str) -> None:
    path = save(tmp_path / "d.npz", image=images(3), **({} if labels is None else {"y": labels}))
    with pytest.raises(DataError, match=re.escape(message)):
        SampleFiles(path, [IMAGE], labels="y")


def test_a_fixed_batch_cannot_be_changed_nor_filled_with_too_few(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", image=images(3))
    with pytest.raises(DataError, match="batch size 2 does not fit the model, which fixes axis 0 of its inputs to 4"):
        SampleFiles(path, [FIXED], batch_size=2)
    with pytest.raises(DataError, match="hold 3 samples, but the model takes 4 at a time"):
        SampleFiles(path, [FIXED])
    with pytest.raises(DataError, match="different lengths"):
        SampleFiles(path, [FIXED, Tensor("mask", "int64", (2, 2))])
