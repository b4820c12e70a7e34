"""The threads of the kernels: the same bits with any number of them, and a process that stays easy to live with."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import quantstats
from quantstats import kernels
from quantstats._core import Target

THREADS = (1, 2, 3, 8)
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
TAILS = [1e-4, 0.5, 1 - 1e-4]
#: enough for three threads of any kernel
LARGE = 1_300_017

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or sets the affinity of a process")


@pytest.fixture(autouse=True)
def _number_of_threads() -> Iterator[None]:
    before = quantstats.get_num_threads()
    yield
    quantstats.set_num_threads(before)


def samples(size: int, dtype: Any = np.float32) -> Any:
    """Numbers of many magnitudes, whose sum depends on the order of addition."""
    rng = np.random.default_rng(size)
    x = rng.standard_normal(size, np.float32) * np.float32(2) ** rng.integers(-8, 8, size)
    x[:: size // 7] = 0
    return x.astype(dtype)


def flat(result: Any) -> list[bytes]:
    values = result if isinstance(result, tuple) else (result,)
    return [np.asarray(value).tobytes() for value in values]


def assert_independent_of_threads(compute: Callable[[], Any]) -> None:
    results = {}
    for threads in THREADS:
        quantstats.set_num_threads(threads)
        results[threads] = flat(compute())
    for threads in THREADS[1:]:
        assert results[threads] == results[1], f"{threads} threads give other bits than one"


def layouts() -> dict[str, tuple[Callable[[Any], Any], Any]]:
    """Views of LARGE elements, and the axes to reduce."""
    whole = LARGE // 16384 * 16384
    return {
        "contiguous": (lambda x: x, None),
        "reversed": (lambda x: x[::-1], None),
        "every third": (lambda x: x[::3], None),
        "every ninth, short": (lambda x: x[: LARGE // 9 * 9].reshape(-1, 9)[:, 4], None),
        "few long rows": (lambda x: x[: LARGE // 3 * 3].reshape(3, -1), 1),
        "many short rows": (lambda x: x[: LARGE // 50 * 50].reshape(-1, 50), 1),
        "channels first": (lambda x: x[:whole].reshape(4, -1, 64, 64), (0, 2, 3)),
        "channels last, 3": (lambda x: x[: LARGE // 3 * 3].reshape(-1, 3), 0),
        "channels last, 16": (lambda x: x[:whole].reshape(-1, 16), 0),
        "channels last, 64 of 128": (lambda x: x[:whole].reshape(-1, 128)[:, ::2], 0),
        "columns": (lambda x: x[: LARGE // 3000 * 3000].reshape(-1, 3000), 0),
        "all of a transpose": (lambda x: x[:whole].reshape(-1, 64, 64).transpose(2, 0, 1), None),
        "middle axis": (lambda x: x[:whole].reshape(-1, 64, 32), 1),
        "broadcast": (lambda x: np.broadcast_to(x[:5000], (700, 5000)), None),
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("layout", layouts())
def test_reductions(target: Target, layout: str, dtype: Any) -> None:
    view, axis = layouts()[layout]
    x = view(samples(LARGE, dtype))
    assert_independent_of_threads(
        lambda: (*target.min_max(x, axis, False, "raise"), target.mean(x, axis, False, "raise"))
    )


@pytest.mark.parametrize("layout", layouts())
def test_summary(target: Target, layout: str) -> None:
    view, axis = layouts()[layout]
    x = samples(LARGE)
    x[100:LARGE:90_000] = np.nan
    x[200:LARGE:150_000] = np.inf
    x = view(x)
    for q in ([], TAILS):
        assert_independent_of_threads(lambda q=q: target.summarize(x, axis, q, False, "ignore", None))  # type: ignore[misc]
    quantstats.set_num_threads(3)
    low, high, largest, mean, quantiles, nan, _, _ = target.summarize(x, axis, TAILS, False, "ignore", None)
    assert flat((low, high)) == flat(target.min_max(x, axis, False, "ignore"))
    assert flat(largest) == flat(target.abs_max(x, axis, False, "ignore"))
    assert flat(mean) == flat(target.mean(x, axis, False, "ignore"))
    assert flat(quantiles) == flat(target.quantile(x, TAILS, axis, False, "ignore"))
    assert np.array_equal(nan, np.isnan(x).sum(axis))


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_quantiles(target: Target, layout: str, dtype: Any) -> None:
    view, axis = layouts()[layout]
    x = view(samples(LARGE, dtype))
    assert_independent_of_threads(lambda: target.quantile(x, TAILS, axis, False, "raise"))


@pytest.mark.parametrize("data", ["normal", "equal", "two values", "sorted", "half zeros", "nan", "heavy tails"])
def test_quantiles_of_hard_data(target: Target, data: str) -> None:
    base = samples(LARGE)
    datasets: dict[str, Callable[[], Any]] = {
        "normal": lambda: base,
        "equal": lambda: np.full_like(base, 3),
        "two values": lambda: np.where(base > 0, np.float32(1), np.float32(2)),
        "sorted": lambda: np.sort(base),
        "half zeros": lambda: np.maximum(base, 0),
        "nan": lambda: np.where(base > 1, np.float32(np.nan), base),
        "heavy tails": lambda: base**7,
    }
    x = datasets[data]()
    q = np.linspace(0, 1, 9)
    assert_independent_of_threads(lambda: target.quantile(x, q, None, False, "ignore"))
    assert_independent_of_threads(lambda: target.abs_quantile(x, q, None, False, "ignore"))
    quantstats.set_num_threads(2)
    expected = np.nanquantile(x.astype(np.float64), q).astype(np.float32)
    assert np.array_equal(target.quantile(x, q, None, False, "ignore"), expected)
    assert target._quantile_fallbacks(x, q, None, False) == 0


@pytest.mark.parametrize("columns", [3, 16, 100, 5000])
def test_no_outliers(target: Target, columns: int) -> None:
    x = samples(LARGE // columns * columns).reshape(-1, columns)
    for p in (1e-4, 0.1):
        assert_independent_of_threads(
            lambda p=p: (  # type: ignore[misc]
                target.mean_no_outliers(x, 0, p, False, "raise"),
                target.median_no_outliers(x, 0, p, False, "raise"),
            )
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("step", [1, 3])
def test_histograms(target: Target, dtype: Any, step: int) -> None:
    x = samples(LARGE * step, dtype)[::step]

    def count() -> Any:
        bits = np.ones(65536, np.uint64)
        nan = target.bit_histogram(x, bits)
        return (*target.histogram(x, 2048, None), *target.histogram(x, 100_000, (-3.0, 5.0)), bits, nan)

    assert_independent_of_threads(count)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((LARGE,), None), ((40, 64, 1024), 0), ((40, 64, 1024), 1), ((40, 1024, 64), 2), ((2, 1_500_000), 1)],
)
def test_rounding(target: Target, shape: tuple[int, ...], axis: int | None) -> None:
    x = samples(int(np.prod(shape))).reshape(shape)
    channels = 1 if axis is None else shape[axis]
    rng = np.random.default_rng(1)
    scale = rng.uniform(0.01, 0.1, channels).astype(np.float32)
    zero = rng.integers(-5, 5, channels)

    def compute() -> Any:
        q = target.quantize_linear(x, scale, zero, axis, -128, 127, "int8", None)
        back = np.full((*shape[:-1], 2 * shape[-1]), -1, np.float32)
        target.dequantize_linear(q, scale, zero, axis, back[..., ::2])
        in_place = x.copy()
        target.fake_quantize(in_place, scale, zero, axis, -128, 127, in_place)
        return q, back, in_place, target.fake_quantize(x[::-1], scale[0], zero[0], None, -128, 127, None)

    assert_independent_of_threads(compute)


@pytest.mark.parametrize(("m", "k", "n"), [(5, 900, 9000), (9000, 901, 5), (300, 257, 300)])
def test_saturating_matmul(target: Target, m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(m)
    a = rng.integers(0, 256, (m, k), np.uint8)
    b = rng.integers(-128, 128, (k, n), np.int8)
    for left, right in ((a, b), (np.asfortranarray(a), b[:, ::-1])):
        assert_independent_of_threads(lambda a=left, b=right: target.saturating_matmul(a, b, True))  # type: ignore[misc]


def probe(x: Any) -> list[bytes]:
    return flat((*kernels.min_max(x), kernels.mean(x), kernels.median(x), *kernels.histogram(x, 100)))


def test_many_python_threads_at_once() -> None:
    quantstats.set_num_threads(2)
    arrays = [samples(600_000 + 1000 * i) for i in range(6)]
    expected = [probe(x) for x in arrays]
    got: list[list[list[bytes]]] = [[] for _ in arrays]

    def work(i: int) -> None:
        got[i].extend(probe(arrays[i]) for _ in range(4))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(arrays))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[one] * 4 for one in expected]


def _probe_in_child(connection: Any, x: Any) -> None:
    connection.send(probe(x))
    connection.close()


# jax, where another test has imported it, warns of every fork; the children do not use it.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@linux
def test_forked_child_computes_with_threads_of_its_own() -> None:
    quantstats.set_num_threads(2)
    x = samples(LARGE)
    expected = probe(x)  # the pool of the parent runs
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        here, there = context.Pipe()
        child = context.Process(target=_probe_in_child, args=(there, x))
        child.start()
        assert here.poll(60), "the child hangs"
        assert here.recv() == expected
        child.join(60)
        assert child.exitcode == 0
    pid = os.fork()
    if pid == 0:
        os._exit(0 if probe(x) == expected and probe(x) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert probe(x) == expected


def run(code: str, command: tuple[str, ...] = (sys.executable,), **environment: str) -> str:
    names = ("QUANTSTATS_NUM_THREADS", "OMP_NUM_THREADS")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [*command, "-c", code], env=clean | environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


COUNT = "import quantstats; print(quantstats.get_num_threads())"


def test_environment() -> None:
    assert run(COUNT, QUANTSTATS_NUM_THREADS="3") == "3"
    assert run(COUNT, OMP_NUM_THREADS="5") == "5"
    assert run(COUNT, OMP_NUM_THREADS="5,2") == "5"
    assert run(COUNT, QUANTSTATS_NUM_THREADS="3", OMP_NUM_THREADS="5") == "3"
    assert run(COUNT, QUANTSTATS_NUM_THREADS="", OMP_NUM_THREADS="4") == "4"
    default = run(COUNT)
    assert run(COUNT, OMP_NUM_THREADS="many") == default
    assert 1 <= int(default) <= (os.cpu_count() or 1)


@pytest.mark.parametrize("value", ["0", "-1", "two", "2.5", " 2", "2x"])
def test_wrong_number_in_the_environment_is_an_import_error(value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        env=os.environ | {"QUANTSTATS_NUM_THREADS": value},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: environment variable QUANTSTATS_NUM_THREADS: '{value}'"), done.stderr


@linux
def test_affinity_limits_the_default() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    for n in {1, len(cpus)}:
        code = f"import os; os.sched_setaffinity(0, {cpus[:n]}); {COUNT}"
        assert 1 <= int(run(code)) <= n
    assert run(f"import os; os.sched_setaffinity(0, {cpus[:1]}); {COUNT}") == "1"


def test_set_and_get() -> None:
    for n in (1, 2, np.int64(7), 256):
        quantstats.set_num_threads(n)  # type: ignore[arg-type]
        assert quantstats.get_num_threads() == n
    assert quantstats.show_config("dicts")["threads"] == 256
    quantstats.set_num_threads(100_000)
    assert quantstats.get_num_threads() == 256
    for wrong in (0, -3):
        with pytest.raises(ValueError, match=f"n is {wrong}; pass the number of threads"):
            quantstats.set_num_threads(wrong)
    for kind in (True, 2.0, "2", None, np.array([1, 2])):
        with pytest.raises(TypeError, match="pass the number of threads"):
            quantstats.set_num_threads(kind)  # type: ignore[arg-type]
    assert quantstats.get_num_threads() == 256


@linux
def test_threads_start_with_the_first_large_call() -> None:
    code = """
