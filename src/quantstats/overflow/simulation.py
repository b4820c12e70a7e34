"""What a CPU without VNNI makes of a quantized model: outputs, saturations of every layer, and any metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantstats._validation import check_count
from quantstats.errors import ParameterError
from quantstats.overflow.arithmetic import Sums
from quantstats.overflow.layers import IntegerLayer
from quantstats.overflow.pairing import AnyPairs, LayerKind, Pairing, find_pairing

__all__ = ["LayerSimulation", "OutputSimulation", "Simulation", "simulate"]

Array = NDArray[Any]
Predict = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True)
class LayerSimulation:
    """One layer over all samples.

    :param name: of the operation.
    :param type: of the operation.
    :param saturated: pairs of products that saturated.
    :param pairs: pairs that were added up.
    :param sqnr_db: signal to noise of the layer's output in dB, against exact sums of the same levels; infinite if they
        are equal.
    """

    name: str
    type: str
    saturated: int
    pairs: int
    sqnr_db: float


@dataclass(frozen=True)
class OutputSimulation:
    """One output of the model over all samples: its SQNR in dB against exact sums in every layer."""

    name: str
    sqnr_db: float


@dataclass(frozen=True)
class Simulation:
    """A quantized model with saturating sums against the same model with exact ones.

    :param pairing: name of the pairing.
    :param samples: runs of the model.
    :param layers: in topological order.
    :param outputs: of the model; those of floating point.
    :param metric: value of the metric with saturating sums; ``None`` without one.
    :param exact_metric: with exact sums.
    """

    pairing: str
    samples: int
    layers: tuple[LayerSimulation, ...]
    outputs: tuple[OutputSimulation, ...]
    metric: float | None = None
    exact_metric: float | None = None

    @property
    def saturated(self) -> int:
        """Pairs that saturated in all layers."""
        return sum(layer.saturated for layer in self.layers)


@dataclass
class _Noise:
    """Energies of a signal and of its error."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, exact: Array, found: Array) -> None:
        exact = exact.astype(np.float64)
        self.signal += float(np.sum(np.square(exact)))
        self.noise += float(np.sum(np.square(found - exact)))

    @property
    def db(self) -> float:
        if self.noise == 0:
            return float("inf")
        return float(10 * np.log10(self.signal / self.noise)) if self.signal > 0 else float("-inf")


@dataclass
class _Layer:
    saturated: int = 0
    pairs: int = 0
    noise: _Noise = field(default_factory=_Noise)


def simulate(
    model: Any,
    data: Any,
    *,
    pairing: str | Pairing = "onnxruntime",
    subset_size: int = 300,
    metric: Callable[[Predict, Iterable[Any]], float] | None = None,
) -> Simulation:
    """Run a quantized model as a CPU without VNNI does, on any CPU, and compare it with exact arithmetic.

    Sums of products saturate bit for bit as ``vpmaddubsw`` and ``vpmaddwd`` have them, zero points are taken out of
    them afterwards, and the rest of the model is computed by onnxruntime node by node.

    :param model: a quantized ONNX model: a path, an ``onnx.ModelProto`` or an ``onnx_ir.Model``, in QDQ form or of
        integer operators, whoever made it.
    :param data: a `Dataset` or any iterable of samples, as `quantize` takes them.
    :param pairing: which products are added into 16 bits: a name of `PAIRINGS` but for ``"any"``, or a `Pairing`.
    :param subset_size: most samples to run.
    :param metric: a function of the model, as a function from a sample to its outputs by name, and of `data`; it is
        evaluated with saturating and with exact sums.
    :raises ParameterError: the pairing names no pairs, or a parameter is malformed.
    :raises UnsupportedModelError: no layer of the model multiplies bytes.
    :raises DataError: there is no sample, or one does not fit the model.
    """
    # Here, not at the top: the driver knows pairings, and so imports this package.
    from quantstats.adapters.onnx.integer_layers import quantized_model
    from quantstats.adapters.onnx.saturation import SaturatingModel
    from quantstats.ptq.dataset import Dataset

    found = find_pairing(pairing)
    rules = {kind: found.rule(kind) for kind in LayerKind}
    if isinstance(rules[LayerKind.MATMUL], AnyPairs):
        raise ParameterError(
            f"pairing={found.name!r} does not say which products are pairs; name that of a runtime, or 'adjacent'"
        )
    check_count("simulate", "subset_size", subset_size, least=1)
    simulated = SaturatingModel(quantized_model(model), rules)
    layers = {layer.name: _Layer() for layer in simulated.layers}
    outputs = {name: _Noise() for name in simulated.outputs}

    def observe(layer: IntegerLayer, sums: Sums, output: Array, exact: Array) -> None:
        total = layers[layer.name]
        total.saturated += sums.saturated
        total.pairs += sums.pairs
        total.noise.add(exact, output)

    samples = 0
    for sample in Dataset.of(data).samples(simulated.signature, subset_size):
        seen = simulated.run(sample, observe)
        exact = simulated.run(sample, exact=True)
        for name, noise in outputs.items():
            noise.add(exact[name], seen[name])
        samples += 1
    values: dict[str, float | None] = {"metric": None, "exact_metric": None}
    if metric is not None:
        values["metric"] = float(metric(simulated.run, data))
        values["exact_metric"] = float(metric(lambda sample: simulated.run(sample, exact=True), data))
    return Simulation(
        pairing=found.name,
        samples=samples,
        layers=tuple(
            LayerSimulation(layer.name, layer.type, total.saturated, total.pairs, total.noise.db)
            for layer, total in zip(simulated.layers, layers.values(), strict=True)
        ),
        outputs=tuple(OutputSimulation(name, noise.db) for name, noise in outputs.items()),
        **values,
    )
