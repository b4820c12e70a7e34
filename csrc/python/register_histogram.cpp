#include <cmath>
#include <limits>
#include <string>

#include "parallel/spread.h"
#include "python/arrays.hpp"
#include "python/bit_counts.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

py::module_ numpy() { return py::module_::import("numpy"); }

Plan whole(const FloatArray& x) {
  Plan plan;
  const uint64_t every_axis = x.ndim() == 64 ? ~uint64_t{0} : (uint64_t{1} << x.ndim()) - 1;
  make_plan(view_of(x, every_axis), &plan);
  return plan;
}

template <class T>
void find_extremes(const Target& self, const FloatArray& x, const Plan& plan, T* min, T* max, int64_t* nan) {
  const ReduceOutput out{min, max, nullptr, nullptr, nan, nullptr, nullptr};
  const SpreadReduction spread(plan);
  void* memory = scratch(spread.scratch_bytes());
  MaybeReleaseGil release(x.bytes());
  spread.run(self.kernels().reduce->reduce_order, out, memory);
}

// (min, max) of the data as scalars of the dtype in which NumPy would have them.
template <class T>
py::tuple data_range(const Target& self, const FloatArray& x, const Plan& plan, const char* scalar_type) {
  T min = 0, max = 1;  // NumPy's choice for no data
  int64_t nan = 0;
  if (plan.count > 0) find_extremes(self, x, plan, &min, &max, &nan);
  if (nan > 0 || std::isinf(min) || std::isinf(max)) {
    throw py::value_error(x.describe() + " holds " + (nan > 0 ? std::to_string(nan) + " NaN" : std::string("Inf")) +
                          ", so it has no finite range; pass range=(low, high), outside of which values are left out");
  }
  if (plan.count == 0) return py::make_tuple(0, 1);
  const py::object scalar = numpy().attr(scalar_type);
  return py::make_tuple(scalar(static_cast<double>(min)), scalar(static_cast<double>(max)));
}

py::tuple given_range(py::handle range) {
  py::tuple pair;
  if (PySequence_Check(range.ptr()) && !PyUnicode_Check(range.ptr()))
    pair = py::tuple(py::reinterpret_borrow<py::object>(range));
  if (pair.size() != 2) {
    throw py::type_error("range is " + repr_of(range) + "; pass (low, high) or None");
  }
  double edge[2];
  for (size_t i = 0; i < 2; ++i) {
    const py::handle item = pair[i];
    edge[i] = PyNumber_Check(item.ptr()) ? PyFloat_AsDouble(item.ptr()) : std::numeric_limits<double>::quiet_NaN();
    if (PyErr_Occurred()) throw py::error_already_set();
  }
  if (!std::isfinite(edge[0]) || !std::isfinite(edge[1]) || edge[0] > edge[1]) {
    throw py::value_error("range is " + repr_of(range) + "; pass finite numbers low <= high");
  }
  return pair;
}

// NumPy's, or its error with the range in front; it warns of numbers beyond the dtype of the edges first.
py::array bin_edges(const py::object& data, int64_t bins, const py::tuple& range) {
  const py::object quiet = numpy().attr("errstate")(py::arg("all") = "ignore");
  quiet.attr("__enter__")();
  py::object edges;
  std::string refused;
  try {
    edges = numpy().attr("histogram_bin_edges")(data, bins, range);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_ValueError)) throw;
    refused = py::str(error.value()).cast<std::string>();
  }
  quiet.attr("__exit__")(py::none(), py::none(), py::none());
  if (!edges)
    throw py::value_error("range is " + repr_of(range) + " and bins is " + std::to_string(bins) + ": " + refused);
  return edges.cast<py::array>();
}

py::tuple histogram(const Target& self, py::handle x, py::handle bins, py::handle range) {
  const FloatArray array = float_array(x, "x");
  const int64_t count = integer_argument(bins, "bins");
  constexpr int64_t most = std::numeric_limits<int32_t>::max() - 1;
  if (count < 1 || count > most) {
    throw py::value_error("bins is " + repr_of(bins) + "; pass 1 to " + std::to_string(most));
  }
  const Plan plan = whole(array);
  py::tuple outer;
  if (!range.is_none()) {
    outer = given_range(range);
  } else if (array.is_double()) {
    outer = data_range<double>(self, array, plan, "float64");
  } else {
    outer = data_range<float>(self, array, plan, "float32");
  }
  // NumPy's own edges: it chooses their dtype from the types of the range and of the data. 16-bit floats count as
  // float32.
  const char* kind = array.is_double() ? "float64" : "float32";
  const py::object nothing = numpy().attr("empty")(0, py::arg("dtype") = kind);
  const py::array edges = bin_edges(nothing, count, outer);

  // x lies above an edge if and only if it lies above the least number of its own type that is not below the edge; the
  // last edge, which is inclusive, is rounded down.
  py::array counts = numpy().attr("zeros")(count, py::arg("dtype") = "int64").cast<py::array>();
  const py::array_t<double> exact = edges.attr("astype")("float64").cast<py::array_t<double>>();
  HistogramArguments arguments{nullptr, count, static_cast<int64_t*>(counts.mutable_data())};
  py::array_t<float> single;
  if (array.is_double()) {
    arguments.edges = exact.data();
  } else {
    single = exact.attr("astype")("float32").cast<py::array_t<float>>();
    float* const edge = single.mutable_data();
    constexpr float infinity = std::numeric_limits<float>::infinity();
    for (Py_ssize_t i = 0; i < count; ++i) {
      if (static_cast<double>(edge[i]) < exact.data()[i]) edge[i] = std::nextafter(edge[i], infinity);
    }
    if (static_cast<double>(edge[count]) > exact.data()[count]) edge[count] = std::nextafter(edge[count], -infinity);
    arguments.edges = single.data();
  }
  if (plan.count > 0) {
    const SpreadHistogram spread(plan, count);
    void* memory = scratch(spread.scratch_bytes());
    MaybeReleaseGil release(array.bytes());
    spread.run(self.kernels().histogram->histogram, arguments, memory);
  }
  return py::make_tuple(counts, edges);
}

int64_t bit_histogram(const Target& self, py::handle x, py::handle counts) {
  const FloatArray array = float_array(x, "x");
  py::array counters = bit_counts(counts, "counts", array);
  auto* const added = static_cast<uint64_t*>(counters.mutable_data());
  const Plan plan = whole(array);
  if (plan.count == 0) return 0;
  const SpreadHistogram spread(plan, kBitCounts);
  void* memory = scratch(spread.scratch_bytes());
  MaybeReleaseGil release(array.bytes());
  return spread.run(self.kernels().histogram->bit_histogram, added, memory);
}

}  // namespace

void register_histogram(TargetClass& target) {
  target.def("histogram", &histogram, py::arg("x"), py::arg("bins"), py::arg("range"))
      .def("bit_histogram", &bit_histogram, py::arg("x"), py::arg("counts"));
}

}  // namespace qs::python
