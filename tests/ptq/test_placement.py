"""Where quantizers go, on graphs small enough to see the answer."""

from __future__ import annotations

from quantstats.parameters import QuantizationMode
from quantstats.ptq.graph import Port, QuantizationGraph
from quantstats.ptq.placement import place
from quantstats.ptq.plan import ActivationQuantizer, Place, QuantizationPlan

from .graphs import GraphBuilder


def quantizers(plan: QuantizationPlan) -> dict[str, ActivationQuantizer]:
    return {quantizer.tensor: quantizer for quantizer in plan.activations}


def readers(plan: QuantizationPlan) -> dict[str, list[str]]:
    """Names of the operations that read each quantized tensor."""
    return {p.tensor: [r.operation for r in p.readers] for a in plan.activations for p in a.places}


def quantized(plan: QuantizationPlan) -> list[str]:
    return [name for name, decision in plan.decisions.items() if decision.quantized]


def residual_block() -> QuantizationGraph:
    g = GraphBuilder()
    x = g.relu("relu0", g.conv("conv0", g.input("x")))
    y = g.relu("relu1", g.conv("conv1", x))
    y = g.conv("conv2", y)
    y = g.relu("relu2", g.elementwise("add", x, y))
    g.output(g.conv("conv3", y))
    return g.build()


def test_residual_block_is_integer_throughout() -> None:
    plan = place(residual_block())
    assert quantized(plan) == ["conv0", "relu0", "conv1", "relu1", "conv2", "add", "relu2", "conv3"]
    assert readers(plan) == {
        "x": ["conv0"],
        "relu0.out": ["conv1", "add"],
        "relu1.out": ["conv2"],
        "conv2.out": ["add"],
        "relu2.out": ["conv3"],
        "conv3.out": [],
    }
    assert [w.tensor for w in plan.weights] == ["conv0.weight", "conv1.weight", "conv2.weight", "conv3.weight"]


def test_forced_output_of_the_last_convolution_is_the_model_output() -> None:
    last = quantizers(place(residual_block()))["conv3.out"]
    assert last.places == (Place("conv3.out", (), model_output=True),)
