// Order statistics of columns, each lane a column, and the mean and median of what lies within two of them.
//
// NaN is left out and counted; NaN where a column holds nothing else. A column's own count of NaN moves its own ranks
// only: NaN is read as +Inf, behind all values. Quantiles are those of order_statistics.inl.h, rounded once to the
// result; zero is +0.0. Results are functions of the values alone, not of their order: sums are exact, of all values in
// double (see Totals) or of values on fixed grids (see Grids).
//
// Up to kSortRows rows a tile of columns is copied to scratch memory and sorted there. Beyond, a sample of rows
// brackets the wanted ranks, then one read counts what lies below and keeps what lies inside; that is sorted. A column
// whose rank escapes its bracket, or whose bracket holds more than kSortRows values, gets a new one from a sample of
// its inside, and from the fourth time on the middle of the representable values that are left.
//
// Brackets are values of the data, and a rank that falls on an edge is answered by the edge: so ties -- the zeros of a
// ReLU -- cost nothing.
#pragma once

#include "kernels/column_passes.inl.h"
#include "kernels/order_statistics.inl.h"

namespace {

constexpr int64_t kSampleRows = 512;  // that a bracket is made of
constexpr int kAttemptsBySample = 3;
constexpr double kBracketSlack = 1.5;    // ... and what is added to it, in ranks of the sample
constexpr double kBracketSigmas = 3;     // half width of a bracket, in standard deviations of the rank of a sample
constexpr int64_t kMostTotalled = 1536;  // rows whose plain sum in double is mostly exact

template <class T>
struct ColumnWork {
  T rows[kTileStrips][kSortRows<T> * kStrip];
  T panel[kTileStrips][kPanelRows * kStrip];
};

// Integers in the order of the values.
QS_INLINE int64_t ordered(float x) {
  const auto bits = static_cast<int32_t>(bits_of(x));
  return bits < 0 ? static_cast<int64_t>(bits ^ 0x7fffffff) : bits;
}
QS_INLINE int64_t ordered(double x) {
  const auto bits = static_cast<int64_t>(bits_of(x));
  return bits < 0 ? bits ^ 0x7fffffffffffffff : bits;
}
QS_INLINE float from_ordered(int64_t i, float) {
  const auto bits = static_cast<int32_t>(i);
  return float_from_bits(static_cast<uint32_t>(bits < 0 ? bits ^ 0x7fffffff : bits));
}
QS_INLINE double from_ordered(int64_t i, double) {
  return double_from_bits(static_cast<uint64_t>(i < 0 ? i ^ 0x7fffffffffffffff : i));
}
// Half way between two values, rounded down; no overflow for any two int64.
QS_INLINE int64_t midpoint(int64_t a, int64_t b) { return (a >> 1) + (b >> 1) + (a & b & 1); }

// The least float that is not below x, and the greatest that is not above; NaN bounds nothing.
QS_INLINE double least_not_below(double x, double) { return x == x ? x : -__builtin_inf(); }
QS_INLINE double greatest_not_above(double x, double) { return x == x ? x : __builtin_inf(); }
QS_INLINE float least_not_below(double x, float) {
  if (x != x) return -__builtin_inff();
  const float y = static_cast<float>(x);
  return static_cast<double>(y) < x ? from_ordered(ordered(y == 0 ? 0.0f : y) + 1, y) : y;
}
QS_INLINE float greatest_not_above(double x, float) { return -least_not_below(-x, 0.0f); }

template <bool magnitude, class E>
class ColumnTile {
 public:
  using T = Element<E>;

  ColumnTile(const Plan& plan, void* scratch)
      : plan_(plan), work_(*static_cast<ColumnWork<T>*>(scratch)), walk_(plan, most_columns(plan)) {}

  bool next() {
    nan_.fill(0);
    nan_known_ = false;
    sorted_ = false;
    if (!walk_.next(columns_)) return false;
    if (plan_.count > kSortRows<T>) fold_.set(plan_, columns_);
    return true;
  }

  // Returns how many columns needed bisection.
  int64_t quantiles(const QuantileArguments& arguments) {
    const bool in_cache = plan_.count <= kSortRows<T>;
    if (in_cache) sort_all();
    int64_t bisected = 0;
    PerColumn<T> lower, upper;
    for (int j = 0; j < arguments.n_q; ++j) {
      if (!in_cache) bisected += select(&arguments.q[j], nullptr, nullptr, lower, upper);
      for (int c = 0; c < columns_.n; ++c) {
        const int64_t valid = plan_.count - nan_[c];
        double value = __builtin_nan("");
        if (valid > 0) {
          const Position at = position_of(arguments.q[j], valid);
          const T a = in_cache ? sorted(at.previous, c) : lower[c];
          const T b = in_cache ? sorted(at.next, c) : upper[c];
          value = interpolate(a, b, at.fraction);
        }
        write_value(arguments.values, j * plan_.outputs, c, value);
      }
    }
    write_nan(arguments.nan);
    return bisected;
  }

