// Family llama: from keys and tensor names to a ModelConfig; what a wrong file is told.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <numeric>
#include <string>

#include "base/error.h"
#include "models/gguf_checkpoint.h"
#include "models/rope_scaling.h"
#include "tests/support/default_model.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/tiny_llama.h"

namespace heddle {
namespace {

using test::GgufDoc;
using test::tiny_llama;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Checkpoint read(const std::string& file) {
  return checkpoint_from_gguf(GgufWeights::over(std::as_bytes(std::span(file)), "x.gguf"));
}

std::string refusal_of(const std::function<void(GgufDoc&)>& change) {
  GgufDoc doc = tiny_llama();
  change(doc);
  const std::string file = doc.serialise();
  try {
    read(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "";
}

/// The change is one u32 key.
std::string refusal_of(const std::string& key, std::uint32_t value) {
  return refusal_of([&](GgufDoc& d) { d.set(key, value); });
}
std::string refusal_of(const std::string& key, float value) {
  return refusal_of([&](GgufDoc& d) { d.set(key, value); });
}

const SoftmaxAttentionSpec& attention(const Checkpoint& checkpoint, std::size_t layer) {
  return std::get<SoftmaxAttentionSpec>(checkpoint.config.layers.at(layer).mixers.at(0));
}

TEST(LlamaGguf, BecomesAValidatedConfig) {
  const std::string file = tiny_llama().serialise();
  const Checkpoint checkpoint = read(file);
  const ModelConfig& config = checkpoint.config;
  EXPECT_EQ(config.name, "tiny");
  EXPECT_EQ(config.family, "llama");
  EXPECT_EQ(config.hidden, 8);
  EXPECT_EQ(config.vocab, 6);
  EXPECT_EQ(config.context, 64);
  EXPECT_TRUE(config.tied_head);
  EXPECT_EQ(config.embedding_scale, 1.0F);
  EXPECT_EQ(config.final_norm_eps, 1e-5F);
  ASSERT_EQ(config.layers.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    const SoftmaxAttentionSpec& mixer = attention(checkpoint, i);
    EXPECT_EQ(mixer.n_q_heads, 2);
    EXPECT_EQ(mixer.n_kv_heads, 1);
    EXPECT_EQ(mixer.head_dim, 4);
    EXPECT_EQ(mixer.scale, 0.5F);
    EXPECT_EQ(mixer.rope.rotary_dim, 4);
    EXPECT_THAT(mixer.rope.inv_freq, ElementsAre(1.0F, 0.01F));
    EXPECT_EQ(mixer.rope.scale, 1.0F);
    EXPECT_EQ(std::get<DenseFfnSpec>(config.layers[i].ffn).intermediate, 12);
    EXPECT_EQ(std::get<DenseFfnSpec>(config.layers[i].ffn).activation, Activation::kSilu);
    EXPECT_EQ(config.layers[i].norm_eps, 1e-5F);
  }
  EXPECT_EQ(checkpoint.file_bytes, file.size());
  EXPECT_EQ(checkpoint.chat_template, "{{ messages[0].content }}");
}

TEST(LlamaGguf, EveryNameOfTheDecoderIsATensorAndNoneIsLeftOver) {
  const std::string file = tiny_llama().serialise();
  const Checkpoint checkpoint = read(file);
  WeightStore& weights = *checkpoint.weights;
  const DecoderNames& names = checkpoint.names;
  weights.require(names.embedding.tensor, {6, 8});
  weights.require(names.final_norm.tensor, {8});
  EXPECT_EQ(names.head.tensor, names.embedding.tensor);
  for (const LayerNames& layer : names.layers) {
    const auto& mixer = std::get<SoftmaxAttentionNames>(layer.mixers.at(0));
    const auto& ffn = std::get<DenseFfnNames>(layer.ffn);
    weights.require(layer.mixer_norm.tensor, {8});
    weights.require(mixer.q.tensor, {8, 8});
    weights.require(mixer.k.tensor, {4, 8});
    weights.require(mixer.v.tensor, {4, 8});
    weights.require(mixer.o.tensor, {8, 8});
    weights.require(layer.ffn_norm.tensor, {8});
    weights.require(ffn.gate.tensor, {12, 8});
    weights.require(ffn.up.tensor, {12, 8});
    weights.require(ffn.down.tensor, {8, 12});
  }
  EXPECT_NO_THROW(weights.check_all_bound());
}

TEST(LlamaGguf, QueryAndKeyRowsAreTurnedBackToHalves) {
  const std::string file = tiny_llama().serialise();
  const Checkpoint checkpoint = read(file);
  const auto& names = std::get<SoftmaxAttentionNames>(checkpoint.names.layers[1].mixers.at(0));
  EXPECT_THAT(names.q.row_order, ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  EXPECT_THAT(names.k.row_order, ElementsAre(0, 2, 1, 3));
}

TEST(LlamaGguf, RowOrderUndoesThePermutationOfConverters) {
  // Converters reshape each head's rows [2, d/2, n] and swap the first two axes.
  constexpr int kHeads = 3;
  constexpr int kHeadDim = 16;
  GgufDoc doc = tiny_llama();
  doc.set<std::uint32_t>("llama.attention.head_count", kHeads);
  doc.set<std::uint32_t>("llama.attention.head_count_kv", kHeads);
  doc.set<std::uint32_t>("llama.attention.key_length", kHeadDim);
  doc.set<std::uint32_t>("llama.attention.value_length", kHeadDim);
  doc.set<std::uint32_t>("llama.rope.dimension_count", kHeadDim);
  const std::uint64_t rows = kHeads * kHeadDim;
  for (const char* block : {"blk.0.", "blk.1."}) {
    for (const char* name :
         {"attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight"}) {
      const bool output = name == std::string("attn_output.weight");
      doc.remove_tensor(std::string(block) + name);
      doc.add_f32(
          std::string(block) + name,
          output ? std::vector<std::uint64_t>{rows, 8} : std::vector<std::uint64_t>{8, rows},
          test::counting(8 * rows, 0.0F));
    }
  }
  const std::string file = doc.serialise();
  const Checkpoint checkpoint = read(file);
  std::vector<int> stored;  // which original row each stored row is
  for (int h = 0; h < kHeads; ++h) {
    for (int i = 0; i < kHeadDim / 2; ++i) {
      for (int half = 0; half < 2; ++half) {
        stored.push_back(h * kHeadDim + half * kHeadDim / 2 + i);
      }
    }
  }
  const auto& order =
      std::get<SoftmaxAttentionNames>(checkpoint.names.layers[0].mixers.at(0)).q.row_order;
  ASSERT_EQ(order.size(), rows);
  for (std::size_t row = 0; row < rows; ++row) {
    EXPECT_EQ(stored[static_cast<std::size_t>(order[row])], static_cast<int>(row));
  }
}

TEST(LlamaGguf, DimensionsThatDoNotRotateKeepTheirPlace) {
  GgufDoc doc = tiny_llama();
  doc.set<std::uint32_t>("llama.rope.dimension_count", 2);
  const std::string file = doc.serialise();
  const Checkpoint checkpoint = read(file);
  EXPECT_THAT(attention(checkpoint, 0).rope.inv_freq, ElementsAre(1.0F));
  const auto& names = std::get<SoftmaxAttentionNames>(checkpoint.names.layers[0].mixers.at(0));
  EXPECT_THAT(names.k.row_order, ElementsAre(0, 1, 2, 3));
}

TEST(LlamaGguf, AnOutputTensorIsAnUntiedHead) {
  GgufDoc doc = tiny_llama();
  doc.add_f32("output.weight", {8, 6}, test::counting(48, 0.0F));
  const std::string file = doc.serialise();
  const Checkpoint checkpoint = read(file);
  EXPECT_FALSE(checkpoint.config.tied_head);
  EXPECT_EQ(checkpoint.names.head.tensor, "output.weight");
}

TEST(LlamaGguf, AbsentKeysHaveTheFormatsDefaults) {
  GgufDoc doc = tiny_llama();
  for (const char* key : {"llama.attention.head_count_kv", "llama.rope.freq_base",
                          "llama.rope.dimension_count", "llama.vocab_size", "general.name",
                          "tokenizer.chat_template", "tokenizer.ggml.add_bos_token"}) {
    doc.remove(key);
  }
  for (const char* name : {"blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.1.attn_k.weight",
                           "blk.1.attn_v.weight"}) {
    doc.remove_tensor(name);
    doc.add_f32(name, {8, 8}, test::counting(64, 0.0F));
  }
  const std::string file = doc.serialise();
  const Checkpoint checkpoint = read(file);
  EXPECT_EQ(attention(checkpoint, 0).n_kv_heads, 2);
  EXPECT_THAT(attention(checkpoint, 0).rope.inv_freq, ElementsAre(1.0F, 0.01F));
  EXPECT_EQ(checkpoint.config.vocab, 6);
  EXPECT_EQ(checkpoint.config.name, "");
  EXPECT_EQ(checkpoint.chat_template, "");
  EXPECT_FALSE(checkpoint.tokenizer->facts().add_bos());
  EXPECT_FALSE(checkpoint.config.generation.temperature.has_value());
}

TEST(LlamaGguf, EqualValuesPerLayerAreOneValue) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.set_array<std::int32_t>("llama.attention.head_count", {2, 2});
              d.set_array<std::uint32_t>("llama.feed_forward_length", {12, 12});
            }),
            "");
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.set_array<std::int32_t>("llama.attention.head_count_kv", {1, 2});
            }),
            "x.gguf: config: llama.attention.head_count_kv, got 1 and 2 in different layers, "
            "allowed one value for all layers");
}

