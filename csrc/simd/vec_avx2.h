// The vector trait of 256 bits (x86-64-v3: AVX2, FMA, F16C). Contract: vec.md.
#pragma once

#include <immintrin.h>

#include "simd/elements.h"

namespace {

struct mf32 {
  __m256 m;
};  // all bits of a lane, or none
struct mf64 {
  __m256d m;
};
struct vf32 {
  using elem = float;
  using mask = mf32;
  static constexpr int lanes = 8;
  __m256 v;
};
struct vf64 {
  using elem = double;
  using mask = mf64;
  static constexpr int lanes = 4;
  __m256d v;
};
struct vi32 {
  using elem = int32_t;
  using mask = mf32;
  static constexpr int lanes = 8;
  __m256i v;
};

struct vu8 {
  using elem = uint8_t;
  static constexpr int lanes = 32;
  __m256i v;
};

struct mi16 {
  __m256i m;
};
struct vi16 {
  using elem = int16_t;
  using mask = mi16;
  static constexpr int lanes = 16;
  __m256i v;
};

constexpr int kLanes = 8;
constexpr int kLanes64 = 4;
constexpr int kHalves = 2;
constexpr bool kFusedMultiplyAdd = true;

// Row m moves the lanes whose bits are set in m to the front, for _mm256_permutevar8x32. A double takes two
// neighbouring lanes.
struct CompressTables {
  alignas(32) int32_t f32[256][8];
  alignas(32) int32_t f64[16][8];
  constexpr CompressTables() : f32(), f64() {
    for (int m = 0; m < 256; ++m) {
      int n = 0;
      for (int i = 0; i < 8; ++i)
        if (m >> i & 1) f32[m][n++] = i;
    }
    for (int m = 0; m < 16; ++m) {
      int n = 0;
      for (int i = 0; i < 4; ++i)
        if (m >> i & 1) {
          f64[m][n++] = 2 * i;
          f64[m][n++] = 2 * i + 1;
        }
    }
  }
};
static constexpr CompressTables kCompress{};
// A window of eight lanes that starts n before the middle has its first n lanes set.
alignas(32) static constexpr int32_t kFirst[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

// Constants
QS_INLINE vf32 set1(float x) { return {_mm256_set1_ps(x)}; }
QS_INLINE vf64 set1(double x) { return {_mm256_set1_pd(x)}; }
QS_INLINE vi32 set1(int32_t x) { return {_mm256_set1_epi32(x)}; }
QS_INLINE vi32 lane_index() { return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)}; }

// Masks
QS_INLINE __m256i first8(int n) {
  n = n < 0 ? 0 : n > 8 ? 8 : n;
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kFirst + 8 - n));
}
QS_INLINE mf32 no_lanes(vf32) { return {_mm256_setzero_ps()}; }
QS_INLINE mf64 no_lanes(vf64) { return {_mm256_setzero_pd()}; }
QS_INLINE mf32 first_lanes(vf32, int n) { return {_mm256_castsi256_ps(first8(n))}; }
QS_INLINE mf64 first_lanes(vf64, int n) { return {_mm256_castsi256_pd(first8(n > 4 ? 8 : 2 * n))}; }
QS_INLINE mf32 mask_or(mf32 a, mf32 b) { return {_mm256_or_ps(a.m, b.m)}; }
QS_INLINE mf64 mask_or(mf64 a, mf64 b) { return {_mm256_or_pd(a.m, b.m)}; }
QS_INLINE mf32 mask_and(mf32 a, mf32 b) { return {_mm256_and_ps(a.m, b.m)}; }
QS_INLINE mf64 mask_and(mf64 a, mf64 b) { return {_mm256_and_pd(a.m, b.m)}; }
QS_INLINE mf32 mask_not(mf32 a) { return {_mm256_xor_ps(a.m, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))}; }
QS_INLINE mf64 mask_not(mf64 a) { return {_mm256_xor_pd(a.m, _mm256_castsi256_pd(_mm256_set1_epi32(-1)))}; }
QS_INLINE uint32_t to_bits(mf32 a) { return static_cast<uint32_t>(_mm256_movemask_ps(a.m)); }
QS_INLINE uint32_t to_bits(mf64 a) { return static_cast<uint32_t>(_mm256_movemask_pd(a.m)); }
QS_INLINE bool any(mf32 a) { return to_bits(a) != 0; }
QS_INLINE bool any(mf64 a) { return to_bits(a) != 0; }
QS_INLINE int popcount(mf32 a) { return __builtin_popcount(to_bits(a)); }
QS_INLINE int popcount(mf64 a) { return __builtin_popcount(to_bits(a)); }
QS_INLINE int64_t first_one(uint64_t bits) { return static_cast<int64_t>(_tzcnt_u64(bits)); }
struct LaneCount {
  __m256i v = _mm256_setzero_si256();
  QS_INLINE void add(mf32 a) { v = _mm256_sub_epi32(v, _mm256_castps_si256(a.m)); }
  QS_INLINE void add(mf64 a) { v = _mm256_sub_epi64(v, _mm256_castpd_si256(a.m)); }
  QS_INLINE int64_t total() const {
    int32_t lane[8];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lane), v);
    int64_t sum = 0;
    for (const int32_t n : lane) sum += n;
    return sum;
  }
};

