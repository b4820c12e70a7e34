// Planes of one element per output, for kernels that find more of an output than their caller wants to have: the number
// of NaN by which a policy goes, the sum of which a mean is made. For many small sets such planes are as large as the
// input; these are computed in blocks of outputs, whose planes lie in scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>

#include "layout/parts.h"
#include "parallel/spread.h"

namespace qs {

// `n` planes, one behind the other, of elements of `item` bytes. Without memory they live as long as the computation.
struct Planes {
  void* memory;
  size_t item;
  size_t n = 1;
};

// bytes of results that are elements of the input, or lie between them.
inline size_t result_item(const Plan& plan) noexcept {
  return plan.dtype == DType::float64 ? sizeof(double) : sizeof(float);
}

// The mean of each output, of its sum and its number of NaN, rounded once; NaN where nothing is left.
inline void divide(const Plan& plan, const void* sums, const void* nan, void* mean) noexcept {
  const auto* const sum = static_cast<const double*>(sums);
  for (int64_t i = 0; i < plan.outputs; ++i) {
    const int64_t n = plan.count - static_cast<const int64_t*>(nan)[i];
    const double value = n > 0 ? sum[i] / static_cast<double>(n) : std::numeric_limits<double>::quiet_NaN();
    if (plan.dtype == DType::float64) {
      static_cast<double*>(mean)[i] = value;
    } else {
      static_cast<float*>(mean)[i] = static_cast<float>(value);
    }
  }
}

// Gives the outputs of a part numbers of its own, from zero, in the order of its axes.
inline void number_outputs(Plan* part) noexcept {
  part->out_offset = 0;
  part->outputs = 1;
  for (int k = 0; k < part->n_kept; ++k) {
    part->kept[k].out = part->outputs;
    part->outputs *= part->kept[k].size;
  }
}

// Whether the outputs of a part have these numbers already, but for the first one.
inline bool numbered_alike(const Plan& part, const Plan& block) noexcept {
  for (int k = 0; k < part.n_kept; ++k) {
    if (part.kept[k].out != block.kept[k].out && part.kept[k].size > 1) return false;
  }
  return true;
}

// Calls visit(first, n, output, step) for each run of that numbering: first + i has the number output + i * step in the
// whole plan.
template <class Visit>
void each_run(const Plan& part, const Visit& visit) noexcept {
  const Axis run = part.n_kept > 0 ? part.kept[0] : Axis{1, 0, 1};
  int64_t index[kMaxDims] = {};
  int64_t first = 0, output = part.out_offset;
  for (;;) {
    visit(first, run.size, output, run.out);
    first += run.size;
    int k = 1;
    for (; k < part.n_kept; ++k) {
      output += part.kept[k].out;
      if (++index[k] < part.kept[k].size) break;
      output -= part.kept[k].size * part.kept[k].out;
      index[k] = 0;
    }
    if (k >= part.n_kept) return;
  }
}

// `Spread` spreads the kernel itself, over the whole plan.
template <class Spread>
class SpreadPlanes {
 public:
  static constexpr int kMost = 9;

  // `planes`, `n` of them and kMost at most, outlives this object. prepare(spread) sees what spreads the whole plan.
  template <class Prepare>
  SpreadPlanes(const Plan& plan, const Planes* planes, int n, const Prepare& prepare) noexcept
      : plan_(plan), planes_(planes), n_(n) {
    size_t hidden = 0, all = 0;
    for (int k = 0; k < n; ++k) {
      all += planes[k].item * planes[k].n;
      if (planes[k].memory == nullptr) hidden += planes[k].item * planes[k].n;
    }
    blocks_ = reads_small_sets(plan) && hidden * static_cast<size_t>(plan.outputs) > kFewBytes;
    if (!blocks_) {
      prepare(whole_.emplace(plan));
      kernel_bytes_ = lines(whole_->scratch_bytes());
      per_thread_ = kernel_bytes_ + hidden * static_cast<size_t>(plan.outputs) + kLine * static_cast<size_t>(n);
      return;
    }
    int64_t outputs = kBlockInput / (plan.count * plan.item);
    if (const auto fit = static_cast<int64_t>(kBlockBytes / all); outputs > fit) outputs = fit;
    outputs = outputs < kLeastColumns ? kLeastColumns : outputs / kLeastColumns * kLeastColumns;
    cut_ = cut_outputs(plan, outputs, kLeastColumns);
    Plan block;
    output_part(plan, cut_, 0, &block);
    number_outputs(&block);
    kernel_bytes_ = lines(Spread(block).scratch_bytes());
    per_thread_ = kernel_bytes_ + lines(all * static_cast<size_t>(block.outputs)) + kLine * static_cast<size_t>(n);
    threads_ = threads_for(plan.outputs * plan.count * plan.item, per_thread_);
  }

