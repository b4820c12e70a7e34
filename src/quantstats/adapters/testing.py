"""A check that an adapter keeps the protocol, for those who write one.

One call in a test is enough::

    from quantstats.adapters.testing import check_adapter

    def test_adapter():
        check_adapter(MyAdapter(model), samples=[...], run_emitted=lambda model, sample: model.outputs(sample))
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from quantstats.adapters.protocol import Array, ModelAdapter, ReducingAdapter, Sample
from quantstats.errors import DataError, NothingToQuantizeError, ParameterError
from quantstats.ptq.dataset import Dataset
from quantstats.ptq.graph import Operation, OperationKind, QuantizationGraph
from quantstats.ptq.placement import QUANTIZABLE_DTYPES
from quantstats.ptq.plan import QuantizationPlan
from quantstats.ptq.quantize import make_plan

__all__ = ["AdapterError", "check_adapter"]

_NEEDS_ACTIVATIONS = frozenset(
    {
        OperationKind.CONVOLUTION,
        OperationKind.TRANSPOSED_CONVOLUTION,
        OperationKind.MATMUL,
        OperationKind.ELEMENTWISE,
        OperationKind.POOLING,
        OperationKind.CONCAT,
    }
)


class AdapterError(AssertionError):
    """An adapter breaks the protocol; the message says where."""


def check_adapter(
    adapter: ModelAdapter[Any],
    samples: Any,
    *,
    run_emitted: Callable[[Any, Sample], Mapping[str, Array]] | None = None,
) -> None:
    """Raise :class:`AdapterError` if an adapter breaks the protocol on one model.

    It checks that the graph is stable, complete and in topological order, that weights, biases and axes point at what
    they should, that constants have the stated shapes and dtypes, that every activation can be observed and has the
    stated shape and dtype, that operations that claim to only move data do so, that an empty plan and a plan from
    calibration can be emitted, that what is runnable computes what run() and the emitted model compute, whole and in
    parts, and that none of this changes what the adapter says. Reductions are checked against the tensors, by the bit,
    if the adapter offers them.

    :param adapter: The adapter of some model; the more kinds of operations the model has, the better.
    :param samples: A few samples in any form that :class:`~quantstats.ptq.dataset.Dataset` takes.
    :param run_emitted: Runs an emitted model on a sample and returns its outputs by name. If it is given, the model
        emitted from an empty plan must compute what the original computes, and the quantized one must run and give
        outputs of the same dtypes and shapes.
    """
    graph = adapter.graph()
    _require(graph == adapter.graph(), "graph() returns a different graph at the second call")
    _check_order(graph)
    for operation in graph:
        _check_operation(graph, operation)
    _check_constants(adapter, graph)
    checked = list(Dataset.of(samples).samples(graph))
    outputs = [_check_run(adapter, graph, sample) for sample in checked]

    unchanged = adapter.emit(QuantizationPlan((), (), {}))
    _require(unchanged is not None, "emit() of a plan without quantizers returns None")
    if run_emitted is not None:
        for sample, expected in zip(checked, outputs, strict=True):
            _check_emitted(run_emitted(unchanged, sample), graph, expected)
    for sample, expected in zip(checked, outputs, strict=True):
        _check_runnable(adapter, graph, None, sample, expected)
    try:
        plan = make_plan(adapter, checked, progress=False)
    except NothingToQuantizeError:
        pass
    else:
        quantized = adapter.emit(plan)
        _require(quantized is not None, "emit() of a plan with quantizers returns None")
        returned: Mapping[str, Array] = adapter.runnable(plan)(checked[0])
        if run_emitted is not None:
            returned = run_emitted(quantized, checked[0])
            _check_emitted(returned, graph, None)
        _check_runnable(adapter, graph, plan, checked[0], returned)
    _require(graph == adapter.graph(), "graph() changes after run() and emit(); an adapter always shows the original")
    for sample, expected in zip(checked, outputs, strict=True):
        _require_close(adapter.run(sample, graph.outputs), expected, "run() after emit()")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AdapterError(message)


# Of the largest magnitude in a tensor. A runtime may fuse operations differently when other tensors are observed, which
# changes the order of sums; a wrong value is off by more.
_TOLERANCE = 1e-4


# Integers are rounded otherwise where a kernel is not fused, and a level is a larger step.
_TOLERANCE_OF_LEVELS = 5e-2


def _require_close(
    found: Mapping[str, Array], expected: Mapping[str, Array], where: str, tolerance: float = _TOLERANCE
) -> None:
    for name, value in expected.items():
        _require(
            name in found and found[name].shape == value.shape and _is_close(found[name], value, tolerance),
            f"{where} gives other values for {name!r} than before",
        )


def _is_close(found: Array, expected: Array, tolerance: float = _TOLERANCE) -> bool:
    if expected.dtype.name not in QUANTIZABLE_DTYPES:
        return bool(np.array_equal(found, expected))
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    largest = float(np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected)))
    return bool(np.allclose(found, expected, rtol=0, atol=tolerance * largest, equal_nan=True))


def _check_order(graph: QuantizationGraph) -> None:
    for name, tensor in graph.tensors.items():
        _require(name == tensor.name, f"tensors[{name!r}] is a tensor of another name, {tensor.name!r}")
    known = {name for name, tensor in graph.tensors.items() if tensor.constant}
    _require(bool(graph.inputs), "the graph has no inputs; a sample would be empty")
    for name in graph.inputs:
        _require(name in graph.tensors, f"input {name!r} is not among the graph's tensors")
        _require(name not in known, f"input {name!r} is a constant or is listed twice")
        known.add(name)
    for operation in graph:
        where = f"operation {operation.name!r}"
        for read in filter(None, operation.inputs):
            _require(read in graph.tensors, f"{where} reads {read!r}, which is not among the graph's tensors")
            _require(read in known, f"{where} reads {read!r} before any operation writes it: order is not topological")
        for written in filter(None, operation.outputs):
            _require(written in graph.tensors, f"{where} writes {written!r}, which is not among the graph's tensors")
            _require(
                written not in known, f"{where} writes {written!r}, which is an input, a constant or written before"
            )
            known.add(written)
    _require(bool(graph.outputs), "the graph has no outputs")
    for name in graph.outputs:
        _require(name in known, f"output {name!r} is written by no operation")


def _check_operation(graph: QuantizationGraph, operation: Operation) -> None:
    where = f"operation {operation.name!r} ({operation.type}, {operation.kind.name})"
    _require(bool(operation.name and operation.type), f"{where} has an empty name or type")
    _require(bool(operation.outputs), f"{where} has no outputs")
    for operand in operation.activations:
        in_range = 0 <= operand < len(operation.inputs)
        _require(in_range and bool(operation.inputs[operand]), f"{where}: activation operand {operand} does not exist")
    if operation.kind in _NEEDS_ACTIVATIONS:
        _require(bool(operation.activations), f"{where} names no activation operands; make it FLOAT")
    if operation.kind in (OperationKind.MOVE, OperationKind.ACTIVATION):
        _require(bool(operation.inputs and operation.inputs[0]), f"{where} has no first input")
    if operation.weight is not None:
        weight = operation.weight
        in_range = 0 <= weight.operand < len(operation.inputs)
        _require(
            in_range and operation.inputs[weight.operand] == weight.tensor,
            f"{where}: weight {weight.tensor!r} is not its operand {weight.operand}",
        )
        _require(graph.tensors[weight.tensor].constant, f"{where}: weight {weight.tensor!r} is not a constant")
        _require(weight.operand not in operation.activations, f"{where}: its weight is an activation operand as well")
        _check_axis(graph, weight.tensor, weight.channel_axis, f"{where}: channel axis of weight")
    if operation.bias is not None:
        bias = graph.tensors.get(operation.bias)
        _require(bias is not None and bias.constant, f"{where}: bias {operation.bias!r} is not a constant of the graph")
    for operand in operation.activations:
        _check_axis(graph, operation.inputs[operand], operation.input_channel_axis, f"{where}: input channel axis of")


def _check_axis(graph: QuantizationGraph, tensor: str, axis: int | None, where: str) -> None:
    shape = graph.tensors[tensor].shape
    if axis is not None and shape is not None:
        _require(0 <= axis < len(shape), f"{where} {tensor!r} is {axis}, but the tensor has {len(shape)} axes")


def _check_constants(adapter: ModelAdapter[Any], graph: QuantizationGraph) -> None:
    for name, tensor in graph.tensors.items():
        if tensor.constant:
            value = adapter.constant(name)
            _require(isinstance(value, np.ndarray), f"constant({name!r}) is not a NumPy array")
            _require_described(graph, name, value, f"constant({name!r})")
            _require(not value.flags.writeable, f"constant({name!r}) can be written to; return a read-only array")


def _require_described(graph: QuantizationGraph, name: str, value: Array, where: str) -> None:
    tensor = graph.tensors[name]
    if tensor.dtype is not None:
        _require(value.dtype.name == tensor.dtype, f"{where} has dtype {value.dtype.name}, stated is {tensor.dtype}")
    if tensor.shape is not None:
        agrees = len(tensor.shape) == value.ndim and all(
            stated in (None, length) for stated, length in zip(tensor.shape, value.shape, strict=True)
        )
        _require(agrees, f"{where} has shape {value.shape}, stated is {tensor.shape}")


def _observable(graph: QuantizationGraph) -> list[str]:
    """Activations that a plan may ask for, and everything that a caller may."""
    computed = [name for name in graph.producers if name and graph.tensors[name].dtype in QUANTIZABLE_DTYPES]
    return list(dict.fromkeys([*graph.inputs, *computed, *graph.outputs]))


def _check_run(adapter: ModelAdapter[Any], graph: QuantizationGraph, sample: Sample) -> Mapping[str, Array]:
    given = {name: value.copy() for name, value in sample.items()}
    _require(dict(adapter.run(sample, ())) == {}, "run() without taps returns something")
    taps = _observable(graph)
    values = {name: value.copy() for name, value in adapter.run(sample, taps).items()}
    _require_close(sample, given, "run() changes its sample: it")
    _require(set(values) == set(taps), f"run() does not return exactly the taps: {_differing(values, taps)}")
    for name in taps:
        _require(isinstance(values[name], np.ndarray), f"run() gives no NumPy array for {name!r}")
        _require_described(graph, name, values[name], f"tap {name!r}")
    for operation in graph:
        if operation.kind is OperationKind.MOVE and operation.inputs[0] in values:
            source = values[operation.inputs[0]]
            for output in operation.outputs:
                if output in values:
                    moved = bool(np.isin(values[output], source).all())
                    _require(moved, f"operation {operation.name!r} is MOVE, but {output!r} has values not in its input")
    if isinstance(adapter, ReducingAdapter):
        _check_reductions(adapter, graph, sample)
    some = taps[::2]
    _require_close(adapter.run(sample, some), {name: values[name] for name in some}, "run() with fewer taps")
    return {name: values[name] for name in graph.outputs}


def _check_runnable(
    adapter: ModelAdapter[Any],
    graph: QuantizationGraph,
    plan: QuantizationPlan | None,
    sample: Sample,
    expected: Mapping[str, Array],
) -> None:
    """What is runnable computes what is expected of the whole: at once, and in two parts at each of some cuts."""
    what = "runnable()" if plan is None else "runnable() of a plan"
    whole = adapter.runnable(plan)
    _require(whole.inputs == graph.inputs, f"{what} reads {whole.inputs}, and the graph's inputs are {graph.inputs}")
    _require(
        whole.outputs == graph.outputs, f"{what} returns {whole.outputs}, and the graph's outputs are {graph.outputs}"
    )
    _require_close(whole(sample), expected, what)
    _require_refused(DataError, lambda: whole({}), f"{what} runs without inputs")
    nowhere = "no tensor has this name"
    for names in ({"inputs": [nowhere]}, {"outputs": [nowhere]}):
        _require_refused(
            ParameterError, functools.partial(adapter.runnable, plan, **names), f"{what} takes {names} for tensors"
        )
    tolerance = _TOLERANCE if plan is None else _TOLERANCE_OF_LEVELS
    for cut, behind in _cuts(graph):
        before = adapter.runnable(plan, outputs=[*cut, *(o for o in graph.outputs if o not in behind)])
        found = {name: value.copy() for name, value in before(sample).items()}
        if behind:
            after = adapter.runnable(plan, inputs=cut, outputs=behind)
            found.update(after({name: found[name] for name in cut}))
        _require_close(found, expected, f"{what}, cut at {', '.join(cut)},", tolerance)


# Of a large model a few cuts tell as much as all.
_MAX_CUTS = 8


def _cuts(graph: QuantizationGraph) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Tensors that are alive behind some operation, and the outputs that are computed from them."""
    last_read = {tensor: index for index, operation in enumerate(graph) for tensor in operation.inputs}
    alive, behind = list(graph.inputs), [name for name in graph.outputs if name in graph.producers]
    cuts = []
    for index, operation in enumerate(graph):
        alive = [name for name in (*alive, *operation.outputs) if last_read.get(name, -1) > index and name]
        behind = [name for name in behind if name not in operation.outputs]
        if alive:
            cuts.append((tuple(alive), tuple(behind)))
    return cuts[:: max(1, len(cuts) // _MAX_CUTS)]


def _require_refused(error: type[Exception], call: Callable[[], object], message: str) -> None:
    try:
        call()
    except error:
        return
    raise AdapterError(f"{message}; it must raise {error.__name__}")


def _check_reductions(adapter: ReducingAdapter, graph: QuantizationGraph, sample: Sample) -> None:
    computed = [name for name in graph.producers if name and graph.tensors[name].dtype == "float32"]
    known = [name for name in computed if graph.tensors[name].shape]
    for reductions in (dict.fromkeys(computed), {name: _but_first(graph, name) for name in known}):
        # Tapping a tensor as well must not change it, and makes the bits comparable.
        values, extrema = adapter.run_reduced(sample, computed, reductions)
        _require(set(extrema) == set(reductions), "run_reduced() does not return exactly the extrema asked for")
        for name, axes in reductions.items():
            value, found = values[name], extrema[name]
            finite = bool(np.isfinite(value).all())
            _require(not found.finite or finite, f"run_reduced() calls {name!r} finite, but it holds NaN or Inf")
            if finite:
                _require(
                    np.array_equal(found.minimum, value.min(axes, keepdims=True))
                    and np.array_equal(found.maximum, value.max(axes, keepdims=True)),
                    f"run_reduced() gives other extrema for {name!r} than the tensor has",
                )


def _but_first(graph: QuantizationGraph, tensor: str) -> tuple[int, ...] | None:
    shape = graph.tensors[tensor].shape
    return None if shape is None or len(shape) < 2 else tuple(range(1, len(shape)))


def _check_emitted(values: Mapping[str, Array], graph: QuantizationGraph, expected: Mapping[str, Array] | None) -> None:
    _require(
        set(values) == set(graph.outputs), f"an emitted model has other outputs: {_differing(values, graph.outputs)}"
    )
    for name in graph.outputs:
        _require_described(graph, name, values[name], f"output {name!r} of an emitted model")
        if expected is not None:
            close = _is_close(values[name], expected[name])
            _require(close, f"output {name!r} of the model emitted from an empty plan differs from the original's")


def _differing(found: Iterable[str], wanted: Iterable[str]) -> str:
    found, wanted = set(found), set(wanted)
    return f"missing {sorted(wanted - found)}, not asked for {sorted(found - wanted)}"
