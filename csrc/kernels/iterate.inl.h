// Walks over a Plan: odometers, gathers of strided runs, and contiguous blocks of any view. Compiled once per
// instruction set.
#pragma once

#include "layout/plan.h"

namespace {

constexpr int kBlock =
    8192;  // elements of one block of a run; a sum is folded block by block, whatever the instruction set
constexpr int kBlockPad = 64;  // elements that a block buffer needs behind its end for full stores

template <class E>
using Element = decltype(element(E{}));
template <class E>
using Vector = decltype(load(static_cast<const E*>(nullptr)));

// Visits every index of `axes`, the first axis fastest. `in` is the offset in bytes, `out` in output elements.
struct Odometer {
  const Axis* axes;
  int n;
  int64_t in = 0;
  int64_t out = 0;
  int64_t index[kMaxDims];

  Odometer(const Axis* first, int count) : axes(first), n(count) {
    for (int i = 0; i < n; ++i) index[i] = 0;
  }
  bool next() {
    for (int i = 0; i < n; ++i) {
      if (++index[i] < axes[i].size) {
        in += axes[i].stride;
        out += axes[i].out;
        return true;
      }
      index[i] = 0;
      in -= axes[i].stride * (axes[i].size - 1);
      out -= axes[i].out * (axes[i].size - 1);
    }
    return false;
  }
};

// dst[i] = element i of a run, the bits as they are. Not vectorised: hardware gathers lose to scalar loads here.
template <class E>
void gather(E* dst, const char* src, int64_t stride, int64_t n) {
  for (int64_t i = 0; i < n; ++i) __builtin_memcpy(dst + i, src + i * stride, sizeof(E));
}

// dst[i] = element i of a run, converted to float or double. May write up to a vector behind dst + n.
template <class E>
void convert_run(Element<E>* dst, const char* src, int64_t stride, int64_t n) {
  using V = Vector<E>;
  if (stride == static_cast<int64_t>(sizeof(E))) {
    const E* x = reinterpret_cast<const E*>(src);
    int64_t i = 0;
    for (; i + V::lanes <= n; i += V::lanes) store(dst + i, load(x + i));
    if (i < n) store(dst + i, load_partial(x + i, static_cast<int>(n - i), set1(Element<E>(0))));
    return;
  }
  for (int64_t i = 0; i < n; ++i) dst[i] = element(read<E>(src + i * stride));
}

constexpr int64_t kLongRun = 256;  // elements of a run that is cut into blocks of its own; shorter ones are packed

// The reduced elements that belong to one output, as contiguous blocks of float or double, in the order of the plan:
//   BlockReader<E> reader(plan, plan.data + kept_offset, buffer);   // buffer: kBlock + kBlockPad elements
//   while (reader.next()) use(reader.data, reader.size);
// A long contiguous run of a type that needs no conversion is read in place.
// With T = E, elements of 16 bits stay as they are.
template <class E, class T = Element<E>>
struct BlockReader {
  const T* data = nullptr;
  int64_t size = 0;

  BlockReader(const Plan& plan, const char* base, T* buffer)
      : base_(base),
        buffer_(buffer),
        run_(plan.n_reduced ? plan.reduced[0].size : 1),
        stride_(plan.n_reduced ? plan.reduced[0].stride : static_cast<int64_t>(sizeof(E))),
        outer_(plan.reduced + 1, plan.n_reduced ? plan.n_reduced - 1 : 0) {}

  bool next() {
    if (done_) return false;
    data = buffer_;
    if (run_ >= kLongRun) {
      const char* p = base_ + outer_.in + at_ * stride_;
      size = run_ - at_ < kBlock ? run_ - at_ : kBlock;
      constexpr bool converts = sizeof(E) != sizeof(T);
      const bool in_place =
          !converts && stride_ == static_cast<int64_t>(sizeof(E)) && reinterpret_cast<uintptr_t>(p) % alignof(T) == 0;
      if (in_place) {
        data = reinterpret_cast<const T*>(p);
      } else {
        take_run(buffer_, p, size);
      }
      advance(size);
      return true;
    }
    size = 0;
    while (!done_ && size < kBlock) {
      const int64_t room = kBlock - size;
      const int64_t n = run_ - at_ < room ? run_ - at_ : room;
      take_run(buffer_ + size, base_ + outer_.in + at_ * stride_, n);
      size += n;
      advance(n);
    }
    return true;
  }

 private:
  void take_run(T* to, const char* from, int64_t n) const {
    if constexpr (sizeof(T) == sizeof(uint16_t)) {
      if (stride_ == static_cast<int64_t>(sizeof(E))) {
        __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(E));
      } else {
        gather(to, from, stride_, n);
      }
    } else {
      convert_run<E>(to, from, stride_, n);
    }
  }
  void advance(int64_t n) {
    at_ += n;
    if (at_ == run_) {
      at_ = 0;
      done_ = !outer_.next();
    }
  }

  const char* base_;
  T* buffer_;
  int64_t run_;
  int64_t stride_;
  int64_t at_ = 0;
  bool done_ = false;
  Odometer outer_;
};

}  // namespace
