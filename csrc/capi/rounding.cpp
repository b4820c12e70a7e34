#include <cmath>
#include <limits>

#include "capi/functions.h"
#include "capi/tensor.h"
#include "dispatch/dispatch.h"
#include "layout/scales.h"
#include "parallel/scratch.h"
#include "parallel/spread.h"

namespace qs::capi {
namespace {

struct LevelType {
  int32_t dtype;
  QType type;
  int32_t low;
  int32_t high;
};

constexpr LevelType kLevelTypes[] = {
    {QUANTSTATS_INT8, QType::int8, -128, 127},
    {QUANTSTATS_UINT8, QType::uint8, 0, 255},
    {QUANTSTATS_INT16, QType::int16, -32768, 32767},
    {QUANTSTATS_UINT16, QType::uint16, 0, 65535},
    {QUANTSTATS_INT32, QType::int32, INT32_MIN, INT32_MAX},
};

const LevelType* level_type(int32_t dtype) noexcept {
  for (const LevelType& type : kLevelTypes) {
    if (type.dtype == dtype) return &type;
  }
  return nullptr;
}

int check_same_shape(const quantstats_tensor& in, const quantstats_tensor& out) noexcept {
  if (in.ndim != out.ndim) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "out->ndim is %d, but the input has %d dimensions; pass the same shape",
                out.ndim, in.ndim);
  }
  for (int32_t i = 0; i < in.ndim; ++i) {
    if (in.shape[i] != out.shape[i]) {
      return fail(QUANTSTATS_ERROR_ARGUMENT,
                  "out->shape[%d] is %lld, but that of the input is %lld; pass the same shape", i,
                  static_cast<long long>(out.shape[i]), static_cast<long long>(in.shape[i]));
    }
  }
  return QUANTSTATS_OK;
}

int check_float32(const quantstats_tensor& out) noexcept {
  if (out.dtype == QUANTSTATS_FLOAT32) return QUANTSTATS_OK;
  return fail(QUANTSTATS_ERROR_ARGUMENT, "out->dtype is %s; pass a tensor of float32", type_name(out.dtype));
}

int check_levels(const quantstats_quantization& given, int32_t low, int32_t high) noexcept {
  if (given.qmin < low || given.qmax > high || given.qmin >= given.qmax) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "qmin is %d and qmax is %d; pass qmin < qmax, both in [%d, %d]", given.qmin,
                given.qmax, low, high);
  }
  return QUANTSTATS_OK;
}

// How many scales there are: one, or as many as channels.
int check_axis(const quantstats_quantization& given, const quantstats_tensor& x, int64_t* channels) noexcept {
  *channels = 1;
  if (given.axis == QUANTSTATS_PER_TENSOR) return QUANTSTATS_OK;
  if (given.axis < 0 || given.axis >= x.ndim) {
    return fail(QUANTSTATS_ERROR_ARGUMENT,
                "axis is %d, but the tensor has %d dimensions; pass one of them or QUANTSTATS_PER_TENSOR", given.axis,
                x.ndim);
  }
  *channels = x.shape[given.axis];
  return QUANTSTATS_OK;
}

int check_values(const quantstats_quantization& given, int64_t channels, int32_t low, int32_t high) noexcept {
  if (given.scale == nullptr) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "scale is NULL; pass %lld of them", static_cast<long long>(channels));
  }
  for (int64_t i = 0; i < channels; ++i) {
    const float scale = given.scale[i];
    if (!(scale > 0) || std::isinf(scale)) {
      return fail(QUANTSTATS_ERROR_ARGUMENT, "scale[%lld] is %g; pass a positive, finite scale",
                  static_cast<long long>(i), static_cast<double>(scale));
    }
    const int32_t zero_point = given.zero_point == nullptr ? 0 : given.zero_point[i];
    if (zero_point < low || zero_point > high) {
      return fail(QUANTSTATS_ERROR_ARGUMENT, "zero_point[%lld] is %d; pass a level, which lie in [%d, %d] here",
                  static_cast<long long>(i), zero_point, low, high);
    }
  }
  return QUANTSTATS_OK;
}

