// One read of a large set: counts what lies below open intervals of values and keeps what lies inside.
//
// Tails are rare: groups of vectors are held against both thresholds by their minimum and maximum, and only a group
// that has something to keep takes a branch. What a tail keeps beyond what its ranks need tightens its threshold, so
// that the longer the read, the rarer the branch. An interval in the middle keeps some percent: no branch, every vector
// is compressed and stored. Several intervals share one such store to a buffer in L1, from which they then take their
// own.
//
// 16-bit floats are held against the intervals as integers, twice as many a vector; only what is kept is converted.
#pragma once

#include "kernels/reduce_block.inl.h"
#include "kernels/select_memory.inl.h"

namespace {

// An open interval of values, what was found in it and at its edges.
template <class T>
struct Interval {
  SampleBracket bracket;
  bool has_low, has_high;
  bool sparse;  // holds kLikely of 64 elements or fewer, nearly always
  T lo, hi;     // infinite on an open side
  T* kept;
  int64_t capacity;
  int64_t wanted;  // of a tail: elements, counted from its open side, among which its ranks lie
  int64_t n_kept;
  int64_t n_dropped;   // elements inside that overflowed the buffer: counted, but their values are lost
  int64_t below_high;  // elements below hi, or all if there is no hi; of no use where there is no lo
  int64_t at_low;      // elements equal to lo: all after a read with `ties` or count_edges(), else some
  int64_t at_high;     // elements equal to hi, likewise

