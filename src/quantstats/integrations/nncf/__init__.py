"""Serve the statistics of nncf from the kernels of quantstats.

::

    from quantstats.integrations.nncf import accelerate

    with accelerate():
        quantized = nncf.quantize(model, dataset)

While it is on, minima, maxima, means, quantiles, medians, masked means and medians, no-outliers aggregations,
histograms and the search of the HISTOGRAM aggregator over NumPy arrays run in the kernels; everything else is nncf's
own, and so are the results. What nncf does around them and what cannot change the result is left out: constants that
every run of the model copies, samples that are reduced and not taken, patterns that the graph does not have. Extrema,
histograms, masked medians and the range of HISTOGRAM have its bits. Quantiles are within half a unit in the last place
of float32, and means of large arrays differ where the float32 sums of NumPy lose digits and ours, in float64, do not
(see `quantstats.integrations.nncf.tensor_functions`).

The switch is one for the process. It can be thrown from any thread and at any time: each call into nncf takes either
function whole. Blocks may nest and overlap; the last one that ends restores everything.
"""

from quantstats.integrations.nncf.switch import SUPPORTED_VERSIONS, accelerate, disable, enable, is_enabled

__all__ = ["SUPPORTED_VERSIONS", "accelerate", "disable", "enable", "is_enabled"]
