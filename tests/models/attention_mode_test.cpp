// --attention MODE: what it makes of a model's layers, and what it refuses.

#include "models/attention_mode.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace heddle {
namespace {

ModelConfig two_layers() {
  ModelConfig config;
  for (int i = 0; i < 2; ++i) {
    LayerSpec layer;
    layer.mixers.emplace_back(SoftmaxAttentionSpec());
    config.layers.push_back(layer);
  }
  return config;
}

SoftmaxAttentionSpec after(std::string_view mode, std::size_t layer = 0) {
  ModelConfig config = two_layers();
  apply_attention_mode(mode, config);
  return std::get<SoftmaxAttentionSpec>(config.layers.at(layer).mixers.at(0));
}

std::string refusal(std::string_view mode) {
  try {
    check_attention_mode(mode);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "accepted";
}

TEST(AttentionMode, SlidingAndStreamingAreWindows) {
  EXPECT_EQ(after("sliding:256").window, 256);
  EXPECT_EQ(after("sliding:256").first_keys, 0);
  EXPECT_EQ(after("streaming:4,256").window, 256);
  EXPECT_EQ(after("streaming:4,256").first_keys, 4);
  EXPECT_EQ(after("dense").window, 0);
}

TEST(AttentionMode, BlockPatternsCarryTheirNumbers) {
  const auto power = std::get<PatternSpec>(after("power:64").sparse);
  EXPECT_EQ(power.pattern, BlockPattern::kPower);
  EXPECT_EQ(power.block, 64);
  EXPECT_EQ(power.local, 5);
  EXPECT_EQ(std::get<PatternSpec>(after("power:64,4").sparse).local, 4);
  const auto strided = std::get<PatternSpec>(after("strided:32,7").sparse);
  EXPECT_EQ(strided.pattern, BlockPattern::kStrided);
  EXPECT_EQ(strided.step, 7);
  EXPECT_EQ(std::get<PatternSpec>(after("dilated:16,2").sparse).pattern, BlockPattern::kDilated);
}

TEST(AttentionMode, InfllmCountsTheForcedBlocksWithTheChosen) {
  const auto select = std::get<SelectSpec>(after("infllm:64,16").sparse);
  EXPECT_EQ(select.block, 64);
  EXPECT_EQ(select.kernel, 32);
  EXPECT_EQ(select.stride, 16);
  EXPECT_EQ(select.init_blocks, 1);
  EXPECT_EQ(select.local_blocks, 4);
  EXPECT_EQ(select.top_k, 21);
  EXPECT_EQ(select.dense_below, 21 * 64);
}

TEST(AttentionMode, LayersMayDiffer) {
  EXPECT_EQ(after("sliding:8@1", 0).window, 0);
  EXPECT_EQ(after("sliding:8@1", 1).window, 8);
  EXPECT_EQ(after("sliding:8@0;power:16@1", 0).window, 8);
  EXPECT_EQ(after("sliding:8@0;power:16@1", 1).sparse.index(), 1U);
  for (const char* mode : {"sliding:8@0-2", "sliding:8;power:16", "sliding:8@0;power:16@0-1"}) {
    ModelConfig config = two_layers();
    EXPECT_THROW(apply_attention_mode(mode, config), Error) << mode;
  }
}

TEST(AttentionMode, LayersWithAPatternOfTheirOwnKeepIt) {
  ModelConfig config = two_layers();
  std::get<SoftmaxAttentionSpec>(config.layers[0].mixers[0]).window = 17;
  apply_attention_mode("power:64", config);
  const auto& own = std::get<SoftmaxAttentionSpec>(config.layers[0].mixers[0]);
  EXPECT_EQ(own.window, 17);
  EXPECT_EQ(own.sparse.index(), 0U);
  EXPECT_EQ(std::get<SoftmaxAttentionSpec>(config.layers[1].mixers[0]).sparse.index(), 1U);
}

TEST(AttentionMode, AModeThatChangesNothingIsRefused) {
  ModelConfig config = two_layers();
  config.layers[0].mixers[0] = LinearAttentionSpec();
  EXPECT_THROW(apply_attention_mode("power:64@0", config), Error);
  config.layers[1].mixers[0] = LinearAttentionSpec();
  EXPECT_THROW(apply_attention_mode("dense", config), Error);
}

TEST(AttentionMode, RefusalsNameWhatIsWrong) {
  EXPECT_EQ(refusal("sliding:0"), "--attention: 'sliding:0': got W '0', allowed 1 to 1073741824");
  EXPECT_EQ(refusal("sliding:-4"),
            "--attention: 'sliding:-4': got W '-4', allowed 1 to 1073741824");
  EXPECT_EQ(refusal("power:7x"),
            "--attention: 'power:7x': got BLOCK '7x', allowed multiples of 16 from 16 to 65536");
  EXPECT_EQ(refusal("power:40"),
            "--attention: 'power:40': got BLOCK '40', allowed multiples of 16 from 16 to 65536");
  for (const char* mode : {"",
                           "cubist:3",
                           "sliding",
                           "sliding:",
                           "sliding:1,2",
                           "streaming:4",
                           "power:64,0",
                           "strided:64",
                           "strided:64,0",
                           "dilated:64,4,4",
                           "infllm:64",
                           "infllm:64,0",
                           "infllm:48,4",
                           "dense:1",
                           "sliding:8@",
                           "sliding:8@1-",
                           "sliding:8@3-1",
                           "sliding:8;",
                           "sliding:99999999999",
                           "power:+64"}) {
    EXPECT_NE(refusal(mode), "accepted") << mode;
    EXPECT_NE(refusal(mode).find(", allowed "), std::string::npos) << mode;
  }
}

}  // namespace
}  // namespace heddle
