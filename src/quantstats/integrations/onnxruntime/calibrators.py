"""Calibrators with the interface of onnxruntime's, whose statistics are taken as the samples pass.

onnxruntime's own run all samples first and keep every tensor of every sample. These read each tensor once it is
computed and let it go; what stays is a pair of numbers, or two histograms of fixed size, for each tensor.

The session has no graph optimizations, as that of onnxruntime's calibrators, so the tensors have the same bits.
"""

from __future__ import annotations

import itertools
import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization.calibrate import CalibraterBase, CalibrationMethod, TensorData, TensorsData

from quantstats import kernels
from quantstats.errors import DataError, NonFiniteError, ParameterError
from quantstats.integrations.onnxruntime.entropy import least_divergence_thresholds
from quantstats.integrations.onnxruntime.nested_histogram import NestedHistogram
from quantstats.quantizer import QuantizerConfig
from quantstats.range_estimator import RangeEstimatorParameters
from quantstats.statistics.bit_histogram import BitHistogram
from quantstats.statistics.distribution_range import quantizer_config
from quantstats.statistics.estimator import RangeEstimator
from quantstats.statistics.non_finite import describe_non_finite

__all__ = [
    "DistributionCalibrater",
    "EntropyCalibrater",
    "HistogramCalibrater",
    "MinMaxCalibrater",
    "PercentileCalibrater",
    "RangeEstimatorCalibrater",
    "StreamingCalibrater",
]

Array = npt.NDArray[Any]
Statistics = TypeVar("Statistics")

_NUMPY_TYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
}
# From one power of two to the next.
_BIT_BINS_PER_OCTAVE = 128


class Reader(Protocol):
    """What is needed of onnxruntime's ``CalibrationDataReader``."""

    def get_next(self) -> Mapping[str, Array] | None:
        """The next sample by the names of the model's inputs; None or empty at the end."""


