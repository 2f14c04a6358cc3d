// The loops of every fast attention variant over a vector type V (simd16.h). Included by
// attention_<isa>.cpp only, after that file's V.
//
// Reduction orders (what makes the bits independent of form, block size and processor):
//   q' = q * scale first; score: one FMA chain over d ascending, lane = key
//   m: 16 lanes (key mod 16) over the tile, then the halving tree; l likewise with sums
//   o[d]: one FMA chain over the row's valid keys of the tile, ascending, from +0
//   merge: a = exp(M - M'), b = exp(m - M'), L' = a L + (b l), O' = a O + (b o), fused, from
//   M = -inf, L = O = 0; out = O / L
// A tile whose scores are all -inf has m = -inf and p = 0; it changes nothing.

#pragma once
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/simd16_math.h"

namespace heddle::cpu {
namespace {

constexpr int kTile = 64;

// Calls f.template operator()<R>() for R = rows in 1 .. kMax.
template <int kMax, typename Fn>
HEDDLE_SIMD void with_rows(int rows, const Fn& f) {
  if constexpr (kMax > 1) {
    if (rows != kMax) {
      with_rows<kMax - 1>(rows, f);
      return;
    }
  }
  f.template operator()<kMax>();
}

// Where a tile's keys are: 16 keys each. K: element (d, key) at k[j][d * k_stride + key % 16].
// V: element (key, d) at v[j][key % 16 * head_dim + d].
template <typename T>
struct TilePointers {
  const T* k[kTile / 16];
  const T* v[kTile / 16];
  std::int64_t k_stride;
};

template <typename T>
TilePointers<T> find_tile(const AttentionProblem& p,
                          std::int64_t sequence,
                          std::int64_t kv_head,
                          std::int64_t tile,
                          int n_keys) {
  TilePointers<T> t = {};
  t.k_stride = p.block_tokens;
  const std::int32_t* const table = p.block_tables + sequence * p.max_blocks;
  for (int j = 0; j * 16 < n_keys; ++j) {
    const std::int64_t position = tile * kTile + j * 16;
    const std::int64_t block = table[position / p.block_tokens];
    const std::int64_t offset = position % p.block_tokens;
    const std::int64_t page = (block * p.n_kv_heads + kv_head) * p.block_tokens * p.head_dim;
    t.k[j] = static_cast<const T*>(p.k_pages) + page + offset;
    t.v[j] = static_cast<const T*>(p.v_pages) + page + offset * p.head_dim;
  }
  return t;
}

// sum[r][c] += x(r) * the 16 elements at p[c], in an order that keeps sums in registers.
template <typename V, int R, int C, typename T, typename X>
HEDDLE_SIMD void multiply_add(typename V::F (&sum)[R][C], const T* const (&p)[C], const X& x) {
  if constexpr (V::kColumnsFirst && C > 1) {
    typename V::F row[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) row[r] = x(r);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) V::template add_column<R, C>(sum, c, row, p[c]);
  } else {
    typename V::F column[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) column[c] = V::load(p[c]);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto row = x(r);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[r][c] = V::fma(row, column[c], sum[r][c]);
    }
  }
}

// R rows of scores of C groups of 16 keys: s[r][c * 16 + lane] = sum_d q[d][r] * k(d, key).
template <typename V, int R, int C, typename T>
HEDDLE_SIMD void score_block(
    const float* q, const T* const* k, std::int64_t k_stride, std::int64_t head_dim, float* s) {
  typename V::F sum[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[r][c] = V::zero();
  }
  const T* kc[C];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) kc[c] = k[c];
  for (std::int64_t d = 0; d < head_dim; ++d) {
    if constexpr (sizeof(T) == 2) __builtin_prefetch(kc[0] + C * 16);  // for the next pass
    multiply_add<V, R, C>(sum, kc, [&](int r) { return V::set1(q[r]); });
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) kc[c] += k_stride;
    q += R;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) V::store(s + r * kTile + c * 16, sum[r][c]);
  }
}

