"""Measure all kernels, print the report.

    python -m benchmarks                      measure, print
    python -m benchmarks --quick              fewer rounds, nothing of 256 MB
    python -m benchmarks --no-report          measure only
    python -m benchmarks --report             print the report of the last run again
    python -m benchmarks -k median --threads 2 --tb=short    further options go to pytest

Exit status: 1 if a result is wrong or a benchmark fails; with ``--strict`` also if a gate is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report import count, markdown, read, show

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "build" / "benchmarks.json"


def main() -> int:
    """Run the suite and the report, as the arguments ask."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results are written and read")
    parser.add_argument("--report", action="store_true", help="only print the report of the results that are there")
    parser.add_argument("--no-report", action="store_true", help="only measure")
    parser.add_argument("--strict", action="store_true", help="a missed gate is an error, too")
    parser.add_argument("--markdown", action="store_true", help="print the report as Markdown")
    parser.add_argument("--width", type=int, help="columns of the report; those of the terminal by default")
    arguments, for_pytest = parser.parse_known_args()

    status = 0
    if not arguments.report:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.unlink(missing_ok=True)
        options = [
            str(HERE / "test_kernels.py"),
            "--quiet",
            "--tb=no",
            "-rN",
            "--benchmark-only",
            "--benchmark-disable-gc",
            "--benchmark-quiet",
            f"--benchmark-json={arguments.json}",
            # Peers warn of what they will do in later releases; the suite is no test of that.
            "--override-ini=filterwarnings=ignore",
        ]
        status = int(pytest.main([*options, *for_pytest]))
    if not arguments.json.exists():
        print(f"error: {arguments.json} is not there; run `python -m benchmarks` without --report", file=sys.stderr)
        return status or 1
    if arguments.no_report:
        return status
    run = read(arguments.json)
    if arguments.markdown:
        print(markdown(run))
    else:
        # A pipe has no width of its own, and a folded table is hard to read.
        show(run, Console(width=arguments.width or (None if sys.stdout.isatty() else 132)))
    met, total = count(run)
    return int(bool(status or run.failed or (arguments.strict and met < total)))


if __name__ == "__main__":
    sys.exit(main())
