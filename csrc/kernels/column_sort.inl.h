// Sorts the columns of a strip in cache: a sorting network whose wires are rows and whose lanes are columns.
//
// A strip holds kStrip columns, row after row, without gaps. Blocks of rows are sorted in registers by Batcher's
// odd-even merge sort; sorted runs are then merged two by two: the second run is met in reverse (the flip), and
// half-cleaners of falling distance finish. Every comparison puts the smaller value first, so rows behind the end may
// be thought of as +Inf and are never touched: any number of rows works. One pass over memory does as many levels as
// the registers hold.
#pragma once

#include "kernels/iterate.inl.h"

namespace {

constexpr int kStrip = 16;  // columns of a strip: a cache line of floats, whatever the instruction set

// Rows that one pass holds in registers.
constexpr int kPassLevels = kLanes == 16 ? 4 : 3;
constexpr int kPassRows = 1 << kPassLevels;

template <class V>
QS_INLINE void compare_exchange(V& a, V& b) {
  const V low = min(a, b);
  b = max(a, b);
  a = low;
}

// Merges the sorted even and odd subsequences (distance `step`) of v[first, first + n).
template <int first, int n, int step, class V>
QS_INLINE void odd_even_merge(V* v) {
  if constexpr (2 * step < n) {
    odd_even_merge<first, n, 2 * step>(v);
    odd_even_merge<first + step, n, 2 * step>(v);
#pragma GCC unroll 16
    for (int i = first + step; i + step < first + n; i += 2 * step) compare_exchange(v[i], v[i + step]);
  } else {
    compare_exchange(v[first], v[first + step]);
  }
}

template <int first, int n, class V>
QS_INLINE void odd_even_sort(V* v) {
  if constexpr (n > 1) {
    odd_even_sort<first, n / 2>(v);
    odd_even_sort<first + n / 2, n / 2>(v);
    odd_even_merge<first, n, 1>(v);
  }
}

// Half-cleaners of the distances n/2, n/4, ..., 1.
template <int first, int n, class V>
QS_INLINE void half_clean(V* v) {
  if constexpr (n > 1) {
#pragma GCC unroll 16
    for (int i = first; i < first + n / 2; ++i) compare_exchange(v[i], v[i + n / 2]);
    half_clean<first, n / 2>(v);
    half_clean<first + n / 2, n / 2>(v);
  }
}

enum class NetworkPass { sort, flip, clean };

// One register load of `rows` rows: row(j) is base + j * step for the first half, second + j * step for the second
// half.
template <NetworkPass pass, int rows, bool whole, class V, class T>
QS_INLINE void network_pass(T* x, int64_t base, int64_t second, int64_t step, int64_t n) {
  V v[rows];
#pragma GCC unroll 16
  for (int j = 0; j < rows; ++j) {
    const int64_t row = j < rows / 2 ? base + j * step : second + (j - rows / 2) * step;
    v[j] = whole || row < n ? load(x + row * kStrip) : set1(static_cast<T>(__builtin_inf()));
  }
  if constexpr (pass == NetworkPass::sort) {
    odd_even_sort<0, rows>(v);
  } else if constexpr (pass == NetworkPass::flip) {
#pragma GCC unroll 16
    for (int j = 0; j < rows / 2; ++j) compare_exchange(v[j], v[rows - 1 - j]);
    half_clean<0, rows / 2>(v);
    half_clean<rows / 2, rows / 2>(v);
  } else {
    half_clean<0, rows>(v);
  }
#pragma GCC unroll 16
  for (int j = 0; j < rows; ++j) {
    const int64_t row = j < rows / 2 ? base + j * step : second + (j - rows / 2) * step;
    if (whole || row < n) store(x + row * kStrip, v[j]);
  }
}

// The flip of two runs of `half` rows that begin at `first`, and the next levels that fit into `rows` registers.
template <int rows, class V, class T>
void flip_runs(T* x, int64_t first, int64_t half, int64_t n) {
  const int64_t step = 2 * half / rows;
  for (int64_t i = 0; i < step; ++i) {
    const int64_t second = first + half + step - 1 - i;
    if (second + (rows / 2 - 1) * step < n) {
      network_pass<NetworkPass::flip, rows, true, V>(x, first + i, second, step, n);
    } else if (second < n) {
      network_pass<NetworkPass::flip, rows, false, V>(x, first + i, second, step, n);
    } else {
      // Nothing to flip with: the half-cleaners of this pass alone, on a run that is already sorted, would change
      // nothing.
    }
  }
}

// Half-cleaners of the distances kPassRows / 2 * step, ..., step on rows [first, end).
template <class V, class T>
void clean_rows(T* x, int64_t first, int64_t end, int64_t step, int64_t n) {
  for (int64_t base = first; base < end && base < n; base += kPassRows * step) {
    for (int64_t i = base; i < base + step && i < n; ++i) {
      const int64_t second = i + kPassRows / 2 * step;
      if (second + (kPassRows / 2 - 1) * step < n) {
        network_pass<NetworkPass::clean, kPassRows, true, V>(x, i, second, step, n);
      } else {
        network_pass<NetworkPass::clean, kPassRows, false, V>(x, i, second, step, n);
      }
    }
  }
}

// One vector of columns.
template <class V, class T>
void sort_lanes(T* x, int64_t n) {
  for (int64_t i = 0; i < n; i += kPassRows) {
    if (i + kPassRows <= n) {
      network_pass<NetworkPass::sort, kPassRows, true, V>(x, i, i + kPassRows / 2, 1, n);
    } else {
      network_pass<NetworkPass::sort, kPassRows, false, V>(x, i, i + kPassRows / 2, 1, n);
    }
  }
  int levels = kPassLevels + 1;
  for (int64_t half = kPassRows; half < n; half *= 2, ++levels) {
    const int flip_levels = (levels - 1) % kPassLevels + 1;
    for (int64_t first = 0; first + half < n; first += 2 * half) {
      switch (flip_levels) {
        case 1:
          flip_runs<2, V>(x, first, half, n);
          break;
        case 2:
          flip_runs<4, V>(x, first, half, n);
          break;
        case 3:
          flip_runs<8, V>(x, first, half, n);
          break;
        default:
          flip_runs<kPassRows, V>(x, first, half, n);
          break;
      }
      for (int64_t step = (2 * half >> flip_levels) / kPassRows; step > 0; step /= kPassRows) {
        clean_rows<V>(x, first, first + 2 * half, step, n);
      }
    }
  }
}

// Sorts every column of a strip of n rows in ascending order. The strip holds no NaN.
template <class T>
void sort_strip(T* strip, int64_t n) {
  using V = Vector<T>;
  for (int i = 0; i < kStrip; i += V::lanes) sort_lanes<V>(strip + i, n);
}

}  // namespace
