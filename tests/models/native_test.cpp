// Heddle's own format: what it can say, and what it refuses.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "models/decoder.h"
#include "models/planned.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

Json softmax() {
  return {{"kind", "softmax"}, {"heads", 4}, {"kv_heads", 2}, {"head_dim", 16}};
}

Json linear() {
  return {{"kind", "linear"}, {"heads", 4}, {"head_dim", 16}, {"slope_rule", "alibi_by_layer"}};
}

Json dense() {
  return {{"kind", "dense"}, {"intermediate", 64}};
}

Json moe() {
  return {{"kind", "moe"}, {"experts", 8}, {"top_k", 2}, {"intermediate", 32}};
}

Json layer(const Json& mixer, const Json& ffn) {
  return {{"mixers", Json::array({mixer})}, {"ffn", ffn}};
}

Json model(const Json& layers) {
  return {{"model_type", "heddle"}, {"format", 1},     {"vocab_size", 32},
          {"hidden_size", 64},      {"context", 4096}, {"layers", layers}};
}

Checkpoint read(const Json& config, int layers = 0) {
  const test::TempFolder folder;
  folder.write("config.json", config.dump());
  return planned_checkpoint(folder.path() + "/config.json", layers);
}

std::string refusal(const Json& config) {
  try {
    read(config);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    const std::string text = error.what();
    const std::string place = "config.json: config: ";
    return text.substr(text.find(place) + place.size());
  }
  return "accepted";
}

/// The refusal of a model of one layer whose mixer or FFN has this key.
std::string mixer_refusal(Json mixer, const std::string& key, const Json& value) {
  mixer[key] = value;
  return refusal(model(Json::array({layer(mixer, dense())})));
}

std::string ffn_refusal(Json ffn, const std::string& key, const Json& value) {
  ffn[key] = value;
  return refusal(model(Json::array({layer(softmax(), ffn)})));
}

std::int64_t parameters(const Checkpoint& checkpoint) {
  std::int64_t n = 0;
  for (const StoredTensor& tensor : checkpoint.weights->tensors()) n += tensor.view.elements();
  return n;
}

TEST(NativeFormat, GroupsOfLayersAreWrittenOut) {
  const Json group = {{"repeat", 2},
                      {"layers", {layer(linear(), dense()), layer(softmax(), moe())}}};
  Json thrice = layer(softmax(), dense());
  thrice["repeat"] = 3;
  const Checkpoint checkpoint = read(model({group, thrice}));
  ASSERT_EQ(checkpoint.config.layers.size(), 7U);
  for (const int i : {0, 2}) {
    const LayerSpec& spec = checkpoint.config.layers[static_cast<std::size_t>(i)];
    EXPECT_TRUE(std::holds_alternative<LinearAttentionSpec>(spec.mixers.at(0))) << i;
  }
  EXPECT_TRUE(std::holds_alternative<MoeFfnSpec>(checkpoint.config.layers[3].ffn));
  EXPECT_TRUE(std::holds_alternative<DenseFfnSpec>(checkpoint.config.layers[6].ffn));
}

TEST(NativeFormat, SlopesFollowTheLayerInTheWholeModel) {
  Json two = layer(linear(), dense());
  two["repeat"] = 5;
  const auto first = [&](int layers, std::size_t at) {
    const Checkpoint checkpoint = read(model(Json::array({two})), layers);
    return std::get<LinearAttentionSpec>(checkpoint.config.layers.at(at).mixers.at(0)).slopes[0];
  };
  EXPECT_FLOAT_EQ(first(0, 0), 0.25F * 1.00001F);
  EXPECT_FLOAT_EQ(first(0, 2), 0.25F * 0.50001F);
  EXPECT_EQ(first(3, 2), first(0, 2));  // cut to three layers
}

TEST(NativeFormat, SeveralMixersShareALayer) {
  Json both = layer(softmax(), dense());
  both["mixers"].push_back(linear());
  const Checkpoint checkpoint = read(model(Json::array({both})));
  EXPECT_EQ(checkpoint.config.layers[0].mixers.size(), 2U);
  EXPECT_EQ(cache_needs(checkpoint.config).size(), 2U);
  EXPECT_FALSE(checkpoint.weights->find("layers.0.mixers.1.q.weight").absent());
}

TEST(NativeFormat, TensorsHaveTheShapesOfTheSpec) {
  Json mixer = softmax();
  mixer["output_gate"] = true;
  mixer["sinks"] = true;
  mixer["bias"] = "qkvo";
  mixer["qk_norm"] = "head";
  const Checkpoint checkpoint = read(model(Json::array({layer(mixer, moe())})));
  const auto shape = [&](const std::string& name) {
    return shape_text(checkpoint.weights->find("layers.0." + name));
  };
  EXPECT_EQ(shape("mixers.0.k.weight"), "[32, 64] BF16");
  EXPECT_EQ(shape("mixers.0.gate.weight"), "[64, 64] BF16");
  EXPECT_EQ(shape("mixers.0.sinks"), "[4] F32");
  EXPECT_EQ(shape("mixers.0.o.bias"), "[64] F32");
  EXPECT_EQ(shape("mixers.0.q_norm.weight"), "[16] F32");
  EXPECT_EQ(shape("ffn.experts.7.down.weight"), "[64, 32] BF16");
  EXPECT_EQ(shape("ffn_norm.weight"), "[64] F32");
}

TEST(NativeFormat, UnknownKeysAreNamedWithTheKnownOnes) {
  EXPECT_EQ(mixer_refusal(softmax(), "windw", 8).substr(0, 48),
            "layers[0].mixers[0].windw, got an unknown key, a");
  Json config = model(Json::array({layer(softmax(), dense())}));
  config["hidden"] = 5;
  EXPECT_EQ(refusal(config).substr(0, 43), "hidden, got an unknown key, allowed model_t");
  EXPECT_EQ(ffn_refusal(dense(), "experts", 3).substr(0, 40),
            "layers[0].ffn.experts, got an unknown ke");
}

