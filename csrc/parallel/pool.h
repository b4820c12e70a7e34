// The one thread pool of the process: started by the first call that is worth it, never at import.
#pragma once

#include <cstdint>

namespace qs {

constexpr int kMaxThreads = 256;

// Threads that a call may use, the caller included; at least 1. At first what the environment and the system grant:
// QUANTSTATS_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs of the process' affinity mask, at most its cgroup's
// quota.
int num_threads() noexcept;

// The value of QUANTSTATS_NUM_THREADS if it is no number of at least 1, which must not pass for "as many as there are
// CPUs"; else nullptr.
constexpr const char* kThreadsVariable = "QUANTSTATS_NUM_THREADS";
const char* refused_num_threads() noexcept;

// Clamped to 1 .. kMaxThreads. Threads that exist already stay, asleep.
void set_num_threads(int n) noexcept;

// A piece of work: `chunk` says which, `worker` (0 .. threads-1) whose scratch memory it may use.
using Task = void (*)(void* context, int64_t chunk, int worker) noexcept;

// Calls task(context, chunk, worker) once for each chunk in 0 .. chunks-1, on up to `threads` threads of which the
// caller is one, and returns when all are done. Chunks are handed out one by one, so uneven ones balance. If the pool
// serves another caller at the moment, the caller does all of them: nobody waits for a thread.
void parallel_for(int64_t chunks, int threads, Task task, void* context) noexcept;

}  // namespace qs
