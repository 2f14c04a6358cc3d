#include "models/mixers/softmax_attention.h"

namespace heddle {

SoftmaxAttention SoftmaxAttention::bind(const SoftmaxAttentionSpec& spec,
                                        const SoftmaxAttentionNames& names,
                                        int hidden,
                                        int rope_table,
                                        WeightBinder& binder) {
  SoftmaxAttention m;
  m.spec_ = spec;
  m.rope_table_ = rope_table;
  const std::int64_t q_width = std::int64_t{spec.n_q_heads} * spec.head_dim;
  m.q_ = binder.matrix(names.q, hidden);
  m.k_ = binder.matrix(names.k, hidden);
  m.v_ = binder.matrix(names.v, hidden);
  m.o_ = binder.matrix(names.o, q_width);
  m.q_bias_ = binder.vector(names.q_bias);
  m.k_bias_ = binder.vector(names.k_bias);
  m.v_bias_ = binder.vector(names.v_bias);
  m.o_bias_ = binder.vector(names.o_bias);
  m.q_norm_ = binder.norm(names.q_norm);
  m.k_norm_ = binder.norm(names.k_norm);
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

void SoftmaxAttention::norm_heads(LayerStep& step,
                                  const TensorView& heads,
                                  const DeviceVector& weight) const {
  TensorView rows = heads;  // every head of every token is a row
  rows.dims = {heads.dim(0) * heads.dim(1), heads.dim(2), 0, 0};
  rows.rank = 2;
  step.ops.rms_norm({.x = rows, .weight = weight.view, .out = rows, .eps = spec_.qk_norm_eps});
}

void SoftmaxAttention::forward(LayerStep& step) const {
  const std::int64_t n = step.batch.n_tokens;
  const TensorView q = step.workspace.f32({n, spec_.n_q_heads, spec_.head_dim});
  const TensorView k = step.workspace.f32({n, spec_.n_kv_heads, spec_.head_dim});
  const TensorView v = step.workspace.f32({n, spec_.n_kv_heads, spec_.head_dim});
  const TensorView mixed = step.workspace.f32({n, spec_.n_q_heads, spec_.head_dim});
  const KvPages& pages = step.cache.paged.front();

  step.ops.matmul({.x = step.normed,
                   .targets = {{{&q_, {}, q.matrix(), q_bias_.view},
                                {&k_, {}, k.matrix(), k_bias_.view},
                                {&v_, {}, v.matrix(), v_bias_.view}}},
                   .n_targets = 3});
  if (spec_.qk_norm) {
    norm_heads(step, q, q_norm_);
    norm_heads(step, k, k_norm_);
  }
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
                      .scale = spec_.scale,
                      .window = spec_.window,
                      .soft_cap = spec_.soft_cap});
  step.ops.matmul({.x = mixed.matrix(),
                   .targets = {{{&o_, step.residual, step.out, o_bias_.view}}},
                   .segments = row_parallel_segments(o_.n_cols, o_.dtype)});
}

}  // namespace heddle
