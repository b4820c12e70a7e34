"""The calibrators beside onnxruntime's own, and where those do not go."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationMethod, calibrate

import quantstats as qs
from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.integrations import onnxruntime as ours
from quantstats.integrations.onnxruntime.entropy import least_divergence_thresholds
from quantstats.integrations.onnxruntime.nested_histogram import NestedHistogram

from .models import Array, Reader, relu_model

METHODS = list(CalibrationMethod)
DISTRIBUTIONS = ["normal", "heavy tails", "relu", "uniform", "far from zero", "one-sided", "two scales"]


def values(kind: str, shape: tuple[int, ...] = (6, 4, 5003)) -> Array:
    """Batches of float32 values."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal(shape)
    if kind == "heavy tails":
        x = rng.laplace(size=shape) ** 3
    elif kind == "relu":
        x = np.maximum(x, 0)
    elif kind == "uniform":
        x = rng.uniform(-3, 1, shape)
    elif kind == "far from zero":
        x += 40
    elif kind == "one-sided":
        x = -np.abs(x)
    elif kind == "two scales":
        x *= np.where(rng.uniform(size=shape) < 0.5, 1e-3, 1)
    return x.astype(np.float32)


def collected(create: Any, model: Path, batches: Iterable[Array], method: Any, **options: Any) -> Any:
    """A calibrator that saw the batches in one call."""
    calibrator = create(
        model,
        augmented_model_path=str(model.with_suffix(".augmented.onnx")),
        calibrate_method=method,
        extra_options=options,
    )
    calibrator.collect_data(Reader([{"x": batch} for batch in batches]))
    return calibrator


def ranges(data: calibrate.TensorsData) -> dict[str, tuple[Array, Array]]:
    return {name: (np.asarray(tensor.lowest), np.asarray(tensor.highest)) for name, tensor in data.items()}


def assert_same(a: calibrate.TensorsData, b: calibrate.TensorsData) -> None:
    assert set(a.keys()) == set(b.keys())
    for name in a.keys():  # noqa: SIM118 -- no mapping
        mine, its = a[name].to_dict(), b[name].to_dict()
        assert mine.keys() == its.keys()
        for field, value in mine.items():
            np.testing.assert_array_equal(value, its[field], strict=field != "CLS")


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9, 99.99, 99.999, 100.0])
@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_percentiles_are_within_a_bin_of_onnxruntimes(
    kind: str, percentile: float, symmetric: bool, tmp_path: Path
) -> None:
    model, x = relu_model(tmp_path / "model.onnx"), values(kind)
    options = {"percentile": percentile, "symmetric": symmetric}
    theirs = collected(calibrate.create_calibrator, model, x, CalibrationMethod.Percentile, **options)
    mine = ranges(collected(ours.create_calibrator, model, x, CalibrationMethod.Percentile, **options).compute_data())
    for name, bounds in ranges(theirs.compute_data()).items():
        edges = theirs.collector.histogram_dict[name][1]
        # Where no value is near zero, a symmetric histogram of theirs has bins that are narrow for its range alone.
        greatest = float(np.abs(x).max())
        width = max(float(edges[1] - edges[0]), greatest / 2048 if kind == "far from zero" else 0.0)
        for bound, its in zip(mine[name], bounds, strict=True):
            assert bound.dtype == np.float32
            assert abs(float(bound) - float(its)) <= width + 2 * np.spacing(np.float32(greatest)), (
                name,
                mine[name],
                bounds,
            )


@pytest.mark.parametrize("magnitudes", [False, True])
@pytest.mark.parametrize("percentile", [0.0, 50.0, 99.0, 99.99])
def test_percentiles_are_just_below_the_order_statistic(percentile: float, magnitudes: bool, tmp_path: Path) -> None:
    x = values("heavy tails")
    calibrator = collected(
        ours.create_calibrator,
        relu_model(tmp_path / "model.onnx"),
        x,
        CalibrationMethod.Percentile,
        percentile=percentile,
        symmetric=magnitudes,
    )
    high = float(calibrator.compute_data()["x"].highest)
    ordered = np.sort(np.abs(x) if magnitudes else x, axis=None)
    share = percentile / 100 if magnitudes else 1 - (100 - percentile) / 200
    exact = float(ordered[max(math.ceil(share * x.size), 1) - 1])
    greatest = float(np.abs(x).max())
    assert exact - min(greatest / 2048, abs(exact) / 64) <= high <= exact


