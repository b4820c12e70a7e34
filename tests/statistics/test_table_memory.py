"""Tables beyond the memory limit: the same bits from temporary files, bounded memory, nothing left behind."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantstats.errors import DataError, ParameterError
from quantstats.range_estimator import RangeEstimatorParametersSet, StatisticsType
from quantstats.statistics import table_memory
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.statistics.column import Column
from quantstats.statistics.columnar_table import ColumnarTable
from quantstats.statistics.table_memory import DEFAULT_MEMORY_LIMIT, TableMemory

COLUMNS = (Column(StatisticsType.MIN), Column(StatisticsType.MAX))


def samples_of(count: int, channels: int = 40) -> list[np.ndarray]:
    return list(np.random.default_rng(0).normal(size=(count, 2, channels, 3)).astype(np.float32))


def collect(samples: list[np.ndarray], limit: int, ids: Any = None, **options: Any) -> CalibrationStatistics:
    statistics = CalibrationStatistics(
        {"x": 1, "y": None}, channel_means={"x": 1}, memory_limit=limit, batchwise=True, **options
    )
    for sample_id, x in zip(range(len(samples)) if ids is None else ids, samples, strict=True):
        statistics.update(str(sample_id), {"x": x, "y": x[:, :, 0]})
    return statistics


def tables_of(statistics: CalibrationStatistics) -> list[ColumnarTable]:
    found = [statistics["x"].table, statistics["x"].channel_table, statistics["y"].table, statistics._means["x"].table]
    return [table for table in found if table is not None]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    spilled = tmp_path / "spilled"
    spilled.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spilled))
    return spilled


@pytest.mark.parametrize("limit", [0, 50_000, DEFAULT_MEMORY_LIMIT])
def test_the_limit_changes_no_bit(limit: int, tmp_path: Path, directory: Path) -> None:
    samples = samples_of(60)
    found, plain = collect(samples, limit), collect(samples, DEFAULT_MEMORY_LIMIT)
    spilled = [table.spilled for table in tables_of(found)]
    assert spilled == {0: [True] * 4, 50_000: [False, True, False, False]}.get(limit, [False] * 4)
    assert found._memory.resident <= limit
    for name in ("MEAN_MINMAX", "MEAN_QUANTILE", "MEDIAN_MINMAX", "HISTOGRAM"):
        params = getattr(RangeEstimatorParametersSet, name)
        for per_channel in (False, True)[: 1 + (name != "HISTOGRAM")]:
            pair = zip(
                found.range("x", params, per_channel=per_channel),
                plain.range("x", params, per_channel=per_channel),
                strict=True,
            )
            assert all(mine.tobytes() == its.tobytes() for mine, its in pair)
    assert found.channel_mean("x").tobytes() == plain.channel_mean("x").tobytes()
    assert found == plain
    assert found.nbytes == plain.nbytes
    for statistics, file in ((found, "a"), (plain, "b")):
        statistics.save(tmp_path / file)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = CalibrationStatistics.load(tmp_path / "a", memory_limit=limit)
    assert loaded == plain
    assert any(table.spilled for table in tables_of(loaded)) == any(spilled)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("limits", [(0, 0), (0, DEFAULT_MEMORY_LIMIT), (DEFAULT_MEMORY_LIMIT, 0)])
def test_merging_tables_in_files(limits: tuple[int, int]) -> None:
    samples = samples_of(40)
    left = collect(samples[25:], limits[0], range(25, 40))
    left.merge(collect(samples[:25], limits[1], range(25)))
    assert left == collect(samples, DEFAULT_MEMORY_LIMIT)
    left.merge(collect(samples[3:9], 0, range(3, 9)), duplicates="skip")
    assert left == collect(samples, DEFAULT_MEMORY_LIMIT)


def test_copies_and_pickles_keep_the_limit_and_the_values() -> None:
    found = collect(samples_of(10), 0)
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert twin == found
        assert twin.memory_limit == 0
        assert all(table.spilled for table in tables_of(twin))
        twin.update("more", {"x": samples_of(1)[0], "y": samples_of(1)[0][:, :, 0]})
        assert found.num_samples == 10


def test_rows_longer_than_a_piece_and_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_memory, "_FILE_BYTES", 4 << 20)
    memory = TableMemory(0)
    wide = ColumnarTable(COLUMNS, memory)
    rows = np.random.default_rng(0).normal(size=(3, 2, 300_000)).astype(np.float32)  # 2.4 MB each.
    for row in rows:
        wide.append(row[np.newaxis])
    assert wide.spilled
    for index, column in enumerate(COLUMNS):
        assert np.array_equal(wide.matrix(column), rows[:, index])
    assert np.array_equal(np.concatenate(list(wide.chunks(np.array([2, 0])))), rows[[2, 0]])


def test_many_tables_share_a_file() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    memory = TableMemory(0)
    tables = [ColumnarTable(COLUMNS, memory) for _ in range(300)]
    for k, table in enumerate(tables):
        table.append(np.full((1, 2, 3), k, np.float32))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    assert [table.values[0, 0, 0] for table in tables] == list(range(300))


@pytest.mark.parametrize("limit", [0, 20_000])
def test_no_room_for_the_file_leaves_what_there_was(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Where there is no room for one table, no other takes the sample in."""
    samples = samples_of(8)
    found, part = collect([], limit), collect(samples, DEFAULT_MEMORY_LIMIT, range(10, 18))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    errors = []
    for index, x in enumerate(samples):
        try:
            found.update(str(index), {"x": x, "y": x[:, :, 0]})
        except DataError as error:
            errors.append(str(error))
    taken = len(samples) - len(errors)
    assert re.search("temporary file .* No space left on device; free space, set TMPDIR", errors[0])
    assert found == collect(samples[:taken], DEFAULT_MEMORY_LIMIT)
    with pytest.raises(DataError, match="No space left on device"):
        found.merge(part)
    assert found == collect(samples[:taken], DEFAULT_MEMORY_LIMIT)
    assert (taken > 0) == (limit > 0)


