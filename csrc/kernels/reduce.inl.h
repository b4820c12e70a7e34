// Reductions: minimum, maximum, largest magnitude, sum, counts of NaN and of either infinity, in one read.
//
// A set is cut into blocks as BlockReader does it: long runs along the innermost reduced axis into blocks of their own,
// short ones packed. Blocks are added in order (reduce_block.inl.h). In a column reduction every column is added row by
// row in panels of kPanel rows, and panels are added in order; narrow rows are folded first. Short rows one after the
// other have a file of their own.
#pragma once

#include "kernels/reduce_block.inl.h"
#include "kernels/reduce_short.inl.h"

namespace {

constexpr int kPanel = 8;        // rows of a column reduction between two updates of the running values
constexpr int kFoldTo = 32;      // elements that a folded row is a multiple of where it can be: two vectors of 512 bits
constexpr int kMostFolded = 16;  // rows that become one
constexpr int kColumns = 1024;   // columns of one tile, gaps of strided columns included

// Rows of several lines are read a few lines of each in turn: hardware does not follow, so rows far from the caches are
// asked for as many bytes before they are read.
constexpr int64_t kLeastAskedFor = 256;
constexpr int64_t kMostAskedFor = 2048;
constexpr int64_t kAskAhead = 8192;
constexpr int64_t kLine = 64;
constexpr int64_t kLeastFarRun = int64_t{1} << 20;  // bytes of a run of which the same is done

// Every `step`-th element of a run, for order statistics: whole lines are read. The members of `step` vectors fill one:
// each vector brings some, in lanes of their own. Where `step` shares a factor with the lanes, later vectors begin some
// elements earlier, which moves their members to lanes still free.
template <int step, class E>
void reduce_periodic(const E* x, int64_t n, State<Element<E>>& s) {
  using T = Element<E>;
  using V = Vector<E>;
  constexpr int shared = (step & -step) < V::lanes ? (step & -step) : V::lanes;
  const auto begin_of = [](int j) { return j * V::lanes - j / (step / shared); };
  typename V::mask member[step];
  T flag[V::lanes];
  for (int j = 0; j < step; ++j) {
    for (int i = 0; i < V::lanes; ++i) flag[i] = (begin_of(j) + i) % step == 0 ? T(1) : T(0);
    member[j] = eq(load(flag), set1(T(1)));
  }
  constexpr int64_t period = static_cast<int64_t>(step) * V::lanes;
  constexpr int64_t chunk = kBlock / V::lanes * period;  // kBlock members
  const int64_t span = (n - 1) * step + 1;
  const bool ask = span * static_cast<int64_t>(sizeof(E)) > kLeastFarRun;
  for (int64_t begin = 0; begin < span; begin += chunk) {
    const int64_t end = begin + chunk < span ? begin + chunk : span;
    V low = set1(static_cast<T>(__builtin_inf())), high = set1(static_cast<T>(-__builtin_inf()));
    auto odd = no_lanes(low);
    int64_t i = begin;
    for (; i + period <= end; i += period) {
      const char* const ahead = reinterpret_cast<const char*>(x + i) + kAskAhead;
      for (int64_t b = 0; ask && b < period * static_cast<int64_t>(sizeof(E)); b += kLine) prefetch(ahead + b);
      V v = whole(load(x + i));
#pragma GCC unroll 8
      for (int j = 1; j < step; ++j) v = select(member[j], whole(load(x + i + begin_of(j))), v);
      low = min(v, low);
      high = max(v, high);
      odd = mask_or(odd, unordered(v, v));
    }
    T chunk_min = reduce_min(low), chunk_max = reduce_max(high);
    bool special = any(odd);
    for (; i < end; i += step) {
      const T v = element(read<E>(x + i));
      if (v < chunk_min) chunk_min = v;
      if (v > chunk_max) chunk_max = v;
      special = special || v != v;
    }
    if (chunk_min < s.min) s.min = chunk_min;
    if (chunk_max > s.max) s.max = chunk_max;
    if (special || chunk_min == static_cast<T>(-__builtin_inf()) || chunk_max == static_cast<T>(__builtin_inf())) {
      for (int64_t k = begin; k < end; k += step) count_one(element(read<E>(x + k)), s);
    }
  }
}

template <unsigned want, class E>
void reduce_run(const char* p, int64_t n, int64_t stride, State<Element<E>>& s, E* buffer) {
  const int64_t item = sizeof(E);
  if (stride == item) {
    const E* x = reinterpret_cast<const E*>(p);
    for (int64_t i = 0; i < n; i += kBlock) reduce_block<want>(x + i, n - i < kBlock ? n - i : kBlock, s);
    return;
  }
  if constexpr (want == kOrder) {
    const E* x = reinterpret_cast<const E*>(p);
    switch (stride % item == 0 ? stride / item : 0) {
      case 2:
        return reduce_periodic<2>(x, n, s);
      case 3:
        return reduce_periodic<3>(x, n, s);
      case 4:
        return reduce_periodic<4>(x, n, s);
      case 5:
        return reduce_periodic<5>(x, n, s);
      case 6:
        return reduce_periodic<6>(x, n, s);
      case 7:
        return reduce_periodic<7>(x, n, s);
      case 8:
        return reduce_periodic<8>(x, n, s);
      default:
        break;
    }
  }
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t m = n - i < kBlock ? n - i : kBlock;
    gather(buffer, p + i * stride, stride, m);
    reduce_block<want>(buffer, m, s);
  }
}

