// What one read of a strip finds of each of its columns: brackets, tails, a census, sums. Lane = column.
//
// The functions take `rows` rows of a strip, and `column`, the first column of the strip within its tile; they add to
// what the rows before gave. NaN has been turned into +Inf.
#pragma once

#include "kernels/column_tile.inl.h"

namespace {

// Scratch memory in which a tile, or what is kept of it, is sorted; and the rows that fit.
constexpr size_t kSortBytes = size_t{960} << 10;
template <class T>
constexpr int kSortRows = static_cast<int>(kSortBytes / (kTileColumns * sizeof(T)));
constexpr int kTail = 4;      // smallest and greatest values that one read keeps
constexpr int kFewTails = 2;  // ... where these are enough

// Where a read puts what it finds of a bracket [low, high] of each column.
template <class T>
struct Bracketing {
  PerColumn<T> low;
  PerColumn<T> high;
  PerColumn<int64_t> below;       // values less than low
  PerColumn<int64_t> to_low;      // ... not greater than low
  PerColumn<int64_t> below_high;  // ... less than high
  PerColumn<int64_t> to_high;     // ... not greater than high
  PerColumn<int64_t> kept;        // values strictly inside, of which the first kSortRows were kept

  void begin() {
    below.fill(0);
    to_low.fill(0);
    below_high.fill(0);
    to_high.fill(0);
    kept.fill(0);
  }
};

template <class T>
void spread(const FoldedRows& fold, Bracketing<T>& b) {
  fold.spread(b.low);
  fold.spread(b.high);
}
// kept(lane) points to the first of the values kept of a lane, kStrip apart.
template <class T, class Kept>
void merge(const FoldedRows& fold, Bracketing<T>& b, Kept kept) {
  fold.add_up(b.below);
  fold.add_up(b.to_low);
  fold.add_up(b.below_high);
  fold.add_up(b.to_high);
  fold.each_lane([&](int lane, int c) {
    const T* from = kept(lane);
    T* to = kept(c);
    for (int64_t r = 0; r < b.kept[lane] && b.kept[c] + r < kSortRows<T>; ++r) {
      to[(b.kept[c] + r) * kStrip] = from[r * kStrip];
    }
    b.kept[c] += b.kept[lane];
  });
}

template <class V, class T>
QS_INLINE void add_counts(V counts, int64_t* to) {
  T lane[V::lanes];
  store(lane, counts);
  for (int i = 0; i < V::lanes; ++i) to[i] += static_cast<int64_t>(lane[i]);
}

// `column` is the first column of the strip.
template <class T>
void bracket_rows(const T* x, int rows, int column, Bracketing<T>& b, T* kept) {
  using V = Vector<T>;
  const V one = set1(T(1)), none = set1(T(0));
  for (int i = 0; i < kStrip; i += V::lanes) {
    const int c = column + i;
    const V low = load(&b.low[c]), high = load(&b.high[c]);
    V below = none, to_low = none, below_high = none, to_high = none;
    for (int r = 0; r < rows; ++r) {
      const V v = load(x + r * kStrip + i);
      const auto not_above_low = le(v, low);
      const auto less_than_high = lt(v, high);
      below = add(below, select(lt(v, low), one, none));
      to_low = add(to_low, select(not_above_low, one, none));
      below_high = add(below_high, select(less_than_high, one, none));
      to_high = add(to_high, select(le(v, high), one, none));
      for (uint32_t bits = to_bits(mask_and(less_than_high, mask_not(not_above_low))); bits; bits &= bits - 1) {
        const int lane = __builtin_ctz(bits);
        const int64_t n = b.kept[c + lane]++;
        if (n < kSortRows<T>) kept[n * kStrip + i + lane] = x[r * kStrip + i + lane];
      }
    }
    add_counts<V, T>(below, &b.below[c]);
    add_counts<V, T>(to_low, &b.to_low[c]);
    add_counts<V, T>(below_high, &b.below_high[c]);
    add_counts<V, T>(to_high, &b.to_high[c]);
  }
}

// The kTail smallest values of each column in ascending order, and the kTail greatest in descending order.
template <class T>
struct Tails {
  PerColumn<T> low[kTail];
  PerColumn<T> high[kTail];

