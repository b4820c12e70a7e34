"""A model taken apart into a message and its large constants: nothing is lost, copied or kept from onnxruntime."""

from __future__ import annotations

import gc

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from quantstats.adapters.onnx.handover import hand_over
from quantstats.adapters.onnx.runtime import Session

from .models import ModelBuilder


def network() -> onnx.ModelProto:
    b = ModelBuilder()
    x = b.op("Relu", b.conv(b.input("x", 1, 3, 8, 8), 3, 64, name="first"))
    x = b.conv(x, 64, 32, name="second")
    flat = b.op("Reshape", x, b.constant(np.array([1, -1], np.int64)))
    b.output(b.op("MatMul", flat, b.noise(2048, 5)))
    return b.build()


def in_memory(proto: onnx.ModelProto) -> ir.Model:
    model = ir.from_proto(proto)
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    return model


def test_large_constants_are_the_models_arrays_and_the_rest_is_in_the_message() -> None:
    model = in_memory(network())
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    proto, constants = hand_over(model)
    sizes = {name: value.const_value.nbytes for name, value in model.graph.initializers.items() if value.const_value}
    assert set(constants) == {name for name, size in sizes.items() if size >= 4096}
    assert 0 < len(constants) < len(sizes)
    for name, array in constants.items():
        value = model.graph.initializers[name].const_value
        assert value is not None
        assert np.shares_memory(array, value.numpy())
    assert len(proto.SerializeToString()) < 4096 * len(sizes)
    for tensor in proto.graph.initializer:
        if tensor.name in constants:
            tensor.CopyFrom(onnx.numpy_helper.from_array(constants[tensor.name], tensor.name))
    whole = ir.to_proto(ir.from_proto(proto)).SerializeToString(deterministic=True)
    assert whole == ir.to_proto(ir.from_proto(onnx.ModelProto.FromString(before))).SerializeToString(deterministic=True)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_a_session_has_the_constants_as_long_as_it_lives() -> None:
    proto = network()
    x = {"x": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    output = proto.graph.output[0].name
    expected = Session(proto.SerializeToString(), source="the model").run([output], x)[output]
    message, constants = hand_over(in_memory(proto))
    session = Session(message.SerializeToString(), source="the model", constants=constants)
    del constants
    gc.collect()
    trash = [np.full(size, np.nan, np.float32) for size in (1728, 18432, 10240) * 20]
    assert np.array_equal(session.run([output], x)[output], expected)
    del trash


@pytest.mark.parametrize("dtype", [np.float16, np.int64, bool])
def test_constants_of_other_kinds_stay_whole(dtype: type) -> None:
    """onnxruntime wants to see integers when it reads a message: they may be shapes."""
    b = ModelBuilder()
    table = b.constant(np.ones((64, 64), dtype))
    b.output(b.op("Gather", table, b.input("index", 1, dtype=onnx.TensorProto.INT64)))
    _, constants = hand_over(ir.from_proto(b.build()))
    assert set(constants) == ({table} if dtype is np.float16 else set())


def test_a_constant_that_is_an_output_stays_whole() -> None:
    proto = network()
    weight = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data)).name
    proto.graph.output.append(onnx.ValueInfoProto(name=weight))
    model = in_memory(onnx.shape_inference.infer_shapes(proto))
    assert weight not in hand_over(model)[1]
