#include "models/families/folder_rope.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/families/fields.h"
#include "models/quote_text.h"
#include "models/rope_scaling.h"

namespace heddle {
namespace {

/// One rotation's keys: scaling and theta stand in one object or in two.
struct RopeKeys {
  const ConfigJson& config;           // the decoder's
  std::optional<ConfigJson> scaling;  // rope_parameters or rope_scaling
  double theta = 0.0;
  int rotary_dim = 0;
  int context = 0;

  const ConfigJson& scaled() const { return *scaling; }
};

std::string type_of(const std::optional<ConfigJson>& scaling) {
  if (!scaling) return "default";
  const std::string_view key = scaling->has("rope_type") ? "rope_type" : "type";
  return std::string(scaling->text(key).value_or("default"));
}

double factor_of(const RopeKeys& keys) {
  if (!keys.scaled().has("factor")) throw keys.scaled().missing("factor");
  return real_or(keys.scaled(), "factor", 1.0, ModelLimits::kRopeFactor, 1.0);
}

/// Tokens that the model was trained for before its rotation was stretched.
std::optional<std::int64_t> original_context(const RopeKeys& keys) {
  const std::string_view key = "original_max_position_embeddings";
  if (const auto n = keys.scaled().integer(key, {1, ModelLimits::kContext})) return n;
  return keys.config.integer(key, {1, ModelLimits::kContext});
}

std::vector<float> llama3(const RopeKeys& keys, std::vector<float> inv_freq) {
  Llama3RopeScaling scaling;
  scaling.factor = factor_of(keys);
  const ConfigJson& scaled = keys.scaled();
  for (const std::string_view key : {"low_freq_factor", "high_freq_factor"}) {
    if (!scaled.has(key)) throw scaled.missing(key);
  }
  scaling.low_freq_factor = real_or(scaled, "low_freq_factor", 1e-3, 1e3, 1.0);
  scaling.high_freq_factor = real_or(scaled, "high_freq_factor", 1e-3, 1e4, 4.0);
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    throw scaled.error("high_freq_factor", fmt::format("{}", scaling.high_freq_factor),
                       fmt::format("numbers above low_freq_factor = {}", scaling.low_freq_factor));
  }
  const auto original = original_context(keys);
  if (!original) throw scaled.missing("original_max_position_embeddings");
  scaling.original_context = *original;
  return scale_llama3(std::move(inv_freq), scaling);
}

void yarn(const RopeKeys& keys, RopeSpec& rope) {
  const ConfigJson& scaled = keys.scaled();
  if (keys.theta <= 1.0) {  // its logarithm is divided by
    const ConfigJson& where = scaled.has("rope_theta") ? scaled : keys.config;
    throw where.error("rope_theta", fmt::format("{}", keys.theta), "numbers above 1 with yarn");
  }
  YarnRopeScaling scaling;
  scaling.factor = factor_of(keys);
  scaling.original_context = original_context(keys).value_or(keys.context);
  scaling.beta_fast = real_or(scaled, "beta_fast", 1e-3, 1e6, 32.0);
  scaling.beta_slow = real_or(scaled, "beta_slow", 1e-6, scaling.beta_fast * 0.999, 1.0);
  scaling.truncate = scaled.boolean("truncate").value_or(true);
  rope.inv_freq = scale_yarn(keys.theta, keys.rotary_dim, scaling);
  double attention = yarn_attention_factor(scaling.factor);
  const double mscale = real_or(scaled, "mscale", 0.0, 1e3, 0.0);
  const double mscale_all = real_or(scaled, "mscale_all_dim", 0.0, 1e3, 0.0);
  if (mscale != 0.0 && mscale_all != 0.0) {
    attention = yarn_attention_factor(scaling.factor, mscale) /
                yarn_attention_factor(scaling.factor, mscale_all);
  }
  rope.scale = static_cast<float>(real_or(scaled, "attention_factor", 1e-3, 1e3, attention));
}

std::vector<float> pair_factors(const RopeKeys& keys, std::string_view key) {
  const ConfigJson& scaled = keys.scaled();
  const auto values = scaled.reals(key);
  if (!values) throw scaled.missing(key);
  if (static_cast<int>(values->size()) != keys.rotary_dim / 2) {
    throw scaled.error(key, fmt::format("{} numbers", values->size()),
                       fmt::format("{}, one per rotated pair", keys.rotary_dim / 2));
  }
  std::vector<float> factors;
  for (const double value : *values) {
    if (!(value >= 1e-6 && value <= 1e6)) {
      throw scaled.error(key, fmt::format("{}", value), "numbers from 1e-06 to 1e+06");
    }
    factors.push_back(static_cast<float>(value));
  }
  return factors;
}

void longrope(const RopeKeys& keys, RopeSpec& rope) {
  const ConfigJson& scaled = keys.scaled();
  for (const std::string_view key : {"short_mscale", "long_mscale"}) {
    require_neutral(scaled, key, 1.0);
  }
  rope.inv_freq = scale_per_pair(keys.theta, keys.rotary_dim, pair_factors(keys, "short_factor"));
  rope.long_inv_freq =
      scale_per_pair(keys.theta, keys.rotary_dim, pair_factors(keys, "long_factor"));
  const auto original = original_context(keys);
  if (!original) throw scaled.missing("original_max_position_embeddings");
  rope.short_context = *original;
  const double factor = real_or(scaled, "factor", 1e-3, ModelLimits::kRopeFactor,
                                static_cast<double>(keys.context) / static_cast<double>(*original));
  rope.scale = static_cast<float>(
      real_or(scaled, "attention_factor", 1e-3, 1e3, longrope_attention_factor(factor, *original)));
}

int rotary_dim(const RopeKeys& keys, int head_dim) {
  const std::string_view key = "partial_rotary_factor";
  const bool inside = keys.scaling && keys.scaled().has(key);
  const ConfigJson& where = inside ? keys.scaled() : keys.config;
  const double part = real_or(where, key, 0.0, 1.0, 1.0);
  const int dim = static_cast<int>(head_dim * part);
  if (dim < 2 || dim % 2 != 0) {
    throw where.error(key, fmt::format("{}", part),
                      fmt::format("parts of the head's {} that are even and not 0", head_dim));
  }
  return dim;
}

}  // namespace

