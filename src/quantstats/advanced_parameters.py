"""Parameters for those who want to change how a model is quantized. Names and defaults are nncf's.

Fields of nncf that quantstats does not honour are absent rather than ignored: `from_nncf` refuses an object where one
of them is set.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar

from quantstats._twins import TwinDataclass, TwinStrEnum
from quantstats._validation import (
    check_bool,
    check_count,
    check_instance,
    check_member,
    check_num_bits,
    check_path,
    check_positive,
    check_settings,
    check_string,
)
from quantstats.parameters import QuantizationMode
from quantstats.range_estimator import RangeEstimatorParameters

__all__ = [
    "AdvancedAccuracyRestorerParameters",
    "AdvancedBiasCorrectionParameters",
    "AdvancedQuantizationParameters",
    "OverflowFix",
    "QuantizationParameters",
    "RestoreMode",
]

_NNCF_MODULE = "nncf.quantization.advanced_parameters"


class OverflowFix(TwinStrEnum):
    """Which weights give up one bit so that 16-bit sums of u8 x s8 products cannot saturate.

    CPUs without VNNI add two adjacent products with ``vpmaddubsw``, which saturates at 16 bits. Weights of half the
    range, [-64, 63], cannot reach that limit; they cost about 6 dB of weight SQNR.

    ENABLE: the weights of every convolution and matrix multiplication. FIRST_LAYER: those of the convolutions that
    read a model input. DISABLE: none; right for CPUs with VNNI. AUTO, which nncf does not have: full range where it is
    proven that no input saturates, else the finest scale of which that is proven, see `AdvancedQuantizationParameters`.
    """

    ENABLE = "enable"
    FIRST_LAYER = "first_layer_only"
    DISABLE = "disable"
    AUTO = "auto"

    @classmethod
    def _nncf_path(cls) -> str:
        return f"{_NNCF_MODULE}.OverflowFix"


class RestoreMode(TwinStrEnum):
    """What of an operation returns to floating point when accuracy is restored.

    ACTIVATIONS_AND_WEIGHTS: all of it. ONLY_ACTIVATIONS: its inputs; weights stay rounded to integers, so that the
    model stays small, and are multiplied in floating point.
    """

    ACTIVATIONS_AND_WEIGHTS = "activations_and_weights"
    ONLY_ACTIVATIONS = "only_activations"

    @classmethod
    def _nncf_path(cls) -> str:
        return f"{_NNCF_MODULE}.RestoreMode"


@dataclass
class QuantizationParameters(TwinDataclass):
    """How weights, or activations, are quantized. A field left None takes the default of the preset.

    :param num_bits: bit width: 2 to 8, or 16. Default 8.
    :param mode: the scheme, see `QuantizationMode`. Default: the preset's.
    :param signedness_to_force: True forces signed levels in the symmetric scheme. None and False choose by the data:
        signed as soon as a lower bound is negative.
    :param per_channel: one range per channel (True) or per tensor (False). Default: weights True, activations False.
    :param narrow_range: drops one level: [0, 2^b - 2] unsigned symmetric, [-2^(b-1) + 1, 2^(b-1) - 1] signed,
        [1, 2^b - 1] asymmetric. Default False.
    :raises ParameterError: a value is outside its limits.
    """

    _NNCF_PATH: ClassVar[str] = f"{_NNCF_MODULE}.QuantizationParameters"
    _NESTED: ClassVar[dict[str, Any]] = {"mode": QuantizationMode}

    num_bits: int | None = None
    mode: QuantizationMode | None = None
    signedness_to_force: bool | None = None
    per_channel: bool | None = None
    narrow_range: bool | None = None

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if self.num_bits is not None:
            check_num_bits(owner, "num_bits", self.num_bits)
        if self.mode is not None:
            check_member(owner, "mode", self.mode, QuantizationMode)
        for name in ("signedness_to_force", "per_channel", "narrow_range"):
            if getattr(self, name) is not None:
                check_bool(owner, name, getattr(self, name))


@dataclass
class AdvancedBiasCorrectionParameters(TwinDataclass):
    """How biases are corrected for the mean error that quantization adds.

    :param apply_for_all_nodes: also correct operations that have no bias yet, by giving them one.
    :param threshold: an operation whose largest relative bias shift reaches this value is left as it is. None takes
        the default of the algorithm: 2 for fast, 1000 for full bias correction.
    :raises ParameterError: a value is outside its limits.
    """

    _NNCF_PATH: ClassVar[str] = f"{_NNCF_MODULE}.AdvancedBiasCorrectionParameters"

    apply_for_all_nodes: bool = False
    threshold: float | None = None

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_bool(owner, "apply_for_all_nodes", self.apply_for_all_nodes)
        if self.threshold is not None:
            check_positive(owner, "threshold", self.threshold)


@dataclass
class AdvancedQuantizationParameters(TwinDataclass):
    """Advanced parameters of a quantization run.

    :param overflow_fix: see `OverflowFix`. None: DISABLE for the target VNNI; else, if weights and activations have 8
        bits, AUTO for the targets AVX2 and AVX512 and FIRST_LAYER for others; else DISABLE.
    :param quantize_outputs: quantize the model's outputs too.
    :param inplace_statistics: True lets the framework reduce the activations of which only minimum and maximum are
        needed, so that they are not handed out, where its adapter can; False takes every statistic with the kernels
        of quantstats. The statistics are the same by the bit with either value.
    :param disable_bias_correction: leave biases as they are.
    :param batchwise_statistics: True makes each item of axis 0 a sample of its own, False the whole tensor. None
        leaves the choice to the data source.
    :param activations_quantization_params: how activations are quantized; None takes all defaults.
    :param weights_quantization_params: how weights are quantized; None takes all defaults.
    :param activations_range_estimator_params: how the ranges of activations are estimated.
    :param weights_range_estimator_params: how the ranges of weights are estimated.
    :param bias_correction_params: see `AdvancedBiasCorrectionParameters`.
    :param backend_params: settings that only one adapter understands, by name; an unknown name is an error. The ONNX
        adapter takes ``"num_threads"`` (threads of onnxruntime in calibration), ``"external_data_dir"`` (directory of
        the external data of an ``onnx.ModelProto``) and ``"four_bit_types"`` (False stores weights of at most 4 bits in
        int8, for which onnxruntime has kernels, also where the opset has 4-bit types, which halve the file).
    :param overflow_pairing: for AUTO, which weights the runtime adds up in pairs, a name of
        ``quantstats.overflow.PAIRINGS``. ``"any"`` holds for every runtime. nncf does not have it.
    :raises ParameterError: a value has the wrong type.
    """

    _NNCF_PATH: ClassVar[str] = f"{_NNCF_MODULE}.AdvancedQuantizationParameters"
    _NESTED: ClassVar[dict[str, Any]] = {
        "overflow_fix": OverflowFix,
        "activations_quantization_params": QuantizationParameters,
        "weights_quantization_params": QuantizationParameters,
        "activations_range_estimator_params": RangeEstimatorParameters,
        "weights_range_estimator_params": RangeEstimatorParameters,
        "bias_correction_params": AdvancedBiasCorrectionParameters,
    }

    overflow_fix: OverflowFix | None = None
    quantize_outputs: bool = False
    inplace_statistics: bool = True
    disable_bias_correction: bool = False
    batchwise_statistics: bool | None = None
    activations_quantization_params: QuantizationParameters | None = None
    weights_quantization_params: QuantizationParameters | None = None
    activations_range_estimator_params: RangeEstimatorParameters = field(default_factory=RangeEstimatorParameters)
    weights_range_estimator_params: RangeEstimatorParameters = field(default_factory=RangeEstimatorParameters)
    bias_correction_params: AdvancedBiasCorrectionParameters = field(default_factory=AdvancedBiasCorrectionParameters)
    backend_params: dict[str, Any] = field(default_factory=dict)
    overflow_pairing: str = "any"

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_string(owner, "overflow_pairing", self.overflow_pairing)
        if self.overflow_fix is not None:
            check_member(owner, "overflow_fix", self.overflow_fix, OverflowFix)
        for name in ("quantize_outputs", "inplace_statistics", "disable_bias_correction"):
            check_bool(owner, name, getattr(self, name))
        if self.batchwise_statistics is not None:
            check_bool(owner, "batchwise_statistics", self.batchwise_statistics)
        for name in ("activations_quantization_params", "weights_quantization_params"):
            if getattr(self, name) is not None:
                check_instance(owner, name, getattr(self, name), QuantizationParameters)
        for name in ("activations_range_estimator_params", "weights_range_estimator_params"):
            check_instance(owner, name, getattr(self, name), RangeEstimatorParameters)
        check_instance(owner, "bias_correction_params", self.bias_correction_params, AdvancedBiasCorrectionParameters)
        check_settings(owner, "backend_params", self.backend_params)


@dataclass
class AdvancedAccuracyRestorerParameters(TwinDataclass):
    """How accuracy is restored when int8 loses more than allowed.

    :param max_num_iterations: most groups of quantizers that may be reverted to floating point. The default is no
        limit.
    :param tune_hyperparams: first search range estimators, preset, granularity of weights and bias correction.
    :param convert_to_mixed_preset: first try asymmetric activations.
    :param ranking_subset_size: how many of the samples that int8 hurt most are used to rank the groups. None uses
        the calibration subset size.
    :param num_ranking_workers: how many models are prepared ahead, each by a thread, while one is measured. The
        result does not depend on it. None is 1: they are prepared one after the other.
    :param intermediate_model_dir: a directory for the quantized model before anything is reverted, where the adapter
        can save models, and for the journal from which a run that was killed resumes. It is made if it does not exist.
    :param restore_mode: see `RestoreMode`.
    :raises ParameterError: a value is outside its limits.
    """

    _NNCF_PATH: ClassVar[str] = f"{_NNCF_MODULE}.AdvancedAccuracyRestorerParameters"
    _NESTED: ClassVar[dict[str, Any]] = {"restore_mode": RestoreMode}

    max_num_iterations: int = sys.maxsize
    tune_hyperparams: bool = False
    convert_to_mixed_preset: bool = False
    ranking_subset_size: int | None = None
    num_ranking_workers: int | None = None
    intermediate_model_dir: str | None = None
    restore_mode: RestoreMode = RestoreMode.ACTIVATIONS_AND_WEIGHTS

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_count(owner, "max_num_iterations", self.max_num_iterations, least=0)
        check_bool(owner, "tune_hyperparams", self.tune_hyperparams)
        check_bool(owner, "convert_to_mixed_preset", self.convert_to_mixed_preset)
        for name in ("ranking_subset_size", "num_ranking_workers"):
            if getattr(self, name) is not None:
                check_count(owner, name, getattr(self, name), least=1)
        if self.intermediate_model_dir is not None:
            check_path(owner, "intermediate_model_dir", self.intermediate_model_dir)
        check_member(owner, "restore_mode", self.restore_mode, RestoreMode)