TEST(LlamaGguf, FactorsInRopeFreqsDivideTheFrequencies) {
  GgufDoc doc = tiny_llama();
  doc.add_f32("rope_freqs.weight", {2}, {1.0F, 8.0F});
  const std::string file = doc.serialise();
  const Checkpoint checkpoint = read(file);
  EXPECT_THAT(attention(checkpoint, 1).rope.inv_freq, ElementsAre(1.0F, 0.01F / 8.0F));
}

TEST(LlamaGguf, RopeFactorsAreFiniteAndPositive) {
  for (const float bad : {0.0F, -1.0F, std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    const std::string text = refusal_of([&](GgufDoc& d) {
      d.add_f32("rope_freqs.weight", {2}, {1.0F, bad});
    });
    EXPECT_THAT(text, HasSubstr("x.gguf: config: rope_freqs.weight[1], got ")) << bad;
    EXPECT_THAT(text, HasSubstr(", allowed 1e-06 to 1e+06")) << bad;
  }
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.add_f32("rope_freqs.weight", {3}, {1, 1, 1});
            }),
            "x.gguf: tensor 'rope_freqs.weight': shape, got [3], allowed [2]");
}

TEST(LlamaGguf, TablesOfOldConvertersAreHarmless) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.add_f32("blk.1.attn_rot_embd.weight", {2}, {1, 2});
            }),
            "");
}

