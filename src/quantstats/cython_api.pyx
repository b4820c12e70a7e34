"""The kernels as C functions for Cython: ``from quantstats.cython_api cimport min_max``.

The functions are those of ``quantstats._core``, reached through its capsule: the kernels exist once in the process.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from quantstats import _core


cdef extern from "quantstats/capi.h" nogil:
    const char* QUANTSTATS_CAPI_NAME
    uint32_t QUANTSTATS_CAPI_VERSION
    ctypedef struct quantstats_tensor:
        void* data
        const int64_t* shape
        const int64_t* strides
        int32_t ndim
        int32_t dtype
    ctypedef struct quantstats_summary:
        size_t size
        void* min
        void* max
        void* abs_max
        void* mean
        int64_t* nan
        int64_t* pos_inf
        int64_t* neg_inf
    ctypedef struct quantstats_quantization:
        const float* scale
        const int32_t* zero_point
        int32_t axis
        int32_t qmin
        int32_t qmax
    ctypedef struct quantstats_capi:
        uint32_t version
        uint32_t size
        int64_t (*min_max_f32)(const float*, int64_t, float*, float*) noexcept nogil
        int (*quantize_f32_s8)(const float*, int64_t, float, int32_t, int32_t, int32_t, int8_t*) noexcept nogil
        int (*quantize_f32_u8)(const float*, int64_t, float, int32_t, int32_t, int32_t, uint8_t*) noexcept nogil
        int64_t (*quantile_f32)(const float*, int64_t, const double*, int32_t, float*) noexcept nogil
        const char* (*last_error)() noexcept nogil
        const char* (*isa)() noexcept nogil
        int32_t (*num_threads)() noexcept nogil
        int (*set_num_threads)(int32_t) noexcept nogil
        int64_t (*outputs)(const quantstats_tensor*, uint64_t) noexcept nogil
        int (*min_max)(const quantstats_tensor*, uint64_t, void*, void*, int64_t*) noexcept nogil
        int (*abs_max)(const quantstats_tensor*, uint64_t, void*, int64_t*) noexcept nogil
        int (*mean)(const quantstats_tensor*, uint64_t, void*, int64_t*) noexcept nogil
        int (*quantile)(const quantstats_tensor*, uint64_t, const double*, int32_t, void*, int64_t*) noexcept nogil
        int (*abs_quantile)(const quantstats_tensor*, uint64_t, const double*, int32_t, void*, int64_t*) noexcept nogil
        int (*median)(const quantstats_tensor*, uint64_t, void*, int64_t*) noexcept nogil
        int (*mean_no_outliers)(const quantstats_tensor*, uint64_t, double, void*, int64_t*) noexcept nogil
        int (*median_no_outliers)(const quantstats_tensor*, uint64_t, double, void*, int64_t*) noexcept nogil
        int (*summarize)(const quantstats_tensor*, uint64_t, const quantstats_summary*, const double*, int32_t, void*) noexcept nogil
        int (*histogram)(const quantstats_tensor*, double, double, int64_t, int64_t*, void*) noexcept nogil
        int (*bit_histogram)(const quantstats_tensor*, uint64_t*, int64_t*) noexcept nogil
        int (*quantize)(const quantstats_tensor*, const quantstats_quantization*, const quantstats_tensor*) noexcept nogil
        int (*dequantize)(const quantstats_tensor*, const quantstats_quantization*, const quantstats_tensor*) noexcept nogil
        int (*fake_quantize)(const quantstats_tensor*, const quantstats_quantization*, const quantstats_tensor*) noexcept nogil
        int (*saturating_matmul)(const quantstats_tensor*, const quantstats_tensor*, const quantstats_tensor*, int64_t*) noexcept nogil
        int (*certify)(const quantstats_tensor*, int32_t, int, int32_t*, int32_t*, int64_t*, int64_t*) noexcept nogil


cdef const quantstats_capi* _api = <const quantstats_capi*>PyCapsule_GetPointer(_core._C_API, QUANTSTATS_CAPI_NAME)

if _api.version != QUANTSTATS_CAPI_VERSION or _api.size < sizeof(quantstats_capi):
    raise ImportError(
        f"quantstats.cython_api was built for version {QUANTSTATS_CAPI_VERSION} of the C interface, "
        f"quantstats._core has version {_api.version}; reinstall quantstats-native"
    )


cdef int64_t min_max(const float* x, int64_t n, float* min, float* max) noexcept nogil:
    return _api.min_max_f32(x, n, min, max)


cdef int quantize_s8(
    const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin, int32_t qmax, int8_t* out
) noexcept nogil:
    return _api.quantize_f32_s8(x, n, scale, zero_point, qmin, qmax, out)


cdef int quantize_u8(
    const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin, int32_t qmax, uint8_t* out
) noexcept nogil:
    return _api.quantize_f32_u8(x, n, scale, zero_point, qmin, qmax, out)


cdef int64_t quantile(const float* x, int64_t n, const double* q, int32_t n_q, float* out) noexcept nogil:
    return _api.quantile_f32(x, n, q, n_q, out)


cdef const char* last_error() noexcept nogil:
    return _api.last_error()


cdef const char* isa() noexcept nogil:
    return _api.isa()


cdef int32_t num_threads() noexcept nogil:
    return _api.num_threads()


cdef int set_num_threads(int32_t n) noexcept nogil:
    return _api.set_num_threads(n)


cdef inline quantstats_tensor _tensor(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides
) noexcept nogil:
    cdef quantstats_tensor tensor
    tensor.data = <void*> data
    tensor.dtype = dtype
    tensor.ndim = ndim
    tensor.shape = shape
    tensor.strides = strides
    return tensor


cdef inline quantstats_quantization _quantization(
    const float* scale, const int32_t* zero_point, int32_t axis, int32_t qmin, int32_t qmax
) noexcept nogil:
    cdef quantstats_quantization quantization
    quantization.scale = scale
    quantization.zero_point = zero_point
    quantization.axis = axis
    quantization.qmin = qmin
    quantization.qmax = qmax
    return quantization


cdef int64_t tensor_outputs(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.outputs(&x, axes)


cdef int tensor_min_max(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, void* min, void* max, int64_t* nan
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.min_max(&x, axes, min, max, nan)


cdef int tensor_abs_max(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, void* abs_max, int64_t* nan
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.abs_max(&x, axes, abs_max, nan)


cdef int tensor_mean(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, void* mean, int64_t* nan
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.mean(&x, axes, mean, nan)


cdef int tensor_quantile(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, const double* q, int32_t n_q, void* values, int64_t* nan
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.quantile(&x, axes, q, n_q, values, nan)


cdef int tensor_abs_quantile(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, const double* q, int32_t n_q, void* values, int64_t* nan
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.abs_quantile(&x, axes, q, n_q, values, nan)


cdef int tensor_median(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, void* median, int64_t* nan
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.median(&x, axes, median, nan)


cdef int tensor_mean_no_outliers(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, double p, void* mean, int64_t* nan
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.mean_no_outliers(&x, axes, p, mean, nan)


cdef int tensor_median_no_outliers(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, double p, void* median, int64_t* nan
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.median_no_outliers(&x, axes, p, median, nan)


cdef int tensor_summarize(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t axes, const double* q, int32_t n_q,
    void* min, void* max, void* abs_max, void* mean, void* quantiles, int64_t* nan, int64_t* pos_inf, int64_t* neg_inf
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    cdef quantstats_summary summary
    summary.size = sizeof(quantstats_summary)
    summary.min = min
    summary.max = max
    summary.abs_max = abs_max
    summary.mean = mean
    summary.nan = nan
    summary.pos_inf = pos_inf
    summary.neg_inf = neg_inf
    return _api.summarize(&x, axes, &summary, q, n_q, quantiles)


cdef int tensor_histogram(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    double low, double high, int64_t bins, int64_t* counts, void* edges
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.histogram(&x, low, high, bins, counts, edges)


cdef int tensor_bit_histogram(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    uint64_t* counts, int64_t* nan
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    return _api.bit_histogram(&x, counts, nan)


cdef int tensor_quantize(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    const float* scale, const int32_t* zero_point, int32_t axis, int32_t qmin, int32_t qmax,
    void* out, int32_t out_dtype, const int64_t* out_strides
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    cdef quantstats_tensor to = _tensor(out, out_dtype, ndim, shape, out_strides)
    cdef quantstats_quantization quantization = _quantization(scale, zero_point, axis, qmin, qmax)
    return _api.quantize(&x, &quantization, &to)


cdef int tensor_dequantize(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    const float* scale, const int32_t* zero_point, int32_t axis, float* out, const int64_t* out_strides
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    cdef quantstats_tensor to = _tensor(out, FLOAT32, ndim, shape, out_strides)
    cdef quantstats_quantization quantization = _quantization(scale, zero_point, axis, 0, 0)
    return _api.dequantize(&x, &quantization, &to)


cdef int tensor_fake_quantize(
    const void* data, int32_t dtype, int32_t ndim, const int64_t* shape, const int64_t* strides,
    const float* scale, const int32_t* zero_point, int32_t axis, int32_t qmin, int32_t qmax,
    float* out, const int64_t* out_strides
) noexcept nogil:
    cdef quantstats_tensor x = _tensor(data, dtype, ndim, shape, strides)
    cdef quantstats_tensor to = _tensor(out, FLOAT32, ndim, shape, out_strides)
    cdef quantstats_quantization quantization = _quantization(scale, zero_point, axis, qmin, qmax)
    return _api.fake_quantize(&x, &quantization, &to)


cdef int saturating_matmul(
    const uint8_t* a, int64_t a_row_stride, int64_t a_column_stride,
    const int8_t* b, int64_t b_row_stride, int64_t b_column_stride,
    int64_t m, int64_t k, int64_t n, int32_t* out, int64_t* saturated
) noexcept nogil:
    cdef int64_t[2] a_shape = [m, k], b_shape = [k, n], out_shape = [m, n]
    cdef int64_t[2] a_strides = [a_row_stride, a_column_stride], b_strides = [b_row_stride, b_column_stride]
    cdef quantstats_tensor left = _tensor(a, UINT8, 2, a_shape, a_strides)
    cdef quantstats_tensor right = _tensor(b, INT8, 2, b_shape, b_strides)
    cdef quantstats_tensor product = _tensor(out, INT32, 2, out_shape, NULL)
    return _api.saturating_matmul(&left, &right, &product, saturated)


cdef int certify(
    const int8_t* weights, int64_t rows, int64_t length, int64_t row_stride, int64_t element_stride,
    int32_t u_max, int any_pairs, int32_t* positive, int32_t* negative, int64_t* positions, int64_t* at_risk
) noexcept nogil:
    cdef int64_t[2] shape = [rows, length], strides = [row_stride, element_stride]
    cdef quantstats_tensor matrix = _tensor(weights, INT8, 2, shape, strides)
    return _api.certify(&matrix, u_max, any_pairs, positive, negative, positions, at_risk)
