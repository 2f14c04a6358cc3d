// TransNormerLLM 1 and 2: lightning attention in every layer, LRPE in some, norms without weights,
// a gated unit without activation.

#include <fmt/format.h>

#include <cmath>
#include <string>

#include "base/error.h"
#include "models/families/families.h"
#include "models/families/fields.h"
#include "models/families/limits.h"
#include "models/families/linear_parts.h"
#include "models/families/tensor_check.h"
#include "models/quote_text.h"
#include "models/slopes.h"

namespace heddle {
namespace {

constexpr float kNormEps = 1e-6F;  // the published code has no key for it

struct Sizes {
  int layers = 0, heads = 0, hidden = 0, inner = 0, glu = 0;
  int head_dim() const { return inner / heads; }
};

Sizes read_sizes(const ConfigJson& config) {
  Sizes s;
  s.layers = require_count(config, "decoder_layers", ModelLimits::kLayers);
  s.heads = require_count(config, "decoder_attention_heads", ModelLimits::kHeads);
  s.hidden = require_count(config, "decoder_embed_dim", ModelLimits::kWidth);
  s.inner = count_or(config, "hidden_dim", ModelLimits::kWidth, s.hidden);
  const auto glu = config.integer("glu_dim", {-1, ModelLimits::kIntermediate}).value_or(-1);
  if (glu == 0) throw config.error("glu_dim", "0", "-1 (decoder_embed_dim) or a width");
  s.glu = glu < 0 ? s.hidden : static_cast<int>(glu);
  if (s.inner % s.heads != 0 || s.head_dim() % 2 != 0 || s.head_dim() > ModelLimits::kHeadDim) {
    throw config.error("hidden_dim", std::to_string(s.inner),
                       fmt::format("even multiples of decoder_attention_heads = {}", s.heads));
  }
  return s;
}

Activation read_activation(const ConfigJson& config) {
  const std::string name = config.text("linear_act_fun").value_or("silu");
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "1" || name == "None" || name == "none") return Activation::kIdentity;
  throw config.error("linear_act_fun", quote_text(name), "silu, swish, none");
}

/// "linear_use_lrpe_list": 0 or 1 per layer; absent: the first layer only.
std::vector<bool> read_lrpe(const ConfigJson& config, int layers) {
  const std::string_view key = "linear_use_lrpe_list";
  std::vector<bool> lrpe(static_cast<std::size_t>(layers), false);
  const auto flags = config.integers(key, {0, 1});
  if (!flags || flags->empty()) {
    lrpe[0] = true;
    return lrpe;
  }
  if (flags->size() != lrpe.size()) {
    throw config.error(key, fmt::format("{} entries", flags->size()),
                       fmt::format("{}, one per layer", layers));
  }
  for (std::size_t i = 0; i < lrpe.size(); ++i) lrpe[i] = (*flags)[i] == 1;
  return lrpe;
}

/// What other members of the family have and this reader does not compute.
void refuse_others(const ConfigJson& config) {
  if (const auto gate = config.asked("gate_dim")) {
    throw config.error("gate_dim", *gate, "none: TransNormerLLM 3 is not read");
  }
  const std::string norm = config.text("norm_type").value_or("simplermsnorm");
  if (norm != "simplermsnorm") throw config.error("norm_type", quote_text(norm), "simplermsnorm");
  if (config.boolean("bias").value_or(false)) throw config.error("bias", "true", "false");
}

LinearAttentionNames mixer_names(const LinearAttentionSpec& spec,
                                 const Sizes& sizes,
                                 const std::string& prefix,
                                 TensorCheck& tensors) {
  const std::string fused = prefix + "token_mixer.qkvu_proj.weight";
  const std::int64_t width = sizes.inner;
  const auto part = [&](int i) {
    return tensors.rows(fused, 4 * width, sizes.hidden, i * width, width);
  };
  LinearAttentionNames names;
  names.q = part(0);
  names.k = part(1);
  names.v = part(2);
  names.gate = part(3);
  names.o = tensors.matrix(prefix + "token_mixer.out_proj.weight", sizes.hidden, width);
  if (spec.lrpe) {
    names.theta =
        tensors.flat(prefix + "token_mixer.lrpe.theta", {sizes.heads, 1, sizes.head_dim()});
  }
  return names;
}

DenseFfnNames ffn_names(const Sizes& sizes, const std::string& prefix, TensorCheck& tensors) {
  const std::string mixer = prefix + "channel_mixer.";
  DenseFfnNames names;
  names.gate = tensors.matrix(mixer + "l1.weight", sizes.glu, sizes.hidden);
  names.up = tensors.matrix(mixer + "l2.weight", sizes.glu, sizes.hidden);
  names.down = tensors.matrix(mixer + "l3.weight", sizes.hidden, sizes.glu);
  return names;
}

LayerSpec layer_spec(const LinearAttentionSpec& mixer, const Sizes& sizes) {
  LayerSpec layer;
  layer.mixers.emplace_back(mixer);
  layer.ffn = DenseFfnSpec{sizes.glu, Activation::kIdentity};
  layer.norm_eps = kNormEps;
  layer.norm_weights = false;
  return layer;
}

}  // namespace

void read_transnormer_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  refuse_others(config);
  const Sizes sizes = read_sizes(config);
  ModelConfig& model = checkpoint.config;
  DecoderNames& names = checkpoint.names;
  TensorCheck tensors(*checkpoint.weights);
  model.hidden = sizes.hidden;
  model.vocab = require_count(config, "vocab_size", ModelLimits::kVocab);
  model.context = count_or(config, "max_position_embeddings", ModelLimits::kContext, 2048);
  model.final_norm_eps = kNormEps;
  if (!config.boolean("no_scale_embedding").value_or(false)) {
    model.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(sizes.hidden)));
  }
  LinearAttentionSpec mixer;
  mixer.n_heads = sizes.heads;
  mixer.head_dim = sizes.head_dim();
  mixer.scale = 1.0F;
  mixer.activation = read_activation(config);
  mixer.norm_groups = 1;
  mixer.norm_weight = false;
  mixer.norm_eps = kNormEps;
  mixer.gate = OutputGate::kMultiply;
  const std::vector<bool> lrpe = read_lrpe(config, sizes.layers);
  const std::vector<double> table = alibi_slopes(sizes.heads);
  names.embedding = tensors.matrix("model.embed_tokens.weight", model.vocab, model.hidden);
  for (int i = 0; i < sizes.layers; ++i) {
    const std::string prefix = fmt::format("model.layers.{}.", i);
    mixer.lrpe = lrpe[static_cast<std::size_t>(i)];
    mixer.slopes = layer_slopes(table, i, sizes.layers);
    model.layers.push_back(layer_spec(mixer, sizes));
    LayerNames layer;
    layer.mixers.emplace_back(mixer_names(mixer, sizes, prefix, tensors));
    layer.ffn = ffn_names(sizes, prefix, tensors);
    names.layers.push_back(std::move(layer));
    tensors.harmless(prefix + "token_mixer.slope_rate");
  }
  names.head = tensors.matrix("lm_head.weight", model.vocab, model.hidden);
  tensors.finish(model.family);
}

}  // namespace heddle
