// MiniCPM 4 and 4.1 (minicpm4: softmax attention, dense or InfLLM-V2) and MiniCPM-SALA
// (minicpm_sala: lightning layers among sparse ones without rotation). Both scale embeddings,
// branches and logits.

#include <fmt/format.h>

#include <cmath>
#include <string>

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

constexpr double kMost = 1e6;
constexpr double kRopeTheta = 10'000.0;

void read_scales(FolderDense& folder) {
  const ConfigJson& config = folder.config();
  DenseModel& model = folder.model;
  model.embedding_scale = static_cast<float>(real_or(config, "scale_emb", 1e-6, kMost, 1.0));
  const double base = real_or(config, "dim_model_base", 1e-6, kMost, model.hidden);
  model.logit_scale = static_cast<float>(base / model.hidden);
  const double depth = real_or(config, "scale_depth", 1e-6, kMost, std::sqrt(model.layers));
  const ResidualSpec residual{1.0F, static_cast<float>(depth / std::sqrt(model.layers)), false};
  model.softmax_residual = model.linear_residual = model.ffn_residual = residual;
}

int count_in(const ConfigJson& config, std::string_view key, int least, int otherwise) {
  return static_cast<int>(config.integer(key, {least, ModelLimits::kContext}).value_or(otherwise));
}

/// "sparse_config"; the local window is given in tokens, the query's own block not counted.
SparseSpec read_sparse(const ConfigJson& config) {
  const auto sparse = config.object("sparse_config");
  if (!sparse) return std::monostate();
  if (sparse->boolean("use_nope").value_or(false)) throw sparse->error("use_nope", "true", "false");
  SelectSpec spec;
  spec.block = count_in(*sparse, "block_size", 16, 64);
  if (spec.block % 16 != 0) {
    throw sparse->error("block_size", std::to_string(spec.block), "multiples of 16");
  }
  spec.stride = count_in(*sparse, "kernel_stride", 1, spec.block / 4);
  if (!is_stride_of(spec.stride, spec.block)) {
    throw sparse->error("kernel_stride", std::to_string(spec.stride),
                        fmt::format("powers of two that divide block_size = {}", spec.block));
  }
  spec.kernel = count_in(*sparse, "kernel_size", 1, 2 * spec.stride);
  if (spec.kernel % spec.stride != 0) {
    throw sparse->error("kernel_size", std::to_string(spec.kernel),
                        fmt::format("multiples of kernel_stride = {}", spec.stride));
  }
  const int window = count_in(*sparse, "window_size", 0, 2048) / spec.block;
  spec.init_blocks = count_in(*sparse, "init_blocks", 0, 1);
  spec.local_blocks = window + 1;
  const int topk = count_in(*sparse, "topk", 1, 64);
  spec.top_k = topk + window;
  if (spec.top_k < spec.init_blocks + spec.local_blocks) {
    throw sparse->error("topk", std::to_string(topk),
                        fmt::format("{} or more: the first and the own block are among them",
                                    spec.init_blocks + 1));
  }
  // All keys for a query that has fewer than dense_len of them.
  spec.dense_below = std::max(0, count_in(*sparse, "dense_len", 0, 8192) - 1);
  return spec;
}

/// Whether layer i is a lightning layer, as "mixer_types" says.
std::vector<bool> read_mixer_types(const ConfigJson& config, int layers) {
  const std::string_view key = "mixer_types";
  const std::string_view lightning = "lightning-attn";
  const std::string_view softmax = "minicpm4";
  const auto types = config.texts(key);
  if (!types) throw config.missing(key, fmt::format("{}, {} for each layer", softmax, lightning));
  if (types->size() != static_cast<std::size_t>(layers)) {
    throw config.error(key, fmt::format("{} entries", types->size()),
                       fmt::format("{}, one per layer", layers));
  }
  std::vector<bool> linear;
  for (const std::string& type : *types) {
    if (type != softmax && type != lightning) {
      throw config.error(key, quote_text(type), fmt::format("{}, {}", softmax, lightning));
    }
    linear.push_back(type == lightning);
  }
  return linear;
}

