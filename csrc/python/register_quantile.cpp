#include <limits>
#include <string>
#include <vector>

#include "python/arrays.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

// The probabilities asked for; their shape leads the shape of the result, as in NumPy.
struct ProbabilityArray {
  std::vector<py::ssize_t> shape;
  std::vector<double> values;
};

ProbabilityArray probabilities(py::handle q) {
  ProbabilityArray out;
  if (PyFloat_Check(q.ptr())) {
    out.values.push_back(PyFloat_AS_DOUBLE(q.ptr()));
  } else {
    const auto array = py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(q);
    if (!array) {
      throw py::type_error("q is " + py::repr(q).cast<std::string>() + "; pass a probability or an array of them");
    }
    out.shape.assign(array.shape(), array.shape() + array.ndim());
    out.values.assign(array.data(), array.data() + array.size());
  }
  for (const double p : out.values) {
    if (!(p >= 0.0 && p <= 1.0)) {
      throw py::value_error("q holds " + py::repr(py::float_(p)).cast<std::string>() +
                            "; probabilities lie between 0 and 1 (a percentile divided by 100)");
    }
  }
  return out;
}

// A validated quantile of an array, along any axes.
class Quantiles {
 public:
  Quantiles(py::handle x, ProbabilityArray q, py::handle axis, bool keepdims)
      : x_(float_array(x, "x")), q_(std::move(q)), reduced_(axis_mask(axis, x_)), shape_(x_, reduced_, keepdims) {
    make_plan(view_of(x_, reduced_), &plan_);
    if (plan_.count == 0) {
      throw py::value_error("cannot take a quantile of " + x_.describe() + ": the reduced axes hold no element");
    }
  }

  FloatResult values() const {
    ResultShape shape = shape_;
    shape.shape.insert(shape.shape.begin(), q_.shape.begin(), q_.shape.end());
    return FloatResult(shape, x_.is_double());
  }
  CountResult counts() const { return CountResult(shape_); }

  // Fills one plane of results per probability. Returns the number of fall-backs.
  int64_t run(const Kernels& kernels, bool magnitude, void* values, int64_t* nan) const {
    if (plan_.outputs == 0) return 0;
    const size_t set_bytes = static_cast<size_t>(plan_.count) * static_cast<size_t>(plan_.item);
    // Whole sets along runs of memory, or neighbouring sets side by side.
    const auto kernel = plan_.inner_reduced ? kernels.select->select_quantiles : kernels.columns->columns_quantiles;
    const size_t scratch_bytes =
        plan_.inner_reduced ? kQuantileScratchBytes + set_bytes / 100 * kQuantileScratchPercent : kColumnsScratchBytes;
    const size_t plane_bytes = static_cast<size_t>(plan_.outputs) * x_.result_item();
    void* const memory = scratch(scratch_bytes);
    MaybeReleaseGil release(x_.bytes());
    int64_t fallbacks = 0;
    for (size_t begin = 0; begin < q_.values.size(); begin += kMaxProbabilities) {
      const size_t left = q_.values.size() - begin;
      const QuantileArguments arguments{q_.values.data() + begin,
                                        left < kMaxProbabilities ? static_cast<int>(left) : kMaxProbabilities,
                                        magnitude,
                                        static_cast<char*>(values) + begin * plane_bytes,
                                        nan,
                                        scratch_bytes};
      fallbacks += kernel(&plan_, &arguments, memory);
    }
    return fallbacks;
  }

  // Applies the policy to sets that hold NaN.
  void apply(NanPolicy policy, const int64_t* nan, FloatResult& values) const {
    if (policy == NanPolicy::ignore || q_.values.empty()) return;
    int64_t total = 0;
    for (int64_t i = 0; i < plan_.outputs; ++i) total += nan[i];
    if (total == 0) return;
    if (policy == NanPolicy::raise) {
      throw py::value_error(x_.describe() + " holds " + std::to_string(total) +
                            " NaN; pass nan_policy='ignore' to leave them out or 'propagate' to get NaN");
    }
    for (size_t j = 0; j < q_.values.size(); ++j) {
      for (int64_t i = 0; i < plan_.outputs; ++i) {
        if (nan[i] != 0) {
          values.set(static_cast<int64_t>(j) * plan_.outputs + i, std::numeric_limits<double>::quiet_NaN());
        }
      }
    }
  }

 private:
  FloatArray x_;
  ProbabilityArray q_;
  uint64_t reduced_;
  ResultShape shape_;
  Plan plan_;
};

py::object result_of(const Target& self, const Quantiles& quantiles, bool magnitude, NanPolicy policy) {
  FloatResult values = quantiles.values();
  CountResult nan = quantiles.counts();
  quantiles.run(self.kernels(), magnitude, values.data(), nan.data());
  quantiles.apply(policy, nan.data(), values);
  return values.object();
}

py::object quantile(const Target& self, py::handle x, py::handle q, py::handle axis, bool keepdims,
                    py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  return result_of(self, Quantiles(x, probabilities(q), axis, keepdims), false, policy);
}

py::object abs_quantile(const Target& self, py::handle x, py::handle q, py::handle axis, bool keepdims,
                        py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  return result_of(self, Quantiles(x, probabilities(q), axis, keepdims), true, policy);
}

py::object median(const Target& self, py::handle x, py::handle axis, bool keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  return result_of(self, Quantiles(x, {{}, {0.5}}, axis, keepdims), false, policy);
}

int64_t quantile_fallbacks(const Target& self, py::handle x, py::handle q, py::handle axis, bool magnitude) {
  const Quantiles quantiles(x, probabilities(q), axis, false);
  FloatResult values = quantiles.values();
  CountResult nan = quantiles.counts();
  return quantiles.run(self.kernels(), magnitude, values.data(), nan.data());
}

}  // namespace

void register_quantile(TargetClass& target) {
  target
      .def("quantile", &quantile, py::arg("x"), py::arg("q"), py::arg("axis"), py::arg("keepdims"),
           py::arg("nan_policy"))
      .def("abs_quantile", &abs_quantile, py::arg("x"), py::arg("q"), py::arg("axis"), py::arg("keepdims"),
           py::arg("nan_policy"))
      .def("median", &median, py::arg("x"), py::arg("axis"), py::arg("keepdims"), py::arg("nan_policy"))
      .def("_quantile_fallbacks", &quantile_fallbacks, py::arg("x"), py::arg("q"), py::arg("axis"),
           py::arg("magnitude"),
           "Number of order statistics that missed their sampled bracket and were found by radix selection.");
}

}  // namespace qs::python
