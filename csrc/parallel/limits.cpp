#include "parallel/limits.h"

#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace qs {
namespace {

#ifdef __linux__

int affinity_cpus() noexcept {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  // More CPUs than the fixed set holds: ask for the number alone.
  return static_cast<int>(std::thread::hardware_concurrency());
}

bool read_line(const std::string& path, char* line, int size) noexcept {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return false;
  const bool read = std::fgets(line, size, file) != nullptr;
  std::fclose(file);
  return read;
}

// Quota over period, as a number of CPUs; 0 if there is no limit.
double quota_v2(const std::string& directory) noexcept {
  char line[128];
  double quota = 0, period = 0;
  if (!read_line(directory + "/cpu.max", line, sizeof line)) return 0;
  if (std::sscanf(line, "%lf %lf", &quota, &period) != 2 || period <= 0) return 0;  // "max 100000" is no limit
  return quota / period;
}

double quota_v1(const std::string& directory) noexcept {
  char line[128];
  double quota = 0, period = 0;
  if (!read_line(directory + "/cpu.cfs_quota_us", line, sizeof line)) return 0;
  if (std::sscanf(line, "%lf", &quota) != 1 || quota <= 0) return 0;
  if (!read_line(directory + "/cpu.cfs_period_us", line, sizeof line)) return 0;
  if (std::sscanf(line, "%lf", &period) != 1 || period <= 0) return 0;
  return quota / period;
}

#endif

}  // namespace

#ifdef __linux__

double cgroup_cpus(const char* root) noexcept {
  const std::string prefix(root);
  std::FILE* file = std::fopen((prefix + "/proc/self/cgroup").c_str(), "re");
  if (file == nullptr) return 0;
  double least = 0;
  char line[4096];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    line[std::strcspn(line, "\n")] = '\0';
    const char* const controllers = std::strchr(line, ':');
    const char* const path = controllers == nullptr ? nullptr : std::strchr(controllers + 1, ':');
    if (path == nullptr) continue;
    const std::string names(controllers + 1, path);
    const bool unified = names.empty();
    if (!unified && ("," + names + ",").find(",cpu,") == std::string::npos) continue;
    // A container may see the path of its group on the host, while its own limits lie where the hierarchy is mounted.
    const std::string mount = prefix + (unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu");
    for (std::string group = path + 1;;) {
      while (!group.empty() && group.back() == '/') group.pop_back();
      const double cpus = unified ? quota_v2(mount + group) : quota_v1(mount + group);
      if (cpus > 0 && (least == 0 || cpus < least)) least = cpus;
      if (group.empty()) break;
      group.erase(group.find_last_of('/') == std::string::npos ? 0 : group.find_last_of('/'));
    }
  }
  std::fclose(file);
  return least;
}

int usable_cpus(const char* root) noexcept {
  const int cpus = affinity_cpus();
  const double quota = cgroup_cpus(root);
  if (quota <= 0 || quota >= cpus) return cpus < 1 ? 1 : cpus;
  const int whole = static_cast<int>(quota);
  return quota > whole ? whole + 1 : whole;
}

#else

double cgroup_cpus(const char*) noexcept { return 0; }

int usable_cpus(const char*) noexcept {
  const auto cpus = static_cast<int>(std::thread::hardware_concurrency());
  return cpus < 1 ? 1 : cpus;
}

#endif

}  // namespace qs
