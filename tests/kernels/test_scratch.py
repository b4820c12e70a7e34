"""What a call allocates: 6 % of its input and 2 MB besides its results, whatever the layout, so no copy of an array.

A child process runs every kernel with the allocator counted (allocations.c), each call in a thread of its own, since
scratch memory belongs to the thread that calls and stays there. Everything counts: scratch memory, results, what NumPy
takes. Sizes are such that a copy of the input breaks the bound by far.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quantstats._core import Target

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.confstr("CS_GNU_LIBC_VERSION") is None,
    reason="counts allocations by the names that glibc gives its own functions",
)

CHILD = r"""
import ctypes, json, sys, threading
import ml_dtypes
import numpy as np
import quantstats
from quantstats import _core

counter = ctypes.CDLL(None)
live, peak = counter.allocations_live, counter.allocations_peak
live.restype = peak.restype = ctypes.c_longlong

SIZE = 1 << 21
DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
NINE = [1e-5, 1e-4, 1e-3, 1e-2, 0.5, 1 - 1e-2, 1 - 1e-3, 1 - 1e-4, 1 - 1e-5]


def layouts(x):
    # name: view of the elements of x, axes
    return {
        "contiguous": (x, None),
        "reversed": (x[::-1], None),
        "every third": (x[::3], None),
        "every ninth": (x[::9], None),
        "rows": (x.reshape(512, -1), 1),
        "few rows": (x.reshape(2, -1), 1),
        "short rows": (x.reshape(-1, 8), 1),
        "channels first": (x.reshape(8, 64, -1), (0, 2)),
        "channels last": (x.reshape(-1, 64), 0),
        "few channels": (x[: len(x) // 3 * 3].reshape(-1, 3), 0),
        "wide columns": (x.reshape(64, -1), 0),
        "pairs": (x.reshape(-1, 2), 1),
        "few wide columns": (x.reshape(4, -1), 0),
        "pairs, outputs transposed": (x.reshape(1 << 10, -1, 2).transpose(1, 0, 2), 2),
        "many rows": (x.reshape(-1, 256), 1),
        "every other column": (x.reshape(-1, 256)[:, ::2], 0),
        "transposed": (x.reshape(64, 64, -1).transpose(2, 0, 1), None),
        "transposed, one axis": (x.reshape(64, 64, -1).transpose(2, 0, 1), 1),
        "window": (x.reshape(1024, -1)[3:-3, 5:-7], None),
        "broadcast": (np.broadcast_to(x[: 1 << 17], (16, 1 << 17)), None),
    }


def reducing(target):
    policy = (False, "raise")
    return {
        "min_max": lambda x, axis: target.min_max(x, axis, *policy),
        "abs_max": lambda x, axis: target.abs_max(x, axis, *policy),
        "mean": lambda x, axis: target.mean(x, axis, *policy),
        "median": lambda x, axis: target.median(x, axis, *policy),
        "quantile, tails": lambda x, axis: target.quantile(x, [1e-4, 1 - 1e-4], axis, *policy),
        "abs_quantile, nine": lambda x, axis: target.abs_quantile(x, NINE, axis, *policy),
        "summarize": lambda x, axis: target.summarize(x, axis, NINE, *policy, None),
        "min_max, propagate": lambda x, axis: target.min_max(x, axis, False, "propagate"),
        "mean, ignore": lambda x, axis: target.mean(x, axis, False, "ignore"),
        "quantile, 40": lambda x, axis: target.quantile(x, [0.01 * i for i in range(40)], axis, False, "propagate"),
        "mean_no_outliers": lambda x, axis: target.mean_no_outliers(x, axis, 1e-3, *policy),
        "median_no_outliers": lambda x, axis: target.median_no_outliers(x, axis, 1e-3, *policy),
    }


def whole(target):
    counts = np.zeros(65536, np.uint64)
    return {
        "histogram": lambda x, axis: target.histogram(x, 2048, (-4.0, 4.0)),
        "histogram, own range": lambda x, axis: target.histogram(x, 100, None),
        "bit_histogram": lambda x, axis: target.bit_histogram(x, counts),
        "quantize_linear": lambda x, axis: target.quantize_linear(x, 0.05, 3, None, -128, 127, "int8", None),
        "fake_quantize": lambda x, axis: target.fake_quantize(x, 0.05, 3, None, -128, 127, None),
    }


def extra(target, x):
    # Cases that take other arguments: name, call, bytes of the input.
    plane = x.reshape(512, -1)
    channels = plane.shape[1]
    scale, zero = np.full(channels, 0.05, np.float32), np.zeros(channels, np.int64)
    q = target.quantize_linear(plane, scale, zero, 1, -128, 127, "int8", None)
    out = np.empty((channels, 512), np.float32).T
    a, b = np.zeros((2048, 1024), np.uint8), np.zeros((1024, 2048), np.int8)
    levels = (-128, 127, "int8", None)
    yield "quantize_linear, channels", lambda: target.quantize_linear(plane, scale, zero, 1, *levels), x.nbytes
    yield "quantize_linear, transposed", lambda: target.quantize_linear(plane.T, scale, zero, 0, *levels), x.nbytes
    yield "dequantize_linear", lambda: target.dequantize_linear(q, scale, zero, 1, None), q.nbytes
    yield "dequantize_linear, out=", lambda: target.dequantize_linear(q, scale, zero, 1, out), q.nbytes
    yield "saturating_matmul", lambda: target.saturating_matmul(a, b, True), a.nbytes + b.nbytes
    c, d = b.T.view(np.uint8), a.T.view(np.int8)
    yield "saturating_matmul, transposed", lambda: target.saturating_matmul(c, d, False), a.nbytes + b.nbytes


def nbytes(result):
    if isinstance(result, tuple):
        return sum(nbytes(item) for item in result)
    return getattr(result, "nbytes", 0)


def measured(label, call, input_bytes):
    found = {}

    def run():
        counter.allocations_begin()
        before = live()
        result = call()
        found["taken"] = peak() - before
        found["result"] = nbytes(result)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return [label, input_bytes, found["taken"], found["result"]]


target = _core._targets[sys.argv[1]]
rng = np.random.default_rng(0)
rows = []
for threads in (1, 2, 5):
    quantstats.set_num_threads(threads)
    for name, dtype in DTYPES.items():
        x = rng.standard_normal(SIZE, np.float32)
        x[rng.integers(0, SIZE, SIZE // 4)] = 0
        x = x.astype(dtype)
        target.min_max(x, None, False, "ignore")  # starts the threads
        for layout, (view, axis) in layouts(x).items():
            kernels = reducing(target) if layout != "contiguous" else {**reducing(target), **whole(target)}
            if layout in ("every third", "transposed", "window"):
                kernels |= whole(target)
            for kernel, call in kernels.items():
                if threads == 5 and (kernel, layout) not in (
                    ("summarize", "contiguous"),
                    ("median", "wide columns"),
                    ("mean", "pairs"),
                    ("summarize", "few wide columns"),
                ):
                    continue
                label = f"{kernel}, {layout}, {name}, {threads} threads"
                if kernel in ("min_max, propagate", "mean, ignore", "quantile, 40") and layout != "few wide columns":
                    continue
                rows.append(measured(label, lambda: call(view, axis), view.size * view.itemsize))
        if threads < 5:
            for kernel, call, size in extra(target, x):
                rows.append(measured(f"{kernel}, {name}, {threads} threads", call, size))
# What the bound is for: a copy must be seen.
x = np.zeros((SIZE // 2, 2), np.float32)
rows.append(measured("copy", lambda: np.ascontiguousarray(x[:, 0]).min(), x.nbytes // 2))
print(json.dumps(rows))
"""


@pytest.fixture(scope="session")
def counted_allocator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared object that counts what malloc and its kin give."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler is not None, "a C compiler builds the tests' helpers"
    built = tmp_path_factory.mktemp("allocations") / "allocations.so"
    source = Path(__file__).with_name("allocations.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(built), str(source)], check=True, timeout=60)
    return built


def test_no_call_takes_more_than_its_share(counted_allocator: Path, target: Target) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, target.isa],
        env=os.environ | {"LD_PRELOAD": str(counted_allocator), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *rows, copy = json.loads(done.stdout)
    assert copy[2] > copy[1] * 0.99, "the counted allocator does not see a copy"
    assert len(rows) > 500
    excess = {
        label: f"{taken - result:,} bytes besides the results, {0.06 * size + 2**21:,.0f} allowed"
        for label, size, taken, result in rows
        if taken - result > 0.06 * size + 2**21
    }
    assert not excess
