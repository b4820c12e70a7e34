# C functions for cimport. They need no GIL, never raise, and work on contiguous float32 data; see quantstats/capi.h.
from libc.stdint cimport int64_t

# Minimum and maximum of x[0..n), NaN left out; both are NaN if nothing is left. Returns the number of NaN.
cdef int64_t min_max(const float* x, int64_t n, float* min, float* max) noexcept nogil
