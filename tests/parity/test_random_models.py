"""Generated models by nncf's ONNX backend and by quantstats: what is quantized, with which scales and zero points.

Wherever the two differ, a predicate of this file says why; docs/parity.md tells what each is good for. Both observe a
model whose operations onnxruntime runs one by one, so that they see the same values to the bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from quantstats.adapters.onnx import OnnxAdapter
from quantstats.advanced_parameters import AdvancedQuantizationParameters, OverflowFix, QuantizationParameters
from quantstats.parameters import QuantizationMode, QuantizationPreset
from quantstats.ptq.graph import Operation, OperationKind, QuantizationGraph
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.quantize import make_plan
from quantstats.quantizer import Quantizer
from quantstats.range_estimator import RangeEstimatorParametersSet as Set

from .random_models import random_model
from .test_whole_models import quantize_by_nncf

Array = NDArray[Any]
SEEDS = range(32)
HISTOGRAM_SEEDS = range(40, 46)
SAMPLES = 4
HISTOGRAM_SAMPLES = 16
# Two for the mean of a statistic over samples, two for the scale that is computed of it.
ULPS = 4

_FOLLOWERS = frozenset({OperationKind.ELEMENTWISE, OperationKind.POOLING, OperationKind.CONCAT})
_CLAMPED = frozenset({OperationKind.ACTIVATION, OperationKind.MOVE})


def _advanced(**fields: Any) -> dict[str, Any]:
    fields.setdefault("activations_range_estimator_params", Set.MEAN_MINMAX)
    return {"advanced_parameters": AdvancedQuantizationParameters(**fields)}


# What a model is quantized with is decided by its seed.
PARAMETERS: dict[str, dict[str, Any]] = {
    "mean": _advanced(),
    "quantile": _advanced(activations_range_estimator_params=Set.MEAN_QUANTILE),
    "mixed": {"preset": QuantizationPreset.MIXED, **_advanced()},
    "median, no fix": _advanced(activations_range_estimator_params=Set.MEDIAN_MINMAX, overflow_fix=OverflowFix.DISABLE),
    "weights per tensor": _advanced(weights_quantization_params=QuantizationParameters(per_channel=False)),
    "asymmetric, no outliers": _advanced(
        activations_quantization_params=QuantizationParameters(mode=QuantizationMode.ASYMMETRIC),
        activations_range_estimator_params=Set.MEAN_NO_OUTLIERS_MINMAX,
    ),
    "all weights in half range": _advanced(overflow_fix=OverflowFix.ENABLE),
}


@dataclasses.dataclass(frozen=True)
class Levels:
    """Scale, and how many levels lie below zero.

    :param scale: 0-d, or one value per channel.
    :param below: Zero point less the lowest level.
    """

    scale: Array
    below: Array

    @classmethod
    def of(cls, quantizer: Quantizer) -> Levels:
        return cls(quantizer.scale, quantizer.zero_point.astype(np.int64) - quantizer.level_low)

    def squared_error(self, x: Array) -> float:
        """Of rounding numbers to 256 levels with one scale."""
        levels = np.clip(np.rint(x / self.scale) + self.below, 0, 255)
        return float(np.sum(np.square((levels - self.below) * np.float64(self.scale) - x)))

    def equals(self, other: Levels) -> bool:
        return (
            self.scale.shape == other.scale.shape
            and bool(np.all(np.abs(self.scale - other.scale) <= ULPS * np.spacing(other.scale)))
            and np.array_equal(self.below, other.below)
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What both libraries made of one model.

    :param graph: The model.
    :param plan: The decisions of quantstats.
    :param ours: Levels of the tensors that quantstats quantizes, by name.
    :param theirs: The same of nncf.
    :param our_scales: Scales of weights, by name.
    :param their_scales: The same of nncf.
    :param observed: The values of tensors that both quantize, in all samples, by name.
    """

    graph: QuantizationGraph
    plan: QuantizationPlan
    ours: Mapping[str, Levels]
    theirs: Mapping[str, Levels]
    our_scales: Mapping[str, Array]
    their_scales: Mapping[str, Array]
    observed: Mapping[str, Array]

    def is_integer(self, operation: Operation) -> bool:
        decision = self.plan.decisions.get(operation.name)
        return decision is not None and decision.quantized and operation.kind is not OperationKind.ACTIVATION

    def readers(self, tensor: str) -> Iterator[Operation]:
        """The operations that read a tensor, directly or behind operations that only move data."""
        for port in self.graph.readers.get(tensor, ()):
            operation = self.graph.operation(port.operation)
            if operation.kind is OperationKind.MOVE:
                for output in operation.outputs:
                    yield from self.readers(output)
            else:
                yield operation

    def stays_for_a_reason(self, operation: Operation) -> bool:
        """Whether a follower in floating point has an operand that is computed there, or is read only there.

        Told from its neighbours, not from the decision about it.
        """
        for tensor in operation.inputs:
            source = self.source(tensor)
            in_floating_point = source is not None and (
                source.kind is OperationKind.MATMUL or not self.is_integer(source)
            )
            unrounded = source is None and tensor in self.graph.inputs and tensor not in self.ours
            if in_floating_point or unrounded:
                return True
        waiting = list(operation.outputs)
        while waiting:
            for reader in self.readers(waiting.pop()):
                if reader.kind is OperationKind.ACTIVATION:
                    waiting += reader.outputs
                elif self.is_integer(reader):
                    return False
        return True

    def follower_in_floating_point(self, operation: Operation) -> bool:
        return operation.kind in _FOLLOWERS and not self.is_integer(operation) and self.stays_for_a_reason(operation)

    def moved(self, tensor: str) -> Iterator[str]:
        """The tensors that operations which only move data make of a tensor."""
        for port in self.graph.readers.get(tensor, ()):
            operation = self.graph.operation(port.operation)
            if operation.kind is OperationKind.MOVE:
                for output in operation.outputs:
                    yield output
                    yield from self.moved(output)

    def source(self, tensor: str, through: frozenset[OperationKind] = _CLAMPED) -> Operation | None:
        """The operation that computed the values of a tensor, before clamps and moves."""
        producer = self.graph.producers.get(tensor)
        while producer is not None and producer.kind in through:
            producer = self.graph.producers.get(producer.inputs[0])
        return producer

    def has_constant(self, operation: Operation) -> bool:
        return any(tensor and self.graph.tensors[tensor].constant for tensor in operation.inputs)

    def groups(self, operation: Operation) -> int:
        """Groups of a convolution."""
        image, weight = (self.graph.tensors[tensor].shape for tensor in operation.inputs[:2])
        assert image is not None
        assert weight is not None
        return (image[1] or 0) // (weight[1] or 1)

    def is_depthwise(self, operation: Operation) -> bool:
        image = self.graph.tensors[operation.inputs[0]].shape
        return operation.kind is OperationKind.CONVOLUTION and image is not None and self.groups(operation) == image[1]

    def without_ungrouped_convolutions_before(self) -> set[str]:
        """Weights of ungrouped convolutions to which a path leads from an input that passes no other."""
        found: set[str] = set()
        waiting, seen = list(self.graph.inputs), set(self.graph.inputs)
        while waiting:
            for port in self.graph.readers.get(waiting.pop(), ()):
                operation = self.graph.operation(port.operation)
                if operation.kind is OperationKind.CONVOLUTION and self.groups(operation) == 1:
                    assert operation.weight is not None
                    found.add(operation.weight.tensor)
                else:
                    waiting += [output for output in operation.outputs if output not in seen]
                    seen.update(operation.outputs)
        return found


