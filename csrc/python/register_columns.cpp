#include <limits>
#include <string>
#include <vector>

#include "python/arrays.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

using NoOutliers = void (*)(const Plan*, double, void*, int64_t*, void*) noexcept;

double outlier_probability(py::handle value) {
  const double p = PyFloat_AsDouble(value.ptr());
  if (p == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::type_error("quantile is " + py::repr(value).cast<std::string>() + "; pass one probability, such as 1e-4");
  }
  if (!(p > 0.0 && p < 0.5)) {
    throw py::value_error("quantile is " + py::repr(value).cast<std::string>() +
                          "; pass the probability of an outlier on one side, between 0 and 0.5 exclusive");
  }
  return p;
}

py::object without_outliers(NoOutliers kernel, const FloatArray& x, py::handle axis, py::handle quantile, bool keepdims,
                            NanPolicy policy) {
  const double p = outlier_probability(quantile);
  const uint64_t reduced = axis_mask(axis, x);
  const ResultShape shape(x, reduced, keepdims);
  Plan plan;
  make_plan(view_of(x, reduced), &plan);
  if (plan.count == 0) {
    throw py::value_error("cannot aggregate " + x.describe() + ": the reduced axes hold no element");
  }
  FloatResult values(shape, x.is_double());
  CountResult nan(shape);
  if (plan.outputs > 0) {
    void* const memory = scratch(kColumnsScratchBytes);
    MaybeReleaseGil release(x.bytes());
    kernel(&plan, p, values.data(), nan.data(), memory);
  }
  int64_t total = 0;
  for (int64_t i = 0; i < plan.outputs; ++i) total += nan.data()[i];
  if (total > 0 && policy == NanPolicy::raise) {
    throw py::value_error(x.describe() + " holds " + std::to_string(total) +
                          " NaN; pass nan_policy='ignore' to leave them out or 'propagate' to get NaN");
  }
  for (int64_t i = 0; policy == NanPolicy::propagate && i < plan.outputs; ++i) {
    if (nan.data()[i] > 0) values.set(i, std::numeric_limits<double>::quiet_NaN());
  }
  return values.object();
}

py::object mean_no_outliers(const Target& self, py::handle x, py::handle axis, py::handle quantile, bool keepdims,
                            py::handle policy) {
  return without_outliers(self.kernels().columns->columns_mean_no_outliers, float_array(x, "x"), axis, quantile,
                          keepdims, nan_policy(policy));
}

py::object median_no_outliers(const Target& self, py::handle x, py::handle axis, py::handle quantile, bool keepdims,
                              py::handle policy) {
  return without_outliers(self.kernels().columns->columns_median_no_outliers, float_array(x, "x"), axis, quantile,
                          keepdims, nan_policy(policy));
}

py::tuple column_quantiles(const Target& self, py::handle x_given, const py::sequence& probabilities, py::handle axis,
                           bool magnitude) {
  std::vector<double> q;
  for (py::handle p : probabilities) q.push_back(p.cast<double>());
  const FloatArray x = float_array(x_given, "x");
  const uint64_t reduced = axis_mask(axis, x);
  Plan plan;
  make_plan(view_of(x, reduced), &plan);
  const ResultShape set(x, reduced, false);
  ResultShape shape = set;
  shape.shape.insert(shape.shape.begin(), static_cast<py::ssize_t>(q.size()));
  FloatResult values(shape, x.is_double());
  CountResult nan(set);
  int64_t bisected = 0;
  if (plan.count > 0 && plan.outputs > 0) {
    void* const memory = scratch(kColumnsScratchBytes);
    const QuantileArguments arguments{q.data(),   static_cast<int>(q.size()), magnitude, values.data(),
                                      nan.data(), kColumnsScratchBytes};
    bisected = self.kernels().columns->columns_quantiles(&plan, &arguments, memory);
  }
  return py::make_tuple(values.object(), nan.object(), bisected);
}

}  // namespace

void register_columns(TargetClass& target) {
  target
      .def("mean_no_outliers", &mean_no_outliers, py::arg("x"), py::arg("axis"), py::arg("quantile"),
           py::arg("keepdims"), py::arg("nan_policy"))
      .def("median_no_outliers", &median_no_outliers, py::arg("x"), py::arg("axis"), py::arg("quantile"),
           py::arg("keepdims"), py::arg("nan_policy"))
      .def("_column_quantiles", &column_quantiles, py::arg("x"), py::arg("q"), py::arg("axis"), py::arg("magnitude"),
           "Quantiles by the columns family whatever the layout, the number of NaN left out, and the number of columns "
           "that were found by bisection.");
}

}  // namespace qs::python
