#include "parallel/spread.h"

#include <atomic>
#include <cstring>
#include <limits>

namespace qs {
namespace {

constexpr int64_t kPartElements =
    65536;  // of a part, 256 KB of float32: enough for its overhead, small enough to balance
constexpr size_t kLine = 64;
constexpr int64_t kFar = int64_t{4} << 20;  // bytes of input that lie beyond the second-level cache

size_t lines(size_t bytes) noexcept { return (bytes + kLine - 1) / kLine * kLine; }

int64_t bytes_of(const Plan& plan) noexcept { return plan.outputs * plan.count * plan.item; }

int64_t at_least(int64_t value, int64_t least) noexcept { return value < least ? least : value; }

// What planes of 16 bytes per output leave of it; see planes.h, which takes small sets in blocks.
size_t budget_of(const Plan& plan) noexcept {
  const int64_t planes = reads_small_sets(plan) ? 0 : plan.outputs * 16;
  return scratch_budget(bytes_of(plan)) - static_cast<size_t>(planes);
}

int threads_within(size_t budget, int64_t input_bytes, size_t scratch_per_thread, int64_t bytes_per_thread) noexcept {
  if (input_bytes < 2 * bytes_per_thread) return 1;
  int64_t threads = num_threads();
  const int64_t worth = input_bytes / bytes_per_thread;
  if (threads > worth) threads = worth;
  const auto room = static_cast<int64_t>(budget / scratch_per_thread);
  if (threads > room) threads = room;
  return threads < 1 ? 1 : static_cast<int>(threads);
}

int threads_for(const Plan& plan, size_t scratch_per_thread, int64_t bytes_per_thread = kBytesPerThread) noexcept {
  if (bytes_of(plan) < 2 * bytes_per_thread) return 1;
  return threads_within(budget_of(plan), bytes_of(plan), scratch_per_thread, bytes_per_thread);
}

char* scratch_of(void* scratch, int worker, size_t per_thread) noexcept {
  return static_cast<char*>(scratch) + static_cast<size_t>(worker) * per_thread;
}

}  // namespace

bool reads_small_sets(const Plan& plan) noexcept {
  constexpr int64_t small = 1024;
  return plan.count * plan.item < small;
}

size_t scratch_budget(int64_t input_bytes) noexcept {
  constexpr int64_t objects = 24 * 1024;
  return static_cast<size_t>(input_bytes / 100 * 6 + (int64_t{2} << 20) - objects);
}

int threads_for(int64_t input_bytes, size_t scratch_per_thread, int64_t bytes_per_thread) noexcept {
  return threads_within(scratch_budget(input_bytes), input_bytes, scratch_per_thread, bytes_per_thread);
}

// Reductions

namespace {

// What the segments give, each a plane per value in the order of the output.
class Partials {
 public:
  static size_t bytes(const Plan& plan, int64_t segments) noexcept {
    return static_cast<size_t>(segments * plan.outputs) *
           (3 * (plan.item == 8 ? 8 : 4) + sizeof(double) + 3 * sizeof(int64_t));
  }

  Partials(const ReduceOutput& out, int64_t outputs, size_t item, int64_t segments, void* memory) noexcept
      : out_(out), outputs_(outputs), item_(item), segments_(segments) {
    char* at = static_cast<char*>(memory);
    const auto take = [&](const void* wanted, size_t size) -> void* {
      if (wanted == nullptr) return nullptr;
      char* const plane = at;
      at += static_cast<size_t>(segments * outputs) * size;
      return plane;
    };
    parts_.sum = static_cast<double*>(take(out.sum, sizeof(double)));
    parts_.nan = static_cast<int64_t*>(take(out.nan, sizeof(int64_t)));
    parts_.pos_inf = static_cast<int64_t*>(take(out.pos_inf, sizeof(int64_t)));
    parts_.neg_inf = static_cast<int64_t*>(take(out.neg_inf, sizeof(int64_t)));
    parts_.min = take(out.min, item);
    parts_.max = take(out.max, item);
    parts_.abs_max = take(out.abs_max, item);
  }