  SpreadPlanes(const Plan& plan, const Planes* planes, int n) noexcept
      : SpreadPlanes(plan, planes, n, [](Spread&) {}) {}

  size_t scratch_bytes() const noexcept { return static_cast<size_t>(threads_) * per_thread_; }

  // Not where there are blocks.
  const std::optional<Spread>& whole() const noexcept { return whole_; }

  // compute(plan, spread, planes, memory): the kernel, for the whole plan or, on some thread, for a block whose outputs
  // are numbered from zero. planes[k] is the memory of the k-th.
  template <class Compute>
  void run(void* scratch, const Compute& compute) const noexcept {
    void* at[kMost] = {};
    if (!blocks_) {
      place(scratch, plan_.outputs, [&](int k) { return planes_[k].memory; }, at);
      return compute(plan_, *whole_, at, scratch);
    }
    parallel(cut_.parts, threads_, [&](int64_t i, int worker) {
      char* const own = static_cast<char*>(scratch) + static_cast<size_t>(worker) * per_thread_;
      Plan part;
      output_part(plan_, cut_, i, &part);
      Plan block = part;
      number_outputs(&block);
      // Results whose outputs follow one another are written where they belong.
      const bool in_order = numbered_alike(part, block);
      const auto in_place = [&](int k) { return in_order && planes_[k].n == 1 && planes_[k].memory != nullptr; };
      const auto target = [&](int k) -> void* {
        return in_place(k) ? static_cast<char*>(planes_[k].memory) + part.out_offset * planes_[k].item : nullptr;
      };
      void* found[kMost] = {};
      place(own, block.outputs, target, found);
      compute(block, Spread(block), found, own);
      for (int k = 0; k < n_; ++k) {
        if (planes_[k].memory == nullptr || in_place(k)) continue;
        if (planes_[k].item == sizeof(uint64_t)) {
          deliver<uint64_t>(part, block.outputs, found[k], planes_[k]);
        } else {
          deliver<uint32_t>(part, block.outputs, found[k], planes_[k]);
        }
      }
    });
  }

 private:
  static constexpr size_t kLine = 64;
  static constexpr size_t kFewBytes = 8 * 1024;       // in the room for objects that every call has
  static constexpr size_t kBlockBytes = 96 * 1024;    // planes of a block; they stay in the cache
  static constexpr int64_t kBlockInput = 256 * 1024;  // too little for a second thread

  static size_t lines(size_t bytes) noexcept { return (bytes + kLine - 1) / kLine * kLine; }

  // Planes without `memory` follow that of the kernel.
  template <class Memory>
  void place(void* scratch, int64_t outputs, const Memory& memory, void** at) const noexcept {
    char* next = static_cast<char*>(scratch) + kernel_bytes_;
    for (int k = 0; k < n_; ++k) {
      at[k] = memory(k);
      if (at[k] != nullptr) continue;
      at[k] = next;
      next += lines(planes_[k].item * planes_[k].n * static_cast<size_t>(outputs));
    }
  }

  template <class T>
  void deliver(const Plan& part, int64_t outputs, const void* found, const Planes& planes) const noexcept {
    for (size_t j = 0; j < planes.n; ++j) {
      const T* const from = static_cast<const T*>(found) + static_cast<int64_t>(j) * outputs;
      T* const to = static_cast<T*>(planes.memory) + static_cast<int64_t>(j) * plan_.outputs;
      each_run(part, [=](int64_t first, int64_t n, int64_t output, int64_t step) {
        if (step == 1) {
          std::memcpy(to + output, from + first, static_cast<size_t>(n) * sizeof(T));
        } else {
          for (int64_t i = 0; i < n; ++i) to[output + i * step] = from[first + i];
        }
      });
    }
  }

  const Plan& plan_;
  const Planes* planes_;
  int n_;
  bool blocks_;
  std::optional<Spread> whole_;
  Cut cut_{};
  int threads_ = 1;
  size_t kernel_bytes_;
  size_t per_thread_;
};

}  // namespace qs
