"""Which releases of another framework an integration serves."""

from __future__ import annotations

import importlib

Release = tuple[int, int]


def require_release(package: str, extra: str, supported: tuple[Release, Release]) -> None:
    """Do nothing if a package is there in a release that is served.

    :param package: Its name, to import and to install.
    :param extra: The extra of quantstats-native that brings it.
    :param supported: The first release that is served, and the first one that is not.
    :raises ImportError: it is not installed, or is another release.
    """
    try:
        version = importlib.import_module(package).__version__
    except ImportError as error:
        raise ImportError(
            f"{package} is not installed; install it with: pip install 'quantstats-native[{extra}]'"
        ) from error
    release = tuple(int(part) for part in version.split(".")[:2])
    first, beyond = supported
    if not first <= release < beyond:
        raise ImportError(
            f"{package} {version} is not supported; install one from {_dotted(first)} to before {_dotted(beyond)}, "
            "or run it without quantstats"
        )


def _dotted(release: Release) -> str:
    return ".".join(map(str, release))