class StreamingCalibrater(CalibraterBase, ABC, Generic[Statistics]):  # type: ignore[misc]  # onnxruntime has no types
    """What the calibrators have in common: running the model and handing on its tensors.

    A child says what it keeps of a tensor (`_new`, `_take`) and makes a range of it (`_range`). Tensors without any
    value in any sample have the range [0, 0].

    :param model_path: path of an ONNX model, str or Path.
    :param op_types_to_calibrate: the operators whose float32 and float16 inputs and outputs are calibrated; None or
        empty for all.
    :param augmented_model_path: where `augment_graph` writes the model whose outputs are the tensors.
    :param symmetric: whether ranges are symmetric about zero.
    :param use_external_data_format: write the weights of that model to a file of their own, as from 2 GB on one must.
    :param per_channel: one range for each channel, along axis 1; MinMax alone has it.
    """

    method: CalibrationMethod

    def __init__(
        self,
        model_path: str | Path,
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str = "augmented_model.onnx",
        symmetric: bool = False,
        use_external_data_format: bool = False,
        per_channel: bool = False,
    ) -> None:
        super().__init__(
            model_path,
            op_types_to_calibrate=op_types_to_calibrate,
            augmented_model_path=augmented_model_path,
            symmetric=symmetric,
            use_external_data_format=use_external_data_format,
            per_channel=per_channel,
        )
        tensors, infos = self.select_tensors_to_calibrate(self.model)
        # In the order in which they are computed, so that the first with a NaN is where it comes from.
        graph = self.model.graph
        computed = (value.name for value in graph.input), (name for node in graph.node for name in node.output)
        self._dtypes = {
            name: _NUMPY_TYPES[infos[name].type.tensor_type.elem_type]
            for name in itertools.chain(*computed)
            if name in tensors
        }
        self._statistics: dict[str, Statistics] = {name: self._new() for name in self._dtypes}
        self._num_samples = 0

    @property
    def num_samples(self) -> int:
        """How many samples were taken in."""
        return self._num_samples

    def augment_graph(self) -> None:
        """Make the tensors to calibrate outputs of the model, and write it to ``augmented_model_path``."""
        outputs = {output.name for output in self.model.graph.output}
        # Without a type, which onnxruntime infers: inferred shapes do not hold for samples of other shapes.
        self.model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._dtypes if name not in outputs)
        onnx.save(self.model, self.augmented_model_path, save_as_external_data=self.use_external_data_format)

    def create_inference_session(self) -> None:
        """Load the augmented model, without graph optimizations, as onnxruntime's calibrators do."""
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Its threads would wait for the next run at full load, and take the cores from the kernels.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # All activations are outputs, with memory of their own; a block for them would be a second one.
        options.enable_mem_pattern = False
        self.infer_session = onnxruntime.InferenceSession(
            self.augmented_model_path, sess_options=options, providers=self.execution_providers
        )

    def collect_data(self, data_reader: Reader) -> None:
        """Take in all samples of a reader. It can be called several times.

        :raises NonFiniteError: a tensor holds NaN or Inf. Nothing of that sample was taken in.
        :raises DataError: there was no sample, in this call or an earlier one; or the channels of a tensor differ from
            sample to sample where ranges are per channel.
        """
        while sample := data_reader.get_next():
            self._collect(sample)
        if self._num_samples == 0:
            raise DataError(
                "no data was collected: get_next() of the reader gave None at once; give a reader that was not read yet"
            )

    def _collect(self, sample: Mapping[str, Array]) -> None:
        names = list(self._dtypes)
        # onnxruntime takes no names for all of them.
        outputs = self.infer_session.run(names, dict(sample)) if names else []
        tensors = dict(zip(names, outputs, strict=True))
        del outputs
        extrema = {}
        for name, tensor in tensors.items():
            if tensor.size == 0:
                continue
            axes = self._axes(tensor)
            low, high = kernels.min_max(tensor, axes, nan_policy="propagate")
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise NonFiniteError(
                    f"tensor {name!r} of sample {self._num_samples} has {describe_non_finite(tensor, None)}; mend the "
                    "data or the model, or leave its operation out of calibration by op_types_to_quantize"
                )
            extrema[name] = low, high
        for name, (low, high) in extrema.items():
            self._take(name, tensors[name], np.asarray(low), np.asarray(high))
            del tensors[name]
        self._num_samples += 1

    def _axes(self, tensor: Array) -> tuple[int, ...] | None:
        """The axes along which the extrema of a tensor are wanted; None for all."""
        return None

    def compute_data(self) -> TensorsData:
        """The ranges of all samples so far, by tensor.

        :raises DataError: no data was collected.
        """
        if self._num_samples == 0:
            raise DataError("no data was collected; call collect_data() with a reader first")
        return TensorsData(self.method, {name: self._data(name) for name in self._dtypes})

    @abstractmethod
    def _new(self) -> Statistics:
        """Statistics of no values."""

    @abstractmethod
    def _take(self, name: str, tensor: Array, minimum: Array, maximum: Array) -> None:
        """Take in a tensor of a sample, which is not empty and finite."""

    @abstractmethod
    def _data(self, name: str) -> TensorData:
        """What onnxruntime's quantizers need to know of a tensor."""


class _Extrema:
    """Least and greatest values, or those of each sample since a call of `collect_data` began."""

    def __init__(self) -> None:
        self.bounds: tuple[Array, Array] | None = None
        self.rows: list[tuple[Array, Array]] = []


