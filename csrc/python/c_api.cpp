#include "quantstats/capi.h"

#include <cmath>
#include <limits>
#include <new>

#include "python/arrays.hpp"
#include "python/target.hpp"

namespace qs::python {

namespace py = pybind11;

namespace {

int64_t min_max_f32(const float* x, int64_t n, float* min, float* max) {
  if (n <= 0) {
    *min = *max = std::nanf("");
    return 0;
  }
  const int64_t stride = sizeof(float);
  Plan plan;
  make_plan({x, DType::float32, 1, 1, &n, &stride}, &plan);
  int64_t nan = 0;
  const ReduceOutput out{min, max, nullptr, nullptr, &nan, nullptr, nullptr};
  // One contiguous run: the kernel reads it in place and touches no scratch memory.
  active_isa()->kernels.reduce->reduce_order(&plan, &out, nullptr);
  return nan;
}

template <class Q, QType type>
int quantize_f32(const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin, int32_t qmax, Q* out) {
  using Limits = std::numeric_limits<Q>;
  if (!(scale > 0) || std::isinf(scale) || qmin < Limits::min() || qmax > Limits::max() || qmin >= qmax ||
      zero_point < qmin || zero_point > qmax) {
    return -1;
  }
  if (n <= 0) return 0;
  const int64_t in_stride = sizeof(float), out_stride = sizeof(Q);
  ElementwisePlan plan;
  make_elementwise_plan(x, &in_stride, out, &out_stride, &n, 1, -1, &plan);
  const bool true_divide = scale < kLeastFastScale || scale > kGreatestFastScale;
  const RoundArguments arguments{&scale, &zero_point, qmin, qmax, DType::float32, type, true_divide};
  // One contiguous run, as above.
  active_isa()->kernels.round->quantize_linear(&plan, &arguments, nullptr);
  return 0;
}

int64_t quantile_f32(const float* x, int64_t n, const double* q, int32_t n_q, float* out) {
  if (n_q < 1 || n_q > kMaxProbabilities) return -1;
  for (int32_t j = 0; j < n_q; ++j) {
    if (!(q[j] >= 0.0 && q[j] <= 1.0)) return -1;
  }
  if (n <= 0) {
    for (int32_t j = 0; j < n_q; ++j) out[j] = std::nanf("");
    return 0;
  }
  const int64_t stride = sizeof(float);
  Plan plan;
  make_plan({x, DType::float32, 1, 1, &n, &stride}, &plan);
  const size_t scratch_bytes =
      kQuantileScratchBytes + static_cast<size_t>(n) * sizeof(float) / 100 * kQuantileScratchPercent;
  int64_t nan = 0;
  try {
    const QuantileArguments arguments{q, n_q, false, out, &nan, scratch_bytes, nullptr, nullptr};
    active_isa()->kernels.select->select_quantiles(&plan, &arguments, scratch(scratch_bytes));
  } catch (const std::bad_alloc&) {
    return -1;
  }
  return nan;
}

const quantstats_capi api = {
    QUANTSTATS_CAPI_VERSION,
    sizeof(quantstats_capi),
    min_max_f32,
    quantize_f32<int8_t, QType::int8>,
    quantize_f32<uint8_t, QType::uint8>,
    quantile_f32,
};

}  // namespace

void register_c_api(py::module_& module) { module.attr("_C_API") = py::capsule(&api, QUANTSTATS_CAPI_NAME); }

}  // namespace qs::python
