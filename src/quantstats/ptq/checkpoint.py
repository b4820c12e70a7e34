"""Statistics that a calibration leaves on disk as it goes, so that one that is killed can go on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from quantstats._validation import check_count, check_path
from quantstats.adapters.protocol import Sample
from quantstats.errors import DataError, ParameterError
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.calibration_file import load_input_hashes, remove_partial, require_safetensors


class Checkpoint:
    """A statistics file that grows with the samples.

    It is written to another name and renamed, so there is a complete one at any moment. Any number of calibrations may
    start from it, but one at a time.

    Besides it keeps what identifies the inputs of each sample: ids that count from 0 fit any data.

    :param path: the file; it need not exist.
    :param every: after how many samples it is written.
    :raises ParameterError: no such file can be written, or `every` is no count.
    :raises QuantizationError: the package safetensors is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], every: int) -> None:
        check_path("calibrate", "checkpoint", path)
        check_count("calibrate", "every", every, least=1)
        require_safetensors()
        self._path = Path(path)
        self._every = every
        self._written = 0
        self._input_hashes: dict[str, str] = {}
        directory = self._path.parent
        if self._path.is_dir():
            raise ParameterError(f"calibrate.checkpoint={str(path)!r} is a directory; give the path of a file")
        if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
            raise ParameterError(
                f"calibrate.checkpoint={str(path)!r} cannot be written, since {str(directory)!r} is no directory that "
                "files can be written to; make it one, or give another path"
            )

    def resume(self, fresh: CalibrationStatistics) -> CalibrationStatistics:
        """The statistics in the file, or `fresh` if there is none.

        :param fresh: statistics without samples, of this model and these parameters.
        :raises DataError: the file cannot be read, or is of another model or other parameters.
        """
        remove_partial(self._path)
        if not self._path.exists():
            return fresh
        found = CalibrationStatistics.load(self._path, memory_limit=fresh.memory_limit)
        difference = fresh.difference(found)
        if difference is not None:
            raise DataError(
                f"the checkpoint {self._path} is of another calibration, it differs in {difference} (this one has the "
                "first); give the arguments that it was made with, or another checkpoint"
            )
        # The order of what is observed is that of the file's names; errors name the first tensor in the model's.
        fresh.merge(found)
        self._written = fresh.num_samples
        self._input_hashes = load_input_hashes(self._path)
        return fresh

    def check_inputs(self, sample_id: str, sample: Sample, *, taken: bool) -> None:
        """Compare the inputs of a sample that the file has with those that it had; take note of those of another one.

        :param taken: whether the file has the sample. One from before inputs were noted fits any.
        :raises DataError: they differ.
        """
        found = input_hash(sample)
        if not taken:
            self._input_hashes[sample_id] = found
        elif self._input_hashes.get(sample_id, found) != found:
            raise DataError(
                f"the checkpoint {self._path} has sample {sample_id!r} with other inputs than these data have under "
                "this id; give the data that it was made with, in the same order and not drawn at random, new "
                "sample_ids, or another checkpoint"
            )

    def check_complete(self, statistics: CalibrationStatistics, seen: set[str]) -> None:
        """Raise `DataError` if there are samples that the data do not have: the ids that were `seen`."""
        foreign = [sample for sample in statistics.sample_ids if sample not in seen]
        if foreign:
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise DataError(
                f"the checkpoint {self._path} has sample {foreign[0]!r}{more}, and the data of this calibration do "
                "not; give the data, subset_size and sample_ids that it was made with, or another checkpoint"
            )

    def note(self, statistics: CalibrationStatistics) -> None:
        """Write the file if enough samples came since."""
        if statistics.num_samples - self._written >= self._every:
            self.write(statistics)

    def write(self, statistics: CalibrationStatistics) -> None:
        """Write the file if any sample came since.

        :raises DataError: it cannot be written.
        """
        if statistics.num_samples > self._written:
            hashes = self._input_hashes
            statistics.save(self._path, input_hashes={i: hashes[i] for i in statistics.sample_ids if i in hashes})
            self._written = statistics.num_samples


def input_hash(sample: Sample) -> str:
    """What identifies the inputs of a run: their names, dtypes, shapes and values."""
    digest = blake2b(digest_size=16)
    for name in sorted(sample):
        array = np.asarray(sample[name])
        digest.update(f"{name}\0{array.dtype.name}{array.shape}\0".encode())
        if array.dtype.hasobject:  # Strings: the bytes of the array are addresses.
            digest.update(repr(array.tolist()).encode())
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait, and SIGTERM where Python handles it: statistics that are half updated must not be written."""
    if threading.current_thread() is not threading.main_thread():  # Only that one is interrupted.
        yield
        return
    numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    came: list[tuple[int, Any]] = []
    try:
        for number in handlers:
            signal.signal(number, lambda *what: came.append(what))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in came:
            handlers[number](number, frame)
