#pragma once
// The inner loops of the fast matmul variants, one set per instruction set; matmul.cpp cuts the
// work, these do it. matmul_impl.h has the loops, written once.

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace heddle::cpu {

/// Of the quantised x, per row and part of 32 or of 16 k; Float is float or const float.
template <typename Float, typename Int>
struct PartSums {
  Float* sum = nullptr;  // of q; times d where steps are of 32, else shifted as integer sums are
  Int* minus_sum = nullptr;  // -(sum of q)
};
using XSums = PartSums<const float, const std::int32_t>;

/// Weights in blocks of 256 want one d for 256 values of x, so that only their own scales change
/// every 32. Values of x are rounded up to 2^kMaxShift times finer where a block of 32 allows, and
/// integer sums shifted left, to the finest unit, elsewhere.
inline constexpr int kMaxShift = 6;

/// Some rows of x, side by side, so that the inner loop reads one stream. Quantised: see
/// kernels/api/matmul.h. Every block of 32 k has the d of its step.
struct XTile {
  int width = 0;                        // rows of x
  const std::int16_t* q = nullptr;      // [n_blocks][width][32]
  const float* d = nullptr;             // [n_blocks][width]
  const std::int32_t* shift = nullptr;  // [n_blocks][width], 0 .. kMaxShift; for steps of 256
  XSums per_32;                         // [n_blocks][width]
  XSums per_16;                         // [n_blocks][width][2]
  const float* x = nullptr;             // [k][width], for weights that are not quantised
};

/// The same memory while it is being filled.
struct QuantisedRows {
  int step = 32;  // or 256: k with one d
  std::int16_t* q = nullptr;
  float* d = nullptr;
  std::int32_t* shift = nullptr;
  PartSums<float, std::int32_t> per_32;
  PartSums<float, std::int32_t> per_16;
};

/// Where 16 weight rows x `width` x rows of results go.
struct OutTile {
  float* out = nullptr;                // element (first x row, first weight row)
  const float* residual = nullptr;     // likewise, or null; may be `out`
  std::int64_t stride = 0;             // elements between x rows, of both
  int n_rows = 0;                      // weight rows to write, 1 .. 16
  int segments = 1;                    // parts of K, see kernels/api/matmul.h
  const float* bias = nullptr;         // of the first weight row, or null
  const std::int32_t* rows = nullptr;  // result c goes to row rows[c], counted from `out`, not c
};

inline constexpr int kMaxSegments = 8;

struct MatmulKernels {
  int max_width = 0;  // of an XTile

  /// Rows x[0 .. width) of n_blocks * 32 values each, `stride` apart.
  void (*quantise)(const float* x,
                   std::int64_t stride,
                   int width,
                   std::int64_t n_blocks,
                   const QuantisedRows& to) = nullptr;
  /// One group of a quantised kRows16 matrix times one tile of x.
  void (*quantised)(DType dtype,
                    const std::byte* group,
                    std::int64_t n_blocks,
                    const XTile& x,
                    const OutTile& out) = nullptr;
  /// One group of an F32, F16 or BF16 kRows16 matrix times one tile of x.
  void (*plain)(DType dtype,
                const std::byte* group,
                std::int64_t k,
                const XTile& x,
                const OutTile& out) = nullptr;
};

const MatmulKernels& matmul_kernels_portable();
/// Null where the build is for another processor.
const MatmulKernels* matmul_kernels_avx2();
const MatmulKernels* matmul_kernels_avx512_vnni();

}  // namespace heddle::cpu
