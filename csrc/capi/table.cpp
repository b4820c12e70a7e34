#include <cstdlib>

#include "capi/functions.h"
#include "capi/tensor.h"
#include "dispatch/dispatch.h"
#include "kernels/arguments.h"
#include "parallel/pool.h"
#include "quantstats/capi.h"

namespace qs::capi {
namespace {

// The functions of the first version, for contiguous float32 data.

quantstats_tensor vector(const void* data, const int64_t& n, int32_t dtype) noexcept {
  return {const_cast<void*>(data), &n, nullptr, 1, dtype};
}

int64_t min_max_f32(const float* x, int64_t n, float* min, float* max) noexcept {
  const int64_t size = n > 0 ? n : 0;
  const quantstats_tensor tensor = vector(x, size, QUANTSTATS_FLOAT32);
  int64_t nan = 0;
  const int status = min_max(&tensor, QUANTSTATS_ALL_AXES, min, max, &nan);
  return status == QUANTSTATS_OK ? nan : status;
}

template <class Q, int32_t dtype>
int quantize_f32(const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin, int32_t qmax,
                 Q* out) noexcept {
  const int64_t size = n > 0 ? n : 0;
  const quantstats_tensor from = vector(x, size, QUANTSTATS_FLOAT32), to = vector(out, size, dtype);
  const quantstats_quantization quantization{&scale, &zero_point, QUANTSTATS_PER_TENSOR, qmin, qmax};
  return quantize(&from, &quantization, &to) == QUANTSTATS_OK ? 0 : -1;
}

int64_t quantile_f32(const float* x, int64_t n, const double* q, int32_t n_q, float* out) noexcept {
  if (n_q > kMaxProbabilities) {
    return fail(-1, "n_q is %d; pass at most %d probabilities", n_q, kMaxProbabilities);
  }
  const int64_t size = n > 0 ? n : 0;
  const quantstats_tensor tensor = vector(x, size, QUANTSTATS_FLOAT32);
  int64_t nan = 0;
  return quantile(&tensor, QUANTSTATS_ALL_AXES, q, n_q, out, &nan) == QUANTSTATS_OK ? nan : -1;
}

// The library.

const char* package_version() noexcept { return QS_VERSION; }
const char* isa() noexcept { return active_isa()->name; }
int32_t threads() noexcept { return num_threads(); }

int set_threads(int32_t n) noexcept {
  if (n < 1) return fail(QUANTSTATS_ERROR_ARGUMENT, "n is %d; pass the number of threads, at least 1", n);
  set_num_threads(n);
  return QUANTSTATS_OK;
}

constexpr quantstats_capi table = {
    QUANTSTATS_CAPI_VERSION,
    sizeof(quantstats_capi),
    min_max_f32,
    quantize_f32<int8_t, QUANTSTATS_INT8>,
    quantize_f32<uint8_t, QUANTSTATS_UINT8>,
    quantile_f32,
    last_error,
    package_version,
    isa,
    threads,
    set_threads,
    outputs,
    min_max,
    abs_max,
    mean,
    quantile,
    abs_quantile,
    median,
    mean_no_outliers,
    median_no_outliers,
    summarize,
    histogram,
    bit_histogram,
    quantize,
    dequantize,
    fake_quantize,
    saturating_matmul,
    certify,
};

int check_environment() noexcept {
  if (active_isa() == nullptr) {
    return fail(QUANTSTATS_ERROR_ENVIRONMENT,
                "the environment variable %s is '%.32s', an instruction set that is not built or does not run on this "
                "CPU; unset it, or set one that `quantstats config` lists as runnable",
                kIsaVariable, std::getenv(kIsaVariable));
  }
  if (const char* const refused = refused_num_threads(); refused != nullptr) {
    return fail(QUANTSTATS_ERROR_ENVIRONMENT,
                "the environment variable %s is '%.32s', not a number of threads; set an integer of at least 1 or "
                "unset it",
                kThreadsVariable, refused);
  }
  return QUANTSTATS_OK;
}

}  // namespace
}  // namespace qs::capi

extern "C" {

__attribute__((visibility("default"))) int quantstats_get_capi(uint32_t version, size_t size,
                                                               const quantstats_capi** api) {
  using namespace qs::capi;
  if (api == nullptr) return fail(QUANTSTATS_ERROR_ARGUMENT, "api is NULL; pass the address of a pointer");
  *api = nullptr;
  if (version != QUANTSTATS_CAPI_VERSION || size > sizeof(quantstats_capi)) {
    return fail(QUANTSTATS_ERROR_VERSION,
                "the library has version %d of the C interface with %zu bytes, but version %u with %zu bytes is asked "
                "for; use a newer quantstats-native, or build with its own header",
                QUANTSTATS_CAPI_VERSION, sizeof(quantstats_capi), version, size);
  }
  const int status = check_environment();
  if (status == QUANTSTATS_OK) *api = &table;
  return status;
}

__attribute__((visibility("default"))) const char* quantstats_last_error(void) { return qs::capi::last_error(); }

}  // extern "C"