  template <int n_tails>
  void begin() {
    for (int j = 0; j < n_tails; ++j) {
      low[j].fill(static_cast<T>(__builtin_inf()));
      high[j].fill(-static_cast<T>(__builtin_inf()));
    }
  }
};

// Keeps the `n_tails` first of them.
template <int n_tails, class T>
void keep_tails(const T* x, int64_t rows, int column, Tails<T>& tails) {
  using V = Vector<T>;
  for (int i = 0; i < kStrip; i += V::lanes) {
    V low[n_tails], high[n_tails];
    for (int j = 0; j < n_tails; ++j) {
      low[j] = load(&tails.low[j][column + i]);
      high[j] = load(&tails.high[j][column + i]);
    }
    for (int64_t r = 0; r < rows; ++r) {
      V smaller = load(x + r * kStrip + i), greater = smaller;
      for (int j = 0; j < n_tails; ++j) {
        compare_exchange(low[j], smaller);
        compare_exchange(greater, high[j]);
      }
    }
    for (int j = 0; j < n_tails; ++j) {
      store(&tails.low[j][column + i], low[j]);
      store(&tails.high[j][column + i], high[j]);
    }
  }
}

// Sums of floats in double, and what tells whether they are exact: no partial sum was rounded if all values are
// multiples of a unit of which the sum of their magnitudes holds at most 2^53.
struct Totals {
  PerColumn<double> sum;
  PerColumn<int32_t> least;  // the bits of the least magnitude but zero, less 1, sign bit set; INT32_MAX: all are zero

