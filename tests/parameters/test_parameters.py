"""Parameters of a run and advanced parameters: limits at construction, one clear line for each mistake."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from quantstats.advanced_parameters import (
    AdvancedAccuracyRestorerParameters,
    AdvancedBiasCorrectionParameters,
    AdvancedQuantizationParameters,
    OverflowFix,
    QuantizationParameters,
)
from quantstats.errors import (
    DataError,
    IgnoredScopeError,
    ModelError,
    NonFiniteError,
    NothingToQuantizeError,
    ParameterError,
    QuantizationError,
    UnsupportedModelError,
)
from quantstats.parameters import IgnoredScope, QuantizationMode, QuantizationPreset, Subgraph
from quantstats.range_estimator import RangeEstimatorParameters


def test_string_enumerations_are_strings() -> None:
    assert OverflowFix.FIRST_LAYER == "first_layer_only"
    assert str(QuantizationPreset.MIXED) == "mixed"
    assert f"{QuantizationMode.SYMMETRIC}" == "symmetric"


def test_schemes_of_the_presets() -> None:
    assert QuantizationPreset.PERFORMANCE.activations_mode is QuantizationMode.SYMMETRIC
    assert QuantizationPreset.MIXED.activations_mode is QuantizationMode.ASYMMETRIC
    assert {preset.weights_mode for preset in QuantizationPreset} == {QuantizationMode.SYMMETRIC}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantizationParameters(num_bits=1), "num_bits=1 .* 2 to 8, or 16"),
        (lambda: QuantizationParameters(num_bits=9), "num_bits=9 "),
        (lambda: QuantizationParameters(num_bits=True), "num_bits=True "),
        (lambda: QuantizationParameters(num_bits=8.0), r"num_bits=8\.0 "),
        (lambda: QuantizationParameters(mode="symmetric"), r"mode='symmetric' .*QuantizationMode\.SYMMETRIC"),
        (lambda: QuantizationParameters(per_channel=1), "per_channel=1 is not a bool"),
        (lambda: AdvancedBiasCorrectionParameters(threshold=0), "threshold=0 "),
        (lambda: AdvancedQuantizationParameters(overflow_fix="enable"), r"overflow_fix='enable' .*OverflowFix\.ENABLE"),
        (lambda: AdvancedQuantizationParameters(quantize_outputs=None), "quantize_outputs=None "),
        (lambda: AdvancedQuantizationParameters(weights_quantization_params={}), "weights_quantization_params={} "),
        (lambda: AdvancedQuantizationParameters(activations_range_estimator_params=None), "from_nncf"),
        (lambda: AdvancedQuantizationParameters(backend_params=[1]), r"backend_params=\[1\] "),
        (lambda: AdvancedAccuracyRestorerParameters(max_num_iterations=-1), "max_num_iterations=-1 "),
        (lambda: AdvancedAccuracyRestorerParameters(ranking_subset_size=0), "ranking_subset_size=0 "),
        (lambda: IgnoredScope(names="conv1"), r"names='conv1' .*names=\['\.\.\.'\]"),
        (lambda: IgnoredScope(subgraphs=["a"]), r"subgraphs=\['a'\] .*Subgraph"),
        (lambda: IgnoredScope(validate="no"), "validate='no'"),
        (lambda: Subgraph(inputs=[1]), r"inputs=\[1\]"),
    ],
)
def test_a_wrong_value_is_named_with_its_field_and_remedy(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_malformed_pattern_is_an_ignored_scope_error() -> None:
    with pytest.raises(IgnoredScopeError, match=r"'\(conv' is not a valid regular expression"):
        IgnoredScope(patterns=["ok", "(conv"])


def test_defaults() -> None:
    assert AdvancedAccuracyRestorerParameters().max_num_iterations == sys.maxsize
    params = AdvancedQuantizationParameters()
    assert params.overflow_fix is None
    assert params.activations_range_estimator_params == RangeEstimatorParameters()
    assert params.activations_range_estimator_params is not params.weights_range_estimator_params
    assert IgnoredScope().validate


def test_hierarchy_of_errors() -> None:
    for error in (ParameterError, DataError):
        assert issubclass(error, QuantizationError)
        assert issubclass(error, ValueError)
    assert issubclass(IgnoredScopeError, ParameterError)
    assert issubclass(NonFiniteError, DataError)
    assert issubclass(ModelError, QuantizationError)
    assert issubclass(UnsupportedModelError, ModelError)
    assert issubclass(NothingToQuantizeError, ModelError)
