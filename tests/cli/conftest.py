"""A model that is quick to quantize, data for it, and the command as a person calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

CHANNELS = 8
CLASSES = 4


def _classifier(path: Path, *, batch: int | str = "batch", slow: int = 0, opset: int = 17) -> Path:
    """Write a classifier of 1 x 8 x 8 images: Conv, Relu, GlobalAveragePool, Flatten, Gemm; and ArgMax on its scores.

    :param batch: Length of the batch axis, or its name if it is free.
    :param slow: Number of further convolutions, 64 channels wide, that only take time.
    :param opset: Version of the operator set.
    """
    rng = np.random.default_rng(11)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = rng.normal(scale=np.prod(shape[1:]) ** -0.5, size=shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    width = 64 if slow else CHANNELS
    weights = [weight("w0", width, 1, 3, 3), weight("b0", width), weight("w1", CLASSES, width), weight("b1", CLASSES)]
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["conv"], "conv", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["conv"], ["relu"], "relu"),
    ]
    last = "relu"
    for index in range(slow):
        weights.append(weight(f"slow{index}", width, width, 3, 3))
        nodes.append(helper.make_node("Conv", [last, f"slow{index}"], [f"s{index}"], f"slow{index}", pads=[1] * 4))
        last = f"s{index}"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["scores"], "gemm", transB=1),
        helper.make_node("ArgMax", ["scores"], ["best"], "best", axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES]),
            helper.make_tensor_value_info("best", TensorProto.INT64, [batch]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def _images(count: int) -> np.ndarray:
    """Return images float32 [count, 1, 8, 8] whose brightness differs from one to the next."""
    rng = np.random.default_rng(5)
    images = rng.normal(size=(count, 1, 8, 8)) * rng.uniform(0.2, 2, size=(count, 1, 1, 1))
    return images.astype(np.float32)


@pytest.fixture
def make_classifier() -> Callable[..., Path]:
    """Write the classifier in another form, see `_classifier`."""
    return _classifier


@pytest.fixture
def make_images() -> Callable[[int], np.ndarray]:
    """Make any number of images, see `_images`."""
    return _images


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Path of the classifier, with a free batch axis."""
    return _classifier(tmp_path / "model.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Path of an archive with 40 samples and labels."""
    path = tmp_path / "data.npz"
    np.savez(path, image=_images(40), label=np.arange(40) % CLASSES)
    return path


@pytest.fixture
def quantstats() -> Callable[..., Result]:
    """Run ``quantstats`` with arguments, in this process."""
    from quantstats.cli.app import app

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})

    return invoke
