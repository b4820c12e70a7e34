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

  const FloatArray& x() const { return x_; }
  const Plan& plan() const { return plan_; }
  py::array values() const { return empty_float(shape_, x_.is_double()); }
  py::array_t<double> sums() const { return py::array_t<double>(shape_.shape); }
  py::array_t<int64_t> counts() const { return empty_int64(shape_); }

  void run(Kernel kernel, const ReduceOutput& out) const {
    if (plan_.outputs == 0) return;
    void* memory = scratch(kReduceScratchBytes);
    MaybeReleaseGil release(x_.bytes());
    kernel(&plan_, &out, memory);
  }

  // Applies the policy to slices that hold NaN: `counts` has one entry per output.
  void apply(NanPolicy policy, const int64_t* counts, std::initializer_list<py::array*> results) const {
    if (policy == NanPolicy::ignore) return;
    int64_t total = 0;
    for (int64_t i = 0; i < plan_.outputs; ++i) total += counts[i];
    if (total == 0) return;
    if (policy == NanPolicy::raise) {
      throw py::value_error(x_.describe() + " holds " + std::to_string(total) +
                            " NaN; pass nan_policy='ignore' to leave them out or 'propagate' to get NaN");
    }
    for (py::array* result : results) {
      for (int64_t i = 0; i < plan_.outputs; ++i) {
        if (counts[i] == 0) continue;
        if (x_.is_double()) {
          static_cast<double*>(result->mutable_data())[i] = std::numeric_limits<double>::quiet_NaN();
        } else {
          static_cast<float*>(result->mutable_data())[i] = std::numeric_limits<float>::quiet_NaN();
        }
      }
    }
  }

  // sum / (elements that are not NaN), rounded once to the dtype of the result; NaN if there is none.
  py::array mean_of(const double* sums, const int64_t* nan_counts) const {
    py::array result = values();
    for (int64_t i = 0; i < plan_.outputs; ++i) {
      const int64_t n = plan_.count - nan_counts[i];
      const double mean = n > 0 ? sums[i] / static_cast<double>(n) : std::numeric_limits<double>::quiet_NaN();
      if (x_.is_double()) {
        static_cast<double*>(result.mutable_data())[i] = mean;
      } else {
        static_cast<float*>(result.mutable_data())[i] = static_cast<float>(mean);
      }
    }
    return result;
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
  py::array min = reduction.values(), max = reduction.values();
  auto nan = reduction.counts();
  reduction.run(self.kernels().reduce->reduce_order,
                {min.mutable_data(), max.mutable_data(), nullptr, nullptr, nan.mutable_data(), nullptr, nullptr});
  reduction.apply(policy, nan.data(), {&min, &max});
  return py::make_tuple(scalar_or_array(std::move(min)), scalar_or_array(std::move(max)));
}

py::object abs_max(const Target& self, py::handle x, py::handle axis, bool keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  const Reduction reduction(x, axis, keepdims);
  py::array result = reduction.values();
  auto nan = reduction.counts();
  reduction.run(self.kernels().reduce->reduce_order,
                {nullptr, nullptr, result.mutable_data(), nullptr, nan.mutable_data(), nullptr, nullptr});
  reduction.apply(policy, nan.data(), {&result});
  return scalar_or_array(std::move(result));
}

py::object mean(const Target& self, py::handle x, py::handle axis, bool keepdims, py::handle policy_name) {
  const NanPolicy policy = nan_policy(policy_name);
  const Reduction reduction(x, axis, keepdims);
  auto sums = reduction.sums();
  auto nan = reduction.counts();
  reduction.run(self.kernels().reduce->reduce_sum,
                {nullptr, nullptr, nullptr, sums.mutable_data(), nan.mutable_data(), nullptr, nullptr});
  py::array result = reduction.mean_of(sums.data(), nan.data());
  reduction.apply(policy, nan.data(), {&result});
  return scalar_or_array(std::move(result));
}

py::tuple moments(const Target& self, py::handle x, py::handle axis, bool keepdims) {
  const Reduction reduction(x, axis, keepdims);
  py::array min = reduction.values(), max = reduction.values(), abs_max = reduction.values();
  auto sums = reduction.sums();
  auto nan = reduction.counts(), pos_inf = reduction.counts(), neg_inf = reduction.counts();
  reduction.run(self.kernels().reduce->reduce_all,
                {min.mutable_data(), max.mutable_data(), abs_max.mutable_data(), sums.mutable_data(),
                 nan.mutable_data(), pos_inf.mutable_data(), neg_inf.mutable_data()});
  py::array mean = reduction.mean_of(sums.data(), nan.data());
  return py::make_tuple(scalar_or_array(std::move(min)), scalar_or_array(std::move(max)),
                        scalar_or_array(std::move(abs_max)), scalar_or_array(std::move(mean)),
                        scalar_or_array(std::move(nan)), scalar_or_array(std::move(pos_inf)),
                        scalar_or_array(std::move(neg_inf)));
}

}  // namespace

void register_reduce(TargetClass& target) {
  target.def("min_max", &min_max, py::arg("x"), py::arg("axis"), py::arg("keepdims"), py::arg("nan_policy"))
      .def("abs_max", &abs_max, py::arg("x"), py::arg("axis"), py::arg("keepdims"), py::arg("nan_policy"))
      .def("mean", &mean, py::arg("x"), py::arg("axis"), py::arg("keepdims"), py::arg("nan_policy"))
      .def("moments", &moments, py::arg("x"), py::arg("axis"), py::arg("keepdims"));
}

}  // namespace qs::python
