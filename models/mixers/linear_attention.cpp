#include "models/mixers/linear_attention.h"

#include <fmt/format.h>

#include <algorithm>

#include "models/mixers/head_norm.h"

namespace heddle {

LinearAttention LinearAttention::bind(const LinearAttentionSpec& spec,
                                      const LinearAttentionNames& names,
                                      int hidden,
                                      int rope_table,
                                      WeightBinder& binder) {
  LinearAttention m;
  m.spec_ = spec;
  m.rope_table_ = rope_table;
  const std::int64_t width = std::int64_t{spec.n_heads} * spec.head_dim;
  m.q_ = binder.matrix(names.q, hidden);
  m.k_ = binder.matrix(names.k, hidden);
  m.v_ = binder.matrix(names.v, hidden);
  if (spec.gate != OutputGate::kNone) m.gate_ = binder.matrix(names.gate, hidden);
  m.o_ = binder.matrix(names.o, width);
  m.q_norm_ = binder.norm(names.q_norm);
  m.k_norm_ = binder.norm(names.k_norm);
  m.norm_ = binder.norm(names.norm);
  m.slopes_ = binder.constant(spec.slopes);
  m.theta_ = binder.vector(names.theta);
  return m;
}

CacheNeed LinearAttention::cache_need(const LinearAttentionSpec& spec) {
  CacheNeed need;
  need.recurrent = {{spec.n_heads, spec.key_dim(), spec.head_dim}};
  return need;
}

std::size_t LinearAttention::workspace_bytes(const LinearAttentionSpec& spec,
                                             const StepSize& size) {
  const std::int64_t heads = size.n_tokens * spec.n_heads;
  std::size_t bytes = 4 * Workspace::f32_bytes(heads * spec.head_dim);
  if (spec.lrpe) bytes += 2 * Workspace::f32_bytes(heads * spec.key_dim());
  if (spec.gate != OutputGate::kNone) bytes += Workspace::f32_bytes(heads * spec.head_dim);
  return bytes;
}

std::string LinearAttention::describe(const LinearAttentionSpec& spec) {
  std::string text = fmt::format("linear attention, {} heads of {}", spec.n_heads, spec.head_dim);
  text += spec.lrpe                   ? std::string(", LRPE")
          : spec.rope.rotary_dim == 0 ? std::string(", no rotation")
                                      : fmt::format(", rope {}", spec.rope.rotary_dim);
  const auto [least, most] = std::minmax_element(spec.slopes.begin(), spec.slopes.end());
  text += fmt::format(", slopes {:.3g} to {:.3g}", *most, *least);
  if (spec.qk_norm) text += ", qk-norm";
  if (spec.gate != OutputGate::kNone) text += ", gated";
  return text;
}

LinearAttention::Heads LinearAttention::project(LayerStep& step) const {
  const std::int64_t n = step.batch.n_tokens;
  const auto heads = [&] { return step.workspace.f32({n, spec_.n_heads, spec_.head_dim}); };
  Heads h{heads(), heads(), heads()};
  step.ops.matmul(
      {.x = step.normed,
       .targets = {{{&q_, {}, h.q.matrix()}, {&k_, {}, h.k.matrix()}, {&v_, {}, h.v.matrix()}}},
       .n_targets = 3});
  if (spec_.qk_norm) {
    norm_heads(step.ops, h.q, q_norm_, *spec_.qk_norm);
    norm_heads(step.ops, h.k, k_norm_, *spec_.qk_norm);
  }
  const auto activate = [&](const TensorView& x, Activation activation) {
    if (activation != Activation::kIdentity) {
      step.ops.activate({.x = x, .out = x, .activation = activation});
    }
  };
  activate(h.q, spec_.activation);
  activate(h.k, spec_.activation);
  activate(h.v, spec_.v_activation);
  return h;
}

void LinearAttention::position(LayerStep& step, Heads& heads) const {
  if (rope_table_ >= 0) {
    step.ops.rope({.cos_sin = step.rope_tables[static_cast<std::size_t>(rope_table_)],
                   .q = heads.q,
                   .k = heads.k});
  }
  if (!spec_.lrpe) return;
  TensorView theta = theta_.view;  // of all heads
  theta.rank = 2;
  theta.dims = {spec_.n_heads, spec_.head_dim, 0, 0};
  for (TensorView* const x : {&heads.q, &heads.k}) {
    const TensorView wide =
        step.workspace.f32({step.batch.n_tokens, spec_.n_heads, spec_.key_dim()});
    step.ops.lrpe({.x = *x, .theta = theta, .positions = step.batch.positions, .out = wide});
    *x = wide;
  }
}

void LinearAttention::norm_and_gate(LayerStep& step, const TensorView& mixed) const {
  const TensorView rows = mixed.matrix();
  if (spec_.norm_groups > 0) {
    step.ops.rms_norm({.x = rows,
                       .weight = norm_.view,
                       .out = rows,
                       .eps = spec_.norm_eps,
                       .groups = spec_.norm_groups,
                       .segments = head_segments(spec_.n_heads / spec_.norm_groups)});
  }
  if (spec_.gate == OutputGate::kNone) return;
  const TensorView gate = step.workspace.f32({step.batch.n_tokens, rows.dim(1)});
  step.ops.matmul({.x = step.normed, .targets = {{{&gate_, {}, gate}}}});
  step.ops.glu({.gate = gate,
                .up = rows,
                .out = rows,
                .activation = spec_.gate == OutputGate::kSigmoid ? Activation::kSigmoid
                                                                 : Activation::kIdentity});
}

void LinearAttention::forward(LayerStep& step) const {
  Heads heads = project(step);
  position(step, heads);
  const TensorView mixed = step.workspace.f32({step.batch.n_tokens, spec_.n_heads, spec_.head_dim});
  step.ops.linear_attention({.q = heads.q,
                             .k = heads.k,
                             .v = heads.v,
                             .slopes = slopes_.view,
                             .state = step.cache->recurrent.front(),
                             .slots = step.batch.state_slots,
                             .sequence = step.batch.sequence,
                             .positions = step.batch.positions,
                             .out = mixed,
                             .scale = spec_.scale});
  norm_and_gate(step, mixed);
  step.ops.matmul({.x = mixed.matrix(),
                   .targets = {{{&o_, step.residual, step.out}}},
                   .segments = row_parallel_segments(o_.n_cols, o_.dtype)});
}

}  // namespace heddle
