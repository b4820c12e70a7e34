"""How calibration scales: over processes on the cores there are, and the cost of merging as shards grow in number.

- *processes*: images a second of `quantstats.calibrate` on MobileNetV2 in this process and over
  `concurrent.futures.ProcessPoolExecutor` with more and more workers, onnxruntime and kernels on one thread each.
  Workers are started and have loaded the model before the clock starts. What the caller itself does for an image --
  sending it, merging what comes back -- bounds how many workers it can feed, on a busy machine too.
- *merging*: shards of one sample each, of as many tensors as a ResNet-50 has, are merged in a random order; and files
  of them are read and merged as `quantstats merge` does. The CPU time for each shard tells
  whether the whole is linear.

    python -m benchmarks.calibration_scaling [--images 48] [--size 224] [--shards 10 100 1000]

Exit status 1 if the bits of any two results differ.
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import quantstats as qs
from benchmarks.networks import images, mobilenet_v2

TENSORS = 107
ONE_THREAD = {"num_threads": 1}


def calibrated(path: Path, data: NDArray[np.float32], executor: ProcessPoolExecutor | None) -> qs.CalibrationStatistics:
    """Statistics with one thread of onnxruntime in a process."""
    advanced = qs.AdvancedQuantizationParameters(backend_params=ONE_THREAD)
    return qs.calibrate(
        path, data, subset_size=len(data), advanced_parameters=advanced, executor=executor, progress=False
    )


def scale_over_processes(console: Console, count: int, size: int) -> bool:
    """Print images a second by the number of workers; whether all results are equal."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    data = images(count, size)
    table = Table(title=f"MobileNetV2 at {size}, {count} images, {cores} cores")
    for heading in ("processes", "seconds", "images a second", "times one", "CPU of the caller, ms an image"):
        table.add_column(heading, justify="right")
    results: list[qs.CalibrationStatistics] = []
    first = 0.0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mobilenet.onnx"
        onnx.save(mobilenet_v2(image_size=size), path)
        for workers in (0, *range(1, cores + 1)):
            executor = ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers else None
            try:
                if executor is not None:
                    list(executor.map(time.sleep, [1] * workers))  # None is free before all are there.
                for _ in range(2):
                    calibrated(path, data[: max(4 * workers, 1)], executor)
                start, of_caller = time.perf_counter(), time.process_time()
                results.append(calibrated(path, data, executor))
                seconds, of_caller = time.perf_counter() - start, time.process_time() - of_caller
            finally:
                if executor is not None:
                    executor.shutdown()
            first = first or seconds
            name = f"{workers} in a pool" if workers else "this one"
            table.add_row(
                name,
                f"{seconds:.2f}",
                f"{count / seconds:.1f}",
                f"{first / seconds:.2f}",
                f"{of_caller / count * 1e3:.1f}",
            )
    console.print(table)
    return all(result == results[0] for result in results)


def simulated_shards() -> Callable[[int], qs.CalibrationStatistics]:
    """Return what makes the shard of a number: statistics of one sample, of a few samples that repeat."""
    rng = np.random.default_rng(0)
    names = {f"tensor{index}": None for index in range(TENSORS)}
    kinds = []
    for _ in range(8):
        shard = qs.CalibrationStatistics(names, model_hash="simulated")
        shard.update("?", {name: rng.gamma(1.0, size=4096).astype(np.float32) for name in names})
        kinds.append(shard)

    def shard_of(number: int) -> qs.CalibrationStatistics:
        found = copy.deepcopy(kinds[number % len(kinds)])
        found._sample_ids = {f"{number:06}": None}
        return found

    return shard_of


def merged_in_memory(
    shards: Iterable[qs.CalibrationStatistics],
) -> tuple[qs.CalibrationStatistics, float]:
    """Merge one after the other; the result, and the seconds of CPU time of the merges alone."""
    iterator = iter(shards)
    merged, seconds = next(iterator), 0.0
    for shard in iterator:
        start = time.process_time()
        merged.merge(shard)
        seconds += time.process_time() - start
    return merged, seconds


def cost_of_merging(console: Console, counts: list[int]) -> bool:
    """Print the CPU time of a merge by the number of shards; whether all orders give equal results."""
    table = Table(title=f"Merging shards of {TENSORS} tensors, one sample each; CPU time")
    for heading in ("shards", "in memory, s", "ms for each", "from files, s", "ms for each", "file written, s", "MB"):
        table.add_column(heading, justify="right")
    equal = True
    shard_of = simulated_shards()
    for count in sorted(counts):
        with tempfile.TemporaryDirectory() as directory:
            paths = [Path(directory) / f"{number}.safetensors" for number in range(count)]
            for number, path in enumerate(paths):
                shard_of(number).save(path)
            order = random.Random(count).sample(range(count), count)
            merged, in_memory = merged_in_memory(map(shard_of, order))
            start = time.process_time()
            read, _ = merged_in_memory(map(qs.CalibrationStatistics.load, paths))
            from_files = time.process_time() - start
            start = time.process_time()
            merged.save(paths[0])
            written = time.process_time() - start
            equal &= merged == read
            table.add_row(
                str(count),
                f"{in_memory:.2f}",
                f"{in_memory / count * 1e3:.1f}",
                f"{from_files:.2f}",
                f"{from_files / count * 1e3:.1f}",
                f"{written:.2f}",
                f"{paths[0].stat().st_size / 1e6:.1f}",
            )
    console.print(table)
    return equal


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--only", choices=("processes", "merging"))
    arguments = parser.parse_args()
    qs.set_num_threads(1)
    os.environ["QUANTSTATS_NUM_THREADS"] = "1"  # For the workers.
    console = Console()
    equal = True
    if arguments.only != "merging":
        equal &= scale_over_processes(console, arguments.images, arguments.size)
    if arguments.only != "processes":
        equal &= cost_of_merging(console, arguments.shards)
    console.print("all results are equal, bit for bit" if equal else "results differ")
    return int(not equal)


if __name__ == "__main__":
    sys.exit(main())
