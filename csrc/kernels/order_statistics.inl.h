// Where a quantile lies in the order of the values, and its value: the one definition for all kernels.
#pragma once

#include "simd/elements.h"

namespace {

// A quantile lies between two neighbours in the order.
struct Position {
  int64_t previous;
  int64_t next;
  double fraction;
};

// Of the q-quantile of n values; q in [0, 1], n > 0. NumPy's `linear` method, in double whatever the type of the
// values.
QS_INLINE Position position_of(double q, int64_t n) {
  const double last = static_cast<double>(n - 1);
  const double rank = q * last;
  if (rank >= last) return {n - 1, n - 1, 0.0};
  const int64_t previous = static_cast<int64_t>(rank);
  return {previous, previous + 1, rank - static_cast<double>(previous)};
}

// NumPy's linear interpolation. Where that would compute Inf - Inf or Inf * 0, the value is the limit: the infinite
// neighbour if the position lies off the finite one; only between opposite infinities there is none, and NaN results.
QS_INLINE double interpolate(double previous, double next, double fraction) {
  if (fraction == 0.0 || previous == next) return previous;
  const double inf = __builtin_inf();
  const double difference = next - previous;
  if (difference == inf && (previous == -inf || next == inf)) {
    return previous != -inf ? next : next != inf ? previous : __builtin_nan("");
  }
  return fraction >= 0.5 ? next - difference * (1.0 - fraction) : previous + difference * fraction;
}

}  // namespace
