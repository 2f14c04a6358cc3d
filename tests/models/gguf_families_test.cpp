// Families other than llama in GGUF: what their keys become and what a wrong one is told.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "base/error.h"
#include "models/gguf_checkpoint.h"
#include "models/rope_scaling.h"
#include "tests/support/gguf_writer.h"

namespace heddle {
namespace {

using test::GgufDoc;
using ::testing::HasSubstr;

struct Shape {
  std::uint32_t layers = 2;
  bool post_norms = false, qk_norm = false, qkv_bias = false, fused = false;
};

/// Hidden 8, two query heads on one KV head of 4, FFN 12, vocabulary 6.
GgufDoc tiny(const std::string& arch, const Shape& shape) {
  GgufDoc doc;
  const auto number = [&](const std::string& key, std::uint32_t value) {
    doc.set<std::uint32_t>(arch + "." + key, value);
  };
  doc.set_text("general.architecture", arch);
  number("block_count", shape.layers);
  number("context_length", 64);
  number("embedding_length", 8);
  number("feed_forward_length", 12);
  number("attention.head_count", 2);
  number("attention.head_count_kv", 1);
  doc.set<float>(arch + ".attention.layer_norm_rms_epsilon", 1e-5F);
  doc.set_text("tokenizer.ggml.model", "gpt2");
  doc.set_text("tokenizer.ggml.pre", "smollm");
  doc.set_texts("tokenizer.ggml.tokens", {"<s>", "a", "b", "ab", "d", "e"});
  doc.set_array<std::int32_t>("tokenizer.ggml.token_type", {3, 1, 1, 1, 1, 1});
  doc.set_texts("tokenizer.ggml.merges", {"a b"});
  const auto add = [&](const std::string& name, const std::vector<std::uint64_t>& dims) {
    std::uint64_t n = 1;
    for (const std::uint64_t d : dims) n *= d;
    doc.add_f32(name, dims, std::vector<float>(n, 0.5F));
  };
  add("token_embd.weight", {8, 6});
  add("output_norm.weight", {8});
  for (std::uint32_t i = 0; i < shape.layers; ++i) {
    const std::string block = "blk." + std::to_string(i) + ".";
    add(block + "attn_norm.weight", {8});
    add(block + "ffn_norm.weight", {8});
    if (shape.post_norms) {
      add(block + "post_attention_norm.weight", {8});
      add(block + "post_ffw_norm.weight", {8});
    }
    if (shape.fused) {
      add(block + "attn_qkv.weight", {8, 16});
      add(block + "ffn_up.weight", {8, 24});
    } else {
      add(block + "attn_q.weight", {8, 8});
      add(block + "attn_k.weight", {8, 4});
      add(block + "attn_v.weight", {8, 4});
      add(block + "ffn_gate.weight", {8, 12});
      add(block + "ffn_up.weight", {8, 12});
    }
    if (shape.qkv_bias) {
      add(block + "attn_q.bias", {8});
      add(block + "attn_k.bias", {4});
      add(block + "attn_v.bias", {4});
    }
    if (shape.qk_norm) {
      add(block + "attn_q_norm.weight", {4});
      add(block + "attn_k_norm.weight", {4});
    }
    add(block + "attn_output.weight", {8, 8});
    add(block + "ffn_down.weight", {12, 8});
  }
  return doc;
}

GgufDoc gemma(const std::string& arch, std::uint32_t layers) {
  GgufDoc doc = tiny(arch, {.layers = layers, .post_norms = true, .qk_norm = arch == "gemma3"});
  doc.set<std::uint32_t>(arch + ".attention.sliding_window", 5);
  return doc;
}

Checkpoint read(const GgufDoc& doc, std::string& bytes) {
  bytes = doc.serialise();
  return checkpoint_from_gguf(GgufWeights::over(std::as_bytes(std::span(bytes)), "x.gguf"));
}

std::string refusal(const GgufDoc& doc) {
  std::string bytes;
  try {
    read(doc, bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "accepted";
}

const SoftmaxAttentionSpec& attention(const Checkpoint& checkpoint, std::size_t layer) {
  return std::get<SoftmaxAttentionSpec>(checkpoint.config.layers.at(layer).mixers.at(0));
}

TEST(GgufFamilies, OnlyLlamaStoresRowsForInterleavedRotation) {
  std::string bytes;
  const Checkpoint checkpoint = read(tiny("qwen3", {.qk_norm = true}), bytes);
  const auto& names = std::get<SoftmaxAttentionNames>(checkpoint.names.layers[0].mixers.at(0));
  EXPECT_TRUE(names.q.row_order.empty());
  EXPECT_EQ(names.q_norm.tensor, "blk.0.attn_q_norm.weight");
  EXPECT_EQ(names.q_norm.add, 0.0F);
  EXPECT_TRUE(attention(checkpoint, 0).qk_norm.has_value());
}

TEST(GgufFamilies, Qwen2NeedsItsBiases) {
  EXPECT_EQ(refusal(tiny("qwen2", {.qkv_bias = true})), "accepted");
  EXPECT_EQ(refusal(tiny("qwen2", {})),
            "x.gguf: tensor 'blk.0.attn_q.bias' is missing, allowed shape [8]");
}

TEST(GgufFamilies, QwenWindowsHaveNoPlaceInTheFormat) {
  GgufDoc doc = tiny("qwen2", {.qkv_bias = true});
  doc.set<std::uint32_t>("qwen2.attention.sliding_window", 9);
  EXPECT_EQ(refusal(doc), "x.gguf: config: qwen2.attention.sliding_window, got 9, allowed 0");
}

TEST(GgufFamilies, GemmaAlternatesAndCaps) {
  std::string bytes;
  const Checkpoint two = read(gemma("gemma2", 4), bytes);
  EXPECT_EQ(attention(two, 0).window, 5);
  EXPECT_EQ(attention(two, 1).window, 0);
  EXPECT_EQ(attention(two, 0).soft_cap, 50.0F);
  EXPECT_EQ(two.config.final_soft_cap, 30.0F);
  EXPECT_EQ(attention(two, 0).scale, 0.5F);
  std::string more;
  const Checkpoint three = read(gemma("gemma3", 7), more);
  EXPECT_EQ(attention(three, 4).window, 5);
  EXPECT_EQ(attention(three, 5).window, 0);
  EXPECT_EQ(attention(three, 6).window, 5);
  EXPECT_EQ(attention(three, 0).soft_cap, 0.0F);
  EXPECT_EQ(attention(three, 0).rope.inv_freq, rope_inv_freq(10'000.0, 4));
}

TEST(GgufFamilies, GemmaScalesItsLargestModelByTheHiddenSizePerHead) {
  std::string bytes;
  const Checkpoint largest = read(gemma("gemma2", 46), bytes);
  EXPECT_EQ(attention(largest, 0).scale, 0.5F);  // 8 / 2 heads = the head's 4
  GgufDoc doc = gemma("gemma2", 46);
  doc.set<float>("gemma2.attention.scale", 0.25F);
  std::string more;
  EXPECT_EQ(attention(read(doc, more), 0).scale, 0.25F);
}

TEST(GgufFamilies, GemmaNeedsItsWindow) {
  GgufDoc doc = gemma("gemma3", 2);
  doc.remove("gemma3.attention.sliding_window");
  EXPECT_EQ(refusal(doc),
            "x.gguf: config: gemma3.attention.sliding_window is missing, allowed 1 to "
            "1073741824");
}

TEST(GgufFamilies, Phi3NeedsBothTablesAndTheirBorder) {
  GgufDoc doc = tiny("phi3", {.fused = true});
  EXPECT_EQ(refusal(doc), "accepted");
  doc.add_f32("rope_factors_short.weight", {2}, {1.0F, 1.0F});
  EXPECT_EQ(refusal(doc),
            "x.gguf: tensor 'rope_factors_long.weight' is missing, allowed shape [2]");
  doc.add_f32("rope_factors_long.weight", {2}, {4.0F, 0.0F});
  EXPECT_EQ(refusal(doc),
            "x.gguf: config: rope_factors_long.weight[1], got 0, allowed 1e-06 to 1e+06");
  doc.remove_tensor("rope_factors_long.weight");
  doc.add_f32("rope_factors_long.weight", {2}, {4.0F, 8.0F});
  EXPECT_EQ(refusal(doc),
            "x.gguf: config: phi3.rope.scaling.original_context_length is missing, allowed 1 to "
            "1073741824");
  doc.set<std::uint32_t>("phi3.rope.scaling.original_context_length", 16);
  EXPECT_EQ(refusal(doc), "accepted");
}

TEST(GgufFamilies, KeysOfOtherFamiliesAreRefused) {
  GgufDoc doc = tiny("phi3", {.fused = true});
  doc.set<float>("phi3.final_logit_softcapping", 30.0F);
  EXPECT_EQ(refusal(doc),
            "x.gguf: config: phi3.final_logit_softcapping, got 30, allowed 0: this "
            "family has none");
}

}  // namespace
}  // namespace heddle
