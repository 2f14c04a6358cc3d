// MiniMax-Text-01 and M1: lightning and softmax layers, post-norm residuals with factors, experts.
// Families minimax_text_01 and minimax_m1 (the names of the published checkpoints) and minimax (the
// names of transformers' class; the tensors are the same).

#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "models/families/families.h"
#include "models/families/fields.h"
#include "models/families/folder_dense.h"
#include "models/families/folder_rope.h"
#include "models/families/gguf_dense.h"
#include "models/quote_text.h"
#include "models/slopes.h"

namespace heddle {
namespace {

constexpr double kRopeTheta = 1e6;  // of transformers' class

/// The two vocabularies of the same facts.
struct MiniMaxKeys {
  std::string linear_alpha, linear_beta, softmax_alpha, softmax_beta, ffn_alpha, ffn_beta;
};

MiniMaxKeys original_keys() {
  const auto key = [](const char* what, const char* end) {
    return fmt::format("layernorm_{}_{}", what, end);
  };
  return {key("linear_attention", "alpha"),
          key("linear_attention", "beta"),
          key("full_attention", "alpha"),
          key("full_attention", "beta"),
          key("mlp", "alpha"),
          key("mlp", "beta")};
}

MiniMaxKeys transformers_keys() {
  return {"linear_attn_alpha_factor", "linear_attn_beta_factor", "full_attn_alpha_factor",
          "full_attn_beta_factor",    "mlp_alpha_factor",        "mlp_beta_factor"};
}

ResidualSpec read_residual(const ConfigJson& config,
                           const std::string& alpha,
                           const std::string& beta,
                           bool of_norm) {
  constexpr double kMost = 1e6;
  return {static_cast<float>(real_or(config, alpha, 0.0, kMost, 1.0)),
          static_cast<float>(real_or(config, beta, 0.0, kMost, 1.0)), of_norm};
}

Error wrong_length(const ConfigJson& config, std::string_view key, std::size_t n, int layers) {
  return config.error(key, fmt::format("{} entries", n), fmt::format("{}, one per layer", layers));
}

/// "attn_type_list": 0 linear, 1 softmax.
std::vector<bool> read_type_list(const ConfigJson& config, int layers) {
  const std::string_view key = "attn_type_list";
  const auto types = config.integers(key, {0, 1});
  if (!types) throw config.missing(key, "an array of 0 (linear) and 1 (softmax)");
  if (types->size() != static_cast<std::size_t>(layers)) {
    throw wrong_length(config, key, types->size(), layers);
  }
  std::vector<bool> linear;
  for (const std::int64_t type : *types) linear.push_back(type == 0);
  return linear;
}

/// "layer_types"; absent: full attention first, then in turn.
std::vector<bool> read_layer_types(const ConfigJson& config, int layers) {
  const std::string_view key = "layer_types";
  std::vector<bool> linear;
  const auto types = config.texts(key);
  if (!types) {
    for (int i = 0; i < layers; ++i) linear.push_back(i % 2 == 1);
    return linear;
  }
  if (types->size() != static_cast<std::size_t>(layers)) {
    throw wrong_length(config, key, types->size(), layers);
  }
  for (const std::string& type : *types) {
    if (type != "linear_attention" && type != "full_attention") {
      throw config.error(key, quote_text(type), "linear_attention, full_attention");
    }
    linear.push_back(type == "linear_attention");
  }
  return linear;
}

/// "rotary_dim"; else "partial_rotary_factor"; else the published 64, or the whole of a smaller
/// head.
RopeSpec read_rope(const FolderDense& folder) {
  const ConfigJson& config = folder.config();
  const int head_dim = folder.model.head_dim;
  const std::string_view factor = "partial_rotary_factor";
  const auto parameters = config.object("rope_parameters");
  const bool partial = config.has(factor) || (parameters && parameters->has(factor));
  const int published = partial ? folder.model.rope.rotary_dim : std::min(64, head_dim);
  const int dim = count_or(config, "rotary_dim", head_dim, published);
  if (partial && dim != folder.model.rope.rotary_dim) {
    throw config.error("rotary_dim", std::to_string(dim),
                       fmt::format("{}, as partial_rotary_factor says", published));
  }
  if (dim % 2 != 0) {
    throw config.error("rotary_dim", std::to_string(dim),
                       fmt::format("even numbers from 2 to {}", head_dim));
  }
  return partial ? folder.model.rope
                 : read_folder_rope(config, dim, folder.model.context, kRopeTheta);
}

LinearAttentionSpec linear_spec(const DenseModel& model, float eps) {
  LinearAttentionSpec spec;
  spec.n_heads = model.q_heads;
  spec.head_dim = model.head_dim;
  spec.scale = 1.0F;
  spec.activation = spec.v_activation = Activation::kSilu;
  spec.norm_groups = 1;
  spec.norm_eps = eps;
  spec.gate = OutputGate::kSigmoid;
  return spec;
}

LinearNaming linear_naming() {
  LinearNaming naming;
  naming.rows = LinearNaming::Rows::kByHead;
  naming.qkv = "self_attn.qkv_proj";
  naming.o = "self_attn.out_proj";
  naming.gate = "self_attn.output_gate";
  naming.norm = "self_attn.norm";
  return naming;
}

/// "shared_intermediate_size": a number or a list of one; 0: none.
int shared_intermediate(const ConfigJson& config) {
  const auto values =
      config.one_or_more_integers("shared_intermediate_size", {0, ModelLimits::kIntermediate});
  if (!values || values->empty()) return 0;
  for (const std::int64_t value : *values) {
    if (value != values->front()) {
      throw config.error("shared_intermediate_size", "different sizes", "one for all layers");
    }
  }
  return static_cast<int>(values->front());
}

MoeFfnSpec read_experts(const FolderDense& folder) {
  MoeFfnSpec spec = folder.experts("num_local_experts", folder.model.intermediate);
  spec.router.renormalise = true;
  spec.shared_intermediate = shared_intermediate(folder.config());
  if (spec.shared_intermediate == 0) return spec;
  const auto mode = folder.config().text("shared_moe_mode").value_or("sigmoid");
  if (mode != "sigmoid")
    throw folder.config().error("shared_moe_mode", quote_text(mode), "sigmoid");
  spec.shared = SharedExpert::kBlended;
  return spec;
}

void read(FolderDense& folder,
          const std::vector<bool>& linear,
          const MiniMaxKeys& keys,
          bool post_norm) {
  const ConfigJson& config = folder.config();
  DenseModel& model = folder.model;
  model.rope = read_rope(folder);
  model.softmax_residual = read_residual(config, keys.softmax_alpha, keys.softmax_beta, post_norm);
  model.linear_residual = read_residual(config, keys.linear_alpha, keys.linear_beta, post_norm);
  model.ffn_residual = read_residual(config, keys.ffn_alpha, keys.ffn_beta, post_norm);
  model.moe = read_experts(folder);
  model.moe_naming = mixtral_experts();
  model.linear_naming = linear_naming();
  const double eps = config.real("linear_norm_eps").value_or(model.norm_eps);
  model.linear = linear_spec(model, norm_eps(config, "linear_norm_eps", eps));
  model.slopes = {alibi_slopes(model.q_heads), true, 0};
  for (int i = 0; i < model.layers; ++i) {
    if (!linear[static_cast<std::size_t>(i)]) continue;
    model.linear_layers.push_back(i);
    // decay tables that converters leave in the file; ours are computed
    for (const std::string_view table_name :
         {"slope_rate", "query_decay", "key_decay", "diagonal_decay"}) {
      folder.tensors().harmless(fmt::format("model.layers.{}.self_attn.{}", i, table_name));
    }
  }
  folder.build();
}

FolderDefaults defaults() {
  FolderDefaults d;
  d.context = 10'240'000;
  d.norm_eps = 1e-5;
  d.rope_theta = kRopeTheta;
  d.known_needs = {"num_local_experts", "attn_type_list"};
  return d;
}

}  // namespace

void read_minimax_original_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint, defaults());
  read(folder, read_type_list(folder.config(), folder.model.layers), original_keys(),
       folder.flag("postnorm", false));
}

void read_minimax_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint, defaults());
  read(folder, read_layer_types(folder.config(), folder.model.layers), transformers_keys(), true);
}

void read_minimax_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "minimax-01");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model =
      read_gguf_dense(fields, tensors, checkpoint, {.experts = true, .scales = true});
  read_gguf_experts(fields, true, model);
  const double alpha = real_or(fields, "residual_scale", 0.0, 1e6, 1.0);
  const ResidualSpec residual{static_cast<float>(alpha), 1.0F, true};
  model.softmax_residual = model.linear_residual = model.ffn_residual = residual;
  model.linear_naming = linear_naming();
  model.linear_naming.qkv = "attn_qkv";
  model.linear_naming.o = "attn_output";
  model.linear_naming.gate = "attn_gate";
  model.linear_naming.norm = "attn_norm_2";
  const int interval = require_count(fields, "full_attention_interval", ModelLimits::kLayers);
  model.linear = linear_spec(model, model.norm_eps);
  model.slopes = {alibi_slopes(model.q_heads), true, 0};
  for (int i = 0; i < model.layers; ++i) {
    if ((i + 1) % interval != 0) model.linear_layers.push_back(i);
  }
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

}  // namespace heddle
