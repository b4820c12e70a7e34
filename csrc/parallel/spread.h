// Kernels spread over the threads of the pool. Results do not depend on the number of threads: a part writes its own
// outputs, or parts are put together in an order of their own.
//
// Every kernel takes the same steps: a constructor decides on threads and parts, `scratch_bytes` says how much memory
// the caller must provide, 64-byte aligned, and `run` computes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch/dispatch.h"
#include "kernels/arguments.h"
#include "layout/parts.h"
#include "parallel/pool.h"

namespace qs {

using ReduceKernel = void (*)(const Plan*, const ReduceOutput*, void*) noexcept;
using RoundKernel = void (*)(const ElementwisePlan*, const RoundArguments*, void*) noexcept;
using HistogramKernel = void (*)(const Plan*, const HistogramArguments*, void*) noexcept;
using BitHistogramKernel = int64_t (*)(const Plan*, uint64_t*, void*) noexcept;
using PairKernel = void (*)(const PairArguments*, void*) noexcept;
using SaturateKernel = int64_t (*)(const SaturatingProduct*, bool, void*) noexcept;

// The scratch memory that a call may take: 6 % of its input and 2 MB, less a little for objects, shapes and the like.
size_t scratch_budget(int64_t input_bytes) noexcept;

// Whether sets are so small that planes of a few bytes per output are a share of the input that matters; see planes.h.
// Such sets are not cut into segments, so outputs have the same bits in any parts.
bool reads_small_sets(const Plan& plan) noexcept;

// How many threads a call should use: one for each kBytesPerThread of input, as many as num_threads() allows, and as
// many as have room in the scratch memory that a call may take, 6 % of its input and 2 MB.
constexpr int64_t kBytesPerThread = 512 * 1024;
int threads_for(int64_t input_bytes, size_t scratch_per_thread, int64_t bytes_per_thread = kBytesPerThread) noexcept;

// Calls task(chunk, worker) for all chunks; see parallel_for.
template <class Function>
void parallel(int64_t chunks, int threads, const Function& task) noexcept {
  const auto call = [](void* context, int64_t chunk, int worker) noexcept {
    (*static_cast<const Function*>(context))(chunk, worker);
  };
  parallel_for(chunks, threads, call, const_cast<Function*>(&task));
}

// Reductions are computed in the segments of the plan and added in their order, with one thread as with many.
class SpreadReduction {
 public:
  explicit SpreadReduction(const Plan& plan) noexcept;
  size_t scratch_bytes() const noexcept { return scratch_bytes_; }
  int threads() const noexcept { return threads_; }
  void run(ReduceKernel kernel, const ReduceOutput& out, void* scratch) const noexcept;

 private:
  const Plan& plan_;
  Cut segments_;
  Cut outputs_;
  int threads_ = 1;
  size_t scratch_bytes_;
};

// Kernels whose outputs are independent: task(part of the plan, scratch memory of a thread).
class SpreadOutputs {
 public:
  // A part is worth about `part_bytes` of input.
  SpreadOutputs(const Plan& plan, size_t scratch_per_thread, int64_t least_columns, int64_t part_bytes) noexcept;
  size_t scratch_bytes() const noexcept { return static_cast<size_t>(threads_) * scratch_per_thread_; }
  int threads() const noexcept { return threads_; }
  size_t scratch_per_thread() const noexcept { return scratch_per_thread_; }
  // Threads may use more memory than they need, `whole_scratch` at most: as much as the call has.
  void widen(size_t whole_scratch) noexcept;

  template <class Function>
  void run(void* scratch, const Function& task) const noexcept {
    if (threads_ == 1) return task(&plan_, scratch);
    parallel(outputs_.parts, threads_, [&](int64_t i, int worker) {
      Plan part;
      output_part(plan_, outputs_, i, &part);
      task(&part, static_cast<char*>(scratch) + static_cast<size_t>(worker) * scratch_per_thread_);
    });
  }

