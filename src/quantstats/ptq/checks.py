"""Checks of what a user asks of the driver."""

from __future__ import annotations

from typing import Any

from quantstats._validation import check_count, check_instance, check_member
from quantstats.advanced_parameters import AdvancedQuantizationParameters
from quantstats.errors import ParameterError
from quantstats.overflow.pairing import find_pairing
from quantstats.parameters import IgnoredScope, ModelType, QuantizationPreset, TargetDevice


def check_parameters(
    owner: str,
    *,
    preset: QuantizationPreset | None,
    subset_size: int,
    model_type: ModelType | None,
    ignored_scope: IgnoredScope | None,
    advanced: AdvancedQuantizationParameters,
    progress: Any,
    target_device: TargetDevice = TargetDevice.ANY,
) -> None:
    """Refuse what is malformed, and what would be ignored in silence.

    :param owner: The function that was called, for messages.
    :raises ParameterError: if a parameter has a value that cannot be honoured.
    """
    if preset is not None:
        check_member(owner, "preset", preset, QuantizationPreset)
    if model_type is not None:
        check_member(owner, "model_type", model_type, ModelType)
    if ignored_scope is not None:
        check_instance(owner, "ignored_scope", ignored_scope, IgnoredScope)
    check_instance(owner, "advanced_parameters", advanced, AdvancedQuantizationParameters)
    check_member(owner, "target_device", target_device, TargetDevice)
    if target_device in (TargetDevice.GPU, TargetDevice.NPU, TargetDevice.CPU_SPR):
        raise ParameterError(
            f"{owner}.target_device={target_device.value} is not supported; models are quantized for CPUs: use "
            "TargetDevice.ANY or TargetDevice.CPU for those of any generation, or AVX2, AVX512 or VNNI"
        )
    find_pairing(advanced.overflow_pairing)
    check_count(owner, "subset_size", subset_size, least=1)
    if not isinstance(progress, bool) and not callable(progress):
        raise ParameterError(f"{owner}.progress={progress!r} is not a bool, nor can it be called; use True or False")
    if advanced.backend_params:
        raise ParameterError(
            f"AdvancedQuantizationParameters.backend_params has {', '.join(map(repr, advanced.backend_params))}, but "
            "the adapter is made already; give it its settings when it is made, and leave backend_params empty"
        )
