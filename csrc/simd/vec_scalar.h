// The vector trait of one lane: the reference. Contract: vec.md.
#pragma once

#include "simd/elements.h"

namespace {

struct mf32 {
  bool m;
};
struct mf64 {
  bool m;
};
struct vf32 {
  using elem = float;
  using mask = mf32;
  static constexpr int lanes = 1;
  float v;
};
struct vf64 {
  using elem = double;
  using mask = mf64;
  static constexpr int lanes = 1;
  double v;
};
struct vi32 {
  using elem = int32_t;
  using mask = mf32;
  static constexpr int lanes = 1;
  int32_t v;
};

struct vu8 {
  using elem = uint8_t;
  static constexpr int lanes = 2;  // neighbours are added
  uint8_t v[2];
};

struct mi16 {
  bool m;
};
struct vi16 {
  using elem = int16_t;
  using mask = mi16;
  static constexpr int lanes = 1;
  int16_t v;
};

constexpr int kLanes = 1;
constexpr int kLanes64 = 1;
constexpr int kHalves = 1;
constexpr bool kFusedMultiplyAdd = false;

// Constants
QS_INLINE vf32 set1(float x) { return {x}; }
QS_INLINE vf64 set1(double x) { return {x}; }
QS_INLINE vi32 set1(int32_t x) { return {x}; }
QS_INLINE vi32 lane_index() { return {0}; }

// Loads and stores
QS_INLINE vf32 load(const float* p) { return {read<float>(p)}; }
QS_INLINE vf64 load(const double* p) { return {read<double>(p)}; }
QS_INLINE vi32 load(const int32_t* p) { return {read<int32_t>(p)}; }
QS_INLINE vf32 load(const f16* p) { return {element(read<f16>(p))}; }
QS_INLINE vf32 load(const bf16* p) { return {element(read<bf16>(p))}; }
QS_INLINE vi32 load(const int8_t* p) { return {*p}; }
QS_INLINE vi32 load(const uint8_t* p) { return {*p}; }
QS_INLINE vi32 load(const int16_t* p) { return {read<int16_t>(p)}; }
QS_INLINE vi32 load(const uint16_t* p) { return {read<uint16_t>(p)}; }
template <class E, class V>
QS_INLINE V load_partial(const E* p, int n, V fill) {
  return n > 0 ? V{load(p)} : fill;
}
QS_INLINE void store(float* p, vf32 x) { write(p, x.v); }
QS_INLINE void store(double* p, vf64 x) { write(p, x.v); }
QS_INLINE void store(int32_t* p, vi32 x) { write(p, x.v); }
template <class E, class V>
QS_INLINE void store_partial(E* p, V x, int n) {
  if (n > 0) store(p, x);
}
QS_INLINE void stream(float* p, vf32 x) { store(p, x); }
QS_INLINE void stream_fence() {}
template <class Q>
QS_INLINE void store_saturated(Q* p, vi32 x) {
  constexpr int32_t low = static_cast<Q>(-1) > 0 ? 0 : -(1 << (8 * sizeof(Q) - 1));
  constexpr int32_t high = static_cast<Q>(-1) > 0 ? (1 << (8 * sizeof(Q))) - 1 : (1 << (8 * sizeof(Q) - 1)) - 1;
  write(p, static_cast<Q>(x.v < low ? low : x.v > high ? high : x.v));
}
template <class Q>
QS_INLINE void store_saturated_partial(Q* p, vi32 x, int n) {
  if (n > 0) store_saturated(p, x);
}
template <class Q>
QS_INLINE void store_saturated(Q* p, const vi32 (&x)[4]) {
  for (int i = 0; i < 4; ++i) store_saturated(p + i, x[i]);
}
template <class Q>
QS_INLINE void stream_saturated(Q* p, const vi32 (&x)[4]) {
  store_saturated(p, x);
}

// Four vectors of integers, saturated to 16 bits.
struct Packed16 {
  int16_t v[4];
};
QS_INLINE int16_t saturated16(int32_t x) {
  return static_cast<int16_t>(x < INT16_MIN ? INT16_MIN : x > INT16_MAX ? INT16_MAX : x);
}
QS_INLINE Packed16 pack16(const vi32 (&x)[4]) {
  return {{saturated16(x[0].v), saturated16(x[1].v), saturated16(x[2].v), saturated16(x[3].v)}};
}
QS_INLINE Packed16 add_saturated(Packed16 a, Packed16 b) {
  for (int i = 0; i < 4; ++i) a.v[i] = saturated16(a.v[i] + b.v[i]);
  return a;
}
QS_INLINE bool any_lowest(Packed16 x) {
  return x.v[0] == INT16_MIN || x.v[1] == INT16_MIN || x.v[2] == INT16_MIN || x.v[3] == INT16_MIN;
}
template <class Q>
QS_INLINE void store_clamped(Q* p, Packed16 x, int32_t low, int32_t high) {
  for (int i = 0; i < 4; ++i) write(p + i, static_cast<Q>(x.v[i] < low ? low : x.v[i] > high ? high : x.v[i]));
}
template <class Q>
QS_INLINE void stream_clamped(Q* p, Packed16 x, int32_t low, int32_t high) {
  store_clamped(p, x, low, high);
}

// Arithmetic
#define QS_FLOAT_OPS(V, M)                                                     \
  QS_INLINE V min(V x, V acc) { return {x.v < acc.v ? x.v : acc.v}; }          \
  QS_INLINE V max(V x, V acc) { return {x.v > acc.v ? x.v : acc.v}; }          \
  QS_INLINE V add(V a, V b) { return {a.v + b.v}; }                            \
  QS_INLINE V sub(V a, V b) { return {a.v - b.v}; }                            \
  QS_INLINE V mul(V a, V b) { return {a.v * b.v}; }                            \
  QS_INLINE V div(V a, V b) { return {a.v / b.v}; }                            \
  QS_INLINE M lt(V a, V b) { return {a.v < b.v}; }                             \
  QS_INLINE M le(V a, V b) { return {a.v <= b.v}; }                            \
  QS_INLINE M gt(V a, V b) { return {a.v > b.v}; }                             \
  QS_INLINE M ge(V a, V b) { return {a.v >= b.v}; }                            \
  QS_INLINE M eq(V a, V b) { return {a.v == b.v}; }                            \
  QS_INLINE M unordered(V a, V b) { return {!(a.v == a.v) || !(b.v == b.v)}; } \
  QS_INLINE V select(M m, V a, V b) { return m.m ? a : b; }                    \
  QS_INLINE V::elem reduce_min(V x) { return x.v; }                            \
  QS_INLINE V::elem reduce_max(V x) { return x.v; }                            \
  QS_INLINE int compress_store(V::elem* p, M m, V x) {                         \
    write(p, x.v);                                                             \
    return m.m;                                                                \
  }                                                                            \
  QS_INLINE M mask_or(M a, M b) { return {a.m || b.m}; }                       \
  QS_INLINE M mask_and(M a, M b) { return {a.m && b.m}; }                      \
  QS_INLINE M mask_not(M a) { return {!a.m}; }                                 \
  QS_INLINE bool any(M a) { return a.m; }                                      \
  QS_INLINE int popcount(M a) { return a.m; }                                  \
  QS_INLINE uint32_t to_bits(M a) { return a.m; }                              \
  QS_INLINE V fma(V a, V b, V c) { return {QS_FMA(a.v, b.v, c.v)}; }           \
  QS_INLINE V fnma(V a, V b, V c) { return {QS_FMA(-a.v, b.v, c.v)}; }
#define QS_FMA __builtin_fmaf
QS_FLOAT_OPS(vf32, mf32)
#undef QS_FMA
#define QS_FMA __builtin_fma
QS_FLOAT_OPS(vf64, mf64)
#undef QS_FMA
#undef QS_FLOAT_OPS
// The index of the lowest bit that is set; 64 if there is none.
QS_INLINE int first_one(uint64_t bits) { return bits ? __builtin_ctzll(bits) : 64; }
struct LaneCount {
  int64_t v = 0;
  QS_INLINE void add(mf32 a) { v += a.m; }
  QS_INLINE void add(mf64 a) { v += a.m; }
  QS_INLINE int64_t total() const { return v; }
};
QS_INLINE vf32 keep(mf32 m, vf32 x) { return {m.m ? x.v : 0.0f}; }
QS_INLINE vf32 abs(vf32 x) { return {__builtin_fabsf(x.v)}; }
QS_INLINE vf64 abs(vf64 x) { return {__builtin_fabs(x.v)}; }
QS_INLINE vf32 round_even(vf32 x) { return {__builtin_rintf(x.v)}; }
QS_INLINE vf64 round_even(vf64 x) { return {__builtin_rint(x.v)}; }
QS_INLINE mf32 no_lanes(vf32) { return {false}; }
QS_INLINE mf64 no_lanes(vf64) { return {false}; }
QS_INLINE mf32 first_lanes(vf32, int n) { return {n > 0}; }
QS_INLINE mf64 first_lanes(vf64, int n) { return {n > 0}; }

// Conversions
QS_INLINE vi32 to_i32(vf32 x) {
  return {x.v >= -0x1p31f && x.v < 0x1p31f ? static_cast<int32_t>(__builtin_rintf(x.v)) : INT32_MIN};
}
QS_INLINE vi32 truncate(vf32 x) { return {static_cast<int32_t>(x.v)}; }
QS_INLINE vf32 to_f32(vi32 x) { return {static_cast<float>(x.v)}; }
QS_INLINE vi32 as_i32(vf32 x) { return {static_cast<int32_t>(bits_of(x.v))}; }
QS_INLINE vf32 as_f32(vi32 x) { return {float_from_bits(static_cast<uint32_t>(x.v))}; }
template <int half>
QS_INLINE vf64 widen(vf32 x) {
  return {static_cast<double>(x.v)};
}
QS_INLINE vf32 narrow(vf64 low, vf64) { return {static_cast<float>(low.v)}; }

// Integers
QS_INLINE vi32 add(vi32 a, vi32 b) {
  return {static_cast<int32_t>(static_cast<uint32_t>(a.v) + static_cast<uint32_t>(b.v))};
}
QS_INLINE vi32 sub(vi32 a, vi32 b) {
  return {static_cast<int32_t>(static_cast<uint32_t>(a.v) - static_cast<uint32_t>(b.v))};
}
QS_INLINE vi32 bit_and(vi32 a, vi32 b) { return {a.v & b.v}; }
QS_INLINE vi32 bit_or(vi32 a, vi32 b) { return {a.v | b.v}; }
QS_INLINE vi32 bit_xor(vi32 a, vi32 b) { return {a.v ^ b.v}; }
QS_INLINE vi32 min(vi32 a, vi32 b) { return {a.v < b.v ? a.v : b.v}; }
QS_INLINE vi32 max(vi32 a, vi32 b) { return {a.v > b.v ? a.v : b.v}; }
QS_INLINE mf32 eq(vi32 a, vi32 b) { return {a.v == b.v}; }
QS_INLINE mf32 gt(vi32 a, vi32 b) { return {a.v > b.v}; }
QS_INLINE int compress_store(int32_t* p, mf32 m, vi32 x) {
  write(p, x.v);
  return m.m;
}
QS_INLINE vi32 select(mf32 m, vi32 a, vi32 b) { return m.m ? a : b; }
template <int n>
QS_INLINE vi32 shift_left(vi32 a) {
  return {static_cast<int32_t>(static_cast<uint32_t>(a.v) << n)};
}
template <int n>
QS_INLINE vi32 shift_right(vi32 a) {
  return {a.v >> n};
}
template <int n>
QS_INLINE vi32 shift_right_logical(vi32 a) {
  return {static_cast<int32_t>(static_cast<uint32_t>(a.v) >> n)};
}

QS_INLINE vf32 whole(vf32 x) { return x; }
QS_INLINE vf64 whole(vf64 x) { return x; }

// 16-bit floats as integers in the order of their values.
QS_INLINE vi16 load_ordered(const int16_t* p) {
  const int16_t bits = read<int16_t>(p);
  return {static_cast<int16_t>(bits ^ ((bits >> 15) & 0x7fff))};
}
QS_INLINE vi16 min(vi16 a, vi16 b) { return a.v < b.v ? a : b; }
QS_INLINE vi16 max(vi16 a, vi16 b) { return a.v > b.v ? a : b; }
QS_INLINE int16_t reduce_min(vi16 x) { return x.v; }
QS_INLINE int16_t reduce_max(vi16 x) { return x.v; }
QS_INLINE vi16 set1(int16_t x) { return {x}; }
QS_INLINE vi16 load_magnitude_key(const int16_t* p) { return {static_cast<int16_t>(read<int16_t>(p) & 0x7fff)}; }
QS_INLINE vi16 load_key(const int16_t* p) {
  const int16_t x = read<int16_t>(p), magnitude = static_cast<int16_t>(x & 0x7fff);
  return {static_cast<int16_t>(x < 0 ? -magnitude : magnitude)};
}
QS_INLINE mi16 lt(vi16 a, vi16 b) { return {a.v < b.v}; }
QS_INLINE mi16 le(vi16 a, vi16 b) { return {a.v <= b.v}; }
QS_INLINE mi16 gt(vi16 a, vi16 b) { return {a.v > b.v}; }
QS_INLINE mi16 eq(vi16 a, vi16 b) { return {a.v == b.v}; }
QS_INLINE mi16 mask_or(mi16 a, mi16 b) { return {a.m || b.m}; }
QS_INLINE mi16 mask_and(mi16 a, mi16 b) { return {a.m && b.m}; }
QS_INLINE uint32_t to_bits(mi16 a) { return a.m; }
QS_INLINE bool any(mi16 a) { return a.m; }
struct ShortLaneCount {
  int64_t v = 0;
  QS_INLINE void add(mi16 a) { v += a.m; }
  QS_INLINE int64_t total() const { return v; }
};

// Bytes as magnitudes.
QS_INLINE vu8 set1(uint8_t x) { return {{x, x}}; }
QS_INLINE vu8 load_levels(const uint8_t* p) { return {{p[0], p[1]}}; }
QS_INLINE vu8 load_positive(const int8_t* p) {
  return {{static_cast<uint8_t>(p[0] > 0 ? p[0] : 0), static_cast<uint8_t>(p[1] > 0 ? p[1] : 0)}};
}
QS_INLINE vu8 load_negative(const int8_t* p) {
  return {{static_cast<uint8_t>(p[0] < 0 ? -p[0] : 0), static_cast<uint8_t>(p[1] < 0 ? -p[1] : 0)}};
}
QS_INLINE vu8 min(vu8 a, vu8 b) { return {{a.v[0] < b.v[0] ? a.v[0] : b.v[0], a.v[1] < b.v[1] ? a.v[1] : b.v[1]}}; }
QS_INLINE vu8 max(vu8 a, vu8 b) { return {{a.v[0] > b.v[0] ? a.v[0] : b.v[0], a.v[1] > b.v[1] ? a.v[1] : b.v[1]}}; }
QS_INLINE uint8_t add_saturated(uint8_t a, uint8_t b) { return static_cast<uint8_t>(a + b > 255 ? 255 : a + b); }
QS_INLINE vu8 add_saturated(vu8 a, vu8 b) { return {{add_saturated(a.v[0], b.v[0]), add_saturated(a.v[1], b.v[1])}}; }
QS_INLINE vu8 add_next_saturated(vu8 a) { return {{add_saturated(a.v[0], a.v[1]), a.v[1]}}; }
QS_INLINE uint64_t equal_bits(vu8 a, vu8 b) {
  return static_cast<uint64_t>(a.v[0] == b.v[0]) | static_cast<uint64_t>(a.v[1] == b.v[1]) << 1;
}
QS_INLINE uint64_t greater_bits(vu8 a, vu8 b) {
  return static_cast<uint64_t>(a.v[0] > b.v[0]) | static_cast<uint64_t>(a.v[1] > b.v[1]) << 1;
}
QS_INLINE void store(uint8_t* p, vu8 x) { __builtin_memcpy(p, x.v, 2); }
QS_INLINE int count_ones(uint64_t bits) {
  int n = 0;
  for (; bits != 0; bits &= bits - 1) ++n;
  return n;
}

// Four bytes in every lane, low address first.
QS_INLINE vi32 load_bytes(const int8_t* p) { return {read<int32_t>(p)}; }
QS_INLINE int32_t pair_sum(vi32 u, vi32 s, int i) {
  const int32_t low = ((u.v >> 8 * i) & 0xff) * static_cast<int8_t>(s.v >> 8 * i);
  return low + ((u.v >> (8 * i + 8)) & 0xff) * static_cast<int8_t>(s.v >> (8 * i + 8));
}
QS_INLINE int32_t saturate16(int32_t x) { return x < -32768 ? -32768 : x > 32767 ? 32767 : x; }
QS_INLINE vi32 dot4_saturated(vi32 u, vi32 s) {
  return {saturate16(pair_sum(u, s, 0)) + saturate16(pair_sum(u, s, 2))};
}
QS_INLINE vi32 dot4_saturations(vi32 u, vi32 s) {
  const int32_t low = pair_sum(u, s, 0), high = pair_sum(u, s, 2);
  return {(low != saturate16(low)) + (high != saturate16(high))};
}

// Denormals are not slow enough here to matter, and the rounding mode is the caller's.
struct FlushDenormals {
  FlushDenormals() {}
};

struct CleanUpperHalves {
  CleanUpperHalves() {}
};

QS_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace
