// The pairs of a task of the fast attention variants, in the blocks that go through the register
// kernels together. Included through attention_impl.h only.

#pragma once
#include "kernels/cpu/attention_tile.h"

namespace heddle::cpu {
namespace {

// Up to kMaxRows pairs that go through the register kernels together.
struct RowBlock {
  alignas(64) float big_m[16];
  alignas(64) float big_l[16];
  alignas(64) float m[16];
  alignas(64) float l[16];
  alignas(64) float a[16];
  alignas(64) float b[16];
  float* out[8];      // where the result goes
  float* o[8];        // running O
  float* partial[8];  // this tile's partial, see AttentionTask
  float sink[8];
  RowKeys keys[8];
  Keys seen[8];  // of this tile
  Keys any;      // that any of the rows sees
  int index[8];  // pair within the task
  float* q;      // [head_dim][rows]
  int rows;
};

// Scratch: packed q and running O of all pairs, one block's scores and tile output, and a tile's K
// and V in f32.
struct Scratch {
  float* q;
  float* o;
  float* s;
  float* tile_o;
  float* k;
  float* v;
};

constexpr std::int64_t scratch_elements(std::int64_t head_dim) {
  return 2 * kMaxAttentionPairs * head_dim + kMaxAttentionPairs * kTile + 8 * head_dim +
         2 * kTile * head_dim;
}

inline Scratch cut_scratch(float* memory, std::int64_t head_dim) {
  Scratch s = {};
  s.q = memory;
  s.o = s.q + kMaxAttentionPairs * head_dim;
  s.s = s.o + kMaxAttentionPairs * head_dim;
  s.tile_o = s.s + kMaxAttentionPairs * kTile;
  s.k = s.tile_o + 8 * head_dim;
  s.v = s.k + kTile * head_dim;
  return s;
}

struct Pair {
  std::int64_t row;   // of the call
  std::int64_t head;  // of all q heads
  bool masked;
};

inline Pair pair_at(const AttentionProblem& p, const AttentionTask& t, std::int64_t i) {
  const std::int64_t pair = t.pair_begin + i;
  Pair r = {};
  r.row = t.first_row + pair / p.group;
  r.head = t.kv_head * p.group + pair % p.group;
  r.masked = p.head_mask != nullptr && p.head_mask[r.row * p.n_q_heads + r.head] == 0;
  return r;
}

// Groups the pairs that are not masked into blocks of at most kMaxRows and packs their q. Masked
// pairs' results are zeros.
template <typename V>
int make_blocks(const AttentionProblem& p,
                const AttentionTask& task,
                const Scratch& scratch,
                RowBlock* blocks) {
  Pair pairs[kMaxAttentionPairs];
  int index[kMaxAttentionPairs];
  int n = 0;
  for (std::int64_t i = 0; i < task.n_pairs; ++i) {
    const Pair pair = pair_at(p, task, i);
    if (pair.masked) {
      if (task.partial == nullptr) {
        float* const out = p.out + (pair.row * p.n_q_heads + pair.head) * p.head_dim;
        for (std::int64_t d = 0; d < p.head_dim; d += 16) V::store(out + d, V::zero());
      }
      continue;
    }
    index[n] = static_cast<int>(i);
    pairs[n++] = pair;
  }
  int n_blocks = 0;
  for (int first = 0; first < n; first += V::kMaxRows) {
    RowBlock& b = blocks[n_blocks++];
    b.rows = n - first < V::kMaxRows ? n - first : V::kMaxRows;
    b.q = scratch.q + first * p.head_dim;
    for (int r = 0; r < 16; ++r) {
      b.big_m[r] = b.m[r] = -__builtin_inff();
      b.big_l[r] = b.l[r] = 0.0F;
    }
    const float* q[V::kMaxRows];
    for (int r = 0; r < b.rows; ++r) {
      const Pair& pair = pairs[first + r];
      const std::int64_t offset = (pair.row * p.n_q_heads + pair.head) * p.head_dim;
      b.index[r] = index[first + r];
      b.out[r] = p.out + offset;
      b.o[r] = scratch.o + (first + r) * p.head_dim;
      b.sink[r] = p.sinks == nullptr ? -__builtin_inff() : p.sinks[pair.head];
      b.keys[r] = row_keys(p, pair.row, task.kv_head);
      for (std::int64_t d = 0; d < p.head_dim; d += 16) V::store(b.o[r] + d, V::zero());
      q[r] = p.q + offset;
    }
    with_rows<V::kMaxRows>(b.rows, [&]<int R>() {
      float* to = b.q;
      for (std::int64_t d = 0; d < p.head_dim; ++d) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) to[r] = q[r][d] * p.scale;
        to += R;
      }
    });
  }
  return n_blocks;
}

}  // namespace
}  // namespace heddle::cpu
