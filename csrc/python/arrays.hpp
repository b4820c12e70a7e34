// The one place that validates array arguments and makes result arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "layout/plan.h"

namespace qs::python {

namespace py = pybind11;

// An array argument. Holds a reference, so the memory stays while this lives.
struct ArrayArgument {
  py::array array;
  const char* argument;
  bool bfloat16 = false;  // elements of an array of uint16 that another library calls bfloat16

  // "x (float32, shape (3, 0))": how an error names the argument.
  std::string describe() const;
};

// `value` as an integer, cut to 64 bits: a limit that it exceeds should be told with repr_of(value). TypeError that
// names the argument and what is wanted for anything else.
int64_t integer_argument(py::handle value, const char* argument, const char* wanted = "an integer");

// True or False, of Python or of NumPy; TypeError for anything else.
bool flag_argument(py::handle value, const char* argument);

std::string repr_of(py::handle value);

// The memory of a NumPy array, of an object with DLPack, the buffer protocol or __array_interface__, never copied; and
// what numpy.asarray makes of an object with __array__. Raises TypeError that names the argument and the remedy for
// anything else, for memory of another device and for numpy.ma, whose mask no kernel knows.
ArrayArgument array_argument(py::handle x, const char* argument, const char* wanted);

// A floating-point array argument.
struct FloatArray : ArrayArgument {
  DType dtype;

  int ndim() const { return static_cast<int>(array.ndim()); }
  const int64_t* shape() const { return reinterpret_cast<const int64_t*>(array.shape()); }
  const int64_t* strides() const { return reinterpret_cast<const int64_t*>(array.strides()); }
  int64_t size() const { return array.size(); }
  int64_t bytes() const { return array.nbytes(); }
  // dtype of results that are elements of the array, or lie between them: float64 for float64, float32 for the others.
  bool is_double() const { return dtype == DType::float64; }
};

// An array_argument() of float32, float64, float16 or bfloat16 in native byte order; a Python float or a (nested)
// sequence of floats goes through numpy.asarray. Anything else raises TypeError that names the argument, its dtype and
// shape, and the remedy.
FloatArray float_array(py::handle x, const char* argument);

// Bit i is set if axis i is reduced: None (all axes), an integer or a sequence of integers, negative ones counted from
// the end. Raises numpy.exceptions.AxisError (a ValueError and an IndexError) for an axis out of range, ValueError for
// a repeated one, TypeError for what is no integer.
uint64_t axis_mask(py::handle axis, const FloatArray& x);

// Whether the bytes from the first to the last element of two arrays overlap.
bool spans_overlap(const py::array& a, const py::array& b);

StridedView view_of(const FloatArray& x, uint64_t reduced);

// A new C-contiguous array, not initialised.
py::array new_array(const py::dtype& dtype, int ndim, const py::ssize_t* shape);

// Shape of a reduction's result. With keepdims, reduced axes stay with size one.
struct ResultShape {
  std::vector<py::ssize_t> shape;
  ResultShape(const FloatArray& x, uint64_t reduced, bool keepdims);
};

// The values of one result: memory that a kernel writes in C order, then a NumPy object. A result without dimensions
// lives in this object and becomes a NumPy scalar, so that a call on a small array makes no intermediate array.
class FloatResult {
 public:
  FloatResult(const ResultShape& shape, bool is_double);
  void* data() { return data_; }
  const void* data() const { return data_; }
  py::object object() const;

 private:
  FloatResult(const FloatResult&) = delete;
  double inline_ = 0;
  py::object array_;
  void* data_;
  bool is_double_;
};

class CountResult {
 public:
  explicit CountResult(const ResultShape& shape);
  int64_t* data() { return data_; }
  const int64_t* data() const { return data_; }
  py::object object() const;

 private:
  CountResult(const CountResult&) = delete;
  int64_t inline_ = 0;
  py::object array_;
  int64_t* data_;
};

enum class NanPolicy { raise, ignore, propagate };
NanPolicy nan_policy(py::handle value);

// Scratch memory of this thread, at least `bytes` long and 64-byte aligned; valid until the next call on this thread.
void* scratch(size_t bytes);

// Releases the GIL while it lives if `bytes` of input make the release worth its cost (about 40 ns against 20 us of
// work).
class MaybeReleaseGil {
 public:
  explicit MaybeReleaseGil(int64_t bytes) {
    if (bytes > 256 * 1024) release_.emplace();
  }

 private:
  std::optional<py::gil_scoped_release> release_;
};

}  // namespace qs::python
