// The vector trait of 512 bits (x86-64-v4: AVX-512 F, BW, CD, DQ, VL). Contract: vec.md.
#pragma once

#include <immintrin.h>

#include "simd/elements.h"

namespace {

struct mf32 {
  __mmask16 m;
};
struct mf64 {
  __mmask8 m;
};
struct vf32 {
  using elem = float;
  using mask = mf32;
  static constexpr int lanes = 16;
  __m512 v;
};
struct vf64 {
  using elem = double;
  using mask = mf64;
  static constexpr int lanes = 8;
  __m512d v;
};
struct vi32 {
  using elem = int32_t;
  using mask = mf32;
  static constexpr int lanes = 16;
  __m512i v;
};

struct vu8 {
  using elem = uint8_t;
  static constexpr int lanes = 64;
  __m512i v;
};

struct mi16 {
  __mmask32 m;
};
struct vi16 {
  using elem = int16_t;
  using mask = mi16;
  static constexpr int lanes = 32;
  __m512i v;
};

constexpr int kLanes = 16;
constexpr int kLanes64 = 8;
constexpr int kHalves = 2;
constexpr bool kFusedMultiplyAdd = true;

// Constants
QS_INLINE vf32 set1(float x) { return {_mm512_set1_ps(x)}; }
QS_INLINE vf64 set1(double x) { return {_mm512_set1_pd(x)}; }
QS_INLINE vi32 set1(int32_t x) { return {_mm512_set1_epi32(x)}; }
QS_INLINE vi32 lane_index() { return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)}; }

// Masks
QS_INLINE uint32_t first_bits(int n) { return n <= 0 ? 0 : n >= 16 ? 0xffff : (1u << n) - 1; }
QS_INLINE mf32 no_lanes(vf32) { return {0}; }
QS_INLINE mf64 no_lanes(vf64) { return {0}; }
QS_INLINE mf32 first_lanes(vf32, int n) { return {static_cast<__mmask16>(first_bits(n))}; }
QS_INLINE mf64 first_lanes(vf64, int n) { return {static_cast<__mmask8>(first_bits(n))}; }
QS_INLINE mf32 mask_or(mf32 a, mf32 b) { return {static_cast<__mmask16>(a.m | b.m)}; }
QS_INLINE mf64 mask_or(mf64 a, mf64 b) { return {static_cast<__mmask8>(a.m | b.m)}; }
QS_INLINE mf32 mask_and(mf32 a, mf32 b) { return {static_cast<__mmask16>(a.m & b.m)}; }
QS_INLINE mf64 mask_and(mf64 a, mf64 b) { return {static_cast<__mmask8>(a.m & b.m)}; }
QS_INLINE mf32 mask_not(mf32 a) { return {static_cast<__mmask16>(~a.m)}; }
QS_INLINE mf64 mask_not(mf64 a) { return {static_cast<__mmask8>(~a.m)}; }
// GCC 12 may spill a mask as 16 bits and count the ones of 32 bits of its slot, so the move to a general register is
// explicit.
QS_INLINE uint32_t to_bits(mf32 a) {
  uint32_t bits;
  __asm__("kmovw %1, %0" : "=r"(bits) : "k"(a.m));
  return bits;
}
QS_INLINE uint32_t to_bits(mf64 a) {
  uint32_t bits;
  __asm__("kmovb %1, %0" : "=r"(bits) : "k"(a.m));
  return bits;
}
QS_INLINE bool any(mf32 a) { return a.m != 0; }
QS_INLINE bool any(mf64 a) { return a.m != 0; }
QS_INLINE int popcount(mf32 a) { return __builtin_popcount(to_bits(a)); }
QS_INLINE int popcount(mf64 a) { return __builtin_popcount(to_bits(a)); }
QS_INLINE int64_t first_one(uint64_t bits) { return static_cast<int64_t>(_tzcnt_u64(bits)); }
struct LaneCount {
  __m512i v = _mm512_setzero_si512();
  QS_INLINE void add(mf32 a) { v = _mm512_mask_sub_epi32(v, a.m, v, _mm512_set1_epi32(-1)); }
  QS_INLINE void add(mf64 a) { v = _mm512_mask_sub_epi64(v, a.m, v, _mm512_set1_epi64(-1)); }
  QS_INLINE int64_t total() const { return _mm512_reduce_add_epi32(v); }
};

