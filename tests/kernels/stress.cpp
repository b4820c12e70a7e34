// Calls the kernels from several threads at once, all of which ask for the threads of the pool: what ThreadSanitizer
// watches (preset `thread`). Every caller compares its results with those of one thread, bit for bit.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "dispatch/dispatch.h"
#include "parallel/spread.h"

namespace {

using namespace qs;

std::atomic<int> failures{0};

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Scratch memory of one call.
class Scratch {
 public:
  explicit Scratch(size_t bytes) : memory_(std::aligned_alloc(64, (bytes + 63) / 64 * 64)) {}
  void* get() const { return memory_.get(); }

 private:
  std::unique_ptr<void, Free> memory_;
};

std::vector<float> samples(size_t n) {
  std::vector<float> x(n);
  uint32_t state = 1;
  for (float& value : x) {
    state = state * 1664525u + 1013904223u;
    const int exponent = static_cast<int>(state >> 9 & 7);
    value = static_cast<float>(static_cast<int>(state >> 8) - (1 << 23)) * 1e-6f * static_cast<float>(exponent + 1);
  }
  return x;
}

// All that one caller computes, in the order of the calls.
std::vector<char> everything(const Kernels& k, const std::vector<float>& x, int64_t rows) {
  std::vector<char> results;
  const auto keep = [&](const auto& values) {
    const auto* const bytes = reinterpret_cast<const char*>(values.data());
    results.insert(results.end(), bytes, bytes + values.size() * sizeof values[0]);
  };
  const auto n = static_cast<int64_t>(x.size());
  const int64_t shape[] = {rows, n / rows}, strides[] = {shape[1] * 4, 4}, item = 4, byte = 1;

  for (const uint64_t reduced : {1u, 2u, 3u}) {
    Plan plan;
    make_plan({x.data(), DType::float32, 2, reduced, shape, strides}, &plan);
    const auto outputs = static_cast<size_t>(plan.outputs);
    std::vector<float> min(outputs), max(outputs), quantiles(3 * outputs), mean(outputs);
    std::vector<double> sum(outputs);
    std::vector<int64_t> nan(outputs), pos_inf(outputs), neg_inf(outputs);
    ReduceOutput out{min.data(), max.data(), nullptr, sum.data(), nan.data(), pos_inf.data(), neg_inf.data()};
    std::vector<uint32_t> counters;
    if (reads_along_runs(plan)) {
      const SpreadReduction spread(plan);
      counters.assign(static_cast<size_t>(spread.threads() * kBitCounterWords), 0);
      out.counters = counters.data();
      const Scratch scratch(spread.scratch_bytes());
      spread.run(k.reduce->reduce_all, out, scratch.get());
      std::vector<uint64_t> counts(65536);
      add_counters(counters.data(), spread.threads(), counts.data());
      keep(counts);
      out.counters = nullptr;
    } else {
      const SpreadReduction spread(plan);
      const Scratch scratch(spread.scratch_bytes());
      spread.run(k.reduce->reduce_all, out, scratch.get());
    }
    keep(min);
    keep(max);
    keep(sum);
    const double q[] = {1e-4, 0.5, 1 - 1e-4};
    if (plan.inner_reduced) {
      const SpreadOutputs spread = spread_sets(plan);
      const SetReading reading = read_sets(plan, spread);
      const Scratch scratch(spread.scratch_bytes());
      const QuantileArguments arguments{q,    3,       false, quantiles.data(), nan.data(), spread.scratch_per_thread(),
                                        &out, &reading};
      spread.run(scratch.get(),
                 [&](const Plan* part, void* own) { k.select->select_quantiles(part, &arguments, own); });
    } else {
      const SpreadColumns spread(plan);
      const Scratch scratch(spread.scratch_bytes());
      spread.run(scratch.get(), [&](const Plan* part, void* own) {
        k.columns->columns_mean_no_outliers(part, 1e-3, mean.data(), nan.data(), own);
      });
    }
    keep(quantiles);
    keep(mean);
    keep(sum);
  }

  Plan whole;
  make_plan({x.data(), DType::float32, 1, 1, &n, &item}, &whole);
  std::vector<uint64_t> bits(65536);
  {
    const SpreadHistogram spread(whole, 65536);
    const Scratch scratch(spread.scratch_bytes());
    spread.run(k.histogram->bit_histogram, bits.data(), scratch.get());
  }
  keep(bits);
  std::vector<float> edges(2049);
  for (size_t i = 0; i < edges.size(); ++i) edges[i] = static_cast<float>(i) / 128.0f - 8.0f;
  std::vector<int64_t> bins(2048);
  {
    const SpreadHistogram spread(whole, 2048);
    const Scratch scratch(spread.scratch_bytes());
    spread.run(k.histogram->histogram, HistogramArguments{edges.data(), 2048, bins.data()}, scratch.get());
  }
  keep(bins);

  std::vector<int8_t> levels(x.size());
  ElementwisePlan elements;
  make_elementwise_plan(x.data(), &item, levels.data(), &byte, &n, 1, -1, &elements);
  const float scale = 0.03f;
  const int32_t zero_point = 3;
  const SpreadRounding spread(elements);
  const Scratch scratch(spread.scratch_bytes());
  const RoundArguments arguments{&scale, &zero_point, -128, 127, DType::float32, QType::int8, false};
  spread.run(k.round->quantize_linear, arguments, scratch.get());
  keep(levels);
  return results;
}

}  // namespace

int main() {
  constexpr int callers = 4;
  constexpr int64_t rows = 30;
  const std::vector<float> x = samples(660000);
  int count = 0;
  const Isa* const isa = isas(&count);
  for (int i = 0; i < count; ++i) {
    if (!isa[i].runnable) continue;
    set_num_threads(1);
    const std::vector<char> expected = everything(isa[i].kernels, x, rows);
    for (const int threads : {2, 3}) {
      std::vector<std::thread> all;
      for (int caller = 0; caller < callers; ++caller) {
        all.emplace_back([&] {
          set_num_threads(threads);
          if (everything(isa[i].kernels, x, rows) != expected) ++failures;
        });
      }
      for (std::thread& caller : all) caller.join();
    }
    std::printf("%s: %d results differ\n", isa[i].name, failures.load());
  }
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
