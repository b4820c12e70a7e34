"""The journal of a run: a line of JSON for each step, from which a run that was killed goes on.

The first line tells what the run is about: model, parameters, plan. Every further line is a step and its result, in the
order in which they were taken. The order depends on the results alone, so a run that reads them from the journal comes
to the place where the other one ended, and to the same end. A line that was cut off by the end of a process is dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from quantstats.errors import DataError

FORMAT_VERSION = 1

_REMEDY = "remove the file, or choose another directory"


class Journal:
    """Steps with their results, those of an earlier run first.

    :param path: The file; it is made if it does not exist. ``None`` keeps nothing.
    :param header: What the run is about, as plain JSON; nested mappings are compared key by key.
    :raises DataError: if the file cannot be read or written, is no journal, or is about something else; the message
        names the difference.
    """

    def __init__(self, path: Path | None, header: Mapping[str, Any]) -> None:
        self._path = path
        self._recorded: list[dict[str, Any]] = []
        self._next = 0
        self._file: Any = None
        if path is None:
            return
        header = {"journal": FORMAT_VERSION, **json.loads(_line(header))}
        try:
            lines = _complete_lines(path)
            if lines:
                found = [_parsed(path, number, line) for number, line in enumerate(lines, 1)]
                _compare(path, found[0], header)
                self._recorded = found[1:]
            # What follows the last complete line is a line that was cut off.
            self._file = path.open("r+b" if path.exists() else "x+b")
            self._file.truncate(sum(len(line) + 1 for line in lines))
            self._file.seek(0, os.SEEK_END)
            if not lines:
                self._append(header)
        except OSError as error:
            raise DataError(f"journal {str(path)!r}: {error.strerror or error}; check directory and space") from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def resumed(self) -> int:
        """How many steps an earlier run has left."""
        return len(self._recorded)

    def replay(self, step: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the result of a step that the earlier run took, or ``None`` where that one ended.

        :param step: What identifies it, as plain JSON.
        :raises DataError: if the earlier run took another step here.
        """
        if self._next == len(self._recorded):
            return None
        recorded = self._recorded[self._next]
        wanted = json.loads(_line(step))
        for key, value in wanted.items():
            if recorded.get(key) != value:
                raise DataError(
                    f"line {self._next + 2} of journal {str(self._path)!r} has {key} {recorded.get(key)!r} where this "
                    f"run has {value!r}; {_REMEDY}"
                )
        self._next += 1
        return {key: value for key, value in recorded.items() if key not in wanted}

    def take(self, step: Mapping[str, Any], result: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return the result of a step: the recorded one, or that of a call, which is recorded.

        The line is on disk before this returns. A call that raises leaves no line.
        """
        found = self.replay(step)
        if found is None:
            # Through JSON, so that a result is the same whether it is recorded or not.
            found = json.loads(_line(result()))
            self._append({**step, **found})
        return found

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(_line(entry).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DataError(
                f"journal {str(self._path)!r}: {error.strerror or error}; check directory and space"
            ) from error


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False)


def _complete_lines(path: Path) -> list[bytes]:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes().split(b"\n")[:-1]
    return []


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise DataError(f"line {number} of journal {str(path)!r} is no JSON object; {_REMEDY}")
    return entry


def _compare(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    there, here = _flat(found), _flat(wanted)
    for key in (*here, *there):
        if there.get(key) != here.get(key):
            raise DataError(
                f"journal {str(path)!r} is of another run: {key} is {_shown(there.get(key))} there, and "
                f"{_shown(here.get(key))} here; {_REMEDY}"
            )


def _flat(entry: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


__all__ = ["FORMAT_VERSION", "Journal"]
