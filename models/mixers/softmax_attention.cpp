#include "models/mixers/softmax_attention.h"

#include <fmt/format.h>

#include <algorithm>

#include "models/mixers/head_norm.h"
#include "models/overloaded.h"

namespace heddle {
namespace {

bool has_head_weights(const SoftmaxAttentionSpec& spec) {
  return spec.heads && !spec.heads->by_query_norm;
}

PatternBlocksArgs pattern_args(const PatternSpec& spec) {
  PatternBlocksArgs args;
  args.pattern = spec.pattern;
  args.step = spec.step;
  args.local = spec.local;
  args.blocks.block = spec.block;
  return args;
}

/// No more blocks than n_positions have: what is chosen is the same.
SelectSpec within(SelectSpec spec, std::int64_t n_positions) {
  const int blocks = static_cast<int>((n_positions + spec.block - 1) / spec.block);
  spec.init_blocks = std::min(spec.init_blocks, blocks);
  spec.local_blocks = std::min(spec.local_blocks, std::max(blocks, 1));
  spec.top_k = std::max(std::min(spec.top_k, blocks), spec.init_blocks + spec.local_blocks);
  return spec;
}

/// Lists and the longest of them, for positions below n_positions.
struct ListShape {
  std::int64_t lists = 0;
  std::int64_t capacity = 0;
};

ListShape list_shape(const SoftmaxAttentionSpec& spec, std::int64_t n_positions) {
  return std::visit(
      Overloaded{[](std::monostate) { return ListShape(); },
                 [&](const PatternSpec& s) {
                   return ListShape{1, pattern_blocks_capacity(pattern_args(s), n_positions)};
                 },
                 [&](const SelectSpec& s) {
                   return ListShape{spec.n_kv_heads, within(s, n_positions).top_k};
                 }},
      spec.sparse);
}

std::string describe_sparse(const SparseSpec& sparse) {
  const auto pattern = [](const PatternSpec& s) -> std::string {
    switch (s.pattern) {
      case BlockPattern::kStrided:
        return fmt::format(", strided blocks of {}, stride {}", s.block, s.step);
      case BlockPattern::kDilated:
        return fmt::format(", dilated blocks of {}, rate {}", s.block, s.step);
      case BlockPattern::kNeighbourhood:
        return fmt::format(", neighbourhood of {} blocks of {}", s.local, s.block);
      case BlockPattern::kPower:
        break;
    }
    return fmt::format(", power blocks of {}, {} local", s.block, s.local);
  };
  return std::visit(Overloaded{[](std::monostate) { return std::string(); }, pattern,
                               [](const SelectSpec& s) {
                                 return fmt::format(
                                     ", InfLLM-V2 {} blocks of {}, dense below position {}",
                                     s.top_k, s.block, s.dense_below);
                               }},
                    sparse);
}

}  // namespace

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
  if (spec.output_gate) m.gate_ = binder.matrix(names.gate, hidden);
  if (has_head_weights(spec)) {
    m.routed_heads_ = binder.matrix(names.routed_heads, hidden);
    if (spec.heads->n_shared > 0) {
      m.shared_heads_ = binder.matrix(names.shared_heads, hidden);
      m.head_stages_ = binder.matrix(names.head_stages, hidden);
    }
  }
  m.q_bias_ = binder.vector(names.q_bias);
  m.k_bias_ = binder.vector(names.k_bias);
  m.v_bias_ = binder.vector(names.v_bias);
  m.o_bias_ = binder.vector(names.o_bias);
  m.q_norm_ = binder.norm(names.q_norm);
  m.k_norm_ = binder.norm(names.k_norm);
  m.sinks_ = binder.vector(names.sinks);
  return m;
}

CacheNeed SoftmaxAttention::cache_need(const SoftmaxAttentionSpec& spec) {
  CacheNeed need;
  need.paged = {
      {.n_kv_heads = spec.n_kv_heads,
       .head_dim = spec.head_dim,
       .n_q_heads = spec.n_q_heads,
       .window = spec.window > 0 ? std::int64_t{spec.window} + spec.first_keys : 0,
       .skips = spec.first_keys > 0 || !std::holds_alternative<std::monostate>(spec.sparse)}};
  if (const auto* const select = std::get_if<SelectSpec>(&spec.sparse)) {
    need.compressed = {{spec.n_kv_heads, spec.head_dim, select->kernel, select->stride}};
  }
  return need;
}

