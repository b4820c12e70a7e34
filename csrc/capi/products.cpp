#include <cstring>

#include "capi/functions.h"
#include "capi/tensor.h"
#include "dispatch/dispatch.h"
#include "parallel/scratch.h"
#include "parallel/spread.h"

namespace qs::capi {
namespace {

int check_matrix(const quantstats_tensor* x, const char* name, int32_t dtype) noexcept {
  const int status = check_tensor(x, name);
  if (status != QUANTSTATS_OK) return status;
  if (x->ndim != 2 || x->dtype != dtype) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "%s has %d dimensions and dtype %s; pass a matrix of %s", name, x->ndim,
                type_name(x->dtype), type_name(dtype));
  }
  return QUANTSTATS_OK;
}

}  // namespace

int saturating_matmul(const quantstats_tensor* a, const quantstats_tensor* b, const quantstats_tensor* out,
                      int64_t* saturated) noexcept {
  int status = check_matrix(a, "a", QUANTSTATS_UINT8);
  if (status == QUANTSTATS_OK) status = check_matrix(b, "b", QUANTSTATS_INT8);
  if (status == QUANTSTATS_OK) status = check_matrix(out, "out", QUANTSTATS_INT32);
  if (status != QUANTSTATS_OK) return status;
  const int64_t m = a->shape[0], k = a->shape[1], n = b->shape[1];
  if (b->shape[0] != k || out->shape[0] != m || out->shape[1] != n) {
    return fail(QUANTSTATS_ERROR_ARGUMENT,
                "a is [%lld, %lld], b [%lld, %lld] and out [%lld, %lld]; pass a [M, K], b [K, N] and out [M, N]",
                static_cast<long long>(m), static_cast<long long>(k), static_cast<long long>(b->shape[0]),
                static_cast<long long>(n), static_cast<long long>(out->shape[0]),
                static_cast<long long>(out->shape[1]));
  }
  const Strides a_strides(*a), b_strides(*b), out_strides(*out);
  constexpr int64_t item = sizeof(int32_t);
  const int64_t out_row = out_strides.data()[0];
  if ((n > 1 && out_strides.data()[1] != item) || (m > 1 && (out_row % item != 0 || out_row < n * item))) {
    return fail(QUANTSTATS_ERROR_ARGUMENT,
                "the rows of out are %lld bytes apart and its columns %lld; pass contiguous "
                "rows that do not overlap",
                static_cast<long long>(out_row), static_cast<long long>(out_strides.data()[1]));
  }
  int64_t found = 0;
  if (m > 0 && n > 0 && k == 0) {
    for (int64_t i = 0; i < m; ++i) {
      std::memset(static_cast<char*>(out->data) + i * out_row, 0, static_cast<size_t>(n * item));
    }
  } else if (m > 0 && n > 0) {
    const SaturatingProduct product{static_cast<const char*>(a->data),
                                    a_strides.data()[0],
                                    a_strides.data()[1],
                                    static_cast<const char*>(b->data),
                                    b_strides.data()[0],
                                    b_strides.data()[1],
                                    static_cast<int32_t*>(out->data),
                                    out_row / item,
                                    m,
                                    k,
                                    n};
    const SpreadProduct spread(product);
    void* const memory = scratch_memory(spread.scratch_bytes());
    if (memory == nullptr) return no_memory(spread.scratch_bytes());
    found = spread.run(active_isa()->kernels.saturate->saturating_matmul, saturated != nullptr, memory);
  }
  if (saturated != nullptr) *saturated = found;
  return QUANTSTATS_OK;
}

int certify(const quantstats_tensor* weights, int32_t u_max, int any_pairs, int32_t* positive, int32_t* negative,
            int64_t* positions, int64_t* at_risk) noexcept {
  const int status = check_matrix(weights, "weights", QUANTSTATS_INT8);
  if (status != QUANTSTATS_OK) return status;
  if (u_max < 1 || u_max > 255) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "u_max is %d; pass the greatest activation, 1 to 255", u_max);
  }
  if (positive == nullptr || negative == nullptr) {
    return fail(QUANTSTATS_ERROR_ARGUMENT, "%s is NULL; pass memory for an element per row",
                positive == nullptr ? "positive" : "negative");
  }
  const int64_t rows = weights->shape[0], length = weights->shape[1];
  const Strides strides(*weights);
  if (strides.data()[0] != 1 && strides.data()[1] != 1 && rows > 0 && length > 0) {
    return fail(QUANTSTATS_ERROR_ARGUMENT,
                "the strides of weights are %lld and %lld; pass a matrix that is contiguous along one axis",
                static_cast<long long>(strides.data()[0]), static_cast<long long>(strides.data()[1]));
  }
  if (rows == 0) return QUANTSTATS_OK;
  if (length == 0) {
    for (int64_t i = 0; i < rows; ++i) {
      positive[i] = negative[i] = 0;
      if (positions != nullptr) positions[2 * i] = positions[2 * i + 1] = -1;
      if (at_risk != nullptr) at_risk[i] = 0;
    }
    return QUANTSTATS_OK;
  }
  PairArguments arguments{static_cast<const char*>(weights->data),
                          rows,
                          length,
                          strides.data()[0],
                          strides.data()[1],
                          32767 / u_max,
                          32768 / u_max,
                          any_pairs != 0,
                          positive,
                          negative,
                          positions,
                          at_risk};
  const SpreadPairs spread(arguments);
  const size_t own = positions == nullptr ? static_cast<size_t>(rows) * 2 * sizeof(int64_t) : 0;
  char* const memory = static_cast<char*>(scratch_memory(spread.scratch_bytes() + own));
  if (memory == nullptr) return no_memory(spread.scratch_bytes() + own);
  if (positions == nullptr) arguments.positions = reinterpret_cast<int64_t*>(memory + spread.scratch_bytes());
  spread.run(active_isa()->kernels.certify->certify_pairs, memory);
  return QUANTSTATS_OK;
}

}  // namespace qs::capi
