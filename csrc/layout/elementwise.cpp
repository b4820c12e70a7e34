#include "layout/elementwise.h"

namespace qs {
namespace {

int64_t magnitude(int64_t stride) noexcept { return stride < 0 ? -stride : stride; }

bool before(const ElementwiseAxis& a, const ElementwiseAxis& b) noexcept {
  return a.out != b.out ? a.out < b.out : magnitude(a.in) < magnitude(b.in);
}

bool continues(const ElementwiseAxis& inner, const ElementwiseAxis& outer) noexcept {
  return outer.in == inner.in * inner.size && outer.out == inner.out * inner.size && inner.channel == 0 &&
         outer.channel == 0;
}

}  // namespace

void make_elementwise_plan(const void* in, const int64_t* in_strides, void* out, const int64_t* out_strides,
                           const int64_t* shape, int ndim, int channel_axis, ElementwisePlan* plan) noexcept {
  plan->in = static_cast<const char*>(in);
  plan->out = static_cast<char*>(out);
  plan->channel = 0;
  plan->size = 1;
  int n = 0;
  for (int i = ndim - 1; i >= 0; --i) {
    ElementwiseAxis axis{shape[i], in_strides[i], out_strides[i], i == channel_axis ? 1 : 0};
    plan->size *= axis.size;
    if (axis.size <= 1) continue;
    if (axis.out < 0) {
      plan->in += (axis.size - 1) * axis.in;
      plan->out += (axis.size - 1) * axis.out;
      plan->channel += (axis.size - 1) * axis.channel;
      axis.in = -axis.in;
      axis.out = -axis.out;
      axis.channel = -axis.channel;
    }
    int at = n++;
    for (; at > 0 && before(axis, plan->axes[at - 1]); --at) plan->axes[at] = plan->axes[at - 1];
    plan->axes[at] = axis;
  }
  int last = 0;
  for (int i = 1; i < n; ++i) {
    ElementwiseAxis& inner = plan->axes[last];
    if (continues(inner, plan->axes[i])) {
      inner.size *= plan->axes[i].size;
    } else {
      plan->axes[++last] = plan->axes[i];
    }
  }
  plan->n_axes = n ? last + 1 : 0;
}

}  // namespace qs