class MinMaxCalibrater(StreamingCalibrater[_Extrema]):
    """Least and greatest value of each tensor, with the bits of onnxruntime's calibrator of the same name.

    :param moving_average: take the means over the samples of one `collect_data` of their extrema, and move the range by
        `averaging_constant` of the way to those of each further call. Here alone do ranges depend on how samples are
        batched and, over several calls, on their order.
    :param averaging_constant: in [0, 1].
    :param max_intermediate_outputs: not needed, since no outputs are kept. (onnxruntime's calibrator drops samples
        without looking at them where their number is a multiple of it.)
    :raises ParameterError: `averaging_constant` is outside its limits.
    """

    method = CalibrationMethod.MinMax

    def __init__(
        self,
        model_path: str | Path,
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str = "augmented_model.onnx",
        symmetric: bool = False,
        use_external_data_format: bool = False,
        moving_average: bool = False,
        averaging_constant: float = 0.01,
        max_intermediate_outputs: int | None = None,
        per_channel: bool = False,
    ) -> None:
        super().__init__(
            model_path,
            op_types_to_calibrate=op_types_to_calibrate,
            augmented_model_path=augmented_model_path,
            symmetric=symmetric,
            use_external_data_format=use_external_data_format,
            per_channel=per_channel,
        )
        if moving_average:
            _check_number("averaging_constant", averaging_constant, 0, 1)
        self.moving_average = moving_average
        self.averaging_constant = averaging_constant
        self.max_intermediate_outputs = max_intermediate_outputs

    def collect_data(self, data_reader: Reader) -> None:
        """Take in all samples of a reader; see `StreamingCalibrater.collect_data`."""
        super().collect_data(data_reader)
        for found in self._statistics.values():
            if found.rows:
                lows, highs = zip(*found.rows, strict=True)
                self._move(found, *self._mirrored(np.nanmean(lows, axis=0), np.nanmean(highs, axis=0)))
                found.rows.clear()

    def _move(self, found: _Extrema, low: Array, high: Array) -> None:
        if found.bounds is not None:
            before, share = found.bounds, self.averaging_constant
            low, high = before[0] + share * (low - before[0]), before[1] + share * (high - before[1])
        found.bounds = low, high

    def _mirrored(self, low: Array, high: Array) -> tuple[Array, Array]:
        if not self.symmetric:
            return low, high
        largest = np.maximum(np.abs(low), np.abs(high))
        return -largest, largest

    def _axes(self, tensor: Array) -> tuple[int, ...] | None:
        return (0, *range(2, tensor.ndim)) if self.per_channel and tensor.ndim else None

    def _new(self) -> _Extrema:
        return _Extrema()

    def _take(self, name: str, tensor: Array, minimum: Array, maximum: Array) -> None:
        found = self._statistics[name]
        # onnxruntime has an axis here per tensor as well.
        low, high = (np.array(value, tensor.dtype).reshape(-1) for value in (minimum, maximum))
        before = found.rows[0] if found.rows else found.bounds
        if before is not None and before[0].shape != low.shape:
            raise DataError(
                f"tensor {name!r} has {low.size} channels in sample {self._num_samples} and had {before[0].size} "
                "before; ranges per channel need the same number in each sample"
            )
        if self.moving_average:
            found.rows.append((low, high))
        elif found.bounds is None:
            found.bounds = low, high
        else:
            found.bounds = np.minimum(found.bounds[0], low), np.maximum(found.bounds[1], high)

    def _data(self, name: str) -> TensorData:
        low, high = self._statistics[name].bounds or (np.zeros(1, self._dtypes[name]),) * 2
        # Means were mirrored as they came.
        low, high = (low, high) if self.moving_average else self._mirrored(low, high)
        return TensorData(lowest=low, highest=high)


