"""Reductions against NumPy in float64, and bit for bit between instruction sets."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from quantstats import _core, kernels
from quantstats._core import Target

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
BLOCK = 8192  # kBlock of csrc/kernels/iterate.inl.h
LENGTHS = [*range(1, 131), BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 17]
FIELDS = ["min", "max", "abs_max", "mean", "nan", "pos_inf", "neg_inf"]

Array = NDArray[Any]


def cast(x: Array, dtype: Any) -> Array:
    with np.errstate(invalid="ignore"):  # signalling NaN
        return x.astype(dtype)


def reduce(target: Target, x: Array, axis: Any, keepdims: bool = False) -> list[Any]:
    """The fields that one read of a reduction fills."""
    low, high, largest, mean, _, *counts = target.summarize(x, axis, (), keepdims, "ignore", None)
    return [low, high, largest, mean, *counts]


def oracle(x: Array, axis: Any, keepdims: bool = False) -> list[Any]:
    """The fields of `reduce` by NumPy."""
    y = cast(x, np.float64)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # slices that hold nothing but NaN
        values = [
            np.nanmin(y, axis=axis, keepdims=keepdims),
            np.nanmax(y, axis=axis, keepdims=keepdims),
            np.nanmax(np.abs(y), axis=axis, keepdims=keepdims),
            np.nanmean(y, axis=axis, keepdims=keepdims),
        ]
    flags = (np.isnan(y), y == np.inf, y == -np.inf)
    return values + [np.count_nonzero(flag, axis=axis, keepdims=keepdims) for flag in flags]


def check(target: Target, x: Array, axis: Any, keepdims: bool = False) -> None:
    """Compare every reduction of ``x`` with NumPy, and its bits with those of the scalar kernels."""
    got = reduce(target, x, axis, keepdims)
    reference = reduce(_core._targets["scalar"], x, axis, keepdims)
    result_dtype = np.float64 if x.dtype == np.float64 else np.float32
    rounding = 1e-12 if result_dtype == np.float64 else 1e-6
    # Summation errors are relative to the magnitudes that were added, not to a mean that may cancel.
    finite = np.abs(cast(x, np.float64))
    magnitude = float(np.max(finite, where=np.isfinite(finite), initial=0.0))
    label = f"{x.dtype} shape {x.shape} strides {x.strides} axis {axis}"
    for name, value, scalar, expected in zip(FIELDS, got, reference, oracle(x, axis, keepdims), strict=True):
        assert np.shape(value) == np.shape(expected), f"{name} of {label}"
        assert value.dtype == (np.int64 if name in FIELDS[4:] else result_dtype), f"{name} of {label}"
        assert np.asarray(value).tobytes() == np.asarray(scalar).tobytes(), (
            f"{name} of {label}: bits differ from scalar"
        )
        if name == "mean":
            np.testing.assert_allclose(value, expected, rtol=rounding, atol=rounding * magnitude, err_msg=label)
        else:
            np.testing.assert_array_equal(value, expected, err_msg=f"{name} of {label}")
    low, high = target.min_max(x, axis, keepdims, "ignore")
    largest = target.abs_max(x, axis, keepdims, "ignore")
    mean = target.mean(x, axis, keepdims, "ignore")
    # Each function runs a kernel of its own; they agree with the one that does everything.
    for one, other in zip((low, high, largest, mean), got[:4], strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), label


def sample(shape: tuple[int, ...] | int, dtype: Any, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def views(shape: tuple[int, ...], dtype: Any) -> Iterator[Array]:
    """Arrays of every kind of layout, with a few special values in each."""
    x = sample(shape, dtype)
    x.flat[x.size // 2] = np.nan
    x.flat[0] = -np.inf
    x.flat[x.size - 1] = 0.0
    yield x
    yield x.T
    yield np.moveaxis(x, 0, -1)
    yield x[::-1]
    yield x[..., ::-1]
    yield x[..., ::2]
    yield np.broadcast_to(x[:1], shape)
    yield np.broadcast_to(x[..., :1], shape)
    parent = sample(tuple(3 * size for size in shape), dtype, 1)
    parent.flat[::7] = np.nan  # most lie in the gaps of the views below
    yield parent[..., ::3]
    yield parent[::3]
    yield parent[tuple(slice(None, None, -3) for _ in shape)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_lengths(target: Target, dtype: Any) -> None:
    for n in LENGTHS:
        x = sample(n, dtype, n)
        check(target, x, None)
        for special in (np.nan, np.inf, -np.inf, -0.0):
            for at in {0, n // 2, n - 1}:
                y = x.copy()
                y[at] = special
                check(target, y, None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [
        (7,),
        (5, 7),
        (3, 4, 5),
        (2, 3, 4, 5),
        (2, 3, 7, 7),
        (100, 3),
        (37, 3),
        (33, 64),
        (70, 130),
        (2, 1500),
        (40, 1100),
        (1, 5, 1),
    ],
    ids=str,
)
def test_axes_and_layouts(target: Target, dtype: Any, shape: tuple[int, ...]) -> None:
    for x in views(shape, dtype):
        for r in range(x.ndim + 1):
            for axis in itertools.combinations(range(x.ndim), r):
                check(target, x, axis)
        check(target, x, None, keepdims=True)
        check(target, x, -1, keepdims=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [*range(2, 19), 24, 31, 32, 33])
def test_short_rows(target: Target, dtype: Any, row: int) -> None:
    tile = 2048 // row  # kShortTile of csrc/kernels/reduce_short.inl.h
    for rows in (15, 16, 17, tile - 1, tile, tile + 1, 2 * tile + 3):
        x = sample((rows, row), dtype, rows)
        x[:, 0] *= 100  # the first and the last element of a row matter as much as its neighbours'
        x[::2, -1] *= 1000
        check(target, x, 1)
        x[1] = -0.0
        x[2] = np.inf
        x[4] = -np.inf
        x[5, :2] = np.inf, -np.inf
        check(target, x, 1)
        x[7, row - 1] = np.nan
        x[8] = np.nan
        check(target, x, 1)
    cube = sample((3, 40, row), dtype)
    check(target, cube[::-1, :30], 2)
    check(target, cube[:, ::-1], 2)
    check(target, cube.transpose(1, 2, 0), 1)


@pytest.mark.parametrize("code", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("size", [16, 31, 32, 33, 128, 300])
def test_order_of_16_bit_values(target: Target, code: Any, size: int) -> None:
    """Neighbouring numbers side by side: every number is once the least and once the greatest of a run."""
    every = np.arange(65536, dtype=np.uint16).view(code)
    numbers = every[~np.isnan(cast(every, np.float32))]
    numbers = numbers[: numbers.size // size * size]
    check(target, numbers.reshape(-1, size), 1)
    check(target, np.random.default_rng(size).permutation(numbers).reshape(-1, size), 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("step", range(2, 9))
def test_every_member_of_a_strided_run_is_seen_and_nothing_between(target: Target, dtype: Any, step: int) -> None:
    """Runs of some vectors and a rest, each member in its turn the least and the greatest."""
    members = 77
    parent = np.full(members * step, np.nan).astype(dtype)
    x = parent[::step]
    x[:] = np.linspace(-1, 1, members).astype(dtype)
    for i in range(members):
        before = x[i]
        for extreme in (-2, 2):
            x[i] = extreme
            low, high = target.min_max(x, None, False, "raise")
            assert (low if extreme < 0 else high) == extreme
            assert (high if extreme < 0 else low) == (x.max() if extreme < 0 else x.min())
        x[i] = before


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("columns", [63, 64, 65, 200])
def test_rows_far_from_the_caches(target: Target, dtype: Any, columns: int) -> None:
    """More than 4 MB, whose rows are asked for in advance; a slice of columns as well."""
    rows = (5 << 20) // (columns * np.dtype(dtype).itemsize) + 3
    parent = sample(rows * columns, dtype, columns).reshape(rows, columns)
    check(target, parent, 0)
    check(target, parent[:, 1:-1], 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("step", range(1, 12))
def test_strides(target: Target, dtype: Any, step: int) -> None:
    parent = sample(40_000, dtype, step)
    parent[1::97] = np.nan
    check(target, parent[::step], None)
    check(target, parent[::-step], None)
    plane = parent.reshape(100, 400)[:, ::step]
    for axis in (None, 0, 1):
        check(target, plane, axis)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unaligned_memory(target: Target, dtype: Any) -> None:
    x = sample((40, 33), dtype)
    raw = np.empty(x.nbytes + 1, np.uint8)
    y = raw[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    for axis in (None, 0, 1):
        check(target, y, axis)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_but_nan(target: Target, dtype: Any) -> None:
    x = np.full((3, 70), np.nan, dtype)
    x[1, 5] = 2
    for axis in (None, 0, 1):
        check(target, x, axis)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_has_one_sign(target: Target, dtype: Any) -> None:
    for zeros in ([-0.0], [-0.0, 0.0], [0.0, -0.0], [-0.0] * 65):
        x = np.array(zeros, dtype)
        for value in (*target.min_max(x, None, False, "raise"), target.abs_max(x, None, False, "raise")):
            assert value == 0
            assert not np.signbit(value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormals_are_kept(target: Target, dtype: Any) -> None:
    smallest = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    x = np.array([smallest, 3 * smallest, -2 * smallest], dtype)
    low, high = target.min_max(x, None, False, "raise")
    assert (float(low), float(high)) == (-2 * smallest, 3 * smallest)


@pytest.mark.parametrize("code", [np.float16, ml_dtypes.bfloat16])
def test_every_16_bit_value(target: Target, code: Any) -> None:
    """The conversion in registers is exact for each of the 65,536 patterns."""
    x = np.arange(65536, dtype=np.uint16).view(code).reshape(-1, 1)
    low, high = target.min_max(x, 1, False, "ignore")
    expected = cast(x[:, 0], np.float32)
    np.testing.assert_array_equal(low, expected)
    np.testing.assert_array_equal(high, expected)
    check(target, x[:, 0], None)


def test_opposite_infinities_have_no_mean(target: Target) -> None:
    x = np.array([np.inf, 1, -np.inf, np.nan], np.float32)
    assert np.isnan(target.mean(x, None, False, "ignore"))
    assert reduce(target, x, None)[4:] == [1, 1, 1]


def test_mean_accumulates_in_float64(target: Target) -> None:
    x = np.full(1_000_000, 0.1, np.float32)
    x[0] = 1e8
    exact = np.float32(np.sum(x.astype(np.float64)) / x.size)
    assert target.mean(x, None, False, "raise") == exact


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16)]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=20),
    ),
    st.data(),
)
def test_any_array_any_axes(x: Array, data: st.DataObject) -> None:
    axis = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True).map(tuple))
    permuted = x.transpose(data.draw(st.permutations(range(x.ndim))))
    expected = oracle(permuted, axis)
    results = [reduce(target, permuted, axis) for target in _core._targets.values()]
    for result in results:
        for i in (0, 1, 2, 4, 5, 6):
            np.testing.assert_array_equal(result[i], expected[i])
        for value, reference in zip(result, results[0], strict=True):
            assert np.asarray(value).tobytes() == np.asarray(reference).tobytes()


def test_sum_does_not_depend_on_the_names_of_axes() -> None:
    x = sample((13, 17, 19), np.float32)
    assert len({kernels.mean(x.transpose(order)).tobytes() for order in itertools.permutations(range(3))}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_items_of_a_batch_have_the_mean_they_have_alone(target: Target, dtype: Any) -> None:
    x = sample((5, 3, 50, 61), dtype)
    batch = target.mean(x, (1, 2, 3), False, "raise")
    alone = [target.mean(item, None, False, "raise") for item in x]
    np.testing.assert_array_equal(batch, np.array(alone))


# Sets so small and so many that they are reduced in blocks of outputs: name, view of an array, axis.
SMALL_SETS: dict[str, tuple[Callable[[Array], Array], int]] = {
    "rows": (lambda x: x.reshape(-1, 7), 1),
    "columns": (lambda x: x.reshape(6, -1), 0),
    "wide rows of few columns": (lambda x: x.reshape(-1, 4, 3), 1),
    "outputs in another order": (lambda x: x.reshape(105, 96, -1).transpose(1, 0, 2), 2),
    "columns in another order": (lambda x: x.reshape(7, 48, 90, -1).transpose(3, 2, 0, 1), 2),
    "reversed": (lambda x: x.reshape(-1, 7)[::-1, ::-1], 1),
    "every other": (lambda x: x.reshape(-1, 8)[::2, ::2], 1),
    "broadcast": (lambda x: np.broadcast_to(x[:5040].reshape(-1, 1, 3), (1680, 4, 3)), 2),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("name", SMALL_SETS)
def test_many_small_sets(target: Target, name: str, dtype: Any) -> None:
    view, axis = SMALL_SETS[name]
    x = np.random.default_rng(5).standard_normal(30240 * 2).astype(dtype)
    check(target, view(x), axis)
    holed = x.copy()
    holed[3::1000] = np.nan
    holed[:7] = np.nan
    y = view(holed)
    check(target, y, axis)
    policies = (
        lambda policy: target.min_max(y, axis, False, policy),
        lambda policy: (target.abs_max(y, axis, False, policy), target.mean(y, axis, False, policy)),
        lambda policy: (target.median(y, axis, False, policy),),
        lambda policy: target.quantile(y, np.linspace(0, 1, 35), axis, False, policy),
        lambda policy: target.summarize(y, axis, np.linspace(0, 1, 35), False, policy, None)[:5],
        lambda policy: (target.mean_no_outliers(y, axis, 0.1, False, policy),),
        lambda policy: (target.median_no_outliers(y, axis, 0.1, False, policy),),
    )
    missing = np.isnan(y).any(axis)
    for call in policies:
        with pytest.raises(ValueError, match=f"holds {np.isnan(y).sum()} NaN;"):
            call("raise")
        for left_out, propagated in zip(call("ignore"), call("propagate"), strict=True):
            np.testing.assert_array_equal(propagated, np.where(missing, np.nan, left_out))
    # An output has the bits that it has among few.
    few = np.moveaxis(y, axis, -1).reshape(-1, y.shape[axis])[-500:]
    for call in (
        lambda a, i: target.quantile(a, [0.2, 0.5], i, False, "ignore"),
        lambda a, i: target.mean_no_outliers(a, i, 0.1, False, "ignore")[None],
        lambda a, i: np.stack(target.summarize(a, i, [0.2], False, "ignore", None)[:3]),
    ):
        whole = call(y, axis)
        np.testing.assert_array_equal(whole.reshape(len(whole), -1)[:, -500:], call(few, 1))


class TestPolicy:
    x = np.array([[1, np.nan, 3], [4, 5, 6], [np.nan, np.nan, np.nan]], np.float32)

    @pytest.mark.parametrize("function", [kernels.min_max, kernels.abs_max, kernels.mean])
    def test_raise(self, function: Any) -> None:
        with pytest.raises(ValueError, match=r"x \(float32, shape \(3, 3\)\) holds 4 NaN"):
            function(self.x)

    def test_ignore(self) -> None:
        low, high = kernels.min_max(self.x, 1, nan_policy="ignore")
        np.testing.assert_array_equal(low, np.array([1, 4, np.nan], np.float32))
        np.testing.assert_array_equal(high, np.array([3, 6, np.nan], np.float32))
        np.testing.assert_array_equal(
            kernels.mean(self.x, 1, nan_policy="ignore"), np.array([2, 5, np.nan], np.float32)
        )

    def test_propagate(self) -> None:
        low, high = kernels.min_max(self.x, 1, nan_policy="propagate")
        np.testing.assert_array_equal(low, np.array([np.nan, 4, np.nan], np.float32))
        np.testing.assert_array_equal(high, np.array([np.nan, 6, np.nan], np.float32))
        assert np.isnan(kernels.abs_max(self.x, nan_policy="propagate"))

    def test_unknown(self) -> None:
        with pytest.raises(ValueError, match="nan_policy is 'omit'; pass 'raise', 'ignore' or 'propagate'"):
            kernels.mean(self.x, nan_policy="omit")  # type: ignore[arg-type]


class TestArguments:
    def test_scalar_results(self) -> None:
        low, high = kernels.min_max(np.float32([1, 2]))
        assert type(low) is type(high) is np.float32
        assert type(kernels.mean(np.float64([1, 2]))) is np.float64
        assert kernels.abs_max(np.float32([[1, -2]]), keepdims=True).shape == (1, 1)

    def test_zero_dimensions(self) -> None:
        assert kernels.min_max(np.float32(3)) == (3, 3)
        assert kernels.min_max(np.array(3.0), axis=()) == (3, 3)

    def test_python_floats(self) -> None:
        assert kernels.min_max([1.0, -2.5]) == (-2.5, 1.0)
        assert kernels.abs_max(-1.5) == 1.5

    @pytest.mark.parametrize("x", [np.arange(3), np.array([True]), np.array([1, "a"], object), np.array([1j]), [1, 2]])
    def test_other_dtypes(self, x: Any) -> None:
        with pytest.raises(TypeError, match=r"x \(.*shape \(\d,\)\) is not a floating-point array .*astype"):
            kernels.min_max(x)

    def test_other_objects(self) -> None:
        with pytest.raises(TypeError, match="x is a str; pass an array"):
            kernels.min_max("abc")

    def test_foreign_byte_order(self) -> None:
        with pytest.raises(TypeError, match="not in native byte order"):
            kernels.min_max(np.zeros(3, np.dtype(np.float32).newbyteorder("S")))

    @pytest.mark.parametrize("axis", [2, -3, (0, 5), 10**30, np.int64(2)])
    def test_axis_out_of_range(self, axis: Any) -> None:
        with pytest.raises(np.exceptions.AxisError, match=r"out of range for x \(float32, shape \(2, 3\)\)"):
            kernels.min_max(np.zeros((2, 3), np.float32), axis)

    @pytest.mark.parametrize("axis", [(0, 0), (1, -1)])
    def test_axis_twice(self, axis: Any) -> None:
        with pytest.raises(ValueError, match="twice"):
            kernels.min_max(np.zeros((2, 3), np.float32), axis)

    @pytest.mark.parametrize("axis", [1.0, "0", True, np.array([0, 1]), (np.array([0, 1]),), torch.tensor([0, 1])])
    def test_axis_of_another_type(self, axis: Any) -> None:
        with pytest.raises(TypeError, match=r"axis is .*; pass None, an integer or a tuple"):
            kernels.min_max(np.zeros((2, 3), np.float32), axis)

    def test_axis_that_raises(self) -> None:
        class Index:
            def __index__(self) -> int:
                raise RuntimeError("no index today")

        with pytest.raises(RuntimeError, match="no index today"):
            kernels.min_max(np.zeros((2, 3), np.float32), Index())  # type: ignore[arg-type]

    @pytest.mark.parametrize("axis", [np.int8(-1), np.array(1), torch.tensor(1), [np.uint64(1)]])
    def test_integers_of_other_libraries(self, axis: Any) -> None:
        np.testing.assert_array_equal(kernels.abs_max(np.float32([[1, 2], [3, 4]]), axis), [2, 4])

    def test_nothing_to_reduce(self) -> None:
        for x, axis in ((np.zeros(0, np.float32), None), (np.zeros((3, 0), np.float32), 1), (np.zeros((0, 0)), 0)):
            with pytest.raises(ValueError, match=r"cannot reduce x \(float.*hold no element"):
                kernels.min_max(x, axis)

    def test_no_outputs(self) -> None:
        low, high = kernels.min_max(np.zeros((3, 0), np.float32), 0)
        assert low.shape == high.shape == (0,)
