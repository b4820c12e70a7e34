"""The sessions in which nncf runs ONNX models, with threads that sleep while they wait.

Between two runs of the model the statistics want the CPU. Threads of onnxruntime that wait in a loop for the next run
take it from them; they compute the same either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any


def served() -> Iterator[tuple[ModuleType, str, Any]]:
    """The module of nncf that makes sessions, the name under which it knows onnxruntime, and what takes its place."""
    try:
        from nncf.onnx import engine
    except ImportError:  # nncf without ONNX
        return
    yield engine, "rt", _Runtime(engine.rt)


class _Runtime:
    """onnxruntime, but for the options of a session."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def SessionOptions(self) -> Any:
        options = self._runtime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options
