#pragma once
#include "models/cache_need.h"
#include "models/checkpoint.h"
#include "models/layer_step.h"
#include "models/weight_binder.h"

namespace heddle {

/// Linear attention over a recurrent state: LinearAttentionSpec has the formula.
class LinearAttention {
 public:
  /// `rope_table`: index into LayerStep::rope_tables, or -1 without rotation.
  static LinearAttention bind(const LinearAttentionSpec& spec,
                              const LinearAttentionNames& names,
                              int hidden,
                              int rope_table,
                              WeightBinder& binder);
  static CacheNeed cache_need(const LinearAttentionSpec& spec);
  static std::size_t workspace_bytes(const LinearAttentionSpec& spec, const StepSize& size);
  static std::string describe(const LinearAttentionSpec& spec);
  void forward(LayerStep& step) const;

 private:
  struct Heads {
    TensorView q, k, v;
  };
  Heads project(LayerStep& step) const;
  void position(LayerStep& step, Heads& heads) const;
  void norm_and_gate(LayerStep& step, const TensorView& mixed) const;

  LinearAttentionSpec spec_;
  int rope_table_ = -1;
  PackedMatrix q_, k_, v_, o_, gate_;
  DeviceVector q_norm_, k_norm_, norm_, slopes_, theta_;
};

}  // namespace heddle
