"""Ranges from the distribution of all values of a tensor: HISTOGRAM, MSE, ENTROPY, PERCENTILE, AUTO."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats._validation import check_instance
from quantstats.errors import ParameterError
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig
from quantstats.range_estimator import AggregatorType, RangeEstimatorParameters
from quantstats.statistics.bit_histogram import BitHistogram
from quantstats.statistics.entropy_search import least_divergence_range
from quantstats.statistics.histogram_search import BINS, least_error_range
from quantstats.statistics.mse_search import least_mse_range

__all__ = ["distribution_range", "quantizer_config"]

Array = npt.NDArray[Any]

# AUTO compares all candidates. But MSE searches every range, so none can promise less error than its own, and whichever
# promises about as much and is wider than it, the whole range is widest. So two candidates decide: MSE and MINMAX.
# This much is what a prediction may be off by, and what a wider range may be worth on data that were not seen.
_AUTO_LEAST_GAIN_DB = 0.2


def quantizer_config(config: QuantizerConfig | None, *, num_bits: int, symmetric: bool) -> QuantizerConfig:
    """The quantizer that a range is for: `config`, or what `num_bits` and `symmetric` say of it.

    :raises ParameterError: `config` is no `QuantizerConfig`, or has another mode.
    """
    mode = QuantizationMode.SYMMETRIC if symmetric else QuantizationMode.ASYMMETRIC
    if config is None:
        return QuantizerConfig(num_bits, mode)
    check_instance("range", "config", config, QuantizerConfig)
    if config.mode is not mode:
        raise ParameterError(
            f"config.mode={config.mode} with symmetric={symmetric}; give both alike, for they decide what is estimated"
        )
    return config


def distribution_range(
    histogram: BitHistogram, params: RangeEstimatorParameters, config: QuantizerConfig
) -> tuple[Array, Array]:
    """Lower and upper bound, float32 and 0-d.

    :param histogram: of all values, clamped already if `params` have a clipping value; at least one value.
    :param params: complete parameters with one of the aggregators of a distribution.
    :param config: the quantizer that is to follow.
    """
    aggregator = params.min.aggregator_type
    if aggregator is AggregatorType.HISTOGRAM:
        low, high = least_error_range(
            histogram.uniform(BINS, with_zeros=False),
            histogram.minimum,
            histogram.maximum,
            num_bits=config.num_bits,
            symmetric=config.mode is QuantizationMode.SYMMETRIC,
        )
    elif aggregator is AggregatorType.MSE:
        low, high = least_mse_range(histogram, config)
    elif aggregator is AggregatorType.ENTROPY:
        low, high = least_divergence_range(histogram, config)
    elif aggregator is AggregatorType.PERCENTILE:
        low, high = _percentile_range(histogram, params, config)
    else:
        assert aggregator is AggregatorType.AUTO
        low, high = least_mse_range(histogram, config, least_gain=_AUTO_LEAST_GAIN_DB)
    return np.asarray(low, np.float32), np.asarray(high, np.float32)


def _percentile_range(
    histogram: BitHistogram, params: RangeEstimatorParameters, config: QuantizerConfig
) -> tuple[float, float]:
    upper = 1.0 - params.max.quantile_outlier_prob
    if config.mode is QuantizationMode.SYMMETRIC:
        high = histogram.quantile(upper, magnitudes=True)
        return (-high if histogram.minimum < 0 else 0.0), high
    return histogram.quantile(params.min.quantile_outlier_prob), histogram.quantile(upper)
