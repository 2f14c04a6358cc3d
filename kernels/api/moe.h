#pragma once
#include <array>
#include <span>

#include "base/tensor_view.h"
#include "kernels/api/matmul.h"

namespace heddle {

/// How router logits become scores.
enum class RouterScore {
  kSoftmax,  // p = softmax over all experts
  kSigmoid,  // p = 1 / (1 + exp(-logit))
  kChosen,   // p = softmax over the chosen experts (gpt-oss)
};

/// For each token the top_k experts by sel = p + bias (kChosen: logit + bias), in descending order
/// of sel; among equals the lowest index first. Without a bias the logits themselves are compared:
/// they order as p does, and what p rounds to makes no ties. With n_groups > 1 the experts are cut
/// into n_groups equal contiguous groups, a group's score is the sum of its two largest sel (of its
/// largest where it has one expert), and only the experts of the top_groups best groups (ties: the
/// lowest index) may be chosen.
///
/// Weights are p (without bias), with `renormalise` divided by their sum over the chosen (+ 1e-20),
/// then multiplied by `scale`. exp in f32, sums in f64, ascending (over the chosen: in router
/// order), p rounded to f32. What a token chooses depends on its own logits only.
///
/// A NaN is smaller than all else when experts or groups are chosen, so that ids are distinct
/// experts whatever the logits are; the weights are what the formula makes of it.
/// Source: Shazeer et al. 2017; groups and bias: DeepSeek-V3 (2412.19437), sec. 2.1.2.
struct RouteArgs {
  TensorView logits;     // [n_tokens, n_experts] F32
  TensorView bias = {};  // [n_experts] F32, only for choosing; or absent
  TensorView ids;        // [n_tokens, top_k] I32, written
  TensorView weights;    // [n_tokens, top_k] F32, written
  RouterScore score = RouterScore::kSoftmax;
  bool renormalise = false;
  float scale = 1.0F;
  int n_groups = 1;    // divides n_experts
  int top_groups = 1;  // 1 .. n_groups; the chosen groups hold at least top_k experts
};

/// Row r of a target = bias[e] + W_e x[r / rows_per_x], e = ids[r]: each row has the bits that
/// matmul() gives for that row alone with W_e (its segments included). The experts of one target
/// have one shape, dtype and layout. Only experts that occur in ids are read; of the others not
/// even the PackedMatrix is looked at.
struct ExpertTarget {
  std::span<const PackedMatrix> experts;  // [n_experts] of [n, k]
  TensorView bias = {};                   // [n_experts, n] F32 or absent; must not alias out
  TensorView out;                         // [n_rows, n] F32; must not alias x
};
struct ExpertMatmulArgs {
  static constexpr int kMaxTargets = 2;
  TensorView x;                 // [n_rows / rows_per_x, k] F32
  TensorView ids;               // [n_rows] I32, 0 .. n_experts - 1
  std::int64_t rows_per_x = 1;  // top_k where x is a token, 1 where it is a (token, choice)
  std::array<ExpertTarget, kMaxTargets> targets = {};  // of as many experts each
  int n_targets = 1;
  int segments = 1;  // as in MatmulArgs
};

/// out[t] = residual[t] + sum_j weights[t,j] y[t,j], j ascending (router order), each term one
/// fused multiply-add in f32, the residual (or 0) first.
struct ExpertSumArgs {
  TensorView y;              // [n_tokens, top_k, width] F32
  TensorView weights;        // [n_tokens, top_k] F32
  TensorView residual = {};  // [n_tokens, width] F32 or absent; may be out
  TensorView out;            // [n_tokens, width] F32; must not alias y
};

}  // namespace heddle
