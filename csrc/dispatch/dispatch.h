// Which instruction sets exist in this build, which this CPU runs, and the kernel tables of each.
#pragma once

#include "kernels/tables.h"

namespace qs {

// The tables of one instruction set, one per family.
struct Kernels {
#define QS_TABLE_POINTER(isa, family) const family##_kernels* family;
  QS_FOR_EACH_FAMILY(QS_TABLE_POINTER, )
#undef QS_TABLE_POINTER
};

struct Isa {
  const char* name;
  bool runnable;  // by this CPU and operating system
  Kernels kernels;
};

// Every instruction set of this build, best first. The last one, scalar, is always runnable. Asks the CPU on the first
// call.
const Isa* isas(int* count) noexcept;

// The instruction set of the given name; nullptr if it is not built.
const Isa* find_isa(const char* name) noexcept;

// The best runnable instruction set.
const Isa* best_isa() noexcept;

// The instruction set in use: the best runnable one, or the one that the environment variable QUANTSTATS_ISA names;
// nullptr if that one is not built or does not run here. The environment is asked once.
constexpr const char* kIsaVariable = "QUANTSTATS_ISA";
const Isa* active_isa() noexcept;

}  // namespace qs
