#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "layout/scales.h"
#include "parallel/spread.h"
#include "python/arrays.hpp"
#include "python/dlpack.hpp"
#include "python/fast_method.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

using Kernel = void (*)(const ElementwisePlan*, const RoundArguments*, void*) noexcept;

constexpr const char* kLevelTypes = "; pass int8, uint8, int16 or uint16";

std::string text(py::handle value) { return py::str(value).cast<std::string>(); }

// The storage type of levels, with its range.
struct LevelType {
  QType type;
  const char* name;
  int64_t low;
  int64_t high;
};

bool level_type(const py::dtype& dtype, LevelType* out) {
  constexpr char native = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>';
  const char order = dtype.byteorder();
  if (order != '=' && order != '|' && order != native) return false;
  const bool is_signed = dtype.kind() == 'i';
  if (!is_signed && dtype.kind() != 'u') return false;
  switch (dtype.itemsize()) {
    case 1:
      *out = is_signed ? LevelType{QType::int8, "int8", -128, 127} : LevelType{QType::uint8, "uint8", 0, 255};
      return true;
    case 2:
      *out = is_signed ? LevelType{QType::int16, "int16", -32768, 32767} : LevelType{QType::uint16, "uint16", 0, 65535};
      return true;
    case 4:
      *out = {QType::int32, "int32", INT32_MIN, INT32_MAX};
      return is_signed;
    default:
      return false;
  }
}

// The dtype that `value` stands for. NumPy looks up a name as slowly as it makes a small array, so the names of levels
// are looked up once.
py::dtype level_dtype(py::handle value) {
  static const auto* const known = [] {
    auto* dtypes = new std::array<std::pair<const char*, py::dtype>, 4>{{{"int8", py::dtype::of<int8_t>()},
                                                                         {"uint8", py::dtype::of<uint8_t>()},
                                                                         {"int16", py::dtype::of<int16_t>()},
                                                                         {"uint16", py::dtype::of<uint16_t>()}}};
    return dtypes;  // lives as long as the process
  }();
  if (PyUnicode_CheckExact(value.ptr())) {
    for (const auto& [name, dtype] : *known) {
      if (PyUnicode_CompareWithASCIIString(value.ptr(), name) == 0) return dtype;
    }
  }
  try {
    return py::dtype::from_args(py::reinterpret_borrow<py::object>(value));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError) && !error.matches(PyExc_ValueError)) throw;
    throw py::type_error("dtype is " + repr_of(value) + kLevelTypes);
  }
}

// One value, which takes no memory of the heap, or one for every channel.
template <class T>
class PerChannel {
 public:
  template <class Source>
  void assign(const Source* values, size_t size) {
    size_ = size;
    T* const to = size > 1 ? (many_.resize(size), many_.data()) : &one_;
    for (size_t i = 0; i < size; ++i) to[i] = static_cast<T>(values[i]);
  }
  // The one value, `size` times.
  void repeat(size_t size) {
    if (size == size_) return;
    if (size > 1) many_.assign(size, one_);
    size_ = size;
  }
  size_t size() const { return size_; }
  const T* data() const { return size_ > 1 ? many_.data() : &one_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  T operator[](size_t i) const { return data()[i]; }

 private:
  T one_{};
  size_t size_ = 0;
  std::vector<T> many_;
};

// Scale and zero point, one entry each or one for every channel.
class Parameters {
 public:
  // `x` is the array that `axis` counts the axes of.
  Parameters(const ArrayArgument& x, py::handle axis, py::handle scale, py::handle zero_point) {
    read_axis(x, axis);
    read_scale(scale);
    read_zero_point(zero_point);
    const int64_t channels = channel_axis_ >= 0 ? x.array.shape(channel_axis_) : 1;
    check_count(scale_.size(), "scale", x, channels);
    check_count(zero_point_.size(), "zero_point", x, channels);
    if (scale_.size() == 1 && zero_point_.size() == 1) {
      channel_axis_ = -1;
      return;
    }
    scale_.repeat(static_cast<size_t>(channels));
    zero_point_.repeat(static_cast<size_t>(channels));
  }

  // -1 if all elements share one scale and one zero point.
  int channel_axis() const { return channel_axis_; }

