#pragma once
#include <optional>

#include "models/cache_need.h"
#include "models/checkpoint.h"
#include "models/layer_step.h"
#include "models/weight_binder.h"

namespace heddle {

/// Grouped-query softmax attention over paged KV: q, k, v = W x; rotate q and k; store k and v;
/// stream += W_o attention(q).
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
  int n_q_heads_ = 0;
  int n_kv_heads_ = 0;
  int head_dim_ = 0;
  float scale_ = 0.0F;
  int rope_table_ = -1;
  PackedMatrix q_, k_, v_, o_;
};

}  // namespace heddle
