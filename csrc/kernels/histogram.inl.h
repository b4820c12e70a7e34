// Histograms: equal bins between two edges, and the bins of the upper 16 bits of a float.
//
// Indices are found for kIndices elements at a time and then counted one by one, in turn in several sub-histograms: the
// same counter twice in a row would wait for the first store. Their stride is not a power of two, so that a bin's
// counters do not fall on lines that share a set of the cache.
#pragma once

#include "kernels/iterate.inl.h"

namespace {

constexpr int kIndices = 256;
constexpr int64_t kFlushEvery = int64_t{1} << 31;  // elements that a 32-bit counter surely holds

// Sub-histograms of 32-bit counters for bins [0, size), `size` being that of elements that are left out.
template <int ways>
class SubHistograms {
 public:
  SubHistograms(void* memory, int64_t size)
      : counters_(static_cast<uint32_t*>(memory)), size_(size), stride_(stride(size)) {
    clear();
  }
  static constexpr int64_t stride(int64_t size) { return (size + 1 + kBlockPad / 2) | 1; }
  static constexpr size_t bytes(int64_t size) { return static_cast<size_t>(ways * stride(size)) * sizeof(uint32_t); }

  void count(const int32_t* index, int n) {
    uint32_t* const c = counters_;
    const int64_t s = stride_;
    int i = 0;
    for (; i + ways <= n; i += ways) {
      for (int w = 0; w < ways; ++w) ++c[w * s + index[i + w]];
    }
    for (; i < n; ++i) ++c[index[i]];
  }

  // Adds the counters to `counts`, clears them, and returns how many elements were left out.
  template <class Count>
  int64_t flush(Count* counts) {
    for (int64_t i = 0; i < size_; ++i) {
      uint64_t sum = 0;
      for (int w = 0; w < ways; ++w) sum += counters_[w * stride_ + i];
      counts[i] += static_cast<Count>(sum);
    }
    int64_t left_out = 0;
    for (int w = 0; w < ways; ++w) left_out += counters_[w * stride_ + size_];
    clear();
    return left_out;
  }

 private:
  void clear() { __builtin_memset(counters_, 0, bytes(size_)); }

  uint32_t* counters_;
  int64_t size_;
  int64_t stride_;
};

// Counts in the result itself, for so few elements or so many bins that sub-histograms do not pay.
template <class Count>
class DirectHistogram {
 public:
  DirectHistogram(Count* counts, int64_t size) : counts_(counts), size_(size) {}
  void count(const int32_t* index, int n) {
    for (int i = 0; i < n; ++i) {
      if (index[i] == size_) {
        ++left_out_;
      } else {
        ++counts_[index[i]];
      }
    }
  }
  int64_t flush(Count*) {
    const int64_t left_out = left_out_;
    left_out_ = 0;
    return left_out;
  }

 private:
  Count* counts_;
  int64_t size_;
  int64_t left_out_ = 0;
};

// Counts every element of `plan`; indexer(x, n, index) finds the indices of up to kIndices elements. Returns how many
// elements were left out.
template <class E, class Histogram, class Count, class Indexer>
int64_t count_all(const Plan& plan, Histogram histogram, Count* counts, Element<E>* buffer, const Indexer& indexer) {
  alignas(64) int32_t index[kIndices];
  int64_t left_out = 0, since_flush = 0;
  BlockReader<E> reader(plan, plan.data, buffer);
  while (reader.next()) {
    for (int64_t i = 0; i < reader.size; i += kIndices) {
      const int n = reader.size - i < kIndices ? static_cast<int>(reader.size - i) : kIndices;
      indexer(reader.data + i, n, index);
      histogram.count(index, n);
    }
    since_flush += reader.size;
    if (since_flush + kBlock > kFlushEvery) {
      left_out += histogram.flush(counts);
      since_flush = 0;
    }
  }
  return left_out + histogram.flush(counts);
}

// Equal bins. The bin of x is the k with edges[k] <= x < edges[k + 1], the last bin being closed: what numpy.histogram
// finds by computing k and correcting it against both edges. Here t = (x - low) * bins / (high - low) is computed in
// float32, and only where it lies within `tolerance` of a whole number are the edges looked up. The tolerance covers
// the rounding of t and that of the edges, and is below 1/2, so k is at most one off.
template <class T>
struct EqualBins {
  const T* edges;
  int32_t bins;
  T low;
  T high;
  T per_bin;  // bins / (high - low)
  float tolerance;

