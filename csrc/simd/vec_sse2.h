// The vector trait of 128 bits (x86-64 itself: SSE2, nothing later). Contract: vec.md.
#pragma once

#include <emmintrin.h>

#include "simd/elements.h"

namespace {

struct mf32 {
  __m128 m;
};  // all bits of a lane, or none
struct mf64 {
  __m128d m;
};
struct vf32 {
  using elem = float;
  using mask = mf32;
  static constexpr int lanes = 4;
  __m128 v;
};
struct vf64 {
  using elem = double;
  using mask = mf64;
  static constexpr int lanes = 2;
  __m128d v;
};
struct vi32 {
  using elem = int32_t;
  using mask = mf32;
  static constexpr int lanes = 4;
  __m128i v;
};
struct vu8 {
  using elem = uint8_t;
  static constexpr int lanes = 16;
  __m128i v;
};

struct mi16 {
  __m128i m;
};
struct vi16 {
  using elem = int16_t;
  using mask = mi16;
  static constexpr int lanes = 8;
  __m128i v;
};

constexpr int kLanes = 4;
constexpr int kLanes64 = 2;
constexpr int kHalves = 2;
constexpr bool kFusedMultiplyAdd = false;

// Row m moves the lanes whose bits are set in m to the front. No instruction permutes by a variable, so each of them
// moves by as many places as there are gaps before it: by one in the lanes of by1[m], then by two in those of by2[m].
// Lanes behind the selected ones hold anything.
struct CompressTable {
  alignas(16) int32_t by1[16][4];
  alignas(16) int32_t by2[16][4];
  constexpr CompressTable() : by1(), by2() {
    for (int m = 0; m < 16; ++m) {
      int n = 0;
      for (int i = 0; i < 4; ++i) {
        if (!(m >> i & 1)) continue;
        const int gaps = i - n++;
        if (gaps & 1) by1[m][i - 1] = -1;
        if (gaps & 2) by2[m][i - (gaps & 1) - 2] = -1;
      }
    }
  }
};
static constexpr CompressTable kCompress{};
// A window of four lanes that starts n before the middle has its first n lanes set.
alignas(16) static constexpr int32_t kFirst[8] = {-1, -1, -1, -1, 0, 0, 0, 0};

// Constants
QS_INLINE vf32 set1(float x) { return {_mm_set1_ps(x)}; }
QS_INLINE vf64 set1(double x) { return {_mm_set1_pd(x)}; }
QS_INLINE vi32 set1(int32_t x) { return {_mm_set1_epi32(x)}; }
QS_INLINE vi32 lane_index() { return {_mm_setr_epi32(0, 1, 2, 3)}; }

// Masks
QS_INLINE __m128i first4(int n) {
  n = n < 0 ? 0 : n > 4 ? 4 : n;
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(kFirst + 4 - n));
}
QS_INLINE __m128i all_bits() { return _mm_set1_epi32(-1); }
// How many of four bits are set: a row of nibbles. Before SSE4.2 there is no instruction for it.
QS_INLINE int ones(uint32_t bits) { return static_cast<int>((0x4332322132212110u >> (4 * bits)) & 0xf); }
QS_INLINE mf32 no_lanes(vf32) { return {_mm_setzero_ps()}; }
QS_INLINE mf64 no_lanes(vf64) { return {_mm_setzero_pd()}; }
QS_INLINE mf32 first_lanes(vf32, int n) { return {_mm_castsi128_ps(first4(n))}; }
QS_INLINE mf64 first_lanes(vf64, int n) { return {_mm_castsi128_pd(first4(n > 2 ? 4 : 2 * n))}; }
QS_INLINE mf32 mask_or(mf32 a, mf32 b) { return {_mm_or_ps(a.m, b.m)}; }
QS_INLINE mf64 mask_or(mf64 a, mf64 b) { return {_mm_or_pd(a.m, b.m)}; }
QS_INLINE mf32 mask_and(mf32 a, mf32 b) { return {_mm_and_ps(a.m, b.m)}; }
QS_INLINE mf64 mask_and(mf64 a, mf64 b) { return {_mm_and_pd(a.m, b.m)}; }
QS_INLINE mf32 mask_not(mf32 a) { return {_mm_xor_ps(a.m, _mm_castsi128_ps(all_bits()))}; }
QS_INLINE mf64 mask_not(mf64 a) { return {_mm_xor_pd(a.m, _mm_castsi128_pd(all_bits()))}; }
QS_INLINE uint32_t to_bits(mf32 a) { return static_cast<uint32_t>(_mm_movemask_ps(a.m)); }
QS_INLINE uint32_t to_bits(mf64 a) { return static_cast<uint32_t>(_mm_movemask_pd(a.m)); }
QS_INLINE bool any(mf32 a) { return to_bits(a) != 0; }
QS_INLINE bool any(mf64 a) { return to_bits(a) != 0; }
QS_INLINE int popcount(mf32 a) { return ones(to_bits(a)); }
QS_INLINE int popcount(mf64 a) { return ones(to_bits(a)); }
// bsf is undefined for 0.
QS_INLINE int64_t first_one(uint64_t bits) { return bits ? __builtin_ctzll(bits) : 64; }
struct LaneCount {
  __m128i v = _mm_setzero_si128();
  QS_INLINE void add(mf32 a) { v = _mm_sub_epi32(v, _mm_castps_si128(a.m)); }
  QS_INLINE void add(mf64 a) { v = _mm_sub_epi64(v, _mm_castpd_si128(a.m)); }
  QS_INLINE int64_t total() const {
    int32_t lane[4];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lane), v);
    int64_t sum = 0;
    for (const int32_t n : lane) sum += n;
    return sum;
  }
};

