#include <cstdlib>
#include <string>

#include "python/target.hpp"

namespace qs::python {

namespace py = pybind11;

namespace {

py::tuple names(bool runnable_only) {
  int count = 0;
  const Isa* isa = isas(&count);
  py::list out;
  for (int i = 0; i < count; ++i) {
    if (isa[i].runnable || !runnable_only) out.append(isa[i].name);
  }
  return py::tuple(out);
}

void check_environment() {
  if (active_isa() != nullptr) return;
  const char* const wanted = std::getenv(kIsaVariable);
  const std::string reason =
      find_isa(wanted) == nullptr ? "is not an instruction set of this build" : "does not run on this CPU";
  throw py::import_error(std::string("environment variable ") + kIsaVariable + ": '" + wanted + "' " + reason +
                         " (built: " + py::repr(names(false)).cast<std::string>() +
                         ", runnable here: " + py::repr(names(true)).cast<std::string>() +
                         "); set one of the runnable values or unset the variable");
}

py::dict build_info() {
  py::dict info;
  info["isa_built"] = names(false);
  info["isa_runnable"] = names(true);
  info["isa_active"] = active_isa()->name;
  info["compiler"] = QS_COMPILER;
  info["build_type"] = QS_BUILD_TYPE;
  return info;
}

}  // namespace

TargetClass register_target(py::module_& module) {
  check_environment();
  TargetClass target(module, "Target", "The kernels of one instruction set.");
  target.def_property_readonly(
      "isa", [](const Target& self) { return self.isa->name; }, "Name of the instruction set.");
  target.def("__repr__",
             [](const Target& self) { return std::string("<quantstats kernels for ") + self.isa->name + ">"; });
  module.def("build_info", &build_info,
             "Instruction sets (built, runnable on this CPU, active), compiler and build type, as a dictionary.");
  return target;
}

void publish_targets(py::module_& module) {
  int count = 0;
  const Isa* isa = isas(&count);
  py::dict targets;
  for (int i = 0; i < count; ++i) {
    if (!isa[i].runnable) continue;
    py::object target = py::cast(Target{&isa[i]});
    if (&isa[i] == active_isa()) module.attr("_active") = target;
    targets[isa[i].name] = target;
  }
  module.attr("_targets") = targets;
}

}  // namespace qs::python
