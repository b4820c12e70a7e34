// Exact quantiles of whole sets: order statistics by sampled brackets.
//
// A set of up to kDirect elements is copied to scratch and selected there. A larger one is read once: a jittered sample
// of about 4 sqrt(n) elements brackets every wanted rank by an open interval whose edges are elements of the set; the
// read counts what lies below each interval and keeps what lies inside, and the answer is selected among the few
// elements kept. A rank that falls on the edge of its bracket is answered by the number of elements equal to the edge.
// The brackets are five standard deviations wide; a rank outside them, or an interval that overflows its buffer, falls
// back to radix selection on order-preserving keys: right, linear, slow, and counted. The sample is drawn by a
// counter-based generator, so every instruction set takes the same way; what is kept and counted is exact, so the
// result would not depend on the sample anyway.
//
// NaN is left out and counted, infinities are ordinary values, denormals are kept, a zero result is +0.0. The rank q (n
// - 1), its fraction and the interpolation are float64 and have NumPy's form; the result is rounded once.
#pragma once

#include "kernels/iterate.inl.h"
#include "kernels/order_statistics.inl.h"
#include "kernels/reduce_block.inl.h"

namespace {

constexpr int kBase = 64;                              // elements that are ranked all against all
constexpr int kDirect = 16384;                         // elements of a set that is copied rather than sampled
constexpr int kChunk = 2048;                           // elements between two checks for room
constexpr int kPad = 64;                               // elements that a buffer needs behind its end for full stores
constexpr int kMaxRanks = 2 * kMaxProbabilities;       // a quantile lies between two neighbours
constexpr int kMaxDepth = 48;                          // of the recursion; each level keeps about a third at most
constexpr double kPassWidth = 5.0, kPassMargin = 3.0;  // a miss costs a fall-back: once in some million brackets
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

// Sample
// ----------------------------------------------------------------------------------------------------------------------

// SplitMix64: the i-th number of a fixed sequence.
QS_INLINE uint64_t random_bits(uint64_t i) {
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

// Radix selection: the fall-back
// ---------------------------------------------------------------------------------------------------

// Unsigned integers in the order of the values (-0.0 before +0.0).
QS_INLINE uint32_t order_key(float x) {
  const uint32_t b = bits_of(x);
  return b ^ (b >> 31 ? 0xffffffffu : 0x80000000u);
}
QS_INLINE uint64_t order_key(double x) {
  const uint64_t b = bits_of(x);
  return b ^ (b >> 63 ? ~uint64_t{0} : uint64_t{1} << 63);
}
QS_INLINE float from_order_key(uint32_t k) { return float_from_bits(k ^ (k >> 31 ? 0x80000000u : 0xffffffffu)); }
QS_INLINE double from_order_key(uint64_t k) {
  return double_from_bits(k ^ (k >> 63 ? uint64_t{1} << 63 : ~uint64_t{0}));
}

// One block, in the shape of BlockReader.
template <class T>
struct OneBlock {
  const T* data;
  int64_t size;
  bool done = false;
  bool next() {
    const bool first = !done;
    done = true;
    return first;
  }
};

// The element of the given rank among those that are not NaN. `blocks` is copied for every digit of the key, so it must
// be at its start.
template <bool magnitude, class T, class Blocks>
T select_by_key(const Blocks& blocks, int64_t rank) {
  using Key = decltype(order_key(T{}));
  constexpr int digit = 11;
  int64_t count[1 << digit];
  Key prefix = 0, fixed = 0;
  for (int shift = 8 * sizeof(Key); shift > 0;) {
    const int width = shift < digit ? shift : digit;
    shift -= width;
    const Key mask = (Key{1} << width) - 1;
    for (auto& c : count) c = 0;
    for (Blocks reader = blocks; reader.next();) {
      for (int64_t i = 0; i < reader.size; ++i) {
        const T x = magnitude ? (reader.data[i] < 0 ? -reader.data[i] : reader.data[i]) : reader.data[i];
        const Key key = order_key(x);
        if (x == x && (key & fixed) == prefix) ++count[key >> shift & mask];
      }
    }
    Key bin = 0;
    for (; rank >= count[bin]; ++bin) rank -= count[bin];
    prefix |= bin << shift;
    fixed |= mask << shift;
  }
  return from_order_key(prefix);
}

// Selection in memory
// --------------------------------------------------------------------------------------------------------------

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
  int64_t at_most_low = 0;
  for (int64_t at = 0; at < n; at += kChunk) {
    if (arena->end - to < kChunk + kPad && arena->end - to < n - at + kPad) return false;
    const int64_t end = n - at < kChunk ? n : at + kChunk;
    int64_t i = at;
    for (; i + V::lanes <= end; i += V::lanes) {
      const V v = load(x + i);
      at_most_low += popcount(le(v, low));
      to += compress_store(to, mask_and(gt(v, low), lt(v, high)), v);
    }
    if (i < end) {
      const V v = load_partial(x + i, static_cast<int>(end - i), nan);
      at_most_low += popcount(le(v, low));
      to += compress_store(to, mask_and(gt(v, low), lt(v, high)), v);
    }
  }
  *kept = {begin, to - begin, at_most_low};
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
  int fallbacks = 0;
  for (int begin = 0, end; begin < n_ranks; begin = end) {
    // Ranks so close together that one bracket serves them all.
    for (end = begin + 1; end < n_ranks && ranks[end] - ranks[begin] <= n / m;) ++end;
    Arena<T> rest = arena;
    T* sample = rest.take(m + kPad);
    const JitteredStrata strata(n, m, static_cast<uint64_t>(depth));
    for (int64_t i = 0; i < m; ++i) sample[i] = x[strata.index(i)];
    const SampleBracket b = sample_bracket(static_cast<double>(ranks[begin]) * scale,
                                           static_cast<double>(ranks[end - 1]) * scale, m, kCoreWidth, kCoreMargin);
    int64_t edge_ranks[2] = {b.low, b.high};
    T edges[2] = {-infinity<T>(), infinity<T>()};
    const int from = b.low < 0, to = b.high >= m ? 1 : 2;
    fallbacks += select_ranks(sample, m, edge_ranks + from, to - from, edges + from, rest, depth + 1);
    fallbacks += select_within(x, n, edges[0], edges[1], ranks + begin, end - begin, values + begin, arena, depth);
  }
  return fallbacks;
}

// One read of a large set
// ------------------------------------------------------------------------------------------------------------

// An open interval of values, what was found in it and at its edges.
template <class T>
struct Interval {
  SampleBracket bracket;
  bool has_low, has_high;
  T lo, hi;  // infinite on an open side
  T* kept;
  int64_t capacity;
  int64_t n_kept;
  int64_t n_dropped;  // elements inside that overflowed the buffer: counted, but their values are lost
  int64_t below;      // elements below lo
  int64_t at_low;     // elements equal to lo
  int64_t at_high;    // elements equal to hi
};

template <bool magnitude, class V>
QS_INLINE V maybe_abs(V v) {
  if constexpr (magnitude)
    return abs(v);
  else
    return v;
}

// Keeps what lies below low.hi or above high.lo. Four vectors with nothing of that kind cost two compares each; a NaN
// is of that kind, so that counting it costs nothing either. At the end of a chunk the missing elements repeat `inner`,
// which lies in between.
template <bool magnitude, class T>
void read_tails(const T* x, int64_t n, Interval<T>& low, Interval<T>& high, int64_t* n_nan) {
  using V = Vector<T>;
  constexpr int group = 4;
  const V e1 = set1(low.hi), e2 = set1(high.lo);
  T* to_low = low.kept + low.n_kept;
  T* to_high = high.kept + high.n_kept;
  int64_t at_low = 0, at_high = 0, nan = 0;
  const auto keep = [&](V v) {
    to_low += compress_store(to_low, lt(v, e1), v);
    to_high += compress_store(to_high, gt(v, e2), v);
    at_low += popcount(eq(v, e1));
    at_high += popcount(eq(v, e2));
    nan += popcount(unordered(v, v));
  };
  int64_t i = 0;
  for (; i + group * V::lanes <= n; i += group * V::lanes) {
    V v[group];
    for (int g = 0; g < group; ++g) v[g] = maybe_abs<magnitude>(load(x + i + g * V::lanes));
    auto inner = mask_and(gt(v[0], e1), lt(v[0], e2));
    for (int g = 1; g < group; ++g) inner = mask_and(inner, mask_and(gt(v[g], e1), lt(v[g], e2)));
    if (any(mask_not(inner))) {
      for (int g = 0; g < group; ++g) keep(v[g]);
    }
  }
  for (; i < n; i += V::lanes) {
    const int left = n - i < V::lanes ? static_cast<int>(n - i) : V::lanes;
    const V v = maybe_abs<magnitude>(load_partial(x + i, left, set1(not_a_number<T>())));
    keep(v);
    nan -= V::lanes - left;
  }
  low.n_kept = to_low - low.kept;
  high.n_kept = to_high - high.kept;
  low.at_high += at_low;
  high.at_low += at_high;
  *n_nan += nan;
}

// Counts what lies below an interval and keeps what lies inside, without a branch. The masses at the edges are counted
// if asked for.
template <bool magnitude, bool edges, class T>
void read_centre(const T* x, int64_t n, Interval<T>& interval) {
  using V = Vector<T>;
  const V lo = set1(interval.lo), hi = set1(interval.hi);
  T* to = interval.kept + interval.n_kept;
  int64_t below = 0, at_most_low = 0, at_high = 0;
  const auto take = [&](V v) {
    at_most_low += popcount(le(v, lo));
    if constexpr (edges) {
      below += popcount(lt(v, lo));
      at_high += popcount(eq(v, hi));
    }
    to += compress_store(to, mask_and(gt(v, lo), lt(v, hi)), v);
  };
  int64_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes) take(maybe_abs<magnitude>(load(x + i)));
  if (i < n) take(maybe_abs<magnitude>(load_partial(x + i, static_cast<int>(n - i), set1(not_a_number<T>()))));
  interval.n_kept = to - interval.kept;
  interval.below += edges ? below : at_most_low;
  interval.at_low += edges ? at_most_low - below : 0;
  interval.at_high += at_high;
}