// Loads and stores
QS_INLINE __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
QS_INLINE __m128i load64(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
QS_INLINE __m128i load32(const void* p) { return _mm_cvtsi32_si128(read<int32_t>(p)); }
// Elements of 8 or 16 bits to 32: with zeros above them, or in the upper part of a lane, to be shifted down.
QS_INLINE __m128i lower16(__m128i x) { return _mm_unpacklo_epi16(x, _mm_setzero_si128()); }
QS_INLINE __m128i lower8(__m128i x) { return lower16(_mm_unpacklo_epi8(x, _mm_setzero_si128())); }
QS_INLINE __m128i upper16(__m128i x) { return _mm_unpacklo_epi16(_mm_setzero_si128(), x); }
QS_INLINE __m128i upper8(__m128i x) { return upper16(_mm_unpacklo_epi8(_mm_setzero_si128(), x)); }
QS_INLINE __m128i either(__m128i m, __m128i a, __m128i b) {
  return _mm_or_si128(_mm_and_si128(m, a), _mm_andnot_si128(m, b));
}
// As element(f16), branch-free, and without a denormal operand, which the floating-point mode may flush: a denormal
// half is the difference of two normal floats. The subtraction also makes a NaN quiet.
QS_INLINE __m128 from_half(__m128i x) {
  const __m128i magnitude = _mm_and_si128(x, _mm_set1_epi32(0x7fff));
  const __m128i sign = _mm_slli_epi32(_mm_xor_si128(x, magnitude), 16);
  const __m128i bias = _mm_set1_epi32((127 - 15) << 23);
  const __m128i denormal = _mm_cmpgt_epi32(_mm_set1_epi32(0x0400), magnitude);
  const __m128i special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff));       // Inf, NaN: the bias once more
  const __m128i one = _mm_and_si128(denormal, _mm_set1_epi32(1 << 23));             // of the exponent
  const __m128i least = _mm_and_si128(denormal, _mm_set1_epi32((127 - 14) << 23));  // 2^-14, the least normal half
  const __m128i exponent = _mm_add_epi32(_mm_add_epi32(bias, one), _mm_and_si128(special, bias));
  const __m128i sum = _mm_add_epi32(_mm_slli_epi32(magnitude, 13), exponent);
  return _mm_or_ps(_mm_sub_ps(_mm_castsi128_ps(sum), _mm_castsi128_ps(least)), _mm_castsi128_ps(sign));
}
QS_INLINE vf32 load(const float* p) { return {_mm_loadu_ps(p)}; }
QS_INLINE vf64 load(const double* p) { return {_mm_loadu_pd(p)}; }
QS_INLINE vi32 load(const int32_t* p) { return {load128(p)}; }
QS_INLINE vf32 load(const f16* p) { return {from_half(lower16(load64(p)))}; }
QS_INLINE vf32 load(const bf16* p) { return {_mm_castsi128_ps(upper16(load64(p)))}; }
QS_INLINE vi32 load(const int8_t* p) { return {_mm_srai_epi32(upper8(load32(p)), 24)}; }
QS_INLINE vi32 load(const uint8_t* p) { return {lower8(load32(p))}; }
QS_INLINE vi32 load(const int16_t* p) { return {_mm_srai_epi32(upper16(load64(p)), 16)}; }
QS_INLINE vi32 load(const uint16_t* p) { return {lower16(load64(p))}; }