@pytest.mark.parametrize("limit", [-1, 1.5, True, "1 GB"])
def test_a_limit_that_is_none(limit: Any) -> None:
    with pytest.raises(ParameterError, match=r"CalibrationStatistics\.memory_limit="):
        CalibrationStatistics({"x": None}, memory_limit=limit)


PEAK = """
import sys
import numpy as np
from quantstats.statistics import table_memory
from quantstats.statistics.calibration import CalibrationStatistics
from quantstats.range_estimator import RangeEstimatorParametersSet

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024

limit, path = int(sys.argv[1]), sys.argv[2]
statistics = CalibrationStatistics({"x": 1}, memory_limit=limit)
x = np.random.default_rng(0).normal(size=(1, 8192, 2)).astype(np.float32)
statistics.update("0", {"x": x})
before = peak()
for k in range(1, 128):
    statistics.update(str(k), {"x": x + k})
statistics.save(path)
statistics.range("x", RangeEstimatorParametersSet.MEAN_QUANTILE, per_channel=True)
print(statistics.nbytes / 2**20, peak() - before)
"""


def test_resident_memory_stays_bounded(tmp_path: Path) -> None:
    """A table of 88 MB: with a limit of 4 MB collecting, saving and deriving a range need a fraction of it."""
    found = {}
    for limit in (4 << 20, 1 << 30):
        run = subprocess.run(
            [sys.executable, "-c", PEAK, str(limit), str(tmp_path / str(limit))],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "QUANTSTATS_NUM_THREADS": "1"},
        )
        size, found[limit] = map(float, run.stdout.split())
        assert size > 85
    assert found[1 << 30] > 85
    assert found[4 << 20] < 30
    assert (tmp_path / str(4 << 20)).read_bytes() == (tmp_path / str(1 << 30)).read_bytes()
