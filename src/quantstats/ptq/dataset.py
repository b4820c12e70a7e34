"""Calibration data: from any iterable of a user to checked samples of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from quantstats.adapters.protocol import Array, Sample
from quantstats.errors import DataError
from quantstats.ptq.graph import QuantizationGraph, Tensor


class Dataset:
    """Samples for calibration.

    An item, after ``transform_func`` if there is one, is one sample: everything that one run of the model reads, with
    the batch axis that the model expects. It is one of

    - a mapping from the names of all model inputs to arrays;
    - a list or tuple of arrays, in the order of the model inputs;
    - a single array, for a model with one input.

    Anything that :func:`numpy.asarray` turns into an array without changing its dtype serves as one.

    An array as the whole source, of NumPy or another library, and a mapping of arrays as the whole source hold samples
    along axis 0; each sample is a slice of length one that keeps the axis, ``source[i:i + 1]``. With ``transform_func``
    an array is iterated like any other source, so the function gets ``source[i]``, without the axis.

    :param source: Any iterable: a list, a generator, a data loader, an array; or a data set with a length and items by
        index alone, as torch has them. A source that can be iterated only once serves one calibration.
    :param transform_func: Makes a sample of an item of the source, for example drops the label.
    :raises DataError: if the source is not iterable, or is a mapping of arrays whose lengths differ.
    """

    def __init__(self, source: Any, transform_func: Callable[[Any], Any] | None = None) -> None:
        self._transform = transform_func
        if transform_func is not None and not callable(transform_func):
            raise DataError(f"transform_func={transform_func!r} is not callable; give a function of one item, or None")
        if isinstance(source, Mapping):
            arrays = {name: values if is_array(values) else np.asarray(values) for name, values in source.items()}
            source = _ArraySlices(arrays)
        elif is_array(source) and transform_func is None:
            source = _ArraySlices({None: source})
        elif not isinstance(source, Iterable) and _has(source, "__getitem__", "__len__"):
            source = _Items(source)
        if not isinstance(source, Iterable) or isinstance(source, (str, bytes)):
            raise DataError(
                f"calibration data of type {type(source).__name__} cannot be iterated over; "
                "give a list of samples, a generator or an array with samples along axis 0"
            )
        self._source: Iterable[Any] = source

    @classmethod
    def of(cls, data: Any) -> Dataset:
        """Return ``data`` itself if it is a dataset, else a dataset of it.

        A dataset of nncf is recognised by its shape and read item by item as nncf reads it.
        """
        if isinstance(data, cls):
            return data
        if type(data).__module__.partition(".")[0] == "nncf" and hasattr(data, "get_inference_data"):
            return cls(data.get_inference_data())
        return cls(data)

    def __len__(self) -> int:
        """Return the number of samples; ``TypeError`` if the source does not know its length."""
        return len(self._source)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if self._transform is None:
            yield from self._source
        else:
            for item in self._source:
                yield self._transform(item)

    @property
    def source(self) -> Iterable[Any]:
        """The items before ``transform_func``."""
        return self._source

    @property
    def batch_size(self) -> int:
        """The batch size that a data loader states by an attribute of this name; 1 for any other source."""
        stated = getattr(self._source, "batch_size", None)
        return stated if isinstance(stated, int) else 1

    def length_hint(self) -> int | None:
        """Return the number of samples, or ``None`` where only iterating would tell."""
        try:
            return len(self)
        except TypeError:
            return None

    def samples(self, graph: QuantizationGraph, limit: int | None = None) -> Iterator[Sample]:
        """Yield samples as mappings from input names to arrays, each checked against the model.

        :param graph: The model.
        :param limit: The largest number of samples to read from the source; ``None`` reads all.
        :raises DataError: if a sample does not fit the model, or there is none at all.
        """
        count = 0
        if limit is None or limit > 0:
            for item in self:
                yield normalize_sample(item, graph, count)
                count += 1
                if count == limit:
                    return
        if count == 0:
            raise DataError(
                "calibration data are empty; give at least one sample (a generator that was read before is empty, too)"
            )


def is_array(value: Any) -> bool:
    """Whether `value` is an array of any library, rather than a collection of samples."""
    return _has(value, "__array__", "__len__") and hasattr(value, "ndim")


def _has(value: Any, *methods: str) -> bool:
    return all(hasattr(type(value), method) for method in methods)


class _Items:
    """The items of what has a length and items by index, and need not say by an error where it ends."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> Any:
        return self._source[index]

    def __iter__(self) -> Iterator[Any]:
        return (self._source[index] for index in range(len(self._source)))


