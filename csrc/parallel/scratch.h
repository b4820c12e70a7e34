// Memory for intermediate results, which each thread keeps for its next call.
#pragma once

#include <cstddef>

namespace qs {

// At least `bytes` long and 64-byte aligned; valid until the next call on this thread. nullptr if there is no memory.
void* scratch_memory(size_t bytes) noexcept;

}  // namespace qs
