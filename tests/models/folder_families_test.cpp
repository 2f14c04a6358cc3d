// Families read from a model folder: what config.json's keys become, what absence and null stand
// for, what a wrong value is told.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "models/families/families.h"
#include "models/folder_weights.h"
#include "models/rope_scaling.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

using nlohmann::json;
using test::SafetensorsDoc;
using test::TempFolder;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint64_t kHidden = 8;
constexpr std::uint64_t kVocab = 6;
constexpr std::uint64_t kFfn = 12;

/// Keys that every config has: two layers, two query heads on one KV head of four.
json tiny_config(const std::string& type) {
  return {{"model_type", type},
          {"hidden_size", kHidden},
          {"intermediate_size", kFfn},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"head_dim", 4},
          {"max_position_embeddings", 64},
          {"vocab_size", kVocab},
          {"tie_word_embeddings", true}};
}

struct Tensors {
  std::string prefix = "model.";
  bool post_norms = false, qk_norm = false, qkv_bias = false, fused = false, head = false;
  std::vector<std::pair<std::string, std::vector<std::uint64_t>>> more = {};
};

std::string weights_of(const Tensors& t) {
  SafetensorsDoc doc;
  const auto add = [&](const std::string& name, const std::vector<std::uint64_t>& shape) {
    std::uint64_t n = 1;
    for (const std::uint64_t d : shape) n *= d;
    doc.add_f32(name, {shape.begin(), shape.end()}, std::vector<float>(n, 0.5F));
  };
  add(t.prefix + "embed_tokens.weight", {kVocab, kHidden});
  add(t.prefix + "norm.weight", {kHidden});
  if (t.head) add("lm_head.weight", {kVocab, kHidden});
  for (const std::string& layer : {t.prefix + "layers.0.", t.prefix + "layers.1."}) {
    add(layer + "input_layernorm.weight", {kHidden});
    add(layer + "post_attention_layernorm.weight", {kHidden});
    if (t.post_norms) {
      add(layer + "pre_feedforward_layernorm.weight", {kHidden});
      add(layer + "post_feedforward_layernorm.weight", {kHidden});
    }
    if (t.fused) {
      add(layer + "self_attn.qkv_proj.weight", {16, kHidden});
      add(layer + "mlp.gate_up_proj.weight", {2 * kFfn, kHidden});
    } else {
      add(layer + "self_attn.q_proj.weight", {8, kHidden});
      add(layer + "self_attn.k_proj.weight", {4, kHidden});
      add(layer + "self_attn.v_proj.weight", {4, kHidden});
      add(layer + "mlp.gate_proj.weight", {kFfn, kHidden});
      add(layer + "mlp.up_proj.weight", {kFfn, kHidden});
    }
    if (t.qkv_bias) {
      add(layer + "self_attn.q_proj.bias", {8});
      add(layer + "self_attn.k_proj.bias", {4});
      add(layer + "self_attn.v_proj.bias", {4});
    }
    if (t.qk_norm) {
      add(layer + "self_attn.q_norm.weight", {4});
      add(layer + "self_attn.k_norm.weight", {4});
    }
    add(layer + "self_attn.o_proj.weight", {kHidden, 8});
    add(layer + "mlp.down_proj.weight", {kHidden, kFfn});
  }
  for (const auto& [name, shape] : t.more) add(name, shape);
  return doc.serialise();
}

/// What the family of config's model_type makes of it.
Checkpoint read(const json& config, const Tensors& tensors = {}) {
  const TempFolder folder;
  folder.write("model.safetensors", weights_of(tensors));
  Checkpoint checkpoint;
  checkpoint.weights = FolderWeights::open(Folder(folder.path()));
  const std::string type = config.at("model_type");
  for (const Family& family : families()) {
    if (family.name != type && family.other_name != type) continue;
    checkpoint.config.family = family.name;
    family.read_folder(ConfigJson::parse(config.dump(), "config.json", "config"), checkpoint);
  }
  return checkpoint;
}