TEST(LlamaGguf, SamplingDefaultsAreRead) {
  GgufDoc doc = tiny_llama();
  doc.set<float>("general.sampling.temp", 0.5F);
  doc.set<float>("general.sampling.top_p", 0.75F);
  doc.set<float>("general.sampling.min_p", 0.0625F);
  doc.set<std::int32_t>("general.sampling.top_k", 40);
  const std::string file = doc.serialise();
  const GenerationDefaults generation = read(file).config.generation;
  EXPECT_EQ(generation.temperature, 0.5F);
  EXPECT_EQ(generation.top_p, 0.75F);
  EXPECT_EQ(generation.min_p, 0.0625F);
  EXPECT_EQ(generation.top_k, 40);
  EXPECT_EQ(refusal_of("general.sampling.temp", -1.0F),
            "x.gguf: config: general.sampling.temp, got -1, allowed 0 to 100");
  EXPECT_EQ(refusal_of("general.sampling.top_p", 1.5F),
            "x.gguf: config: general.sampling.top_p, got 1.5, allowed 0 to 1");
}

// --- refused configs

TEST(LlamaRefuses, OtherArchitecturesListingTheKnownOnes) {
  EXPECT_EQ(
      refusal_of([](GgufDoc& d) { d.set_text("general.architecture", "nosuch"); }),
      "x.gguf: config: general.architecture, got 'nosuch', allowed llama, qwen2, qwen3, gemma2, "
      "gemma3, phi3, olmoe, qwen2moe, qwen3moe, gpt-oss, minimax-01, minicpm");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.remove("general.architecture"); }),
            "x.gguf: config: general.architecture is missing");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.remove("llama.block_count"); }),
            "x.gguf: config: llama.block_count is missing, allowed 1 to 10000");
}

