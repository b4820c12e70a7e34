"""Running the floating-point model: any tensor can be tapped, and tapping changes nothing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from quantstats.adapters.onnx import OnnxAdapter, running
from quantstats.errors import DataError, ModelError, ParameterError

from .models import ModelBuilder, small_cnn
from .quantization import run

FEEDS = {"x": np.random.default_rng(3).normal(size=(2, 3, 8, 8)).astype(np.float32)}


def activations(adapter: OnnxAdapter) -> list[str]:
    return [tensor.name for tensor in adapter.graph().tensors.values() if not tensor.constant]


def test_every_tensor_can_be_tapped() -> None:
    model = small_cnn()
    adapter = OnnxAdapter(model)
    taps = activations(adapter)
    found = adapter.run(FEEDS, taps)
    assert list(found) == taps
    np.testing.assert_array_equal(found["x"], FEEDS["x"])

    with_outputs = onnx.ModelProto.FromString(model.SerializeToString())
    originals = {name for node in model.graph.node for name in node.output}
    del with_outputs.graph.output[:]
    with_outputs.graph.output.extend(onnx.ValueInfoProto(name=tap) for tap in taps if tap in originals)
    expected = run(with_outputs, FEEDS, optimized=False)
    assert len(expected) >= 8
    for tap, value in expected.items():
        np.testing.assert_allclose(found[tap], value, rtol=1e-5, atol=1e-5, err_msg=tap)


def test_taps_do_not_change_each_other() -> None:
    adapter = OnnxAdapter(small_cnn())
    together = adapter.run(FEEDS, activations(adapter))
    for tap in activations(adapter):
        np.testing.assert_allclose(adapter.run(FEEDS, [tap])[tap], together[tap], rtol=1e-5, atol=1e-5, err_msg=tap)


def test_model_is_loaded_once_for_the_same_taps(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []

    class Counted(running.Session):
        def __init__(self, *arguments: object, **options: object) -> None:
            loaded.append(arguments)
            super().__init__(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "Session", Counted)
    adapter = OnnxAdapter(small_cnn())
    first, second, *_ = activations(adapter)[1:]
    for _ in range(3):
        adapter.run(FEEDS, [first])
        adapter.run(FEEDS, [second, first])
        adapter.run(FEEDS, [first, second])
        adapter.run(FEEDS, ["x"])
    assert len(loaded) == 2


def test_missing_input_is_named() -> None:
    with pytest.raises(DataError, match=r"no 'x'; the model needs the inputs 'x'"):
        OnnxAdapter(small_cnn()).run({"image": FEEDS["x"]}, ["y"])


@pytest.mark.parametrize("tap", ["nothing", "head.weight"])
def test_tap_that_is_no_activation(tap: str) -> None:
    with pytest.raises(ParameterError, match=f"'{tap}' is no activation"):
        OnnxAdapter(small_cnn()).run(FEEDS, [tap])


def test_failure_of_onnxruntime_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"cannot be run by onnxruntime: .*") as caught:
        OnnxAdapter(small_cnn()).run({"x": np.zeros((1, 4, 8, 8), np.float32)}, ["y"])
    assert "\n" not in str(caught.value)


def test_optional_inputs_and_integer_inputs() -> None:
    b = ModelBuilder()
    tokens = b.input("tokens", "batch", 5, dtype=onnx.TensorProto.INT64)
    embedded = b.op("Gather", b.noise(11, 8, name="table"), tokens, name="embedding")
    b.op("MatMul", embedded, b.noise(8, 3), out="y")
    b.output("y")
    adapter = OnnxAdapter(b.build())
    tokens_value = np.arange(10).reshape(2, 5)
    found = adapter.run({"tokens": tokens_value}, ["tokens", embedded, "y"])
    np.testing.assert_array_equal(found[embedded], adapter.constant("table")[tokens_value])


def test_constants_are_read_only() -> None:
    adapter = OnnxAdapter(small_cnn())
    weight = adapter.constant("head.weight")
    assert weight.shape == (5, 8)
    with pytest.raises(ValueError, match="read-only"):
        weight[0] = 1
    with pytest.raises(ParameterError, match="'x' is no constant"):
        adapter.constant("x")


def test_threads_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSTATS_NUM_THREADS", "1")
    adapter = OnnxAdapter(small_cnn())
    one = adapter.run(FEEDS, ["y"])["y"]
    monkeypatch.delenv("QUANTSTATS_NUM_THREADS")
    np.testing.assert_allclose(OnnxAdapter(small_cnn(), num_threads=2).run(FEEDS, ["y"])["y"], one, rtol=1e-5)
