#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "parallel/spread.h"
#include "python/fast_method.hpp"
#include "python/reduction.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

// The probabilities asked for; their shape leads the shape of the result, as in NumPy.
struct ProbabilityArray {
  std::vector<py::ssize_t> shape;
  std::vector<double> values;
};

ProbabilityArray probabilities(py::handle q, const char* argument) {
  ProbabilityArray out;
  if (PyFloat_Check(q.ptr())) {
    out.values.push_back(PyFloat_AS_DOUBLE(q.ptr()));
  } else {
    const auto array = py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(q);
    if (!array) {
      throw py::type_error(std::string(argument) + " is " + py::repr(q).cast<std::string>() +
                           "; pass a probability or an array of them");
    }
    out.shape.assign(array.shape(), array.shape() + array.ndim());
    out.values.assign(array.data(), array.data() + array.size());
  }
  for (const double p : out.values) {
    if (!(p >= 0.0 && p <= 1.0)) {
      throw py::value_error(std::string(argument) + " holds " + py::repr(py::float_(p)).cast<std::string>() +
                            "; probabilities lie between 0 and 1 (a percentile divided by 100)");
    }
  }
  return out;
}

// Finds the quantiles, one plane of results per probability, and the moments if given. Returns the number of
// fall-backs.
int64_t run(const Target& self, const Reduction& reduction, const std::vector<double>& q, bool magnitude,
            FloatResult& values, int64_t* nan, const ReduceOutput* moments) {
  const Plan& plan = reduction.plan();
  const Kernels& kernels = self.kernels();
  // Neighbouring sets side by side, if there are enough of them to fill the lanes; else one set after the other.
  constexpr int64_t enough = 8;
  const bool side_by_side = !plan.inner_reduced && plan.outputs >= enough;
  const auto kernel = side_by_side ? kernels.columns->columns_quantiles : kernels.select->select_quantiles;
  const SpreadOutputs spread = side_by_side ? spread_columns(plan) : spread_sets(plan);
  const SpreadReduction spread_moments(plan);
  const SetReading reading = read_sets(plan, spread);
  const size_t plane_bytes = static_cast<size_t>(plan.outputs) * reduction.result_item();
  std::atomic<int64_t> fallbacks{0};
  reduction.run(std::max(spread.scratch_bytes(), spread_moments.scratch_bytes()), [&](void* memory) {
    // Runs of memory are reduced while they are read for quantiles. Elsewhere reduce_all has its own order of reading.
    const bool in_one_read = plan.inner_reduced && !q.empty();
    if (moments != nullptr && !in_one_read) spread_moments.run(kernels.reduce->reduce_all, *moments, memory);
    for (size_t begin = 0; begin < q.size(); begin += kMaxProbabilities) {
      const QuantileArguments arguments{q.data() + begin,
                                        static_cast<int>(std::min<size_t>(q.size() - begin, kMaxProbabilities)),
                                        magnitude,
                                        static_cast<char*>(values.data()) + begin * plane_bytes,
                                        nan,
                                        spread.scratch_per_thread(),
                                        begin == 0 && in_one_read ? moments : nullptr,
                                        side_by_side ? nullptr : &reading};
      spread.run(memory, [&](const Plan* part, void* own) {
        fallbacks.fetch_add(kernel(part, &arguments, own), std::memory_order_relaxed);
      });
    }
  });
  return fallbacks.load(std::memory_order_relaxed);
}

py::object result_of(const Target& self, const Reduction& reduction, const ProbabilityArray& q, bool magnitude,
                     NanPolicy policy) {
  FloatResult values = reduction.values(q.shape);
  CountResult nan = reduction.counts();
  run(self, reduction, q.values, magnitude, values, nan.data(), nullptr);
  if (!q.values.empty()) reduction.apply(policy, nan, {&values}, q.values.size());
  return values.object();
}

py::object quantile(const Target& self, py::handle x, py::handle q, py::handle axis, bool keepdims,
                    py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  return result_of(self, Reduction(x, axis, keepdims), probabilities(q, "q"), false, policy);
}

py::object abs_quantile(const Target& self, py::handle x, py::handle q, py::handle axis, bool keepdims,
                        py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  return result_of(self, Reduction(x, axis, keepdims), probabilities(q, "q"), true, policy);
}

py::object median(const Target& self, py::handle x, py::handle axis, bool keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  return result_of(self, Reduction(x, axis, keepdims), {{}, {0.5}}, false, policy);
}

py::tuple summarize(const Target& self, py::handle x, py::handle axis, py::handle q_given, bool keepdims,
                    py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  const Reduction reduction(x, axis, keepdims);
  const ProbabilityArray q = probabilities(q_given, "quantiles");
  FloatResult min = reduction.values(), max = reduction.values(), abs_max = reduction.values();
  FloatResult sums = reduction.sums(), mean = reduction.values(), quantiles = reduction.values(q.shape);
  CountResult nan = reduction.counts(), pos_inf = reduction.counts(), neg_inf = reduction.counts();
  const ReduceOutput moments{min.data(), max.data(),     abs_max.data(), static_cast<double*>(sums.data()),
                             nan.data(), pos_inf.data(), neg_inf.data()};
  run(self, reduction, q.values, false, quantiles, nullptr, &moments);
  reduction.divide(sums, nan, mean);
  reduction.apply(policy, nan, {&min, &max, &abs_max, &mean});
  reduction.apply(policy, nan, {&quantiles}, q.values.size());
  return py::make_tuple(min.object(), max.object(), abs_max.object(), mean.object(), quantiles.object(), nan.object(),
                        pos_inf.object(), neg_inf.object());
}

int64_t quantile_fallbacks(const Target& self, py::handle x, py::handle q_given, py::handle axis, bool magnitude) {
  const Reduction reduction(x, axis, false);
  const ProbabilityArray q = probabilities(q_given, "q");
  FloatResult values = reduction.values(q.shape);
  return run(self, reduction, q.values, magnitude, values, nullptr, nullptr);
}

}  // namespace

void register_quantile(TargetClass& target) {
  def_fast<&quantile>(target, "quantile", "x, q, axis, keepdims, nan_policy");
  def_fast<&abs_quantile>(target, "abs_quantile", "x, q, axis, keepdims, nan_policy");
  def_fast<&median>(target, "median", "x, axis, keepdims, nan_policy");
  def_fast<&summarize>(target, "summarize", "x, axis, quantiles, keepdims, nan_policy");
  target.def("_quantile_fallbacks", &quantile_fallbacks, py::arg("x"), py::arg("q"), py::arg("axis"),
             py::arg("magnitude"),
             "Number of order statistics that missed their sampled bracket and were found by radix selection.");
}

}  // namespace qs::python
