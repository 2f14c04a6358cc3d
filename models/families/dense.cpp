#include "models/families/dense.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "models/rope_scaling.h"

namespace heddle {
namespace {

struct PartNames {
  DensePart part;
  std::string_view gguf, folder, folder_post_norms;
};

// In GGUF's names "post_attention_norm" follows attention; in a folder with two norms per layer
// "post_attention_layernorm" stands before the FFN.
constexpr std::array<PartNames, 19> kNames = {{
    {DensePart::kEmbedding, "token_embd", "embed_tokens", "embed_tokens"},
    {DensePart::kFinalNorm, "output_norm", "norm", "norm"},
    {DensePart::kHead, "output", "lm_head", "lm_head"},
    {DensePart::kMixerNorm, "attn_norm", "input_layernorm", "input_layernorm"},
    {DensePart::kMixerPostNorm, "post_attention_norm", "", "post_attention_layernorm"},
    {DensePart::kFfnNorm, "ffn_norm", "post_attention_layernorm", "pre_feedforward_layernorm"},
    {DensePart::kFfnPostNorm, "post_ffw_norm", "", "post_feedforward_layernorm"},
    {DensePart::kQ, "attn_q", "self_attn.q_proj", "self_attn.q_proj"},
    {DensePart::kK, "attn_k", "self_attn.k_proj", "self_attn.k_proj"},
    {DensePart::kV, "attn_v", "self_attn.v_proj", "self_attn.v_proj"},
    {DensePart::kQkv, "attn_qkv", "self_attn.qkv_proj", "self_attn.qkv_proj"},
    {DensePart::kO, "attn_output", "self_attn.o_proj", "self_attn.o_proj"},
    {DensePart::kOutputGate, "attn_gate", "self_attn.o_gate", "self_attn.o_gate"},
    {DensePart::kQNorm, "attn_q_norm", "self_attn.q_norm", "self_attn.q_norm"},
    {DensePart::kKNorm, "attn_k_norm", "self_attn.k_norm", "self_attn.k_norm"},
    {DensePart::kGate, "ffn_gate", "mlp.gate_proj", "mlp.gate_proj"},
    {DensePart::kUp, "ffn_up", "mlp.up_proj", "mlp.up_proj"},
    {DensePart::kGateUp, "ffn_up", "mlp.gate_up_proj", "mlp.gate_up_proj"},
    {DensePart::kDown, "ffn_down", "mlp.down_proj", "mlp.down_proj"},
}};

/// Packed rows in NeoX order, from rows stored for interleaved rotation.
std::vector<std::int32_t> neox_order(int heads, int head_dim, int rotary_dim) {
  std::vector<std::int32_t> order;
  order.reserve(static_cast<std::size_t>(heads) * static_cast<std::size_t>(head_dim));
  for (int h = 0; h < heads; ++h) {
    const std::int32_t first = h * head_dim;
    for (int j = 0; j < 2; ++j) {
      for (int i = 0; i < rotary_dim / 2; ++i) order.push_back(first + 2 * i + j);
    }
    for (int d = rotary_dim; d < head_dim; ++d) order.push_back(first + d);
  }
  return order;
}

bool contains(const std::vector<int>& layers, int layer) {
  return std::binary_search(layers.begin(), layers.end(), layer);
}

bool has_experts(const DenseModel& model, int layer) {
  return model.moe && !contains(model.dense_layers, layer);
}

bool is_linear(const DenseModel& model, int layer) {
  return model.linear && contains(model.linear_layers, layer);
}

/// Resolves the tensors of one layer.
class LayerReader {
 public:
  LayerReader(const DenseModel& model, const DenseNaming& naming, TensorCheck& tensors, int layer)
      : model_(model), naming_(naming), tensors_(tensors), layer_(layer) {}

  LayerNames read() {
    LayerNames names;
    names.mixer_norm = norm(DensePart::kMixerNorm, model_.hidden);
    if (is_linear(model_, layer_)) {
      names.mixers.emplace_back(linear_names(*model_.linear, model_.hidden, model_.linear_naming,
                                             naming_.layer(layer_), tensors_));
    } else {
      names.mixers.emplace_back(attention());
    }
    names.ffn_norm = norm(DensePart::kFfnNorm, model_.hidden);
    if (has_experts(model_, layer_)) {
      names.ffn =
          moe_names(*model_.moe, model_.hidden, model_.moe_naming, naming_.layer(layer_), tensors_);
    } else {
      names.ffn = ffn();
    }
    if (model_.post_norms) {
      names.mixer_post_norm = norm(DensePart::kMixerPostNorm, model_.hidden);
      names.ffn_post_norm = norm(DensePart::kFfnPostNorm, model_.hidden);
    }
    // Tables that old converters and old checkpoints carry; ours are computed from the config.
    for (const std::string_view table :
         {"blk.{}.attn_rot_embd.weight", "blk.{}.attn_rot_embd", "blk.{}.attn.rotary_emb.inv_freq",
          "model.layers.{}.self_attn.rotary_emb.inv_freq"}) {
      tensors_.harmless(fmt::format(fmt::runtime(table), layer_));
    }
    return names;
  }

