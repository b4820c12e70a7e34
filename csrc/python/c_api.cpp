#include "quantstats/capi.h"

#include <cmath>

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

const quantstats_capi api = {QUANTSTATS_CAPI_VERSION, sizeof(quantstats_capi), min_max_f32};

}  // namespace

void register_c_api(py::module_& module) { module.attr("_C_API") = py::capsule(&api, QUANTSTATS_CAPI_NAME); }

}  // namespace qs::python
