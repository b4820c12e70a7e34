// Reductions of short rows that follow one another in memory, many rows at a time.
//
// Minimum and maximum: a window that starts at every element is widened by doubling, low[i] = min(low[i], low[i + w]),
// until it is as long as a row; what starts at the first element of a row is that row's. Windows that span two rows are
// computed as well and not used. The last step overlaps, which changes no extremum.
// Sum: the 32 lanes of a block are folded in the same way (reduce_block.inl.h); a row has no more elements than lanes.
// Rows that need a second look -- NaN, infinite extrema, a sum that is NaN -- are reduced one by one.
#pragma once

#include "kernels/reduce_block.inl.h"

namespace {

constexpr int kShortTile = 2048;  // elements reduced at a time, which stay in the first-level cache

constexpr int64_t kShortRow = 16;  // longer rows are as fast one by one
constexpr int64_t kFewShortRows = 16;

template <class T>
struct ShortRowScratch {
  T low[kShortTile + kBlockPad];
  T high[kShortTile + kBlockPad];
  double sum[kShortTile + kBlockPad];
};

template <class E>
bool has_short_rows(const Plan& plan) {
  const int64_t item = sizeof(E);
  if (plan.n_reduced != 1 || plan.n_kept == 0 || kLanes == 1) return false;
  const Axis row = plan.reduced[0];
  return row.stride == item && row.size <= kShortRow && plan.kept[0].stride == row.size * item &&
         plan.kept[0].size >= kFewShortRows;
}

// Converts n elements for what is wanted of them; returns whether one is NaN. Zeros follow them.
template <unsigned want, class E>
bool load_short_rows(const E* x, int n, ShortRowScratch<Element<E>>& work) {
  using V = Vector<E>;
  const V zero = set1(Element<E>(0));
  auto odd = no_lanes(zero);
  const auto put = [&](int i, V v) {
    odd = mask_or(odd, unordered(v, v));
    if constexpr ((want & kOrder) != 0) store(work.low + i, v);
    if constexpr ((want & kSum) != 0) {
      vf64 part[2] = {set1(0.0), set1(0.0)};  // a lane begins with +0.0
      add_lanes<false>(part, v);
      for (int j = 0; j < V::lanes / kLanes64; ++j) store(work.sum + i + j * kLanes64, part[j]);
    }
  };
  int i = 0;
  for (; i + V::lanes <= n; i += V::lanes) put(i, load(x + i));
  if (i < n) put(i, load_partial(x + i, n - i, zero));
  return any(odd);
}

// A row has at least two elements: a plan drops axes of size one.
template <class T>
void widen_windows(int64_t row, int n, ShortRowScratch<T>& work) {
  using V = Vector<T>;
  // The first step reads the elements, which lie in `low`.
  const auto step = [&](const T* elements, int64_t shift) {
    for (int i = 0; i < n; i += V::lanes) {
      const V low = min(load(work.low + i), load(work.low + i + shift));
      const V high = max(load(elements + i), load(elements + i + shift));
      store(work.low + i, low);
      store(work.high + i, high);
    }
  };
  const T* elements = work.low;
  int64_t width = 1;
  for (; 2 * width <= row; width *= 2) {
    step(elements, width);
    elements = work.high;
  }
  if (width < row) step(elements, row - width);
}

template <class T>
void fold_short_rows(int64_t row, int n, ShortRowScratch<T>& work) {
  int64_t width = kSumLanes / 2;
  while (width >= row) width /= 2;
  if (width > 0 && row < 2 * width) {  // lanes behind the row are zero
    for (int64_t begin = 0; begin < n; begin += row) {
      double* const lane = work.sum + begin;
      for (int64_t i = 0; i < row - width; ++i) lane[i] += lane[i + width];
    }
    width /= 2;
  }
  for (; width > 0; width /= 2) {
    for (int i = 0; i < n; i += kLanes64) {
      store(work.sum + i, add(load(work.sum + i), load(work.sum + i + width)));
    }
  }
}

template <class T, class Value>
void write_column(void* to, int64_t begin, int64_t step, int64_t n, Value value) {
  if (to == nullptr) return;
  T* const out = static_cast<T*>(to) + begin;
  for (int64_t r = 0; r < n; ++r) out[r * step] = value(r);
}

// The values of `n` rows without NaN.
template <unsigned want, class T>
void write_short_rows(const ReduceOutput& out, int64_t begin, int64_t step, int64_t row, int64_t n,
                      const ShortRowScratch<T>& work) {
  if constexpr ((want & kOrder) != 0) {
    write_column<T>(out.min, begin, step, n, [&](int64_t r) { return work.low[r * row] + T(0); });
    write_column<T>(out.max, begin, step, n, [&](int64_t r) { return work.high[r * row] + T(0); });
    write_column<T>(out.abs_max, begin, step, n, [&](int64_t r) {
      const T low = work.low[r * row] < 0 ? -work.low[r * row] : work.low[r * row];
      const T high = work.high[r * row] < 0 ? -work.high[r * row] : work.high[r * row];
      return (low > high ? low : high) + T(0);
    });
  }
  if constexpr ((want & kSum) != 0) {
    write_column<double>(out.sum, begin, step, n, [&](int64_t r) { return work.sum[r * row]; });
  }
  int64_t* const counts[] = {out.nan, out.pos_inf, out.neg_inf};
  for (int64_t* count : counts) {
    write_column<int64_t>(count, begin, step, n, [](int64_t) { return 0; });
  }
}

template <unsigned want, class T>
bool needs_second_look(const ShortRowScratch<T>& work, int64_t first) {
  const T inf = static_cast<T>(__builtin_inf());
  bool special = false;
  if constexpr ((want & kOrder) != 0) special = work.low[first] == -inf || work.high[first] == inf;
  if constexpr ((want & kSum) != 0) special = special || work.sum[first] != work.sum[first];
  return special;
}

template <unsigned want, class E>
void reduce_short_rows(const Plan& plan, const ReduceOutput& out, void* scratch) {
  using T = Element<E>;
  static_assert(sizeof(ShortRowScratch<T>) <= kReduceScratchBytes, "raise kReduceScratchBytes");
  auto& work = *static_cast<ShortRowScratch<T>*>(scratch);
  __builtin_memset(&work, 0, sizeof work);  // windows reach behind the last row
  const int64_t row = plan.reduced[0].size;
  const Axis rows = plan.kept[0];
  const int64_t per_tile = kShortTile / row;
  Odometer kept(plan.kept + 1, plan.n_kept - 1);
  do {
    for (int64_t begin = 0; begin < rows.size; begin += per_tile) {
      const int64_t n = rows.size - begin < per_tile ? rows.size - begin : per_tile;
      const E* x = reinterpret_cast<const E*>(plan.data + kept.in + begin * rows.stride);
      const int64_t to = plan.out_offset + kept.out + begin * rows.out;
      const int elements = static_cast<int>(n * row);
      const bool odd = load_short_rows<want>(x, elements, work);
      if constexpr ((want & kOrder) != 0) widen_windows(row, elements, work);
      if constexpr ((want & kSum) != 0) fold_short_rows(row, elements, work);
      write_short_rows<want>(out, to, rows.out, row, n, work);
      for (int64_t r = 0; r < n; ++r) {
        if (!odd && !needs_second_look<want>(work, r * row)) continue;
        State<T> s;
        reduce_block<want>(x + r * row, row, s);
        write_result(out, to + r * rows.out, s, plan.count);
      }
    }
  } while (kept.next());
}

}  // namespace
