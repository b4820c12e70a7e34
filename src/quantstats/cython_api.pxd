# C functions for cimport, in plain C types. They need no GIL and never raise; quantstats/capi.h tells the rest. Only additions
# are allowed here: compiled clients look functions up by name and signature.
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t

# --- Contiguous float32 data --------------------------------------------------------------------------------------------

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

# --- Tensors ------------------------------------------------------------------------------------------------------------
#
# A tensor is `data`, the element whose indices are all 0; `dtype`, a constant below; `ndim` sizes; and `ndim` strides in bytes, of
# any sign, or NULL for C order without gaps. A function returns OK, or a negative ERROR_* and leaves its outputs alone; last_error
# tells what was wrong. `axes` are the axes to reduce, a set of bits: 1 << 0 | 1 << 2, say, or ALL_AXES.
cdef enum:
    FLOAT32 = 0
    FLOAT64 = 1
    FLOAT16 = 2
    BFLOAT16 = 3
    INT8 = 16
    UINT8 = 17
    INT16 = 18
    UINT16 = 19
    INT32 = 20

cdef enum:
    OK = 0
    ERROR_ARGUMENT = -1
    ERROR_MEMORY = -2
    ERROR_VERSION = -3
    ERROR_ENVIRONMENT = -4

cdef enum:
    PER_TENSOR = -1
    BIT_BINS = 65536

cdef extern from "<stdint.h>" nogil:
    const uint64_t ALL_AXES "UINT64_MAX"

# What the last call of this thread that failed found wrong, and what to do.
cdef const char* last_error() noexcept nogil
# Name of the instruction set in use.
cdef const char* isa() noexcept nogil
# How many threads a call may use, the caller included.
cdef int32_t num_threads() noexcept nogil
cdef int set_num_threads(int32_t n) noexcept nogil

# A result has tensor_outputs() elements, in C order of the axes kept: double for float64 tensors, float for the others. `nan` takes
# how many elements of each output's were NaN, which are left out, and may be NULL.
cdef int64_t tensor_outputs(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes
) noexcept nogil
cdef int tensor_min_max(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, void* min, void* max, int64_t* nan
) noexcept nogil
cdef int tensor_abs_max(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, void* abs_max, int64_t* nan
) noexcept nogil
cdef int tensor_mean(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, void* mean, int64_t* nan
) noexcept nogil

# A plane of outputs for each probability q[j], in [0, 1].
cdef int tensor_quantile(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, const double* q, int32_t n_q, void* values, int64_t* nan
) noexcept nogil
cdef int tensor_abs_quantile(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, const double* q, int32_t n_q, void* values, int64_t* nan
) noexcept nogil
cdef int tensor_median(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, void* median, int64_t* nan
) noexcept nogil

# Of what lies neither below the p-quantile nor above the (1 - p)-quantile; 0 < p < 0.5.
cdef int tensor_mean_no_outliers(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, double p, void* mean, int64_t* nan
) noexcept nogil
cdef int tensor_median_no_outliers(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, double p, void* median, int64_t* nan
) noexcept nogil

# All in one read; any output may be NULL, `quantiles` if n_q is 0.
cdef int tensor_summarize(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, const double* q, int32_t n_q,
    void* min, void* max, void* abs_max, void* mean, void* quantiles, int64_t* nan, int64_t* pos_inf, int64_t* neg_inf
) noexcept nogil

# Writes counts[bins] and, unless it is NULL, edges[bins + 1], as numpy.histogram does.
cdef int tensor_histogram(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    double low, double high, int64_t bins, int64_t* counts, void* edges
) noexcept nogil

# Adds to counts[BIT_BINS].
cdef int tensor_bit_histogram(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t* counts, int64_t* nan
) noexcept nogil

# One scale and zero point if `axis` is PER_TENSOR, else shape[axis] of each; zero_point may be NULL for 0. `out` has the shape of
# the input; out_dtype is INT8, UINT8, INT16 or UINT16.
cdef int tensor_quantize(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    const float* scale, const int32_t* zero_point, int32_t axis, int32_t qmin, int32_t qmax,
    void* out, int32_t out_dtype, const int64_t* out_strides
) noexcept nogil
cdef int tensor_dequantize(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    const float* scale, const int32_t* zero_point, int32_t axis, float* out, const int64_t* out_strides
) noexcept nogil
cdef int tensor_fake_quantize(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    const float* scale, const int32_t* zero_point, int32_t axis, int32_t qmin, int32_t qmax,
    float* out, const int64_t* out_strides
) noexcept nogil

# out[m, n] = a[m, k] b[k, n] with pairs of products saturated to 16 bits; strides in bytes, `out` in C order. `saturated` takes how
# many pairs were, and may be NULL.
cdef int saturating_matmul(
    const uint8_t* a, int64_t a_row_stride, int64_t a_column_stride,
    const int8_t* b, int64_t b_row_stride, int64_t b_column_stride,
    int64_t m, int64_t k, int64_t n, int32_t* out, int64_t* saturated
) noexcept nogil

# Whether such sums can saturate for any activations in [0, u_max]: a row is safe if and only if u_max * positive <= 32767 and
# u_max * negative <= 32768. One of the strides, in bytes, is 1. `positions` and `at_risk` may be NULL.
cdef int certify(
    const int8_t* weights, int64_t rows, int64_t length, int64_t row_stride, int64_t element_stride,
    int32_t u_max, int any_pairs, int32_t* positive, int32_t* negative, int64_t* positions, int64_t* at_risk
) noexcept nogil
