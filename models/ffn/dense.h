#pragma once
#include <string>

#include "models/checkpoint.h"
#include "models/layer_step.h"
#include "models/weight_binder.h"

namespace heddle {

/// out = residual + W_down (act(W_gate x + b_gate) * (W_up x + b_up)) + b_down
class DenseFfn {
 public:
  static DenseFfn bind(const DenseFfnSpec& spec,
                       const DenseFfnNames& names,
                       int hidden,
                       WeightBinder& binder);
  static std::size_t workspace_bytes(const DenseFfnSpec& spec, const StepSize& size);
  static std::string describe(const DenseFfnSpec& spec);
  void forward(LayerStep& step) const;

 private:
  Activation activation_ = Activation::kSilu;
  PackedMatrix gate_, up_, down_;
  DeviceVector gate_bias_, up_bias_, down_bias_;
};

}  // namespace heddle