constexpr int64_t kInterleaved = 1024;  // outputs whose runs are read in turn

// Rows of several runs, where the runs of other rows lie between them, as those of the channels of NCHW: the runs of
// neighbouring rows are read in the order of memory. A row adds up its runs in the same order as by itself.
template <unsigned want, class E>
void reduce_interleaved_rows(const Plan& plan, const ReduceOutput& out, void* scratch) {
  using T = Element<E>;
  static_assert((kBlock + kBlockPad) * sizeof(T) + kInterleaved * sizeof(State<T>) <= kReduceScratchBytes,
                "raise kReduceScratchBytes");
  E* const buffer = static_cast<E*>(scratch);
  auto* const states = reinterpret_cast<State<T>*>(static_cast<T*>(scratch) + kBlock + kBlockPad);
  const Axis run = plan.reduced[0], rows = plan.kept[0];
  Odometer kept(plan.kept + 1, plan.n_kept - 1);
  do {
    for (int64_t begin = 0; begin < rows.size; begin += kInterleaved) {
      const int64_t n = rows.size - begin < kInterleaved ? rows.size - begin : kInterleaved;
      for (int64_t i = 0; i < n; ++i) {
        states[i] = {};
        states[i].counters = out.counters;
      }
      const char* const base = plan.data + kept.in + begin * rows.stride;
      Odometer outer(plan.reduced + 1, plan.n_reduced - 1);
      do {
        for (int64_t i = 0; i < n; ++i) {
          reduce_run<want>(base + outer.in + i * rows.stride, run.size, run.stride, states[i], buffer);
        }
      } while (outer.next());
      for (int64_t i = 0; i < n; ++i) {
        write_result(out, plan.out_offset + kept.out + (begin + i) * rows.out, states[i], plan.count);
      }
    }
  } while (kept.next());
}

