"""The journal: what a run leaves line by line, and how another goes on from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantstats.advanced_parameters import (
    AdvancedAccuracyRestorerParameters,
    AdvancedQuantizationParameters,
    QuantizationParameters,
)
from quantstats.errors import DataError
from quantstats.parameters import DropType
from quantstats.ptq.accuracy_control import AccuracyControlResult, restore_accuracy
from quantstats.ptq.accuracy_control.journal import Journal

from .framework import Network, NumpyAdapter, images, residual_network

VALIDATION = 30
NETWORK = residual_network()


def logits(model: Any, x: np.ndarray) -> np.ndarray:
    value: np.ndarray = model({"image": x})["classify.out"]
    return value


DATA = images(VALIDATION, 3)
CENTRE = np.mean([logits(NETWORK, x) for x in DATA], axis=0)
ITEMS = [(x, int((logits(NETWORK, x) - CENTRE).argmax())) for x in DATA]


class Validation:
    """Accuracy, which counts its calls, and may end the process or raise in one of them."""

    def __init__(self, *, numbers: bool = False, fail_at: int | None = None, kill_at: int | None = None) -> None:
        self.calls = 0
        self._numbers, self._fail_at, self._kill_at = numbers, fail_at, kill_at

    def __call__(self, model: Any, items: Iterable[Any]) -> Any:
        self.calls += 1
        right = []
        for x, label in items:
            right.append(float((logits(model, x) - CENTRE).argmax() == label))
            if self.calls == self._kill_at and len(right) == 2:
                os.kill(os.getpid(), 9)
            if self.calls == self._fail_at and len(right) == 2:
                raise RuntimeError("the disk is full")
        return (float(np.mean(right)), right) if self._numbers else float(np.mean(right))


def control(
    directory: Path | None, validation: Validation, *, network: Network = NETWORK, **options: Any
) -> AccuracyControlResult:
    restorer = AdvancedAccuracyRestorerParameters(
        intermediate_model_dir=None if directory is None else str(directory),
        tune_hyperparams=options.pop("tune", False),
        ranking_subset_size=options.pop("ranking_subset_size", 8),
    )
    options.setdefault("max_drop", 0.0)
    return restore_accuracy(
        NumpyAdapter(network),
        options.pop("calibration", images(16)),
        options.pop("items", ITEMS),
        validation,
        advanced_quantization_parameters=AdvancedQuantizationParameters(
            activations_quantization_params=QuantizationParameters(num_bits=4)
        ),
        advanced_accuracy_restorer_parameters=restorer,
        progress=False,
        **options,
    )


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines()]


def same(one: AccuracyControlResult, other: AccuracyControlResult) -> bool:
    """Whether two results are the same but for what was run in this process."""
    reports = [result.report.to_dict() for result in (one, other)]
    for report in reports:
        del report["model_runs"], report["resumed_steps"]
    return reports[0] == reports[1] and one.model.rounding == other.model.rounding


def test_every_step_is_a_line_with_score_and_decision(tmp_path: Path) -> None:
    report = control(tmp_path, Validation()).report
    header, *steps = lines(tmp_path)
    assert header["parameters"]["max_drop"] == 0.0
    validations = [step for step in steps if step["step"] == "validation"]
    assert validations[0]["settings"] == "fp32"
    found = [(tuple(step["reverted"]), step["metric"], step["drop"], step["decision"]) for step in validations[1:]]
    assert found == [(step.reverted, step.metric, step.drop, step.decision) for step in report.steps]
    trials = [step for step in steps if step["step"] == "trial"]
    assert len(trials) == report.trials > 4
    assert all(step["error"] >= 0 and step["noise"] >= 0 for step in trials)
    (ranking, *_) = [step for step in steps if step["step"] == "ranking"]
    alone = {step["name"]: step["error"] for step in trials if step["purpose"] == "Ranking"}
    assert ranking["order"] == sorted(alone, key=lambda name: -alone[name])
    assert steps[-1] == {
        "step": "result",
        "reverted": [group.name for group in report.reverted],
        "metric": report.metric,
        "drop": report.drop,
        "reached": True,
    }


@pytest.mark.parametrize("numbers", [False, True])
def test_a_finished_run_is_repeated_without_a_validation(tmp_path: Path, numbers: bool) -> None:
    first = control(tmp_path, Validation(numbers=numbers))
    before = (tmp_path / "journal.jsonl").read_bytes()
    again = Validation(numbers=numbers)
    second = control(tmp_path, again)
    assert again.calls == 0
    assert same(first, second)
    assert second.report.resumed_steps == len(lines(tmp_path)) - 1
    assert (tmp_path / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("tune", [False, True])
@pytest.mark.parametrize("numbers", [False, True])
def test_a_run_resumes_wherever_it_ended(tmp_path: Path, numbers: bool, tune: bool) -> None:
    """From every prefix of the journal, also one with a line that was cut off, the result is the same."""
    whole = tmp_path / "whole"
    complete = Validation(numbers=numbers)
    expected = control(whole, complete, tune=tune)
    recorded = (whole / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for length in {0, 2, 3, len(recorded) // 2, len(recorded) - 2}:
        part = tmp_path / str(length)
        part.mkdir()
        (part / "journal.jsonl").write_bytes(
            b"".join(recorded[:length]) + recorded[length][: len(recorded[length]) // 2]
        )
        resumed = Validation(numbers=numbers)
        assert same(control(part, resumed, tune=tune), expected)
        assert (part / "journal.jsonl").read_bytes() == b"".join(recorded)
        # At most the two validations are repeated that the ranking subset is taken from.
        taken = sum(json.loads(line)["step"] == "validation" for line in recorded[1:length])
        if not numbers:
            assert resumed.calls <= complete.calls - taken + 2


def test_an_exception_passes_through_and_the_journal_keeps_what_was_done(tmp_path: Path) -> None:
    whole = Validation()
    expected = control(None, whole)
    assert whole.calls > 3
    failing = Validation(fail_at=3)
    with pytest.raises(RuntimeError, match="the disk is full"):
        control(tmp_path, failing)
    assert [step["step"] for step in lines(tmp_path)[1:]].count("validation") == 2
    resumed = Validation()
    assert same(control(tmp_path, resumed), expected)
    # What the two models computed is not in the journal; a trial that needs it repeats their validations.
    assert resumed.calls <= whole.calls


KILLED = """
import importlib, sys
from pathlib import Path