# -- differences on purpose, each a row of docs/parity.md ----------------------------------------------------------


def convolution_read_in_floating_point(c: Comparison, tensor: str) -> bool:
    """An integer convolution writes integers, also where something in floating point, or nothing, reads them."""
    source = c.source(tensor)
    return (
        source is not None
        and source.kind is OperationKind.CONVOLUTION
        and (tensor in c.graph.outputs or not all(map(c.is_integer, c.readers(tensor))))
    )


def output_of_concatenation(c: Comparison, tensor: str) -> bool:
    """The inputs of a concatenation have ranges of their own, so its output needs one."""
    source = c.source(tensor)
    return source is not None and source.kind is OperationKind.CONCAT


def beside_a_constant(c: Comparison, tensor: str) -> bool:
    """An addition or multiplication with a constant is an integer operation like others: both operands have scales."""
    return any(o.kind is OperationKind.ELEMENTWISE and c.has_constant(o) and c.is_integer(o) for o in c.readers(tensor))


def behind_a_move_for_integers_only(c: Comparison, tensor: str) -> bool:
    """An addition stays in floating point and reads moved data as they are; the quantizer for others is behind."""
    producer = c.graph.producers.get(tensor)
    return (
        producer is not None
        and producer.kind is OperationKind.MOVE
        and any(map(c.follower_in_floating_point, c.readers(tensor)))
    )