TEST(LlamaRefuses, MissingKeysByName) {
  for (const char* key : {"llama.block_count", "llama.context_length", "llama.embedding_length",
                          "llama.feed_forward_length", "llama.attention.head_count",
                          "llama.attention.layer_norm_rms_epsilon"}) {
    EXPECT_THAT(refusal_of([&](GgufDoc& d) { d.remove(key); }),
                StartsWith(std::string("x.gguf: config: ") + key + " is missing"));
  }
}

TEST(LlamaRefuses, NumbersOutOfRange) {
  EXPECT_EQ(refusal_of("llama.block_count", 0U),
            "x.gguf: config: llama.block_count, got 0, allowed 1 to 10000");
  EXPECT_EQ(refusal_of("llama.block_count", 1000000000U),
            "x.gguf: config: llama.block_count, got 1000000000, allowed 1 to 10000");
  EXPECT_EQ(refusal_of("llama.attention.head_count", 0U),
            "x.gguf: config: llama.attention.head_count, got 0, allowed 1 to 65536");
  EXPECT_EQ(refusal_of("llama.attention.head_count", 3U),
            "x.gguf: config: llama.embedding_length, got 8, allowed multiples of "
            "llama.attention.head_count = 3");
  EXPECT_EQ(refusal_of("llama.attention.head_count_kv", 0U),
            "x.gguf: config: llama.attention.head_count_kv, got 0, allowed 1 to 65536");
  EXPECT_EQ(refusal_of("llama.attention.head_count_kv", 4U),
            "x.gguf: config: llama.attention.head_count_kv, got 4, allowed divisors of "
            "llama.attention.head_count = 2");
  EXPECT_EQ(refusal_of("llama.context_length", 0U),
            "x.gguf: config: llama.context_length, got 0, allowed 1 to 1073741824");
  EXPECT_EQ(refusal_of("llama.context_length", 1U << 31),
            "x.gguf: config: llama.context_length, got 2147483648, allowed 1 to 1073741824");
  EXPECT_EQ(refusal_of("llama.vocab_size", 7U),
            "x.gguf: config: llama.vocab_size, got 7, allowed 6 (rows of token_embd.weight)");
  EXPECT_EQ(refusal_of("llama.rope.dimension_count", 6U),
            "x.gguf: config: llama.rope.dimension_count, got 6, allowed even numbers from 2 to the "
            "head's 4");
  EXPECT_EQ(refusal_of("llama.rope.dimension_count", 3U),
            "x.gguf: config: llama.rope.dimension_count, got 3, allowed even numbers from 2 to the "
            "head's 4");
  EXPECT_EQ(refusal_of("llama.attention.value_length", 8U),
            "x.gguf: config: llama.attention.value_length, got 8, allowed "
            "llama.attention.key_length = 4");
}