class _Distribution:
    """All values of a tensor, counted in bins that are narrow beside its range, and in others narrow beside the value.

    The former resolve what onnxruntime's histogram does, the latter what is far below an outlier.
    """

    def __init__(self) -> None:
        self.equal_bins = NestedHistogram()
        self.bit_bins = BitHistogram()

    def add(self, x: Array, minimum: float, maximum: float) -> None:
        self.equal_bins.add(x, minimum, maximum)
        self.bit_bins.add(x, minimum, maximum)

    @property
    def greatest_magnitude(self) -> float:
        return max(-self.bit_bins.minimum, self.bit_bins.maximum)

    def value_at(self, share: float, *, magnitudes: bool = False) -> float:
        """The least value at or below which lies `share` of all values, or a little less: a lower edge of its bin."""
        total = self.equal_bins.total
        rank = min(max(math.ceil(share * total), 1), total)
        if rank > 1 and (rank - 1) / total >= share:  # The product was rounded up.
            rank -= 1
        if rank == total:
            return self.greatest_magnitude if magnitudes else self.bit_bins.maximum
        edge = self.equal_bins.lower_edge(rank, magnitudes=magnitudes)
        if abs(edge) > _BIT_BINS_PER_OCTAVE * self.equal_bins.width:
            return edge  # Inside a bin of the others.
        # A share that falls between this rank and the next, whatever its rounding.
        return max(edge, self.bit_bins.quantile_bounds((rank - 0.75) / (total - 1), magnitudes=magnitudes)[0])

    def moments(self, power: float) -> tuple[float, float]:
        """Mean and standard deviation of the values x, taken as ``sign(x) * abs(x)**power``."""
        edges = self.equal_bins.edges
        near, far = edges[:-1], edges[1:]
        # Bins of either kind end at this magnitude, below which bit bins are the narrower ones. Zeros add nothing.
        border = _BIT_BINS_PER_OCTAVE * self.equal_bins.width
        outer = (near >= border) | (far <= -border)
        low, high, inside = self.bit_bins.spread()
        inner = np.maximum(np.abs(low), np.abs(high)) <= border
        counts = np.concatenate([self.equal_bins.counts[outer], inside[inner]])
        values = np.concatenate([(near + far)[outer], (low + high)[inner]]) / 2
        values = np.sign(values) * np.abs(values) ** power
        total = self.equal_bins.total
        mean = float((counts * values).sum()) / total
        return mean, math.sqrt(max(float((counts * values**2).sum()) / total - mean**2, 0.0))


class HistogramCalibrater(StreamingCalibrater[_Distribution]):
    """What the calibrators that look at the distribution of all values have in common.

    :param num_bins: the bins of onnxruntime's histogram, whose range is that of the greatest magnitude of all samples.
        They are made of finer ones when the ranges are asked for.
    :raises ParameterError: `num_bins` is no positive number.
    """

    def __init__(
        self,
        model_path: str | Path,
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str = "augmented_model.onnx",
        use_external_data_format: bool = False,
        symmetric: bool = False,
        num_bins: int = 128,
    ) -> None:
        super().__init__(
            model_path,
            op_types_to_calibrate=op_types_to_calibrate,
            augmented_model_path=augmented_model_path,
            symmetric=symmetric,
            use_external_data_format=use_external_data_format,
        )
        _check_count("num_bins", num_bins, 1)
        self.num_bins = num_bins

    def _new(self) -> _Distribution:
        return _Distribution()

    def _take(self, name: str, tensor: Array, minimum: Array, maximum: Array) -> None:
        self._statistics[name].add(tensor, minimum.item(), maximum.item())

    def _data(self, name: str) -> TensorData:
        found, dtype = self._statistics[name], self._dtypes[name]
        if not found.equal_bins.total:
            found = _Distribution()
            found.add(np.zeros(1, dtype), 0.0, 0.0)
        # The range of a histogram of zeros alone is NumPy's, and so are the last bits of the edges.
        reach = dtype.type(found.greatest_magnitude or 0.5)
        edges = np.linspace(-reach, reach, self.num_bins + 1, dtype=dtype)
        return self._data_of(found, found.equal_bins.uniform(edges), edges)

    @abstractmethod
    def _data_of(self, found: _Distribution, counts: npt.NDArray[np.int64], edges: Array) -> TensorData:
        """What onnxruntime's quantizers need to know of a tensor with these counts between these edges."""

    def _within(self, found: _Distribution, low: float, high: float, counts: Array, edges: Array) -> TensorData:
        """The range from `low` to `high`, as far as there are values."""
        low, high = max(low, found.bit_bins.minimum), min(high, found.bit_bins.maximum)
        lowest, highest = (np.array(bound, edges.dtype) for bound in (low, high))
        return TensorData(lowest=lowest, highest=highest, hist=counts, bins=edges)


