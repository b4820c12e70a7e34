#include <cmath>
#include <cstring>
#include <limits>

#include "capi/functions.h"
#include "capi/tensor.h"
#include "dispatch/dispatch.h"
#include "parallel/scratch.h"
#include "parallel/spread.h"

namespace qs::capi {
namespace {

// The edges of numpy.histogram: those of numpy.linspace in double, rounded to the type of the data. False if two of
// them are equal.
template <class T>
bool make_edges(double low, double high, int64_t bins, T* edges) noexcept {
  const auto div = static_cast<double>(bins);
  const double delta = high - low, step = delta / div;
  for (int64_t i = 0; i < bins; ++i) {
    const auto at = static_cast<double>(i);
    edges[i] = static_cast<T>((step == 0 ? at / div * delta : at * step) + low);
  }
  edges[bins] = static_cast<T>(high);
  for (int64_t i = 0; i < bins; ++i) {
    if (!(edges[i] < edges[i + 1])) return false;
  }
  return true;
}

}  // namespace

int histogram(const quantstats_tensor* x, double low, double high, int64_t bins, int64_t* counts,
              void* edges) noexcept {
  Plan plan;
  const int status = make_reduction(x, QUANTSTATS_ALL_AXES, &plan);
  if (status != QUANTSTATS_OK) return status;
  constexpr int64_t most = std::numeric_limits<int32_t>::max() - 1;
  if (bins < 1 || bins > most) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "bins is %lld; pass 1 to %lld", static_cast<long long>(bins),
                static_cast<long long>(most));
  }
  if (!std::isfinite(low) || !std::isfinite(high) || low > high) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "the range is from %g to %g; pass finite numbers low <= high", low, high);
  }
  if (counts == nullptr) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "counts is NULL; pass memory for %lld counters",
                static_cast<long long>(bins));
  }
  const bool is_double = plan.dtype == DType::float64;
  if (low == high) {
    low -= 0.5;
    high += 0.5;
  }
  // The edges come first, in memory of the caller's or of ours, so that an error leaves `counts` alone.
  const SpreadHistogram spread(plan, bins);
  constexpr size_t line = 64;
  const size_t kernel_bytes = (spread.scratch_bytes() + line - 1) / line * line;
  const size_t edge_bytes = static_cast<size_t>(bins + 1) * (is_double ? sizeof(double) : sizeof(float));
  char* const memory = static_cast<char*>(scratch_memory(kernel_bytes + edge_bytes));
  if (memory == nullptr) return no_memory(kernel_bytes + edge_bytes);
  void* const own = memory + kernel_bytes;
  const bool apart = is_double ? make_edges(low, high, bins, static_cast<double*>(own))
                               : make_edges(low, high, bins, static_cast<float*>(own));
  if (!apart) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "%lld bins from %g to %g have equal edges as %s; pass fewer bins",
                static_cast<long long>(bins), low, high, is_double ? "float64" : "float32");
  }
  if (edges != nullptr) std::memcpy(edges, own, edge_bytes);
  std::memset(counts, 0, static_cast<size_t>(bins) * sizeof(int64_t));
  if (plan.count > 0) spread.run(active_isa()->kernels.histogram->histogram, {own, bins, counts}, memory);
  return QUANTSTATS_OK;
}

int bit_histogram(const quantstats_tensor* x, uint64_t* counts, int64_t* nan) noexcept {
  Plan plan;
  const int status = make_reduction(x, QUANTSTATS_ALL_AXES, &plan);
  if (status != QUANTSTATS_OK) return status;
  if (counts == nullptr) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "counts is NULL; pass %d counters", QUANTSTATS_BIT_BINS);
  }
  int64_t found = 0;
  if (plan.count > 0) {
    const SpreadHistogram spread(plan, QUANTSTATS_BIT_BINS);
    void* const memory = scratch_memory(spread.scratch_bytes());
    if (memory == nullptr) return no_memory(spread.scratch_bytes());
    found = spread.run(active_isa()->kernels.histogram->bit_histogram, counts, memory);
  }
  if (nan != nullptr) *nan = found;
  return QUANTSTATS_OK;
}

}  // namespace qs::capi
