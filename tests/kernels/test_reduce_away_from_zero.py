"""Extrema of data that does not enclose zero: a lane filled with zeros must not pass for a value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantstats._core import Target


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_no_filler_is_taken_for_a_value(target: Target, dtype: Any, axis: int | None, sign: int) -> None:
    rng = np.random.default_rng(0)
    for rows in [*range(1, 36), 700]:
        for columns in [*range(1, 36), 65, 1030]:
            x = (sign * rng.uniform(1, 2, (rows, columns))).astype(dtype)
            low, high, largest, mean, *_ = target.summarize(x, axis, (), False, "raise", None)
            wide = x.astype(np.float64)
            np.testing.assert_array_equal(low, wide.min(axis), err_msg=f"{x.shape}")
            np.testing.assert_array_equal(high, wide.max(axis), err_msg=f"{x.shape}")
            np.testing.assert_array_equal(largest, np.abs(wide).max(axis), err_msg=f"{x.shape}")
            np.testing.assert_allclose(mean, wide.mean(axis), rtol=1e-6)
