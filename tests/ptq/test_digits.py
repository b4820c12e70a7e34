"""The driver on the two example models, through the ONNX adapter and onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest

import quantstats as qs
from quantstats.adapters import adapter_for
from quantstats.adapters.protocol import Array, Sample
from quantstats.adapters.testing import check_adapter
from quantstats.ptq.graph import OperationKind
from quantstats.ptq.quantize import make_plan

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"
LEADERS = (OperationKind.CONVOLUTION, OperationKind.MATMUL)

pytestmark = pytest.mark.parametrize("name", ["cnn", "transformer"])


def model_path(name: str) -> Path:
    return EXAMPLES / f"digits_{name}.onnx"


def calibration() -> Array:
    with np.load(EXAMPLES / "calibration.npz") as data:
        images: Array = data["image"]
        return images


def logits(model: onnx.ModelProto, images: Array) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(["logits"], {"image": images})[0]
    return result


@pytest.mark.parametrize("fix", list(qs.OverflowFix))
def test_accuracy_is_within_half_a_point(name: str, fix: qs.OverflowFix) -> None:
    model_type = qs.ModelType.TRANSFORMER if name == "transformer" else None
    int8 = qs.quantize(
        model_path(name),
        calibration(),
        model_type=model_type,
        advanced_parameters=qs.AdvancedQuantizationParameters(overflow_fix=fix),
        progress=False,
    )
    with np.load(EXAMPLES / "test.npz") as test:
        images, labels = test["image"], test["label"]
    exact, rounded = logits(onnx.load(model_path(name)), images), logits(int8, images)
    drop = float(np.mean(exact.argmax(1) == labels) - np.mean(rounded.argmax(1) == labels))
    assert drop <= 0.005
    assert 10 * np.log10(np.sum(exact**2) / np.sum((exact - rounded) ** 2)) > 22


def test_every_convolution_and_matrix_multiplication_is_quantized(name: str) -> None:
    adapter = adapter_for(model_path(name))
    plan = make_plan(adapter, calibration()[:8], progress=False)
    leaders = [operation.name for operation in adapter.graph() if operation.kind in LEADERS]
    assert len(leaders) >= 8
    assert all(plan.decisions[operation].quantized for operation in leaders)
    assert all(weight.channel_axis is not None for weight in plan.weights)


def test_weights_of_half_the_range_stay_within_64(name: str) -> None:
    """In the file as well: no int8 initializer of the emitted model reaches further."""
    advanced = qs.AdvancedQuantizationParameters(overflow_fix=qs.OverflowFix.ENABLE)
    int8 = qs.quantize(model_path(name), calibration()[:8], advanced_parameters=advanced, progress=False)
    stored = [onnx.numpy_helper.to_array(i) for i in int8.graph.initializer if i.data_type == onnx.TensorProto.INT8]
    weights = [array for array in stored if array.ndim > 1]
    assert len(weights) >= 8
    for array in weights:
        assert array.min() >= -64
        assert array.max() <= 63
    assert max(np.abs(array.astype(np.int16)).max() for array in weights) >= 63


def test_a_path_and_a_model_give_the_same(name: str) -> None:
    data = calibration()[:8]
    from_path = qs.quantize(model_path(name), data, progress=False)
    proto = onnx.load(model_path(name))
    before = proto.SerializeToString()
    from_proto = qs.quantize(proto, data, progress=False)
    assert proto.SerializeToString() == before
    assert [n.op_type for n in from_path.graph.node] == [n.op_type for n in from_proto.graph.node]
    np.testing.assert_array_equal(logits(from_path, data), logits(from_proto, data))


def test_the_onnx_adapter_keeps_the_protocol(name: str) -> None:
    def run_emitted(model: onnx.ModelProto, sample: Sample) -> dict[str, Array]:
        return {"logits": logits(model, sample["image"])}

    check_adapter(adapter_for(model_path(name)), calibration()[:3], run_emitted=run_emitted)
