"""Plain ``import quantstats`` needs NumPy and the standard library alone, and is quick."""

from __future__ import annotations

import json
import subprocess
import sys

_NEW_MODULES = """
import json, sys
import numpy
before = set(sys.modules)
import quantstats
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""

_SECONDS = """
import time
import numpy
start = time.perf_counter()
import quantstats
print(time.perf_counter() - start)
"""

# On a busy machine one import may be slow for reasons of its own; the quickest of several tells what it costs.
_ATTEMPTS = 7
_LIMIT_SECONDS = 0.150


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_no_module_outside_numpy_and_the_standard_library_is_imported() -> None:
    imported = set(json.loads(run(_NEW_MODULES)))
    assert "quantstats" in imported
    assert imported - {"quantstats"} - set(sys.stdlib_module_names) - {"numpy"} == set()


def test_import_costs_at_most_150_ms_more_than_numpy() -> None:
    assert min(float(run(_SECONDS)) for _ in range(_ATTEMPTS)) < _LIMIT_SECONDS