  bool is_tail() const { return !has_low || !has_high; }
  // Elements at or below lo.
  int64_t at_most_low() const {
    return !has_low ? 0 : has_high && lo == hi ? below_high + at_low : below_high - n_kept - n_dropped;
  }
  // Elements kept at which a tail tightens its threshold.
  int64_t limit() const { return 2 * wanted + 192; }
};

template <bool magnitude, class V>
QS_INLINE V maybe_abs(V v) {
  if constexpr (magnitude)
    return abs(v);
  else
    return v;
}

// NaN among x[0..n).
template <class T>
int64_t count_nan(const T* x, int64_t n) {
  using V = Vector<T>;
  LaneCount count;
  for (int64_t k = 0; k < n; k += V::lanes) {
    const V v = load_partial(x + k, n - k < V::lanes ? static_cast<int>(n - k) : V::lanes, set1(T(0)));
    count.add(unordered(v, v));
  }
  return count.total();
}

// Keeps what lies below low.hi or above high.lo. `ties`: counts what lies on these edges. Returns the number of NaN.
template <bool magnitude, bool ties, class T>
int64_t read_tails(const T* x, int64_t n, Interval<T>& low, Interval<T>& high) {
  using V = Vector<T>;
  constexpr int group = 8;
  const V e1 = set1(low.hi), e2 = set1(high.lo), top = set1(infinity<T>()), bottom = set1(-infinity<T>());
  T* to_low = low.kept + low.n_kept;
  T* to_high = high.kept + high.n_kept;
  LaneCount at_low, at_high;
  LaneCount odd;
  const auto keep = [&](V v) {
    to_low += compress_store(to_low, lt(v, e1), v);
    to_high += compress_store(to_high, gt(v, e2), v);
  };
  int64_t i = 0;
  for (; i + group * V::lanes <= n; i += group * V::lanes) {
    V v[group];
#pragma GCC unroll 8
    for (int g = 0; g < group; ++g) v[g] = maybe_abs<magnitude>(load(x + i + g * V::lanes));
    // NaN changes neither accumulator.
    V least[2] = {top, top}, greatest[2] = {bottom, bottom};
#pragma GCC unroll 8
    for (int g = 0; g < group; ++g) {
      least[g & 1] = min(v[g], least[g & 1]);
      greatest[g & 1] = max(v[g], greatest[g & 1]);
      if (g & 1) odd.add(unordered(v[g - 1], v[g]));
      if constexpr (ties) {
        at_low.add(eq(v[g], e1));
        at_high.add(eq(v[g], e2));
      }
    }
    const V a = min(least[0], least[1]), b = max(greatest[0], greatest[1]);
    if (any(mask_or(lt(a, e1), gt(b, e2)))) {
      for (int g = 0; g < group; ++g) keep(maybe_abs<magnitude>(load(x + i + g * V::lanes)));
    }
  }
  for (; i < n; i += V::lanes) {
    const int left = n - i < V::lanes ? static_cast<int>(n - i) : V::lanes;
    const V v = maybe_abs<magnitude>(load_partial(x + i, left, set1(not_a_number<T>())));
    odd.add(mask_and(unordered(v, v), first_lanes(v, left)));
    keep(v);
    if constexpr (ties) {
      at_low.add(eq(v, e1));
      at_high.add(eq(v, e2));
    }
  }
  low.n_kept = to_low - low.kept;
  high.n_kept = to_high - high.kept;
  low.at_high += at_low.total();
  high.at_low += at_high.total();
  return odd.total() != 0 ? count_nan(x, n) : 0;
}

// Moves the threshold of a tail to `edge` and leaves out what lies beyond.
template <class T>
void cut(Interval<T>& tail, T edge) {
  using V = Vector<T>;
  const bool low = !tail.has_low;
  const V e = set1(edge);
  T* to = tail.kept;
  LaneCount equal;
  for (int64_t i = 0; i < tail.n_kept; i += V::lanes) {
    const int left = tail.n_kept - i < V::lanes ? static_cast<int>(tail.n_kept - i) : V::lanes;
    const V v = load_partial(tail.kept + i, left, set1(not_a_number<T>()));
    equal.add(eq(v, e));
    to += compress_store(to, low ? lt(v, e) : gt(v, e), v);
  }
  tail.n_kept = to - tail.kept;
  (low ? tail.hi : tail.lo) = edge;
  (low ? tail.at_high : tail.at_low) = equal.total();
}

// Moves the threshold of a tail to the last of the elements wanted.
template <class T>
void tighten(Interval<T>& tail, Arena<T> arena) {
  const int64_t rank = tail.has_low ? tail.n_kept - tail.wanted : tail.wanted - 1;
  T edge;
  select_ranks(tail.kept, tail.n_kept, &rank, 1, &edge, arena, 0);
  cut(tail, edge);
}

// The tails of one block of at most kBlock elements, when few elements are wanted: up to kExtremes on either side. The
// minima of columns of eight elements are reduced to kBase minima of disjoint parts; the last one wanted of these
// bounds the last one wanted of the block, whatever the data. Then only columns beyond the threshold are looked at
// again. `spare` has room for kExtremesSpare elements.
constexpr int kExtremes = 16;
constexpr int64_t kExtremesSpare = 2 * (kBlock / 8 + kBase) + 8 * kPad;

template <bool magnitude, class T>
int64_t read_extremes(const T* x, int64_t n, Interval<T>& low, Interval<T>& high, T* spare) {
  using V = Vector<T>;
  constexpr int group = 8;
  constexpr int step = group * V::lanes;
  const V top = set1(infinity<T>()), bottom = set1(-infinity<T>()), nan = set1(not_a_number<T>());
  const int64_t groups = (n + step - 1) / step;
  const int64_t size = (groups * V::lanes + kBase - 1) / kBase * kBase;
  T* const least = spare;
  T* const greatest = spare + size;
  LaneCount odd;
  int64_t i = 0, at = 0;
  for (; i + step <= n; i += step, at += V::lanes) {
    V v[group];
#pragma GCC unroll 8
    for (int g = 0; g < group; ++g) v[g] = maybe_abs<magnitude>(load(x + i + g * V::lanes));
    // NaN changes no accumulator.
    V low0 = top, low1 = top, high0 = bottom, high1 = bottom;
#pragma GCC unroll 4
    for (int g = 0; g < group; g += 2) {
      low0 = min(v[g], low0);
      low1 = min(v[g + 1], low1);
      high0 = max(v[g], high0);
      high1 = max(v[g + 1], high1);
      odd.add(unordered(v[g], v[g + 1]));
    }
    store(least + at, min(low0, low1));
    store(greatest + at, max(high0, high1));
  }
  if (i < n) {
    V a = top, b = bottom;
    for (; i < n; i += V::lanes) {
      const int left = n - i < V::lanes ? static_cast<int>(n - i) : V::lanes;
      const V v = maybe_abs<magnitude>(load_partial(x + i, left, nan));
      a = min(v, a);
      b = max(v, b);
      odd.add(mask_and(unordered(v, v), first_lanes(v, left)));
    }
    store(least + at, a);
    store(greatest + at, b);
    at += V::lanes;
  }
  for (; at < size; at += V::lanes) {
    store(least + at, top);
    store(greatest + at, bottom);
  }

  const auto threshold = [&](const T* extremes, bool is_low, int64_t rank) {
    T part[kBase];
    for (int k = 0; k < kBase; k += V::lanes) {
      V best = load(extremes + k);
      for (int64_t j = k + kBase; j < size; j += kBase)
        best = is_low ? min(load(extremes + j), best) : max(load(extremes + j), best);
      store(part + k, best);
    }
    T edge;
    select_base(part, kBase, &rank, 1, &edge);
    return edge;
  };
  if (low.wanted > 0) {
    const T edge = threshold(least, true, low.wanted - 1);
    if (edge < low.hi) cut(low, edge);
  }
  if (high.wanted > 0) {
    const T edge = threshold(greatest, false, kBase - high.wanted);
    if (edge > high.lo) cut(high, edge);
  }

  const V e1 = set1(low.hi), e2 = set1(high.lo);
  T* to_low = low.kept + low.n_kept;
  T* to_high = high.kept + high.n_kept;
  LaneCount at_low, at_high;
  for (int64_t g = 0; g < groups; ++g) {
    const V a = load(least + g * V::lanes), b = load(greatest + g * V::lanes);
    if (!any(mask_or(le(a, e1), ge(b, e2)))) continue;
    const int64_t end = (g + 1) * step < n ? (g + 1) * step : n;
    for (i = g * step; i < end; i += V::lanes) {
      const int left = n - i < V::lanes ? static_cast<int>(n - i) : V::lanes;
      const V v = maybe_abs<magnitude>(load_partial(x + i, left, nan));
      to_low += compress_store(to_low, lt(v, e1), v);
      to_high += compress_store(to_high, gt(v, e2), v);
      at_low.add(eq(v, e1));
      at_high.add(eq(v, e2));
    }
  }
  low.n_kept = to_low - low.kept;
  high.n_kept = to_high - high.kept;
  low.at_high += at_low.total();
  high.at_low += at_high.total();
  return odd.total() != 0 ? count_nan(x, n) : 0;
}

constexpr int kLikely = 8;

// Appends the elements of x[0..64 * groups) whose bits are set. Storing kLikely elements one by one, wanted or not,
// costs less than compressing 64 (Zen 5 needs about five cycles a vector); only a group that holds more has a loop of
// its own. x[64 * groups] must exist: x[64] stands for an element that is not there. The next elements are fetched
// meanwhile.
template <bool magnitude, class T>
T* append_selected(T* to, const T* x, const uint64_t* bits, int64_t groups) {
  const auto value = [](T e) { return magnitude && e < 0 ? -e : e; };
  for (int64_t g = 0; g < groups; ++g, x += 64) {
    for (int64_t line = 0; line < 64; line += 64 / static_cast<int64_t>(sizeof(T))) prefetch(x + kChunk + line);
    uint64_t left = bits[g];
    const int n = __builtin_popcountll(left);
#pragma GCC unroll 8
    for (int j = 0; j < kLikely; ++j) {
      to[j] = value(x[first_one(left)]);
      left &= left - 1;
    }
    if (__builtin_expect(n > kLikely, 0)) {
      for (int j = kLikely; j < n; ++j) {
        to[j] = value(x[first_one(left)]);
        left &= left - 1;
      }
    }
    to += n;
  }
  return to;
}

// Counts what lies below an interval and keeps what lies inside, without a branch. Returns the number of NaN.
template <bool magnitude, bool ties, class T>
int64_t read_centre(const T* x, int64_t n, Interval<T>& interval) {
  using V = Vector<T>;
  const V lo = set1(interval.lo), hi = set1(interval.hi);
  T* const begin = interval.kept + interval.n_kept;
  T* to = begin;
  LaneCount below_high, at_low, at_high;
  LaneCount odd;
  const auto inside = [&](V v) {
    const auto below = lt(v, hi);
    below_high.add(below);
    if constexpr (ties) {
      at_low.add(eq(v, lo));
      at_high.add(eq(v, hi));
    }
    return mask_and(below, gt(v, lo));
  };
  int64_t i = 0;
  if (interval.sparse) {
    constexpr int vectors = 64 / V::lanes;
    uint64_t bits[kChunk / 64];
    int64_t groups = 0;
    for (; i + 64 < n; i += 64) {
      uint64_t b = 0;
#pragma GCC unroll 8
      for (int g = 0; g < vectors; g += 2) {
        const V v = maybe_abs<magnitude>(load(x + i + g * V::lanes));
        const V w = maybe_abs<magnitude>(load(x + i + (g + 1) * V::lanes));
        odd.add(unordered(v, w));
        b |= static_cast<uint64_t>(to_bits(inside(v))) << (g * V::lanes);
        b |= static_cast<uint64_t>(to_bits(inside(w))) << ((g + 1) * V::lanes);
      }
      bits[groups++] = b;
    }
    to = append_selected<magnitude>(to, x, bits, groups);
  }
  for (; i + 4 * V::lanes <= n; i += 4 * V::lanes) {
    V v[4];
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) v[g] = maybe_abs<magnitude>(load(x + i + g * V::lanes));
    odd.add(unordered(v[0], v[1]));
    odd.add(unordered(v[2], v[3]));
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) to += compress_store(to, inside(v[g]), v[g]);
  }
  for (; i < n; i += V::lanes) {
    const int left = n - i < V::lanes ? static_cast<int>(n - i) : V::lanes;
    const V v = maybe_abs<magnitude>(load_partial(x + i, left, set1(not_a_number<T>())));
    odd.add(mask_and(unordered(v, v), first_lanes(v, left)));
    to += compress_store(to, inside(v), v);
  }
  interval.n_kept += to - begin;
  interval.below_high += below_high.total();
  interval.at_low += at_low.total();
  interval.at_high += at_high.total();
  return odd.total() != 0 ? count_nan(x, n) : 0;
}

