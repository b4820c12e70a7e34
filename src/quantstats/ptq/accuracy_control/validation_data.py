"""Validation data: items that can be read again and again, all of them or some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from quantstats.errors import DataError
from quantstats.ptq.dataset import Dataset, is_array

_REMEDY = "give a list, an array, a data loader or a Dataset of one"


class ValidationItems:
    """The items that a validation function iterates over, as they are in the source: with their labels.

    :param source: An iterable that begins anew for every iterator.
    :param indices: Positions of the items, ascending; ``None`` for all.
    """

    def __init__(self, source: Any, indices: Sequence[int] | None = None) -> None:
        self._source = source
        self._indices = indices

    def __len__(self) -> int:
        """Return the number of items; ``TypeError`` if the source does not know it."""
        return len(self._source) if self._indices is None else len(self._indices)

    def __iter__(self) -> Iterator[Any]:
        if self._indices is None:
            yield from self._source
        elif isinstance(self._source, Sequence) or hasattr(self._source, "__getitem__"):
            yield from (self._source[index] for index in self._indices)
        else:
            wanted = iter(self._indices)
            index: int | None = next(wanted, None)
            for position, item in enumerate(self._source):
                if index is None:
                    return
                if position == index:
                    yield item
                    index = next(wanted, None)


class ValidationData:
    """The validation data of a user.

    :param data: Any iterable that can be read more than once; of a :class:`Dataset` the items before its
        ``transform_func``, so that they have their labels.
    :raises DataError: if the data are empty, or can be read only once.
    """

    def __init__(self, data: Any) -> None:
        if type(data).__module__.partition(".")[0] == "nncf" and hasattr(data, "get_data"):
            data = _OfNncf(data)
        self._source: Any = data
        if isinstance(data, Dataset):
            self._source = data.source
        elif isinstance(data, Mapping) or is_array(data):
            self._source = Dataset(data).source
        if isinstance(data, (str, bytes)) or not _can_be_iterated(self._source):
            raise DataError(f"validation data of type {type(data).__name__} cannot be iterated over; {_REMEDY}")
        if isinstance(self._source, Iterator):
            raise DataError(
                f"validation data of type {type(self._source).__name__} can be read only once, and every quantized "
                f"model is validated on them; {_REMEDY}"
            )
        if self.length_hint() == 0:
            raise DataError(f"validation data are empty; {_REMEDY}, with at least one item")

    def length_hint(self) -> int | None:
        """Return the number of items, or ``None`` where only iterating would tell."""
        try:
            return len(self._source)
        except TypeError:
            return None

    def items(self, indices: Sequence[int] | None = None) -> ValidationItems:
        """Return all items, or those at some positions."""
        return ValidationItems(self._source, indices)


def _can_be_iterated(data: Any) -> bool:
    try:
        iter(data)
    except TypeError:
        return False
    return True


class _OfNncf:
    """A dataset of nncf, which hands out its items by a method."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        items: Iterable[Any] = self._dataset.get_data()
        return iter(items)


__all__ = ["ValidationData", "ValidationItems"]