  void mean_no_outliers(double p, void* out, int64_t* nan) {
    Survivors<T> survivors;
    PerColumn<double> mean;  // NaN: not known yet
    mean.fill(__builtin_nan(""));
    find_survivors(p, survivors, &mean);
    totals_pay_ = false;
    for (int g = 0; g < strips(); ++g) totals_pay_ = totals_pay_ || known(mean, g * kStrip, kStrip);
    if (!known(mean, 0, kTileColumns)) mean_by_grids(survivors, mean);
    for (int c = 0; c < columns_.n; ++c) write_value(out, 0, c, mean[c]);
    write_nan(nan);
  }

  void median_no_outliers(double p, void* out, int64_t* nan) {
    Survivors<T> survivors;
    const bool in_cache = plan_.count <= kSortRows<T>;
    if (in_cache) sort_all();
    find_survivors(p, survivors);
    PerColumn<T> lower, upper;
    PerColumn<int64_t> lower_rank, upper_rank;
    lower_rank.fill(0);
    upper_rank.fill(0);
    for (int c = 0; c < columns_.n; ++c) {
      if (survivors.count[c] == 0) continue;
      const Position rank = position_of(0.5, survivors.count[c]);
      lower_rank[c] = survivors.begin[c] + rank.previous;
      upper_rank[c] = survivors.begin[c] + rank.next;
    }
    if (!in_cache) select(nullptr, &lower_rank, &upper_rank, lower, upper);
    for (int c = 0; c < columns_.n; ++c) {
      if (survivors.count[c] == 0) {
        write_value(out, 0, c, __builtin_nan(""));
        continue;
      }
      const T a = in_cache ? sorted(lower_rank[c], c) : lower[c];
      const T b = in_cache ? sorted(upper_rank[c], c) : upper[c];
      write_value(out, 0, c, interpolate(a, b, position_of(0.5, survivors.count[c]).fraction));
    }
    write_nan(nan);
  }

 private:
  // Long runs are folded one by one.
  static int most_columns(const Plan& plan) {
    const bool runs = plan.inner_reduced && plan.n_reduced > 0 && plan.reduced[0].stride == plan.item &&
                      plan.reduced[0].size >= 4 * kTileColumns;
    return runs && plan.count > kSortRows<T> ? 1 : kTileColumns;
  }

  static int strips_of(const TileColumns& columns) { return (columns.n + kStrip - 1) / kStrip; }
  int strips() const { return strips_of(columns_); }
  T sorted(int64_t rank, int c) const { return work_.rows[c / kStrip][rank * kStrip + c % kStrip]; }

  void write_value(void* out, int64_t offset, int c, double value) const {
    static_cast<T*>(out)[offset + columns_.out[c]] = static_cast<T>(value) + T(0);
  }
  void write_nan(int64_t* nan) const {
    for (int c = 0; nan != nullptr && c < columns_.n; ++c) nan[columns_.out[c]] = nan_[c];
  }

  // Whether the means of columns first, ..., first + n - 1 are.
  bool known(const PerColumn<double>& mean, int first, int n) const {
    for (int c = first; c < first + n && c < columns_.n; ++c) {
      if (mean[c] != mean[c]) return false;
    }
    return true;
  }

  // Finds the means that are not known.
  void mean_by_grids(Survivors<T>& survivors, PerColumn<double>& mean) {
    Grids grids;
    const PerColumn<double> infinite = leave_out_infinite(survivors);
    begin_sums(survivors, columns_.n, plan_.count, grids);
    const bool few = plan_.count <= 65536;
    const auto add = [&](const T* x, int64_t rows, int column) {
      if (few) {
        sum_rows<2>(x, rows, column, survivors, grids);
      } else {
        sum_rows<3>(x, rows, column, survivors, grids);
      }
    };
    if (plan_.count <= kSortRows<T>) {
      load_all();
      for (int g = 0; g < strips(); ++g) {
        if (!known(mean, g * kStrip, kStrip)) add(work_.rows[g], plan_.count, g * kStrip);
      }
    } else {
      visit_all([&](const T* x, int rows, int column) { add(x, rows, column); },
                [&] { spread(fold_, survivors, grids); }, [&] { merge(fold_, grids); });
    }
    for (int c = 0; c < columns_.n; ++c) {
      if (mean[c] == mean[c]) continue;
      double fine = grids.sum[1][c];
      if (!few) fine += grids.sum[2][c];
      const double of_grids = (grids.sum[0][c] + fine) / static_cast<double>(survivors.count[c]) / grids.scale[c];
      mean[c] = infinite[c] == 0 ? of_grids : infinite[c];
    }
  }

