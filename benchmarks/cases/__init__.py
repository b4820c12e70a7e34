"""All cases, a module per family of kernels."""

from __future__ import annotations

from benchmarks.case import Case
from benchmarks.cases import calls, columns, histogram, matmul, quantile, reduce, rounding, summary, threads

CASES: tuple[Case, ...] = (
    *reduce.CASES,
    *quantile.CASES,
    *summary.CASES,
    *histogram.CASES,
    *columns.CASES,
    *rounding.CASES,
    *calls.CASES,
    *threads.CASES,
    *matmul.CASES,
)
