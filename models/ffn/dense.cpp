#include "models/ffn/dense.h"

#include <fmt/format.h>

namespace heddle {

DenseFfn DenseFfn::bind(const DenseFfnSpec& spec,
                        const DenseFfnNames& names,
                        int hidden,
                        WeightBinder& binder) {
  DenseFfn f;
  f.activation_ = spec.activation;
  f.gate_ = binder.matrix(names.gate, hidden);
  f.up_ = binder.matrix(names.up, hidden);
  f.down_ = binder.matrix(names.down, spec.intermediate);
  f.gate_bias_ = binder.vector(names.gate_bias);
  f.up_bias_ = binder.vector(names.up_bias);
  f.down_bias_ = binder.vector(names.down_bias);
  return f;
}

std::size_t DenseFfn::workspace_bytes(const DenseFfnSpec& spec, const StepSize& size) {
  return 2 * Workspace::f32_bytes(size.n_tokens * spec.intermediate);
}

std::string DenseFfn::describe(const DenseFfnSpec& spec) {
  return fmt::format("dense, {} x {}", name(spec.activation), spec.intermediate);
}

void DenseFfn::forward(LayerStep& step) const {
  const TensorView gate = step.workspace.f32({step.batch.n_tokens, gate_.n_rows});
  const TensorView up = step.workspace.f32({step.batch.n_tokens, gate_.n_rows});
  step.ops.matmul(
      {.x = step.normed,
       .targets = {{{&gate_, {}, gate, gate_bias_.view}, {&up_, {}, up, up_bias_.view}}},
       .n_targets = 2});
  step.ops.glu({.gate = gate, .up = up, .out = gate, .activation = activation_});
  step.ops.matmul({.x = gate,
                   .targets = {{{&down_, step.residual, step.out, down_bias_.view}}},
                   .segments = row_parallel_segments(down_.n_cols, down_.dtype)});
}

}  // namespace heddle
