"""The report on a quantized model: which layers can saturate, how much that would cost, and what each remedy costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantstats.errors import ParameterError
from quantstats.overflow.certificate import certify_rows
from quantstats.overflow.layers import IntegerLayer
from quantstats.overflow.layout import check_u_max
from quantstats.overflow.pairing import (
    AnyPairs,
    BlockPairs,
    NoPairs,
    Pairing,
    PairRule,
    find_pairing,
    pair_limits,
)
from quantstats.overflow.safe_scale import least_safe_scales

if TYPE_CHECKING:
    from quantstats.statistics.calibration import CalibrationStatistics

__all__ = ["LayerReport", "OverflowReport", "analyze"]

# Bins of an activation's distribution, from which the levels are counted.
_BINS = 4096
# Half range writes max(abs(w)) as level 63.5, full range as 127.
_HALF_LEVELS, _FULL_LEVELS = 63.5, 127.0


@dataclass(frozen=True)
class LayerReport:
    """One layer that multiplies bytes.

    :param name: of the operation.
    :param type: of the operation.
    :param kind: of the layer, which decides how products are paired.
    :param safe: proven: no input saturates a pair.
    :param reason: why, in words for a person.
    :param outputs: output channels.
    :param outputs_at_risk: those in which some input saturates a pair.
    :param pairs: of all outputs.
    :param pairs_at_risk: pairs that some input saturates.
    :param worst_case: what the worst pair adds up to before it is forced into 16 bits.
    :param u_max: the greatest activation as an unsigned byte.
    :param observed_u_max: the greatest one in the statistics, ``None`` without.
    :param safe_as_observed: whether no activation up to that saturates a pair, ``None`` without statistics. It proves
        nothing about other data.
    :param predicted_sqnr_db: of the layer's output, by saturation alone, if activations are independent draws from the
        distribution in the statistics; infinite for a safe layer, ``None`` without statistics.
    :param weight_sqnr_db: by remedy (``"full"``, ``"half"``, ``"any"``, ``"adjacent"`` and the pairing in question),
        the SQNR of the weights if rounding noise is uniform, which is a twelfth of the square of the scale.
    """

    name: str
    type: str
    kind: str
    safe: bool
    reason: str
    outputs: int = 0
    outputs_at_risk: int = 0
    pairs: int = 0
    pairs_at_risk: int = 0
    worst_case: int = 0
    u_max: int = 255
    observed_u_max: int | None = None
    safe_as_observed: bool | None = None
    predicted_sqnr_db: float | None = None
    weight_sqnr_db: Mapping[str, float] | None = None


@dataclass(frozen=True)
class OverflowReport:
    """All layers of a model that multiply bytes, in topological order.

    :param pairing: name of the pairing under which they were certified.
    :param layers: a row per layer.
    """

    pairing: str
    layers: tuple[LayerReport, ...]

    @property
    def safe(self) -> bool:
        """Whether no input can saturate any layer."""
        return all(layer.safe for layer in self.layers)

    @property
    def at_risk(self) -> tuple[LayerReport, ...]:
        """The layers that some input can saturate."""
        return tuple(layer for layer in self.layers if not layer.safe)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; infinite values become ``None``."""
        found: dict[str, Any] = _finite(asdict(self))
        return {"safe": self.safe, **found}


def analyze(
    model: Any,
    statistics: CalibrationStatistics | None = None,
    *,
    pairing: str | Pairing = "any",
    u_max: int | None = None,
) -> OverflowReport:
    """Certify every layer of a quantized model, whoever made it: quantstats, onnxruntime or nncf.

    :param model: a quantized ONNX model: a path, an ``onnx.ModelProto`` or an ``onnx_ir.Model``, in QDQ form or of
        integer operators.
    :param statistics: of the floating-point model, to say what its data reach. They bound no other data, so they do not
        make a layer safe.
    :param pairing: which weights are pairs, a name of `PAIRINGS` or a `Pairing`.
    :param u_max: a bound on all activations, as unsigned bytes, that is known from elsewhere.
    :raises ParameterError: an argument is malformed.
    :raises ModelError: the model cannot be read.
    """
    from quantstats.adapters.onnx.integer_layers import QuantizedGraph, quantized_model

    found = find_pairing(pairing)
    bound = 255 if u_max is None else check_u_max(u_max)
    graph = QuantizedGraph(quantized_model(model))
    layers = (_report(node.layer, found, bound, statistics) for node in graph.nodes)
    return OverflowReport(found.name, tuple(layers))


def _report(layer: IntegerLayer, pairing: Pairing, bound: int, statistics: CalibrationStatistics | None) -> LayerReport:
    rule = pairing.rule(layer.kind)
    about: dict[str, Any] = {"name": layer.name, "type": layer.type, "kind": str(layer.kind)}
    u_max = min(layer.u_max, bound)
    if not layer.signed:
        return LayerReport(**about, safe=True, reason="both operands are unsigned", u_max=u_max)
    if isinstance(rule, NoPairs):
        return LayerReport(**about, safe=True, reason="products are added one by one", u_max=u_max)
    if layer.weight is None:
        safe = pair_limits(u_max)[1] >= 256
        reason = "activations are too small" if safe else "a product of two activations has no weights to prove it from"
        return LayerReport(**about, safe=safe, reason=reason, u_max=u_max)
    rows = layer.rows(layer.weight)
    certificate = certify_rows(rows, rule, max(u_max, 1), name=pairing.name, count_pairs=True)
    assert certificate.pairs_at_risk is not None
    at_risk = int(np.count_nonzero(~certificate.safe))
    worst = certificate.worst_case.reshape(-1)
    report = LayerReport(
        **about,
        safe=at_risk == 0,
        reason=_reason(at_risk, certificate.safe.size, u_max),
        outputs=certificate.safe.size,
        outputs_at_risk=at_risk,
        pairs=certificate.num_pairs * certificate.safe.size,
        pairs_at_risk=int(certificate.pairs_at_risk.sum()),
        worst_case=int(worst[np.argmax(np.abs(worst))]),
        u_max=u_max,
        weight_sqnr_db=_weight_sqnr(layer, pairing, u_max),
    )
    distribution = _levels(layer, statistics)
    if distribution is None:
        return report
    observed = min(int(np.flatnonzero(distribution)[-1]), u_max)
    limits = pair_limits(max(observed, 1))
    sums = certificate.worst_sum
    predicted = _predicted_sqnr(layer, rule, distribution) if at_risk else float("inf")
    return LayerReport(
        **{
            **vars(report),
            "observed_u_max": observed,
            "safe_as_observed": bool(np.all((sums <= limits[0]) & (-sums <= limits[1]))),
            "predicted_sqnr_db": predicted,
        }
    )


