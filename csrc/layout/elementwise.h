// Two arrays of one shape, element by element: from any axes and strides to a few loops. Independent of the instruction
// set.
#pragma once

#include <cstdint>

#include "layout/plan.h"

namespace qs {

struct ElementwiseAxis {
  int64_t size;
  int64_t in;   // stride of the input, in bytes
  int64_t out;  // stride of the output, in bytes, never negative
  int64_t
      channel;  // how many channels one step along this axis goes on: 1 or -1 for the channel axis, 0 for the others
};

// Axes in the order of the output's memory, smallest stride first. Negative strides of the output are flipped, axes of
// size one are dropped, neighbours are merged where the strides of both arrays allow it; the channel axis stays on its
// own.
struct ElementwisePlan {
  const char* in;  // element that belongs to the lowest address of the output
  char* out;
  int64_t channel;  // the channel of that element
  int64_t size;     // elements; of the whole plan, in a part of it
  int n_axes;
  ElementwiseAxis axes[kMaxDims];
};

// Fills `plan`; strides are in bytes. `channel_axis` is -1 if no axis carries channels. The arrays may be empty (size
// is zero): kernels must then not be called.
void make_elementwise_plan(const void* in, const int64_t* in_strides, void* out, const int64_t* out_strides,
                           const int64_t* shape, int ndim, int channel_axis, ElementwisePlan* plan) noexcept;

}  // namespace qs
