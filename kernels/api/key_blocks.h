#pragma once
#include "base/tensor_view.h"

namespace heddle {

/// Block-sparse attention: which keys a row sees beside what causality and window allow. Row t with
/// kv head g sees the keys of blocks ids[t, l, 0 .. counts[t, l]), l = g, or 0 where there is one
/// list for all heads. Block i holds keys i * block .. (i + 1) * block - 1 of the row's sequence.
/// A count of -1: all keys.
struct KeyBlocks {
  TensorView ids;     // [n_tokens, n_lists, capacity] I32, ascending and distinct; the row's own
                      // block position[t] / block is among them
  TensorView counts;  // [n_tokens, n_lists] I32
  std::int64_t block = 0;  // tokens; a multiple of 16
  bool absent() const { return ids.absent(); }
};

/// Fixed patterns over the distance d = block(t) - block(s) >= 0; the row's own block (d = 0) and
/// block 0 are always in.
///   kStrided: d < 4 or `step` divides d          kDilated: `step` divides d and d < 16 step
///   kPower:   d < `local` or d is a power of two  (PowerAttention, 2503.03588, sec. 3)
enum class BlockPattern { kStrided, kDilated, kPower };
struct PatternBlocksArgs {
  TensorView positions;  // [n_tokens] I32
  BlockPattern pattern = BlockPattern::kPower;
  std::int64_t step = 0;   // strided, dilated: at least 1
  std::int64_t local = 0;  // power: at least 1
  KeyBlocks blocks;        // written; one list; room for pattern_blocks_capacity()
};
/// The longest list of the pattern for positions below n_positions.
std::int64_t pattern_blocks_capacity(const PatternBlocksArgs& args, std::int64_t n_positions);

/// InfLLM-V2: means of windows of keys, kept beside the KV pages. Level 1: windows of `kernel` keys
/// every `stride`; level 2: windows of 4 kernel every 4 stride. A window's entry lies in the cache
/// block of its last key, so it depends on tokens up to that block only: entry (e mod block_tokens)
/// / stride for level 1's last key e, one entry per 4 stride likewise (at least one a block).
struct CompressedKeys {
  TensorView k1;  // [n_blocks, n_kv_heads, max(1, block_tokens / stride), head_dim]       F32
  TensorView k2;  // [n_blocks, n_kv_heads, max(1, block_tokens / (4 stride)), head_dim]   F32
  std::int64_t kernel = 0;  // a multiple of stride
  std::int64_t stride = 0;  // divides or is a multiple of block_tokens
};

}  // namespace heddle