template <typename V, int R, typename T>
void scores(
    const float* q, const TilePointers<T>& t, std::int64_t head_dim, int n_groups, float* s) {
  constexpr int kColumns = V::columns(R);
  int j = 0;
  for (; j + kColumns <= n_groups; j += kColumns) {
    score_block<V, R, kColumns>(q, t.k + j, t.k_stride, head_dim, s + j * 16);
  }
  for (; j < n_groups; ++j) {
    score_block<V, R, 1>(q, t.k + j, t.k_stride, head_dim, s + j * 16);
  }
}

// One row of scores to probabilities of its valid keys: n of the tile's, or with kAll all; the
// others get 0.
template <typename V, bool kAll>
HEDDLE_SIMD void softmax_row(float* s, int n, float* m, float* l) {
  constexpr int kGroups = kTile / 16;
  const auto lowest = V::set1(-__builtin_inff());
  typename V::F x[kGroups];
#pragma GCC unroll 4
  for (int j = 0; j < kGroups; ++j) {
    if constexpr (kAll) {
      x[j] = V::load(s + j * 16);
    } else {
      x[j] = j * 16 < n ? V::first_n(V::load(s + j * 16), n - j * 16, lowest) : lowest;
    }
  }
  auto max = lowest;
#pragma GCC unroll 4
  for (int j = 0; j < kGroups; ++j) max = V::max(x[j], max);
  *m = V::reduce_max(max);
  const auto top = V::set1(*m == -__builtin_inff() ? 0.0F : *m);
  auto sum = V::zero();
#pragma GCC unroll 4
  for (int j = 0; j < kGroups; ++j) {
    x[j] = exp_nonpositive<V>(V::sub(x[j], top));
    V::store(s + j * 16, x[j]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < kGroups; ++j) sum = V::add(sum, x[j]);
  *l = V::reduce_add(sum);
}

template <typename V>
HEDDLE_SIMD void softmax_tile(float* s, int n, float* m, float* l) {
  if (n == kTile) {
    softmax_row<V, true>(s, n, m, l);
  } else {
    softmax_row<V, false>(s, n, m, l);
  }
}

// How R rows take a tile's o: merged into the running O, or stored as it is.
struct Merging {
  const float* a = nullptr;  // [R]
  const float* b = nullptr;
  float* const* o = nullptr;  // [R] rows of head_dim
  bool merge = false;
};

// o[r][d .. d + 16 C) = sum_key p[r][key] v(key, d ..), keys [0, n).
template <typename V, int R, int C, typename T>
HEDDLE_SIMD void value_block(const float* p,
                             const T* const* v,
                             std::int64_t head_dim,
                             std::int64_t d,
                             int n,
                             const Merging& to) {
  typename V::F sum[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[r][c] = V::zero();
  }
  for (int j = 0; j * 16 < n; ++j) {
    const T* row = v[j] + d;
    const int end = n - j * 16 < 16 ? n - j * 16 : 16;
    for (int key = 0; key < end; ++key) {
      if constexpr (sizeof(T) == 2) __builtin_prefetch(row + C * 16);  // for the next pass
      const T* columns[C];
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) columns[c] = row + c * 16;
      multiply_add<V, R, C>(sum, columns, [&](int r) { return V::set1(p[r * kTile + key]); });
      row += head_dim;
    }
    p += 16;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    float* const o = to.o[r] + d;
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      auto x = sum[r][c];
      if (to.merge) {
        x = V::fma(V::set1(to.a[r]), V::load(o + c * 16), V::mul(V::set1(to.b[r]), x));
      }
      V::store(o + c * 16, x);
    }
  }
}

template <typename V, int R, typename T>
void values(
    const float* p, const TilePointers<T>& t, std::int64_t head_dim, int n, const Merging& to) {
  constexpr std::int64_t kColumns = V::columns(R);
  std::int64_t d = 0;
  for (; d + kColumns * 16 <= head_dim; d += kColumns * 16) {
    value_block<V, R, kColumns>(p, t.v, head_dim, d, n, to);
  }
  for (; d < head_dim; d += 16) value_block<V, R, 1>(p, t.v, head_dim, d, n, to);
}

