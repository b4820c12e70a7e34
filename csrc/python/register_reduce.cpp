#include "parallel/spread.h"
#include "python/fast_method.hpp"
#include "python/reduction.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

py::tuple min_max(const Target& self, py::handle x, py::handle axis, py::handle keepdims, py::handle policy) {
  const Reduction reduction(x, axis, keepdims);
  Reduction::NanCheck check(reduction, nan_policy(policy));
  FloatResult min = reduction.values(), max = reduction.values();
  const size_t item = result_item(reduction.plan());
  const Planes planes[] = {{min.data(), item}, {max.data(), item}, {nullptr, sizeof(int64_t)}};
  reduction.run<SpreadReduction>(planes, check.counts() ? 3 : 2,
                                 [&](const Plan& plan, const SpreadReduction& spread, void* const* at, void* memory) {
                                   auto* const nan = static_cast<int64_t*>(at[2]);
                                   spread.run(self.kernels().reduce->reduce_order,
                                              {at[0], at[1], nullptr, nullptr, nan, nullptr, nullptr}, memory);
                                   check(plan, nan, {{at[0], item}, {at[1], item}});
                                 });
  check.finish();
  return py::make_tuple(min.object(), max.object());
}

py::object abs_max(const Target& self, py::handle x, py::handle axis, py::handle keepdims, py::handle policy) {
  const Reduction reduction(x, axis, keepdims);
  Reduction::NanCheck check(reduction, nan_policy(policy));
  FloatResult result = reduction.values();
  const size_t item = result_item(reduction.plan());
  const Planes planes[] = {{result.data(), item}, {nullptr, sizeof(int64_t)}};
  reduction.run<SpreadReduction>(planes, check.counts() ? 2 : 1,
                                 [&](const Plan& plan, const SpreadReduction& spread, void* const* at, void* memory) {
                                   auto* const nan = static_cast<int64_t*>(at[1]);
                                   spread.run(self.kernels().reduce->reduce_order,
                                              {nullptr, nullptr, at[0], nullptr, nan, nullptr, nullptr}, memory);
                                   check(plan, nan, {{at[0], item}});
                                 });
  check.finish();
  return result.object();
}

py::object mean(const Target& self, py::handle x, py::handle axis, py::handle keepdims, py::handle policy) {
  const Reduction reduction(x, axis, keepdims);
  Reduction::NanCheck check(reduction, nan_policy(policy));
  FloatResult result = reduction.values();
  const size_t item = result_item(reduction.plan());
  const Planes planes[] = {{result.data(), item}, {nullptr, sizeof(double)}, {nullptr, sizeof(int64_t)}};
  reduction.run<SpreadReduction>(
      planes, 3, [&](const Plan& plan, const SpreadReduction& spread, void* const* at, void* memory) {
        auto* const sums = static_cast<double*>(at[1]);
        auto* const nan = static_cast<int64_t*>(at[2]);
        spread.run(self.kernels().reduce->reduce_sum, {nullptr, nullptr, nullptr, sums, nan, nullptr, nullptr}, memory);
        divide(plan, sums, nan, at[0]);
        check(plan, nan, {{at[0], item}});
      });
  check.finish();
  return result.object();
}

}  // namespace

void register_reduce(TargetClass& target) {
  def_fast<&min_max>(target, "min_max", "x, axis, keepdims, nan_policy");
  def_fast<&abs_max>(target, "abs_max", "x, axis, keepdims, nan_policy");
  def_fast<&mean>(target, "mean", "x, axis, keepdims, nan_policy");
}

}  // namespace qs::python