  void begin() {
    sum.fill(0);
    least.fill(INT32_MAX);
  }
  // Of `n` values, the greatest magnitude among them being `most`.
  bool exact(int c, int64_t n, float most) const {
    const auto exponent = [](uint32_t magnitude) {  // denormals have that of the least normal number
      const int e = static_cast<int>(magnitude >> 23);
      return e > 0 ? e : 1;
    };
    if (least[c] == INT32_MAX) return true;
    const int from = exponent((static_cast<uint32_t>(least[c]) + 1) & 0x7fffffff), to = exponent(bits_of(most));
    return to < 255 && (n << (to - from < 30 ? to - from : 30)) <= int64_t{1} << 29;
  }
};

// Keeps tails and adds all values to `totals`: of floats that lie in `rows` rows anywhere. Returns whether one is NaN;
// then nothing that was found is of use.
template <int n_tails, class E>
bool keep_tails_and_sums(const char* x, const int64_t* offsets, int rows, int column, Tails<float>& tails,
                         Totals& totals) {
  auto odd = no_lanes(set1(0.0f));
  for (int c = column; c < column + kStrip; c += kLanes) {
    vf32 low[n_tails], high[n_tails];
    for (int j = 0; j < n_tails; ++j) {
      low[j] = load(&tails.low[j][c]);
      high[j] = load(&tails.high[j][c]);
    }
    vf64 sum[kHalves];
    for (int h = 0; h < kHalves; ++h) sum[h] = load(&totals.sum[c + h * kLanes64]);
    vi32 least = load(&totals.least[c]);
    for (int r = 0; r < rows; ++r) {
      const vf32 v = load(reinterpret_cast<const E*>(x + offsets[r]) + (c - column));
      odd = mask_or(odd, unordered(v, v));
      vf32 smaller = v, greater = v;
      for (int j = 0; j < n_tails; ++j) {
        compare_exchange(low[j], smaller);
        compare_exchange(greater, high[j]);
      }
      least = min(least, add(bit_or(as_i32(v), set1(INT32_MIN)), set1(-1)));
      sum[0] = add(sum[0], widen<0>(v));
      if constexpr (kHalves == 2) sum[1] = add(sum[1], widen<1>(v));
    }
    for (int j = 0; j < n_tails; ++j) {
      store(&tails.low[j][c], low[j]);
      store(&tails.high[j][c], high[j]);
    }
    for (int h = 0; h < kHalves; ++h) store(&totals.sum[c + h * kLanes64], sum[h]);
    store(&totals.least[c], least);
  }
  return any(odd);
}

// The values that a mean or a median is taken of: those of rank begin, ..., begin + count - 1.
template <class T>
struct Survivors {
  PerColumn<T> first;  // the smallest and the greatest
  PerColumn<T> last;
  PerColumn<int64_t> begin;
  PerColumn<int64_t> count;
};

// What a read finds of the values in [first, last] of each column.
template <class T>
struct Census {
  PerColumn<T> first, last, least_finite, greatest_finite;  // the last two: the bounds within which values are finite
  PerColumn<T> min, max;                                    // of those
  PerColumn<int64_t> below, to_last, below_finite, to_finite;
};

template <class T>
void spread(const FoldedRows& fold, Census<T>& census) {
  fold.spread(census.first);
  fold.spread(census.last);
  fold.spread(census.least_finite);
  fold.spread(census.greatest_finite);
}
template <class T>
void merge(const FoldedRows& fold, Census<T>& census) {
  fold.each_lane([&](int lane, int c) {
    if (census.min[lane] < census.min[c]) census.min[c] = census.min[lane];
    if (census.max[lane] > census.max[c]) census.max[c] = census.max[lane];
  });
  fold.add_up(census.below);
  fold.add_up(census.to_last);
  fold.add_up(census.below_finite);
  fold.add_up(census.to_finite);
}

template <class T>
void take_census(const T* x, int rows, int column, Census<T>& census) {
  using V = Vector<T>;
  const V one = set1(T(1)), none = set1(T(0));
  for (int i = 0; i < kStrip; i += V::lanes) {
    const int c = column + i;
    const V first = load(&census.first[c]), last = load(&census.last[c]);
    const V least = load(&census.least_finite[c]), greatest = load(&census.greatest_finite[c]);
    V low = load(&census.min[c]), high = load(&census.max[c]);
    V below = none, to_last = none, below_finite = none, to_finite = none;
    for (int r = 0; r < rows; ++r) {
      const V v = load(x + r * kStrip + i);
      const auto too_small = lt(v, least), not_too_great = le(v, greatest);
      below = add(below, select(lt(v, first), one, none));
      to_last = add(to_last, select(le(v, last), one, none));
      below_finite = add(below_finite, select(too_small, one, none));
      to_finite = add(to_finite, select(not_too_great, one, none));
      low = min(select(too_small, low, v), low);
      high = max(select(not_too_great, v, high), high);
    }
    store(&census.min[c], low);
    store(&census.max[c], high);
    add_counts<V, T>(below, &census.below[c]);
    add_counts<V, T>(to_last, &census.to_last[c]);
    add_counts<V, T>(below_finite, &census.below_finite[c]);
    add_counts<V, T>(to_finite, &census.to_finite[c]);
  }
}

// Sums that do not depend on the order of their terms (Demmel and Nguyen, "Fast reproducible floating-point summation",
// 2013). A term is rounded to a multiple of a grid so coarse that no partial sum is rounded; the remainder goes to a
// finer grid, and so on. With two grids the error is below n * 2^(2 log2(n) - 103) of the greatest magnitude, less than
// plain addition loses.
constexpr int kMostGrids = 3;

struct Grids {
  PerColumn<double> grid[kMostGrids];  // 1.5 * 2^k: adding and subtracting it rounds to a multiple of 2^(k - 52)
  PerColumn<double> sum[kMostGrids];
  PerColumn<double> scale;  // keeps the coarsest grid of doubles finite
};

QS_INLINE double power_of_two(int exponent) {
  if (exponent < -1074) return 0;
  if (exponent < -1022) return double_from_bits(uint64_t{1} << (exponent + 1074));
  return double_from_bits(static_cast<uint64_t>(exponent + 1023) << 52);
}

template <class T>
void begin_sums(const Survivors<T>& survivors, int n_columns, int64_t rows, Grids& grids) {
  int spread = 2;  // 2^spread >= 2 * rows
  while (spread < 62 && (int64_t{1} << (spread - 1)) < rows) ++spread;
  for (int c = 0; c < n_columns; ++c) {
    const double low = __builtin_fabs(static_cast<double>(survivors.first[c]));
    const double high = __builtin_fabs(static_cast<double>(survivors.last[c]));
    // No survivor: the bounds are infinite, and no term is added.
    const double most = low > high ? low : high;
    int exponent = static_cast<int>(bits_of(most) >> 52) - 1022;  // most < 2^exponent
    constexpr int huge = 900, shift = 256;
    grids.scale[c] = exponent > huge ? power_of_two(-shift) : 1.0;
    if (exponent > huge) exponent -= shift;
    for (int k = 0; k < kMostGrids; ++k) {
      exponent += spread;
      grids.grid[k][c] = 1.5 * power_of_two(exponent > 1022 ? 1022 : exponent);
      grids.sum[k][c] = 0;
      exponent -= 53;
    }
  }
}

template <class T>
void spread(const FoldedRows& fold, Survivors<T>& survivors, Grids& grids) {
  fold.spread(survivors.first);
  fold.spread(survivors.last);
  fold.spread(grids.scale);
  for (int k = 0; k < kMostGrids; ++k) {
    fold.spread(grids.grid[k]);
    fold.spread(grids.sum[k]);
  }
}
// Exact, as any other order of adding.
inline void merge(const FoldedRows& fold, Grids& grids) {
  for (int k = 0; k < kMostGrids; ++k) fold.add_up(grids.sum[k]);
}

QS_INLINE void add_to_grids(const vf64* grid, vf64* sum, int grids, int stride, vf64 term) {
  for (int k = 0; k < grids; ++k) {
    const vf64 rounded = sub(add(grid[k * stride], term), grid[k * stride]);
    sum[k * stride] = add(sum[k * stride], rounded);
    term = sub(term, rounded);
  }
}

template <int n_grids, class T>
void sum_rows(const T* x, int64_t rows, int column, const Survivors<T>& survivors, Grids& grids) {
  using V = Vector<T>;
  constexpr int doubles = V::lanes / kLanes64;
  for (int i = 0; i < kStrip; i += V::lanes) {
    const int c = column + i;
    const V first = load(&survivors.first[c]), last = load(&survivors.last[c]);
    vf64 grid[n_grids * doubles], sum[n_grids * doubles];
    for (int k = 0; k < n_grids; ++k) {
      for (int d = 0; d < doubles; ++d) {
        grid[k * doubles + d] = load(&grids.grid[k][c + d * kLanes64]);
        sum[k * doubles + d] = load(&grids.sum[k][c + d * kLanes64]);
      }
    }
    const vf64 scale = load(&grids.scale[c]);
    for (int64_t r = 0; r < rows; ++r) {
      V v = load(x + r * kStrip + i);
      v = select(mask_and(ge(v, first), le(v, last)), v, set1(T(0)));
      if constexpr (sizeof(T) == sizeof(double)) {
        add_to_grids(grid, sum, n_grids, doubles, mul(v, scale));
      } else {
        add_to_grids(grid, sum, n_grids, doubles, widen<0>(v));
        if constexpr (doubles == 2) add_to_grids(grid + 1, sum + 1, n_grids, doubles, widen<1>(v));
      }
    }
    for (int k = 0; k < n_grids; ++k) {
      for (int d = 0; d < doubles; ++d) store(&grids.sum[k][c + d * kLanes64], sum[k * doubles + d]);
    }
  }
}

}  // namespace