// Loads and stores
QS_INLINE __m512i shift16(__m256i x) { return _mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16); }
QS_INLINE vf32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
QS_INLINE vf64 load(const double* p) { return {_mm512_loadu_pd(p)}; }
QS_INLINE vi32 load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
QS_INLINE __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
QS_INLINE __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
QS_INLINE vf32 load(const f16* p) { return {_mm512_cvtph_ps(load256(p))}; }
QS_INLINE vf32 load(const bf16* p) { return {_mm512_castsi512_ps(shift16(load256(p)))}; }
QS_INLINE vi32 load(const int8_t* p) { return {_mm512_cvtepi8_epi32(load128(p))}; }
QS_INLINE vi32 load(const uint8_t* p) { return {_mm512_cvtepu8_epi32(load128(p))}; }
QS_INLINE vi32 load(const int16_t* p) { return {_mm512_cvtepi16_epi32(load256(p))}; }
QS_INLINE vi32 load(const uint16_t* p) { return {_mm512_cvtepu16_epi32(load256(p))}; }

QS_INLINE vf32 select(mf32 m, vf32 a, vf32 b) { return {_mm512_mask_blend_ps(m.m, b.v, a.v)}; }
QS_INLINE vf64 select(mf64 m, vf64 a, vf64 b) { return {_mm512_mask_blend_pd(m.m, b.v, a.v)}; }
QS_INLINE vi32 select(mf32 m, vi32 a, vi32 b) { return {_mm512_mask_blend_epi32(m.m, b.v, a.v)}; }

QS_INLINE vf32 keep(mf32 m, vf32 x) { return {_mm512_maskz_mov_ps(m.m, x.v)}; }

QS_INLINE vf32 load_partial(const float* p, int n, vf32 fill) {
  return {_mm512_mask_loadu_ps(fill.v, first_lanes(fill, n).m, p)};
}
QS_INLINE vf64 load_partial(const double* p, int n, vf64 fill) {
  return {_mm512_mask_loadu_pd(fill.v, first_lanes(fill, n).m, p)};
}
QS_INLINE vi32 load_partial(const int32_t* p, int n, vi32 fill) {
  return {_mm512_mask_loadu_epi32(fill.v, static_cast<__mmask16>(first_bits(n)), p)};
}
QS_INLINE __m256i load_partial16(const void* p, int n) {
  return _mm256_maskz_loadu_epi16(static_cast<__mmask16>(first_bits(n)), p);
}
QS_INLINE __m128i load_partial8(const void* p, int n) {
  return _mm_maskz_loadu_epi8(static_cast<__mmask16>(first_bits(n)), p);
}
QS_INLINE vf32 load_partial(const f16* p, int n, vf32 fill) {
  return select(first_lanes(fill, n), vf32{_mm512_cvtph_ps(load_partial16(p, n))}, fill);
}
QS_INLINE vf32 load_partial(const bf16* p, int n, vf32 fill) {
  return select(first_lanes(fill, n), vf32{_mm512_castsi512_ps(shift16(load_partial16(p, n)))}, fill);
}
QS_INLINE vi32 load_partial(const int8_t* p, int n, vi32 fill) {
  return select(first_lanes(vf32{}, n), vi32{_mm512_cvtepi8_epi32(load_partial8(p, n))}, fill);
}
QS_INLINE vi32 load_partial(const uint8_t* p, int n, vi32 fill) {
  return select(first_lanes(vf32{}, n), vi32{_mm512_cvtepu8_epi32(load_partial8(p, n))}, fill);
}
QS_INLINE vi32 load_partial(const int16_t* p, int n, vi32 fill) {
  return select(first_lanes(vf32{}, n), vi32{_mm512_cvtepi16_epi32(load_partial16(p, n))}, fill);
}
QS_INLINE vi32 load_partial(const uint16_t* p, int n, vi32 fill) {
  return select(first_lanes(vf32{}, n), vi32{_mm512_cvtepu16_epi32(load_partial16(p, n))}, fill);
}
QS_INLINE void store(float* p, vf32 x) { _mm512_storeu_ps(p, x.v); }
QS_INLINE void store(double* p, vf64 x) { _mm512_storeu_pd(p, x.v); }
QS_INLINE void store(int32_t* p, vi32 x) { _mm512_storeu_si512(p, x.v); }
QS_INLINE void store_partial(float* p, vf32 x, int n) { _mm512_mask_storeu_ps(p, first_lanes(x, n).m, x.v); }
QS_INLINE void store_partial(double* p, vf64 x, int n) { _mm512_mask_storeu_pd(p, first_lanes(x, n).m, x.v); }
QS_INLINE void store_partial(int32_t* p, vi32 x, int n) {
  _mm512_mask_storeu_epi32(p, static_cast<__mmask16>(first_bits(n)), x.v);
}
QS_INLINE void stream(float* p, vf32 x) { _mm512_stream_ps(p, x.v); }
QS_INLINE void stream_fence() { _mm_sfence(); }

// The unsigned conversions read their source as unsigned, so negative values are raised to zero first.
QS_INLINE __m512i not_negative(vi32 x) { return _mm512_max_epi32(x.v, _mm512_setzero_si512()); }
QS_INLINE __m128i saturated(const int8_t*, vi32 x) { return _mm512_cvtsepi32_epi8(x.v); }
QS_INLINE __m128i saturated(const uint8_t*, vi32 x) { return _mm512_cvtusepi32_epi8(not_negative(x)); }
QS_INLINE __m256i saturated(const int16_t*, vi32 x) { return _mm512_cvtsepi32_epi16(x.v); }
QS_INLINE __m256i saturated(const uint16_t*, vi32 x) { return _mm512_cvtusepi32_epi16(not_negative(x)); }
QS_INLINE void store_packed(void* p, __m128i x) { _mm_storeu_si128(static_cast<__m128i*>(p), x); }
QS_INLINE void store_packed(void* p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
QS_INLINE void store_packed(void* p, __m128i x, __mmask16 m) { _mm_mask_storeu_epi8(p, m, x); }
QS_INLINE void store_packed(void* p, __m256i x, __mmask16 m) { _mm256_mask_storeu_epi16(p, m, x); }
template <class Q>
QS_INLINE void store_saturated(Q* p, vi32 x) {
  store_packed(p, saturated(p, x));
}
template <class Q>
QS_INLINE void store_saturated_partial(Q* p, vi32 x, int n) {
  store_packed(p, saturated(p, x), static_cast<__mmask16>(first_bits(n)));
}

// The packing instructions work within 128-bit lanes; the permutation puts the pieces of four elements in order.
QS_INLINE __m512i pack16(vi32 a, vi32 b) { return _mm512_packs_epi32(a.v, b.v); }
QS_INLINE __m512i in_order8(__m512i x) {
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
}
QS_INLINE __m512i in_order16(__m512i x) {
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), x);
}
QS_INLINE __m512i saturated(const int16_t*, const vi32 (&x)[4], int i) {
  return in_order16(pack16(x[2 * i], x[2 * i + 1]));
}
QS_INLINE __m512i saturated(const uint16_t*, const vi32 (&x)[4], int i) {
  return in_order16(_mm512_packus_epi32(x[2 * i].v, x[2 * i + 1].v));
}
template <class Q>
QS_INLINE void store_saturated(Q* p, const vi32 (&x)[4]) {
  for (int i = 0; i < static_cast<int>(sizeof(Q)); ++i)
    _mm512_storeu_si512(reinterpret_cast<__m512i*>(p) + i, saturated(p, x, i));
}
template <class Q>
QS_INLINE void stream_saturated(Q* p, const vi32 (&x)[4]) {
  for (int i = 0; i < static_cast<int>(sizeof(Q)); ++i) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p) + i, saturated(p, x, i));
  }
}

