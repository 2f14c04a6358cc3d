#include "models/families/gguf_dense.h"

#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "models/families/fields.h"
#include "models/quote_text.h"
#include "models/rope_scaling.h"

namespace heddle {
namespace {

void refuse_variations(const GgufFields& fields, const GgufMeanings& meanings) {
  const auto n_experts = fields.integer("expert_count", {0, ModelLimits::kHeads});
  if (!meanings.experts && n_experts && *n_experts > 0) {
    throw fields.error("expert_count", std::to_string(*n_experts),
                       "0 (this architecture has no experts)");
  }
  if (const auto causal = fields.boolean("attention.causal"); causal && !*causal) {
    throw fields.error("attention.causal", "false", "true");
  }
  for (const std::string_view field : {"embedding_scale", "residual_scale", "logit_scale"}) {
    if (!meanings.scales) require_neutral(fields, field, 1.0);
  }
  for (const std::string_view field : {"attention.clamp_kqv", "attention.max_alibi_bias"}) {
    require_neutral(fields, field, 0.0);
  }
}

/// Rows of the embedding, which vocab_size must repeat where it is given.
int read_vocab(const GgufFields& fields, const WeightStore& weights) {
  const TensorView embedding = weights.find("token_embd.weight");
  const auto stated = fields.integer("vocab_size", {1, ModelLimits::kVocab});
  if (embedding.absent()) {
    throw bad_input(fmt::format("{}: tensor 'token_embd.weight' is missing", weights.source()));
  }
  if (stated && *stated != embedding.dim(0)) {
    throw fields.error("vocab_size", std::to_string(*stated),
                       fmt::format("{} (rows of token_embd.weight)", embedding.dim(0)));
  }
  return static_cast<int>(embedding.dim(0));
}

/// Divisors of the frequencies, from a tensor of the file.
std::vector<float> read_factors(const std::string& name, int rotary_dim, TensorCheck& tensors) {
  tensors.vector(name, rotary_dim / 2);
  WeightStore& weights = tensors.store();
  const TensorView view = weights.require(name, {rotary_dim / 2}, {DType::kF32});
  std::vector<float> factors(view.as<float>(), view.as<float>() + view.elements());
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(factors[i] >= 1e-6F && factors[i] <= 1e6F)) {
      throw bad_input(fmt::format("{}: config: {}[{}], got {}, allowed 1e-06 to 1e+06",
                                  weights.source(), name, i, factors[i]));
    }
  }
  return factors;
}

constexpr std::string_view kFactor = "rope.scaling.factor";
constexpr std::string_view kOlderFactor = "rope.scale_linear";

bool has_scaling_factor(const GgufFields& fields) {
  return fields.has(kFactor) || fields.has(kOlderFactor);
}

double scaling_factor(const GgufFields& fields) {
  if (!has_scaling_factor(fields)) throw fields.missing(kFactor);
  return real_or(fields, fields.has(kFactor) ? kFactor : kOlderFactor, 1.0,
                 ModelLimits::kRopeFactor, 1.0);
}

std::int64_t original_context(const GgufFields& fields) {
  return require_count(fields, "rope.scaling.original_context_length", ModelLimits::kContext);
}

RopeSpec yarn(const GgufFields& fields, double theta, int rotary_dim, bool truncates) {
  if (theta <= 1.0) {  // its logarithm is divided by
    throw fields.error("rope.freq_base", fmt::format("{}", theta), "numbers above 1 with yarn");
  }
  YarnRopeScaling scaling;
  scaling.factor = scaling_factor(fields);
  scaling.original_context = original_context(fields);
  scaling.truncate = truncates;
  scaling.beta_fast = real_or(fields, "rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32.0);
  scaling.beta_slow =
      real_or(fields, "rope.scaling.yarn_beta_slow", 1e-6, scaling.beta_fast * 0.999, 1.0);
  const double attention = real_or(fields, "rope.scaling.attn_factor", 1e-3, 1e3, 1.0);
  RopeSpec rope;
  rope.rotary_dim = rotary_dim;
  rope.inv_freq = scale_yarn(theta, rotary_dim, scaling);
  rope.scale = static_cast<float>(attention * yarn_attention_factor(scaling.factor));
  return rope;
}

/// Phi 3's two tables: the short one up to the original context.
RopeSpec longrope(const GgufFields& fields,
                  double theta,
                  int rotary_dim,
                  TensorCheck& tensors,
                  bool states_context) {
  const auto table = [&](const std::string& name) {
    return scale_per_pair(theta, rotary_dim, read_factors(name, rotary_dim, tensors));
  };
  RopeSpec rope;
  rope.rotary_dim = rotary_dim;
  rope.inv_freq = table("rope_factors_short.weight");
  rope.long_inv_freq = table("rope_factors_long.weight");
  rope.short_context = states_context || fields.has("rope.scaling.original_context_length")
                           ? original_context(fields)
                           : require_count(fields, "context_length", ModelLimits::kContext);
  rope.scale = static_cast<float>(real_or(fields, "rope.scaling.attn_factor", 1e-3, 1e3, 1.0));
  return rope;
}

}  // namespace

