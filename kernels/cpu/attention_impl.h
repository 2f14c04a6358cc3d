// The loops of every fast attention variant over a vector type V (simd16.h): tasks, from the tiles
// of a task down to attention_rows.h (rows of a tile) and attention_tile.h (register kernels).
// Included by attention_<isa>.cpp only, after that file's V.

#pragma once
#include "kernels/cpu/attention_rows.h"
#include "kernels/cpu/attention_select.h"

namespace heddle::cpu {
namespace {

// Up to this many blocks of rows, 16-bit keys are widened where they are used.
template <typename T>
constexpr int kDirectBlocks = 1;
template <>
constexpr int kDirectBlocks<float> = static_cast<int>(kMaxAttentionPairs);

inline std::int64_t tile_at(const AttentionTask& task, std::int64_t i) {
  return task.tiles == nullptr ? i : task.tiles[i];
}

template <typename V, typename T>
void run_typed(const AttentionProblem& p, const AttentionTask& task, float* memory) {
  const Scratch scratch = cut_scratch(memory, p.head_dim);
  RowBlock blocks[(kMaxAttentionPairs + V::kMaxRows - 1) / V::kMaxRows];
  const int n_blocks = make_blocks<V>(p, task, scratch, blocks);
  if (n_blocks == 0) return;
  const bool merge = task.partial == nullptr;
  const std::int64_t stride = kAttentionPartialHead + p.head_dim;

  const auto all_blocks = [&](const auto& f) {
    for (int i = 0; i < n_blocks; ++i) {
      with_rows<V::kMaxRows>(blocks[i].rows, [&]<int R>() {
        f.template operator()<R>(blocks[i], scratch.s + i * V::kMaxRows * kTile);
      });
    }
  };
  for (std::int64_t i_tile = task.tile_begin; i_tile < task.tile_end; ++i_tile) {
    const TileSpan span = tile_span(p, tile_at(task, i_tile));
    const Keys any = see_tile(p, span, blocks, n_blocks);
    if (any == 0) continue;
    const auto t = find_tile<T>(p, task, span, any);
    if (!merge) {
      float* const base = task.partial + (i_tile - task.tile_begin) * task.n_pairs * stride;
      for (int i = 0; i < n_blocks; ++i) {
        for (int r = 0; r < blocks[i].rows; ++r) {
          blocks[i].partial[r] = base + blocks[i].index[r] * stride;
        }
      }
    }
    const auto score = [&](const auto& from) {
      all_blocks([&]<int R>(RowBlock& b, float* s) { attend_scores<V, R>(p, b, from, merge, s); });
    };
    const auto value = [&](const auto& from) {
      all_blocks([&]<int R>(RowBlock& b, const float* s) {
        attend_values<V, R>(p, b, from, merge, s, scratch.tile_o);
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
      widen_k<V>(t, p.head_dim, any, scratch.k);
      score(wide);
      widen_v<V>(t, p.head_dim, any, scratch.v);
      value(wide);
    }
  }
  if (!merge) return;
  for (int i = 0; i < n_blocks; ++i) finish_rows<V>(p, blocks[i]);
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
    RowKeys keys = row_keys(p, pair.row, task.kv_head);
    for (std::int64_t i_tile = task.tile_begin; i_tile < task.tile_end; ++i_tile) {
      if (seen_keys(p, keys, tile_span(p, tile_at(task, i_tile))) == 0) continue;
      const float* const partial =
          task.partial + ((i_tile - task.tile_begin) * task.n_pairs + i) * stride;
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
    a[0] = 1.0F;
    if (p.sinks != nullptr) {
      m[0] = p.sinks[pair.head];
      l[0] = 1.0F;
      merge_factors<V>(big_m, big_l, m, l, a, b);
    }
    write_row<V>(out, scratch, a[0], big_l[0], p.head_dim);
  }
}

template <typename V>
constexpr AttentionKernels attention_kernels() {
  AttentionKernels k;
  k.scratch = [](std::int64_t head_dim) { return scratch_elements(head_dim); };
  k.run = run_task<V>;
  k.merge = merge_task<V>;
  k.score_entries = score_entries<V>;
  k.add_weights = add_weights<V>;
  return k;
}

}  // namespace
}  // namespace heddle::cpu
