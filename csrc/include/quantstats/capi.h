/* The C interface of quantstats: the kernels as C99 functions, in a versioned struct of function pointers.
 *
 * How to get the struct
 *   in a Python process   quantstats_import() of <quantstats/python.h>: no library to link, and the kernels, the
 *                         threads and the instruction set of the quantstats package itself;
 *   in any other program  quantstats_get_capi(), in the library libquantstats (CMake: quantstats::quantstats;
 *                         pkg-config: quantstats).
 *   Cython has the functions without the struct: cimport quantstats.cython_api.
 *
 * Versions
 *   The struct only grows: members are appended, never moved or changed, and `size` tells how many bytes of it the
 *   library fills. Who compiles with this header and asks for sizeof(quantstats_capi) has all members below or gets an
 *   error. Who asks for less, to work with older libraries too, tests for the rest with QUANTSTATS_HAS(api, member).
 *
 * Calls
 *   No function needs the Python interpreter or its lock, none throws or exits, and all may be called from several
 *   threads at once. A call may use as many threads as num_threads() says; results are the same bits for any number of
 *   them and on any instruction set, which is the best that the CPU has unless the environment variable QUANTSTATS_ISA
 *   names one when the library is first used. Memory for intermediate results comes from the heap, at most 6 % of the
 *   input and 2 MB unless a function says otherwise; each calling thread keeps it for its next call.
 *
 * Errors
 *   An `int` that is returned is QUANTSTATS_OK or one of the negative numbers QUANTSTATS_ERROR_*; outputs are then as
 *   they were. last_error() tells which argument it was, its value, and what to do.
 *
 * NaN and infinities
 *   Statistics leave NaN out and count them: whether they are an error is the caller's choice. Infinities are ordinary
 *   values. A value of no elements, or of nothing but NaN, is NaN.
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

#define QUANTSTATS_OK 0
#define QUANTSTATS_ERROR_ARGUMENT (-1)    /* an argument is out of its range or does not go with the others */
#define QUANTSTATS_ERROR_MEMORY (-2)      /* no memory for intermediate results */
#define QUANTSTATS_ERROR_VERSION (-3)     /* the library is older, or of another major version, than the header */
#define QUANTSTATS_ERROR_ENVIRONMENT (-4) /* QUANTSTATS_ISA or QUANTSTATS_NUM_THREADS asks for what cannot be */

/* Types of elements, in the byte order of the machine. */
#define QUANTSTATS_FLOAT32 0
#define QUANTSTATS_FLOAT64 1
#define QUANTSTATS_FLOAT16 2  /* IEEE binary16 */
#define QUANTSTATS_BFLOAT16 3 /* upper half of a float32 */
#define QUANTSTATS_INT8 16
#define QUANTSTATS_UINT8 17
#define QUANTSTATS_INT16 18
#define QUANTSTATS_UINT16 19
#define QUANTSTATS_INT32 20

/* An array that somebody else owns. */
typedef struct quantstats_tensor {
  void* data;             /* the element whose indices are all 0; a function does not write through an input */
  const int64_t* shape;   /* ndim sizes, in elements */
  const int64_t* strides; /* ndim strides, in bytes, of any sign and zero too; NULL: C order without gaps */
  int32_t ndim;           /* 0 .. QUANTSTATS_MAX_DIMS */
  int32_t dtype;          /* QUANTSTATS_FLOAT32 ... */
} quantstats_tensor;

#define QUANTSTATS_MAX_DIMS 64

/* Which axes a function reduces: a set of bits, QUANTSTATS_AXIS(0) | QUANTSTATS_AXIS(2), say. The others are kept. */
#define QUANTSTATS_AXIS(i) ((uint64_t)1 << (i))
#define QUANTSTATS_ALL_AXES UINT64_MAX

/* What summarize finds; a null pointer leaves a value out. Each has one element per output, see `outputs`. */
typedef struct quantstats_summary {
  size_t size; /* sizeof(quantstats_summary): the struct may grow */
  void* min;
  void* max;
  void* abs_max;
  void* mean;
  int64_t* nan;     /* how many elements are NaN, */
  int64_t* pos_inf; /* +Inf */
  int64_t* neg_inf; /* and -Inf */
} quantstats_summary;

/* How real values x and integer levels q belong together: q = round(x / scale) + zero_point, in [qmin, qmax], and
 * x = (q - zero_point) * scale, as ONNX QuantizeLinear and DequantizeLinear. */