class _ArraySlices(Sequence[Any]):
    """Slices of length one along axis 0 of one array, or of several by name. They are of the arrays' own type."""

    def __init__(self, arrays: Mapping[Any, Any]) -> None:
        self._arrays = dict(arrays)
        lengths = {name: len(array) if array.ndim else None for name, array in self._arrays.items()}
        for name, length in lengths.items():
            if length is None:
                what = "calibration data" if name is None else f"calibration data {name!r}"
                raise DataError(f"{what} are a scalar; give an array with samples along axis 0")
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name!r}: {length}" for name, length in lengths.items())
            raise DataError(
                f"calibration arrays differ in length along axis 0 ({listed}); give as many samples in each"
            )
        self._length = next(iter(lengths.values()), None) or 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"sample {index} of {self._length}")
        index %= self._length
        if None in self._arrays:
            return self._arrays[None][index : index + 1]
        return {name: array[index : index + 1] for name, array in self._arrays.items()}


def normalize_sample(item: Any, graph: QuantizationGraph, index: int) -> Sample:
    """Return one item of the calibration data as a mapping from input names to arrays that fit the model.

    Lengths that the model leaves open are free, but an axis that the model fixes, the rank and the dtype must agree:
    casting silently would hide preprocessing that went wrong.

    :param item: See :class:`Dataset`.
    :param graph: The model.
    :param index: Position of the sample, for messages.
    :raises DataError: if names, dtypes or shapes do not fit; the message names input, sample, value and remedy.
    """
    names = graph.inputs
    values: Mapping[Any, Any]
    if isinstance(item, Mapping):
        values = item
    elif isinstance(item, (list, tuple)):
        if len(item) != len(names):
            raise DataError(
                f"sample {index} has {len(item)} arrays, but the model has {len(names)} inputs ({_listed(names)}); "
                "give one array for each, in this order, or a mapping from names to arrays (transform_func can make it)"
            )
        values = dict(zip(names, item, strict=True))
    elif len(names) == 1:
        values = {names[0]: item}
    else:
        raise DataError(
            f"sample {index} is a single {type(item).__name__}, but the model has {len(names)} inputs "
            f"({_listed(names)}); give a mapping from names to arrays"
        )
    missing = [name for name in names if name not in values]
    extra = [name for name in values if name not in names]
    if missing or extra:
        problems = []
        if missing:
            problems.append(f"lacks {_listed(missing)}")
        if extra:
            problems.append(f"has {_listed(extra)}, which the model does not have")
        raise DataError(f"sample {index} {' and '.join(problems)}; the model's inputs are {_listed(names)}")
    return {name: _checked(values[name], graph.tensors[name], index) for name in names}


def native(array: Array) -> Array:
    """The array in the byte order of this machine: runtimes take bytes as they are."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _checked(value: Any, tensor: Tensor, index: int) -> Array:
    if isinstance(value, np.ma.MaskedArray):
        raise DataError(
            f"input {tensor.name!r} of sample {index} is a masked array, and a model reads every value; put values in "
            "place of those that are masked, with .filled(value)"
        )
    try:
        array = np.asarray(value)
    except Exception as error:
        raise DataError(
            f"input {tensor.name!r} of sample {index}: {type(value).__name__} does not convert to an array ({error}); "
            "give a NumPy array"
        ) from error
    array = native(array)
    if tensor.dtype is not None and array.dtype.name != tensor.dtype:
        raise DataError(
            f"input {tensor.name!r} of sample {index} has dtype {array.dtype.name}, the model needs {tensor.dtype}; "
            f"convert it, for example with .astype({tensor.dtype!r})"
        )
    if tensor.shape is None:
        return array
    wanted = "[" + ", ".join("?" if length is None else str(length) for length in tensor.shape) + "]"
    found = "[" + ", ".join(map(str, array.shape)) + "]"
    if array.ndim != len(tensor.shape):
        hint = "is the batch axis missing?" if array.ndim + 1 == len(tensor.shape) else "reshape it"
        raise DataError(
            f"input {tensor.name!r} of sample {index} has shape {found} with {array.ndim} axes, the model needs "
            f"{len(tensor.shape)}: {wanted}; {hint}"
        )
    for axis, (length, fixed) in enumerate(zip(array.shape, tensor.shape, strict=True)):
        if fixed is not None and length != fixed:
            raise DataError(
                f"input {tensor.name!r} of sample {index} has shape {found}, the model needs {wanted}: "
                f"axis {axis} must have length {fixed}, not {length}; reshape or batch the samples accordingly"
            )
    if array.size == 0:
        raise DataError(f"input {tensor.name!r} of sample {index} has shape {found} without any value; drop the sample")
    return array


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(repr(name) for name in names)