template <unsigned want, class E>
void reduce_rows(const Plan& plan, const ReduceOutput& out, void* buffer) {
  const int64_t n = plan.n_reduced ? plan.reduced[0].size : 1;
  const int64_t stride = plan.n_reduced ? plan.reduced[0].stride : static_cast<int64_t>(sizeof(E));
  const int n_outer = plan.n_reduced ? plan.n_reduced - 1 : 0;
  const bool packs = n < kLongRun && n_outer > 0;
  if (!packs && n_outer > 0 && plan.n_kept > 0 && plan.kept[0].stride < plan.reduced[1].stride) {
    return reduce_interleaved_rows<want, E>(plan, out, buffer);
  }
  Odometer kept(plan.kept, plan.n_kept);
  do {
    State<Element<E>> s;
    s.counters = out.counters;
    if (packs) {
      BlockReader<E> reader(plan, plan.data + kept.in, static_cast<Element<E>*>(buffer));
      while (reader.next()) reduce_block<want>(reader.data, reader.size, s);
    } else {
      Odometer outer(plan.reduced + 1, n_outer);
      do {
        reduce_run<want>(plan.data + kept.in + outer.in, n, stride, s, static_cast<E*>(buffer));
      } while (outer.next());
    }
    write_result(out, plan.out_offset + kept.out, s, plan.count);
  } while (kept.next());
}

// The running values of a tile of columns.
template <class T>
struct Columns {
  T min[kColumns + kBlockPad];
  T max[kColumns + kBlockPad];
  double sum[kColumns + kBlockPad];
  int64_t nan[kColumns];
  int64_t pos_inf[kColumns];
  int64_t neg_inf[kColumns];
};

template <class T>
State<T> column(const Columns<T>& c, int64_t i) {
  State<T> s;
  s.min = c.min[i];
  s.max = c.max[i];
  s.sum = c.sum[i];
  s.nan = c.nan[i];
  s.pos_inf = c.pos_inf[i];
  s.neg_inf = c.neg_inf[i];
  return s;
}

// Adds up to kPanel rows of `width` columns.
template <unsigned want, class E>
void reduce_panel(const char* const* rows, int n_rows, int width, Columns<Element<E>>& c) {
  using T = Element<E>;
  using V = Vector<E>;
  constexpr int vectors = 2;
  constexpr int tile = vectors * V::lanes;
  constexpr int doubles = V::lanes / kLanes64;
  for (int at = 0; at < width; at += tile) {
    const int n = width - at < tile ? width - at : tile;
    V low[vectors], high[vectors];
    vf64 acc[vectors * doubles];
    for (int j = 0; j < vectors; ++j) {
      low[j] = set1(static_cast<T>(__builtin_inf()));
      high[j] = set1(static_cast<T>(-__builtin_inf()));
    }
    for (auto& a : acc) a = set1(0.0);
    auto odd = no_lanes(low[0]);
    for (int r = 0; r < n_rows; ++r) {
      const E* x = reinterpret_cast<const E*>(rows[r]) + at;
      V v[vectors];
      if (n == tile) {
        for (int j = 0; j < vectors; ++j) v[j] = load(x + j * V::lanes);
      } else {
        for (int j = 0; j < vectors; ++j) {
          v[j] = n > j * V::lanes ? load_partial(x + j * V::lanes, n - j * V::lanes, set1(T(0))) : set1(T(0));
        }
      }
      for (int j = 0; j < vectors; ++j) {
        if constexpr ((want & kOrder) != 0) {
          low[j] = min(v[j], low[j]);
          high[j] = max(v[j], high[j]);
        }
        if constexpr ((want & kSum) != 0) add_lanes<false>(acc + j * doubles, v[j]);
      }
      if constexpr ((want & kOrder) != 0) {
        for (int j = 0; j < vectors; j += 2) odd = mask_or(odd, unordered(v[j], v[j + 1]));
      }
    }
    bool special = any(odd);
    if constexpr ((want & kOrder) != 0) {
      for (int j = 0; j < vectors; ++j) {
        special = special || any(eq(low[j], set1(static_cast<T>(-__builtin_inf())))) ||
                  any(eq(high[j], set1(static_cast<T>(__builtin_inf()))));
        // Lanes behind the last column hold the fill, and in the last rows of a folded run they are live columns.
        const int lanes = n - j * V::lanes;
        if (lanes <= 0) break;
        T* c_min = c.min + at + j * V::lanes;
        T* c_max = c.max + at + j * V::lanes;
        const V lowest = min(low[j], load(c_min));
        const V highest = max(high[j], load(c_max));
        if (lanes >= V::lanes) {
          store(c_min, lowest);
          store(c_max, highest);
        } else {
          store_partial(c_min, lowest, lanes);
          store_partial(c_max, highest, lanes);
        }
      }
    }
    if constexpr ((want & kSum) != 0) {
      bool nan_sum = false;
      for (int j = 0; j < vectors * doubles; ++j) nan_sum = nan_sum || any(unordered(acc[j], acc[j]));
      if (nan_sum) {
        special = true;
        for (auto& a : acc) a = set1(0.0);
        for (int r = 0; r < n_rows; ++r) {
          const E* x = reinterpret_cast<const E*>(rows[r]) + at;
          for (int j = 0; j * V::lanes < n; ++j) {
            add_lanes<true>(acc + j * doubles, load_partial(x + j * V::lanes, n - j * V::lanes, set1(T(0))));
          }
        }
      }
      for (int j = 0; j < vectors * doubles; ++j) {
        double* sum = c.sum + at + j * kLanes64;
        store(sum, add(load(sum), acc[j]));
      }
    }
    if (special) {
      for (int i = at; i < at + n; ++i) {
        State<T> s;
        for (int r = 0; r < n_rows; ++r) count_one(element(read<E>(rows[r] + i * sizeof(E))), s);
        c.nan[i] += s.nan;
        c.pos_inf[i] += s.pos_inf;
        c.neg_inf[i] += s.neg_inf;
      }
    }
  }
}

