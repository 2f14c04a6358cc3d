#pragma once
// A decoder is a list of LayerSpec: what mixes tokens, what mixes channels, where the norms stand,
// how results join the stream. A hybrid is data, not a subclass. All sizes are validated before a
// spec exists.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "kernels/api/activation.h"
#include "kernels/api/key_blocks.h"
#include "kernels/api/moe.h"

namespace heddle {

/// Rotary embedding of one layer: per-pair frequencies, already scaled (linear, llama3, yarn,
/// longrope) for this checkpoint.
struct RopeSpec {
  int rotary_dim = 0;           // even, <= head_dim; 0: no rotation (NoPE)
  std::vector<float> inv_freq;  // [rotary_dim / 2]
  float scale = 1.0F;           // on cos and sin
  /// longrope: what replaces inv_freq where the context is longer than short_context tokens; empty
  /// otherwise. for_context() decides once, at load: a token's rotation never depends on the length
  /// of the request.
  std::vector<float> long_inv_freq;
  std::int64_t short_context = 0;
  friend bool operator==(const RopeSpec&, const RopeSpec&) = default;
};

/// RMS norm of q and k before activation and rotation: of each head on its own with one weight
/// [head_dim], or of all heads together with a weight [n_heads * head_dim].
struct QkNormSpec {
  float eps = 0.0F;
  bool all_heads = false;
};

/// Mixture of heads: kernels/api/route_heads.h.
struct HeadRouterSpec {
  int n_shared = 0;            // heads that are always on; the first ones
  int top_k = 0;               // of the others
  bool by_query_norm = false;  // no router weights: the largest |q|; gates are 1
};

/// Fixed block-sparse patterns: kernels/api/key_blocks.h.
struct PatternSpec {
  BlockPattern pattern = BlockPattern::kPower;
  int block = 0;  // tokens, a multiple of 16
  int step = 0;   // strided, dilated
  int local = 0;  // power
};

/// InfLLM-V2: block 0 .. init_blocks - 1, the local_blocks nearest and the best others, top_k in
/// all, chosen by means of `kernel` keys every `stride`; all keys for positions below dense_below.
struct SelectSpec {
  int block = 0, kernel = 0, stride = 0;
  int init_blocks = 0, local_blocks = 0, top_k = 0;
  int dense_below = 0;
};

/// Windows of keys must lie evenly in cache blocks of 16, 32 and 64 tokens.
constexpr bool is_stride_of(int stride, int block) {
  return stride > 0 && (stride & (stride - 1)) == 0 && block % stride == 0;
}

using SparseSpec = std::variant<std::monostate, PatternSpec, SelectSpec>;

/// Softmax attention with grouped queries over a paged cache; see kernels/api/attention.h.
struct SoftmaxAttentionSpec {
  int n_q_heads = 0;
  int n_kv_heads = 0;  // divides n_q_heads
  int head_dim = 0;
  float scale = 0.0F;        // 1/sqrt(head_dim) unless the checkpoint says otherwise
  int window = 0;            // keys that a token sees, itself included; 0: all
  int first_keys = 0;        // with a window: keys below this position are seen too
  float soft_cap = 0.0F;     // scores s become soft_cap * tanh(s / soft_cap); 0: none
  int log_scale = 0;         // q at position p times max(1, ln(p + 1) / ln(log_scale)); 0: none
  bool sinks = false;        // a learned score of each head without a value
  bool output_gate = false;  // heads' outputs times sigmoid(W x)
  std::optional<QkNormSpec> qk_norm;
  std::optional<HeadRouterSpec> heads;
  SparseSpec sparse;
  RopeSpec rope;
};

/// How the output of linear attention is scaled by W_g x, or by sigmoid of it.
enum class OutputGate { kNone, kMultiply, kSigmoid };

/// Linear attention with a constant decay for each head; see kernels/api/linear_attention.h.
/// q, k, v = W x; q and k: norm, activation, rotation or LRPE; v: activation; o = attention;
/// out = W_o (gate(x) * norm(o)).
struct LinearAttentionSpec {
  int n_heads = 0;
  int head_dim = 0;
  float scale = 0.0F;
  std::vector<float> slopes;                        // [n_heads]: the decay of a step is exp(-slope)
  Activation activation = Activation::kIdentity;    // of q and k
  Activation v_activation = Activation::kIdentity;  // of v
  std::optional<QkNormSpec> qk_norm;
  RopeSpec rope;
  bool lrpe = false;        // keys and queries of twice the width, after LRPE
  int norm_groups = 0;      // RMS norm of o in so many equal parts of all heads; 0: no norm
  bool norm_weight = true;  // [n_heads * head_dim]
  float norm_eps = 0.0F;
  OutputGate gate = OutputGate::kNone;
  int key_dim() const { return lrpe ? 2 * head_dim : head_dim; }
};

using MixerSpec = std::variant<SoftmaxAttentionSpec, LinearAttentionSpec>;

/// down(act(gate(x)) * up(x))
struct DenseFfnSpec {
  int intermediate = 0;
  Activation activation = Activation::kSilu;
};

/// Which experts a token goes to; see kernels/api/moe.h.
struct RouterSpec {
  int n_experts = 0;
  int top_k = 0;
  RouterScore score = RouterScore::kSoftmax;
  bool renormalise = false;
  float scale = 1.0F;
  int n_groups = 1, top_groups = 1;
  bool bias = false;         // on the logits
  bool choice_bias = false;  // on the scores, for choosing only
};

/// How an expert that every token visits joins the routed ones r: r + s; r + sigmoid(w x) s; or
/// (1 - c) r + c s, c = sigmoid(w x).
enum class SharedExpert { kNone, kAdded, kGated, kBlended };

/// Mixture of experts: sum over the chosen e of weight_e down_e(act(gate_e(x)) * up_e(x)).
struct MoeFfnSpec {
  RouterSpec router;
  int intermediate = 0;  // of one expert
  Activation activation = Activation::kSilu;
  float limit = 0.0F, up_add = 0.0F;  // kernels/api/activation.h
  bool bias = false;                  // on gate, up and down of every expert
  SharedExpert shared = SharedExpert::kNone;
  int shared_intermediate = 0;
};

using FfnSpec = std::variant<DenseFfnSpec, MoeFfnSpec>;

/// How a branch's result y joins the stream x, whose norm is n: x' = residual * (x or n) + branch *
/// y.
struct ResidualSpec {
  float residual = 1.0F;
  float branch = 1.0F;
  bool of_norm = false;  // n in place of x: MiniMax's post-norm form
  bool plain() const { return residual == 1.0F && branch == 1.0F && !of_norm; }
};

/// x += mixer(norm(x)); x += ffn(norm(x)), unless the residual rules say otherwise. With
/// post_norms: x += norm'(mixer(norm(x))), and the FFN likewise; without pre_norms, which then must
/// have post_norms, x += norm'(mixer(x)). Several mixers: their sum. A parallel layer: x +=
/// mixer(norm(x)) + ffn(norm(x)), one norm for both.
struct LayerSpec {
  std::vector<MixerSpec> mixers;  // at least one
  FfnSpec ffn;
  float norm_eps = 0.0F;
  bool norm_weights = true;
  bool pre_norms = true;
  bool post_norms = false;
  bool parallel = false;  // with pre-norms and plain residuals only
  ResidualSpec mixer_residual, ffn_residual;
};

}  // namespace heddle
