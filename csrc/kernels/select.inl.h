// Exact quantiles of whole sets: order statistics by sampled brackets.
//
// A set of up to kDirect elements is copied to scratch and selected there (select_memory.inl.h), unless only a few of
// its extremes are wanted: these follow from minima and maxima of its parts, in place. A larger one is read once
// (select_read.inl.h): a jittered sample brackets every wanted rank by an open interval whose edges are elements of the
// set; the read counts what lies below each interval and keeps what lies inside, and the answer is selected among the
// few elements kept. A rank that falls on the edge of its bracket is answered by the number of elements equal to the
// edge. A set that fits the L2 cache is read once before for what else is wanted of it, which brings it there. The
// brackets are five standard deviations wide; a rank outside them, or an interval that overflows its buffer, falls back
// to radix selection on order-preserving keys (radix_select.inl.h): right, linear, slow, and counted. The sample is
// drawn by a counter-based generator, so every instruction set takes the same way; what is kept and counted is exact,
// so the result would not depend on the sample anyway.
//
// NaN is left out and counted, infinities are ordinary values, denormals are kept, a zero result is +0.0. The rank q (n
// - 1), its fraction and the interpolation are float64 and have NumPy's form; the result is rounded once.
#pragma once

#include "kernels/order_statistics.inl.h"
#include "kernels/select_read.inl.h"

