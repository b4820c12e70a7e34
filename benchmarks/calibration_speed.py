"""What calibration costs: statistics beside the inference they come with, and whole quantization beside nncf's.

Two measurements on networks of the usual shapes with seeded weights, see `benchmarks.networks`:

- *statistics*: the time of `CalibrationStatistics.update` -- every default column and the bit histogram of every tensor
  that would be quantized -- as a share of the time in which onnxruntime computes these tensors. Both take turns on the
  same samples, each with one thread, in CPU time of that thread: other processes take little of it.
- *quantize*: `nncf.quantize` against `quantstats.quantize`, model in memory to int8 model in memory, wall time,
  on the same samples in a shuffled order, with the range estimator MEAN_QUANTILE and with nncf's default, MEAN_MINMAX.
  Both correct biases, or, in rows of their own, neither does. Both have the threads that onnxruntime takes by default.

    python -m benchmarks.calibration_speed [--samples 30] [--rounds 3] [--only statistics|quantize]

Exit status 1 if a row that has a goal falls short of it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import quantstats as qs
from benchmarks.networks import images, mobilenet_v2, resnet18
from quantstats.adapters.onnx import OnnxAdapter
from quantstats.ptq.placement import place
from quantstats.report.latency import Latency, measure_latency
from quantstats.statistics import CalibrationStatistics

NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2}
ESTIMATORS = ("MEAN_QUANTILE", "MEAN_MINMAX")

# Statistics: at most this share of the inference. Quantize: at least so many times as fast as nncf. Rows without a goal
# are there to be seen.
MOST_SHARE = {"resnet18": 0.25}
LEAST_SPEED_UP = {
    ("resnet18", "MEAN_QUANTILE"): 4.0,
    ("resnet18", "MEAN_MINMAX"): 2.5,
    ("mobilenet_v2", "MEAN_QUANTILE"): 6.0,
}

_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class StatisticsCost:
    """CPU times of each sample in milliseconds, and what is read.

    :param inference: Of the tapped model, by sample.
    :param update: Of the statistics, by sample.
    :param tensors: Number of observed tensors.
    :param elements: Their values in one sample.
    """

    inference: tuple[float, ...]
    update: tuple[float, ...]
    tensors: int
    elements: int

    @property
    def share(self) -> float:
        """Statistics over inference, both as the median over the samples."""
        return statistics.median(self.update) / statistics.median(self.inference)

    @property
    def best_share(self) -> float:
        """The same of the best decile, which other processes disturb less."""
        return _best_decile(self.update) / _best_decile(self.inference)


def _best_decile(values: tuple[float, ...]) -> float:
    return sorted(values)[(len(values) - 1) // 10]


def statistics_cost(model: onnx.ModelProto, samples: NDArray[np.float32]) -> StatisticsCost:
    """Calibrate by hand on one thread, and time the two halves of it apart."""
    adapter = OnnxAdapter(model, num_threads=1)
    graph = adapter.graph()
    plan = place(graph)
    taps = {a.tensor: a.channel_axis for a in plan.activations if not graph.tensors[a.tensor].constant}
    collected = CalibrationStatistics(taps)
    inference, update = [], []
    values = adapter.run({"input": samples[:1]}, tuple(taps))
    elements = sum(value.size for value in values.values())
    for index in range(-_WARM_UP, len(samples)):
        start = time.thread_time()
        values = adapter.run({"input": samples[index][np.newaxis]}, tuple(taps))
        between = time.thread_time()
        collected.update(str(index), values)
        end = time.thread_time()
        if index >= 0:
            inference.append(1e3 * (between - start))
            update.append(1e3 * (end - between))
    return StatisticsCost(tuple(inference), tuple(update), len(taps), elements)


def quantizers(
    model: onnx.ModelProto, samples: NDArray[np.float32], *, estimator: str, bias_correction: bool
) -> dict[str, Callable[[], onnx.ModelProto]]:
    """The rivals of one row: a call without arguments for quantstats and for nncf, with equal settings."""
    import nncf

    data = [{"input": sample[np.newaxis]} for sample in samples]
    advanced = qs.AdvancedQuantizationParameters(
        activations_range_estimator_params=getattr(qs.RangeEstimatorParametersSet, estimator),
        disable_bias_correction=not bias_correction,
    )
    theirs = advanced.to_nncf()

    def with_quantstats() -> onnx.ModelProto:
        return qs.quantize(model, data, subset_size=len(data), advanced_parameters=advanced, progress=False)

    def with_nncf() -> onnx.ModelProto:
        with contextlib.redirect_stdout(io.StringIO()):  # Drawing nncf's progress bar would count as its time.
            return nncf.quantize(model, nncf.Dataset(data), subset_size=len(data), advanced_parameters=theirs)

    return {"quantstats": with_quantstats, "nncf": with_nncf}


def _verdict(met: bool | None) -> str:
    return "" if met is None else "pass" if met else "SHORT"


def measure_statistics(samples: int) -> tuple[Table, bool]:
    """Measure the cost of statistics on every network; return the table and whether the goals are met."""
    table = Table(title=f"statistics beside inference, {samples} samples, CPU ms a sample, one thread")
    table.add_column("network")
    for heading in ("tensors", "M values", "inference", "statistics", "share", "best decile", "goal", ""):
        table.add_column(heading, justify="right")
    met = True
    for name, build in NETWORKS.items():
        cost = statistics_cost(build(), images(samples, seed=1))
        goal = MOST_SHARE.get(name)
        verdict = None if goal is None else cost.best_share <= goal
        met = met and verdict is not False
        table.add_row(
            name,
            str(cost.tensors),
            f"{cost.elements / 1e6:.1f}",
            f"{statistics.median(cost.inference):.1f}",
            f"{statistics.median(cost.update):.1f}",
            f"{cost.share:.2f}",
            f"{cost.best_share:.2f}",
            "" if goal is None else f"<= {goal}",
            _verdict(verdict),
        )
    return table, met


def _on_one_thread(measure: Callable[[], Any]) -> Any:
    threads = qs.get_num_threads()
    qs.set_num_threads(1)
    try:
        return measure()
    finally:
        qs.set_num_threads(threads)


def measure_quantize(samples: int, rounds: int) -> tuple[Table, bool]:
    """Measure whole quantization on every network; return the table and whether the goals are met."""
    table = Table(title=f"quantize, {samples} samples, {rounds} rounds, wall time")
    table.add_column("network")
    for heading in ("estimator", "bias correction", "quantstats", "nncf", "ratio", "goal", ""):
        table.add_column(heading, justify="right")
    met = True
    for name, build in NETWORKS.items():
        model, data = build(), images(samples, seed=1)
        for estimator in ESTIMATORS:
            for bias_correction in (True, False):
                calls = quantizers(model, data, estimator=estimator, bias_correction=bias_correction)
                times: dict[str, Latency] = measure_latency(
                    calls, seconds=0, min_rounds=rounds, max_rounds=rounds, warm_up=1
                )
                ratio = times["nncf"].median_ms / times["quantstats"].median_ms
                goal = LEAST_SPEED_UP.get((name, estimator)) if bias_correction else None
                verdict = None if goal is None else ratio >= goal
                met = met and verdict is not False
                table.add_row(
                    name,
                    estimator,
                    "yes" if bias_correction else "no",
                    f"{times['quantstats'].median_ms / 1e3:.2f} s",
                    f"{times['nncf'].median_ms / 1e3:.2f} s",
                    f"{ratio:.2f}x",
                    "" if goal is None else f">= {goal}x",
                    _verdict(verdict),
                )
    return table, met


def main() -> int:
    """Measure, print the tables, and compare with the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("statistics", "quantize"))
    arguments = parser.parse_args()
    measurements: dict[str, Callable[[], Any]] = {
        "statistics": lambda: _on_one_thread(lambda: measure_statistics(arguments.samples)),
        "quantize": lambda: measure_quantize(arguments.samples, arguments.rounds),
    }
    met = True
    for name, measure in measurements.items():
        if arguments.only in (None, name):
            if name == "quantize":
                import nncf

                nncf.set_log_level(logging.ERROR)
            table, passed = measure()
            Console().print(table)
            met = met and passed
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
