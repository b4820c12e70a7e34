// Rounding: QuantizeLinear, DequantizeLinear, and the two after one another (fake quantization), as ONNX defines them.
//
// level = saturate(round(x / scale) + zero_point): the float32 quotient, half to even, in [qmin, qmax]. NaN becomes the
// zero point, infinities saturate. float64 input is rounded to float32 first; 16-bit floats are widened, which is
// exact. value = (level - zero_point) * scale: the float32 product. A zero is +0.0.
//
// The quotient without dividing. Let r = 1 / scale, rounded, and d = 1 / scale - r, rounded: the reciprocal to 48 bits.
//
// q = x * r + x * d: the second product rounded, then one fma. Before the fma rounds, it differs from x / scale by less
// than 3 * 2^-48 of it: d is at most 2^-24 of r, and three errors of at most 2^-24 go with it, two of d, one of x * d.
//
// Only borders between levels matter: ties t, odd multiples of 1/2. Whether the float quotient lies above, on or below
// t depends on the side of the midpoints m between t and the floats beside it on which x / scale lies, and q lies alike
// unless x / scale is too close to m. Let X, S and M be the significands of x, scale and m, of 24, 24 and 25 bits. Then
// x / scale and m differ by n / S, where n = |X * 2^24 - M * S|, in units of 2^-24 if X >= S, and n = |X * 2^25 - M *
// S| in units of 2^-25 if X < S. In these units the error is below 3 / S and 6 / S, so n >= 6 is enough.
//
// M is k * 2^j +- 1 with k odd, of 25 - j bits. So n is S or -S modulo 2^j: at least 6 if S is as far from all
// multiples of 2^j, and at least 2^j if S is a multiple, since n is not zero (M is odd, and S below 2^24). The ties
// that matter lie below D = qmax - qmin, hence k < 2 * D. The few scales for which S comes too close, 1 in 6,500 for
// 8-bit levels, are divided by: see layout/scales.h.
//
// No step underflows where |x / scale| >= 1/4, for scales between kLeastFastScale and kGreatestFastScale; below 1/4 q
// stays below 1/2, and the level is the zero point whatever the bits. So denormals may be flushed meanwhile: they are
// slow to compute with. The same bound lets a division flush them, which is what an instruction set without fma does.
// For scales out of the range the quotient is divided, denormals kept.
//
// Saturation is left to integers. NaN, infinities and what overflows on the way convert to INT32_MIN; vectors with one
// of these are done again, their values tamed to 2^18 steps, which is beyond all levels.
#pragma once

#include "kernels/iterate.inl.h"

namespace {

constexpr int kTableSize = 1024;                    // channels of a tile when they change along a run
constexpr int64_t kTameRun = 1024;                  // elements that are tamed once one of them has to be
constexpr int64_t kAheadBytes = 16 * 1024;          // of input, between what is read and what is prefetched
constexpr int64_t kStreamBytes = 32 * 1024 * 1024;  // of output: more does not stay in cache, so the stores pass by it

struct ChannelParameters {
  float scale;
  float inverse;
  float rest;  // 1 / scale - inverse
  int32_t zero_point;
};

ChannelParameters channel_parameters(const RoundArguments& a, int64_t channel) {
  const float scale = a.scale[channel];
  const float inverse = 1.0f / scale;
  // The product of two floats is exact as double, and so is the difference.
  const double error = 1.0 - static_cast<double>(inverse) * static_cast<double>(scale);
  const float rest = static_cast<float>(error * static_cast<double>(inverse));
  return {scale, inverse, rest, a.zero_point[channel]};
}

struct VectorParameters {
  vf32 scale;
  vf32 inverse;
  vf32 rest;
  vi32 zero_point;
  vi32 low;  // in steps from the zero point
  vi32 high;
};

struct LevelRange {
  int32_t low;
  int32_t high;
};

// The same parameters for a whole run.
struct OneChannel {
  LevelRange levels;
  VectorParameters vectors;
  Packed16 packed_zero_points;
  OneChannel(const ChannelParameters& c, LevelRange range)
      : levels(range),
        vectors{set1(c.scale),
                set1(c.inverse),
                set1(c.rest),
                set1(c.zero_point),
                set1(range.low - c.zero_point),
                set1(range.high - c.zero_point)} {
    const vi32 zero_points[4] = {vectors.zero_point, vectors.zero_point, vectors.zero_point, vectors.zero_point};
    packed_zero_points = pack16(zero_points);
  }
  const VectorParameters& at(int64_t) const { return vectors; }
  const Packed16& zero_points(int64_t) const { return packed_zero_points; }
  const OneChannel& from(int64_t) const { return *this; }
};

// Parameters that change from element to element of a run.
struct ChannelTable {
  static constexpr int padded = kTableSize + kBlockPad;
  float scale[padded];
  float inverse[padded];
  float rest[padded];
  int32_t zero_point[padded];

