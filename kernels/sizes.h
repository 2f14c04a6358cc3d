#pragma once
// Memory that the CPU backend takes beside what callers allocate, from shapes alone: for memory
// plans.

#include <cstdint>
#include <vector>

#include "base/dtype.h"

namespace heddle {

/// Bytes of a matrix once Backend::pack has it, in the larger of the layouts.
std::uint64_t packed_bytes(DType dtype, std::int64_t n_rows, std::int64_t n_cols);

/// The largest calls of ops that a model makes. Of several layers each field is the largest.
struct ScratchShape {
  int threads = 0;                       // 0: available_cores()
  std::int64_t n_rows = 0;               // of a step
  std::int64_t n_sequences = 1;          // of a step
  std::int64_t n_positions = 0;          // of a sequence
  std::int64_t n_keys = 0;               // of all sequences of a step
  std::int64_t vocab = 0;                // of sample
  std::vector<DType> weight_types = {};  // of matmul
  std::int64_t x_elements = 0;           // of matmul's x, with the rows that experts copy
  std::int64_t x_width = 0;
  std::int64_t expert_rows = 0, n_experts = 0;
  std::int64_t n_q_heads = 0, n_kv_heads = 0, head_dim = 0;  // of attention
  bool key_lists = false;                                    // its rows skip keys
  std::int64_t entry_stride = 0;                             // of select_blocks; 0: not called
  std::int64_t linear_heads = 0, key_dim = 0, value_dim = 0;
};

/// An upper bound of the scratch memory that kernels have grown to once every such call was made.
std::uint64_t scratch_bytes(const ScratchShape& shape);

}  // namespace heddle
