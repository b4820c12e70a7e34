"""Progress of a calibration, told by a callback; a bar on the terminal where rich is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


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
def reporting(progress: bool | Progress) -> Iterator[Progress]:
    """Yield the callback to use.

    :param progress: A callback is used as it is. ``True`` shows a bar on standard error if that is a terminal and rich
        is installed, else nothing; so does ``False``.
    """
    if callable(progress):
        yield progress
        return
    if not progress or not sys.stderr.isatty():
        yield silent
        return
    try:
        import rich.console
        import rich.progress as bars
    except ImportError:
        yield silent
        return
    columns = (
        bars.TextColumn("Calibrating"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("samples, {task.fields[tensors]} tensors"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as display:
        task = display.add_task("", total=None, tensors=0)

        def show(done: int, total: int | None, tensors: int) -> None:
            display.update(task, completed=done, total=total, tensors=tensors)

        yield show
