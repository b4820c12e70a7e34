"""Where quantizers go: from a graph and the user's wishes to a plan without numbers.

The unit of decision is the tensor. Operations that an integer kernel pays for by itself (convolutions, matrix
multiplications) are quantized first; additions, poolings and concatenations follow where they lie between quantized
operations. Then every tensor that a quantized operation reads gets one quantizer, placed where the values are computed:
behind the activation function that belongs to the producer, before operations that only move data.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property

from quantstats.advanced_parameters import OverflowFix, QuantizationParameters
from quantstats.errors import NothingToQuantizeError
from quantstats.overflow.pairing import Pairing, find_pairing
from quantstats.parameters import IgnoredScope, ModelType, QuantizationMode, QuantizationPreset, TargetDevice
from quantstats.ptq.graph import Operation, OperationKind, Port, QuantizationGraph
from quantstats.ptq.ignored_scope import ignored_operations
from quantstats.ptq.plan import ActivationQuantizer, Decision, Place, QuantizationPlan, WeightQuantizer
from quantstats.ptq.schemes import Schemes, resolve_schemes
from quantstats.quantizer import QuantizerConfig

QUANTIZABLE_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})

_CONVOLUTIONS = frozenset({OperationKind.CONVOLUTION, OperationKind.TRANSPOSED_CONVOLUTION})
_LEADERS = _CONVOLUTIONS | {OperationKind.MATMUL}
_FLOAT = frozenset({OperationKind.FLOAT, OperationKind.SOFTMAX})
_FOLLOWERS = frozenset({OperationKind.ELEMENTWISE, OperationKind.POOLING, OperationKind.CONCAT})


def place(
    graph: QuantizationGraph,
    *,
    preset: QuantizationPreset | None = None,
    model_type: ModelType | None = None,
    overflow_fix: OverflowFix | None = None,
    activations: QuantizationParameters | None = None,
    weights: QuantizationParameters | None = None,
    quantize_outputs: bool = False,
    ignored_scope: IgnoredScope | None = None,
    target_device: TargetDevice = TargetDevice.ANY,
    overflow_pairing: str | Pairing = "any",
) -> QuantizationPlan:
    """Decide which operations are quantized and where quantizers act.

    :param graph: The model.
    :param preset: ``None`` takes ``mixed`` for transformers, else ``performance``.
    :param model_type: The family of the model. In a transformer additions, multiplications and poolings stay in
        floating point, as does the product of attention weights and values; what else enters a product of two
        activations is symmetric, unless ``activations`` names a mode.
    :param overflow_fix: Which weights are kept from saturating 16-bit sums, and how; ``None`` takes the default of the
        bit widths and the target.
    :param activations: What the user asks of activation quantizers. With ``per_channel``, a tensor gets a scale per
        channel where every quantized reader names the same channel axis and no operation moves the data in between;
        elsewhere one scale.
    :param weights: What the user asks of weight quantizers.
    :param quantize_outputs: Quantize the model's floating-point outputs, too.
    :param ignored_scope: Operations that stay in floating point.
    :param target_device: The CPU that will run the model.
    :param overflow_pairing: Which weights the runtime adds up in pairs, for the overflow fix AUTO.
    :return: A plan whose quantizers have no numbers yet.
    :raises ParameterError: if the overflow fix does not go with the weights' parameters.
    :raises IgnoredScopeError: if a rule of the scope matches nothing.
    :raises NothingToQuantizeError: if no operation is left to quantize.
    """
    schemes = resolve_schemes(
        preset=preset,
        model_type=model_type,
        overflow_fix=overflow_fix,
        activations=activations,
        weights=weights,
        target_device=target_device,
    )
    pairing = find_pairing(overflow_pairing) if schemes.overflow_fix is OverflowFix.AUTO else None
    ignored = ignored_operations(graph, ignored_scope)
    placement = _Placement(graph, ignored, quantize_outputs, model_type is ModelType.TRANSFORMER)
    if not placement.quantized:
        raise NothingToQuantizeError(_nothing_to_quantize(graph, placement.decisions))
    products = schemes.activations
    if placement.transformer and (activations is None or activations.mode is None):
        products = dataclasses.replace(products, mode=QuantizationMode.SYMMETRIC)
    return QuantizationPlan(
        activations=tuple(_activation_quantizers(graph, placement, schemes.activations, products)),
        weights=tuple(_weight_quantizers(graph, placement, schemes, pairing)),
        decisions=placement.decisions,
    )


class _Placement:
    """Which operations of a graph run on integers, and which tensors carry quantized values."""

    def __init__(
        self, graph: QuantizationGraph, ignored: Mapping[str, str], quantize_outputs: bool, transformer: bool
    ) -> None:
        self.graph = graph
        self.ignored = ignored
        self.transformer = transformer
        self.quantized_outputs = {
            tensor
            for tensor in graph.outputs
            if quantize_outputs and tensor in graph.producers and self._is_float(tensor)
        }
        self._outputs = set(graph.outputs)
        self._reasons: dict[str, str] = {}
        self.quantized: set[str] = set()
        self._choose_leaders()
        self.embeddings = frozenset(operation.name for operation in graph if self._has_integer_table(operation))
        self.owner = self._find_owners()
        self._choose_followers()
        self.integer_ports = frozenset(
            Port(operation.name, operand)
            for operation in graph
            if operation.name in self.quantized
            for operand in self._integer_operands(operation)
        )
        self.forced = self._find_forced()
        self.passing = self._find_passing()

    # -- which operations ----------------------------------------------------------------------------------------

    def _choose_leaders(self) -> None:
        for operation in self.graph:
            if operation.kind in _LEADERS and self._is_possible(operation):
                self.quantized.add(operation.name)

    def _choose_followers(self) -> None:
        """Start from all followers and drop those that do not pay until none is left to drop.

        Dropping only ever takes support away from others, so the result does not depend on the order.
        """
        followers = [
            operation for operation in self.graph if operation.kind in _FOLLOWERS and self._is_possible(operation)
        ]
        leaders = frozenset(self.quantized)
        self.quantized.update(operation.name for operation in followers)
        dropped = True
        while dropped:
            dropped = False
            for operation in (*followers, *reversed(followers)):  # both ways: a chain falls in one sweep
                if operation.name in self.quantized:
                    reason = self._why_follower_stays(operation, leaders)
                    if reason is not None:
                        self.quantized.discard(operation.name)
                        self._reasons[operation.name] = reason
                        dropped = True

    def _has_integer_table(self, operation: Operation) -> bool:
        """Whether this looks up a table that is stored as integers. What it gives is in floating point all the same."""
        return (
            operation.kind is OperationKind.EMBEDDING
            and operation.name not in self.ignored
            and operation.weight is not None
            and self._is_float(operation.weight.tensor)
        )

    def _is_possible(self, operation: Operation) -> bool:
        """Whether nothing forbids an integer kernel; the reason is noted otherwise."""
        reason = self._obstacle(operation)
        if reason is not None:
            self._reasons[operation.name] = reason
        return reason is None

    def _obstacle(self, operation: Operation) -> str | None:
        if operation.name in self.ignored:
            return f"ignored by scope: {self.ignored[operation.name]}"
        if not operation.activations:
            return f"no integer kernel for this {operation.type}"
        if operation.kind in _CONVOLUTIONS and operation.weight is None:
            return "its weight is not a constant"
        if operation.kind is OperationKind.MATMUL and operation.weight is None and len(operation.activations) < 2:
            return "its second operand is neither a constant nor an activation"
        if self.transformer:
            if operation.kind in (OperationKind.ELEMENTWISE, OperationKind.POOLING):
                bias_of = self.owner.get(operation.name)
                needs = f"in a transformer, {operation.type} needs the precision of floating point"
                return needs if bias_of is None else _as_bias(bias_of)
            if self.is_product_of_activations(operation) and self._weighs_by_softmax(operation):
                return "in a transformer, what a softmax weighs needs the precision of floating point"
        operands = [operation.inputs[operand] for operand in self._integer_operands(operation)]
        if operation.weight is not None and operation.kind in _LEADERS:
            operands.append(operation.weight.tensor)
        for tensor in (*operands, *operation.outputs[:1]):
            if not self._is_float(tensor):
                described = self.graph.tensors.get(tensor)
                dtype = described.dtype if described is not None else None
                return f"{tensor!r} has " + (f"element type {dtype}" if dtype else "no known element type")
        return None

    @staticmethod
    def is_product_of_activations(operation: Operation) -> bool:
        """Whether this multiplies two activations, as an attention does twice."""
        return operation.kind is OperationKind.MATMUL and operation.weight is None

    def _weighs_by_softmax(self, operation: Operation) -> bool:
        for operand in operation.activations:
            tensor = operation.inputs[operand]
            while (mover := self._mover(tensor)) is not None:
                tensor = mover.inputs[0]
            producer = self.graph.producers.get(tensor)
            if producer is not None and producer.kind is OperationKind.SOFTMAX:
                return True
        return False

    def _why_follower_stays(self, operation: Operation, leaders: frozenset[str]) -> str | None:
        bias_of = self.owner.get(operation.name)
        if bias_of is not None:
            return _as_bias(bias_of)
        for operand in self._integer_operands(operation):
            tensor = operation.inputs[operand]
            if not self._is_integer_anyway(tensor, leaders):
                source = self._source(tensor)
                producer = self.graph.producers.get(source)
                whence = f"computed by {producer.name} ({producer.type})" if producer else "a model input"
                return f"its input {tensor!r} is {whence} in floating point"
        if not self._feeds_quantized(operation):
            return "its output is read only in floating point"
        return None

    def _is_integer_anyway(self, tensor: str, leaders: frozenset[str]) -> bool:
        """Whether a tensor comes from a quantized operation, or carries a quantizer for another reader's sake."""
        source = self._source(tensor)
        producer = self.graph.producers.get(source)
        if self._is_constant(source) or (producer is not None and producer.name in self.quantized):
            return True
        root = tensor
        while (mover := self._mover(root)) is not None:
            root = mover.inputs[0]
        for moved in self._downstream(root, through=frozenset({OperationKind.MOVE})):
            for port in self.graph.readers.get(moved, ()):
                if port.operation in leaders and port.operand in self.graph.operation(port.operation).activations:
                    return True
        return False

    def _feeds_quantized(self, operation: Operation) -> bool:
        through = frozenset({OperationKind.MOVE, OperationKind.ACTIVATION})
        for output in operation.outputs:
            for tensor in self._downstream(output, through=through):
                for port in self.graph.readers.get(tensor, ()):
                    if port.operation in self.quantized and port.operand in self._integer_operands(
                        self.graph.operation(port.operation)
                    ):
                        return True
        return False

    def _integer_operands(self, operation: Operation) -> tuple[int, ...]:
        """Operands that an integer kernel reads through an activation quantizer.

        A follower reads all its floating-point operands that way: one that is constant needs a scale just as well.
        """
        if operation.kind not in _FOLLOWERS:
            return operation.activations
        constants = {
            operand
            for operand, tensor in enumerate(operation.inputs)
            if tensor and self._is_constant(tensor) and self._is_float(tensor)
        }
        return tuple(sorted(constants.union(operation.activations)))

    # -- how values flow -----------------------------------------------------------------------------------------

    def _is_constant(self, tensor: str) -> bool:
        described = self.graph.tensors.get(tensor)
        return described is not None and described.constant

    def _is_float(self, tensor: str) -> bool:
        described = self.graph.tensors.get(tensor)
        return described is not None and described.dtype in QUANTIZABLE_DTYPES

    def _mover(self, tensor: str) -> Operation | None:
        """The operation that only moved this tensor's values here, if there is one."""
        producer = self.graph.producers.get(tensor)
        return producer if producer is not None and producer.kind is OperationKind.MOVE else None

    def _source(self, tensor: str) -> str:
        """The tensor at which the arithmetic that made these values ended: before moves, clamps, float biases."""
        while (producer := self.graph.producers.get(tensor)) is not None:
            if producer.kind in (OperationKind.MOVE, OperationKind.ACTIVATION):
                tensor = producer.inputs[0]
            elif producer.kind is OperationKind.ELEMENTWISE and producer.name in self.owner:
                tensor = self._bias_input(producer)
            else:
                break
        return tensor

    def _downstream(self, tensor: str, *, through: frozenset[OperationKind]) -> Iterator[str]:
        """A tensor and those that operations of some kinds make of it as their first input."""
        waiting, seen = [tensor], {tensor}
        while waiting:
            current = waiting.pop()
            yield current
            for port in self.graph.readers.get(current, ()):
                reader = self.graph.operation(port.operation)
                if reader.kind in through and port.operand == 0:
                    fresh = [output for output in reader.outputs if output and output not in seen]
                    seen.update(fresh)
                    waiting.extend(fresh)

    def _sole_reader(self, tensor: str) -> Operation | None:
        ports = self.graph.readers.get(tensor, ())
        if len(ports) != 1 or tensor in self._outputs:
            return None
        return self.graph.operation(ports[0].operation)

    def _bias_input(self, operation: Operation) -> str:
        return next(operation.inputs[o] for o in operation.activations if not self._is_constant(operation.inputs[o]))

    def _is_float_bias(self, operation: Operation, producer: Operation) -> bool:
        """Whether this adds a constant to (or scales) a matrix product that its kernel leaves in floating point.

        An integer addition would round the product to 8 bits first, and save nothing.
        """
        return (
            operation.kind is OperationKind.ELEMENTWISE
            and producer.kind is OperationKind.MATMUL
            and producer.name in self.quantized
            and not producer.needs_output_quantizer
            and sum(bool(tensor) and not self._is_constant(tensor) for tensor in operation.inputs) == 1
        )

    def _find_owners(self) -> dict[str, str]:
        """Operations that are computed as part of a quantized one: clamps and floating-point biases, by its name."""
        owner: dict[str, str] = {}
        for operation in self.graph:
            if operation.kind in _LEADERS | _FOLLOWERS and operation.name not in owner:
                current = operation
                while (reader := self._sole_reader(current.outputs[0])) is not None and reader.name not in self.ignored:
                    clamps = reader.kind is OperationKind.ACTIVATION and reader.inputs[0] == current.outputs[0]
                    if not clamps and not (current is operation and self._is_float_bias(reader, operation)):
                        break
                    owner[reader.name] = operation.name
                    current = reader
        return owner

    def _effective_output(self, operation: Operation) -> str:
        """The tensor behind the operations that this one owns."""
        tensor = operation.outputs[0]
        while (reader := self._sole_reader(tensor)) is not None and self.owner.get(reader.name) == operation.name:
            tensor = reader.outputs[0]
        return tensor

    # -- where quantizers act ------------------------------------------------------------------------------------

    def _find_forced(self) -> frozenset[str]:
        """Outputs that must be quantized for their producer to have an integer kernel."""
        return frozenset(
            self._effective_output(operation)
            for operation in self.graph
            if operation.name in self.quantized and operation.needs_output_quantizer
        )

    def _find_passing(self) -> frozenset[str]:
        """Operations that move integers.

        A move does so if some reader behind it wants integers and none wants floating point. Behind a forced
        quantizer there is no floating-point version to keep, so one reader that wants integers is enough.
        """
        passing: set[str] = set()
        moves = [operation for operation in self.graph if self._can_pass(operation)]
        holds_quantized = set(self.forced)
        for operation in moves:
            if operation.inputs[0] in holds_quantized:
                holds_quantized.update(operation.outputs)
        for operation in reversed(moves):
            wanted = mixed = False
            for output in operation.outputs:
                for port in self.graph.readers.get(output, ()):
                    integer = port in self.integer_ports or (port.operation in passing and port.operand == 0)
                    wanted |= integer
                    mixed |= not integer
                if output in self._outputs:
                    wanted |= output in self.quantized_outputs
                    mixed |= output not in self.quantized_outputs
            if wanted and (not mixed or operation.inputs[0] in holds_quantized):
                passing.add(operation.name)
        return frozenset(passing)

    def _can_pass(self, operation: Operation) -> bool:
        return (
            operation.kind is OperationKind.MOVE
            and operation.name not in self.ignored
            and all(self._is_float(tensor) for tensor in (operation.inputs[0], *operation.outputs))
        )

    def root(self, tensor: str) -> str:
        """The tensor whose quantizer serves this one."""
        while (mover := self._mover(tensor)) is not None and mover.name in self.passing:
            tensor = mover.inputs[0]
        return tensor

    @cached_property
    def roots(self) -> list[str]:
        """Every tensor that gets a quantizer of its own: model inputs, constants, then in topological order."""
        found = {self.root(self.graph.operation(port.operation).inputs[port.operand]) for port in self.integer_ports}
        found |= {self.root(tensor) for tensor in self.quantized_outputs}
        # A forced output that nothing reads is a dead end of the model: no quantizer.
        found |= {tensor for tensor in self.forced if tensor in self.graph.readers or tensor in self._outputs}
        order = [*self.graph.inputs, *self.graph.readers]
        order += [output for operation in self.graph for output in operation.outputs]
        computed = set(self.graph.producers)
        rank: dict[str, tuple[bool, int]] = {}
        for index, tensor in enumerate(order):
            if tensor not in computed:
                rank.setdefault(tensor, (False, index))
            else:
                rank[tensor] = (True, index)
        return sorted(found, key=rank.__getitem__)

    def places(self, root: str) -> tuple[Place, ...]:
        """Where the quantizer of a root tensor acts."""
        forced = root in self.forced
        found: list[Place] = []
        waiting = [root]
        while waiting:
            tensor = waiting.pop(0)
            readers: list[Port] = []
            for port in self.graph.readers.get(tensor, ()):
                passes = port.operation in self.passing and port.operand == 0
                if passes:
                    waiting.extend(self.graph.operation(port.operation).outputs)
                if forced or passes or port in self.integer_ports:
                    readers.append(port)
            model_output = tensor in self._outputs and (forced or tensor in self.quantized_outputs)
            if readers or model_output:
                found.append(Place(tensor, tuple(readers), model_output))
        return tuple(found)

    # -- in words ------------------------------------------------------------------------------------------------

    @cached_property
    def decisions(self) -> Mapping[str, Decision]:
        """A decision for every operation that computes; those that only move data, or make no floats, have none."""
        decisions: dict[str, Decision] = {}
        for operation in self.graph:
            computes = operation.kind is not OperationKind.MOVE and any(map(self._is_float, operation.outputs))
            if computes or operation.kind in _LEADERS | _FOLLOWERS:
                decisions[operation.name] = self._decide(operation)
        return decisions

    def _decide(self, operation: Operation) -> Decision:
        name = operation.name
        if name in self.quantized:
            if operation.kind in _FOLLOWERS:
                return Decision(True, "lies between quantized operations")
            if operation.weight is not None:
                return Decision(True, "integer weight and activations")
            return Decision(True, "integer operands")
        if name in self.embeddings:
            return Decision(True, "integer table, looked up and then dequantized")
        if name in self._reasons:
            return Decision(False, self._reasons[name])
        if name in self.ignored:
            return Decision(False, f"ignored by scope: {self.ignored[name]}")
        if operation.kind is OperationKind.ACTIVATION:
            owner = self.owner.get(name)
            if owner is None:
                return Decision(False, "no integer operation to compute it with")
            return Decision(owner in self.quantized, f"computed with {owner}")
        for tensor in operation.inputs:
            producer = self.graph.producers.get(tensor)
            if producer is not None and producer.bias is not None and producer.bias in operation.inputs:
                return Decision(False, _as_bias(producer.name))
        # The same type may be an integer operation elsewhere, with other operands or attributes.
        this = "this " if operation.type in self._integer_types else ""
        return Decision(False, f"no integer kernel for {this}{operation.type}")

    @cached_property
    def _integer_types(self) -> frozenset[str]:
        return frozenset(operation.type for operation in self.graph if operation.kind not in _FLOAT)


