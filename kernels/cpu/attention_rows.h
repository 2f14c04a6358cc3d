// Rows of the fast attention variants: which keys of a tile each of them sees, their scores and
// their output of one tile. Included through attention_impl.h only.

#pragma once
#include "kernels/cpu/attention_blocks.h"

namespace heddle::cpu {
namespace {

// Which keys of the tile each row sees; returns those that any does.
inline Keys see_tile(const AttentionProblem& p,
                     const TileSpan& tile,
                     RowBlock* blocks,
                     int n_blocks) {
  Keys any = 0;
  for (int i = 0; i < n_blocks; ++i) {
    RowBlock& b = blocks[i];
    b.any = 0;
    for (int r = 0; r < b.rows; ++r) {
      b.seen[r] = seen_keys(p, b.keys[r], tile);
      b.any |= b.seen[r];
    }
    any |= b.any;
  }
  return any;
}

// One block of rows against one tile: scores and softmax into s, and the merge factors.
template <typename V, int R, typename T>
void attend_scores(
    const AttentionProblem& p, RowBlock& b, const TilePointers<T>& t, bool merge, float* s) {
  if (b.any == 0) return;
  for_group_runs(b.any, [&](int first, int end) {
    scores<V, R>(b.q, t, p.head_dim, first, end, s);
    if (p.soft_cap != 0.0F) cap_scores<V>(p.soft_cap, R, first, end, s);
  });
  for (int r = 0; r < R; ++r) {
    b.m[r] = -__builtin_inff();
    b.l[r] = 0.0F;
    if (b.seen[r] == 0) continue;
    mask_unseen<V>(s + r * kTile, b.seen[r]);
    softmax_tile<V>(s + r * kTile, &b.m[r], &b.l[r]);
  }
  if (merge) merge_factors<V>(b.big_m, b.big_l, b.m, b.l, b.a, b.b);
}

// Rows that do not see the same keys, or with gaps: what all of them see together, each row's own
// keys between alone; so each row's chain ascends. Results go to rows[r]; those of rows without
// keys mean nothing.
template <typename V, int R, typename T>
void uneven_values(const RowBlock& b,
                   const TilePointers<T>& t,
                   std::int64_t head_dim,
                   const float* s,
                   float* const* rows) {
  Keys common = b.any;
  for (int r = 0; r < R; ++r) common &= b.seen[r] == 0 ? kAllKeys : b.seen[r];
  TileOutput to;
  to.o = rows;
  const auto alone = [&](Keys part) {
    if ((b.any & part) == 0) return;
    for (int r = 0; r < R; ++r) {
      if (!to.resume) {
        for (std::int64_t d = 0; d < head_dim; d += 16) V::store(rows[r] + d, V::zero());
      }
      for_key_runs(b.seen[r] & part, [&](int begin, int end) {
        more_values<V>(s + r * kTile, t, head_dim, begin, end, rows[r]);
      });
    }
    to.resume = true;
  };
  Keys left = kAllKeys;
  for_key_runs(common, [&](int begin, int end) {
    alone(left & first_of_tile(begin));
    to.begin = begin;
    to.end = end;
    values<V, R>(s, t, head_dim, to);
    to.resume = true;
    left = ~first_of_tile(end);
  });
  alone(left);
}

// The same block's output of the tile, merged or stored as partials.
template <typename V, int R, typename T>
void attend_values(const AttentionProblem& p,
                   RowBlock& b,
                   const TilePointers<T>& t,
                   bool merge,
                   const float* s,
                   float* tile_o) {
  if (b.any == 0) return;
  float* rows[R];
  bool even = one_run(b.any);
  for (int r = 0; r < R; ++r) {
    rows[r] = merge ? tile_o + r * p.head_dim : b.partial[r] + kAttentionPartialHead;
    even = even && b.seen[r] == b.any;
  }
  if (even) {
    TileOutput to;
    to.a = b.a;
    to.b = b.b;
    to.o = merge ? b.o : rows;
    to.begin = __builtin_ctzll(b.any);
    to.end = kTile - __builtin_clzll(b.any);
    to.merge = merge;
    values<V, R>(s, t, p.head_dim, to);
  } else {
    uneven_values<V, R>(b, t, p.head_dim, s, rows);
    for (int r = 0; r < R && merge; ++r) {
      if (b.seen[r] == 0) continue;
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

// After the last tile: the sinks join and the results are written.
template <typename V>
void finish_rows(const AttentionProblem& p, RowBlock& b) {
  for (int r = 0; r < b.rows; ++r) {
    b.m[r] = b.sink[r];
    b.l[r] = 1.0F;
    b.a[r] = 1.0F;
  }
  if (p.sinks != nullptr) merge_factors<V>(b.big_m, b.big_l, b.m, b.l, b.a, b.b);
  for (int r = 0; r < b.rows; ++r) {
    write_row<V>(b.out[r], b.o[r], b.a[r], b.big_l[r], p.head_dim);
  }
}

}  // namespace
}  // namespace heddle::cpu
