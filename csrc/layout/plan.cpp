#include "layout/plan.h"

namespace qs {
namespace {

bool before(const Axis& a, const Axis& b) noexcept {
  if ((a.stride == 0) != (b.stride == 0)) return b.stride == 0;
  return a.stride < b.stride;
}

void insert_sorted(Axis* axes, int n, const Axis& axis) noexcept {
  int i = n;
  for (; i > 0 && before(axis, axes[i - 1]); --i) axes[i] = axes[i - 1];
  axes[i] = axis;
}

// Merges neighbours that address memory (and the output) as one longer axis. Valid whatever other axes lie between
// them.
int coalesce(Axis* axes, int n) noexcept {
  if (n == 0) return 0;
  int last = 0;
  for (int i = 1; i < n; ++i) {
    Axis& inner = axes[last];
    if (axes[i].stride == inner.stride * inner.size && axes[i].out == inner.out * inner.size) {
      inner.size *= axes[i].size;
    } else {
      axes[++last] = axes[i];
    }
  }
  return last + 1;
}

int item_size(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32:
      return 4;
    case DType::float64:
      return 8;
    case DType::float16:
    case DType::bfloat16:
      return 2;
  }
  return 0;
}

}  // namespace

void make_plan(const StridedView& view, Plan* plan) noexcept {
  plan->dtype = view.dtype;
  plan->item = item_size(view.dtype);
  plan->n_kept = plan->n_reduced = 0;
  plan->outputs = plan->count = 1;
  plan->out_offset = 0;
  const char* data = static_cast<const char*>(view.data);
  for (int i = view.ndim - 1; i >= 0; --i) {
    const bool reduced = (view.reduced >> i) & 1;
    Axis axis{view.shape[i], view.strides[i], reduced ? 0 : plan->outputs};
    (reduced ? plan->count : plan->outputs) *= axis.size;
    if (axis.size <= 1) continue;
    if (axis.stride < 0) {
      data += (axis.size - 1) * axis.stride;
      plan->out_offset += (axis.size - 1) * axis.out;
      axis.stride = -axis.stride;
      axis.out = -axis.out;
    }
    if (reduced) {
      insert_sorted(plan->reduced, plan->n_reduced++, axis);
    } else {
      insert_sorted(plan->kept, plan->n_kept++, axis);
    }
  }
  plan->data = data;
  plan->n_reduced = coalesce(plan->reduced, plan->n_reduced);
  plan->n_kept = coalesce(plan->kept, plan->n_kept);
  plan->inner_reduced = plan->n_kept == 0 || (plan->n_reduced > 0 && before(plan->reduced[0], plan->kept[0]));
}

}  // namespace qs
