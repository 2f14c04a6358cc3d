// Rows of the fast attention variants: which keys of a tile each of them sees, their scores and
// their output of one tile. Included through attention_impl.h only.

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
  std::int64_t first_key[8];
  std::int64_t n_keys[8];
  int begin[8];  // the tile's keys that the row sees: [begin, end), none if begin == end
  int end[8];
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
      b.first_key[r] = p.first_key(p.positions[pair.row]);
      b.n_keys[r] = std::int64_t{p.positions[pair.row]} + 1;
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

// Of `n` keys from position 0, how many a tile holds, 0 .. kTile.
inline int keys_in_tile(std::int64_t n, std::int64_t tile) {
  n -= tile * kTile;
  return n <= 0 ? 0 : n >= kTile ? kTile : static_cast<int>(n);
}

// What some rows see of a tile. Rows are in order of position, so both ends ascend with the row: if
// the first and the last row see keys, all do.
struct SeenKeys {
  int first = kTile;  // all rows' keys are in [first, last), none if first >= last
  int last = 0;
  int common_begin = 0;  // [common_begin, common_end): what every row sees that sees any
  int common_end = kTile;
  bool same = false;  // every row sees [first, last)
};

template <int R>
SeenKeys seen_keys(const RowBlock& b) {
  SeenKeys seen;
  for (int r = 0; r < R; ++r) {
    if (b.begin[r] == b.end[r]) continue;
    seen.first = b.begin[r] < seen.first ? b.begin[r] : seen.first;
    seen.last = b.end[r] > seen.last ? b.end[r] : seen.last;
    seen.common_begin = b.begin[r] > seen.common_begin ? b.begin[r] : seen.common_begin;
    seen.common_end = b.end[r] < seen.common_end ? b.end[r] : seen.common_end;
  }
  seen.same = seen.first == seen.common_begin && seen.last == seen.common_end &&
              b.begin[0] != b.end[0] && b.begin[R - 1] != b.end[R - 1];
  return seen;
}

// One block of rows against one tile: scores and softmax into s, and the merge factors.
template <typename V, int R, typename T>
void attend_scores(const AttentionProblem& p,
                   RowBlock& b,
                   const TilePointers<T>& t,
                   std::int64_t tile,
                   bool merge,
                   float* s) {
  for (int r = 0; r < R; ++r) {
    b.end[r] = keys_in_tile(b.n_keys[r], tile);
    b.begin[r] = keys_in_tile(b.first_key[r], tile);
  }
  const SeenKeys seen = seen_keys<R>(b);
  if (seen.first >= seen.last) return;
  const int first_group = seen.first / 16;
  const int n_groups = (seen.last + 15) / 16;
  scores<V, R>(b.q, t, p.head_dim, first_group, n_groups, s);
  if (p.soft_cap != 0.0F) cap_scores<V>(p.soft_cap, R, first_group, n_groups, s);
  for (int r = 0; r < R; ++r) {
    if (b.begin[r] > 0) mask_before<V>(s + r * kTile, b.begin[r]);
    softmax_tile<V>(s + r * kTile, b.end[r], &b.m[r], &b.l[r]);
  }
  if (merge) merge_factors<V>(b.big_m, b.big_l, b.m, b.l, b.a, b.b);
}

// Rows that do not see the same keys: each row's chain over its own, the common part together.
// Results go to rows[r]; those of rows without keys mean nothing.
template <typename V, int R, typename T>
void uneven_values(const RowBlock& b,
                   const SeenKeys& seen,
                   const TilePointers<T>& t,
                   std::int64_t head_dim,
                   const float* s,
                   float* const* rows) {
  TileOutput to;
  to.o = rows;
  to.begin = seen.common_begin;
  to.end = seen.common_end;
  to.resume = seen.first < seen.common_begin;
  const bool any_common = to.begin < to.end;
  for (int r = 0; r < R && (to.resume || !any_common); ++r) {
    for (std::int64_t d = 0; d < head_dim; d += 16) V::store(rows[r] + d, V::zero());
    const int end = any_common && to.begin < b.end[r] ? to.begin : b.end[r];
    more_values<V>(s + r * kTile, t, head_dim, b.begin[r], end, rows[r]);
  }
  if (!any_common) return;
  values<V, R>(s, t, head_dim, to);
  for (int r = 0; r < R; ++r) {
    if (b.begin[r] == b.end[r]) continue;
    more_values<V>(s + r * kTile, t, head_dim, to.end, b.end[r], rows[r]);
  }
}

// The same block's output of the tile, merged or stored as partials.
template <typename V, int R, typename T>
void attend_values(const AttentionProblem& p,
                   RowBlock& b,
                   const TilePointers<T>& t,
                   bool merge,
                   const float* s,
                   float* tile_o) {
  const SeenKeys seen = seen_keys<R>(b);
  if (seen.first >= seen.last) return;
  float* rows[R];
  for (int r = 0; r < R; ++r) {
    rows[r] = merge ? tile_o + r * p.head_dim : b.partial[r] + kAttentionPartialHead;
  }
  if (seen.same) {
    TileOutput to;
    to.a = b.a;
    to.b = b.b;
    to.o = merge ? b.o : rows;
    to.begin = seen.first;
    to.end = seen.last;
    to.merge = merge;
    values<V, R>(s, t, p.head_dim, to);
  } else {
    uneven_values<V, R>(b, seen, t, p.head_dim, s, rows);
    for (int r = 0; r < R && merge; ++r) {
      if (b.begin[r] == b.end[r]) continue;
      const auto fa = V::set1(b.a[r]);
      const auto fb = V::set1(b.b[r]);
      for (std::int64_t d = 0; d < p.head_dim; d += 16) {
        const auto scaled = V::mul(fb, V::load(rows[r] + d));
        V::store(b.o[r] + d, V::fma(fa, V::load(b.o[r] + d), scaled));
      }
    }
  }
  if (!merge) {
    for (int r = 0; r < R; ++r) {
      b.partial[r][0] = b.m[r];
      b.partial[r][1] = b.l[r];
    }
  }
}

}  // namespace
}  // namespace heddle::cpu