QS_INLINE vf32 select(mf32 m, vf32 a, vf32 b) { return {_mm_or_ps(_mm_and_ps(m.m, a.v), _mm_andnot_ps(m.m, b.v))}; }
QS_INLINE vf64 select(mf64 m, vf64 a, vf64 b) { return {_mm_or_pd(_mm_and_pd(m.m, a.v), _mm_andnot_pd(m.m, b.v))}; }
QS_INLINE vi32 select(mf32 m, vi32 a, vi32 b) { return {either(_mm_castps_si128(m.m), a.v, b.v)}; }

QS_INLINE vf32 keep(mf32 m, vf32 x) { return {_mm_and_ps(m.m, x.v)}; }

// There is no masked load: the first n of four words, zeros behind them.
QS_INLINE __m128i load_words(const void* p, int n) {
  const char* at = static_cast<const char*>(p);
  if (n >= 4) return load128(at);
  if (n <= 0) return _mm_setzero_si128();
  const __m128i last = n & 1 ? load32(at + 4 * (n - 1)) : _mm_setzero_si128();
  return n & 2 ? _mm_unpacklo_epi64(load64(at), last) : last;
}
QS_INLINE vf32 load_partial(const float* p, int n, vf32 fill) {
  return select(first_lanes(fill, n), vf32{_mm_castsi128_ps(load_words(p, n))}, fill);
}
QS_INLINE vf64 load_partial(const double* p, int n, vf64 fill) {
  if (n >= 2) return load(p);
  return n == 1 ? vf64{_mm_move_sd(fill.v, _mm_castsi128_pd(load64(p)))} : fill;
}
QS_INLINE vi32 load_partial(const int32_t* p, int n, vi32 fill) {
  return {either(first4(n), load_words(p, n), fill.v)};
}
// Small elements: copy what exists to a full vector.
template <class E, class V>
QS_INLINE V load_partial(const E* p, int n, V fill) {
  E copy[4] = {};
  for (int i = 0; i < 4 && i < n; ++i) __builtin_memcpy(copy + i, p + i, sizeof(E));
  return select(mf32{_mm_castsi128_ps(first4(n))}, load(copy), fill);
}
QS_INLINE void store128(void* p, __m128i x) { _mm_storeu_si128(static_cast<__m128i*>(p), x); }
QS_INLINE void store64(void* p, __m128i x) { _mm_storel_epi64(static_cast<__m128i*>(p), x); }
QS_INLINE void store32(void* p, __m128i x) { write(p, _mm_cvtsi128_si32(x)); }
QS_INLINE void store(float* p, vf32 x) { _mm_storeu_ps(p, x.v); }
QS_INLINE void store(double* p, vf64 x) { _mm_storeu_pd(p, x.v); }
QS_INLINE void store(int32_t* p, vi32 x) { store128(p, x.v); }
QS_INLINE void store_words(void* p, __m128i x, int n) {
  char* at = static_cast<char*>(p);
  if (n >= 4) return store128(at, x);
  if (n <= 0) return;
  if (n & 2) {
    store64(at, x);
    at += 8;
    x = _mm_unpackhi_epi64(x, x);
  }
  if (n & 1) store32(at, x);
}
QS_INLINE void store_partial(float* p, vf32 x, int n) { store_words(p, _mm_castps_si128(x.v), n); }
QS_INLINE void store_partial(double* p, vf64 x, int n) { store_words(p, _mm_castpd_si128(x.v), n >= 2 ? 4 : 2 * n); }
QS_INLINE void store_partial(int32_t* p, vi32 x, int n) { store_words(p, x.v, n); }
QS_INLINE void stream(float* p, vf32 x) { _mm_stream_ps(p, x.v); }
QS_INLINE void stream_fence() { _mm_sfence(); }

