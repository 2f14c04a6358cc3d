#pragma once
// A decoder is a list of LayerSpec: what mixes tokens, what mixes channels, where the norms stand.
// A hybrid is data, not a subclass. All sizes are validated before a spec exists.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "kernels/api/activation.h"

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

/// Softmax attention with grouped queries over a paged cache; see kernels/api/attention.h.
struct SoftmaxAttentionSpec {
  int n_q_heads = 0;
  int n_kv_heads = 0;  // divides n_q_heads
  int head_dim = 0;
  float scale = 0.0F;     // 1/sqrt(head_dim) unless the checkpoint says otherwise
  int window = 0;         // keys that a token sees, itself included; 0: all
  float soft_cap = 0.0F;  // scores s become soft_cap * tanh(s / soft_cap); 0: none
  bool qk_norm = false;   // RMS norm of each head of q and k, before the rotation
  float qk_norm_eps = 0.0F;
  RopeSpec rope;
};

/// down(act(gate(x)) * up(x))
struct DenseFfnSpec {
  int intermediate = 0;
  Activation activation = Activation::kSilu;
};

using MixerSpec = std::variant<SoftmaxAttentionSpec>;
using FfnSpec = std::variant<DenseFfnSpec>;

/// x += mixer(norm(x)); x += ffn(norm(x)). With post_norms: x += norm'(mixer(norm(x))), and the FFN
/// likewise.
struct LayerSpec {
  MixerSpec mixer;
  FfnSpec ffn;
  float norm_eps = 0.0F;
  bool post_norms = false;
};

}  // namespace heddle
