#pragma once
// What one step computes; no "prefill" or "decode" flag.

#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/block_pool.h"

namespace heddle {

using SequenceId = std::int64_t;
using Token = std::int32_t;

/// Stands for a token that is sampled but whose id the host does not know yet (CUDA: it lives on
/// the device). The engine resolves it: BatchPlan::Item::pending_row says which sampled row it was.
inline constexpr Token kPendingToken = -1;

/// Where a block or a slot lies: among those of the device or those of the host. -1: nowhere.
struct CachePlace {
  BlockId id = -1;
  bool on_host = false;
  bool operator==(const CachePlace&) const = default;
};

struct BatchPlan {
  /// A block, or a state slot, whose content is wanted in another one too; one of both may be in
  /// host memory, whose blocks and slots have ids of their own.
  struct Copy {
    enum class What : std::uint8_t { kBlock, kState };
    What what = What::kBlock;
    CachePlace from;
    CachePlace to;
  };
  /// Tokens [start, start + tokens.size()) of one sequence.
  struct Item {
    SequenceId sequence = 0;
    std::int64_t start = 0;
    /// Both are good until the scheduler's next step, commit or change.
    std::span<const Token> tokens;
    std::span<const BlockId> block_table;  // covers positions 0 .. start + tokens.size() - 1
    BlockId state_slot = -1;  // holds tokens 0 .. start - 1; -1: the model has no states
    /// Rows of this item whose logits are wanted: the last `n_outputs` rows. 1 at the end of the
    /// known tokens, all for a scoring request, 0 inside a chunked prompt.
    std::int64_t n_outputs = 0;
    /// The last output row is sampled into a new token of the sequence.
    bool sample = false;
    /// Other than -1: a slot that gets the state after this item (among copies_after).
    BlockId snapshot = -1;
    int run = 0;  // of the sequence: what was planned before it lost its blocks does not count
    /// Row among the previous plan's sampled rows that holds tokens.back(), if that is pending.
    std::int64_t pending_row = -1;
    std::int64_t end() const { return start + static_cast<std::int64_t>(tokens.size()); }
  };
  /// A sequence that begins with what an item has computed: its first token is sampled from the
  /// same row.
  struct Fork {
    SequenceId sequence = 0;
    std::int32_t item = 0;
    int run = 0;
  };
  /// To be done before the items and after them, in this order.
  std::vector<Copy> copies_before;
  std::vector<Copy> copies_after;
  std::vector<Item> items;
  std::vector<Fork> forks;
  std::int64_t n_tokens = 0;
  std::int64_t n_outputs = 0;  // rows of the items
  std::int64_t step = 0;       // its number
  /// Rows that are sampled: those of the items in their order, then those of the forks.
  std::int64_t n_samples = 0;
};

}  // namespace heddle