constexpr int kShared = 2;  // intervals between the tails that share one store

// As read_centre(), for `centres` intervals and the elements beyond `tail_low` and `tail_high` at once; what any of
// them holds goes to `to`. Returns the number of elements stored.
template <bool magnitude, bool ties, int centres, class T>
int64_t read_shared(const T* x, int64_t n, Interval<T>* const* intervals, Interval<T>& low, Interval<T>& high, T* to,
                    int64_t* n_nan) {
  using V = Vector<T>;
  const V e1 = set1(low.hi), e2 = set1(high.lo);
  V lo[centres], hi[centres];
  LaneCount below_high[centres], at_low[centres], at_high[centres], at_e1, at_e2;
  for (int c = 0; c < centres; ++c) {
    lo[c] = set1(intervals[c]->lo);
    hi[c] = set1(intervals[c]->hi);
  }
  T* const begin = to;
  LaneCount odd;
  const auto take = [&](V v) {
    auto inside = mask_or(lt(v, e1), gt(v, e2));
#pragma GCC unroll 4
    for (int c = 0; c < centres; ++c) {
      const auto below = lt(v, hi[c]);
      below_high[c].add(below);
      inside = mask_or(inside, mask_and(below, gt(v, lo[c])));
      if constexpr (ties) {
        at_low[c].add(eq(v, lo[c]));
        at_high[c].add(eq(v, hi[c]));
      }
    }
    if constexpr (ties) {
      at_e1.add(eq(v, e1));
      at_e2.add(eq(v, e2));
    }
    to += compress_store(to, inside, v);
  };
  int64_t i = 0;
  for (; i + 4 * V::lanes <= n; i += 4 * V::lanes) {
    V v[4];
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) v[g] = maybe_abs<magnitude>(load(x + i + g * V::lanes));
    odd.add(unordered(v[0], v[1]));
    odd.add(unordered(v[2], v[3]));
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) take(v[g]);
  }
  for (; i < n; i += V::lanes) {
    const int left = n - i < V::lanes ? static_cast<int>(n - i) : V::lanes;
    const V v = maybe_abs<magnitude>(load_partial(x + i, left, set1(not_a_number<T>())));
    odd.add(mask_and(unordered(v, v), first_lanes(v, left)));
    take(v);
  }
  for (int c = 0; c < centres; ++c) {
    intervals[c]->below_high += below_high[c].total();
    intervals[c]->at_low += at_low[c].total();
    intervals[c]->at_high += at_high[c].total();
  }
  low.at_high += at_e1.total();
  high.at_low += at_e2.total();
  *n_nan = odd.total() != 0 ? count_nan(x, n) : 0;
  return to - begin;
}

