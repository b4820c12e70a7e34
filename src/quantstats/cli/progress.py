"""Progress of the stages of a command, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from quantstats.ptq.accuracy_control.progress import Progress as ControlProgress
from quantstats.ptq.progress import Progress as CalibrationProgress


class Stages:
    """The stages of one job, a line each. Nothing is shown where the console is not a terminal.

    :param console: Where to show it.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
        )

    def __enter__(self) -> Stages:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @contextmanager
    def calibration(self, samples_per_step: int, samples: int) -> Iterator[CalibrationProgress]:
        """Yield the callback that a calibration reports to.

        :param samples_per_step: Samples in one run of the model.
        :param samples: Samples in all.
        """
        task = self._progress.add_task("Calibrating", total=None, detail="")

        def show(done: int, total: int | None, tensors: int) -> None:
            seen = min(done * samples_per_step, samples)
            detail = f"{seen}/{samples} samples, {tensors} tensors"
            self._progress.update(task, completed=seen, total=samples, detail=detail)

        yield show

    @contextmanager
    def accuracy_control(self) -> Iterator[ControlProgress]:
        """Yield the callback that accuracy control reports to: a line for each kind of its work."""
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None, detail: str) -> None:
            if stage not in tasks:
                tasks[stage] = self._progress.add_task(stage, total=None, detail="")
            self._progress.update(tasks[stage], completed=done, total=total, detail=detail)

        yield show

    @contextmanager
    def counted(self, description: str, samples: int) -> Iterator[Callable[[int], None]]:
        """Yield a callback that takes the number of samples finished since its last call."""
        task = self._progress.add_task(description, total=samples, detail=f"{samples} samples")
        yield lambda finished: self._progress.advance(task, finished)

    @contextmanager
    def uncounted(self, description: str) -> Iterator[None]:
        """Show that something goes on that has no measure of how far it is."""
        task = self._progress.add_task(description, total=None, detail="")
        yield
        self._progress.update(task, total=1, completed=1)


__all__ = ["Stages"]
