"""Statistics that a calibration leaves on disk as it goes, so that one that is killed can go on."""

from __future__ import annotations

import os
from pathlib import Path

from quantstats._validation import check_count
from quantstats.errors import DataError
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.calibration_file import remove_partial, require_safetensors


class Checkpoint:
    """A statistics file that grows with the samples.

    It is written to another name and renamed, so there is a complete one at any moment. Any number of calibrations may
    start from it, but one at a time.

    :param path: the file; it need not exist.
    :param every: after how many samples it is written.
    :raises QuantizationError: the package safetensors is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], every: int) -> None:
        check_count("calibrate", "every", every, least=1)
        require_safetensors()
        self._path = Path(path)
        self._every = every
        self._written = 0

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
        return fresh

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
            statistics.save(self._path)
            self._written = statistics.num_samples
