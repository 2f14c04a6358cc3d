#pragma once
// Weight layouts of the CPU kernels.
//
// kRows: the checkpoint's rows, one after the other.
//
// kRows16: groups of 16 consecutive rows (the last one filled up with zero rows), group after
// group; inside a group everything is interleaved so that a vector of 16 lanes holds the same k of
// 16 rows and no kernel ever adds across lanes. Sixteen rows take exactly 16 checkpoint rows of
// bytes.
//
//   F32, F16, BF16   [k][16 rows] elements
//   quantised        per block of 32 k:
//     Q4_0           f16 d[16]              u32 q[4][16]    288 bytes
//     Q4_1           f16 d[16], f16 m[16]   u32 q[4][16]    320 bytes
//     Q8_0           f16 d[16]              u32 q[8][16]    544 bytes
//
// A 4-bit word q[c][r] holds k = 8c .. 8c+7 of row r: nibble i (bits 4i..) is k = 8c + 2i, nibble
// i + 4 is k = 8c + 2i + 1, so that (q >> 4i) & 0x000F000F is the int16 pair (k, k+1) that a
// multiply-add of 16-bit pairs wants. An 8-bit word q[c][r] holds k = 4c .. 4c+3: bytes 0 and 2 are
// k and k + 1, bytes 1 and 3 are k + 2 and k + 3; a 16-bit shift left by 8 and an arithmetic shift
// right by 8 give the first pair, the shift right alone the second.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/tensor_view.h"
#include "base/thread_pool.h"
#include "kernels/packed_matrix.h"

namespace heddle::cpu {

inline constexpr std::int64_t kGroupRows = 16;
inline constexpr std::int64_t kBlock = 32;  // elements of a block of every quantised type here

/// Every dtype that a weight may have on the CPU.
const std::vector<DType>& weight_dtypes();

/// Backend::pack (the contract is there) into a given layout, on the pool's threads. Throws
/// kBadInput for dtypes that are no weights.
PackedMatrix pack(const TensorView& rows,
                  WeightLayout layout,
                  const std::vector<std::int32_t>& row_order,
                  const std::function<void(std::size_t begin, std::size_t end)>& read,
                  ThreadPool& pool);

/// Row `row` of the matrix as T = float or double: d * q and the conversions are exact in both; the
/// one rounding of d * q + m is T's.
template <typename T>
void dequantise_row(const PackedMatrix& matrix, std::int64_t row, T* out);

}  // namespace heddle::cpu
