"""Which releases of onnxruntime are served."""

from __future__ import annotations

#: The first release of onnxruntime that is served, and the first one that is not.
SUPPORTED_VERSIONS = ((1, 22), (1, 32))


def require_supported() -> None:
    """Do nothing if onnxruntime is one of `SUPPORTED_VERSIONS`.

    :raises ImportError: it is not installed, or is another release.
    """
    try:
        from onnxruntime import __version__
    except ImportError as error:
        raise ImportError(
            "onnxruntime is not installed; install it with: pip install 'quantstats-native[onnx]'"
        ) from error
    release = tuple(int(part) for part in __version__.split(".")[:2])
    first, beyond = SUPPORTED_VERSIONS
    if not first <= release < beyond:
        raise ImportError(
            f"onnxruntime {__version__} is not supported; install one from {_dotted(first)} to before "
            f"{_dotted(beyond)}, or run its quantization without quantstats"
        )


def _dotted(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))
