#pragma once
#include "base/tensor_view.h"

namespace heddle {

/// x[t,i] = cap * tanh(x[t,i] / cap), in place: final logits of Gemma 2. Fast CPU variants multiply
/// by 1 / cap rounded to f32; their error is at most cap * 2^-21. A NaN stays, infinities give cap
/// and -cap. Source: Gemma Team 2024 (Gemma 2), sec. 2, "logit soft-capping".
struct SoftCapArgs {
  TensorView x;      // [n, width]  F32
  float cap = 0.0F;  // > 0, finite, and so is 1 / cap
};

}  // namespace heddle