TEST(LlamaRefuses, EpsilonAndThetaThatAreNotPositiveNumbers) {
  const std::string eps = "llama.attention.layer_norm_rms_epsilon";
  EXPECT_EQ(refusal_of(eps, -0.5F),
            "x.gguf: config: " + eps + ", got -0.5, allowed numbers above 0, up to 1");
  EXPECT_EQ(refusal_of(eps, 0.0F),
            "x.gguf: config: " + eps + ", got 0, allowed numbers above 0, up to 1");
  EXPECT_EQ(refusal_of(eps, std::numeric_limits<float>::quiet_NaN()),
            "x.gguf: config: " + eps + ", got nan, allowed finite numbers");
  EXPECT_EQ(refusal_of("llama.rope.freq_base", 0.0F),
            "x.gguf: config: llama.rope.freq_base, got 0, allowed 1 to 1e+15");
  EXPECT_EQ(refusal_of("llama.rope.freq_base", std::numeric_limits<float>::quiet_NaN()),
            "x.gguf: config: llama.rope.freq_base, got nan, allowed finite numbers");
}

TEST(LlamaRefuses, AnotherArchitectureNamingWhatItWouldTake) {
  EXPECT_THAT(refusal_of([](GgufDoc& d) {
                d.set_text("general.architecture", "hyena");
                d.set<std::uint32_t>("hyena.expert_count", 8);
                d.set<std::uint32_t>("hyena.ssm.state_size", 16);
              }),
              HasSubstr("minicpm; its config also asks for expert_count (mixture of experts), "
                        "ssm.state_size (state space layers)"));
}

TEST(LlamaRefuses, KindsThatAreNotNumbers) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set_text("llama.block_count", "2"); }),
            "x.gguf: config: llama.block_count, got a value of kind string, allowed an integer");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set<float>("llama.block_count", 2.0F); }),
            "x.gguf: config: llama.block_count, got a value of kind f32, allowed an integer");
}

TEST(LlamaRefuses, WhatItDoesNotCompute) {
  EXPECT_EQ(refusal_of("llama.expert_count", 8U),
            "x.gguf: config: llama.expert_used_count is missing, allowed 1 to 8");
  EXPECT_EQ(refusal_of("llama.expert_count", 0U), "");
  EXPECT_EQ(refusal_of("llama.logit_scale", 2.0F),
            "x.gguf: config: llama.logit_scale, got 2, allowed 1");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set<bool>("llama.attention.causal", false); }),
            "x.gguf: config: llama.attention.causal, got false, allowed true");
}

TEST(LlamaRefuses, RopeScalingsThatItDoesNotCompute) {
  for (const char* type : {"longrope", "dynamic"}) {
    EXPECT_EQ(refusal_of([&](GgufDoc& d) { d.set_text("llama.rope.scaling.type", type); }),
              std::string("x.gguf: config: llama.rope.scaling.type, got '") + type +
                  "', allowed 'none', 'linear', 'yarn' (llama3 scaling comes as tensor "
                  "rope_freqs.weight, longrope as rope_factors_short.weight and "
                  "rope_factors_long.weight)");
  }
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set_text("llama.rope.scaling.type", "none"); }), "");
  EXPECT_EQ(refusal_of("llama.rope.scaling.factor", 0.5F),
            "x.gguf: config: llama.rope.scaling.factor, got 0.5, allowed 1 to 1e+06");
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.set_text("llama.rope.scaling.type", "yarn");
              d.set<float>("llama.rope.scaling.factor", 2.0F);
            }),
            "x.gguf: config: llama.rope.scaling.original_context_length is missing, allowed 1 to "
            "1073741824");
}

TEST(LlamaRefuses, ARopeScalingWithoutItsFactor) {
  for (const char* type : {"linear", "yarn"}) {
    EXPECT_EQ(refusal_of([&](GgufDoc& d) {
                d.set_text("llama.rope.scaling.type", type);
                d.set<std::uint32_t>("llama.rope.scaling.original_context_length", 32);
              }),
              "x.gguf: config: llama.rope.scaling.factor is missing");
  }
}