// Appends what lies inside an interval.
template <class T>
void keep_inside(const T* x, int64_t n, Interval<T>& interval) {
  using V = Vector<T>;
  const V lo = set1(interval.lo), hi = set1(interval.hi);
  T* to = interval.kept + interval.n_kept;
  for (int64_t i = 0; i < n; i += V::lanes) {
    const int left = n - i < V::lanes ? static_cast<int>(n - i) : V::lanes;
    const V v = load_partial(x + i, left, set1(not_a_number<T>()));
    // An open side is open beyond infinity too.
    const auto above = interval.has_low ? gt(v, lo) : ge(v, lo);
    const auto below = interval.has_high ? lt(v, hi) : le(v, hi);
    to += compress_store(to, mask_and(above, below), v);
  }
  interval.n_kept = to - interval.kept;
}

template <class E>
constexpr bool kIsBf16 = false;
template <>
constexpr bool kIsBf16<bf16> = true;

template <int n>
struct Constant {
  static constexpr int value = n;
};

// 16-bit floats as integers: sign and magnitude, so that both zeros are zero (load_key()). A value of the set as such.
template <class E>
QS_INLINE int16_t key_of(float x) {
  const uint32_t bits = bits_of(x) & 0x7fffffff;
  uint32_t magnitude;
  if constexpr (kIsBf16<E>) {
    magnitude = bits >> 16;
  } else {
    magnitude = bits >= 0x7f800000   ? 0x7c00
                : bits >= 0x38800000 ? (bits - 0x38000000) >> 13
                                     : static_cast<uint32_t>(float_from_bits(bits) * 0x1p24f);
  }
  return static_cast<int16_t>(x < 0 ? -static_cast<int32_t>(magnitude) : static_cast<int32_t>(magnitude));
}

template <bool magnitude>
QS_INLINE vi16 load_keys(const int16_t* p) {
  return magnitude ? load_magnitude_key(p) : load_key(p);
}

constexpr int kChunksWithNan = 16;