// Continues one row's o over keys [begin, end).
template <typename V, typename T>
void more_values(
    const float* p, const TilePointers<T>& t, std::int64_t head_dim, int begin, int end, float* o) {
  for (int key = begin; key < end; ++key) {
    const T* const row = t.v[key / 16] + key % 16 * head_dim;
    const auto x = V::set1(p[key]);
    for (std::int64_t d = 0; d < head_dim; d += 16) {
      V::store(o + d, V::fma(x, V::load(row + d), V::load(o + d)));
    }
  }
}

// The merge factors of up to 16 rows; M and L become M' and L'.
template <typename V>
HEDDLE_SIMD void merge_factors(
    float* big_m, float* big_l, const float* m, const float* l, float* a, float* b) {
  const auto lowest = V::set1(-__builtin_inff());
  const auto old_m = V::load(big_m);
  const auto tile_m = V::load(m);
  const auto new_m = V::max(tile_m, old_m);
  // Where both are -inf, any finite reference makes both factors exp(-inf) = 0 of sums that are 0
  // (or NaN).
  const auto top = V::select_lt(lowest, new_m, new_m, V::zero());
  const auto fa = exp_nonpositive<V>(V::sub(old_m, top));
  const auto fb = exp_nonpositive<V>(V::sub(tile_m, top));
  V::store(a, fa);
  V::store(b, fb);
  V::store(big_m, new_m);
  V::store(big_l, V::fma(fa, V::load(big_l), V::mul(fb, V::load(l))));
}

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
  std::int64_t n_keys[8];
  int index[8];  // pair within the task
  float* q;      // [head_dim][rows]
  int rows;
};

// Up to this many blocks of rows, 16-bit keys are widened where they are used.
template <typename T>
constexpr int kDirectBlocks = 1;
template <>
constexpr int kDirectBlocks<float> = static_cast<int>(kMaxAttentionPairs);

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

// Valid keys of a row in a tile, 0 .. kTile.
inline int valid_keys(std::int64_t n_keys, std::int64_t tile) {
  const std::int64_t n = n_keys - tile * kTile;
  return n <= 0 ? 0 : n >= kTile ? kTile : static_cast<int>(n);
}

// One block of rows against one tile: scores and softmax into s, and the merge factors.
template <typename V, int R, typename T>
void attend_scores(RowBlock& b,
                   const TilePointers<T>& t,
                   std::int64_t tile,
                   std::int64_t head_dim,
                   bool merge,
                   float* s) {
  int n[R];
  int n_max = 0;
  for (int r = 0; r < R; ++r) {
    n[r] = valid_keys(b.n_keys[r], tile);
    n_max = n[r] > n_max ? n[r] : n_max;
  }
  if (n_max == 0) return;
  scores<V, R>(b.q, t, head_dim, (n_max + 15) / 16, s);
  for (int r = 0; r < R; ++r) softmax_tile<V>(s + r * kTile, n[r], &b.m[r], &b.l[r]);
  if (merge) merge_factors<V>(b.big_m, b.big_l, b.m, b.l, b.a, b.b);
}