TEST(LlamaGguf, LinearScalingDividesEveryFrequency) {
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    GgufDoc doc = tiny_llama();
    doc.set<float>(key, 4.0F);
    const std::string file = doc.serialise();
    EXPECT_THAT(attention(read(file), 0).rope.inv_freq, ElementsAre(0.25F, 0.0025F)) << key;
  }
}

TEST(LlamaGguf, SlidingWindowIsOfEveryLayer) {
  GgufDoc doc = tiny_llama();
  doc.set<std::uint32_t>("llama.attention.sliding_window", 7);
  const std::string file = doc.serialise();
  const Checkpoint checkpoint = read(file);
  EXPECT_EQ(attention(checkpoint, 0).window, 7);
  EXPECT_EQ(attention(checkpoint, 1).window, 7);
}

TEST(LlamaRefuses, MissingTensorsByName) {
  const GgufDoc whole = tiny_llama();
  for (const test::GgufTensorInfo& tensor : whole.tensors) {
    EXPECT_THAT(refusal_of([&](GgufDoc& d) { d.remove_tensor(tensor.name); }),
                HasSubstr("x.gguf: tensor '" + tensor.name + "' is missing"));
  }
  EXPECT_EQ(refusal_of("llama.block_count", 3U),
            "x.gguf: tensor 'blk.2.attn_norm.weight' is missing, allowed shape [8]");
}

TEST(LlamaRefuses, ShapesThatTheConfigDoesNotGive) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.tensor("blk.1.attn_k.weight").dims = {4, 8};
            }),
            "x.gguf: tensor 'blk.1.attn_k.weight': shape, got [8, 4], allowed [4, 8]");
  EXPECT_EQ(refusal_of("llama.feed_forward_length", 16U),
            "x.gguf: tensor 'blk.0.ffn_gate.weight': shape, got [12, 8], allowed [16, 8]");
}

TEST(LlamaRefuses, NormsInBlocks) {
  GgufDoc doc = tiny_llama();
  doc.set<std::uint32_t>("llama.embedding_length", 32);
  doc.tensors.clear();
  doc.data.clear();
  doc.add_f32("token_embd.weight", {32, 6}, test::counting(192, 0.0F));
  doc.add_tensor("output_norm.weight", {32}, DType::kQ8_0, std::string(34, '\1'));
  const std::string file = doc.serialise();
  try {
    read(file);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "x.gguf: tensor 'output_norm.weight': dtype, got Q8_0, allowed F32, F16, BF16");
  }
}

TEST(LlamaRefuses, TensorsThatNothingUses) {
  EXPECT_EQ(
      refusal_of([](GgufDoc& d) { d.add_f32("blk.0.attn_q.bias", {8}, test::counting(8, 0.0F)); }),
      "x.gguf: tensor 'blk.0.attn_k.bias' is missing, allowed shape [4]");
  EXPECT_EQ(
      refusal_of(
          [](GgufDoc& d) { d.add_f32("blk.1.ffn_up.bias", {12}, test::counting(12, 0.0F)); }),
      "x.gguf: tensor 'blk.1.ffn_up.bias': place, got one that has no place in family llama with "
      "this config, allowed tensors that the family reads: this family has no such bias");
  EXPECT_EQ(
      refusal_of([](GgufDoc& d) {
        d.add_f32("blk.0.ffn_gate_inp.weight", {8, 2}, test::counting(16, 0.0F));
        d.add_f32("blk.1.ffn_gate_inp.weight", {8, 2}, test::counting(16, 0.0F));
      }),
      "x.gguf: tensor 'blk.0.ffn_gate_inp.weight': place, got one that has no place in family "
      "llama with this config (and 1 more like it), allowed tensors that the family reads: this "
      "family, or its config, has no experts");
  EXPECT_EQ(
      refusal_of("llama.block_count", 1U),
      "x.gguf: tensor 'blk.1.attn_norm.weight': place, got one that has no place in family llama "
      "with this config (and 8 more like it), allowed tensors that the family reads");
}