  // The mean of columns with infinities among their survivors, zero for the others. No term of the former is summed.
  PerColumn<double> leave_out_infinite(Survivors<T>& survivors) const {
    const double inf = __builtin_inf();
    PerColumn<double> mean;
    for (int c = 0; c < kTileColumns; ++c) {
      const bool any = c < columns_.n && survivors.count[c] > 0;
      const bool negative = any && survivors.first[c] == -static_cast<T>(inf);
      const bool positive = any && survivors.last[c] == static_cast<T>(inf);
      mean[c] = !any || (negative && positive) ? __builtin_nan("") : negative ? -inf : positive ? inf : 0.0;
      if (mean[c] != 0) {
        survivors.first[c] = static_cast<T>(inf);
        survivors.last[c] = -static_cast<T>(inf);
      }
    }
    return mean;
  }

  // Reads rows panel by panel: use(rows of a strip, number of rows, first column).
  template <class Rows, class Use>
  void visit(Rows rows, const TileColumns& columns, int64_t* nan, Use use) {
    int64_t offsets[kPanelRows];
    while (const int n = rows.next(offsets)) {
      load_rows<magnitude, E>(plan_, columns, offsets, n, work_.panel[0], kPanelRows * kStrip, nan);
      for (int g = 0; g < strips_of(columns); ++g) use(work_.panel[g], n, g * kStrip);
    }
  }
  // Visits all rows. The first visit counts NaN.
  template <class Use>
  void visit_all(Use use) {
    PerColumn<int64_t> nan;
    nan.fill(0);
    visit(RowWalk(plan_.reduced, plan_.n_reduced), columns_, nan.at, use);
    learn_nan(nan);
  }
  // The same for a use that works in all lanes of folded rows: what it finds there is merged into the columns.
  template <class Use, class Spread, class Merge>
  void visit_all(Use use, Spread spread_to_lanes, Merge merge_lanes) {
    if (fold_.times == 1) return visit_all(use);
    PerColumn<int64_t> nan;
    nan.fill(0);
    spread_to_lanes();
    visit(fold_.rows(), fold_.lanes, nan.at, use);
    fold_.add_up(nan);
    merge_lanes();
    if (fold_.has_rest()) visit(fold_.rest(), columns_, nan.at, use);
    learn_nan(nan);
  }
  void learn_nan(const PerColumn<int64_t>& nan) {
    if (!nan_known_) nan_ = nan;
    nan_known_ = true;
  }
  template <class Use>
  void visit_sample(int64_t count, Use use) {
    PerColumn<int64_t> unused;
    unused.fill(0);
    visit(SampledRowWalk(plan_, count), columns_, unused.at, use);
  }

  // All rows in scratch memory; only for plan.count <= kSortRows<T>.
  void load_all() {
    if (nan_known_) return;
    int64_t offsets[kPanelRows];
    RowWalk rows(plan_.reduced, plan_.n_reduced);
    int64_t at = 0;
    while (const int n = rows.next(offsets)) {
      load_rows<magnitude, E>(plan_, columns_, offsets, n, work_.rows[0] + at * kStrip, kSortRows<T> * kStrip, nan_.at);
      at += n;
    }
    nan_known_ = true;
  }
  void sort_all() {
    if (sorted_) return;
    load_all();
    for (int g = 0; g < strips(); ++g) sort_strip(work_.rows[g], plan_.count);
    sorted_ = true;
  }

  // Sorts the kept values of each strip; shorter columns are filled up with +Inf.
  void sort_kept(const PerColumn<int64_t>& kept) {
    for (int g = 0; g < strips(); ++g) {
      int64_t most = 0;
      for (int i = 0; i < kStrip; ++i) {
        const int64_t n = g * kStrip + i < columns_.n ? kept[g * kStrip + i] : 0;
        if (n > most) most = n;
      }
      if (most > kSortRows<T>) most = kSortRows<T>;
      for (int i = 0; i < kStrip; ++i) {
        const int64_t n = g * kStrip + i < columns_.n ? kept[g * kStrip + i] : 0;
        for (int64_t r = n; r < most; ++r) work_.rows[g][r * kStrip + i] = static_cast<T>(__builtin_inf());
      }
      sort_strip(work_.rows[g], most);
    }
  }

