#pragma once
#include "models/cache_need.h"
#include "models/checkpoint.h"
#include "models/layer_step.h"
#include "models/weight_binder.h"

namespace heddle {

/// Grouped-query softmax attention over paged KV: q, k, v = W x + b; norm and rotate q and k; store
/// k and v; out = residual + W_o attention(q) + b_o. SoftmaxAttentionSpec has what else may be.
class SoftmaxAttention {
 public:
  /// `rope_table`: index into LayerStep::rope_tables, or -1 without rotation.
  static SoftmaxAttention bind(const SoftmaxAttentionSpec& spec,
                               const SoftmaxAttentionNames& names,
                               int hidden,
                               int rope_table,
                               WeightBinder& binder);
  static CacheNeed cache_need(const SoftmaxAttentionSpec& spec);
  static std::size_t workspace_bytes(const SoftmaxAttentionSpec& spec, const StepSize& size);
  static std::int64_t keys_seen(const SoftmaxAttentionSpec& spec, std::int64_t n_keys);
  static std::string describe(const SoftmaxAttentionSpec& spec);
  void forward(LayerStep& step) const;

 private:
  struct Heads {
    TensorView q, k, v;
  };
  /// What the head router says of the step; absent without one.
  struct HeadChoice {
    TensorView mask, gates;
  };
  Heads project(LayerStep& step) const;
  HeadChoice route(LayerStep& step, const TensorView& q) const;
  KeyBlocks key_blocks(LayerStep& step, const Heads& heads) const;
  void gate(LayerStep& step, const HeadChoice& choice, const TensorView& mixed) const;

  SoftmaxAttentionSpec spec_;
  int rope_table_ = -1;
  PackedMatrix q_, k_, v_, o_, gate_;
  PackedMatrix routed_heads_, shared_heads_, head_stages_;
  DeviceVector q_bias_, k_bias_, v_bias_, o_bias_;
  DeviceVector q_norm_, k_norm_, sinks_;
};

}  // namespace heddle