// --- the tokenizer's keys

TEST(GgufTokenizer, KeysBecomeATokenizer) {
  GgufDoc doc = tiny_llama();
  doc.set<std::uint32_t>("tokenizer.ggml.eot_token_id", 5);
  doc.set<std::uint32_t>("tokenizer.ggml.eom_token_id", 4);
  doc.set<std::uint32_t>("tokenizer.ggml.padding_token_id", 1);
  doc.set<std::uint32_t>("tokenizer.ggml.unknown_token_id", 0);
  const std::string file = doc.serialise();
  const Checkpoint checkpoint = read(file);
  const TokenizerFacts& facts = checkpoint.tokenizer->facts();
  EXPECT_EQ(facts.model, "gpt2");
  EXPECT_EQ(facts.pre, "smollm");
  const Tokenizer& tokenizer = *checkpoint.tokenizer;
  EXPECT_THAT(tokenizer.encode("</s>abc", {}), ElementsAre(1, 4, 5));
  EXPECT_TRUE(tokenizer.is_control(0) && tokenizer.is_control(1) && !tokenizer.is_control(2));
  EXPECT_EQ(facts.bos, 0);
  EXPECT_EQ(facts.eos, 1);
  EXPECT_EQ(facts.eot, 5);
  EXPECT_EQ(facts.unk, 0);
  EXPECT_EQ(facts.pad, 1);
  EXPECT_THAT(checkpoint.stop_ids, ElementsAre(1, 4, 5));
}

TEST(GgufTokenizer, LlamaThreeAddsABeginOfTextUnlessTheFileSaysNo) {
  for (const char* pre : {"llama-bpe", "smollm"}) {
    GgufDoc doc = tiny_llama();
    doc.set_text("tokenizer.ggml.pre", pre);
    doc.remove("tokenizer.ggml.add_bos_token");
    const std::string file = doc.serialise();
    EXPECT_EQ(read(file).tokenizer->facts().add_bos(), pre == std::string("llama-bpe"));
    doc.set<bool>("tokenizer.ggml.add_bos_token", false);
    const std::string explicit_file = doc.serialise();
    EXPECT_FALSE(read(explicit_file).tokenizer->facts().add_bos());
  }
}

TEST(GgufTokenizer, WrongElementKindsAreNamed) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.set_array<std::int32_t>("tokenizer.ggml.tokens", {1, 2, 3, 4, 5, 6});
            }),
            "x.gguf: tokenizer: tokenizer.ggml.tokens, got an array of i32, allowed an array of "
            "string");
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.set_array<float>("tokenizer.ggml.token_type", {3, 3, 1, 1, 1, 1});
            }),
            "x.gguf: tokenizer: tokenizer.ggml.token_type, got an array of f32, allowed an array "
            "of i32");
  EXPECT_EQ(
      refusal_of([](GgufDoc& d) {
        d.set_array<std::uint8_t>("tokenizer.ggml.scores", {0, 0, 0, 0, 0, 0});
      }),
      "x.gguf: tokenizer: tokenizer.ggml.scores, got an array of u8, allowed an array of f32");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set_text("tokenizer.ggml.merges", "a b"); }),
            "x.gguf: tokenizer: tokenizer.ggml.merges, got a value of kind string, allowed an "
            "array of string");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set<std::uint32_t>("tokenizer.ggml.model", 1); }),
            "x.gguf: tokenizer: tokenizer.ggml.model, got a value of kind u32, allowed a string");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set<std::uint32_t>("tokenizer.ggml.add_bos_token", 1); }),
            "x.gguf: tokenizer: tokenizer.ggml.add_bos_token, got a value of kind u32, allowed a "
            "bool");
}