std::string refusal(const json& config, const Tensors& tensors = {}) {
  try {
    read(config, tensors);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "accepted";
}

json with(json config, const std::string& key, json value) {
  config[key] = std::move(value);
  return config;
}
json without(json config, const std::string& key) {
  config.erase(key);
  return config;
}

const SoftmaxAttentionSpec& attention(const Checkpoint& checkpoint, std::size_t layer) {
  return std::get<SoftmaxAttentionSpec>(checkpoint.config.layers.at(layer).mixers.at(0));
}
std::vector<int> windows(const Checkpoint& checkpoint) {
  std::vector<int> windows;
  for (std::size_t i = 0; i < checkpoint.config.layers.size(); ++i) {
    windows.push_back(attention(checkpoint, i).window);
  }
  return windows;
}

TEST(FolderFamilies, LlamaBecomesAConfig) {
  const Checkpoint checkpoint = read(tiny_config("llama"));
  EXPECT_EQ(checkpoint.config.hidden, 8);
  EXPECT_EQ(checkpoint.config.vocab, 6);
  EXPECT_EQ(checkpoint.config.context, 64);
  EXPECT_TRUE(checkpoint.config.tied_head);
  EXPECT_EQ(checkpoint.config.final_norm_eps, 1e-6F);  // what the reference assumes
  const SoftmaxAttentionSpec& mixer = attention(checkpoint, 1);
  EXPECT_EQ(mixer.n_q_heads, 2);
  EXPECT_EQ(mixer.n_kv_heads, 1);
  EXPECT_EQ(mixer.head_dim, 4);
  EXPECT_EQ(mixer.scale, 0.5F);
  EXPECT_THAT(mixer.rope.inv_freq, ElementsAre(1.0F, 0.01F));
}

TEST(FolderFamilies, AHeadThatIsTiedMayStandInTheFile) {
  EXPECT_TRUE(read(tiny_config("llama"), {.head = true}).config.tied_head);
  const Checkpoint untied =
      read(with(tiny_config("llama"), "tie_word_embeddings", false), {.head = true});
  EXPECT_FALSE(untied.config.tied_head);
  EXPECT_EQ(untied.names.head.tensor, "lm_head.weight");
  EXPECT_THAT(refusal(without(tiny_config("llama"), "tie_word_embeddings")),
              HasSubstr("tensor 'lm_head.weight' is missing"));
}

TEST(FolderFamilies, MistralsWindowIsNoneWhereItIsNull) {
  EXPECT_THAT(windows(read(tiny_config("mistral"))), Each(4096));
  EXPECT_THAT(windows(read(with(tiny_config("mistral"), "sliding_window", 7))), Each(7));
  EXPECT_THAT(windows(read(with(tiny_config("mistral"), "sliding_window", nullptr))), Each(0));
}

TEST(FolderFamilies, QwenWindowsNeedTheirSwitch) {
  json config = with(tiny_config("qwen2"), "sliding_window", 9);
  config["max_window_layers"] = 1;
  const Tensors tensors = {.qkv_bias = true};
  EXPECT_THAT(windows(read(config, tensors)), ElementsAre(0, 0));
  config["use_sliding_window"] = true;
  EXPECT_THAT(windows(read(config, tensors)), ElementsAre(0, 9));
  config["layer_types"] = {"sliding_attention", "full_attention"};
  EXPECT_THAT(windows(read(config, tensors)), ElementsAre(9, 0));
  config["layer_types"] = {"sliding_attention"};
  EXPECT_EQ(refusal(config, tensors),
            "config.json: config: layer_types, got 1 entries, allowed 2, one per layer");
  config["layer_types"] = {"sliding_attention", "chunked_attention"};
  EXPECT_EQ(refusal(config, tensors),
            "config.json: config: layer_types, got 'chunked_attention', allowed full_attention, "
            "sliding_attention");
}

TEST(FolderFamilies, Qwen2AlwaysHasBiases) {
  EXPECT_THAT(refusal(tiny_config("qwen2")),
              HasSubstr("tensor 'model.layers.0.self_attn.q_proj.bias' is missing"));
  EXPECT_THAT(
      refusal(tiny_config("llama"), {.qkv_bias = true}),
      HasSubstr("has no place in family llama with this config (and 5 more like it), allowed "
                "tensors that the family reads: this family has no such bias"));
  EXPECT_EQ(refusal(with(tiny_config("qwen3"), "attention_bias", false), {.qk_norm = true}),
            "accepted");
}

TEST(FolderFamilies, Gemma2CapsWhereItsConfigSaysNothingAndNotWhereItSaysNull) {
  const Tensors tensors = {.post_norms = true};
  json config = with(tiny_config("gemma2"), "sliding_window", 5);
  Checkpoint checkpoint = read(config, tensors);
  EXPECT_EQ(attention(checkpoint, 0).soft_cap, 50.0F);
  EXPECT_EQ(checkpoint.config.final_soft_cap, 30.0F);
  EXPECT_THAT(windows(checkpoint), ElementsAre(5, 0));
  EXPECT_EQ(attention(checkpoint, 0).scale, 1.0F / 16.0F);  // query_pre_attn_scalar 256
  EXPECT_EQ(checkpoint.config.embedding_scale, std::sqrt(8.0F));
  EXPECT_TRUE(checkpoint.config.layers[0].post_norms);
  EXPECT_EQ(checkpoint.names.layers[0].mixer_norm.add, 1.0F);
  EXPECT_EQ(checkpoint.names.layers[0].ffn_norm.tensor,
            "model.layers.0.pre_feedforward_layernorm.weight");
  config["attn_logit_softcapping"] = nullptr;
  config["final_logit_softcapping"] = nullptr;
  checkpoint = read(config, tensors);
  EXPECT_EQ(attention(checkpoint, 0).soft_cap, 0.0F);
  EXPECT_EQ(checkpoint.config.final_soft_cap, 0.0F);
}

TEST(FolderFamilies, Gemma3RotatesWindowedLayersByTheLocalBase) {
  json config = with(tiny_config("gemma3_text"), "sliding_window", 5);
  config["sliding_window_pattern"] = 2;
  config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8.0}};
  const Tensors tensors = {.post_norms = true, .qk_norm = true};
  const Checkpoint checkpoint = read(config, tensors);
  EXPECT_EQ(checkpoint.config.family, "gemma3");
  EXPECT_THAT(windows(checkpoint), ElementsAre(5, 0));
  EXPECT_EQ(attention(checkpoint, 0).rope.inv_freq, rope_inv_freq(10'000.0, 4));
  EXPECT_EQ(attention(checkpoint, 1).rope.inv_freq, scale_linear(rope_inv_freq(1e6, 4), 8.0));
}

TEST(FolderFamilies, RotationsByLayerTypeAreRead) {
  json config = without(tiny_config("gemma3_text"), "rope_theta");
  config["layer_types"] = {"sliding_attention", "full_attention"};
  config["sliding_window"] = 5;
  config["rope_parameters"] = {
      {"full_attention", {{"rope_type", "default"}, {"rope_theta", 160'000.0}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 400.0}}}};
  const Checkpoint checkpoint = read(config, {.post_norms = true, .qk_norm = true});
  EXPECT_EQ(attention(checkpoint, 0).rope.inv_freq, rope_inv_freq(400.0, 4));
  EXPECT_EQ(attention(checkpoint, 1).rope.inv_freq, rope_inv_freq(160'000.0, 4));
}

TEST(FolderFamilies, AModelThatAlsoSeesImagesIsReadAsText) {
  json inner = with(tiny_config("gemma3_text"), "sliding_window", 5);
  const json config = {{"model_type", "gemma3"}, {"text_config", inner}};
  Tensors tensors = {.prefix = "language_model.model.", .post_norms = true, .qk_norm = true};
  tensors.more = {{"vision_tower.patch.weight", {2, 2}}};
  EXPECT_EQ(refusal(config, tensors), "accepted");
  tensors.more = {{"audio_tower.patch.weight", {2, 2}}};
  EXPECT_THAT(refusal(config, tensors),
              HasSubstr("tensor 'audio_tower.patch.weight': place, got one that has no place"));
}

json phi3_config(int n_factors) {
  json config = tiny_config("phi3");
  config["original_max_position_embeddings"] = 16;
  config["rope_scaling"] = {
      {"type", "longrope"},
      {"short_factor", std::vector<double>(2, 1.0)},
      {"long_factor", std::vector<double>(static_cast<std::size_t>(n_factors), 4.0)}};
  return config;
}

TEST(FolderFamilies, LongropeIsChosenOnceByTheContext) {
  const Checkpoint checkpoint = read(phi3_config(2), {.fused = true});
  const RopeSpec& rope = attention(checkpoint, 0).rope;
  const std::vector<float> plain = rope_inv_freq(10'000.0, 4);
  EXPECT_EQ(rope.inv_freq, plain);
  EXPECT_FLOAT_EQ(rope.scale, static_cast<float>(std::sqrt(1.0 + std::log(4.0) / std::log(16.0))));
  const ModelConfig at_most = for_context(checkpoint.config, 16);
  const ModelConfig beyond = for_context(checkpoint.config, 17);
  const auto rope_of = [](const ModelConfig& config) {
    return std::get<SoftmaxAttentionSpec>(config.layers[0].mixers.at(0)).rope;
  };
  EXPECT_EQ(rope_of(at_most).inv_freq, plain);
  EXPECT_THAT(rope_of(beyond).inv_freq, ElementsAre(plain[0] / 4.0F, plain[1] / 4.0F));
  EXPECT_TRUE(rope_of(beyond).long_inv_freq.empty());
}

TEST(FolderFamilies, FusedRowsAreParts) {
  const Checkpoint checkpoint = read(phi3_config(2), {.fused = true});
  const auto& names = std::get<SoftmaxAttentionNames>(checkpoint.names.layers[1].mixers.at(0));
  const std::string fused = "model.layers.1.self_attn.qkv_proj.weight";
  EXPECT_EQ(names.k.tensor, fused);
  EXPECT_EQ(names.k.first_row, 8);
  EXPECT_EQ(names.k.rows, 4);
  EXPECT_EQ(names.k.of_rows, 16);
  EXPECT_EQ(names.v.first_row, 12);
  const auto& ffn = std::get<DenseFfnNames>(checkpoint.names.layers[1].ffn);
  EXPECT_EQ(ffn.up.first_row, 12);
}

TEST(FolderFamiliesRefuse, RotationsThatTheyDoNotCompute) {
  const auto scaled = [](json scaling) {
    return with(tiny_config("llama"), "rope_scaling", std::move(scaling));
  };
  EXPECT_EQ(
      refusal(scaled({{"type", "dynamic"}, {"factor", 2.0}})),
      "config.json: config: rope_scaling.type, got 'dynamic', allowed default, linear, llama3, "
      "yarn, longrope");
  EXPECT_EQ(refusal(scaled({{"rope_type", "linear"}})),
            "config.json: config: rope_scaling.factor is missing");
  EXPECT_EQ(refusal(scaled({{"rope_type", "linear"}, {"factor", 0.0}})),
            "config.json: config: rope_scaling.factor, got 0, allowed 1 to 1e+06");
  EXPECT_EQ(refusal(scaled({{"rope_type", "llama3"},
                            {"factor", 8.0},
                            {"low_freq_factor", 4.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 16}})),
            "config.json: config: rope_scaling.high_freq_factor, got 4, allowed numbers above "
            "low_freq_factor = 4");
  EXPECT_EQ(refusal(phi3_config(3), {.fused = true}),
            "config.json: config: rope_scaling.long_factor, got 3 numbers, allowed 2, one per "
            "rotated pair");
  EXPECT_EQ(refusal(with(tiny_config("llama"), "partial_rotary_factor", 0.25)),
            "config.json: config: partial_rotary_factor, got 0.25, allowed parts of the head's 4 "
            "that are even and not 0");
  EXPECT_EQ(refusal(with(tiny_config("llama"), "rope_theta", 0)),
            "config.json: config: rope_theta, got 0, allowed 1 to 1e+15");
}

TEST(FolderFamiliesRefuse, WhatTheirConfigAsksForAndTheyDoNotCompute) {
  const auto change = [](const std::string& key, json value) {
    return refusal(with(tiny_config("llama"), key, std::move(value)));
  };
  const std::string start = "config.json: config: ";
  EXPECT_EQ(change("num_local_experts", 8),
            start +
                "num_local_experts, got 8, allowed none: family llama has no mixture of "
                "experts");
  EXPECT_EQ(change("num_experts", 4),
            start + "num_experts, got 4, allowed none: family llama has no mixture of experts");
  EXPECT_EQ(change("use_bidirectional_attention", true),
            start +
                "use_bidirectional_attention, got true, allowed none: family llama has no "
                "bidirectional attention");
  EXPECT_EQ(change("is_encoder_decoder", true),
            start + "is_encoder_decoder, got true, allowed none: family llama has no encoder");
  EXPECT_EQ(change("is_decoder", false), start + "is_decoder, got false, allowed true");
  EXPECT_EQ(change("is_causal", false), start + "is_causal, got false, allowed true");
}

TEST(FolderFamiliesRefuse, WhatIsAskedForInTheTextPartToo) {
  json inner = with(tiny_config("gemma3_text"), "sliding_window", 5);
  const Tensors tensors = {.prefix = "language_model.model.", .post_norms = true, .qk_norm = true};
  // Configs of parts are written with the library's defaults, of which this is one.
  inner["is_decoder"] = false;
  json config = {{"model_type", "gemma3"}, {"vision_config", {{"a", 1}}}, {"text_config", inner}};
  EXPECT_EQ(refusal(config, tensors), "accepted");
  config["text_config"]["use_bidirectional_attention"] = true;
  EXPECT_EQ(refusal(config, tensors),
            "config.json: config: text_config.use_bidirectional_attention, got true, allowed none: "
            "family gemma3 has no bidirectional attention");
}

TEST(FolderFamilies, SwitchesThatAreOffAskForNothing) {
  json config = tiny_config("llama");
  config["num_local_experts"] = 0;
  config["num_experts"] = nullptr;
  config["use_bidirectional_attention"] = false;
  config["is_encoder_decoder"] = false;
  config["is_decoder"] = true;
  config["layers_block_type"] = json::array();
  config["attention_dropout"] = 0.1;  // of training
  EXPECT_EQ(refusal(config), "accepted");
}

TEST(FolderFamiliesRefuse, ClassesThatAreNoCausalLanguageModel) {
  const auto of = [](const char* name) {
    return refusal(with(tiny_config("llama"), "architectures", {name}));
  };
  EXPECT_EQ(of("LlamaForCausalLM"), "accepted");
  for (const std::string name :
       {"LlamaForSequenceClassification", "LlamaModel", "LlamaForConditionalGeneration"}) {
    EXPECT_EQ(of(name.c_str()), "config.json: config: architectures, got '" + name +
                                    "', allowed causal language models (LlamaForCausalLM)");
  }
  json config = {{"model_type", "gemma3"},
                 {"architectures", {"Gemma3ForConditionalGeneration"}},
                 {"text_config", with(tiny_config("gemma3_text"), "sliding_window", 5)}};
  const Tensors tensors = {.prefix = "language_model.model.", .post_norms = true, .qk_norm = true};
  EXPECT_EQ(refusal(config, tensors), "accepted");
  config["architectures"] = {"Gemma3ForTokenClassification"};
  EXPECT_EQ(refusal(config, tensors),
            "config.json: config: architectures, got 'Gemma3ForTokenClassification', allowed "
            "causal language models (Gemma3ForCausalLM, Gemma3ForConditionalGeneration)");
}

TEST(FolderFamiliesRefuse, NumbersThatDoNotFit) {
  const auto change = [](const std::string& key, json value) {
    return refusal(with(tiny_config("llama"), key, std::move(value)));
  };
  EXPECT_THAT(change("num_attention_heads", 0), HasSubstr("config: num_attention_heads, got 0, "));
  EXPECT_THAT(change("num_key_value_heads", 3),
              HasSubstr("num_key_value_heads, got 3, allowed divisors of num_attention_heads = 2"));
  EXPECT_THAT(change("num_hidden_layers", 1'000'000'000),
              HasSubstr("num_hidden_layers, got 1000000000, allowed 1 to 10000"));
  EXPECT_THAT(change("max_position_embeddings", 1LL << 31),
              HasSubstr("max_position_embeddings, got 2147483648"));
  EXPECT_THAT(change("rms_norm_eps", -1e-5),
              HasSubstr("rms_norm_eps, got -1e-05, allowed numbers above 0, up to 1"));
  EXPECT_THAT(change("vocab_size", 7),
              HasSubstr("vocab_size, got 7, allowed 6 (rows of model.embed_tokens.weight)"));
  EXPECT_THAT(change("hidden_act", "relu2"),
              HasSubstr("hidden_act, got 'relu2', allowed silu, gelu, gelu_pytorch_tanh"));
  EXPECT_THAT(change("hidden_size", "8"), HasSubstr("config: hidden_size, got "));
  EXPECT_THAT(change("hidden_size", 8.5), HasSubstr("config: hidden_size, got "));
  EXPECT_THAT(change("intermediate_size", 16),
              HasSubstr("tensor 'model.layers.0.mlp.gate_proj.weight': shape, got [12, 8], allowed "
                        "[16, 8]"));
  json config = without(tiny_config("llama"), "head_dim");
  config["num_attention_heads"] = 3;
  EXPECT_THAT(refusal(config),
              HasSubstr("hidden_size, got 8, allowed multiples of num_attention_heads = 3"));
  EXPECT_THAT(change("quantization_config", {{"quant_method", "gptq"}}),
              HasSubstr("quantization_config.quant_method, got 'gptq', allowed no "
                        "quantization_config"));
}

}  // namespace
}  // namespace heddle
