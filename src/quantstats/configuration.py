"""What this build of quantstats is and which kernels it uses on this machine."""

from __future__ import annotations

import platform
from typing import Any, Literal, overload

import numpy as np

from quantstats import _core


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Tell version, compiler and instruction sets: built into this package, runnable on this CPU, and the active one.

    The active instruction set is the best runnable one, or the one that the environment variable ``QUANTSTATS_ISA``
    names when quantstats is imported.

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
    }
    if mode == "dicts":
        return config
    width = max(map(len, config))
    for name, value in config.items():
        print(f"{name:<{width}}  {', '.join(value) if isinstance(value, tuple) else value}")
    return None