typedef struct quantstats_quantization {
  const float* scale;        /* positive and finite; one, or one for each channel */
  const int32_t* zero_point; /* in [qmin, qmax], as many as scales; NULL: 0 */
  int32_t axis;              /* the axis of the channels, or QUANTSTATS_PER_TENSOR for one scale and one zero point */
  int32_t qmin;              /* qmin < qmax, both of them levels of the integer type */
  int32_t qmax;
} quantstats_quantization;

#define QUANTSTATS_PER_TENSOR (-1)

/* Counters of bit_histogram. */
#define QUANTSTATS_BIT_BINS 65536

typedef struct quantstats_capi {
  uint32_t version; /* QUANTSTATS_CAPI_VERSION of the library */
  uint32_t size;    /* bytes of this struct that the library fills */

  /* --- Contiguous float32 data. The arrays of one call must not overlap. ---------------------------------------- */

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

  /* --- The library ---------------------------------------------------------------------------------------------- */

  /* What the last call of this thread that failed found wrong: the argument, its value, and what to do. Never null;
   * empty if no call failed; valid until the next call of this thread fails. */
  const char* (*last_error)(void);

  /* Version of the package, "1.2.3", and name of the instruction set in use, "avx2". Valid as long as the process. */
  const char* (*package_version)(void);
  const char* (*isa)(void);

  /* How many threads a call may use, the caller included. At first what QUANTSTATS_NUM_THREADS or OMP_NUM_THREADS says,
   * else the CPUs that the process may use. set_num_threads takes 1 .. 256 and more, which counts as 256. */
  int32_t (*num_threads)(void);
  int (*set_num_threads)(int32_t n);

  /* --- Statistics of float32, float64, float16 and bfloat16 tensors ----------------------------------------------
   *
   * `x` has any shape and strides; `axes` are reduced. A result has outputs(x, axes) elements, in C order of the axes
   * kept; they are double if x is float64 and float otherwise, and a zero is +0.0. `nan` takes how many elements of
   * each output's were NaN, and may be NULL. Outputs must not overlap each other or x. */

  /* Number of outputs: product of the sizes of the axes kept. Negative, an error, if x or axes is invalid. */
  int64_t (*outputs)(const quantstats_tensor* x, uint64_t axes);

  /* Minimum and maximum; max(|x|). Either of min and max may be NULL. */
  int (*min_max)(const quantstats_tensor* x, uint64_t axes, void* min, void* max, int64_t* nan);
  int (*abs_max)(const quantstats_tensor* x, uint64_t axes, void* abs_max, int64_t* nan);

  /* Arithmetic mean, accumulated in double in an order that depends on shape and strides alone. */
  int (*mean)(const quantstats_tensor* x, uint64_t axes, void* mean, int64_t* nan);

  /* Exact quantiles with linear interpolation, found in about one read: those of the probability q[j], in [0, 1], are
   * the j-th plane of outputs(x, axes) elements of `values`. The rank q * (n - 1), its fraction and the interpolation
   * are double. abs_quantile takes them of |x|; the median is the quantile of 0.5. n_q is at least 1. */
  int (*quantile)(const quantstats_tensor* x, uint64_t axes, const double* q, int32_t n_q, void* values, int64_t* nan);
  int (*abs_quantile)(const quantstats_tensor* x, uint64_t axes, const double* q, int32_t n_q, void* values,
                      int64_t* nan);
  int (*median)(const quantstats_tensor* x, uint64_t axes, void* median, int64_t* nan);

  /* Mean and median of what is no outlier: neither below the p-quantile nor above the (1 - p)-quantile of its output's
   * elements. p lies between 0 and 0.5, exclusive; 1e-4 is usual. */
  int (*mean_no_outliers)(const quantstats_tensor* x, uint64_t axes, double p, void* mean, int64_t* nan);
  int (*median_no_outliers)(const quantstats_tensor* x, uint64_t axes, double p, void* median, int64_t* nan);

  /* All that `summary` asks for, and the quantiles of n_q probabilities (as of `quantile`; q and quantiles may be NULL
   * if n_q is 0), in one read where the axis with the smallest stride is reduced. What is left out takes up to 8 bytes
   * of memory for each output besides, if an output has 1 KB of elements or more. */
  int (*summarize)(const quantstats_tensor* x, uint64_t axes, const quantstats_summary* summary, const double* q,
                   int32_t n_q, void* quantiles);

  /* Counts of x in `bins` equal bins from low to high, both finite, low <= high; a bin includes its lower edge, the
   * last one its upper edge as well. Values outside and NaN are left out. Equal to numpy.histogram. Writes counts[bins]
   * and, unless it is NULL, edges[bins + 1], double if x is float64 and float otherwise. Equal low and high are moved
   * apart by 0.5 on either side. Takes 8 bytes of memory for each bin and thread besides. */
  int (*histogram)(const quantstats_tensor* x, double low, double high, int64_t bins, int64_t* counts, void* edges);

  /* Adds the elements of x to counts[QUANTSTATS_BIT_BINS]. The counter of a value is the upper half h of its float32
   * bits, so ordered that counters ascend with the values: ~h for a set sign bit, else h | 0x8000. float64 is cut to
   * float32 towards zero. NaN are not counted; `nan` takes their number and may be NULL. */
  int (*bit_histogram)(const quantstats_tensor* x, uint64_t* counts, int64_t* nan);

  /* --- Rounding --------------------------------------------------------------------------------------------------
   *
   * `out` has the shape of the input and strides of its own, and must not overlap it; only the out of fake_quantize may
   * be a float32 x itself. Quotients are those of float32 division, rounded half to even; NaN becomes the zero point.
   */

  /* From float32, float64 (rounded to float32 first), float16 or bfloat16 to int8, uint8, int16 or uint16. */
  int (*quantize)(const quantstats_tensor* x, const quantstats_quantization* quantization,
                  const quantstats_tensor* out);

  /* From int8, uint8, int16, uint16, or int32 with zero points 0, to float32. qmin and qmax are not looked at: a zero
   * point is any level of the type of q. */
  int (*dequantize)(const quantstats_tensor* q, const quantstats_quantization* quantization,
                    const quantstats_tensor* out);

  /* quantize, then dequantize, to float32. qmin and qmax lie in [-32768, 65535]. */
  int (*fake_quantize)(const quantstats_tensor* x, const quantstats_quantization* quantization,
                       const quantstats_tensor* out);

  /* --- Products --------------------------------------------------------------------------------------------------*/

  /* out = a b as CPUs without VNNI compute it, by vpmaddubsw and vpmaddwd: products of elements 2i and 2i + 1 of the
   * reduced axis are added and saturated to 16 bits, the pairs are added in 32 bits, which wrap around. a is uint8
   * [M, K] and b is int8 [K, N], both of any strides; out is int32 [M, N] with contiguous rows. `saturated` takes how
   * many of the M ceil(K / 2) N pairs saturated; NULL, which does not count them, is about three times as fast. */
  int (*saturating_matmul)(const quantstats_tensor* a, const quantstats_tensor* b, const quantstats_tensor* out,
                           int64_t* saturated);

  /* Proves whether such sums of two products can saturate for any activations in [0, u_max], 1 <= u_max <= 255.
   * `weights` is int8 [rows, length], a row per output, contiguous along one axis; pairs are any two elements of a row,
   * or, if any_pairs is 0, elements 2i and 2i + 1. Writes for each row the greatest sum of the positive weights of a
   * pair and the greatest sum of magnitudes of its negative ones. A row is safe if and only if u_max * positive <=
   * 32767 and u_max * negative <= 32768. `positions` takes the two columns of the worst pair of each row, -1 where no
   * second weight is needed, and `at_risk` how many pairs can saturate; both may be NULL. */
  int (*certify)(const quantstats_tensor* weights, int32_t u_max, int any_pairs, int32_t* positive, int32_t* negative,
                 int64_t* positions, int64_t* at_risk);
} quantstats_capi;

/* Whether the library that filled *api has the member. */
#define QUANTSTATS_HAS(api, member) \
  ((api)->size >= offsetof(quantstats_capi, member) + sizeof(((const quantstats_capi*)0)->member))

/* In libquantstats: lets *api point to the interface of the library, which lives as long as the process. Pass
 * QUANTSTATS_CAPI_VERSION and the bytes of the struct that are needed, usually sizeof(quantstats_capi). On an error --
 * QUANTSTATS_ERROR_VERSION or QUANTSTATS_ERROR_ENVIRONMENT -- *api is NULL and quantstats_last_error() tells why. */
int quantstats_get_capi(uint32_t version, size_t size, const quantstats_capi** api);
const char* quantstats_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
