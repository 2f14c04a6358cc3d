#include "models/families/native.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "models/families/families.h"
#include "models/families/limits.h"

namespace heddle {
namespace {

constexpr int kFormat = 1;

/// "layers" with its repetitions written out.
void expand(const std::vector<ConfigJson>& entries, std::vector<ConfigJson>& layers, int depth) {
  constexpr int kDepth = 4;
  for (const ConfigJson& entry : entries) {
    const StrictObject group(entry);
    const int n = group.integer("repeat", {1, ModelLimits::kLayers}, 1);
    const auto inner = group.objects("layers");
    if (inner) group.done();
    if (inner && inner->empty()) throw entry.missing("layers", "one or more");
    for (int i = 0; i < n; ++i) {
      if (!inner) {
        layers.push_back(entry);
      } else if (depth == kDepth) {
        throw entry.error("layers", "groups inside groups", fmt::format("{} deep", kDepth));
      } else {
        expand(*inner, layers, depth + 1);
      }
      if (layers.size() > static_cast<std::size_t>(ModelLimits::kLayers)) {
        throw entry.error("repeat", std::to_string(n),
                          fmt::format("up to {} layers in all", ModelLimits::kLayers));
      }
    }
  }
}

ResidualSpec read_residual(const StrictObject& config, std::string_view key) {
  ResidualSpec spec;
  const auto object = config.object(key);
  if (!object) return spec;
  const StrictObject strict(*object);
  spec.residual = static_cast<float>(strict.real("residual", -1e6, 1e6, 1.0));
  spec.branch = static_cast<float>(strict.real("branch", -1e6, 1e6, 1.0));
  spec.of_norm = strict.boolean("of_norm", false);
  strict.done();
  return spec;
}

/// Where the norms stand, and how results join the stream.
LayerSpec read_frame(const StrictObject& config, const NativeLayer& layer) {
  LayerSpec spec;
  spec.norm_eps = static_cast<float>(layer.norm_eps);
  spec.norm_weights = config.boolean("norm_weights", true);
  const std::size_t norms = config.choice("norms", {"pre", "post", "both"}, "pre");
  spec.pre_norms = norms != 1;
  spec.post_norms = norms != 0;
  spec.mixer_residual = read_residual(config, "mixer_residual");
  spec.ffn_residual = read_residual(config, "ffn_residual");
  spec.parallel = config.boolean("parallel", false);
  const bool plain = spec.mixer_residual.plain() && spec.ffn_residual.plain();
  if (spec.parallel && (norms != 0 || !plain)) {
    throw config.error("parallel", "true", "false with other norms than pre, or with residuals");
  }
  for (const std::string_view key : {"mixer_residual", "ffn_residual"}) {
    const ResidualSpec& r = key == "mixer_residual" ? spec.mixer_residual : spec.ffn_residual;
    if (r.of_norm && !spec.pre_norms) {
      throw config.error(fmt::format("{}.of_norm", key), "true", "false without norms before");
    }
  }
  return spec;
}

LayerNames read_norms(const LayerSpec& spec, const NativeLayer& layer) {
  LayerNames names;
  if (!spec.norm_weights) return names;
  const auto norm = [&](const std::string& name) {
    return layer.vector(name + ".weight", layer.hidden);
  };
  if (spec.pre_norms) names.mixer_norm = norm("mixer_norm");
  if (spec.pre_norms && !spec.parallel) names.ffn_norm = norm("ffn_norm");
  if (spec.post_norms) {
    names.mixer_post_norm = norm("mixer_post_norm");
    names.ffn_post_norm = norm("ffn_post_norm");
  }
  return names;
}

void read_layer(const ConfigJson& object, NativeLayer layer, Checkpoint& checkpoint) {
  const StrictObject config(object);
  config.integer("repeat", {1, ModelLimits::kLayers}, 1);
  layer.norm_eps = config.real("norm_eps", 1e-30, 1.0, layer.norm_eps);
  LayerSpec spec = read_frame(config, layer);
  LayerNames names = read_norms(spec, layer);
  const auto mixers = config.objects("mixers");
  if (!mixers || mixers->empty()) throw config.missing("mixers", "one or more");
  constexpr std::size_t kMixers = 16;
  if (mixers->size() > kMixers) {
    throw config.error("mixers", std::to_string(mixers->size()), fmt::format("up to {}", kMixers));
  }
  for (std::size_t i = 0; i < mixers->size(); ++i) {
    NativeLayer own = layer;
    own.prefix += fmt::format("mixers.{}.", i);
    auto [mixer, mixer_names] = read_native_mixer(StrictObject((*mixers)[i]), own);
    spec.mixers.push_back(std::move(mixer));
    names.mixers.push_back(std::move(mixer_names));
  }
  const auto ffn = config.object("ffn");
  if (!ffn) throw config.missing("ffn", "an object");
  NativeLayer own = layer;
  own.prefix += "ffn.";
  std::tie(spec.ffn, names.ffn) = read_native_ffn(StrictObject(*ffn), own);
  config.done();
  checkpoint.config.layers.push_back(std::move(spec));
  checkpoint.names.layers.push_back(std::move(names));
}

}  // namespace

Activation read_native_activation(const StrictObject& config,
                                  std::string_view key,
                                  Activation otherwise) {
  std::vector<std::string_view> names;
  for (const Activation a : kAllActivations) names.push_back(name(a));
  return kAllActivations[config.choice(key, names, name(otherwise))];
}

void read_native_folder(const ConfigJson& object, Checkpoint& checkpoint) {
  read_native(object, checkpoint, 0);
}

void read_native(const ConfigJson& object, Checkpoint& checkpoint, int n_read) {
  const StrictObject config(object);
  TensorCheck tensors(*checkpoint.weights);
  for (const std::string_view key : {"model_type", "bos_token_id", "eos_token_id"}) config.has(key);
  config.require_integer("format", {kFormat, kFormat});
  ModelConfig& model = checkpoint.config;
  model.name = config.text("name", model.name);
  model.hidden = config.require_integer("hidden_size", {1, ModelLimits::kWidth});
  model.vocab = config.require_integer("vocab_size", {1, ModelLimits::kVocab});
  model.context = config.require_integer("context", {1, ModelLimits::kContext});
  model.tied_head = config.boolean("tied_head", false);
  model.embedding_scale = static_cast<float>(config.real("embedding_scale", 1e-6, 1e6, 1.0));
  model.logit_scale = static_cast<float>(config.real("logit_scale", 1e-6, 1e6, 1.0));
  model.final_soft_cap = static_cast<float>(config.real("final_soft_cap", 0.0, 1e6, 0.0));
  const double eps = config.real("norm_eps", 1e-30, 1.0, 1e-6);
  const bool final_norm = config.boolean("final_norm_weight", true);
  model.final_norm_eps = static_cast<float>(eps);
  const auto entries = config.objects("layers");
  if (!entries || entries->empty()) throw config.missing("layers", "one or more");
  config.done();

  std::vector<ConfigJson> layers;
  expand(*entries, layers, 0);
  DecoderNames& names = checkpoint.names;
  names.embedding = tensors.matrix("embedding.weight", model.vocab, model.hidden);
  const std::size_t end =
      n_read == 0 ? layers.size() : std::min(layers.size(), static_cast<std::size_t>(n_read));
  for (std::size_t i = 0; i < end; ++i) {
    read_layer(layers[i],
               {tensors, fmt::format("layers.{}.", i), static_cast<int>(i),
                static_cast<int>(layers.size()), model.hidden, model.context, eps},
               checkpoint);
  }
  if (final_norm) names.final_norm = tensors.vector("final_norm.weight", model.hidden);
  names.head =
      model.tied_head ? names.embedding : tensors.matrix("head.weight", model.vocab, model.hidden);
  tensors.finish(model.family);
}

}  // namespace heddle
