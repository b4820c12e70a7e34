// Histograms: equal bins between two edges, and the bins of the upper 16 bits of a float.
//
// Indices are found for kIndices elements at a time and then counted one by one: see counters.inl.h.
#pragma once

#include "kernels/counters.inl.h"

namespace {

// Counts in the result itself, for so few elements or so many bins that sub-histograms do not pay.
template <class Count>
class DirectHistogram {
 public:
  DirectHistogram(Count* counts, int32_t first, int64_t size) : counts_(counts), first_(first), size_(size) {}
  void count(const int32_t* index, int n) {
    for (int i = 0; i < n; ++i) {
      const int32_t k = index[i] - first_;
      if (k < 0 || k >= size_) {
        ++left_out_;
      } else {
        ++counts_[k];
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
  int32_t first_;
  int64_t size_;
  int64_t left_out_ = 0;
};

// The same for the bits of floats, all of whose indices are those of bins.
class DirectBitCounters {
 public:
  explicit DirectBitCounters(uint64_t* counts) : counts_(counts) {}
  void count(const int32_t* index, int n) {
    uint64_t* const c = counts_;
    int i = 0;
    for (; i + 4 <= n; i += 4) {
      uint64_t pair[2];  // two indices a load
      __builtin_memcpy(pair, index + i, sizeof pair);
      ++c[static_cast<uint32_t>(pair[0])];
      ++c[pair[0] >> 32];
      ++c[static_cast<uint32_t>(pair[1])];
      ++c[pair[1] >> 32];
    }
    for (; i < n; ++i) ++c[index[i]];
  }
  int64_t flush(uint64_t*) { return 0; }

 private:
  uint64_t* counts_;
};

constexpr int64_t kNear = int64_t{1} << 20;  // bytes that are read as fast as they are counted
constexpr int kAhead = 512;                  // elements

template <class X>
QS_INLINE void prefetch_lines(const X* x, int n) {
  constexpr int line = 64 / sizeof(X);
  for (int i = 0; i < n; i += line) prefetch(x + i);
}

// Counts every element of `plan`; indexer(x, n, index) finds the indices of up to kIndices elements and returns
// how many there are. Returns how many elements had an index that is not of a bin.
//
// While a block is counted nothing is read that follows, so that what lies beyond the second-level cache is asked for
// in time.
template <class E, class Histogram, class Count, class Indexer>
int64_t count_all(const Plan& plan, Histogram histogram, Count* counts, Element<E>* buffer, Indexer& indexer) {
  alignas(64) int32_t index[kIndices];
  int64_t left_out = 0, since_flush = 0;
  const bool far = sizeof(E) == sizeof(Element<E>) && plan.count * plan.item > kNear;  // else the reader converts
  BlockReader<E> reader(plan, plan.data, buffer);
  while (reader.next()) {
    for (int64_t i = 0; i < reader.size; i += kIndices) {
      const int n = reader.size - i < kIndices ? static_cast<int>(reader.size - i) : kIndices;
      if (far) prefetch_lines(reader.data + i + kAhead, n);
      histogram.count(index, indexer(reader.data + i, n, index));
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
// the rounding of t and that of the edges, and is below 1/4, so the bin is one of two, and which one is told by the
// edge between them. Values that crowd an edge -- the zeros of a ReLU -- are equal to one another, nearly always: the
// doubtful one that was decided last decides for all that equal it.
//
// Counter k + 1 is that of bin k. Those before the first and behind the last bin are of what is left out; NaN goes to
// the first of them.
template <class T>
struct EqualBins {
  const T* edges;
  int32_t bins;
  T low;
  T high;
  T per_bin;          // bins / (high - low)
  T least, greatest;  // to which x - low is clamped: less than a bin before the first, and behind the last
  float below;        // 1 - tolerance
  float above;        // 1 + tolerance
  // The doubtful value decided last, none at first, and what to add to the index of all that equal it.
  T settled = static_cast<T>(__builtin_nan(""));
  int32_t settled_step = 0;

  static constexpr int32_t first = 1;

  // Returns false if t cannot be computed well enough: bins too many, or a range too wide or too narrow.
  bool set(const HistogramArguments& a) {
    edges = static_cast<const T*>(a.edges);
    low = edges[0];
    high = edges[a.bins];
    const double width = static_cast<double>(high) - static_cast<double>(low);
    const double factor = static_cast<double>(a.bins) / width;
    per_bin = static_cast<T>(factor);
    constexpr double rounding = 1.25 * 0x1p-22;  // of t + 1, relative: five roundings
    double worst = 0;
    for (int64_t k = 0; k <= a.bins; ++k) {
      const double at = (static_cast<double>(edges[k]) - static_cast<double>(low)) * factor - static_cast<double>(k);
      const double distance = at < 0 ? -at : at;
      worst = distance > worst ? distance : worst;
    }
    const double total = worst + static_cast<double>(a.bins + 2) * rounding;
    below = static_cast<float>(1.0 - total);
    above = static_cast<float>(1.0 + total);
    least = static_cast<T>(-0.75 / factor);
    greatest = static_cast<T>(width + 0.75 / factor);
    // A float32 difference or factor must neither overflow nor lose bits to underflow.
    constexpr double widest = 0x1p120;
    const bool fits = factor > 1 / widest && factor < widest && high - low <= static_cast<T>(widest);
    bins = static_cast<int32_t>(a.bins);
    return fits && total < 0.125;
  }

  // (x - low) * per_bin, clamped so that it lies above -1 and below bins + 1; NaN becomes the least.
  template <class V>
  QS_INLINE V scaled(V x) const {
    return mul(min(max(sub(x, set1(low)), set1(least)), set1(greatest)), set1(per_bin));
  }
  QS_INLINE vf32 position(const float* x, int n) const {
    return scaled(n == kLanes ? load(x) : load_partial(x, n, set1(low)));
  }
  QS_INLINE vf32 position(const double* x, int n) const {
    const vf64 fill = set1(low);
    if constexpr (kHalves == 1) return narrow(scaled(load(x)), fill);
    const vf64 first = n >= kLanes64 ? load(x) : load_partial(x, n, fill);
    const vf64 second = n == kLanes    ? load(x + kLanes64)
                        : n > kLanes64 ? load_partial(x + kLanes64, n - kLanes64, fill)
                                       : fill;
    return narrow(scaled(first), scaled(second));
  }

  int operator()(const T* x, int n, int32_t* index) {
    const vf32 down = set1(below), up = set1(above);
    for (int i = 0; i < n; i += kLanes) {
      const int m = n - i < kLanes ? n - i : kLanes;
      const vf32 t = position(x + i, m);
      // Both are above zero, so that to cut them is to round them down.
      const vi32 k = truncate(add(t, down)), next = truncate(add(t, up));
      store(index + i, k);
      const mf32 same = eq(k, next);
      const uint32_t doubtful = to_bits(mask_not(same)) & ((2u << (m - 1)) - 1);
      if (__builtin_expect(doubtful != 0, 0)) decide(x + i, m, doubtful, index + i);
    }
    return n;
  }

  // For the lanes whose bits are set: is it the counter found, or the next?
  QS_INLINE void decide(const float* x, int n, uint32_t doubtful, int32_t* index) {
    const vf32 v = load_partial(x, n, set1(__builtin_nanf("")));
    vi32 k = load(index);
    for (;;) {
      const mf32 equal = eq(v, set1(settled));
      k = select(equal, add(k, set1(settled_step)), k);
      doubtful &= ~to_bits(equal);
      if (doubtful == 0) break;
      const int next = __builtin_ctz(doubtful);
      settled = x[next];
      settled_step = beyond(settled, index[next]);
    }
    store(index, k);
  }
  QS_INLINE void decide(const double* x, int n, uint32_t doubtful, int32_t* index) const {
    for (int lane = 0; lane < n; ++lane) index[lane] += (doubtful >> lane & 1) && beyond(x[lane], index[lane]);
  }
  // The upper edge of counter k's bin is edges[k].
  QS_INLINE bool beyond(T x, int32_t k) const { return k == bins ? x > edges[k] : x >= edges[k]; }
};

// The same by bisection.
template <class T>
struct SearchedBins {
  const T* edges;
  int32_t bins;
  static constexpr int32_t first = 0;

  int operator()(const T* x, int n, int32_t* index) const {
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
    return n;
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
  const auto count = [&](auto& indexer) {
    if (a.bins <= kSubHistogramBins && plan.count > a.bins) {
      count_all<E>(plan, SubHistograms<ways>(counters, indexer.first, a.bins), a.counts, buffer, indexer);
    } else {
      count_all<E>(plan, DirectHistogram<int64_t>(a.counts, indexer.first, a.bins), a.counts, buffer, indexer);
    }
  };
  EqualBins<T> equal;
  if (equal.set(a)) {
    count(equal);
  } else {
    SearchedBins<T> searched{static_cast<const T*>(a.edges), static_cast<int32_t>(a.bins)};
    count(searched);
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

template <class E>
int64_t bit_histogram_typed(const Plan& plan, uint64_t* counts, void* scratch) {
  using T = Element<E>;
  constexpr int64_t enough = 16 * kKeys;  // elements that pay for clearing and adding up all counters
  T* const buffer = static_cast<T*>(scratch);
  static_assert((kBlock + kBlockPad) * sizeof(T) + BitCounters::bytes(kKeys) <= kHistogramScratchBytes,
                "raise kHistogramScratchBytes");
  BitKeys keys;
  if (plan.count < enough) {
    count_all<E>(plan, DirectBitCounters(counts), counts, buffer, keys);
  } else {
    count_all<E>(plan, BitCounters(buffer + kBlock + kBlockPad, 0, kKeys), counts, buffer, keys);
  }
  counts[kZeroKey] += static_cast<uint64_t>(keys.zeros);
  return keys.nan;
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