// Packing 32 bits to unsigned 16 is not in SSE2: negative values are raised to zero, and what is left is packed as
// signed around the middle of the range.
QS_INLINE __m128i centred(vi32 x) {
  return _mm_sub_epi32(_mm_andnot_si128(_mm_srai_epi32(x.v, 31), x.v), _mm_set1_epi32(0x8000));
}
QS_INLINE __m128i pack16(vi32 a, vi32 b) { return _mm_packs_epi32(a.v, b.v); }
QS_INLINE __m128i pack16_unsigned(vi32 a, vi32 b) {
  return _mm_xor_si128(_mm_packs_epi32(centred(a), centred(b)), _mm_set1_epi16(-0x8000));
}
QS_INLINE void store_saturated(int16_t* p, vi32 x) { store64(p, pack16(x, x)); }
QS_INLINE void store_saturated(uint16_t* p, vi32 x) { store64(p, pack16_unsigned(x, x)); }
QS_INLINE void store_saturated(int8_t* p, vi32 x) { store32(p, _mm_packs_epi16(pack16(x, x), pack16(x, x))); }
QS_INLINE void store_saturated(uint8_t* p, vi32 x) { store32(p, _mm_packus_epi16(pack16(x, x), pack16(x, x))); }
template <class Q>
QS_INLINE void store_saturated_partial(Q* p, vi32 x, int n) {
  Q copy[4];
  store_saturated(copy, x);
  for (int i = 0; i < 4 && i < n; ++i) __builtin_memcpy(p + i, copy + i, sizeof(Q));
}

QS_INLINE __m128i saturated(const int16_t*, const vi32 (&x)[4], int i) { return pack16(x[2 * i], x[2 * i + 1]); }
QS_INLINE __m128i saturated(const uint16_t*, const vi32 (&x)[4], int i) {
  return pack16_unsigned(x[2 * i], x[2 * i + 1]);
}
template <class Q>
QS_INLINE void store_saturated(Q* p, const vi32 (&x)[4]) {
  for (int i = 0; i < static_cast<int>(sizeof(Q)); ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p) + i, saturated(p, x, i));
  }
}
template <class Q>
QS_INLINE void stream_saturated(Q* p, const vi32 (&x)[4]) {
  for (int i = 0; i < static_cast<int>(sizeof(Q)); ++i) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(p) + i, saturated(p, x, i));
  }
}

// Four vectors of integers, saturated to 16 bits.
struct Packed16 {
  __m128i v[2];
};
QS_INLINE Packed16 pack16(const vi32 (&x)[4]) { return {{pack16(x[0], x[1]), pack16(x[2], x[3])}}; }
QS_INLINE Packed16 add_saturated(Packed16 a, Packed16 b) {
  return {{_mm_adds_epi16(a.v[0], b.v[0]), _mm_adds_epi16(a.v[1], b.v[1])}};
}
QS_INLINE bool any_lowest(Packed16 x) {
  return _mm_movemask_epi8(_mm_cmpeq_epi16(_mm_min_epi16(x.v[0], x.v[1]), _mm_set1_epi16(INT16_MIN))) != 0;
}
// SSE2 has no minimum of signed bytes.
QS_INLINE __m128i clamped16(__m128i x, int32_t low, int32_t high) {
  return _mm_min_epi16(_mm_max_epi16(x, _mm_set1_epi16(static_cast<int16_t>(low))),
                       _mm_set1_epi16(static_cast<int16_t>(high)));
}
QS_INLINE __m128i clamped(const int8_t*, Packed16 x, int32_t low, int32_t high) {
  return _mm_packs_epi16(clamped16(x.v[0], low, high), clamped16(x.v[1], low, high));
}
QS_INLINE __m128i clamped(const uint8_t*, Packed16 x, int32_t low, int32_t high) {
  return _mm_packus_epi16(clamped16(x.v[0], low, high), clamped16(x.v[1], low, high));
}
template <class Q>
QS_INLINE void store_clamped(Q* p, Packed16 x, int32_t low, int32_t high) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), clamped(p, x, low, high));
}
template <class Q>
QS_INLINE void stream_clamped(Q* p, Packed16 x, int32_t low, int32_t high) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), clamped(p, x, low, high));
}

