// How many CPUs the operating system lets this process use.
#pragma once

namespace qs {

// CPUs in the affinity mask, at most the CPU quota of the cgroup rounded up; at least 1.
int usable_cpus() noexcept;

}  // namespace qs
