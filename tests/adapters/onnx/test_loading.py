"""Models that cannot be used are refused with one line that names the model and the remedy."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.errors import ModelError, UnsupportedModelError

from .models import ModelBuilder, small_cnn


def refusal(model: object, error: type[Exception] = ModelError) -> str:
    with pytest.raises(error) as caught:
        OnnxAdapter(model)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def test_path_proto_and_ir_model_give_the_same_graph(tmp_path: Path) -> None:
    model = small_cnn()
    onnx.save(model, tmp_path / "model.onnx")
    expected = OnnxAdapter(model).graph()
    for form in (tmp_path / "model.onnx", str(tmp_path / "model.onnx"), ir.from_proto(model)):
        assert OnnxAdapter(form).graph() == expected


def test_caller_model_is_not_changed() -> None:
    model = small_cnn(opset=17)
    before = model.SerializeToString()
    in_ir = ir.from_proto(model)
    OnnxAdapter(model)
    OnnxAdapter(in_ir)
    assert model.SerializeToString() == before
    assert ir.to_proto(in_ir).SerializeToString() == ir.to_proto(ir.from_proto(model)).SerializeToString()


def test_missing_file(tmp_path: Path) -> None:
    line = refusal(tmp_path / "nowhere.onnx")
    assert "nowhere.onnx" in line
    assert "no such file" in line


def test_directory(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permission bits do not stop root, so the refusal of the operating system is played.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = tmp_path / "secret.onnx"
    path.write_bytes(b"")
    monkeypatch.setattr(onnx, "load", refuse)
    line = refusal(path)
    assert "secret.onnx cannot be read: Permission denied" in line


@pytest.mark.parametrize("content", [b"", b"this is no protobuf", bytes(range(256)) * 8, b"\x08\x07"])
def test_not_onnx(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_bytes(content)
    line = refusal(path)
    assert "text.onnx is not an ONNX model" in line
    assert "export" in line


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(small_cnn().SerializeToString()[:-200])
    assert "half.onnx" in refusal(path)


def test_model_without_operations() -> None:
    assert "operations" in refusal(onnx.ModelProto())


def test_invalid_graph() -> None:
    b = ModelBuilder()
    b.op("Relu", "nobody_writes_this", out="y")
    b.output("y")
    line = refusal(b.build())
    assert "'relu1' reads 'nobody_writes_this'" in line


def test_unknown_operator() -> None:
    b = ModelBuilder()
    b.output(b.op("Frobnicate", b.input("x", 1), domain="com.example"))
    assert "Frobnicate" in refusal(b.build())


def test_other_type() -> None:
    assert "ndarray" in refusal(np.zeros(3), TypeError)


def test_old_opset() -> None:
    b = ModelBuilder(9)
    b.output(b.op("Relu", b.input("x", 1)))
    line = refusal(b.build(), UnsupportedModelError)
    assert "opset 9" in line
    assert "10 or newer" in line


def test_no_standard_operators() -> None:
    b = ModelBuilder()
    b.output(b.op("Inverse", b.input("x", 2, 2), domain="com.microsoft"))
    model = b.build()
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert "standard ONNX operators" in refusal(model, UnsupportedModelError)


@pytest.mark.parametrize("kind", ["qdq", "qlinear"])
def test_quantized_model(kind: str) -> None:
    b = ModelBuilder()
    x = b.input("x", 1, 4)
    scale, zero = b.constant(np.float32(0.1)), b.constant(np.uint8(0))
    quantized = b.op("QuantizeLinear", x, scale, zero, name="first_q")
    if kind == "qlinear":
        weight = b.constant(np.ones((4, 4), np.uint8))
        quantized = b.op("QLinearMatMul", quantized, scale, zero, weight, scale, zero, scale, zero)
    b.output(b.op("DequantizeLinear", quantized, scale, zero))
    line = refusal(b.build(), UnsupportedModelError)
    assert "quantized already" in line
    assert "'first_q'" in line


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_model_in_another_float_type(dtype: int) -> None:
    b = ModelBuilder()
    x = b.input("x", "batch", 4, dtype=dtype)
    b.op("MatMul", x, b.constant(np.ones((4, 4), helper.tensor_dtype_to_np_dtype(dtype))), out="y", name="only")
    b.output("y", dtype=dtype)
    line = refusal(b.build(), UnsupportedModelError)
    assert helper.tensor_dtype_to_np_dtype(dtype).name.replace("float64", "double") in line
    assert "'only'" in line
    assert "float32" in line


def test_missing_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    ir.save(ir.from_proto(small_cnn()), path, external_data="weights.bin", size_threshold_bytes=0)
    data = tmp_path / "weights.bin"
    content = data.read_bytes()

    data.write_bytes(content[:-1])
    assert "weights.bin ends before" in refusal(path)
    data.unlink()
    line = refusal(path)
    assert "weights.bin" in line
    assert "missing" in line
    data.write_bytes(content)
    OnnxAdapter(path)