int run(RoundKernel kernel, const quantstats_tensor& in, const quantstats_tensor& out,
        const quantstats_quantization& given, int64_t channels, RoundArguments* arguments) noexcept {
  if (elements(in) == 0) return QUANTSTATS_OK;
  const Strides in_strides(in), out_strides(out);
  ElementwisePlan plan;
  make_elementwise_plan(in.data, in_strides.data(), out.data, out_strides.data(), in.shape, in.ndim,
                        channels > 1 ? given.axis : -1, &plan);
  const SpreadRounding spread(plan);
  constexpr size_t line = 64;
  const size_t kernel_bytes = (spread.scratch_bytes() + line - 1) / line * line;
  const size_t zeros = given.zero_point == nullptr ? static_cast<size_t>(channels) * sizeof(int32_t) : 0;
  char* const memory = static_cast<char*>(scratch_memory(kernel_bytes + zeros));
  if (memory == nullptr) return no_memory(kernel_bytes + zeros);
  arguments->scale = given.scale;
  arguments->zero_point = given.zero_point;
  if (given.zero_point == nullptr) {
    auto* const zero = reinterpret_cast<int32_t*>(memory + kernel_bytes);
    for (int64_t i = 0; i < channels; ++i) zero[i] = 0;
    arguments->zero_point = zero;
  }
  arguments->true_divide = needs_division(given.scale, static_cast<size_t>(channels), arguments->qmin, arguments->qmax);
  spread.run(kernel, *arguments, memory);
  return QUANTSTATS_OK;
}

int check_arguments(const quantstats_quantization* given, const quantstats_tensor* out) noexcept {
  if (given == nullptr) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "quantization is NULL; pass a quantstats_quantization");
  }
  return check_tensor(out, "out");
}

}  // namespace

int quantize(const quantstats_tensor* x, const quantstats_quantization* quantization,
             const quantstats_tensor* out) noexcept {
  int status = check_float_tensor(x, "x");
  if (status == QUANTSTATS_OK) status = check_arguments(quantization, out);
  if (status == QUANTSTATS_OK) status = check_same_shape(*x, *out);
  if (status != QUANTSTATS_OK) return status;
  const LevelType* const levels = level_type(out->dtype);
  if (levels == nullptr || levels->type == QType::int32) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "out->dtype is %s; pass a tensor of int8, uint8, int16 or uint16",
                type_name(out->dtype));
  }
  int64_t channels = 0;
  status = check_levels(*quantization, levels->low, levels->high);
  if (status == QUANTSTATS_OK) status = check_axis(*quantization, *x, &channels);
  if (status == QUANTSTATS_OK) status = check_values(*quantization, channels, quantization->qmin, quantization->qmax);
  if (status != QUANTSTATS_OK) return status;
  RoundArguments arguments{};
  arguments.dtype = static_cast<DType>(x->dtype);
  arguments.qtype = levels->type;
  arguments.qmin = quantization->qmin;
  arguments.qmax = quantization->qmax;
  return run(active_isa()->kernels.round->quantize_linear, *x, *out, *quantization, channels, &arguments);
}

int dequantize(const quantstats_tensor* q, const quantstats_quantization* quantization,
               const quantstats_tensor* out) noexcept {
  int status = check_tensor(q, "q");
  if (status == QUANTSTATS_OK) status = check_arguments(quantization, out);
  if (status == QUANTSTATS_OK) status = check_same_shape(*q, *out);
  if (status == QUANTSTATS_OK) status = check_float32(*out);
  if (status != QUANTSTATS_OK) return status;
  const LevelType* const levels = level_type(q->dtype);
  if (levels == nullptr) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "q->dtype is %s; pass a tensor of int8, uint8, int16, uint16 or int32",
                type_name(q->dtype));
  }
  // int32 holds biases and sums, which have no zero point.
  const bool sums = levels->type == QType::int32;
  int64_t channels = 0;
  status = check_axis(*quantization, *q, &channels);
  if (status == QUANTSTATS_OK) {
    status = check_values(*quantization, channels, sums ? 0 : levels->low, sums ? 0 : levels->high);
  }
  if (status != QUANTSTATS_OK) return status;
  RoundArguments arguments{};
  arguments.qtype = levels->type;
  return run(active_isa()->kernels.round->dequantize_linear, *q, *out, *quantization, channels, &arguments);
}

int fake_quantize(const quantstats_tensor* x, const quantstats_quantization* quantization,
                  const quantstats_tensor* out) noexcept {
  int status = check_float_tensor(x, "x");
  if (status == QUANTSTATS_OK) status = check_arguments(quantization, out);
  if (status == QUANTSTATS_OK) status = check_same_shape(*x, *out);
  if (status == QUANTSTATS_OK) status = check_float32(*out);
  if (status != QUANTSTATS_OK) return status;
  int64_t channels = 0;
  status = check_levels(*quantization, -32768, 65535);
  if (status == QUANTSTATS_OK) status = check_axis(*quantization, *x, &channels);
  if (status == QUANTSTATS_OK) status = check_values(*quantization, channels, quantization->qmin, quantization->qmax);
  if (status != QUANTSTATS_OK) return status;
  RoundArguments arguments{};
  arguments.dtype = static_cast<DType>(x->dtype);
  arguments.qmin = quantization->qmin;
  arguments.qmax = quantization->qmax;
  return run(active_isa()->kernels.round->fake_quantize, *x, *out, *quantization, channels, &arguments);
}

}  // namespace qs::capi
