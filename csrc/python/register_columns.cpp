#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "parallel/spread.h"
#include "python/fast_method.hpp"
#include "python/reduction.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

using NoOutliers = void (*)(const Plan*, double, void*, int64_t*, void*) noexcept;

double outlier_probability(py::handle value) {
  const double p = PyFloat_AsDouble(value.ptr());
  if (p == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::type_error("quantile is " + repr_of(value) + "; pass one probability, such as 1e-4");
  }
  if (!(p > 0.0 && p < 0.5)) {
    throw py::value_error("quantile is " + repr_of(value) +
                          "; pass the probability of an outlier on one side, between 0 and 0.5 exclusive");
  }
  return p;
}

py::object without_outliers(NoOutliers kernel, py::handle x, py::handle axis, py::handle quantile, py::handle keepdims,
                            py::handle policy) {
  const double p = outlier_probability(quantile);
  const Reduction reduction(x, axis, keepdims);
  Reduction::NanCheck check(reduction, nan_policy(policy));
  FloatResult values = reduction.values();
  const size_t item = result_item(reduction.plan());
  const Planes planes[] = {{values.data(), item}, {nullptr, sizeof(int64_t)}};
  reduction.run<SpreadColumns>(planes, check.counts() ? 2 : 1,
                               [&](const Plan& plan, const SpreadColumns& spread, void* const* at, void* memory) {
                                 auto* const nan = static_cast<int64_t*>(at[1]);
                                 spread.run(memory,
                                            [&](const Plan* part, void* own) { kernel(part, p, at[0], nan, own); });
                                 check(plan, nan, {{at[0], item}});
                               });
  check.finish();
  return values.object();
}

py::object mean_no_outliers(const Target& self, py::handle x, py::handle axis, py::handle quantile, py::handle keepdims,
                            py::handle policy) {
  return without_outliers(self.kernels().columns->columns_mean_no_outliers, x, axis, quantile, keepdims, policy);
}

py::object median_no_outliers(const Target& self, py::handle x, py::handle axis, py::handle quantile,
                              py::handle keepdims, py::handle policy) {
  return without_outliers(self.kernels().columns->columns_median_no_outliers, x, axis, quantile, keepdims, policy);
}

py::tuple column_quantiles(const Target& self, py::handle x, const std::vector<double>& q, py::handle axis,
                           bool magnitude) {
  const Reduction reduction(x, axis, Py_False);
  FloatResult values = reduction.values({static_cast<py::ssize_t>(q.size())});
  CountResult nan = reduction.counts();
  int64_t bisected = 0;
  reduction.run(kColumnsScratchBytes, [&](void* memory) {
    const QuantileArguments arguments{q.data(),   static_cast<int>(q.size()), magnitude, values.data(),
                                      nan.data(), kColumnsScratchBytes,       nullptr,   nullptr};
    bisected = self.kernels().columns->columns_quantiles(&reduction.plan(), &arguments, memory);
  });
  return py::make_tuple(values.object(), nan.object(), bisected);
}

}  // namespace

void register_columns(TargetClass& target) {
  def_fast<&mean_no_outliers>(target, "mean_no_outliers", "x, axis, quantile, keepdims, nan_policy");
  def_fast<&median_no_outliers>(target, "median_no_outliers", "x, axis, quantile, keepdims, nan_policy");
  target.def(
      "_column_quantiles", &column_quantiles, py::arg("x"), py::arg("q"), py::arg("axis"), py::arg("magnitude"),
      "Quantiles by the columns family whatever the layout, the number of NaN left out, and the number of columns "
      "that were found by bisection.");
}

}  // namespace qs::python