// Reads the first elements of a chunk without NaN, as many as whole groups of vectors are, for all intervals, which are
// sparse. Returns how many elements it read; if there is a NaN among them it returns -1 and has changed nothing.
template <bool magnitude, bool ties, class E>
int64_t read_keys(const E* x, int64_t n, Interval<float>* const* centre, int n_centres, Interval<float>& low,
                  Interval<float>& high, bool no_low, bool no_high, float* spare) {
  constexpr int group = 8;
  constexpr int step = group * vi16::lanes;  // a multiple of 64
  constexpr int vectors = 64 / vi16::lanes;
  const int64_t end = (n - 1) / step * step;  // one element is left: append_selected() looks behind its groups
  if (end <= 0) return 0;
  const auto* const bits = reinterpret_cast<const int16_t*>(x);
  const int16_t top = key_of<E>(infinity<float>());
  uint64_t inside[kChunk / 64] = {};
  bool beyond[kChunk / step + 1] = {};  // groups with something in a tail
  const vi16 e1 = set1(key_of<E>(low.hi)), e2 = set1(key_of<E>(high.lo));
  const bool tails = !no_low || !no_high;
  ShortLaneCount at_e1, at_e2;
  // Tails, and NaN: its magnitude is above that of infinity.
  vi16 least = set1(top), greatest = set1(static_cast<int16_t>(-top));
  for (int64_t i = 0; i < end; i += step) {
    vi16 a = set1(top), b = set1(static_cast<int16_t>(-top));
#pragma GCC unroll 8
    for (int g = 0; g < group; ++g) {
      const vi16 v = load_keys<magnitude>(bits + i + g * vi16::lanes);
      a = min(a, v);
      b = max(b, v);
      if constexpr (ties) {
        at_e1.add(eq(v, e1));
        at_e2.add(eq(v, e2));
      }
    }
    least = min(least, a);
    greatest = max(greatest, b);
    beyond[i / step] = any(mask_or(lt(a, e1), gt(b, e2)));
  }
  if (any(mask_or(gt(greatest, set1(top)), lt(least, set1(static_cast<int16_t>(-top)))))) return -1;

  const auto take_inside = [&](Interval<float>* const* of, auto count) {
    constexpr int c_n = decltype(count)::value;
    vi16 lo[c_n], hi[c_n];
    ShortLaneCount below_high[c_n], at_low[c_n], at_high[c_n];
    for (int c = 0; c < c_n; ++c) {
      lo[c] = set1(key_of<E>(of[c]->lo));
      hi[c] = set1(key_of<E>(of[c]->hi));
    }
    for (int64_t i = 0; i < end; i += 64) {
      uint64_t word = 0;
#pragma GCC unroll 8
      for (int g = 0; g < vectors; ++g) {
        const vi16 v = load_keys<magnitude>(bits + i + g * vi16::lanes);
        uint32_t selected = 0;
#pragma GCC unroll 2
        for (int c = 0; c < c_n; ++c) {
          const mi16 below = lt(v, hi[c]);
          below_high[c].add(below);
          if constexpr (ties) {
            at_low[c].add(eq(v, lo[c]));
            at_high[c].add(eq(v, hi[c]));
          }
          selected |= to_bits(mask_and(gt(v, lo[c]), below));
        }
        word |= static_cast<uint64_t>(selected) << (g * vi16::lanes);
      }
      inside[i / 64] = word;
    }
    for (int c = 0; c < c_n; ++c) {
      of[c]->below_high += below_high[c].total();
      of[c]->at_low += at_low[c].total();
      of[c]->at_high += at_high[c].total();
    }
  };
  // What is selected, as floats.
  uint16_t chosen[kChunk + kPad];
  const auto convert_selected = [&](float* to) {
    const uint16_t* const last = append_selected<false>(chosen, reinterpret_cast<const uint16_t*>(x), inside, end / 64);
    const int64_t size = last - chosen;
    const E* const from = reinterpret_cast<const E*>(chosen);
    for (int64_t i = 0; i < size; i += kLanes) store(to + i, maybe_abs<magnitude>(load(from + i)));
    return size;
  };
  for (int c = 0; c < n_centres; c += kShared) {
    const int shared = n_centres - c < kShared ? n_centres - c : kShared;
    if (shared == 1) {
      take_inside(centre + c, Constant<1>{});
    } else {
      take_inside(centre + c, Constant<2>{});
    }
    if (shared == 1) {
      centre[c]->n_kept += convert_selected(centre[c]->kept + centre[c]->n_kept);
    } else {
      const int64_t size = convert_selected(spare);
      for (int k = 0; k < shared; ++k) keep_inside(spare, size, *centre[c + k]);
    }
  }
  if (!tails) return end;
  low.at_high += at_e1.total();
  high.at_low += at_e2.total();
  const float edge_low = low.hi, edge_high = high.lo;
  float* to_low = low.kept + low.n_kept;
  float* to_high = high.kept + high.n_kept;
  for (int64_t i = 0; i < end; i += step) {
    if (!beyond[i / step]) continue;
    for (int word = 0; word < step; word += 64) {
      uint64_t wanted = 0;
      for (int g = 0; g < vectors; ++g) {
        const vi16 v = load_keys<magnitude>(bits + i + word + g * vi16::lanes);
        const mi16 one = mask_or(lt(v, e1), gt(v, e2));
        wanted |= static_cast<uint64_t>(to_bits(one)) << (g * vi16::lanes);
      }
      for (; wanted != 0; wanted &= wanted - 1) {
        const float raw = element(x[i + word + first_one(wanted)]);
        const float value = magnitude && raw < 0 ? -raw : raw;
        *to_low = *to_high = value;
        to_low += value < edge_low;
        to_high += value > edge_high;
      }
    }
  }
  low.n_kept = to_low - low.kept;
  high.n_kept = to_high - high.kept;
  return end;
}

