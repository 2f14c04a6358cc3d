// The feed-forward layers of the native format.

#include <fmt/format.h>

#include <utility>

#include "models/families/limits.h"
#include "models/families/native.h"

namespace heddle {
namespace {

DenseFfnNames dense_names(const std::string& prefix, int width, const NativeLayer& layer) {
  DenseFfnNames names;
  names.gate = layer.matrix(prefix + "gate", width, layer.hidden);
  names.up = layer.matrix(prefix + "up", width, layer.hidden);
  names.down = layer.matrix(prefix + "down", layer.hidden, width);
  return names;
}

RouterSpec read_router(const StrictObject& config) {
  RouterSpec router;
  router.n_experts = config.require_integer("experts", {1, ModelLimits::kHeads});
  router.top_k = config.require_integer("top_k", {1, router.n_experts});
  router.score = static_cast<RouterScore>(
      config.choice("score", {"softmax", "sigmoid", "softmax_of_chosen"}, "softmax"));
  router.renormalise = config.boolean("renormalise", false);
  router.scale = static_cast<float>(config.real("scale", 1e-6, 1e6, 1.0));
  router.bias = config.boolean("router_bias", false);
  router.choice_bias = config.boolean("choice_bias", false);
  router.n_groups = config.integer("groups", {1, router.n_experts}, 1);
  if (router.n_experts % router.n_groups != 0) {
    throw config.error("groups", std::to_string(router.n_groups),
                       fmt::format("divisors of experts = {}", router.n_experts));
  }
  router.top_groups = config.integer("top_groups", {1, router.n_groups}, router.n_groups);
  if (router.top_k > router.n_experts / router.n_groups * router.top_groups) {
    throw config.error("top_k", std::to_string(router.top_k),
                       fmt::format("1 to {} (the experts of top_groups groups)",
                                   router.n_experts / router.n_groups * router.top_groups));
  }
  return router;
}

MoeFfnSpec read_moe(const StrictObject& config) {
  MoeFfnSpec spec;
  spec.router = read_router(config);
  spec.intermediate = config.require_integer("intermediate", {1, ModelLimits::kIntermediate});
  spec.activation = read_native_activation(config, "activation", Activation::kSilu);
  spec.limit = static_cast<float>(config.real("limit", 0.0, 1e6, 0.0));
  spec.up_add = static_cast<float>(config.real("up_add", -1e6, 1e6, 0.0));
  spec.bias = config.boolean("bias", false);
  const auto shared = config.object("shared");
  if (!shared) return spec;
  const StrictObject strict(*shared);
  spec.shared_intermediate =
      strict.require_integer("intermediate", {1, ModelLimits::kIntermediate});
  spec.shared =
      static_cast<SharedExpert>(strict.choice("join", {"", "added", "gated", "blended"}, "added"));
  strict.done();
  return spec;
}

MoeFfnNames moe_names(const MoeFfnSpec& spec, const NativeLayer& layer) {
  MoeFfnNames names;
  const int n = spec.router.n_experts;
  const int width = spec.intermediate;
  names.router = layer.matrix("router", n, layer.hidden);
  if (spec.router.bias) names.router_bias = layer.vector("router.bias", n);
  if (spec.router.choice_bias) names.choice_bias = layer.vector("choice_bias", n);
  for (int e = 0; e < n; ++e) {
    const std::string expert = fmt::format("experts.{}.", e);
    DenseFfnNames own = dense_names(expert, width, layer);
    names.gate.push_back(std::move(own.gate));
    names.up.push_back(std::move(own.up));
    names.down.push_back(std::move(own.down));
    if (!spec.bias) continue;
    names.gate_bias.push_back(layer.vector(expert + "gate.bias", width));
    names.up_bias.push_back(layer.vector(expert + "up.bias", width));
    names.down_bias.push_back(layer.vector(expert + "down.bias", layer.hidden));
  }
  if (spec.shared == SharedExpert::kNone) return names;
  names.shared = dense_names("shared.", spec.shared_intermediate, layer);
  if (spec.shared != SharedExpert::kAdded) {
    names.shared_gate = layer.matrix("shared_gate", 1, layer.hidden);
  }
  return names;
}

}  // namespace

std::pair<FfnSpec, FfnNames> read_native_ffn(const StrictObject& config, const NativeLayer& layer) {
  if (!config.has("kind")) throw config.missing("kind", "dense, moe");
  if (config.choice("kind", {"dense", "moe"}, "") == 1) {
    MoeFfnSpec spec = read_moe(config);
    config.done();
    MoeFfnNames names = moe_names(spec, layer);
    return {std::move(spec), std::move(names)};
  }
  DenseFfnSpec spec;
  spec.intermediate = config.require_integer("intermediate", {1, ModelLimits::kIntermediate});
  spec.activation = read_native_activation(config, "activation", Activation::kSilu);
  config.done();
  return {spec, dense_names("", spec.intermediate, layer)};
}

}  // namespace heddle
