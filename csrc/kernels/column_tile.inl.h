// Reads up to kTileColumns columns of any Plan as strips: elements converted to float or double, NaN turned into +Inf
// and counted.
#pragma once

#include "kernels/column_sort.inl.h"

namespace {

constexpr int kTileStrips = 4;
constexpr int kTileColumns = kTileStrips * kStrip;
constexpr int kPanelRows = 64;  // rows that are read at a time

// One value of type X for each column of a tile.
template <class X>
struct PerColumn {
  alignas(64) X at[kTileColumns];
  X& operator[](int64_t i) { return at[i]; }
  const X& operator[](int64_t i) const { return at[i]; }
  void fill(X value) {
    for (X& x : at) x = value;
  }
};

// Places of the columns of one tile. A column is one output; its elements are the reduced elements of the plan.
struct TileColumns {
  int n = 0;
  bool contiguous = false;    // the columns lie side by side in memory
  int64_t in[kTileColumns];   // bytes from plan.data
  int64_t out[kTileColumns];  // output element
};

// Cuts the outputs of a plan into tiles of at most `most` columns. Rows of at least a strip are not mixed with their
// neighbours, so that they stay contiguous.
class TileWalk {
 public:
  TileWalk(const Plan& plan, int most) : plan_(plan), most_(most), kept_(plan.kept, plan.n_kept) {}

  bool next(TileColumns& tile) {
    if (done_) return false;
    const bool rows = plan_.n_kept > 0 && plan_.kept[0].stride == plan_.item && plan_.kept[0].size >= kStrip;
    tile.n = 0;
    tile.contiguous = true;
    while (!done_ && tile.n < most_) {
      tile.in[tile.n] = kept_.in;
      tile.out[tile.n] = plan_.out_offset + kept_.out;
      tile.contiguous = tile.contiguous && tile.in[tile.n] == tile.in[0] + tile.n * plan_.item;
      ++tile.n;
      done_ = !kept_.next();
      if (rows && kept_.index[0] == 0) break;
    }
    return true;
  }

 private:
  const Plan& plan_;
  int most_;
  Odometer kept_;
  bool done_ = false;
};

// Offsets of the rows along some axes, in their order, the first being `begin`.
class RowWalk {
 public:
  RowWalk(const Axis* axes, int n, int64_t begin = 0) : odometer_(axes, n), begin_(begin) {}

  // The next rows, at most kPanelRows; zero behind the last.
  int next(int64_t* offsets) {
    int n = 0;
    while (more_ && n < kPanelRows) {
      offsets[n++] = begin_ + odometer_.in;
      more_ = odometer_.next();
    }
    return n;
  }

 private:
  Odometer odometer_;
  int64_t begin_;
  bool more_ = true;
};

// Few columns side by side, whose rows follow one another in memory: one long run, the channels of an image. `times`
// rows are read as one, so that every lane has a column to work for: lane c + k * columns works for column c.
class FoldedRows {
 public:
  // `times` is 1 where rows cannot be folded.
  void set(const Plan& plan, const TileColumns& columns) {
    columns_ = columns.n;
    times = 1;
    if (plan.n_reduced == 0 || !columns.contiguous || plan.reduced[0].stride != columns.n * plan.item) return;
    const int most = kTileColumns / columns.n;
    if (most < 2 || plan.reduced[0].size < most) return;
    times = most;
    lanes.n = times * columns.n;
    lanes.contiguous = true;
    lanes.in[0] = columns.in[0];
    n_axes_ = plan.n_reduced;
    for (int i = 0; i < n_axes_; ++i) folded_[i] = rest_[i] = plan.reduced[i];
    folded_[0] = {plan.reduced[0].size / times, plan.reduced[0].stride * times, 0};
    rest_[0].size = plan.reduced[0].size % times;
  }
  RowWalk rows() const { return {folded_, n_axes_}; }
  bool has_rest() const { return rest_[0].size > 0; }
  RowWalk rest() const { return {rest_, n_axes_, folded_[0].size * folded_[0].stride}; }

