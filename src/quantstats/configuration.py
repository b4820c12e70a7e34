"""What this build of quantstats is, which kernels it uses on this machine, and how many threads."""

from __future__ import annotations

import operator
import platform
from typing import Any, Literal, overload

import numpy as np

from quantstats import _core


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Tell version, compiler, instruction sets (built into this package, runnable on this CPU, active) and threads.

    The active instruction set is the best runnable one, or the one that the environment variable ``QUANTSTATS_ISA``
    names when quantstats is imported. For the number of threads see `get_num_threads`.

    :param mode: ``"stdout"`` prints one line per entry; ``"dicts"`` returns the entries instead.
    :raises ValueError: for another mode.
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode={mode!r} is not known; use 'stdout' or 'dicts'")
    from quantstats import __version__

    config = {
        "quantstats": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        **_core.build_info(),
        "threads": get_num_threads(),
    }
    if mode == "dicts":
        return config
    width = max(map(len, config))
    for name, value in config.items():
        print(f"{name:<{width}}  {', '.join(value) if isinstance(value, tuple) else value}")
    return None


def get_num_threads() -> int:
    """Return the number of threads that a call of a kernel may use, the calling thread included.

    It is what `set_num_threads` set last; before, the environment variable ``QUANTSTATS_NUM_THREADS``, else
    ``OMP_NUM_THREADS``, else the number of CPUs in the affinity mask of the process, at most the CPU quota of its
    control group. The environment and the system are asked once, by the first call that wants to know.
    ``QUANTSTATS_NUM_THREADS`` must be an integer of at least 1, or importing quantstats raises ImportError.

    Results do not depend on the number. Threads start with the first call that is large enough for a second one, and
    arrays of less than a megabyte are read by the calling thread alone. While the threads serve one call, calls from
    other Python threads do their work in their own thread.
    """
    return _core.num_threads()


def set_num_threads(n: int) -> None:
    """Let calls of kernels use up to ``n`` threads each, the calling thread included.

    :param n: at least 1; more than 256 counts as 256. 1 keeps all work in the calling thread.
    :raises TypeError: if ``n`` is not an integer.
    :raises ValueError: if ``n`` is less than 1.
    """
    wrong_type = f"n is {n!r}; pass the number of threads, an integer of at least 1"
    if isinstance(n, bool):
        raise TypeError(wrong_type)
    try:
        threads = operator.index(n)
    except TypeError:
        raise TypeError(wrong_type) from None
    if threads < 1:
        raise ValueError(f"n is {threads}; pass the number of threads, an integer of at least 1")
    _core.set_num_threads(min(threads, 256))
