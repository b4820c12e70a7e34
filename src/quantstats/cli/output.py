"""Output files that appear complete or not at all."""

from __future__ import annotations

import secrets
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from quantstats.errors import ParameterError


def check_output(path: Path, *, overwrite: bool, sources: tuple[Path, ...] = ()) -> None:
    """Fail early where :func:`staged_outputs` would fail late.

    :param path: Where the output will be.
    :param overwrite: True if a file there may be replaced.
    :param sources: Files that the output must not replace even then.
    :raises ParameterError: The output cannot or must not be written there.
    """
    if path.is_dir():
        raise ParameterError(f"output {str(path)!r} is a directory; give the name of a file")
    if not path.parent.is_dir():
        raise ParameterError(f"output {str(path)!r} cannot be written: directory {str(path.parent)!r} does not exist")
    for source in sources:
        if path.exists() and source.exists() and path.samefile(source):
            raise ParameterError(f"output {str(path)!r} would replace a file that is read; give another name")
    if path.exists() and not overwrite:
        raise ParameterError(f"output {str(path)!r} exists; give another name, or --overwrite to replace it")


@contextmanager
def staged_outputs(*paths: Path, overwrite: bool) -> Iterator[tuple[Path, ...]]:
    """Yield a path to write to for each output; move what is there into place if the block ends well, else remove it.

    Each is in a new directory beside its output, so that moving is renaming, and has the same file name, so that a
    model that names its external data file after itself stays right. Every file written to such a directory is moved,
    the output itself last: when it appears, all that it refers to is there. An interrupt leaves all outputs or none.

    :raises ParameterError: A file that would be replaced exists and ``overwrite`` is false.
    """
    # Names are drawn before anything is made: an interrupt right after a directory is made finds it below.
    staging = {path.parent / f".{path.name}.{secrets.token_hex(8)}": path for path in paths}
    try:
        for directory in staging:
            directory.mkdir()
        yield tuple(directory / path.name for directory, path in staging.items())
        with _signals_come_too_late():
            _move(staging, overwrite=overwrite)
    finally:
        with _signals_come_too_late():
            for directory in staging:
                shutil.rmtree(directory, ignore_errors=True)


def _move(staging: Mapping[Path, Path], *, overwrite: bool) -> None:
    moves = [
        (file, path.parent / file.name)
        for directory, path in staging.items()
        for file in _output_last(directory, path.name)
    ]
    for _, target in moves:
        check_output(target, overwrite=overwrite)
    for file, target in moves:
        file.replace(target)


def _output_last(directory: Path, output: str) -> list[Path]:
    return sorted(directory.iterdir(), key=lambda file: file.name == output)


@contextmanager
def _signals_come_too_late() -> Iterator[None]:
    """Ignore interrupts in a block that takes a moment and must not be left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread is interrupted by signals, and only it may say what they do.
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["check_output", "staged_outputs"]
