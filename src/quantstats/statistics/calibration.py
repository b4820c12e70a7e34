"""`CalibrationStatistics`: what one pass over the data leaves, and from which any range estimator follows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from quantstats._validation import check_bool, check_instance, check_mapping, check_num_bits, check_path, check_string
from quantstats.errors import DataError, ParameterError, QuantizationError
from quantstats.quantizer import QuantizerConfig
from quantstats.range_estimator import RangeEstimatorParameters, resolve
from quantstats.statistics import calibration_file
from quantstats.statistics.channel_means import ChannelMeans
from quantstats.statistics.column import Column, columns_of
from quantstats.statistics.columnar_table import ColumnarTable
from quantstats.statistics.derived_range import DerivedRange, derive_range
from quantstats.statistics.non_finite import NonFinitePolicy, check_policy
from quantstats.statistics.reduction import SampleReducer
from quantstats.statistics.table_memory import DEFAULT_MEMORY_LIMIT, TableMemory
from quantstats.statistics.taps_hash import taps_hash
from quantstats.statistics.tensor_statistics import DEFAULT_COLUMNS, ReducedSample, TensorStatistics
from quantstats.typing import Tensor

__all__ = ["CalibrationStatistics", "columns_for"]


def columns_for(estimators: Sequence[RangeEstimatorParameters]) -> tuple[Column, ...]:
    """The default columns, and after them those that `estimators` need besides, in an order of their own.

    Fields left None take the defaults of a per-tensor activation, which need no column that the default has not.
    """
    extra: set[Column] = set()
    for params in estimators:
        resolved = resolve(params, is_weight=False, per_channel=False)
        if not resolved.is_histogram:
            extra.update(columns_of(resolved, symmetric=False), columns_of(resolved, symmetric=True))
    ordered = sorted(
        extra.difference(DEFAULT_COLUMNS),
        key=lambda c: (str(c.statistics_type), c.probability or 0.0, c.clipping_value or 0.0),
    )
    return (*DEFAULT_COLUMNS, *ordered)


class _How(TypedDict):
    batchwise: bool
    non_finite: NonFinitePolicy
    memory: TableMemory


class CalibrationStatistics:
    """Statistics of the tensors of a model over calibration samples.

    Of every tensor it keeps a row of reduced values for each sample -- minimum, maximum, largest magnitude, mean,
    quantiles of values and of magnitudes -- and a histogram of all values with fixed bins. That is 88 bytes a sample
    and 512 KB, whatever the size of the tensor. Every range estimator is derived from it, to the bit, without the data.

    Samples carry ids. However they are split over runs and machines, and in whatever order the parts are merged, the
    result compares equal and gives the same ranges and the same file.

    :param taps: the tensors by name, each with the axis of its channels if it is to have statistics per channel, else
        None. Samples are read in this order, so errors name the first tensor that they are found in.
    :param model_hash: identifies the model (see `quantstats.ptq.identity.model_hash`); statistics of different models
        do not merge.
    :param columns: what a sample is reduced to: DEFAULT_COLUMNS and possibly more (see `columns_for`).
    :param batchwise: whether each item of axis 0 of a tensor is a sample of its own.
    :param channel_means: tensors whose mean along an axis is kept for each sample, by name, each with that axis: what
        bias correction needs. They may be among `taps` or not.
    :param non_finite: what to do about NaN and infinities: ``"raise"`` refuses the sample; ``"ignore"`` leaves them
        out; ``"clamp"`` does what a quantizer does to them: an infinity becomes the largest finite value of its sign,
        NaN becomes 0. Either way they are counted (see `TensorStatistics.counts`).
    :param graph_hash: identifies the model without its constants, so that it can be said what differs.
    :param memory_limit: bytes of tables that stay in memory; the others are in memory-mapped temporary files, which are
        gone with the process, however it ends.
    :raises ParameterError: a parameter is invalid.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        taps: Mapping[str, int | None],
        *,
        model_hash: str = "",
        columns: Sequence[Column] = DEFAULT_COLUMNS,
        batchwise: bool = False,
        channel_means: Mapping[str, int] = MappingProxyType({}),
        non_finite: NonFinitePolicy = "raise",
        graph_hash: str = "",
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
    ) -> None:
        check_mapping("CalibrationStatistics", "taps", taps, (int, type(None)), "{'conv1.out': None}")
        check_mapping("CalibrationStatistics", "channel_means", channel_means, int, "{'conv1.out': 1}")
        check_bool("CalibrationStatistics", "batchwise", batchwise)
        check_policy("CalibrationStatistics", non_finite)
        missing = [column for column in DEFAULT_COLUMNS if column not in columns]
        if missing:
            raise ParameterError(f"columns lack {missing[0]}; give columns_for(estimators), which has the default ones")
        self._model_hash = model_hash
        self._graph_hash = graph_hash
        self._columns = tuple(dict.fromkeys(columns))
        self._batchwise = batchwise
        self._non_finite: NonFinitePolicy = non_finite
        self._memory = TableMemory(memory_limit)
        self._sample_ids: dict[str, None] = {}
        how: _How = {"batchwise": batchwise, "non_finite": non_finite, "memory": self._memory}
        reducer = SampleReducer(self._columns)
        self._tensors = {
            name: TensorStatistics(self._columns, channel_axis=axis, reducer=reducer, **how)
            for name, axis in taps.items()
        }
        self._means = {name: ChannelMeans(axis, **how) for name, axis in channel_means.items()}

    @property
    def model_hash(self) -> str:
        """Identifies the model."""
        return self._model_hash

    @property
    def graph_hash(self) -> str:
        """Identifies the model without its constants; empty if it is not known."""
        return self._graph_hash

    @property
    def taps_hash(self) -> str:
        """Identifies what is observed and how it is reduced: statistics with equal hashes of model and taps merge."""
        return taps_hash(
            self.taps,
            self.channel_means,
            columns=self._columns,
            batchwise=self._batchwise,
            non_finite=self._non_finite,
        )

    @property
    def non_finite(self) -> NonFinitePolicy:
        """What is done about NaN and infinities."""
        return self._non_finite

    @property
    def memory_limit(self) -> int:
        """Bytes of tables that stay in memory."""
        return self._memory.limit

    @property
    def columns(self) -> tuple[Column, ...]:
        """What a sample is reduced to."""
        return self._columns

    @property
    def batchwise(self) -> bool:
        """Whether each item of axis 0 is a sample of its own."""
        return self._batchwise

    @property
    def taps(self) -> dict[str, int | None]:
        """The tensors by name, each with the axis of its statistics per channel or None."""
        return {name: tensor.channel_axis for name, tensor in self._tensors.items()}

    @property
    def channel_means(self) -> dict[str, int]:
        """The tensors whose means along an axis are kept, by name, each with that axis."""
        return {name: means.channel_axis for name, means in self._means.items()}

    @property
    def observed(self) -> tuple[str, ...]:
        """The tensors that a sample must have values of: those of `taps`, then those of `channel_means` alone."""
        return tuple(dict.fromkeys((*self._tensors, *self._means)))

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """The ids of all samples, in the order in which they came."""
        return tuple(self._sample_ids)

    @property
    def num_samples(self) -> int:
        """How many samples were taken in."""
        return len(self._sample_ids)

    @property
    def nbytes(self) -> int:
        """Size of all tables and histograms in bytes, those in files included."""
        histograms = sum(tensor.histogram.counts.nbytes for tensor in self._tensors.values())
        return histograms + sum(table.nbytes for table in self._tables())

    def __contains__(self, tensor: object) -> bool:
        return tensor in self._tensors

    def __getitem__(self, tensor: str) -> TensorStatistics:
        """The statistics of one tensor: its table, histogram and counts. Raises `ParameterError` for another name."""
        found = self._tensors.get(tensor)
        if found is None:
            raise ParameterError(
                f"tensor {tensor!r} was not observed; the statistics are of {', '.join(map(repr, self._tensors))}"
            )
        return found

    def update(self, sample_id: str, values: Mapping[str, npt.ArrayLike | Tensor]) -> None:
        """Take in one sample: an array for each tensor. The arrays are not kept. On an error nothing changes.

        :raises NonFiniteError: a tensor holds NaN or Inf.
        :raises DataError: the id is not new; a tensor is missing, or of another kind than in earlier samples.
        :raises ParameterError: the id is not a string.
        """
        check_string("CalibrationStatistics.update", "sample_id", sample_id)
        if sample_id in self._sample_ids:
            raise DataError(f"sample {sample_id!r} is in these statistics already; give every sample an id of its own")
        missing = [name for name in self.observed if name not in values]
        if missing:
            raise DataError(f"sample {sample_id!r} has no values of tensor {missing[0]!r}; give all that are observed")
        reduced: dict[str, ReducedSample] = {}
        means: dict[str, npt.NDArray[Any]] = {}
        try:
            self._read(sample_id, values, reduced, means)
            for name, tensor in self._tensors.items():
                tensor.reserve(reduced[name])
            for name, of_channels in self._means.items():
                of_channels.table.reserve(means[name])
        except BaseException:
            for name, sample in reduced.items():
                self._tensors[name].uncount(sample)
            raise
        # Nothing fails from here on.
        for name, tensor in self._tensors.items():
            tensor.add(reduced[name], counted=True)
        for name, of_channels in self._means.items():
            of_channels.add(means[name])
        self._sample_ids[sample_id] = None

    def _read(
        self,
        sample_id: str,
        values: Mapping[str, npt.ArrayLike | Tensor],
        reduced: dict[str, ReducedSample],
        means: dict[str, npt.NDArray[Any]],
    ) -> None:
        """Reduce and count a sample, one tensor after the other, so that each is read from memory once."""
        for name in self.observed:
            try:
                tensor = self._tensors.get(name)
                if tensor is not None:
                    found = tensor.reduce(values[name])
                    tensor.count(found)
                    reduced[name] = found
                if name in self._means:
                    means[name] = self._means[name].reduce(values[name])
            except QuantizationError as error:
                raise type(error)(f"tensor {name!r} in sample {sample_id!r}: {error}") from error

    def merge(self, other: CalibrationStatistics, *, duplicates: Literal["raise", "skip"] = "raise") -> None:
        """Take in all samples of `other`, which is not changed. On an error nothing changes either.

        :param duplicates: what to do about samples that both have. ``"raise"`` refuses them. ``"skip"`` counts them
            once, if all samples of one side are on the other side too: a file that was merged twice, a shard that was
            run again. Of sides that overlap in part neither contains the other, and a histogram of all samples cannot
            be told apart by sample, so these are refused.
        :raises DataError: `other` is of another model, of other tensors or columns, or has samples that are here
            already; the message names the difference.
        :raises ParameterError: a parameter is invalid.
        """
        check_instance("CalibrationStatistics.merge", "other", other, CalibrationStatistics)
        if duplicates not in ("raise", "skip"):
            raise ParameterError(f"CalibrationStatistics.merge.duplicates={duplicates!r}; use 'raise' or 'skip'")
        difference = self.difference(other)
        if difference is not None:
            raise DataError(f"these statistics cannot be merged, they differ in {difference}; collect both alike")
        common = [sample for sample in other._sample_ids if sample in self._sample_ids]
        if common and duplicates == "raise":
            what = f"sample {common[0]!r} is"
            if len(common) > 1:
                what = f"sample {common[0]!r} and {len(common) - 1} more are"
            raise DataError(
                f"{what} on both sides; give every sample an id of its own, or skip those of a part that was merged "
                "twice with duplicates='skip', on the command line --skip-duplicates"
            )
        if common:
            self._check_same_rows(other, common)
            if len(common) == other.num_samples:
                return
            if len(common) < self.num_samples:
                alone = next(sample for sample in self._sample_ids if sample not in other._sample_ids)
                new = next(sample for sample in other._sample_ids if sample not in self._sample_ids)
                raise DataError(
                    f"both sides have sample {common[0]!r}, but only one has {alone!r} and only the other {new!r}: "
                    "they overlap in part, and their histograms count common samples twice; collect the missing "
                    "samples alone and merge those"
                )
            self._hold(other, range(other.num_samples), tensors=self._tensors, means=self._means)
            return
        for mine, its in zip(self._tables(), other._tables(self), strict=True):
            mine.reserve(its.values)
        # Nothing fails from here on.
        for name, tensor in self._tensors.items():
            tensor.merge(other._tensors[name])
        for name, means in self._means.items():
            means.merge(other._means[name])
        self._sample_ids.update(other._sample_ids)

    def _tables(self, like: CalibrationStatistics | None = None) -> Iterator[ColumnarTable]:
        """All tables, in the order of those of `like`."""
        order = self if like is None else like
        for name in order._tensors:
            yield from self._tensors[name].tables()
        for name in order._means:
            yield self._means[name].table

    def difference(self, other: CalibrationStatistics) -> str | None:
        """In what `other` differs so that the two do not merge, in words; None if nothing but the samples differs."""
        if self._model_hash != other._model_hash:
            same = " in its constants, the graph is the same" if self._graph_hash == other._graph_hash != "" else ""
            return f"the model{same}: hash {self._model_hash or 'unknown'} and {other._model_hash or 'unknown'}"
        if self._non_finite != other._non_finite:
            return f"the policy for values that are not finite: {self._non_finite!r} and {other._non_finite!r}"
        for name in (*self._tensors, *other._tensors):
            if name not in self._tensors or name not in other._tensors:
                return f"what is observed: tensor {name!r} is on one side only"
        for name in (*self._means, *other._means):
            if name not in self._means or name not in other._means:
                return f"what is observed: the means of the channels of tensor {name!r} are on one side only"
        if self._columns != other._columns:
            unlike = set(self._columns).symmetric_difference(other._columns)
            return f"the columns: {min(map(str, unlike))} is on one side only" if unlike else "the order of the columns"
        for name, tensor in self._tensors.items():
            difference = tensor.difference(other._tensors[name])
            if difference is not None:
                return f"tensor {name!r}: {difference}"
        for name, means in self._means.items():
            difference = means.difference(other._means[name])
            if difference is not None:
                return f"tensor {name!r}: {difference}"
        return None

    def _check_same_rows(self, other: CalibrationStatistics, samples: Sequence[str]) -> None:
        mine = {sample: index for index, sample in enumerate(self._sample_ids)}
        its = {sample: index for index, sample in enumerate(other._sample_ids)}
        left, right = [mine[sample] for sample in samples], [its[sample] for sample in samples]
        tables = [(name, tensor.table, other._tensors[name].table) for name, tensor in self._tensors.items()]
        tables += [(name, means.table, other._means[name].table) for name, means in self._means.items()]
        for name, table, twin in tables:
            of_common = zip(table.chunks(table.row_order(left)), twin.chunks(twin.row_order(right)), strict=False)
            if any(x.tobytes() != y.tobytes() for x, y in of_common):
                raise DataError(
                    f"samples on both sides, such as {samples[0]!r}, have different values in tensor {name!r}: they "
                    "are not the same samples; give every sample an id of its own"
                )

    def range(
        self,
        tensor: str,
        params: RangeEstimatorParameters | None = None,
        *,
        per_channel: bool = False,
        symmetric: bool = False,
        num_bits: int = 8,
        strict: bool = False,
        config: QuantizerConfig | None = None,
    ) -> DerivedRange:
        """The range of a tensor by any estimator. It unpacks to lower and upper bound.

        The bounds have the bits that a `RangeEstimator` with the same parameters gives after the same samples. Where
        the parameters ask for quantiles at a probability that was not collected, the bounds are estimates, and
        `DerivedRange.low_error` and `high_error` tell how far they are from the exact ones at most.

        :param tensor: its name.
        :param params: the estimator; None takes the default of the place, MINMAX per channel and else AUTO. Fields left
            None in parameters that are given take MIN/MIN and MAX/MAX per channel, else MIN/MEAN and MAX/MEAN.
        :param per_channel: a range for each channel. Needs statistics that were collected per channel.
        :param symmetric: whether the range is for a symmetric quantizer: a max branch that asks for MAX takes ABS_MAX,
            and those that look at the distribution of all values search symmetric ranges.
        :param num_bits: the bit width of the quantizer, whose error HISTOGRAM, MSE, ENTROPY and AUTO minimise; other
            estimators do not depend on it.
        :param strict: refuse what cannot be derived to the bit.
        :param config: all of the quantizer, in place of `num_bits`; its mode must be what `symmetric` says.
        :raises DataError: no sample was collected.
        :raises ParameterError: the tensor was not observed, the parameters are invalid, or they need what was not
            collected; the message tells how to collect it.
        """
        for field, value in (("per_channel", per_channel), ("symmetric", symmetric), ("strict", strict)):
            check_bool("CalibrationStatistics.range", field, value)
        check_num_bits("CalibrationStatistics.range", "num_bits", num_bits)
        found = self[tensor]
        resolved = resolve(params, is_weight=False, per_channel=per_channel)
        try:
            return derive_range(
                found,
                resolved,
                per_channel=per_channel,
                symmetric=symmetric,
                num_bits=num_bits,
                strict=strict,
                config=config,
            )
        except QuantizationError as error:
            raise type(error)(f"tensor {tensor!r}: {error}") from error

    def channel_mean(self, tensor: str) -> npt.NDArray[np.float32]:
        """The mean of each channel of a tensor over all samples, which weigh alike: float32 [channels].

        It does not depend on the order of the samples, bit for bit.

        :param tensor: its name, one of `channel_means`.
        :raises DataError: no sample was collected.
        :raises ParameterError: the means of this tensor were not collected.
        """
        found = self._means.get(tensor)
        if found is None:
            known = f"there are those of {', '.join(map(repr, self._means))}" if self._means else "there are none"
            raise ParameterError(f"the means of the channels of tensor {tensor!r} were not collected; {known}")
        try:
            return found.mean()
        except DataError as error:
            raise DataError(f"tensor {tensor!r}: {error}") from error

    def canonical(self) -> CalibrationStatistics:
        """A copy with samples in the order of their ids and tensors in that of their names.

        Equal statistics have equal canonical copies, bit by bit.

        Where a sample has several rows, as in batchwise statistics, they keep their order.
        """
        ids = self.sample_ids
        order = sorted(range(len(ids)), key=ids.__getitem__)
        return self._copied(order, tensors=sorted(self._tensors), means=sorted(self._means))

    def __copy__(self) -> CalibrationStatistics:
        return self._copied(range(self.num_samples), tensors=self._tensors, means=self._means)

    def _copied(self, order: Sequence[int], *, tensors: Iterable[str], means: Iterable[str]) -> CalibrationStatistics:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._hold(self, order, tensors=tensors, means=means)
        return twin

    def _hold(
        self, other: CalibrationStatistics, order: Sequence[int], *, tensors: Iterable[str], means: Iterable[str]
    ) -> None:
        """Have copies of what `other` has, in place of what was collected: sample k is its sample `order[k]`."""
        ids, memory = other.sample_ids, TableMemory(self._memory.limit)
        held = {name: other._tensors[name].reordered(order, memory) for name in tensors}
        held_means = {name: other._means[name].reordered(order, memory) for name in means}
        # Nothing fails from here on.
        self._memory, self._tensors, self._means = memory, held, held_means
        self._sample_ids = {ids[index]: None for index in order}

    def save(self, path: str | os.PathLike[str], *, input_hashes: Mapping[str, str] = MappingProxyType({})) -> None:
        """Write a statistics file (safetensors); needs the extra ``stats``. Equal statistics give equal files.

        The file appears complete or not at all; one of that name is replaced.

        :param input_hashes: what identifies the inputs of samples, by id: a checkpoint keeps it besides.
        :raises DataError: the file cannot be written.
        :raises ParameterError: `path` is no path.
        :raises QuantizationError: the package safetensors is not installed.
        """
        check_path("CalibrationStatistics.save", "path", path)
        calibration_file.save(
            calibration_file.Content(
                model_hash=self._model_hash,
                graph_hash=self._graph_hash,
                batchwise=self._batchwise,
                non_finite=self._non_finite,
                columns=self._columns,
                sample_ids=self.sample_ids,
                tensors=self._tensors,
                channel_means=self._means,
            ),
            path,
            input_hashes,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, memory_limit: int = DEFAULT_MEMORY_LIMIT) -> CalibrationStatistics:
        """Read a statistics file.

        :param memory_limit: bytes of tables that stay in memory.
        :raises DataError: there is no such file, it is truncated, was changed or is no statistics file, or a newer
            version of quantstats wrote it.
        :raises ParameterError: `path` is no path.
        :raises QuantizationError: the package safetensors is not installed.
        """
        check_path("CalibrationStatistics.load", "path", path)
        memory = TableMemory(memory_limit)
        content = calibration_file.load(path, memory)
        statistics = cls(
            {},  # The tensors are there already, with half a megabyte each.
            model_hash=content.model_hash,
            columns=content.columns,
            batchwise=content.batchwise,
            non_finite=content.non_finite,
            graph_hash=content.graph_hash,
            memory_limit=memory_limit,
        )
        statistics._memory = memory
        statistics._tensors = dict(content.tensors)
        statistics._means = dict(content.channel_means)
        statistics._sample_ids = dict.fromkeys(content.sample_ids)
        return statistics

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CalibrationStatistics):
            return NotImplemented
        if self.difference(other) is not None or self._sample_ids.keys() != other._sample_ids.keys():
            return False
        mine, its = self.canonical(), other.canonical()
        return all(tensor.has_bits_of(its._tensors[name]) for name, tensor in mine._tensors.items()) and all(
            means.table.has_bits_of(its._means[name].table) for name, means in mine._means.items()
        )

    def __repr__(self) -> str:
        return f"<CalibrationStatistics of {len(self._tensors)} tensors, {self.num_samples} samples>"