  // `of` names the range in an error.
  void check_zero_points(int64_t low, int64_t high, const char* of) const {
    for (size_t i = 0; i < zero_point_.size(); ++i) {
      if (zero_point_[i] >= low && zero_point_[i] <= high) continue;
      throw py::value_error("zero_point is " + std::to_string(zero_point_[i]) + of_channel(i, zero_point_.size()) +
                            ", outside " + of + " = [" + std::to_string(low) + ", " + std::to_string(high) +
                            "]; a zero point is a level");
    }
  }

  void fill(RoundArguments* arguments) {
    zero_point32_.assign(zero_point_.data(), zero_point_.size());
    arguments->scale = scale_.data();
    arguments->zero_point = zero_point32_.data();
    arguments->true_divide = needs_division(scale_.data(), scale_.size(), arguments->qmin, arguments->qmax);
  }

 private:
  static std::string of_channel(size_t i, size_t n) { return n > 1 ? " for channel " + std::to_string(i) : ""; }

  void read_axis(const ArrayArgument& x, py::handle axis) {
    if (axis.is_none()) return;
    const int64_t given = integer_argument(axis, "axis");
    const int64_t i = given < 0 ? given + x.array.ndim() : given;
    if (i < 0 || i >= x.array.ndim()) {
      const py::object error = py::module_::import("numpy").attr("exceptions").attr("AxisError");
      const std::string message = "axis " + repr_of(axis) + " is out of range for " + x.describe();
      PyErr_SetString(error.ptr(), message.c_str());
      throw py::error_already_set();
    }
    channel_axis_ = static_cast<int>(i);
  }

  void read_scale(py::handle scale) {
    if (PyFloat_Check(scale.ptr())) {
      const double value = PyFloat_AS_DOUBLE(scale.ptr());
      scale_.assign(&value, 1);
    } else {
      const py::array given = values_of(scale, "scale");
      const char kind = given.dtype().kind();
      if (kind != 'f' && kind != 'i' && kind != 'u' && text(given.dtype()) != "bfloat16") {
        throw py::type_error(ArrayArgument{given, "scale"}.describe() +
                             " holds no real numbers; pass a float or a float32 array");
      }
      check_dimensions(given, "scale");
      const py::array_t<float> values = given.attr("astype")("float32").attr("ravel")().cast<py::array_t<float>>();
      scale_.assign(values.data(), static_cast<size_t>(values.size()));
    }
    for (size_t i = 0; i < scale_.size(); ++i) {
      if (!(scale_[i] > 0) || std::isinf(scale_[i])) {
        throw py::value_error("scale is " + text(py::float_(scale_[i])) + of_channel(i, scale_.size()) +
                              " (as float32); pass a positive, finite scale");
      }
    }
  }

  void read_zero_point(py::handle zero_point) {
    if (PyLong_CheckExact(zero_point.ptr())) {
      const int64_t value = integer_argument(zero_point, "zero_point");
      if (value < INT32_MIN || value > INT32_MAX) {
        throw py::value_error("zero_point is " + repr_of(zero_point) + "; a zero point is a level, of 32 bits at most");
      }
      zero_point_.assign(&value, 1);
      return;
    }
    const py::array given = values_of(zero_point, "zero_point");
    const char kind = given.dtype().kind();
    if (kind != 'i' && kind != 'u') {
      throw py::type_error(ArrayArgument{given, "zero_point"}.describe() +
                           " holds no integers; pass an integer or an integer array");
    }
    check_dimensions(given, "zero_point");
    const py::array_t<int64_t> values = given.attr("astype")("int64").attr("ravel")().cast<py::array_t<int64_t>>();
    zero_point_.assign(values.data(), static_cast<size_t>(values.size()));
  }

  // Memory of other libraries is shared; bfloat16 becomes float32, and NumPy makes an array of all else.
  static py::array values_of(py::handle given, const char* argument) {
    if (!speaks_dlpack(given)) return py::module_::import("numpy").attr("asarray")(given).cast<py::array>();
    const ArrayArgument shared = array_argument(given, argument, "numbers");
    if (!shared.bfloat16) return shared.array;
    return shared.array.attr("astype")("uint32").attr("__lshift__")(16).attr("view")("float32").cast<py::array>();
  }

  static void check_dimensions(const py::array& given, const char* argument) {
    if (given.ndim() > 1) {
      throw py::value_error(ArrayArgument{given, argument}.describe() +
                            " has more than one dimension; pass a scalar or one value per channel");
    }
  }

