#include <atomic>
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

// As many as one read finds.
size_t chunk_at(size_t begin, size_t n_q) {
  return n_q - begin < kMaxProbabilities ? n_q - begin : static_cast<size_t>(kMaxProbabilities);
}

// Finds the quantiles from the `begin`-th on, one plane of results per probability. Returns the number of fall-backs.
int64_t find_quantiles(const Target& self, const Reduction& reduction, const std::vector<double>& q, size_t begin,
                       bool magnitude, FloatResult& values, NanPolicy policy) {
  Reduction::NanCheck check(reduction, policy);
  const size_t item = result_item(reduction.plan());
  const size_t plane_bytes = static_cast<size_t>(reduction.plan().outputs) * item;
  std::atomic<int64_t> fallbacks{0};
  for (; begin < q.size(); begin += kMaxProbabilities) {
    const size_t n_q = chunk_at(begin, q.size());
    const Planes planes[] = {{static_cast<char*>(values.data()) + begin * plane_bytes, item, n_q},
                             {nullptr, sizeof(int64_t)}};
    reduction.run<SpreadQuantiles>(planes, check.counts() ? 2 : 1,
                                   [&](const Plan& plan, const SpreadQuantiles& spread, void* const* at, void* memory) {
                                     auto* const nan = static_cast<int64_t*>(at[1]);
                                     fallbacks += spread.run(self.kernels(), q.data() + begin, n_q, magnitude, at[0],
                                                             nan, nullptr, memory);
                                     check(plan, nan, {{at[0], item, n_q}});
                                   });
    check.finish();
  }
  return fallbacks;
}

py::object result_of(const Target& self, const Reduction& reduction, const ProbabilityArray& q, bool magnitude,
                     NanPolicy policy) {
  FloatResult values = reduction.values(q.shape);
  find_quantiles(self, reduction, q.values, 0, magnitude, values, policy);
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
  FloatResult mean = reduction.values(), quantiles = reduction.values(q.shape);
  CountResult nan = reduction.counts(), pos_inf = reduction.counts(), neg_inf = reduction.counts();
  py::object histogram_memory;
  uint64_t* counts = nullptr;
  if (!histogram.is_none()) {
    py::array counters = reduction.counters(histogram, "histogram");
    counts = static_cast<uint64_t*>(counters.mutable_data());
    histogram_memory = std::move(counters);
  }
  Reduction::NanCheck check(reduction, policy);
  const size_t item = result_item(reduction.plan()), n_q = chunk_at(0, q.values.size());
  const Planes planes[] = {{min.data(), item},
                           {max.data(), item},
                           {abs_max.data(), item},
                           {mean.data(), item},
                           {quantiles.data(), item, n_q},
                           {nan.data(), sizeof(int64_t)},
                           {pos_inf.data(), sizeof(int64_t)},
                           {neg_inf.data(), sizeof(int64_t)},
                           {nullptr, sizeof(double)}};
  bool counted = false;
  const SpreadPlanes<SpreadQuantiles> spread(reduction.plan(), planes, 9, [&](SpreadQuantiles& whole) {
    if (counts != nullptr) counted = whole.count_bits(n_q);
  });
  const void* counters = nullptr;
  reduction.run(spread.scratch_bytes(), [&](void* memory) {
    counters = memory;
    spread.run(memory, [&](const Plan& plan, const SpreadQuantiles& part, void* const* at, void* own) {
      auto* const sums = static_cast<double*>(at[8]);
      const auto count = [&](int k) { return static_cast<int64_t*>(at[k]); };
      const ReduceOutput moments{at[0], at[1], at[2], sums, count(5), count(6), count(7)};
      part.run(self.kernels(), q.values.data(), n_q, false, at[4], nullptr, &moments, own);
      divide(plan, sums, at[5], at[3]);
      check(plan, at[5], {{at[0], item}, {at[1], item}, {at[2], item}, {at[3], item}, {at[4], item, n_q}});
    });
  });
  check.finish();
  // Last, so that an array that raises is not counted.
  if (counted) {
    spread.whole()->add_counted(counters, counts);
  } else if (counts != nullptr) {
    reduction.count_bits(self.kernels().histogram->bit_histogram, counts);
  }
  find_quantiles(self, reduction, q.values, kMaxProbabilities, false, quantiles, policy);
  return py::make_tuple(min.object(), max.object(), abs_max.object(), mean.object(), quantiles.object(), nan.object(),
                        pos_inf.object(), neg_inf.object());
}

int64_t quantile_fallbacks(const Target& self, py::handle x, py::handle q_given, py::handle axis, bool magnitude) {
  const Reduction reduction(x, axis, Py_False);
  const ProbabilityArray q = probabilities(q_given, "q");
  FloatResult values = reduction.values(q.shape);
  return find_quantiles(self, reduction, q.values, 0, magnitude, values, NanPolicy::ignore);
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