ONLY_OURS: tuple[Callable[[Comparison, str], bool], ...] = (
    convolution_read_in_floating_point,
    output_of_concatenation,
    beside_a_constant,
    behind_a_move_for_integers_only,
)


def follower_in_floating_point(c: Comparison, tensor: str) -> bool:
    """An addition, pooling or concatenation between operations in floating point stays there."""
    readers = tuple(c.readers(tensor))
    return any(map(c.follower_in_floating_point, readers)) and not any(map(c.is_integer, readers))


def ahead_of_a_move_for_all(c: Comparison, tensor: str) -> bool:
    """The other side of `behind_a_move_for_integers_only`: nncf rounds for the addition, too."""
    behind = [moved for moved in c.moved(tensor) if moved in c.ours]
    return any(behind_a_move_for_integers_only(c, moved) for moved in behind)


def mean_in_floating_point(c: Comparison, tensor: str) -> bool:
    """A mean that is no pooling has no integer kernel."""
    return any(o.type == "ReduceMean" for o in c.readers(tensor))


ONLY_THEIRS: tuple[Callable[[Comparison, str], bool], ...] = (
    follower_in_floating_point,
    ahead_of_a_move_for_all,
    mean_in_floating_point,
)


def per_channel_before_depthwise(c: Comparison, tensor: str) -> bool:
    """nncf has a scale per channel in front of depthwise convolutions, for which there is no integer kernel."""
    return c.theirs[tensor].scale.ndim == 1 > c.ours[tensor].scale.ndim and any(map(c.is_depthwise, c.readers(tensor)))


def own_range_in_concatenation(c: Comparison, tensor: str) -> bool:
    """nncf gives all inputs of a concatenation the union of their ranges."""
    for operation in c.readers(tensor):
        if operation.kind is OperationKind.CONCAT:
            united = [c.theirs[name] for name in operation.inputs if name in c.theirs]
            narrower = c.ours[tensor].scale <= c.theirs[tensor].scale * (1 + 1e-6)
            if bool(narrower) and all(levels.equals(c.theirs[tensor]) for levels in united):
                return True
    return False


OTHER_LEVELS: tuple[Callable[[Comparison, str], bool], ...] = (per_channel_before_depthwise, own_range_in_concatenation)


