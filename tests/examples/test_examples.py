"""The example models, their data and the scripts that made them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
CNN = DIGITS / "digits_cnn.onnx"
TRANSFORMER = DIGITS / "digits_transformer.onnx"
MODELS = pytest.mark.parametrize("path", [CNN, TRANSFORMER], ids=["cnn", "transformer"])

Float32 = npt.NDArray[np.float32]


def _archive(path: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(path) as archive:
        return {key: archive[key] for key in archive.files}


def _logits(model: onnx.ModelProto, images: Float32) -> Float32:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: Float32 = session.run(["logits"], {"image": images})[0]
    return logits


def _test_accuracy(model: onnx.ModelProto) -> float:
    """In percent."""
    test = _archive(DIGITS / "test.npz")
    return 100 * float(np.mean(_logits(model, test["image"]).argmax(axis=1) == test["label"]))


def _operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _parameters(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    return {initializer.name: numpy_helper.to_array(initializer) for initializer in model.graph.initializer}


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def _round_weights(model: onnx.ModelProto, *, bits: int, per_channel: bool) -> onnx.ModelProto:
    """A copy of `model` whose Conv, Gemm and MatMul weights take symmetric levels of `bits` bits."""
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    # The output channels are axis 0 of a Conv weight and of these Gemm weights (transB), the last of a MatMul weight.
    channel_axis = {"Conv": 0, "Gemm": 0, "MatMul": -1}
    users = {node.input[1]: node.op_type for node in model.graph.node if node.op_type in channel_axis}
    for initializer in rounded.graph.initializer:
        if initializer.name in users:
            weight = numpy_helper.to_array(initializer)
            channel = channel_axis[users[initializer.name]] % weight.ndim
            axes = tuple(axis for axis in range(weight.ndim) if axis != channel) if per_channel else None
            scale = np.abs(weight).max(axis=axes, keepdims=True) / (2 ** (bits - 1) - 1)
            values = (np.round(weight / scale) * scale).astype(np.float32)
            initializer.CopyFrom(numpy_helper.from_array(values, initializer.name))
    return rounded


# The models.


@MODELS
def test_model_is_valid_with_a_dynamic_batch(path: Path) -> None:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [opset.version for opset in model.opset_import if opset.domain == ""] == [17]
    (image,) = model.graph.input
    (logits,) = model.graph.output
    assert (image.name, _shape(image)) == ("image", ["batch", 1, 8, 8])
    assert (logits.name, _shape(logits)) == ("logits", ["batch", 10])
    assert image.type.tensor_type.elem_type == logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@MODELS
def test_batch_size_does_not_change_the_logits(path: Path) -> None:
    model = onnx.load(path)
    images = _archive(DIGITS / "test.npz")["image"][:7]
    together = _logits(model, images)
    assert together.shape == (7, 10)
    alone = np.concatenate([_logits(model, images[index : index + 1]) for index in range(7)])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-4)


def test_cnn_has_the_operators_that_it_promises() -> None:
    model = onnx.load(CNN)
    assert _operators(model) == {
        "Conv": 7,
        "BatchNormalization": 7,
        "Relu": 8,
        "MaxPool": 1,
        "Add": 1,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 2,
    }
    weights = _parameters(model)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    depthwise = [node for node in convolutions if _attributes(node)["group"] > 1]
    assert [_attributes(node)["group"] for node in depthwise] == [32, 64]
    assert all(weights[node.input[1]].shape[1] == 1 for node in depthwise)
    # BatchNormalization stays to be folded: in inference mode, each behind a convolution that has no bias of its own.
    producers = {output: node for node in model.graph.node for output in node.output}
    for norm in (node for node in model.graph.node if node.op_type == "BatchNormalization"):
        assert _attributes(norm).get("training_mode", 0) == 0
        convolution = producers[norm.input[0]]
        assert convolution.op_type == "Conv"
        assert len(convolution.input) == 2


def test_transformer_has_the_operators_that_it_promises() -> None:
    model = onnx.load(TRANSFORMER)
    operators = _operators(model)
    expected = {"Conv": 1, "LayerNormalization": 5, "Softmax": 2, "Erf": 2, "ReduceMean": 1, "Gemm": 1}
    assert {name: operators[name] for name in expected} == expected
    # Six products with a weight in each layer, and two of activations with activations.
    weights = _parameters(model)
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert Counter(node.input[1] in weights for node in products) == {True: 12, False: 4}
    # Shapes are constants: nothing in the graph computes one, and no weight is transposed at run time.
    assert not operators.keys() & {"Shape", "Gather", "Unsqueeze", "Concat", "Expand", "Slice", "Loop", "If"}
    assert all(node.input[0] not in weights for node in model.graph.node if node.op_type == "Transpose")


@MODELS
def test_parameters_are_named_after_the_modules(path: Path) -> None:
    names = _parameters(onnx.load(path)).keys()
    assert all(name.split(".")[-1] in {"weight", "bias", "running_mean", "running_var", "position"} for name in names)


@pytest.mark.parametrize(
    ("path", "fewest", "most"), [(CNN, 80_000, 120_000), (TRANSFORMER, 50_000, 120_000)], ids=["cnn", "transformer"]
)
def test_parameter_count(path: Path, fewest: int, most: int) -> None:
    count = sum(
        values.size for name, values in _parameters(onnx.load(path)).items() if not name.endswith(("_mean", "_var"))
    )
    assert fewest <= count <= most


@pytest.mark.parametrize(("path", "least"), [(CNN, 98.5), (TRANSFORMER, 97.0)], ids=["cnn", "transformer"])
def test_accuracy(path: Path, least: float) -> None:
    assert _test_accuracy(onnx.load(path)) >= least


@MODELS
def test_accuracy_tells_good_rounding_from_bad(path: Path) -> None:
    """int8 accuracy would be no measure if any rounding kept it."""
    model = onnx.load(path)
    exact = _test_accuracy(model)
    assert abs(_test_accuracy(_round_weights(model, bits=8, per_channel=True)) - exact) <= 0.5
    per_channel, per_tensor = (
        _test_accuracy(_round_weights(model, bits=3, per_channel=per_channel)) for per_channel in (True, False)
    )
    assert per_tensor <= per_channel - 1.0
    assert per_tensor <= exact - 4.0


# The data.


def test_archives_have_the_keys_shapes_and_types_that_they_promise() -> None:
    calibration, test = _archive(DIGITS / "calibration.npz"), _archive(DIGITS / "test.npz")
    assert calibration.keys() == {"image"}
    assert test.keys() == {"image", "label"}
    # More than the 300 of a default calibration, so that some are left to measure on.
    assert calibration["image"].shape == (512, 1, 8, 8)
    assert test["image"].shape == (597, 1, 8, 8)
    assert test["label"].shape == (597,)
    assert test["label"].dtype == np.int64
    for images in (calibration["image"], test["image"]):
        assert images.dtype == np.float32
        assert (images.min(), images.max()) == (0.0, 1.0)
    assert np.bincount(test["label"], minlength=10).min() >= 50


def test_calibration_and_test_data_are_disjoint() -> None:
    calibration, test = (
        {image.tobytes() for image in _archive(DIGITS / name)["image"]} for name in ("calibration.npz", "test.npz")
    )
    assert not calibration & test


def test_committed_files_are_small() -> None:
    files = [path for path in DIGITS.iterdir() if path.suffix in {".onnx", ".npz"}]
    assert {path.name for path in files} == {CNN.name, TRANSFORMER.name, "calibration.npz", "test.npz"}
    assert sum(path.stat().st_size for path in files) < 2_000_000


# The scripts.


def _run(script: str, *arguments: str | Path) -> str:
    finished = subprocess.run(
        [sys.executable, str(DIGITS / script), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def _structure(model: onnx.ModelProto) -> tuple[list[tuple[str, str, list[str]]], dict[str, tuple[int, ...]]]:
    nodes = [(node.op_type, node.name, list(node.input)) for node in model.graph.node]
    return nodes, {name: values.shape for name, values in _parameters(model).items()}


@pytest.fixture(scope="module")
def trained_for_one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both models, trained for one epoch, and the archives."""
    directory = tmp_path_factory.mktemp("trained")
    for script in ("train.py", "train_transformer.py"):
        output = _run(script, "--epochs", "1", "--output-dir", directory)
        assert "test accuracy" in output
        assert "torch 2" in output
    return directory


@MODELS
def test_training_script_makes_such_a_model(path: Path, trained_for_one_epoch: Path) -> None:
    assert _structure(onnx.load(trained_for_one_epoch / path.name)) == _structure(onnx.load(path))


def test_training_script_makes_the_committed_archives(trained_for_one_epoch: Path) -> None:
    for name in ("calibration.npz", "test.npz"):
        made, committed = _archive(trained_for_one_epoch / name), _archive(DIGITS / name)
        assert made.keys() == committed.keys()
        assert all(np.array_equal(made[key], committed[key]) for key in committed)


def test_training_is_reproducible(trained_for_one_epoch: Path, tmp_path: Path) -> None:
    _run("train.py", "--epochs", "1", "--output-dir", tmp_path)
    assert (tmp_path / CNN.name).read_bytes() == (trained_for_one_epoch / CNN.name).read_bytes()


@MODELS
def test_evaluate_prints_the_accuracy(path: Path) -> None:
    assert _run("evaluate.py", path) == f"{path}: accuracy {_test_accuracy(onnx.load(path)):.2f} %\n"