// Loads and stores
QS_INLINE vf32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
QS_INLINE vf64 load(const double* p) { return {_mm256_loadu_pd(p)}; }
QS_INLINE vi32 load(const int32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
QS_INLINE __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
QS_INLINE __m128i load64(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
QS_INLINE vf32 load(const f16* p) { return {_mm256_cvtph_ps(load128(p))}; }
QS_INLINE vf32 load(const bf16* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(p)), 16))};
}
QS_INLINE vi32 load(const int8_t* p) { return {_mm256_cvtepi8_epi32(load64(p))}; }
QS_INLINE vi32 load(const uint8_t* p) { return {_mm256_cvtepu8_epi32(load64(p))}; }
QS_INLINE vi32 load(const int16_t* p) { return {_mm256_cvtepi16_epi32(load128(p))}; }
QS_INLINE vi32 load(const uint16_t* p) { return {_mm256_cvtepu16_epi32(load128(p))}; }

QS_INLINE vf32 select(mf32 m, vf32 a, vf32 b) { return {_mm256_blendv_ps(b.v, a.v, m.m)}; }
QS_INLINE vf64 select(mf64 m, vf64 a, vf64 b) { return {_mm256_blendv_pd(b.v, a.v, m.m)}; }
QS_INLINE vi32 select(mf32 m, vi32 a, vi32 b) {
  return {_mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(b.v), _mm256_castsi256_ps(a.v), m.m))};
}

QS_INLINE vf32 keep(mf32 m, vf32 x) { return {_mm256_and_ps(m.m, x.v)}; }

QS_INLINE vf32 load_partial(const float* p, int n, vf32 fill) {
  const __m256i first = first8(n);
  return select(mf32{_mm256_castsi256_ps(first)}, vf32{_mm256_maskload_ps(p, first)}, fill);
}
QS_INLINE vf64 load_partial(const double* p, int n, vf64 fill) {
  const mf64 first = first_lanes(fill, n);
  return select(first, vf64{_mm256_maskload_pd(p, _mm256_castpd_si256(first.m))}, fill);
}
QS_INLINE vi32 load_partial(const int32_t* p, int n, vi32 fill) {
  const __m256i first = first8(n);
  return select(mf32{_mm256_castsi256_ps(first)}, vi32{_mm256_maskload_epi32(p, first)}, fill);
}
// Small elements have no masked load: copy what exists to a full vector.
template <class E, class V>
QS_INLINE V load_partial(const E* p, int n, V fill) {
  E copy[8] = {};
  for (int i = 0; i < 8 && i < n; ++i) __builtin_memcpy(copy + i, p + i, sizeof(E));
  return select(mf32{_mm256_castsi256_ps(first8(n))}, load(copy), fill);
}
QS_INLINE void store(float* p, vf32 x) { _mm256_storeu_ps(p, x.v); }
QS_INLINE void store(double* p, vf64 x) { _mm256_storeu_pd(p, x.v); }
QS_INLINE void store(int32_t* p, vi32 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.v); }
QS_INLINE void store_partial(float* p, vf32 x, int n) { _mm256_maskstore_ps(p, first8(n), x.v); }
QS_INLINE void store_partial(double* p, vf64 x, int n) {
  _mm256_maskstore_pd(p, _mm256_castpd_si256(first_lanes(x, n).m), x.v);
}
QS_INLINE void store_partial(int32_t* p, vi32 x, int n) { _mm256_maskstore_epi32(p, first8(n), x.v); }
QS_INLINE void stream(float* p, vf32 x) { _mm256_stream_ps(p, x.v); }
QS_INLINE void stream_fence() { _mm_sfence(); }

