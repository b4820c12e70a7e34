"""From a measurement to ``N of M gates met``."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.case import Case, Environment, Setup, choose, describe, judge
from benchmarks.gates import BY_KEY, Gate, Kind, share, speed
from benchmarks.harness import Contender, Measurement
from benchmarks.report import by_reason, count, final_line, goals, load, mark, markdown, show


def never(_: Environment) -> Setup:
    raise AssertionError("the report builds no case")


def measurement(seconds: dict[tuple[str, str], float]) -> Measurement:
    contenders = [Contender(name, lambda: None, isa) for name, isa in seconds]
    times = list(seconds.values())
    return Measurement(contenders, {c.key: dict.fromkeys(range(3), t) for c, t in zip(contenders, times, strict=True)})


L2 = Case("min_max_l2", "min_max", "1 MB", never, (speed("bottleneck"),))
TIMES = {
    ("ours", "avx512"): 10e-6,
    ("ours", "avx2"): 14e-6,
    ("sum()", "avx512"): 9e-6,
    ("sum()", "avx2"): 8e-6,
    ("numpy min+max", ""): 21e-6,
    ("torch", ""): 34e-6,
    ("bottleneck", ""): 100e-6,
}


def values(isa: str) -> dict[str, tuple[Any, bool | None, bool | None]]:
    judged = judge(L2, measurement(TIMES), isa, 0)
    return {j.gate.label: (pytest.approx(j.value), j.met, j.goal_met) for j in judged}


def test_judgement_of_avx512() -> None:
    assert values("avx512") == {
        # The fastest sum() of all instruction sets, 8 us: 80 %, between gate and goal.
        "sum()": (0.8, True, False),
        "numpy min+max": (2.1, True, False),
        "torch": (3.4, True, False),
        "bottleneck": (10.0, None, None),
    }


def test_judgement_of_avx2_in_l2() -> None:
    assert values("avx2") == {
        "sum()": (8 / 14, True, False),  # 57 %, at least 0.8 of 70 %
        "numpy min+max": (1.5, True, False),  # at least 0.8 of 1.6
        "torch": (34 / 14, True, False),  # 2.43, at least 0.8 of 3
        "bottleneck": (100 / 14, None, None),
    }


def test_a_shortfall_is_red() -> None:
    slow = {**TIMES, ("ours", "avx2"): 16e-6}
    assert [j.met for j in judge(L2, measurement(slow), "avx2", 0)] == [False, True, False, None]


@pytest.mark.parametrize(
    ("gate", "value"),
    [
        (Gate(Kind.TIME), 10e-6),
        (Gate(Kind.RATE), 5e8),
        (Gate(Kind.SLOWDOWN, "numpy min+max"), 10 / 21),
        (Gate(Kind.EXACT), 1.0),
        (speed("any peer"), 2.1),
        (share("torch", None, None), 3.4),
    ],
)
def test_values(gate: Gate, value: float) -> None:
    case = Case("", "min_max", "x", never, (gate,))
    (judged,) = judge(case, measurement(TIMES), "avx512", 5000)
    assert judged.value == pytest.approx(value)


def test_a_name_without_a_contender_is_an_error() -> None:
    with pytest.raises(LookupError, match="'tensorflow'"):
        choose(measurement(TIMES), "tensorflow", "avx2")


def test_extra_info() -> None:
    setup = Setup((), (), 1_000_000, {}, 0)
    information = describe(L2, setup, measurement(TIMES), "avx512")
    assert information["gigabytes_per_second"] == pytest.approx(100.0)
    assert information["fraction_of_sum"] == pytest.approx(0.8)
    assert information["others"]["torch"]["ratio"] == pytest.approx(3.4)
    assert information["others"]["ours [avx2]"]["ratio"] == pytest.approx(1.4)
    eased = describe(L2, setup, measurement(TIMES), "avx2")["gates"]
    assert [gate["gate"] for gate in eased] == pytest.approx([0.56, 1.28, 2.4, None])
    json.dumps(information)


def document(*, missing: bool = False, failed: bool = False) -> dict[str, Any]:
    isas = ["avx512", "avx2"]
    setup = Setup((), (), 1_000_000, {}, 0)
    measured = isas[:1] if missing else isas
    return {
        "benchmarks": [{"extra_info": describe(L2, setup, measurement(TIMES), isa)} for isa in measured],
        "quantstats": {
            "chosen": [{"case": L2.key, "isa": isa} for isa in isas],
            "failed": {f"{L2.key} [avx2]": "AttributeError: no such kernel"} if failed else {},
            "threads": 1,
            "quick": False,
            "cpu": "A CPU",
            "cpus": 2,
        },
    }


def test_count_of_gates() -> None:
    run = load(document(), [L2])
    assert count(run) == (6, 6)
    assert final_line(run) == "6 of 6 gates met"
    assert goals(run) == (0, 6)


def test_what_was_to_run_and_gave_no_result_meets_none_of_its_gates() -> None:
    run = load(document(missing=True, failed=True), [L2])
    assert count(run) == (3, len(BY_KEY["min_max_l2"].gates) + 3)


def test_the_last_line_is_the_number_of_gates_and_failures_are_told() -> None:
    text = io.StringIO()
    show(load(document(missing=True, failed=True), [L2]), Console(file=text, width=132))
    lines = text.getvalue().splitlines()
    assert lines[-1] == "3 of 6 gates met"
    assert any("no such kernel" in line for line in lines)
    assert any("not measured" in line for line in lines)
    assert any("numpy min+max" in line and "1.60x" in line and "2.10x ✓" in line and "✗" in line for line in lines)


def test_markdown() -> None:
    text = markdown(load(document(), [L2]))
    assert "A CPU, 2 CPUs; 1 thread: 6 of 6 gates met." in text
    assert "2.10x numpy min+max ✓" in text
    assert text.splitlines()[-1].startswith("| min_max_l2: 1 MB | 10 us (10)")


def test_marks() -> None:
    assert [mark(True, True), mark(True, False), mark(True, None), mark(False, False), mark(None, None)] == [
        "✓✓",
        "✓",
        "✓",
        "✗",
        "",
    ]
    assert mark(None, True) == "✓✓"  # a goal without a gate


def test_failures_with_one_reason_are_told_once() -> None:
    assert by_reason({"a": "x", "b": "y", "c": "x"}) == {"x": ["a", "c"], "y": ["b"]}


def test_a_run_from_end_to_end(tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(path), "-k", "saturating_matmul"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "0 of 0 gates met"  # the case carries none
    written = json.loads(path.read_text())
    assert written["benchmarks"]
    for benchmark in written["benchmarks"]:
        assert benchmark["group"] == "saturating_matmul"
        # pytest-benchmark's own statistics are those of our rounds.
        assert benchmark["stats"]["median"] == pytest.approx(benchmark["extra_info"]["median_us"] * 1e-6)
        assert benchmark["stats"]["rounds"] >= 5
