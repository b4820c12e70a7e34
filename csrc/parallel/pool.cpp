#include "parallel/pool.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#include "parallel/limits.h"

namespace qs {
namespace {

// How long a thread looks for work, or the caller for the end of it, before it sleeps. More would steal time from
// whoever else computes in this process.
constexpr auto kSpin = std::chrono::microseconds(20);

template <class Condition>
bool spin_until(Condition condition) noexcept {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (condition()) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return condition();
}

struct Job {
  Task task = nullptr;
  void* context = nullptr;
  int64_t chunks = 0;
  int threads = 0;
};

// Lives on the heap and is never freed: its threads outlive every static object. A thread that comes when all chunks
// are handed out goes back to sleep, and the caller does not wait for it.
class Pool {
 public:
  // False if another thread has the pool.
  bool run(const Job& job) noexcept {
    if (!caller_.try_lock()) return false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = job;
      next_.store(0, std::memory_order_relaxed);
      open_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    start(job.threads - 1);
    work(0);
    {
      // Who has not come by now need not come: all chunks are taken.
      const std::lock_guard<std::mutex> lock(mutex_);
      open_ = false;
    }
    const auto done = [this] { return active_.load(std::memory_order_acquire) == 0; };
    if (!spin_until(done)) {
      std::unique_lock<std::mutex> lock(mutex_);
      finished_.wait(lock, done);
    }
    caller_.unlock();
    return true;
  }

 private:
  void start(int threads) noexcept {
    if (started_ >= threads) return;
    // A thread inherits the mask of signals: those of the process belong to the threads of the program.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; started_ < threads; ++started_) {
        std::thread([this, worker = started_ + 1] { serve(worker); }).detach();
      }
    } catch (const std::exception&) {
      // The system gives no more threads: those that exist and the caller do the work.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void work(int worker) noexcept {
    for (;;) {
      const int64_t chunk = next_.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= job_.chunks) return;
      job_.task(job_.context, chunk, worker);
    }
  }

  [[noreturn]] void serve(int worker) noexcept {
    for (uint64_t seen = 0;;) {
      const auto fresh = [&] { return generation_.load(std::memory_order_acquire) != seen; };
      if (!spin_until(fresh)) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, fresh);
      }
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        seen = generation_.load(std::memory_order_relaxed);
        if (!open_ || worker >= job_.threads) continue;
        active_.fetch_add(1, std::memory_order_relaxed);
      }
      work(worker);
      if (active_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const std::lock_guard<std::mutex> lock(mutex_);
        finished_.notify_one();
      }
    }
  }

  std::mutex caller_;  // held by the thread that the pool works for
  std::mutex mutex_;   // of what follows
  std::condition_variable wake_, finished_;
  Job job_;
  bool open_ = false;                    // threads may still join the job
  std::atomic<uint64_t> generation_{0};  // counts jobs
  std::atomic<int> active_{0};           // threads that joined and have not finished
  std::atomic<int64_t> next_{0};         // the next chunk to hand out
  int started_ = 0;
};

std::atomic<Pool*> pool_pointer{nullptr};

// A forked child has no thread but the one that forked: it starts with a pool of its own.
void forget_pool() noexcept { pool_pointer.store(nullptr, std::memory_order_relaxed); }

Pool* pool() noexcept {
  Pool* found = pool_pointer.load(std::memory_order_acquire);
  if (found != nullptr) return found;
  static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
  if (registered != 0) return nullptr;
  Pool* const made = new (std::nothrow) Pool;
  if (made == nullptr || pool_pointer.compare_exchange_strong(found, made, std::memory_order_acq_rel)) return made;
  delete made;
  return found;
}

int from_environment(const char* name) noexcept {
  // OMP_NUM_THREADS may be a list, one number per nesting level: the first counts.
  const char* const text = std::getenv(name);
  if (text == nullptr) return 0;
  const long n = std::strtol(text, nullptr, 10);
  return n < 1 ? 0 : n > kMaxThreads ? kMaxThreads : static_cast<int>(n);
}

int granted_threads() noexcept {
  for (const char* name : {kThreadsVariable, "OMP_NUM_THREADS"}) {
    const int n = from_environment(name);
    if (n > 0) return n;
  }
  const int cpus = usable_cpus();
  return cpus > kMaxThreads ? kMaxThreads : cpus;
}

std::atomic<int>& thread_count() noexcept {
  static std::atomic<int> count{granted_threads()};
  return count;
}

}  // namespace

int num_threads() noexcept { return thread_count().load(std::memory_order_relaxed); }

const char* refused_num_threads() noexcept {
  const char* const text = std::getenv(kThreadsVariable);
  if (text == nullptr || *text == '\0') return nullptr;
  const bool digits_alone = text[std::strspn(text, "0123456789")] == '\0';
  const bool zero = text[std::strspn(text, "0")] == '\0';
  return digits_alone && !zero ? nullptr : text;
}

void set_num_threads(int n) noexcept {
  thread_count().store(n < 1 ? 1 : n > kMaxThreads ? kMaxThreads : n, std::memory_order_relaxed);
}

void parallel_for(int64_t chunks, int threads, Task task, void* context) noexcept {
  if (threads > kMaxThreads) threads = kMaxThreads;
  if (threads > chunks) threads = static_cast<int>(chunks);
  if (threads > 1) {
    Pool* const shared = pool();
    if (shared != nullptr && shared->run({task, context, chunks, threads})) return;
  }
  for (int64_t chunk = 0; chunk < chunks; ++chunk) task(context, chunk, 0);
}

}  // namespace qs
