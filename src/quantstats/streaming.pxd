# Statistics of values that come one at a time, for cimport: an update is a C call that needs no GIL. An object is used by
# one thread at a time. Only additions are allowed here, at the end of a class: other modules compile against the layout.
from libc.stdint cimport int64_t, uint64_t


cdef class RunningRange:
    cdef readonly int64_t count
    cdef readonly int64_t nan_count
    cdef double _least
    cdef double _greatest
    cpdef void update(self, double value) noexcept nogil


cdef class RunningMean:
    cdef readonly int64_t count
    cdef readonly int64_t nan_count
    cdef int64_t _pos_inf
    cdef int64_t _neg_inf
    cdef int64_t _pending
    cdef int64_t[68] _chunks
    cpdef void update(self, double value) noexcept nogil
    cdef void _carry(self) noexcept nogil
    cdef object _sum(self)


cdef class RunningHistogram:
    cdef readonly int64_t count
    cdef readonly int64_t nan_count
    cdef double _least
    cdef double _greatest
    cdef uint64_t* _counts
    cdef object _array
    cpdef void update(self, double value) noexcept nogil
