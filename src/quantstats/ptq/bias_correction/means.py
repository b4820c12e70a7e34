"""The mean of each channel of an activation, collected with as little work for each sample as there can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantstats import kernels
from quantstats.adapters.protocol import Array
from quantstats.errors import DataError, NonFiniteError
from quantstats.statistics.aggregation import order_free_mean
from quantstats.statistics.reduction import as_sample


class InputMean:
    """Collects the mean of each channel of one tensor: 4 bytes a channel and sample.

    It ends up with the bits of :class:`~quantstats.statistics.channel_means.ChannelMeans`, which can be merged and kept
    in a file and checks every sample as it comes; here a sample costs a microsecond or two besides reading it.

    :param tensor: Its name, for messages.
    :param axis: Axis of the channels.
    :param batchwise: Whether each item of axis 0 is a sample of its own, wherever axis 0 is not that of the channels.
    """

    def __init__(self, tensor: str, axis: int, *, batchwise: bool = False) -> None:
        self._tensor = tensor
        self._axis = axis
        self._items = batchwise and axis != 0
        self._rows: list[Array] = []
        # The axes to reduce, by the rank of a sample.
        self._reduced: dict[int, tuple[int, ...]] = {}

    def update(self, x: Array) -> None:
        """Take in a sample. It is not kept."""
        if x.dtype != np.float32:
            x = as_sample(x)
        reduced = self._reduced.get(x.ndim)
        if reduced is None:
            kept = (0, self._axis) if self._items else (self._axis,)
            reduced = self._reduced[x.ndim] = tuple(axis for axis in range(x.ndim) if axis not in kept)
        # Without an axis to reduce every value is its own mean.
        self._rows.append(np.asarray(kernels.mean(x, reduced, nan_policy="propagate")) if reduced else x.copy())

    def mean(self) -> NDArray[np.float32]:
        """Return the mean over all samples, which weigh alike: float32 [channels].

        :raises NonFiniteError: if a sample held NaN or Inf.
        :raises DataError: if samples differ in their number of channels.
        """
        shaped = [row if self._items else row[np.newaxis] for row in self._rows if row.size]
        channels = {row.shape[1] for row in shaped}
        if len(channels) != 1:
            raise DataError(
                f"tensor {self._tensor!r} has {sorted(channels) or 'no'} channels along axis {self._axis} in different "
                "samples; check the data, or set disable_bias_correction=True"
            )
        with np.errstate(over="ignore"):
            table = np.concatenate(shaped).astype(np.float32)
        if not np.isfinite(table).all():
            raise NonFiniteError(
                f"the mean of a channel of tensor {self._tensor!r} is not finite; check the data, or set "
                "disable_bias_correction=True"
            )
        mean: NDArray[np.float32] = order_free_mean(table)
        return mean