// Arithmetic
QS_INLINE vf32 min(vf32 x, vf32 acc) { return {_mm_min_ps(x.v, acc.v)}; }
QS_INLINE vf64 min(vf64 x, vf64 acc) { return {_mm_min_pd(x.v, acc.v)}; }
QS_INLINE vf32 max(vf32 x, vf32 acc) { return {_mm_max_ps(x.v, acc.v)}; }
QS_INLINE vf64 max(vf64 x, vf64 acc) { return {_mm_max_pd(x.v, acc.v)}; }
QS_INLINE vf32 add(vf32 a, vf32 b) { return {_mm_add_ps(a.v, b.v)}; }
QS_INLINE vf64 add(vf64 a, vf64 b) { return {_mm_add_pd(a.v, b.v)}; }
QS_INLINE vf32 sub(vf32 a, vf32 b) { return {_mm_sub_ps(a.v, b.v)}; }
QS_INLINE vf64 sub(vf64 a, vf64 b) { return {_mm_sub_pd(a.v, b.v)}; }
QS_INLINE vf32 mul(vf32 a, vf32 b) { return {_mm_mul_ps(a.v, b.v)}; }
QS_INLINE vf64 mul(vf64 a, vf64 b) { return {_mm_mul_pd(a.v, b.v)}; }
QS_INLINE vf32 div(vf32 a, vf32 b) { return {_mm_div_ps(a.v, b.v)}; }
QS_INLINE vf64 div(vf64 a, vf64 b) { return {_mm_div_pd(a.v, b.v)}; }
// Lane by lane in the C library: exact and slow. Kernels ask kFusedMultiplyAdd.
QS_INLINE vf32 fma(vf32 a, vf32 b, vf32 c) {
  float x[4], y[4], z[4];
  store(x, a);
  store(y, b);
  store(z, c);
  for (int i = 0; i < 4; ++i) z[i] = __builtin_fmaf(x[i], y[i], z[i]);
  return load(z);
}
QS_INLINE vf64 fma(vf64 a, vf64 b, vf64 c) {
  double x[2], y[2], z[2];
  store(x, a);
  store(y, b);
  store(z, c);
  for (int i = 0; i < 2; ++i) z[i] = __builtin_fma(x[i], y[i], z[i]);
  return load(z);
}
QS_INLINE vf32 fnma(vf32 a, vf32 b, vf32 c) { return fma(vf32{_mm_xor_ps(a.v, _mm_set1_ps(-0.0f))}, b, c); }
QS_INLINE vf64 fnma(vf64 a, vf64 b, vf64 c) { return fma(vf64{_mm_xor_pd(a.v, _mm_set1_pd(-0.0))}, b, c); }
QS_INLINE vf32 abs(vf32 x) { return {_mm_andnot_ps(_mm_set1_ps(-0.0f), x.v)}; }
QS_INLINE vf64 abs(vf64 x) { return {_mm_andnot_pd(_mm_set1_pd(-0.0), x.v)}; }
// Behind 2^23 (2^52) a float (double) is an integer: the sum of that power and a smaller magnitude is rounded to one,
// half to even, and the difference is exact. Greater magnitudes and NaN meet 0 instead. The sign is put back: -0.4
// gives -0.0.
QS_INLINE vf32 round_even(vf32 x) {
  const vf32 power = set1(0x1p23f);
  const __m128 magnitude = abs(x).v;
  const __m128 shift = _mm_and_ps(_mm_cmplt_ps(magnitude, power.v), power.v);
  const __m128 whole = _mm_sub_ps(_mm_add_ps(magnitude, shift), shift);
  return {_mm_or_ps(whole, _mm_and_ps(_mm_set1_ps(-0.0f), x.v))};
}
QS_INLINE vf64 round_even(vf64 x) {
  const vf64 power = set1(0x1p52);
  const __m128d magnitude = abs(x).v;
  const __m128d shift = _mm_and_pd(_mm_cmplt_pd(magnitude, power.v), power.v);
  const __m128d whole = _mm_sub_pd(_mm_add_pd(magnitude, shift), shift);
  return {_mm_or_pd(whole, _mm_and_pd(_mm_set1_pd(-0.0), x.v))};
}
#define QS_COMPARE(name, op)                                                \
  QS_INLINE mf32 name(vf32 a, vf32 b) { return {_mm_##op##_ps(a.v, b.v)}; } \
  QS_INLINE mf64 name(vf64 a, vf64 b) { return {_mm_##op##_pd(a.v, b.v)}; }
QS_COMPARE(lt, cmplt)
QS_COMPARE(le, cmple)
QS_COMPARE(gt, cmpgt)
QS_COMPARE(ge, cmpge)
QS_COMPARE(eq, cmpeq)
QS_COMPARE(unordered, cmpunord)
#undef QS_COMPARE
QS_INLINE float reduce_min(vf32 x) {
  const __m128 y = _mm_min_ps(x.v, _mm_movehl_ps(x.v, x.v));
  return _mm_cvtss_f32(_mm_min_ss(y, _mm_shuffle_ps(y, y, 1)));
}
QS_INLINE float reduce_max(vf32 x) {
  const __m128 y = _mm_max_ps(x.v, _mm_movehl_ps(x.v, x.v));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}
QS_INLINE double reduce_min(vf64 x) { return _mm_cvtsd_f64(_mm_min_sd(x.v, _mm_unpackhi_pd(x.v, x.v))); }
QS_INLINE double reduce_max(vf64 x) { return _mm_cvtsd_f64(_mm_max_sd(x.v, _mm_unpackhi_pd(x.v, x.v))); }
QS_INLINE int compress_store(float* p, mf32 m, vf32 x) {
  const uint32_t bits = to_bits(m);
  __m128i y = _mm_castps_si128(x.v);
  y = either(load128(kCompress.by1[bits]), _mm_srli_si128(y, 4), y);
  y = either(load128(kCompress.by2[bits]), _mm_srli_si128(y, 8), y);
  store128(p, y);
  return ones(bits);
}
QS_INLINE int compress_store(double* p, mf64 m, vf64 x) {
  const uint32_t bits = to_bits(m);
  _mm_storel_pd(p, x.v);
  _mm_storeh_pd(p + (bits & 1), x.v);
  return ones(bits);
}

// Conversions
QS_INLINE vi32 to_i32(vf32 x) { return {_mm_cvtps_epi32(x.v)}; }
QS_INLINE vi32 truncate(vf32 x) { return {_mm_cvttps_epi32(x.v)}; }
QS_INLINE vf32 to_f32(vi32 x) { return {_mm_cvtepi32_ps(x.v)}; }
QS_INLINE vi32 as_i32(vf32 x) { return {_mm_castps_si128(x.v)}; }
QS_INLINE vf32 as_f32(vi32 x) { return {_mm_castsi128_ps(x.v)}; }
template <int half>
QS_INLINE vf64 widen(vf32 x) {
  return {_mm_cvtps_pd(half ? _mm_movehl_ps(x.v, x.v) : x.v)};
}
QS_INLINE vf32 narrow(vf64 low, vf64 high) { return {_mm_movelh_ps(_mm_cvtpd_ps(low.v), _mm_cvtpd_ps(high.v))}; }

// Integers
QS_INLINE vi32 add(vi32 a, vi32 b) { return {_mm_add_epi32(a.v, b.v)}; }
QS_INLINE vi32 sub(vi32 a, vi32 b) { return {_mm_sub_epi32(a.v, b.v)}; }
QS_INLINE vi32 bit_and(vi32 a, vi32 b) { return {_mm_and_si128(a.v, b.v)}; }
QS_INLINE vi32 bit_or(vi32 a, vi32 b) { return {_mm_or_si128(a.v, b.v)}; }
QS_INLINE vi32 bit_xor(vi32 a, vi32 b) { return {_mm_xor_si128(a.v, b.v)}; }
QS_INLINE vi32 min(vi32 a, vi32 b) { return {either(_mm_cmpgt_epi32(a.v, b.v), b.v, a.v)}; }
QS_INLINE vi32 max(vi32 a, vi32 b) { return {either(_mm_cmpgt_epi32(a.v, b.v), a.v, b.v)}; }
QS_INLINE mf32 eq(vi32 a, vi32 b) { return {_mm_castsi128_ps(_mm_cmpeq_epi32(a.v, b.v))}; }
QS_INLINE mf32 gt(vi32 a, vi32 b) { return {_mm_castsi128_ps(_mm_cmpgt_epi32(a.v, b.v))}; }
QS_INLINE int compress_store(int32_t* p, mf32 m, vi32 x) {
  return compress_store(reinterpret_cast<float*>(p), m, as_f32(x));
}
template <int n>
QS_INLINE vi32 shift_left(vi32 a) {
  return {_mm_slli_epi32(a.v, n)};
}
template <int n>
QS_INLINE vi32 shift_right(vi32 a) {
  return {_mm_srai_epi32(a.v, n)};
}
template <int n>
QS_INLINE vi32 shift_right_logical(vi32 a) {
  return {_mm_srli_epi32(a.v, n)};
}

// No masked loads that a load could be folded into.
QS_INLINE vf32 whole(vf32 x) { return x; }
QS_INLINE vf64 whole(vf64 x) { return x; }

// 16-bit floats as integers in the order of their values.
QS_INLINE vi16 load_ordered(const int16_t* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm_xor_si128(bits, _mm_srli_epi16(_mm_srai_epi16(bits, 15), 1))};
}
QS_INLINE vi16 min(vi16 a, vi16 b) { return {_mm_min_epi16(a.v, b.v)}; }
QS_INLINE vi16 max(vi16 a, vi16 b) { return {_mm_max_epi16(a.v, b.v)}; }
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
QS_INLINE vi16 set1(int16_t x) { return {_mm_set1_epi16(x)}; }
QS_INLINE vi16 load_magnitude_key(const int16_t* p) { return {_mm_and_si128(load128(p), _mm_set1_epi16(0x7fff))}; }
QS_INLINE vi16 load_key(const int16_t* p) {
  const __m128i x = load128(p), sign = _mm_srai_epi16(x, 15);
  return {_mm_sub_epi16(_mm_xor_si128(_mm_and_si128(x, _mm_set1_epi16(0x7fff)), sign), sign)};
}
QS_INLINE mi16 gt(vi16 a, vi16 b) { return {_mm_cmpgt_epi16(a.v, b.v)}; }
QS_INLINE mi16 lt(vi16 a, vi16 b) { return gt(b, a); }
QS_INLINE mi16 le(vi16 a, vi16 b) { return {_mm_cmpeq_epi16(_mm_min_epi16(a.v, b.v), a.v)}; }
QS_INLINE mi16 eq(vi16 a, vi16 b) { return {_mm_cmpeq_epi16(a.v, b.v)}; }
QS_INLINE mi16 mask_or(mi16 a, mi16 b) { return {_mm_or_si128(a.m, b.m)}; }
QS_INLINE mi16 mask_and(mi16 a, mi16 b) { return {_mm_and_si128(a.m, b.m)}; }
QS_INLINE uint32_t to_bits(mi16 a) {
  return static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(a.m, _mm_setzero_si128())));
}
QS_INLINE bool any(mi16 a) { return _mm_movemask_epi8(a.m) != 0; }
struct ShortLaneCount {
  __m128i v = _mm_setzero_si128();
  QS_INLINE void add(mi16 a) { v = _mm_sub_epi16(v, a.m); }
  QS_INLINE int64_t total() const {
    int16_t lane[vi16::lanes];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lane), v);
    int64_t sum = 0;
    for (const int16_t n : lane) sum += n;
    return sum;
  }
};