// Four vectors of integers, saturated to 16 bits.
struct Packed16 {
  __m512i v[2];
};
QS_INLINE Packed16 pack16(const vi32 (&x)[4]) { return {{pack16(x[0], x[1]), pack16(x[2], x[3])}}; }
QS_INLINE Packed16 add_saturated(Packed16 a, Packed16 b) {
  return {{_mm512_adds_epi16(a.v[0], b.v[0]), _mm512_adds_epi16(a.v[1], b.v[1])}};
}
QS_INLINE bool any_lowest(Packed16 x) {
  return _mm512_cmpeq_epi16_mask(_mm512_min_epi16(x.v[0], x.v[1]), _mm512_set1_epi16(INT16_MIN)) != 0;
}
QS_INLINE __m512i clamped(const int8_t*, Packed16 x, int32_t low, int32_t high) {
  const __m512i bytes = in_order8(_mm512_packs_epi16(x.v[0], x.v[1]));
  return _mm512_min_epi8(_mm512_max_epi8(bytes, _mm512_set1_epi8(static_cast<char>(low))),
                         _mm512_set1_epi8(static_cast<char>(high)));
}
QS_INLINE __m512i clamped(const uint8_t*, Packed16 x, int32_t low, int32_t high) {
  const __m512i bytes = in_order8(_mm512_packus_epi16(x.v[0], x.v[1]));
  return _mm512_min_epu8(_mm512_max_epu8(bytes, _mm512_set1_epi8(static_cast<char>(low))),
                         _mm512_set1_epi8(static_cast<char>(high)));
}
template <class Q>
QS_INLINE void store_clamped(Q* p, Packed16 x, int32_t low, int32_t high) {
  _mm512_storeu_si512(p, clamped(p, x, low, high));
}
template <class Q>
QS_INLINE void stream_clamped(Q* p, Packed16 x, int32_t low, int32_t high) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), clamped(p, x, low, high));
}

