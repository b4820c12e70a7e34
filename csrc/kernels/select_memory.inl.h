// Order statistics of elements that lie in memory, by recursion over sampled brackets.
//
// A jittered sample brackets the ranks, what lies inside is kept, and the same is done to it; kBase elements are ranked
// all against all. The sample is drawn by a counter-based generator, so every instruction set takes the same way; what
// is kept and counted is exact, so the result does not depend on the sample.
#pragma once

#include "kernels/iterate.inl.h"
#include "kernels/radix_select.inl.h"

namespace {

constexpr int kBase = 64;                              // elements that are ranked all against all
constexpr int kChunk = 2048;                           // elements between two checks for room
constexpr int kPad = 64;                               // elements that a buffer needs behind its end for full stores
constexpr int kMaxRanks = 2 * kMaxProbabilities;       // a quantile lies between two neighbours
constexpr int kMaxDepth = 48;                          // of the recursion; each level keeps about a third at most
constexpr double kCoreWidth = 2.5, kCoreMargin = 2.0;  // a miss costs another look at few elements

template <class T>
QS_INLINE T infinity() {
  return static_cast<T>(__builtin_inf());
}
template <class T>
QS_INLINE T not_a_number() {
  return static_cast<T>(__builtin_nan(""));
}

// A stack of scratch elements. A callee takes its copy by value, so what it took is free again when it returns.
template <class T>
struct Arena {
  T* at;
  T* end;
  int64_t room() const { return end - at; }
  T* take(int64_t n) {
    T* p = at;
    at += n;
    return p;
  }
};

// SplitMix64: the i-th number of a fixed sequence.
QS_INLINE constexpr uint64_t random_bits(uint64_t i) {
  uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// One index out of each of `strata` equal parts of 0 .. n-1, n >= strata: even cover of sorted data, no resonance with
// periodic data.
struct JitteredStrata {
  uint64_t step;  // 2^-20 elements
  uint64_t seed;
  JitteredStrata(int64_t n, int64_t strata, uint64_t salt)
      : step((static_cast<uint64_t>(n) << 20) / static_cast<uint64_t>(strata)), seed(salt << 32) {}
  QS_INLINE int64_t index(int64_t i) const {
    const uint64_t begin = static_cast<uint64_t>(i) * step >> 20;
    const uint64_t width = (static_cast<uint64_t>(i + 1) * step >> 20) - begin;
    return static_cast<int64_t>(begin + ((random_bits(seed + static_cast<uint64_t>(i)) >> 32) * width >> 32));
  }
};

// The same for the many small samples of elements in memory: `strata` is a power of two, and the numbers come from a
// table.
struct JitterTable {
  static constexpr int size = 256;
  uint16_t bits[size] = {};
  constexpr JitterTable() {
    for (int i = 0; i < size; ++i) bits[i] = static_cast<uint16_t>(random_bits(static_cast<uint64_t>(i)));
  }
};
constexpr JitterTable kJitter;

template <class T>
void draw_strata(const T* x, int64_t n, int64_t strata, int salt, T* sample) {
  const int shift = 16 + __builtin_ctzll(static_cast<uint64_t>(strata));
  for (int64_t i = 0; i < strata; ++i) {
    const uint64_t at = static_cast<uint64_t>(i) << 16 | kJitter.bits[(i + 61 * salt) % JitterTable::size];
    sample[i] = x[at * static_cast<uint64_t>(n) >> shift];
  }
}

// Sample ranks that enclose the sample position of a wanted rank; -1 and `size` mean that the bracket is open to that
// side.
struct SampleBracket {
  int64_t low;
  int64_t high;
};

QS_INLINE SampleBracket sample_bracket(double first, double last, int64_t size, double width, double margin) {
  const double n = static_cast<double>(size);
  const double low = first - width * __builtin_sqrt(first * (1.0 - first / n)) - margin;
  const double high = last + width * __builtin_sqrt(last * (1.0 - last / n)) + margin;
  return {low < 0 ? -1 : static_cast<int64_t>(low), high >= n - 1 ? size : static_cast<int64_t>(high) + 1};
}

// values[j] = element of rank ranks[j] of x[0..n), n <= kBase: the largest element that has at most that many below it.
template <class T>
void select_base(const T* x, int n, const int64_t* ranks, int n_ranks, T* values) {
  using V = Vector<T>;
  constexpr int group = 4;  // independent sums
  constexpr int vectors = kBase / V::lanes;
  V v[vectors], below[vectors];
  const V one = set1(T(1)), zero = set1(T(0)), high = set1(infinity<T>()), low = set1(-infinity<T>());
  const int used = (n + V::lanes - 1) / V::lanes;
  for (int i = 0; i < used; i += group) {
    V sum[group], w[group];
    for (int g = 0; g < group; ++g) {
      sum[g] = zero;
      w[g] = load_partial(x + (i + g) * V::lanes, n - (i + g) * V::lanes, high);
    }
    for (int j = 0; j < n; ++j) {
      const V other = set1(x[j]);
      for (int g = 0; g < group; ++g) sum[g] = add(sum[g], select(lt(other, w[g]), one, zero));
    }
    for (int g = 0; g < group; ++g) {
      v[i + g] = w[g];
      below[i + g] = sum[g];
    }
  }
  for (int j = 0; j < n_ranks; ++j) {
    const V rank = set1(static_cast<T>(ranks[j]));
    V best = low;
    for (int i = 0; i < used; ++i) best = max(select(le(below[i], rank), v[i], low), best);
    values[j] = reduce_max(best);
  }
}

template <class T>
int64_t count_below(const T* x, int64_t n, T edge) {
  using V = Vector<T>;
  const V e = set1(edge);
  int64_t below = 0, i = 0;
  for (; i + V::lanes <= n; i += V::lanes) below += popcount(lt(load(x + i), e));
  return below + popcount(lt(load_partial(x + i, static_cast<int>(n - i), e), e));
}

template <class T>
int64_t count_at_most(const T* x, int64_t n, T edge) {
  using V = Vector<T>;
  const V e = set1(edge), nan = set1(not_a_number<T>());
  int64_t at_most = 0, i = 0;
  for (; i + V::lanes <= n; i += V::lanes) at_most += popcount(le(load(x + i), e));
  return at_most + popcount(le(load_partial(x + i, static_cast<int>(n - i), nan), e));
}

// What collect() finds: the elements in the open interval (lo, hi), and how many lie at or below lo.
template <class T>
struct Kept {
  const T* data;
  int64_t size;
  int64_t at_most_low;
};

// False if the arena has no room for what lies in the interval.
template <class T>
bool collect(const T* x, int64_t n, T lo, T hi, Arena<T>* arena, Kept<T>* kept) {
  using V = Vector<T>;
  const V low = set1(lo), high = set1(hi), nan = set1(not_a_number<T>());
  T* const begin = arena->at;
  T* to = begin;
  int64_t below_high = 0;
  const auto take = [&](V v) {
    const auto below = lt(v, high);
    below_high += popcount(below);
    to += compress_store(to, mask_and(below, gt(v, low)), v);
  };
  for (int64_t at = 0; at < n; at += kChunk) {
    if (arena->end - to < kChunk + kPad && arena->end - to < n - at + kPad) return false;
    const int64_t end = n - at < kChunk ? n : at + kChunk;
    int64_t i = at;
    for (; i + V::lanes <= end; i += V::lanes) take(load(x + i));
    if (i < end) take(load_partial(x + i, static_cast<int>(end - i), nan));
  }
  // One value may be both edges.
  *kept = {begin, to - begin, lo == hi ? count_at_most(x, n, lo) : below_high - (to - begin)};
  arena->take(to - begin);
  return true;
}

template <class T>
int select_ranks(const T* x, int64_t n, const int64_t* ranks, int n_ranks, T* values, Arena<T> arena, int depth);

template <class T>
int select_all_by_key(const T* x, int64_t n, const int64_t* ranks, int n_ranks, T* values) {
  for (int j = 0; j < n_ranks; ++j) values[j] = select_by_key<false, T>(OneBlock<T>{x, n}, ranks[j]);
  return n_ranks;
}

// Selects with the help of an interval that probably holds the ranks.
template <class T>
int select_within(const T* x, int64_t n, T lo, T hi, const int64_t* ranks, int n_ranks, T* values, Arena<T> arena,
                  int depth) {
  Kept<T> kept;
  const Arena<T> all = arena;
  if (!collect(x, n, lo, hi, &arena, &kept)) return select_all_by_key(x, n, ranks, n_ranks, values);
  int first = 0, last = n_ranks;
  while (first < n_ranks && ranks[first] < kept.at_most_low) ++first;
  while (last > first && ranks[last - 1] >= kept.at_most_low + kept.size) --last;
  int fallbacks = 0;
  if (last > first) {
    int64_t inside[kMaxRanks];
    for (int j = first; j < last; ++j) inside[j] = ranks[j] - kept.at_most_low;
    fallbacks += select_ranks(kept.data, kept.size, inside + first, last - first, values + first, arena, depth + 1);
  }
  if (first > 0) {
    const int64_t below = lo == -infinity<T>() ? 0 : count_below(x, n, lo);
    int missed = 0;
    while (missed < first && ranks[missed] < below) ++missed;
    for (int j = missed; j < first; ++j) values[j] = lo;
    if (missed > 0) fallbacks += select_within(x, n, -infinity<T>(), lo, ranks, missed, values, all, depth + 1);
  }
  if (last < n_ranks) {
    if (hi == infinity<T>()) {
      for (int j = last; j < n_ranks; ++j) values[j] = hi;
    } else {
      // Elements equal to hi are the edge of the interval above.
      fallbacks += select_within(x, n, hi, infinity<T>(), ranks + last, n_ranks - last, values + last, all, depth + 1);
    }
  }
  return fallbacks;
}

// values[j] = element of rank ranks[j] of x[0..n). No NaN in x; ranks ascend. Returns how many ranks fell back to radix
// selection.
template <class T>
int select_ranks(const T* x, int64_t n, const int64_t* ranks, int n_ranks, T* values, Arena<T> arena, int depth) {
  if (n <= kBase) {
    select_base(x, static_cast<int>(n), ranks, n_ranks, values);
    return 0;
  }
  const int64_t m = n < 16384 ? kBase : n < (1 << 20) ? 512 : 4096;
  if (depth > kMaxDepth || arena.room() < m + 4 * kPad) return select_all_by_key(x, n, ranks, n_ranks, values);
  const double scale = static_cast<double>(m) / static_cast<double>(n);
  Arena<T> rest = arena;
  T* const sample = rest.take(m + kPad);
  draw_strata(x, n, m, depth, sample);
  int fallbacks = 0;
  for (int begin = 0, end; begin < n_ranks; begin = end) {
    // Ranks so close together that one bracket serves them all.
    for (end = begin + 1; end < n_ranks && ranks[end] - ranks[begin] <= n / m;) ++end;
    const SampleBracket b = sample_bracket(static_cast<double>(ranks[begin]) * scale,
                                           static_cast<double>(ranks[end - 1]) * scale, m, kCoreWidth, kCoreMargin);
    int64_t edge_ranks[2] = {b.low, b.high};
    T edges[2] = {-infinity<T>(), infinity<T>()};
    const int from = b.low < 0, to = b.high >= m ? 1 : 2;
    fallbacks += select_ranks(sample, m, edge_ranks + from, to - from, edges + from, rest, depth + 1);
    fallbacks += select_within(x, n, edges[0], edges[1], ranks + begin, end - begin, values + begin, rest, depth);
  }
  return fallbacks;
}

}  // namespace
