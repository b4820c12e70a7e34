#include <initializer_list>
#include <limits>

#include "capi/functions.h"
#include "capi/tensor.h"
#include "dispatch/dispatch.h"
#include "parallel/planes.h"
#include "parallel/scratch.h"
#include "parallel/spread.h"

namespace qs::capi {
namespace {

constexpr double kNoValue = std::numeric_limits<double>::quiet_NaN();

// Planes of one element per output: double for float64 input, float for the others.
void set(const Plan& plan, void* plane, int64_t i, double value) noexcept {
  if (plan.dtype == DType::float64) {
    static_cast<double*>(plane)[i] = value;
  } else {
    static_cast<float*>(plane)[i] = static_cast<float>(value);
  }
}

void fill(const Plan& plan, void* planes, int64_t n_planes, double value) noexcept {
  if (planes == nullptr) return;
  for (int64_t i = 0; i < n_planes * plan.outputs; ++i) set(plan, planes, i, value);
}

void clear(const Plan& plan, int64_t* counts) noexcept {
  for (int64_t i = 0; counts != nullptr && i < plan.outputs; ++i) counts[i] = 0;
}

// What a reduction over no elements gives.
void fill_empty(const Plan& plan, const ReduceOutput& out) noexcept {
  for (void* plane : {out.min, out.max, out.abs_max}) fill(plan, plane, 1, kNoValue);
  for (int64_t* counts : {out.nan, out.pos_inf, out.neg_inf}) clear(plan, counts);
}

// Calls run(scratch memory).
template <class Run>
int with_memory(size_t bytes, const Run& run) noexcept {
  void* const memory = scratch_memory(bytes);
  if (memory == nullptr) return no_memory(bytes);
  run(memory);
  return QUANTSTATS_OK;
}

int reduce(const Plan& plan, const ReduceOutput& out) noexcept {
  if (plan.outputs == 0) return QUANTSTATS_OK;
  if (plan.count == 0) {
    fill_empty(plan, out);
    return QUANTSTATS_OK;
  }
  const SpreadReduction spread(plan);
  return with_memory(spread.scratch_bytes(),
                     [&](void* memory) { spread.run(active_isa()->kernels.reduce->reduce_order, out, memory); });
}

int check_output(const void* output, const char* name) noexcept {
  if (output != nullptr) return QUANTSTATS_OK;
  return fail(QUANTSTATS_ERROR_ARGUMENT, "%s is NULL; pass memory for outputs(x, axes) elements", name);
}

int check_probabilities(const double* q, int32_t n_q, int32_t least) noexcept {
  if (n_q < least) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "n_q is %d; pass %d or more probabilities", n_q, least);
  }
  if (n_q > 0 && q == nullptr) return fail(QUANTSTATS_ERROR_ARGUMENT, "q is NULL; pass %d probabilities", n_q);
  for (int32_t j = 0; j < n_q; ++j) {
    if (!(q[j] >= 0.0 && q[j] <= 1.0)) {
      return fail(QUANTSTATS_ERROR_ARGUMENT,
                  "q[%d] is %g; probabilities lie between 0 and 1 (a percentile divided by 100)", j, q[j]);
    }
  }
  return QUANTSTATS_OK;
}

int quantiles_of(const Plan& plan, const double* q, int32_t n_q, bool magnitude, void* values, int64_t* nan) noexcept {
  const SpreadQuantiles spread(plan);
  return with_memory(spread.scratch_bytes(), [&](void* memory) {
    spread.run(active_isa()->kernels, q, static_cast<size_t>(n_q), magnitude, values, nan, nullptr, memory);
  });
}