std::size_t SoftmaxAttention::workspace_bytes(const SoftmaxAttentionSpec& spec,
                                              const StepSize& size) {
  const std::int64_t n = size.n_tokens;
  const std::int64_t head_row = n * spec.head_dim;
  std::size_t bytes = 2 * Workspace::f32_bytes(head_row * spec.n_q_heads) +
                      2 * Workspace::f32_bytes(head_row * spec.n_kv_heads);
  if (spec.output_gate) bytes += Workspace::f32_bytes(head_row * spec.n_q_heads);
  if (spec.heads) {  // logits, gates and mask
    bytes += 2 * Workspace::f32_bytes(n * spec.n_q_heads) + Workspace::f32_bytes(n * 2) +
             2 * Workspace::f32_bytes(n * spec.n_q_heads);
  }
  const ListShape shape = list_shape(spec, size.n_positions);
  if (shape.lists > 0) {
    bytes += Workspace::f32_bytes(n * shape.lists * shape.capacity) +
             Workspace::f32_bytes(n * shape.lists);
  }
  return bytes;
}

std::int64_t SoftmaxAttention::keys_seen(const SoftmaxAttentionSpec& spec, std::int64_t n_keys) {
  if (spec.window > 0) {
    return std::min<std::int64_t>(n_keys, std::int64_t{spec.window} + spec.first_keys);
  }
  const auto* const select = std::get_if<SelectSpec>(&spec.sparse);
  if (select != nullptr && n_keys <= select->dense_below) return n_keys;
  const auto* const pattern = std::get_if<PatternSpec>(&spec.sparse);
  if (select == nullptr && pattern == nullptr) return n_keys;
  const std::int64_t block = select != nullptr ? select->block : pattern->block;
  return std::min(n_keys, list_shape(spec, n_keys).capacity * block);
}

std::string SoftmaxAttention::describe(const SoftmaxAttentionSpec& s) {
  std::string text = fmt::format("softmax attention, {} query and {} KV heads of {}, rope {}",
                                 s.n_q_heads, s.n_kv_heads, s.head_dim, s.rope.rotary_dim);
  if (s.window > 0) text += fmt::format(", window {}", s.window);
  if (s.first_keys > 0) text += fmt::format(" and the first {} keys", s.first_keys);
  if (s.soft_cap != 0.0F) text += fmt::format(", soft-cap {}", s.soft_cap);
  if (s.log_scale > 0) text += fmt::format(", log-{} temperature", s.log_scale);
  if (s.qk_norm) text += ", qk-norm";
  if (s.sinks) text += ", sinks";
  if (s.output_gate) text += ", gated";
  if (s.heads) {
    text += fmt::format(", mixture of heads: {} shared, {} of {} by {}", s.heads->n_shared,
                        s.heads->top_k, s.n_q_heads - s.heads->n_shared,
                        s.heads->by_query_norm ? "query norm" : "router");
  }
  return text + describe_sparse(s.sparse);
}

SoftmaxAttention::Heads SoftmaxAttention::project(LayerStep& step) const {
  const std::int64_t n = step.batch.n_tokens;
  Heads h{step.workspace.f32({n, spec_.n_q_heads, spec_.head_dim}),
          step.workspace.f32({n, spec_.n_kv_heads, spec_.head_dim}),
          step.workspace.f32({n, spec_.n_kv_heads, spec_.head_dim})};
  step.ops.matmul({.x = step.normed,
                   .targets = {{{&q_, {}, h.q.matrix(), q_bias_.view},
                                {&k_, {}, h.k.matrix(), k_bias_.view},
                                {&v_, {}, h.v.matrix(), v_bias_.view}}},
                   .n_targets = 3});
  if (spec_.qk_norm) {
    norm_heads(step.ops, h.q, q_norm_, *spec_.qk_norm);
    norm_heads(step.ops, h.k, k_norm_, *spec_.qk_norm);
  }
  return h;
}

SoftmaxAttention::HeadChoice SoftmaxAttention::route(LayerStep& step, const TensorView& q) const {
  if (!spec_.heads) return {};
  const std::int64_t n = step.batch.n_tokens;
  const int n_shared = spec_.heads->n_shared;
  HeadChoice choice;
  choice.mask = step.workspace.u8({n, spec_.n_q_heads});
  RouteHeadsArgs args{.mask = choice.mask, .n_shared = n_shared, .top_k = spec_.heads->top_k};
  if (spec_.heads->by_query_norm) {
    args.q = q;
  } else {
    args.gates = choice.gates = step.workspace.f32({n, spec_.n_q_heads});
    args.routed = step.workspace.f32({n, spec_.n_q_heads - n_shared});
    MatmulArgs logits{.x = step.normed, .targets = {{{&routed_heads_, {}, args.routed}}}};
    if (n_shared > 0) {
      args.shared = step.workspace.f32({n, n_shared});
      args.stage = step.workspace.f32({n, 2});
      logits.targets[1] = {&shared_heads_, {}, args.shared};
      logits.targets[2] = {&head_stages_, {}, args.stage};
      logits.n_targets = 3;
    }
    step.ops.matmul(logits);
  }
  step.ops.route_heads(args);
  if (step.tap != nullptr) (*step.tap)(kHeadMask, step.layer, choice.mask);
  return choice;
}

