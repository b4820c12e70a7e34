"""docs/parameters.md has a row for every field and every enumeration value, and each names a test that exists."""

from __future__ import annotations

import dataclasses
import inspect
import re
from enum import Enum
from pathlib import Path

import pytest

from quantstats import advanced_parameters, parameters, range_estimator
from quantstats.ptq.quantize import quantize

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "parameters.md"
# Fields that nothing reads yet; a value other than the default is refused, or there is no function to give it to.
OPEN = {}


def names() -> set[str]:
    """Every field, enumeration value, set of parameters and argument of the driver."""
    found: set[str] = set()
    for module in (range_estimator, advanced_parameters, parameters):
        for name in module.__all__:
            cls = getattr(module, name)
            if isinstance(cls, type) and issubclass(cls, Enum):
                found.update(f"{name}.{member.name}" for member in cls)
            elif dataclasses.is_dataclass(cls):
                found.update(f"{name}.{field.name}" for field in dataclasses.fields(cls))
            elif isinstance(cls, type):
                found.update(f"{name}.{attribute}" for attribute in vars(cls) if attribute.isupper())
    driver = (
        "preset",
        "target_device",
        "subset_size",
        "fast_bias_correction",
        "model_type",
        "ignored_scope",
        "advanced_parameters",
    )
    assert set(driver) <= set(inspect.signature(quantize).parameters)
    found.update(f"quantize.{argument}" for argument in driver)
    return found


def rows() -> dict[str, tuple[str, str]]:
    """What a row says and its proof, by the name in the first column."""
    found: dict[str, tuple[str, str]] = {}
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        match = re.fullmatch(r"`(\w+\.\w+)`", cells[0])
        if match:
            assert len(cells) == 3, line
            assert match[1] not in found, f"two rows for {match[1]}"
            found[match[1]] = cells[1], cells[2]
    return found


def test_every_name_has_a_row() -> None:
    assert set(rows()) == names()


@pytest.mark.parametrize("name", sorted(names()))
def test_proof_exists(name: str) -> None:
    text, proof = rows()[name]
    assert len(text) > 10
    if name in OPEN:
        assert proof == "open"
        return
    tests = re.findall(r"`(\S+)::(\w+)`", proof)
    assert tests, proof
    for path, test in tests:
        assert f"def {test}(" in (ROOT / "tests" / path).read_text(), f"{path} has no {test}"