// A function of its own, so that panels of rows that are not asked for stay as they are.
__attribute__((noinline)) void prefetch_rows(const char* const* rows, int n_rows, int64_t ahead, int64_t bytes) {
  __asm__ volatile("");  // without it the call has no effect that compilers know of
  for (int r = 0; r < n_rows; ++r) {
    for (int64_t b = 0; b < bytes; b += kLine) prefetch(rows[r] + ahead + b);
  }
}

template <class E>
struct ColumnScratch {
  Columns<Element<E>> columns;
  E rows[kPanel][kColumns];
};

template <unsigned want, class E>
void reduce_columns(const Plan& plan, const ReduceOutput& out, void* scratch) {
  using T = Element<E>;
  const int64_t item = sizeof(E);
  auto& work = *static_cast<ColumnScratch<E>*>(scratch);
  static_assert(sizeof(ColumnScratch<E>) <= kReduceScratchBytes, "raise kReduceScratchBytes");
  Columns<T>& c = work.columns;
  const Axis inner = plan.kept[0];

  // Columns a few elements apart are read with the gaps between them; further apart they are gathered into rows.
  const bool whole_lines = inner.stride % item == 0 && inner.stride >= item && inner.stride <= 8 * item;
  const int64_t step = whole_lines ? inner.stride / item : 1;
  const int64_t per_tile = (kColumns - 1) / step + 1;

  // Few columns whose rows follow one another: `fold` rows become one, so that vectors are full -- but no wider than it
  // takes, since panels of narrow rows are read in the order of memory.
  int64_t fold = kMostFolded;
  while (fold > 1 && inner.size * fold % (2 * kFoldTo) == 0) fold /= 2;
  Axis reduced[kMaxDims];
  for (int i = 0; i < plan.n_reduced; ++i) reduced[i] = plan.reduced[i];
  const bool folded = fold > 1 && step == 1 && whole_lines && inner.size * kMostFolded <= kColumns &&
                      plan.n_reduced > 0 && reduced[0].stride == inner.size * item && reduced[0].size >= fold;
  const int64_t folded_rows = folded ? reduced[0].size / fold : 0;
  const int64_t rest = folded ? reduced[0].size % fold : 0;
  if (folded) reduced[0] = {folded_rows, inner.size * item * fold, 0};
  const int64_t row_stride = plan.n_reduced > 0 ? reduced[0].stride : 0;

  Odometer kept(plan.kept + 1, plan.n_kept - 1);
  do {
    for (int64_t begin = 0; begin < inner.size; begin += per_tile) {
      const int64_t n = inner.size - begin < per_tile ? inner.size - begin : per_tile;
      const int width = static_cast<int>(folded ? n * fold : (n - 1) * step + 1);
      for (int i = 0; i < width; ++i) {
        c.min[i] = static_cast<T>(__builtin_inf());
        c.max[i] = static_cast<T>(-__builtin_inf());
        c.sum[i] = 0;
        c.nan[i] = c.pos_inf[i] = c.neg_inf[i] = 0;
      }
      const int64_t row_bytes = width * item;
      const bool ask = out.far && whole_lines && !folded && row_bytes >= kLeastAskedFor && row_bytes <= kMostAskedFor;
      const int64_t ask_at = kAskAhead / row_bytes * row_stride;
      const char* base = plan.data + kept.in + begin * inner.stride;
      const char* rows[kPanel];
      int filled = 0;
      Odometer row(reduced, plan.n_reduced);
      bool more = true;
      while (more) {
        const char* p = base + row.in;
        if (whole_lines) {
          rows[filled] = p;
        } else {
          gather(work.rows[filled], p, inner.stride, n);
          rows[filled] = reinterpret_cast<const char*>(work.rows[filled]);
        }
        ++filled;
        const bool last_of_run = folded && rest > 0 && row.index[0] == folded_rows - 1;
        more = row.next();
        if (filled == kPanel || !more || last_of_run) {
          if (ask) prefetch_rows(rows, filled, ask_at, row_bytes);
          reduce_panel<want, E>(rows, filled, width, c);
          filled = 0;
        }
        if (last_of_run) {
          const char* tail = p + inner.size * item * fold;
          reduce_panel<want, E>(&tail, 1, static_cast<int>(rest * n), c);
        }
      }
      for (int64_t i = 0; i < n; ++i) {
        State<T> s = column(c, i * step);
        for (int64_t k = 1; folded && k < fold; ++k) {
          const State<T> other = column(c, k * n + i);
          if (other.min < s.min) s.min = other.min;
          if (other.max > s.max) s.max = other.max;
          s.sum += other.sum;
          s.nan += other.nan;
          s.pos_inf += other.pos_inf;
          s.neg_inf += other.neg_inf;
        }
        write_result(out, plan.out_offset + kept.out + (begin + i) * inner.out, s, plan.count);
      }
    }
  } while (kept.next());
}

