#pragma once
#include <string_view>

#include "base/tensor_view.h"

namespace heddle {

enum class Activation { kSilu, kGelu, kGeluTanh, kQuickGelu, kSigmoid, kRelu, kElu1, kIdentity };
inline constexpr Activation kAllActivations[] = {
    Activation::kSilu,    Activation::kGelu, Activation::kGeluTanh, Activation::kQuickGelu,
    Activation::kSigmoid, Activation::kRelu, Activation::kElu1,     Activation::kIdentity};

/// Gated linear unit's elementwise half: out[t,i] = act(gate[t,i]) * (up[t,i] + up_add); with a
/// limit L > 0, gate is min(gate, L) and up is clamped to [-L, L] first (gpt-oss: quick_gelu, L =
/// 7, up_add = 1). silu(x) = x / (1 + exp(-x)); gelu(x) = x/2 (1 + erf(x / sqrt 2)); gelu_tanh(x) =
/// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); quick_gelu(x) = x / (1 + exp(-1.702 x));
/// sigmoid(x) = 1 / (1 + exp(-x)); relu(x) = max(x, 0); elu1(x) = x + 1 where x > 0, else exp(x);
/// identity(x) = x. Source: Shazeer 2020, sec. 2; elu1: Katharopoulos et al. 2020.
struct GluArgs {
  TensorView gate;  // [n_tokens, width]  F32 (CUDA: F32 | F16 | BF16)
  TensorView up;    // like gate
  TensorView out;   // like gate; may be gate or up
  Activation activation = Activation::kSilu;
  float limit = 0.0F;  // 0: none
  float up_add = 0.0F;
};

inline std::string_view name(Activation a) {
  switch (a) {
    case Activation::kSilu:
      return "silu";
    case Activation::kGelu:
      return "gelu";
    case Activation::kGeluTanh:
      return "gelu_tanh";
    case Activation::kQuickGelu:
      return "quick_gelu";
    case Activation::kSigmoid:
      return "sigmoid";
    case Activation::kRelu:
      return "relu";
    case Activation::kElu1:
      return "elu1";
    case Activation::kIdentity:
      break;
  }
  return "identity";
}

}  // namespace heddle
