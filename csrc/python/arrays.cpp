#include "python/arrays.hpp"

#include <pybind11/gil_safe_call_once.h>

#include <atomic>
#include <cstring>
#include <new>

#include "parallel/scratch.h"
#include "python/dlpack.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

constexpr int kNumpyFloat = 11, kNumpyDouble = 12, kNumpyHalf = 23;

// ml_dtypes registers its types with NumPy at run time, so the number of bfloat16 is only known once such an array
// turns up.
std::atomic<int> bfloat16_number{-1};

bool is_bfloat16(const py::dtype& dtype) {
  const int number = dtype.num();
  if (number == bfloat16_number.load(std::memory_order_relaxed)) return true;
  constexpr int first_user_type = 256;
  if (number < first_user_type || dtype.itemsize() != 2) return false;
  if (py::str(dtype.attr("name")).cast<std::string>() != "bfloat16") return false;
  bfloat16_number.store(number, std::memory_order_relaxed);
  return true;
}

bool is_masked(py::handle x) { return py::isinstance(x, py::module_::import("numpy.ma").attr("MaskedArray")); }

}  // namespace

std::string repr_of(py::handle value) { return py::repr(value).cast<std::string>(); }

int64_t integer_argument(py::handle value, const char* argument, const char* wanted) {
  if (!PyBool_Check(value.ptr()) && PyIndex_Check(value.ptr()) != 0) {
    const Py_ssize_t number = PyNumber_AsSsize_t(value.ptr(), nullptr);
    if (number != -1 || PyErr_Occurred() == nullptr) return number;
    // Arrays of several elements have the method, too.
    if (PyErr_ExceptionMatches(PyExc_TypeError) == 0) throw py::error_already_set();
    PyErr_Clear();
  }
  throw py::type_error(std::string(argument) + " is " + repr_of(value) + "; pass " + wanted);
}

bool flag_argument(py::handle value, const char* argument) {
  if (value.ptr() == Py_False) return false;
  if (value.ptr() == Py_True) return true;
  const char* const type = Py_TYPE(value.ptr())->tp_name;
  if (std::strcmp(type, "numpy.bool") == 0 || std::strcmp(type, "numpy.bool_") == 0) {
    return PyObject_IsTrue(value.ptr()) == 1;
  }
  throw py::type_error(std::string(argument) + " is " + repr_of(value) + "; pass True or False");
}

std::string ArrayArgument::describe() const {
  return std::string(argument) + " (" + (bfloat16 ? "bfloat16" : py::str(array.dtype()).cast<std::string>()) +
         ", shape " + py::str(array.attr("shape")).cast<std::string>() + ")";
}

ArrayArgument array_argument(py::handle x, const char* argument, const char* wanted) {
  if (py::isinstance<py::array>(x)) {
    const auto* const plain = py::detail::npy_api::get().PyArray_Type_;
    if (Py_TYPE(x.ptr()) != plain && is_masked(x)) {
      throw py::type_error(std::string(argument) + " is a masked array, whose mask the kernels do not read; fill it, " +
                           argument + ".filled(...), or pass " + argument + ".compressed()");
    }
    return {py::reinterpret_borrow<py::array>(x), argument};
  }
  if (speaks_dlpack(x)) {
    SharedArray shared = from_dlpack(x, argument);
    return {std::move(shared.array), argument, shared.bfloat16};
  }
  if (py::hasattr(x, "__cuda_array_interface__")) {
    throw py::type_error(std::string(argument) + " is a " + type_name_of(x) +
                         " on a CUDA device; the kernels read the memory of the CPU, so copy it there first");
  }
  if (PyObject_CheckBuffer(x.ptr()) != 0 || py::hasattr(x, "__array_interface__") ||
      py::hasattr(x, "__array_struct__") || py::hasattr(x, "__array__")) {
    return {py::module_::import("numpy").attr("asarray")(x).cast<py::array>(), argument};
  }
  throw py::type_error(std::string(argument) + " is a " + type_name_of(x) + "; pass " + wanted);
}

