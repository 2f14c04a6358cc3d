#pragma once
#include "base/tensor_view.h"

namespace heddle {

/// cos_sin[t, 0, i] = scale * cos(position[t] * inv_freq[i]), cos_sin[t, 1, i] likewise with sin.
/// The angle is the f32 product of position and frequency, as published implementations round it;
/// cos and sin of it are then exact to f32 rounding. Once per step, shared by all layers with the
/// same frequencies.
struct RopeAnglesArgs {
  TensorView positions;  // [n_tokens]                    I32
  TensorView inv_freq;   // [rotary_dim / 2]              F32
  float scale = 1.0F;    // attention factor of yarn and longrope; 1 otherwise
  TensorView cos_sin;    // [n_tokens, 2, rotary_dim / 2] F32
};

/// Rotates the first rotary_dim of each head in place, "NeoX" pairing: (x[i], x[i + rotary_dim/2]):
///   x'[i]     = x[i] cos_i - x[i + r/2] sin_i
///   x'[i+r/2] = x[i + r/2] cos_i + x[i] sin_i          each: two products, then one sum, in f32
/// Checkpoints with interleaved pairs are permuted once at load. Source: Su et al. 2021, eq. 34.
struct RopeArgs {
  TensorView cos_sin;  // [n_tokens, 2, rotary_dim / 2]   F32
  TensorView q;        // [n_tokens, n_q_heads, head_dim]  F32, in place
  TensorView k;        // [n_tokens, n_kv_heads, head_dim] F32, in place
};

}  // namespace heddle
