#pragma once
#include "base/tensor_view.h"

namespace heddle {

/// out[t,i] = residual[t,i] + x[t,i] * rsqrt(mean_j x[t,j]^2 + eps) * weight[i]
/// Source: Zhang and Sennrich 2019, eq. 4. Statistics in f32 or better whatever the dtype. A row
/// depends on that row only; the residual is one rounded addition to the finished norm. Fixed sum
/// (CPU): lane l of 16 adds elements l, l+16, ... in ascending order; lanes are added as
/// ((0+8)+(4+12)) ... halving: 16 -> 8 -> 4 -> 2 -> 1.
struct RmsNormArgs {
  TensorView x;              // [n_tokens, width]  F32 (CUDA: F32 | F16 | BF16)
  TensorView weight;         // [width]            F32 (CUDA: as x or F32); absent: 1
  TensorView out;            // like x; may be x itself
  float eps = 0.0F;          // added to the mean square; must be >= 0 and finite
  TensorView residual = {};  // like out, or absent; may be out, must not overlap it otherwise
  /// A row's `groups` equal contiguous parts are normalised each on its own (weight [width] all the
  /// same). A part's sum of squares is taken in `segments` (1, 2, 4, 8) contiguous pieces, each by
  /// the lanes above, added as ((0+1)+(2+3))+((4+5)+(6+7)): a norm over all heads can be cut
  /// between ranks. Both divide width; width / groups / segments is whole.
  int groups = 1;
  int segments = 1;
};

}  // namespace heddle