template <class T>
int64_t count_nan(const T* x, int64_t n) {
  using V = Vector<T>;
  auto odd = no_lanes(set1(T(0)));
  int64_t i = 0;
  for (; i + 4 * V::lanes <= n; i += 4 * V::lanes) {
    const auto first = unordered(load(x + i), load(x + i + V::lanes));
    const auto second = unordered(load(x + i + 2 * V::lanes), load(x + i + 3 * V::lanes));
    odd = mask_or(odd, mask_or(first, second));
  }
  int64_t count = 0;
  for (int64_t k = any(odd) ? 0 : i; k < n; k += V::lanes) {
    const V v = load_partial(x + k, n - k < V::lanes ? static_cast<int>(n - k) : V::lanes, set1(T(0)));
    count += popcount(unordered(v, v));
  }
  return count;
}

// The set that belongs to one output.
template <class E, bool magnitude>
struct Set {
  using T = Element<E>;
  const Plan& plan;
  const char* base;
  T* block;           // kBlock + kBlockPad elements
  State<T>* moments;  // what a read reduces besides; may be null

  BlockReader<E> reader() const { return BlockReader<E>(plan, base, block); }
  QS_INLINE void observe(const BlockReader<E>& reader) const {
    if (moments != nullptr) reduce_block<kOrder | kSum>(reader.data, reader.size, *moments);
  }
  QS_INLINE T at(int64_t i) const {
    int64_t offset = 0;
    for (int a = 0; a + 1 < plan.n_reduced; ++a) {
      offset += i % plan.reduced[a].size * plan.reduced[a].stride;
      i /= plan.reduced[a].size;
    }
    if (plan.n_reduced > 0) offset += i * plan.reduced[plan.n_reduced - 1].stride;
    const T x = element(read<E>(base + offset));
    return magnitude && x < 0 ? -x : x;
  }
};