@pytest.mark.parametrize("method", METHODS)
def test_neither_order_nor_batch_size_matters(method: CalibrationMethod, tmp_path: Path) -> None:
    model = relu_model(tmp_path / "model.onnx")
    x = values("heavy tails", (12, 1, 700)) * np.geomspace(1e-3, 1e3, 12, dtype=np.float32)[:, None, None]
    options = {"num_bins": 1024}
    expected = collected(ours.create_calibrator, model, x, method, **options).compute_data()
    shuffled = np.random.default_rng(1).permutation(x)
    assert_same(collected(ours.create_calibrator, model, shuffled, method, **options).compute_data(), expected)
    merged = collected(ours.create_calibrator, model, x.reshape(2, 6, 700), method, **options)
    assert_same(merged.compute_data(), expected)
    parts = collected(ours.create_calibrator, model, x[:5], method, **options)
    parts.compute_data()
    parts.collect_data(Reader([{"x": batch} for batch in x[5:]]))
    assert parts.num_samples == 12
    assert_same(parts.compute_data(), expected)


@pytest.mark.parametrize("method", METHODS)
def test_shapes_may_differ_between_samples(method: CalibrationMethod, tmp_path: Path) -> None:
    model = relu_model(tmp_path / "model.onnx")
    x = values("normal", (1, 900))
    pieces = [x[:, :20], x[:, 20:21], x[:, 21:21], x[:, 21:].reshape(3, 293)]
    whole = collected(ours.create_calibrator, model, [x], method).compute_data()
    assert_same(collected(ours.create_calibrator, model, pieces, method).compute_data(), whole)
    if method is not CalibrationMethod.MinMax:
        with pytest.raises(ValueError, match="inhomogeneous"):
            collected(calibrate.create_calibrator, model, pieces, method)


def test_values_that_onnxruntime_has_too_few_bins_for(tmp_path: Path) -> None:
    model, x = relu_model(tmp_path / "model.onnx"), np.array([[1, np.nextafter(np.float32(1), 2)]], np.float32)
    with pytest.raises(ValueError, match="Too many bins"):
        collected(calibrate.create_calibrator, model, [x], CalibrationMethod.Percentile)
    found = collected(ours.create_calibrator, model, [x], CalibrationMethod.Percentile)
    assert found.compute_data()["x"].range_value == (1.0, x.max())


def test_an_outlier_in_a_later_batch_costs_neither_memory_nor_resolution(tmp_path: Path) -> None:
    # onnxruntime's histogram would go on from a thousandth of a bin's width to ten thousand: gigabytes of bins.
    model, x = relu_model(tmp_path / "model.onnx"), values("normal", (2, 1, 60_000)) * np.float32(1e-3)
    x[1, 0, 0] = 1e4
    found = collected(ours.create_calibrator, model, x, CalibrationMethod.Percentile, percentile=99.9, symmetric=True)
    exact = np.sort(np.abs(x), axis=None)[math.ceil(0.999 * x.size) - 1]
    high = float(found.compute_data()["x"].highest)
    assert exact * (1 - 1 / 64) <= high <= exact
    everything = collected(ours.create_calibrator, model, x, CalibrationMethod.Percentile, percentile=100.0)
    assert everything.compute_data()["x"].range_value[1] == np.float32(1e4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("value", "count"), [(np.nan, "1 NaN"), (np.inf, "1 +Inf"), (-np.inf, "1 -Inf")])
def test_values_that_are_not_finite_are_named_and_leave_no_trace(
    method: CalibrationMethod, value: float, count: str, tmp_path: Path
) -> None:
    model, x = relu_model(tmp_path / "model.onnx"), values("normal", (3, 1, 500))
    calibrator = collected(ours.create_calibrator, model, x, method)
    before = calibrator.compute_data()
    bad = x[0] * 100
    bad[0, 7] = value
    with pytest.raises(NonFiniteError, match=r"tensor 'x' of sample 3 has .*among 500 values") as caught:
        calibrator.collect_data(Reader([{"x": bad}]))
    assert count in str(caught.value)
    assert_same(calibrator.compute_data(), before)


