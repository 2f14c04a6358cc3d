#pragma once
#include <algorithm>
#include <array>

#include "base/tensor_view.h"
#include "kernels/packed_matrix.h"

namespace heddle {

/// out_i[t,n] = residual_i[t,n] + (bias_i[n] + sum_k x[t,k] * weight_i[n,k]) for up to kMaxTargets
/// matrices that share x (q, k and v; gate and up), so that x is quantised once.
///
/// Arithmetic of the fast CPU variants for block-quantised weights: x is rounded per 32 values to
/// int16 (d = max|x| / 32767; q = round-to-even(x * (32767 / max|x|)); 32 values below 2^-100 count
/// as zero), integer products are summed exactly inside a block, blocks are added in ascending
/// order with one f32 FMA each, acc += f32(sum q_w q) * (d_w d), and one more with a minimum, acc
/// += m_w * (d * f32(sum q)). For f32, f16 and bf16 weights: one f32 FMA per k, ascending. The same
/// for one row as for many. A NaN or an infinity in a row of x makes all its results not finite.
///
/// Fixed reduction tree: K is cut into `segments` contiguous parts, each summed in ascending order,
/// added as ((0+1)+(2+3))+((4+5)+(6+7)); then the bias is added to that sum, then the residual.
/// Row-parallel matrices (attention output, FFN down) use row_parallel_segments(); all others 1.
struct MatmulTarget {
  const PackedMatrix* weight = nullptr;  // [n, k]
  TensorView residual;                   // [n_tokens, n] F32 or absent; may be out
  TensorView out;                        // [n_tokens, n] F32; must not alias x
  TensorView bias = {};                  // [n] F32 or absent; must not alias out
};

struct MatmulArgs {
  static constexpr int kMaxTargets = 3;
  TensorView x;  // [n_tokens, k] F32
  std::array<MatmulTarget, kMaxTargets> targets = {};
  int n_targets = 1;
  int segments = 1;  // 1, 2, 4 or 8; k must be a multiple of segments * max(32, block)
};

/// The largest of 8, 4, 2, 1 for which k is a multiple of S * max(32, block elements).
inline int row_parallel_segments(std::int64_t k, DType weight) {
  const std::int64_t unit = std::max<std::int64_t>(32, info(weight).block_elements);
  for (const int s : {8, 4, 2}) {
    if (k % (s * unit) == 0) return s;
  }
  return 1;
}

}  // namespace heddle