 private:
  std::string name(DensePart part, std::string_view suffix = "weight") const {
    return naming_.name(part, layer_, suffix);
  }
  TensorPart norm(DensePart part, std::int64_t n) {
    return tensors_.vector(name(part), n, model_.norm_add);
  }
  TensorPart bias(bool wanted, DensePart part, std::int64_t n) {
    return wanted ? tensors_.vector(name(part, "bias"), n) : TensorPart();
  }
  void reorder(TensorPart& part, int heads) const {
    if (!model_.interleaved_rows || part.absent()) return;
    part.row_order = neox_order(heads, model_.head_dim, model_.rope.rotary_dim);
  }

  SoftmaxAttentionNames attention() {
    const std::int64_t q_rows = std::int64_t{model_.q_heads} * model_.head_dim;
    const std::int64_t kv_rows = std::int64_t{model_.kv_heads} * model_.head_dim;
    SoftmaxAttentionNames names;
    if (model_.fused_qkv) {
      const std::int64_t all = q_rows + 2 * kv_rows;
      const std::string fused = name(DensePart::kQkv);
      names.q = tensors_.rows(fused, all, model_.hidden, 0, q_rows);
      names.k = tensors_.rows(fused, all, model_.hidden, q_rows, kv_rows);
      names.v = tensors_.rows(fused, all, model_.hidden, q_rows + kv_rows, kv_rows);
    } else {
      names.q = tensors_.matrix(name(DensePart::kQ), q_rows, model_.hidden);
      names.k = tensors_.matrix(name(DensePart::kK), kv_rows, model_.hidden);
      names.v = tensors_.matrix(name(DensePart::kV), kv_rows, model_.hidden);
      names.q_bias = bias(model_.qkv_bias, DensePart::kQ, q_rows);
      names.k_bias = bias(model_.qkv_bias, DensePart::kK, kv_rows);
      names.v_bias = bias(model_.qkv_bias, DensePart::kV, kv_rows);
    }
    reorder(names.q, model_.q_heads);
    reorder(names.k, model_.kv_heads);
    reorder(names.q_bias, model_.q_heads);
    reorder(names.k_bias, model_.kv_heads);
    names.o = tensors_.matrix(name(DensePart::kO), model_.hidden, q_rows);
    names.o_bias = bias(model_.o_bias, DensePart::kO, model_.hidden);
    if (model_.qk_norm) {
      const bool all = model_.qk_norm_all_heads;
      names.q_norm = norm(DensePart::kQNorm, all ? q_rows : model_.head_dim);
      names.k_norm = norm(DensePart::kKNorm, all ? kv_rows : model_.head_dim);
    }
    if (model_.output_gate) {
      names.gate = tensors_.matrix(name(DensePart::kOutputGate), q_rows, model_.hidden);
    }
    if (model_.sinks) {
      names.sinks = tensors_.vector(naming_.sinks(layer_), model_.q_heads);
    }
    return names;
  }

  DenseFfnNames ffn() {
    const std::int64_t width = model_.intermediate;
    DenseFfnNames names;
    if (model_.fused_gate_up) {
      const std::string fused = name(DensePart::kGateUp);
      names.gate = tensors_.rows(fused, 2 * width, model_.hidden, 0, width);
      names.up = tensors_.rows(fused, 2 * width, model_.hidden, width, width);
    } else {
      names.gate = tensors_.matrix(name(DensePart::kGate), width, model_.hidden);
      names.up = tensors_.matrix(name(DensePart::kUp), width, model_.hidden);
      names.gate_bias = bias(model_.ffn_bias, DensePart::kGate, width);
      names.up_bias = bias(model_.ffn_bias, DensePart::kUp, width);
    }
    names.down = tensors_.matrix(name(DensePart::kDown), model_.hidden, width);
    names.down_bias = bias(model_.ffn_bias, DensePart::kDown, model_.hidden);
    return names;
  }

