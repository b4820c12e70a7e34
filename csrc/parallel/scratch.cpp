#include "parallel/scratch.h"

#include <cstdlib>

namespace qs {

void* scratch_memory(size_t bytes) noexcept {
  // Plain pointers, which need no check whether this thread has constructed them.
  thread_local void* memory = nullptr;
  thread_local size_t capacity = 0;
  if (bytes > capacity) {
    struct FreeAtExit {
      ~FreeAtExit() { std::free(memory); }
    };
    thread_local FreeAtExit owner;
    static_cast<void>(owner);
    constexpr size_t line = 64;
    const size_t rounded = (bytes + line - 1) / line * line;
    std::free(memory);
    memory = rounded < bytes ? nullptr : std::aligned_alloc(line, rounded);
    capacity = memory != nullptr ? rounded : 0;
  }
  return memory;
}

}  // namespace qs
