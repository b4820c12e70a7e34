// Which scales of a quantizer can be multiplied by the reciprocal of. Independent of the instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qs {

// Whether one of `n` positive scales has to be divided by for the levels of [qmin, qmax] to be exact: it lies outside
// [kLeastFastScale, kGreatestFastScale], or its significand is so near a multiple of a power of two that a quotient may
// lie beside the border between two levels, closer than the kernels multiply. kernels/round.inl.h has the proof.
bool needs_division(const float* scales, size_t n, int32_t qmin, int32_t qmax) noexcept;

}  // namespace qs
