#include <string>

#include "parallel/limits.h"
#include "parallel/pool.h"
#include "python/target.hpp"

namespace qs::python {

namespace py = pybind11;

void register_threads(py::module_& module) {
  if (const char* const refused = refused_num_threads(); refused != nullptr) {
    throw py::import_error(std::string("environment variable ") + kThreadsVariable + ": '" + refused +
                           "' is not a number of threads; set an integer of at least 1 or unset the variable");
  }
  module.def("num_threads", &num_threads, "Threads that a call may use, the caller included.");
  module.def("set_num_threads", &set_num_threads, py::arg("n"), "n is at least 1; more than the most count as that.");
  // For tests: what the operating system grants, according to files below a directory of their own.
  module.def("_usable_cpus", &usable_cpus, py::arg("root"));
  module.def("_cgroup_cpus", &cgroup_cpus, py::arg("root"));
}

}  // namespace qs::python
