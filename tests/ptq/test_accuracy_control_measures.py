"""The measures of accuracy control: drop, error of outputs, predicted noise, validation data."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from quantstats.adapters.protocol import Array
from quantstats.advanced_parameters import AdvancedQuantizationParameters, OverflowFix, QuantizationParameters
from quantstats.errors import DataError
from quantstats.parameters import DropType
from quantstats.ptq.accuracy_control.drop import accuracy_drop, is_within
from quantstats.ptq.accuracy_control.groups import find_groups
from quantstats.ptq.accuracy_control.output_noise import ReferenceOutputs, fingerprint, normalized_error
from quantstats.ptq.accuracy_control.predicted_noise import PredictedNoise
from quantstats.ptq.accuracy_control.validation_data import ValidationData
from quantstats.ptq.collection import calibrate
from quantstats.ptq.dataset import Dataset
from quantstats.ptq.quantize import make_plan
from quantstats.range_estimator import RangeEstimatorParametersSet

from .framework import Network, NetworkBuilder, NumpyAdapter, images, residual_network

# -- drop ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fp32", "int8", "drop_type", "drop"),
    [
        (0.8, 0.6, DropType.ABSOLUTE, 0.2),
        (0.8, 0.6, DropType.RELATIVE, 0.25),
        (0.6, 0.9, DropType.RELATIVE, -0.5),
        (-2.0, -3.0, DropType.RELATIVE, 0.5),
        (0.0, 0.0, DropType.RELATIVE, 0.0),
    ],
)
def test_drop(fp32: float, int8: float, drop_type: DropType, drop: float) -> None:
    assert accuracy_drop(fp32, int8, drop_type) == pytest.approx(drop)


def test_the_drop_agrees_with_nncf() -> None:
    from nncf.parameters import DropType as NncfDropType
    from nncf.quantization.algorithms.accuracy_control.algorithm import calculate_accuracy_drop

    random = np.random.default_rng(0)
    for fp32, int8, limit in random.uniform(0.1, 1, (200, 3)):
        for drop_type in DropType:
            passes, drop = calculate_accuracy_drop(fp32, int8, limit, NncfDropType(drop_type.value))
            ours = accuracy_drop(fp32, int8, drop_type)
            assert is_within(ours, limit) == passes
            if drop is not None:  # nncf has no relative drop where int8 is better
                assert ours == pytest.approx(drop)


def test_rounding_is_no_drop() -> None:
    assert 0.99 - 0.98 > 0.01
    assert is_within(accuracy_drop(0.99, 0.98, DropType.ABSOLUTE), 0.01)
    assert is_within(accuracy_drop(0.3, 0.1 + 0.2, DropType.ABSOLUTE), 0.0)
    assert not is_within(accuracy_drop(0.99, 0.9799, DropType.ABSOLUTE), 0.01)


# -- error of outputs ------------------------------------------------------------------------------------------------


def test_error_is_noise_over_signal() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 3, 5)).astype(np.float32)
    expected = float(np.sum((x - y).astype(np.float64) ** 2) / np.sum(x.astype(np.float64) ** 2))
    assert normalized_error([x], [y]) == pytest.approx(expected, rel=1e-6)
    assert normalized_error([x, y], [y, y]) == pytest.approx(expected / 2, rel=1e-6)
    assert normalized_error([x.astype(np.float16)], [x.astype(np.float16)]) == 0.0


def test_error_agrees_with_nncf() -> None:
    from nncf.quantization.algorithms.accuracy_control.rank_functions import normalized_mse

    random = np.random.default_rng(1)
    pairs = [random.normal(size=(2, 7)) for _ in range(3)]
    reference, outputs = [x for x, _ in pairs], [y for _, y in pairs]
    assert normalized_error(reference, outputs) == pytest.approx(normalized_mse(reference, outputs))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1.0], sys.float_info.max),
        ([1.0, math.inf], [2.0, math.inf], 1.0),
        ([1.0, math.nan], [1.0, math.nan], 0.0),
        ([1.0, 1.0], [1.0, math.nan], sys.float_info.max),
        ([1.0, 1.0], [1.0], sys.float_info.max),
    ],
)
def test_error_where_there_is_no_signal_or_no_number(x: list[float], y: list[float], expected: float) -> None:
    assert normalized_error([np.array(x)], [np.array(y)]) == expected


def test_outputs_of_integers_count_where_there_are_no_others() -> None:
    labels, others = np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])
    assert normalized_error([labels], [others]) == 0.25
    scores = np.array([1.0, 2.0])
    assert normalized_error([scores, labels], [scores, others]) == 0.0


def test_samples_are_told_apart_by_values_dtype_and_shape() -> None:
    x = np.arange(6, dtype=np.float32)
    others = [x + 1, x.reshape(2, 3), x.view(np.int32), x[::-1]]
    keys = {fingerprint({"x": value}, ["x"]) for value in (x, *others)}
    assert len(keys) == 5
    strided = np.repeat(x, 2)[::2]
    assert fingerprint({"x": strided, "label": np.ones(1)}, ["x"]) == fingerprint({"x": x}, ["x"])


def test_reference_outputs_are_copies_within_a_limit() -> None:
    reference = ReferenceOutputs(limit=100)
    value = np.ones(10, np.float32)
    reference.add(b"a", {"y": value})
    value[:] = 0
    reference.add(b"b", {"y": value})
    reference.add(b"c", {"y": value})  # 120 bytes in all
    kept = reference.get(b"a")
    assert kept is not None
    assert kept[0].tolist() == [1.0] * 10
    assert reference.get(b"b") is not None
    assert reference.get(b"c") is None


# -- predicted noise -------------------------------------------------------------------------------------------------


def predicted(network: Network, advanced: AdvancedQuantizationParameters) -> dict[str, float]:
    adapter, data = NumpyAdapter(network), images(32)
    statistics = calibrate(adapter, data, advanced_parameters=advanced, progress=False)
    plan = make_plan(adapter, statistics=statistics, advanced_parameters=advanced, progress=False)
    noise = PredictedNoise(adapter, adapter.graph(), plan, statistics)
    groups = find_groups(adapter.graph(), plan)
    found = {group.name: noise.of_group(group) for group in groups}
    assert sum(found.values()) == pytest.approx(noise.of_plan())
    return found


def test_activation_noise_is_what_rounding_adds() -> None:
    """Of the tensor that the first convolution reads, which is the image itself."""
    network = residual_network()
    advanced = AdvancedQuantizationParameters(disable_bias_correction=True)
    adapter, data = NumpyAdapter(network), images(32)
    statistics = calibrate(adapter, data, advanced_parameters=advanced, progress=False)
    plan = make_plan(adapter, statistics=statistics, advanced_parameters=advanced, progress=False)
    noise = PredictedNoise(adapter, adapter.graph(), plan, statistics)
    activation = plan.activations[0]
    assert activation.quantizer is not None
    assert activation.tensor == "image"
    x = np.concatenate(data)
    error = activation.quantizer.fake_quantize(x).astype(np.float64) - x
    assert noise.of_activation(activation) == pytest.approx(
        np.sum(error**2) / np.sum(x.astype(np.float64) ** 2), rel=0.05
    )


def test_fewer_bits_are_more_noise() -> None:
    noise = {
        bits: predicted(
            residual_network(),
            AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.DISABLE,
                activations_quantization_params=QuantizationParameters(num_bits=bits),
                weights_quantization_params=QuantizationParameters(num_bits=bits),
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                disable_bias_correction=True,
            ),
        )
        for bits in (4, 6, 8)
    }
    for name in noise[8]:
        # Nothing is clipped, and two bits are 12 dB: a factor of 16, or (31 / 7)^2 for the narrow levels of weights.
        assert 14 < noise[6][name] / noise[8][name] < 18
        assert 12 < noise[4][name] / noise[6][name] < 24


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_that_drown_the_others_are_noise(per_channel: bool) -> None:
    """By the sum of squares over the weight there is hardly any: all of it is in the weights that drown the others."""
    b = NetworkBuilder()
    x = b.layer("relu", "relu", b.conv("conv0", b.input("image", None, 3, 8, 8), (3, 8)))
    network = b.build(b.conv("conv1", b.layer("relu", "relu1", b.conv("poisoned", x, (8, 8))), (8, 4)))
    constants = {name: value.copy() for name, value in network.constants.items()}
    constants["poisoned.weight"][:, 2] = 1e4
    poisoned = Network(network.layers, constants, network.inputs, network.outputs)
    advanced = AdvancedQuantizationParameters(
        weights_quantization_params=QuantizationParameters(per_channel=per_channel), disable_bias_correction=True
    )
    noise = predicted(poisoned, advanced)
    assert max(noise, key=noise.__getitem__) == "poisoned"
    # Seven of eight inputs have lost their weights.
    assert noise["poisoned"] == pytest.approx(7 / 8, rel=0.05)
    assert noise["conv1"] < 0.05


def test_activations_per_channel_are_predicted() -> None:
    advanced = AdvancedQuantizationParameters(
        activations_quantization_params=QuantizationParameters(per_channel=True), disable_bias_correction=True
    )
    assert all(0 < value < 0.05 for value in predicted(residual_network(), advanced).values())


# -- validation data -------------------------------------------------------------------------------------------------


def test_items_by_position_in_any_source() -> None:
    class Loader:
        def __iter__(self) -> Iterator[int]:
            return iter(range(10))

    expected = [1, 4, 9]
    sources: list[Any] = [list(range(10)), range(10), Loader(), Dataset(range(10), lambda item: -item)]
    for source in sources:
        data = ValidationData(source)
        assert list(data.items([1, 4, 9])) == expected
        assert len(data.items([1, 4, 9])) == 3
        assert list(data.items()) == list(data.items()) == list(range(10))
        assert data.length_hint() == (None if isinstance(source, Loader) else 10)


def test_arrays_are_read_in_slices_of_one() -> None:
    array: Array = np.arange(6).reshape(3, 2)
    assert [item.tolist() for item in ValidationData(array).items()] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    (item,) = ValidationData({"x": array, "label": np.array([7, 8, 9])}).items([1])
    assert {name: value.tolist() for name, value in item.items()} == {"x": [[2, 3]], "label": [8]}


def test_a_dataset_of_nncf_gives_its_items() -> None:
    import nncf

    data = ValidationData(nncf.Dataset([(1, "a"), (2, "b"), (3, "c")], lambda item: item[0]))
    assert list(data.items()) == [(1, "a"), (2, "b"), (3, "c")]
    assert list(data.items([0, 2])) == [(1, "a"), (3, "c")]


@pytest.mark.parametrize("data", [(x for x in [1]), Dataset(iter([1])), np.float32(1), "abc", None])
def test_data_that_cannot_be_read_again_are_refused(data: Any) -> None:
    with pytest.raises(DataError, match=r"; give a list, an array|axis 0"):
        ValidationData(data)
