#pragma once
#include <string>
#include <vector>

#include "models/checkpoint.h"
#include "models/ffn/dense.h"
#include "models/layer_step.h"
#include "models/weight_binder.h"

namespace heddle {

/// out = residual + the experts that the router chooses, in router order, and the shared one:
/// MoeFfnSpec has the formula.
class MoeFfn {
 public:
  static MoeFfn bind(const MoeFfnSpec& spec,
                     const MoeFfnNames& names,
                     int hidden,
                     WeightBinder& binder);
  static std::size_t workspace_bytes(const MoeFfnSpec& spec, int hidden, const StepSize& size);
  static std::string describe(const MoeFfnSpec& spec);
  void forward(LayerStep& step) const;

 private:
  struct Choice {
    TensorView ids, weights;
  };
  Choice route(LayerStep& step) const;
  TensorView experts(LayerStep& step, const TensorView& ids) const;
  TensorView shared_gate(LayerStep& step) const;
  void add_shared(LayerStep& step, const Choice& choice, const TensorView& y) const;

  MoeFfnSpec spec_;
  int hidden_ = 0;
  PackedMatrix router_, shared_gate_;
  std::vector<PackedMatrix> gate_, up_, down_;  // per expert
  DeviceVector router_bias_, choice_bias_;
  DeviceVector gate_bias_, up_bias_, down_bias_;  // of all experts, one after the other
  DenseFfn shared_;
};

}  // namespace heddle
