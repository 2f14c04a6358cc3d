#pragma once
#include <algorithm>
#include <array>

#include "base/tensor_view.h"
#include "kernels/packed_matrix.h"

namespace heddle {

/// out_i[t,n] = residual_i[t,n] + (bias_i[n] + sum_k x[t,k] * weight_i[n,k]) for up to kMaxTargets
/// matrices that share x (q, k and v; gate and up), so that x is quantised once.
///
/// Arithmetic of the fast CPU variants for block-quantised weights: x is rounded to int16 and
/// integer products q_w q are summed exactly; what follows are f32 operations, k ascending, lines
/// with m_w where there is a minimum. M is the largest |x| of 32 k, or of 256 for the K types;
/// where it is below 2^-100, x counts as zero.
///
///   Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4, for every 32 k: d = M / 32767,
///     q = round-to-even(x * (32767 / M))
///     acc = fma(f32(sum q_w q), d_w * d, acc)
///     acc = fma(m_w, d * f32(sum q), acc)
///   Q2_K Q3_K Q4_K Q5_K Q6_K, for every 256 k: d = M / 32767 / 64, and from s = 0, for every 32 of
///   them, with one line for each 16 where those have scales of their own (Q2_K Q3_K Q6_K); e is
///   the largest of 0 .. 6 for which 2^e max|x| <= M over the 32,
///     q = round-to-even(x * (2^e (32767 / M)))
///     s = fma(f32(2^(6 - e) sum q_w q), d_w, s)
///     s = fma(m_w, 2^(6 - e) f32(sum q), s)
///   and then acc = fma(s, d, acc).
///
/// q_w is the quant less its zero, or the number that it stands for in the type's table (E2M1
/// doubled for MXFP4, with d_w = 2^(e - 128)). In the K types d_w is the product of f16 d and the
/// scale of at most 8 bits, m_w that of -dmin and the minimum of at most 6: both exact in f32.
/// For f32, f16 and bf16 weights: one f32 FMA per k, ascending. The same for one row as for many. A
/// NaN or an infinity in a row of x makes all its results not finite.
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
