"""Temporary directories that go with the object that uses them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


class ScratchDirectory:
    """A temporary directory, removed with this object or at the end of the process.

    ``tempfile.TemporaryDirectory`` warns of that; here it is the purpose.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="quantstats-"))
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Remove it now."""
        self._finalizer()
