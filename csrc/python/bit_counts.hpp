// The counters of a bit histogram as an argument.
#pragma once

#include <cstdint>
#include <string>

#include "python/arrays.hpp"
#include "python/dlpack.hpp"

namespace qs::python {

constexpr int kBitCounts = 65536;

// Memory of counters that a kernel can add to while it reads `x`. Raises TypeError for anything else, ValueError if it
// overlaps `x`.
inline py::array bit_counts(py::handle counts, const char* argument, const ArrayArgument& x) {
  constexpr const char* wanted = "a writeable, C-contiguous uint64 array of shape (65536,)";
  if (PyList_Check(counts.ptr()) || PyTuple_Check(counts.ptr()) || counts.is_none()) {
    throw py::type_error(std::string(argument) + " is a " + type_name_of(counts) + "; pass " + wanted);
  }
  ArrayArgument given = array_argument(counts, argument, wanted);
  const py::array& array = given.array;
  if (!array.dtype().equal(py::dtype::of<uint64_t>()) || array.ndim() != 1 || array.shape(0) != kBitCounts ||
      array.strides(0) != sizeof(uint64_t) || !array.writeable() ||
      reinterpret_cast<uintptr_t>(array.data()) % alignof(uint64_t) != 0) {
    throw py::type_error(given.describe() + " is not what the kernel adds to" +
                         (array.writeable() ? "" : ", being read-only") + "; pass " + wanted);
  }
  if (spans_overlap(array, x.array)) {
    throw py::value_error(given.describe() + " overlaps the memory of " + x.argument + "; pass an array of its own");
  }
  return std::move(given.array);
}

}  // namespace qs::python