QS_INLINE __m128i pack16(vi32 x) {
  return _mm_packs_epi32(_mm256_castsi256_si128(x.v), _mm256_extracti128_si256(x.v, 1));
}
QS_INLINE void store_saturated(int16_t* p, vi32 x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), pack16(x)); }
QS_INLINE void store_saturated(uint16_t* p, vi32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi32(_mm256_castsi256_si128(x.v), _mm256_extracti128_si256(x.v, 1)));
}
QS_INLINE void store_saturated(int8_t* p, vi32 x) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(pack16(x), pack16(x)));
}
QS_INLINE void store_saturated(uint8_t* p, vi32 x) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(pack16(x), pack16(x)));
}
template <class Q>
QS_INLINE void store_saturated_partial(Q* p, vi32 x, int n) {
  Q copy[8];
  store_saturated(copy, x);
  for (int i = 0; i < 8 && i < n; ++i) __builtin_memcpy(p + i, copy + i, sizeof(Q));
}

// The packing instructions work within 128-bit lanes; the permutation puts the pieces of four elements in order.
QS_INLINE __m256i pack16(vi32 a, vi32 b) { return _mm256_packs_epi32(a.v, b.v); }
QS_INLINE __m256i in_order8(__m256i x) {
  return _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
QS_INLINE __m256i in_order16(__m256i x) { return _mm256_permute4x64_epi64(x, _MM_SHUFFLE(3, 1, 2, 0)); }
QS_INLINE __m256i saturated(const int16_t*, const vi32 (&x)[4], int i) {
  return in_order16(pack16(x[2 * i], x[2 * i + 1]));
}
QS_INLINE __m256i saturated(const uint16_t*, const vi32 (&x)[4], int i) {
  return in_order16(_mm256_packus_epi32(x[2 * i].v, x[2 * i + 1].v));
}
template <class Q>
QS_INLINE void store_saturated(Q* p, const vi32 (&x)[4]) {
  for (int i = 0; i < static_cast<int>(sizeof(Q)); ++i) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p) + i, saturated(p, x, i));
  }
}
template <class Q>
QS_INLINE void stream_saturated(Q* p, const vi32 (&x)[4]) {
  for (int i = 0; i < static_cast<int>(sizeof(Q)); ++i) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p) + i, saturated(p, x, i));
  }
}

// Four vectors of integers, saturated to 16 bits.
struct Packed16 {
  __m256i v[2];
};
QS_INLINE Packed16 pack16(const vi32 (&x)[4]) { return {{pack16(x[0], x[1]), pack16(x[2], x[3])}}; }
QS_INLINE Packed16 add_saturated(Packed16 a, Packed16 b) {
  return {{_mm256_adds_epi16(a.v[0], b.v[0]), _mm256_adds_epi16(a.v[1], b.v[1])}};
}
QS_INLINE bool any_lowest(Packed16 x) {
  const __m256i lowest = _mm256_cmpeq_epi16(_mm256_min_epi16(x.v[0], x.v[1]), _mm256_set1_epi16(INT16_MIN));
  return _mm256_movemask_epi8(lowest) != 0;
}
QS_INLINE __m256i clamped(const int8_t*, Packed16 x, int32_t low, int32_t high) {
  const __m256i bytes = in_order8(_mm256_packs_epi16(x.v[0], x.v[1]));
  return _mm256_min_epi8(_mm256_max_epi8(bytes, _mm256_set1_epi8(static_cast<char>(low))),
                         _mm256_set1_epi8(static_cast<char>(high)));
}
QS_INLINE __m256i clamped(const uint8_t*, Packed16 x, int32_t low, int32_t high) {
  const __m256i bytes = in_order8(_mm256_packus_epi16(x.v[0], x.v[1]));
  return _mm256_min_epu8(_mm256_max_epu8(bytes, _mm256_set1_epi8(static_cast<char>(low))),
                         _mm256_set1_epi8(static_cast<char>(high)));
}
template <class Q>
QS_INLINE void store_clamped(Q* p, Packed16 x, int32_t low, int32_t high) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), clamped(p, x, low, high));
}
template <class Q>
QS_INLINE void stream_clamped(Q* p, Packed16 x, int32_t low, int32_t high) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), clamped(p, x, low, high));
}