  void check_count(size_t count, const char* argument, const ArrayArgument& x, int64_t channels) const {
    if (count == 1 || (channel_axis_ >= 0 && count == static_cast<size_t>(channels))) return;
    const std::string values = std::string(argument) + " holds " + std::to_string(count) + " values";
    if (channel_axis_ < 0) {
      throw py::value_error(values + ", but axis is None; pass axis=, the channel axis of " + x.describe());
    }
    throw py::value_error(values + ", but axis " + std::to_string(channel_axis_) + " of " + x.describe() +
                          " has size " + std::to_string(channels) + "; pass one value, or one per channel");
  }

  int channel_axis_ = -1;
  PerChannel<float> scale_;
  PerChannel<int64_t> zero_point_;
  PerChannel<int32_t> zero_point32_;
};

void read_levels(py::handle qmin, py::handle qmax, int64_t low, int64_t high, const char* of,
                 RoundArguments* arguments) {
  const int64_t least = integer_argument(qmin, "qmin"), greatest = integer_argument(qmax, "qmax");
  const auto range = [&] { return "[" + std::to_string(low) + ", " + std::to_string(high) + "], the range of " + of; };
  if (least < low || least > high) {
    throw py::value_error("qmin is " + repr_of(qmin) + ", outside " + range());
  }
  if (greatest < low || greatest > high) {
    throw py::value_error("qmax is " + repr_of(qmax) + ", outside " + range());
  }
  if (least >= greatest) {
    throw py::value_error("qmin is " + std::to_string(least) + " and qmax is " + std::to_string(greatest) +
                          "; qmin must be less than qmax");
  }
  arguments->qmin = static_cast<int32_t>(least);
  arguments->qmax = static_cast<int32_t>(greatest);
}

bool same_elements(const py::array& a, const py::array& b) {
  if (a.data() != b.data() || a.itemsize() != b.itemsize()) return false;
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    if (a.shape(i) > 1 && a.strides(i) != b.strides(i)) return false;
  }
  return true;
}

// Whether elements may share memory: true unless every stride leads beyond all that the smaller ones reach, as in any
// view that slices and transposes make.
bool elements_overlap(const py::array& a) {
  if (a.size() <= 1 || (a.flags() & py::array::c_style) != 0) return false;
  std::vector<std::pair<py::ssize_t, py::ssize_t>> axes;  // stride and size
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    if (a.shape(i) > 1) axes.emplace_back(std::abs(a.strides(i)), a.shape(i));
  }
  std::sort(axes.begin(), axes.end());
  py::ssize_t reach = a.itemsize();
  for (const auto& [stride, size] : axes) {
    if (stride < reach) return true;
    reach += (size - 1) * stride;
  }
  return false;
}

// Where a result goes: `out` if it is given and fits, else a new C-contiguous array.
class Output {
 public:
  Output(py::handle out, const ArrayArgument& x, const py::dtype& dtype)
      : memory_(out.is_none() ? fresh(x, dtype) : given(out)), object_(out.is_none() ? memory_.array : out) {
    if (!out.is_none()) check(x, dtype);
  }
  py::array& array() { return memory_.array; }
  // What the caller gets: `out` itself, or the new array.
  py::object object() const { return py::reinterpret_borrow<py::object>(object_); }

 private:
  static ArrayArgument fresh(const ArrayArgument& x, const py::dtype& dtype) {
    return {new_array(dtype, static_cast<int>(x.array.ndim()), x.array.shape()), "out"};
  }

  static ArrayArgument given(py::handle out) {
    constexpr const char* wanted = "an array or None";
    if (PyList_Check(out.ptr()) || PyTuple_Check(out.ptr())) {
      throw py::type_error("out is a " + type_name_of(out) + "; pass " + wanted);
    }
    return array_argument(out, "out", wanted);
  }

  void check(const ArrayArgument& x, const py::dtype& dtype) const {
    const py::array& out = memory_.array;
    if (memory_.bfloat16 || (!out.dtype().is(dtype) && !out.dtype().equal(dtype))) {
      throw py::type_error(memory_.describe() + " must have dtype " + text(dtype));
    }
    if (!std::equal(x.array.shape(), x.array.shape() + x.array.ndim(), out.shape(), out.shape() + out.ndim())) {
      throw py::value_error(memory_.describe() + " must have the shape of " + x.describe());
    }
    if (!out.writeable()) throw py::value_error(memory_.describe() + " is read-only; pass a writeable array");
    if (elements_overlap(out)) {
      throw py::value_error(memory_.describe() + " has elements that share memory; pass an array without");
    }
    if (!same_elements(x.array, out) && spans_overlap(x.array, out)) {
      throw py::value_error(memory_.describe() + " overlaps the memory of " + x.argument +
                            "; pass an array of its own, or " + x.argument + " itself where the dtypes are equal");
    }
  }

