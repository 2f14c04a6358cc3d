#include "models/mixers/softmax_attention.h"

namespace heddle {

SoftmaxAttention SoftmaxAttention::bind(const SoftmaxAttentionSpec& spec,
                                        const SoftmaxAttentionNames& names,
                                        int hidden,
                                        int rope_table,
                                        WeightBinder& binder) {
  SoftmaxAttention m;
  m.n_q_heads_ = spec.n_q_heads;
  m.n_kv_heads_ = spec.n_kv_heads;
  m.head_dim_ = spec.head_dim;
  m.scale_ = spec.scale;
  m.rope_table_ = rope_table;
  const std::int64_t q_width = std::int64_t{spec.n_q_heads} * spec.head_dim;
  const std::int64_t kv_width = std::int64_t{spec.n_kv_heads} * spec.head_dim;
  m.q_ = binder.matrix(names.q, q_width, hidden, names.q_row_order);
  m.k_ = binder.matrix(names.k, kv_width, hidden, names.k_row_order);
  m.v_ = binder.matrix(names.v, kv_width, hidden);
  m.o_ = binder.matrix(names.o, hidden, q_width);
  return m;
}

CacheNeed SoftmaxAttention::cache_need(const SoftmaxAttentionSpec& spec) {
  return {.paged = {{spec.n_kv_heads, spec.head_dim}}};
}

std::size_t SoftmaxAttention::workspace_bytes(const SoftmaxAttentionSpec& spec,
                                              std::int64_t n_tokens) {
  const std::int64_t head_row = n_tokens * spec.head_dim;
  return 2 * Workspace::f32_bytes(head_row * spec.n_q_heads) +
         2 * Workspace::f32_bytes(head_row * spec.n_kv_heads);
}

void SoftmaxAttention::forward(LayerStep& step) const {
  const std::int64_t n = step.batch.n_tokens;
  const TensorView q = step.workspace.f32({n, n_q_heads_, head_dim_});
  const TensorView k = step.workspace.f32({n, n_kv_heads_, head_dim_});
  const TensorView v = step.workspace.f32({n, n_kv_heads_, head_dim_});
  const TensorView mixed = step.workspace.f32({n, n_q_heads_, head_dim_});
  const KvPages& pages = step.cache.paged.front();

  step.ops.matmul(
      {.x = step.normed,
       .targets = {{{&q_, {}, q.matrix()}, {&k_, {}, k.matrix()}, {&v_, {}, v.matrix()}}},
       .n_targets = 3});
  if (rope_table_ >= 0) {
    step.ops.rope(
        {.cos_sin = step.rope_tables[static_cast<std::size_t>(rope_table_)], .q = q, .k = k});
  }
  step.ops.kv_write({.k = k, .v = v, .slots = step.batch.slots, .pages = pages});
  step.ops.attention({.q = q,
                      .pages = pages,
                      .block_tables = step.batch.block_tables,
                      .sequence = step.batch.sequence,
                      .positions = step.batch.positions,
                      .head_mask = {},
                      .out = mixed,
                      .scale = scale_});
  step.ops.matmul({.x = mixed.matrix(),
                   .targets = {{{&o_, step.stream, step.stream}}},
                   .segments = row_parallel_segments(o_.n_cols, o_.dtype)});
}

}  // namespace heddle
