// The functions of quantstats_capi; its header says what each does.
#pragma once

#include "quantstats/capi.h"

namespace qs::capi {

// statistics.cpp
int64_t outputs(const quantstats_tensor* x, uint64_t axes) noexcept;
int min_max(const quantstats_tensor* x, uint64_t axes, void* min, void* max, int64_t* nan) noexcept;
int abs_max(const quantstats_tensor* x, uint64_t axes, void* abs_max, int64_t* nan) noexcept;
int mean(const quantstats_tensor* x, uint64_t axes, void* mean, int64_t* nan) noexcept;
int quantile(const quantstats_tensor* x, uint64_t axes, const double* q, int32_t n_q, void* values,
             int64_t* nan) noexcept;
int abs_quantile(const quantstats_tensor* x, uint64_t axes, const double* q, int32_t n_q, void* values,
                 int64_t* nan) noexcept;
int median(const quantstats_tensor* x, uint64_t axes, void* median, int64_t* nan) noexcept;
int mean_no_outliers(const quantstats_tensor* x, uint64_t axes, double p, void* mean, int64_t* nan) noexcept;
int median_no_outliers(const quantstats_tensor* x, uint64_t axes, double p, void* median, int64_t* nan) noexcept;
int summarize(const quantstats_tensor* x, uint64_t axes, const quantstats_summary* summary, const double* q,
              int32_t n_q, void* quantiles) noexcept;

// histograms.cpp
int histogram(const quantstats_tensor* x, double low, double high, int64_t bins, int64_t* counts, void* edges) noexcept;
int bit_histogram(const quantstats_tensor* x, uint64_t* counts, int64_t* nan) noexcept;

// rounding.cpp
int quantize(const quantstats_tensor* x, const quantstats_quantization* quantization,
             const quantstats_tensor* out) noexcept;
int dequantize(const quantstats_tensor* q, const quantstats_quantization* quantization,
               const quantstats_tensor* out) noexcept;
int fake_quantize(const quantstats_tensor* x, const quantstats_quantization* quantization,
                  const quantstats_tensor* out) noexcept;

// products.cpp
int saturating_matmul(const quantstats_tensor* a, const quantstats_tensor* b, const quantstats_tensor* out,
                      int64_t* saturated) noexcept;
int certify(const quantstats_tensor* weights, int32_t u_max, int any_pairs, int32_t* positive, int32_t* negative,
            int64_t* positions, int64_t* at_risk) noexcept;

}  // namespace qs::capi