sys.path.insert(0, {root!r})
journal = importlib.import_module("tests.ptq.test_accuracy_control_journal")
journal.control(Path({directory!r}), journal.Validation(numbers={numbers}, kill_at={at}))
"""


@pytest.mark.parametrize(("numbers", "at"), [(False, 4), (True, 9)])
def test_a_killed_run_resumes(tmp_path: Path, repository: Path, numbers: bool, at: int) -> None:
    program = KILLED.format(root=str(repository), directory=str(tmp_path), numbers=numbers, at=at)
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    left = lines(tmp_path)
    assert len(left) > 3
    assert left[-1]["step"] != "result"
    whole, resumed = Validation(numbers=numbers), Validation(numbers=numbers)
    assert same(control(tmp_path, resumed), control(None, whole))
    assert resumed.calls < whole.calls
    assert lines(tmp_path)[: len(left)] == left


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"max_drop": 0.01}, r"parameters\.max_drop is 0\.0 there, and 0\.01 here"),
        ({"drop_type": DropType.RELATIVE}, r"parameters\.drop_type is 'absolute' there, and 'relative' here"),
        ({"ranking_subset_size": 9}, r"restorer_parameters\.ranking_subset_size is 8 there, and 9 here"),
        ({"network": residual_network(1)}, "model is '[0-9a-f]{64}' there"),
        ({"calibration": images(17)}, "plan is '[0-9a-f]{64}' there"),
        ({"items": ITEMS[:-1]}, "validation_items is 30 there, and 29 here"),
    ],
)
def test_the_journal_of_another_run_is_refused(tmp_path: Path, options: dict[str, Any], difference: str) -> None:
    control(tmp_path, Validation())
    before = (tmp_path / "journal.jsonl").read_bytes()
    with pytest.raises(DataError, match=rf"journal .* is of another run: .*{difference}.*; remove the file"):
        control(tmp_path, Validation(), **options)
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_other_validation_data_of_the_same_length_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        control(tmp_path, Validation(fail_at=3))
    (tmp_path / "journal.jsonl").write_bytes(
        b"".join((tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)[:3])
    )
    with pytest.raises(DataError, match=r"the journal has the metric 1\.0 of the floating-point model, and validation"):
        control(tmp_path, Validation(), items=[(x, 0) for x, _ in ITEMS])


def test_a_journal_without_a_file_keeps_nothing() -> None:
    with Journal(None, {}) as journal:
        assert journal.take({"step": 1}, lambda: {"found": (1, 2)}) == {"found": [1, 2]}
        assert journal.replay({"step": 1}) is None
        assert journal.resumed == 0


@pytest.mark.parametrize("content", [b"no JSON\n", b"[1]\n", b'"x"\n', b"\xff\n"])
def test_what_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"line 1 of journal .* is no JSON object; remove the file"):
        Journal(path, {})
    assert path.read_bytes() == content


def test_another_step_than_recorded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, {"a": 1}) as journal:
        journal.take({"step": "one"}, lambda: {"x": 1})
    with Journal(path, {"a": 1}) as journal, pytest.raises(DataError, match=r"line 2 .* has step 'one' where this run"):
        journal.replay({"step": "two"})


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DataError, match=r"intermediate_model_dir .*file/below' cannot be made.*; choose another"):
        control(blocked / "below", Validation())
    with pytest.raises(DataError, match="Is a directory; check directory and space"):
        Journal(tmp_path, {})
