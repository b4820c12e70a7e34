"""What cannot be honoured is refused at construction or at the call, before any data is read, with the field's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import quantstats as qs
from quantstats.errors import IgnoredScopeError, ParameterError, QuantizationError
from quantstats.parameters import IgnoredScope, QuantizationMode, TargetDevice
from quantstats.quantizer import QuantizerConfig, quantizer_from_range
from quantstats.range_estimator import AggregatorType as A
from quantstats.range_estimator import StatisticsType as S

from ..adapters.onnx.models import small_cnn

Branch, Range, Set = qs.StatisticsCollectorParameters, qs.RangeEstimatorParameters, qs.RangeEstimatorParametersSet
Parameters, Advanced = qs.QuantizationParameters, qs.AdvancedQuantizationParameters
HISTOGRAM = Branch(S.RAW, A.HISTOGRAM)

AT_CONSTRUCTION: dict[str, tuple[Callable[[], Any], str]] = {
    "no bits": (lambda: Parameters(num_bits=1), "QuantizationParameters.num_bits=1"),
    "9 bits": (lambda: Parameters(num_bits=9), "QuantizationParameters.num_bits=9"),
    "32 bits": (lambda: QuantizerConfig(num_bits=32), "QuantizerConfig.num_bits=32"),
    "mode of a string": (lambda: Parameters(mode="symmetric"), "QuantizationParameters.mode='symmetric'"),  # type: ignore[arg-type]
    "no probability": (lambda: Branch(quantile_outlier_prob=0.0), "quantile_outlier_prob=0.0"),
    "half": (lambda: Branch(quantile_outlier_prob=0.5), "quantile_outlier_prob=0.5"),
    "above one": (lambda: Branch(quantile_outlier_prob=1.5), "quantile_outlier_prob=1.5"),
    "clipping to nothing": (lambda: Branch(clipping_value=0.0), "clipping_value=0.0"),
    "raw without histogram": (lambda: Branch(S.RAW, A.MAX), "aggregator_type=.*MAX.* cannot aggregate the RAW"),
    "histogram of maxima": (lambda: Branch(S.MAX, A.HISTOGRAM), "statistics_type=.*MAX.* cannot feed the HISTOGRAM"),
    "histogram of one branch": (lambda: Range(min=HISTOGRAM), r"RangeEstimatorParameters\.max has"),
    "histogram of the other branch": (lambda: Range(max=HISTOGRAM), r"RangeEstimatorParameters\.min has"),
    "histogram with two limits": (
        lambda: Range(min=Branch(S.RAW, A.HISTOGRAM, 1.0), max=HISTOGRAM),
        "min.clipping_value=1.0 and max.clipping_value=None differ",
    ),
    "overflow fix of a string": (lambda: Advanced(overflow_fix="enable"), "overflow_fix='enable'"),  # type: ignore[arg-type]
    "no pattern": (lambda: IgnoredScope(patterns=["("]), "patterns.*not a valid regular expression"),
    "threshold": (lambda: qs.AdvancedBiasCorrectionParameters(threshold=-1.0), "threshold=-1.0"),
    "iterations": (lambda: qs.AdvancedAccuracyRestorerParameters(max_num_iterations=-1), "max_num_iterations=-1"),
    "ranking": (lambda: qs.AdvancedAccuracyRestorerParameters(ranking_subset_size=0), "ranking_subset_size=0"),
}

ASYMMETRIC = Parameters(mode=QuantizationMode.ASYMMETRIC)
AT_THE_CALL: dict[str, tuple[dict[str, Any], str]] = {
    "half range of asymmetric weights": (
        {"advanced_parameters": Advanced(qs.OverflowFix.ENABLE, weights_quantization_params=ASYMMETRIC)},
        "overflow_fix='enable' needs 8-bit symmetric weights, but weights_quantization_params",
    ),
    "half range of 4 bits": (
        {"advanced_parameters": Advanced(qs.OverflowFix.FIRST_LAYER, weights_quantization_params=Parameters(4))},
        "overflow_fix='first_layer_only' needs 8-bit symmetric weights",
    ),
    "histogram of weights per channel": (
        {"advanced_parameters": Advanced(weights_range_estimator_params=Set.HISTOGRAM)},
        "weights_range_estimator_params: .*HISTOGRAM estimates one range per tensor",
    ),
    "histogram of activations per channel": (
        {
            "advanced_parameters": Advanced(
                activations_quantization_params=Parameters(per_channel=True),
                activations_range_estimator_params=Set.HISTOGRAM,
            )
        },
        "activations_range_estimator_params: .*HISTOGRAM estimates one range per tensor",
    ),
    "backend": ({"advanced_parameters": Advanced(backend_params={"key": 1})}, "backend_params has 'key'"),
    "device": ({"target_device": TargetDevice.GPU}, "target_device=GPU"),
    "preset of a string": ({"preset": "mixed"}, "preset='mixed'"),
    "no samples": ({"subset_size": 0}, "subset_size=0"),
    "scope without a match": ({"ignored_scope": IgnoredScope(names=["nothing"])}, "name 'nothing'"),
    "everything ignored": ({"ignored_scope": IgnoredScope(patterns=[".*"])}, "nothing is left to quantize"),
}


@pytest.mark.parametrize("name", AT_CONSTRUCTION)
def test_refused_at_construction(name: str) -> None:
    build, message = AT_CONSTRUCTION[name]
    with pytest.raises((ParameterError, IgnoredScopeError), match=message):
        build()


@pytest.mark.parametrize("name", AT_THE_CALL)
def test_refused_at_the_call(name: str) -> None:
    options, message = AT_THE_CALL[name]

    def data() -> Iterator[Any]:
        pytest.fail("data are read before the parameters are checked")
        yield

    with pytest.raises(QuantizationError, match=message):
        qs.quantize(small_cnn(), data(), progress=False, **options)


def test_half_range_of_an_asymmetric_quantizer() -> None:
    config = QuantizerConfig(mode=QuantizationMode.ASYMMETRIC)
    with pytest.raises(ParameterError, match="half_range=True is defined for symmetric 8-bit weights"):
        quantizer_from_range(np.float32(-1), np.float32(1), config, half_range=True)