namespace {

// The argument as an array: also what NumPy makes of a number or a sequence.
ArrayArgument numbers(py::handle x, const char* argument) {
  if (PyFloat_Check(x.ptr()) || PyList_Check(x.ptr()) || PyTuple_Check(x.ptr())) {
    return {py::module_::import("numpy").attr("asarray")(x).cast<py::array>(), argument};
  }
  return array_argument(x, argument, "an array of float32, float64, float16 or bfloat16");
}

}  // namespace

FloatArray float_array(py::handle x, const char* argument) {
  ArrayArgument given = numbers(x, argument);
  if (given.bfloat16) return {std::move(given), DType::bfloat16};
  const py::dtype dtype = given.array.dtype();
  const char order = dtype.byteorder();
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  constexpr char foreign = '<';
#else
  constexpr char foreign = '>';
#endif
  if (order == foreign) {
    throw py::type_error(given.describe() +
                         " is not in native byte order; convert it with x.astype(x.dtype.newbyteorder('='))");
  }
  switch (dtype.num()) {
    case kNumpyFloat:
      return {std::move(given), DType::float32};
    case kNumpyDouble:
      return {std::move(given), DType::float64};
    case kNumpyHalf:
      return {std::move(given), DType::float16};
    default:
      break;
  }
  if (is_bfloat16(dtype)) return {std::move(given), DType::bfloat16};
  throw py::type_error(
      given.describe() +
      " is not a floating-point array that the kernels read (float32, float64, float16, bfloat16); convert it, "
      "for example with x.astype(numpy.float32)");
}

uint64_t axis_mask(py::handle axis, const FloatArray& x) {
  const int ndim = x.ndim();
  if (axis.is_none()) return ndim == 64 ? ~uint64_t{0} : (uint64_t{1} << ndim) - 1;
  uint64_t mask = 0;
  const auto add = [&](py::handle item) {
    const int64_t given = integer_argument(item, "axis", "None, an integer or a tuple of integers");
    const int64_t i = given < 0 ? given + ndim : given;
    if (i < 0 || i >= ndim) {
      const py::object error = py::module_::import("numpy").attr("exceptions").attr("AxisError");
      const std::string text = "axis " + repr_of(item) + " is out of range for " + x.describe();
      PyErr_SetString(error.ptr(), text.c_str());
      throw py::error_already_set();
    }
    if (mask >> i & 1) {
      throw py::value_error("axis " + repr_of(axis) + " names axis " + std::to_string(i) + " of " + x.describe() +
                            " twice");
    }
    mask |= uint64_t{1} << i;
  };
  if (PyTuple_Check(axis.ptr()) || PyList_Check(axis.ptr())) {
    for (py::handle item : axis) add(item);
  } else {
    add(axis);
  }
  return mask;
}

namespace {

struct Span {
  const char* begin;
  const char* end;
};

Span span(const py::array& a) {
  const char* data = static_cast<const char*>(a.data());
  Span s{data, data + a.itemsize()};
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    const py::ssize_t reach = (a.shape(i) - 1) * a.strides(i);
    (reach < 0 ? s.begin : s.end) += reach;
  }
  return s;
}

}  // namespace

bool spans_overlap(const py::array& a, const py::array& b) {
  if (a.size() == 0 || b.size() == 0) return false;
  const Span first = span(a), second = span(b);
  return first.begin < second.end && second.begin < first.end;
}

StridedView view_of(const FloatArray& x, uint64_t reduced) {
  return {x.array.data(), x.dtype, x.ndim(), reduced, x.shape(), x.strides()};
}

py::array new_array(const py::dtype& dtype, int ndim, const py::ssize_t* shape) {
  const auto& numpy = py::detail::npy_api::get();
  PyObject* const array = numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, py::dtype(dtype).release().ptr(), ndim,
                                                      const_cast<Py_intptr_t*>(shape), nullptr, nullptr, 0, nullptr);
  if (array == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(array);
}

ResultShape::ResultShape(const FloatArray& x, uint64_t reduced, bool keepdims) {
  for (int i = 0; i < x.ndim(); ++i) {
    if (!(reduced >> i & 1)) {
      shape.push_back(x.shape()[i]);
    } else if (keepdims) {
      shape.push_back(1);
    }
  }
}

namespace {

// Makes NumPy scalars as NumPy's C code does: an object of the type, then its value. Calling numpy.float32(value) from
// here would cost more than a small reduction. The layout is that of NumPy's public PyFloatScalarObject and its kin,
// part of the ABI.
class ScalarMaker {
 public:
  ScalarMaker() : float32_(type("float32")), float64_(type("float64")), int64_(type("int64")) {}
  py::object make(float value) const { return make(float32_, value); }
  py::object make(double value) const { return make(float64_, value); }
  py::object make(int64_t value) const { return make(int64_, value); }

  static const ScalarMaker& get() {
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<ScalarMaker> storage;
    return storage.call_once_and_store_result([] { return ScalarMaker(); }).get_stored();
  }

 private:
  template <class T>
  struct Scalar {
    PyObject head;
    T value;
  };

  // A reference that lives as long as the process.
  static PyTypeObject* type(const char* name) {
    return reinterpret_cast<PyTypeObject*>(py::module_::import("numpy").attr(name).cast<py::object>().release().ptr());
  }

  template <class T>
  static py::object make(PyTypeObject* type, T value) {
    PyObject* const object = type->tp_alloc(type, 0);
    if (object == nullptr) throw py::error_already_set();
    reinterpret_cast<Scalar<T>*>(object)->value = value;
    return py::reinterpret_steal<py::object>(object);
  }

  PyTypeObject* float32_;
  PyTypeObject* float64_;
  PyTypeObject* int64_;
};

}  // namespace

FloatResult::FloatResult(const ResultShape& shape, bool is_double) : data_(&inline_), is_double_(is_double) {
  if (shape.shape.empty()) return;
  py::array array = new_array(is_double ? py::dtype::of<double>() : py::dtype::of<float>(),
                              static_cast<int>(shape.shape.size()), shape.shape.data());
  data_ = array.mutable_data();
  array_ = std::move(array);
}

py::object FloatResult::object() const {
  if (array_) return array_;
  if (is_double_) return ScalarMaker::get().make(*static_cast<const double*>(data_));
  return ScalarMaker::get().make(*static_cast<const float*>(data_));
}

CountResult::CountResult(const ResultShape& shape) : data_(&inline_) {
  if (shape.shape.empty()) return;
  py::array array = new_array(py::dtype::of<int64_t>(), static_cast<int>(shape.shape.size()), shape.shape.data());
  data_ = static_cast<int64_t*>(array.mutable_data());
  array_ = std::move(array);
}

py::object CountResult::object() const { return array_ ? array_ : ScalarMaker::get().make(*data_); }

NanPolicy nan_policy(py::handle value) {
  static PyObject* const by_default = PyUnicode_InternFromString("raise");
  if (value.ptr() == by_default) return NanPolicy::raise;
  if (PyUnicode_Check(value.ptr())) {
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "raise") == 0) return NanPolicy::raise;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "ignore") == 0) return NanPolicy::ignore;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "propagate") == 0) return NanPolicy::propagate;
  }
  throw py::value_error("nan_policy is " + repr_of(value) + "; pass 'raise', 'ignore' or 'propagate'");
}

void* scratch(size_t bytes) {
  void* const memory = scratch_memory(bytes);
  if (memory == nullptr && bytes > 0) throw std::bad_alloc();
  return memory;
}

void register_arrays(py::module_& module) {
  module.def(
      "share_memory",
      [](py::handle x) {
        const ArrayArgument shared =
            array_argument(x, "x", "an array, or an object with DLPack, the buffer protocol or __array_interface__");
        return py::make_tuple(shared.array, shared.bfloat16);
      },
      py::arg("x"), "The memory of x as an array, and whether its elements, then given as uint16, are bfloat16.");
}

}  // namespace qs::python
