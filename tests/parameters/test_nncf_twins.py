"""The parameter classes against their twins in the installed nncf."""

from __future__ import annotations

import dataclasses
import importlib
from enum import Enum
from typing import Any

import pytest

from quantstats import advanced_parameters, parameters, range_estimator
from quantstats.errors import ParameterError
from quantstats.parameters import IgnoredScope, QuantizationMode, Subgraph
from quantstats.quantizer import QuantizerConfig
from quantstats.range_estimator import RangeEstimatorParametersSet

RE = "nncf.quantization.range_estimator"
AP = "nncf.quantization.advanced_parameters"

ENUMERATIONS = [
    (range_estimator.StatisticsType, f"{RE}.StatisticsType"),
    (range_estimator.AggregatorType, f"{RE}.AggregatorType"),
    (advanced_parameters.OverflowFix, f"{AP}.OverflowFix"),
    (advanced_parameters.RestoreMode, f"{AP}.RestoreMode"),
    (parameters.QuantizationPreset, "nncf.QuantizationPreset"),
    (parameters.TargetDevice, "nncf.TargetDevice"),
    (parameters.ModelType, "nncf.ModelType"),
    (parameters.DropType, "nncf.DropType"),
]
DATACLASSES = [
    (range_estimator.StatisticsCollectorParameters, f"{RE}.StatisticsCollectorParameters"),
    (range_estimator.RangeEstimatorParameters, f"{RE}.RangeEstimatorParameters"),
    (advanced_parameters.QuantizationParameters, f"{AP}.QuantizationParameters"),
    (advanced_parameters.AdvancedBiasCorrectionParameters, f"{AP}.AdvancedBiasCorrectionParameters"),
    (advanced_parameters.AdvancedQuantizationParameters, f"{AP}.AdvancedQuantizationParameters"),
    (advanced_parameters.AdvancedAccuracyRestorerParameters, f"{AP}.AdvancedAccuracyRestorerParameters"),
    (parameters.Subgraph, "nncf.Subgraph"),
    (parameters.IgnoredScope, "nncf.IgnoredScope"),
]
# Fields that only one side has, and why.
ONLY_OURS = {
    "convert_to_mixed_preset",  # nncf dropped it
    "overflow_pairing",
}
# Kinds of CPUs that nncf does not tell apart.
ONLY_OUR_CPUS = ("AVX2", "AVX512", "VNNI")
# Range estimators that nncf lacks, and the preset of nncf that an error recommends.
ONLY_OUR_MEMBERS = {"MSE": "HISTOGRAM", "ENTROPY": "HISTOGRAM", "PERCENTILE": "MEAN_QUANTILE", "AUTO": "HISTOGRAM"}
ONLY_NNCF = {
    # not honoured by quantstats, so absent
    "disable_channel_alignment",
    "quantizer_propagation_rule",
    "smooth_quant_alphas",
    "smooth_quant_alpha",
}


def load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.fixture(scope="module")
def nncf() -> Any:
    return importlib.import_module("nncf")


@pytest.mark.usefixtures("nncf")
@pytest.mark.parametrize(("ours", "path"), ENUMERATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_enumerations_have_the_same_members(ours: Any, path: str) -> None:
    theirs = load(path)
    shared = [member for member in ours if member.name not in (*ONLY_OUR_MEMBERS, *ONLY_OUR_CPUS)]
    assert [(m.name, m.value) for m in shared] == [(m.name, m.value) for m in theirs]
    for member in shared:
        assert member.to_nncf() is theirs(member.value)
        assert ours.from_nncf(member.to_nncf()) is member


def test_quantization_mode_is_the_scheme_of_nncf(nncf: Any) -> None:
    scheme = load("nncf.common.quantization.structs.QuantizationScheme")
    for mode in QuantizationMode:
        assert mode.to_nncf() is scheme(mode.value)
        assert QuantizationMode.from_nncf(scheme(mode.value)) is mode
    with pytest.raises(ParameterError, match=r"SYMMETRIC_LORA.*use one of SYMMETRIC, ASYMMETRIC"):
        QuantizationMode.from_nncf(scheme.SYMMETRIC_LORA)
    with pytest.raises(ParameterError, match="FP8_E4M3"):
        QuantizationMode.from_nncf(nncf.QuantizationMode.FP8_E4M3)


def plain(value: Any) -> Any:
    """A parameter value without its library: field dictionaries and enumeration values."""
    if dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in fields if name not in ONLY_NNCF | ONLY_OURS}
    if isinstance(value, Enum):
        return value.value
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.usefixtures("nncf")
@pytest.mark.parametrize(("ours", "path"), DATACLASSES, ids=lambda value: getattr(value, "__name__", ""))
def test_dataclasses_have_the_same_fields_order_and_defaults(ours: Any, path: str) -> None:
    theirs = load(path)
    names = [f.name for f in dataclasses.fields(ours) if f.name not in ONLY_OURS]
    assert names == [f.name for f in dataclasses.fields(theirs) if f.name not in ONLY_NNCF]
    assert plain(ours()) == plain(theirs())
    assert ours.from_nncf(theirs()) == ours()
    assert ours().to_nncf() == theirs()