@pytest.mark.parametrize("method", METHODS)
def test_without_data_there_is_no_range(method: CalibrationMethod, tmp_path: Path) -> None:
    model = relu_model(tmp_path / "model.onnx")
    with pytest.raises(DataError, match="no data was collected"):
        collected(ours.create_calibrator, model, [], method)
    calibrator = ours.create_calibrator(
        model, augmented_model_path=str(tmp_path / "augmented.onnx"), calibrate_method=method
    )
    with pytest.raises(DataError, match=r"collect_data\(\)"):
        calibrator.compute_data()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("width", [0, 5])
def test_zeros_and_nothing_have_the_range_of_zero(method: CalibrationMethod, width: int, tmp_path: Path) -> None:
    found = collected(
        ours.create_calibrator, relu_model(tmp_path / "model.onnx"), [np.zeros((1, width), np.float32)], method
    ).compute_data()
    if method is CalibrationMethod.Distribution:
        assert (float(found["x"].avg), float(found["x"].std)) == (0.0, 0.0)
    else:
        assert [bound.item() for bound in found["x"].range_value] == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("moving_average", [False, True])
def test_extrema_are_onnxruntimes(
    moving_average: bool, symmetric: bool, per_channel: bool, dtype: int, tmp_path: Path
) -> None:
    model = relu_model(tmp_path / "model.onnx", dtype, ("items", 5, "height", "width"))
    x = values("normal", (4, 2, 5, 3, 7)).astype(helper.tensor_dtype_to_np_dtype(dtype))
    options = {"symmetric": symmetric, "per_channel": per_channel, "moving_average": moving_average}
    arguments = (model, x, CalibrationMethod.MinMax)
    theirs = collected(calibrate.create_calibrator, *arguments, **options)
    mine = collected(ours.create_calibrator, *arguments, **options)
    assert_same(mine.compute_data(), theirs.compute_data())
    if moving_average:
        for calibrator in (theirs, mine):
            calibrator.collect_data(Reader([{"x": batch * 2} for batch in x]))
        assert_same(mine.compute_data(), theirs.compute_data())
    else:  # onnxruntime cannot merge the channels of two calls.
        parts = collected(ours.create_calibrator, model, x[:1], CalibrationMethod.MinMax, **options)
        parts.collect_data(Reader([{"x": batch} for batch in x[1:]]))
        assert_same(parts.compute_data(), theirs.compute_data())


@pytest.mark.parametrize("method", METHODS)
def test_a_model_may_have_nothing_to_calibrate(method: CalibrationMethod, tmp_path: Path) -> None:
    calibrator = ours.create_calibrator(
        relu_model(tmp_path / "model.onnx"), ["Conv"], str(tmp_path / "augmented.onnx"), calibrate_method=method
    )
    calibrator.collect_data(Reader([{"x": values("normal", (1, 3))}]))
    assert calibrator.compute_data().data == {}


def test_channels_must_agree(tmp_path: Path) -> None:
    model = relu_model(tmp_path / "model.onnx")
    pieces = [values("normal", (1, width)) for width in (3, 4)]
    with pytest.raises(DataError, match="'x' has 4 channels in sample 1 and had 3"):
        collected(ours.create_calibrator, model, pieces, CalibrationMethod.MinMax, per_channel=True)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize(("bins", "parts"), [(128, 128), (300, 64), (301, 32)])