// Reads a set once for all intervals, of which at most one is open below and at most one other open above.
template <class E, bool magnitude>
int64_t read_set(const Set<E, magnitude>& set, Interval<Element<E>>* intervals, int n_intervals, bool edges,
                 Element<E>* spare) {
  using T = Element<E>;
  // Stands for a missing tail: nothing lies beyond an infinity, and a full store needs a place to go.
  Interval<T> no_low{}, no_high{};
  no_low.hi = -infinity<T>();
  no_high.lo = infinity<T>();
  no_low.kept = no_high.kept = spare;
  Interval<T>* low = &no_low;
  Interval<T>* high = &no_high;
  for (int i = 0; i < n_intervals; ++i) {
    if (!intervals[i].has_low)
      low = &intervals[i];
    else if (!intervals[i].has_high)
      high = &intervals[i];
  }
  const bool tails = low != &no_low || high != &no_high;
  int64_t n_nan = 0;
  for (BlockReader<E> reader = set.reader(); reader.next();) {
    set.observe(reader);
    for (int64_t at = 0; at < reader.size; at += kChunk) {
      const T* x = reader.data + at;
      const int64_t n = reader.size - at < kChunk ? reader.size - at : kChunk;
      for (int i = 0; i < n_intervals; ++i) {
        Interval<T>& v = intervals[i];
        if (v.capacity - v.n_kept < n + kPad) {
          v.n_dropped += v.n_kept;
          v.n_kept = 0;
        }
        if (!v.has_low || !v.has_high) continue;
        if (edges)
          read_centre<magnitude, true>(x, n, v);
        else
          read_centre<magnitude, false>(x, n, v);
      }
      if (tails)
        read_tails<magnitude>(x, n, *low, *high, &n_nan);
      else
        n_nan += count_nan(x, n);
    }
  }
  return n_nan;
}

