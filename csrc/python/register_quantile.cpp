#include <string>
#include <vector>

#include "parallel/spread.h"
#include "python/bit_counts.hpp"
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

using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

ProbabilityArray probabilities(py::handle q, const char* argument) {
  ProbabilityArray out;
  if (PyFloat_Check(q.ptr())) {
    out.values.push_back(PyFloat_AS_DOUBLE(q.ptr()));
  } else {
    const Doubles array = q.is_none() ? py::reinterpret_steal<Doubles>(py::handle())  // not NaN
                                      : Doubles::ensure(q);
    if (!array) {
      throw py::type_error(std::string(argument) + " is " + repr_of(q) + "; pass a probability or an array of them");
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
  const SpreadQuantiles spread(reduction.plan());
  int64_t fallbacks = 0;
  reduction.run(spread.scratch_bytes(), [&](void* memory) {
    fallbacks = spread.run(self.kernels(), q.data(), q.size(), magnitude, values.data(), nan, moments, memory);
  });
  return fallbacks;
}

py::object result_of(const Target& self, const Reduction& reduction, const ProbabilityArray& q, bool magnitude,
                     NanPolicy policy) {
  FloatResult values = reduction.values(q.shape);
  CountResult nan = reduction.counts();
  run(self, reduction, q.values, magnitude, values, nan.data(), nullptr);
  if (!q.values.empty()) reduction.apply(policy, nan, {&values}, q.values.size());
  return values.object();
}

py::object quantile(const Target& self, py::handle x, py::handle q, py::handle axis, py::handle keepdims,
                    py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  return result_of(self, Reduction(x, axis, keepdims), probabilities(q, "q"), false, policy);
}

py::object abs_quantile(const Target& self, py::handle x, py::handle q, py::handle axis, py::handle keepdims,
                        py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  return result_of(self, Reduction(x, axis, keepdims), probabilities(q, "q"), true, policy);
}

py::object median(const Target& self, py::handle x, py::handle axis, py::handle keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  return result_of(self, Reduction(x, axis, keepdims), {{}, {0.5}}, false, policy);
}

py::tuple summarize(const Target& self, py::handle x, py::handle axis, py::handle q_given, py::handle keepdims,
                    py::handle policy_name, py::handle histogram) {
  const NanPolicy policy = nan_policy(policy_name);
  const Reduction reduction(x, axis, keepdims);
  const ProbabilityArray q = probabilities(q_given, "quantiles");
  FloatResult min = reduction.values(), max = reduction.values(), abs_max = reduction.values();
  FloatResult sums = reduction.sums(), mean = reduction.values(), quantiles = reduction.values(q.shape);
  CountResult nan = reduction.counts(), pos_inf = reduction.counts(), neg_inf = reduction.counts();
  const ReduceOutput moments{min.data(), max.data(),     abs_max.data(), static_cast<double*>(sums.data()),
                             nan.data(), pos_inf.data(), neg_inf.data()};
  py::array histogram_array = histogram.is_none() ? py::array() : reduction.counters(histogram, "histogram");
  uint64_t* const counts = histogram.is_none() ? nullptr : static_cast<uint64_t*>(histogram_array.mutable_data());
  SpreadQuantiles spread(reduction.plan());
  const bool counted = counts != nullptr && spread.count_bits(q.values.size());
  const void* counters = nullptr;
  reduction.run(spread.scratch_bytes(), [&](void* memory) {
    counters = memory;
    spread.run(self.kernels(), q.values.data(), q.values.size(), false, quantiles.data(), nullptr, &moments, memory);
  });
  reduction.divide(sums, nan, mean);
  reduction.apply(policy, nan, {&min, &max, &abs_max, &mean});
  reduction.apply(policy, nan, {&quantiles}, q.values.size());
  // Last, so that an array that raises is not counted.
  if (counted) {
    spread.add_counted(counters, counts);
  } else if (counts != nullptr) {
    reduction.count_bits(self.kernels().histogram->bit_histogram, counts);
  }
  return py::make_tuple(min.object(), max.object(), abs_max.object(), mean.object(), quantiles.object(), nan.object(),
                        pos_inf.object(), neg_inf.object());
}

int64_t quantile_fallbacks(const Target& self, py::handle x, py::handle q_given, py::handle axis, bool magnitude) {
  const Reduction reduction(x, axis, Py_False);
  const ProbabilityArray q = probabilities(q_given, "q");
  FloatResult values = reduction.values(q.shape);
  return run(self, reduction, q.values, magnitude, values, nullptr, nullptr);
}

}  // namespace

void register_quantile(TargetClass& target) {
  def_fast<&quantile>(target, "quantile", "x, q, axis, keepdims, nan_policy");
  def_fast<&abs_quantile>(target, "abs_quantile", "x, q, axis, keepdims, nan_policy");
  def_fast<&median>(target, "median", "x, axis, keepdims, nan_policy");
  def_fast<&summarize>(target, "summarize", "x, axis, quantiles, keepdims, nan_policy, histogram");
  target.def("_quantile_fallbacks", &quantile_fallbacks, py::arg("x"), py::arg("q"), py::arg("axis"),
             py::arg("magnitude"),
             "Number of order statistics that missed their sampled bracket and were found by radix selection.");
}

}  // namespace qs::python
