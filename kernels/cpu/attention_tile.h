// The register kernels of the fast attention variants over a vector type V (simd16.h): some rows
// against one tile of keys. Included through attention_impl.h only.
//
// Reduction orders (what makes the bits independent of form, block size and processor):
//   q' = q * scale first; score: one FMA chain over d ascending, lane = key; then the soft cap
//   m: 16 lanes (key mod 16) over the tile, then the halving tree; l likewise with sums
//   o[d]: one FMA chain over the row's valid keys of the tile, ascending, from +0
//   merge: a = exp(M - M'), b = exp(m - M'), L' = a L + (b l), O' = a O + (b o), fused, from
//   M = -inf, L = O = 0; a sink is merged last, as a tile with m = sink, l = 1 and o = 0;
//   out = O / L
// A tile whose scores are all -inf has m = -inf and p = 0; it changes nothing, nor does a tile in
// which a row has no valid key.

#pragma once
#include "kernels/cpu/attention_keys.h"
#include "kernels/cpu/simd16_math.h"
#include "kernels/cpu/simd16_tile.h"

namespace heddle::cpu {
namespace {

// Where a tile's keys are: 16 keys each. K: element (d, key) at k[j][d * k_stride + key % 16].
// V: element (key, d) at v[j][key % 16 * head_dim + d].
template <typename T>
struct TilePointers {
  const T* k[kTile / 16];
  const T* v[kTile / 16];
  std::int64_t k_stride;
};

// The groups of 16 that hold any of the keys: no block of another group is looked up.
template <typename T>
TilePointers<T> find_tile(const AttentionProblem& p,
                          const AttentionTask& task,
                          const TileSpan& tile,
                          Keys keys) {
  TilePointers<T> t = {};
  t.k_stride = p.block_tokens;
  const std::int32_t* const table =
      p.block_tables + std::int64_t{p.sequence[task.first_row]} * p.max_blocks;
  for (int j = 0; j < kTile / 16; ++j) {
    if ((keys >> (j * 16) & 0xFFFFU) == 0) continue;
    const std::int64_t position = tile.begin + j * 16;
    const std::int64_t block = table[position / p.block_tokens];
    const std::int64_t offset = position % p.block_tokens;
    const std::int64_t page = (block * p.n_kv_heads + task.kv_head) * p.block_tokens * p.head_dim;
    t.k[j] = static_cast<const T*>(p.k_pages) + page + offset;
    t.v[j] = static_cast<const T*>(p.v_pages) + page + offset * p.head_dim;
  }
  return t;
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

// Scores of the groups of 16 keys from j up to n_groups.
template <typename V, int R, typename T>
void scores(const float* q,
            const TilePointers<T>& t,
            std::int64_t head_dim,
            int j,
            int n_groups,
            float* s) {
  constexpr int kColumns = V::columns(R);
  for (; j + kColumns <= n_groups; j += kColumns) {
    score_block<V, R, kColumns>(q, t.k + j, t.k_stride, head_dim, s + j * 16);
  }
  for (; j < n_groups; ++j) {
    score_block<V, R, 1>(q, t.k + j, t.k_stride, head_dim, s + j * 16);
  }
}

// The soft cap of the same groups of R rows.
template <typename V>
void cap_scores(float cap, int rows, int first_group, int n_groups, float* s) {
  const SoftCap<V> soft_cap(cap);
  for (int r = 0; r < rows; ++r) {
    for (int j = first_group; j < n_groups; ++j) {
      float* const x = s + r * kTile + j * 16;
      V::store(x, soft_cap(V::load(x)));
    }
  }
}

// Keys that a row does not see get scores of -inf, whatever the memory holds, so p is exactly 0.
template <typename V>
HEDDLE_SIMD void mask_unseen(float* s, Keys seen) {
  if (seen == kAllKeys) return;
  const auto lowest = V::set1(-__builtin_inff());
  for (int j = 0; j < kTile / 16; ++j) {
    const Keys unseen = ~seen >> (j * 16) & 0xFFFFU;
    if (unseen == 0) continue;
    auto x = lowest;
    if (unseen != 0xFFFFU) {
      x = V::load(s + j * 16);
      for_key_runs(unseen, [&](int begin, int end) {
        x = V::first_n(V::first_n(x, begin, lowest), end, x);
      });
    }
    V::store(s + j * 16, x);
  }
}

// One row of scores to probabilities.
template <typename V>
HEDDLE_SIMD void softmax_tile(float* s, float* m, float* l) {
  constexpr int kGroups = kTile / 16;
  typename V::F x[kGroups];
#pragma GCC unroll 4
  for (int j = 0; j < kGroups; ++j) x[j] = V::load(s + j * 16);
  auto max = V::set1(-__builtin_inff());
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

// How R rows take a tile's o over keys [begin, end): merged into the running O, or stored as it is,
// perhaps on top of what `o` holds of earlier keys.
struct TileOutput {
  const float* a = nullptr;  // [R], if merged
  const float* b = nullptr;
  float* const* o = nullptr;  // [R] rows of head_dim
  int begin = 0;
  int end = 0;
  bool merge = false;
  bool resume = false;  // not with merge
};

// o[r][d .. d + 16 C) = sum_key p[r][key] v(key, d ..).
template <typename V, int R, int C, typename T>
HEDDLE_SIMD void value_block(const float* p,
                             const T* const* v,
                             std::int64_t head_dim,
                             std::int64_t d,
                             const TileOutput& to) {
  typename V::F sum[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[r][c] = to.resume ? V::load(to.o[r] + d + c * 16) : V::zero();
  }
  int j = to.begin / 16;
  int key = to.begin % 16;
  p += j * 16;
  for (; j * 16 < to.end; ++j) {
    const T* row = v[j] + key * head_dim + d;
    const int end = to.end - j * 16 < 16 ? to.end - j * 16 : 16;
    for (; key < end; ++key) {
      if constexpr (sizeof(T) == 2) __builtin_prefetch(row + C * 16);  // for the next pass
      const T* columns[C];
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) columns[c] = row + c * 16;
      multiply_add<V, R, C>(sum, columns, [&](int r) { return V::set1(p[r * kTile + key]); });
      row += head_dim;
    }
    p += 16;
    key = 0;
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
void values(const float* p, const TilePointers<T>& t, std::int64_t head_dim, const TileOutput& to) {
  constexpr std::int64_t kColumns = V::columns(R);
  std::int64_t d = 0;
  for (; d + kColumns * 16 <= head_dim; d += kColumns * 16) {
    value_block<V, R, kColumns>(p, t.v, head_dim, d, to);
  }
  for (; d < head_dim; d += 16) value_block<V, R, 1>(p, t.v, head_dim, d, to);
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

// A tile's K in f32: [head_dim][kTile], and V: [kTile][head_dim], as far as any row sees them.
template <typename V, typename T>
void widen_k(const TilePointers<T>& t, std::int64_t head_dim, Keys keys, float* k) {
  for (int j = 0; j < kTile / 16; ++j) {
    if ((keys >> (j * 16) & 0xFFFFU) == 0) continue;
    const T* from = t.k[j];
    for (std::int64_t d = 0; d < head_dim; ++d) {
      V::store(k + d * kTile + j * 16, V::load(from));
      from += t.k_stride;
    }
  }
}

template <typename V, typename T>
void widen_v(const TilePointers<T>& t, std::int64_t head_dim, Keys keys, float* v) {
  for_key_runs(keys, [&](int begin, int end) {
    for (int key = begin; key < end; ++key) {
      const T* const from = t.v[key / 16] + key % 16 * head_dim;
      for (std::int64_t d = 0; d < head_dim; d += 16) {
        V::store(v + key * head_dim + d, V::load(from + d));
      }
    }
  });
}

// out = a O / L.
template <typename V>
HEDDLE_SIMD void write_row(float* out, const float* o, float a, float l, std::int64_t head_dim) {
  const auto factor = V::set1(a);
  const auto sum = V::set1(l);
  for (std::int64_t d = 0; d < head_dim; d += 16) {
    V::store(out + d, V::div(V::mul(factor, V::load(o + d)), sum));
  }
}

}  // namespace
}  // namespace heddle::cpu