RopeSpec read_folder_rope(const ConfigJson& config,
                          int head_dim,
                          int context,
                          double theta_or,
                          std::string_view layer_type) {
  RopeKeys keys{config, config.object("rope_parameters")};
  if (keys.scaling) {
    if (auto own = keys.scaling->object(layer_type)) keys.scaling = std::move(own);
    theta_or = real_or(config, "rope_theta", 1.0, ModelLimits::kRopeTheta, theta_or);
    keys.theta = real_or(keys.scaled(), "rope_theta", 1.0, ModelLimits::kRopeTheta, theta_or);
  } else {
    keys.scaling = config.object("rope_scaling");
    keys.theta = real_or(config, "rope_theta", 1.0, ModelLimits::kRopeTheta, theta_or);
  }
  keys.context = context;
  keys.rotary_dim = rotary_dim(keys, head_dim);

  RopeSpec rope = plain_rope(keys.theta, keys.rotary_dim);
  const std::string type = type_of(keys.scaling);
  if (type == "linear") {
    rope.inv_freq = scale_linear(std::move(rope.inv_freq), factor_of(keys));
  } else if (type == "llama3") {
    rope.inv_freq = llama3(keys, std::move(rope.inv_freq));
  } else if (type == "yarn") {
    yarn(keys, rope);
  } else if (type == "longrope" || type == "su") {
    longrope(keys, rope);
  } else if (type != "default") {
    throw keys.scaled().error(keys.scaled().has("rope_type") ? "rope_type" : "type",
                              quote_text(type), "default, linear, llama3, yarn, longrope");
  }
  return rope;
}

}  // namespace heddle
