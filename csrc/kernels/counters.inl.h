// Counters of histograms, and the bins of the upper 16 bits of a float.
//
// Elements are counted one by one, in turn in several sub-histograms: the same counter twice in a row would wait for
// the first store. Their stride is not a power of two, so that a bin's counters do not fall on lines that share a set
// of the cache.
#pragma once

#include "kernels/arguments.h"
#include "kernels/iterate.inl.h"

namespace {

constexpr int kIndices = 256;
constexpr int64_t kFlushEvery = int64_t{1} << 31;  // elements that a 32-bit counter surely holds

// Sub-histograms of 32-bit counters: [first, first + size) are those of bins, the one behind them and those before
// them are of elements that are left out.
template <int ways>
class SubHistograms {
 public:
  SubHistograms(void* memory, int32_t first, int64_t size)
      : SubHistograms(first, size, static_cast<uint32_t*>(memory)) {
    clear();
  }
  // Goes on with counters that others have cleared.
  static SubHistograms of(uint32_t* counters, int32_t first, int64_t size) { return {first, size, counters}; }
  static constexpr int64_t stride(int64_t size) { return (size + 2 + kBlockPad / 2) | 1; }
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
    int64_t left_out = 0;
    for (int w = 0; w < ways; ++w) {
      const uint32_t* const c = counters_ + w * stride_;
      for (int32_t i = 0; i < first_; ++i) left_out += c[i];
      left_out += c[first_ + size_];
    }
    const uint32_t* const c = counters_ + first_;
    for (int64_t i = 0; i < size_; ++i) {
      uint64_t sum = 0;
      for (int w = 0; w < ways; ++w) sum += c[w * stride_ + i];
      counts[i] += static_cast<Count>(sum);
    }
    clear();
    return left_out;
  }

 private:
  SubHistograms(int32_t first, int64_t size, uint32_t* counters)
      : counters_(counters), first_(first), size_(size), stride_(stride(size)) {}
  void clear() { __builtin_memset(counters_, 0, bytes(size_)); }

  uint32_t* counters_;
  int32_t first_;
  int64_t size_;
  int64_t stride_;
};

constexpr int kKeys = 65536;
using BitCounters = SubHistograms<2>;  // four take more of the second-level cache than they gain
static_assert(BitCounters::stride(kKeys) == kBitCounterStride, "mend kBitCounterStride");

constexpr int kZeroKey = 0x8000;

// The upper half h of a float's bits, so that keys ascend with the values: ~h for a set sign bit, else h | 0x8000.
//
// +0.0 and NaN have no index: they are left out and their numbers kept. Half of what a ReLU leaves may be zeros, and
// one counter for all of them would make each wait for the store before.
struct BitKeys {
  int64_t zeros = 0;
  int64_t nan = 0;

  // Finds the indices of up to kIndices elements, and returns how many there are.
  template <class E>
  int operator()(const E* x, int n, int32_t* index) {
    return sparse_ ? of_some(x, n, index) : of_all(x, n, index);
  }
  // A double is cut to a float towards zero, as the bins cut a float: finite values stay finite, and every bin holds
  // just the values from its lower edge up to the next.
  int operator()(const double* x, int n, int32_t* index) {
    float cut[kIndices];
    for (int i = 0; i < n; ++i) {
      const float nearest = static_cast<float>(x[i]);
      const bool away = __builtin_fabs(static_cast<double>(nearest)) > __builtin_fabs(x[i]);
      cut[i] = float_from_bits(bits_of(nearest) - (away ? 1u : 0u));
    }
    return (*this)(cut, n, index);
  }

 private:
  static QS_INLINE mf32 left_out(vf32 v) { return mask_or(unordered(v, v), eq(as_i32(v), set1(0))); }
  static QS_INLINE vi32 key(vi32 bits) {
    const vi32 flip = bit_or(bit_and(shift_right<31>(bits), set1(0xffff)), set1(0x8000));
    return bit_xor(shift_right_logical<16>(bits), flip);
  }
  template <class E>
  int of_all(const E* x, int n, int32_t* index) {
    mf32 gone = gt(set1(0), set1(0));
    for (int i = 0; i < n; i += kLanes) {
      const vf32 v = n - i >= kLanes ? load(x + i) : load_partial(x + i, n - i, set1(1.0f));
      gone = mask_or(gone, left_out(v));
      store(index + i, key(as_i32(v)));
    }
    sparse_ = any(gone);
    return sparse_ ? of_some(x, n, index) : n;
  }
  template <class E>
  int of_some(const E* x, int n, int32_t* index) {
    const vf32 zero = set1(0.0f);
    mf32 odd = no_lanes(zero);
    int size = 0;
    for (int i = 0; i < n; i += kLanes) {
      const vf32 v = n - i >= kLanes ? load(x + i) : load_partial(x + i, n - i, zero);
      odd = mask_or(odd, unordered(v, v));
      size += compress_store(index + size, mask_not(left_out(v)), key(as_i32(v)));
    }
    int unordered_count = 0;
    if (any(odd)) {
      for (int i = 0; i < n; i += kLanes) {
        const vf32 v = n - i >= kLanes ? load(x + i) : load_partial(x + i, n - i, zero);
        unordered_count += popcount(unordered(v, v));
      }
    }
    zeros += n - size - unordered_count;
    nan += unordered_count;
    sparse_ = size < n;
    return size;
  }

  bool sparse_ = false;  // something of the elements before was left out
};

// Counts the bits of a block besides what else is done to it.
template <class E>
void count_bits(const E* x, int64_t n, uint32_t* counters) {
  alignas(64) int32_t index[kIndices];
  BitCounters histogram = BitCounters::of(counters, 0, kKeys);
  BitKeys keys;
  for (int64_t i = 0; i < n; i += kIndices) {
    const int size = n - i < kIndices ? static_cast<int>(n - i) : kIndices;
    histogram.count(index, keys(x + i, size, index));
  }
  counters[kZeroKey] += static_cast<uint32_t>(keys.zeros);
}

}  // namespace
