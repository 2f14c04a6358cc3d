#pragma once
#include <string_view>

#include "base/tensor_view.h"

namespace heddle {

enum class Activation { kSilu, kGelu, kGeluTanh };
inline constexpr Activation kAllActivations[] = {Activation::kSilu, Activation::kGelu,
                                                 Activation::kGeluTanh};

/// Gated linear unit's elementwise half: out[t,i] = act(gate[t,i]) * up[t,i].
/// silu(x) = x / (1 + exp(-x)); gelu(x) = x/2 (1 + erf(x / sqrt 2));
/// gelu_tanh(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Source: Shazeer 2020, sec. 2.
struct GluArgs {
  TensorView gate;  // [n_tokens, width]  F32 (CUDA: F32 | F16 | BF16)
  TensorView up;    // like gate
  TensorView out;   // like gate; may be gate or up
  Activation activation = Activation::kSilu;
};

inline std::string_view name(Activation a) {
  switch (a) {
    case Activation::kSilu:
      return "silu";
    case Activation::kGelu:
      return "gelu";
    case Activation::kGeluTanh:
      break;
  }
  return "gelu_tanh";
}

}  // namespace heddle