TEST(NativeFormat, WrongMixersAreRefused) {
  const std::string m = "layers[0].mixers[0].";
  EXPECT_TRUE(mixer_refusal(softmax(), "kind", "mamba")
                  .starts_with(m + "kind, got 'mamba', allowed softmax, linear"));
  EXPECT_EQ(mixer_refusal(softmax(), "window", 0), m + "window, got 0, allowed 1 to 1073741824");
  EXPECT_EQ(mixer_refusal(softmax(), "kv_heads", 3),
            m + "kv_heads, got 3, allowed divisors of heads = 4");
  EXPECT_EQ(mixer_refusal(softmax(), "first_keys", 4),
            m + "first_keys, got 4, allowed 0 without a window");
  EXPECT_EQ(mixer_refusal(softmax(), "head_dim", 15),
            m + "head_dim, got 15, allowed even numbers from 2 to 1024");
  EXPECT_EQ(mixer_refusal(softmax(), "head_router", {{"shared", 2}, {"top_k", 3}}),
            m + "head_router.top_k, got 3, allowed 1 to 2");
  EXPECT_EQ(mixer_refusal(softmax(), "sparse", {{"kind", "power"}, {"block", 40}}),
            m + "sparse.block, got 40, allowed multiples of 16 from 16 to 65536");
  EXPECT_EQ(mixer_refusal(softmax(), "sparse", {{"kind", "infllm"}, {"block", 64}, {"top_k", 4}}),
            m + "sparse.top_k, got 4, allowed 5 to 1048576");
  EXPECT_EQ(mixer_refusal(softmax(), "sparse", {{"kind", "strided"}, {"block", 64}}),
            m + "sparse.step is missing, allowed 1 to 1048576");
  Json no_slopes = linear();
  no_slopes.erase("slope_rule");
  EXPECT_EQ(refusal(model(Json::array({layer(no_slopes, dense())}))),
            m + "slopes is missing, allowed an array, or slope_rule");
  EXPECT_EQ(mixer_refusal(no_slopes, "slopes", {0.1, 0.2}),
            m + "slopes, got 2 numbers, allowed 4, one per head");
  EXPECT_EQ(mixer_refusal(no_slopes, "slopes", {0.1, 0.2, 0.3, -1.0}),
            m + "slopes, got -1, allowed numbers from 0 to 50");
  Json grouped = linear();
  grouped["norm"] = "group";
  EXPECT_EQ(mixer_refusal(grouped, "norm_groups", 3),
            m + "norm_groups, got 3, allowed divisors of heads = 4");
}

TEST(NativeFormat, WrongExpertsAreRefused) {
  EXPECT_EQ(ffn_refusal(moe(), "top_k", 9), "layers[0].ffn.top_k, got 9, allowed 1 to 8");
  EXPECT_EQ(ffn_refusal(moe(), "groups", 3),
            "layers[0].ffn.groups, got 3, allowed divisors of experts = 8");
  Json grouped = moe();
  grouped["groups"] = 8;
  EXPECT_EQ(ffn_refusal(grouped, "top_groups", 1),
            "layers[0].ffn.top_k, got 2, allowed 1 to 1 (the experts of top_groups groups)");
  EXPECT_EQ(ffn_refusal(moe(), "score", "argmax"),
            "layers[0].ffn.score, got 'argmax', allowed softmax, sigmoid, softmax_of_chosen");
}

TEST(NativeFormat, WrongFramesAreRefused) {
  Json bad = layer(softmax(), dense());
  bad["norms"] = "both";
  bad["parallel"] = true;
  EXPECT_EQ(
      refusal(model(Json::array({bad}))),
      "layers[0].parallel, got true, allowed false with other norms than pre, or with residuals");
  EXPECT_EQ(refusal(model(Json::array())), "layers is missing, allowed one or more");
  Json config = model(Json::array({layer(softmax(), dense())}));
  config["format"] = 2;
  EXPECT_EQ(refusal(config), "format, got 2, allowed 1 to 1");
  config["model_type"] = "llama";
  EXPECT_EQ(refusal(config).substr(0, 44), "model_type, got 'llama', allowed 'heddle': s");
}

TEST(NativeFormat, PublishedShapesHaveTheirPublishedSizes) {
  const std::map<std::string, double> billions = {
      {"minimax-text-01", 456.1},     {"minimax-m1-80k", 456.1},   {"minicpm-sala", 9.47},
      {"ring-mini-linear-2.0", 16.4}, {"llama-3-8b", 8.03},        {"moh-llama3-8b", 8.30},
      {"qwen3-30b-a3b", 30.5},        {"gpt-oss-20b", 20.9},       {"mixtral-8x7b", 46.7},
      {"olmoe-1b-7b", 6.92},          {"qwen1.5-moe-a2.7b", 14.3}, {"transnormerllm-1b", 1.15}};
  std::size_t n = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(HEDDLE_SOURCE_DIR "/configs/models")) {
    if (entry.path().extension() != ".json" || entry.path().stem() == "registry") continue;
    const auto known = billions.find(entry.path().stem().string());
    ASSERT_NE(known, billions.end()) << entry.path();
    const auto total = static_cast<double>(parameters(planned_checkpoint(entry.path().string())));
    EXPECT_NEAR(total / 1e9, known->second, 0.006 * known->second) << entry.path();
    ++n;
  }
  EXPECT_EQ(n, billions.size());
}

}  // namespace
}  // namespace heddle
