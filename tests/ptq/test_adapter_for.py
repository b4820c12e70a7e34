"""Finding the adapter of a model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from quantstats.adapters import adapter_for
from quantstats.errors import ModelError, UnsupportedModelError

from .framework import NumpyAdapter, residual_network


def test_an_adapter_is_its_own_adapter() -> None:
    adapter = NumpyAdapter(residual_network())
    assert adapter_for(adapter) is adapter


@pytest.mark.parametrize("model", ["model.pb", Path("dir") / "model", "model.tflite"])
def test_path_of_an_unknown_format(model: object) -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"no ending of a known model format; known are ONNX \(\.onnx files"
    ):
        adapter_for(model)


@pytest.mark.parametrize("model", [3, None, object(), NumpyAdapter])
def test_object_of_an_unknown_type(model: object) -> None:
    with pytest.raises(UnsupportedModelError, match=r"a model of type \S+ is not supported.*ModelAdapter"):
        adapter_for(model)


def test_missing_framework_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("quantstats.adapters.onnx")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    with pytest.raises(
        ModelError, match=r"ONNX models needs the package 'onnx\w*'; .*pip install 'quantstats-native\[onnx\]'"
    ):
        adapter_for("model.onnx")