int quantiles(const quantstats_tensor* x, uint64_t axes, const double* q, int32_t n_q, bool magnitude, void* values,
              int64_t* nan) noexcept {
  Plan plan;
  int status = make_reduction(x, axes, &plan);
  if (status == QUANTSTATS_OK) status = check_probabilities(q, n_q, 1);
  if (status == QUANTSTATS_OK) status = check_output(values, "values");
  if (status != QUANTSTATS_OK || plan.outputs == 0) return status;
  if (plan.count == 0) {
    fill(plan, values, n_q, kNoValue);
    clear(plan, nan);
    return QUANTSTATS_OK;
  }
  return quantiles_of(plan, q, n_q, magnitude, values, nan);
}

using NoOutliers = void (*)(const Plan*, double, void*, int64_t*, void*) noexcept;

int without_outliers(NoOutliers kernel, const quantstats_tensor* x, uint64_t axes, double p, void* values,
                     const char* name, int64_t* nan) noexcept {
  Plan plan;
  int status = make_reduction(x, axes, &plan);
  if (status == QUANTSTATS_OK && !(p > 0.0 && p < 0.5)) {
    status = fail(QUANTSTATS_ERROR_ARGUMENT,
                  "p is %g; pass the probability of an outlier on one side, between 0 and 0.5 exclusive", p);
  }
  if (status == QUANTSTATS_OK) status = check_output(values, name);
  if (status != QUANTSTATS_OK || plan.outputs == 0) return status;
  if (plan.count == 0) {
    fill(plan, values, 1, kNoValue);
    clear(plan, nan);
    return QUANTSTATS_OK;
  }
  const SpreadColumns spread(plan);
  return with_memory(spread.scratch_bytes(), [&](void* memory) {
    spread.run(memory, [&](const Plan* part, void* own) { kernel(part, p, values, nan, own); });
  });
}

}  // namespace

int64_t outputs(const quantstats_tensor* x, uint64_t axes) noexcept {
  Plan plan;
  const int status = make_reduction(x, axes, &plan);
  return status == QUANTSTATS_OK ? plan.outputs : status;
}

int min_max(const quantstats_tensor* x, uint64_t axes, void* min, void* max, int64_t* nan) noexcept {
  Plan plan;
  const int status = make_reduction(x, axes, &plan);
  if (status != QUANTSTATS_OK) return status;
  return reduce(plan, {min, max, nullptr, nullptr, nan, nullptr, nullptr});
}

int abs_max(const quantstats_tensor* x, uint64_t axes, void* abs_max, int64_t* nan) noexcept {
  Plan plan;
  int status = make_reduction(x, axes, &plan);
  if (status == QUANTSTATS_OK) status = check_output(abs_max, "abs_max");
  if (status != QUANTSTATS_OK) return status;
  return reduce(plan, {nullptr, nullptr, abs_max, nullptr, nan, nullptr, nullptr});
}

int mean(const quantstats_tensor* x, uint64_t axes, void* mean, int64_t* nan) noexcept {
  Plan plan;
  int status = make_reduction(x, axes, &plan);
  if (status == QUANTSTATS_OK) status = check_output(mean, "mean");
  if (status != QUANTSTATS_OK || plan.outputs == 0) return status;
  if (plan.count == 0) {
    fill(plan, mean, 1, kNoValue);
    clear(plan, nan);
    return QUANTSTATS_OK;
  }
  const Planes planes[] = {{mean, result_item(plan)}, {nullptr, sizeof(double)}, {nan, sizeof(int64_t)}};
  const SpreadPlanes<SpreadReduction> spread(plan, planes, 3);
  return with_memory(spread.scratch_bytes(), [&](void* memory) {
    spread.run(memory, [](const Plan& part, const SpreadReduction& reduction, void* const* at, void* own) {
      auto* const sums = static_cast<double*>(at[1]);
      auto* const counts = static_cast<int64_t*>(at[2]);
      const ReduceOutput out{nullptr, nullptr, nullptr, sums, counts, nullptr, nullptr};
      reduction.run(active_isa()->kernels.reduce->reduce_sum, out, own);
      divide(part, sums, counts, at[0]);
    });
  });
}