  void set(int64_t i, const ChannelParameters& c) {
    scale[i] = c.scale;
    inverse[i] = c.inverse;
    rest[i] = c.rest;
    zero_point[i] = c.zero_point;
  }
};

struct ManyChannels {
  LevelRange levels;
  const ChannelTable* table;
  int64_t first;
  VectorParameters at(int64_t i) const {
    const int64_t k = first + i;
    const vi32 zero_point = load(table->zero_point + k);
    return {load(table->scale + k),
            load(table->inverse + k),
            load(table->rest + k),
            zero_point,
            sub(set1(levels.low), zero_point),
            sub(set1(levels.high), zero_point)};
  }
  // Of four vectors.
  Packed16 zero_points(int64_t i) const {
    vi32 zero_points[4];
    for (int j = 0; j < 4; ++j) zero_points[j] = load(table->zero_point + first + i + j * kLanes);
    return pack16(zero_points);
  }
  ManyChannels from(int64_t i) const { return {levels, table, first + i}; }
};

template <class E>
QS_INLINE vf32 load_float(const E* p) {
  return load(p);
}
QS_INLINE vf32 load_float(const double* p) { return narrow(load(p), load(p + (kHalves - 1) * kLanes64)); }
template <class E>
QS_INLINE vf32 load_float_partial(const E* p, int n) {
  return load_partial(p, n, set1(0.0f));
}
QS_INLINE vf32 load_float_partial(const double* p, int n) {
  const vf64 zero = set1(0.0);
  if constexpr (kHalves == 1) return narrow(load_partial(p, n, zero), zero);
  return narrow(load_partial(p, n, zero), n > kLanes64 ? load_partial(p + kLanes64, n - kLanes64, zero) : zero);
}

template <bool divide>
QS_INLINE vf32 quotient(vf32 x, const VectorParameters& p) {
  if constexpr (divide) return div(x, p.scale);
  return fma(x, p.inverse, mul(x, p.rest));
}

// x between -limit and limit; 0 for NaN.
QS_INLINE vf32 tamed(vf32 x, vf32 limit) { return keep(eq(x, x), min(max(x, sub(set1(0.0f), limit)), limit)); }

// The rounded quotient in steps from the zero point, for any x: what is beyond 2^18 is there.
template <bool divide>
QS_INLINE vi32 tame_steps(vf32 x, const VectorParameters& p) {
  const vf32 limit = set1(0x1p18f);
  if constexpr (divide) return to_i32(tamed(quotient<divide>(x, p), limit));
  return to_i32(quotient<divide>(tamed(x, mul(limit, p.scale)), p));
}

// Those of four vectors; unless they are tame, with INT32_MIN for what has to be tamed.
template <bool divide, bool tame, class In, class Parameters>
QS_INLINE void four_steps(const In* in, int64_t i, const Parameters& p, vi32 (&steps)[4]) {
  for (int j = 0; j < 4; ++j) {
    const vf32 x = whole(load_float(in + i + j * kLanes));
    const VectorParameters& at = p.at(i + j * kLanes);
    steps[j] = tame ? tame_steps<divide>(x, at) : to_i32(quotient<divide>(x, at));
  }
}
QS_INLINE bool any_lowest(const vi32 (&x)[4]) {
  return any(eq(min(min(x[0], x[1]), min(x[2], x[3])), set1(INT32_MIN)));
}
QS_INLINE vi32 clamped(vi32 steps, const VectorParameters& p) { return min(max(steps, p.low), p.high); }

template <bool streaming>
QS_INLINE void put(float* p, const vf32 (&x)[4]) {
  for (int j = 0; j < 4; ++j) streaming ? stream(p + j * kLanes, x[j]) : store(p + j * kLanes, x[j]);
}
QS_INLINE void put(float* p, vf32 x) { store(p, x); }
template <class Q>
QS_INLINE void put(Q* p, vi32 x) {
  store_saturated(p, x);
}
QS_INLINE void put_partial(float* p, vf32 x, int n) { store_partial(p, x, n); }
template <class Q>
QS_INLINE void put_partial(Q* p, vi32 x, int n) {
  store_saturated_partial(p, x, n);
}

// What a kernel does: In and Out are the elements in memory. map() takes one vector, four() the four vectors at element
// i of a run; unless it is tame, it returns false and has stored nothing if one of the values has to be tamed.
template <bool divide, class E, class Q>
struct Quantize {
  using In = E;
  using Out = Q;
  static QS_INLINE vf32 read(const In* p) { return load_float(p); }
  static QS_INLINE vf32 read_partial(const In* p, int n) { return load_float_partial(p, n); }
  static QS_INLINE vi32 map(vf32 x, const VectorParameters& p) {
    return add(clamped(tame_steps<divide>(x, p), p), p.zero_point);
  }
  template <bool tame, bool streaming, class Parameters>
  static QS_INLINE bool four(const In* in, Out* out, int64_t i, const Parameters& p) {
    vi32 steps[4];
    four_steps<divide, tame>(in, i, p, steps);
    if constexpr (sizeof(Out) == 1) {
      const Packed16 packed = pack16(steps);
      if (!tame && any_lowest(packed)) return false;
      const Packed16 levels = add_saturated(packed, p.zero_points(i));
      streaming ? stream_clamped(out + i, levels, p.levels.low, p.levels.high)
                : store_clamped(out + i, levels, p.levels.low, p.levels.high);
    } else {
      if (!tame && any_lowest(steps)) return false;
      for (int j = 0; j < 4; ++j) {
        const VectorParameters& at = p.at(i + j * kLanes);
        steps[j] = add(clamped(steps[j], at), at.zero_point);
      }
      streaming ? stream_saturated(out + i, steps) : store_saturated(out + i, steps);
    }
    return true;
  }
};

template <bool divide, class E>
struct FakeQuantize {
  using In = E;
  using Out = float;
  static QS_INLINE vf32 read(const In* p) { return load_float(p); }
  static QS_INLINE vf32 read_partial(const In* p, int n) { return load_float_partial(p, n); }
  static QS_INLINE vf32 value(vi32 steps, const VectorParameters& p) { return mul(to_f32(clamped(steps, p)), p.scale); }
  static QS_INLINE vf32 map(vf32 x, const VectorParameters& p) { return value(tame_steps<divide>(x, p), p); }
  template <bool tame, bool streaming, class Parameters>
  static QS_INLINE bool four(const In* in, Out* out, int64_t i, const Parameters& p) {
    vi32 steps[4];
    four_steps<divide, tame>(in, i, p, steps);
    if (!tame && any_lowest(steps)) return false;
    vf32 values[4];
    for (int j = 0; j < 4; ++j) values[j] = value(steps[j], p.at(i + j * kLanes));
    put<streaming>(out + i, values);
    return true;
  }
};

template <class Q>
struct Dequantize {
  using In = Q;
  using Out = float;
  static QS_INLINE vi32 read(const In* p) { return load(p); }
  static QS_INLINE vi32 read_partial(const In* p, int n) { return load_partial(p, n, set1(0)); }
  static QS_INLINE vf32 map(vi32 q, const VectorParameters& p) { return mul(to_f32(sub(q, p.zero_point)), p.scale); }
  template <bool tame, bool streaming, class Parameters>
  static QS_INLINE bool four(const In* in, Out* out, int64_t i, const Parameters& p) {
    vf32 values[4];
    for (int j = 0; j < 4; ++j) values[j] = map(read(in + i + j * kLanes), p.at(i + j * kLanes));
    put<streaming>(out + i, values);
    return true;
  }
};

// Elements [i, end) of a run, vector by vector.
template <class Kernel, class Parameters>
__attribute__((noinline)) void map_vectors(const typename Kernel::In* in, typename Kernel::Out* out, int64_t i,
                                           int64_t end, const Parameters& p) {
  for (; i + kLanes <= end; i += kLanes) put(out + i, Kernel::map(Kernel::read(in + i), p.at(i)));
  if (i == end) return;
  const int n = static_cast<int>(end - i);
  put_partial(out + i, Kernel::map(Kernel::read_partial(in + i, n), p.at(i)), n);
}

// Four vectors of what will be read some time later. Where more is written than read, waiting for reads is not what
// costs.
template <class Kernel>
QS_INLINE void prefetch_four(const char* later) {
  if constexpr (sizeof(typename Kernel::In) > sizeof(typename Kernel::Out)) {
    constexpr int64_t line = 64, bytes = 4 * kLanes * sizeof(typename Kernel::In);
    for (int64_t k = 0; k < bytes; k += line) prefetch(later + k);
  }
}

// Elements [i, end) of a run, a multiple of four vectors, of any values.
template <class Kernel, class Parameters>
__attribute__((noinline)) void map_tame_fours(const typename Kernel::In* in, typename Kernel::Out* out, int64_t i,
                                              int64_t end, const Parameters& shared, int64_t ahead) {
  const Parameters p = shared;
  for (; i < end; i += 4 * kLanes) {
    prefetch_four<Kernel>(reinterpret_cast<const char*>(in + i) + ahead);
    Kernel::template four<true, false>(in, out, i, p);
  }
}

// Elements [i, n - (n - i) mod 4 vectors) of a run; returns the end. `ahead` is how many bytes behind an element lies
// what will be read some time later.
template <class Kernel, bool streaming, class Parameters>
QS_INLINE int64_t map_fours(const typename Kernel::In* in, typename Kernel::Out* out, int64_t i, int64_t n,
                            const Parameters& shared, int64_t ahead) {
  constexpr int64_t four = 4 * kLanes;
  const Parameters p = shared;  // a copy that no store to `out` can change, so it stays in registers
  while (i + four <= n) {
    prefetch_four<Kernel>(reinterpret_cast<const char*>(in + i) + ahead);
    if (Kernel::template four<false, streaming>(in, out, i, p)) {
      i += four;
    } else {
      // Such values seldom come alone, and branches that go either way cost more than taming.
      const int64_t left = (n - i) / four * four;
      const int64_t end = i + (left < kTameRun ? left : kTameRun);
      map_tame_fours<Kernel>(in, out, i, end, shared, ahead);
      i = end;
    }
  }
  return i;
}

// A run of contiguous elements.
template <class Kernel, class Parameters>
__attribute__((noinline)) void map_run(const typename Kernel::In* in, typename Kernel::Out* out, int64_t n,
                                       const Parameters& p, bool streaming, int64_t ahead) {
  using Out = typename Kernel::Out;
  constexpr uintptr_t line = 64;
  const uintptr_t address = reinterpret_cast<uintptr_t>(out);
  int64_t i = 0;
  if (streaming && address % sizeof(Out) == 0) {
    const int64_t to_line = static_cast<int64_t>((line - address % line) % line / sizeof(Out));
    i = to_line < n ? to_line : n;
    map_vectors<Kernel>(in, out, 0, i, p);
    i = map_fours<Kernel, true>(in, out, i, n, p, ahead);
    stream_fence();
  } else {
    i = map_fours<Kernel, false>(in, out, 0, n, p, ahead);
  }
  map_vectors<Kernel>(in, out, i, n, p);
}

template <class E>
void scatter(char* dst, int64_t stride, const E* src, int64_t n) {
  for (int64_t i = 0; i < n; ++i) __builtin_memcpy(dst + i * stride, src + i, sizeof(E));
}

template <class Kernel>
struct RoundScratch {
  ChannelTable table;
  typename Kernel::In in[kBlock];
  typename Kernel::Out out[kBlock];
};

// Visits every index of the axes, the first one fastest.
struct ElementwiseOdometer {
  const ElementwiseAxis* axes;
  int n;
  int64_t in = 0;
  int64_t out = 0;
  int64_t channel = 0;
  int64_t index[kMaxDims];

