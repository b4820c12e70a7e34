"""The kernels as C functions for Cython: ``from quantstats.cython_api cimport min_max``.

The functions are those of ``quantstats._core``, reached through its capsule: the kernels exist once in the process.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t

from quantstats import _core


cdef extern from "quantstats/capi.h" nogil:
    const char* QUANTSTATS_CAPI_NAME
    uint32_t QUANTSTATS_CAPI_VERSION
    ctypedef struct quantstats_capi:
        uint32_t version
        uint32_t size
        int64_t (*min_max_f32)(const float*, int64_t, float*, float*) noexcept nogil
        int (*quantize_f32_s8)(const float*, int64_t, float, int32_t, int32_t, int32_t, int8_t*) noexcept nogil
        int (*quantize_f32_u8)(const float*, int64_t, float, int32_t, int32_t, int32_t, uint8_t*) noexcept nogil
        int64_t (*quantile_f32)(const float*, int64_t, const double*, int32_t, float*) noexcept nogil


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