import os
import numpy as np
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
import quantstats
from quantstats import kernels
seen = [count() - before]
quantstats.set_num_threads(3)
x = np.zeros(4_000_000, np.float32)
seen.append(count() - before)
for size in (10, 1000, 100_000):
    kernels.min_max(x[:size]); kernels.mean(x[:size]); kernels.quantile(x[:size], 0.9)
    kernels.histogram(x[:size], 10); kernels.bit_histogram(x[:size], np.zeros(65536, np.uint64))
    kernels.quantize_linear(x[:size], 1.0, 0, qmin=-128, qmax=127)
    kernels.mean_no_outliers(x[:size].reshape(-1, 10))
seen.append(count() - before)
kernels.min_max(x)
seen.append(count() - before)
kernels.min_max(x)
seen.append(count() - before)
print(*seen)
"""
    # OpenBLAS has threads of its own.
    seen = run(code, OPENBLAS_NUM_THREADS="1")
    assert seen.split() == ["0", "0", "0", "2", "2"]


@linux
def test_worker_threads_leave_signals_to_the_program() -> None:
    code = """
import os
import numpy as np
import quantstats
from quantstats import kernels
quantstats.set_num_threads(2)
before = set(os.listdir("/proc/self/task"))
kernels.min_max(np.zeros(4_000_000, np.float32))
(worker,) = set(os.listdir("/proc/self/task")) - before
status = open(f"/proc/self/task/{worker}/status").read().splitlines()
print(next(line.split()[1] for line in status if line.startswith("SigBlk")))
"""
    blocked = int(run(code), 16)
    for signal in (2, 15, 14, 10):  # SIGINT, SIGTERM, SIGALRM, SIGUSR1
        assert blocked >> (signal - 1) & 1