// Arithmetic
QS_INLINE vf32 min(vf32 x, vf32 acc) { return {_mm256_min_ps(x.v, acc.v)}; }
QS_INLINE vf64 min(vf64 x, vf64 acc) { return {_mm256_min_pd(x.v, acc.v)}; }
QS_INLINE vf32 max(vf32 x, vf32 acc) { return {_mm256_max_ps(x.v, acc.v)}; }
QS_INLINE vf64 max(vf64 x, vf64 acc) { return {_mm256_max_pd(x.v, acc.v)}; }
QS_INLINE vf32 add(vf32 a, vf32 b) { return {_mm256_add_ps(a.v, b.v)}; }
QS_INLINE vf64 add(vf64 a, vf64 b) { return {_mm256_add_pd(a.v, b.v)}; }
QS_INLINE vf32 sub(vf32 a, vf32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
QS_INLINE vf64 sub(vf64 a, vf64 b) { return {_mm256_sub_pd(a.v, b.v)}; }
QS_INLINE vf32 mul(vf32 a, vf32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
QS_INLINE vf64 mul(vf64 a, vf64 b) { return {_mm256_mul_pd(a.v, b.v)}; }
QS_INLINE vf32 div(vf32 a, vf32 b) { return {_mm256_div_ps(a.v, b.v)}; }
QS_INLINE vf64 div(vf64 a, vf64 b) { return {_mm256_div_pd(a.v, b.v)}; }
QS_INLINE vf32 fma(vf32 a, vf32 b, vf32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
QS_INLINE vf64 fma(vf64 a, vf64 b, vf64 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
QS_INLINE vf32 fnma(vf32 a, vf32 b, vf32 c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
QS_INLINE vf64 fnma(vf64 a, vf64 b, vf64 c) { return {_mm256_fnmadd_pd(a.v, b.v, c.v)}; }
QS_INLINE vf32 abs(vf32 x) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x.v)}; }
QS_INLINE vf64 abs(vf64 x) { return {_mm256_andnot_pd(_mm256_set1_pd(-0.0), x.v)}; }
QS_INLINE vf32 round_even(vf32 x) { return {_mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
QS_INLINE vf64 round_even(vf64 x) { return {_mm256_round_pd(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
#define QS_COMPARE(name, op)                                                    \
  QS_INLINE mf32 name(vf32 a, vf32 b) { return {_mm256_cmp_ps(a.v, b.v, op)}; } \
  QS_INLINE mf64 name(vf64 a, vf64 b) { return {_mm256_cmp_pd(a.v, b.v, op)}; }
QS_COMPARE(lt, _CMP_LT_OQ)
QS_COMPARE(le, _CMP_LE_OQ)
QS_COMPARE(gt, _CMP_GT_OQ)
QS_COMPARE(ge, _CMP_GE_OQ)
QS_COMPARE(eq, _CMP_EQ_OQ)
QS_COMPARE(unordered, _CMP_UNORD_Q)
#undef QS_COMPARE
QS_INLINE float reduce_min(vf32 x) {
  __m128 y = _mm_min_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
  y = _mm_min_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_min_ss(y, _mm_movehdup_ps(y)));
}
QS_INLINE float reduce_max(vf32 x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}
QS_INLINE double reduce_min(vf64 x) {
  const __m128d y = _mm_min_pd(_mm256_castpd256_pd128(x.v), _mm256_extractf128_pd(x.v, 1));
  return _mm_cvtsd_f64(_mm_min_sd(y, _mm_unpackhi_pd(y, y)));
}
QS_INLINE double reduce_max(vf64 x) {
  const __m128d y = _mm_max_pd(_mm256_castpd256_pd128(x.v), _mm256_extractf128_pd(x.v, 1));
  return _mm_cvtsd_f64(_mm_max_sd(y, _mm_unpackhi_pd(y, y)));
}
QS_INLINE int compress_store(float* p, mf32 m, vf32 x) {
  const uint32_t bits = to_bits(m);
  const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCompress.f32[bits]));
  _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(x.v, order));
  return __builtin_popcount(bits);
}
QS_INLINE int compress_store(double* p, mf64 m, vf64 x) {
  const uint32_t bits = to_bits(m);
  const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCompress.f64[bits]));
  _mm256_storeu_pd(p, _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(x.v), order)));
  return __builtin_popcount(bits);
}

