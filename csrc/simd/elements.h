// Element types as they lie in memory, and helpers that every trait uses. In an anonymous namespace like all code that
// is compiled once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace {

struct f16 {
  uint16_t bits;
};  // IEEE binary16
struct bf16 {
  uint16_t bits;
};  // upper half of a binary32

#define QS_INLINE inline __attribute__((always_inline))

template <class T>
QS_INLINE T read(const void* p) {
  T value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}
template <class T>
QS_INLINE void write(void* p, T value) {
  __builtin_memcpy(p, &value, sizeof value);
}

QS_INLINE float float_from_bits(uint32_t bits) { return read<float>(&bits); }
QS_INLINE double double_from_bits(uint64_t bits) { return read<double>(&bits); }
QS_INLINE uint32_t bits_of(float x) { return read<uint32_t>(&x); }
QS_INLINE uint64_t bits_of(double x) { return read<uint64_t>(&x); }

// Exact conversions of one element to the type that kernels compute in.
QS_INLINE float element(float x) { return x; }
QS_INLINE double element(double x) { return x; }
QS_INLINE float element(bf16 x) { return float_from_bits(static_cast<uint32_t>(x.bits) << 16); }
QS_INLINE float element(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t magnitude = x.bits & 0x7fff;
  if (magnitude >= 0x7c00) {  // Inf, NaN: keep the payload, make it quiet as the hardware conversion does
    return float_from_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13 | (magnitude > 0x7c00 ? 0x400000 : 0));
  }
  if (magnitude < 0x0400) {  // zero, denormal: the integer times 2^-24 is exact
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return sign ? -value : value;
  }
  return float_from_bits(sign | ((magnitude << 13) + ((127 - 15) << 23)));
}

}  // namespace
