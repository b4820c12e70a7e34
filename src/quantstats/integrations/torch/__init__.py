"""Observers for ``torch.ao.quantization`` that take their statistics with the kernels of quantstats.

::

    from torch.ao.quantization import QConfig, default_per_channel_weight_observer
    from quantstats.integrations.torch import MSEObserver

    qconfig = QConfig(activation=MSEObserver.with_args(dtype=torch.quint8), weight=default_per_channel_weight_observer)

The same classes for torchao's PT2E quantization are in `quantstats.integrations.torch.pt2e`. They differ in nothing but
the base class that either library asks for; see `quantstats.integrations.torch.observation` for what they do.
"""

from __future__ import annotations

try:
    from torch.ao.quantization.observer import UniformQuantizationObserverBase
except ImportError as error:
    raise ImportError("torch is not installed; install it with: pip install 'quantstats-native[torch]'") from error

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
