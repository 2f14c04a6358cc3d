// Ring and Ling linear 2.0 (bailing_moe_linear): groups of linear attention and one softmax layer,
// experts chosen by sigmoid in groups, a shared expert.

#include <fmt/format.h>

#include <cmath>
#include <string>

#include "base/error.h"
#include "models/families/families.h"
#include "models/families/fields.h"
#include "models/families/folder_dense.h"
#include "models/quote_text.h"
#include "models/slopes.h"

namespace heddle {
namespace {

constexpr std::int64_t kMostGroups = 4096;

/// Softmax closes every group of `size` layers, and takes the ragged rest.
bool is_softmax(int layer, int layers, int size) {
  return (layer + 1) % size == 0 || layer >= layers / size * size;
}

LinearAttentionSpec read_linear(const FolderDense& folder) {
  const ConfigJson& config = folder.config();
  const DenseModel& model = folder.model;
  LinearAttentionSpec spec;
  spec.n_heads = model.q_heads;
  spec.head_dim = model.head_dim;
  spec.scale = model.attention_scale;
  if (folder.flag("linear_silu", false)) {
    spec.activation = spec.v_activation = Activation::kSilu;
  }
  if (model.qk_norm) spec.qk_norm = QkNormSpec{model.norm_eps, false};
  if (folder.flag("linear_rope", true)) spec.rope = model.rope;
  spec.norm_groups = folder.count("group_norm_size", kMostGroups, 1);
  if (spec.n_heads % spec.norm_groups != 0) {
    throw config.error("group_norm_size", std::to_string(spec.norm_groups),
                       fmt::format("divisors of num_attention_heads = {}", spec.n_heads));
  }
  spec.norm_eps = model.norm_eps;
  spec.gate = OutputGate::kSigmoid;
  return spec;
}

LinearNaming linear_naming() {
  LinearNaming naming;
  naming.rows = LinearNaming::Rows::kContiguous;
  naming.qkv = "attention.query_key_value";
  naming.o = "attention.dense";
  naming.gate = "attention.g_proj";
  naming.norm = "attention.g_norm";
  naming.q_norm = "attention.query_layernorm";
  naming.k_norm = "attention.key_layernorm";
  return naming;
}

MoeNaming moe_naming() {
  MoeNaming naming = qwen_experts();
  naming.choice_bias = "mlp.gate.expert_bias";
  naming.shared_gate_proj = "mlp.shared_experts.gate_proj";
  naming.shared_up_proj = "mlp.shared_experts.up_proj";
  naming.shared_down_proj = "mlp.shared_experts.down_proj";
  return naming;
}

void read_router(const FolderDense& folder, RouterSpec& router) {
  const ConfigJson& config = folder.config();
  const std::string score = config.text("score_function").value_or("sigmoid");
  if (score != "sigmoid" && score != "softmax") {
    throw config.error("score_function", quote_text(score), "sigmoid, softmax");
  }
  router.score = score == "sigmoid" ? RouterScore::kSigmoid : RouterScore::kSoftmax;
  router.choice_bias = folder.flag("moe_router_enable_expert_bias", true);
  router.renormalise = folder.flag("norm_topk_prob", true);
  router.scale = static_cast<float>(real_or(config, "routed_scaling_factor", 1e-6, 1e6, 1.0));
  router.n_groups = folder.count("n_group", router.n_experts, 1);
  if (router.n_experts % router.n_groups != 0) {
    throw config.error("n_group", std::to_string(router.n_groups),
                       fmt::format("divisors of num_experts = {}", router.n_experts));
  }
  router.top_groups = folder.count("topk_group", router.n_groups, router.n_groups);
  if (router.top_k > router.n_experts / router.n_groups * router.top_groups) {
    throw config.error("num_experts_per_tok", std::to_string(router.top_k),
                       "at most the experts of topk_group groups");
  }
}

void read_experts(FolderDense& folder) {
  MoeFfnSpec spec = folder.experts(
      "num_experts", folder.count("moe_intermediate_size", ModelLimits::kIntermediate));
  read_router(folder, spec.router);
  const auto n_shared = folder.config().integer("num_shared_experts", {0, 64}).value_or(0);
  if (n_shared > 0) {
    spec.shared = SharedExpert::kAdded;
    const int one = folder.count("moe_shared_expert_intermediate_size", ModelLimits::kIntermediate,
                                 spec.intermediate);
    spec.shared_intermediate = static_cast<int>(n_shared) * one;
  }
  folder.model.moe = spec;
  folder.model.moe_naming = moe_naming();
  const auto first =
      folder.config().integer("first_k_dense_replace", {0, folder.model.layers}).value_or(0);
  for (int i = 0; i < first; ++i) folder.model.dense_layers.push_back(i);
}

}  // namespace

void read_bailing_moe_linear_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint,
                     {.context = 131'072,
                      .rope_theta = 600'000.0,
                      .known_needs = {"num_experts"},
                      .embedding = "word_embeddings"});
  DenseModel& model = folder.model;
  DenseNaming& naming = folder.naming();
  model.fused_qkv = true;
  model.qk_norm = folder.flag("use_qk_norm", true);
  for (const std::string_view key : {"use_qkv_bias", "use_bias"}) {
    if (folder.flag(key, false)) throw folder.config().error(key, "true", "false");
  }
  naming.rename(DensePart::kQkv, "attention.query_key_value");
  naming.rename(DensePart::kO, "attention.dense");
  naming.rename(DensePart::kQNorm, "attention.query_layernorm");
  naming.rename(DensePart::kKNorm, "attention.key_layernorm");
  read_experts(folder);
  model.linear_naming = linear_naming();
  model.linear = read_linear(folder);
  const int size = folder.count("layer_group_size", ModelLimits::kLayers);
  // The published code counts layers from -1 here, other implementations from 0.
  const auto offset = folder.config().integer("slope_layer_offset", {0, 1}).value_or(1);
  model.slopes = {alibi_slopes(model.q_heads), true, static_cast<int>(offset)};
  for (int i = 0; i < model.layers; ++i) {
    if (!is_softmax(i, model.layers, size)) model.linear_layers.push_back(i);
  }
  folder.build();
}

}  // namespace heddle