// Conversions
QS_INLINE vi32 to_i32(vf32 x) { return {_mm256_cvtps_epi32(x.v)}; }
QS_INLINE vi32 truncate(vf32 x) { return {_mm256_cvttps_epi32(x.v)}; }
QS_INLINE vf32 to_f32(vi32 x) { return {_mm256_cvtepi32_ps(x.v)}; }
QS_INLINE vi32 as_i32(vf32 x) { return {_mm256_castps_si256(x.v)}; }
QS_INLINE vf32 as_f32(vi32 x) { return {_mm256_castsi256_ps(x.v)}; }
template <int half>
QS_INLINE vf64 widen(vf32 x) {
  return {_mm256_cvtps_pd(_mm256_extractf128_ps(x.v, half))};
}
QS_INLINE vf32 narrow(vf64 low, vf64 high) {
  return {_mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low.v)), _mm256_cvtpd_ps(high.v), 1)};
}

// Integers
QS_INLINE vi32 add(vi32 a, vi32 b) { return {_mm256_add_epi32(a.v, b.v)}; }
QS_INLINE vi32 sub(vi32 a, vi32 b) { return {_mm256_sub_epi32(a.v, b.v)}; }
QS_INLINE vi32 bit_and(vi32 a, vi32 b) { return {_mm256_and_si256(a.v, b.v)}; }
QS_INLINE vi32 bit_or(vi32 a, vi32 b) { return {_mm256_or_si256(a.v, b.v)}; }
QS_INLINE vi32 bit_xor(vi32 a, vi32 b) { return {_mm256_xor_si256(a.v, b.v)}; }
QS_INLINE vi32 min(vi32 a, vi32 b) { return {_mm256_min_epi32(a.v, b.v)}; }
QS_INLINE vi32 max(vi32 a, vi32 b) { return {_mm256_max_epi32(a.v, b.v)}; }
QS_INLINE mf32 eq(vi32 a, vi32 b) { return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(a.v, b.v))}; }
QS_INLINE mf32 gt(vi32 a, vi32 b) { return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(a.v, b.v))}; }
QS_INLINE int compress_store(int32_t* p, mf32 m, vi32 x) {
  return compress_store(reinterpret_cast<float*>(p), m, as_f32(x));
}
template <int n>
QS_INLINE vi32 shift_left(vi32 a) {
  return {_mm256_slli_epi32(a.v, n)};
}
template <int n>
QS_INLINE vi32 shift_right(vi32 a) {
  return {_mm256_srai_epi32(a.v, n)};
}
template <int n>
QS_INLINE vi32 shift_right_logical(vi32 a) {
  return {_mm256_srli_epi32(a.v, n)};
}

// 16-bit floats as integers in the order of their values.
QS_INLINE vi16 load_ordered(const int16_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm256_xor_si256(bits, _mm256_srli_epi16(_mm256_srai_epi16(bits, 15), 1))};
}
QS_INLINE vi16 min(vi16 a, vi16 b) { return {_mm256_min_epi16(a.v, b.v)}; }
QS_INLINE vi16 max(vi16 a, vi16 b) { return {_mm256_max_epi16(a.v, b.v)}; }
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
QS_INLINE vi16 set1(int16_t x) { return {_mm256_set1_epi16(x)}; }
QS_INLINE vi16 load_magnitude_key(const int16_t* p) {
  const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm256_and_si256(x, _mm256_set1_epi16(0x7fff))};
}
QS_INLINE vi16 load_key(const int16_t* p) {
  const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm256_sign_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x7fff)), x)};
}
QS_INLINE mi16 gt(vi16 a, vi16 b) { return {_mm256_cmpgt_epi16(a.v, b.v)}; }
QS_INLINE mi16 lt(vi16 a, vi16 b) { return gt(b, a); }
QS_INLINE mi16 le(vi16 a, vi16 b) { return {_mm256_cmpeq_epi16(_mm256_min_epi16(a.v, b.v), a.v)}; }
QS_INLINE mi16 eq(vi16 a, vi16 b) { return {_mm256_cmpeq_epi16(a.v, b.v)}; }
QS_INLINE mi16 mask_or(mi16 a, mi16 b) { return {_mm256_or_si256(a.m, b.m)}; }
QS_INLINE mi16 mask_and(mi16 a, mi16 b) { return {_mm256_and_si256(a.m, b.m)}; }
QS_INLINE uint32_t to_bits(mi16 a) {
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(a.m), _mm256_extracti128_si256(a.m, 1));
  return static_cast<uint32_t>(_mm_movemask_epi8(bytes));
}
QS_INLINE bool any(mi16 a) { return _mm256_movemask_epi8(a.m) != 0; }
struct ShortLaneCount {
  __m256i v = _mm256_setzero_si256();
  QS_INLINE void add(mi16 a) { v = _mm256_sub_epi16(v, a.m); }
  QS_INLINE int64_t total() const {
    int16_t lane[vi16::lanes];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lane), v);
    int64_t sum = 0;
    for (const int16_t n : lane) sum += n;
    return sum;
  }
};

