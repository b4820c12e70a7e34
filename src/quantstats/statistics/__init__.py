"""Statistics of tensors: what a sample is reduced to, how samples are aggregated, how a range comes out of it.

A sample passes through three steps, each a module of its own. `reduction` reads the tensor and gives one row of a
`table`; `aggregation` turns a column of the table into one bound; `estimator` puts the two together behind the
interface of `RangeEstimator`. Estimators that look at all values together keep a `bit_histogram` in place of rows;
`distribution_range` gives it to `histogram_search`, `mse_search` or `entropy_search`, the latter two by way of a
`tail_integral`. `predicted_error` tells from the same histogram what any quantizer will cost.

`calibration` collects every statistic of many tensors in one pass; `derived_range` makes of them the range of any
estimator, and `calibration_file` is their form on disk. `tensor_statistics` and `channel_means` hold what is kept of
one tensor, in a `columnar_table` whose rows are where `table_memory` puts them; `non_finite` says what becomes of NaN
and infinities. Nothing here knows of models.
"""

from quantstats.statistics.bit_histogram import BitHistogram
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.column import Column, columns_of
from quantstats.statistics.derived_range import DerivedRange
from quantstats.statistics.estimator import RangeEstimator, range_from_table
from quantstats.statistics.predicted_error import clipped_share, predicted_sqnr
from quantstats.statistics.table import SampleTable

__all__ = [
    "BitHistogram",
    "CalibrationStatistics",
    "Column",
    "DerivedRange",
    "RangeEstimator",
    "SampleTable",
    "clipped_share",
    "columns_of",
    "predicted_sqnr",
    "range_from_table",
]
