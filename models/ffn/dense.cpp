#include "models/ffn/dense.h"

namespace heddle {

DenseFfn DenseFfn::bind(const DenseFfnSpec& spec,
                        const DenseFfnNames& names,
                        int hidden,
                        WeightBinder& binder) {
  DenseFfn f;
  f.activation_ = spec.activation;
  f.gate_ = binder.matrix(names.gate, spec.intermediate, hidden);
  f.up_ = binder.matrix(names.up, spec.intermediate, hidden);
  f.down_ = binder.matrix(names.down, hidden, spec.intermediate);
  return f;
}

std::size_t DenseFfn::workspace_bytes(const DenseFfnSpec& spec, std::int64_t n_tokens) {
  return 2 * Workspace::f32_bytes(n_tokens * spec.intermediate);
}

void DenseFfn::forward(LayerStep& step) const {
  const TensorView gate = step.workspace.f32({step.batch.n_tokens, gate_.n_rows});
  const TensorView up = step.workspace.f32({step.batch.n_tokens, gate_.n_rows});
  step.ops.matmul(
      {.x = step.normed, .targets = {{{&gate_, {}, gate}, {&up_, {}, up}}}, .n_targets = 2});
  step.ops.glu({.gate = gate, .up = up, .out = gate, .activation = activation_});
  step.ops.matmul({.x = gate,
                   .targets = {{{&down_, step.stream, step.stream}}},
                   .segments = row_parallel_segments(down_.n_cols, down_.dtype)});
}

}  // namespace heddle