KeyBlocks SoftmaxAttention::key_blocks(LayerStep& step, const Heads& heads) const {
  const std::int64_t n = step.batch.n_tokens;
  const KvPages& pages = step.cache->paged.front();
  const TensorView& block_tables = step.batch.pages(step.cache->ring).block_tables;
  const std::int64_t n_positions = block_tables.dim(1) * pages.block_tokens();
  const ListShape shape = list_shape(spec_, n_positions);
  KeyBlocks blocks;
  if (shape.lists == 0) return blocks;
  blocks.ids = step.workspace.i32({n, shape.lists, shape.capacity});
  blocks.counts = step.workspace.i32({n, shape.lists});
  if (const auto* const pattern = std::get_if<PatternSpec>(&spec_.sparse)) {
    PatternBlocksArgs args = pattern_args(*pattern);
    args.positions = step.batch.positions;
    blocks.block = pattern->block;
    args.blocks = blocks;
    step.ops.pattern_blocks(args);
    return blocks;
  }
  const SelectSpec select = within(std::get<SelectSpec>(spec_.sparse), n_positions);
  const CompressedKeys& compressed = step.cache->compressed.front();
  blocks.block = select.block;
  step.ops.compress_keys({.k = pages.k,
                          .block_tables = block_tables,
                          .sequence = step.batch.sequence,
                          .positions = step.batch.positions,
                          .keys = compressed});
  step.ops.select_blocks({.q = heads.q,
                          .keys = compressed,
                          .block_tables = block_tables,
                          .sequence = step.batch.sequence,
                          .positions = step.batch.positions,
                          .scale = spec_.scale,
                          .init_blocks = select.init_blocks,
                          .local_blocks = select.local_blocks,
                          .top_k = select.top_k,
                          .dense_below = select.dense_below,
                          .blocks = blocks});
  return blocks;
}

void SoftmaxAttention::gate(LayerStep& step,
                            const HeadChoice& choice,
                            const TensorView& mixed) const {
  if (!choice.gates.absent()) {
    step.ops.scale_heads({.x = mixed, .gates = choice.gates, .out = mixed});
  }
  if (!spec_.output_gate) return;
  const TensorView rows = mixed.matrix();
  const TensorView gate = step.workspace.f32({step.batch.n_tokens, rows.dim(1)});
  step.ops.matmul({.x = step.normed, .targets = {{{&gate_, {}, gate}}}});
  step.ops.glu({.gate = gate, .up = rows, .out = rows, .activation = Activation::kSigmoid});
}

void SoftmaxAttention::forward(LayerStep& step) const {
  const Heads heads = project(step);
  const HeadChoice choice = route(step, heads.q);
  if (rope_table_ >= 0) {
    step.ops.rope({.cos_sin = step.rope_tables[static_cast<std::size_t>(rope_table_)],
                   .q = heads.q,
                   .k = heads.k});
  }
  if (spec_.log_scale > 0) {
    step.ops.log_scale({.x = heads.q, .positions = step.batch.positions, .n0 = spec_.log_scale});
  }
  const KvPages& pages = step.cache->paged.front();
  const PageIds& ids = step.batch.pages(step.cache->ring);
  step.ops.kv_write({.k = heads.k, .v = heads.v, .slots = ids.slots, .pages = pages});
  const KeyBlocks blocks = key_blocks(step, heads);
  const TensorView mixed =
      step.workspace.f32({step.batch.n_tokens, spec_.n_q_heads, spec_.head_dim});
  step.ops.attention({.q = heads.q,
                      .pages = pages,
                      .block_tables = ids.block_tables,
                      .sequence = step.batch.sequence,
                      .positions = step.batch.positions,
                      .head_mask = choice.mask,
                      .out = mixed,
                      .scale = spec_.scale,
                      .window = spec_.window,
                      .soft_cap = spec_.soft_cap,
                      .first_keys = spec_.first_keys,
                      .sinks = sinks_.view,
                      .blocks = blocks});
  gate(step, choice, mixed);
  step.ops.matmul({.x = mixed.matrix(),
                   .targets = {{{&o_, step.residual, step.out, o_bias_.view}}},
                   .segments = row_parallel_segments(o_.n_cols, o_.dtype)});
}

}  // namespace heddle
