// A validated reduction of an array along axes: what the functions of every reducing family do before and after their
// kernel.
#pragma once

#include <atomic>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "kernels/arguments.h"
#include "parallel/planes.h"
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
  CountResult counts() const { return CountResult(shape_); }

  // The policy for NaN, applied to the planes of a block as they are found.
  class NanCheck {
   public:
    NanCheck(const Reduction& reduction, NanPolicy policy) : reduction_(reduction), policy_(policy) {}
    // Whether numbers of NaN are wanted.
    bool counts() const { return policy_ != NanPolicy::ignore; }
    // `nan` has an entry per output of the plan, `values` the planes of a result.
    void operator()(const Plan& plan, const void* nan, std::initializer_list<Planes> values) noexcept {
      if (policy_ == NanPolicy::ignore) return;
      const auto* const counts = static_cast<const int64_t*>(nan);
      int64_t total = 0;
      for (int64_t i = 0; i < plan.outputs; ++i) total += counts[i];
      if (total == 0) return;
      total_.fetch_add(total, std::memory_order_relaxed);
      if (policy_ == NanPolicy::raise) return;
      for (const Planes& planes : values) {
        if (planes.item == sizeof(double)) {
          propagate<double>(plan, counts, planes);
        } else {
          propagate<float>(plan, counts, planes);
        }
      }
    }
    // Raises if the policy says so.
    void finish() const {
      if (policy_ != NanPolicy::raise || total_ == 0) return;
      throw py::value_error(reduction_.x_.describe() + " holds " + std::to_string(total_) +
                            " NaN; pass nan_policy='ignore' to leave them out or 'propagate' to get NaN");
    }

   private:
    template <class T>
    static void propagate(const Plan& plan, const int64_t* counts, const Planes& planes) noexcept {
      for (size_t j = 0; j < planes.n; ++j) {
        T* const plane = static_cast<T*>(planes.memory) + static_cast<int64_t>(j) * plan.outputs;
        for (int64_t i = 0; i < plan.outputs; ++i) {
          if (counts[i] != 0) plane[i] = std::numeric_limits<T>::quiet_NaN();
        }
      }
    }

    const Reduction& reduction_;
    NanPolicy policy_;
    std::atomic<int64_t> total_{0};
  };

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

  // Calls compute(plan, spread, planes, scratch memory) for the plan or its blocks, see SpreadPlanes.
  template <class Spread, class Compute>
  void run(const Planes* planes, int n, const Compute& compute) const {
    const SpreadPlanes<Spread> spread(plan_, planes, n);
    run(spread.scratch_bytes(), [&](void* memory) { spread.run(memory, compute); });
  }

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

 private:
  FloatArray x_;
  uint64_t reduced_;
  ResultShape shape_;
  Plan plan_;
};

}  // namespace qs::python