// How a large set is read: 16-bit floats as integers, where vectors hold more of these than of floats.
template <class E, bool as_integers>
struct ReadAsType {
  using type = Element<E>;
};
template <class E>
struct ReadAsType<E, true> {
  using type = E;
};
template <class E>
constexpr bool kReadAsIntegers = sizeof(E) == sizeof(uint16_t) && kLanes > 1;
template <class E>
using ReadAs = typename ReadAsType<E, kReadAsIntegers<E>>::type;
template <class E>
using LargeReader = BlockReader<E, ReadAs<E>>;

// The set that belongs to one output.
template <class E, bool magnitude>
struct Set {
  using T = Element<E>;
  const Plan& plan;
  const char* base;
  T* block;           // kBlock + kBlockPad elements
  State<T>* moments;  // what a read reduces besides; may be null
  const SetReading* reading;

  int64_t segments() const { return reading == nullptr ? 1 : reading->segments.parts; }
  BlockReader<E> reader() const { return BlockReader<E>(plan, base, block); }
  // Of the segment that `part` becomes.
  LargeReader<E> large_reader() const { return LargeReader<E>(plan, base, reinterpret_cast<ReadAs<E>*>(block)); }
  LargeReader<E> segment_reader(int64_t segment, Plan& part, T* buffer) const {
    reading->part(plan, reading->segments, segment, &part);
    return LargeReader<E>(part, base + (part.data - plan.data), reinterpret_cast<ReadAs<E>*>(buffer));
  }
  QS_INLINE void observe(const BlockReader<E>& reader) const {
    if (moments != nullptr) reduce_block<kOrder | kSum>(reader.data, reader.size, *moments);
  }
  // Of element i, in bytes.
  QS_INLINE int64_t offset(int64_t i) const {
    int64_t offset = 0;
    for (int a = 0; a + 1 < plan.n_reduced; ++a) {
      offset += i % plan.reduced[a].size * plan.reduced[a].stride;
      i /= plan.reduced[a].size;
    }
    if (plan.n_reduced > 0) offset += i * plan.reduced[plan.n_reduced - 1].stride;
    return offset;
  }
  QS_INLINE T at(int64_t offset) const {
    const T x = element(read<E>(base + offset));
    return magnitude && x < 0 ? -x : x;
  }
};

// Reads blocks for all intervals, of which at most one is open below and at most one other open above. `ties`: also
// counts what lies on their edges. `spare` has room for kChunk + kPad elements. `make_room` empties an interval that
// has no room for another chunk. Returns the number of NaN.
template <bool magnitude, bool ties, class E, class MakeRoom>
int64_t read_blocks(LargeReader<E> reader, State<Element<E>>* moments, Interval<Element<E>>* intervals, int n_intervals,
                    Element<E>* spare, Arena<Element<E>> arena, const MakeRoom& make_room) {
  using T = Element<E>;
  // Stands for a missing tail: nothing lies beyond an infinity, and a full store needs a place to go.
  Interval<T> no_low{}, no_high{};
  no_low.hi = -infinity<T>();
  no_high.lo = infinity<T>();
  no_low.kept = no_high.kept = spare;
  Interval<T>* low = &no_low;
  Interval<T>* high = &no_high;
  Interval<T>* centre[kMaxProbabilities];
  int n_centres = 0;
  for (int i = 0; i < n_intervals; ++i) {
    if (!intervals[i].has_low)
      low = &intervals[i];
    else if (!intervals[i].has_high)
      high = &intervals[i];
    else
      centre[n_centres++] = &intervals[i];
  }
  const bool tails = low != &no_low || high != &no_high;
  const auto read_chunk = [&](const T* x, int64_t n) {
    if (n_centres == 0) return read_tails<magnitude, ties>(x, n, *low, *high);
    if (n_centres == 1 && !tails) return read_centre<magnitude, ties>(x, n, *centre[0]);
    int64_t nan = 0;
    for (int c = 0; c < n_centres; c += kShared) {
      Interval<T>& a = c == 0 ? *low : no_low;
      Interval<T>& b = c == 0 ? *high : no_high;
      const int shared = n_centres - c < kShared ? n_centres - c : kShared;
      const int64_t stored = shared == 1 ? read_shared<magnitude, ties, 1>(x, n, centre + c, a, b, spare, &nan)
                                         : read_shared<magnitude, ties, 2>(x, n, centre + c, a, b, spare, &nan);
      if (&a != &no_low) keep_inside(spare, stored, a);
      for (int k = 0; k < shared; ++k) keep_inside(spare, stored, *centre[c + k]);
      if (&b != &no_high) keep_inside(spare, stored, b);
    }
    return nan;
  };
  bool sparse = true;
  for (int c = 0; c < n_centres; ++c) sparse = sparse && centre[c]->sparse;
  int with_nan = 0;  // chunks to read as floats, since one before held NaN
  int64_t n_nan = 0;
  while (reader.next()) {
    if (moments != nullptr) reduce_block<kOrder | kSum>(reader.data, reader.size, *moments);
    for (int64_t at = 0; at < reader.size; at += kChunk) {
      const ReadAs<E>* x = reader.data + at;
      const int64_t n = reader.size - at < kChunk ? reader.size - at : kChunk;
      for (int i = 0; i < n_intervals; ++i) {
        Interval<T>& v = intervals[i];
        if (v.is_tail() && v.n_kept > v.limit()) tighten(v, arena);
        if (v.capacity - v.n_kept < n + kPad) make_room(v);
      }
      if constexpr (kReadAsIntegers<E>) {
        int64_t done = 0;
        if (sparse && with_nan == 0) {
          done =
              read_keys<magnitude, ties>(x, n, centre, n_centres, *low, *high, low == &no_low, high == &no_high, spare);
          if (done < 0) with_nan = kChunksWithNan;
        }
        if (with_nan > 0) {
          --with_nan;
          done = 0;
        }
        // The rest, or a chunk that holds NaN.
        T wide[kChunk + kPad];
        convert_run<E>(wide, reinterpret_cast<const char*>(x + done), sizeof(E), n - done);
        n_nan += read_chunk(wide, n - done);
      } else {
        n_nan += read_chunk(x, n);
      }
    }
  }
  return n_nan;
}

