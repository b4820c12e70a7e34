#include "capi/tensor.h"

#include <cstdarg>
#include <cstdio>

namespace qs::capi {
namespace {

thread_local char error_text[384] = "";

struct Type {
  int32_t dtype;
  int64_t size;
  const char* name;
};

constexpr Type kTypes[] = {
    {QUANTSTATS_FLOAT32, 4, "float32"},   {QUANTSTATS_FLOAT64, 8, "float64"}, {QUANTSTATS_FLOAT16, 2, "float16"},
    {QUANTSTATS_BFLOAT16, 2, "bfloat16"}, {QUANTSTATS_INT8, 1, "int8"},       {QUANTSTATS_UINT8, 1, "uint8"},
    {QUANTSTATS_INT16, 2, "int16"},       {QUANTSTATS_UINT16, 2, "uint16"},   {QUANTSTATS_INT32, 4, "int32"},
};

const Type* type_of(int32_t dtype) noexcept {
  for (const Type& type : kTypes) {
    if (type.dtype == dtype) return &type;
  }
  return nullptr;
}

// The tags of floating-point types are the values of DType.
static_assert(QUANTSTATS_FLOAT32 == static_cast<int>(DType::float32));
static_assert(QUANTSTATS_FLOAT64 == static_cast<int>(DType::float64));
static_assert(QUANTSTATS_FLOAT16 == static_cast<int>(DType::float16));
static_assert(QUANTSTATS_BFLOAT16 == static_cast<int>(DType::bfloat16));
static_assert(QUANTSTATS_MAX_DIMS == kMaxDims);

bool is_float(int32_t dtype) noexcept { return dtype >= QUANTSTATS_FLOAT32 && dtype <= QUANTSTATS_BFLOAT16; }

}  // namespace

int fail(int status, const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(error_text, sizeof error_text, format, arguments);
  va_end(arguments);
  return status;
}

int no_memory(size_t bytes) noexcept {
  return fail(QUANTSTATS_ERROR_MEMORY, "no memory for %zu bytes of intermediate results; free some, or pass less data",
              bytes);
}

const char* last_error() noexcept { return error_text; }

Strides::Strides(const quantstats_tensor& x) noexcept : data_(x.strides != nullptr ? x.strides : own_) {
  if (x.strides != nullptr) return;
  int64_t stride = item_size(x.dtype);
  for (int32_t i = x.ndim - 1; i >= 0; --i) {
    own_[i] = stride;
    stride *= x.shape[i];
  }
}

int64_t item_size(int32_t dtype) noexcept {
  const Type* const type = type_of(dtype);
  return type != nullptr ? type->size : 0;
}

const char* type_name(int32_t dtype) noexcept {
  const Type* const type = type_of(dtype);
  return type != nullptr ? type->name : "unknown";
}

int64_t elements(const quantstats_tensor& x) noexcept {
  int64_t count = 1;
  for (int32_t i = 0; i < x.ndim; ++i) count *= x.shape[i];
  return count;
}

int check_tensor(const quantstats_tensor* x, const char* name) noexcept {
  if (x == nullptr) return fail(QUANTSTATS_ERROR_ARGUMENT, "%s is NULL; pass a quantstats_tensor", name);
  if (type_of(x->dtype) == nullptr) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "%s->dtype is %d; pass one of QUANTSTATS_FLOAT32, ...", name, x->dtype);
  }
  if (x->ndim < 0 || x->ndim > kMaxDims) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "%s->ndim is %d; pass 0 to %d", name, x->ndim, kMaxDims);
  }
  if (x->ndim > 0 && x->shape == nullptr) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "%s->shape is NULL; pass %d sizes", name, x->ndim);
  }
  for (int32_t i = 0; i < x->ndim; ++i) {
    if (x->shape[i] < 0) {
      return fail(QUANTSTATS_ERROR_ARGUMENT, "%s->shape[%d] is %lld; pass a size of at least 0", name, i,
                  static_cast<long long>(x->shape[i]));
    }
  }
  // Zeros left out, so that the elements of any of its axes can be counted.
  int64_t bytes = item_size(x->dtype);
  for (int32_t i = 0; i < x->ndim; ++i) {
    if (x->shape[i] > 0 && __builtin_mul_overflow(bytes, x->shape[i], &bytes)) {
      return fail(QUANTSTATS_ERROR_ARGUMENT,
                  "%s->shape[%d] is %lld, which makes more bytes than 64 bits count; pass smaller sizes", name, i,
                  static_cast<long long>(x->shape[i]));
    }
  }
  if (x->data == nullptr && elements(*x) > 0) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "%s->data is NULL, but the tensor has %lld elements; pass their address",
                name, static_cast<long long>(elements(*x)));
  }
  return QUANTSTATS_OK;
}

int check_float_tensor(const quantstats_tensor* x, const char* name) noexcept {
  const int status = check_tensor(x, name);
  if (status != QUANTSTATS_OK) return status;
  if (!is_float(x->dtype)) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "%s->dtype is %s; pass a tensor of float32, float64, float16 or bfloat16",
                name, type_name(x->dtype));
  }
  return QUANTSTATS_OK;
}

int make_reduction(const quantstats_tensor* x, uint64_t axes, Plan* plan) noexcept {
  const int status = check_float_tensor(x, "x");
  if (status != QUANTSTATS_OK) return status;
  const uint64_t every = x->ndim == 64 ? ~uint64_t{0} : (uint64_t{1} << x->ndim) - 1;
  if (axes != QUANTSTATS_ALL_AXES && (axes & ~every) != 0) {
    return fail(QUANTSTATS_ERROR_ARGUMENT,
                "axes is 0x%llx, but x has %d dimensions; pass bits below that, or QUANTSTATS_ALL_AXES",
                static_cast<unsigned long long>(axes), x->ndim);
  }
  const Strides strides(*x);
  make_plan({x->data, static_cast<DType>(x->dtype), x->ndim, axes & every, x->shape, strides.data()}, plan);
  return QUANTSTATS_OK;
}

}  // namespace qs::capi
