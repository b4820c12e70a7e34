// Validates the arguments of the C interface and words its errors.
#pragma once

#include <cstdint>

#include "layout/plan.h"
#include "quantstats/capi.h"

namespace qs::capi {

// Keeps the text for last_error(), cut to its memory, and returns `status`. The text names the argument, its value and
// the remedy.
[[gnu::format(printf, 2, 3)]] int fail(int status, const char* format, ...) noexcept;
int no_memory(size_t bytes) noexcept;
const char* last_error() noexcept;

// The strides of a tensor, worked out where it gives none.
class Strides {
 public:
  explicit Strides(const quantstats_tensor& x) noexcept;
  const int64_t* data() const noexcept { return data_; }

 private:
  int64_t own_[kMaxDims];
  const int64_t* data_;
};

int64_t item_size(int32_t dtype) noexcept;  // 0 if there is no such type
const char* type_name(int32_t dtype) noexcept;
int64_t elements(const quantstats_tensor& x) noexcept;

// Each returns a status. A tensor of no elements may have data NULL. `name` is that of the argument.
int check_tensor(const quantstats_tensor* x, const char* name) noexcept;
int check_float_tensor(const quantstats_tensor* x, const char* name) noexcept;

// A float tensor that is reduced along axes, as the kernels see it.
int make_reduction(const quantstats_tensor* x, uint64_t axes, Plan* plan) noexcept;

}  // namespace qs::capi
