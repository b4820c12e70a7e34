"""Bias correction: its laws on small networks in NumPy and on the digits models, and what it runs for them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import quantstats as qs
from quantstats.adapters.onnx import OnnxAdapter, runnable
from quantstats.adapters.onnx.runnable import OnnxRunnable
from quantstats.adapters.protocol import Array, ModelAdapter, Sample
from quantstats.advanced_parameters import AdvancedBiasCorrectionParameters as Params
from quantstats.advanced_parameters import AdvancedQuantizationParameters as Advanced
from quantstats.errors import DataError, NonFiniteError
from quantstats.ptq.bias_correction import InputMean, channel_mean_taps, correct_fast, correct_full
from quantstats.ptq.bias_correction.correctable import CorrectableOperation, correctable_operations
from quantstats.ptq.bias_correction.waves import waves_between
from quantstats.ptq.graph import OperationKind, Port, QuantizationGraph
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.quantize import make_plan
from quantstats.statistics.channel_means import ChannelMeans

from .framework import NetworkBuilder, NumpyAdapter, attention_network, images, residual_network, sequences

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"
UNCORRECTED = Advanced(disable_bias_correction=True)
ALL = Params(apply_for_all_nodes=True)
UNLIMITED = Params(threshold=1e30)


def plan_without_correction(adapter: ModelAdapter[Any], data: Any, **options: Any) -> QuantizationPlan:
    return make_plan(adapter, data, advanced_parameters=UNCORRECTED, progress=False, **options)


def means_of(adapter: ModelAdapter[Any], plan: QuantizationPlan, data: Sequence[Sample]) -> dict[str, Array]:
    taps = channel_mean_taps(adapter.graph(), plan)
    collected = {tensor: InputMean(tensor, axis) for tensor, axis in taps.items()}
    for sample in data:
        for tensor, value in adapter.run(sample, tuple(taps)).items():
            collected[tensor].update(value)
    return {tensor: mean.mean() for tensor, mean in collected.items()}


def behind_bias(graph: QuantizationGraph, operation: CorrectableOperation) -> str:
    """The tensor that holds the bias: what the operation writes, or the addition behind a matrix product."""
    described = graph.operation(operation.name)
    if operation.bias is None or operation.bias in described.inputs:
        return operation.output
    (port,) = graph.readers[operation.output]
    return graph.operation(port.operation).outputs[0]


@dataclasses.dataclass
class Errors:
    """What an operation's output is off by, per channel.

    :param mean: Mean error.
    :param square: Mean squared error.
    :param scale: Root mean square of the floating-point output over all channels.
    """

    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    scale: float


def errors_of(
    adapter: ModelAdapter[Any], plan: QuantizationPlan, data: Sequence[Sample], *, alone: bool = False
) -> dict[str, Errors]:
    """Errors behind the bias of every correctable operation, over samples.

    :param alone: Feed every operation with its floating-point input, so that it is off by its own fault only.
    """
    graph = adapter.graph()
    operations = correctable_operations(graph, plan, apply_for_all_nodes=True)
    measured = {operation.name: behind_bias(graph, operation) for operation in operations}
    outputs = tuple(dict.fromkeys(measured.values()))
    cut = {operation.input for operation in operations}
    # An addition behind a product may read other tensors where it is no bias; nothing else lies between.
    quantized = adapter.runnable(plan, inputs=tuple(cut) if alone else None, outputs=outputs)
    pairs = []
    for sample in data:
        exact = adapter.run(sample, tuple({*outputs, *cut, *graph.inputs}))
        exact = {name: value.copy() for name, value in exact.items()}
        pairs.append((exact, quantized(exact)))
    found = {}
    for operation in operations:
        tensor = measured[operation.name]
        axis = operation.output_axis
        channels = [
            np.moveaxis(q[tensor].astype(np.float64) - x[tensor], axis, 0).reshape(x[tensor].shape[axis], -1)
            for x, q in pairs
        ]
        difference = np.stack([c.mean(1) for c in channels]).mean(0)
        square = np.stack([(c**2).mean(1) for c in channels]).mean(0)
        scale = float(np.sqrt(np.mean([np.mean(x[tensor].astype(np.float64) ** 2) for x, _ in pairs])))
        found[operation.name] = Errors(difference, square, scale)
    return found


def unit_of(graph: QuantizationGraph, plan: QuantizationPlan, name: str) -> NDArray[np.float64] | float:
    """Input scale times weight scale: what an int32 bias is a multiple of. Zero where the bias is added in float."""
    operation = graph.operation(name)
    assert operation.weight is not None
    if operation.bias not in operation.inputs:
        return 0.0
    read, weight = Port(name, operation.activations[0]), Port(name, operation.weight.operand)
    inputs = next(a.quantizer for a in plan.activations for p in a.places if read in p.readers)
    weights = next(w.quantizer for w in plan.weights if weight in w.readers)
    assert inputs is not None
    assert weights is not None
    return np.asarray(inputs.scale, np.float64) * weights.scale


# -- The digits models ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Digits:
    adapter: OnnxAdapter
    plan: QuantizationPlan
    data: list[Sample]

    @property
    def graph(self) -> QuantizationGraph:
        return self.adapter.graph()


def digit_images(count: int) -> list[Sample]:
    with np.load(EXAMPLES / "calibration.npz") as stored:
        return [{"image": image[np.newaxis]} for image in stored["image"][:count]]


@pytest.fixture(scope="module", params=["cnn", "transformer"])
def digits(request: pytest.FixtureRequest) -> Digits:
    adapter = OnnxAdapter(EXAMPLES / f"digits_{request.param}.onnx")
    data = digit_images(60)
    model_type = qs.ModelType.TRANSFORMER if request.param == "transformer" else None
    return Digits(adapter, plan_without_correction(adapter, data, model_type=model_type), data)


# -- Fast -------------------------------------------------------------------------------------------------------------


def test_fast_shift_is_the_rounding_of_the_weights_times_the_mean_input() -> None:
    """(W - Q(W)) E[x], in closed form, for fully connected layers and a convolution of one value."""
    b = NetworkBuilder()
    x = b.layer("relu", "relu", b.conv("point", b.input("image", None, 3, 8, 8), (3, 6), kernel=1))
    network = b.build(b.dense("dense", b.layer("average", "average", x), (6, 4)))
    adapter = NumpyAdapter(network)
    data = [{"image": image} for image in images(8)]
    plan = plan_without_correction(adapter, data)
    means = means_of(adapter, plan, data)
    correction = correct_fast(
        adapter, adapter.graph(), plan, means, params=dataclasses.replace(UNLIMITED, apply_for_all_nodes=True)
    )
    rounded = {weight.tensor: weight.quantizer for weight in plan.weights}
    lost = {}
    for name in ("point", "dense"):
        quantizer = rounded[f"{name}.weight"]
        assert quantizer is not None
        weight = network.constants[f"{name}.weight"].astype(np.float64)
        lost[name] = weight - quantizer.fake_quantize(network.constants[f"{name}.weight"])
    expected = {
        "point": lost["point"][:, :, 0, 0] @ means["image"],
        "dense": means["average.out"] @ lost["dense"],
    }
    assert correction.shifts.keys() == expected.keys()
    assert not correction.skipped
    for name, shift in expected.items():
        assert np.abs(shift).max() > 1e-5
        np.testing.assert_allclose(correction.shifts[name], shift, atol=1e-6)
    np.testing.assert_array_equal(
        correction.plan.biases["point"], network.constants["point.bias"] + correction.shifts["point"]
    )
    np.testing.assert_array_equal(correction.plan.biases["dense"], correction.shifts["dense"])


def test_fast_counts_padding_as_zeros() -> None:
    """Of an input that holds the means, the mean error over all positions is gone, those at the border included."""
    adapter = NumpyAdapter(residual_network())
    graph = adapter.graph()
    data = [{"image": image} for image in images(8)]
    plan = plan_without_correction(adapter, data)
    means = means_of(adapter, plan, data)
    corrected = correct_fast(adapter, graph, plan, means, params=UNLIMITED).plan
    assert set(corrected.biases) == {"conv0", "conv1", "conv2"}
    weights_only = dataclasses.replace(corrected, activations=())
    for operation in correctable_operations(graph, plan, apply_for_all_nodes=False):
        x = np.broadcast_to(means[operation.input][:, np.newaxis, np.newaxis], (1, means[operation.input].size, 8, 8))
        feed = {operation.input: np.ascontiguousarray(x)}
        names: dict[str, Any] = {"inputs": [operation.input], "outputs": [operation.output]}
        exact = adapter.runnable(None, **names)(feed)[operation.output].astype(np.float64)
        before = adapter.runnable(dataclasses.replace(plan, activations=()), **names)(feed)[operation.output]
        after = adapter.runnable(weights_only, **names)(feed)[operation.output]
        assert np.abs((before - exact).mean((0, 2, 3))).max() > 1e-4
        np.testing.assert_allclose((after - exact).mean((0, 2, 3)), 0, atol=1e-6)


def test_fast_mean_error_of_the_weights_never_grows(digits: Digits) -> None:
    """What rounded weights add to the mean, on the calibration data and in onnxruntime.

    It is gone where no position differs from another; at borders, which are at least halved, the mean of a channel is
    not that of every position.
    """
    adapter, graph = digits.adapter, digits.graph
    correction = correct_fast(
        adapter, graph, digits.plan, means_of(adapter, digits.plan, digits.data), params=UNLIMITED
    )
    assert len(correction.shifts) >= 9
    weights_only = dataclasses.replace(digits.plan, activations=())
    before = errors_of(adapter, weights_only, digits.data, alone=True)
    after = errors_of(adapter, dataclasses.replace(correction.plan, activations=()), digits.data, alone=True)
    padded = 0
    for name in correction.shifts:
        weight = graph.operation(name).weight
        assert weight is not None
        spatial = graph.tensors[weight.tensor].shape
        assert spatial is not None
        remaining, original = np.abs(after[name].mean), np.abs(before[name].mean)
        assert np.linalg.norm(remaining) <= np.linalg.norm(original)
        if graph.operation(name).kind is OperationKind.MATMUL or max(spatial[2:]) == 1:
            assert remaining.max() <= 2e-6 * max(1, after[name].scale), name
        else:
            padded += 1
            assert np.linalg.norm(remaining) < 0.5 * np.linalg.norm(original), name
    assert padded == (5 if "/stem/conv/Conv" in correction.shifts else 1)


def test_fast_lowers_the_error_of_operations_by_themselves(digits: Digits) -> None:
    """With activations quantized too: the sum over all operations, for what rounded activations add may cancel one."""
    adapter = digits.adapter
    means = means_of(adapter, digits.plan, digits.data)
    corrected = correct_fast(adapter, digits.graph, digits.plan, means, params=UNLIMITED).plan
    before = errors_of(adapter, digits.plan, digits.data, alone=True)
    after = errors_of(adapter, corrected, digits.data, alone=True)

    def relative(found: Errors) -> tuple[float, float]:
        return float(np.sum(found.mean**2)) / found.scale**2, float(np.sum(found.square)) / found.scale**2

    names = list(corrected.biases)
    for index in range(2):
        assert sum(relative(after[n])[index] for n in names) < sum(relative(before[n])[index] for n in names)
    if "/stem/conv/Conv" in names:
        assert all(relative(after[n]) < relative(before[n]) for n in names)


def test_fast_does_not_run_the_model(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece or two with all operations side by side, each run once, whatever the number of samples."""
    means = means_of(digits.adapter, digits.plan, digits.data)
    calls = recorded_calls(monkeypatch)
    monkeypatch.setattr(OnnxAdapter, "run", forbidden)
    correct_fast(digits.adapter, digits.graph, digits.plan, means)
    assert len(calls) == 2


