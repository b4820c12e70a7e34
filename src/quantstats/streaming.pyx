"""Statistics of values that come one at a time: their range, mean and histogram, exact and independent of the order.

For arrays use :mod:`quantstats.kernels`. These are for what is a single number per step -- a loss, a latency, the
maximum of a batch -- and for loops in Cython, where ``from quantstats.streaming cimport RunningRange`` makes ``update``
a C call without the GIL, of a few nanoseconds.

NaN is left out and counted; infinities are ordinary values. Two objects that saw the same values in any order are equal,
``merge`` takes in all that another one saw, and they copy and pickle. An object is used by one thread at a time.
"""

cimport cython
from libc.math cimport INFINITY, NAN, isinf
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

import numpy as np

__all__ = ["RunningHistogram", "RunningMean", "RunningRange"]


cdef inline double _no_negative_zero(double value) noexcept nogil:
    return value + 0.0


@cython.final
cdef class RunningRange:
    """Least and greatest value, and how many there were."""

    def __cinit__(self):
        self._least = INFINITY
        self._greatest = -INFINITY

    cpdef void update(self, double value) noexcept nogil:
        """Take in one value."""
        if value != value:
            self.nan_count += 1
            return
        self.count += 1
        if value < self._least:
            self._least = value
        if value > self._greatest:
            self._greatest = value

    @property
    def minimum(self):
        """The least value; NaN if there is none. A zero is +0.0."""
        return _no_negative_zero(self._least) if self.count else NAN

    @property
    def maximum(self):
        """The greatest value; NaN if there is none. A zero is +0.0."""
        return _no_negative_zero(self._greatest) if self.count else NAN

    def merge(self, RunningRange other not None):
        """Take in all values of `other`, which is not changed."""
        self.count += other.count
        self.nan_count += other.nan_count
        self._least = min(self._least, other._least)
        self._greatest = max(self._greatest, other._greatest)

    def __eq__(self, other):
        if not isinstance(other, RunningRange):
            return NotImplemented
        return self.__getstate__() == other.__getstate__()

    __hash__ = None

    def __getstate__(self):
        return self.count, self.nan_count, _no_negative_zero(self._least), _no_negative_zero(self._greatest)

    def __setstate__(self, state):
        self.count, self.nan_count, self._least, self._greatest = state

    def __reduce__(self):
        return RunningRange, (), self.__getstate__()

    def __repr__(self):
        return f"<RunningRange of {self.count} values from {self.minimum} to {self.maximum}>"


# The exact sum is a number of 2,176 bits in steps of 2**-1074, the least double: 68 chunks of 32 bits, each in a signed
# word of 64, so that 2**30 values can be added before a carry must be taken on (R. Neal, "Fast exact summation using small
# and large superaccumulators", 2015, with three narrow chunks for a value instead of two).
cdef enum:
    CHUNKS = 68
    CHUNK_BITS = 32
    MOST_PENDING = 1 << 30


@cython.final
cdef class RunningMean:
    """Arithmetic mean, as exact as a double can be.

    The sum is kept without any rounding, so the mean depends neither on the order of the values nor on how they are
    spread over objects that are merged later, and large values that cancel leave what is small.
    """

    cpdef void update(self, double value) noexcept nogil:
        """Take in one value."""
        cdef uint64_t bits, mantissa
        cdef int64_t low, middle, high
        cdef int exponent, chunk, shift
        memcpy(&bits, &value, sizeof(bits))
        exponent = <int> (bits >> 52) & 0x7FF
        mantissa = bits & 0xFFFFFFFFFFFFFULL
        if exponent == 0x7FF:
            if mantissa != 0:
                self.nan_count += 1
                return
            self.count += 1
            if bits >> 63:
                self._neg_inf += 1
            else:
                self._pos_inf += 1
            return
        self.count += 1
        if exponent != 0:
            mantissa |= <uint64_t> 1 << 52
            exponent -= 1
        # value = mantissa * 2**(exponent - 1074)
        chunk = exponent >> 5
        shift = exponent & 31
        low = <int64_t> ((mantissa << shift) & 0xFFFFFFFFULL)
        mantissa >>= CHUNK_BITS - shift
        middle = <int64_t> (mantissa & 0xFFFFFFFFULL)
        high = <int64_t> (mantissa >> CHUNK_BITS)
        if bits >> 63:
            self._chunks[chunk] -= low
            self._chunks[chunk + 1] -= middle
            self._chunks[chunk + 2] -= high
        else:
            self._chunks[chunk] += low
            self._chunks[chunk + 1] += middle
            self._chunks[chunk + 2] += high
        self._pending += 1
        if self._pending == MOST_PENDING:
            self._carry()

    cdef void _carry(self) noexcept nogil:
        """Make every chunk but the last one, which has the sign, a number of 32 bits."""
        cdef int i
        for i in range(CHUNKS - 1):
            self._chunks[i + 1] += self._chunks[i] >> CHUNK_BITS
            self._chunks[i] &= 0xFFFFFFFFLL
        self._pending = 0

    cdef object _sum(self):
        """The sum of the finite values, in steps of 2**-1074: an int of any length."""
        cdef int i
        cdef object total = 0
        for i in range(CHUNKS - 1, -1, -1):
            total = (total << CHUNK_BITS) + self._chunks[i]
        return total

    @property
    def mean(self):
        """The exact mean rounded once, half to even; NaN if there is no value, or infinities of both signs."""
        if not self.count or (self._pos_inf and self._neg_inf):
            return NAN
        if self._pos_inf:
            return INFINITY
        if self._neg_inf:
            return -INFINITY
        cdef object steps = self.count  # an int of any length
        return self._sum() / (steps << 1074)

    def merge(self, RunningMean other not None):
        """Take in all values of `other`, which is not changed."""
        cdef int i
        self._carry()
        for i in range(CHUNKS):
            self._chunks[i] += other._chunks[i]
        self._carry()
        self.count += other.count
        self.nan_count += other.nan_count
        self._pos_inf += other._pos_inf
        self._neg_inf += other._neg_inf

    def __eq__(self, other):
        if not isinstance(other, RunningMean):
            return NotImplemented
        return self.__getstate__() == other.__getstate__()

    __hash__ = None

    def __getstate__(self):
        return self.count, self.nan_count, self._pos_inf, self._neg_inf, self._sum()

    def __setstate__(self, state):
        cdef int i
        cdef object total
        self.count, self.nan_count, self._pos_inf, self._neg_inf, total = state
        for i in range(CHUNKS - 1):
            self._chunks[i] = total & 0xFFFFFFFF
            total >>= CHUNK_BITS
        self._chunks[CHUNKS - 1] = total
        self._pending = 0

    def __reduce__(self):
        return RunningMean, (), self.__getstate__()

    def __repr__(self):
        return f"<RunningMean of {self.count} values: {self.mean}>"