RopeSpec read_gguf_rope(const GgufFields& fields,
                        double theta,
                        int rotary_dim,
                        TensorCheck& tensors,
                        const GgufMeanings& meanings) {
  const std::string type(fields.text("rope.scaling.type").value_or(""));
  if (tensors.store().has("rope_factors_short.weight")) {
    return longrope(fields, theta, rotary_dim, tensors, meanings.longrope_context);
  }
  if (type == "yarn") return yarn(fields, theta, rotary_dim, meanings.yarn_truncates);
  RopeSpec rope = plain_rope(theta, rotary_dim);
  if (type == "linear" || (type.empty() && has_scaling_factor(fields))) {
    // Without a type, readers of this format take a factor as linear scaling.
    const double factor = scaling_factor(fields);
    if (factor != 1.0) rope.inv_freq = scale_linear(std::move(rope.inv_freq), factor);
  } else if (!type.empty() && type != "none") {
    throw fields.error("rope.scaling.type", quote_text(type),
                       "'none', 'linear', 'yarn' (llama3 scaling comes as tensor "
                       "rope_freqs.weight, longrope as rope_factors_short.weight and "
                       "rope_factors_long.weight)");
  }
  require_neutral(fields, "rope.scaling.attn_factor", 1.0);
  if (tensors.store().has("rope_freqs.weight")) {
    const std::vector<float> factors = read_factors("rope_freqs.weight", rotary_dim, tensors);
    for (std::size_t i = 0; i < factors.size(); ++i) rope.inv_freq[i] /= factors[i];
  }
  return rope;
}

int read_gguf_window(const GgufFields& fields) {
  return static_cast<int>(
      fields.integer("attention.sliding_window", {0, ModelLimits::kContext}).value_or(0));
}

void refuse_gguf_key(const GgufFields& fields, std::string_view field) {
  const auto value = fields.real(field);
  if (value && *value != 0.0) {
    throw fields.error(field, fmt::format("{}", *value), "0: this family has none");
  }
}

void read_gguf_experts(const GgufFields& fields, bool renormalise, DenseModel& model) {
  MoeFfnSpec spec;
  RouterSpec& router = spec.router;
  router.n_experts = require_count(fields, "expert_count", ModelLimits::kHeads);
  const std::string_view used = "expert_used_count";
  const auto top_k = fields.integer(used, {1, router.n_experts});
  if (!top_k) throw fields.missing(used, fmt::format("1 to {}", router.n_experts));
  router.top_k = static_cast<int>(*top_k);
  router.renormalise = renormalise;
  spec.intermediate = count_or(fields, "expert_feed_forward_length", ModelLimits::kIntermediate,
                               model.intermediate);
  spec.activation = model.activation;
  model.moe = spec;
  model.moe_naming = gguf_experts();
}

DenseModel read_gguf_dense(const GgufFields& fields,
                           TensorCheck& tensors,
                           Checkpoint& checkpoint,
                           const GgufMeanings& meanings) {
  refuse_variations(fields, meanings);
  DenseModel model;
  model.layers = require_count(fields, "block_count", ModelLimits::kLayers);
  model.hidden = require_count(fields, "embedding_length", ModelLimits::kWidth);
  model.intermediate = require_count(fields, "feed_forward_length", ModelLimits::kIntermediate);
  model.context = require_count(fields, "context_length", ModelLimits::kContext);
  read_heads(fields,
             {"attention.head_count", "attention.head_count_kv", "attention.key_length",
              "embedding_length"},
             {}, model);
  const int value_dim =
      count_or(fields, "attention.value_length", ModelLimits::kHeadDim, model.head_dim);
  if (value_dim != model.head_dim) {
    throw fields.error("attention.value_length", std::to_string(value_dim),
                       fmt::format("{} = {}", fields.full("attention.key_length"), model.head_dim));
  }
  const std::string_view eps = "attention.layer_norm_rms_epsilon";
  if (!fields.has(eps)) throw fields.missing(eps);
  model.norm_eps = norm_eps(fields, eps, fields.real(eps).value_or(0.0));
  if (const double scale = real_or(fields, "attention.scale", 0.0, 1e6, 0.0); scale > 0.0) {
    model.attention_scale = static_cast<float>(scale);
  }
  const int rotary_dim =
      count_or(fields, "rope.dimension_count", ModelLimits::kHeadDim, model.head_dim);
  if (rotary_dim > model.head_dim || rotary_dim % 2 != 0) {
    throw fields.error("rope.dimension_count", std::to_string(rotary_dim),
                       fmt::format("even numbers from 2 to the head's {}", model.head_dim));
  }
  const double theta = real_or(fields, "rope.freq_base", 1.0, ModelLimits::kRopeTheta, 10'000.0);
  model.rope = read_gguf_rope(fields, theta, rotary_dim, tensors, meanings);
  checkpoint.config.vocab = read_vocab(fields, tensors.store());
  model.tied_head = !tensors.store().has("output.weight");
  return model;
}

}  // namespace heddle