def test_fast_divides_large_inputs(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    means = means_of(digits.adapter, digits.plan, digits.data)
    together = correct_fast(digits.adapter, digits.graph, digits.plan, means)
    monkeypatch.setattr("quantstats.ptq.bias_correction.fast._INPUT_BYTES", 1)
    calls = recorded_calls(monkeypatch)
    apart = correct_fast(digits.adapter, digits.graph, digits.plan, means)
    assert len(calls) == 2 * len(correctable_operations(digits.graph, digits.plan, apply_for_all_nodes=False))
    assert apart.shifts.keys() == together.shifts.keys()
    for name, shift in apart.shifts.items():
        np.testing.assert_allclose(shift, together.shifts[name], atol=1e-6)


def test_fast_with_lengths_that_the_model_leaves_open() -> None:
    """Only the share of the borders depends on a length that is not known; 32 is taken for it."""
    adapter = NumpyAdapter(residual_network())
    data = [{"image": image} for image in images(4)]
    plan = plan_without_correction(adapter, data)
    means = means_of(adapter, plan, data)

    def shifts(*lengths: int | None) -> Mapping[str, Array]:
        graph = adapter.graph()
        tensors = {
            name: dataclasses.replace(tensor, shape=(None, tensor.shape[1], *lengths))
            for name, tensor in graph.tensors.items()
            if tensor.shape is not None and len(tensor.shape) == 4 and not tensor.constant
        }
        resized = QuantizationGraph(graph.operations, {**graph.tensors, **tensors}, graph.inputs, graph.outputs)
        return correct_fast(adapter, resized, plan, means, params=UNLIMITED).shifts

    unknown, known = shifts(None, None), shifts(32, 32)
    assert unknown.keys() == known.keys() == {"conv0", "conv1", "conv2"}
    for name, shift in unknown.items():
        np.testing.assert_array_equal(shift, known[name])
        np.testing.assert_allclose(shift, shifts(64, 64)[name], rtol=0.2, atol=1e-4)


@pytest.mark.parametrize(
    ("bias", "threshold", "corrected"),
    [
        (1e-6, None, False),
        (1e-6, 1e9, True),
        (10.0, None, True),
        (10.0, 1e-9, False),
        (0.0, 1e30, False),
    ],
)
def test_threshold_of_the_fast_variant(bias: float, threshold: float | None, corrected: bool) -> None:
    """The largest shift relative to its bias; the shift of a zero bias is infinitely large."""
    network = residual_network()
    constants = {**network.constants, "conv0.bias": np.full(8, bias, np.float32)}
    adapter = NumpyAdapter(dataclasses.replace(network, constants=constants))
    data = [{"image": image} for image in images(4)]
    plan = plan_without_correction(adapter, data)
    correction = correct_fast(
        adapter, adapter.graph(), plan, means_of(adapter, plan, data), params=Params(threshold=threshold)
    )
    assert ("conv0" in correction.shifts) == corrected
    assert ("conv0" in correction.plan.biases) == corrected
    if not corrected:
        assert f"the threshold {2 if threshold is None else threshold:g}" in correction.skipped["conv0"]


# -- Full -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [residual_network, attention_network], ids=["residual", "attention"])
def test_full_leaves_no_mean_error(network: Any) -> None:
    """Each corrected operation has the mean that it has in floating point, to half a unit of its 32-bit bias."""
    adapter = NumpyAdapter(network())
    graph = adapter.graph()
    name = "image" if network is residual_network else "sequence"
    data = [{name: x} for x in (images(12) if name == "image" else sequences(12))]
    plan = plan_without_correction(adapter, data)
    correction = correct_full(adapter, graph, plan, data, params=ALL)
    assert set(correction.shifts) == {o.name for o in correctable_operations(graph, plan, apply_for_all_nodes=True)}
    before, after = errors_of(adapter, plan, data), errors_of(adapter, correction.plan, data)
    for operation, error in after.items():
        assert np.abs(before[operation].mean).max() > 1e-3
        limit = np.asarray(unit_of(graph, plan, operation)) / 2 + 2e-6 * error.scale
        assert np.all(np.abs(error.mean) <= limit), operation


def test_full_leaves_no_mean_error_in_onnxruntime(digits: Digits) -> None:
    """Nor does anything remain of the errors of earlier operations."""
    correction = correct_full(digits.adapter, digits.graph, digits.plan, digits.data, params=ALL)
    assert len(correction.shifts) >= 9
    assert not correction.skipped
    before = errors_of(digits.adapter, digits.plan, digits.data)
    after = errors_of(digits.adapter, correction.plan, digits.data)
    for name, error in after.items():
        # Half a unit of the bias, and a level here and there that another kernel rounds to the other side.
        limit = np.asarray(unit_of(digits.graph, digits.plan, name)) / 2 + 1e-4 * error.scale
        assert np.all(np.abs(error.mean) <= limit), name
        assert np.linalg.norm(error.mean) < 0.02 * np.linalg.norm(before[name].mean), name


def test_mean_square_falls_by_the_square_of_the_mean(digits: Digits) -> None:
    """Per channel, where everything before is corrected already: E[e^2] becomes E[e^2] - E[e]^2, and never grows."""
    digits = dataclasses.replace(digits, data=digits.data[:20])
    correction = correct_full(digits.adapter, digits.graph, digits.plan, digits.data)
    known: dict[str, Array] = {}
    before = errors_of(digits.adapter, digits.plan, digits.data)
    for name, bias in correction.plan.biases.items():
        known[name] = bias
        after = errors_of(digits.adapter, digits.plan.with_biases(known), digits.data)
        old, new = before[name], after[name]
        lost = np.square(unit_of(digits.graph, digits.plan, name)) + 2e-4 * old.square
        assert np.all(np.abs(new.square - (old.square - old.mean**2)) <= lost), name
        before = after


def test_biases_of_8_bits_would_undo_it(digits: Digits) -> None:
    """The shifts are smaller than the steps of 8 bits: what is corrected needs the 32 bits that it has."""
    corrected = correct_full(digits.adapter, digits.graph, digits.plan, digits.data).plan
    coarse = {}
    for name, bias in corrected.biases.items():
        step = float(np.abs(bias).max()) / 127
        coarse[name] = np.rint(bias / step) * step

    def total(plan: QuantizationPlan) -> float:
        found = errors_of(digits.adapter, plan, digits.data)
        return sum(float(np.sum(found[name].mean ** 2)) / found[name].scale ** 2 for name in coarse)

    exact, rounded, none = (total(p) for p in (corrected, corrected.with_biases(coarse), digits.plan))
    assert exact < 0.001 * none
    assert rounded > 0.1 * none


def test_full_computes_every_operation_once(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of corrected operations: one run of each model a sample, and one to see sizes."""
    calls = recorded_calls(monkeypatch)
    runs: list[Sequence[str]] = []
    run = OnnxAdapter.run

    def counted(self: OnnxAdapter, sample: Sample, taps: Sequence[str]) -> Mapping[str, Array]:
        runs.append(taps)
        return run(self, sample, taps)

    parts: list[set[str]] = []
    restrict = runnable.restrict_plan

    def restricted(plan: QuantizationPlan, operations: set[str], outputs: set[str]) -> QuantizationPlan:
        parts.append(operations)
        return restrict(plan, operations, outputs)

    monkeypatch.setattr(runnable, "restrict_plan", restricted)
    monkeypatch.setattr(OnnxAdapter, "run", counted)
    correct_full(digits.adapter, digits.graph, digits.plan, digits.data)
    assert len(runs) == len(digits.data) + 1
    assert len(calls) == len(set(calls)) * len(digits.data)
    assert len(set(calls)) == len(parts)
    computed = [name for operations in parts for name in operations]
    assert len(computed) == len(set(computed))
    assert {operation.name for operation in digits.graph if operation.weight is not None} <= set(computed)


def test_full_keeps_no_more_samples_than_fit(caplog: pytest.LogCaptureFixture) -> None:
    adapter = NumpyAdapter(residual_network())
    data = [{"image": image} for image in images(5)]
    plan = plan_without_correction(adapter, data)
    largest = max(
        sum(adapter.run(data[0], wave.alive)[name].nbytes for name in wave.alive)
        for wave in waves_between(adapter.graph(), {"conv0", "conv1", "conv2"})
    )
    with caplog.at_level(logging.INFO, logger="quantstats"):
        few = correct_full(adapter, adapter.graph(), plan, data, cache_bytes=3 * largest + 1)
    assert "biases are corrected with the first 3 samples" in caplog.text
    expected = correct_full(adapter, adapter.graph(), plan, data[:3])
    assert few.plan == expected.plan
    assert correct_full(adapter, adapter.graph(), plan, data, cache_bytes=0).plan == (
        correct_full(adapter, adapter.graph(), plan, data[:1]).plan
    )


def test_full_without_samples_is_refused() -> None:
    adapter = NumpyAdapter(residual_network())
    plan = plan_without_correction(adapter, images(2))
    with pytest.raises(DataError, match="full bias correction needs samples and there are none"):
        correct_full(adapter, adapter.graph(), plan, [])


def test_threshold_of_the_full_variant() -> None:
    network = residual_network()
    constants = {**network.constants, "conv0.bias": np.full(8, 1e-8, np.float32)}
    adapter = NumpyAdapter(dataclasses.replace(network, constants=constants))
    data = [{"image": image} for image in images(4)]
    plan = plan_without_correction(adapter, data)
    correction = correct_full(adapter, adapter.graph(), plan, data)
    assert "the threshold 1000" in correction.skipped["conv0"]
    assert set(correction.shifts) == {"conv1", "conv2"}
    # What follows is corrected all the same, for what the skipped operation left too.
    after = errors_of(adapter, correction.plan, data)
    assert np.abs(after["conv0"].mean).max() > 1e-3
    assert np.all(np.abs(after["conv1"].mean) <= np.asarray(unit_of(adapter.graph(), plan, "conv1")) / 2 + 1e-6)


def test_a_second_correction_gives_the_same(digits: Digits) -> None:
    """Shifts are added to the biases of the model, not to those of the plan."""
    for correct, data in (
        (correct_full, digits.data),
        (correct_fast, means_of(digits.adapter, digits.plan, digits.data)),
    ):
        once = correct(digits.adapter, digits.graph, digits.plan, data)
        assert once.shifts
        assert correct(digits.adapter, digits.graph, once.plan, data).plan == once.plan


# -- Waves ------------------------------------------------------------------------------------------------------------


def graphs() -> Iterator[tuple[str, QuantizationGraph]]:
    yield "residual", NumpyAdapter(residual_network()).graph()
    yield "attention", NumpyAdapter(attention_network()).graph()
    for name in ("cnn", "transformer"):
        yield name, OnnxAdapter(EXAMPLES / f"digits_{name}.onnx").graph()


@pytest.mark.parametrize(("_name", "graph"), list(graphs()), ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("every", [1, 2, 3])
def test_waves(_name: str, graph: QuantizationGraph, every: int) -> None:
    """Every end once, in an order in which what an end needs is there, and nothing is kept that nobody reads."""
    ends = [operation.name for operation in graph if operation.weight is not None][::every]
    waves = waves_between(graph, ends)
    assert sorted(name for wave in waves for name in wave.ends) == sorted(ends)
    kept = set(graph.inputs)
    for wave in waves:
        assert set(wave.inputs) <= kept
        assert set(wave.alive) <= kept | set(wave.outputs)
        written = {tensor for name in wave.ends for tensor in graph.operation(name).outputs}
        assert written <= set(wave.outputs)
        # No end of a wave depends on another one of it.
        for name in wave.ends:
            assert not written.intersection(graph.operation(name).inputs)
        kept = set(wave.alive)
    assert kept == set()


def test_parallel_branches_are_one_wave() -> None:
    graph = NumpyAdapter(attention_network()).graph()
    waves = waves_between(graph, ["q", "k", "v", "project"])
    assert [wave.ends for wave in waves] == [("q", "k", "v"), ("project",)]


# -- Operations without bias ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False])
def test_apply_for_all_nodes(fast: bool) -> None:
    adapter = NumpyAdapter(attention_network())
    data = [{"sequence": x} for x in sequences(8)]
    options: dict[str, Any] = {"fast_bias_correction": fast, "subset_size": 40, "progress": False}
    some = make_plan(adapter, data, **options)
    assert not some.biases  # dense layers have none
    every = make_plan(adapter, data, advanced_parameters=Advanced(bias_correction_params=ALL), **options)
    assert set(every.biases) == {"q", "k", "v", "project", "classify"}
    if fast:
        some, every = (dataclasses.replace(plan, activations=()) for plan in (some, every))
    before, after = errors_of(adapter, some, data, alone=fast), errors_of(adapter, every, data, alone=fast)
    for name, error in after.items():
        assert np.linalg.norm(error.mean) < np.linalg.norm(before[name].mean), name


# -- In quantize ------------------------------------------------------------------------------------------------------


def test_default_is_fast_and_can_be_disabled() -> None:
    adapter = NumpyAdapter(residual_network())
    data = [{"image": image} for image in images(6)]
    plan = plan_without_correction(adapter, data)
    expected = correct_fast(adapter, adapter.graph(), plan, means_of(adapter, plan, data)).plan
    assert expected.biases
    assert make_plan(adapter, data, progress=False) == expected
    for fast in (True, False):
        options: dict[str, Any] = {"advanced_parameters": UNCORRECTED, "fast_bias_correction": fast}
        assert make_plan(adapter, data, progress=False, **options) == plan


@pytest.mark.parametrize(("subset_size", "used"), [(3, 1), (10, 2), (300, 12)])
def test_full_reads_the_first_fifth(subset_size: int, used: int) -> None:
    adapter = NumpyAdapter(residual_network())
    data = [{"image": image} for image in images(12)]
    plan = plan_without_correction(adapter, data, subset_size=subset_size)
    expected = correct_full(adapter, adapter.graph(), plan, data[:used]).plan
    # Data that come only once, in one array that is used again.
    buffer = {"image": np.empty_like(data[0]["image"])}

    def reused() -> Iterator[Sample]:
        for sample in data:
            buffer["image"][:] = sample["image"]
            yield buffer

    found = make_plan(adapter, reused(), subset_size=subset_size, fast_bias_correction=False, progress=False)
    assert found == expected


@pytest.mark.parametrize("params", [Params(), ALL, Params(threshold=0.01)], ids=["default", "all", "threshold"])
def test_from_statistics_to_the_bit(params: Params) -> None:
    adapter = NumpyAdapter(residual_network())
    data = [{"image": image} for image in images(20)]
    advanced = Advanced(bias_correction_params=params)
    expected = make_plan(adapter, data, advanced_parameters=advanced, progress=False)
    statistics = qs.calibrate(adapter, data, advanced_parameters=advanced, progress=False)
    assert make_plan(adapter, statistics=statistics, advanced_parameters=advanced, progress=False) == expected
    full = make_plan(
        adapter, data, statistics=statistics, fast_bias_correction=False, advanced_parameters=advanced, progress=False
    )
    assert full == make_plan(adapter, data, fast_bias_correction=False, advanced_parameters=advanced, progress=False)


def test_statistics_without_means_correct_nothing(caplog: pytest.LogCaptureFixture) -> None:
    adapter = NumpyAdapter(residual_network())
    graph = adapter.graph()
    data = [{"image": image} for image in images(4)]
    plan = plan_without_correction(adapter, data)
    complete = qs.calibrate(adapter, data, progress=False)
    bare = qs.CalibrationStatistics(complete.taps, model_hash=complete.model_hash)
    for index, sample in enumerate(data):
        bare.update(str(index), adapter.run(sample, tuple(complete.taps)))
    assert make_plan(adapter, statistics=bare, progress=False) == plan
    lacking = channel_mean_taps(graph, plan, apply_for_all_nodes=False)
    (message,) = caplog.messages
    assert message.startswith(f"the statistics lack the channel means of {len(lacking)} of {len(lacking)} tensors")
    assert message.endswith("calibrate again with these parameters, or set disable_bias_correction=True")
    caplog.clear()
    assert make_plan(adapter, statistics=bare, advanced_parameters=UNCORRECTED, progress=False) == plan
    assert not caplog.messages


def test_full_correction_of_statistics_needs_data() -> None:
    adapter = NumpyAdapter(residual_network())
    statistics = qs.calibrate(adapter, images(4), progress=False)
    with pytest.raises(DataError, match=r"fast_bias_correction=False runs the quantized model.*calibration_dataset"):
        make_plan(adapter, statistics=statistics, fast_bias_correction=False, progress=False)


def test_a_reverted_operation_gets_its_bias_back(digits: Digits) -> None:
    plan = correct_full(digits.adapter, digits.graph, digits.plan, digits.data).plan
    name, *others = plan.biases
    assert list(plan.without(name).biases) == others
    assert plan.without(name, keep_weights=True).biases.keys() == plan.biases.keys()


# -- Means ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batchwise", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 5, 4), 1), ((2, 7, 3), 2), ((4, 6), 1), ((4, 6), 0), ((5,), 0)])
def test_means_have_the_bits_of_those_in_statistics(batchwise: bool, shape: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(2)
    data = [rng.normal(3, 2, shape).astype(dtype) for dtype in (np.float32, np.float32, np.float64)]
    light, kept = InputMean("x", axis, batchwise=batchwise), ChannelMeans(axis, batchwise=batchwise)
    for x in data:
        light.update(x)
        kept.add(kept.reduce(x))
    np.testing.assert_array_equal(light.mean(), kept.mean())
    others = tuple(other for other in range(len(shape)) if other != axis)
    expected = np.mean([x.astype(np.float64).mean(others) for x in data], axis=0)
    np.testing.assert_allclose(light.mean(), expected, rtol=1e-6)


def test_means_of_what_is_not_finite_or_changes_its_channels() -> None:
    mean = InputMean("x", 1)
    mean.update(np.float32([[1, np.inf]]))
    with pytest.raises(NonFiniteError, match="channel of tensor 'x' is not finite"):
        mean.mean()
    mean = InputMean("x", 1)
    mean.update(np.zeros((1, 2), np.float32))
    mean.update(np.zeros((1, 3), np.float32))
    with pytest.raises(DataError, match=r"tensor 'x' has \[2, 3\] channels along axis 1"):
        mean.mean()


# -- Accuracy ---------------------------------------------------------------------------------------------------------


def test_fast_recovers_what_weights_that_round_down_lose() -> None:
    """Every weight of the digits CNN lies almost half a level above its own, so all of them round down."""
    model = onnx.load(EXAMPLES / "digits_cnn.onnx")
    adapter = OnnxAdapter(model)
    params = qs.QuantizationParameters(num_bits=4)
    clean = OnnxAdapter(adapter.emit(QuantizationPlan((), (), {})))
    data = digit_images(60)
    options = {"weights_quantization_params": params, "overflow_fix": qs.OverflowFix.DISABLE}
    plan = make_plan(clean, data, advanced_parameters=Advanced(disable_bias_correction=True, **options), progress=False)
    unlucky = clean.emit(QuantizationPlan((), (), {}))
    for weight in plan.weights:
        assert weight.quantizer is not None
        constant = next(i for i in unlucky.graph.initializer if i.name == weight.tensor)
        value = numpy_helper.to_array(constant).astype(np.float64)
        along = [-1 if axis == weight.channel_axis else 1 for axis in range(value.ndim)]
        scale = weight.quantizer.scale.astype(np.float64).reshape(along)
        levels = np.floor(value / scale)
        moved = np.where(levels < weight.quantizer.level_high, (levels + 0.45) * scale, value)
        constant.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), weight.tensor))
    exact = accuracy(OnnxAdapter(unlucky), None)
    found = {}
    for name, arguments in (
        ("off", {"advanced_parameters": Advanced(disable_bias_correction=True, **options)}),
        ("fast", {"advanced_parameters": Advanced(bias_correction_params=UNLIMITED, **options)}),
    ):
        corrected = OnnxAdapter(unlucky)
        found[name] = accuracy(corrected, make_plan(corrected, data, progress=False, **arguments))
    assert exact > 0.9
    assert found["off"] < exact - 0.2
    assert found["fast"] > exact - 0.05


def test_full_recovers_what_clipped_activations_lose() -> None:
    """8 % of the activations clipped on either side, which the fast variant does not look at."""
    adapter = OnnxAdapter(EXAMPLES / "digits_cnn.onnx")
    branch = qs.StatisticsCollectorParameters(
        qs.StatisticsType.QUANTILE, qs.AggregatorType.MEAN, quantile_outlier_prob=0.08
    )
    clipping = {"activations_range_estimator_params": qs.RangeEstimatorParameters(branch, branch)}
    found = {}
    for name, options in (
        ("off", {"advanced_parameters": Advanced(disable_bias_correction=True, **clipping)}),
        ("full", {"advanced_parameters": Advanced(**clipping), "fast_bias_correction": False}),
    ):
        found[name] = accuracy(adapter, make_plan(adapter, digit_images(300), progress=False, **options))
    exact = accuracy(adapter, None)
    assert found["off"] < exact - 0.05
    assert found["full"] > exact - 0.025


def accuracy(adapter: OnnxAdapter, plan: QuantizationPlan | None) -> float:
    with np.load(EXAMPLES / "test.npz") as test:
        images, labels = test["image"], test["label"]
    return float(np.mean(adapter.runnable(plan)({"image": images})["logits"].argmax(1) == labels))


# -- Helpers ----------------------------------------------------------------------------------------------------------


def recorded_calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every call of a piece of an ONNX model, as the piece; each knows its operations."""
    calls: list[Any] = []
    call = OnnxRunnable.__call__

    def recorded(self: OnnxRunnable, feed: Mapping[str, Array]) -> dict[str, Array]:
        calls.append(self)
        return call(self, feed)

    monkeypatch.setattr(OnnxRunnable, "__call__", recorded)
    return calls


def forbidden(*_: Any) -> None:
    raise AssertionError("the model is run")