 private:
  const Plan& plan_;
  size_t scratch_per_thread_;
  Cut outputs_;
  int threads_;
};

// For the columns family.
class SpreadColumns : public SpreadOutputs {
 public:
  explicit SpreadColumns(const Plan& plan) noexcept;
};
// For the select family: every thread takes other sets, or all threads read the same set; see read_sets().
SpreadOutputs spread_sets(const Plan& plan) noexcept;
SetReading read_sets(const Plan& plan, const SpreadOutputs& spread) noexcept;

// Quantiles by the family that suits the layout: neighbouring sets side by side (columns) if there are enough of them
// to fill the lanes, else one set after the other (select).
class SpreadQuantiles {
 public:
  explicit SpreadQuantiles(const Plan& plan) noexcept;
  size_t scratch_bytes() const noexcept;
  // Any number of probabilities, one plane of `values` each; `nan` and `moments` may be null. With `moments` also finds
  // what reduce_all does, in the same read where the plan allows it. Returns the number of fall-backs.
  int64_t run(const Kernels& kernels, const double* q, size_t n_q, bool magnitude, void* values, int64_t* nan,
              const ReduceOutput* moments, void* scratch) const noexcept;

  // Asks that `run` also fills a bit histogram in the read that finds the moments, for n_q probabilities; before
  // scratch_bytes(). Returns whether it will: only where that costs less than a read of its own. add_counted() then
  // adds what `run` left in its scratch memory to counts[65536].
  bool count_bits(size_t n_q) noexcept;
  void add_counted(const void* scratch, uint64_t* counts) const noexcept;

 private:
  uint32_t* counters(void* scratch) const noexcept;

  const Plan& plan_;
  bool side_by_side_;
  SpreadOutputs spread_;
  SpreadReduction moments_;
  int counting_ = 0;        // threads that count
  size_t counters_at_ = 0;  // bytes of scratch memory in front of the counters
};

class SpreadRounding {
 public:
  explicit SpreadRounding(const ElementwisePlan& plan) noexcept;
  size_t scratch_bytes() const noexcept { return static_cast<size_t>(threads_) * kRoundScratchBytes; }
  void run(RoundKernel kernel, const RoundArguments& arguments, void* scratch) const noexcept;

 private:
  const ElementwisePlan& plan_;
  Cut elements_;
  int threads_;
};

// Every thread has counters of its own, which are added at the end. For plans without a kept axis.
class SpreadHistogram {
 public:
  // `bins` counters of 8 bytes.
  SpreadHistogram(const Plan& plan, int64_t bins) noexcept;
  size_t scratch_bytes() const noexcept { return static_cast<size_t>(threads_) * per_thread_; }
  void run(HistogramKernel kernel, const HistogramArguments& arguments, void* scratch) const noexcept;
  // Returns the number of NaN.
  int64_t run(BitHistogramKernel kernel, uint64_t* counts, void* scratch) const noexcept;

 private:
  template <class Count, class Function>
  void count(Count* counts, void* scratch, const Function& kernel) const noexcept;

  const Plan& plan_;
  int64_t bins_;
  size_t per_thread_;
  Cut elements_;
  int threads_;
};

// Whether reduce_all and the select family read every element of the plan along runs, and so can fill ReduceOutput's
// counters meanwhile.
bool reads_along_runs(const Plan& plan) noexcept;
// Adds the counters of some workers to counts[65536].
void add_counters(const uint32_t* counters, int workers, uint64_t* counts) noexcept;

class SpreadProduct {
 public:
  explicit SpreadProduct(const SaturatingProduct& product) noexcept;
  size_t scratch_bytes() const noexcept { return static_cast<size_t>(threads_) * kSaturateScratchBytes; }
  // Returns the number of saturated pairs, if `count` asks for it.
  int64_t run(SaturateKernel kernel, bool count, void* scratch) const noexcept;

 private:
  const SaturatingProduct& product_;
  int64_t rows_;     // of a part
  int64_t columns_;  // of a part
  int threads_;
};

// Rows of weights, some to a part.
class SpreadPairs {
 public:
  explicit SpreadPairs(const PairArguments& arguments) noexcept;
  size_t scratch_bytes() const noexcept { return static_cast<size_t>(threads_) * kCertifyScratchBytes; }
  void run(PairKernel kernel, void* scratch) const noexcept;

 private:
  const PairArguments& arguments_;
  int threads_;
};

}  // namespace qs
