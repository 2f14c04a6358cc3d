// gpt-oss: sinks, windows in every second layer, experts in MXFP4 with a clamped gate.

#include <cmath>
#include <memory>
#include <utility>

#include "models/families/families.h"
#include "models/families/fields.h"
#include "models/families/folder_dense.h"
#include "models/mxfp4_weights.h"

namespace heddle {
namespace {

MoeNaming naming() {
  MoeNaming naming;
  naming.router = "mlp.router";
  naming.stacked = true;
  naming.weight_suffix = "";
  naming.bias_suffix = "_bias";
  naming.gate_up = "mlp.experts.gate_up_proj";
  naming.down = "mlp.experts.down_proj";
  return naming;
}

}  // namespace

MoeFfnSpec gpt_oss_experts(int n_experts, int top_k, int intermediate, float limit) {
  MoeFfnSpec spec;
  spec.router.n_experts = n_experts;
  spec.router.top_k = top_k;
  spec.router.score = RouterScore::kChosen;
  spec.router.bias = true;
  spec.intermediate = intermediate;
  spec.activation = Activation::kQuickGelu;
  spec.limit = limit;
  spec.up_add = 1.0F;
  spec.bias = true;
  return spec;
}

void read_gpt_oss_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  checkpoint.weights = std::make_unique<Mxfp4Weights>(std::move(checkpoint.weights));
  FolderDense folder(config, checkpoint,
                     {.head_dim = 64,
                      .kv_heads = 8,
                      .context = 131'072,
                      .norm_eps = 1e-5,
                      .rope_theta = 150'000.0,
                      .known_needs = {"num_local_experts"},
                      .mxfp4 = true});
  DenseModel& model = folder.model;
  model.qkv_bias = model.o_bias = folder.flag("attention_bias", true);
  model.sinks = true;
  const MoeFfnSpec chosen = folder.experts("num_local_experts", model.intermediate);
  const double limit = real_or(folder.config(), "swiglu_limit", 1e-3, 1e6, 7.0);
  model.moe = gpt_oss_experts(chosen.router.n_experts, chosen.router.top_k, model.intermediate,
                              static_cast<float>(limit));
  model.moe_naming = naming();
  const int window = folder.count("sliding_window", ModelLimits::kContext, 128);
  model.windows = folder.windows_by_layer_types(window);
  if (model.windows.empty()) {
    for (int i = 0; i < model.layers; ++i) model.windows.push_back(i % 2 == 0 ? window : 0);
  }
  folder.build();
}

}  // namespace heddle
