/* The C interface of quantstats: a versioned struct of function pointers, for extension modules of any language.
 *
 * From Python, `quantstats._core._C_API` is a capsule named QUANTSTATS_CAPI_NAME that holds a `const quantstats_capi*`;
 * the Cython module quantstats.cython_api wraps it for cimport. The struct only grows: members are appended, never
 * moved, and `size` tells how much of it the installed library fills. A member beyond `size` does not exist.
 *
 * Every function works on contiguous float32 data, needs no Python thread state and never raises: what is wrong with
 * the arguments is told by the value returned. The arrays of one call must not overlap.
 */
#ifndef QUANTSTATS_CAPI_H
#define QUANTSTATS_CAPI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QUANTSTATS_CAPI_NAME "quantstats._core._C_API"
#define QUANTSTATS_CAPI_VERSION 1

typedef struct quantstats_capi {
  uint32_t version; /* QUANTSTATS_CAPI_VERSION of the library */
  uint32_t size;    /* bytes of this struct that the library fills */

  /* Minimum and maximum of x[0..n), NaN left out; both are NaN if nothing is left. Returns the number of NaN. */
  int64_t (*min_max_f32)(const float* x, int64_t n, float* min, float* max);

  /* Levels of x[0..n): round(x / scale) half to even, plus zero_point, in [qmin, qmax]; NaN becomes the zero point.
   * Returns 0, or -1 without writing if scale is not positive and finite, or not low <= qmin <= zero_point <= qmax <=
   * high with qmin < qmax, where low and high are the limits of the output type. */
  int (*quantize_f32_s8)(const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin, int32_t qmax,
                         int8_t* out);
  int (*quantize_f32_u8)(const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin, int32_t qmax,
                         uint8_t* out);

  /* Exact quantiles of x[0..n) with linear interpolation: out[j] for the probability q[j], NaN left out, NaN if nothing
   * is left. Returns the number of NaN, or -1 without writing if n_q is not in 1 .. 32, a probability not in [0, 1], or
   * there is no memory (up to 6 % of the data and 2 MB). */
  int64_t (*quantile_f32)(const float* x, int64_t n, const double* q, int32_t n_q, float* out);
} quantstats_capi;

#ifdef __cplusplus
}
#endif

#endif
