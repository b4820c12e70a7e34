"""From what a user asks for to the configuration of every quantizer: preset, parameters, overflow fix."""

from __future__ import annotations

from dataclasses import dataclass

from quantstats.advanced_parameters import OverflowFix, QuantizationParameters
from quantstats.errors import ParameterError
from quantstats.parameters import ModelType, QuantizationMode, QuantizationPreset, TargetDevice
from quantstats.quantizer import QuantizerConfig

_DEFAULT_FIX = {
    TargetDevice.AVX2: OverflowFix.AUTO,
    TargetDevice.AVX512: OverflowFix.AUTO,
    TargetDevice.VNNI: OverflowFix.DISABLE,
}


@dataclass(frozen=True, slots=True)
class Schemes:
    """The configurations that a whole model shares.

    :param activations: Configuration of activation quantizers.
    :param weights: Configuration of weight quantizers.
    :param overflow_fix: Which weights are kept from saturating 16-bit sums.
    """

    activations: QuantizerConfig
    weights: QuantizerConfig
    overflow_fix: OverflowFix


def resolve_schemes(
    *,
    preset: QuantizationPreset | None = None,
    model_type: ModelType | None = None,
    overflow_fix: OverflowFix | None = None,
    activations: QuantizationParameters | None = None,
    weights: QuantizationParameters | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
) -> Schemes:
    """Fill in what the user left open.

    The preset is ``mixed`` (asymmetric activations) for transformers, else ``performance`` (all symmetric). Weights are
    8 bits per channel; symmetric ones are signed and narrow, so that the levels are balanced around zero, as nncf has
    them. Activations are 8 bits per tensor. Where weights are 8-bit symmetric and activations 8-bit, the overflow fix
    is AUTO for CPUs that are named and have no VNNI, FIRST_LAYER for CPUs of any generation, DISABLE for those with
    VNNI; elsewhere it is DISABLE. AUTO is DISABLE on a CPU with VNNI, which cannot saturate.

    :raises ParameterError: if a fix is asked for and the weights are not 8-bit and symmetric.
    """
    if preset is None:
        preset = QuantizationPreset.MIXED if model_type is ModelType.TRANSFORMER else QuantizationPreset.PERFORMANCE
    activation_config = _config(activations, preset.activations_mode, per_channel=False, is_weight=False)
    weight_config = _config(weights, preset.weights_mode, per_channel=True, is_weight=True)

    halvable = weight_config.num_bits == 8 and weight_config.mode is QuantizationMode.SYMMETRIC
    if overflow_fix is None:
        overflow_fix = OverflowFix.DISABLE
        if halvable and activation_config.num_bits == 8:
            overflow_fix = _DEFAULT_FIX.get(target_device, OverflowFix.FIRST_LAYER)
    elif overflow_fix is not OverflowFix.DISABLE and not halvable:
        raise ParameterError(
            f"overflow_fix={overflow_fix.value!r} needs 8-bit symmetric weights, but weights_quantization_params "
            f"asks for {weight_config.num_bits}-bit {weight_config.mode.value} ones; "
            f"use overflow_fix={OverflowFix.DISABLE.value!r} or other weight parameters"
        )
    if overflow_fix is OverflowFix.AUTO and target_device is TargetDevice.VNNI:
        overflow_fix = OverflowFix.DISABLE
    return Schemes(activation_config, weight_config, overflow_fix)


def _config(
    parameters: QuantizationParameters | None, mode: QuantizationMode, *, per_channel: bool, is_weight: bool
) -> QuantizerConfig:
    given = parameters if parameters is not None else QuantizationParameters()
    mode = mode if given.mode is None else given.mode
    balanced = is_weight and mode is QuantizationMode.SYMMETRIC
    signedness = given.signedness_to_force
    if signedness is None and balanced:
        signedness = True
    return QuantizerConfig(
        num_bits=8 if given.num_bits is None else given.num_bits,
        mode=mode,
        per_channel=per_channel if given.per_channel is None else given.per_channel,
        signedness_to_force=signedness,
        narrow_range=balanced if given.narrow_range is None else given.narrow_range,
    )