// Probabilities and ranks
// ------------------------------------------------------------------------------------------------------------

// Wanted probabilities in ascending order, and where their results go.
struct Probabilities {
  int n;
  double q[kMaxProbabilities];
  int plane[kMaxProbabilities];
};

// The ranks of all probabilities, ascending and without repetition, and their elements as they become known.
template <class T>
struct Ranks {
  int n = 0;
  int64_t rank[kMaxRanks];
  T value[kMaxRanks];
  bool known[kMaxRanks];

  void insert_all(const Probabilities& p, int64_t count) {
    for (int j = 0; j < p.n; ++j) {
      const Position at = position_of(p.q[j], count);
      insert(at.previous);
      insert(at.next);
    }
  }
  void write(const Probabilities& p, int64_t count, T* values, int64_t stride) const {
    for (int j = 0; j < p.n; ++j) {
      const Position at = position_of(p.q[j], count);
      const double value = interpolate(value_of(at.previous), value_of(at.next), at.fraction);
      values[p.plane[j] * stride] = static_cast<T>(value) + T(0);  // -0.0 becomes +0.0
    }
  }

 private:
  T value_of(int64_t r) const {
    int i = 0;
    while (rank[i] != r) ++i;
    return value[i];
  }
  void insert(int64_t r) {
    int i = n;
    while (i > 0 && rank[i - 1] > r) --i;
    if (i > 0 && rank[i - 1] == r) return;
    for (int k = n; k > i; --k) rank[k] = rank[k - 1];
    rank[i] = r;
    known[n++] = false;
  }
};

struct SetResult {
  int64_t nan;
  int64_t fallbacks;
};

template <class T>
void write_nan(const Probabilities& p, T* values, int64_t stride) {
  for (int j = 0; j < p.n; ++j) values[p.plane[j] * stride] = not_a_number<T>();
}

