"""nncf served by the kernels: the same results, everything restored, and errors where it cannot be."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
import pytest
from nncf.common import insertion_point_graph
from nncf.common.graph import graph as nncf_graph
from nncf.common.graph.patterns import GraphPattern
from nncf.common.graph.patterns.manager import PatternsManager
from nncf.common.tensor_statistics import collectors
from nncf.common.utils.backend import BackendType
from nncf.onnx import engine
from nncf.onnx.graph import model_transformer, nncf_graph_builder, passes
from nncf.parameters import ModelType, TargetDevice
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
from nncf.quantization.range_estimator import (
    AggregatorType,
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
    StatisticsCollectorParameters,
    StatisticsType,
)
from nncf.tensor import Tensor
from nncf.tensor.functions import numeric
from numpy.typing import NDArray
from onnx import numpy_helper

from quantstats import kernels
from quantstats.integrations.nncf import accelerate, disable, enable, is_enabled

Array = NDArray[Any]
DTYPES = [np.float32, np.float64, np.float16]
AXES = [None, (0,), (1,), (0, 2, 3), (1, 2, 3), -1]
SERVED = ["max", "min", "mean", "median", "quantile", "percentile", "histogram", "masked_mean", "masked_median"]


def _array(kind: str, dtype: Any, shape: tuple[int, ...] = (3, 8, 9, 11)) -> Array:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    if kind == "heavy tails":
        x = rng.standard_t(2, shape)
    elif kind == "relu":
        x = np.maximum(x, 0)
    elif kind == "ties":
        x = np.round(x)
    return x.astype(dtype)


def _both(function: Callable[[], Any]) -> tuple[Any, Any]:
    plain = function()
    with accelerate():
        return plain, function()


def _assert_same_bits(plain: Any, fast: Any) -> None:
    plain, fast = np.asarray(plain), np.asarray(fast)
    assert fast.dtype == plain.dtype
    assert fast.shape == plain.shape
    # -0.0 and +0.0 are one number: NumPy returns whichever it met, the kernels +0.0.
    assert np.array_equal(plain + 0.0, fast + 0.0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "relu", "ties"])
def test_order_statistics_have_nncfs_bits(kind: str, axis: Any, dtype: Any) -> None:
    x = Tensor(_array(kind, dtype))
    for name in ("min", "max"):
        for keepdims in (False, True):
            function = getattr(numeric, name)
            _assert_same_bits(*(t.data for t in _both(lambda f=function, k=keepdims: f(x, axis=axis, keepdims=k))))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("q", [0.5, 1e-4, 0.9999, [1e-4, 1 - 1e-4], (0.0, 0.01, 1 / 3, 0.5, 0.99, 1.0)])
def test_quantiles_are_nncfs_rounded_to_the_dtype_of_the_kernels(q: Any, axis: Any, dtype: Any) -> None:
    x = Tensor(_array("heavy tails", dtype))
    rounded = np.float64 if dtype is np.float64 else np.float32
    for keepdims in (False, True):
        plain, fast = _both(lambda k=keepdims: numeric.quantile(x, q, axis=axis, keepdims=k).data)
        _assert_same_bits(plain.astype(rounded).astype(np.float64), fast)
    plain, fast = _both(lambda: numeric.percentile(x, (np.asarray(q) * 100).tolist(), axis=axis).data)
    assert type(fast) is type(plain)
    _assert_same_bits(plain.astype(rounded).astype(np.float64), fast)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", AXES)
def test_medians_are_within_a_unit_in_the_last_place(axis: Any, dtype: Any) -> None:
    x = Tensor(_array("normal", dtype))
    plain, fast = _both(lambda: numeric.median(x, axis=axis).data)
    assert fast.dtype == plain.dtype
    # Half of a sum against the point half way: either rounds once, in places of the values, which are below 1.
    assert np.all(np.abs(plain - fast) <= np.spacing(dtype(1)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_goes_the_way_it_goes_in_nncf(value: float) -> None:
    array = _array("normal", np.float32)
    array[1, 2, 3, 4] = value
    x = Tensor(array)
    for name in ("min", "max", "mean", "median"):
        function = getattr(numeric, name)
        for axis in AXES:
            plain, fast = _both(lambda f=function, a=axis: f(x, axis=a))
            assert np.array_equal(np.isnan(plain.data), np.isnan(fast.data)), (name, axis)
            assert np.array_equal(np.isinf(plain.data), np.isinf(fast.data)), (name, axis)
    for axis in AXES:
        with np.errstate(invalid="ignore"):  # nncf's own
            _, fast = _both(lambda a=axis: numeric.quantile(x, [0.01, 0.5], axis=a))
        assert np.array_equal(np.isnan(fast.data).any(), np.isnan(value))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", AXES)
def test_means_are_nearer_to_the_truth_than_nncfs(axis: Any, dtype: Any) -> None:
    array = _array("normal", dtype, (4, 16, 24, 28)) + dtype(3)
    plain, fast = (t.data for t in _both(lambda: numeric.mean(Tensor(array), axis=axis)))
    # np.longdouble sums carry 11 bits more than float64: the truth, for both dtypes.
    truth = np.mean(array, axis=axis, dtype=np.longdouble)
    # One rounding of a float64 sum, or some of float64 additions over 16 to 43,008 terms in blocks.
    assert np.all(np.abs(fast - truth) <= np.spacing(np.abs(fast)) * 4)
    assert np.max(np.abs(fast - truth)) <= np.max(np.abs(plain - truth)) + np.spacing(dtype(3)) / 2


def test_means_of_few_numbers_have_nncfs_bits() -> None:
    x = Tensor(_array("normal", np.float32, (300, 8)))
    _assert_same_bits(*(t.data for t in _both(lambda: numeric.mean(x, axis=(0,), keepdims=True))))


@pytest.mark.parametrize("kind", ["normal", "relu", "ties"])
@pytest.mark.parametrize("bins", [10, 2048])
def test_histograms_have_nncfs_counts(kind: str, bins: int) -> None:
    x = Tensor(_array(kind, np.float32))
    for bounds in (None, (-1.5, 2.25), (0.0, 1.0)):
        plain, fast = _both(lambda b=bounds: numeric.histogram(x, bins, range=b))
        _assert_same_bits(plain.data, fast.data)


@pytest.mark.parametrize("bounds", [None, (-1.5, 2.25), (-1.47, 2.3)])
def test_histograms_of_float16_are_left_to_nncf(bounds: tuple[float, float] | None) -> None:
    x = Tensor(_array("normal", np.float16, (20, 500)))
    plain, fast = _both(lambda: numeric.histogram(x, 32, range=bounds))
    _assert_same_bits(plain.data, fast.data)


def _mask(kind: str, x: Array) -> Array:
    mask = np.random.default_rng(1).random(x.shape) < 0.3
    if kind == "a whole channel":
        mask[:, 2] = True
    elif kind == "all":
        mask[:] = True
    elif kind == "none":
        mask[:] = False
    return mask


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", ["some", "a whole channel", "all", "none"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("kind", ["normal", "ties", "inf", "nan", "masked nan"])
def test_masked_statistics_are_nncfs(kind: str, keepdims: bool, masked: str, dtype: Any) -> None:
    array = _array(kind, dtype)
    mask = _mask(masked, array)
    if kind == "inf":
        array[:, 1], array[0, 3, 0] = np.inf, -np.inf
    elif kind == "nan":
        array[1, 2, 3, 4] = np.nan
    elif kind == "masked nan":
        array[mask] = np.nan
    for axis in [*AXES, (), (0, 1, 2, 3)]:
        with np.errstate(all="ignore"):  # nncf's own
            plain, fast = _both(lambda a=axis: numeric.masked_median(Tensor(array), Tensor(mask), a, keepdims).data)
        assert type(fast) is type(plain)
        _assert_same_bits(plain, fast)
        with np.errstate(all="ignore"):
            plain, fast = _both(lambda a=axis: numeric.masked_mean(Tensor(array), Tensor(mask), a, keepdims).data)
        assert (type(fast), fast.dtype, fast.shape) == (type(plain), plain.dtype, plain.shape)
        # Up to 2,376 numbers of size one, which NumPy adds in float32 along some axes; float16 is rounded once more.
        assert np.allclose(plain, fast, rtol=np.finfo(dtype).eps, atol=300 * np.finfo(np.float32).eps, equal_nan=True)


def test_masks_of_another_type_are_left_to_nncf() -> None:
    x = Tensor(_array("normal", np.float32))
    for mask in (None, Tensor(_mask("some", x.data).astype(np.int8)), Tensor(np.array([False]))):
        for name in ("masked_mean", "masked_median"):
            function = getattr(numeric, name)
            plain, fast = _both(lambda f=function, m=mask: f(x, m, (0, 2)).data)
            _assert_same_bits(plain, fast)


def test_the_median_absolute_deviation_has_nncfs_bits() -> None:
    rows = _array("relu", np.float32, (6, 40, 9))
    rows[:, 3] = 0  # A channel that is all masked.

    def aggregate() -> list[Array]:
        collected = collectors.MedianAbsoluteDeviationAggregator(aggregation_axes=(0, 2))
        for row in rows:
            collected.register_reduced_input(Tensor(row[np.newaxis]))
        return [found.data for found in collected.aggregate().values()]

    for plain, fast in zip(*_both(aggregate), strict=True):
        _assert_same_bits(plain, fast)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, bool])
def test_arrays_of_other_types_are_left_to_nncf(dtype: Any) -> None:
    x = Tensor(_array("ties", np.float32).astype(dtype))
    _assert_same_bits(*(t.data for t in _both(lambda: numeric.max(x, axis=(0, 1)))))
    _assert_same_bits(*(t.data for t in _both(lambda: numeric.mean(x, axis=(0, 1)))))


REDUCERS = [
    collectors.AbsMaxReducer(),
    collectors.AbsMaxReducer((0, 2, 3)),
    collectors.QuantileReducer(quantile=(1e-4, 0.9999)),
    collectors.AbsQuantileReducer(quantile=(0.999,)),
    collectors.AbsQuantileReducer((0, 2, 3), quantile=[0.999]),
]


@pytest.mark.parametrize("reducer", REDUCERS, ids=lambda r: f"{type(r).__name__}{r._axes or ''}")
@pytest.mark.parametrize("dtype", DTYPES)
def test_reducers_have_nncfs_values(reducer: Any, dtype: Any) -> None:
    x = [Tensor(_array("heavy tails", dtype))]
    plain, fast = _both(lambda: reducer(x))
    assert len(plain) == len(fast)
    rounded = np.float64 if dtype is np.float64 else np.float32
    for one, other in zip(plain, fast, strict=True):
        _assert_same_bits(one.data.astype(rounded).astype(one.data.dtype), other.data)


@pytest.mark.parametrize("aggregator", [collectors.MeanNoOutliersAggregator, collectors.MedianNoOutliersAggregator])
@pytest.mark.parametrize("quantile", [1e-4, 0.05, 0.25, 0.49])
@pytest.mark.parametrize("samples", [1, 2, 3, 4, 30])
def test_no_outliers_aggregators_give_nncfs_values(aggregator: Any, quantile: float, samples: int) -> None:
    rows = np.random.default_rng(samples).standard_normal((samples, 1, 400, 1)).astype(np.float32)

    def aggregate() -> Array:
        collected = aggregator(aggregation_axes=(0,), quantile=quantile)
        for row in rows:
            collected.register_reduced_input(Tensor(row))
        result: np.ndarray[Any, Any] = collected.aggregate().data
        return result

    plain, fast = _both(aggregate)
    assert (type(fast), fast.dtype, fast.shape) == (type(plain), plain.dtype, plain.shape)
    # The masked mean adds float32 numbers of size one one after another: an error of a unit of their largest sum.
    assert np.allclose(plain, fast, rtol=0, atol=samples * np.spacing(np.float32(4)))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    # Over most ranges NumPy cannot make 2,048 bins with edges in float16, and raises.
    [*((kind, np.float32) for kind in ("normal", "heavy tails", "relu", "ties")), ("normal", np.float16)],
)
def test_the_histogram_search_gives_nncfs_range(kind: str, dtype: Any) -> None:
    def search() -> tuple[Array, Array, Array]:
        aggregator = collectors.HistogramAggregator()
        for seed in range(3):  # ranges that grow and that do not
            array = _array(kind, dtype, (2, 4, 32, 32)) * dtype(1 + seed % 2)
            aggregator.register_reduced_input(Tensor(array))
        found = aggregator.aggregate()
        return aggregator.histogram.data, found["min_values"].data, found["max_values"].data

    for plain, fast in zip(*_both(search), strict=True):
        _assert_same_bits(plain, fast)


def test_a_constant_tensor_goes_through_the_histogram_search() -> None:
    def search() -> Any:
        aggregator = collectors.HistogramAggregator()
        aggregator.register_reduced_input(Tensor(np.full((2, 3, 32, 32), 1.5, np.float32)))
        found = aggregator.aggregate()
        return found["min_values"].data, found["max_values"].data

    with np.errstate(all="ignore"):
        for plain, fast in zip(*_both(search), strict=True):
            _assert_same_bits(plain, fast)


ABS_QUANTILE = RangeEstimatorParameters(
    min=StatisticsCollectorParameters(StatisticsType.ABS_QUANTILE, AggregatorType.MEDIAN, quantile_outlier_prob=0.01),
    max=StatisticsCollectorParameters(StatisticsType.ABS_QUANTILE, AggregatorType.MEDIAN, quantile_outlier_prob=0.01),
)
ESTIMATORS = {
    name: getattr(RangeEstimatorParametersSet, name)
    for name in (
        "MINMAX",
        "MEAN_MINMAX",
        "MEDIAN_MINMAX",
        "MEAN_NO_OUTLIERS_MINMAX",
        "MEAN_QUANTILE",
        "HISTOGRAM",
    )
} | {"ABS_QUANTILE": ABS_QUANTILE}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_quantized_model_is_nncfs(name: str, repository: Path) -> None:
    digits = repository / "examples" / "digits"
    model = onnx.load(digits / "digits_cnn.onnx")
    images = np.load(digits / "calibration.npz")["image"][:24]
    parameters = AdvancedQuantizationParameters(activations_range_estimator_params=ESTIMATORS[name])

    def quantize() -> onnx.ModelProto:
        data = nncf.Dataset([{"image": image[np.newaxis]} for image in images])
        with contextlib.redirect_stdout(io.StringIO()):
            return nncf.quantize(model, data, subset_size=len(images), advanced_parameters=parameters)

    plain, fast = _both(quantize)
    assert [node.op_type for node in plain.graph.node] == [node.op_type for node in fast.graph.node]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in fast.graph.initializer}
    for tensor in plain.graph.initializer:
        expected, found = numpy_helper.to_array(tensor), weights[tensor.name]
        if tensor.data_type == onnx.TensorProto.FLOAT:
            # A corrected bias holds means of activations, which NumPy adds in float32.
            assert np.allclose(expected, found, rtol=1e-5, atol=1e-6), tensor.name
        else:
            assert np.array_equal(expected, found), tensor.name


def test_the_kernels_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in ("min_max", "quantile", "histogram", "median", "mean", "abs_max", "abs_quantile"):
        kernel = getattr(kernels, name)

        def recording(*args: Any, _name: str = name, _kernel: Any = kernel, **options: Any) -> Any:
            called.append(_name)
            return _kernel(*args, **options)

        monkeypatch.setattr(kernels, name, recording)
    x = Tensor(_array("normal", np.float32, (2, 8, 24, 24)))
    with accelerate():
        numeric.max(x)
        numeric.quantile(x, 0.1)
        numeric.histogram(x, 10)
        numeric.median(x)
        numeric.mean(x)
        numeric.masked_mean(x, x < 0, (0, 2, 3))
        numeric.masked_median(x, x < 0, (0, 2, 3))
        collectors.AbsMaxReducer()([x])
        collectors.AbsQuantileReducer()([x])
    masked = ["min_max", "mean", "min_max", "median"]
    assert called == ["min_max", "quantile", "histogram", "median", "mean", *masked, "abs_max", "abs_quantile"]


def test_branches_that_ask_for_quantiles_of_one_tensor_share_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    kernel = kernels.quantile
    monkeypatch.setattr(kernels, "quantile", lambda *a, **k: (reads.append(1), kernel(*a, **k))[1])
    collector = collectors.TensorCollector()
    for key, probability in (("low", 0.01), ("high", 0.99)):
        collector.register_statistic_branch(
            key,
            collectors.QuantileReducer(quantile=[probability]),
            collectors.MeanAggregator(aggregation_axes=(0,), num_samples=2),
        )
    arrays = [_array("normal", np.float32), _array("heavy tails", np.float32)]
    with accelerate():
        for array in arrays:
            collector.register_input_for_all_reducers(Tensor(array))
    assert len(reads) == len(arrays)
    found = collector.get_statistics()
    for key, probability in (("low", 0.01), ("high", 0.99)):
        expected = np.mean([np.float32(np.quantile(array.astype(np.float64), probability)) for array in arrays])
        assert np.float32(found[key].data) == expected


def _count(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """The calls of a kernel from now on."""
    calls: list[str] = []
    kernel = getattr(kernels, name)
    monkeypatch.setattr(kernels, name, lambda *a, **k: (calls.append(name), kernel(*a, **k))[1])
    return calls


def test_what_an_aggregator_does_not_take_is_not_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = {name: _count(monkeypatch, name) for name in ("quantile", "min_max", "abs_max")}
    collector = collectors.TensorCollector()
    for key, reducer, samples in (
        ("low", collectors.QuantileReducer(quantile=[0.01]), 1),
        ("high", collectors.QuantileReducer(quantile=[0.99]), 2),
        ("maximum", collectors.MaxReducer(), None),
        ("magnitude", collectors.AbsMaxReducer(), 1),
    ):
        aggregator = collectors.MaxAggregator(aggregation_axes=(0,), num_samples=samples)
        collector.register_statistic_branch(key, reducer, aggregator)
    arrays = [_array("normal", np.float32) + np.float32(i) for i in range(3)]

    def collect() -> dict[str, Any]:
        collector.reset()
        for array in arrays:
            collector.register_input_for_all_reducers(Tensor(array))
        return {key: value.data for key, value in collector.get_statistics().items()}

    plain, fast = _both(collect)
    assert {name: len(calls) for name, calls in reads.items()} == {"quantile": 2, "min_max": 3, "abs_max": 1}
    assert plain.keys() == fast.keys()
    for key, value in plain.items():
        _assert_same_bits(value.astype(np.float32), fast[key].astype(np.float32))


@pytest.mark.parametrize("kind", ["normal", "relu"])
def test_a_histogram_whose_range_holds_a_sample_reads_it_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = _count(monkeypatch, "histogram"), _count(monkeypatch, "min_max")
    array = _array(kind, np.float32)
    # A range that is new, grows, and holds the samples, the last one up to its bounds.
    samples = [array, array * np.float32(1.5), array, array * np.float32(0.25), array * np.float32(1.5)]

    def collect() -> tuple[Array, float, float]:
        aggregator = collectors.HistogramAggregator()
        for sample in samples:
            aggregator.register_reduced_input(Tensor(sample))
        return aggregator.histogram.data, aggregator.min_val, aggregator.max_val

    plain, fast = _both(collect)
    _assert_same_bits(plain[0], fast[0])
    assert plain[1:] == fast[1:]
    # The first two ask for their extrema, which nncf does one by one.
    assert [len(calls) for calls in reads] == [6, 4]


@pytest.mark.parametrize("first", [0.0, 1.5])
def test_a_histogram_of_one_value_widens_as_in_nncf(first: float) -> None:
    """nncf counts equal bounds as if they were a unit apart: a value between them is new all the same."""

    def collect() -> tuple[Array, float, float]:
        aggregator = collectors.HistogramAggregator()
        for value in (first, first, first + 0.25):
            aggregator.register_reduced_input(Tensor(np.full((2, 3, 32, 32), value, np.float32)))
        return aggregator.histogram.data, aggregator.min_val, aggregator.max_val

    plain, fast = _both(collect)
    _assert_same_bits(plain[0], fast[0])
    assert plain[1:] == fast[1:] == (first, first + 0.25)


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return changed


def test_constants_are_handed_out_once_and_read_only(repository: Path) -> None:
    model = onnx.load(repository / "examples" / "digits" / "digits_cnn.onnx")
    images = np.load(repository / "examples" / "digits" / "calibration.npz")["image"][:3]
    weights = [tensor.name for tensor in model.graph.initializer]
    model = _with_outputs(model, [model.graph.node[0].output[0], *weights])
    feeds = [{"image": image[np.newaxis]} for image in images]

    def run() -> list[dict[str, Array]]:
        session = engine.ONNXEngine(model)
        return [session.infer(feed) for feed in feeds]

    plain, fast = _both(run)
    for one, other in zip(plain, fast, strict=True):
        assert list(one) == list(other)
        for name, value in one.items():
            assert np.array_equal(value, other[name])
            assert other[name].flags.writeable == (name not in weights)
    assert all(fast[1][name] is fast[0][name] for name in weights)
    assert not np.shares_memory(fast[0][model.graph.node[0].output[0]], fast[1][model.graph.node[0].output[0]])


def test_constants_that_are_inputs_follow_what_is_fed(repository: Path) -> None:
    model = onnx.load(repository / "examples" / "digits" / "digits_cnn.onnx")
    constant = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    model = _with_outputs(model, [constant.name])
    model.graph.input.append(onnx.helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims))
    image = np.load(repository / "examples" / "digits" / "calibration.npz")["image"][:1]
    value = numpy_helper.to_array(constant)
    with accelerate():
        session = engine.ONNXEngine(model)
        for factor in (1, 2):
            found = session.infer({"image": image, constant.name: value * np.float32(factor)})
            assert np.array_equal(found[constant.name], value * np.float32(factor))


def _models(repository: Path) -> list[onnx.ModelProto]:
    return [onnx.load(path) for path in sorted((repository / "examples").rglob("*.onnx"))]


def test_shapes_are_inferred_as_by_onnx(repository: Path) -> None:
    models = _models(repository)
    assert models
    for model in models:
        before = model.SerializeToString(deterministic=True)
        plain, fast = _both(lambda m=model: passes.onnx.shape_inference.infer_shapes(m))
        assert fast.SerializeToString(deterministic=True) == plain.SerializeToString(deterministic=True)
        assert model.SerializeToString(deterministic=True) == before
        fast.graph.Clear()  # It is a copy.
        assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("device", [TargetDevice.ANY, TargetDevice.CPU])
@pytest.mark.parametrize("model_type", [None, ModelType.TRANSFORMER])
def test_patterns_are_nncfs(model_type: ModelType | None, device: TargetDevice) -> None:
    def build() -> list[Any]:
        found = []
        for make in (PatternsManager.get_full_hw_pattern_graph, PatternsManager.get_full_ignored_pattern_graph):
            graph = make(BackendType.ONNX, device, model_type).graph
            neighbours = {node: (list(graph.pred[node]), list(graph.succ[node])) for node in graph}
            found.append((list(graph.nodes(data=True)), list(graph.edges(keys=True, data=True)), neighbours))
        return found

    plain, fast = _both(build)
    assert plain == fast
    assert all(len(nodes) > 10 for nodes, _, _ in plain)


@pytest.mark.parametrize("model_type", [None, ModelType.TRANSFORMER])
def test_patterns_are_found_as_by_nncf(model_type: ModelType | None, repository: Path) -> None:
    fused = PatternsManager.get_full_hw_pattern_graph(BackendType.ONNX, TargetDevice.ANY, model_type)
    ignored = PatternsManager.get_full_ignored_pattern_graph(BackendType.ONNX, TargetDevice.ANY, model_type)
    found = 0
    for model in _models(repository):
        network = nncf_graph_builder.GraphConverter.create_nncf_graph(model)
        for pattern in (fused, ignored):
            for strict in (True, False):
                plain, fast = _both(lambda n=network, p=pattern, s=strict: n.find_matching_subgraphs(p, s))
                names = [[[node.node_name for node in match] for match in matches] for matches in (plain, fast)]
                assert names[0] == names[1]
                found += len(plain)
    assert found


def _state() -> list[Any]:
    methods = [
        (collectors.AbsMaxReducer, "_reduce_out_of_place"),
        (collectors.QuantileReducer, "_reduce_out_of_place"),
        (collectors.AbsQuantileReducer, "_reduce_out_of_place"),
        (collectors.TensorCollector, "register_inputs"),
        (collectors.HistogramAggregator, "_register_reduced_input_impl"),
        (collectors.HistogramAggregator, "_non_linear_param_search"),
        (collectors.NoOutliersAggregatorBase, "_aggregation_fn"),
        (engine.ONNXEngine, "__init__"),
        (GraphPattern, "_unite_with_copy_of_graph"),
        (nncf_graph, "find_subgraphs_matching_pattern"),
        (insertion_point_graph, "find_subgraphs_matching_pattern"),
        (model_transformer, "onnx"),
        (nncf_graph_builder, "onnx"),
        (passes, "onnx"),
    ]
    return [
        *(getattr(numeric, name).registry[np.ndarray] for name in SERVED),
        *(owner.__dict__[name] for owner, name in methods),
        engine.rt,
    ]


def test_everything_is_restored() -> None:
    before = _state()
    with accelerate():
        assert all(one is not other for one, other in zip(before, _state(), strict=True))
    assert _state() == before
    with pytest.raises(np.exceptions.AxisError), accelerate():
        numeric.max(Tensor(_array("normal", np.float32)), axis=7)
    assert _state() == before
    assert not is_enabled()


def test_blocks_nest_and_what_ends_last_restores() -> None:
    before = _state()
    enable()
    with accelerate():
        pass
    assert is_enabled()
    assert _state() != before
    disable()
    assert _state() == before
    disable()  # once too often
    assert _state() == before


def test_threads_may_switch_while_others_compute() -> None:
    before = _state()
    x = Tensor(_array("normal", np.float32))
    q = [0.01, 0.99]
    plain, fast = _both(lambda: numeric.quantile(x, q).data)
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(30):
            with accelerate():
                if not np.array_equal(numeric.quantile(x, q).data, fast):
                    wrong.append("accelerated")
            # Another thread may still be inside a block.
            if not any(np.array_equal(numeric.quantile(x, q).data, one) for one in (plain, fast)):
                wrong.append("outside")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert _state() == before


@pytest.mark.parametrize("version", ["2.19.0", "3.5.0", "4.0.0.dev1"])
def test_another_version_is_refused_and_nothing_changed(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _state()
    monkeypatch.setattr(nncf, "__version__", version)
    with pytest.raises(ImportError, match=rf"nncf {version} is not supported; install one from 3\.\d to before 3\.5"):
        enable()
    assert not is_enabled()
    assert _state() == before


def test_without_nncf_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ImportError, match=r"pip install 'quantstats-native\[nncf\]'"):
        enable()
    assert not is_enabled()