// Counts what an interval keeps, and forgets it.
template <class T>
void drop(Interval<T>& interval) {
  interval.n_dropped += interval.n_kept;
  interval.n_kept = 0;
}

// Adds what the next segment gives: called in the order of the segments.
template <class T>
void add_segment(const State<T>& segment, State<T>& all) {
  if (segment.min < all.min) all.min = segment.min;
  if (segment.max > all.max) all.max = segment.max;
  all.sum += segment.sum;
  all.nan += segment.nan;
  all.pos_inf += segment.pos_inf;
  all.neg_inf += segment.neg_inf;
}

// Adds what another thread found of a tail. The tighter threshold serves both: who moved it there had found all the
// elements that are wanted.
template <class T>
void merge_tail(Interval<T>& tail, Interval<T>& other, Arena<T> arena) {
  const bool low = !tail.has_low;
  if (tail.capacity - tail.n_kept < other.n_kept) {
    if (tail.n_kept > tail.wanted) tighten(tail, arena);
    if (other.n_kept > other.wanted) tighten(other, arena);
  }
  const T a = low ? tail.hi : -tail.lo, b = low ? other.hi : -other.lo;
  if (b < a) cut(tail, low ? b : -b);
  if (a < b) cut(other, low ? a : -a);
  (low ? tail.at_high : tail.at_low) += low ? other.at_high : other.at_low;
  tail.n_dropped += other.n_dropped;
  if (tail.capacity - tail.n_kept >= other.n_kept) {
    __builtin_memcpy(tail.kept + tail.n_kept, other.kept, static_cast<size_t>(other.n_kept) * sizeof(T));
    tail.n_kept += other.n_kept;
  } else {
    tail.n_dropped += other.n_kept;
  }
}

template <class T>
QS_INLINE int64_t whole_lines(int64_t elements) {
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  return (elements + line - 1) / line * line;
}

// What a thread that reads some of the segments has of its own. Tails are kept until the end; the other intervals have
// a little room, from which what they keep moves to the common intervals.
template <class T>
struct ThreadIntervals {
  T* block;
  T* spare;
  Arena<T> arena;  // for tighten()
  Interval<T> intervals[kMaxProbabilities];
  int64_t n_nan;

  static constexpr int64_t kHeader = 8192 / static_cast<int64_t>(sizeof(T));
  static int64_t room(const Interval<T>& v) { return v.is_tail() ? v.capacity : kChunk + kPad + 512; }
  static int64_t arena_room(const Interval<T>* common, int n) {
    int64_t most = 0;
    for (int i = 0; i < n; ++i) {
      if (common[i].is_tail() && common[i].capacity > most) most = common[i].capacity;
    }
    return most / 2 + kChunk;
  }
  static int64_t elements(const Interval<T>* common, int n) {
    static_assert(sizeof(ThreadIntervals) <= 8192, "raise kHeader");
    int64_t total = kHeader + kBlock + kBlockPad + kChunk + kPad + arena_room(common, n);
    for (int i = 0; i < n; ++i) total += room(common[i]);
    return whole_lines<T>(total);
  }

  void begin(T* memory, const Interval<T>* common, int n) {
    Arena<T> all{memory + kHeader, memory + elements(common, n)};
    block = all.take(kBlock + kBlockPad);
    spare = all.take(kChunk + kPad);
    for (int i = 0; i < n; ++i) {
      intervals[i] = common[i];
      intervals[i].capacity = room(common[i]);
      intervals[i].kept = all.take(intervals[i].capacity);
    }
    arena = all;
    n_nan = 0;
  }