def _reason(at_risk: int, outputs: int, u_max: int) -> str:
    if at_risk:
        return f"some input saturates {at_risk} of {outputs} outputs"
    above, below = pair_limits(max(u_max, 1))
    if below >= 256:
        return f"activations up to {u_max} are too small"
    return f"no pair of weights sums to more than {min(above, below)}"


def _weight_sqnr(layer: IntegerLayer, pairing: Pairing, u_max: int) -> dict[str, float]:
    """What each remedy leaves of the weights, if rounding noise is uniform."""
    real = layer.real_weight()
    rows = layer.rows(real)
    largest = np.max(np.abs(rows.rows), axis=1)
    if layer.weight_axis is None:
        largest = np.full_like(largest, largest.max())
    full = np.maximum(largest / np.float32(_FULL_LEVELS), np.finfo(np.float32).tiny)
    scales = {"full": full, "half": largest / np.float32(_HALF_LEVELS)}
    rules = {"any": AnyPairs(), "adjacent": find_pairing("adjacent").rule(layer.kind)}
    rules[pairing.name] = pairing.rule(layer.kind)
    for name, rule in rules.items():
        scale = least_safe_scales(rows, rule, max(u_max, 1), full, -127, 127)
        scales[name] = np.full_like(scale, scale.max()) if layer.weight_axis is None else scale
    signal = float(np.mean(np.square(rows.rows, dtype=np.float64)))
    return {
        name: _db(signal, float(np.mean(np.square(scale, dtype=np.float64))) / 12) for name, scale in scales.items()
    }


def _levels(layer: IntegerLayer, statistics: CalibrationStatistics | None) -> NDArray[np.float64] | None:
    """How the activations are distributed over the unsigned levels 0 to 255; ``None`` if that is not known."""
    if statistics is None or layer.activation_scale is None or layer.activation_zero_point is None:
        return None
    tensor = next((name for name in layer.activations if name in statistics), None)
    if tensor is None:
        return None
    histogram = statistics[tensor].histogram
    if histogram.total == 0:
        raise ParameterError(f"the statistics of tensor {tensor!r} have no values; calibrate again")
    centers = histogram.minimum + (np.arange(_BINS) + 0.5) / _BINS * (histogram.maximum - histogram.minimum)
    # The ends are values that came, whatever the width of a bin.
    centers[0], centers[-1] = histogram.minimum, histogram.maximum
    levels = np.rint(centers / float(layer.activation_scale)) + layer.activation_zero_point
    levels = np.clip(levels, 0, layer.u_max).astype(np.int64)
    return np.bincount(levels, weights=histogram.uniform(_BINS), minlength=256) / histogram.total


def _predicted_sqnr(layer: IntegerLayer, rule: PairRule, distribution: NDArray[np.float64]) -> float | None:
    """Signal to saturation noise of the sums, for activations that are independent draws from a distribution."""
    if not isinstance(rule, BlockPairs) or layer.weight is None:
        return None
    rows = layer.rows(layer.weight)
    paired = rows.arranged(rule.partners(rows.channels, rows.spatial)).astype(np.int64)
    first, second = paired[:, ::2], paired[:, 1::2]
    # Every different pair of weights once: few of 65,536 are at risk.
    code = (np.minimum(first, second) + 128) * 256 + np.maximum(first, second) + 128
    unique, where = np.unique(code, return_inverse=True)
    a, b = unique // 256 - 128, unique % 256 - 128
    mean, variance = np.zeros(len(unique)), np.zeros(len(unique))
    levels = np.flatnonzero(distribution)
    share = np.outer(distribution[levels], distribution[levels])
    top = int(levels[-1])
    above, below = pair_limits(max(top, 1))
    risky = np.flatnonzero(
        (np.maximum(a, 0) + np.maximum(b, 0) > above) | (np.minimum(a, 0) + np.minimum(b, 0) < -below)
    )
    for index in risky:
        sums = np.add.outer(levels * a[index], levels * b[index])
        excess = np.clip(sums, -32768, 32767) - sums
        mean[index] = np.sum(excess * share)
        variance[index] = np.sum(np.square(excess) * share) - mean[index] ** 2
    shape = first.shape
    noise = np.sum(mean[where].reshape(shape), axis=1) ** 2 + np.sum(variance[where].reshape(shape), axis=1)
    zero = float(layer.activation_zero_point or 0)
    center = float(np.sum(np.arange(256) * distribution[:256])) - zero
    spread = float(np.sum(np.square(np.arange(256) - zero - center) * distribution[:256]))
    weights = rows.rows.astype(np.float64)
    signal = np.sum(np.square(weights), axis=1) * spread + (weights.sum(axis=1) * center) ** 2
    return _db(float(np.sum(signal)), float(np.sum(noise)))


def _db(signal: float, noise: float) -> float:
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
