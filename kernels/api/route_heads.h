#pragma once
#include "base/tensor_view.h"

namespace heddle {

/// Mixture of heads: which heads a token uses, and with what weight. The first n_shared heads are
/// always on; of the others the top_k best (ties: the lowest index; a NaN is smaller than all else)
/// are.
///
/// General form (`routed` given): a = 2 softmax(stage[t]); gate of shared head h = a_0 n_shared
/// softmax(shared[t])_h; routed heads are chosen by logit, p = softmax(routed[t]), gate of a chosen
/// head = a_1 top_k p / (sum of the chosen p), in which the sum over all cancels. exp in f32, sums
/// in f64 (of the chosen: in descending order of logit), the gate rounded once.
/// Source: Jin et al. 2024 (MoH, 2410.11842), eq. 5-8 and its code.
/// By query norm (`q` given): the score of a routed head is |q[t,h]|^2, summed in f32 as the
/// squares of rms_norm are (16 lanes, element i in lane i mod 16, then the halving tree); all heads
/// in use count alike, so there are no gates. That is how MoH-LLaMA3-8B is published (it has no
/// router weights). mask is 1 for a head in use, else 0; gates is 0 for a masked head.
struct RouteHeadsArgs {
  TensorView routed = {};  // [n_tokens, n_heads - n_shared] F32 logits, or absent
  TensorView shared = {};  // [n_tokens, n_shared] F32 logits; absent where n_shared is 0 or by norm
  TensorView stage =
      {};             // [n_tokens, 2] F32 logits: shared, routed; absent likewise (then a_1 = 1)
  TensorView q = {};  // [n_tokens, n_heads, head_dim] F32, or absent: exactly one of routed and q
  TensorView mask;    // [n_tokens, n_heads] U8, written
  TensorView gates = {};  // [n_tokens, n_heads] F32, written; absent by query norm
  int n_shared = 0;       // 0 .. n_heads - 1
  int top_k = 0;          // 1 .. n_heads - n_shared
};

}  // namespace heddle