  ReduceOutput of(int64_t segment) const noexcept {
    const int64_t first = segment * outputs_;
    const auto offset = [&](void* plane) -> void* {
      return plane == nullptr ? nullptr : static_cast<char*>(plane) + static_cast<size_t>(first) * item_;
    };
    const auto count = [&](int64_t* plane) { return plane == nullptr ? nullptr : plane + first; };
    return {offset(parts_.min),     offset(parts_.max),
            offset(parts_.abs_max), parts_.sum == nullptr ? nullptr : parts_.sum + first,
            count(parts_.nan),      count(parts_.pos_inf),
            count(parts_.neg_inf)};
  }

  void fold() const noexcept {
    if (item_ == sizeof(double)) {
      fold_order<double>();
    } else {
      fold_order<float>();
    }
    const auto add = [](double a, double b) { return a + b; };
    const auto add_counts = [](int64_t a, int64_t b) { return a + b; };
    fold_plane(parts_.sum, out_.sum, add);
    fold_plane(parts_.nan, out_.nan, add_counts);
    fold_plane(parts_.pos_inf, out_.pos_inf, add_counts);
    fold_plane(parts_.neg_inf, out_.neg_inf, add_counts);
  }

 private:
  template <class T>
  void fold_order() const noexcept {
    // NaN stands for a segment without a number.
    const auto least = [](T a, T b) { return a != a || b < a ? b : a; };
    const auto greatest = [](T a, T b) { return a != a || b > a ? b : a; };
    fold_plane(static_cast<const T*>(parts_.min), static_cast<T*>(out_.min), least);
    fold_plane(static_cast<const T*>(parts_.max), static_cast<T*>(out_.max), greatest);
    fold_plane(static_cast<const T*>(parts_.abs_max), static_cast<T*>(out_.abs_max), greatest);
  }

  template <class T, class Combine>
  void fold_plane(const T* parts, T* out, const Combine& combine) const noexcept {
    if (out == nullptr) return;
    for (int64_t i = 0; i < outputs_; ++i) out[i] = parts[i];
    for (int64_t segment = 1; segment < segments_; ++segment) {
      const T* const part = parts + segment * outputs_;
      for (int64_t i = 0; i < outputs_; ++i) out[i] = combine(out[i], part[i]);
    }
  }