  // What is known of a wanted rank: its value lies in [least, most].
  struct Search {
    PerColumn<T> least;
    PerColumn<T> most;
    PerColumn<int64_t> before;  // at most so many values are less than `least`: all of lower rank
    PerColumn<int64_t> until;   // ranks of values not greater than `most` are lower than this
    PerColumn<int64_t> inside;  // at most so many values lie strictly between
    PerColumn<int8_t> found;    // 0: nothing, 1: the lower rank, 2: both

    void restart(int c, T value, int64_t rank, int64_t rows) {
      least[c] = value;
      most[c] = static_cast<T>(__builtin_inf());
      before[c] = rank;
      until[c] = rows;
      inside[c] = rows - rank;
    }
  };

  // The values of two neighbouring ranks of each column: those of the quantile q if it is given -- the ranks follow as
  // soon as NaN is counted --, else the given ones. For more rows than are sorted whole. Returns how many columns
  // needed bisection.
  int64_t select(const double* q, const PerColumn<int64_t>* lower_rank, const PerColumn<int64_t>* upper_rank,
                 PerColumn<T>& lower, PerColumn<T>& upper) {
    const T inf = static_cast<T>(__builtin_inf());
    const int64_t rows = plan_.count;
    Search search;
    PerColumn<int64_t> rank[2];
    for (int c = 0; c < kTileColumns; ++c) {
      search.restart(c, -inf, 0, rows);
      search.found[c] = c < columns_.n ? 0 : 2;
      lower[c] = upper[c] = inf;
      if (q == nullptr && c < columns_.n) {
        rank[0][c] = (*lower_rank)[c];
        rank[1][c] = (*upper_rank)[c];
      }
    }
    Bracketing<T> bracket;
    int64_t bisected = 0;
    bool searching = true;
    for (int attempt = 0; searching; ++attempt) {
      for (int c = 0; q != nullptr && c < columns_.n; ++c) {
        const int64_t valid = rows - (nan_known_ ? nan_[c] : 0);
        const Position r = valid > 0 ? position_of(*q, valid) : Position{0, 0, 0};
        rank[0][c] = r.previous;
        rank[1][c] = r.next;
      }
      choose_brackets(search, rank, attempt, bracket);
      bracket.begin();
      const bool counted = nan_known_;
      visit_all(
          [&](const T* x, int n, int column) { bracket_rows(x, n, column, bracket, work_.rows[column / kStrip]); },
          [&] { spread(fold_, bracket); },
          [&] { merge(fold_, bracket, [&](int lane) { return work_.rows[lane / kStrip] + lane % kStrip; }); });
      sort_kept(bracket.kept);
      searching = false;
      for (int c = 0; c < columns_.n; ++c) {
        if (!counted && q != nullptr && nan_[c] > 0) {
          const int64_t valid = rows - nan_[c];
          const Position r = valid > 0 ? position_of(*q, valid) : Position{0, 0, 0};
          rank[0][c] = r.previous;
          rank[1][c] = r.next;
        }
        while (search.found[c] < 2 && resolve(search, rank, bracket, c, search.found[c] == 0 ? lower : upper)) {
        }
        searching = searching || search.found[c] < 2;
        bisected += attempt == kAttemptsBySample - 1 && search.found[c] < 2;
      }
    }
    return bisected;
  }

  // Answers the next wanted rank of a column from the last read, or narrows what is known of it and returns false.
  bool resolve(Search& search, const PerColumn<int64_t>* ranks, const Bracketing<T>& b, int c, PerColumn<T>& value) {
    const int64_t rank = ranks[search.found[c]][c];
    if (rank < b.below[c]) {
      search.most[c] = b.low[c];
      search.until[c] = b.to_low[c];
      search.inside[c] = least_of(search.inside[c], b.below[c] - search.before[c]);
      return false;
    }
    if (rank >= b.to_high[c]) {
      search.least[c] = b.high[c];
      search.before[c] = b.below_high[c];
      search.inside[c] = least_of(search.inside[c], search.until[c] - b.to_high[c]);
      return false;
    }
    if (rank < b.to_low[c]) {
      value[c] = b.low[c];
    } else if (rank >= b.below_high[c]) {
      value[c] = b.high[c];
    } else if (b.kept[c] <= kSortRows<T>) {
      value[c] = sorted(rank - b.to_low[c], c);
    } else {
      search.least[c] = b.low[c];
      search.most[c] = b.high[c];
      search.before[c] = b.below[c];
      search.until[c] = b.to_high[c];
      search.inside[c] = b.kept[c];
      return false;
    }
    if (search.found[c] == 0) search.restart(c, value[c], rank, plan_.count);
    ++search.found[c];
    return true;
  }

