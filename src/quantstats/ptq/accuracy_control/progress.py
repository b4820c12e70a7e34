"""Progress of accuracy control, told by a callback; a line on the terminal where rich is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol

from quantstats.ptq.progress import terminal_display


class Progress(Protocol):
    """Called before and after every piece of work."""

    def __call__(self, stage: str, done: int, total: int | None, detail: str) -> None:
        """Take note.

        :param stage: What is being done, in words: ``"Calibrating"``, ``"Validating"``, ``"Ranking"``, ``"Tuning"``.
        :param done: Pieces that are finished in this stage.
        :param total: Pieces in all, as far as they are known.
        :param detail: The newest result, in words; may be empty.
        """
        ...


def silent(stage: str, done: int, total: int | None, detail: str) -> None:
    """Show nothing."""


def _columns(bars: ModuleType) -> Sequence[Any]:
    return (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[detail]}", markup=False),
    )


@contextmanager
def reporting(progress: bool | Progress) -> Iterator[Progress]:
    """Yield the callback to use.

    :param progress: A callback is used as it is. ``True`` shows a line for each stage on standard error if that is a
        terminal and rich is installed, else nothing; so does ``False``.
    """
    if callable(progress):
        yield progress
        return
    with terminal_display(bool(progress), _columns) as display:
        if display is None:
            yield silent
            return
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int | None, detail: str) -> None:
            if stage not in tasks:
                tasks[stage] = display.add_task(stage, total=None, detail="")
            display.update(tasks[stage], completed=done, total=total, detail=detail)

        yield show


__all__ = ["Progress", "reporting", "silent"]
