#pragma once
// Weight layouts of the CPU kernels.
//
// kRows: the checkpoint's rows, one after the other.
//
// kRows16: groups of 16 consecutive rows (the last one filled up with zero rows), group after
// group; inside a group everything is interleaved so that a vector of 16 lanes holds the same k of
// 16 rows and no kernel ever adds across lanes. docs/kernels_matmul.md has drawings.
//
//   F32, F16, BF16   [k][16 rows] elements
//   quantised        block after block (32 k, or 256 k for the K types), each
//     f16 d[16], f16 m[16]         d or d and m of the checkpoint's block (MXFP4: none)
//     u8  s[n][16], u8 sm[n][16]   scales and minima of the n parts of 16 or 32 k, one byte each
//                                  (Q2_K: s and sm in one byte; MXFP4: s[0] is the exponent)
//     per 32 k: planes of quants   u32 low[bits][16], then u32 high[bits][16]
//
//               d  m  s  sm  low  high   bytes per 16 rows   of the checkpoint's
//     Q4_0      x            4           288 per 32          100 %
//     Q4_1      x  x         4           320                 100 %
//     Q5_0      x            4    1      352                 100 %
//     Q5_1      x  x         4    1      384                 100 %
//     Q8_0      x            8           544                 100 %
//     IQ4_NL    x            4           288                 100 %
//     MXFP4           1      4           272                 100 %
//     Q2_K      x  x  16     2           1344 per 256        100 %
//     Q3_K      x     16     2    1      1824                103.6 %
//     Q4_K      x  x  8   8  4           2368                102.8 %
//     Q5_K      x  x  8   8  4    1      2880                102.3 %
//     Q6_K      x     16     4    2      3360                100 %
//
// A word of a plane of b-bit quants holds 32 / b consecutive k of one row: even k fill the lower 16
// bits in order, odd k the upper ones, so that (word >> b i) & mask is the int16 pair (k, k + 1)
// that a multiply-add of 16-bit pairs wants. 8-bit quants: a 16-bit shift left by 8 and an
// arithmetic shift right by 8 give the first pair of the word, the shift right alone the second.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/tensor_view.h"
#include "base/thread_pool.h"
#include "kernels/packed_matrix.h"

namespace heddle::cpu {

inline constexpr std::int64_t kGroupRows = 16;
inline constexpr std::int64_t kBlock = 32;  // x elements that the fast matmuls take together

/// Every dtype that a weight may have on the CPU.
const std::vector<DType>& weight_dtypes();

/// Bytes of 16 rows in kRows16.
std::int64_t group_bytes(DType dtype, std::int64_t n_cols);

/// Backend::pack (the contract is there) into a given layout, on the pool's threads. Throws
/// kBadInput for dtypes that are no weights.
PackedMatrix pack(const TensorView& rows,
                  WeightLayout layout,
                  const std::vector<std::int32_t>& row_order,
                  const std::function<void(std::size_t begin, std::size_t end)>& read,
                  ThreadPool& pool);

/// Row `row` of the matrix as T = float or double: every product is exact in both, as is all of
/// double; in float the one rounding is that of the sum with a minimum.
template <typename T>
void dequantise_row(const PackedMatrix& matrix, std::int64_t row, T* out);

}  // namespace heddle::cpu