  // Returns false if t cannot be computed well enough: bins too many, or a range too wide or too narrow.
  bool set(const HistogramArguments& a) {
    edges = static_cast<const T*>(a.edges);
    low = edges[0];
    high = edges[a.bins];
    const double factor = static_cast<double>(a.bins) / (static_cast<double>(high) - static_cast<double>(low));
    per_bin = static_cast<T>(factor);
    constexpr double rounding = 0x1p-22;  // of t, relative: four roundings
    double worst = 0;
    for (int64_t k = 0; k <= a.bins; ++k) {
      const double at = (static_cast<double>(edges[k]) - static_cast<double>(low)) * factor - static_cast<double>(k);
      const double distance = at < 0 ? -at : at;
      worst = distance > worst ? distance : worst;
    }
    const double total = worst + static_cast<double>(a.bins) * rounding;
    tolerance = static_cast<float>(total);
    // A float32 difference or factor must neither overflow nor lose bits to underflow.
    constexpr double widest = 0x1p120;
    const bool fits = factor > 1 / widest && factor < widest && high - low <= static_cast<T>(widest);
    bins = static_cast<int32_t>(a.bins);
    return fits && total < 0.25;
  }

  static QS_INLINE vf32 outside(vf32 t, mf32 inside) { return select(inside, t, set1(-1.0f)); }
  QS_INLINE vf32 position(vf32 x) const {
    const mf32 inside = mask_and(ge(x, set1(low)), le(x, set1(high)));
    return select(inside, mul(sub(x, set1(low)), set1(per_bin)), set1(-1.0f));
  }
  QS_INLINE vf64 position(vf64 x) const {
    const mf64 inside = mask_and(ge(x, set1(low)), le(x, set1(high)));
    return select(inside, mul(sub(x, set1(low)), set1(per_bin)), set1(-1.0));
  }
  QS_INLINE vf32 position(const float* x, int n) const {
    return position(n == kLanes ? load(x) : load_partial(x, n, set1(0.0f)));
  }
  QS_INLINE vf32 position(const double* x, int n) const {
    const vf64 zero = set1(0.0);
    if constexpr (kHalves == 1) return narrow(position(load(x)), zero);
    const vf64 first = n >= kLanes64 ? load(x) : load_partial(x, n, zero);
    const vf64 second = n == kLanes    ? load(x + kLanes64)
                        : n > kLanes64 ? load_partial(x + kLanes64, n - kLanes64, zero)
                                       : zero;
    return narrow(position(first), position(second));
  }

  void operator()(const T* x, int n, int32_t* index) const {
    const vi32 last = set1(bins - 1), left_out = set1(bins), zero = set1(0), one = set1(1);
    const vf32 near = set1(tolerance);
    for (int i = 0; i < n; i += kLanes) {
      const int m = n - i < kLanes ? n - i : kLanes;
      const vf32 t = position(x + i, m);
      const vi32 nearest = to_i32(t);
      const vf32 whole = to_f32(nearest);
      const vi32 k = min(select(gt(whole, t), sub(nearest, one), nearest), last);
      store(index + i, select(gt(zero, k), left_out, k));
      // Next to the first edge there is nothing to decide: what lies below it is left out.
      uint32_t doubtful = to_bits(mask_and(le(abs(sub(t, whole)), near), gt(nearest, zero)));
      while (doubtful) {
        const int lane = __builtin_ctz(doubtful);
        doubtful &= doubtful - 1;
        if (lane < m) index[i + lane] = corrected(x[i + lane], index[i + lane]);
      }
    }
  }

