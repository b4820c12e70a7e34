// The running values of a reduction, and a block of contiguous elements added to them.
//
// NaN is left out of every value and counted. Infinities are ordinary values of the order; they enter the sum. A zero
// result is +0.0 whichever zeros were seen, so that the bits do not depend on which of two equal zeros an instruction
// returns. Denormals are kept. sum: a block has 32 double lanes (element i goes to lane i mod 32), folded 16+16, 8+8,
// ...; blocks are added in order. None of this knows the vector width. Minimum and maximum cost two instructions a
// vector. Counting is free on clean data: a block that holds a NaN (one unordered compare per two vectors) or whose
// extremum is infinite is read a second time, from cache, to count.
#pragma once

#include "kernels/counters.inl.h"

namespace {

enum : unsigned { kOrder = 1, kSum = 2 };

constexpr int kSumLanes = 32;

template <class T>
struct State {
  T min = static_cast<T>(__builtin_inf());
  T max = static_cast<T>(-__builtin_inf());
  double sum = 0;
  int64_t nan = 0;
  int64_t pos_inf = 0;
  int64_t neg_inf = 0;
  uint32_t* counters = nullptr;  // of the bit histogram, which a block with a sum is counted in if there are any
};

template <class T>
void write_result(const ReduceOutput& out, int64_t i, const State<T>& s, int64_t count) {
  const bool empty = s.nan == count;
  const T nan = static_cast<T>(__builtin_nan(""));
  // + 0 turns -0.0 into +0.0 and changes nothing else.
  if (out.min) static_cast<T*>(out.min)[i] = empty ? nan : s.min + T(0);
  if (out.max) static_cast<T*>(out.max)[i] = empty ? nan : s.max + T(0);
  if (out.abs_max) {
    const T low = s.min < 0 ? -s.min : s.min;
    const T high = s.max < 0 ? -s.max : s.max;
    static_cast<T*>(out.abs_max)[i] = empty ? nan : (low > high ? low : high) + T(0);
  }
  if (out.sum) out.sum[i] = s.sum;
  if (out.nan) out.nan[i] = s.nan;
  if (out.pos_inf) out.pos_inf[i] = s.pos_inf;
  if (out.neg_inf) out.neg_inf[i] = s.neg_inf;
}

template <class T>
QS_INLINE void count_one(T x, State<T>& s) {
  s.nan += x != x;
  s.pos_inf += x == static_cast<T>(__builtin_inf());
  s.neg_inf += x == static_cast<T>(-__builtin_inf());
}

template <class E>
void count_special(const E* x, int64_t n, State<Element<E>>& s) {
  using T = Element<E>;
  using V = Vector<E>;
  const V high = set1(static_cast<T>(__builtin_inf()));
  const V low = set1(static_cast<T>(-__builtin_inf()));
  for (int64_t i = 0; i < n; i += V::lanes) {
    const V v = n - i >= V::lanes ? load(x + i) : load_partial(x + i, static_cast<int>(n - i), set1(T(0)));
    s.nan += popcount(unordered(v, v));
    s.pos_inf += popcount(eq(v, high));
    s.neg_inf += popcount(eq(v, low));
  }
}

template <bool clean>
QS_INLINE void add_lanes(vf64* acc, vf64 v) {
  *acc = add(*acc, clean ? select(unordered(v, v), set1(0.0), v) : v);
}
template <bool clean>
QS_INLINE void add_lanes(vf64* acc, vf32 v) {
  add_lanes<clean>(acc, widen<0>(v));
  if constexpr (kHalves == 2) add_lanes<clean>(acc + 1, widen<1>(v));
}

QS_INLINE double fold_lanes(const vf64* acc) {
  double lane[kSumLanes];
  for (int i = 0; i < kSumLanes / kLanes64; ++i) store(lane + i * kLanes64, acc[i]);
  for (int width = kSumLanes / 2; width; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  }
  return lane[0];
}

template <class V, bool clean, class E>
double sum_block(const E* x, int64_t n) {
  constexpr int vectors = kSumLanes / V::lanes;
  constexpr int doubles = V::lanes / kLanes64;  // accumulators of one vector
  vf64 acc[kSumLanes / kLanes64];
  for (auto& a : acc) a = set1(0.0);
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int j = 0; j < vectors; ++j) add_lanes<clean>(acc + j * doubles, load(x + i + j * V::lanes));
  }
  for (int j = 0; i < n; ++j, i += V::lanes) {
    add_lanes<clean>(acc + j * doubles, load_partial(x + i, static_cast<int>(n - i), set1(typename V::elem(0))));
  }
  return fold_lanes(acc);
}

// 16-bit floats ascend as integers once the bits of negative ones but the sign are flipped, so their extrema are found
// without conversion, twice as many a vector: `ordered` does it in both directions.
QS_INLINE int16_t ordered(int16_t bits) { return static_cast<int16_t>(bits ^ ((bits >> 15) & 0x7fff)); }
QS_INLINE int16_t infinity_bits(f16) { return 0x7c00; }
QS_INLINE int16_t infinity_bits(bf16) { return 0x7f80; }