// A small set: copied without its NaN, then selected in memory.
template <class E, bool magnitude>
SetResult select_small(const Set<E, magnitude>& set, const Probabilities& p, Element<E>* values, int64_t stride,
                       Arena<Element<E>> arena) {
  using T = Element<E>;
  using V = Vector<T>;
  T* const x = arena.take(set.plan.count + kPad);
  T* to = x;
  const V nan = set1(not_a_number<T>());
  for (BlockReader<E> reader = set.reader(); reader.next();) {
    set.observe(reader);
    int64_t i = 0;
    for (; i + V::lanes <= reader.size; i += V::lanes) {
      const V v = maybe_abs<magnitude>(load(reader.data + i));
      to += compress_store(to, eq(v, v), v);
    }
    if (i < reader.size) {
      const V v = maybe_abs<magnitude>(load_partial(reader.data + i, static_cast<int>(reader.size - i), nan));
      to += compress_store(to, eq(v, v), v);
    }
  }
  const int64_t n = to - x;
  const int64_t n_nan = set.plan.count - n;
  if (n == 0) {
    write_nan(p, values, stride);
    return {n_nan, 0};
  }
  Ranks<T> ranks;
  ranks.insert_all(p, n);
  const int fallbacks = select_ranks(x, n, ranks.rank, ranks.n, ranks.value, arena, 0);
  ranks.write(p, n, values, stride);
  return {n_nan, fallbacks};
}

// About 4 sqrt(n): balances the cost of the sample against what the brackets keep. Many 16-bit elements need more:
// their candidates are as wide as those of float32, while the scratch memory follows the bytes of the input.
QS_INLINE int64_t sample_size(int64_t n, int item) {
  const int64_t m = 4 * static_cast<int64_t>(__builtin_sqrt(static_cast<double>(n)));
  return item == 2 && n > (int64_t{1} << 22) ? 4 * m : m;
}

// Room for the elements between two sample ranks, with six standard deviations to spare.
QS_INLINE int64_t expected_room(const SampleBracket& b, int64_t m, int64_t n) {
  const double d = static_cast<double>(b.high - b.low);
  const double room = (d + 6.0 * __builtin_sqrt(d) + 16.0) * static_cast<double>(n) / static_cast<double>(m);
  return (room < static_cast<double>(n) ? static_cast<int64_t>(room) : n) + kChunk + kPad;
}

// Brackets the probabilities in a set of `count` elements by the sample of m and merges what overlaps, as long as the
// merged interval leaves room for others. Returns the number of intervals; they ascend.
template <class T>
int make_intervals(const Probabilities& p, const T* sample, int64_t m, int64_t count, Interval<T>* intervals,
                   Arena<T> arena) {
  int n = 0;
  for (int j = 0; j < p.n; ++j) {
    SampleBracket b{-1, m};
    if (m > 0) {
      const double at = p.q[j] * static_cast<double>(m - 1);
      b = sample_bracket(at, at, m, kPassWidth, kPassMargin);
    }
    const SampleBracket last = n > 0 ? intervals[n - 1].bracket : SampleBracket{-1, -1};
    // A gap of up to 1.5 % costs less to keep than another interval costs to read.
    if (n > 0 && b.low < last.high + m / 64 &&
        (b.high == last.high || expected_room({last.low, b.high}, m, count) <= arena.room() / 3)) {
      intervals[n - 1].bracket.high = b.high;
    } else {
      intervals[n++] = {};
      intervals[n - 1].bracket = b;
    }
  }
  int64_t low_rank[kMaxProbabilities], high_rank[kMaxProbabilities];
  T low[kMaxProbabilities], high[kMaxProbabilities];
  int n_low = 0, n_high = 0;
  for (int i = 0; i < n; ++i) {
    Interval<T>& v = intervals[i];
    v.has_low = v.bracket.low >= 0;
    v.has_high = v.bracket.high < m;
    if (v.has_low) low_rank[n_low++] = v.bracket.low;
    if (v.has_high) high_rank[n_high++] = v.bracket.high;
  }
  if (n_low > 0) select_ranks(sample, m, low_rank, n_low, low, arena, 0);
  if (n_high > 0) select_ranks(sample, m, high_rank, n_high, high, arena, 0);
  n_low = n_high = 0;
  for (int i = 0; i < n; ++i) {
    intervals[i].lo = intervals[i].has_low ? low[n_low++] : -infinity<T>();
    intervals[i].hi = intervals[i].has_high ? high[n_high++] : infinity<T>();
  }
  return n;
}

