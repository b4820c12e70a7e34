"""The observers of `quantstats.integrations.torch` for torchao's PT2E quantization.

::

    from torchao.quantization.pt2e.quantizer import QuantizationSpec
    from quantstats.integrations.torch.pt2e import MSEObserver

    activation = QuantizationSpec(
        dtype=torch.int8, quant_min=-128, quant_max=127, qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=MSEObserver,
    )

torchao hands the ``ch_axis`` of a `QuantizationSpec` on to classes alone that have PerChannel in their names. For
another axis than 0 name it here too: ``MinMaxObserver.with_args(ch_axis=1)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torchao has no types; its class has the methods of this one
    from torch.ao.quantization.observer import UniformQuantizationObserverBase
else:
    try:
        from torchao.quantization.pt2e.observer import UniformQuantizationObserverBase
    except ImportError as error:
        raise ImportError(
            "torchao is not installed; install it with: pip install 'quantstats-native[torch]' torchao"
        ) from error

from quantstats.integrations.torch.observation import (
    AutoObservation,
    EntropyObservation,
    HistogramObservation,
    MinMaxObservation,
    MSEObservation,
    PercentileObservation,
    QuantileObservation,
    RangeObservation,
)

__all__ = [
    "AutoObserver",
    "EntropyObserver",
    "HistogramObserver",
    "MSEObserver",
    "MinMaxObserver",
    "PercentileObserver",
    "QuantileObserver",
    "RangeObserver",
]


class RangeObserver(RangeObservation, UniformQuantizationObserverBase):
    """Any range estimator; see `RangeObservation`."""


class MinMaxObserver(MinMaxObservation, UniformQuantizationObserverBase):
    """Least and greatest value; see `MinMaxObservation`."""


class QuantileObserver(QuantileObservation, UniformQuantizationObserverBase):
    """Means of the quantiles of each call; see `QuantileObservation`."""


class PercentileObserver(PercentileObservation, UniformQuantizationObserverBase):
    """Quantiles of all values; see `PercentileObservation`."""


class MSEObserver(MSEObservation, UniformQuantizationObserverBase):
    """The range with the least squared error; see `MSEObservation`."""


class HistogramObserver(HistogramObservation, UniformQuantizationObserverBase):
    """The range with the least error in 2,048 bins; see `HistogramObservation`."""


class EntropyObserver(EntropyObservation, UniformQuantizationObserverBase):
    """The thresholds with the least Kullback-Leibler divergence; see `EntropyObservation`."""


class AutoObserver(AutoObservation, UniformQuantizationObserverBase):
    """The estimator that promises the most; see `AutoObservation`."""
