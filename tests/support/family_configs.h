#pragma once
// Small configs of families and short ways to what they become.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/expected_weights.h"

namespace heddle::test::family_configs {

using nlohmann::json;

inline constexpr int kVocab = 6;

/// Four query heads on two KV heads of 16, hidden 64.
inline json tiny(const std::string& type, int layers) {
  return {{"model_type", type},       {"hidden_size", 64},
          {"intermediate_size", 32},  {"num_hidden_layers", layers},
          {"num_attention_heads", 4}, {"num_key_value_heads", 2},
          {"head_dim", 16},           {"max_position_embeddings", 4096},
          {"rms_norm_eps", 1e-5},     {"vocab_size", kVocab}};
}

inline json merged(json config, const json& more) {
  config.update(more);
  return config;
}

inline Checkpoint read(const json& config,
                       const std::string& embedding = "model.embed_tokens.weight") {
  std::int64_t hidden = 64;
  for (const char* key : {"hidden_size", "decoder_embed_dim"}) {
    if (config.contains(key)) hidden = config[key];
  }
  std::int64_t vocab = kVocab;
  if (config.contains("vocab_size")) vocab = config["vocab_size"];
  return test::read_family(config, {{embedding, {vocab, hidden}}});
}

inline std::string refusal(const json& config) {
  return test::refusal_of([&] { read(config); });
}

/// The layers as inspect draws them: L linear, S softmax.
inline std::string kinds(const Checkpoint& checkpoint) {
  std::string text;
  for (const LayerSpec& layer : checkpoint.config.layers) {
    text += std::holds_alternative<LinearAttentionSpec>(layer.mixers.at(0)) ? 'L' : 'S';
  }
  return text;
}

inline const LinearAttentionSpec& linear(const Checkpoint& checkpoint, std::size_t layer) {
  return std::get<LinearAttentionSpec>(checkpoint.config.layers.at(layer).mixers.at(0));
}
inline const SoftmaxAttentionSpec& softmax(const Checkpoint& checkpoint, std::size_t layer) {
  return std::get<SoftmaxAttentionSpec>(checkpoint.config.layers.at(layer).mixers.at(0));
}
inline const LinearAttentionNames& linear_names(const Checkpoint& checkpoint, std::size_t layer) {
  return std::get<LinearAttentionNames>(checkpoint.names.layers.at(layer).mixers.at(0));
}
inline const MoeFfnSpec& experts(const Checkpoint& checkpoint, std::size_t layer) {
  return std::get<MoeFfnSpec>(checkpoint.config.layers.at(layer).ffn);
}

inline void expect_residual(const ResidualSpec& spec, float residual, float branch, bool of_norm) {
  EXPECT_EQ(spec.residual, residual);
  EXPECT_EQ(spec.branch, branch);
  EXPECT_EQ(spec.of_norm, of_norm);
}

}  // namespace heddle::test::family_configs
