// From an array with any axes and any strides to the few canonical loops that kernels know. Independent of the
// instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qs {

enum class DType : uint8_t { float32, float64, float16, bfloat16 };

constexpr int kMaxDims = 64;  // of NumPy 2

// An array as its owner describes it: sizes in elements, strides in bytes (zero and negative ones too). Bit i of
// `reduced` says that axis i is reduced; the others are kept.
struct StridedView {
  const void* data;
  DType dtype;
  int ndim;
  uint64_t reduced;
  const int64_t* shape;
  const int64_t* strides;
};

struct Axis {
  int64_t size;
  int64_t stride;  // of the input, in bytes, never negative
  int64_t out;     // of the output, in elements; zero for a reduced axis
};

// The same array with its axes in the order of memory: negative strides flipped, axes of size one dropped, neighbours
// of one kind merged where their strides allow it, smallest stride first. Broadcast axes (stride zero) come last.
// Order-free kernels visit the array in this order, so a sum depends on the memory, not on the names of the axes.
struct Plan {
  const char* data;  // lowest address
  DType dtype;
  int item;            // bytes of an element
  int n_kept;          // axes in `kept`
  int n_reduced;       // axes in `reduced`
  bool inner_reduced;  // the axis with the smallest stride is a reduced one (or there is no kept axis): reduce along
                       // runs
  int64_t outputs;     // product of the kept sizes; of the whole plan, in a part of it: the distance of two planes
  int64_t count;       // product of the reduced sizes
  int64_t out_offset;  // output element that belongs to `data`
  Axis kept[kMaxDims];
  Axis reduced[kMaxDims];
};

// Fills `plan`. The view may be empty (outputs or count is zero): kernels must then not be called.
void make_plan(const StridedView& view, Plan* plan) noexcept;

}  // namespace qs