  ArrayArgument memory_;
  py::handle object_;
};

void run(Kernel kernel, const py::array& in, py::array& out, const Parameters& parameters,
         const RoundArguments& arguments) {
  if (in.size() == 0) return;
  ElementwisePlan plan;
  make_elementwise_plan(in.data(), reinterpret_cast<const int64_t*>(in.strides()), out.mutable_data(),
                        reinterpret_cast<const int64_t*>(out.strides()), reinterpret_cast<const int64_t*>(in.shape()),
                        static_cast<int>(in.ndim()), parameters.channel_axis(), &plan);
  const SpreadRounding spread(plan);
  void* memory = scratch(spread.scratch_bytes());
  MaybeReleaseGil release(in.size() * static_cast<int64_t>(sizeof(float)));
  spread.run(kernel, arguments, memory);
}

py::object quantize_linear(const Target& self, py::handle x, py::handle scale, py::handle zero_point, py::handle axis,
                           py::handle qmin, py::handle qmax, py::handle dtype, py::handle out) {
  const FloatArray array = float_array(x, "x");
  const py::dtype out_dtype = level_dtype(dtype);
  LevelType levels{};
  if (!level_type(out_dtype, &levels) || levels.type == QType::int32) {
    throw py::type_error("dtype is " + text(out_dtype) + kLevelTypes);
  }
  RoundArguments arguments{};
  arguments.dtype = array.dtype;
  arguments.qtype = levels.type;
  read_levels(qmin, qmax, levels.low, levels.high, levels.name, &arguments);
  Parameters parameters(array, axis, scale, zero_point);
  parameters.check_zero_points(arguments.qmin, arguments.qmax, "[qmin, qmax]");
  parameters.fill(&arguments);
  Output result(out, array, out_dtype);
  run(self.kernels().round->quantize_linear, array.array, result.array(), parameters, arguments);
  return result.object();
}

py::object fake_quantize(const Target& self, py::handle x, py::handle scale, py::handle zero_point, py::handle axis,
                         py::handle qmin, py::handle qmax, py::handle out) {
  const FloatArray array = float_array(x, "x");
  RoundArguments arguments{};
  arguments.dtype = array.dtype;
  read_levels(qmin, qmax, -32768, 65535, "levels of up to 16 bits", &arguments);
  Parameters parameters(array, axis, scale, zero_point);
  parameters.check_zero_points(arguments.qmin, arguments.qmax, "[qmin, qmax]");
  parameters.fill(&arguments);
  Output result(out, array, py::dtype::of<float>());
  run(self.kernels().round->fake_quantize, array.array, result.array(), parameters, arguments);
  return result.object();
}

py::object dequantize_linear(const Target& self, py::handle q, py::handle scale, py::handle zero_point, py::handle axis,
                             py::handle out) {
  const ArrayArgument array = array_argument(q, "q", "an array of int8, uint8, int16, uint16 or int32");
  LevelType levels{};
  if (array.bfloat16 || !level_type(array.array.dtype(), &levels)) {
    throw py::type_error(array.describe() +
                         " holds no levels that the kernels read (int8, uint8, int16, uint16, int32 in "
                         "native byte order); convert it, for example with q.astype(numpy.int8)");
  }
  RoundArguments arguments{};
  arguments.qtype = levels.type;
  Parameters parameters(array, axis, scale, zero_point);
  if (levels.type == QType::int32) {
    parameters.check_zero_points(0, 0, "the zero points of int32, which holds biases and sums,");
  } else {
    parameters.check_zero_points(levels.low, levels.high, levels.name);
  }
  parameters.fill(&arguments);
  Output result(out, array, py::dtype::of<float>());
  run(self.kernels().round->dequantize_linear, array.array, result.array(), parameters, arguments);
  return result.object();
}

}  // namespace

void register_round(TargetClass& target) {
  def_fast<&quantize_linear>(target, "quantize_linear", "x, scale, zero_point, axis, qmin, qmax, dtype, out");
  def_fast<&dequantize_linear>(target, "dequantize_linear", "q, scale, zero_point, axis, out");
  def_fast<&fake_quantize>(target, "fake_quantize", "x, scale, zero_point, axis, qmin, qmax, out");
}

}  // namespace qs::python