class EntropyCalibrater(HistogramCalibrater):
    """The thresholds with the least Kullback-Leibler divergence, as onnxruntime's calibrator finds them.

    :param method: "entropy"; for the sake of onnxruntime's signature.
    :param num_quantized_bins: in how many parts each range is merged.
    :raises ParameterError: `num_quantized_bins` is more than `num_bins`, or less than 1.
    """

    method = CalibrationMethod.Entropy

    def __init__(
        self,
        model_path: str | Path,
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str = "augmented_model.onnx",
        use_external_data_format: bool = False,
        method: str = "entropy",
        symmetric: bool = False,
        num_bins: int = 128,
        num_quantized_bins: int = 128,
    ) -> None:
        _check_method(method, "entropy")
        super().__init__(
            model_path, op_types_to_calibrate, augmented_model_path, use_external_data_format, symmetric, num_bins
        )
        _check_count("num_quantized_bins", num_quantized_bins, 1)
        if num_quantized_bins > num_bins:
            raise ParameterError(f"num_quantized_bins={num_quantized_bins}; give 1 to num_bins={num_bins}")
        self.num_quantized_bins = num_quantized_bins

    def _data_of(self, found: _Distribution, counts: npt.NDArray[np.int64], edges: Array) -> TensorData:
        low, high = least_divergence_thresholds(counts, edges, self.num_quantized_bins)
        return self._within(found, float(low), float(high), counts, edges)


class PercentileCalibrater(HistogramCalibrater):
    """Percentiles of all values, within a bin of onnxruntime's histogram.

    Symmetric, the range ends at the percentile of the magnitudes, else it leaves out half of ``100 - percentile`` per
    cent on either side; and it does not reach beyond the values. onnxruntime's calibrator takes the lower edge of the
    bin in which the percentile lies; this one the lower edge of a bin that is narrower than ``m / 2048``, m being the
    greatest magnitude, and than 1/128 of the value itself.

    :param method: "percentile"; for the sake of onnxruntime's signature.
    :param percentile: in [0, 100].
    :raises ParameterError: `percentile` is outside its limits.
    """

    method = CalibrationMethod.Percentile

    def __init__(
        self,
        model_path: str | Path,
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str = "augmented_model.onnx",
        use_external_data_format: bool = False,
        method: str = "percentile",
        symmetric: bool = False,
        num_bins: int = 2048,
        percentile: float = 99.999,
    ) -> None:
        _check_method(method, "percentile")
        super().__init__(
            model_path, op_types_to_calibrate, augmented_model_path, use_external_data_format, symmetric, num_bins
        )
        _check_number("percentile", percentile, 0, 100)
        self.percentile = percentile

    def _data_of(self, found: _Distribution, counts: npt.NDArray[np.int64], edges: Array) -> TensorData:
        if self.symmetric:
            high = found.value_at(self.percentile / 100.0, magnitudes=True)
            return self._within(found, -high, high, counts, edges)
        left_out = (100.0 - self.percentile) / 200.0
        return self._within(found, found.value_at(left_out), found.value_at(1.0 - left_out), counts, edges)


# The power to which values are raised before their moments are taken, by scenario.
_POWERS = {"same": 1.0, "p3": 1.0 / 3.0}


