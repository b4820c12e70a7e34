#include "parallel/spread.h"
#include "python/fast_method.hpp"
#include "python/reduction.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

void run(const Reduction& reduction, ReduceKernel kernel, const ReduceOutput& out) {
  const SpreadReduction spread(reduction.plan());
  reduction.run(spread.scratch_bytes(), [&](void* memory) { spread.run(kernel, out, memory); });
}

py::tuple min_max(const Target& self, py::handle x, py::handle axis, py::handle keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  const Reduction reduction(x, axis, keepdims);
  FloatResult min = reduction.values(), max = reduction.values();
  CountResult nan = reduction.counts();
  run(reduction, self.kernels().reduce->reduce_order,
      {min.data(), max.data(), nullptr, nullptr, nan.data(), nullptr, nullptr});
  reduction.apply(policy, nan, {&min, &max});
  return py::make_tuple(min.object(), max.object());
}

py::object abs_max(const Target& self, py::handle x, py::handle axis, py::handle keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  const Reduction reduction(x, axis, keepdims);
  FloatResult result = reduction.values();
  CountResult nan = reduction.counts();
  run(reduction, self.kernels().reduce->reduce_order,
      {nullptr, nullptr, result.data(), nullptr, nan.data(), nullptr, nullptr});
  reduction.apply(policy, nan, {&result});
  return result.object();
}

py::object mean(const Target& self, py::handle x, py::handle axis, py::handle keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  const Reduction reduction(x, axis, keepdims);
  FloatResult sums = reduction.sums(), result = reduction.values();
  CountResult nan = reduction.counts();
  run(reduction, self.kernels().reduce->reduce_sum,
      {nullptr, nullptr, nullptr, static_cast<double*>(sums.data()), nan.data(), nullptr, nullptr});
  reduction.divide(sums, nan, result);
  reduction.apply(policy, nan, {&result});
  return result.object();
}

}  // namespace

void register_reduce(TargetClass& target) {
  def_fast<&min_max>(target, "min_max", "x, axis, keepdims, nan_policy");
  def_fast<&abs_max>(target, "abs_max", "x, axis, keepdims, nan_policy");
  def_fast<&mean>(target, "mean", "x, axis, keepdims, nan_policy");
}

}  // namespace qs::python
