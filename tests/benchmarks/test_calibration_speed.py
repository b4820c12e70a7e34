from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from benchmarks.calibration_speed import (
    ESTIMATORS,
    LEAST_SPEED_UP,
    MOST_SHARE,
    NETWORKS,
    StatisticsCost,
    quantizers,
    statistics_cost,
)
from benchmarks.networks import images, resnet18
from quantstats.adapters.onnx import OnnxAdapter
from quantstats.ptq.placement import place


def test_every_goal_is_of_a_row_that_is_measured() -> None:
    assert set(MOST_SHARE) <= set(NETWORKS)
    assert set(LEAST_SPEED_UP) <= {(network, estimator) for network in NETWORKS for estimator in ESTIMATORS}


def test_the_cost_is_that_of_every_tensor_that_would_be_quantized() -> None:
    model, samples = resnet18(image_size=32, num_classes=10), images(3, 32)
    cost = statistics_cost(model, samples)
    adapter = OnnxAdapter(model)
    taps = [activation.tensor for activation in place(adapter.graph()).activations]
    assert cost.tensors == len(taps)
    assert cost.elements == sum(value.size for value in adapter.run({"input": samples[:1]}, taps).values())
    assert len(cost.inference) == len(cost.update) == 3
    assert min(*cost.inference, *cost.update) > 0


def test_shares_are_of_medians_and_of_best_deciles() -> None:
    cost = StatisticsCost((10.0, 20.0, 30.0), (4.0, 5.0, 60.0), tensors=1, elements=1)
    assert cost.share == 5 / 20
    assert cost.best_share == 4 / 10


def test_the_rivals_quantize_with_equal_settings() -> None:
    model, samples = resnet18(image_size=32, num_classes=10), images(2, 32, seed=1)
    calls = quantizers(model, samples, estimator="MEAN_QUANTILE", bias_correction=False)
    scales = {}
    for name, call in calls.items():
        quantized = call()
        arrays = {tensor.name: tensor for tensor in quantized.graph.initializer}
        of_input = next(n for n in quantized.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "input")
        scales[name] = numpy_helper.to_array(arrays[of_input.input[1]]).reshape(-1)
    np.testing.assert_allclose(scales["quantstats"], scales["nncf"], rtol=1e-5)
