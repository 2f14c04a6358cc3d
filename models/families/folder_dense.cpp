#include "models/families/folder_dense.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/error.h"
#include "models/families/families.h"
#include "models/families/fields.h"
#include "models/families/folder_rope.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

std::optional<Activation> parse_activation(std::string_view name) {
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::kGeluTanh;
  return std::nullopt;
}

Activation read_activation(const ConfigJson& config, const FolderDefaults& defaults) {
  // Gemma's first configs state the old key beside the one that counts.
  const auto text = config.text(defaults.activation_key);
  if (!text) return defaults.activation;
  const std::optional<Activation> activation = parse_activation(*text);
  if (!activation) {
    throw config.error(defaults.activation_key, quote_text(*text), "silu, gelu, gelu_pytorch_tanh");
  }
  return *activation;
}

/// Keys of unmet needs that are read elsewhere, or that these families' reference does not read.
constexpr std::array<std::string_view, 4> kAllowedNeeds = {"vision_config", "quantization_config",
                                                           "layer_norm_eps", "layer_norm_epsilon"};

void require_true(const ConfigJson& config, std::string_view key) {
  if (!config.boolean(key).value_or(true)) throw config.error(key, "false", "true");
}

/// What would change the results and no family computes.
void refuse_needs(const ConfigJson& config,
                  std::string_view family,
                  const std::vector<std::string_view>& known) {
  for (const std::string& key : config.keys()) {
    const std::string_view need = unmet_need(key);
    if (need.empty()) continue;
    if (std::find(kAllowedNeeds.begin(), kAllowedNeeds.end(), key) != kAllowedNeeds.end()) continue;
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    if (const auto got = config.asked(key)) {
      throw config.error(key, *got, fmt::format("none: family {} has no {}", family, need));
    }
  }
  require_true(config, "is_causal");
}

/// "architectures" of a classifier or a bare encoder of the same model_type. A model with other
/// towers is a conditional generator.
void refuse_other_classes(const ConfigJson& config, std::string_view family, bool other_towers) {
  const std::string_view key = "architectures";
  const auto classes = config.texts(key);
  if (!classes) return;
  std::string usual(family);
  if (!usual.empty()) usual[0] = static_cast<char>(usual[0] - 'a' + 'A');
  std::string allowed = usual + "ForCausalLM";
  if (other_towers) allowed += ", " + usual + "ForConditionalGeneration";
  for (const std::string& name : *classes) {
    if (name.ends_with("ForCausalLM")) continue;
    if (other_towers && name.ends_with("ForConditionalGeneration")) continue;
    throw config.error(key, quote_text(name), fmt::format("causal language models ({})", allowed));
  }
}

/// Where the decoder's tensors stand, by the embedding's place.
struct Place {
  std::string_view prefix, head;
};
constexpr std::array<Place, 3> kPlaces = {{{"model.", "lm_head"},
                                           {"language_model.model.", "language_model.lm_head"},
                                           {"model.language_model.", "lm_head"}}};
constexpr std::array<std::string_view, 4> kOtherTowers = {"vision_tower.", "multi_modal_projector.",
                                                          "model.vision_tower.",
                                                          "model.multi_modal_projector."};

}  // namespace

FolderDense::FolderDense(const ConfigJson& config,
                         Checkpoint& checkpoint,
                         const FolderDefaults& defaults)
    : config_(config.object("text_config").value_or(config)),
      has_other_towers_(config.has("text_config")),
      checkpoint_(checkpoint),
      tensors_(*checkpoint.weights) {
  const std::string& family = checkpoint.config.family;
  refuse_needs(config_, family, defaults.known_needs);
  if (has_other_towers_) refuse_needs(config, family, defaults.known_needs);
  require_true(config, "is_decoder");
  refuse_other_classes(config, family, has_other_towers_);
  read_sizes(defaults);
  model.post_norms = defaults.post_norms;
  find_tensors(defaults);
  read_vocab();
}

void FolderDense::read_sizes(const FolderDefaults& defaults) {
  const auto quantisation = config_.object("quantization_config");
  const bool known =
      defaults.mxfp4 && quantisation && quantisation->text("quant_method") == "mxfp4";
  if (quantisation && !known) {
    throw quantisation->error("quant_method",
                              quote_text(quantisation->text("quant_method").value_or("?")),
                              "no quantization_config: this version reads F32, F16 and BF16 "
                              "safetensors, and quantised GGUF");
  }
  model.layers = require_count(config_, "num_hidden_layers", ModelLimits::kLayers);
  model.hidden = require_count(config_, "hidden_size", ModelLimits::kWidth);
  model.intermediate = require_count(config_, "intermediate_size", ModelLimits::kIntermediate);
  model.context =
      count_or(config_, "max_position_embeddings", ModelLimits::kContext, defaults.context);
  read_heads(config_, {"num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size"},
             {defaults.q_heads, defaults.kv_heads, defaults.head_dim}, model);
  model.norm_eps =
      norm_eps(config_, "rms_norm_eps", config_.real("rms_norm_eps").value_or(defaults.norm_eps));
  model.activation = read_activation(config_, defaults);
  model.rope = read_folder_rope(config_, model.head_dim, model.context, defaults.rope_theta);
  model.tied_head = flag("tie_word_embeddings", defaults.tied_head);
}

