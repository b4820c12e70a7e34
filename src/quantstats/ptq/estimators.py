"""Range estimators that a plan cannot have."""

from __future__ import annotations

from quantstats.advanced_parameters import AdvancedQuantizationParameters
from quantstats.errors import ParameterError
from quantstats.ptq.plan import QuantizationPlan
from quantstats.range_estimator import resolve


def check_estimators(plan: QuantizationPlan, advanced: AdvancedQuantizationParameters) -> None:
    """Refuse a range estimator that a place of the plan cannot have, before any data is read.

    :raises ParameterError: if an estimator of one range per tensor, such as HISTOGRAM, is asked for where there is a
        range per channel; the message names the field.
    """
    for field, is_weight, quantizers in (
        ("activations_range_estimator_params", False, plan.activations),
        ("weights_range_estimator_params", True, plan.weights),
    ):
        for per_channel in sorted({quantizer.config.per_channel for quantizer in quantizers}):
            try:
                resolve(getattr(advanced, field), is_weight=is_weight, per_channel=per_channel)
            except ParameterError as error:
                raise ParameterError(f"AdvancedQuantizationParameters.{field}: {error}") from error
