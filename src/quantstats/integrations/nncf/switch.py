"""Turning the kernels on and off inside nncf."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

#: The first release of nncf that is served, and the first one that is not.
SUPPORTED_VERSIONS = ((3, 0), (3, 5))

_lock = threading.RLock()
_holders = 0
_restore: list[Callable[[], None]] = []


def enable() -> None:
    """Serve nncf from the kernels until `disable`, which must be called as often.

    :raises ImportError: nncf is not installed, or is a release that is not among `SUPPORTED_VERSIONS`.
    """
    global _holders
    with _lock:
        if _holders == 0:
            _check_version()
            _replace_all()
        _holders += 1


def disable() -> None:
    """End what `enable` began. Without it, nothing happens."""
    global _holders
    with _lock:
        if _holders == 0:
            return
        _holders -= 1
        if _holders == 0:
            _restore_all()


def is_enabled() -> bool:
    """Whether nncf is served from the kernels now."""
    return _holders > 0


@contextmanager
def accelerate() -> Iterator[None]:
    """Serve nncf from the kernels within a ``with`` block; see `enable`."""
    enable()
    try:
        yield
    finally:
        disable()


def _check_version() -> None:
    try:
        from nncf import __version__
    except ImportError as error:
        raise ImportError("nncf is not installed; install it with: pip install 'quantstats-native[nncf]'") from error
    release = tuple(int(part) for part in __version__.split(".")[:2])
    first, beyond = SUPPORTED_VERSIONS
    if not first <= release < beyond:
        raise ImportError(
            f"nncf {__version__} is not supported; install one from {_dotted(first)} to before {_dotted(beyond)}, "
            "or run it without quantstats"
        )


def _dotted(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))


def _replace_all() -> None:
    from quantstats.integrations.nncf import aggregators, engine, tensor_functions

    try:
        for registry, array_type, function in tensor_functions.served():
            _replace(registry.__setitem__, array_type, registry[array_type], function)
        for owner, name, function in (*aggregators.served(), *engine.served()):
            _replace(partial(setattr, owner), name, owner.__dict__[name], function)
    except BaseException:
        _restore_all()
        raise


def _replace(assign: Callable[[Any, Any], None], key: Any, before: Any, after: Any) -> None:
    assign(key, after)
    _restore.append(lambda: assign(key, before))


def _restore_all() -> None:
    while _restore:
        _restore.pop()()
