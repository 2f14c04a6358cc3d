#pragma once
#include "kernels/ops.h"
#include "models/layer_spec.h"
#include "models/weight_binder.h"

namespace heddle {

/// Pieces of the sum of squares over `n_heads` heads: the largest of 8, 4, 2, 1 that divides them.
inline int head_segments(int n_heads) {
  for (const int s : {8, 4, 2}) {
    if (n_heads % s == 0) return s;
  }
  return 1;
}

/// The norm of `heads` [n_tokens, n_heads, head_dim], in place.
inline void norm_heads(Ops& ops,
                       const TensorView& heads,
                       const DeviceVector& weight,
                       const QkNormSpec& spec) {
  TensorView rows = heads.matrix();
  if (!spec.all_heads) {
    rows.dims = {heads.dim(0) * heads.dim(1), heads.dim(2), 0, 0};
    ops.rms_norm({.x = rows, .weight = weight.view, .out = rows, .eps = spec.eps});
    return;
  }
  ops.rms_norm({.x = rows,
                .weight = weight.view,
                .out = rows,
                .eps = spec.eps,
                .segments = head_segments(static_cast<int>(heads.dim(1)))});
}

}  // namespace heddle
