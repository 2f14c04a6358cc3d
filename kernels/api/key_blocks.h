#pragma once
#include "base/tensor_view.h"

namespace heddle {

/// Block-sparse attention: which keys a row sees beside what causality and window allow. Row t with
/// kv head g sees the keys of blocks ids[t, l, 0 .. counts[t, l]), l = g, or 0 where there is one
/// list for all heads. Block i holds keys i * block .. (i + 1) * block - 1 of the row's sequence.
/// A count of -1: all keys.
struct KeyBlocks {
  TensorView ids;     // [n_tokens, n_lists, capacity] I32, ascending and distinct; the row's own
                      // block position[t] / block is the last
  TensorView counts;  // [n_tokens, n_lists] I32
  std::int64_t block = 0;  // tokens; a multiple of 16
  bool absent() const { return ids.absent(); }
};

/// Fixed patterns over the distance d = block(t) - block(s) >= 0; the row's own block (d = 0) is
/// always in, block 0 too unless the pattern is kNeighbourhood.
///   kStrided: d < 4 or `step` divides d          kDilated: `step` divides d and d < 16 step
///   kPower:   d < `local` or d is a power of two  (PowerAttention, 2503.03588, sec. 3)
///   kNeighbourhood: d < `local`: generalised neighbourhood attention in one dimension, causal,
///   with stride `block` and window local * block; the queries of a block share the window's start
///   (Hassani et al. 2025, 2504.16922)
enum class BlockPattern { kStrided, kDilated, kPower, kNeighbourhood };
struct PatternBlocksArgs {
  TensorView positions;  // [n_tokens] I32
  BlockPattern pattern = BlockPattern::kPower;
  std::int64_t step = 0;   // strided, dilated: at least 1
  std::int64_t local = 0;  // power: at least 1
  KeyBlocks blocks;        // written; one list; room for pattern_blocks_capacity()
};
/// The longest list of the pattern for positions below n_positions.
std::int64_t pattern_blocks_capacity(const PatternBlocksArgs& args, std::int64_t n_positions);

/// InfLLM-V2: means of windows of keys, kept beside the KV pages. Level 1: window j holds keys
/// stride j .. stride j + kernel - 1; level 2: keys 4 stride j .. 4 stride j + 4 kernel - 1. A
/// window's entry lies in the cache block of its last key e, at (e mod block_tokens) / stride, or /
/// (4 stride) for level 2: so it depends on tokens up to that block's end only.
struct CompressedKeys {
  TensorView k1;  // [n_blocks, n_kv_heads, max(1, block_tokens / stride), head_dim]       F32
  TensorView k2;  // [n_blocks, n_kv_heads, max(1, block_tokens / (4 stride)), head_dim]   F32
  std::int64_t kernel = 0;        // a multiple of stride
  std::int64_t stride = 0;        // divides block_tokens or is a multiple of it; 4 stride likewise
  std::int64_t block_tokens = 0;  // of the KV pages
};

/// Writes the entry of every window whose last key is the position of one of the rows:
///   k1[entry] = (k[first] + ... + k[last]) / kernel, k2 likewise over 4 kernel keys,
/// from the keys as the pages hold them. The sum is ascending from +0 in f32, the division rounds
/// once; so an entry's bits depend on the keys alone, not on how its tokens arrived. `ref`: f64.
/// Source: InfLLM-V2 (OpenBMB 2025, 2509.24663), sec. 3.
struct CompressKeysArgs {
  TensorView k;             // KvPages::k, with the rows' keys and all before them
  TensorView block_tables;  // [n_sequences, max_blocks] I32
  TensorView sequence;      // [n_tokens] I32
  TensorView positions;     // [n_tokens] I32
  CompressedKeys keys;      // written
};

/// The key blocks that each row attends to, one list per kv head g. For row t at position p, the
/// heads h of g and the windows that end at or before p:
///   m_h, l_h: maximum of y_h(i) and sum of exp(y_h(i) - m_h), y_h(i) = scale <q[t,h], k2[i]>
///             over level 2; over level 1 where no window of level 2 is complete
///   w(j) = sum_h exp(scale <q[t,h], k1[j]> - m_h) / l_h      (a NaN term counts 0)
///   score(b) = max of w(j) over the windows of level 1 that share a key with block b; none: 0
/// The list: blocks below init_blocks and those with block(p) - b < local_blocks, then the best of
/// the blocks before p by score (equal ones: the lowest index), top_k in all or as many as there
/// are; ascending. A row at a position below dense_below gets count -1 instead.
/// A row's list depends neither on its chunk nor on its batch. The fast variants compute w in f32
/// (order of sums: 16 lanes over head_dim, CUDA: ascending; heads ascending), `ref` in f64: blocks
/// whose scores differ by rounding only may differ between the two. Source: InfLLM-V2 as MiniCPM4
/// and MiniCPM-SALA ship it.
struct SelectBlocksArgs {
  TensorView q;             // [n_tokens, n_q_heads, head_dim] F32, as attention takes it
  CompressedKeys keys;      // with the entries of all windows up to each row's position
  TensorView block_tables;  // [n_sequences, max_blocks] I32
  TensorView sequence;      // [n_tokens] I32
  TensorView positions;     // [n_tokens] I32
  float scale = 0.0F;       // attention's
  std::int64_t init_blocks = 0;
  std::int64_t local_blocks = 0;  // at least 1: the row's own
  std::int64_t top_k = 0;         // at least init_blocks + local_blocks
  std::int64_t dense_below = 0;
  KeyBlocks blocks;  // written; n_kv_heads lists of capacity top_k or more; block a multiple of
                     // the keys' stride
};

}  // namespace heddle
