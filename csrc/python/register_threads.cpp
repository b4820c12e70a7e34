#include <cstdlib>
#include <cstring>
#include <string>

#include "parallel/pool.h"
#include "python/target.hpp"

namespace qs::python {

namespace py = pybind11;

namespace {

// A number that is wrong must not pass for "as many as there are CPUs".
void check_environment() {
  const char* const text = std::getenv("QUANTSTATS_NUM_THREADS");
  if (text == nullptr || *text == '\0') return;
  const size_t digits = std::strspn(text, "0123456789");
  if (text[digits] == '\0' && text[std::strspn(text, "0")] != '\0') return;
  throw py::import_error("environment variable QUANTSTATS_NUM_THREADS: '" + std::string(text) +
                         "' is not a number of threads; set an integer of at least 1 or unset the variable");
}

}  // namespace

void register_threads(py::module_& module) {
  check_environment();
  module.def("num_threads", &num_threads, "Threads that a call may use, the caller included.");
  module.def("set_num_threads", &set_num_threads, py::arg("n"), "n is at least 1; more than the most count as that.");
}

}  // namespace qs::python
