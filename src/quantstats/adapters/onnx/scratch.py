"""Temporary directories that go with the object that uses them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

from quantstats.errors import ModelError


class ScratchDirectory:
    """A temporary directory, removed with this object or at the end of the process.

    ``tempfile.TemporaryDirectory`` warns of that; here it is the purpose.

    :raises ModelError: no directory can be made.
    """

    def __init__(self) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix="quantstats-"))
        except OSError as error:
            where = f" in {str(Path(error.filename).parent)!r}" if error.filename else ""
            raise ModelError(
                f"no temporary directory can be made{where}: {error.strerror or error}; set "
                "TMPDIR to a directory with room that can be written to"
            ) from error
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Remove it now."""
        self._finalizer()
