// The product of unsigned by signed bytes as vpmaddubsw + vpmaddwd + vpaddd give it: products of two neighbours along
// the reduction axis are added into 16 bits with saturation, the pairs into 32 bits that wrap around. An odd length is
// padded with a zero. What CPUs without VNNI compute; here it is the real instruction where there is one.
//
// Blocks of kDepth x kWidth of B are packed so that a vector holds four neighbours of the reduction axis for each of
// its lanes, and stay in the second-level cache while all rows of A go by, kRows at a time.
#pragma once

#include "kernels/iterate.inl.h"

namespace {

constexpr int kRows = kLanes == 16 ? 8 : 4;  // of A in the inner loop
constexpr int kVectors = 2;                  // of B in the inner loop
constexpr int kPanelWidth = kVectors * kLanes;
constexpr int kDepth = 1024;  // of the reduction axis in a block, a multiple of 4
constexpr int kWidth = 256;   // columns of a block, a multiple of kPanelWidth

struct SaturateScratch {
  alignas(64) int8_t b[kDepth * kWidth];  // [panel][depth / 4][kPanelWidth][4]
  alignas(64) uint8_t a[kRows * kDepth];  // [row][depth]
};
static_assert(sizeof(SaturateScratch) <= kSaturateScratchBytes, "raise kSaturateScratchBytes");

int padded(int64_t depth) { return static_cast<int>((depth + 3) / 4 * 4); }

void pack_b(const SaturatingProduct& p, int64_t k0, int depth, int64_t n0, int width, int8_t* packed) {
  const int quads = padded(depth) / 4;
  for (int panel = 0; panel < width; panel += kPanelWidth) {
    const int columns = width - panel < kPanelWidth ? width - panel : kPanelWidth;
    int8_t* to = packed + static_cast<int64_t>(panel) * quads * 4;
    for (int q = 0; q < quads; ++q, to += 4 * kPanelWidth) {
      __builtin_memset(to, 0, 4 * kPanelWidth);
      for (int i = 0; i < 4 && 4 * q + i < depth; ++i) {
        const char* row = p.b + (k0 + 4 * q + i) * p.b_row + (n0 + panel) * p.b_column;
        for (int c = 0; c < columns; ++c) to[4 * c + i] = read<int8_t>(row + c * p.b_column);
      }
    }
  }
}

void pack_a(const SaturatingProduct& p, int64_t m0, int rows, int64_t k0, int depth, uint8_t* packed) {
  const int length = padded(depth);
  for (int r = 0; r < kRows; ++r) {
    uint8_t* to = packed + static_cast<int64_t>(r) * length;
    const int from = r < rows ? depth : 0;
    const char* row = p.a + (m0 + r) * p.a_row + k0 * p.a_column;
    if (p.a_column == 1) {
      if (from > 0) __builtin_memcpy(to, row, static_cast<size_t>(from));
    } else {
      for (int i = 0; i < from; ++i) to[i] = read<uint8_t>(row + i * p.a_column);
    }
    __builtin_memset(to + from, 0, static_cast<size_t>(length - from));
  }
}

// kRows rows by one panel. Writes `rows` rows of `columns` sums to `out`, or adds them; returns the saturated pairs.
template <bool count>
int64_t multiply_panel(const uint8_t* a, const int8_t* b, int length, int32_t* out, int64_t out_row, int rows,
                       int columns, bool adds) {
  vi32 sum[kRows][kVectors];
  vi32 saturated[kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = set1(0);
  }
  for (int v = 0; v < kVectors; ++v) saturated[v] = set1(0);
  for (int k = 0; k < length; k += 4, b += 4 * kPanelWidth) {
    vi32 quads[kVectors];
    for (int v = 0; v < kVectors; ++v) quads[v] = load_bytes(b + v * 4 * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const vi32 four = set1(read<int32_t>(a + static_cast<int64_t>(r) * length + k));
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = add(sum[r][v], dot4_saturated(four, quads[v]));
        if constexpr (count) saturated[v] = add(saturated[v], dot4_saturations(four, quads[v]));
      }
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < kVectors && v * kLanes < columns; ++v) {
      int32_t* to = out + r * out_row + v * kLanes;
      const int n = columns - v * kLanes < kLanes ? columns - v * kLanes : kLanes;
      vi32 x = sum[r][v];
      if (adds) x = add(x, load_partial(to, n, x));
      store_partial(to, x, n);
    }
  }
  int64_t total = 0;
  if constexpr (count) {
    int32_t lane[kPanelWidth];
    for (int v = 0; v < kVectors; ++v) store(lane + v * kLanes, saturated[v]);
    for (int i = 0; i < kPanelWidth; ++i) total += lane[i];
  }
  return total;
}

template <bool count>
int64_t multiply(const SaturatingProduct& p, SaturateScratch& s) {
  int64_t total = 0;
  for (int64_t n0 = 0; n0 < p.n; n0 += kWidth) {
    const int width = p.n - n0 < kWidth ? static_cast<int>(p.n - n0) : kWidth;
    for (int64_t k0 = 0; k0 < p.k; k0 += kDepth) {
      const int depth = p.k - k0 < kDepth ? static_cast<int>(p.k - k0) : kDepth;
      const int length = padded(depth);
      pack_b(p, k0, depth, n0, width, s.b);
      for (int64_t m0 = 0; m0 < p.m; m0 += kRows) {
        const int rows = p.m - m0 < kRows ? static_cast<int>(p.m - m0) : kRows;
        pack_a(p, m0, rows, k0, depth, s.a);
        for (int panel = 0; panel < width; panel += kPanelWidth) {
          const int columns = width - panel < kPanelWidth ? width - panel : kPanelWidth;
          total += multiply_panel<count>(s.a, s.b + static_cast<int64_t>(panel) * length, length,
                                         p.out + m0 * p.out_row + n0 + panel, p.out_row, rows, columns, k0 > 0);
        }
      }
    }
  }
  return total;
}

int64_t saturating_matmul(const SaturatingProduct* product, bool count, void* scratch) noexcept {
  auto& s = *static_cast<SaturateScratch*>(scratch);
  return count ? multiply<true>(*product, s) : multiply<false>(*product, s);
}

}  // namespace