  const ReduceOutput& out_;
  ReduceOutput parts_{};
  int64_t outputs_;
  size_t item_;
  int64_t segments_;
};

}  // namespace

SpreadReduction::SpreadReduction(const Plan& plan) noexcept
    : plan_(plan), segments_(segments_of(plan)), outputs_{}, scratch_bytes_(kReduceScratchBytes) {
  threads_ = threads_for(plan, kReduceScratchBytes);
  if (threads_ > 1) {
    // No more parts than balance: neighbouring outputs are read together where their runs lie in turn.
    constexpr int64_t parts_per_thread = 16;
    const int64_t outputs = at_least(kPartElements / plan.count, plan.outputs / (parts_per_thread * threads_));
    outputs_ = cut_outputs(plan, outputs, kLeastColumns);
    if (outputs_.parts * segments_.parts == 1) threads_ = 1;
    scratch_bytes_ *= static_cast<size_t>(threads_);
  }
  if (segments_.parts > 1) scratch_bytes_ += Partials::bytes(plan, segments_.parts);
}

void SpreadReduction::run(ReduceKernel kernel, const ReduceOutput& out, void* scratch) const noexcept {
  const bool segmented = segments_.parts > 1;
  ReduceOutput whole = out;
  whole.far = bytes_of(plan_) > kFar;
  // Without a sum the order is of no account.
  if (threads_ == 1 && (!segmented || out.sum == nullptr)) return kernel(&plan_, &whole, scratch);
  const Partials partials(out, plan_.outputs, plan_.item == 8 ? 8 : 4, segments_.parts,
                          scratch_of(scratch, threads_, kReduceScratchBytes));
  const int64_t parts = threads_ > 1 ? outputs_.parts : 1;
  parallel(parts * segments_.parts, threads_, [&](int64_t i, int worker) {
    void* const memory = scratch_of(scratch, worker, kReduceScratchBytes);
    Plan part;
    if (parts > 1) output_part(plan_, outputs_, i / segments_.parts, &part);
    const Plan& outputs = parts > 1 ? part : plan_;
    const int64_t segment = i % segments_.parts;
    ReduceOutput result = segmented ? partials.of(segment) : out;
    result.far = whole.far;
    if (out.counters != nullptr) result.counters = out.counters + worker * kBitCounterWords;
    if (!segmented) return kernel(&outputs, &result, memory);
    Plan piece;
    reduced_part(outputs, segments_, segment, &piece);
    kernel(&piece, &result, memory);
  });
  if (segmented) partials.fold();
}

// Independent outputs

SpreadOutputs::SpreadOutputs(const Plan& plan, size_t scratch_per_thread, int64_t least_columns,
                             int64_t part_bytes) noexcept
    : plan_(plan), scratch_per_thread_(scratch_per_thread) {
  threads_ = threads_for(plan, scratch_per_thread, 2 * part_bytes);
  if (threads_ == 1) return;
  outputs_ = cut_outputs(plan, part_bytes / (plan.count * plan.item), least_columns);
  if (threads_ > outputs_.parts) threads_ = static_cast<int>(outputs_.parts);
}

namespace {

constexpr int64_t kColumnTile = 64;          // columns that the kernels take together
constexpr int64_t kColumnPart = 128 * 1024;  // bytes; several operations an element

}  // namespace

SpreadColumns::SpreadColumns(const Plan& plan) noexcept
    : SpreadOutputs(plan, kColumnsScratchBytes, kColumnTile, kColumnPart) {}

void SpreadOutputs::widen(size_t whole_scratch) noexcept {
  const size_t share = budget_of(plan_) / static_cast<size_t>(threads_) / kLine * kLine;
  const size_t wide = threads_ == 1 || share > whole_scratch ? whole_scratch : share;
  if (wide > scratch_per_thread_) scratch_per_thread_ = wide;
}

SpreadOutputs spread_sets(const Plan& plan) noexcept {
  constexpr int64_t bytes = 256 * 1024;
  constexpr size_t least = 640 * 1024;  // for the sets of which a thread takes many
  const size_t share = static_cast<size_t>(plan.count * plan.item) / 100 * kQuantileScratchPercent;
  // Few large sets do not balance: they are read one after the other, by all threads.
  constexpr int64_t large = int64_t{4} << 20;
  constexpr int64_t sets_per_thread = 4;
  const bool together = plan.count * plan.item >= large && plan.outputs < sets_per_thread * num_threads();
  SpreadOutputs spread(plan, lines(least + share), 1, together ? std::numeric_limits<int64_t>::max() / 4 : bytes);
  if (!reads_small_sets(plan)) spread.widen(lines(kQuantileScratchBytes + share));
  return spread;
}

SetReading read_sets(const Plan& plan, const SpreadOutputs& spread) noexcept {
  // The memory of the threads is found by the kernel in that of the call.
  const int threads = spread.threads() > 1 ? 1 : threads_for(plan.count * plan.item, kLine);
  return {segments_of(plan), reduced_part, threads, parallel_for};
}

namespace {

bool side_by_side(const Plan& plan) noexcept {
  constexpr int64_t enough = 8;
  return !plan.inner_reduced && plan.outputs >= enough;
}

}  // namespace

namespace {

size_t counter_bytes(int threads) noexcept {
  return static_cast<size_t>(threads * kBitCounterWords) * sizeof(uint32_t);
}

}  // namespace

SpreadQuantiles::SpreadQuantiles(const Plan& plan) noexcept
    : plan_(plan),
      side_by_side_(side_by_side(plan)),
      spread_(side_by_side_ ? SpreadColumns(plan) : spread_sets(plan)),
      moments_(plan) {}

size_t SpreadQuantiles::scratch_bytes() const noexcept {
  if (counting_ > 0) return counters_at_ + counter_bytes(counting_);
  const size_t quantiles = spread_.scratch_bytes(), moments = moments_.scratch_bytes();
  return quantiles > moments ? quantiles : moments;
}

// Measured: in the caches another read is as fast, or faster, since the counters displace what the first one needs.
bool SpreadQuantiles::count_bits(size_t n_q) noexcept {
  constexpr int64_t least_bytes = int64_t{32} << 20;
  const int64_t elements = plan_.outputs * plan_.count, bytes = elements * plan_.item;
  if (bytes < least_bytes || elements > std::numeric_limits<uint32_t>::max() || !reads_along_runs(plan_)) return false;
  if (n_q > 0 && spread_.threads() > 1) return false;  // sets of their own, whose kernels know nothing of workers
  const int threads = n_q > 0 ? read_sets(plan_, spread_).threads : moments_.threads();
  // The counters take their share of what a call may have; quantiles can do with what is left.
  const size_t most = budget_of(plan_) / kLine * kLine, taken = lines(counter_bytes(threads));
  const size_t needed = lines(n_q > 0 ? kQuantileScratchBytes : moments_.scratch_bytes());
  if (needed + taken > most) return false;
  const size_t wanted = lines(scratch_bytes());
  counters_at_ = wanted + taken <= most ? wanted : most - taken;
  counting_ = threads;
  return true;
}

uint32_t* SpreadQuantiles::counters(void* scratch) const noexcept {
  return counting_ == 0 ? nullptr : reinterpret_cast<uint32_t*>(static_cast<char*>(scratch) + counters_at_);
}

void SpreadQuantiles::add_counted(const void* scratch, uint64_t* counts) const noexcept {
  add_counters(counters(const_cast<void*>(scratch)), counting_, counts);
}

int64_t SpreadQuantiles::run(const Kernels& kernels, const double* q, size_t n_q, bool magnitude, void* values,
                             int64_t* nan, const ReduceOutput* moments, void* scratch) const noexcept {
  const auto kernel = side_by_side_ ? kernels.columns->columns_quantiles : kernels.select->select_quantiles;
  const SetReading reading = read_sets(plan_, spread_);
  const size_t plane_bytes = static_cast<size_t>(plan_.outputs) * (plan_.item == 8 ? 8 : 4);
  // Runs of memory are reduced while they are read for quantiles. Elsewhere reduce_all has its own order of reading.
  const bool in_one_read = plan_.inner_reduced && n_q > 0;
  ReduceOutput all{};
  if (moments != nullptr) {
    all = *moments;
    all.counters = counters(scratch);
    if (all.counters != nullptr) std::memset(all.counters, 0, counter_bytes(counting_));
    if (!in_one_read) moments_.run(kernels.reduce->reduce_all, all, scratch);
  }
  const size_t own_scratch = spread_.scratch_per_thread();
  std::atomic<int64_t> fallbacks{0};
  for (size_t begin = 0; begin < n_q; begin += kMaxProbabilities) {
    const size_t left = n_q - begin;
    const QuantileArguments arguments{q + begin,
                                      left < kMaxProbabilities ? static_cast<int>(left) : kMaxProbabilities,
                                      magnitude,
                                      static_cast<char*>(values) + begin * plane_bytes,
                                      nan,
                                      counting_ > 0 && counters_at_ < own_scratch ? counters_at_ : own_scratch,
                                      begin == 0 && in_one_read && moments != nullptr ? &all : nullptr,
                                      side_by_side_ ? nullptr : &reading};
    spread_.run(scratch, [&](const Plan* part, void* own) {
      fallbacks.fetch_add(kernel(part, &arguments, own), std::memory_order_relaxed);
    });
  }
  return fallbacks.load(std::memory_order_relaxed);
}

// Rounding

SpreadRounding::SpreadRounding(const ElementwisePlan& plan) noexcept : plan_(plan) {
  threads_ = threads_for(plan.size * static_cast<int64_t>(sizeof(float)), kRoundScratchBytes);
  if (threads_ == 1) return;
  // Where channels change along a run, every part makes a table of them.
  const bool table = plan.n_axes > 0 && plan.axes[0].channel != 0;
  constexpr int parts_per_thread = 16;
  elements_ = cut_elements(plan, at_least(plan.size / (parts_per_thread * threads_), (table ? 4 : 1) * kPartElements));
  if (threads_ > elements_.parts) threads_ = static_cast<int>(elements_.parts);
}

void SpreadRounding::run(RoundKernel kernel, const RoundArguments& arguments, void* scratch) const noexcept {
  if (threads_ == 1) return kernel(&plan_, &arguments, scratch);
  parallel(elements_.parts, threads_, [&](int64_t i, int worker) {
    ElementwisePlan part;
    element_part(plan_, elements_, i, &part);
    kernel(&part, &arguments, scratch_of(scratch, worker, kRoundScratchBytes));
  });
}

// Histograms

SpreadHistogram::SpreadHistogram(const Plan& plan, int64_t bins) noexcept
    : plan_(plan), bins_(bins), per_thread_(kHistogramScratchBytes) {
  const size_t with_counters = kHistogramScratchBytes + lines(static_cast<size_t>(bins) * sizeof(uint64_t));
  // Every part clears its counters and adds them up.
  const int64_t least = at_least(kPartElements, 16 * bins);
  threads_ = threads_for(bytes_of(plan), with_counters, at_least(kBytesPerThread, least * plan.item));
  if (threads_ == 1) return;
  per_thread_ = with_counters;
  constexpr int parts_per_thread = 4;
  elements_ = cut_reduced(plan, at_least(plan.count / (parts_per_thread * threads_), least));
  if (threads_ > elements_.parts) threads_ = static_cast<int>(elements_.parts);
}

template <class Count, class Function>
void SpreadHistogram::count(Count* counts, void* scratch, const Function& kernel) const noexcept {
  // The first thread counts in the result itself.
  const auto counters = [&](int worker) {
    return worker == 0 ? counts
                       : reinterpret_cast<Count*>(scratch_of(scratch, worker, per_thread_) + kHistogramScratchBytes);
  };
  for (int worker = 1; worker < threads_; ++worker) {
    std::memset(counters(worker), 0, static_cast<size_t>(bins_) * sizeof(Count));
  }
  parallel(elements_.parts, threads_, [&](int64_t i, int worker) {
    Plan part;
    reduced_part(plan_, elements_, i, &part);
    kernel(&part, counters(worker), scratch_of(scratch, worker, per_thread_));
  });
  for (int worker = 1; worker < threads_; ++worker) {
    const Count* const more = counters(worker);
    for (int64_t i = 0; i < bins_; ++i) counts[i] += more[i];
  }
}

void SpreadHistogram::run(HistogramKernel kernel, const HistogramArguments& arguments, void* scratch) const noexcept {
  if (threads_ == 1) return kernel(&plan_, &arguments, scratch);
  count(arguments.counts, scratch, [&](const Plan* part, int64_t* counts, void* memory) {
    HistogramArguments own = arguments;
    own.counts = counts;
    kernel(part, &own, memory);
  });
}

bool reads_along_runs(const Plan& plan) noexcept {
  constexpr int64_t long_run = 256;  // shorter ones may be reduced side by side
  return plan.inner_reduced && plan.n_reduced > 0 && plan.reduced[0].size >= long_run;
}

void add_counters(const uint32_t* counters, int workers, uint64_t* counts) noexcept {
  constexpr int64_t keys = 65536;
  for (int64_t i = 0; i < keys; ++i) {
    uint64_t sum = 0;
    for (int way = 0; way < 2 * workers; ++way) sum += counters[way * kBitCounterStride + i];
    counts[i] += sum;
  }
}

int64_t SpreadHistogram::run(BitHistogramKernel kernel, uint64_t* counts, void* scratch) const noexcept {
  if (threads_ == 1) return kernel(&plan_, counts, scratch);
  std::atomic<int64_t> nan{0};
  count(counts, scratch, [&](const Plan* part, uint64_t* own, void* memory) {
    nan.fetch_add(kernel(part, own, memory), std::memory_order_relaxed);
  });
  return nan.load(std::memory_order_relaxed);
}

// Products

SpreadProduct::SpreadProduct(const SaturatingProduct& product) noexcept
    : product_(product), rows_(product.m), columns_(product.n) {
  // Multiplications count: 16 of them take about as long as reading 4 bytes.
  constexpr int64_t per_byte = 16;
  const double work = static_cast<double>(product.m) * static_cast<double>(product.n) * static_cast<double>(product.k);
  const auto bytes = static_cast<int64_t>(work / per_byte);
  threads_ = threads_for(bytes, kSaturateScratchBytes);
  if (threads_ == 1) return;
  // Columns first: every part packs its columns of B, and rows of A are cheap to pack.
  constexpr int64_t block = 256, row_block = 8;
  const int64_t blocks = (product.n - 1) / block + 1;
  if (blocks >= threads_) {
    columns_ = block;
  } else {
    const int64_t rows = (product.m - 1) / (2 * threads_) + 1;
    rows_ = (rows + row_block - 1) / row_block * row_block;
  }
}

int64_t SpreadProduct::run(SaturateKernel kernel, bool count, void* scratch) const noexcept {
  if (threads_ == 1) return kernel(&product_, count, scratch);
  const int64_t across = (product_.n - 1) / columns_ + 1, down = (product_.m - 1) / rows_ + 1;
  std::atomic<int64_t> saturated{0};
  parallel(across * down, threads_, [&](int64_t i, int worker) {
    const int64_t row = i / across * rows_, column = i % across * columns_;
    SaturatingProduct part = product_;
    part.a += row * part.a_row;
    part.b += column * part.b_column;
    part.out += row * part.out_row + column;
    part.m = part.m - row < rows_ ? part.m - row : rows_;
    part.n = part.n - column < columns_ ? part.n - column : columns_;
    saturated.fetch_add(kernel(&part, count, scratch_of(scratch, worker, kSaturateScratchBytes)),
                        std::memory_order_relaxed);
  });
  return saturated.load(std::memory_order_relaxed);
}

// Pairs of weights

SpreadPairs::SpreadPairs(const PairArguments& arguments) noexcept
    : arguments_(arguments), threads_(threads_for(arguments.rows * arguments.length, kCertifyScratchBytes)) {}

void SpreadPairs::run(PairKernel kernel, void* scratch) const noexcept {
  if (threads_ == 1) return kernel(&arguments_, scratch);
  constexpr int64_t rows_of_part = 512;
  const int64_t n = arguments_.rows;
  parallel((n - 1) / rows_of_part + 1, threads_, [&](int64_t i, int worker) {
    const int64_t first = i * rows_of_part;
    PairArguments part = arguments_;
    part.data += first * part.row_stride;
    part.rows = n - first < rows_of_part ? n - first : rows_of_part;
    part.positive += first;
    part.negative += first;
    part.positions += 2 * first;
    if (part.at_risk != nullptr) part.at_risk += first;
    kernel(&part, scratch_of(scratch, worker, kCertifyScratchBytes));
  });
}

}  // namespace qs
