"""Putting functions of ours in the place of a framework's, and back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Replacement(NamedTuple):
    """One name of a framework and what stands behind it while the switch is on.

    :param assign: Called with the name and what it is to stand for: ``partial(setattr, module)``, a registry's
        ``__setitem__``.
    :param name: The name.
    :param before: What it stands for now.
    :param after: What takes its place.
    """

    assign: Callable[[Any, Any], None]
    name: Any
    before: Any
    after: Any


class Switch:
    """A switch for the whole process, to be thrown from any thread, as often on as off.

    :param replacements: Called when the switch goes on; it may raise, and then nothing is replaced.
    """

    def __init__(self, replacements: Callable[[], Iterable[Replacement]]) -> None:
        self._replacements = replacements
        self._lock = threading.RLock()
        self._holders = 0
        self._replaced: list[Replacement] = []

    @property
    def is_on(self) -> bool:
        """Whether the framework is served now."""
        return self._holders > 0

    def enable(self) -> None:
        """Replace everything, if nobody has; `disable` must be called as often."""
        with self._lock:
            if self._holders == 0:
                try:
                    for replacement in self._replacements():
                        replacement.assign(replacement.name, replacement.after)
                        self._replaced.append(replacement)
                except BaseException:
                    self._restore()
                    raise
            self._holders += 1

    def disable(self) -> None:
        """End what `enable` began; the last one restores everything. Without it, nothing happens."""
        with self._lock:
            if self._holders == 0:
                return
            self._holders -= 1
            if self._holders == 0:
                self._restore()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Serve the framework within a ``with`` block."""
        self.enable()
        try:
            yield
        finally:
            self.disable()

    def _restore(self) -> None:
        while self._replaced:
            replacement = self._replaced.pop()
            replacement.assign(replacement.name, replacement.before)
