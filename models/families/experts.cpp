// Families of Llama's shape whose feed-forward layers are mixtures of experts: mixtral, olmoe,
// qwen2_moe, qwen3_moe.

#include <algorithm>
#include <string>

#include "models/families/families.h"
#include "models/families/fields.h"
#include "models/families/folder_dense.h"
#include "models/families/gguf_dense.h"
#include "models/families/limits.h"

namespace heddle {
namespace {

/// Qwen: layer i has experts where "decoder_sparse_step" divides i + 1, unless "mlp_only_layers"
/// names it.
std::vector<int> read_dense_layers(const FolderDense& folder) {
  const ConfigJson& config = folder.config();
  const int step = folder.count("decoder_sparse_step", ModelLimits::kLayers, 1);
  std::vector<int> dense;
  for (int i = 0; i < folder.model.layers; ++i) {
    if ((i + 1) % step != 0) dense.push_back(i);
  }
  const auto named = config.integers("mlp_only_layers", {0, folder.model.layers - 1});
  if (named) dense.insert(dense.end(), named->begin(), named->end());
  std::sort(dense.begin(), dense.end());
  return dense;
}

void read_qwen_experts(FolderDense& folder, int usual_intermediate) {
  MoeFfnSpec spec = folder.experts(
      "num_experts",
      folder.count("moe_intermediate_size", ModelLimits::kIntermediate, usual_intermediate));
  spec.router.renormalise = folder.flag("norm_topk_prob", false);
  folder.model.moe = spec;
  folder.model.moe_naming = qwen_experts();
  folder.model.dense_layers = read_dense_layers(folder);
}

}  // namespace

void read_mixtral_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint,
                     {.kv_heads = 8,
                      .context = 131'072,
                      .norm_eps = 1e-5,
                      .rope_theta = 1e6,
                      .known_needs = {"num_local_experts"}});
  MoeFfnSpec spec = folder.experts("num_local_experts", folder.model.intermediate);
  spec.router.renormalise = true;
  folder.model.moe = spec;
  folder.model.moe_naming = mixtral_experts();
  folder.window_everywhere(0);
  folder.build();
}

void read_olmoe_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint,
                     {.context = 4096, .norm_eps = 1e-5, .known_needs = {"num_experts"}});
  if (const auto clip = config.asked("clip_qkv")) throw config.error("clip_qkv", *clip, "null");
  folder.model.qkv_bias = folder.model.o_bias = folder.flag("attention_bias", false);
  folder.model.qk_norm = folder.model.qk_norm_all_heads = true;
  MoeFfnSpec spec = folder.experts("num_experts", folder.model.intermediate);
  spec.router.renormalise = folder.flag("norm_topk_prob", false);
  folder.model.moe = spec;
  folder.model.moe_naming = qwen_experts();
  folder.build();
}

void read_qwen2_moe_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint,
                     {.kv_heads = 16, .context = 32'768, .known_needs = {"num_experts"}});
  folder.model.qkv_bias = folder.flag("qkv_bias", true);
  folder.window_from_layer();
  read_qwen_experts(folder, 1408);
  folder.model.moe->shared = SharedExpert::kGated;
  folder.model.moe->shared_intermediate =
      folder.count("shared_expert_intermediate_size", ModelLimits::kIntermediate, 5632);
  folder.build();
}

void read_qwen3_moe_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint,
                     {.kv_heads = 4, .context = 32'768, .known_needs = {"num_experts"}});
  folder.model.qk_norm = true;
  folder.model.qkv_bias = folder.model.o_bias = folder.flag("attention_bias", false);
  folder.window_from_layer();
  read_qwen_experts(folder, 768);
  folder.build();
}

void read_olmoe_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "olmoe");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model = read_gguf_dense(fields, tensors, checkpoint, {.experts = true});
  model.qk_norm = model.qk_norm_all_heads = true;
  read_gguf_experts(fields, false, model);
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

void read_qwen2_moe_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "qwen2moe");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model = read_gguf_dense(fields, tensors, checkpoint, {.experts = true});
  model.qkv_bias = true;
  read_gguf_experts(fields, false, model);
  model.moe->shared = SharedExpert::kGated;
  model.moe->shared_intermediate = count_or(fields, "expert_shared_feed_forward_length",
                                            ModelLimits::kIntermediate, model.intermediate);
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

void read_qwen3_moe_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "qwen3moe");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model = read_gguf_dense(fields, tensors, checkpoint, {.experts = true});
  model.qk_norm = true;
  read_gguf_experts(fields, true, model);
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

}  // namespace heddle