  // Until all threads have finished, `n_kept` of the common interval counts all that came.
  static void move(Interval<T>& own, Interval<T>& common) {
    const int64_t n = own.n_kept;
    const int64_t at = __atomic_fetch_add(&common.n_kept, n, __ATOMIC_RELAXED);
    if (at + n <= common.capacity) {
      __builtin_memcpy(common.kept + at, own.kept, static_cast<size_t>(n) * sizeof(T));
    } else {
      __atomic_fetch_add(&common.n_dropped, n, __ATOMIC_RELAXED);
    }
    own.n_kept = 0;
  }

  // One thread after the other.
  void finish(Interval<T>* common, int n) {
    for (int i = 0; i < n; ++i) {
      Interval<T>& v = common[i];
      if (v.is_tail()) {
        merge_tail(v, intervals[i], arena);
        continue;
      }
      move(intervals[i], v);
      v.below_high += intervals[i].below_high;
      v.at_low += intervals[i].at_low;
      v.at_high += intervals[i].at_high;
    }
  }
};

// The segments of a set, read by several threads.
template <bool magnitude, bool ties, class E>
struct ThreadedRead {
  using T = Element<E>;
  const Set<E, magnitude>* set;
  Interval<T>* common;
  int n_intervals;
  T* memory;           // of the first thread
  int64_t per_thread;  // elements
  State<T>* moments;   // of each segment; may be null

  ThreadIntervals<T>& of(int worker) const {
    return *reinterpret_cast<ThreadIntervals<T>*>(memory + worker * per_thread);
  }
  void read(int64_t segment, int worker) const {
    ThreadIntervals<T>& own = of(worker);
    State<T>* const own_moments = moments == nullptr ? nullptr : moments + segment;
    if (own_moments != nullptr) {
      *own_moments = {};
      if (set->moments->counters) own_moments->counters = set->moments->counters + worker * kBitCounterWords;
    }
    const auto make_room = [&](Interval<T>& v) {
      if (v.is_tail()) {
        drop(v);
      } else {
        ThreadIntervals<T>::move(v, common[&v - own.intervals]);
      }
    };
    Plan part;
    own.n_nan += read_blocks<magnitude, ties, E>(set->segment_reader(segment, part, own.block), own_moments,
                                                 own.intervals, n_intervals, own.spare, own.arena, make_room);
  }
  int64_t run(int threads) {
    for (int w = 0; w < threads; ++w) of(w).begin(memory + w * per_thread, common, n_intervals);
    const auto task = [](void* context, int64_t segment, int worker) noexcept {
      static_cast<const ThreadedRead*>(context)->read(segment, worker);
    };
    set->reading->parallel(set->segments(), threads, task, this);
    int64_t n_nan = 0;
    for (int w = 0; w < threads; ++w) {
      of(w).finish(common, n_intervals);
      n_nan += of(w).n_nan;
    }
    for (int i = 0; i < n_intervals; ++i) {
      if (!common[i].is_tail()) common[i].n_kept -= common[i].n_dropped;
    }
    for (int64_t k = 0; moments != nullptr && k < set->segments(); ++k) add_segment(moments[k], *set->moments);
    return n_nan;
  }
};

// Reads a set once for all intervals, by as many threads as `arena` has room for; see read_blocks(). What is kept is in
// any order. Moments are added segment by segment, as in a reduction.
template <bool magnitude, bool ties, class E>
int64_t read_set(const Set<E, magnitude>& set, Interval<Element<E>>* intervals, int n_intervals, Element<E>* spare,
                 Arena<Element<E>> arena) {
  using T = Element<E>;
  const int64_t segments = set.segments();
  if (segments > 1 && set.reading->threads > 1) {
    const Arena<T> all = arena;
    arena.take(static_cast<int64_t>((64 - reinterpret_cast<uintptr_t>(arena.at) % 64) % 64 / sizeof(T)));
    ThreadedRead<magnitude, ties, E> read{&set, intervals, n_intervals, nullptr, 0, nullptr};
    if (set.moments != nullptr) {
      T* const states = arena.take(whole_lines<T>(segments * static_cast<int64_t>(sizeof(State<T>) / sizeof(T))));
      read.moments = reinterpret_cast<State<T>*>(states);
    }
    read.per_thread = ThreadIntervals<T>::elements(intervals, n_intervals);
    read.memory = arena.at;
    const int64_t room = arena.room() / read.per_thread;
    const int threads = room < set.reading->threads ? static_cast<int>(room) : set.reading->threads;
    if (threads > 1) return read.run(threads);
    arena = all;
  }
  const auto make_room = [](Interval<T>& v) { drop(v); };
  if (set.moments == nullptr || segments == 1) {
    return read_blocks<magnitude, ties, E>(set.large_reader(), set.moments, intervals, n_intervals, spare, arena,
                                           make_room);
  }
  int64_t n_nan = 0;
  for (int64_t k = 0; k < segments; ++k) {
    Plan part;
    State<T> moments;
    moments.counters = set.moments->counters;
    n_nan += read_blocks<magnitude, ties, E>(set.segment_reader(k, part, set.block), &moments, intervals, n_intervals,
                                             spare, arena, make_room);
    add_segment(moments, *set.moments);
  }
  return n_nan;
}

}  // namespace
