// What goes into the numerics id from a config: every field that decides bits, and nothing else.

#include "models/spec_hash.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

namespace heddle {
namespace {

std::string hash(const ModelConfig& config) {
  ValueHash hash;
  hash_config(config, hash);
  return hash.hex();
}

/// One layer of each mixer and FFN, with every optional part.
ModelConfig full_config() {
  SoftmaxAttentionSpec softmax;
  softmax.qk_norm = QkNormSpec{};
  softmax.heads = HeadRouterSpec{};
  softmax.rope.inv_freq = {1.0F, 0.5F};
  LinearAttentionSpec linear;
  linear.slopes = {0.5F, 0.25F};
  ModelConfig config;
  config.layers.resize(2);
  config.layers[0].mixers = {softmax, linear};
  config.layers[0].ffn = DenseFfnSpec{};
  config.layers[1].mixers = {softmax};
  config.layers[1].ffn = MoeFfnSpec{};
  return config;
}

using Change = std::function<void(ModelConfig&)>;

SoftmaxAttentionSpec& softmax(ModelConfig& config) {
  return std::get<SoftmaxAttentionSpec>(config.layers[0].mixers[0]);
}
LinearAttentionSpec& linear(ModelConfig& config) {
  return std::get<LinearAttentionSpec>(config.layers[0].mixers[1]);
}
MoeFfnSpec& moe(ModelConfig& config) {
  return std::get<MoeFfnSpec>(config.layers[1].ffn);
}

/// Every change gives a hash of its own.
void expect_distinct(const std::vector<Change>& changes) {
  std::set<std::string> seen = {hash(full_config())};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    ModelConfig config = full_config();
    changes[i](config);
    EXPECT_TRUE(seen.insert(hash(config)).second) << "change " << i;
  }
}

TEST(SpecHash, MixersCountWithAllTheirParts) {
  expect_distinct({
      [](ModelConfig& c) { softmax(c).window = 8; },
      [](ModelConfig& c) { softmax(c).first_keys = 8; },
      [](ModelConfig& c) { softmax(c).sinks = true; },
      [](ModelConfig& c) { softmax(c).output_gate = true; },
      [](ModelConfig& c) { softmax(c).log_scale = 8; },
      [](ModelConfig& c) { softmax(c).qk_norm.reset(); },
      [](ModelConfig& c) { softmax(c).qk_norm->all_heads = true; },
      [](ModelConfig& c) { softmax(c).heads.reset(); },
      [](ModelConfig& c) { softmax(c).heads->top_k = 3; },
      [](ModelConfig& c) { softmax(c).sparse = PatternSpec{}; },
      [](ModelConfig& c) { softmax(c).sparse = SelectSpec{}; },
      [](ModelConfig& c) { softmax(c).sparse = SelectSpec{.dense_below = 1}; },
      [](ModelConfig& c) { softmax(c).rope.inv_freq[1] = 0.25F; },
      [](ModelConfig& c) { softmax(c).rope.inv_freq.push_back(0.25F); },
      [](ModelConfig& c) { linear(c).slopes[1] = 0.125F; },
      [](ModelConfig& c) { linear(c).activation = Activation::kSilu; },
      [](ModelConfig& c) { linear(c).v_activation = Activation::kSilu; },
      [](ModelConfig& c) { linear(c).gate = OutputGate::kSigmoid; },
      [](ModelConfig& c) { linear(c).lrpe = true; },
      [](ModelConfig& c) { linear(c).norm_groups = 1; },
      [](ModelConfig& c) { std::swap(c.layers[0].mixers[0], c.layers[0].mixers[1]); },
      [](ModelConfig& c) { c.layers[0].mixers.pop_back(); },
  });
}

TEST(SpecHash, ExpertsAndFramesCount) {
  expect_distinct({
      [](ModelConfig& c) { moe(c).router.score = RouterScore::kSigmoid; },
      [](ModelConfig& c) { moe(c).router.renormalise = true; },
      [](ModelConfig& c) { moe(c).router.choice_bias = true; },
      [](ModelConfig& c) { moe(c).router.scale = 2.0F; },
      [](ModelConfig& c) { moe(c).limit = 7.0F; },
      [](ModelConfig& c) { moe(c).shared = SharedExpert::kAdded; },
      [](ModelConfig& c) { c.layers[0].ffn = MoeFfnSpec{}; },
      [](ModelConfig& c) { c.layers[0].post_norms = true; },
      [](ModelConfig& c) { c.layers[0].parallel = true; },
      [](ModelConfig& c) { c.layers[0].mixer_residual.of_norm = true; },
      [](ModelConfig& c) { c.layers[0].ffn_residual.branch = 0.5F; },
      [](ModelConfig& c) { std::swap(c.layers[0], c.layers[1]); },
      [](ModelConfig& c) { c.logit_scale = 0.5F; },
      [](ModelConfig& c) { c.final_soft_cap = 30.0F; },
  });
}

TEST(SpecHash, NamesAndTheTrainedContextDoNot) {
  ModelConfig config = full_config();
  config.name = "another";
  config.family = "another";
  config.context = 4096;
  config.generation.temperature = 0.7F;
  EXPECT_EQ(hash(config), hash(full_config()));
}

}  // namespace
}  // namespace heddle
