"""The error of outputs against hand-computed values."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from quantstats.report.sqnr import output_error


def test_noise_of_a_tenth_of_the_amplitude_is_20_db() -> None:
    reference = np.array([1.0, -1.0, 2.0, -2.0], np.float32)
    error = output_error(reference, reference * np.float32(1.1))
    assert error.sqnr_db == pytest.approx(20.0, abs=1e-5)
    assert error.signal == pytest.approx(10.0)
    assert error.elements == 4


def test_sum_over_batches_is_the_error_of_all_samples_not_the_mean_of_decibels() -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(6, 10)).astype(np.float32)
    reference[3:] *= 100
    actual = reference + rng.normal(scale=0.01, size=reference.shape).astype(np.float32)
    whole = output_error(reference, actual)
    parts = output_error(reference[:3], actual[:3]) + output_error(reference[3:], actual[3:])
    assert parts.sqnr_db == pytest.approx(whole.sqnr_db, rel=1e-12)
    assert (parts.equal, parts.elements) == (whole.equal, whole.elements)


def test_identical_outputs_have_infinite_sqnr() -> None:
    x = np.array([[0.0, 3.5]], np.float32)
    assert output_error(x, x.copy()).sqnr_db == math.inf


def test_noise_without_signal_is_minus_infinity() -> None:
    zero = np.zeros(3, np.float32)
    assert output_error(zero, zero + 1).sqnr_db == -math.inf


def test_integer_outputs_have_an_agreement_and_no_sqnr() -> None:
    error = output_error(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0]))
    assert error.sqnr_db is None
    assert error.agreement == 0.75


def test_an_empty_output_agrees() -> None:
    assert output_error(np.zeros((0, 4), np.int64), np.zeros((0, 4), np.int64)).agreement == 1.0


def test_equal_infinities_and_nans_do_not_count() -> None:
    reference = np.array([1.0, -np.inf, np.nan, 2.0], np.float32)
    actual = np.array([1.1, -np.inf, np.nan, 2.2], np.float32)
    error = output_error(reference, actual)
    assert error.sqnr_db == pytest.approx(20.0, abs=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.0])
def test_a_value_where_the_other_is_not_finite_is_infinite_noise(value: float) -> None:
    reference, actual = np.array([1.0, -np.inf], np.float32), np.array([1.0, value], np.float32)
    assert output_error(reference, actual).sqnr_db == -math.inf
    assert output_error(actual, reference).sqnr_db == -math.inf


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_every_floating_type_is_floating(dtype: type) -> None:
    x = np.array([1, 2], dtype)
    error = output_error(x, (x * 2).astype(dtype))
    assert error.sqnr_db == pytest.approx(0.0)


def test_float16_is_squared_in_float64() -> None:
    x = np.array([60000], np.float16)
    assert output_error(x, x).signal == pytest.approx(3.6e9, rel=1e-3)


def test_shapes_must_be_equal() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1\).*\(2,\)"):
        output_error(np.zeros(2, np.float32), np.zeros((2, 1), np.float32))


def test_an_output_cannot_change_its_kind() -> None:
    with pytest.raises(ValueError, match="floating point"):
        output_error(np.zeros(1, np.float32), np.zeros(1)) + output_error(np.zeros(1, int), np.zeros(1, int))
