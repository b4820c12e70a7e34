"""NaN and infinities in samples: refused by name, left out, or clamped; counted in any case."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.range_estimator import RangeEstimatorParametersSet
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.non_finite import NonFiniteCounts, describe_non_finite, mend
from quantstats.statistics.tensor_statistics import ValueCounts

NAN, INF = np.nan, np.inf
MINMAX = RangeEstimatorParametersSet.MINMAX


def collect(samples: list[Any], ids: Any = None, **options: Any) -> CalibrationStatistics:
    options = {"non_finite": "ignore", "channel_means": {"x": 1}, **options}
    statistics = CalibrationStatistics({"x": options.pop("axis", 1)}, model_hash="m", **options)
    for sample_id, x in zip(range(len(samples)) if ids is None else ids, samples, strict=True):
        statistics.update(str(sample_id), {"x": np.asarray(x)})
    return statistics


def sample_with(*bad: float, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    """Shape [2, 3, 8]; the bad values are the first ones of item 0, channel 1."""
    x = np.random.default_rng(seed).normal(0.5, 2, (2, 3, 8)).astype(dtype)
    x[0, 1, : len(bad)] = bad
    return x


# Refused


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_the_error_names_tensor_sample_counts_and_channels(bad: float) -> None:
    x = sample_with(bad)
    x[1, 2, 5] = NAN
    counts = {NAN: "2 NaN, 0 +Inf and 0 -Inf", INF: "1 NaN, 1 +Inf and 0 -Inf", -INF: "1 NaN, 0 +Inf and 1 -Inf"}
    with pytest.raises(NonFiniteError) as error:
        collect([sample_with(), x], non_finite="raise")
    assert str(error.value) == f"tensor 'x' in sample '1': {counts[bad]} among 48 values, in channels 1, 2 of axis 1"


def test_many_channels_are_not_all_listed() -> None:
    x = np.full((20, 2), INF, np.float32)
    text = describe_non_finite(x, 0)
    assert text == "0 NaN, 40 +Inf and 0 -Inf among 40 values, in channels 0, 1, 2, 3, 4, 5, 6, 7 and 12 more of axis 0"
    assert describe_non_finite(x, None) == describe_non_finite(x, 7) == "0 NaN, 40 +Inf and 0 -Inf among 40 values"


def test_another_policy_is_refused() -> None:
    with pytest.raises(ParameterError, match="non_finite='skip'; use 'raise', 'ignore' or 'clamp'"):
        CalibrationStatistics({"x": None}, non_finite="skip")  # type: ignore[arg-type]


# Left out


def finite_rows(statistics: CalibrationStatistics, tensor: str = "x") -> tuple[np.ndarray, np.ndarray]:
    table = statistics[tensor].channel_table
    assert table is not None
    return statistics[tensor].table.values, table.values


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_ignoring_leaves_the_statistics_of_the_finite_values(dtype: Any) -> None:
    """Every column equals the one of an array of the finite values alone."""
    x = sample_with(NAN, INF, -INF, dtype=dtype)[:1]
    found = collect([x])
    rows, channel_rows = finite_rows(found)
    finite = x[np.isfinite(x)]
    expected = collect([finite.reshape(1, 1, -1)])
    np.testing.assert_allclose(rows[:, :, 0], finite_rows(expected)[0][:, :, 0], rtol=1e-6)
    for channel in range(3):
        values = x[:, channel][np.isfinite(x[:, channel])].reshape(1, 1, -1)
        alone = collect([values])
        np.testing.assert_allclose(channel_rows[0, :, channel], finite_rows(alone)[1][0, :, 0], rtol=1e-6)
        np.testing.assert_allclose(found.channel_mean("x")[channel], alone.channel_mean("x")[0], rtol=1e-6)
    assert found["x"].histogram == expected["x"].histogram
    assert found["x"].counts == ValueCounts(24, 0, 1, 1, 1)


def test_the_policies_agree_on_finite_samples() -> None:
    samples = [sample_with(seed=seed) for seed in range(3)]
    for policy in ("ignore", "clamp"):
        found, plain = collect(samples, non_finite=policy), collect(samples, non_finite="raise")
        for mine, its in zip(finite_rows(found), finite_rows(plain), strict=True):
            assert mine.tobytes() == its.tobytes()
        assert found["x"].counts == plain["x"].counts
        assert found.channel_mean("x").tobytes() == plain.channel_mean("x").tobytes()


def test_a_tensor_without_any_finite_value_is_a_sample_without_rows() -> None:
    x = sample_with()
    found = collect([np.full_like(x, NAN), x])
    assert found["x"].table.items.tolist() == [0, 1]
    assert found["x"].counts == ValueCounts(96, 0, 48, 0, 0)
    assert found.range("x", MINMAX).low == x.min()
    with pytest.raises(
        NonFiniteError, match=r"^tensor 'x': a range needs .* finite .* 0 NaN, 48 \+Inf and 0 -Inf were"
    ):
        collect([np.full_like(x, INF)]).range("x", MINMAX)


def test_an_item_without_any_finite_value_is_dropped_where_items_are_samples() -> None:
    x = sample_with()
    x[0] = NAN
    found = collect([x], batchwise=True)
    assert found["x"].table.items.tolist() == [1]
    assert found.range("x", MINMAX).low == x[1].min()
    np.testing.assert_allclose(found.channel_mean("x"), x[1].mean(1, dtype=float), rtol=1e-6)


@pytest.mark.parametrize("axis", [None, 1])
def test_a_channel_without_any_finite_value_is_refused(axis: int | None) -> None:
    x = sample_with()
    x[:, 2] = INF
    with pytest.raises(NonFiniteError, match=r"'x' in sample '0': channel 2 of item 0 has no finite value.*'clamp'"):
        collect([x], axis=axis)
    assert collect([x], axis=None, channel_means={}).range("x", MINMAX).high == x[:, :2].max()


# Clamped


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_clamping_is_what_a_quantizer_does(dtype: Any) -> None:
    x = sample_with(NAN, INF, -INF, 0.0, dtype=dtype)
    mended = mend(x, "clamp")
    largest = ml_dtypes.finfo(dtype).max
    assert mended.dtype == x.dtype
    assert mended[0, 1, :4].tolist() == [0, largest, -largest, 0]
    assert np.array_equal(mended[np.isfinite(x)], x[np.isfinite(x)])
    found = collect([x], non_finite="clamp", channel_means={})
    plain = collect([mended], non_finite="raise", channel_means={})
    for mine, its in zip(finite_rows(found), finite_rows(plain), strict=True):
        assert mine.tobytes() == its.tobytes()
    assert found["x"].histogram == plain["x"].histogram
    assert found["x"].counts == ValueCounts(48, 1, 1, 1, 1)
    assert found.range("x", MINMAX).high == largest


def test_nan_widens_no_range() -> None:
    x = sample_with(NAN, NAN)
    found = collect([x], non_finite="clamp")
    assert found.range("x", MINMAX).low == np.nanmin(x)
    assert found.range("x", MINMAX).high == np.nanmax(x)


# Merging and files

values = st.sampled_from([NAN, INF, -INF, 0.0, 1.0, -2.5])


@given(
    samples=st.lists(st.lists(values, min_size=1, max_size=5), min_size=1, max_size=5),
    policy=st.sampled_from(["ignore", "clamp"]),
    data=st.data(),
)
def test_any_split_gives_the_same_counts_and_bits(samples: list[list[float]], policy: str, data: st.DataObject) -> None:
    arrays = [np.array([x, [1.0] * len(x)], np.float32).reshape(1, -1) for x in samples]
    options: dict[str, Any] = {"axis": None, "channel_means": {}, "non_finite": policy}
    order = data.draw(st.permutations(range(len(arrays))))
    cut = data.draw(st.integers(0, len(arrays)))
    merged = collect([arrays[i] for i in order[:cut]], order[:cut], **options)
    merged.merge(collect([arrays[i] for i in order[cut:]], order[cut:], **options))
    whole = collect(arrays, **options)
    assert merged == whole
    flat = np.concatenate([x.ravel() for x in arrays])
    assert merged["x"].counts == ValueCounts(
        flat.size,
        int((flat == 0).sum()),
        int(np.isnan(flat).sum()),
        int((flat == INF).sum()),
        int((flat == -INF).sum()),
    )


@pytest.mark.parametrize("policy", ["ignore", "clamp"])
def test_counts_and_policy_are_part_of_the_file(tmp_path: Path, policy: str) -> None:
    found = collect([sample_with(NAN, INF, -INF, -INF), sample_with(0.0)], non_finite=policy)
    found.save(tmp_path / "s")
    loaded = CalibrationStatistics.load(tmp_path / "s")
    assert loaded == found
    assert loaded.non_finite == policy
    assert loaded["x"].counts == found["x"].counts == ValueCounts(96, 1, 1, 1, 2)
    assert loaded["x"].non_finite_counts == NonFiniteCounts(1, 1, 2)


def test_counts_are_part_of_equality() -> None:
    one = collect([sample_with(INF)], axis=None, channel_means={})
    other = collect([sample_with(-INF)], axis=None, channel_means={})
    assert one != other


def test_other_policies_do_not_merge() -> None:
    mine = collect([sample_with()], non_finite="raise")
    before = copy.deepcopy(mine)
    with pytest.raises(DataError, match="the policy for values that are not finite: 'raise' and 'clamp'"):
        mine.merge(collect([sample_with()], [1], non_finite="clamp"))
    assert mine == before
