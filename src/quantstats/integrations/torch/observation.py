"""What the observers do, whichever library's base class they have.

Each call of an observer is a sample of a `RangeEstimator`: what it keeps does not grow with the size of the tensors,
and does not depend on the order of the calls. Ranges become scales and zero points by the base class, so for the same
range they are torch's own.

Tensors on the CPU are read where they are, of any strides, in float32, float64, float16 and bfloat16; from other
devices they are copied first. Their values must be finite. What has none, as when a model is exported, is an error.

The state of an observer is in ``state_dict()`` as plain tensors, numbers and strings, so it is saved and loaded with
``torch.load(..., weights_only=True)``, and an observer of the same settings that loads it goes on where the other one
was.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from quantstats import kernels
from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig
from quantstats.range_estimator import RangeEstimatorParameters, RangeEstimatorParametersSet
from quantstats.statistics import RangeEstimator
from quantstats.statistics.reduction import require_finite

if TYPE_CHECKING:
    from torch.ao.quantization.observer import UniformQuantizationObserverBase as _Base
else:
    _Base = object

_SYMMETRIC = (torch.per_tensor_symmetric, torch.per_channel_symmetric)
_PER_CHANNEL = (torch.per_channel_affine, torch.per_channel_symmetric, torch.per_channel_affine_float_qparams)
# Samples may differ in rank; with all axes that torch can have they do not.
_RANK = 8
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class RangeObservation(_Base):
    """Observes tensors for a range estimator.

    :param params: How the range is estimated; fields left None take the defaults of the place, see
        `quantstats.range_estimator.resolve`. HISTOGRAM, MSE, ENTROPY, PERCENTILE and AUTO keep 512 KB, per channel
        512 KB for each channel; the others a few numbers for each call.
    :param dtype: Type of the levels, as for every observer of torch.
    :param qscheme: Scheme: affine or symmetric, per tensor or per channel.
    :param reduce_range: Leave out one bit.
    :param quant_min: Lowest level, None for that of ``dtype``.
    :param quant_max: Highest level, None for that of ``dtype``.
    :param eps: Least scale.
    :param ch_axis: The axis of the channels for a scheme per channel; negative ones count from the end.
    :raises ParameterError: a parameter has a value that cannot be honoured.
    """

    _DEFAULT: ClassVar[str] = "AUTO"

    def __init__(
        self,
        params: RangeEstimatorParameters | None = None,
        *,
        dtype: torch.dtype = torch.quint8,
        qscheme: torch.qscheme = torch.per_tensor_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = torch.finfo(torch.float32).eps,
        ch_axis: int = 0,
        is_dynamic: bool = False,
        factory_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if is_dynamic:
            raise ParameterError(
                f"{type(self).__name__}: is_dynamic=True takes the range of each tensor when the model runs, so there "
                "is nothing to observe; use torch's PlaceholderObserver"
            )
        axis: Any = ch_axis
        if not isinstance(axis, numbers.Integral):
            raise ParameterError(f"{type(self).__name__}: ch_axis={axis!r} is not an integer; give an axis")
        super().__init__(
            dtype=dtype,
            qscheme=qscheme,
            reduce_range=reduce_range,
            quant_min=quant_min,
            quant_max=quant_max,
            eps=eps,
            factory_kwargs=factory_kwargs,
            **kwargs,
        )
        self.ch_axis = ch_axis
        self.params = getattr(RangeEstimatorParametersSet, self._DEFAULT) if params is None else params
        self.reset()

    @property
    def _per_channel(self) -> bool:
        return self.qscheme in _PER_CHANNEL

    @property
    def num_calls(self) -> int:
        """How many tensors were observed; empty ones do not count."""
        return self._estimators[0].num_samples if self._estimators else 0

    def reset(self) -> None:
        """Forget all that was observed."""
        # One estimator for all channels, or one for each if the estimator knows no channels: their number shows later.
        self._estimators = [] if self._one_for_each_channel else [self._estimator()]
        self._num_channels: int | None = None

    @property
    def _one_for_each_channel(self) -> bool:
        return self._per_channel and self.params.is_histogram

    def _estimator(self) -> RangeEstimator:
        by_channel = self._per_channel and not self.params.is_histogram
        return RangeEstimator(
            self.params,
            reduction_axes=tuple(range(1, _RANK)) if by_channel else None,
            symmetric=self.qscheme in _SYMMETRIC,
        )

    def forward(self, x_orig: torch.Tensor) -> torch.Tensor:
        """Observe a tensor and return it.

        On an error nothing changes.

        :raises NonFiniteError: it holds NaN or Inf.
        :raises DataError: it has another dtype, no values that can be read, or another number of channels than before.
        :raises ParameterError: it has no axis ``ch_axis``.
        """
        if x_orig.numel() == 0:
            return x_orig
        array = as_array(x_orig.detach())
        try:
            self._observe(array)
        except NonFiniteError:
            # The estimator has it of other shapes, which would be in the message.
            require_finite(array, kernels.summarize(array, nan_policy="ignore"))
            raise
        return x_orig

    def _observe(self, array: npt.NDArray[Any]) -> None:
        if not self._per_channel:
            self._estimators[0].update(array.reshape((1,) * (_RANK - array.ndim) + array.shape))
            return
        if not -array.ndim <= self.ch_axis < array.ndim:
            raise ParameterError(
                f"{type(self).__name__}: ch_axis={self.ch_axis} is no axis of a tensor of shape {array.shape}"
            )
        array = np.moveaxis(array, self.ch_axis, 0)
        if self._num_channels not in (None, len(array)):
            raise DataError(
                f"a tensor of {len(array)} channels follows one of {self._num_channels}; give each its own observer"
            )
        if self._one_for_each_channel:
            # All or none of the channels.
            require_finite(array, kernels.summarize(array, nan_policy="ignore"))
            self._estimators = self._estimators or [self._estimator() for _ in array]
            for estimator, channel in zip(self._estimators, array, strict=True):
                estimator.update(channel)
        else:
            self._estimators[0].update(array.reshape(array.shape + (1,) * (_RANK - array.ndim)))
        self._num_channels = len(array)

    def range(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Lower and upper bound of the range: 0-d tensors, or one value for each channel.

        :raises DataError: nothing was observed.
        """
        if self.num_calls == 0:
            raise DataError(f"{type(self).__name__} has observed no tensor; run the prepared model on calibration data")
        config = self._config()
        bounds = [estimator.range(config=config) for estimator in self._estimators]
        shape = (-1,) if self._per_channel else ()
        low, high = (
            torch.from_numpy(np.stack([np.asarray(found[end], np.float32).ravel() for found in bounds]).reshape(shape))
            for end in (0, 1)
        )
        return low, high

    def _config(self) -> QuantizerConfig:
        """The quantizer that follows, as the search for its error sees it."""
        symmetric = self.qscheme in _SYMMETRIC
        bits = math.ceil(math.log2(self.quant_max - self.quant_min + 1))
        return QuantizerConfig(
            num_bits=min(max(bits, 2), 8) if bits <= 8 else 16,
            mode=QuantizationMode.SYMMETRIC if symmetric else QuantizationMode.ASYMMETRIC,
            # torch's symmetric levels are as many below zero as above, whatever the data.
            signedness_to_force=True if symmetric else None,
        )

    # torch's own children narrow the signature of the abstract method in the same way.
    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Scale and zero point, of shape [1] or [channels], of torch's dtypes.

        Scales are float32. Zero points are int64 for symmetric schemes, int32 for affine ones and float32 for
        ``per_channel_affine_float_qparams``.

        :raises DataError: nothing was observed.
        """
        scale, zero_point = self._calculate_qparams(*self.range())
        return scale, zero_point

    def get_extra_state(self) -> dict[str, Any]:
        """What ``state_dict()`` holds of this module: numbers, strings and tensors."""
        states = [
            {name: torch.from_numpy(np.array(value)) for name, value in estimator.state().items()}
            for estimator in self._estimators
        ]
        return {"version": 1, "settings": self._settings(), "estimators": states}

    def _settings(self) -> dict[str, Any]:
        """What two observers have in common whose states mean the same, in plain types."""
        settings: dict[str, Any] = {
            "per_channel": self._per_channel,
            "ch_axis": int(self.ch_axis) if self._per_channel else None,
            "symmetric": self.qscheme in _SYMMETRIC,
        }
        for bound, fields in dataclasses.asdict(self._estimator().params).items():
            for name, value in fields.items():
                plain = value.value if isinstance(value, Enum) else value
                settings[f"{bound}.{name}"] = float(plain) if isinstance(plain, numbers.Real) else plain
        return settings

    def set_extra_state(self, state: Any) -> None:
        """Take in what `get_extra_state` gave, in place of what was observed.

        :raises DataError: it is of another version, of an observer with other settings, or damaged.
        """
        name = type(self).__name__
        if not isinstance(state, dict) or state.get("version") != 1:
            raise DataError(f"{name} cannot load this state; it is not one of version 1")
        try:
            theirs = dict(state["settings"])
            for setting, own in self._settings().items():
                if theirs[setting] != own:
                    raise DataError(
                        f"{name} has {setting}={own!r} and the state is of an observer with "
                        f"{setting}={theirs[setting]!r}; load it into one with the same settings"
                    )
            states = [{key: value.numpy() for key, value in arrays.items()} for arrays in state["estimators"]]
            if not self._one_for_each_channel and len(states) != 1:
                raise DataError(f"{name} cannot load this state; it is damaged ({len(states)} estimators, not one)")
            estimators = [self._estimator() for _ in states]
            for estimator, arrays in zip(estimators, states, strict=True):
                estimator.restore(arrays)
            num_channels = self._num_channels_of(states)
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{name} cannot load this state; it is damaged ({error!r})") from error
        self._estimators, self._num_channels = estimators, num_channels

    def _num_channels_of(self, states: list[dict[str, npt.NDArray[Any]]]) -> int | None:
        """The number of channels (1 per tensor) in the states of all estimators; None where nothing was observed."""
        num_samples = {int(arrays["num_samples"]) for arrays in states}
        shape: tuple[int, ...] = (len(states),)
        if not self._one_for_each_channel:
            # Rows are samples by columns by channels by ones.
            shape = states[0]["rows"].shape[2:] if "rows" in states[0] else (1,)
        channels = shape[0] if self._per_channel else 1
        if len(num_samples) > 1 or math.prod(shape) != channels:
            raise DataError(f"{type(self).__name__} cannot load this state; it is damaged (channels that do not agree)")
        return channels if any(num_samples) else None

    def extra_repr(self) -> str:
        """What ``print`` shows: how much was observed, and the range."""
        if self.num_calls == 0:
            return "nothing observed"
        low, high = self.range()
        return f"{self.num_calls} calls, min_val={low}, max_val={high}"


class MinMaxObservation(RangeObservation):
    """From the least to the greatest value of all calls: scales equal those of torch's MinMaxObserver."""

    _DEFAULT = "MINMAX"


