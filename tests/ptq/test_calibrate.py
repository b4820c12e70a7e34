"""`calibrate`, and `quantize` from what it collected: the same model as from the data, without a run."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import quantstats as qs
from quantstats.adapters import adapter_for
from quantstats.adapters.protocol import Array, Sample
from quantstats.ptq.identity import model_hash
from quantstats.ptq.quantize import make_plan

from .framework import NetworkBuilder, NumpyAdapter, attention_network, images, residual_network, sequences
from .test_digits import calibration, model_path

PRESETS = [name for name in vars(qs.RangeEstimatorParametersSet) if name.isupper()]
OF_DISTRIBUTION = [qs.AggregatorType(name) for name in ("histogram", "mse", "entropy", "percentile", "auto")]
COMBINATIONS = [
    (statistic, aggregator)
    for statistic, aggregator in itertools.product(qs.StatisticsType, qs.AggregatorType)
    if (statistic is qs.StatisticsType.RAW) == (aggregator in OF_DISTRIBUTION)
]


class CountingAdapter(NumpyAdapter):
    """Counts the runs of the model."""

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.runs = 0

    def run(self, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        self.runs += 1
        return super().run(sample, taps)


def collect(network: Any, data: Any, **options: Any) -> qs.CalibrationStatistics:
    return qs.calibrate(NumpyAdapter(network), data, progress=False, **options)


def from_data(network: Any, data: Any, **options: Any) -> Any:
    return make_plan(NumpyAdapter(network), data, progress=False, **options)


def from_statistics(network: Any, statistics: qs.CalibrationStatistics, **options: Any) -> Any:
    return make_plan(NumpyAdapter(network), statistics=statistics, progress=False, **options)


def with_estimator(params: qs.RangeEstimatorParameters) -> qs.AdvancedQuantizationParameters:
    return qs.AdvancedQuantizationParameters(activations_range_estimator_params=params)


# -- on the example models -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["cnn", "transformer"])
def digits(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any], qs.CalibrationStatistics]:
    """Name of an example model, how to quantize it, and its statistics over 24 samples."""
    options = {"model_type": qs.ModelType.TRANSFORMER if request.param == "transformer" else None}
    statistics = qs.calibrate(
        model_path(request.param), calibration()[:24], per_channel=True, progress=False, **options
    )
    return request.param, options, statistics


@pytest.mark.parametrize("preset", list(qs.QuantizationPreset))
@pytest.mark.parametrize("estimator", PRESETS)
def test_digits_are_quantized_alike_from_statistics_and_from_data(
    digits: tuple[str, dict[str, Any], qs.CalibrationStatistics], estimator: str, preset: qs.QuantizationPreset
) -> None:
    name, options, statistics = digits
    options = {
        **options,
        "preset": preset,
        "advanced_parameters": with_estimator(getattr(qs.RangeEstimatorParametersSet, estimator)),
        "progress": False,
    }
    expected = qs.quantize(model_path(name), calibration()[:24], **options)
    found = qs.quantize(model_path(name), statistics=statistics, **options)
    assert found.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def test_every_estimator_on_the_activations_of_digits(
    digits: tuple[str, dict[str, Any], qs.CalibrationStatistics],
) -> None:
    """All combinations of statistic and aggregator, per tensor and per channel, to the bit."""
    name, _, statistics = digits
    adapter = adapter_for(model_path(name))
    graph = adapter.graph()
    taps = tuple(statistics.taps)
    samples = [
        {tap: value.copy() for tap, value in adapter.run(sample, taps).items()}
        for sample in qs.Dataset(calibration()[:24]).samples(graph)
    ]
    checked = 0
    for (statistic, aggregator), tap in itertools.product(COMBINATIONS, taps):
        branch = qs.StatisticsCollectorParameters(statistic, aggregator)
        params = qs.RangeEstimatorParameters(branch, branch)
        axis = statistics.taps[tap]
        for channel_axis, symmetric in itertools.product({None, axis}, (False, True)):
            if params.is_histogram and channel_axis is not None:
                continue
            kept = None if channel_axis is None else [i for i in range(samples[0][tap].ndim) if i != channel_axis]
            estimator = qs.RangeEstimator(params, reduction_axes=kept, symmetric=symmetric)
            for sample in samples:
                estimator.update(sample[tap])
            found = statistics.range(
                tap, params, per_channel=channel_axis is not None, symmetric=symmetric, strict=True
            )
            for mine, its in zip(found, estimator.range(), strict=True):
                assert (mine.dtype, mine.shape, mine.tobytes()) == (its.dtype, its.shape, its.tobytes())
            checked += 1
    assert checked > 2 * len(COMBINATIONS) * len(taps) - len(taps)


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_shards_of_digits_make_the_file_of_one_run(name: str, tmp_path: Any) -> None:
    data = calibration()[:12]
    whole = qs.calibrate(model_path(name), data, progress=False)
    whole.save(tmp_path / "whole")
    merged = None
    for first in (8, 0, 4):
        ids = range(first, first + 4)
        qs.calibrate(model_path(name), data[first : first + 4], sample_ids=ids, progress=False).save(
            tmp_path / f"{first}"
        )
        shard = qs.CalibrationStatistics.load(tmp_path / f"{first}")
        merged = merged or shard
        if merged is not shard:
            merged.merge(shard)
    assert merged == whole
    assert merged is not None
    merged.save(tmp_path / "merged")
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "whole").read_bytes()


# -- what is collected -----------------------------------------------------------------------------------------------


def test_what_is_observed_is_what_quantize_observes() -> None:
    network, data = residual_network(), images(5)
    statistics = collect(network, data)
    plan = from_data(network, data)
    assert set(statistics.taps) == {a.tensor for a in plan.activations}
    assert set(statistics.taps.values()) == {None}
    assert statistics.sample_ids == ("0", "1", "2", "3", "4")
    per_channel = qs.AdvancedQuantizationParameters(
        activations_quantization_params=qs.QuantizationParameters(per_channel=True)
    )
    plan = from_data(network, data, advanced_parameters=per_channel)
    assert any(a.channel_axis == 1 for a in plan.activations)
    for options in ({"per_channel": True}, {"advanced_parameters": per_channel}):
        assert collect(network, data, **options).taps == {a.tensor: a.channel_axis for a in plan.activations}


def test_no_run_is_needed_with_statistics() -> None:
    network, data = residual_network(), images(6)
    adapter = CountingAdapter(network)
    statistics = qs.calibrate(adapter, data, subset_size=4, progress=False)
    assert adapter.runs == statistics.num_samples == 4
    found = make_plan(adapter, statistics=statistics, progress=False)
    assert adapter.runs == 4
    assert found == from_data(network, data[:4])

    class Unreadable:
        def __iter__(self) -> Any:
            raise AssertionError("the data are read")

    assert make_plan(adapter, Unreadable(), statistics=statistics, progress=False) == found


@pytest.mark.parametrize(
    "options",
    [
        {"preset": qs.QuantizationPreset.MIXED},
        {"ignored_scope": qs.IgnoredScope(names=["conv1"])},
        {"advanced_parameters": qs.AdvancedQuantizationParameters(overflow_fix=qs.OverflowFix.ENABLE)},
        {
            "advanced_parameters": qs.AdvancedQuantizationParameters(
                activations_quantization_params=qs.QuantizationParameters(num_bits=4),
                activations_range_estimator_params=qs.RangeEstimatorParametersSet.HISTOGRAM,
            )
        },
        {
            "advanced_parameters": qs.AdvancedQuantizationParameters(
                activations_quantization_params=qs.QuantizationParameters(per_channel=True)
            )
        },
    ],
)
def test_scheme_bits_and_scope_can_be_chosen_afterwards(options: dict[str, Any]) -> None:
    network, data = residual_network(), images(8)
    statistics = collect(network, data, per_channel=True)
    assert from_statistics(network, statistics, **options) == from_data(network, data, **options)


def test_constants_that_are_read_as_activations_are_not_observed() -> None:
    b = NetworkBuilder()
    shift = b.constant("shift", np.linspace(-3, 2, 8).reshape(1, 8, 1, 1))
    x = b.layer("add", "add", b.conv("conv0", b.input("image", None, 3, 8, 8), (3, 8)), shift)
    network = b.build(b.conv("conv1", x, (8, 4)))
    statistics = collect(network, images(4))
    assert "shift" not in statistics
    assert from_statistics(network, statistics) == from_data(network, images(4))


def test_transformer_placement_is_followed() -> None:
    network, data = attention_network(), sequences(6)
    statistics = collect(network, data, model_type=qs.ModelType.TRANSFORMER)
    options = {"model_type": qs.ModelType.TRANSFORMER}
    assert from_statistics(network, statistics, **options) == from_data(network, data, **options)


def test_batchwise_statistics() -> None:
    network = residual_network()
    data = images(12)
    batches = [np.concatenate(data[i : i + 4]) for i in range(0, 12, 4)]
    advanced = qs.AdvancedQuantizationParameters(batchwise_statistics=True)
    statistics = collect(network, batches, advanced_parameters=advanced)
    assert statistics.batchwise
    expected = from_data(network, batches, advanced_parameters=advanced)
    assert from_statistics(network, statistics, advanced_parameters=advanced) == expected
    assert from_statistics(network, statistics) == expected
    whole = qs.AdvancedQuantizationParameters(batchwise_statistics=False)
    with pytest.raises(qs.ParameterError, match="batchwise_statistics=False, but the statistics were collected with"):
        from_statistics(network, statistics, advanced_parameters=whole)

    class Loader(list[Array]):
        batch_size = 4

    assert collect(network, Loader(batches)) == statistics


def test_estimators_that_need_more_are_exact_if_they_were_announced() -> None:
    network, data = residual_network(), images(8)
    params = qs.RangeEstimatorParametersSet.MEAN_QUANTILE
    params.min.quantile_outlier_prob = params.max.quantile_outlier_prob = 0.07
    advanced = with_estimator(params)
    with pytest.raises(qs.ParameterError, match=r"tensor 'image': .*0\.07 was not collected.*range_estimators"):
        from_statistics(network, collect(network, data), advanced_parameters=advanced)
    expected = from_data(network, data, advanced_parameters=advanced)
    for options in ({"range_estimators": [params]}, {"advanced_parameters": advanced}):
        assert from_statistics(network, collect(network, data, **options), advanced_parameters=advanced) == expected


def test_progress_is_told_after_every_sample() -> None:
    calls: list[tuple[int, int | None, int]] = []

    def note(done: int, total: int | None, tensors: int) -> None:
        calls.append((done, total, tensors))

    statistics = qs.calibrate(NumpyAdapter(residual_network()), images(5), subset_size=2, progress=note)
    tensors = len(statistics.taps)
    assert calls == [(0, 2, tensors), (1, 2, tensors), (2, 2, tensors)]


# -- identity --------------------------------------------------------------------------------------------------------


def test_statistics_of_another_model_are_refused() -> None:
    network, data = residual_network(), images(3)
    statistics = collect(network, data)
    for other, what in (
        (residual_network(seed=1), "the model in its constants, the graph is the same"),
        (dataclasses.replace(network, outputs=("relu2.out",)), "the model"),
    ):
        with pytest.raises(qs.DataError, match=r"the statistics are of another model: hash [0-9a-f]{64}"):
            from_statistics(other, statistics)
        with pytest.raises(qs.DataError, match=rf"differ in {what}: hash [0-9a-f]{{64}} and [0-9a-f]{{64}}"):
            copy.deepcopy(statistics).merge(collect(other, data, sample_ids=["a", "b", "c"]))


def test_the_hash_is_of_structure_and_constants() -> None:
    def hash_of(network: Any) -> str:
        adapter = NumpyAdapter(network)
        return model_hash(adapter, adapter.graph())

    network = residual_network()
    assert hash_of(network) == hash_of(residual_network())
    constants = dict(network.constants)
    changed = constants["conv1.weight"].copy()
    changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
    assert hash_of(dataclasses.replace(network, constants={**constants, "conv1.weight": changed})) != hash_of(network)
    for name in ("cnn", "transformer"):
        one, other = adapter_for(model_path(name)), adapter_for(model_path(name))
        assert model_hash(one, one.graph()) == model_hash(other, other.graph())


def test_statistics_that_lack_a_tensor_are_refused() -> None:
    network, data = residual_network(), images(3)
    statistics = collect(network, data, ignored_scope=qs.IgnoredScope(names=["conv1", "conv2", "add"]))
    with pytest.raises(qs.DataError, match=r"the statistics lack tensor .*same model_type, ignored_scope and advanced"):
        from_statistics(network, statistics)


def test_statistics_without_channels_are_refused_where_channels_are_quantized() -> None:
    network, data = residual_network(), images(3)
    advanced = qs.AdvancedQuantizationParameters(
        activations_quantization_params=qs.QuantizationParameters(per_channel=True)
    )
    with pytest.raises(qs.DataError, match=r"tensor 'image' are per tensor only.*axis 1; calibrate with per_channel"):
        from_statistics(network, collect(network, data), advanced_parameters=advanced)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"subset_size": 0}, qs.ParameterError, r"calibrate\.subset_size=0"),
        ({"per_channel": 1}, qs.ParameterError, r"calibrate\.per_channel=1 is not a bool"),
        ({"range_estimators": ["minmax"]}, qs.ParameterError, r"calibrate\.range_estimators='minmax' is not a Range"),
        ({"advanced_parameters": {}}, qs.ParameterError, r"calibrate\.advanced_parameters=\{\}"),
        ({"sample_ids": [0.5]}, qs.ParameterError, r"calibrate\.sample_ids has 0\.5"),
        ({"sample_ids": ["a"]}, qs.DataError, "there are 1 sample ids, and the data have more samples"),
        ({"sample_ids": ["a", "a", "b"]}, qs.DataError, "sample 'a' is there twice"),
        ({"sample_ids": range(4)}, qs.DataError, "there are 4 sample ids, and the data have 3 samples; give one for"),
        ({"progress": 5}, qs.ParameterError, r"calibrate\.progress=5 is not a bool, nor can it be called"),
        ({"progress": None}, qs.ParameterError, r"calibrate\.progress=None is not a bool"),
        ({"sample_ids": 5}, qs.ParameterError, r"calibrate\.sample_ids=5 is not a list; give an id for each"),
        ({"sample_ids": "run1"}, qs.ParameterError, r"calibrate\.sample_ids='run1' is not a list"),
        ({"range_estimators": None}, qs.ParameterError, r"calibrate\.range_estimators=None is not a list; write"),
        ({"range_estimators": "MINMAX"}, qs.ParameterError, r"calibrate\.range_estimators='MINMAX' is not a list"),
        (
            {"range_estimators": qs.RangeEstimatorParametersSet.MINMAX},
            qs.ParameterError,
            r"calibrate\.range_estimators=RangeEstimatorParameters\(.* is not a list",
        ),
    ],
)
def test_parameter_that_cannot_be_honoured(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        qs.calibrate(NumpyAdapter(residual_network()), images(3), **{"progress": False, **options})


def test_data_of_unknown_length_that_have_fewer_samples_than_there_are_ids() -> None:
    with pytest.raises(qs.DataError, match="there are 4 sample ids, and the data have 3 samples"):
        collect(residual_network(), iter(images(3)), sample_ids=range(4))


@pytest.mark.parametrize(
    ("ids", "options"),
    [
        (np.arange(10, 13), {}),
        (np.arange(10, 13, dtype=np.uint8), {}),
        (itertools.count(10), {}),
        (range(10, 20), {"subset_size": 3}),
    ],
)
def test_ids_are_integers_of_any_kind(ids: Any, options: dict[str, Any]) -> None:
    found = collect(residual_network(), images(5 if options else 3), sample_ids=ids, **options)
    assert found.sample_ids == ("10", "11", "12")


def test_quantize_needs_data_or_statistics() -> None:
    with pytest.raises(qs.DataError, match="nothing to calibrate with; give calibration_dataset, or statistics"):
        qs.quantize(NumpyAdapter(residual_network()))
    message = (
        r"quantize\.statistics='file' is not a CalibrationStatistics .*load a file with .*Statistics\.load\(path\)$"
    )
    with pytest.raises(qs.ParameterError, match=message):
        qs.quantize(NumpyAdapter(residual_network()), statistics="file")  # type: ignore[arg-type]
    with pytest.raises(qs.ParameterError, match=r"quantize\.progress='yes' is not a bool"):
        qs.quantize(NumpyAdapter(residual_network()), images(1), progress="yes")  # type: ignore[arg-type]


def test_quantize_refuses_data_that_it_would_not_read() -> None:
    network, data = residual_network(), images(3)
    statistics = collect(network, data)
    off = qs.AdvancedQuantizationParameters(disable_bias_correction=True)
    for options in ({}, {"fast_bias_correction": False, "advanced_parameters": off}):
        with pytest.raises(qs.ParameterError, match="calibration_dataset and statistics are both given, but ranges"):
            qs.quantize(NumpyAdapter(network), data, statistics=statistics, progress=False, **options)
    outputs = [
        NumpyAdapter(qs.quantize(NumpyAdapter(network), data, fast_bias_correction=False, progress=False, **given)).run(
            {"image": data[0]}, network.outputs
        )
        for given in ({}, {"statistics": statistics})
    ]
    np.testing.assert_equal(*outputs)


def test_a_tensor_without_a_range_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    network, data = residual_network(), images(2)
    uncollected = qs.StatisticsCollectorParameters(qs.StatisticsType.QUANTILE, quantile_outlier_prob=0.03)
    with pytest.raises(qs.ParameterError, match=r"^tensor 'image': the StatisticsType\.QUANTILE at probability 0\.03"):
        from_statistics(
            network,
            collect(network, data),
            advanced_parameters=with_estimator(qs.RangeEstimatorParameters(uncollected, uncollected)),
        )
    lost = collect(network, [np.full_like(data[0], np.nan)], non_finite="ignore")
    assert "'image' (192 NaN, 0 +Inf and 0 -Inf, which leaves nothing of 1 of 1 samples)" in caplog.messages[-1]
    with pytest.raises(
        qs.NonFiniteError, match=r"^tensor 'image': a range needs .* for 192 NaN, .*non_finite='clamp'$"
    ):
        from_statistics(network, lost)
    assert from_statistics(network, collect(network, [np.full_like(data[0], np.nan), data[1]], non_finite="ignore"))
    assert "which leaves nothing of 1 of 2 samples" in caplog.messages[-1]


def test_a_value_that_is_not_finite_names_tensor_and_sample() -> None:
    data = images(4)
    data[3][0, 0, 0, :2] = np.nan
    with pytest.raises(
        qs.NonFiniteError, match=r"tensor 'image' has 2 NaN, 0 \+Inf and 0 -Inf among 192 .*in sample '13'"
    ):
        collect(residual_network(), data, sample_ids=range(10, 14))


def test_empty_data() -> None:
    with pytest.raises(qs.DataError, match="calibration data are empty"):
        collect(residual_network(), [])
