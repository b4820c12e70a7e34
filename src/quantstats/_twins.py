"""Conversion between the parameter classes and their nncf twins.

The classes of both libraries have the same names, field names and enumeration values, so one walk over the fields
serves all of them. nncf is imported only when `to_nncf` asks for one of its classes; `from_nncf` needs no import at
all, because it reads the object that it is given.
"""

from __future__ import annotations

import dataclasses
import importlib
from enum import Enum
from typing import Any, ClassVar, TypeVar

from quantstats.errors import ParameterError

E = TypeVar("E", bound="TwinEnum")
D = TypeVar("D", bound="TwinDataclass")


def nncf_class(path: str) -> Any:
    """The nncf class at the dotted `path`. Imports nncf, which takes seconds."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


class TwinEnum(Enum):
    """An enumeration whose member values are those of the nncf enumeration named by `_nncf_path`."""

    @classmethod
    def _nncf_path(cls) -> str:
        raise NotImplementedError

    @classmethod
    def from_nncf(cls: type[E], obj: Any) -> E:
        """The member with the same value as nncf's member `obj`. Raises `ParameterError` if there is none."""
        value = getattr(obj, "value", obj)
        try:
            return cls(value)
        except ValueError:
            choices = ", ".join(member.name for member in cls)
            raise ParameterError(f"nncf's {obj!r} has no counterpart in {cls.__name__}; use one of {choices}") from None

    def to_nncf(self) -> Any:
        """nncf's member with the same value. Imports nncf. Raises `ParameterError` if there is none."""
        twin = nncf_class(self._nncf_path())
        try:
            return twin(self.value)
        except ValueError:
            choices = ", ".join(member.name for member in twin)
            raise ParameterError(
                f"nncf has no counterpart of {self!s} in {twin.__name__}; use one of {choices}"
            ) from None


class TwinStrEnum(str, TwinEnum):
    """A `TwinEnum` whose members are strings, as nncf has them: ``OverflowFix.ENABLE == "enable"``."""

    def __str__(self) -> str:
        return str(self.value)


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return dataclasses.MISSING


class TwinDataclass:
    """Mixin of the parameter dataclasses: conversion from and to the nncf class named by `_NNCF_PATH`.

    `_NESTED` tells, for each field that holds another twin (or a list of them), the class of that twin.
    """

    _NNCF_PATH: ClassVar[str]
    _NESTED: ClassVar[dict[str, Any]] = {}

    @classmethod
    def from_nncf(cls: type[D], obj: Any) -> D:
        """The same parameters, read from the nncf object `obj` of the same name.

        A field that exists only in nncf must have its default value there: raises `ParameterError` otherwise, since
        dropping it would change what the parameters mean.
        """
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for field in dataclasses.fields(obj):
            value = getattr(obj, field.name)
            if field.name not in known and value != _default_of(field):
                raise ParameterError(
                    f"{field.name}={value!r} of nncf's {type(obj).__name__} is not supported by quantstats; "
                    f"leave it at its default {_default_of(field)!r}"
                )
        values = {}
        for name in known:
            if hasattr(obj, name):
                values[name] = cls._import(name, getattr(obj, name))
        return cls(**values)

    def to_nncf(self) -> Any:
        """The nncf object with the same parameters. Imports nncf.

        Raises `ParameterError` if a field that the installed nncf lacks differs from its default.
        """
        twin = nncf_class(self._NNCF_PATH)
        known = {field.name for field in dataclasses.fields(twin)}
        values = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name in known:
                values[field.name] = _export(value)
            elif value != _default_of(field):
                raise ParameterError(
                    f"{field.name}={value!r} of {type(self).__name__} does not exist in the installed nncf; "
                    f"leave it at its default {_default_of(field)!r}"
                )
        return twin(**values)

    @classmethod
    def _import(cls, name: str, value: Any) -> Any:
        twin = cls._NESTED.get(name)
        if twin is None or value is None:
            return list(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value
        if isinstance(value, list):
            return [twin.from_nncf(item) for item in value]
        if issubclass(twin, TwinDataclass) and type(value).__name__ != twin.__name__:
            raise ParameterError(
                f"{name}={value!r}: nncf's {type(value).__name__} is not supported by quantstats; use {twin.__name__}"
            )
        return twin.from_nncf(value)


def _export(value: Any) -> Any:
    if isinstance(value, (TwinEnum, TwinDataclass)):
        return value.to_nncf()
    if isinstance(value, list):
        return [_export(item) for item in value]
    return dict(value) if isinstance(value, dict) else value