// Whether the sample holds an edge of an interval more than once: then the set may hold many elements equal to it.
template <class T>
bool has_ties(const T* sample, int64_t m, const Interval<T>* intervals, int n) {
  using V = Vector<T>;
  for (int i = 0; i < n; ++i) {
    const V lo = set1(intervals[i].lo), hi = set1(intervals[i].hi);
    int64_t at_low = 0, at_high = 0;
    for (int64_t k = 0; k < m; k += V::lanes) {
      const V v =
          load_partial(sample + k, m - k < V::lanes ? static_cast<int>(m - k) : V::lanes, set1(not_a_number<T>()));
      at_low += popcount(eq(v, lo));
      at_high += popcount(eq(v, hi));
    }
    if (at_low > 1 || at_high > 1) return true;
  }
  return false;
}

// Resolves the ranks that fall into an interval that was read. Returns the number of fall-backs inside.
template <class T>
int resolve(const Interval<T>& v, Ranks<T>& ranks, Arena<T> arena) {
  const int64_t inside = v.below + v.at_low;
  const int64_t above = inside + v.n_kept + v.n_dropped;
  const int64_t end = above + (v.has_low && v.lo == v.hi ? 0 : v.at_high);  // one value may be both edges
  int n = 0, index[kMaxRanks];
  int64_t relative[kMaxRanks];
  T value[kMaxRanks];
  for (int j = 0; j < ranks.n; ++j) {
    const int64_t r = ranks.rank[j];
    if (ranks.known[j] || r < v.below || r >= end) continue;
    if (r >= inside && r < above) {
      if (v.n_dropped > 0) continue;
      index[n] = j;
      relative[n++] = r - inside;
    } else {
      ranks.value[j] = r < inside ? v.lo : v.hi;
      ranks.known[j] = true;
    }
  }
  const int fallbacks = n > 0 ? select_ranks(v.kept, v.n_kept, relative, n, value, arena, 0) : 0;
  for (int i = 0; i < n; ++i) {
    ranks.value[index[i]] = value[i];
    ranks.known[index[i]] = true;
  }
  return fallbacks;
}