int quantile(const quantstats_tensor* x, uint64_t axes, const double* q, int32_t n_q, void* values,
             int64_t* nan) noexcept {
  return quantiles(x, axes, q, n_q, false, values, nan);
}

int abs_quantile(const quantstats_tensor* x, uint64_t axes, const double* q, int32_t n_q, void* values,
                 int64_t* nan) noexcept {
  return quantiles(x, axes, q, n_q, true, values, nan);
}

int median(const quantstats_tensor* x, uint64_t axes, void* median, int64_t* nan) noexcept {
  const double half = 0.5;
  const int status = check_output(median, "median");
  return status != QUANTSTATS_OK ? status : quantiles(x, axes, &half, 1, false, median, nan);
}

int mean_no_outliers(const quantstats_tensor* x, uint64_t axes, double p, void* mean, int64_t* nan) noexcept {
  return without_outliers(active_isa()->kernels.columns->columns_mean_no_outliers, x, axes, p, mean, "mean", nan);
}

int median_no_outliers(const quantstats_tensor* x, uint64_t axes, double p, void* median, int64_t* nan) noexcept {
  return without_outliers(active_isa()->kernels.columns->columns_median_no_outliers, x, axes, p, median, "median", nan);
}

int summarize(const quantstats_tensor* x, uint64_t axes, const quantstats_summary* summary, const double* q,
              int32_t n_q, void* quantiles) noexcept {
  Plan plan;
  int status = make_reduction(x, axes, &plan);
  if (status == QUANTSTATS_OK) status = check_probabilities(q, n_q, 0);
  if (status == QUANTSTATS_OK && n_q > 0) status = check_output(quantiles, "quantiles");
  if (status != QUANTSTATS_OK) return status;
  if (summary == nullptr || summary->size < sizeof(quantstats_summary)) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "summary is %s; pass a struct whose size is sizeof(quantstats_summary), %zu",
                summary == nullptr ? "NULL" : "too small", sizeof(quantstats_summary));
  }
  if (plan.outputs == 0) return QUANTSTATS_OK;
  const quantstats_summary& to = *summary;
  if (plan.count == 0) {
    fill_empty(plan, {to.min, to.max, to.abs_max, nullptr, to.nan, to.pos_inf, to.neg_inf});
    fill(plan, to.mean, 1, kNoValue);
    fill(plan, quantiles, n_q, kNoValue);
    return QUANTSTATS_OK;
  }
  // Every moment is found, so what is not asked for has a plane too.
  const size_t item = result_item(plan);
  const int32_t first = n_q < kMaxProbabilities ? n_q : kMaxProbabilities;
  const Planes planes[] = {{to.min, item},
                           {to.max, item},
                           {to.abs_max, item},
                           {to.mean, item},
                           {quantiles, item, static_cast<size_t>(first)},
                           {to.nan, sizeof(int64_t)},
                           {to.pos_inf, sizeof(int64_t)},
                           {to.neg_inf, sizeof(int64_t)},
                           {nullptr, sizeof(double)}};
  const SpreadPlanes<SpreadQuantiles> spread(plan, planes, 9);
  status = with_memory(spread.scratch_bytes(), [&](void* memory) {
    spread.run(memory, [&](const Plan& part, const SpreadQuantiles& all, void* const* at, void* own) {
      auto* const sums = static_cast<double*>(at[8]);
      const auto count = [&](int k) { return static_cast<int64_t*>(at[k]); };
      const ReduceOutput moments{at[0], at[1], at[2], sums, count(5), count(6), count(7)};
      all.run(active_isa()->kernels, q, static_cast<size_t>(first), false, at[4], nullptr, &moments, own);
      divide(part, sums, at[5], at[3]);
    });
  });
  if (status != QUANTSTATS_OK || n_q == first) return status;
  auto* const rest = static_cast<char*>(quantiles) + static_cast<size_t>(first * plan.outputs) * item;
  return quantiles_of(plan, q + first, n_q - first, false, rest, nullptr);
}

}  // namespace qs::capi