  const DenseModel& model_;
  const DenseNaming& naming_;
  TensorCheck& tensors_;
  int layer_;
};

SoftmaxAttentionSpec softmax_spec(const DenseModel& model, int index) {
  const int window = model.windows.empty() ? 0 : model.windows[static_cast<std::size_t>(index)];
  SoftmaxAttentionSpec attention;
  attention.n_q_heads = model.q_heads;
  attention.n_kv_heads = model.kv_heads;
  attention.head_dim = model.head_dim;
  attention.scale = model.attention_scale;
  attention.window = window;
  attention.soft_cap = model.attention_soft_cap;
  if (model.qk_norm) attention.qk_norm = QkNormSpec{model.norm_eps, model.qk_norm_all_heads};
  attention.sinks = model.sinks;
  attention.heads = model.heads;
  attention.sparse = model.sparse;
  attention.output_gate = model.output_gate;
  attention.rope = window > 0 && model.window_rope ? *model.window_rope : model.rope;
  return attention;
}

LayerSpec layer_spec(const DenseModel& model, int index) {
  LayerSpec layer;
  if (is_linear(model, index)) {
    LinearAttentionSpec linear = *model.linear;
    linear.slopes = model.slopes.of(index, model.layers);
    layer.mixers.emplace_back(std::move(linear));
    layer.mixer_residual = model.linear_residual;
  } else {
    layer.mixers.emplace_back(softmax_spec(model, index));
    layer.mixer_residual = model.softmax_residual;
  }
  layer.ffn_residual = model.ffn_residual;
  if (has_experts(model, index)) {
    layer.ffn = *model.moe;
  } else {
    layer.ffn = DenseFfnSpec{model.intermediate, model.activation};
  }
  layer.norm_eps = model.norm_eps;
  layer.post_norms = model.post_norms;
  return layer;
}

}  // namespace

RopeSpec plain_rope(double theta, int rotary_dim) {
  RopeSpec rope;
  rope.rotary_dim = rotary_dim;
  rope.inv_freq = rope_inv_freq(theta, rotary_dim);
  return rope;
}

DenseNaming DenseNaming::gguf() {
  return {};
}

DenseNaming DenseNaming::folder(std::string prefix, std::string head, bool post_norms) {
  DenseNaming naming;
  naming.style_ = post_norms ? Style::kFolderPostNorms : Style::kFolder;
  naming.prefix_ = std::move(prefix);
  naming.head_ = std::move(head);
  return naming;
}

std::string DenseNaming::name(DensePart part, int layer, std::string_view suffix) const {
  const PartNames& names = kNames[static_cast<std::size_t>(part)];
  HEDDLE_CHECK(names.part == part);
  const bool outside =
      part == DensePart::kEmbedding || part == DensePart::kFinalNorm || part == DensePart::kHead;
  std::string_view own = style_ == Style::kGguf              ? names.gguf
                         : style_ == Style::kFolderPostNorms ? names.folder_post_norms
                                                             : names.folder;
  if (const auto renamed = own_.find(part); renamed != own_.end()) own = renamed->second;
  if (style_ != Style::kGguf && part == DensePart::kHead)
    return fmt::format("{}.{}", head_, suffix);
  return outside ? fmt::format("{}{}.{}", prefix_, own, suffix)
                 : fmt::format("{}{}.{}", this->layer(layer), own, suffix);
}

std::string DenseNaming::layer(int layer) const {
  return style_ == Style::kGguf ? fmt::format("blk.{}.", layer)
                                : fmt::format("{}layers.{}.", prefix_, layer);
}

std::string DenseNaming::sinks(int layer) const {
  return this->layer(layer) + (style_ == Style::kGguf ? "attn_sinks.weight" : "self_attn.sinks");
}

void build_dense(const DenseModel& model,
                 const DenseNaming& naming,
                 TensorCheck& tensors,
                 Checkpoint& checkpoint) {
  ModelConfig& config = checkpoint.config;
  config.hidden = model.hidden;
  config.context = model.context;
  config.final_norm_eps = model.norm_eps;
  config.final_soft_cap = model.final_soft_cap;
  config.embedding_scale = model.embedding_scale;
  config.logit_scale = model.logit_scale;
  config.tied_head = model.tied_head;

  DecoderNames& names = checkpoint.names;
  const std::string head = naming.name(DensePart::kHead, 0);
  names.embedding =
      tensors.matrix(naming.name(DensePart::kEmbedding, 0), config.vocab, config.hidden);
  names.final_norm =
      tensors.vector(naming.name(DensePart::kFinalNorm, 0), config.hidden, model.norm_add);
  if (model.tied_head) {
    tensors.harmless(head);  // a copy that some writers leave in the file
    names.head = names.embedding;
  } else {
    names.head = tensors.matrix(head, config.vocab, config.hidden);
  }
  for (int i = 0; i < model.layers; ++i) {
    names.layers.push_back(LayerReader(model, naming, tensors, i).read());
    config.layers.push_back(layer_spec(model, i));
  }
  tensors.finish(config.family);
}

}  // namespace heddle