  ElementwiseOdometer(const ElementwiseAxis* first, int count) : axes(first), n(count) {
    for (int i = 0; i < n; ++i) index[i] = 0;
  }
  bool next() {
    for (int i = 0; i < n; ++i) {
      const ElementwiseAxis& axis = axes[i];
      const bool wraps = ++index[i] == axis.size;
      const int64_t steps = wraps ? 1 - axis.size : 1;
      if (wraps) index[i] = 0;
      in += steps * axis.in;
      out += steps * axis.out;
      channel += steps * axis.channel;
      if (!wraps) return true;
    }
    return false;
  }
};

template <class Kernel>
class RoundWalk {
  using In = typename Kernel::In;
  using Out = typename Kernel::Out;

 public:
  RoundWalk(const ElementwisePlan& plan, const RoundArguments& arguments, void* scratch)
      : plan_(plan),
        arguments_(arguments),
        levels_{arguments.qmin, arguments.qmax},
        scratch_(static_cast<RoundScratch<Kernel>*>(scratch)),
        streaming_(plan.size * static_cast<int64_t>(sizeof(Out)) > kStreamBytes && plan.in != plan.out) {
    static_assert(sizeof(RoundScratch<Kernel>) <= kRoundScratchBytes, "raise kRoundScratchBytes");
  }

