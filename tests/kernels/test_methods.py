"""The methods of a target, whose arguments and results do not go through pybind11."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from quantstats._core import Target


def test_methods_count_their_arguments(target: Target) -> None:
    x = np.array([1, 2], np.float32)
    with pytest.raises(TypeError, match=r"min_max\(\) takes 4 positional arguments but 1 were given"):
        target.min_max(x)  # type: ignore[call-arg]
    assert str(inspect.signature(target.min_max)) == "(x, axis, keepdims, nan_policy, /)"


def test_flags_are_true_or_false(target: Target) -> None:
    x = np.array([[1, 2]], np.float32)
    for truth in (True, np.True_):
        assert np.shape(target.abs_max(x, 1, truth, "raise")) == (1, 1)
        assert np.shape(target.abs_max(x, 1, not truth, "raise")) == (1,)
    for neither in ("no", 1, None, np.array([1, 0])):
        with pytest.raises(TypeError, match=r"keepdims is .*; pass True or False"):
            target.abs_max(x, 1, neither, "raise")  # type: ignore[arg-type]
    matrices = np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.int8)
    with pytest.raises(TypeError, match="return_count: bool"):
        target.saturating_matmul(*matrices, "no")  # type: ignore[call-overload]


def test_result_scalars_are_ordinary_ones(target: Target) -> None:
    for dtype in (np.float32, np.float64):
        low, high = target.min_max(np.array([1.5, -2.5], dtype), None, False, "raise")
        assert type(low) is type(high) is dtype
        assert low.tobytes() == dtype(-2.5).tobytes()
        assert hash(high) == hash(1.5)
