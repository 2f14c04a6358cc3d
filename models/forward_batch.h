#pragma once
// One step's work as flat arrays at addresses that stay the same from step to step, so that a
// captured graph can replay it.

#include "base/tensor_view.h"

namespace heddle {

/// Row t is one token to compute. Rows of one sequence are adjacent with ascending positions. All
/// arrays are I32 on the backend's device; capacities are fixed, the first n_* entries are valid.
struct ForwardBatch {
  std::int64_t n_tokens = 0;
  std::int64_t n_sequences = 0;
  std::int64_t n_outputs = 0;
  TensorView ids;           // [n_tokens] token ids
  TensorView positions;     // [n_tokens] absolute position in its sequence
  TensorView sequence;      // [n_tokens] index into block_tables
  TensorView slots;         // [n_tokens] block * block_tokens + offset where its K and V go
  TensorView block_tables;  // [n_sequences, max_blocks]
  TensorView state_slots;   // [n_sequences] recurrent state; -1 where the model has none
  TensorView output_rows;   // [n_outputs] rows whose logits are wanted
};

}  // namespace heddle
