#include "models/ffn/moe.h"

#include <fmt/format.h>

namespace heddle {
namespace {

DenseFfnSpec shared_spec(const MoeFfnSpec& spec) {
  return {spec.shared_intermediate, spec.activation};
}

std::vector<PackedMatrix> bind_all(const std::vector<TensorPart>& parts,
                                   std::int64_t cols,
                                   WeightBinder& binder) {
  std::vector<PackedMatrix> matrices;
  matrices.reserve(parts.size());
  for (const TensorPart& part : parts) matrices.push_back(binder.matrix(part, cols));
  return matrices;
}

/// [n_experts, n] of a vector that holds them one after the other; absent if that is.
TensorView rows_of(const DeviceVector& vector, int n_experts) {
  TensorView view = vector.view;
  if (view.absent()) return view;
  view.rank = 2;
  view.dims = {n_experts, view.dims[0] / n_experts, 0, 0};
  return view;
}

}  // namespace

MoeFfn MoeFfn::bind(const MoeFfnSpec& spec,
                    const MoeFfnNames& names,
                    int hidden,
                    WeightBinder& binder) {
  MoeFfn f;
  f.spec_ = spec;
  f.hidden_ = hidden;
  f.router_ = binder.matrix(names.router, hidden);
  f.router_bias_ = binder.vector(names.router_bias);
  f.choice_bias_ = binder.vector(names.choice_bias);
  f.gate_ = bind_all(names.gate, hidden, binder);
  f.up_ = bind_all(names.up, hidden, binder);
  f.down_ = bind_all(names.down, spec.intermediate, binder);
  f.gate_bias_ = binder.vectors(names.gate_bias);
  f.up_bias_ = binder.vectors(names.up_bias);
  f.down_bias_ = binder.vectors(names.down_bias);
  if (spec.shared != SharedExpert::kNone) {
    f.shared_ = DenseFfn::bind(shared_spec(spec), names.shared, hidden, binder);
    if (spec.shared != SharedExpert::kAdded) {
      f.shared_gate_ = binder.matrix(names.shared_gate, hidden);
    }
  }
  return f;
}

std::size_t MoeFfn::workspace_bytes(const MoeFfnSpec& spec, int hidden, const StepSize& size) {
  const std::int64_t n = size.n_tokens;
  const std::int64_t rows = n * spec.router.top_k;
  std::size_t bytes =
      Workspace::f32_bytes(n * spec.router.n_experts) + 2 * Workspace::f32_bytes(rows) +
      2 * Workspace::f32_bytes(rows * spec.intermediate) + Workspace::f32_bytes(rows * hidden);
  if (spec.shared != SharedExpert::kNone) {
    bytes += DenseFfn::workspace_bytes(shared_spec(spec), size) +
             2 * Workspace::f32_bytes(n * hidden) + 2 * Workspace::f32_bytes(n);
  }
  return bytes;
}

std::string MoeFfn::describe(const MoeFfnSpec& s) {
  std::string text = fmt::format("{} of {} experts, {} x {}", s.router.top_k, s.router.n_experts,
                                 name(s.activation), s.intermediate);
  if (s.router.n_groups > 1) {
    text += fmt::format(", from {} of {} groups", s.router.top_groups, s.router.n_groups);
  }
  if (s.shared != SharedExpert::kNone) text += fmt::format(", shared x {}", s.shared_intermediate);
  return text;
}

MoeFfn::Choice MoeFfn::route(LayerStep& step) const {
  const std::int64_t n = step.batch.n_tokens;
  const TensorView logits = step.workspace.f32({n, spec_.router.n_experts});
  const Choice choice{step.workspace.i32({n, spec_.router.top_k}),
                      step.workspace.f32({n, spec_.router.top_k})};
  step.ops.matmul({.x = step.normed, .targets = {{{&router_, {}, logits, router_bias_.view}}}});
  step.ops.route({.logits = logits,
                  .bias = choice_bias_.view,
                  .ids = choice.ids,
                  .weights = choice.weights,
                  .score = spec_.router.score,
                  .renormalise = spec_.router.renormalise,
                  .scale = spec_.router.scale,
                  .n_groups = spec_.router.n_groups,
                  .top_groups = spec_.router.top_groups});
  return choice;
}

/// [n_tokens * top_k, hidden]
TensorView MoeFfn::experts(LayerStep& step, const TensorView& token_ids) const {
  const int n_experts = spec_.router.n_experts;
  const std::int64_t n_rows = token_ids.elements();
  TensorView ids = token_ids;
  ids.rank = 1;
  ids.dims = {n_rows, 0, 0, 0};
  const TensorView gate = step.workspace.f32({n_rows, spec_.intermediate});
  const TensorView up = step.workspace.f32({n_rows, spec_.intermediate});
  const TensorView y = step.workspace.f32({n_rows, hidden_});
  step.ops.expert_matmul({.x = step.normed,
                          .ids = ids,
                          .rows_per_x = spec_.router.top_k,
                          .targets = {{{gate_, rows_of(gate_bias_, n_experts), gate},
                                       {up_, rows_of(up_bias_, n_experts), up}}},
                          .n_targets = 2});
  step.ops.glu({.gate = gate,
                .up = up,
                .out = gate,
                .activation = spec_.activation,
                .limit = spec_.limit,
                .up_add = spec_.up_add});
  step.ops.expert_matmul(
      {.x = gate,
       .ids = ids,
       .targets = {{{down_, rows_of(down_bias_, n_experts), y}}},
       .segments = row_parallel_segments(down_.front().n_cols, down_.front().dtype)});
  return y;
}

/// [n_tokens] logits of the shared expert's gate.
TensorView MoeFfn::shared_gate(LayerStep& step) const {
  const TensorView logits = step.workspace.f32({step.batch.n_tokens, 1});
  step.ops.matmul({.x = step.normed, .targets = {{{&shared_gate_, {}, logits}}}});
  return logits;
}

void MoeFfn::add_shared(LayerStep& step, const Choice& choice, const TensorView& y) const {
  const std::int64_t n = step.batch.n_tokens;
  const TensorView residual = step.residual;
  const TensorView out = step.out;
  const auto sigmoid = [&](const TensorView& x) {
    step.ops.activate({.x = x, .out = x, .activation = Activation::kSigmoid});
    TensorView column = x;
    column.rank = 1;
    return column;
  };
  // branch of rows times their factor, onto the stream where there is one
  const auto join = [&](const TensorView& base, const TensorView& rows, const TensorView& factor) {
    if (!base.absent()) {
      step.ops.add_scaled({.x = base, .y = rows, .c = factor, .out = out});
      return;
    }
    TensorView head = rows;
    head.rank = 3;
    head.dims = {n, 1, hidden_, 0};
    TensorView gates = factor;
    gates.rank = 2;
    gates.dims = {n, 1, 0, 0};
    TensorView to = out;
    to.rank = 3;
    to.dims = head.dims;
    step.ops.scale_heads({.x = head, .gates = gates, .out = to});
  };
  TensorView logits;
  if (spec_.shared != SharedExpert::kAdded) logits = shared_gate(step);
  TensorView shared = out;
  if (spec_.shared != SharedExpert::kAdded) {
    shared = step.workspace.f32({n, hidden_});
    step.residual = {};
    step.out = shared;
  }
  shared_.forward(step);  // the last to read step.normed, which may be out
  step.residual = residual;
  step.out = out;
  if (spec_.shared == SharedExpert::kBlended) {
    const TensorView rest = step.workspace.f32({n, 1});
    step.ops.add_scaled({.x = logits, .out = rest, .a = -1.0F});
    const TensorView routed = step.workspace.f32({n, hidden_});
    step.ops.expert_sum({.y = y, .weights = choice.weights, .out = routed});
    join(residual, routed, sigmoid(rest));
    join(out, shared, sigmoid(logits));
    return;
  }
  if (spec_.shared == SharedExpert::kGated) join(residual, shared, sigmoid(logits));
  step.ops.expert_sum({.y = y, .weights = choice.weights, .residual = out, .out = out});
}

void MoeFfn::forward(LayerStep& step) const {
  const Choice choice = route(step);
  TensorView y = experts(step, choice.ids);
  y.rank = 3;
  y.dims = {step.batch.n_tokens, spec_.router.top_k, hidden_, 0};
  if (spec_.shared != SharedExpert::kNone) {
    add_shared(step, choice, y);
    return;
  }
  step.ops.expert_sum(
      {.y = y, .weights = choice.weights, .residual = step.residual, .out = step.out});
}

}  // namespace heddle
