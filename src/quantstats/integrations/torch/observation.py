"""What the observers do, whichever library's base class they have.

Each call of an observer is a sample of a `RangeEstimator`: what it keeps does not grow with the size of the tensors,
and does not depend on the order of the calls. Ranges become scales and zero points by the base class, so for the same
range they are torch's own.

Tensors on the CPU are read where they are, of any strides, in float32, float64, float16 and bfloat16; from other
devices they are copied first. Their values must be finite.

The state of an observer is in ``state_dict()`` as plain tensors, so it is saved and loaded with
``torch.load(..., weights_only=True)``, and an observer that loads it goes on where the other one was.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from quantstats.errors import DataError, ParameterError
from quantstats.parameters import QuantizationMode
from quantstats.quantizer import QuantizerConfig
from quantstats.range_estimator import RangeEstimatorParameters, RangeEstimatorParametersSet
from quantstats.statistics import RangeEstimator

if TYPE_CHECKING:
    from torch.ao.quantization.observer import UniformQuantizationObserverBase as _Base
else:
    _Base = object

_SYMMETRIC = (torch.per_tensor_symmetric, torch.per_channel_symmetric)
_PER_CHANNEL = (torch.per_channel_affine, torch.per_channel_symmetric, torch.per_channel_affine_float_qparams)
# Samples may differ in rank; with all axes that torch can have they do not.
_RANK = 8


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
    :param ch_axis: The axis of the channels for a scheme per channel.
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
        self._estimators = [] if self._per_channel and self.params.is_histogram else [self._estimator()]

    def _estimator(self) -> RangeEstimator:
        by_channel = self._per_channel and not self.params.is_histogram
        return RangeEstimator(
            self.params,
            reduction_axes=tuple(range(1, _RANK)) if by_channel else None,
            symmetric=self.qscheme in _SYMMETRIC,
        )

    def forward(self, x_orig: torch.Tensor) -> torch.Tensor:
        """Observe a tensor and return it.

        :raises NonFiniteError: it holds NaN or Inf.
        :raises DataError: it has another dtype, or another number of channels than before.
        """
        if x_orig.numel() == 0:
            return x_orig
        array = as_array(x_orig.detach())
        if not self._per_channel:
            self._estimators[0].update(array.reshape((1,) * (_RANK - array.ndim) + array.shape))
            return x_orig
        if not -array.ndim <= self.ch_axis < array.ndim:
            raise ParameterError(
                f"{type(self).__name__}: ch_axis={self.ch_axis} is no axis of a tensor of shape {tuple(x_orig.shape)}"
            )
        array = np.moveaxis(array, self.ch_axis, 0)
        if not self.params.is_histogram:
            self._estimators[0].update(array.reshape(array.shape + (1,) * (_RANK - array.ndim)))
            return x_orig
        if not self._estimators:
            self._estimators = [self._estimator() for _ in array]
        if len(self._estimators) != len(array):
            raise DataError(
                f"a tensor of {len(array)} channels follows one of {len(self._estimators)}; give each its own observer"
            )
        for estimator, channel in zip(self._estimators, array, strict=True):
            estimator.update(channel)
        return x_orig

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
        """Scale (float32) and zero point (int64), of shape [1] or [channels].

        :raises DataError: nothing was observed.
        """
        scale, zero_point = self._calculate_qparams(*self.range())
        return scale, zero_point

    def get_extra_state(self) -> dict[str, Any]:
        """What ``state_dict()`` holds of this module: numbers and tensors."""
        states = [
            {name: torch.from_numpy(np.array(value)) for name, value in estimator.state().items()}
            for estimator in self._estimators
        ]
        return {"version": 1, "estimators": states}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take in what `get_extra_state` gave, in place of what was observed.

        :raises DataError: it is of another version or another estimator.
        """
        if state.get("version") != 1:
            raise DataError(f"{type(self).__name__} cannot load this state; it is not one of version 1")
        estimators = []
        for arrays in state["estimators"]:
            estimator = self._estimator()
            estimator.restore({name: value.numpy() for name, value in arrays.items()})
            estimators.append(estimator)
        if not self._per_channel and len(estimators) != 1:
            raise DataError(f"{type(self).__name__} observes per tensor, but the state is one per channel")
        self._estimators = estimators

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
    """The memory of a tensor as an array of its shape, strides and dtype. Only tensors of other devices are copied.

    :raises DataError: the tensor is sparse, or no floating-point type of 16, 32 or 64 bits.
    """
    if tensor.layout is not torch.strided:
        raise DataError(f"a tensor of layout {tensor.layout} cannot be observed; make it dense")
    tensor = tensor.cpu()
    if tensor.dtype is torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    if tensor.dtype not in (torch.float32, torch.float64, torch.float16):
        raise DataError(f"a tensor of dtype {tensor.dtype} cannot be observed; observe floating-point activations")
    array: npt.NDArray[Any] = tensor.numpy()
    return array
