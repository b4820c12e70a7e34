// How many CPUs the operating system lets this process use.
#pragma once

namespace qs {

// CPUs in the affinity mask, at most the CPU quota of the cgroup rounded up; at least 1. `root` stands before the paths
// of /proc and /sys, so that a test can have files of its own there.
int usable_cpus(const char* root = "") noexcept;

// The tightest CPU quota of the process' cgroup and those above it, as a number of CPUs; 0 if there is none.
double cgroup_cpus(const char* root = "") noexcept;

}  // namespace qs