def other_first_layer(c: Comparison, tensor: str) -> bool:
    """FIRST_LAYER is convolutions that read an input. nncf takes those that no ungrouped convolution precedes."""
    halved = {weight.tensor for weight in c.plan.weights if weight.half_range}
    theirs = c.without_ungrouped_convolutions_before()
    ratio = c.our_scales[tensor].ravel() / c.their_scales[tensor].ravel()
    return (tensor in halved) != (tensor in theirs) and np.allclose(
        ratio, 2.0 if tensor in halved else 0.5, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_model(nncf: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    names = list(PARAMETERS)
    c = compare(nncf, monkeypatch, seed, PARAMETERS[names[seed % len(names)]])
    both = c.ours.keys() & c.theirs.keys()
    assert len(both) >= 3
    assert unexplained(c, c.ours.keys() - both, ONLY_OURS) == []
    assert unexplained(c, c.theirs.keys() - both, ONLY_THEIRS) == []
    assert unexplained(c, {t for t in both if not c.ours[t].equals(c.theirs[t])}, OTHER_LEVELS) == []
    assert c.our_scales.keys() == c.their_scales.keys()
    other = {t for t in c.our_scales if not close(c.our_scales[t], c.their_scales[t])}
    assert unexplained(c, other, (other_first_layer,)) == []


@pytest.mark.parametrize("seed", HISTOGRAM_SEEDS)
def test_histogram(nncf: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Both search the range with the least error in a histogram, but not in the same one: errors are to compare."""
    options = _advanced(activations_range_estimator_params=Set.HISTOGRAM)
    c = compare(nncf, monkeypatch, seed, options, sample_count=HISTOGRAM_SAMPLES)
    both = c.ours.keys() & c.theirs.keys()
    assert unexplained(c, c.ours.keys() - both, ONLY_OURS) == []
    assert unexplained(c, c.theirs.keys() - both, ONLY_THEIRS) == []
    alike = [tensor for tensor in c.observed if not any(reason(c, tensor) for reason in OTHER_LEVELS)]
    assert len(alike) >= 3
    for tensor in alike:
        x = c.observed[tensor]
        # Sums of n squares of evenly spread numbers differ by sqrt(2 * 4 / 5 / n) by chance; here by twice that.
        limit = 1.02 + 2 * np.sqrt(1.6 / x.size)
        assert c.ours[tensor].squared_error(x) <= limit * c.theirs[tensor].squared_error(x), tensor


def unexplained(c: Comparison, tensors: set[str], reasons: tuple[Callable[[Comparison, str], bool], ...]) -> list[str]:
    """Tensors that no reason explains, with the operations around them."""
    return [
        f"{tensor}: {getattr(c.graph.producers.get(tensor), 'type', 'constant')} -> "
        f"{[o.type for o in c.readers(tensor)]}, {c.ours.get(tensor)} and {c.theirs.get(tensor)}"
        for tensor in sorted(tensors)
        if not any(reason(c, tensor) for reason in reasons)
    ]


def close(ours: Array, theirs: Array) -> bool:
    return bool(np.all(np.abs(ours.ravel() - theirs.ravel()) <= 2 * np.spacing(theirs.ravel())))


def compare(
    nncf: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    options: dict[str, Any],
    *,
    sample_count: int = SAMPLES,
) -> Comparison:
    model, shapes = random_model(seed)
    rng = np.random.default_rng(seed)
    samples = [
        {name: rng.normal(0.2, 1, shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(sample_count)
    ]
    adapter = OnnxAdapter(model)
    # nncf folds no BatchNorm, so it gets the model as the adapter cleans it.
    cleaned = adapter.emit(QuantizationPlan((), (), {}))
    monkeypatch.setattr(onnxruntime, "InferenceSession", without_optimizations(onnxruntime.InferenceSession))
    plan = make_plan(adapter, samples, progress=False, **options)
    theirs, their_scales = levels_of(quantize_by_nncf(nncf, cleaned, samples, options))
    assert all(quantizer.quantizer is not None for quantizer in (*plan.activations, *plan.weights))
    return Comparison(
        graph=adapter.graph(),
        plan=plan,
        ours={a.tensor: Levels.of(a.quantizer) for a in plan.activations if a.quantizer is not None},
        theirs=theirs,
        our_scales={w.tensor: w.quantizer.scale for w in plan.weights if w.quantizer is not None},
        their_scales=their_scales,
        observed=observe(adapter, samples, [a.tensor for a in plan.activations if a.tensor in theirs]),
    )


def observe(adapter: OnnxAdapter, samples: list[dict[str, Array]], tensors: list[str]) -> dict[str, Array]:
    """All values of some tensors, but for constants."""
    constants = adapter.graph().tensors
    taps = [tensor for tensor in tensors if not constants[tensor].constant]
    # The next run may write over what one returns.
    values = [{name: value.copy() for name, value in adapter.run(sample, taps).items()} for sample in samples]
    return {tap: np.concatenate([value[tap].ravel() for value in values]).astype(np.float64) for tap in taps}


def without_optimizations(session: Callable[..., Any]) -> Callable[..., Any]:
    """A session that fuses nothing, and so computes the same whichever tensors are observed."""

    def create(model: Any, options: onnxruntime.SessionOptions, **rest: Any) -> Any:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        return session(model, options, **rest)

    return create


def levels_of(quantized: onnx.ModelProto) -> tuple[dict[str, Levels], dict[str, Array]]:
    """Levels of the quantized tensors, and scales of the weights, of a model that nncf wrote."""
    constants = {i.name: numpy_helper.to_array(i) for i in quantized.graph.initializer}
    activations, weights = {}, {}
    for node in quantized.graph.node:
        if node.op_type == "QuantizeLinear":
            zero = constants[node.input[2]]
            activations[node.input[0]] = Levels(
                constants[node.input[1]], zero.astype(np.int64) - np.iinfo(zero.dtype).min
            )
        elif node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weights[node.input[0].removeprefix("q_output_").removesuffix("_1")] = constants[node.input[1]]
    return activations, weights
