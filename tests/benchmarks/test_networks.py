from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import quantstats as qs
from benchmarks.networks import bert_like, images, mobilenet_v2, resnet18, tokens

SIZE, CLASSES = 64, 10
NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet18": lambda: resnet18(image_size=SIZE, num_classes=CLASSES),
    "mobilenet_v2": lambda: mobilenet_v2(image_size=SIZE, num_classes=CLASSES),
    "bert_like": lambda: bert_like(layers=1, hidden=32, heads=2, seq=8, vocab=50),
}
LEAST_SQNR_DB = 15.0


def inputs(name: str, count: int, seed: int) -> np.ndarray:
    return tokens(count, 8, 50, seed=seed) if name == "bert_like" else images(count, SIZE, seed=seed)


def outputs(model: onnx.ModelProto, values: np.ndarray, *names: str) -> list[np.ndarray]:
    tapped = onnx.ModelProto.FromString(model.SerializeToString())
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["output", *names], {"input": values})


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_names_and_the_dynamic_batch_that_callers_rely_on(name: str) -> None:
    model = NETWORKS[name]()
    (given,), (result,) = model.graph.input, model.graph.output
    assert (given.name, result.name) == ("input", "output")
    assert given.type.tensor_type.shape.dim[0].dim_param == result.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    shapes = {outputs(model, inputs(name, count, seed=1))[0].shape for count in (1, 3)}
    assert shapes == ({(1, 8, 32), (3, 8, 32)} if name == "bert_like" else {(1, CLASSES), (3, CLASSES)})


@pytest.mark.parametrize(("name", "convolutions"), [("resnet18", 20), ("mobilenet_v2", 52)])
def test_every_convolution_is_followed_by_a_normalization(name: str, convolutions: int) -> None:
    nodes = NETWORKS[name]().graph.node
    convolved = [node.output[0] for node in nodes if node.op_type == "Conv"]
    assert len(convolved) == convolutions
    assert [node.input[0] for node in nodes if node.op_type == "BatchNormalization"] == convolved


@pytest.mark.parametrize(("build", "parameters"), [(resnet18, 11_689_512), (mobilenet_v2, 3_504_872)])
def test_a_network_has_as_many_trained_parameters_as_the_original(
    build: Callable[..., onnx.ModelProto], parameters: int
) -> None:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in build(image_size=32).graph.initializer}
    running = ("mean", "variance", "zero", "six")
    assert sum(array.size for name, array in arrays.items() if name.rpartition(".")[2] not in running) == parameters


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_normalized_activations_have_the_mean_and_the_spread_that_their_parameters_say(name: str) -> None:
    model = NETWORKS[name]()
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    normalizations = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    results = outputs(model, inputs(name, 49, seed=0), *(node.output[0] for node in normalizations))[1:]
    for node, result in zip(normalizations, results, strict=True):
        np.testing.assert_allclose(result.mean(axis=(0, 2, 3)), values[node.input[2]], atol=2e-3, err_msg=node.name)
        np.testing.assert_allclose(result.std(axis=(0, 2, 3)), values[node.input[1]], rtol=2e-2, err_msg=node.name)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name: str) -> None:
    build = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2, "bert_like": bert_like}[name]
    size = {} if name == "bert_like" else {"image_size": 32}
    first, second, other = (build(**size, seed=seed).graph.initializer for seed in (3, 3, 4))
    assert [tensor.SerializeToString() for tensor in first] == [tensor.SerializeToString() for tensor in second]
    assert [tensor.SerializeToString() for tensor in first] != [tensor.SerializeToString() for tensor in other]


@pytest.mark.parametrize("name", NETWORKS)
def test_quantizing_a_network_leaves_its_output_recognizable(name: str) -> None:
    model = NETWORKS[name]()
    quantized = qs.quantize(model, [{"input": value[np.newaxis]} for value in inputs(name, 16, 1)], progress=False)
    unseen = inputs(name, 16, seed=2)
    (expected,), (actual,) = outputs(model, unseen), outputs(quantized, unseen)
    sqnr = 10 * np.log10(np.square(expected).sum() / np.square(expected - actual).sum())
    assert sqnr > LEAST_SQNR_DB


def test_heads_that_cannot_share_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden=130 is no multiple of heads=4"):
        bert_like(hidden=130, heads=4)


def test_an_image_depends_on_its_index_and_the_seed_alone() -> None:
    batch = images(5, 32, seed=7)
    assert batch.shape == (5, 3, 32, 32)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch[:2], images(2, 32, seed=7))
    assert not np.array_equal(batch[:2], images(2, 32, seed=8))


def test_images_have_the_spectrum_of_photographs() -> None:
    size = 128
    spectrum = np.square(np.abs(np.fft.fft2(images(24, size)))).mean(axis=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(size)[:, np.newaxis], np.fft.fftfreq(size))
    inner = (frequency > 0.02) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[inner]), np.log(spectrum[inner]), 1)[0]
    assert slope == pytest.approx(-2.0, abs=0.1)


def test_tokens_are_in_the_vocabulary_and_as_frequent_as_words() -> None:
    drawn = tokens(200, 64, 100, seed=5)
    assert drawn.dtype == np.int64
    np.testing.assert_array_equal(drawn[:3], tokens(3, 64, 100, seed=5))
    counts = np.bincount(drawn.ravel(), minlength=100)
    assert counts.shape == (100,)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.2)
