# C functions for cimport. They need no GIL, never raise, and work on contiguous float32 data; see quantstats/capi.h.
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

# Minimum and maximum of x[0..n), NaN left out; both are NaN if nothing is left. Returns the number of NaN.
cdef int64_t min_max(const float* x, int64_t n, float* min, float* max) noexcept nogil

# Levels of x[0..n): round(x / scale) half to even, plus zero_point, in [qmin, qmax]; NaN becomes the zero point. Return 0, or -1
# without writing if scale is not positive and finite, or not qmin <= zero_point <= qmax within the output type, qmin < qmax.
cdef int quantize_s8(
    const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin, int32_t qmax, int8_t* out
) noexcept nogil
cdef int quantize_u8(
    const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin, int32_t qmax, uint8_t* out
) noexcept nogil

# Exact quantiles of x[0..n) with linear interpolation: out[j] for the probability q[j], NaN left out, NaN if nothing is left. Returns
# the number of NaN, or -1 without writing if n_q is not in 1 .. 32, a probability not in [0, 1], or there is no memory.
cdef int64_t quantile(const float* x, int64_t n, const double* q, int32_t n_q, float* out) noexcept nogil