float read_lightning_scale(const ConfigJson& config, int head_dim) {
  const std::string text = config.text("lightning_scale").value_or("1/sqrt(d)");
  if (text == "1/sqrt(d)") return static_cast<float>(1.0 / std::sqrt(head_dim));
  if (text == "1/d") return static_cast<float>(1.0 / head_dim);
  if (text == "1") return 1.0F;
  throw config.error("lightning_scale", quote_text(text), "1/sqrt(d), 1/d, 1");
}

LinearAttentionSpec read_lightning(const FolderDense& folder) {
  const ConfigJson& config = folder.config();
  const DenseModel& model = folder.model;
  LinearAttentionSpec spec;
  spec.n_heads = folder.count("lightning_nh", ModelLimits::kHeads, model.q_heads);
  const int n_kv = folder.count("lightning_nkv", ModelLimits::kHeads, spec.n_heads);
  if (n_kv != spec.n_heads) {
    throw config.error("lightning_nkv", std::to_string(n_kv),
                       fmt::format("lightning_nh = {}", spec.n_heads));
  }
  spec.head_dim = folder.count("lightning_head_dim", ModelLimits::kHeadDim, model.head_dim);
  if (spec.head_dim % 2 != 0) {
    throw config.error("lightning_head_dim", std::to_string(spec.head_dim),
                       fmt::format("even numbers from 2 to {}", ModelLimits::kHeadDim));
  }
  spec.scale = read_lightning_scale(config, spec.head_dim);
  if (folder.flag("qk_norm", true)) spec.qk_norm = QkNormSpec{model.norm_eps, false};
  if (folder.flag("lightning_use_rope", true)) {
    spec.rope = read_folder_rope(config, spec.head_dim, model.context, kRopeTheta);
  }
  spec.norm_weight = folder.flag("use_output_norm", true);
  spec.norm_groups = spec.norm_weight ? 1 : 0;
  spec.norm_eps = model.norm_eps;
  if (folder.flag("use_output_gate", true)) spec.gate = OutputGate::kSigmoid;
  return spec;
}

}  // namespace

void read_minicpm4_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint, {.context = 32'768, .known_needs = {"sparse_config"}});
  read_scales(folder);
  folder.model.sparse = read_sparse(folder.config());
  folder.build();
}

void read_minicpm4_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "minicpm");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model =
      read_gguf_dense(fields, tensors, checkpoint, {.scales = true, .longrope_context = false});
  model.interleaved_rows = true;
  model.embedding_scale = static_cast<float>(real_or(fields, "embedding_scale", 1e-6, kMost, 1.0));
  // The logits are divided by it.
  model.logit_scale = static_cast<float>(1.0 / real_or(fields, "logit_scale", 1e-6, kMost, 1.0));
  const ResidualSpec residual{
      1.0F, static_cast<float>(real_or(fields, "residual_scale", 1e-6, kMost, 1.0)), false};
  model.softmax_residual = model.ffn_residual = residual;
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

void read_minicpm_sala_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint,
                     {.context = 524'288,
                      .rope_theta = kRopeTheta,
                      .known_needs = {"sparse_config", "mixer_types"}});
  read_scales(folder);
  DenseModel& model = folder.model;
  LinearNaming& naming = model.linear_naming;
  naming.gate = "self_attn.z_proj";
  naming.norm = "self_attn.o_norm";
  model.linear = read_lightning(folder);
  model.slopes = {alibi_slopes(model.linear->n_heads), false, 0};
  const std::vector<bool> linear = read_mixer_types(folder.config(), model.layers);
  for (int i = 0; i < model.layers; ++i) {
    if (linear[static_cast<std::size_t>(i)]) model.linear_layers.push_back(i);
  }
  model.sparse = read_sparse(folder.config());
  model.output_gate = folder.flag("attn_use_output_gate", true);
  if (!folder.flag("attn_use_rope", false)) model.rope = {};
  folder.build();
}

}  // namespace heddle
