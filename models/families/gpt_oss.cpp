// gpt-oss: sinks, windows in every second layer, experts in MXFP4 with a clamped gate.

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "models/families/families.h"
#include "models/families/fields.h"
#include "models/families/folder_dense.h"
#include "models/families/gguf_dense.h"
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

/// Completes experts of which the sizes are known.
MoeFfnSpec clamped_experts(MoeFfnSpec spec, float limit) {
  spec.router.score = RouterScore::kChosen;
  spec.router.bias = true;
  spec.activation = Activation::kQuickGelu;
  spec.limit = limit;
  spec.up_add = 1.0F;
  spec.bias = true;
  return spec;
}

std::vector<int> windows_in_turn(int layers, int window) {
  std::vector<int> windows;
  for (int i = 0; i < layers; ++i) windows.push_back(i % 2 == 0 ? window : 0);
  return windows;
}

constexpr float kLimit = 7.0F;

}  // namespace

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
  const double limit = real_or(folder.config(), "swiglu_limit", 1e-3, 1e6, kLimit);
  model.moe = clamped_experts(folder.experts("num_local_experts", model.intermediate),
                              static_cast<float>(limit));
  model.moe_naming = naming();
  const int window = folder.count("sliding_window", ModelLimits::kContext, 128);
  model.windows = folder.windows_by_layer_types(window);
  if (model.windows.empty()) model.windows = windows_in_turn(model.layers, window);
  folder.build();
}

void read_gpt_oss_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "gpt-oss");
  TensorCheck tensors(*checkpoint.weights);
  // This format has no key for yarn's "truncate", which the published models switch off.
  DenseModel model =
      read_gguf_dense(fields, tensors, checkpoint, {.experts = true, .yarn_truncates = false});
  model.qkv_bias = model.o_bias = model.sinks = true;
  read_gguf_experts(fields, false, model);
  model.moe = clamped_experts(*model.moe, kLimit);
  model.windows = windows_in_turn(model.layers, read_gguf_window(fields));
  DenseNaming naming = DenseNaming::gguf();
  naming.rename(DensePart::kFfnNorm, "post_attention_norm");
  build_dense(model, naming, tensors, checkpoint);
}

}  // namespace heddle