  // Gives every lane what is known of its column.
  template <class X>
  void spread(PerColumn<X>& values) const {
    for (int lane = columns_; lane < columns_ * times; ++lane) values[lane] = values[lane - columns_];
  }
  // Adds what the lanes of a column have counted to the column.
  template <class X>
  void add_up(PerColumn<X>& values) const {
    each_lane([&](int lane, int c) { values[c] += values[lane]; });
  }
  // Calls visit(lane, column) for the lanes that are no columns themselves.
  template <class Visit>
  void each_lane(Visit visit) const {
    for (int lane = columns_; lane < columns_ * times; ++lane) visit(lane, lane % columns_);
  }

  int times = 1;
  TileColumns lanes;  // only what load_rows() reads of contiguous columns

 private:
  int columns_ = 0;
  int n_axes_ = 0;
  Axis folded_[kMaxDims];
  Axis rest_[kMaxDims];
};

// One row out of each of `count` strata of equal size, at a place that a hash chooses: no period in the data can hide
// from it.
class SampledRowWalk {
 public:
  SampledRowWalk(const Plan& plan, int64_t count) : plan_(plan), count_(count) {}

  int next(int64_t* offsets) {
    int n = 0;
    for (; n < kPanelRows && at_ < count_; ++n, ++at_) {
      const int64_t begin = stratum(at_);
      uint64_t hash = static_cast<uint64_t>(at_ + 1) * 0x9e3779b97f4a7c15;
      hash = (hash ^ (hash >> 29)) * 0xbf58476d1ce4e5b9;
      hash ^= hash >> 32;
      int64_t row = begin + static_cast<int64_t>(hash % static_cast<uint64_t>(stratum(at_ + 1) - begin));
      int64_t offset = 0;
      for (int i = 0; i < plan_.n_reduced; ++i) {
        offset += row % plan_.reduced[i].size * plan_.reduced[i].stride;
        row /= plan_.reduced[i].size;
      }
      offsets[n] = offset;
    }
    return n;
  }

 private:
  int64_t stratum(int64_t i) const { return i * (plan_.count / count_) + i * (plan_.count % count_) / count_; }

  const Plan& plan_;
  int64_t count_;
  int64_t at_ = 0;
};

template <bool absolute, class E>
Element<E> magnitude(E x) {
  const Element<E> value = element(x);
  return absolute && value < 0 ? -value : value;
}

// strips[g][row] = 16 columns; `strips` has `strip_stride` elements from strip to strip. Adds to nan[column].
// Columns behind the last of the tile hold zero, or what was there before.
template <bool absolute, class E>
void load_rows(const Plan& plan, const TileColumns& tile, const int64_t* offsets, int rows, Element<E>* strips,
               int64_t strip_stride, int64_t* nan) {
  using T = Element<E>;
  using V = Vector<E>;
  const T inf = static_cast<T>(__builtin_inf());
  if (tile.contiguous && tile.n > 1) {
    for (int r = 0; r < rows; ++r) {
      const E* x = reinterpret_cast<const E*>(plan.data + tile.in[0] + offsets[r]);
      for (int i = 0; i < tile.n; i += V::lanes) {
        const int left = tile.n - i;
        V v = left >= V::lanes ? load(x + i) : load_partial(x + i, left, set1(T(0)));
        if (absolute) v = abs(v);
        for (uint32_t bits = to_bits(unordered(v, v)); bits; bits &= bits - 1) ++nan[i + __builtin_ctz(bits)];
        store(strips + i / kStrip * strip_stride + r * kStrip + i % kStrip, min(v, set1(inf)));
      }
    }
    return;
  }
  const auto copy = [&](int r, int i) {
    T x = magnitude<absolute>(read<E>(plan.data + tile.in[i] + offsets[r]));
    if (x != x) {
      ++nan[i];
      x = inf;
    }
    strips[i / kStrip * strip_stride + r * kStrip + i % kStrip] = x;
  };
  if (plan.inner_reduced) {
    for (int i = 0; i < tile.n; ++i) {
      for (int r = 0; r < rows; ++r) copy(r, i);
    }
  } else {
    for (int r = 0; r < rows; ++r) {
      for (int i = 0; i < tile.n; ++i) copy(r, i);
    }
  }
}

}  // namespace