// Bytes as magnitudes.
QS_INLINE vu8 set1(uint8_t x) { return {_mm_set1_epi8(static_cast<char>(x))}; }
QS_INLINE vu8 load_levels(const uint8_t* p) { return {load128(p)}; }
QS_INLINE vu8 load_positive(const int8_t* p) {
  const __m128i x = load128(p);
  return {_mm_and_si128(x, _mm_cmpgt_epi8(x, _mm_setzero_si128()))};
}
QS_INLINE vu8 load_negative(const int8_t* p) {
  const __m128i x = load128(p), zero = _mm_setzero_si128();
  return {_mm_and_si128(_mm_sub_epi8(zero, x), _mm_cmpgt_epi8(zero, x))};
}
QS_INLINE vu8 min(vu8 a, vu8 b) { return {_mm_min_epu8(a.v, b.v)}; }
QS_INLINE vu8 max(vu8 a, vu8 b) { return {_mm_max_epu8(a.v, b.v)}; }
QS_INLINE vu8 add_saturated(vu8 a, vu8 b) { return {_mm_adds_epu8(a.v, b.v)}; }
QS_INLINE vu8 add_next_saturated(vu8 a) { return {_mm_adds_epu8(a.v, _mm_srli_epi16(a.v, 8))}; }
QS_INLINE uint64_t equal_bits(vu8 a, vu8 b) {
  return static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(a.v, b.v)));
}
QS_INLINE uint64_t greater_bits(vu8 a, vu8 b) {
  return 0xffff ^
         static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_subs_epu8(a.v, b.v), _mm_setzero_si128())));
}
QS_INLINE void store(uint8_t* p, vu8 x) { store128(p, x.v); }
QS_INLINE int count_ones(uint64_t bits) {
  // Without the instruction the compiler would call a function of its library.
  bits = bits - (bits >> 1 & 0x5555555555555555u);
  bits = (bits & 0x3333333333333333u) + (bits >> 2 & 0x3333333333333333u);
  return static_cast<int>(((bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

// Four bytes in every lane, low address first.
QS_INLINE vi32 load_bytes(const int8_t* p) { return {load128(p)}; }
// The sums of pairs, exact: of the first two lanes (two sums each), of the last two.
struct PairSums {
  __m128i low;
  __m128i high;
};
QS_INLINE PairSums pair_sums(vi32 u, vi32 s) {
  const __m128i zero = _mm_setzero_si128();
  return {_mm_madd_epi16(_mm_unpacklo_epi8(u.v, zero), _mm_srai_epi16(_mm_unpacklo_epi8(zero, s.v), 8)),
          _mm_madd_epi16(_mm_unpackhi_epi8(u.v, zero), _mm_srai_epi16(_mm_unpackhi_epi8(zero, s.v), 8))};
}
QS_INLINE vi32 dot4_saturated(vi32 u, vi32 s) {
  const PairSums sum = pair_sums(u, s);
  return {_mm_madd_epi16(_mm_packs_epi32(sum.low, sum.high), _mm_set1_epi16(1))};
}
// A pair has saturated where its sum does not survive 16 bits.
QS_INLINE __m128i fits16(__m128i x) { return _mm_cmpeq_epi32(_mm_srai_epi32(_mm_slli_epi32(x, 16), 16), x); }
QS_INLINE vi32 dot4_saturations(vi32 u, vi32 s) {
  const PairSums sum = pair_sums(u, s);
  const __m128i fits = _mm_packs_epi32(fits16(sum.low), fits16(sum.high));
  const __m128i one = _mm_set1_epi16(1);
  return {_mm_madd_epi16(_mm_andnot_si128(fits, one), one)};
}

// While it lives, denormals are read and written as zero, exceptions are masked, and rounding is to nearest even.
struct FlushDenormals {
  uint32_t saved = _mm_getcsr();
  FlushDenormals() { _mm_setcsr(0x9fc0); }
  ~FlushDenormals() { _mm_setcsr(saved); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

struct CleanUpperHalves {
  CleanUpperHalves() {}
};

QS_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace
