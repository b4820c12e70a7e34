"""A summary has the bits of the functions that find its values one by one, on every instruction set."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from quantstats import _core, kernels
from quantstats._core import Target

Array = NDArray[Any]

PROBABILITIES = (1e-4, 0.01, 0.5, 0.99, 1 - 1e-4)


def same(one: Any, other: Any) -> bool:
    """Whether two results have one dtype, shape and bits."""
    a, b = np.asarray(one), np.asarray(other)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def check(target: Target, x: Array, axis: Any, keepdims: bool = False, probabilities: Any = PROBABILITIES) -> None:
    """Compare a summary with the single functions, and with the summary of the scalar kernels."""
    got = target.summarize(x, axis, probabilities, keepdims, "ignore", None)
    low, high, largest, mean, quantiles, nan, pos_inf, neg_inf = got
    label = f"{x.dtype} shape {x.shape} strides {x.strides} axis {axis}"
    expected_low, expected_high = target.min_max(x, axis, keepdims, "ignore")
    assert same(low, expected_low), label
    assert same(high, expected_high), label
    assert same(largest, target.abs_max(x, axis, keepdims, "ignore")), label
    assert same(mean, target.mean(x, axis, keepdims, "ignore")), label
    assert same(quantiles, target.quantile(x, probabilities, axis, keepdims, "ignore")), label
    wide = x.astype(np.float64)
    for count, flag in ((nan, np.isnan(wide)), (pos_inf, wide == np.inf), (neg_inf, wide == -np.inf)):
        np.testing.assert_array_equal(count, np.count_nonzero(flag, axis=axis, keepdims=keepdims), err_msg=label)
    for one, other in zip(
        got, _core._targets["scalar"].summarize(x, axis, probabilities, keepdims, "ignore", None), strict=True
    ):
        assert same(one, other), f"{label}: bits differ from scalar"


def spread(shape: tuple[int, ...], dtype: Any, *, seed: int = 0, special: bool = False) -> Array:
    """Normal data, on request with NaN and infinities among it."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(np.float32)
    if special:
        for value in (np.nan, np.inf, -np.inf):
            x[rng.random(shape) < 0.01] = value
    return x.astype(dtype)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_every_layout(target: Target, dtype: Any, special: bool) -> None:
    x = spread((4, 6, 17, 19), dtype, special=special)
    for axis in (None, 0, 1, 3, (0, 2, 3), (0, 1), (1, 3), ()):
        check(target, x, axis)
        check(target, x, axis, keepdims=True)
        check(target, x[:, ::2, ::-1, 1::3], axis)
    check(target, np.broadcast_to(x[0, 0], (3, 17, 19)), (0, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_sets_larger_than_what_is_copied(target: Target, dtype: Any) -> None:
    # Above 16,384 elements a set is not copied but read in place, between brackets.
    x = spread((3, 2, 130, 150), dtype, special=True)
    check(target, x, None)
    check(target, x, (0, 2, 3))
    check(target, x[..., :100], (0, 2, 3))
    check(target, x.transpose(0, 2, 3, 1), (0, 1, 2))


def test_runs_around_the_length_that_is_packed(target: Target) -> None:
    # Runs shorter than 256 elements are packed into blocks; the mean must not depend on which path reads them.
    for n in (1, 7, 49, 255, 256, 257, 300):
        x = spread((11, 5, n + 3), np.float32, seed=n)[..., :n]
        check(target, x, (0, 2))
        check(target, x.astype(np.float16), (0, 2))
        check(target, x, None)


def test_more_probabilities_than_one_call_of_the_kernel_takes(target: Target) -> None:
    check(target, spread((40_000,), np.float32), None, probabilities=np.linspace(0, 1, 101))


def test_no_probabilities(target: Target) -> None:
    x = spread((5, 300), np.float32)
    assert target.summarize(x, 1, (), False, "raise", None)[4].shape == (0, 5)


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16)]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=20),
        elements={"allow_nan": False, "allow_subnormal": True},
    ),
    st.data(),
)
def test_any_array_any_axes(x: Array, data: st.DataObject) -> None:
    axis = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True).map(tuple))
    permuted = x.transpose(data.draw(st.permutations(range(x.ndim))))
    for target in _core._targets.values():
        check(target, permuted, axis)


def test_fields_of_the_public_function() -> None:
    x = np.array([[1.0, -3.0, 2.0], [np.inf, -np.inf, 0.5]], np.float32)
    summary = kernels.summarize(x, 1, quantiles=(0.5,))
    np.testing.assert_array_equal(summary.min, np.array([-3, -np.inf], np.float32))
    np.testing.assert_array_equal(summary.max, np.array([2, np.inf], np.float32))
    np.testing.assert_array_equal(summary.abs_max, np.array([3, np.inf], np.float32))
    np.testing.assert_array_equal(summary.mean, np.array([0, np.nan], np.float32))
    np.testing.assert_array_equal(summary.quantiles, np.array([[1, 0.5]], np.float32))
    np.testing.assert_array_equal(summary.nan_count, [0, 0])
    np.testing.assert_array_equal(summary.pos_inf_count, [0, 1])
    np.testing.assert_array_equal(summary.neg_inf_count, [0, 1])
    np.testing.assert_array_equal(summary.inf_count, [0, 2])


