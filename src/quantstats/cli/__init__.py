"""The command line: ``quantstats quantize MODEL.onnx --data DATA.npz -o INT8.onnx`` and its siblings."""

from __future__ import annotations

import signal
import sys
from types import FrameType

# What the extras of the distribution bring, by the names under which it is imported.
_OPTIONAL = frozenset({"typer", "rich", "onnx", "onnx_ir", "onnxruntime"})

INTERRUPTED = 130
_TERMINATED = 143


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return the line that says what to install, or ``None`` if the missing module is not one of an extra."""
    module = (error.name or "").partition(".")[0]
    if module not in _OPTIONAL:
        return None
    return f"error: {module} is not installed; install the extras: pip install 'quantstats-native[onnx,cli]'"


def main() -> None:
    """Run the command line and exit with its status: 0, 1 for an error, 2 for wrong usage, 130 if interrupted."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        # Only now: typer is an optional dependency, and its absence must be a line, not a traceback.
        from quantstats.cli.app import app

        app()
    except ModuleNotFoundError as error:
        line = missing_extra(error)
        if line is None:
            raise
        sys.exit(line)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _terminate(number: int, frame: FrameType | None) -> None:
    # Unwinding the stack removes what is half written; the default action would leave it.
    sys.exit(_TERMINATED)


__all__ = ["main"]