  void operator()() const {
    if (plan_.n_axes > 0 && plan_.axes[0].channel != 0) {
      channels_along_runs();
    } else {
      channels_across_runs();
    }
  }

 private:
  void channels_across_runs() const {
    const ElementwiseAxis inner =
        plan_.n_axes ? plan_.axes[0]
                     : ElementwiseAxis{1, static_cast<int64_t>(sizeof(In)), static_cast<int64_t>(sizeof(Out)), 0};
    ElementwiseOdometer outer(plan_.axes + 1, plan_.n_axes ? plan_.n_axes - 1 : 0);
    const int64_t ahead = bytes_ahead(inner, inner.size, plan_.n_axes > 1 ? &plan_.axes[1] : nullptr);
    int64_t channel = plan_.channel;
    OneChannel parameters(channel_parameters(arguments_, channel), levels_);
    do {
      if (plan_.channel + outer.channel != channel) {
        channel = plan_.channel + outer.channel;
        parameters = OneChannel(channel_parameters(arguments_, channel), levels_);
      }
      run(plan_.in + outer.in, plan_.out + outer.out, inner, inner.size, parameters, ahead);
    } while (outer.next());
  }

  void channels_along_runs() const {
    ElementwiseAxis axes[kMaxDims];
    for (int i = 0; i < plan_.n_axes; ++i) axes[i] = plan_.axes[i];
    const ElementwiseAxis inner = plan_.axes[0];
    // Few channels whose rows follow one another: `fold` rows become one run, with the parameters repeated.
    int64_t fold = 1;
    if (plan_.n_axes > 1 && axes[1].in == inner.in * inner.size && axes[1].out == inner.out * inner.size) {
      fold = kTableSize / inner.size;
      fold = fold < 1 ? 1 : fold < axes[1].size ? fold : axes[1].size;
    }
    const int64_t rows = fold > 1 ? axes[1].size : 1;
    if (fold > 1) axes[1] = {1, 0, 0, 0};

    for (int64_t begin = 0; begin < inner.size; begin += kTableSize) {
      const int64_t n = inner.size - begin < kTableSize ? inner.size - begin : kTableSize;
      for (int64_t i = 0; i < n; ++i) {
        const ChannelParameters c = channel_parameters(arguments_, plan_.channel + (begin + i) * inner.channel);
        for (int64_t k = 0; k < fold; ++k) scratch_->table.set(k * n + i, c);
      }
      const int64_t ahead = bytes_ahead(inner, fold * n, plan_.n_axes > 1 ? &plan_.axes[1] : nullptr);
      ElementwiseOdometer outer(axes + 1, plan_.n_axes - 1);
      do {
        const char* in = plan_.in + outer.in + begin * inner.in;
        char* out = plan_.out + outer.out + begin * inner.out;
        for (int64_t row = 0; row < rows; row += fold) {
          const int64_t length = (rows - row < fold ? rows - row : fold) * n;
          run(in + row * n * inner.in, out + row * n * inner.out, inner, length,
              ManyChannels{levels_, &scratch_->table, 0}, ahead);
        }
      } while (outer.next());
    }
  }

