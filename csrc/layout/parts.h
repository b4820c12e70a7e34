// Parts of plans, which can be computed in any order or at the same time. Independent of the instruction set.
#pragma once

#include <cstdint>

#include "layout/elementwise.h"
#include "layout/plan.h"

namespace qs {

// A nest of loops cut along one axis: the axes before it stay whole, it is cut every `step`, and every index of the
// axes behind it begins another part.
struct Cut {
  int axis;
  int64_t step;
  int64_t along;  // parts along the axis
  int64_t parts;  // parts in all
};

// Kept axes: a part has its own outputs, about `outputs` of them. Where neighbouring columns are read side by side, at
// least kLeastColumns of them stay together. `outputs` and `out_offset` of a part are those of the whole plan, so
// results go where they belong.
constexpr int64_t kLeastColumns = 256;  // a multiple of the tile of the columns family
Cut cut_outputs(const Plan& plan, int64_t outputs, int64_t least_columns) noexcept;
void output_part(const Plan& plan, const Cut& cut, int64_t i, Plan* part) noexcept;

// Reduced axes: a part has all outputs, and about `elements` of the elements of each; its `count` says how many.
Cut cut_reduced(const Plan& plan, int64_t elements) noexcept;
void reduced_part(const Plan& plan, const Cut& cut, int64_t i, Plan* part) noexcept;

// The segments of a reduction: each is reduced by itself, and their results are added in order, whatever the number of
// threads. So the cut depends on the plan alone, and as for kept axes on the columns that lie side by side alone: an
// item of a batch has the sum that it has alone.
Cut segments_of(const Plan& plan) noexcept;

// Elements of an elementwise plan, about `elements` to a part; `size` of a part is that of the whole plan. One part if
// elements of the output may share memory.
Cut cut_elements(const ElementwisePlan& plan, int64_t elements) noexcept;
void element_part(const ElementwisePlan& plan, const Cut& cut, int64_t i, ElementwisePlan* part) noexcept;

}  // namespace qs
