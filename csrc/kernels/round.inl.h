// Rounding: QuantizeLinear, DequantizeLinear, and the two after one another (fake quantization), as ONNX defines them.
//
// level = saturate(round(x / scale) + zero_point): the float32 quotient, half to even, in [qmin, qmax]. NaN becomes the
// zero point, infinities saturate. float64 input is rounded to float32 first; 16-bit floats are widened, which is
// exact. value = (level - zero_point) * scale: the float32 product. A zero is +0.0.
//
// The quotient without dividing. Let lo = qmin - zero_point, hi = qmax - zero_point; both are integers below 2^17 in
// magnitude.
//  1. x is clamped to [lo * scale, hi * scale], the products rounded. That is saturation: their quotients lie within
//  2^-6 of lo and hi,
//     so they round to just these, and rounding is monotonic. No intermediate value can overflow after this.
//  2. r = 1 / scale, correctly rounded; q0 = x * r. Its error is below 1.5 units in the last place of x / scale.
//  3. q1 = q0 + (x - q0 * scale) * r, either step one fma: a float next to the exact quotient, above or below (a
//  faithful quotient).
//  4. The same once more. By Markstein's theorem (Handbook of Floating-Point Arithmetic, division with an fma), a
//  faithful quotient, an
//     exact remainder and a correctly rounded reciprocal give the correctly rounded quotient.
// The theorem wants remainders free of underflow. Where |x / scale| >= 1/4 they are multiples of 2^-48 * scale, which
// is a normal number for scale >= kLeastFastScale; below 1/4 every step stays below 1/2, and the level is the zero
// point whatever the bits. So denormals may be flushed meanwhile: they are slow to compute with. The same bound lets a
// division flush them, which is what an instruction set without fma does. For scales out of the range the quotient is
// divided, denormals kept.
#pragma once

#include "kernels/iterate.inl.h"

namespace {

constexpr int kTableSize = 1024;                    // channels of a tile when they change along a run
constexpr int64_t kStreamBytes = 32 * 1024 * 1024;  // of output: more does not stay in cache, so the stores pass by it

struct ChannelParameters {
  float scale;
  float inverse;
  float low;  // what x (or the quotient, if it is divided) is clamped to
  float high;
  int32_t zero_point;
};

template <bool divide>
ChannelParameters channel_parameters(const RoundArguments& a, int64_t channel) {
  const float scale = a.scale[channel];
  const int32_t zero_point = a.zero_point[channel];
  const float unit = divide ? 1.0f : scale;
  return {scale, 1.0f / scale, static_cast<float>(a.qmin - zero_point) * unit,
          static_cast<float>(a.qmax - zero_point) * unit, zero_point};
}

struct VectorParameters {
  vf32 scale;
  vf32 inverse;
  vf32 low;
  vf32 high;
  vi32 zero_point;
};

// The same parameters for a whole run.
struct OneChannel {
  VectorParameters vectors;
  explicit OneChannel(const ChannelParameters& c)
      : vectors{set1(c.scale), set1(c.inverse), set1(c.low), set1(c.high), set1(c.zero_point)} {}
  const VectorParameters& at(int64_t) const { return vectors; }
  const OneChannel& from(int64_t) const { return *this; }
};

// Parameters that change from element to element of a run.
struct ChannelTable {
  static constexpr int padded = kTableSize + kBlockPad;
  float scale[padded];
  float inverse[padded];
  float low[padded];
  float high[padded];
  int32_t zero_point[padded];