  // How many bytes behind an element of a run of n lies what is read about kAheadBytes later, if that is not always
  // memory that no run reads. The runs follow one another along `outer`.
  static int64_t bytes_ahead(const ElementwiseAxis& inner, int64_t n, const ElementwiseAxis* outer) {
    const int64_t bytes = n * inner.in;
    if (outer == nullptr || outer->in == inner.in * inner.size) return kAheadBytes;
    if (bytes <= 0 || bytes > kAheadBytes) return 0;
    const int64_t runs = (kAheadBytes + bytes - 1) / bytes;
    return 4 * runs <= outer->size ? runs * outer->in : 0;
  }

  // Elements along `axis`; what is not contiguous goes through scratch, block by block.
  template <class Parameters>
  void run(const char* in, char* out, const ElementwiseAxis& axis, int64_t n, const Parameters& parameters,
           int64_t ahead) const {
    const bool in_place = axis.in == static_cast<int64_t>(sizeof(In));
    const bool out_place = axis.out == static_cast<int64_t>(sizeof(Out));
    if (in_place && out_place) {
      map_run<Kernel>(reinterpret_cast<const In*>(in), reinterpret_cast<Out*>(out), n, parameters, streaming_, ahead);
      return;
    }
    for (int64_t i = 0; i < n; i += kBlock) {
      const int64_t size = n - i < kBlock ? n - i : kBlock;
      const In* from = reinterpret_cast<const In*>(in + i * axis.in);
      Out* to = out_place ? reinterpret_cast<Out*>(out + i * axis.out) : scratch_->out;
      if (!in_place) {
        gather(scratch_->in, in + i * axis.in, axis.in, size);
        from = scratch_->in;
      }
      map_run<Kernel>(from, to, size, parameters.from(i), false, 0);
      if (!out_place) scatter(out + i * axis.out, axis.out, scratch_->out, size);
    }
  }

