"""Output files that appear complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quantstats.errors import ParameterError


def check_output(path: Path, *, overwrite: bool, sources: tuple[Path, ...] = ()) -> None:
    """Fail early where :func:`staged_output` would fail late.

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
def staged_output(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path to write to; move what is there to ``path`` if the block ends well, remove it otherwise.

    The path is in a new directory beside ``path``, so that moving is renaming, and has the same file name, so that a
    model that names its external data file by a name derived from its own stays right. Every file written to that
    directory is moved, ``path`` itself last: when it appears, all that it refers to is there.

    :raises ParameterError: A file that would be replaced exists and ``overwrite`` is false.
    """
    directory = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield directory / path.name
        files = sorted(directory.iterdir(), key=lambda file: file.name == path.name)
        for file in files:
            check_output(path.parent / file.name, overwrite=overwrite)
        for file in files:
            file.replace(path.parent / file.name)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


__all__ = ["check_output", "staged_output"]
