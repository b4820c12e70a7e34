"""Turning the kernels on and off inside nncf."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial

from quantstats.integrations.release import require_release
from quantstats.integrations.switch import Replacement, Switch

#: The first release of nncf that is served, and the first one that is not.
SUPPORTED_VERSIONS = ((3, 0), (3, 5))


def _replacements() -> Iterator[Replacement]:
    require_release("nncf", "nncf", SUPPORTED_VERSIONS)
    from quantstats.integrations.nncf import aggregators, engine, graph, tensor_functions

    for registry, array_type, function in tensor_functions.served():
        yield Replacement(registry.__setitem__, array_type, registry[array_type], function)
    for owner, name, function in (*aggregators.served(), *engine.served(), *graph.served()):
        yield Replacement(partial(setattr, owner), name, owner.__dict__[name], function)


_switch = Switch(_replacements)


def enable() -> None:
    """Serve nncf from the kernels until `disable`, which must be called as often.

    :raises ImportError: nncf is not installed, or is a release that is not among `SUPPORTED_VERSIONS`.
    """
    _switch.enable()


def disable() -> None:
    """End what `enable` began. Without it, nothing happens."""
    _switch.disable()


def is_enabled() -> bool:
    """Whether nncf is served from the kernels now."""
    return _switch.is_on


def accelerate() -> AbstractContextManager[None]:
    """Serve nncf from the kernels within a ``with`` block; see `enable`."""
    return _switch.on()