  const ElementwisePlan& plan_;
  const RoundArguments& arguments_;
  LevelRange levels_;
  RoundScratch<Kernel>* scratch_;  // not touched by contiguous arrays without channels along a run
  bool streaming_;
};

template <class Kernel>
void walk(const ElementwisePlan& plan, const RoundArguments& arguments, void* scratch) {
  RoundWalk<Kernel>(plan, arguments, scratch)();
}

constexpr int64_t kFlushFrom = 1024;  // elements that make a change of the floating-point mode worth its cost

template <bool divide, template <bool, class, class...> class Kernel, class... Rest>
void walk_dtype(const ElementwisePlan& plan, const RoundArguments& a, void* scratch) {
  switch (a.dtype) {
    case DType::float32:
      return walk<Kernel<divide, float, Rest...>>(plan, a, scratch);
    case DType::float64:
      return walk<Kernel<divide, double, Rest...>>(plan, a, scratch);
    case DType::float16:
      return walk<Kernel<divide, f16, Rest...>>(plan, a, scratch);
    case DType::bfloat16:
      return walk<Kernel<divide, bf16, Rest...>>(plan, a, scratch);
  }
}

// Walks with Kernel<divide, element of the input, Rest...>.
template <template <bool, class, class...> class Kernel, class... Rest>
void walk_float(const ElementwisePlan& plan, const RoundArguments& a, void* scratch) {
  constexpr bool divides = !kFusedMultiplyAdd;  // the faster way to the same bits
  if (a.true_divide) return walk_dtype<true, Kernel, Rest...>(plan, a, scratch);
  if (plan.size < kFlushFrom) return walk_dtype<divides, Kernel, Rest...>(plan, a, scratch);
  const FlushDenormals mode;
  walk_dtype<divides, Kernel, Rest...>(plan, a, scratch);
}

void quantize_linear(const ElementwisePlan* plan, const RoundArguments* arguments, void* scratch) noexcept {
  switch (arguments->qtype) {
    case QType::int8:
      return walk_float<Quantize, int8_t>(*plan, *arguments, scratch);
    case QType::uint8:
      return walk_float<Quantize, uint8_t>(*plan, *arguments, scratch);
    case QType::int16:
      return walk_float<Quantize, int16_t>(*plan, *arguments, scratch);
    case QType::uint16:
      return walk_float<Quantize, uint16_t>(*plan, *arguments, scratch);
    case QType::int32:
      return;  // no output type
  }
}

void dequantize_linear(const ElementwisePlan* plan, const RoundArguments* arguments, void* scratch) noexcept {
  switch (arguments->qtype) {
    case QType::int8:
      return walk<Dequantize<int8_t>>(*plan, *arguments, scratch);
    case QType::uint8:
      return walk<Dequantize<uint8_t>>(*plan, *arguments, scratch);
    case QType::int16:
      return walk<Dequantize<int16_t>>(*plan, *arguments, scratch);
    case QType::uint16:
      return walk<Dequantize<uint16_t>>(*plan, *arguments, scratch);
    case QType::int32:
      return walk<Dequantize<int32_t>>(*plan, *arguments, scratch);
  }
}

void fake_quantize(const ElementwisePlan* plan, const RoundArguments* arguments, void* scratch) noexcept {
  walk_float<FakeQuantize>(*plan, *arguments, scratch);
}

}  // namespace
