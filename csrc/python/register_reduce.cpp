#include <limits>
#include <string>

#include "python/arrays.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

using Kernel = void (*)(const Plan*, const ReduceOutput*, void*) noexcept;

// A validated reduction: what every function of this family does before and after its kernel.
class Reduction {
 public:
  Reduction(py::handle x, py::handle axis, bool keepdims)
      : x_(float_array(x, "x")), reduced_(axis_mask(axis, x_)), shape_(x_, reduced_, keepdims) {
    make_plan(view_of(x_, reduced_), &plan_);
    if (plan_.count == 0) {
      throw py::value_error("cannot reduce " + x_.describe() + ": the reduced axes hold no element");
    }
  }

  FloatResult values() const { return FloatResult(shape_, x_.is_double()); }
  FloatResult sums() const { return FloatResult(shape_, true); }
  CountResult counts() const { return CountResult(shape_); }

  void run(Kernel kernel, const ReduceOutput& out) const {
    if (plan_.outputs == 0) return;
    void* memory = scratch(kReduceScratchBytes);
    MaybeReleaseGil release(x_.bytes());
    kernel(&plan_, &out, memory);
  }

  // Applies the policy to slices that hold NaN: `counts` has one entry per output.
  void apply(NanPolicy policy, const int64_t* counts, std::initializer_list<FloatResult*> results) const {
    if (policy == NanPolicy::ignore) return;
    int64_t total = 0;
    for (int64_t i = 0; i < plan_.outputs; ++i) total += counts[i];
    if (total == 0) return;
    if (policy == NanPolicy::raise) {
      throw py::value_error(x_.describe() + " holds " + std::to_string(total) +
                            " NaN; pass nan_policy='ignore' to leave them out or 'propagate' to get NaN");
    }
    for (FloatResult* result : results) {
      for (int64_t i = 0; i < plan_.outputs; ++i) {
        if (counts[i] != 0) result->set(i, std::numeric_limits<double>::quiet_NaN());
      }
    }
  }

  // sum / (elements that are not NaN), rounded once to the dtype of the result; NaN if there is none.
  void divide(FloatResult& sums, CountResult& nan, FloatResult& mean) const {
    for (int64_t i = 0; i < plan_.outputs; ++i) {
      const int64_t n = plan_.count - nan.data()[i];
      mean.set(i, n > 0 ? static_cast<const double*>(sums.data())[i] / static_cast<double>(n)
                        : std::numeric_limits<double>::quiet_NaN());
    }
  }

 private:
  FloatArray x_;
  uint64_t reduced_;
  ResultShape shape_;
  Plan plan_;
};

py::tuple min_max(const Target& self, py::handle x, py::handle axis, bool keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  const Reduction reduction(x, axis, keepdims);
  FloatResult min = reduction.values(), max = reduction.values();
  CountResult nan = reduction.counts();
  reduction.run(self.kernels().reduce->reduce_order,
                {min.data(), max.data(), nullptr, nullptr, nan.data(), nullptr, nullptr});
  reduction.apply(policy, nan.data(), {&min, &max});
  return py::make_tuple(min.object(), max.object());
}

py::object abs_max(const Target& self, py::handle x, py::handle axis, bool keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  const Reduction reduction(x, axis, keepdims);
  FloatResult result = reduction.values();
  CountResult nan = reduction.counts();
  reduction.run(self.kernels().reduce->reduce_order,
                {nullptr, nullptr, result.data(), nullptr, nan.data(), nullptr, nullptr});
  reduction.apply(policy, nan.data(), {&result});
  return result.object();
}

py::object mean(const Target& self, py::handle x, py::handle axis, bool keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  const Reduction reduction(x, axis, keepdims);
  FloatResult sums = reduction.sums(), result = reduction.values();
  CountResult nan = reduction.counts();
  reduction.run(self.kernels().reduce->reduce_sum,
                {nullptr, nullptr, nullptr, static_cast<double*>(sums.data()), nan.data(), nullptr, nullptr});
  reduction.divide(sums, nan, result);
  reduction.apply(policy, nan.data(), {&result});
  return result.object();
}

py::tuple moments(const Target& self, py::handle x, py::handle axis, bool keepdims) {
  const Reduction reduction(x, axis, keepdims);
  FloatResult min = reduction.values(), max = reduction.values(), abs_max = reduction.values();
  FloatResult sums = reduction.sums(), mean = reduction.values();
  CountResult nan = reduction.counts(), pos_inf = reduction.counts(), neg_inf = reduction.counts();
  reduction.run(self.kernels().reduce->reduce_all,
                {min.data(), max.data(), abs_max.data(), static_cast<double*>(sums.data()), nan.data(), pos_inf.data(),
                 neg_inf.data()});
  reduction.divide(sums, nan, mean);
  return py::make_tuple(min.object(), max.object(), abs_max.object(), mean.object(), nan.object(), pos_inf.object(),
                        neg_inf.object());
}

}  // namespace

void register_reduce(TargetClass& target) {
  target.def("min_max", &min_max, py::arg("x"), py::arg("axis"), py::arg("keepdims"), py::arg("nan_policy"))
      .def("abs_max", &abs_max, py::arg("x"), py::arg("axis"), py::arg("keepdims"), py::arg("nan_policy"))
      .def("mean", &mean, py::arg("x"), py::arg("axis"), py::arg("keepdims"), py::arg("nan_policy"))
      .def("moments", &moments, py::arg("x"), py::arg("axis"), py::arg("keepdims"));
}

}  // namespace qs::python