def test_nan_policies() -> None:
    x = np.array([[1.0, np.nan], [2.0, 4.0]], np.float32)
    with pytest.raises(ValueError, match=r"x \(float32, shape \(2, 2\)\) holds 1 NaN; pass nan_policy='ignore'"):
        kernels.summarize(x, 1, quantiles=(0.5,))
    propagated = kernels.summarize(x, 1, quantiles=(0.25, 0.5), nan_policy="propagate")
    for value in (*propagated[:4], *propagated.quantiles):
        assert np.isnan(value[0])
        assert np.isfinite(value[1])
    np.testing.assert_array_equal(propagated.nan_count, [1, 0])
    ignored = kernels.summarize(x, 1, quantiles=(0.5,), nan_policy="ignore")
    np.testing.assert_array_equal(ignored.mean, np.array([1, 3], np.float32))


def test_bad_arguments_are_named() -> None:
    x = np.zeros((2, 0), np.float32)
    with pytest.raises(ValueError, match=r"cannot reduce x \(float32, shape \(2, 0\)\)"):
        kernels.summarize(x, 1)
    with pytest.raises(ValueError, match=r"quantiles holds 99\.0; probabilities lie between 0 and 1"):
        kernels.summarize(np.zeros(3, np.float32), quantiles=(99.0,))
    with pytest.raises(TypeError, match="int64"):
        kernels.summarize(np.arange(3))


def counted(target: Target, x: Array) -> Array:
    counts = np.zeros(65536, np.uint64)
    target.bit_histogram(x, counts)
    return counts


LARGE = 9 * 1024 * 1024  # elements of float32: 36 MB, of which values are counted while they are reduced


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("probabilities", [(), PROBABILITIES])
def test_histogram_of_the_same_read(target: Target, probabilities: Any, threads: int) -> None:
    if target.isa == "scalar" and threads == 2:
        return  # the sums of two threads are what the other instruction sets test
    x = spread((LARGE,), np.float32, special=True)
    counts = np.full(65536, 7, np.uint64)
    before = _core.num_threads()
    try:
        _core.set_num_threads(threads)
        with_counts = target.summarize(x, None, probabilities, False, "ignore", counts)
        for one, other in zip(
            with_counts, target.summarize(x, None, probabilities, False, "ignore", None), strict=True
        ):
            assert same(one, other)
    finally:
        _core.set_num_threads(before)
    np.testing.assert_array_equal(counts, counted(target, x) + np.uint64(7))


@pytest.mark.parametrize(
    ("shape", "axis", "dtype"),
    [
        ((16, 64, 9216), (0, 2), np.float32),  # runs of channels in turn
        ((9216, 1024), 1, np.float32),
        ((9216, 1024), 0, np.float32),  # columns: another read
        ((LARGE // 2,), None, np.float64),
        ((2 * LARGE,), None, ml_dtypes.bfloat16),
        ((70, 300), 1, np.float32),
        ((70, 300), 0, np.float16),
        ((), None, np.float32),
    ],
)
def test_histogram_whatever_the_layout(shape: tuple[int, ...], axis: Any, dtype: Any) -> None:
    target = _core._active
    x = spread(shape, dtype)
    for probabilities in ((), (0.5,)):
        counts = np.zeros(65536, np.uint64)
        target.summarize(x, axis, probabilities, False, "raise", counts)
        np.testing.assert_array_equal(counts, counted(target, x))


def test_histogram_of_a_strided_array() -> None:
    x = spread((3, LARGE), np.float32)[:, ::2]
    counts = np.zeros(65536, np.uint64)
    kernels.summarize(x, quantiles=(0.5,), histogram=counts)
    np.testing.assert_array_equal(counts, counted(_core._active, x))


@pytest.mark.parametrize("size", [100, LARGE])
def test_histogram_is_unchanged_where_nan_raises(size: int) -> None:
    x = np.zeros(size, np.float32)
    x[size // 2] = np.nan
    counts = np.zeros(65536, np.uint64)
    with pytest.raises(ValueError, match="holds 1 NaN"):
        kernels.summarize(x, histogram=counts)
    assert not counts.any()
    kernels.summarize(x, histogram=counts, nan_policy="ignore")
    assert counts.sum() == size - 1


def test_histogram_must_be_counters() -> None:
    for wrong in (np.zeros(65536), np.zeros(65535, np.uint64), [0] * 65536):
        with pytest.raises(TypeError, match=r"histogram .* uint64 array of shape \(65536,\)"):
            kernels.summarize(np.zeros(3, np.float32), histogram=wrong)  # type: ignore[arg-type]
