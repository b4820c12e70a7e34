"""Progress of a calibration, told by a callback; a bar on the terminal where rich is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol


class Progress(Protocol):
    """Called after every sample, and before the first one with ``done=0``, or with the samples of a checkpoint."""

    def __call__(self, done: int, total: int | None, tensors: int) -> None:
        """Take note.

        :param done: Samples that are finished.
        :param total: Samples in all; ``None`` while the data do not tell. The data may end earlier.
        :param tensors: Number of tensors that are observed in each sample.
        """
        ...


def silent(done: int, total: int | None, tensors: int) -> None:
    """Show nothing."""


@contextmanager
def terminal_display(wanted: bool, columns: Callable[[ModuleType], Sequence[Any]]) -> Iterator[Any]:
    """Yield a display of rich on standard error; ``None`` if it is not wanted, or there is no terminal or no rich.

    :param wanted: Whether to show anything.
    :param columns: Makes the columns of the display from the module ``rich.progress``.
    """
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    try:
        import rich.console
        import rich.progress as bars
    except ImportError:
        yield None
        return
    with bars.Progress(*columns(bars), console=rich.console.Console(stderr=True), transient=True) as display:
        yield display


def _columns(bars: ModuleType) -> Sequence[Any]:
    return (
        bars.TextColumn("Calibrating"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("samples, {task.fields[tensors]} tensors"),
        bars.TimeRemainingColumn(),
    )


@contextmanager
def reporting(progress: bool | Progress) -> Iterator[Progress]:
    """Yield the callback to use.

    :param progress: A callback is used as it is. ``True`` shows a bar on standard error if that is a terminal and rich
        is installed, else nothing; so does ``False``.
    """
    if callable(progress):
        yield progress
        return
    with terminal_display(bool(progress), _columns) as display:
        if display is None:
            yield silent
            return
        task = display.add_task("", total=None, tensors=0)

        def show(done: int, total: int | None, tensors: int) -> None:
            display.update(task, completed=done, total=total, tensors=tensors)

        yield show