void FolderDense::find_tensors(const FolderDefaults& defaults) {
  const WeightStore& weights = *checkpoint_.weights;
  const Place* place = &kPlaces[0];
  for (const Place& candidate : kPlaces) {
    if (weights.has(fmt::format("{}{}.weight", candidate.prefix, defaults.embedding)))
      place = &candidate;
  }
  naming_ =
      DenseNaming::folder(std::string(place->prefix), std::string(place->head), model.post_norms);
  naming_.rename(DensePart::kEmbedding, std::string(defaults.embedding));
  if (!has_other_towers_) return;
  for (const StoredTensor& tensor : weights.tensors()) {
    for (const std::string_view tower : kOtherTowers) {
      if (tensor.name.starts_with(tower)) tensors_.harmless(tensor.name);
    }
  }
}

void FolderDense::read_vocab() {
  const std::string name = naming_.name(DensePart::kEmbedding, 0);
  const TensorView embedding = checkpoint_.weights->find(name);
  if (embedding.absent()) {
    throw bad_input(
        fmt::format("{}: tensor {} is missing", checkpoint_.weights->source(), quote_text(name)));
  }
  const auto stated = config_.integer("vocab_size", {1, ModelLimits::kVocab});
  if (stated && *stated != embedding.dim(0)) {
    throw config_.error("vocab_size", std::to_string(*stated),
                        fmt::format("{} (rows of {})", embedding.dim(0), name));
  }
  if (embedding.dim(0) > ModelLimits::kVocab) {
    throw config_.error("vocab_size", std::to_string(embedding.dim(0)),
                        fmt::format("1 to {}", ModelLimits::kVocab));
  }
  checkpoint_.config.vocab = static_cast<int>(embedding.dim(0));
}

int FolderDense::count(std::string_view key, std::int64_t most, std::int64_t otherwise) const {
  return otherwise == 0 ? require_count(config_, key, most)
                        : count_or(config_, key, most, otherwise);
}

MoeFfnSpec FolderDense::experts(std::string_view experts_key, int intermediate) const {
  MoeFfnSpec spec;
  spec.router.n_experts = count(experts_key, ModelLimits::kHeads);
  spec.router.top_k =
      static_cast<int>(config_.require_integer("num_experts_per_tok", {1, spec.router.n_experts}));
  spec.intermediate = intermediate;
  spec.activation = model.activation;
  return spec;
}

bool FolderDense::flag(std::string_view key, bool otherwise) const {
  return config_.boolean(key).value_or(otherwise);
}

void FolderDense::window_everywhere(int otherwise) {
  const int absent = config_.is_null("sliding_window") ? 0 : otherwise;
  const int window = count_or(config_, "sliding_window", ModelLimits::kContext, absent);
  model.windows = windows_by_layer_types(window);
  if (model.windows.empty()) model.windows.assign(static_cast<std::size_t>(model.layers), window);
}

void FolderDense::window_from_layer() {
  if (!flag("use_sliding_window", false) || config_.is_null("sliding_window")) return;
  const int window = count_or(config_, "sliding_window", ModelLimits::kContext, 4096);
  model.windows = windows_by_layer_types(window);
  if (!model.windows.empty()) return;
  const std::int64_t first =
      config_.integer("max_window_layers", {0, ModelLimits::kLayers}).value_or(28);
  for (int i = 0; i < model.layers; ++i) model.windows.push_back(i >= first ? window : 0);
}

std::vector<int> FolderDense::windows_by_layer_types(int window) const {
  std::vector<int> windows;
  const auto types = config_.texts("layer_types");
  if (!types) return windows;
  if (static_cast<int>(types->size()) != model.layers) {
    throw config_.error("layer_types", fmt::format("{} entries", types->size()),
                        fmt::format("{}, one per layer", model.layers));
  }
  for (const std::string& type : *types) {
    if (type != "full_attention" && type != "sliding_attention") {
      throw config_.error("layer_types", quote_text(type), "full_attention, sliding_attention");
    }
    windows.push_back(type == "sliding_attention" ? window : 0);
  }
  return windows;
}

RopeSpec FolderDense::local_rope(std::string_view key, double theta_or) const {
  const double theta = real_or(config_, key, 1.0, ModelLimits::kRopeTheta, theta_or);
  const auto parameters = config_.object("rope_parameters");
  if (parameters && parameters->object("sliding_attention")) {
    return read_folder_rope(config_, model.head_dim, model.context, theta, "sliding_attention");
  }
  return plain_rope(theta, model.rope.rotary_dim);
}

void FolderDense::build() {
  build_dense(model, naming_, tensors_, checkpoint_);
}

}  // namespace heddle
