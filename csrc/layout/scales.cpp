#include "layout/scales.h"

#include <cstring>

#include "kernels/arguments.h"

namespace qs {

bool needs_division(const float* scales, size_t n, int32_t qmin, int32_t qmax) noexcept {
  constexpr uint32_t nearest = 6;  // units in the last place
  constexpr int significand = 25;  // bits of the midpoint between two floats
  const auto ties = 2 * static_cast<uint32_t>(qmax - qmin);
  int bits = 2;  // of an odd number below `ties`; at least two, so that the implicit bit of a float does not matter
  while (ties >> bits) ++bits;
  const uint32_t mask = (1u << (significand - bits)) - 1;
  bool found = false;
  for (size_t i = 0; i < n; ++i) {
    uint32_t scale = 0;
    std::memcpy(&scale, scales + i, sizeof scale);
    const bool multiple = (scale & mask) == 0;
    const bool near = ((scale + nearest - 1) & mask) < 2 * nearest - 1;
    found |= scales[i] < kLeastFastScale || scales[i] > kGreatestFastScale || (near && !multiple);
  }
  return found;
}

}  // namespace qs