template <unsigned want, class E>
void reduce_typed(const Plan& plan, const ReduceOutput& out, void* scratch) {
  if (has_short_rows<E>(plan)) {
    reduce_short_rows<want, E>(plan, out, scratch);
  } else if (plan.inner_reduced) {
    reduce_rows<want, E>(plan, out, scratch);
  } else {
    reduce_columns<want, E>(plan, out, scratch);
  }
}

template <unsigned want>
void reduce(const Plan* plan, const ReduceOutput* out, void* scratch) {
  switch (plan->dtype) {
    case DType::float32:
      return reduce_typed<want, float>(*plan, *out, scratch);
    case DType::float64:
      return reduce_typed<want, double>(*plan, *out, scratch);
    case DType::float16:
      return reduce_typed<want, f16>(*plan, *out, scratch);
    case DType::bfloat16:
      return reduce_typed<want, bf16>(*plan, *out, scratch);
  }
}

void reduce_order(const Plan* plan, const ReduceOutput* out, void* scratch) noexcept {
  reduce<kOrder>(plan, out, scratch);
}
void reduce_sum(const Plan* plan, const ReduceOutput* out, void* scratch) noexcept { reduce<kSum>(plan, out, scratch); }
void reduce_all(const Plan* plan, const ReduceOutput* out, void* scratch) noexcept {
  reduce<kOrder | kSum>(plan, out, scratch);
}

}  // namespace