// Adds a block of at least one vector, unless it holds a NaN or an infinity: then it returns false.
template <class E>
bool reduce_ordered_block(const E* x, int64_t n, State<float>& s) {
  constexpr int unroll = 4;
  constexpr int step = unroll * vi16::lanes;
  const int16_t* bits = reinterpret_cast<const int16_t*>(x);
  const vi16 first = load_ordered(bits);
  vi16 low[unroll] = {first, first, first, first};
  vi16 high[unroll] = {first, first, first, first};
  const auto add = [&](int j, const int16_t* p) {
    const vi16 v = load_ordered(p);
    low[j] = min(low[j], v);
    high[j] = max(high[j], v);
  };
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    for (int j = 0; j < unroll; ++j) add(j, bits + i + j * vi16::lanes);
  }
  for (; i + vi16::lanes <= n; i += vi16::lanes) add(0, bits + i);
  if (i < n) add(0, bits + n - vi16::lanes);  // some elements twice, which changes no extremum
  for (int j = 1; j < unroll; ++j) {
    low[0] = min(low[0], low[j]);
    high[0] = max(high[0], high[j]);
  }
  const int16_t least = reduce_min(low[0]), greatest = reduce_max(high[0]);
  const int16_t infinity = infinity_bits(E{});
  if (greatest >= infinity || least <= ordered(static_cast<int16_t>(infinity | 0x8000))) return false;
  const float block_min = element(E{static_cast<uint16_t>(ordered(least))});
  const float block_max = element(E{static_cast<uint16_t>(ordered(greatest))});
  if (block_min < s.min) s.min = block_min;
  if (block_max > s.max) s.max = block_max;
  return true;
}

// A block of at most kBlock contiguous elements.
template <unsigned want, class E>
void reduce_block(const E* x, int64_t n, State<Element<E>>& s) {
  using T = Element<E>;
  using V = Vector<E>;
  if constexpr (want == kOrder && sizeof(E) == 2) {
    if (n >= vi16::lanes && reduce_ordered_block(x, n, s)) return;
  }
  bool special = false;
  double sum = 0;
  if constexpr ((want & kOrder) != 0) {
    constexpr int unroll = 4;
    constexpr int step = unroll * V::lanes;
    constexpr int vectors = kSumLanes / V::lanes;
    constexpr int doubles = V::lanes / kLanes64;
    V low[unroll], high[unroll];
    for (int j = 0; j < unroll; ++j) {
      low[j] = set1(static_cast<T>(__builtin_inf()));
      high[j] = set1(static_cast<T>(-__builtin_inf()));
    }
    auto odd = no_lanes(low[0]);
    vf64 acc[kSumLanes / kLanes64];
    if constexpr ((want & kSum) != 0) {
      for (auto& a : acc) a = set1(0.0);
    }
    int64_t i = 0;
    if constexpr ((want & kSum) != 0) {
      for (; i + kSumLanes <= n; i += kSumLanes) {
        for (int j = 0; j < vectors; ++j) {
          const V v = load(x + i + j * V::lanes);
          low[j % unroll] = min(v, low[j % unroll]);
          high[j % unroll] = max(v, high[j % unroll]);
          odd = mask_or(odd, unordered(v, v));
          add_lanes<false>(acc + j * doubles, v);
        }
      }
    } else {
      for (; i + step <= n; i += step) {
        V v[unroll];
        for (int j = 0; j < unroll; ++j) v[j] = load(x + i + j * V::lanes);
        for (int j = 0; j < unroll; ++j) {
          low[j] = min(v[j], low[j]);
          high[j] = max(v[j], high[j]);
        }
        for (int j = 0; j < unroll; j += 2) odd = mask_or(odd, unordered(v[j], v[j + 1]));
      }
    }
    // The lanes behind the end repeat the first element, which changes no extremum.
    const V first = set1(element(read<E>(x)));
    for (int j = 0; i < n; ++j, i += V::lanes) {
      const int left = n - i < V::lanes ? static_cast<int>(n - i) : V::lanes;
      const V v = left == V::lanes ? load(x + i) : load_partial(x + i, left, first);
      low[0] = min(v, low[0]);
      high[0] = max(v, high[0]);
      odd = mask_or(odd, unordered(v, v));
      if constexpr ((want & kSum) != 0) {
        add_lanes<false>(acc + j * doubles, select(first_lanes(v, left), v, set1(T(0))));
      }
    }
    for (int j = 1; j < unroll; ++j) {
      low[0] = min(low[j], low[0]);
      high[0] = max(high[j], high[0]);
    }
    const T block_min = reduce_min(low[0]);
    const T block_max = reduce_max(high[0]);
    if (block_min < s.min) s.min = block_min;
    if (block_max > s.max) s.max = block_max;
    special = any(odd) || block_min == static_cast<T>(-__builtin_inf()) || block_max == static_cast<T>(__builtin_inf());
    if constexpr ((want & kSum) != 0) sum = fold_lanes(acc);
  } else {
    sum = sum_block<V, false>(x, n);
  }
  if constexpr ((want & kSum) != 0) {
    // NaN comes from a NaN or from opposite infinities: the sum without NaN tells.
    if (sum != sum) {
      special = true;
      sum = sum_block<V, true>(x, n);
    }
    s.sum += sum;
  }
  if (special) count_special(x, n, s);
  if constexpr (want == (kOrder | kSum)) {
    if (s.counters != nullptr) count_bits(x, n, s.counters);
  }
}

}  // namespace
