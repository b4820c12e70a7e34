"""Types of what the functions of quantstats take."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

__all__ = ["SupportsArrayInterface", "SupportsBuffer", "SupportsDLPack", "Tensor"]


class SupportsDLPack(Protocol):
    """Shares its memory by DLPack: arrays of torch and jax, onnxruntime's ``OrtValue``."""

    def __dlpack__(self, *args: Any, **options: Any) -> Any: ...

    def __dlpack_device__(self) -> Any: ...


class SupportsBuffer(Protocol):
    """Has the buffer protocol: ``memoryview``, ``array.array``."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class SupportsArrayInterface(Protocol):
    """Describes its memory in ``__array_interface__``: NumPy's arrays and scalars."""

    @property
    def __array_interface__(self) -> Any: ...


#: An array whose memory is read in place. Its dtype is checked when it is used.
Tensor: TypeAlias = SupportsDLPack | SupportsBuffer | SupportsArrayInterface