class DistributionCalibrater(HistogramCalibrater):
    """Mean and standard deviation of the values, which onnxruntime scales 8-bit floats by.

    :param method: "distribution"; for the sake of onnxruntime's signature.
    :param num_bins: at least 512.
    :param scenario: "same" for the values as they are, "p3" for their cube roots.
    :raises ParameterError: `num_bins` or `scenario` is none of these.
    """

    method = CalibrationMethod.Distribution

    def __init__(
        self,
        model_path: str | Path,
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str = "augmented_model.onnx",
        use_external_data_format: bool = False,
        method: str = "distribution",
        num_bins: int = 2048,
        scenario: str = "same",
    ) -> None:
        _check_method(method, "distribution")
        super().__init__(
            model_path, op_types_to_calibrate, augmented_model_path, use_external_data_format, num_bins=num_bins
        )
        _check_count("num_bins", num_bins, 512)
        if scenario not in list(_POWERS):
            raise ParameterError(f"scenario={scenario!r}; use 'same' or 'p3'")
        self.scenario = scenario

    def _data_of(self, found: _Distribution, counts: npt.NDArray[np.int64], edges: Array) -> TensorData:
        mean, deviation = found.moments(_POWERS[self.scenario])
        return TensorData(
            avg=np.array(mean, edges.dtype),
            std=np.array(deviation, edges.dtype),
            hist=counts,
            hist_edges=edges,
            lowest=edges[0],
            highest=edges[-1],
        )


class RangeEstimatorCalibrater(StreamingCalibrater[RangeEstimator]):
    """Any range estimator of quantstats, such as MSE, AUTO or the mean of the batches' extrema.

    :param params: how ranges are estimated; a batch is a sample. Fields left None take the defaults of a per-tensor
        activation.
    :param config: the quantizer that is to follow, which estimators that minimise its error need to know; None for
        8 bits, symmetric or not as `symmetric` says.
    :raises ParameterError: `params` or `config` is of another class, or the mode of `config` is not what `symmetric`
        says.
    """

    # These are ranges that a quantizer takes as it does those of MinMax.
    method = CalibrationMethod.MinMax

    def __init__(
        self,
        model_path: str | Path,
        op_types_to_calibrate: Sequence[str] | None = None,
        augmented_model_path: str = "augmented_model.onnx",
        symmetric: bool = False,
        use_external_data_format: bool = False,
        *,
        params: RangeEstimatorParameters,
        config: QuantizerConfig | None = None,
    ) -> None:
        self._empty = RangeEstimator(params, symmetric=symmetric)
        self._config = quantizer_config(config, num_bits=8, symmetric=symmetric)
        super().__init__(
            model_path,
            op_types_to_calibrate=op_types_to_calibrate,
            augmented_model_path=augmented_model_path,
            symmetric=symmetric,
            use_external_data_format=use_external_data_format,
        )

    def _new(self) -> RangeEstimator:
        return RangeEstimator(self._empty.params, symmetric=self.symmetric)

    def _take(self, name: str, tensor: Array, minimum: Array, maximum: Array) -> None:
        found = self._statistics[name]
        if found.needs_extrema_only:
            found.update_extrema(*(np.array(value, tensor.dtype) for value in (minimum, maximum)))
        else:
            found.update(tensor)

    def _data(self, name: str) -> TensorData:
        found, dtype = self._statistics[name], self._dtypes[name]
        low, high = found.range(config=self._config) if found.num_samples else (np.zeros(()),) * 2
        return TensorData(lowest=np.array(low, dtype).reshape(()), highest=np.array(high, dtype).reshape(()))


def _check_method(method: str, own: str) -> None:
    if method != own:
        raise ParameterError(f"method={method!r}; this calibrator has {own!r} alone, use the class of the other method")


def _check_number(name: str, value: Any, least: float, greatest: float) -> None:
    if not isinstance(value, numbers.Real) or not least <= float(value) <= greatest:
        raise ParameterError(f"{name}={value!r}; give a number from {least} to {greatest}")


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, numbers.Integral) or value < least:
        raise ParameterError(f"{name}={value!r}; give an integer of at least {least}")
