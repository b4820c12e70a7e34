"""Checks of parameter values. Each raises `ParameterError` that names the field, the value and the remedy."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from quantstats.errors import ParameterError

SUPPORTED_NUM_BITS = (2, 3, 4, 5, 6, 7, 8, 16)


def check_member(owner: str, field: str, value: Any, enumeration: type[Enum]) -> None:
    """`value` must be a member of `enumeration`; a string or a member of another library's twin is refused."""
    if not isinstance(value, enumeration):
        choices = ", ".join(f"{enumeration.__name__}.{member.name}" for member in enumeration)
        raise ParameterError(f"{owner}.{field}={value!r} is not a {enumeration.__name__}; use one of {choices}")


def check_instance(owner: str, field: str, value: Any, cls: type[Any]) -> None:
    """`value` must be an instance of the parameter class `cls`."""
    if not isinstance(value, cls):
        name, remedy = cls.__name__, "build one"
        if hasattr(cls, "load"):
            remedy = f"give one, or load a file with {name}.load(path)"
        elif hasattr(cls, "from_nncf"):
            remedy = f"build one, or convert nncf's with {name}.from_nncf()"
        raise ParameterError(f"{owner}.{field}={value!r} is not a {name} of quantstats; {remedy}")


def check_bool(owner: str, field: str, value: Any) -> None:
    """`value` must be True or False."""
    if not isinstance(value, bool):
        raise ParameterError(f"{owner}.{field}={value!r} is not a bool; use True or False")


def check_num_bits(owner: str, field: str, value: Any) -> None:
    """`value` must be a bit width for which a storage dtype and levels are defined: 2 to 8, or 16."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value not in SUPPORTED_NUM_BITS:
        raise ParameterError(f"{owner}.{field}={value!r} is not a supported bit width; use 2 to 8, or 16")


def check_bit_widths(owner: str, field: str, value: Any) -> None:
    """`value` must be a sequence of bit widths (a single one, easily given by mistake, is refused)."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ParameterError(f"{owner}.{field}={value!r} is not a sequence of bit widths; write {field}=(8, 4)")
    for num_bits in value:
        check_num_bits(owner, field, num_bits)


def check_positive(owner: str, field: str, value: Any) -> None:
    """`value` must be a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value) or value <= 0:
        raise ParameterError(f"{owner}.{field}={value!r} is not a finite number above 0; give one, or None")


def check_tail_probability(owner: str, field: str, value: Any) -> None:
    """`value` must lie in (0, 0.5), so that the tails of a distribution are neither empty nor overlap."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0.0 < float(value) < 0.5:
        raise ParameterError(
            f"{owner}.{field}={value!r} is not a probability between 0 and 0.5, both excluded; the usual value is 1e-4"
        )


def check_share_of_width(owner: str, field: str, value: Any) -> None:
    """`value` must be a finite number of at least zero: ranges may lie farther apart than they are wide."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value) or value < 0:
        raise ParameterError(f"{owner}.{field}={value!r} is no share of a width; give a number such as 0.05")


def check_confidence(owner: str, field: str, value: Any) -> None:
    """`value` must lie in (0, 1)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0.0 < float(value) < 1.0:
        raise ParameterError(f"{owner}.{field}={value!r} is not in (0, 1); give a share such as 0.95")


def check_count(owner: str, field: str, value: Any, *, least: int) -> None:
    """`value` must be an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ParameterError(f"{owner}.{field}={value!r} is not an integer of at least {least}; give one")


def check_axes(owner: str, field: str, value: Any) -> None:
    """`value` must be a sequence of different integers."""
    sequence = isinstance(value, Sequence) and not isinstance(value, str)
    if not sequence or not all(isinstance(axis, numbers.Integral) and not isinstance(axis, bool) for axis in value):
        raise ParameterError(f"{owner}.{field}={value!r} is not a sequence of axes; write {field}=(0, 1)")
    if len(set(value)) < len(value):
        raise ParameterError(f"{owner}.{field}={value!r} has an axis twice; give each once")


def check_string(owner: str, field: str, value: Any) -> None:
    """`value` must be a string."""
    if not isinstance(value, str):
        raise ParameterError(f"{owner}.{field}={value!r} is not a string; give a name")


def check_strings(owner: str, field: str, value: Any) -> None:
    """`value` must be a list of strings (a single string, easily given by mistake, is refused)."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ParameterError(f"{owner}.{field}={value!r} is not a list of strings; write {field}=['...']")


def check_list_of(owner: str, field: str, value: Any, cls: type[Any]) -> None:
    """`value` must be a list of instances of `cls`."""
    if not isinstance(value, list) or not all(isinstance(item, cls) for item in value):
        raise ParameterError(
            f"{owner}.{field}={value!r} is not a list of {cls.__name__}; write {field}=[{cls.__name__}(...)]"
        )


def check_path(owner: str, field: str, value: Any) -> None:
    """`value` must be a path, a string or an `os.PathLike` of one, and not empty."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ParameterError(f"{owner}.{field}={value!r} is not a path; give a string or a Path, not an empty one")


def check_mapping(owner: str, field: str, value: Any, cls: type[Any] | tuple[type[Any], ...], example: str) -> None:
    """`value` must be a mapping of strings to instances of `cls`; `example` is one, as it would be written."""
    if not isinstance(value, Mapping):
        raise ParameterError(f"{owner}.{field}={value!r} is not a mapping by name; write {field}={example}")
    for key, item in value.items():
        # True is an integer, but no axis.
        if not isinstance(key, str) or not isinstance(item, cls) or isinstance(item, bool):
            raise ParameterError(f"{owner}.{field} has {{{key!r}: {item!r}}}; write it as {field}={example}")


def check_settings(owner: str, field: str, value: Any) -> None:
    """`value` must be a dictionary with string keys."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ParameterError(f"{owner}.{field}={value!r} is not a dictionary with string keys; give one")