  static int64_t least_of(int64_t a, int64_t b) { return a < b ? a : b; }

  void choose_brackets(const Search& search, const PerColumn<int64_t>* ranks, int attempt, Bracketing<T>& bracket) {
    const T inf = static_cast<T>(__builtin_inf());
    PerColumn<bool> by_sample;
    by_sample.fill(false);
    int64_t most_inside = 0;
    for (int c = 0; c < kTileColumns; ++c) {
      if (search.found[c] == 2) {  // an empty bracket keeps nothing
        bracket.low[c] = inf;
        bracket.high[c] = -inf;
        continue;
      }
      bracket.low[c] = search.least[c];
      bracket.high[c] = search.most[c];
      if (search.inside[c] <= kSortRows<T>) continue;
      if (attempt < kAttemptsBySample) {
        by_sample[c] = true;
        if (search.inside[c] > most_inside) most_inside = search.inside[c];
      } else {
        const int64_t least = ordered(search.least[c]), most = ordered(search.most[c]);
        if (most > least && static_cast<uint64_t>(most) - static_cast<uint64_t>(least) > 1) {
          bracket.low[c] = bracket.high[c] = from_ordered(midpoint(least, most), T(0)) + T(0);
        }
      }
    }
    if (most_inside == 0) return;

    // As many rows as let about kSampleRows of them fall inside the widest bracket.
    double variance = 0;
    const int64_t expected =
        sample_brackets(search, ranks, by_sample, share_of_rows(kSampleRows, most_inside), bracket, &variance);
    if (attempt > 0 || expected <= kSortRows<T> / 4 * 3) return;
    // Too many rows for so small a sample. A sample of s rows leaves a bracket of 2 * (sigmas * sqrt(s * variance) +
    // 1.5) * rows / s values; it is large enough if these can safely be sorted, and small enough if what falls inside
    // can be.
    const double per_row = static_cast<double>(plan_.count) / (kSortRows<T> * 0.6);
    const double linear = 2 * kBracketSigmas * __builtin_sqrt(variance) * per_row,
                 constant = 2 * kBracketSlack * per_row;
    const double root = (linear + __builtin_sqrt(linear * linear + 4 * constant)) / 2;
    const int64_t enough =
        root * root < static_cast<double>(plan_.count) ? static_cast<int64_t>(root * root) + 1 : plan_.count;
    const int64_t bearable = least_of(share_of_rows(kSortRows<T> / 3 * 2, expected), plan_.count / 4);
    sample_brackets(search, ranks, by_sample, least_of(enough, bearable), bracket, &variance);
  }

  // The rows of which `wanted` are found where there are `present`.
  int64_t share_of_rows(int64_t wanted, int64_t present) const {
    const double share = static_cast<double>(wanted) / static_cast<double>(present);
    return least_of(static_cast<int64_t>(static_cast<double>(plan_.count) * share) + 1, plan_.count);
  }

