// What kernels take besides plain pointers. Types only, shared by the objects of all instruction sets: no inline
// function here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout/elementwise.h"
#include "layout/parts.h"
#include "layout/plan.h"

namespace qs {

// Where a reduction writes, one element per output in C order of the kept axes. A null pointer leaves the value out.
// min, max and abs_max are float for float32, float16 and bfloat16 input, double for float64; they leave NaN out, are
// NaN if a slice holds nothing else, and zero is always +0.0. sum leaves NaN out as well.
struct ReduceOutput {
  void* min;
  void* max;
  void* abs_max;
  double* sum;
  int64_t* nan;
  int64_t* pos_inf;
  int64_t* neg_inf;
  // Counters of the bit histogram, kBitCounterWords for each worker, to be filled in the same read: by reduce_all and
  // by the select family, where the plan is reduced along runs (reads_along_runs()). Null: none.
  uint32_t* counters = nullptr;
  // The input, of which the plan may be a part, is larger than the caches of a core.
  bool far = false;
};

// The counters of a worker are two sub-histograms, each of 65,536 counters and padding; NaN is not counted; see
// counters.inl.h. The counter of a bin is the sum of both. They hold 2^32 - 1 elements.
constexpr int64_t kBitCounterStride = 65571;
constexpr int64_t kBitCounterWords = 2 * kBitCounterStride;

// Scratch memory of every kernel of the reduce family; 64-byte aligned.
constexpr size_t kReduceScratchBytes = 512 * 1024;

// Equal bins: `edges` holds bins + 1 of them, float for float32, float16 and bfloat16 input, double for float64. The
// kernel adds to `counts`. A value outside [edges[0], edges[bins]] or NaN is left out.
struct HistogramArguments {
  const void* edges;
  int64_t bins;
  int64_t* counts;
};

constexpr int64_t kSubHistogramBins = 16384;  // up to here a histogram has sub-histograms

// Scratch memory of every kernel of the histogram family; 64-byte aligned.
constexpr size_t kHistogramScratchBytes = 640 * 1024;

// a [m, k] of uint8 times b [k, n] of int8; strides in bytes. The rows of `out` [m, n] are contiguous. No size is zero.
struct SaturatingProduct {
  const char* a;
  int64_t a_row;
  int64_t a_column;
  const char* b;
  int64_t b_row;
  int64_t b_column;
  int32_t* out;
  int64_t out_row;  // in elements
  int64_t m;
  int64_t k;
  int64_t n;
};

// Scratch memory of every kernel of the saturate family, whatever the sizes; 64-byte aligned.
constexpr size_t kSaturateScratchBytes = 272 * 1024;

// Rows of int8 weights, each of `length` elements; strides in bytes, one of them 1. A pair saturates if the magnitudes
// of its positive weights, or of its negative ones, sum to more than the limit of the sign, which is 128 or more and
// for negative ones not 255. No size is zero.
struct PairArguments {
  const char* data;
  int64_t rows;
  int64_t length;
  int64_t row_stride;
  int64_t element_stride;
  int32_t positive_limit;
  int32_t negative_limit;
  bool any;            // pairs are any two elements of a row, else elements 2i and 2i + 1
  int32_t* positive;   // [rows]: the greatest sum of positive weights of a pair
  int32_t* negative;   // [rows]: that of magnitudes of negative ones
  int64_t* positions;  // [rows][2]: the pair that is further beyond its limit, or nearer; -1 where no element is needed
  int64_t* at_risk;    // [rows]: number of pairs that can saturate; may be null
};

// Scratch memory of every kernel of the certify family; 64-byte aligned.
constexpr size_t kCertifyScratchBytes = 64 * 1024;

enum class QType : uint8_t { int8, uint8, int16, uint16, int32 };

// Parameters of the round family. `scale` and `zero_point` have one entry, or one per channel if the plan has a channel
// axis. Scales are positive and finite; the zero point lies in [qmin, qmax], and both of these in [-32768, 65535].
struct RoundArguments {
  const float* scale;
  const int32_t* zero_point;
  int32_t qmin;  // quantize_linear and fake_quantize
  int32_t qmax;
  DType dtype;       // of the input of quantize_linear and fake_quantize
  QType qtype;       // of the levels: output of quantize_linear, input of dequantize_linear
  bool true_divide;  // needs_division() of layout/scales.h
};

// Between these, a quotient that matters for a level can be found by multiplication: see round.inl.h.
constexpr float kLeastFastScale = 0x1p-78f;
constexpr float kGreatestFastScale = 0x1p76f;

// Scratch memory of every kernel of the round family; 64-byte aligned.
constexpr size_t kRoundScratchBytes = 160 * 1024;

// How a kernel reads one large set: in the segments of its plan, which several threads may read at the same time. A
// kernel calls the rest of the program through pointers only.
struct SetReading {
  Cut segments;
  void (*part)(const Plan& plan, const Cut& cut, int64_t i, Plan* part) noexcept;  // reduced_part
  int threads;
  // parallel_for: calls task(context, i, worker) for all i in 0 .. n-1; worker is in 0 .. threads-1.
  void (*parallel)(int64_t n, int threads, void (*task)(void* context, int64_t i, int worker) noexcept,
                   void* context) noexcept;
};

// Exact quantiles of the select family. `values` holds n_q planes of one element per output (C order of the kept axes),
// plane j for q[j]; float for float32, float16 and bfloat16 input, double for float64. A set without any number gives
// NaN.
constexpr int kMaxProbabilities = 32;

struct QuantileArguments {
  const double* q;  // in [0, 1], any order
  int n_q;          // 1 .. kMaxProbabilities
  bool magnitude;   // of |x|
  void* values;
  int64_t* nan;  // NaN left out of each set; may be null
  size_t scratch_bytes;
  const ReduceOutput* moments;  // what else to find in the same read, for the select family; may be null
  const SetReading* reading;    // for the select family; null: one thread and one segment
};

// Scratch memory of the select family, 64-byte aligned: kQuantileScratchBytes and kQuantileScratchPercent of the bytes
// of one set. More lets many probabilities share one read.
constexpr size_t kQuantileScratchBytes = 1792 * 1024;
constexpr int kQuantileScratchPercent = 6;

// Scratch memory of every kernel of the columns family; 64-byte aligned.
constexpr size_t kColumnsScratchBytes = 992 * 1024;

}  // namespace qs