def _as_bias(producer: str) -> str:
    return f"follows {producer} in floating point, as a bias does"


def _activation_quantizers(
    graph: QuantizationGraph, placement: _Placement, config: QuantizerConfig, of_products: QuantizerConfig
) -> Iterator[ActivationQuantizer]:
    """Quantizers of activations; ``of_products`` configures those that a product of two activations reads."""
    for tensor in placement.roots:
        places = placement.places(tensor)
        axis = _common_channel_axis(graph, placement, places) if config.per_channel else None
        readers = [
            graph.operation(port.operation) for p in places for port in p.readers if port in placement.integer_ports
        ]
        own = of_products if any(map(placement.is_product_of_activations, readers)) else config
        yield ActivationQuantizer(tensor, places, dataclasses.replace(own, per_channel=axis is not None), axis)


def _common_channel_axis(graph: QuantizationGraph, placement: _Placement, places: tuple[Place, ...]) -> int | None:
    if len(places) != 1:
        return None
    ports = [port for port in places[0].readers if port in placement.integer_ports]
    axes = {graph.operation(port.operation).input_channel_axis for port in ports}
    return axes.pop() if len(axes) == 1 else None


def _weight_quantizers(
    graph: QuantizationGraph, placement: _Placement, schemes: Schemes, pairing: Pairing | None
) -> Iterator[WeightQuantizer]:
    readers: dict[tuple[str, int | None], list[Port]] = {}
    for operation in graph:
        if operation.weight is not None and operation.name in placement.quantized | placement.embeddings:
            axis = operation.weight.channel_axis if schemes.weights.per_channel else None
            readers.setdefault((operation.weight.tensor, axis), []).append(
                Port(operation.name, operation.weight.operand)
            )
    halved = {
        (tensor, axis)
        for (tensor, axis), ports in readers.items()
        if any(_is_half_range(graph, graph.operation(port.operation), schemes.overflow_fix) for port in ports)
    }
    for (tensor, axis), ports in readers.items():
        config = dataclasses.replace(schemes.weights, per_channel=axis is not None)
        # Nothing is multiplied by a table that is only looked up.
        multiplied = any(port.operation in placement.quantized for port in ports)
        yield WeightQuantizer(
            tensor,
            tuple(ports),
            config,
            axis,
            (tensor, axis) in halved,
            pairing=pairing if multiplied else None,
        )


