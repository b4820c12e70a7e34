"""Progress on a terminal, and silence everywhere else."""

from __future__ import annotations

import io
import re

from rich.console import Console

from quantstats.cli.progress import Stages


def shown(*, terminal: bool, quiet: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, quiet=quiet, _environ={})
    with Stages(console) as stages:
        with stages.calibration(samples_per_step=4, samples=10) as calibrated:
            calibrated(0, 3, 7)
            calibrated(3, 3, 7)
        with stages.counted("Comparing", 5) as advance:
            advance(5)
        with stages.uncounted("Measuring latency"):
            pass
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_terminal_shows_each_stage_with_samples_and_tensors() -> None:
    text = shown(terminal=True)
    # The last batch is smaller: three steps of four are ten samples.
    assert re.search(r"Calibrating .*100% 10/10 samples, 7 tensors", text)
    assert re.search(r"Comparing .*100% 5 samples", text)
    assert re.search(r"Measuring latency .*100%", text)


def test_a_pipe_shows_nothing() -> None:
    assert shown(terminal=False) == ""


def test_quiet_shows_nothing() -> None:
    assert shown(terminal=True, quiet=True) == ""
