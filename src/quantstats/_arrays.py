"""Arrays of other libraries as NumPy arrays that share their memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quantstats import _core

__all__ = ["as_array"]


def as_array(x: object) -> npt.NDArray[Any]:
    """`x` as an array: itself, or its memory if it has DLPack, the buffer protocol or ``__array_interface__``.

    bfloat16 of another library becomes that of `ml_dtypes`, which shares the memory as well; where that is not
    installed it becomes float32, which is a copy. What NumPy alone makes an array of -- numbers, lists -- is copied.

    :raises TypeError: `x` is on another device than the CPU, or its owner does not share it.
    """
    if isinstance(x, np.ndarray):
        return x
    if isinstance(x, (bool, int, float, complex, list, tuple)):
        return np.asarray(x)
    array, bfloat16 = _core.share_memory(x)
    if not bfloat16:
        return array
    try:
        import ml_dtypes
    except ImportError:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.view(ml_dtypes.bfloat16)
