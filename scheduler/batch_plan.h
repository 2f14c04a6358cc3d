#pragma once
// What one step computes: a value, no pointers, no "prefill" or "decode" flag.

#include <cstdint>
#include <vector>

#include "scheduler/block_pool.h"

namespace heddle {

using SequenceId = std::int64_t;
using Token = std::int32_t;

/// Stands for a token that is sampled but whose id the host does not know yet (CUDA: it lives on
/// the device). The engine resolves it: BatchPlan::Item::pending_row says which sampled row it was.
inline constexpr Token kPendingToken = -1;

struct BatchPlan {
  /// A block, or a state slot, whose content is wanted in another one too.
  struct Copy {
    BlockId from = -1;
    BlockId to = -1;
  };
  /// Tokens [start, start + tokens.size()) of one sequence.
  struct Item {
    SequenceId sequence = 0;
    std::int64_t start = 0;
    std::vector<Token> tokens;
    std::vector<BlockId> block_table;  // covers positions 0 .. start + tokens.size() - 1
    BlockId state_slot = -1;           // holds tokens 0 .. start - 1; -1: the model has no states
    /// Rows of this item whose logits are wanted: the last `n_outputs` rows. 1 at the end of the
    /// known tokens, all for a scoring request, 0 inside a chunked prompt.
    std::int64_t n_outputs = 0;
    /// The last output row is sampled into a new token of the sequence.
    bool sample = false;
    /// Other than -1: the state after this item is wanted in this slot too.
    BlockId snapshot = -1;
    int run = 0;  // of the sequence: what was planned before it lost its blocks does not count
    /// Row among the previous plan's sampled rows that holds tokens.back(), if that is pending.
    std::int32_t pending_row = -1;
  };
  /// To be done before the items, in this order.
  std::vector<Copy> block_copies;
  std::vector<Copy> state_copies;
  std::vector<Item> items;
  std::int64_t n_tokens = 0;
  std::int64_t n_outputs = 0;
  std::int64_t step = 0;  // its number
};

}  // namespace heddle
