// A validated reduction of an array along axes: what the functions of every reducing family do before and after their
// kernel.
#pragma once

#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "kernels/arguments.h"
#include "parallel/spread.h"
#include "python/arrays.hpp"
#include "python/bit_counts.hpp"

namespace qs::python {

class Reduction {
 public:
  // Raises what float_array, axis_mask and flag_argument raise, and ValueError where the reduced axes hold no element.
  Reduction(py::handle x, py::handle axis, py::handle keepdims)
      : x_(float_array(x, "x")),
        reduced_(axis_mask(axis, x_)),
        shape_(x_, reduced_, flag_argument(keepdims, "keepdims")) {
    make_plan(view_of(x_, reduced_), &plan_);
    if (plan_.count == 0) {
      throw py::value_error("cannot reduce " + x_.describe() + ": the reduced axes hold no element");
    }
  }

  const Plan& plan() const { return plan_; }

  // Memory for results of the shape of the kept axes, or, with `leading`, for a plane of that shape per index.
  FloatResult values() const { return FloatResult(shape_, x_.is_double()); }
  FloatResult values(const std::vector<py::ssize_t>& leading) const {
    ResultShape shape = shape_;
    shape.shape.insert(shape.shape.begin(), leading.begin(), leading.end());
    return FloatResult(shape, x_.is_double());
  }
  FloatResult sums() const { return FloatResult(shape_, true); }
  CountResult counts() const { return CountResult(shape_); }

  // Calls compute(scratch memory) unless there is nothing to compute, without the GIL where that pays.
  template <class Compute>
  void run(size_t scratch_bytes, Compute compute) const {
    if (plan_.outputs == 0) return;
    void* const memory = scratch(scratch_bytes);
    MaybeReleaseGil release(x_.bytes());
    compute(memory);
  }

  // The memory of `given` as counters for count_bits().
  py::array counters(py::handle given, const char* argument) const { return bit_counts(given, argument, x_); }

  // Adds all elements, whatever the axes, to the 65,536 counters of a bit histogram.
  void count_bits(BitHistogramKernel kernel, uint64_t* counts) const {
    Plan whole;
    make_plan(view_of(x_, axis_mask(py::none(), x_)), &whole);
    if (whole.count == 0) return;
    const SpreadHistogram spread(whole, kBitCounts);
    void* const memory = scratch(spread.scratch_bytes());
    MaybeReleaseGil release(x_.bytes());
    spread.run(kernel, counts, memory);
  }

  // Applies the policy to slices that hold NaN. `counts` has one entry per output; a result may have several planes.
  void apply(NanPolicy policy, const CountResult& counts, std::initializer_list<FloatResult*> results,
             size_t planes = 1) const {
    if (policy == NanPolicy::ignore) return;
    int64_t total = 0;
    for (int64_t i = 0; i < plan_.outputs; ++i) total += counts.data()[i];
    if (total == 0) return;
    if (policy == NanPolicy::raise) {
      throw py::value_error(x_.describe() + " holds " + std::to_string(total) +
                            " NaN; pass nan_policy='ignore' to leave them out or 'propagate' to get NaN");
    }
    for (FloatResult* result : results) {
      for (int64_t i = 0; i < plan_.outputs; ++i) {
        if (counts.data()[i] == 0) continue;
        for (size_t j = 0; j < planes; ++j) {
          result->set(static_cast<int64_t>(j) * plan_.outputs + i, std::numeric_limits<double>::quiet_NaN());
        }
      }
    }
  }

  // sum / (elements that are not NaN), rounded once to the dtype of the result; NaN if there is none.
  void divide(const FloatResult& sums, const CountResult& nan, FloatResult& mean) const {
    const auto* const sum = static_cast<const double*>(sums.data());
    for (int64_t i = 0; i < plan_.outputs; ++i) {
      const int64_t n = plan_.count - nan.data()[i];
      mean.set(i, n > 0 ? sum[i] / static_cast<double>(n) : std::numeric_limits<double>::quiet_NaN());
    }
  }

 private:
  FloatArray x_;
  uint64_t reduced_;
  ResultShape shape_;
  Plan plan_;
};

}  // namespace qs::python