// Arithmetic
QS_INLINE vf32 min(vf32 x, vf32 acc) { return {_mm512_min_ps(x.v, acc.v)}; }
QS_INLINE vf64 min(vf64 x, vf64 acc) { return {_mm512_min_pd(x.v, acc.v)}; }
QS_INLINE vf32 max(vf32 x, vf32 acc) { return {_mm512_max_ps(x.v, acc.v)}; }
QS_INLINE vf64 max(vf64 x, vf64 acc) { return {_mm512_max_pd(x.v, acc.v)}; }
QS_INLINE vf32 add(vf32 a, vf32 b) { return {_mm512_add_ps(a.v, b.v)}; }
QS_INLINE vf64 add(vf64 a, vf64 b) { return {_mm512_add_pd(a.v, b.v)}; }
QS_INLINE vf32 sub(vf32 a, vf32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
QS_INLINE vf64 sub(vf64 a, vf64 b) { return {_mm512_sub_pd(a.v, b.v)}; }
QS_INLINE vf32 mul(vf32 a, vf32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
QS_INLINE vf64 mul(vf64 a, vf64 b) { return {_mm512_mul_pd(a.v, b.v)}; }
QS_INLINE vf32 div(vf32 a, vf32 b) { return {_mm512_div_ps(a.v, b.v)}; }
QS_INLINE vf64 div(vf64 a, vf64 b) { return {_mm512_div_pd(a.v, b.v)}; }
QS_INLINE vf32 fma(vf32 a, vf32 b, vf32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
QS_INLINE vf64 fma(vf64 a, vf64 b, vf64 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
QS_INLINE vf32 fnma(vf32 a, vf32 b, vf32 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
QS_INLINE vf64 fnma(vf64 a, vf64 b, vf64 c) { return {_mm512_fnmadd_pd(a.v, b.v, c.v)}; }
QS_INLINE vf32 abs(vf32 x) { return {_mm512_abs_ps(x.v)}; }
QS_INLINE vf64 abs(vf64 x) { return {_mm512_abs_pd(x.v)}; }
QS_INLINE vf32 round_even(vf32 x) { return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
QS_INLINE vf64 round_even(vf64 x) { return {_mm512_roundscale_pd(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
#define QS_COMPARE(name, op)                                                         \
  QS_INLINE mf32 name(vf32 a, vf32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, op)}; } \
  QS_INLINE mf64 name(vf64 a, vf64 b) { return {_mm512_cmp_pd_mask(a.v, b.v, op)}; }
QS_COMPARE(lt, _CMP_LT_OQ)
QS_COMPARE(le, _CMP_LE_OQ)
QS_COMPARE(gt, _CMP_GT_OQ)
QS_COMPARE(ge, _CMP_GE_OQ)
QS_COMPARE(eq, _CMP_EQ_OQ)
QS_COMPARE(unordered, _CMP_UNORD_Q)
#undef QS_COMPARE
QS_INLINE float reduce_min(vf32 x) { return _mm512_reduce_min_ps(x.v); }
QS_INLINE float reduce_max(vf32 x) { return _mm512_reduce_max_ps(x.v); }
QS_INLINE double reduce_min(vf64 x) { return _mm512_reduce_min_pd(x.v); }
QS_INLINE double reduce_max(vf64 x) { return _mm512_reduce_max_pd(x.v); }
// Compress in a register and store all of it: the store form of the instruction is microcoded on Zen 4.
QS_INLINE int compress_store(float* p, mf32 m, vf32 x) {
  _mm512_storeu_ps(p, _mm512_maskz_compress_ps(m.m, x.v));
  return popcount(m);
}
QS_INLINE int compress_store(double* p, mf64 m, vf64 x) {
  _mm512_storeu_pd(p, _mm512_maskz_compress_pd(m.m, x.v));
  return popcount(m);
}

// Conversions
QS_INLINE vi32 to_i32(vf32 x) { return {_mm512_cvtps_epi32(x.v)}; }
QS_INLINE vi32 truncate(vf32 x) { return {_mm512_cvttps_epi32(x.v)}; }
QS_INLINE vf32 to_f32(vi32 x) { return {_mm512_cvtepi32_ps(x.v)}; }
QS_INLINE vi32 as_i32(vf32 x) { return {_mm512_castps_si512(x.v)}; }
QS_INLINE vf32 as_f32(vi32 x) { return {_mm512_castsi512_ps(x.v)}; }
template <int half>
QS_INLINE vf64 widen(vf32 x) {
  return {_mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, half))};
}
QS_INLINE vf32 narrow(vf64 low, vf64 high) {
  return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low.v)), _mm512_cvtpd_ps(high.v), 1)};
}

// Integers
QS_INLINE vi32 add(vi32 a, vi32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
QS_INLINE vi32 sub(vi32 a, vi32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
QS_INLINE vi32 bit_and(vi32 a, vi32 b) { return {_mm512_and_si512(a.v, b.v)}; }
QS_INLINE vi32 bit_or(vi32 a, vi32 b) { return {_mm512_or_si512(a.v, b.v)}; }
QS_INLINE vi32 bit_xor(vi32 a, vi32 b) { return {_mm512_xor_si512(a.v, b.v)}; }
QS_INLINE vi32 min(vi32 a, vi32 b) { return {_mm512_min_epi32(a.v, b.v)}; }
QS_INLINE vi32 max(vi32 a, vi32 b) { return {_mm512_max_epi32(a.v, b.v)}; }
QS_INLINE mf32 eq(vi32 a, vi32 b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }
QS_INLINE mf32 gt(vi32 a, vi32 b) { return {_mm512_cmpgt_epi32_mask(a.v, b.v)}; }
QS_INLINE int compress_store(int32_t* p, mf32 m, vi32 x) {
  return compress_store(reinterpret_cast<float*>(p), m, as_f32(x));
}
template <int n>
QS_INLINE vi32 shift_left(vi32 a) {
  return {_mm512_slli_epi32(a.v, n)};
}
template <int n>
QS_INLINE vi32 shift_right(vi32 a) {
  return {_mm512_srai_epi32(a.v, n)};
}
template <int n>
QS_INLINE vi32 shift_right_logical(vi32 a) {
  return {_mm512_srli_epi32(a.v, n)};
}

// 16-bit floats as integers in the order of their values.
QS_INLINE vi16 load_ordered(const int16_t* p) {
  const __m512i bits = _mm512_loadu_si512(p);
  return {_mm512_xor_si512(bits, _mm512_srli_epi16(_mm512_srai_epi16(bits, 15), 1))};
}
QS_INLINE vi16 min(vi16 a, vi16 b) { return {_mm512_min_epi16(a.v, b.v)}; }
QS_INLINE vi16 max(vi16 a, vi16 b) { return {_mm512_max_epi16(a.v, b.v)}; }
QS_INLINE int16_t reduce_min(vi16 x) {
  int16_t lane[vi16::lanes];
  __builtin_memcpy(lane, &x.v, sizeof lane);
  int16_t least = lane[0];
  for (const int16_t v : lane) least = v < least ? v : least;
  return least;
}
QS_INLINE int16_t reduce_max(vi16 x) {
  int16_t lane[vi16::lanes];
  __builtin_memcpy(lane, &x.v, sizeof lane);
  int16_t greatest = lane[0];
  for (const int16_t v : lane) greatest = v > greatest ? v : greatest;
  return greatest;
}
QS_INLINE vi16 set1(int16_t x) { return {_mm512_set1_epi16(x)}; }
QS_INLINE vi16 load_magnitude_key(const int16_t* p) {
  return {_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi16(0x7fff))};
}
QS_INLINE vi16 load_key(const int16_t* p) {
  const __m512i x = _mm512_loadu_si512(p), magnitude = _mm512_and_si512(x, _mm512_set1_epi16(0x7fff));
  return {_mm512_mask_sub_epi16(magnitude, _mm512_movepi16_mask(x), _mm512_setzero_si512(), magnitude)};
}
QS_INLINE mi16 lt(vi16 a, vi16 b) { return {_mm512_cmplt_epi16_mask(a.v, b.v)}; }
QS_INLINE mi16 le(vi16 a, vi16 b) { return {_mm512_cmple_epi16_mask(a.v, b.v)}; }
QS_INLINE mi16 gt(vi16 a, vi16 b) { return {_mm512_cmpgt_epi16_mask(a.v, b.v)}; }
QS_INLINE mi16 eq(vi16 a, vi16 b) { return {_mm512_cmpeq_epi16_mask(a.v, b.v)}; }
QS_INLINE mi16 mask_or(mi16 a, mi16 b) { return {_kor_mask32(a.m, b.m)}; }
QS_INLINE mi16 mask_and(mi16 a, mi16 b) { return {_kand_mask32(a.m, b.m)}; }
QS_INLINE uint32_t to_bits(mi16 a) { return _cvtmask32_u32(a.m); }
QS_INLINE bool any(mi16 a) { return to_bits(a) != 0; }
struct ShortLaneCount {
  __m512i v = _mm512_setzero_si512();
  QS_INLINE void add(mi16 a) { v = _mm512_mask_sub_epi16(v, a.m, v, _mm512_set1_epi16(-1)); }
  QS_INLINE int64_t total() const { return _mm512_reduce_add_epi32(_mm512_madd_epi16(v, _mm512_set1_epi16(1))); }
};

// x itself, but loaded whole: the compiler may not fold the load into a masked instruction, which hardware prefetchers
// do not follow.
QS_INLINE vf32 whole(vf32 x) {
  __asm__("" : "+v"(x.v));
  return x;
}
QS_INLINE vf64 whole(vf64 x) {
  __asm__("" : "+v"(x.v));
  return x;
}

// Bytes as magnitudes.
QS_INLINE vu8 set1(uint8_t x) { return {_mm512_set1_epi8(static_cast<char>(x))}; }
QS_INLINE vu8 load_levels(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
QS_INLINE vu8 load_positive(const int8_t* p) {
  return {_mm512_max_epi8(_mm512_loadu_si512(p), _mm512_setzero_si512())};
}
QS_INLINE vu8 load_negative(const int8_t* p) {
  return {_mm512_sub_epi8(_mm512_setzero_si512(), _mm512_min_epi8(_mm512_loadu_si512(p), _mm512_setzero_si512()))};
}
QS_INLINE vu8 min(vu8 a, vu8 b) { return {_mm512_min_epu8(a.v, b.v)}; }
QS_INLINE vu8 max(vu8 a, vu8 b) { return {_mm512_max_epu8(a.v, b.v)}; }
QS_INLINE vu8 add_saturated(vu8 a, vu8 b) { return {_mm512_adds_epu8(a.v, b.v)}; }
QS_INLINE vu8 add_next_saturated(vu8 a) { return {_mm512_adds_epu8(a.v, _mm512_srli_epi16(a.v, 8))}; }
QS_INLINE uint64_t equal_bits(vu8 a, vu8 b) { return _mm512_cmpeq_epu8_mask(a.v, b.v); }
QS_INLINE uint64_t greater_bits(vu8 a, vu8 b) { return _mm512_cmpgt_epu8_mask(a.v, b.v); }
QS_INLINE void store(uint8_t* p, vu8 x) { _mm512_storeu_si512(p, x.v); }
QS_INLINE int count_ones(uint64_t bits) { return __builtin_popcountll(bits); }

// Four bytes in every lane, low address first.
QS_INLINE vi32 load_bytes(const int8_t* p) { return {_mm512_loadu_si512(p)}; }
QS_INLINE vi32 dot4_saturated(vi32 u, vi32 s) {
  return {_mm512_madd_epi16(_mm512_maddubs_epi16(u.v, s.v), _mm512_set1_epi16(1))};
}
// A pair has saturated where its sum differs from the sum that wraps around. A single product fits 16 bits.
QS_INLINE vi32 dot4_saturations(vi32 u, vi32 s) {
  const __m512i even = _mm512_mullo_epi16(_mm512_and_si512(u.v, _mm512_set1_epi16(0xff)),
                                          _mm512_srai_epi16(_mm512_slli_epi16(s.v, 8), 8));
  const __m512i odd = _mm512_mullo_epi16(_mm512_srli_epi16(u.v, 8), _mm512_srai_epi16(s.v, 8));
  const __mmask32 saturated = _mm512_cmpneq_epi16_mask(_mm512_add_epi16(even, odd), _mm512_maddubs_epi16(u.v, s.v));
  const __m512i one = _mm512_set1_epi16(1);
  return {_mm512_madd_epi16(_mm512_maskz_mov_epi16(saturated, one), one)};
}

// While it lives, denormals are read and written as zero, exceptions are masked, and rounding is to nearest even.
struct FlushDenormals {
  uint32_t saved = _mm_getcsr();
  FlushDenormals() { _mm_setcsr(0x9fc0); }
  ~FlushDenormals() { _mm_setcsr(saved); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

// When it dies, only the lower 128 bits of the vector registers are in use.
struct CleanUpperHalves {
  CleanUpperHalves() {}
  ~CleanUpperHalves() { _mm256_zeroupper(); }
};

QS_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace
