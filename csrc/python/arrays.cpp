#include "python/arrays.hpp"

#include <pybind11/gil_safe_call_once.h>

#include <atomic>
#include <cstdlib>
#include <memory>

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

std::string describe(const py::array& array, const char* argument) {
  return std::string(argument) + " (" + py::str(array.dtype()).cast<std::string>() + ", shape " +
         py::str(array.attr("shape")).cast<std::string>() + ")";
}

}  // namespace

std::string FloatArray::describe() const { return python::describe(array, argument); }

FloatArray float_array(py::handle x, const char* argument) {
  py::array array;
  if (py::isinstance<py::array>(x)) {
    array = py::reinterpret_borrow<py::array>(x);
  } else if (PyFloat_Check(x.ptr()) || PyList_Check(x.ptr()) || PyTuple_Check(x.ptr()) || py::hasattr(x, "__array__")) {
    array = py::module_::import("numpy").attr("asarray")(x).cast<py::array>();
  } else {
    throw py::type_error(std::string(argument) + " is a " + Py_TYPE(x.ptr())->tp_name +
                         "; pass an array of float32, float64, float16 or bfloat16");
  }
  const py::dtype dtype = array.dtype();
  const char order = dtype.byteorder();
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  constexpr char foreign = '<';
#else
  constexpr char foreign = '>';
#endif
  if (order == foreign) {
    throw py::type_error(describe(array, argument) +
                         " is not in native byte order; convert it with x.astype(x.dtype.newbyteorder('='))");
  }
  switch (dtype.num()) {
    case kNumpyFloat:
      return {std::move(array), DType::float32, argument};
    case kNumpyDouble:
      return {std::move(array), DType::float64, argument};
    case kNumpyHalf:
      return {std::move(array), DType::float16, argument};
    default:
      break;
  }
  if (is_bfloat16(dtype)) return {std::move(array), DType::bfloat16, argument};
  throw py::type_error(
      describe(array, argument) +
      " is not a floating-point array that the kernels read (float32, float64, float16, bfloat16); convert it, "
      "for example with x.astype(numpy.float32)");
}

uint64_t axis_mask(py::handle axis, const FloatArray& x) {
  const int ndim = x.ndim();
  if (axis.is_none()) return ndim == 64 ? ~uint64_t{0} : (uint64_t{1} << ndim) - 1;
  uint64_t mask = 0;
  const auto add = [&](py::handle item) {
    if (PyBool_Check(item.ptr()) || !PyIndex_Check(item.ptr())) {
      throw py::type_error("axis is " + py::repr(axis).cast<std::string>() +
                           "; pass None, an integer or a tuple of integers");
    }
    const Py_ssize_t given = PyNumber_AsSsize_t(item.ptr(), nullptr);
    const Py_ssize_t i = given < 0 ? given + ndim : given;
    if (i < 0 || i >= ndim) {
      const py::object error = py::module_::import("numpy").attr("exceptions").attr("AxisError");
      const std::string text = "axis " + std::to_string(given) + " is out of range for " + x.describe();
      PyErr_SetString(error.ptr(), text.c_str());
      throw py::error_already_set();
    }
    if (mask >> i & 1) {
      throw py::value_error("axis " + py::repr(axis).cast<std::string>() + " names axis " + std::to_string(i) + " of " +
                            x.describe() + " twice");
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

StridedView view_of(const FloatArray& x, uint64_t reduced) {
  return {x.array.data(), x.dtype, x.ndim(), reduced, x.shape(), x.strides()};
}

ResultShape::ResultShape(const FloatArray& x, uint64_t reduced, bool keepdims) {
  shape.reserve(static_cast<size_t>(x.ndim()));
  for (int i = 0; i < x.ndim(); ++i) {
    if (!(reduced >> i & 1)) {
      shape.push_back(x.shape()[i]);
    } else if (keepdims) {
      shape.push_back(1);
    }
  }
}

namespace {

// Makes a NumPy scalar the way NumPy does. Calling numpy.float32(value) from here would cost as much as a small
// reduction.
class ScalarMaker {
 public:
  ScalarMaker() {
    const py::object capsule = py::detail::import_numpy_core_submodule("multiarray").attr("_ARRAY_API");
    void** api = static_cast<void**>(PyCapsule_GetPointer(capsule.ptr(), nullptr));
    if (api == nullptr) throw py::error_already_set();
    constexpr int index_of_PyArray_Scalar = 60;  // part of NumPy's ABI, the same in 1.x and 2.x
    scalar_ = reinterpret_cast<Scalar>(api[index_of_PyArray_Scalar]);
    float32_ = py::dtype::of<float>().release();
    float64_ = py::dtype::of<double>().release();
    int64_ = py::dtype::of<int64_t>().release();
  }
  py::object make(const float* value) const { return make(value, float32_); }
  py::object make(const double* value) const { return make(value, float64_); }
  py::object make(const int64_t* value) const { return make(value, int64_); }

  static const ScalarMaker& get() {
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<ScalarMaker> storage;
    return storage.call_once_and_store_result([] { return ScalarMaker(); }).get_stored();
  }

 private:
  using Scalar = PyObject* (*)(void* data, PyObject* dtype, PyObject* base);

  py::object make(const void* value, py::handle dtype) const {
    PyObject* scalar = scalar_(const_cast<void*>(value), dtype.ptr(), nullptr);
    if (scalar == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(scalar);
  }

  Scalar scalar_;
  py::handle float32_, float64_, int64_;  // references that live as long as the process
};

}  // namespace

FloatResult::FloatResult(const ResultShape& shape, bool is_double) : data_(&inline_), is_double_(is_double) {
  if (shape.shape.empty()) return;
  if (is_double) {
    py::array_t<double> array(shape.shape);
    data_ = array.mutable_data();
    array_ = std::move(array);
  } else {
    py::array_t<float> array(shape.shape);
    data_ = array.mutable_data();
    array_ = std::move(array);
  }
}

py::object FloatResult::object() const {
  if (array_) return array_;
  if (is_double_) return ScalarMaker::get().make(static_cast<const double*>(data_));
  return ScalarMaker::get().make(static_cast<const float*>(data_));
}

CountResult::CountResult(const ResultShape& shape) : data_(&inline_) {
  if (shape.shape.empty()) return;
  py::array_t<int64_t> array(shape.shape);
  data_ = array.mutable_data();
  array_ = std::move(array);
}

py::object CountResult::object() const { return array_ ? array_ : ScalarMaker::get().make(data_); }

NanPolicy nan_policy(py::handle value) {
  if (PyUnicode_Check(value.ptr())) {
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "raise") == 0) return NanPolicy::raise;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "ignore") == 0) return NanPolicy::ignore;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "propagate") == 0) return NanPolicy::propagate;
  }
  throw py::value_error("nan_policy is " + py::repr(value).cast<std::string>() +
                        "; pass 'raise', 'ignore' or 'propagate'");
}

void* scratch(size_t bytes) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local size_t capacity = 0;
  if (bytes > capacity) {
    constexpr size_t line = 64;
    const size_t rounded = (bytes + line - 1) / line * line;
    memory.reset(std::aligned_alloc(line, rounded));
    capacity = memory ? rounded : 0;
    if (!memory) throw std::bad_alloc();
  }
  return memory.get();
}

}  // namespace qs::python
