"""Where the C library of this installation is, for those who build against it."""

from __future__ import annotations

__all__ = ["get_cmake_dir", "get_include", "get_pkgconfig_dir"]


def _path(*parts: str) -> str:
    # Needed by builds alone, and slow to import. Unlike __file__ it finds what an editable installation has compiled.
    from importlib import resources

    found = resources.files("quantstats")
    for part in parts:
        found = found / part
    return str(found)


def get_include() -> str:
    """Return the folder for the compiler's ``-I``: it holds ``quantstats/capi.h`` and ``quantstats/python.h``."""
    return _path("include")


def get_cmake_dir() -> str:
    """Return the folder of ``quantstatsConfig.cmake``: pass it as ``-Dquantstats_DIR=...``."""
    return _path("lib", "cmake", "quantstats")


def get_pkgconfig_dir() -> str:
    """Return the folder of ``quantstats.pc``: put it on ``PKG_CONFIG_PATH``."""
    return _path("lib", "pkgconfig")