  // Narrows brackets by a sample. Returns how many values the widest is expected to hold, and the greatest variance of
  // a wanted rank, per row of the sample.
  int64_t sample_brackets(const Search& search, const PerColumn<int64_t>* ranks, const PerColumn<bool>& by_sample,
                          int64_t sample, Bracketing<T>& bracket, double* variance) {
    bracket.begin();
    visit_sample(sample, [&](const T* x, int n, int column) {
      bracket_rows(x, n, column, bracket, work_.rows[column / kStrip]);
    });
    sort_kept(bracket.kept);
    double widest = 0;
    for (int c = 0; c < columns_.n; ++c) {
      const int64_t kept = bracket.kept[c];
      if (!by_sample[c] || kept == 0 || kept > kSortRows<T>) continue;
      // Where the ranks would fall in the sample, and how far they may be off. A column of which nothing is known is
      // represented by the whole sample, another by what falls between its bounds.
      const bool unknown = search.before[c] == 0 && search.until[c] == plan_.count;
      const auto sampled = static_cast<double>(unknown ? sample : bracket.to_high[c] - bracket.below[c]);
      const auto at_low = static_cast<double>(bracket.to_low[c] - (unknown ? 0 : bracket.below[c]));
      const auto range = static_cast<double>(search.until[c] - search.before[c]);
      const double lower = (static_cast<double>(ranks[search.found[c]][c] - search.before[c]) + 0.5) / range;
      const double upper = (static_cast<double>(ranks[1][c] - search.before[c]) + 0.5) / range;
      const double per_sampled_row = lower * (lower < 1 ? 1 - lower : 0);
      if (per_sampled_row > *variance) *variance = per_sampled_row;
      const double spread = kBracketSigmas * __builtin_sqrt(sampled * per_sampled_row) + kBracketSlack;
      const double first = __builtin_floor(lower * sampled - at_low - spread);
      const double last = __builtin_ceil(upper * sampled - at_low + spread);
      const T low = bracket.low[c], high = bracket.high[c];
      bracket.low[c] = first < 0 ? low : sorted(first < kept ? static_cast<int64_t>(first) : kept - 1, c);
      bracket.high[c] = last >= kept ? high : sorted(last > 0 ? static_cast<int64_t>(last) : 0, c);
      const double held = (last < kept ? last : static_cast<double>(kept)) - (first < 0 ? 0 : first);
      if (sampled > 0 && held / sampled * range > widest) widest = held / sampled * range;
    }
    return static_cast<int64_t>(widest);
  }

  // With `mean` also finds the means of survivors that cost nothing.
  void find_survivors(double p, Survivors<T>& survivors, PerColumn<double>* mean = nullptr) {
    if (sorted_ || !survivors_by_tails(p, survivors, mean)) {
      if (plan_.count <= kSortRows<T>) {
        sort_all();
        survivors_of_sorted(p, survivors);
      } else {
        survivors_by_selection(p, survivors);
      }
    }
  }

  // One read, if the quantiles lie among the kTail smallest and greatest values. False if they do not, or if there is
  // NaN; then no mean is found either.
  bool survivors_by_tails(double p, Survivors<T>& survivors, PerColumn<double>* mean) {
    const int64_t n = plan_.count;
    if (n < 2 * kTail) return false;
    const Position low = position_of(p, n), high = position_of(1.0 - p, n);
    if (low.next >= kTail || high.previous < n - kTail) return false;
    const bool few = low.next < kFewTails && high.previous >= n - kFewTails;
    return few ? survivors_by_tails<kFewTails>(low, high, survivors, mean)
               : survivors_by_tails<kTail>(low, high, survivors, mean);
  }
  template <int n_tails>
  bool survivors_by_tails(const Position& low, const Position& high, Survivors<T>& survivors, PerColumn<double>* mean) {
    const int64_t n = plan_.count;
    const bool summed = mean != nullptr && totals_pay_ && sizeof(T) == sizeof(float) && n <= kMostTotalled;
    Tails<T> tails;
    Totals totals;
    tails.template begin<n_tails>();
    totals.begin();
    if (summed) {
      if (!read_tails_and_sums<n_tails>(tails, totals)) return false;
    } else if (n <= kSortRows<T>) {
      load_all();
      for (int g = 0; g < strips(); ++g) keep_tails<n_tails>(work_.rows[g], n, g * kStrip, tails);
    } else {
      visit_all([&](const T* x, int rows, int column) { keep_tails<n_tails>(x, rows, column, tails); });
    }
    for (int c = 0; c < columns_.n; ++c) {
      if (nan_[c] > 0) return false;
      const double low_limit = interpolate(tails.low[low.previous][c], tails.low[low.next][c], low.fraction);
      const double high_limit =
          interpolate(tails.high[n - 1 - high.previous][c], tails.high[n - 1 - high.next][c], high.fraction);
      int below = 0, above = 0;
      while (below < n_tails && tails.low[below][c] < low_limit) ++below;
      while (above < n_tails && tails.high[above][c] > high_limit) ++above;
      if (below == n_tails || above == n_tails) return false;
      survivors.begin[c] = below;
      survivors.count[c] = n - below - above;
      survivors.first[c] = tails.low[below][c];
      survivors.last[c] = tails.high[above][c];
    }
    if (summed) means_of_totals<n_tails>(tails, totals, survivors, *mean);
    return true;
  }

