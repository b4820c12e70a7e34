"""Adapters: how the driver sees the models of a framework. Each is imported only when a model of its kind comes in."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, cast

from quantstats.adapters.protocol import ModelAdapter
from quantstats.errors import ModelError, ParameterError, UnsupportedModelError


@dataclass(frozen=True, slots=True)
class _Framework:
    """One framework that has an adapter here, and how to recognise its models without importing it.

    :param name: For messages.
    :param suffixes: File name endings.
    :param types: Top-level package and name of the model classes.
    :param adapter: Module and class of the adapter; the class takes the model or the path.
    :param extra: The extra of the distribution that installs what the adapter needs.
    :param settings: The keys of ``backend_params`` that the adapter takes, as keyword arguments of the same names.
    """

    name: str
    suffixes: tuple[str, ...]
    types: tuple[tuple[str, str], ...]
    adapter: tuple[str, str]
    extra: str
    settings: tuple[str, ...]


_FRAMEWORKS = (
    _Framework(
        name="ONNX",
        suffixes=(".onnx",),
        types=(("onnx", "ModelProto"), ("onnx_ir", "Model")),
        adapter=("quantstats.adapters.onnx", "OnnxAdapter"),
        extra="onnx",
        settings=("external_data_dir", "four_bit_types", "num_threads"),
    ),
)
_PARAMS = "AdvancedQuantizationParameters.backend_params"
_PROTOCOL = ("graph", "constant", "run", "emit", "runnable")


def adapter_for(model: Any, settings: Mapping[str, Any] | None = None) -> ModelAdapter[Any]:
    """Return the adapter of a model: a path, a framework's model object, or an adapter, which is returned as it is.

    :param settings: What only this adapter understands, by name: the ``backend_params`` of a quantization.
    :raises ParameterError: if the adapter knows no setting of a name, or refuses a value.
    :raises UnsupportedModelError: if no adapter knows the model; the message lists what is known.
    :raises ModelError: if the framework is not installed, or the adapter cannot read the model.
    """
    if not isinstance(model, type) and all(callable(getattr(model, method, None)) for method in _PROTOCOL):
        if settings:
            raise ParameterError(
                f"{_PARAMS} has {_quoted(settings)}, but the model is an adapter already; give it its settings when it "
                "is made, and leave backend_params empty"
            )
        return cast(ModelAdapter[Any], model)
    framework = _framework_of(model)
    settings = {} if settings is None else settings
    unknown = [name for name in settings if name not in framework.settings]
    if unknown:
        raise ParameterError(
            f"{_PARAMS} has {_quoted(unknown)}, which the {framework.name} adapter does not know; it takes "
            f"{_quoted(framework.settings)}"
        )
    module, name = framework.adapter
    try:
        adapter = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"reading {framework.name} models needs the package {error.name!r}; "
            f"install it with: pip install 'quantstats-native[{framework.extra}]'"
        ) from error
    return cast(ModelAdapter[Any], adapter(model, **settings))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _framework_of(model: Any) -> _Framework:
    if isinstance(model, (str, os.PathLike)):
        path = PurePath(os.fsdecode(model))
        for framework in _FRAMEWORKS:
            if path.suffix.lower() in framework.suffixes:
                return framework
        raise UnsupportedModelError(f"{str(path)!r} has no ending of a known model format; known are {_known()}")
    classes = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(model).__mro__}
    for framework in _FRAMEWORKS:
        if classes.intersection(framework.types):
            return framework
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    raise UnsupportedModelError(f"a model of type {name} is not supported; known are {_known()}")


def _known() -> str:
    kinds = [
        f"{framework.name} ({', '.join(framework.suffixes)} files, "
        f"{', '.join('.'.join(pair) for pair in framework.types)}; extra '{framework.extra}')"
        for framework in _FRAMEWORKS
    ]
    return ", ".join([*kinds, "and objects that implement quantstats.adapters.protocol.ModelAdapter"])