  QS_INLINE int32_t corrected(T x, int32_t k) const {
    if (x < edges[k]) return k - 1;
    return k + 1 < bins && x >= edges[k + 1] ? k + 1 : k;
  }
};

// The same by bisection.
template <class T>
struct SearchedBins {
  const T* edges;
  int32_t bins;
  void operator()(const T* x, int n, int32_t* index) const {
    for (int i = 0; i < n; ++i) {
      const T v = x[i];
      if (!(v >= edges[0] && v <= edges[bins])) {
        index[i] = bins;
        continue;
      }
      int32_t low = 0, high = bins;  // edges[low] <= v, and v < edges[high] or high == bins
      while (high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        (v >= edges[middle] ? low : high) = middle;
      }
      index[i] = low;
    }
  }
};

template <class E>
void histogram_typed(const Plan& plan, const HistogramArguments& a, void* scratch) {
  using T = Element<E>;
  constexpr int ways = 4;
  T* const buffer = static_cast<T*>(scratch);
  void* const counters = buffer + kBlock + kBlockPad;
  static_assert(
      (kBlock + kBlockPad) * sizeof(T) + SubHistograms<ways>::bytes(kSubHistogramBins) <= kHistogramScratchBytes,
      "raise kHistogramScratchBytes");
  const auto count = [&](const auto& indexer) {
    if (a.bins <= kSubHistogramBins && plan.count > a.bins) {
      count_all<E>(plan, SubHistograms<ways>(counters, a.bins), a.counts, buffer, indexer);
    } else {
      count_all<E>(plan, DirectHistogram<int64_t>(a.counts, a.bins), a.counts, buffer, indexer);
    }
  };
  EqualBins<T> equal;
  if (equal.set(a)) {
    count(equal);
  } else {
    count(SearchedBins<T>{static_cast<const T*>(a.edges), static_cast<int32_t>(a.bins)});
  }
}

void histogram(const Plan* plan, const HistogramArguments* a, void* scratch) noexcept {
  switch (plan->dtype) {
    case DType::float32:
      return histogram_typed<float>(*plan, *a, scratch);
    case DType::float64:
      return histogram_typed<double>(*plan, *a, scratch);
    case DType::float16:
      return histogram_typed<f16>(*plan, *a, scratch);
    case DType::bfloat16:
      return histogram_typed<bf16>(*plan, *a, scratch);
  }
}

constexpr int kKeys = 65536;

// The upper half h of a float's bits, so that keys ascend with the values: ~h for a set sign bit, else h | 0x8000.
struct BitKeys {
  void operator()(const float* x, int n, int32_t* index) const {
    for (int i = 0; i < n; i += kLanes) {
      const vf32 v = n - i >= kLanes ? load(x + i) : load_partial(x + i, n - i, set1(0.0f));
      const vi32 bits = as_i32(v);
      const vi32 flip = bit_or(bit_and(shift_right<31>(bits), set1(0xffff)), set1(0x8000));
      const vi32 key = bit_xor(shift_right_logical<16>(bits), flip);
      store(index + i, select(unordered(v, v), set1(kKeys), key));
    }
  }
  // A double is cut to a float towards zero, as the bins cut a float: finite values stay finite, and every bin holds
  // just the values from its lower edge up to the next.
  void operator()(const double* x, int n, int32_t* index) const {
    float cut[kIndices];
    for (int i = 0; i < n; ++i) {
      const float nearest = static_cast<float>(x[i]);
      const bool away = __builtin_fabs(static_cast<double>(nearest)) > __builtin_fabs(x[i]);
      cut[i] = float_from_bits(bits_of(nearest) - (away ? 1u : 0u));
    }
    (*this)(cut, n, index);
  }
};

template <class E>
int64_t bit_histogram_typed(const Plan& plan, uint64_t* counts, void* scratch) {
  using T = Element<E>;
  constexpr int ways = 2;                // four take more of the second-level cache than they gain
  constexpr int64_t enough = 4 * kKeys;  // elements that pay for clearing and adding up all counters
  T* const buffer = static_cast<T*>(scratch);
  static_assert((kBlock + kBlockPad) * sizeof(T) + SubHistograms<ways>::bytes(kKeys) <= kHistogramScratchBytes,
                "raise kHistogramScratchBytes");
  if (plan.count < enough)
    return count_all<E>(plan, DirectHistogram<uint64_t>(counts, kKeys), counts, buffer, BitKeys{});
  return count_all<E>(plan, SubHistograms<ways>(buffer + kBlock + kBlockPad, kKeys), counts, buffer, BitKeys{});
}

int64_t bit_histogram(const Plan* plan, uint64_t* counts, void* scratch) noexcept {
  switch (plan->dtype) {
    case DType::float32:
      return bit_histogram_typed<float>(*plan, counts, scratch);
    case DType::float64:
      return bit_histogram_typed<double>(*plan, counts, scratch);
    case DType::float16:
      return bit_histogram_typed<f16>(*plan, counts, scratch);
    case DType::bfloat16:
      return bit_histogram_typed<bf16>(*plan, counts, scratch);
  }
  return 0;
}

}  // namespace