namespace {

constexpr int kLeastExtremes = 512;                    // elements of a set whose extremes are worth a read
constexpr int kDirect = 16384;                         // elements of a set that is copied rather than sampled
constexpr int64_t kCached = 1024 * 1024;               // bytes of a set that stays in the L2 cache
constexpr double kPassWidth = 5.0, kPassMargin = 3.0;  // a miss costs a fall-back: once in some million brackets

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
  bool all_known() const {
    for (int i = 0; i < n; ++i) {
      if (!known[i]) return false;
    }
    return true;
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

// Resolves the ranks that fall into an interval that was read. Returns the number of fall-backs inside.
template <class T>
int resolve(const Interval<T>& v, Ranks<T>& ranks, Arena<T> arena) {
  const int64_t inside = v.at_most_low();
  const int64_t begin = v.has_low ? inside - v.at_low : 0;
  const int64_t above = inside + v.n_kept + v.n_dropped;
  const int64_t end = above + (v.has_low && v.lo == v.hi ? 0 : v.at_high);  // one value may be both edges
  int n = 0, index[kMaxRanks];
  int64_t relative[kMaxRanks];
  T value[kMaxRanks];
  for (int j = 0; j < ranks.n; ++j) {
    const int64_t r = ranks.rank[j];
    if (ranks.known[j] || r < begin || r >= end) continue;
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

// Whether few elements at either end of n hold all ranks, also if some of them are NaN; how many, counted from there.
// Two to spare: the ranks of fewer numbers may be rounded differently.
QS_INLINE bool only_extremes(const Probabilities& p, int64_t n, int64_t* from_low, int64_t* from_high) {
  *from_low = *from_high = 0;
  for (int j = 0; j < p.n; ++j) {
    const Position at = position_of(p.q[j], n);
    const int64_t low = at.next + 3, high = n - at.previous + 2;
    int64_t* const wanted = low < high ? from_low : from_high;
    const int64_t k = low < high ? low : high;
    if (k > kExtremes) return false;
    if (k > *wanted) *wanted = k;
  }
  return true;
}

// A set whose ranks lie among few elements at its ends: no sample, one read, and few elements are kept.
template <class E, bool magnitude>
SetResult select_extremes(const Set<E, magnitude>& set, const Probabilities& p, int64_t from_low, int64_t from_high,
                          Element<E>* values, int64_t stride, Arena<Element<E>> arena) {
  using T = Element<E>;
  const int64_t count = set.plan.count;
  T* const spare = arena.take(kExtremesSpare);
  Interval<T> low{}, high{};
  low.has_high = high.has_low = true;
  low.wanted = from_low;
  high.wanted = from_high;
  // Nothing lies beyond the threshold of a tail that is not wanted.
  low.hi = from_low > 0 ? infinity<T>() : -infinity<T>();
  high.lo = from_high > 0 ? -infinity<T>() : infinity<T>();
  low.kept = arena.take(count + kPad);
  high.kept = arena.take(count + kPad);
  int64_t n_nan = 0;
  for (BlockReader<E> reader = set.reader(); reader.next();) {
    set.observe(reader);
    n_nan += read_extremes<magnitude>(reader.data, reader.size, low, high, spare);
  }
  const int64_t n = count - n_nan;
  if (n == 0) {
    write_nan(p, values, stride);
    return {n_nan, 0};
  }
  Ranks<T> ranks;
  ranks.insert_all(p, n);
  high.below_high = n;
  int64_t fallbacks = 0;
  if (from_low > 0) fallbacks += resolve(low, ranks, arena);
  if (from_high > 0) fallbacks += resolve(high, ranks, arena);
  for (int j = 0; j < ranks.n; ++j) {
    if (ranks.known[j]) continue;
    ranks.value[j] = select_by_key<magnitude, T>(set.reader(), ranks.rank[j]);
    ++fallbacks;
  }
  ranks.write(p, n, values, stride);
  return {n_nan, fallbacks};
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

QS_INLINE SampleBracket pass_bracket(double q, int64_t m) {
  const double at = q * static_cast<double>(m - 1);
  return sample_bracket(at, at, m, kPassWidth, kPassMargin);
}

// Whether a sample of m brackets all probabilities in the tails. There it need not be large: what a tail keeps tightens
// its threshold.
QS_INLINE bool only_tails(const Probabilities& p, int64_t m) {
  for (int j = 0; j < p.n; ++j) {
    const SampleBracket b = pass_bracket(p.q[j], m);
    if (b.low >= 0 && b.high < m) return false;
  }
  return true;
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
    if (m > 0) b = pass_bracket(p.q[j], m);
    // Two to spare: the ranks of fewer numbers, if there is NaN, may be rounded differently.
    const Position at = position_of(p.q[j], count);
    const int64_t from_low = at.next + 3, from_high = count - at.previous + 2;
    const SampleBracket last = n > 0 ? intervals[n - 1].bracket : SampleBracket{-1, -1};
    // A gap of up to 1.5 % costs less to keep than another interval costs to read.
    if (n > 0 && b.low < last.high + m / 64 &&
        (b.high == last.high || expected_room({last.low, b.high}, m, count) <= arena.room() / 3)) {
      intervals[n - 1].bracket.high = b.high;
    } else {
      intervals[n++] = {};
      intervals[n - 1].bracket = b;
      intervals[n - 1].wanted = from_high;
    }
    if (intervals[n - 1].bracket.low < 0) intervals[n - 1].wanted = from_low;
  }
  int64_t low_rank[kMaxProbabilities], high_rank[kMaxProbabilities];
  T low[kMaxProbabilities], high[kMaxProbabilities];
  int n_low = 0, n_high = 0;
  for (int i = 0; i < n; ++i) {
    Interval<T>& v = intervals[i];
    v.has_low = v.bracket.low >= 0;
    v.has_high = v.bracket.high < m;
    v.sparse = (v.bracket.high - v.bracket.low) * 64 <= m * kLikely / 2;
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

// How many elements equal `value`.
template <class E, bool magnitude>
int64_t count_equal(const Set<E, magnitude>& set, Element<E> value) {
  using V = Vector<Element<E>>;
  constexpr int ways = 4;  // a masked addition waits for the one before
  const V e = set1(value), nan = set1(not_a_number<Element<E>>());
  int64_t n = 0;
  for (BlockReader<E> reader = set.reader(); reader.next();) {
    LaneCount count[ways];
    int64_t i = 0;
    for (; i + ways * V::lanes <= reader.size; i += ways * V::lanes) {
#pragma GCC unroll 4
      for (int w = 0; w < ways; ++w) count[w].add(eq(maybe_abs<magnitude>(load(reader.data + i + w * V::lanes)), e));
    }
    for (; i < reader.size; i += V::lanes) {
      const int left = reader.size - i < V::lanes ? static_cast<int>(reader.size - i) : V::lanes;
      count[0].add(eq(maybe_abs<magnitude>(load_partial(reader.data + i, left, nan)), e));
    }
    for (const LaneCount& c : count) n += c.total();
  }
  return n;
}

// Counts what lies on the edges of an interval, in a read of its own.
template <class E, bool magnitude>
void count_edges(const Set<E, magnitude>& set, Interval<Element<E>>& v) {
  if (v.has_low) v.at_low = count_equal(set, v.lo);
  if (v.has_high) v.at_high = count_equal(set, v.hi);
}

// Draws one element of each stratum; leaves out NaN. Returns the number of elements.
template <class E, bool magnitude>
int64_t draw_sample(const Set<E, magnitude>& set, int64_t draws, Element<E>* sample) {
  using T = Element<E>;
  constexpr int batch = 64;  // positions first, loads next: more of them are under way at once
  const JitteredStrata strata(set.plan.count, draws, 0);
  int64_t m = 0;
  for (int64_t i = 0; i < draws; i += batch) {
    int64_t offset[batch];
    T x[batch];
    const int n = draws - i < batch ? static_cast<int>(draws - i) : batch;
    for (int k = 0; k < n; ++k) offset[k] = set.offset(strata.index(i + k));
    for (int k = 0; k < n; ++k) x[k] = set.at(offset[k]);
    for (int k = 0; k < n; ++k) {
      sample[m] = x[k];
      m += x[k] == x[k];
    }
  }
  return m;
}

// A large set of 16-bit floats whose intervals need more memory than there is: all their values are counted, in one
// read.
template <class E, bool magnitude>
SetResult select_by_counting(const Set<E, magnitude>& set, const Probabilities& p, Element<E>* values, int64_t stride,
                             Arena<Element<E>> arena) {
  // Counters ascend with the values: -NaN, -Inf, ..., -0, +0, ..., Inf, NaN.
  constexpr int64_t keys = 65536, zero = keys / 2;
  constexpr int ways = 2;  // the same counter twice in a row would wait for the first store
  static_assert(sizeof(Element<E>) == sizeof(uint32_t), "counters lie in the arena");
  auto* const counters = reinterpret_cast<uint32_t*>(arena.take(ways * (keys + kPad)));
  __builtin_memset(counters, 0, ways * (keys + kPad) * sizeof(uint32_t));
  uint32_t* const second = counters + keys + kPad;
  const auto counter = [](E x) -> uint32_t {
    if (magnitude) return static_cast<uint32_t>(x.bits & 0x7fff) | zero;
    return x.bits ^ (x.bits & 0x8000 ? 0xffffu : 0x8000u);
  };
  for (int64_t segment = 0; segment < set.segments(); ++segment) {
    Plan part;
    State<Element<E>> moments;
    if (set.moments != nullptr) moments.counters = set.moments->counters;
    auto reader = set.segments() == 1 ? set.large_reader() : set.segment_reader(segment, part, set.block);
    while (reader.next()) {
      if (set.moments != nullptr) reduce_block<kOrder | kSum>(reader.data, reader.size, moments);
      const E* const x = reinterpret_cast<const E*>(reader.data);
      int64_t i = 0;
      for (; i + ways <= reader.size; i += ways) {
        ++counters[counter(x[i])];
        ++second[counter(x[i + 1])];
      }
      if (i < reader.size) ++counters[counter(x[i])];
    }
    if (set.moments != nullptr) add_segment(moments, *set.moments);
  }
  for (int64_t k = 0; k < keys; ++k) counters[k] += second[k];
  const int64_t infinite = key_of<E>(infinity<float>());
  int64_t n = 0;
  for (int64_t k = zero - 1 - infinite; k <= zero + infinite; ++k) n += counters[k];
  if (n == 0) {
    write_nan(p, values, stride);
    return {set.plan.count, 0};
  }
  Ranks<Element<E>> ranks;
  ranks.insert_all(p, n);
  int64_t k = zero - 1 - infinite, below = 0;
  for (int j = 0; j < ranks.n; ++j) {
    for (; below + counters[k] <= ranks.rank[j]; ++k) below += counters[k];
    const bool negative = k < zero;
    ranks.value[j] = element(E{static_cast<uint16_t>(negative ? (k ^ 0xffff) : (k ^ 0x8000))});
    ranks.known[j] = true;
  }
  ranks.write(p, n, values, stride);
  return {set.plan.count - n, 0};
}

// Whether a set stays in the L2 cache while it is read by one thread, in place: then a sample is drawn from there, and
// another read costs its instructions alone.
template <class E, bool magnitude>
bool fits_cache(const Set<E, magnitude>& set) {
  const Axis& run = set.plan.reduced[0];
  return set.plan.count * set.plan.item <= kCached && run.stride == set.plan.item && run.size >= kLongRun &&
         (set.reading == nullptr || set.reading->threads == 1);
}

// Finds the moments in a read of their own; segment by segment, as in a reduction.
template <class E, bool magnitude>
void read_moments(const Set<E, magnitude>& set) {
  for (int64_t k = 0; k < set.segments(); ++k) {
    Plan part;
    State<Element<E>> moments;
    moments.counters = set.moments->counters;
    auto reader = set.segments() == 1 ? set.large_reader() : set.segment_reader(k, part, set.block);
    while (reader.next()) reduce_block<kOrder | kSum>(reader.data, reader.size, moments);
    add_segment(moments, *set.moments);
  }
}

// A large set: one read, unless the probabilities are so many that their brackets exceed the scratch memory.
template <class E, bool magnitude>
SetResult select_large(Set<E, magnitude> set, const Probabilities& p, Element<E>* values, int64_t stride,
                       Arena<Element<E>> arena) {
  using T = Element<E>;
  const int64_t count = set.plan.count;
  const bool cached = fits_cache(set);
  if (set.moments != nullptr && cached) {
    read_moments(set);
    set.moments = nullptr;
  }
  const Arena<T> before_sample = arena;
  const int64_t least = static_cast<int64_t>(__builtin_sqrt(static_cast<double>(count)));
  const int64_t draws = only_tails(p, least) ? least : sample_size(count, set.plan.item);
  T* const sample = arena.take(draws + kPad);
  T* const spare = arena.take(kChunk + kPad);
  const int64_t m = draw_sample(set, draws, sample);
  Interval<T> intervals[kMaxProbabilities];
  const int n_intervals = make_intervals(p, sample, m, count, intervals, arena);
  // Counting what lies on the edges makes a read half as long again, so a set in the cache is read once more instead,
  // and only for those edges that turn out to hold a rank.
  const bool ties = !cached && has_ties(sample, m, intervals, n_intervals);

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
      if (v.is_tail() && v.capacity > v.limit() + 2 * kChunk + kPad) v.capacity = v.limit() + 2 * kChunk + kPad;
      const int64_t own = v.capacity / 4 + kDirect;
      if (own > reserve) reserve = own;
      if (v.capacity + reserve > rest.room()) {
        if constexpr (kReadAsIntegers<E>) {
          constexpr int64_t counted = int64_t{1} << 32;
          if (begin == 0 && count < counted) return select_by_counting(set, p, values, stride, before_sample);
        }
        if (end > begin) break;
        v.capacity = rest.room() / 5 * 4 - kDirect;
      }
      v.kept = rest.take(v.capacity);
    }
    const int64_t n_nan = ties ? read_set<magnitude, true>(set, intervals + begin, end - begin, spare, rest)
                               : read_set<magnitude, false>(set, intervals + begin, end - begin, spare, rest);
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
      if (!v.has_high) v.below_high = n;
      fallbacks += resolve(v, ranks, rest);
    }
  }
  for (int i = 0; i < n_intervals && !ranks.all_known(); ++i) {
    count_edges(set, intervals[i]);
    fallbacks += resolve(intervals[i], ranks, arena);
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
  int64_t from_low, from_high;
  const bool extremes =
      plan.count >= kLeastExtremes && plan.count <= kDirect && only_extremes(p, plan.count, &from_low, &from_high);
  int64_t fallbacks = 0;
  Odometer kept(plan.kept, plan.n_kept);
  do {
    State<T> moments;
    if (arguments.moments) moments.counters = arguments.moments->counters;
    const Set<E, magnitude> set{plan, plan.data + kept.in, block, arguments.moments ? &moments : nullptr,
                                arguments.reading};
    const int64_t at = plan.out_offset + kept.out;
    T* const values = static_cast<T*>(arguments.values) + at;
    const SetResult result = extremes ? select_extremes(set, p, from_low, from_high, values, plan.outputs, arena)
                             : plan.count <= kDirect ? select_small(set, p, values, plan.outputs, arena)
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