// A large set: one read, unless the probabilities are so many that their brackets exceed the scratch memory.
template <class E, bool magnitude>
SetResult select_large(Set<E, magnitude> set, const Probabilities& p, Element<E>* values, int64_t stride,
                       Arena<Element<E>> arena) {
  using T = Element<E>;
  const int64_t count = set.plan.count;
  const int64_t draws = sample_size(count, set.plan.item);
  T* const sample = arena.take(draws + kPad);
  T* const spare = arena.take(kPad);
  int64_t m = 0;
  const JitteredStrata strata(count, draws, 0);
  for (int64_t i = 0; i < draws; ++i) {
    const T x = set.at(strata.index(i));
    sample[m] = x;
    m += x == x;
  }
  Interval<T> intervals[kMaxProbabilities];
  const int n_intervals = make_intervals(p, sample, m, count, intervals, arena);
  const bool edges = has_ties(sample, m, intervals, n_intervals);

  Ranks<T> ranks;
  int64_t n = count, fallbacks = 0;
  for (int begin = 0, end; begin < n_intervals; begin = end) {
    Arena<T> rest = arena;
    int64_t reserve = 0;  // for the selection among what one interval keeps
    for (end = begin; end < n_intervals; ++end) {
      Interval<T>& v = intervals[end];
      const Interval<T>* previous = end > begin ? &v - 1 : nullptr;
      if (previous && ((!previous->has_low && !v.has_low) || (!previous->has_high && !v.has_high))) break;
      v.capacity = expected_room(v.bracket, m > 0 ? m : 1, count);
      const int64_t own = v.capacity / 4 + kDirect;
      if (own > reserve) reserve = own;
      if (v.capacity + reserve > rest.room()) {
        if (end > begin) break;
        v.capacity = rest.room() / 5 * 4 - kDirect;
      }
      v.kept = rest.take(v.capacity);
    }
    const int64_t n_nan = read_set(set, intervals + begin, end - begin, edges, spare);
    set.moments = nullptr;  // the first read found them
    if (begin == 0) {
      n = count - n_nan;
      if (n == 0) {
        write_nan(p, values, stride);
        return {n_nan, 0};
      }
      ranks.insert_all(p, n);
    }
    for (int i = begin; i < end; ++i) {
      Interval<T>& v = intervals[i];
      if (v.has_low && !v.has_high) v.below = n - v.n_kept - v.n_dropped - v.at_low;
      fallbacks += resolve(v, ranks, rest);
    }
  }
  for (int j = 0; j < ranks.n; ++j) {
    if (ranks.known[j]) continue;
    ranks.value[j] = select_by_key<magnitude, T>(set.reader(), ranks.rank[j]);
    ++fallbacks;
  }
  ranks.write(p, n, values, stride);
  return {count - n, fallbacks};
}

template <class E, bool magnitude>
int64_t select_sets(const Plan& plan, const QuantileArguments& arguments, void* scratch) {
  using T = Element<E>;
  static_assert((kBlock + kBlockPad + 2 * (kDirect + 8 * kPad)) * sizeof(T) <= kQuantileScratchBytes,
                "raise kQuantileScratchBytes");
  Probabilities p;
  p.n = arguments.n_q;
  for (int j = 0; j < p.n; ++j) {
    int i = j;
    for (; i > 0 && p.q[i - 1] > arguments.q[j]; --i) {
      p.q[i] = p.q[i - 1];
      p.plane[i] = p.plane[i - 1];
    }
    p.q[i] = arguments.q[j];
    p.plane[i] = j;
  }
  T* const memory = static_cast<T*>(scratch);
  Arena<T> arena{memory, memory + arguments.scratch_bytes / sizeof(T)};
  T* const block = arena.take(kBlock + kBlockPad);
  int64_t fallbacks = 0;
  Odometer kept(plan.kept, plan.n_kept);
  do {
    State<T> moments;
    const Set<E, magnitude> set{plan, plan.data + kept.in, block, arguments.moments ? &moments : nullptr};
    const int64_t at = plan.out_offset + kept.out;
    T* const values = static_cast<T*>(arguments.values) + at;
    const SetResult result = plan.count <= kDirect ? select_small(set, p, values, plan.outputs, arena)
                                                   : select_large(set, p, values, plan.outputs, arena);
    if (arguments.nan) arguments.nan[at] = result.nan;
    if (arguments.moments) write_result(*arguments.moments, at, moments, plan.count);
    fallbacks += result.fallbacks;
  } while (kept.next());
  return fallbacks;
}

template <class E>
int64_t select_typed(const Plan& plan, const QuantileArguments& arguments, void* scratch) {
  return arguments.magnitude ? select_sets<E, true>(plan, arguments, scratch)
                             : select_sets<E, false>(plan, arguments, scratch);
}

int64_t select_quantiles(const Plan* plan, const QuantileArguments* arguments, void* scratch) noexcept {
  switch (plan->dtype) {
    case DType::float32:
      return select_typed<float>(*plan, *arguments, scratch);
    case DType::float64:
      return select_typed<double>(*plan, *arguments, scratch);
    case DType::float16:
      return select_typed<f16>(*plan, *arguments, scratch);
    case DType::bfloat16:
      return select_typed<bf16>(*plan, *arguments, scratch);
  }
  return 0;
}

}  // namespace