class QuantileObservation(RangeObservation):
    """From the mean over the calls of their low quantiles to that of their high ones.

    Quantiles are exact. ``quantile_outlier_prob`` is 1e-4; give `params` for another.
    """

    _DEFAULT = "MEAN_QUANTILE"


class PercentileObservation(RangeObservation):
    """Quantiles of all values of all calls together, from a histogram of 65,536 bins."""

    _DEFAULT = "PERCENTILE"


class MSEObservation(RangeObservation):
    """The range with the least squared quantization error over all values."""

    _DEFAULT = "MSE"


class HistogramObservation(RangeObservation):
    """The range with the least error in a histogram of 2,048 bins: what torch's HistogramObserver looks for.

    The histogram is made of bins that do not move, so neither the order nor the sizes of batches change it, and the
    search tries ranges that torch's does not reach.
    """

    _DEFAULT = "HISTOGRAM"


class EntropyObservation(RangeObservation):
    """The thresholds with the least Kullback-Leibler divergence."""

    _DEFAULT = "ENTROPY"


class AutoObservation(RangeObservation):
    """The estimator whose range promises the best signal-to-noise ratio."""

    _DEFAULT = "AUTO"


def as_array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """The memory of a tensor as an array of its shape, strides and dtype.

    Only tensors of other devices are copied, and those whose memory holds the negated values.

    :raises DataError: the tensor is sparse, no floating-point type of 16, 32 or 64 bits, or has no values.
    """
    if tensor.layout is not torch.strided:
        raise DataError(f"a tensor of layout {tensor.layout} cannot be observed; make it dense")
    if tensor.dtype not in _DTYPES:
        raise DataError(f"a tensor of dtype {tensor.dtype} cannot be observed; observe floating-point activations")
    try:
        tensor = tensor.cpu().resolve_neg()
        if tensor.dtype is not torch.bfloat16:
            array: npt.NDArray[Any] = tensor.numpy()
            return array
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    except RuntimeError as error:
        raise DataError(
            f"the values of a {type(tensor).__name__} on {tensor.device} cannot be observed ({error}); where a model "
            "is exported or traced there are none: export it without observers, and prepare what was exported"
        ) from error