  // Reads tails and sums of no more rows than are sorted whole. Returns false if there is NaN.
  template <int n_tails>
  bool read_tails_and_sums(Tails<T>& tails, Totals& totals) {
    bool nan = false;
    if constexpr (sizeof(T) == sizeof(float)) {
      constexpr int at_once = kPanelRows / 2;  // rows far apart fall on few sets of the cache
      int64_t offsets[kPanelRows];
      RowWalk rows(plan_.reduced, plan_.n_reduced);
      if (columns_.contiguous && columns_.n % kStrip == 0) {
        const char* const x = plan_.data + columns_.in[0];
        while (const int n = rows.next(offsets)) {
          for (int r = 0; r < n; r += at_once) {
            for (int g = 0; g < strips(); ++g) {
              const bool found =
                  keep_tails_and_sums<n_tails, E>(x + g * kStrip * plan_.item, offsets + r,
                                                  n - r < at_once ? n - r : at_once, g * kStrip, tails, totals);
              nan = nan || found;
            }
          }
        }
      } else {
        for (int r = 0; r < kPanelRows; ++r) offsets[r] = r * kStrip * static_cast<int64_t>(sizeof(T));
        PerColumn<int64_t> count;
        count.fill(0);
        visit(rows, columns_, count.at, [&](const T* x, int n, int column) {
          keep_tails_and_sums<n_tails, T>(reinterpret_cast<const char*>(x), offsets, n, column, tails, totals);
        });
        for (int c = 0; c < columns_.n; ++c) nan = nan || count[c] > 0;
      }
    }
    return !nan;
  }

  // A total less what lies outside is as exact as the total.
  template <int n_tails>
  void means_of_totals(const Tails<T>& tails, const Totals& totals, const Survivors<T>& survivors,
                       PerColumn<double>& mean) const {
    for (int c = 0; c < columns_.n; ++c) {
      const T least = tails.low[0][c], greatest = tails.high[0][c];
      if (!totals.exact(c, plan_.count, static_cast<float>(-least > greatest ? -least : greatest))) continue;
      double sum = totals.sum[c];
      for (int j = 0; j < n_tails; ++j) {
        if (tails.low[j][c] < survivors.first[c]) sum -= static_cast<double>(tails.low[j][c]);
        if (tails.high[j][c] > survivors.last[c]) sum -= static_cast<double>(tails.high[j][c]);
      }
      mean[c] = sum / static_cast<double>(survivors.count[c]);
    }
  }

  void survivors_of_sorted(double p, Survivors<T>& survivors) {
    for (int c = 0; c < columns_.n; ++c) {
      const int64_t n = plan_.count - nan_[c];
      survivors.begin[c] = 0;
      survivors.count[c] = n;
      if (n == 0) continue;
      const Position low = position_of(p, n), high = position_of(1.0 - p, n);
      const double low_limit = interpolate(sorted(low.previous, c), sorted(low.next, c), low.fraction);
      const double high_limit = interpolate(sorted(high.previous, c), sorted(high.next, c), high.fraction);
      int64_t first = low.previous, last = high.next;
      while (first > 0 && !(sorted(first - 1, c) < low_limit)) --first;
      while (first < n && sorted(first, c) < low_limit) ++first;
      while (last < n - 1 && !(sorted(last + 1, c) > high_limit)) ++last;
      while (last >= 0 && sorted(last, c) > high_limit) --last;
      if (first > last) {
        first = 0;
        last = n - 1;
      }
      survivors.begin[c] = first;
      survivors.count[c] = last - first + 1;
      survivors.first[c] = sorted(first, c);
      survivors.last[c] = sorted(last, c);
    }
  }

  // The rank behind the last survivor; NaN was read as +Inf.
  int64_t behind_last(const Census<T>& census, int c) const {
    return census.last[c] == static_cast<T>(__builtin_inf()) ? plan_.count - nan_[c] : census.to_last[c];
  }

  void survivors_by_selection(double p, Survivors<T>& survivors) {
    const T inf = static_cast<T>(__builtin_inf());
    PerColumn<T> low[2], high[2];
    const double low_q = p, high_q = 1.0 - p;
    select(&low_q, nullptr, nullptr, low[0], low[1]);
    select(&high_q, nullptr, nullptr, high[0], high[1]);
    Census<T> census;
    census.first.fill(0);
    census.last.fill(0);
    for (int c = 0; c < columns_.n; ++c) {
      const int64_t n = plan_.count - nan_[c];
      if (n > 0) {
        const double low_limit = interpolate(low[0][c], low[1][c], position_of(low_q, n).fraction);
        const double high_limit = interpolate(high[0][c], high[1][c], position_of(high_q, n).fraction);
        census.first[c] = least_not_below(low_limit, T(0));
        census.last[c] = greatest_not_above(high_limit, T(0));
      }
    }
    count_survivors(census);
    bool again = false;
    for (int c = 0; c < columns_.n; ++c) {
      if (behind_last(census, c) <= census.below[c] && plan_.count > nan_[c]) {
        census.first[c] = -inf;
        census.last[c] = inf;
        again = true;
      }
    }
    if (again) count_survivors(census);
    for (int c = 0; c < columns_.n; ++c) {
      const int64_t behind = behind_last(census, c);
      survivors.begin[c] = census.below[c];
      survivors.count[c] = plan_.count > nan_[c] ? behind - census.below[c] : 0;
      survivors.first[c] = census.below_finite[c] > census.below[c] ? -inf : census.min[c];
      survivors.last[c] = behind > census.to_finite[c] ? inf : census.max[c];
    }
  }

