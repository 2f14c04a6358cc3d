#pragma once
// A decoder is a list of LayerSpec: what mixes tokens, what mixes channels, where the norms stand.
// A hybrid is data, not a subclass. All sizes are validated before a spec exists.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "kernels/api/activation.h"

namespace heddle {

/// Rotary embedding of one layer: per-pair frequencies, already scaled (llama3 and later yarn,
/// longrope) for this checkpoint.
struct RopeSpec {
  int rotary_dim = 0;           // even, <= head_dim; 0: no rotation (NoPE)
  std::vector<float> inv_freq;  // [rotary_dim / 2]
  float scale = 1.0F;           // on cos and sin
  friend bool operator==(const RopeSpec&, const RopeSpec&) = default;
};

/// Softmax attention with grouped queries over a paged cache.
struct SoftmaxAttentionSpec {
  int n_q_heads = 0;
  int n_kv_heads = 0;  // divides n_q_heads
  int head_dim = 0;
  float scale = 0.0F;  // 1/sqrt(head_dim) unless the checkpoint says otherwise
  RopeSpec rope;
};

/// down(act(gate(x)) * up(x))
struct DenseFfnSpec {
  int intermediate = 0;
  Activation activation = Activation::kSilu;
};

using MixerSpec = std::variant<SoftmaxAttentionSpec>;
using FfnSpec = std::variant<DenseFfnSpec>;

/// x += mixer(norm(x)); x += ffn(norm(x)).
struct LayerSpec {
  MixerSpec mixer;
  FfnSpec ffn;
  float norm_eps = 0.0F;
};

}  // namespace heddle
