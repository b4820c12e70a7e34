// The counters of a bit histogram as an argument.
#pragma once

#include <cstdint>
#include <string>

#include "python/arrays.hpp"

namespace qs::python {

constexpr int kBitCounts = 65536;

// Raises TypeError unless `counts` is an array of counters that a kernel can add to.
inline uint64_t* bit_counts(py::handle counts, const char* argument) {
  const auto fail = [&](const std::string& found) {
    throw py::type_error(std::string(argument) + " is " + found +
                         "; pass a writeable, C-contiguous uint64 array of shape (65536,)");
  };
  if (!py::isinstance<py::array>(counts)) fail(std::string("a ") + Py_TYPE(counts.ptr())->tp_name);
  py::array array = py::reinterpret_borrow<py::array>(counts);
  if (!array.dtype().equal(py::dtype::of<uint64_t>()) || array.ndim() != 1 || array.shape(0) != kBitCounts ||
      array.strides(0) != sizeof(uint64_t) || !array.writeable() ||
      reinterpret_cast<uintptr_t>(array.data()) % alignof(uint64_t) != 0) {
    fail(py::str(array.dtype()).cast<std::string>() + ", shape " + py::str(array.attr("shape")).cast<std::string>() +
         (array.writeable() ? "" : ", read-only"));
  }
  return static_cast<uint64_t*>(array.mutable_data());
}

}  // namespace qs::python