@pytest.mark.usefixtures("nncf")
def test_presets_have_the_same_parameters() -> None:
    theirs = load(f"{RE}.RangeEstimatorParametersSet")
    names = [name for name in vars(theirs) if name.isupper()]
    ours = {name for name in vars(RangeEstimatorParametersSet) if name.isupper()}
    assert sorted(names) == sorted(ours - ONLY_OUR_MEMBERS.keys())
    for name in names:
        preset = getattr(RangeEstimatorParametersSet, name)
        assert preset.to_nncf() == getattr(theirs, name)
        assert range_estimator.RangeEstimatorParameters.from_nncf(getattr(theirs, name)) == preset


@pytest.mark.usefixtures("nncf")
@pytest.mark.parametrize(("name", "nearest"), ONLY_OUR_MEMBERS.items())
def test_range_estimators_that_nncf_lacks_name_the_nearest_it_has(name: str, nearest: str) -> None:
    advanced = advanced_parameters.AdvancedQuantizationParameters(
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, name)
    )
    for params in (range_estimator.AggregatorType[name], advanced):
        with pytest.raises(ParameterError, match=rf"AggregatorType\.{name} does not exist in nncf.*Set\.{nearest}$"):
            params.to_nncf()
    assert getattr(load(f"{RE}.RangeEstimatorParametersSet"), nearest)


@pytest.mark.usefixtures("nncf")
@pytest.mark.parametrize(
    ("member", "message"),
    [
        (advanced_parameters.OverflowFix.AUTO, "no counterpart of auto in OverflowFix; use one of ENABLE, FIRST_LAYER"),
        *(
            (parameters.TargetDevice[name], f"no counterpart of {name} in TargetDevice; use one of ANY, CPU")
            for name in ONLY_OUR_CPUS
        ),
    ],
)
def test_what_nncf_lacks_is_refused_by_name(member: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        member.to_nncf()


@pytest.mark.usefixtures("nncf")
def test_a_pairing_is_not_dropped_in_silence() -> None:
    advanced = advanced_parameters.AdvancedQuantizationParameters(overflow_pairing="adjacent")
    with pytest.raises(ParameterError, match=r"overflow_pairing='adjacent' .* does not exist in the installed nncf"):
        advanced.to_nncf()


@pytest.mark.usefixtures("nncf")
def test_nested_values_survive_the_round_trip() -> None:
    scope = IgnoredScope(names=["a"], patterns=[r"b\d"], types=["Softmax"], subgraphs=[Subgraph(["x"], ["y"])])
    advanced = advanced_parameters.AdvancedQuantizationParameters(
        overflow_fix=advanced_parameters.OverflowFix.DISABLE,
        batchwise_statistics=True,
        weights_quantization_params=advanced_parameters.QuantizationParameters(
            4, QuantizationMode.ASYMMETRIC, None, True, False
        ),
        activations_range_estimator_params=RangeEstimatorParametersSet.MEAN_QUANTILE,
        bias_correction_params=advanced_parameters.AdvancedBiasCorrectionParameters(True, 3.0),
        backend_params={"key": 1},
    )
    for params in (scope, advanced):
        there = params.to_nncf()
        assert type(there).__module__.startswith("nncf")
        assert type(params).from_nncf(there) == params
    assert plain(advanced.to_nncf()) == plain(advanced)


def test_a_field_that_one_side_lacks_must_have_its_default(nncf: Any) -> None:
    theirs = nncf.AdvancedQuantizationParameters(disable_channel_alignment=False)
    with pytest.raises(ParameterError, match=r"disable_channel_alignment=False .* leave it at its default True"):
        advanced_parameters.AdvancedQuantizationParameters.from_nncf(theirs)
    ours = advanced_parameters.AdvancedAccuracyRestorerParameters(convert_to_mixed_preset=True)
    with pytest.raises(ParameterError, match=r"convert_to_mixed_preset=True .* leave it at its default False"):
        ours.to_nncf()


def test_fp8_parameters_are_refused(nncf: Any) -> None:
    fp8 = load(f"{AP}.FP8QuantizationParameters")()
    theirs = nncf.AdvancedQuantizationParameters(weights_quantization_params=fp8)
    with pytest.raises(ParameterError, match=r"FP8QuantizationParameters is not supported.*use QuantizationParameters"):
        advanced_parameters.AdvancedQuantizationParameters.from_nncf(theirs)


@pytest.mark.usefixtures("nncf")
def test_quantizer_config_round_trip() -> None:
    config = QuantizerConfig(4, QuantizationMode.ASYMMETRIC, True, False, True)
    there = config.to_nncf()
    assert (there.num_bits, there.per_channel, there.signedness_to_force, there.narrow_range) == (4, True, False, True)
    assert QuantizerConfig.from_nncf(there) == config
