#include "layout/parts.h"

namespace qs {
namespace {

constexpr int64_t kSegment = 65536;          // elements of one output in a segment that is read along runs
constexpr int64_t kLeastSegmentRows = 2048;  // and of one that is read row by row
constexpr int64_t kLineElements = 64;        // a cut through a run keeps the alignment to lines of any dtype

template <class AnyAxis>
Cut whole(const AnyAxis* axes, int n) noexcept {
  return n == 0 ? Cut{0, 1, 1, 1} : Cut{n - 1, axes[n - 1].size, 1, 1};
}

// Parts of about `target` indices; `unit` divides the step if axis 0 is cut.
template <class AnyAxis>
Cut cut(const AnyAxis* axes, int n, int64_t target, int64_t unit) noexcept {
  if (n == 0) return whole(axes, n);
  int axis = 0;
  int64_t inner = 1;
  while (axis + 1 < n && inner * axes[axis].size <= target) inner *= axes[axis++].size;
  int64_t step = target / inner;
  if (step < 1) step = 1;
  if (axis == 0) step = (step + unit - 1) / unit * unit;
  const int64_t along = (axes[axis].size - 1) / step + 1;
  Cut result{axis, step, along, along};
  for (int k = axis + 1; k < n; ++k) result.parts *= axes[k].size;
  return result;
}

// Leaves the axes of part i in `axes`, `advance(axis, index)` having moved the origin; returns how many there are.
template <class AnyAxis, class Advance>
int narrow(const Cut& cut, int64_t i, AnyAxis* axes, int n, const Advance& advance) noexcept {
  if (n == 0) return 0;
  AnyAxis& along = axes[cut.axis];
  const int64_t begin = i % cut.along * cut.step;
  i /= cut.along;
  advance(along, begin);
  along.size = along.size - begin < cut.step ? along.size - begin : cut.step;
  for (int k = cut.axis + 1; k < n; ++k) {
    advance(axes[k], i % axes[k].size);
    i /= axes[k].size;
  }
  return cut.axis + 1;
}

}  // namespace

Cut cut_outputs(const Plan& plan, int64_t outputs, int64_t least_columns) noexcept {
  return cut(plan.kept, plan.n_kept, outputs, plan.inner_reduced ? 1 : least_columns);
}

void output_part(const Plan& plan, const Cut& cut, int64_t i, Plan* part) noexcept {
  *part = plan;
  part->n_kept = narrow(cut, i, part->kept, plan.n_kept, [part](const Axis& axis, int64_t index) {
    part->data += index * axis.stride;
    part->out_offset += index * axis.out;
  });
}

Cut cut_reduced(const Plan& plan, int64_t elements) noexcept {
  return cut(plan.reduced, plan.n_reduced, elements, kLineElements);
}

void reduced_part(const Plan& plan, const Cut& cut, int64_t i, Plan* part) noexcept {
  *part = plan;
  part->n_reduced = narrow(cut, i, part->reduced, plan.n_reduced,
                           [part](const Axis& axis, int64_t index) { part->data += index * axis.stride; });
  part->count = 1;
  for (int k = 0; k < part->n_reduced; ++k) part->count *= part->reduced[k].size;
}

Cut segments_of(const Plan& plan) noexcept {
  int64_t elements = kSegment;
  if (!plan.inner_reduced) {
    elements = kSegment / plan.kept[0].size;
    if (elements < kLeastSegmentRows) elements = kLeastSegmentRows;
  }
  return plan.count <= elements ? whole(plan.reduced, plan.n_reduced) : cut_reduced(plan, elements);
}

Cut cut_elements(const ElementwisePlan& plan, int64_t elements) noexcept {
  for (int k = 0; k < plan.n_axes; ++k) {
    const int64_t reach = k == 0 ? 1 : plan.axes[k - 1].out * plan.axes[k - 1].size;
    if (plan.axes[k].out < reach) return whole(plan.axes, plan.n_axes);
  }
  return cut(plan.axes, plan.n_axes, elements, kLineElements);
}

void element_part(const ElementwisePlan& plan, const Cut& cut, int64_t i, ElementwisePlan* part) noexcept {
  *part = plan;
  part->n_axes = narrow(cut, i, part->axes, plan.n_axes, [part](const ElementwiseAxis& axis, int64_t index) {
    part->in += index * axis.in;
    part->out += index * axis.out;
    part->channel += index * axis.channel;
  });
}

}  // namespace qs
