#include <pybind11/pybind11.h>

#include "python/target.hpp"

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  using namespace qs::python;
  module.doc() = "Kernels of quantstats. Private: use quantstats.kernels.";
  register_arrays(module);
  TargetClass target = register_target(module);
  register_reduce(target);
  register_round(target);
  register_histogram(target);
  register_saturate(target);
  register_certify(target);
  register_quantile(target);
  register_columns(target);
  publish_targets(module);
  register_threads(module);
  register_c_api(module);
}
