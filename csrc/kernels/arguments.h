// What kernels take besides plain pointers. Types only, shared by the objects of all instruction sets: no inline
// function here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout/plan.h"

namespace qs {

// Where a reduction writes, one element per output in C order of the kept axes. A null pointer leaves the value out.
// min, max and abs_max are float for float32, float16 and bfloat16 input, double for float64; they leave NaN out, are
// NaN if a slice holds nothing else, and zero is always +0.0. sum leaves NaN out as well.
struct ReduceOutput {
  void* min;
  void* max;
  void* abs_max;
  double* sum;
  int64_t* nan;
  int64_t* pos_inf;
  int64_t* neg_inf;
};

// Scratch memory of every kernel of the reduce family; 64-byte aligned.
constexpr size_t kReduceScratchBytes = 512 * 1024;

}  // namespace qs