@cython.final
cdef class RunningHistogram:
    """Counts by the upper half of the float32 pattern, with the exact range: bins of 1/128 of a power of two.

    These are the counters of `quantstats.kernels.bit_histogram`, 65,536 of them (512 KB), fixed before any value is
    seen.
    """

    def __cinit__(self):
        cdef uint64_t[::1] counts
        self._least = INFINITY
        self._greatest = -INFINITY
        self._array = np.zeros(65536, np.uint64)
        counts = self._array
        self._counts = &counts[0]

    cpdef void update(self, double value) noexcept nogil:
        """Take in one value. What float32 does not hold is cut to float32 towards zero to be counted."""
        cdef float single = <float> value
        cdef uint32_t bits, upper
        if value != value:
            self.nan_count += 1
            return
        self.count += 1
        if value < self._least:
            self._least = value
        if value > self._greatest:
            self._greatest = value
        memcpy(&bits, &single, sizeof(bits))
        if (single > value and value > 0) or (single < value and value < 0):
            bits -= 1
        upper = bits >> 16
        self._counts[~upper & 0xFFFF if upper & 0x8000 else upper | 0x8000] += 1

    @property
    def minimum(self):
        """The least value; NaN if there is none. A zero is +0.0."""
        return _no_negative_zero(self._least) if self.count else NAN

    @property
    def maximum(self):
        """The greatest value; NaN if there is none. A zero is +0.0."""
        return _no_negative_zero(self._greatest) if self.count else NAN

    @property
    def counts(self):
        """A copy of the counters: a uint64 array of shape (65536,), ascending with the values."""
        return self._array.copy()

    def quantile_bounds(self, double probability, *, bint magnitudes=False):
        """Between which values the quantile lies (`linear` interpolation): the edges of the bins of its neighbours.

        :param probability: in [0, 1].
        :param magnitudes: take the quantile of the absolute values.
        :raises ValueError: if `probability` is outside [0, 1], or no value or an infinite one was taken in.
        """
        from quantstats.statistics.bit_histogram import BitHistogram

        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; pass a number between 0 and 1")
        if not self.count or isinf(self._least) or isinf(self._greatest):
            raise ValueError(f"{self!r} has no quantiles; they need at least one value, and finite ones alone")
        histogram = BitHistogram()
        histogram.counts += self._array
        histogram.minimum, histogram.maximum = self.minimum, self.maximum
        return histogram.quantile_bounds(probability, magnitudes=magnitudes)

    def merge(self, RunningHistogram other not None):
        """Take in all values of `other`, which is not changed."""
        self._array += other._array
        self.count += other.count
        self.nan_count += other.nan_count
        self._least = min(self._least, other._least)
        self._greatest = max(self._greatest, other._greatest)

    def __eq__(self, other):
        if not isinstance(other, RunningHistogram):
            return NotImplemented
        cdef RunningHistogram twin = other
        return (
            self.nan_count == twin.nan_count
            and self._least == twin._least
            and self._greatest == twin._greatest
            and np.array_equal(self._array, twin._array)
        )

    __hash__ = None

    def __getstate__(self):
        keys = np.flatnonzero(self._array)
        least, greatest = _no_negative_zero(self._least), _no_negative_zero(self._greatest)
        return self.count, self.nan_count, least, greatest, keys.astype(np.uint16), self._array[keys]

    def __setstate__(self, state):
        self.count, self.nan_count, self._least, self._greatest, keys, counts = state
        self._array[:] = 0
        self._array[keys] = counts

    def __reduce__(self):
        return RunningHistogram, (), self.__getstate__()

    def __repr__(self):
        return f"<RunningHistogram of {self.count} values from {self.minimum} to {self.maximum}>"