// x itself, but loaded whole: the compiler may not fold the load into a masked instruction, which hardware prefetchers
// do not follow.
QS_INLINE vf32 whole(vf32 x) {
  __asm__("" : "+x"(x.v));
  return x;
}
QS_INLINE vf64 whole(vf64 x) {
  __asm__("" : "+x"(x.v));
  return x;
}

// Bytes as magnitudes.
QS_INLINE vu8 set1(uint8_t x) { return {_mm256_set1_epi8(static_cast<char>(x))}; }
QS_INLINE vu8 load_levels(const uint8_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
QS_INLINE vu8 load_positive(const int8_t* p) {
  return {_mm256_max_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm256_setzero_si256())};
}
QS_INLINE vu8 load_negative(const int8_t* p) {
  return {_mm256_sub_epi8(
      _mm256_setzero_si256(),
      _mm256_min_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm256_setzero_si256()))};
}
QS_INLINE vu8 min(vu8 a, vu8 b) { return {_mm256_min_epu8(a.v, b.v)}; }
QS_INLINE vu8 max(vu8 a, vu8 b) { return {_mm256_max_epu8(a.v, b.v)}; }
QS_INLINE vu8 add_saturated(vu8 a, vu8 b) { return {_mm256_adds_epu8(a.v, b.v)}; }
QS_INLINE vu8 add_next_saturated(vu8 a) { return {_mm256_adds_epu8(a.v, _mm256_srli_epi16(a.v, 8))}; }
QS_INLINE uint64_t equal_bits(vu8 a, vu8 b) {
  return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(a.v, b.v)));
}
QS_INLINE uint64_t greater_bits(vu8 a, vu8 b) {
  return 0xffffffff ^ static_cast<uint32_t>(
                          _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_subs_epu8(a.v, b.v), _mm256_setzero_si256())));
}
QS_INLINE void store(uint8_t* p, vu8 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.v); }
QS_INLINE int count_ones(uint64_t bits) { return __builtin_popcountll(bits); }

// Four bytes in every lane, low address first.
QS_INLINE vi32 load_bytes(const int8_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
QS_INLINE vi32 dot4_saturated(vi32 u, vi32 s) {
  return {_mm256_madd_epi16(_mm256_maddubs_epi16(u.v, s.v), _mm256_set1_epi16(1))};
}
// A pair has saturated where its sum differs from the sum that wraps around. A single product fits 16 bits.
QS_INLINE vi32 dot4_saturations(vi32 u, vi32 s) {
  const __m256i even = _mm256_mullo_epi16(_mm256_and_si256(u.v, _mm256_set1_epi16(0xff)),
                                          _mm256_srai_epi16(_mm256_slli_epi16(s.v, 8), 8));
  const __m256i odd = _mm256_mullo_epi16(_mm256_srli_epi16(u.v, 8), _mm256_srai_epi16(s.v, 8));
  const __m256i same = _mm256_cmpeq_epi16(_mm256_add_epi16(even, odd), _mm256_maddubs_epi16(u.v, s.v));
  const __m256i one = _mm256_set1_epi16(1);
  return {_mm256_madd_epi16(_mm256_andnot_si256(same, one), one)};
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
