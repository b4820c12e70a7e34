// Memory of other libraries, taken over DLPack (https://dmlc.github.io/dlpack): torch, jax, onnxruntime and others.
// NumPy has no bfloat16 and refuses to take it, so the exchange is made here.
#pragma once

#include <pybind11/numpy.h>

namespace qs::python {

namespace py = pybind11;

// A NumPy array that shares somebody's memory. bfloat16, which NumPy lacks, is held as uint16.
struct SharedArray {
  py::array array;
  bool bfloat16 = false;
};

// "torch.Tensor"
std::string type_name_of(py::handle x);

bool speaks_dlpack(py::handle x);

// Never copies; the owner is told when the last reference to the array is gone. Raises TypeError that names the
// argument and the remedy if the memory is not the CPU's, or the owner does not give it (a torch tensor that requires
// gradients, say), or its elements are of a type that NumPy lacks.
SharedArray from_dlpack(py::handle x, const char* argument);

}  // namespace qs::python
