#pragma once
#include "base/tensor_view.h"
#include "kernels/api/key_blocks.h"

namespace heddle {

/// One layer's paged keys and values. Physical block b holds block_tokens consecutive positions of
/// one sequence. K is stored with the token index innermost, so that one vector load gives the same
/// dimension of 16 keys; V with the dimension innermost.
struct KvPages {
  TensorView k;  // [n_blocks, n_kv_heads, head_dim, block_tokens]  F32 | F16 | BF16
  TensorView v;  // [n_blocks, n_kv_heads, block_tokens, head_dim]  like k
  std::int64_t n_kv_heads() const { return k.dim(1); }
  std::int64_t head_dim() const { return k.dim(2); }
  std::int64_t block_tokens() const { return k.dim(3); }  // a multiple of 16 that divides 64
};

/// Stores k[t], v[t] at slot[t] = block * block_tokens + offset, rounded to nearest even. On CUDA a
/// row whose slot does not exist (-1) stores nothing; on the CPU that is an error.
struct KvWriteArgs {
  TensorView k;      // [n_tokens, n_kv_heads, head_dim]  F32
  TensorView v;      // like k
  TensorView slots;  // [n_tokens]                        I32, distinct
  KvPages pages;
};

/// o[t,h] = sum_s p_s v[s,g], p_s = exp(x_s) / (sum_s' exp(x_s') + exp(sinks[h])),
/// x_s = cap(scale * <q[t,h], k[s,g]>), g = h / (n_q_heads / n_kv_heads),
/// cap(x) = soft_cap * tanh(x / soft_cap), or x where soft_cap is 0; a sink is neither scaled nor
/// capped, and without sinks its term is 0. The sums are over the keys that the row sees:
///   s <= position[t], and
///   where window is not 0: s > position[t] - window or s < first_keys, and
///   where blocks are given: s in a block of the row's list for g (key_blocks.h).
/// Keys and values that no row of the call sees are never read into a result, and whole groups of
/// 16 of them (at absolute multiples) are not even looked up: their blocks may hold anything or be
/// gone. Row t belongs to sequence sequence[t], whose position s lives in block
/// block_tables[sequence, s / block_tokens]. A masked head (head_mask 0) gives zeros and costs
/// nothing; a kv head all of whose heads are masked reads no keys.
///
/// Fixed reduction tree (docs/numerics.md): keys are cut at absolute multiples of kAttentionTile;
/// each tile has its own maximum m, sum l and unnormalised output o of the keys that the row sees;
/// the tiles that hold any are merged left to right:
///   M' = max(M, m), a = exp(M - M'), b = exp(m - M'), L' = a L + b l, O' = a O + b o;
/// a sink comes once, after the last tile: M' = max(M, sink), a = exp(M - M'),
/// L' = a L + exp(sink - M'), O' = a O;  out = O / L.
/// So a row's bits depend on the keys it sees alone, neither on the chunk it is computed in, nor on
/// the batch, the threads or the block table. `ref` uses f64 and no tiles.
/// The fast variants' cap multiplies by 1 / soft_cap rounded to f32 (kernels/api/soft_cap.h).
/// Source: Vaswani 2017 eq. 1; grouping: Ainslie 2023, sec. 2.2; merge: Sanovar et al. 2024
/// (LeanAttention), sec. 4; window: Beltagy 2020 (Longformer), sec. 3.1; first_keys: Xiao 2023
/// (StreamingLLM), with absolute positions; sinks: OpenAI 2025 (gpt-oss); soft cap: Gemma Team
/// 2024.
struct AttentionArgs {
  TensorView q;             // [n_tokens, n_q_heads, head_dim]    F32
  KvPages pages;            // holds positions 0 .. position[t] of every row's sequence
  TensorView block_tables;  // [n_sequences, max_blocks]          I32
  TensorView
      sequence;  // [n_tokens] I32; rows of one sequence are adjacent, positions ascending by 1
  TensorView positions;         // [n_tokens] I32
  TensorView head_mask;         // [n_tokens, n_q_heads] U8, or absent: all heads
  TensorView out;               // like q; must not alias q
  float scale = 0.0F;           // usually 1/sqrt(head_dim); 0 is rejected
  std::int64_t window = 0;      // keys that a row sees, its own among them; 0: all
  float soft_cap = 0.0F;        // > 0 and finite, so 1 / soft_cap too; 0: none
  std::int64_t first_keys = 0;  // with a window: keys below this position are seen too
  TensorView sinks = {};        // [n_q_heads] F32 or absent: one more score without a value
  KeyBlocks blocks = {};        // or absent: every block
};

inline constexpr std::int64_t kAttentionTile = 64;

}  // namespace heddle
