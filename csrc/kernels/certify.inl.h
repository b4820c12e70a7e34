// Which pairs of weights can saturate the 16-bit sums of u8 x s8 products. Activations are never negative, so the
// worst case of a pair is the sum of the weights of one sign, each times the greatest activation: of every row the
// kernel finds the greatest sum of a pair of positive weights and that of a pair of negative ones, as magnitudes.
//
// A row is read as it lies in memory: along vectors where its elements are contiguous, and many rows at a time where
// neighbouring rows are. Once: of rows at a time, positions are noted whenever a greater pair turns up, which is rare;
// along a row, the worst pair is looked for again, in the first-level cache.
#pragma once

#include "kernels/iterate.inl.h"

namespace {

constexpr int kBytes = vu8::lanes;
constexpr int kPanel = 1024;  // rows at a time
constexpr int kCounted = 32;  // rows whose weights are counted at a time
constexpr int kAhead = 8;     // elements ahead that are prefetched of rows at a time
constexpr int kLevels = 256;

// The greatest magnitudes of a panel by sign, and where they are. Neighbours use the first of two.
struct CertifyPanel {
  uint8_t greatest[2][2][kPanel];
  int64_t at[2][2][kPanel];
  int64_t at_risk[kPanel];
};
union CertifyScratch {
  CertifyPanel panel;
  uint32_t histogram[kCounted][kLevels];  // of a weight plus 128
};
static_assert(sizeof(CertifyScratch) <= kCertifyScratchBytes, "raise kCertifyScratchBytes");

template <int sign>
QS_INLINE vu8 load_magnitude(const char* p) {
  const auto* bytes = reinterpret_cast<const int8_t*>(p);
  return sign == 0 ? load_positive(bytes) : load_negative(bytes);
}
// The first n bytes, the others zero.
template <int sign>
QS_INLINE vu8 load_magnitude(const char* p, int64_t n) {
  if (n >= kBytes) return load_magnitude<sign>(p);
  char bytes[kBytes] = {};
  __builtin_memcpy(bytes, p, static_cast<size_t>(n));
  return load_magnitude<sign>(bytes);
}

int8_t weight(const PairArguments& p, int64_t row, int64_t i) {
  return read<int8_t>(p.data + row * p.row_stride + i * p.element_stride);
}

uint8_t byte_limit(int32_t limit) { return static_cast<uint8_t>(limit > 255 ? 255 : limit); }

// Which sign is further beyond its limit, or nearer: 0 for positive weights.
int worse_sign(const PairArguments& p, int32_t positive, int32_t negative) {
  return negative - p.negative_limit > positive - p.positive_limit;
}

void report(const PairArguments& p, int64_t row, int32_t positive, int32_t negative, int64_t first, int64_t second) {
  p.positive[row] = positive;
  p.negative[row] = negative;
  p.positions[2 * row] = first;
  p.positions[2 * row + 1] = second;
}

// Neighbours: elements 2i and 2i + 1 of a row. ------------------------------------------------------------------------

// `first` is the even element of the worse pair. Sums saturate at 255, and only that of -128 twice is above.
void report_neighbours(const PairArguments& p, int64_t row, int32_t positive, int32_t negative, int64_t first) {
  if (negative == 255) {
    for (int64_t i = 0; i + 1 < p.length; i += 2) {
      if (weight(p, row, i) == -128 && weight(p, row, i + 1) == -128) {
        return report(p, row, positive, 256, worse_sign(p, positive, 256) == 1 ? i : first,
                      worse_sign(p, positive, 256) == 1 ? i + 1 : first + 1);
      }
    }
  }
  report(p, row, positive, negative, first, first >= 0 && first + 1 < p.length ? first + 1 : -1);
}

template <int sign>
int64_t find_neighbours(const char* data, int64_t length, uint8_t sum) {
  const vu8 wanted = set1(sum);
  constexpr uint64_t even = 0x5555555555555555u;
  for (int64_t i = 0; i < length; i += kBytes) {
    const uint64_t found = equal_bits(add_next_saturated(load_magnitude<sign>(data + i, length - i)), wanted) & even;
    if (found != 0) return i + first_one(found);
  }
  return -1;
}

uint8_t greatest_lane(vu8 x) {
  uint8_t lane[kBytes], greatest = 0;
  store(lane, x);
  for (const uint8_t value : lane) greatest = value > greatest ? value : greatest;
  return greatest;
}

void neighbours_along(const PairArguments& p, int64_t row) {
  const char* data = p.data + row * p.row_stride;
  // Odd lanes hold single weights, which are not above the sum of their pair.
  vu8 positives = set1(uint8_t{0}), negatives = positives;
  int64_t i = 0;
  for (; i + kBytes <= p.length; i += kBytes) {
    positives = max(positives, add_next_saturated(load_magnitude<0>(data + i)));
    negatives = max(negatives, add_next_saturated(load_magnitude<1>(data + i)));
  }
  if (i < p.length) {
    positives = max(positives, add_next_saturated(load_magnitude<0>(data + i, p.length - i)));
    negatives = max(negatives, add_next_saturated(load_magnitude<1>(data + i, p.length - i)));
  }
  const uint8_t positive = greatest_lane(positives), negative = greatest_lane(negatives);
  int64_t first = -1;
  if (worse_sign(p, positive, negative) == 0) {
    if (positive > 0) first = find_neighbours<0>(data, p.length, positive);
  } else {
    if (negative > 0) first = find_neighbours<1>(data, p.length, negative);
  }
  report_neighbours(p, row, positive, negative, first);
  if (p.at_risk == nullptr) return;
  int64_t risky = 0;
  if (p.positive[row] > p.positive_limit || p.negative[row] > p.negative_limit) {
    const vu8 above = set1(byte_limit(p.positive_limit)), below = set1(byte_limit(p.negative_limit));
    for (i = 0; i < p.length; i += kBytes) {
      const int64_t n = p.length - i;
      // A single weight, in an odd lane, is beyond no limit; and no pair is beyond both.
      risky += count_ones(greater_bits(add_next_saturated(load_magnitude<0>(data + i, n)), above) |
                          greater_bits(add_next_saturated(load_magnitude<1>(data + i, n)), below));
    }
  }
  p.at_risk[row] = risky;
}

// Elements i and i + 1 of kBytes rows at `at`, of which n exist.
template <int sign, bool count>
QS_INLINE void add_neighbours(const PairArguments& p, CertifyPanel& s, const char* at, int64_t n, int64_t i, int row,
                              vu8 limit) {
  vu8 sum = load_magnitude<sign>(at, n);
  if (i + 1 < p.length) sum = add_saturated(sum, load_magnitude<sign>(at + p.element_stride, n));
  uint8_t* greatest = s.greatest[sign][0] + row;
  const vu8 before = load_levels(greatest);
  for (uint64_t found = greater_bits(sum, before); found != 0; found &= found - 1) {
    s.at[sign][0][row + first_one(found)] = i;
  }
  store(greatest, max(sum, before));
  if constexpr (count) {
    for (uint64_t found = greater_bits(sum, limit); found != 0; found &= found - 1) ++s.at_risk[row + first_one(found)];
  }
}

void clear(CertifyPanel& s) {
  __builtin_memset(s.greatest, 0, sizeof s.greatest);
  __builtin_memset(s.at, -1, sizeof s.at);
  __builtin_memset(s.at_risk, 0, sizeof s.at_risk);
}

// Rows first .. first + n - 1, whose elements lie side by side.
template <bool count>
void neighbours_across(const PairArguments& p, int64_t first, int n, CertifyPanel& s) {
  clear(s);
  const vu8 above = set1(byte_limit(p.positive_limit)), below = set1(byte_limit(p.negative_limit));
  for (int64_t i = 0; i < p.length; i += 2) {
    const char* at = p.data + first + i * p.element_stride;
    for (int row = 0; row < n; row += kBytes) {
      // Hardware does not foresee the step from one short run to the next.
      prefetch(at + row + kAhead * p.element_stride);
      prefetch(at + row + (kAhead + 1) * p.element_stride);
      add_neighbours<0, count>(p, s, at + row, n - row, i, row, above);
      add_neighbours<1, count>(p, s, at + row, n - row, i, row, below);
    }
  }
  for (int r = 0; r < n; ++r) {
    const uint8_t positive = s.greatest[0][0][r], negative = s.greatest[1][0][r];
    report_neighbours(p, first + r, positive, negative, s.at[worse_sign(p, positive, negative)][0][r]);
    if (p.at_risk != nullptr) p.at_risk[first + r] = s.at_risk[r];
  }
}

// Any two elements of a row: the two greatest magnitudes of a sign. ---------------------------------------------------

struct TopTwo {
  vu8 first = set1(uint8_t{0});
  vu8 second = set1(uint8_t{0});
  QS_INLINE void add(vu8 x) {
    second = max(second, min(first, x));
    first = max(first, x);
  }
  // The two greatest of all lanes.
  QS_INLINE void reduce(uint8_t* greatest) const {
    uint8_t lane[2 * kBytes];
    store(lane, first);
    store(lane + kBytes, second);
    greatest[0] = greatest[1] = 0;
    for (const uint8_t x : lane) {
      const uint8_t smaller = x < greatest[0] ? x : greatest[0];
      greatest[1] = smaller > greatest[1] ? smaller : greatest[1];
      greatest[0] = x > greatest[0] ? x : greatest[0];
    }
  }
};

// The first element, other than `taken`, with a magnitude.
template <int sign>
int64_t find_magnitude(const char* data, int64_t length, uint8_t magnitude, int64_t taken) {
  const vu8 wanted = set1(magnitude);
  for (int64_t i = 0; i < length; i += kBytes) {
    uint64_t found = equal_bits(load_magnitude<sign>(data + i, length - i), wanted);
    if (taken >= i && taken < i + kBytes) found &= ~(uint64_t{1} << (taken - i));
    if (found != 0) return i + first_one(found);
  }
  return -1;
}

template <int sign>
void find_top_two(const PairArguments& p, int64_t row, const uint8_t* greatest) {
  const char* data = p.data + row * p.row_stride;
  int64_t* at = p.positions + 2 * row;
  at[0] = greatest[0] > 0 ? find_magnitude<sign>(data, p.length, greatest[0], -1) : -1;
  at[1] = greatest[1] > 0 ? find_magnitude<sign>(data, p.length, greatest[1], at[0]) : -1;
}

void any_along(const PairArguments& p, int64_t row) {
  const char* data = p.data + row * p.row_stride;
  TopTwo positives, negatives;
  int64_t i = 0;
  for (; i + kBytes <= p.length; i += kBytes) {
    positives.add(load_magnitude<0>(data + i));
    negatives.add(load_magnitude<1>(data + i));
  }
  if (i < p.length) {
    positives.add(load_magnitude<0>(data + i, p.length - i));
    negatives.add(load_magnitude<1>(data + i, p.length - i));
  }
  uint8_t positive[2], negative[2];
  positives.reduce(positive);
  negatives.reduce(negative);
  p.positive[row] = positive[0] + positive[1];
  p.negative[row] = negative[0] + negative[1];
  if (worse_sign(p, p.positive[row], p.negative[row]) == 0) {
    find_top_two<0>(p, row, positive);
  } else {
    find_top_two<1>(p, row, negative);
  }
}

// Element i of kBytes rows at `at`, of which n exist.
template <int sign>
QS_INLINE void add_any(CertifyPanel& s, const char* at, int64_t n, int64_t i, int row) {
  const vu8 x = load_magnitude<sign>(at, n);
  uint64_t found = greater_bits(x, load_levels(s.greatest[sign][1] + row));
  if (found == 0) return;
  uint8_t lane[kBytes];
  store(lane, x);
  for (; found != 0; found &= found - 1) {
    const auto j = static_cast<int>(first_one(found));
    const int r = row + j;
    const int rank = lane[j] > s.greatest[sign][0][r] ? 0 : 1;
    if (rank == 0) {
      s.greatest[sign][1][r] = s.greatest[sign][0][r];
      s.at[sign][1][r] = s.at[sign][0][r];
    }
    s.greatest[sign][rank][r] = lane[j];
    s.at[sign][rank][r] = i;
  }
}

void any_across(const PairArguments& p, int64_t first, int n, CertifyPanel& s) {
  clear(s);
  for (int64_t i = 0; i < p.length; ++i) {
    const char* at = p.data + first + i * p.element_stride;
    for (int row = 0; row < n; row += kBytes) {
      prefetch(at + row + kAhead * p.element_stride);
      add_any<0>(s, at + row, n - row, i, row);
      add_any<1>(s, at + row, n - row, i, row);
    }
  }
  for (int r = 0; r < n; ++r) {
    const int positive = s.greatest[0][0][r] + s.greatest[0][1][r],
              negative = s.greatest[1][0][r] + s.greatest[1][1][r];
    const int sign = worse_sign(p, positive, negative);
    report(p, first + r, positive, negative, s.at[sign][0][r], s.at[sign][1][r]);
  }
}

// How many weights of a sign have magnitude m, 1 to 128.
int64_t number_of(const uint32_t* histogram, int sign, int m) {
  if (sign == 1) return histogram[128 - m];
  return m == 128 ? 0 : histogram[128 + m];
}

// How many of all pairs of a row are at risk, from the number of weights of each magnitude.
int64_t pairs_beyond(const uint32_t* histogram, const PairArguments& p) {
  int64_t total = 0;
  for (int s = 0; s < 2; ++s) {
    const int32_t limit = s == 1 ? p.negative_limit : p.positive_limit;
    // Partners of magnitude m are greater than limit - m. Every pair of different magnitudes is met twice.
    int64_t twice = 0, beyond = 0;
    int reached = 129;  // `beyond` counts the weights of this magnitude or more
    for (int m = 1; m <= 128; ++m) {
      const int least = limit - m + 1 > 1 ? limit - m + 1 : 1;
      while (reached > least) beyond += number_of(histogram, s, --reached);
      if (least > 128 || number_of(histogram, s, m) == 0) continue;
      twice += number_of(histogram, s, m) * (beyond - (m >= least));
    }
    total += twice / 2;
  }
  return total;
}

void count_any(const PairArguments& p, int64_t first, int n, CertifyScratch& s) {
  __builtin_memset(s.histogram, 0, static_cast<size_t>(n) * sizeof s.histogram[0]);
  for (int64_t i = 0; i < p.length; ++i) {
    for (int r = 0; r < n; ++r) ++s.histogram[r][weight(p, first + r, i) + 128];
  }
  for (int r = 0; r < n; ++r) p.at_risk[first + r] = pairs_beyond(s.histogram[r], p);
}

void certify_pairs(const PairArguments* arguments, void* scratch) noexcept {
  const PairArguments& p = *arguments;
  auto& s = *static_cast<CertifyScratch*>(scratch);
  const bool along = p.element_stride == 1;
  const int panel = along ? 1 : kPanel;
  for (int64_t row = 0; row < p.rows; row += panel) {
    const int n = p.rows - row < panel ? static_cast<int>(p.rows - row) : panel;
    if (p.any) {
      along ? any_along(p, row) : any_across(p, row, n, s.panel);
    } else {
      if (along) {
        neighbours_along(p, row);
      } else if (p.at_risk != nullptr) {
        neighbours_across<true>(p, row, n, s.panel);
      } else {
        neighbours_across<false>(p, row, n, s.panel);
      }
    }
  }
  if (!p.any || p.at_risk == nullptr) return;
  const int counted = along ? 1 : kCounted;
  for (int64_t row = 0; row < p.rows; row += counted) {
    count_any(p, row, p.rows - row < counted ? static_cast<int>(p.rows - row) : counted, s);
  }
}

}  // namespace
