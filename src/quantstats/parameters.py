"""Parameters of a quantization run as a whole. Names and values are nncf's."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from quantstats._twins import TwinDataclass, TwinStrEnum
from quantstats._validation import check_bool, check_list_of, check_strings
from quantstats.errors import IgnoredScopeError

__all__ = [
    "DropType",
    "IgnoredScope",
    "ModelType",
    "QuantizationMode",
    "QuantizationPreset",
    "Subgraph",
    "TargetDevice",
]


class QuantizationMode(TwinStrEnum):
    """The quantization scheme.

    SYMMETRIC: the range is [-high, high], or [0, high] for data without negative values; real zero has a fixed level.
    ASYMMETRIC: both borders are free, and a zero point says which level means zero.

    This is what the ``mode`` field of nncf's ``QuantizationParameters`` holds (there also named QuantizationScheme).
    """

    SYMMETRIC = "symmetric"
    ASYMMETRIC = "asymmetric"

    @classmethod
    def _nncf_path(cls) -> str:
        return "nncf.common.quantization.structs.QuantizationScheme"


class QuantizationPreset(TwinStrEnum):
    """The default schemes of a model.

    PERFORMANCE: weights and activations symmetric. MIXED: weights symmetric, activations asymmetric.
    """

    PERFORMANCE = "performance"
    MIXED = "mixed"

    @property
    def weights_mode(self) -> QuantizationMode:
        """The scheme of weights under this preset."""
        return QuantizationMode.SYMMETRIC

    @property
    def activations_mode(self) -> QuantizationMode:
        """The scheme of activations under this preset."""
        return QuantizationMode.ASYMMETRIC if self is QuantizationPreset.MIXED else QuantizationMode.SYMMETRIC

    @classmethod
    def _nncf_path(cls) -> str:
        return "nncf.common.quantization.structs.QuantizationPreset"


class TargetDevice(TwinStrEnum):
    """The kind of device that the quantized model runs on: never the one that quantizes.

    ANY and CPU mean a CPU of any generation. AVX2 and AVX512 mean one without VNNI, whose 16-bit sums of products
    saturate, so the overflow fix is AUTO by default; VNNI means one that adds in 32 bits, so weights need no fix. nncf
    does not have these three.
    """

    ANY = "ANY"
    CPU = "CPU"
    GPU = "GPU"
    NPU = "NPU"
    CPU_SPR = "CPU_SPR"
    AVX2 = "AVX2"
    AVX512 = "AVX512"
    VNNI = "VNNI"

    @classmethod
    def _nncf_path(cls) -> str:
        return "nncf.parameters.TargetDevice"


class ModelType(TwinStrEnum):
    """A family of models that is treated in its own way.

    TRANSFORMER: the preset is MIXED by default; additions, multiplications, poolings and the product of attention
    weights and values stay in floating point; queries and keys are symmetric.
    """

    TRANSFORMER = "transformer"

    @classmethod
    def _nncf_path(cls) -> str:
        return "nncf.parameters.ModelType"


class DropType(TwinStrEnum):
    """How an accuracy drop is measured. ABSOLUTE: fp32 - int8. RELATIVE: that, divided by fp32."""

    ABSOLUTE = "absolute"
    RELATIVE = "relative"

    @classmethod
    def _nncf_path(cls) -> str:
        return "nncf.parameters.DropType"


@dataclass
class Subgraph(TwinDataclass):
    """All operations on any path from one of the operations `inputs` to one of the operations `outputs`.

    :param inputs: names of the operations where the paths begin (included).
    :param outputs: names of the operations where they end (included).
    :raises ParameterError: a field is not a list of strings.
    """

    _NNCF_PATH: ClassVar[str] = "nncf.scopes.Subgraph"

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_strings("Subgraph", "inputs", self.inputs)
        check_strings("Subgraph", "outputs", self.outputs)


@dataclass
class IgnoredScope(TwinDataclass):
    """Operations that stay in floating point: the union of what the four lists match.

    :param names: names of operations.
    :param patterns: regular expressions of module `re`, matched from the start of an operation's name (``re.match``).
    :param types: operation types of the model's framework, such as ``"Softmax"``.
    :param subgraphs: parts of the model, see `Subgraph`.
    :param validate: whether a rule that matches nothing is an error (raised when the scope meets a model).
    :raises ParameterError: a field has the wrong type.
    :raises IgnoredScopeError: a pattern is not a valid regular expression.
    """

    _NNCF_PATH: ClassVar[str] = "nncf.scopes.IgnoredScope"
    _NESTED: ClassVar[dict[str, Any]] = {"subgraphs": Subgraph}

    names: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    subgraphs: list[Subgraph] = field(default_factory=list)
    validate: bool = True

    def __post_init__(self) -> None:
        for name in ("names", "patterns", "types"):
            check_strings("IgnoredScope", name, getattr(self, name))
        check_list_of("IgnoredScope", "subgraphs", self.subgraphs, Subgraph)
        check_bool("IgnoredScope", "validate", self.validate)
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise IgnoredScopeError(
                    f"IgnoredScope.patterns: {pattern!r} is not a valid regular expression ({error}); "
                    "escape special characters with a backslash"
                ) from None
