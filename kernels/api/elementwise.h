#pragma once
#include "base/tensor_view.h"
#include "kernels/api/activation.h"

namespace heddle {

/// out[i] = act(x[i]) for the activations of one argument.
struct ActivateArgs {
  TensorView x;    // any shape, F32
  TensorView out;  // like x; may be x
  Activation activation = Activation::kSilu;
};

/// out[t,i] = a x[t,i] + b y[t,i] c[t]: a x is rounded, then one fused multiply-add with (b c[t])
/// y. y absent: out = a x. c absent: 1. Residuals with factors, scaled embeddings and logits, gates
/// of whole rows.
struct AddScaledArgs {
  TensorView x;       // [n_tokens, width] F32
  TensorView y = {};  // like x, or absent
  TensorView c = {};  // [n_tokens] F32, or absent; only with y
  TensorView out;     // like x; may be x or y
  float a = 1.0F;
  float b = 1.0F;
};

/// x[t] *= factor(position[t]), factor(p) = max(1, ln(p + 1) / ln(n0)) rounded to f32 from f64: the
/// temperature that grows with the number of keys. Source: Su 2021 ("log-n" attention).
struct LogScaleArgs {
  TensorView x;          // [n_tokens, ...] F32, in place
  TensorView positions;  // [n_tokens] I32, at least 0
  std::int64_t n0 = 0;   // at least 2
};

/// out[t,h] = x[t,h] gates[t,h]: one factor for each head.
struct ScaleHeadsArgs {
  TensorView x;      // [n_tokens, n_heads, head_dim] F32
  TensorView gates;  // [n_tokens, n_heads] F32
  TensorView out;    // like x; may be x
};

/// Linearised relative position encoding: out[t,h] = [x cos(theta_h t), x sin(theta_h t)], t the
/// position: the first head_dim are the cosines' part. Angles as in RopeAnglesArgs.
/// Source: Qin et al. 2023 (LRPE), as TransNormerLLM's code has it.
struct LrpeArgs {
  TensorView x;          // [n_tokens, n_heads, head_dim]     F32
  TensorView theta;      // [n_heads, head_dim]               F32
  TensorView positions;  // [n_tokens]                        I32
  TensorView out;        // [n_tokens, n_heads, 2 head_dim]   F32; must not alias x
};

}  // namespace heddle
