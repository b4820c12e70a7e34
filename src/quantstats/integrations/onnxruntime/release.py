"""Which releases of onnxruntime are served."""

from __future__ import annotations

from quantstats.integrations.release import require_release

#: The first release of onnxruntime that is served, and the first one that is not.
SUPPORTED_VERSIONS = ((1, 22), (1, 32))


def require_supported() -> None:
    """Do nothing if onnxruntime is one of `SUPPORTED_VERSIONS`.

    :raises ImportError: it is not installed, or is another release.
    """
    require_release("onnxruntime", "onnx", SUPPORTED_VERSIONS)