def test_thresholds_of_a_histogram_are_onnxruntimes(kind: str, bins: int, parts: int) -> None:
    x = values(kind)
    greatest = np.abs(x).max()
    counts, edges = np.histogram(x, bins, (-greatest, greatest))
    collector = calibrate.HistogramCollector("entropy", False, bins, parts, 99.9, "same")
    histogram = (counts, edges, np.float32(-np.inf), np.float32(np.inf), greatest)
    expected = collector.get_entropy_threshold(histogram, parts)
    assert tuple(map(float, least_divergence_thresholds(counts, edges, parts))) == tuple(map(float, expected))


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize("method", [CalibrationMethod.Entropy, CalibrationMethod.Distribution])
def test_histograms_are_onnxruntimes_but_for_values_near_edges(
    kind: str, method: CalibrationMethod, tmp_path: Path
) -> None:
    model, x = relu_model(tmp_path / "model.onnx"), values(kind)
    mine, theirs = (
        collected(create, model, x, method, num_bins=512).compute_data()["x"]
        for create in (ours.create_calibrator, calibrate.create_calibrator)
    )
    edges = "hist_edges" if method is CalibrationMethod.Distribution else "bins"
    np.testing.assert_array_equal(getattr(mine, edges), getattr(theirs, edges))
    assert mine.hist.sum() == theirs.hist.sum() == x.size
    # A bin is made of at least four of ours on average, and an edge divides one.
    assert np.abs(np.cumsum(mine.hist) - np.cumsum(theirs.hist)).max() <= theirs.hist.max() / 2


@pytest.mark.parametrize("scenario", ["same", "p3"])
@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_moments_are_those_of_the_values(kind: str, scenario: str, tmp_path: Path) -> None:
    model, x = relu_model(tmp_path / "model.onnx"), values(kind)
    options = {"num_bins": 2048, "scenario": scenario}
    arguments = (model, x, CalibrationMethod.Distribution)
    mine = collected(ours.create_calibrator, *arguments, **options).compute_data()["x"]
    wide = x.astype(np.float64)
    truth = wide if scenario == "same" else np.cbrt(wide)
    assert mine.avg.dtype == mine.std.dtype == np.float32
    np.testing.assert_allclose(mine.avg, truth.mean(), rtol=1e-3, atol=1e-3 * truth.std())
    np.testing.assert_allclose(mine.std, truth.std(), rtol=1e-3, atol=2e-5 * np.abs(truth).max())
    if scenario == "same":
        theirs = collected(calibrate.create_calibrator, *arguments, **options).compute_data()["x"]
        width = float(theirs.hist_edges[1] - theirs.hist_edges[0])
        assert abs(float(mine.avg) - float(theirs.avg)) <= width
        assert abs(float(mine.std) - float(theirs.std)) <= width


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    model, x = relu_model(tmp_path / "model.onnx"), values("normal", (1, 1, 250_000))

    def peak(count: int) -> int:
        tracemalloc.start()
        calibrator = ours.create_calibrator(
            model,
            augmented_model_path=str(tmp_path / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
        )
        reader = Reader([])
        reader._rest = itertools.repeat({"x": x[0]}, count)
        calibrator.collect_data(reader)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(24) < peak(3) + x.nbytes


def test_any_range_estimator_calibrates(tmp_path: Path) -> None:
    model, x = relu_model(tmp_path / "model.onnx"), values("heavy tails")
    for params in (qs.RangeEstimatorParametersSet.MSE, qs.RangeEstimatorParametersSet.MEAN_MINMAX):
        expected = qs.RangeEstimator(params)
        for batch in x:
            expected.update(batch)
        found = collected(ours.create_calibrator, model, x, params, config=None).compute_data()["x"]
        assert found.range_value == tuple(bound.reshape(()) for bound in expected.range(config=_asymmetric()))
        assert not hasattr(found, "hist")


def _asymmetric() -> qs.QuantizerConfig:
    return qs.QuantizerConfig(8, qs.QuantizationMode.ASYMMETRIC)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (CalibrationMethod.MinMax, {"moving_average": True, "averaging_constant": 1.5}, "averaging_constant=1.5"),
        (CalibrationMethod.Percentile, {"percentile": 101}, "percentile=101"),
        (
            CalibrationMethod.MinMax,
            {"moving_average": True, "averaging_constant": "a"},
            "averaging_constant='a'; give a",
        ),
        (CalibrationMethod.Percentile, {"percentile": "a"}, "percentile='a'; give a number from 0 to 100"),
        (CalibrationMethod.Percentile, {"num_bins": 0}, "num_bins=0; give an integer of at least 1"),
        (CalibrationMethod.Percentile, {"num_bins": 2.5}, "num_bins=2.5; give an integer"),
        (CalibrationMethod.Entropy, {"num_bins": "a"}, "num_bins='a'"),
        (CalibrationMethod.Entropy, {"num_quantized_bins": "a"}, "num_quantized_bins='a'"),
        (CalibrationMethod.Entropy, {"num_bins": 64}, "num_quantized_bins=128; give 1 to num_bins=64"),
        (CalibrationMethod.Distribution, {"num_bins": 128}, "num_bins=128; give an integer of at least 512"),
        (CalibrationMethod.Distribution, {"scenario": "p5"}, "scenario='p5'; use 'same' or 'p3'"),
        (CalibrationMethod.Distribution, {"scenario": [1]}, r"scenario=\[1\]; use 'same' or 'p3'"),
        ("Percentile", {}, "calibrate_method='Percentile'; use a CalibrationMethod"),
        ([1], {}, r"calibrate_method=\[1\]; use a CalibrationMethod"),
        (qs.RangeEstimatorParametersSet.MSE, {"config": 5}, "config=5 is not a QuantizerConfig"),
        (
            qs.RangeEstimatorParametersSet.MSE,
            {"config": qs.QuantizerConfig(8, qs.QuantizationMode.SYMMETRIC)},
            "config.mode=symmetric with symmetric=False",
        ),
    ],
)
def test_parameters_are_checked(method: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=message):
        collected(ours.create_calibrator, relu_model(tmp_path / "model.onnx"), [], method, **options)
    with pytest.raises(ParameterError, match=r"method='entropy'.*'percentile' alone"):
        ours.PercentileCalibrater(tmp_path / "model.onnx", method="entropy")