  void set(int64_t i, const ChannelParameters& c) {
    scale[i] = c.scale;
    inverse[i] = c.inverse;
    low[i] = c.low;
    high[i] = c.high;
    zero_point[i] = c.zero_point;
  }
};

struct ManyChannels {
  const ChannelTable* table;
  int64_t first;
  VectorParameters at(int64_t i) const {
    const int64_t k = first + i;
    return {load(table->scale + k), load(table->inverse + k), load(table->low + k), load(table->high + k),
            load(table->zero_point + k)};
  }
  ManyChannels from(int64_t i) const { return {table, first + i}; }
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

// Steps from the zero point: the clamped quotient, rounded.
template <bool divide>
QS_INLINE vi32 steps(vf32 x, const VectorParameters& p) {
  const mf32 number = eq(x, x);
  if constexpr (divide) return to_i32(keep(number, min(max(div(x, p.scale), p.low), p.high)));
  x = keep(number, min(max(x, p.low), p.high));
  vf32 q = mul(x, p.inverse);
  q = fma(fnma(q, p.scale, x), p.inverse, q);
  q = fma(fnma(q, p.scale, x), p.inverse, q);
  return to_i32(q);
}

// What a kernel does to a vector: In and Out are the elements in memory.
template <bool divide, class E, class Q>
struct Quantize {
  static constexpr bool divides = divide;
  using In = E;
  using Out = Q;
  using Result = vi32;
  static QS_INLINE vf32 read(const In* p) { return load_float(p); }
  static QS_INLINE vf32 read_partial(const In* p, int n) { return load_float_partial(p, n); }
  static QS_INLINE vi32 map(vf32 x, const VectorParameters& p) { return add(steps<divide>(x, p), p.zero_point); }
};

template <bool divide, class E>
struct FakeQuantize {
  static constexpr bool divides = divide;
  using In = E;
  using Out = float;
  using Result = vf32;
  static QS_INLINE vf32 read(const In* p) { return load_float(p); }
  static QS_INLINE vf32 read_partial(const In* p, int n) { return load_float_partial(p, n); }
  static QS_INLINE vf32 map(vf32 x, const VectorParameters& p) { return mul(to_f32(steps<divide>(x, p)), p.scale); }
};

template <class Q>
struct Dequantize {
  static constexpr bool divides = false;
  using In = Q;
  using Out = float;
  using Result = vf32;
  static QS_INLINE vi32 read(const In* p) { return load(p); }
  static QS_INLINE vi32 read_partial(const In* p, int n) { return load_partial(p, n, set1(0)); }
  static QS_INLINE vf32 map(vi32 q, const VectorParameters& p) { return mul(to_f32(sub(q, p.zero_point)), p.scale); }
};

template <bool streaming>
QS_INLINE void put(float* p, const vf32 (&x)[4]) {
  for (int j = 0; j < 4; ++j) streaming ? stream(p + j * kLanes, x[j]) : store(p + j * kLanes, x[j]);
}
template <bool streaming, class Q>
QS_INLINE void put(Q* p, const vi32 (&x)[4]) {
  streaming ? stream_saturated(p, x) : store_saturated(p, x);
}
QS_INLINE void put_partial(float* p, vf32 x, int n) { store_partial(p, x, n); }
template <class Q>
QS_INLINE void put_partial(Q* p, vi32 x, int n) {
  store_saturated_partial(p, x, n);
}

template <class Kernel, class Parameters>
QS_INLINE void map_ends(const typename Kernel::In* in, typename Kernel::Out* out, int64_t i, int64_t end,
                        const Parameters& p) {
  for (; i < end; i += kLanes) {
    const int n = end - i < kLanes ? static_cast<int>(end - i) : kLanes;
    put_partial(out + i, Kernel::map(Kernel::read_partial(in + i, n), p.at(i)), n);
  }
}

// Elements [i, n - (n - i) mod 4 vectors) of a run; returns the end.
template <class Kernel, bool streaming, class Parameters>
QS_INLINE int64_t map_body(const typename Kernel::In* in, typename Kernel::Out* out, int64_t i, int64_t n,
                           const Parameters& shared) {
  const Parameters p = shared;  // a copy that no store to `out` can change, so it stays in registers
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    typename Kernel::Result result[4];
    for (int j = 0; j < 4; ++j) {
      result[j] = Kernel::map(Kernel::read(in + i + j * kLanes), p.at(i + j * kLanes));
    }
    put<streaming>(out + i, result);
  }
  return i;
}

// A run of contiguous elements.
template <class Kernel, class Parameters>
__attribute__((noinline)) void map_run(const typename Kernel::In* in, typename Kernel::Out* out, int64_t n,
                                       const Parameters& p, bool streaming) {
  using Out = typename Kernel::Out;
  constexpr uintptr_t line = 64;
  const uintptr_t address = reinterpret_cast<uintptr_t>(out);
  int64_t i = 0;
  if (streaming && address % sizeof(Out) == 0) {
    const int64_t to_line = static_cast<int64_t>((line - address % line) % line / sizeof(Out));
    i = to_line < n ? to_line : n;
    map_ends<Kernel>(in, out, 0, i, p);
    i = map_body<Kernel, true>(in, out, i, n, p);
    stream_fence();
  } else {
    i = map_body<Kernel, false>(in, out, 0, n, p);
  }
  map_ends<Kernel>(in, out, i, n, p);
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
    int64_t channel = plan_.channel;
    OneChannel parameters(channel_parameters<Kernel::divides>(arguments_, channel));
    do {
      if (plan_.channel + outer.channel != channel) {
        channel = plan_.channel + outer.channel;
        parameters = OneChannel(channel_parameters<Kernel::divides>(arguments_, channel));
      }
      run(plan_.in + outer.in, plan_.out + outer.out, inner, inner.size, parameters);
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
        const ChannelParameters c =
            channel_parameters<Kernel::divides>(arguments_, plan_.channel + (begin + i) * inner.channel);
        for (int64_t k = 0; k < fold; ++k) scratch_->table.set(k * n + i, c);
      }
      ElementwiseOdometer outer(axes + 1, plan_.n_axes - 1);
      do {
        const char* in = plan_.in + outer.in + begin * inner.in;
        char* out = plan_.out + outer.out + begin * inner.out;
        for (int64_t row = 0; row < rows; row += fold) {
          const int64_t length = (rows - row < fold ? rows - row : fold) * n;
          run(in + row * n * inner.in, out + row * n * inner.out, inner, length, ManyChannels{&scratch_->table, 0});
        }
      } while (outer.next());
    }
  }

  // Elements along `axis`; what is not contiguous goes through scratch, block by block.
  template <class Parameters>
  void run(const char* in, char* out, const ElementwiseAxis& axis, int64_t n, const Parameters& parameters) const {
    const bool in_place = axis.in == static_cast<int64_t>(sizeof(In));
    const bool out_place = axis.out == static_cast<int64_t>(sizeof(Out));
    if (in_place && out_place) {
      map_run<Kernel>(reinterpret_cast<const In*>(in), reinterpret_cast<Out*>(out), n, parameters, streaming_);
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
      map_run<Kernel>(from, to, size, parameters.from(i), false);
      if (!out_place) scatter(out + i * axis.out, axis.out, scratch_->out, size);
    }
  }

  const ElementwisePlan& plan_;
  const RoundArguments& arguments_;
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