TEST(GgufTokenizer, LengthsThatAreNotTheVocabularysAreNamed) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.set_texts("tokenizer.ggml.tokens", {"a", "b"});
            }),
            "x.gguf: tokenizer: tokenizer.ggml.tokens, got 2 entries, allowed 6, one per row of "
            "token_embd.weight");
  EXPECT_EQ(
      refusal_of([](GgufDoc& d) {
        d.set_array<std::int32_t>("tokenizer.ggml.token_type", {1, 1});
      }),
      "x.gguf: tokenizer: tokenizer.ggml.token_type, got 2 entries, allowed 6, one per token");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set_array<float>("tokenizer.ggml.scores", {0.0F}); }),
            "x.gguf: tokenizer: tokenizer.ggml.scores, got 1 entries, allowed 6, one per token");
}

TEST(GgufTokenizer, IdsBeyondThirtyOneBitsAreNamed) {
  EXPECT_EQ(refusal_of("tokenizer.ggml.eos_token_id", 1U << 31),
            "x.gguf: tokenizer: tokenizer.ggml.eos_token_id, got 2147483648, allowed 0 to "
            "2147483647");
}

TEST(GgufTokenizer, AFileWithoutOneIsRefused) {
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.remove("tokenizer.ggml.model"); }),
            "x.gguf: tokenizer: tokenizer.ggml.model is missing");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.remove("tokenizer.ggml.tokens"); }),
            "x.gguf: tokenizer: tokenizer.ggml.tokens is missing");
}

TEST(GgufTokenizer, WhatItCannotEncodeWithoutIsRefused) {
  const std::string start = "x.gguf: tokenizer: tokenizer.ggml.";
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.remove("tokenizer.ggml.merges"); }),
            start + "merges is missing, needed: the pairs that the kind gpt2 joins, in order");
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.set_texts("tokenizer.ggml.merges", {}); }),
            start + "merges, got 0 entries, allowed the pairs that the kind gpt2 joins, in order");
  const std::string kinds = "needed: the kind of each token (normal, control, byte, ...)";
  EXPECT_EQ(refusal_of([](GgufDoc& d) { d.remove("tokenizer.ggml.token_type"); }),
            start + "token_type is missing, " + kinds);
  EXPECT_EQ(refusal_of([](GgufDoc& d) {
              d.set_text("tokenizer.ggml.model", "llama");
              d.set_array<float>("tokenizer.ggml.scores", {0, 0, 0, 0, 0, 0});
              d.remove("tokenizer.ggml.token_type");
            }),
            start + "token_type is missing, " + kinds);
  EXPECT_EQ(
      refusal_of([](GgufDoc& d) { d.set_text("tokenizer.ggml.model", "llama"); }),
      start + "scores is missing, needed: one score per token, by which the kind llama joins");
}

// --- the default model

TEST(DefaultModel, OpensQuicklyWithEveryTensorKnown) {
  const std::string path = test::default_model();
  if (path.empty()) GTEST_SKIP() << "the default model is absent (heddle pull smollm2-135m)";
  const Checkpoint checkpoint = open_checkpoint(path);
  EXPECT_EQ(checkpoint.config.layers.size(), 30U);
  EXPECT_EQ(checkpoint.config.hidden, 576);
  EXPECT_EQ(checkpoint.config.vocab, 49152);
  EXPECT_EQ(checkpoint.config.context, 8192);
  EXPECT_TRUE(checkpoint.config.tied_head);
  EXPECT_EQ(attention(checkpoint, 29).n_q_heads, 9);
  EXPECT_EQ(attention(checkpoint, 29).n_kv_heads, 3);
  EXPECT_EQ(attention(checkpoint, 29).rope.inv_freq, rope_inv_freq(100000.0, 64));
  EXPECT_EQ(checkpoint.tokenizer->vocab_size(), 49152);
  EXPECT_THAT(checkpoint.stop_ids, ElementsAre(2));
  EXPECT_THAT(checkpoint.chat_template, HasSubstr("<|im_start|>"));
  std::int64_t parameters = 0;
  for (const StoredTensor& tensor : checkpoint.weights->tensors()) {
    parameters += tensor.view.elements();
  }
  EXPECT_EQ(parameters, 134515008);
}

}  // namespace
}  // namespace heddle
