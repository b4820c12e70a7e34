"""Models and parts of them that run: what is fed at a cut, what is returned, and what is loaded for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from quantstats.adapters.onnx import OnnxAdapter, runnable
from quantstats.adapters.onnx.emission import emit_model
from quantstats.errors import DataError, ModelError, ParameterError

from .models import Array, conditional_model, small_cnn
from .quantization import min_max_plan, run

SAMPLE = {"x": np.random.default_rng(11).normal(size=(2, 3, 8, 8)).astype(np.float32)}


@pytest.fixture
def adapter() -> OnnxAdapter:
    return OnnxAdapter(small_cnn())


def output_of(adapter: OnnxAdapter, operation: str) -> str:
    return adapter.graph().operation(operation).outputs[0]


def test_whole_model(adapter: OnnxAdapter) -> None:
    plan = min_max_plan(adapter, SAMPLE)
    np.testing.assert_array_equal(adapter.runnable()(SAMPLE)["y"], adapter.run(SAMPLE, ["y"])["y"])
    quantized = adapter.runnable(plan)
    assert (quantized.inputs, quantized.outputs) == (("x",), ("y",))
    np.testing.assert_array_equal(quantized(SAMPLE)["y"], run(adapter.emit(plan), SAMPLE)["y"])


def test_a_cut_tensor_is_the_value_before_its_quantizer(adapter: OnnxAdapter) -> None:
    plan = min_max_plan(adapter, SAMPLE)
    cut = output_of(adapter, "stem_relu")
    quantizer = next(a.quantizer for a in plan.activations if cut in {place.tensor for place in a.places})
    assert quantizer is not None
    stem = adapter.runnable(plan, outputs=[cut])(SAMPLE)[cut]
    assert len(np.unique(stem)) > quantizer.levels

    # Behind the cut it is quantized: values that round to the same level give the same result.
    rest = adapter.runnable(plan, inputs=[cut], outputs=["y"])
    rounded = quantizer.fake_quantize(stem)
    assert not np.array_equal(rounded, stem)
    np.testing.assert_array_equal(rest({cut: stem})["y"], rest({cut: rounded})["y"])
    assert not np.array_equal(adapter.runnable(inputs=[cut], outputs=["y"])({cut: stem})["y"], rest({cut: stem})["y"])


def test_a_tensor_may_be_fed_and_returned(adapter: OnnxAdapter) -> None:
    first, second = output_of(adapter, "first"), output_of(adapter, "second")
    relu = adapter.graph().operation("second").inputs[0]
    pooled = adapter.graph().operation("first").inputs[0]
    values = adapter.run(SAMPLE, [pooled, first, relu, second])
    separate = adapter.runnable(inputs=[pooled, relu], outputs=[relu, second])
    other = np.ones_like(values[relu])
    found = separate({pooled: values[pooled], relu: other})
    assert list(found) == [relu, second]
    np.testing.assert_allclose(found[relu], values[relu], rtol=1e-5, atol=1e-6)
    expected = adapter.runnable(inputs=[relu], outputs=[second])({relu: other})[second]
    np.testing.assert_allclose(found[second], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ParameterError, match=r"cannot be computed from .* the model input 'x' is needed too"):
        adapter.runnable(inputs=[pooled], outputs=[pooled])


def test_a_model_input_is_handed_back(adapter: OnnxAdapter) -> None:
    found = adapter.runnable(outputs=["x"])(SAMPLE)
    np.testing.assert_array_equal(found["x"], SAMPLE["x"])


def test_only_the_part_is_emitted_and_loaded(adapter: OnnxAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: list[ir.Model] = []

    def recorded(*arguments: Any, **options: Any) -> ir.Model:
        emitted.append(emit_model(*arguments, **options))
        return emitted[-1]

    monkeypatch.setattr(runnable, "emit_model", recorded)
    plan = min_max_plan(adapter, SAMPLE)
    relu, second = adapter.graph().operation("second").inputs[0], output_of(adapter, "second")
    adapter.runnable(plan, inputs=[relu], outputs=[second])
    (part,) = emitted
    assert [node.op_type for node in part.graph if "Linear" not in node.op_type] == ["Conv"]
    weight = adapter.graph().operation("second").weight
    assert weight is not None
    larger = [v.name for v in part.graph.initializers.values() if v.shape is not None and v.shape.rank() > 1]
    assert larger == [f"{weight.tensor}_quantized"]


def test_cut_at_what_a_branch_captures() -> None:
    adapter = OnnxAdapter(conditional_model())
    sample = {"x": SAMPLE["x"].repeat(2, 1)[:1, :4], "flag": np.array(True)}
    for plan in (None, min_max_plan(adapter, sample)):
        features = adapter.runnable(plan, outputs=["features"])(sample)["features"]
        rest = adapter.runnable(plan, inputs=["flag", "features"], outputs=["y"])
        found = rest({"features": features, "flag": sample["flag"]})["y"]
        np.testing.assert_allclose(found, adapter.runnable(plan)(sample)["y"], rtol=1e-5, atol=1e-5)
        assert not np.allclose(found, rest({"features": features, "flag": np.array(False)})["y"])


def test_constants_beyond_the_threshold_go_through_a_file() -> None:
    in_memory, external = OnnxAdapter(small_cnn()), OnnxAdapter(small_cnn(), external_data_threshold=1)
    plan = min_max_plan(in_memory, SAMPLE)
    cut = output_of(in_memory, "stem_relu")
    for options in ({}, {"outputs": [cut]}):
        for arguments in ((), (plan,)):
            expected = in_memory.runnable(*arguments, **options)(SAMPLE)
            for name, value in external.runnable(*arguments, **options)(SAMPLE).items():
                np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"inputs": ["nothing"]}, "'nothing' is no activation of the model"),
        ({"inputs": ["head.weight"]}, "'head.weight' is no activation of the model"),
        ({"outputs": ["head.weight"]}, "'head.weight' is not computed by the model"),
        ({"inputs": []}, "'y' cannot be computed from nothing alone; the model input 'x' is needed too"),
        ({"outputs": ["x"], "inputs": ()}, "'x' is not computed by the model"),
    ],
)
def test_names_that_do_not_fit(adapter: OnnxAdapter, names: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        adapter.runnable(**names)


def test_feed_that_lacks_an_input(adapter: OnnxAdapter) -> None:
    with pytest.raises(DataError, match=r"the feed has no 'x'; the model needs 'x'"):
        adapter.runnable()({"image": SAMPLE["x"]})


def test_failure_of_onnxruntime(adapter: OnnxAdapter) -> None:
    wrong: dict[str, Array] = {"x": np.zeros((1, 4, 8, 8), np.float32)}
    with pytest.raises(ModelError, match="cannot be run by onnxruntime"):
        adapter.runnable()(wrong)
