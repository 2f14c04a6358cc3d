#pragma once
#include <optional>

#include "models/cache_need.h"
#include "models/checkpoint.h"
#include "models/layer_step.h"
#include "models/weight_binder.h"

namespace heddle {

/// Grouped-query softmax attention over paged KV: q, k, v = W x + b; norm and rotate q and k; store
/// k and v; out = residual + W_o attention(q) + b_o.
class SoftmaxAttention {
 public:
  /// `rope_table`: index into LayerStep::rope_tables, or -1 without rotation.
  static SoftmaxAttention bind(const SoftmaxAttentionSpec& spec,
                               const SoftmaxAttentionNames& names,
                               int hidden,
                               int rope_table,
                               WeightBinder& binder);
  static CacheNeed cache_need(const SoftmaxAttentionSpec& spec);
  static std::size_t workspace_bytes(const SoftmaxAttentionSpec& spec, std::int64_t n_tokens);
  void forward(LayerStep& step) const;

 private:
  void norm_heads(LayerStep& step, const TensorView& heads, const DeviceVector& weight) const;

  SoftmaxAttentionSpec spec_;
  int rope_table_ = -1;
  PackedMatrix q_, k_, v_, o_;
  DeviceVector q_bias_, k_bias_, v_bias_, o_bias_;
  DeviceVector q_norm_, k_norm_;
};

}  // namespace heddle
