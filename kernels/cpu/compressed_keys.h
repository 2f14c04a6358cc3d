#pragma once
// Where the entries of CompressedKeys lie, for the ops that write and read them.

#include <algorithm>

#include "base/error.h"
#include "kernels/api/key_blocks.h"

namespace heddle::cpu {

/// One level of CompressedKeys: windows of `length` keys every `stride`.
struct KeyLevel {
  float* entries = nullptr;
  std::int64_t length = 0;
  std::int64_t stride = 0;
  std::int64_t per_block = 0;
  std::int64_t block_tokens = 0;
  std::int64_t n_kv_heads = 0;
  std::int64_t head_dim = 0;

  /// Windows that end at or before `position`.
  std::int64_t complete(std::int64_t position) const {
    return position + 1 < length ? 0 : (position + 1 - length) / stride + 1;
  }
  bool ends_at(std::int64_t position) const {
    return position + 1 >= length && (position + 1) % stride == 0;
  }
  /// The entry of the window with the last key `last`, of a sequence with that block table.
  float* entry(const std::int32_t* block_table, std::int64_t last, std::int64_t kv_head) const {
    const std::int64_t block = block_table[last / block_tokens];
    const std::int64_t at = last % block_tokens / stride;
    return entries + ((block * n_kv_heads + kv_head) * per_block + at) * head_dim;
  }
};

inline KeyLevel level_1(const CompressedKeys& keys) {
  KeyLevel level;
  level.entries = keys.k1.as<float>();
  level.length = keys.kernel;
  level.stride = keys.stride;
  level.per_block = keys.k1.dim(2);
  level.block_tokens = keys.block_tokens;
  level.n_kv_heads = keys.k1.dim(1);
  level.head_dim = keys.k1.dim(3);
  return level;
}

inline KeyLevel level_2(const CompressedKeys& keys) {
  KeyLevel level = level_1(keys);
  level.entries = keys.k2.as<float>();
  level.length = 4 * keys.kernel;
  level.stride = 4 * keys.stride;
  level.per_block = keys.k2.dim(2);
  return level;
}

inline void check_compressed_keys(const CompressedKeys& keys) {
  HEDDLE_CHECK(keys.stride > 0 && keys.kernel > 0 && keys.kernel % keys.stride == 0);
  HEDDLE_CHECK(keys.block_tokens > 0);
  const auto check_level = [&](const TensorView& k, std::int64_t stride) {
    HEDDLE_CHECK(keys.block_tokens % stride == 0 || stride % keys.block_tokens == 0);
    HEDDLE_CHECK(k.rank == 4 && k.dtype == DType::kF32);
    HEDDLE_CHECK(k.dim(2) == std::max<std::int64_t>(1, keys.block_tokens / stride));
    HEDDLE_CHECK(k.dim(0) == keys.k1.dim(0) && k.dim(1) == keys.k1.dim(1));
    HEDDLE_CHECK(k.dim(3) == keys.k1.dim(3));
  };
  check_level(keys.k1, keys.stride);
  check_level(keys.k2, 4 * keys.stride);
}

/// Rows with a sequence and a position that the block tables hold.
inline void check_rows(const TensorView& block_tables,
                       const TensorView& sequence,
                       const TensorView& positions,
                       std::int64_t block_tokens) {
  const std::int64_t n = positions.dim(0);
  HEDDLE_CHECK(block_tables.rank == 2 && block_tables.dtype == DType::kI32);
  HEDDLE_CHECK(sequence.rank == 1 && sequence.dtype == DType::kI32 && sequence.dim(0) == n);
  HEDDLE_CHECK(positions.rank == 1 && positions.dtype == DType::kI32);
  const auto* const row_sequence = sequence.as<const std::int32_t>();
  const auto* const position = positions.as<const std::int32_t>();
  const std::int64_t limit = block_tables.dim(1) * block_tokens;
  for (std::int64_t t = 0; t < n; ++t) {
    HEDDLE_CHECK(row_sequence[t] >= 0 && row_sequence[t] < block_tables.dim(0));
    HEDDLE_CHECK(position[t] >= 0 && position[t] < limit);
  }
}

}  // namespace heddle::cpu