  void count_survivors(Census<T>& census) {
    const T inf = static_cast<T>(__builtin_inf());
    const T greatest = sizeof(T) == 8 ? static_cast<T>(__DBL_MAX__) : static_cast<T>(__FLT_MAX__);
    census.min.fill(inf);
    census.max.fill(-inf);
    census.below.fill(0);
    census.to_last.fill(0);
    census.below_finite.fill(0);
    census.to_finite.fill(0);
    for (int c = 0; c < kTileColumns; ++c) {
      census.least_finite[c] = census.first[c] < -greatest ? -greatest : census.first[c];
      census.greatest_finite[c] = census.last[c] > greatest ? greatest : census.last[c];
    }
    visit_all([&](const T* x, int rows, int column) { take_census(x, rows, column, census); },
              [&] { spread(fold_, census); }, [&] { merge(fold_, census); });
  }

  const Plan& plan_;
  ColumnWork<T>& work_;
  TileWalk walk_;
  TileColumns columns_;
  FoldedRows fold_;
  PerColumn<int64_t> nan_;
  bool nan_known_ = false;
  bool sorted_ = false;
  bool totals_pay_ = true;  // the columns before were summed exactly
};

template <bool magnitude, class E>
int64_t quantiles_of_columns(const Plan& plan, const QuantileArguments& arguments, void* scratch) {
  ColumnTile<magnitude, E> tile(plan, scratch);
  int64_t bisected = 0;
  while (tile.next()) bisected += tile.quantiles(arguments);
  return bisected;
}

template <bool magnitude>
int64_t quantiles_of_columns(const Plan& plan, const QuantileArguments& arguments, void* scratch) {
  switch (plan.dtype) {
    case DType::float32:
      return quantiles_of_columns<magnitude, float>(plan, arguments, scratch);
    case DType::float64:
      return quantiles_of_columns<magnitude, double>(plan, arguments, scratch);
    case DType::float16:
      return quantiles_of_columns<magnitude, f16>(plan, arguments, scratch);
    case DType::bfloat16:
      return quantiles_of_columns<magnitude, bf16>(plan, arguments, scratch);
  }
  return 0;
}

template <class E>
void without_outliers(const Plan& plan, double p, bool median, void* out, int64_t* nan, void* scratch) {
  static_assert(sizeof(ColumnWork<Element<E>>) <= kColumnsScratchBytes, "raise kColumnsScratchBytes");
  ColumnTile<false, E> tile(plan, scratch);
  while (tile.next()) {
    if (median) {
      tile.median_no_outliers(p, out, nan);
    } else {
      tile.mean_no_outliers(p, out, nan);
    }
  }
}

void without_outliers(const Plan& plan, double p, bool median, void* out, int64_t* nan, void* scratch) {
  switch (plan.dtype) {
    case DType::float32:
      return without_outliers<float>(plan, p, median, out, nan, scratch);
    case DType::float64:
      return without_outliers<double>(plan, p, median, out, nan, scratch);
    case DType::float16:
      return without_outliers<f16>(plan, p, median, out, nan, scratch);
    case DType::bfloat16:
      return without_outliers<bf16>(plan, p, median, out, nan, scratch);
  }
}

int64_t columns_quantiles(const Plan* plan, const QuantileArguments* arguments, void* scratch) noexcept {
  return arguments->magnitude ? quantiles_of_columns<true>(*plan, *arguments, scratch)
                              : quantiles_of_columns<false>(*plan, *arguments, scratch);
}
void columns_mean_no_outliers(const Plan* plan, double p, void* out, int64_t* nan, void* scratch) noexcept {
  without_outliers(*plan, p, false, out, nan, scratch);
}
void columns_median_no_outliers(const Plan* plan, double p, void* out, int64_t* nan, void* scratch) noexcept {
  without_outliers(*plan, p, true, out, nan, scratch);
}

}  // namespace