// The same block's output of the tile, merged or stored as partials.
template <typename V, int R, typename T>
void attend_values(RowBlock& b,
                   const TilePointers<T>& t,
                   std::int64_t tile,
                   std::int64_t head_dim,
                   bool merge,
                   const float* s,
                   float* tile_o) {
  int n[R];
  int n_max = 0;
  int n_min = kTile;
  for (int r = 0; r < R; ++r) {
    n[r] = valid_keys(b.n_keys[r], tile);
    n_max = n[r] > n_max ? n[r] : n_max;
    if (n[r] > 0 && n[r] < n_min) n_min = n[r];
  }
  if (n_max == 0) return;
  Merging to;
  to.a = b.a;
  to.b = b.b;
  if (n_min == n_max && n[0] > 0 && n[R - 1] > 0) {
    // Rows are in order of position: the first and the last have keys here, so all have.
    to.o = b.o;
    float* partial_o[R];
    if (!merge) {
      for (int r = 0; r < R; ++r) partial_o[r] = b.partial[r] + kAttentionPartialHead;
      to.o = partial_o;
    }
    to.merge = merge;
    values<V, R>(s, t, head_dim, n_max, to);
  } else {
    float* rows[R];
    for (int r = 0; r < R; ++r)
      rows[r] = merge ? tile_o + r * head_dim : b.partial[r] + kAttentionPartialHead;
    to.o = rows;
    values<V, R>(s, t, head_dim, n_min, to);
    for (int r = 0; r < R; ++r) {
      if (n[r] == 0) continue;
      more_values<V>(s + r * kTile, t, head_dim, n_min, n[r], rows[r]);
      if (!merge) continue;
      const auto fa = V::set1(b.a[r]);
      const auto fb = V::set1(b.b[r]);
      for (std::int64_t d = 0; d < head_dim; d += 16) {
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

template <typename V>
HEDDLE_SIMD void write_row(float* out, const float* o, float l, std::int64_t head_dim) {
  const auto sum = V::set1(l);
  for (std::int64_t d = 0; d < head_dim; d += 16) V::store(out + d, V::div(V::load(o + d), sum));
}

// A tile's K in f32: [head_dim][kTile], and V: [kTile][head_dim], as far as there are keys.
template <typename V, typename T>
void widen_k(const TilePointers<T>& t, std::int64_t head_dim, int n_groups, float* k) {
  for (int j = 0; j < n_groups; ++j) {
    const T* from = t.k[j];
    for (std::int64_t d = 0; d < head_dim; ++d) {
      V::store(k + d * kTile + j * 16, V::load(from));
      from += t.k_stride;
    }
  }
}

template <typename V, typename T>
void widen_v(const TilePointers<T>& t, std::int64_t head_dim, int n_keys, float* v) {
  for (int key = 0; key < n_keys; ++key) {
    const T* const from = t.v[key / 16] + key % 16 * head_dim;
    for (std::int64_t d = 0; d < head_dim; d += 16) {
      V::store(v + key * head_dim + d, V::load(from + d));
    }
  }
}

template <typename V, typename T>
void run_typed(const AttentionProblem& p, const AttentionTask& task, float* memory) {
  const Scratch scratch = cut_scratch(memory, p.head_dim);
  RowBlock blocks[(kMaxAttentionPairs + V::kMaxRows - 1) / V::kMaxRows];
  const int n_blocks = make_blocks<V>(p, task, scratch, blocks);
  if (n_blocks == 0) return;
  const bool merge = task.partial == nullptr;
  const RowBlock& last = blocks[n_blocks - 1];
  const std::int64_t n_keys = last.n_keys[last.rows - 1];
  const std::int64_t sequence = p.sequence[task.first_row];
  const std::int64_t stride = kAttentionPartialHead + p.head_dim;

  const auto all_blocks = [&](const auto& f) {
    for (int i = 0; i < n_blocks; ++i) {
      with_rows<V::kMaxRows>(blocks[i].rows, [&]<int R>() {
        f.template operator()<R>(blocks[i], scratch.s + i * V::kMaxRows * kTile);
      });
    }
  };
  for (std::int64_t tile = task.tile_begin; tile < task.tile_end; ++tile) {
    const int n = valid_keys(n_keys, tile);
    const auto t = find_tile<T>(p, sequence, task.kv_head, tile, n);
    if (!merge) {
      float* const base = task.partial + (tile - task.tile_begin) * task.n_pairs * stride;
      for (int i = 0; i < n_blocks; ++i) {
        for (int r = 0; r < blocks[i].rows; ++r) {
          blocks[i].partial[r] = base + blocks[i].index[r] * stride;
        }
      }
    }
    const auto score = [&](const auto& from) {
      all_blocks([&]<int R>(RowBlock& b, float* s) {
        attend_scores<V, R>(b, from, tile, p.head_dim, merge, s);
      });
    };
    const auto value = [&](const auto& from) {
      all_blocks([&]<int R>(RowBlock& b, const float* s) {
        attend_values<V, R>(b, from, tile, p.head_dim, merge, s, scratch.tile_o);
      });
    };
    if (n_blocks <= kDirectBlocks<T>) {
      score(t);
      value(t);
    } else {
      // Many rows: widen the tile once instead of once per block of rows.
      TilePointers<float> wide = {};
      wide.k_stride = kTile;
      for (int j = 0; j < kTile / 16; ++j) {
        wide.k[j] = scratch.k + j * 16;
        wide.v[j] = scratch.v + j * 16 * p.head_dim;
      }
      widen_k<V>(t, p.head_dim, (n + 15) / 16, scratch.k);
      score(wide);
      widen_v<V>(t, p.head_dim, n, scratch.v);
      value(wide);
    }
  }
  if (!merge) return;
  for (int i = 0; i < n_blocks; ++i) {
    for (int r = 0; r < blocks[i].rows; ++r) {
      write_row<V>(blocks[i].out[r], blocks[i].o[r], blocks[i].big_l[r], p.head_dim);
    }
  }
}

template <typename V>
void run_task(const AttentionProblem& p, KvType type, const AttentionTask& task, float* scratch) {
  if (type == KvType::kF16) {
    run_typed<V, F16>(p, task, scratch);
  } else if (type == KvType::kBF16) {
    run_typed<V, BF16>(p, task, scratch);
  } else {
    run_typed<V, float>(p, task, scratch);
  }
}

template <typename V>
void merge_task(const AttentionProblem& p, const AttentionTask& task, float* scratch) {
  const std::int64_t stride = kAttentionPartialHead + p.head_dim;
  for (std::int64_t i = 0; i < task.n_pairs; ++i) {
    const Pair pair = pair_at(p, task, i);
    float* const out = p.out + (pair.row * p.n_q_heads + pair.head) * p.head_dim;
    if (pair.masked) {
      for (std::int64_t d = 0; d < p.head_dim; d += 16) V::store(out + d, V::zero());
      continue;
    }
    alignas(64) float big_m[16];
    alignas(64) float big_l[16];
    alignas(64) float m[16];
    alignas(64) float l[16];
    alignas(64) float a[16];
    alignas(64) float b[16];
    V::store(big_m, V::set1(-__builtin_inff()));
    V::store(m, V::set1(-__builtin_inff()));
    V::store(big_l, V::zero());
    V::store(l, V::zero());
    for (std::int64_t d = 0; d < p.head_dim; d += 16) V::store(scratch + d, V::zero());
    const std::int64_t n_tiles = (std::int64_t{p.positions[pair.row]} + kTile) / kTile;
    for (std::int64_t tile = 0; tile < n_tiles; ++tile) {
      const float* const partial = task.partial + (tile * task.n_pairs + i) * stride;
      m[0] = partial[0];
      l[0] = partial[1];
      merge_factors<V>(big_m, big_l, m, l, a, b);
      const auto fa = V::set1(a[0]);
      const auto fb = V::set1(b[0]);
      for (std::int64_t d = 0; d < p.head_dim; d += 16) {
        const auto scaled = V::mul(fb, V::load(partial + kAttentionPartialHead + d));
        V::store(scratch + d, V::fma(fa, V::load(scratch + d), scaled));
      }
    }
    write_row<V>(out, scratch, big_l[0], p.head_dim);
  }
}

template <typename V>
constexpr AttentionKernels attention_kernels() {
  AttentionKernels k;
  k.scratch = [](std::int64_t head_dim) { return scratch_elements(head_dim); };
  k.run = run_task<V>;
  k.merge = merge_task<V>;
  return k;
}

}  // namespace
}  // namespace heddle::cpu
