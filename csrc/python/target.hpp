// A Target makes the kernels of one instruction set callable from Python; every family adds its methods to the class.
#pragma once

#include <pybind11/pybind11.h>

#include "dispatch/dispatch.h"

namespace qs::python {

struct Target {
  const Isa* isa;
  const Kernels& kernels() const { return isa->kernels; }
};

using TargetClass = pybind11::class_<Target>;

// Defines Target, _targets, _active and build_info. Raises ImportError if QUANTSTATS_ISA names what cannot run.
TargetClass register_target(pybind11::module_& module);
// Makes one Target per runnable instruction set; called once every family has added its methods.
void publish_targets(pybind11::module_& module);

// Defines share_memory.
void register_arrays(pybind11::module_& module);
void register_certify(TargetClass& target);
void register_columns(TargetClass& target);
void register_quantile(TargetClass& target);
void register_reduce(TargetClass& target);
void register_round(TargetClass& target);
void register_histogram(TargetClass& target);
void register_saturate(TargetClass& target);
void register_c_api(pybind11::module_& module);
// Defines num_threads and set_num_threads. Raises ImportError if QUANTSTATS_NUM_THREADS is no number of threads.
void register_threads(pybind11::module_& module);

}  // namespace qs::python
