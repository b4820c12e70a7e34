"""Large models work from files, and files appear whole or not at all."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from quantstats.adapters.onnx import OnnxAdapter, save_model
from quantstats.errors import ModelError

from .models import ModelBuilder, small_cnn
from .quantization import min_max_plan, run, sqnr

FEEDS = {"x": np.random.default_rng(3).normal(size=(4, 3, 8, 8)).astype(np.float32)}
# Everything counts as large.
TINY = 1


def _save_external(model: onnx.ModelProto, path: Path) -> Path:
    ir.save(ir.from_proto(model), path, external_data=f"{path.stem}.bin", size_threshold_bytes=16)
    return path


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("stored", ["inside", "external"])
def test_external_weights_stay_in_files(stored: str, opset: int, tmp_path: Path) -> None:
    model = small_cnn(opset=opset)
    path = tmp_path / "model.onnx"
    if stored == "external":
        _save_external(model, path)
    else:
        onnx.save(model, path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    large, small = OnnxAdapter(path, external_data_threshold=TINY), OnnxAdapter(model)
    assert large.graph() == small.graph()
    taps = [tensor.name for tensor in small.graph().tensors.values() if not tensor.constant]
    for tap, value in small.run(FEEDS, taps).items():
        np.testing.assert_allclose(large.run(FEEDS, taps)[tap], value, rtol=1e-5, atol=1e-5)
    plan = min_max_plan(small, FEEDS)
    emitted = large.emit(plan)
    assert emitted == small.emit(plan)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_weights_of_a_large_model_are_memory_mapped(tmp_path: Path) -> None:
    b = ModelBuilder()
    b.output(b.op("MatMul", b.input("x", "batch", 64), b.noise(64, 64, name="w")))
    onnx.save(b.build(), tmp_path / "model.onnx")
    adapter = OnnxAdapter(tmp_path / "model.onnx", external_data_threshold=TINY)
    weight = adapter.constant("w")
    assert not weight.flags.owndata
    maps = Path("/proc/self/maps").read_text()
    assert "cleaned.data" in maps
    in_memory = OnnxAdapter(tmp_path / "model.onnx").constant("w")
    np.testing.assert_array_equal(weight, in_memory)


def test_result_outlives_the_adapter_and_its_files(tmp_path: Path) -> None:
    path = _save_external(small_cnn(), tmp_path / "model.onnx")
    adapter = OnnxAdapter(path, external_data_threshold=TINY)
    emitted = adapter.emit(min_max_plan(adapter, FEEDS))
    scratch = adapter._clean.external_data
    assert scratch is not None
    assert scratch.is_dir()
    del adapter
    gc.collect()
    assert not scratch.exists()
    for file in tmp_path.iterdir():
        file.unlink()
    assert sqnr(run(small_cnn(), FEEDS)["y"], run(emitted, FEEDS)["y"]) > 30


def test_weights_of_a_small_model_do_not_depend_on_the_file(tmp_path: Path) -> None:
    path = _save_external(small_cnn(), tmp_path / "model.onnx")
    adapter = OnnxAdapter(path)
    for file in tmp_path.iterdir():
        file.unlink()
    emitted = adapter.emit(min_max_plan(adapter, FEEDS))
    assert sqnr(run(small_cnn(), FEEDS)["y"], run(emitted, FEEDS)["y"]) > 30


def test_external_data_in_several_directories(tmp_path: Path) -> None:
    model = ir.from_proto(small_cnn())
    for index, value in enumerate(list(model.graph.initializers.values())):
        directory = tmp_path / str(index % 2)
        directory.mkdir(exist_ok=True)
        assert value.const_value is not None
        (directory / f"{index}.bin").write_bytes(value.const_value.tobytes())
        value.const_value = ir.ExternalTensor(
            f"{index}.bin",
            0,
            value.const_value.nbytes,
            value.const_value.dtype,
            shape=ir.Shape(value.const_value.shape.numpy()),
            name=value.name or "",
            base_dir=directory,
        )
    adapter = OnnxAdapter(model)
    np.testing.assert_allclose(adapter.run(FEEDS, ["y"])["y"], run(small_cnn(), FEEDS)["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["proto", "ir"])
@pytest.mark.parametrize("threshold", [TINY, 1 << 30])
def test_saved_model_reads_back(form: str, threshold: int, tmp_path: Path) -> None:
    model = small_cnn()
    path = tmp_path / "saved.onnx"
    save_model(model if form == "proto" else ir.from_proto(model), path, external_data_threshold=threshold)
    assert sorted(file.name for file in tmp_path.iterdir()) == (
        ["saved.onnx", "saved.onnx.data"] if threshold == TINY else ["saved.onnx"]
    )
    loaded = onnx.load(path)
    np.testing.assert_array_equal(run(loaded, FEEDS)["y"], run(model, FEEDS)["y"])
    OnnxAdapter(path)


def test_saving_replaces_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "saved.onnx"
    path.write_bytes(b"old")
    save_model(small_cnn(), path)
    OnnxAdapter(path)


@pytest.mark.parametrize("threshold", [TINY, 1 << 30])
def test_interruption_leaves_what_was_there(threshold: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "saved.onnx"
    path.write_bytes(b"old")

    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_model(small_cnn(), path, external_data_threshold=threshold)
    assert [file.name for file in tmp_path.iterdir()] == ["saved.onnx"]
    assert path.read_bytes() == b"old"


def test_unwritable_path_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere/saved.onnx cannot be written: No such file or directory"):
        save_model(small_cnn(), tmp_path / "nowhere" / "saved.onnx")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    with pytest.raises(ModelError, match="folder cannot be written"):
        save_model(small_cnn(), tmp_path / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
