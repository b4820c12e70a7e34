// Radix selection on order-preserving keys: the fall-back of the select family. Right whatever the data, linear, slow.
#pragma once

#include "simd/elements.h"

namespace {

// Unsigned integers in the order of the values (-0.0 before +0.0).
QS_INLINE uint32_t order_key(float x) {
  const uint32_t b = bits_of(x);
  return b ^ (b >> 31 ? 0xffffffffu : 0x80000000u);
}
QS_INLINE uint64_t order_key(double x) {
  const uint64_t b = bits_of(x);
  return b ^ (b >> 63 ? ~uint64_t{0} : uint64_t{1} << 63);
}
QS_INLINE float from_order_key(uint32_t k) { return float_from_bits(k ^ (k >> 31 ? 0x80000000u : 0xffffffffu)); }
QS_INLINE double from_order_key(uint64_t k) {
  return double_from_bits(k ^ (k >> 63 ? uint64_t{1} << 63 : ~uint64_t{0}));
}

// One block, in the shape of BlockReader.
template <class T>
struct OneBlock {
  const T* data;
  int64_t size;
  bool done = false;
  bool next() {
    const bool first = !done;
    done = true;
    return first;
  }
};

// The element of the given rank among those that are not NaN. `blocks` is copied for every digit of the key, so it must
// be at its start.
template <bool magnitude, class T, class Blocks>
T select_by_key(const Blocks& blocks, int64_t rank) {
  using Key = decltype(order_key(T{}));
  constexpr int digit = 11;
  int64_t count[1 << digit];
  Key prefix = 0, fixed = 0;
  for (int shift = 8 * sizeof(Key); shift > 0;) {
    const int width = shift < digit ? shift : digit;
    shift -= width;
    const Key mask = (Key{1} << width) - 1;
    for (auto& c : count) c = 0;
    for (Blocks reader = blocks; reader.next();) {
      for (int64_t i = 0; i < reader.size; ++i) {
        const T x = magnitude ? (reader.data[i] < 0 ? -reader.data[i] : reader.data[i]) : reader.data[i];
        const Key key = order_key(x);
        if (x == x && (key & fixed) == prefix) ++count[key >> shift & mask];
      }
    }
    Key bin = 0;
    for (; rank >= count[bin]; ++bin) rank -= count[bin];
    prefix |= bin << shift;
    fixed |= mask << shift;
  }
  return from_order_key(prefix);
}

}  // namespace