def _is_half_range(graph: QuantizationGraph, operation: Operation, overflow_fix: OverflowFix) -> bool:
    if operation.kind not in _LEADERS:
        return False
    if overflow_fix is OverflowFix.ENABLE:
        return True
    if overflow_fix is not OverflowFix.FIRST_LAYER or operation.kind not in _CONVOLUTIONS:
        return False
    for operand in operation.activations:
        tensor = operation.inputs[operand]
        while (producer := graph.producers.get(tensor)) is not None and producer.kind is OperationKind.MOVE:
            tensor = producer.inputs[0]
        if tensor in graph.inputs:
            return True
    return False


def _nothing_to_quantize(graph: QuantizationGraph, decisions: Mapping[str, Decision]) -> str:
    leaders = [operation for operation in graph if operation.kind in _LEADERS]
    if not leaders:
        return (
            "the model has nothing to quantize: no convolution and no matrix multiplication among its "
            f"{len(graph.operations)} operations; keep the floating-point model"
        )
    reasons = Counter(decisions[operation.name].reason for operation in leaders).most_common(3)
    return (
        f"nothing is left to quantize: all {len(leaders)} convolutions and matrix multiplications stay in floating "
        f"point ({'; '.join(f'{count} x {reason}' for reason, count in reasons)}); narrow the ignored scope"
    )
