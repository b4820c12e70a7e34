"""Samples in every accepted form, and one clear line for each that does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from quantstats.errors import DataError
from quantstats.ptq.dataset import Dataset, normalize_sample
from quantstats.ptq.graph import QuantizationGraph, Tensor

ONE = QuantizationGraph((), {"x": Tensor("x", "float32", (None, 3))}, ("x",), ("x",))
TWO = QuantizationGraph(
    (),
    {"ids": Tensor("ids", "int64", (None, 4)), "mask": Tensor("mask", "float32", (None, 4))},
    ("ids", "mask"),
    ("mask",),
)
ROW = np.arange(3, dtype=np.float32)[None]
IDS, MASK = np.zeros((1, 4), np.int64), np.ones((1, 4), np.float32)


@pytest.mark.parametrize("item", [ROW, [ROW], (ROW,), {"x": ROW}])
def test_forms_of_a_sample_for_one_input(item: Any) -> None:
    (sample,) = Dataset([item]).samples(ONE)
    assert list(sample) == ["x"]
    np.testing.assert_array_equal(sample["x"], ROW)


@pytest.mark.parametrize("item", [(IDS, MASK), [IDS, MASK], {"mask": MASK, "ids": IDS}])
def test_forms_of_a_sample_for_two_inputs(item: Any) -> None:
    (sample,) = Dataset([item]).samples(TWO)
    assert sample["ids"] is IDS
    assert sample["mask"] is MASK


def test_array_as_source_keeps_the_batch_axis() -> None:
    data = np.arange(12, dtype=np.float32).reshape(4, 3)
    found = [sample["x"] for sample in Dataset(data).samples(ONE)]
    assert [value.shape for value in found] == [(1, 3)] * 4
    np.testing.assert_array_equal(np.concatenate(found), data)
    assert len(Dataset(data)) == 4


def test_tensor_as_source_is_an_array() -> None:
    import torch

    data = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    for source in (data, {"x": data}):
        found = [sample["x"] for sample in Dataset(source).samples(ONE)]
        assert [value.shape for value in found] == [(1, 3)] * 4
        np.testing.assert_array_equal(np.concatenate(found), data)
    samples = Dataset(data, lambda row: row[None]).samples(ONE)
    assert [sample["x"].shape for sample in samples] == [(1, 3)] * 4


def test_items_by_index_as_source() -> None:
    from torch.utils.data import Dataset as Indexed

    class Rows(Indexed[Any]):
        """Ends with its length alone: no index is an error."""

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return ROW + np.float32(index)

    data = Dataset(Rows())
    assert len(data) == 3
    for _ in range(2):
        np.testing.assert_array_equal([sample["x"] for sample in data.samples(ONE)], [ROW, ROW + 1, ROW + 2])


@pytest.mark.parametrize("dtype", [">f4", "<f4"])
def test_values_come_in_the_byte_order_of_the_machine(dtype: str) -> None:
    for source in (ROW.astype(dtype), [ROW.astype(dtype)], {"x": ROW.astype(dtype)}):
        (sample,) = Dataset(source).samples(ONE)
        assert sample["x"].tobytes() == ROW.tobytes()
        assert sample["x"].dtype.isnative


@pytest.mark.parametrize("make", [lambda x: x, lambda x: [x], lambda x: {"x": x}])
def test_masked_values_are_refused(make: Any) -> None:
    with pytest.raises(DataError, match=r"input 'x' of sample 0 is a masked array.*with \.filled\(value\)"):
        list(Dataset(make(np.ma.masked_equal(ROW, 1.0))).samples(ONE))


def test_mapping_of_arrays_as_source() -> None:
    source = {"ids": np.zeros((5, 4), np.int64), "mask": np.ones((5, 4), np.float32)}
    samples = list(Dataset(source).samples(TWO))
    assert [sample["ids"].shape for sample in samples] == [(1, 4)] * 5


def test_mapping_of_arrays_of_different_lengths() -> None:
    with pytest.raises(DataError, match=r"differ in length along axis 0 \('ids': 5, 'mask': 4\)"):
        Dataset({"ids": np.zeros((5, 4)), "mask": np.zeros((4, 4))})


def test_transform_func_gets_the_items_of_the_source() -> None:
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    samples = Dataset(data, lambda row: {"x": row[None]}).samples(ONE)
    assert [sample["x"].shape for sample in samples] == [(1, 3), (1, 3)]
    samples = Dataset([(ROW, "label")], lambda pair: pair[0]).samples(ONE)
    assert [sample["x"].shape for sample in samples] == [(1, 3)]


def test_generator_is_read_no_further_than_the_limit() -> None:
    read = 0

    def rows() -> Iterator[Any]:
        nonlocal read
        while True:
            read += 1
            yield ROW

    assert len(list(Dataset(rows()).samples(ONE, limit=3))) == 3
    assert read == 3


def test_data_may_end_before_the_limit() -> None:
    assert len(list(Dataset([ROW, ROW]).samples(ONE, limit=300))) == 2


def test_a_dataset_serves_as_its_own_dataset() -> None:
    data = Dataset([ROW])
    assert Dataset.of(data) is data
    assert len(list(Dataset.of([ROW]).samples(ONE))) == 1


def test_nncf_dataset_is_read_as_nncf_reads_it() -> None:
    import nncf

    source = nncf.Dataset([(ROW, 1), (ROW, 2)], lambda pair: {"x": pair[0]})
    assert [sample["x"].shape for sample in Dataset.of(source).samples(ONE)] == [(1, 3), (1, 3)]


def test_length_is_known_only_where_the_source_knows_it() -> None:
    assert Dataset([ROW]).length_hint() == 1
    assert Dataset(iter([ROW])).length_hint() is None
    with pytest.raises(TypeError):
        len(Dataset(iter([ROW])))


@pytest.mark.parametrize("source", [[], iter([]), np.zeros((0, 3), np.float32)])
def test_empty_data(source: Any) -> None:
    with pytest.raises(DataError, match="calibration data are empty; give at least one sample"):
        list(Dataset(source).samples(ONE))


@pytest.mark.parametrize("source", [3, None, "data.npz", np.float32(1), list, object()])
def test_source_that_is_no_source(source: Any) -> None:
    with pytest.raises(DataError, match="cannot be iterated over; give a list of samples"):
        Dataset(source)


@pytest.mark.parametrize(
    ("item", "graph", "message"),
    [
        ((ROW, ROW), ONE, r"sample 7 has 2 arrays, but the model has 1 inputs \('x'\)"),
        (MASK, TWO, r"sample 7 is a single ndarray, but the model has 2 inputs \('ids', 'mask'\)"),
        ({"ids": IDS}, TWO, "sample 7 lacks 'mask'; the model's inputs are 'ids', 'mask'"),
        ({"y": ROW}, ONE, "sample 7 lacks 'x' and has 'y', which the model does not have"),
        (ROW.astype(np.float64), ONE, r"input 'x' .* dtype float64, the model needs float32.*astype\('float32'\)"),
        ((MASK, MASK), TWO, "input 'ids' of sample 7 has dtype float32, the model needs int64"),
        (ROW[0], ONE, r"shape \[3\] with 1 axes, the model needs 2: \[\?, 3\]; is the batch axis missing\?"),
        (ROW[None, None], ONE, r"shape \[1, 1, 1, 3\] with 4 axes, the model needs 2: \[\?, 3\]; reshape it"),
        (
            np.zeros((2, 4), np.float32),
            ONE,
            r"shape \[2, 4\], the model needs \[\?, 3\]: axis 1 must have length 3, not 4",
        ),
        (np.zeros((0, 3), np.float32), ONE, r"shape \[0, 3\] without any value"),
        ([[1.0, [2.0]]], ONE, "input 'x' of sample 7: list does not convert to an array"),
    ],
)
def test_sample_that_does_not_fit(item: Any, graph: QuantizationGraph, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        normalize_sample(item, graph, 7)
    assert "\n" not in str(error.value)


def test_tensors_that_convert_to_arrays_are_accepted() -> None:
    class Foreign:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return ROW

    np.testing.assert_array_equal(normalize_sample(Foreign(), ONE, 0)["x"], ROW)


def test_unknown_dtype_and_rank_accept_anything() -> None:
    graph = QuantizationGraph((), {"x": Tensor("x", None, None)}, ("x",), ("x",))
    assert normalize_sample(np.zeros((2, 2), np.int8), graph, 0)["x"].shape == (2, 2)