def test_options_are_a_mapping_or_none(tmp_path: Path) -> None:
    model, path = relu_model(tmp_path / "model.onnx"), str(tmp_path / "augmented.onnx")
    calibrator = ours.create_calibrator(model, augmented_model_path=path, extra_options=None)
    assert (calibrator.symmetric, calibrator.per_channel) == (False, False)
    with pytest.raises(ParameterError, match="extra_options=5 is not a mapping"):
        ours.create_calibrator(model, augmented_model_path=path, extra_options=5)


def test_the_interface_is_that_of_onnxruntime(tmp_path: Path) -> None:
    model = relu_model(tmp_path / "model.onnx")
    calibrator = ours.PercentileCalibrater(str(model), ["Relu"], str(tmp_path / "augmented.onnx"), percentile=99.0)
    assert isinstance(calibrator, calibrate.CalibraterBase)
    assert calibrator.select_tensors_to_calibrate(calibrator.model)[0] == {"x", "y"}
    for _ in range(2):
        calibrator.augment_graph()
    outputs = [output.name for output in onnx.load(tmp_path / "augmented.onnx").graph.output]
    assert sorted(outputs) == ["x", "y"]
    assert calibrator.get_augment_model() is calibrator.model
    calibrator.set_execution_providers(["CPUExecutionProvider"])
    calibrator.collect_data(Reader([{"x": values("normal", (1, 100))}]))
    assert calibrator.compute_data().calibration_method is CalibrationMethod.Percentile


@pytest.mark.parametrize("greatest", [0.0, 1e-44, 1e-3, 1.0, 65504.0, 2.9e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_nested_histogram_is_that_of_all_values_at_once(greatest: float, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    largest = float(np.finfo(dtype).max)
    scales = np.geomspace(1e-6, 1, 9) * min(greatest, largest)
    parts = [(rng.uniform(-1, 1, 500) * scale).astype(dtype) for scale in scales]
    parts.append(np.array([min(greatest, largest), 0, -0.0, 2.0**-13], dtype))
    expected: Array | None = None
    for order in (parts, parts[::-1], [parts[index] for index in rng.permutation(len(parts))]):
        histogram = NestedHistogram()
        for part in order:
            histogram.add(part, float(part.min()), float(part.max()))
        every = np.concatenate(parts).astype(np.float64)
        counts = np.histogram(every, histogram.edges)[0]
        np.testing.assert_array_equal(histogram.counts, counts)
        assert histogram.total == every.size
        assert expected is None or np.array_equal(histogram.counts, expected)
        expected = counts
    assert histogram.width <= max(np.abs(every).max() / 2048, 2.0**-112)
