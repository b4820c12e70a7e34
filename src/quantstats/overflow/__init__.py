"""Saturation of u8 x s8 arithmetic on CPUs without VNNI: proof, remedy, simulation.

:func:`certify` proves from the weights whether a layer can saturate, :func:`smallest_safe_scale` finds the finest scale
at which it cannot, :func:`saturating_conv` and :func:`simulate` compute what such a CPU computes, and :func:`analyze`
reports on a whole quantized model.
"""

from quantstats.overflow.analysis import LayerReport, OverflowReport, analyze
from quantstats.overflow.arithmetic import saturating_conv
from quantstats.overflow.certificate import Certificate, certify
from quantstats.overflow.pairing import (
    PAIRINGS,
    AnyPairs,
    BlockPairs,
    LayerKind,
    NoPairs,
    Pairing,
    find_pairing,
    pair_limits,
)
from quantstats.overflow.safe_scale import smallest_safe_scale
from quantstats.overflow.simulation import LayerSimulation, OutputSimulation, Simulation, simulate

__all__ = [
    "PAIRINGS",
    "AnyPairs",
    "BlockPairs",
    "Certificate",
    "LayerKind",
    "LayerReport",
    "LayerSimulation",
    "NoPairs",
    "OutputSimulation",
    "OverflowReport",
    "Pairing",
    "Simulation",
    "analyze",
    "certify",
    "find_pairing",
    "pair_limits",
    "saturating_conv",
    "simulate",
    "smallest_safe_scale",
]
