// MiniMax and Bailing: what config.json becomes in layers, residuals, slopes and rotations.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/families/linear_parts.h"
#include "models/rope_scaling.h"
#include "models/slopes.h"
#include "tests/support/family_configs.h"

namespace heddle {
namespace {

using nlohmann::json;
using test::family_configs::expect_residual;
using test::family_configs::experts;
using test::family_configs::kinds;
using test::family_configs::kVocab;
using test::family_configs::linear;
using test::family_configs::linear_names;
using test::family_configs::merged;
using test::family_configs::read;
using test::family_configs::refusal;
using test::family_configs::softmax;
using test::family_configs::tiny;
using ::testing::HasSubstr;

// --- MiniMax

json minimax(const json& more = json::object()) {
  return merged(tiny("minimax_text_01", 4), merged({{"attn_type_list", {0, 0, 1, 0}},
                                                    {"num_local_experts", 8},
                                                    {"num_experts_per_tok", 2},
                                                    {"postnorm", true},
                                                    {"layernorm_linear_attention_alpha", 1.5},
                                                    {"layernorm_linear_attention_beta", 0.5},
                                                    {"layernorm_full_attention_alpha", 2.5},
                                                    {"layernorm_full_attention_beta", 0.25},
                                                    {"layernorm_mlp_alpha", 3.5},
                                                    {"layernorm_mlp_beta", 0.75}},
                                                   more));
}

TEST(MiniMax, LinearLayersAreLightningAttention) {
  const Checkpoint checkpoint = read(minimax());
  EXPECT_EQ(kinds(checkpoint), "LLSL");
  for (const std::size_t i : {0U, 1U, 3U}) {
    const LinearAttentionSpec& spec = linear(checkpoint, i);
    EXPECT_EQ(spec.n_heads, 4);
    EXPECT_EQ(spec.head_dim, 16);
    EXPECT_EQ(spec.scale, 1.0F);
    EXPECT_EQ(spec.activation, Activation::kSilu);
    EXPECT_EQ(spec.v_activation, Activation::kSilu);
    EXPECT_EQ(spec.rope.rotary_dim, 0);
    EXPECT_EQ(spec.norm_groups, 1);
    EXPECT_EQ(spec.norm_eps, 1e-5F);
    EXPECT_EQ(spec.gate, OutputGate::kSigmoid);
    EXPECT_EQ(spec.slopes, layer_slopes(alibi_slopes(4), static_cast<int>(i), 4));
  }
  EXPECT_EQ(linear(read(minimax({{"linear_norm_eps", 1e-3}})), 0).norm_eps, 1e-3F);
}

TEST(MiniMax, RotationIsScaledAsTheConfigSays) {
  const json yarn = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 1024}};
  const RopeSpec plain = softmax(read(minimax()), 2).rope;
  const RopeSpec scaled = softmax(read(minimax({{"rope_scaling", yarn}})), 2).rope;
  EXPECT_EQ(scaled.rotary_dim, plain.rotary_dim);
  EXPECT_NE(scaled.inv_freq, plain.inv_freq);
}

TEST(MiniMax, ResidualsHaveFactorsByKind) {
  const Checkpoint checkpoint = read(minimax());
  expect_residual(checkpoint.config.layers[0].mixer_residual, 1.5F, 0.5F, true);
  expect_residual(checkpoint.config.layers[2].mixer_residual, 2.5F, 0.25F, true);
  expect_residual(checkpoint.config.layers[0].ffn_residual, 3.5F, 0.75F, true);
  const Checkpoint plain = read(minimax({{"postnorm", false}}));
  EXPECT_FALSE(plain.config.layers[2].ffn_residual.of_norm);
}

TEST(MiniMax, TheRowsOfFusedTensorsStandByHead) {
  const Checkpoint checkpoint = read(minimax());
  const LinearAttentionNames& names = linear_names(checkpoint, 0);
  EXPECT_EQ(names.k.tensor, "model.layers.0.self_attn.qkv_proj.weight");
  EXPECT_EQ(names.k.row_order, rows_by_head(4, 16, 1, 3));
  EXPECT_EQ(names.gate.tensor, "model.layers.0.self_attn.output_gate.weight");
  EXPECT_EQ(names.norm.tensor, "model.layers.0.self_attn.norm.weight");
  EXPECT_EQ(names.o.tensor, "model.layers.0.self_attn.out_proj.weight");
}

TEST(MiniMax, ExpertsAreRenormalisedAndASharedOneIsBlended) {
  const MoeFfnSpec moe = experts(read(minimax()), 0);
  EXPECT_EQ(moe.router.n_experts, 8);
  EXPECT_EQ(moe.router.top_k, 2);
  EXPECT_EQ(moe.router.score, RouterScore::kSoftmax);
  EXPECT_TRUE(moe.router.renormalise);
  EXPECT_EQ(moe.shared, SharedExpert::kNone);
  for (const json& size : {json(48), json::array({48}), json::array({48, 48})}) {
    const Checkpoint shared = read(minimax({{"shared_intermediate_size", size}}));
    EXPECT_EQ(experts(shared, 1).shared, SharedExpert::kBlended);
    EXPECT_EQ(experts(shared, 1).shared_intermediate, 48);
    EXPECT_EQ(test::shape_of(shared, "model.layers.1.coefficient.weight"), "[1, 64] BF16");
  }
  EXPECT_EQ(experts(read(minimax({{"shared_intermediate_size", {0}}})), 1).shared,
            SharedExpert::kNone);
}

TEST(MiniMax, RotationIsOfTheFirstDimensions) {
  const auto rope = [](const json& more) { return softmax(read(minimax(more)), 2).rope; };
  EXPECT_EQ(rope(json::object()).rotary_dim, 16);  // the published 64, or all of a smaller head
  EXPECT_EQ(rope({{"head_dim", 128}}).rotary_dim, 64);
  EXPECT_EQ(rope(json::object()).inv_freq, rope_inv_freq(1e6, 16));
  EXPECT_EQ(rope({{"rotary_dim", 8}, {"rope_theta", 1e7}}).inv_freq, rope_inv_freq(1e7, 8));
  EXPECT_EQ(rope({{"partial_rotary_factor", 0.5}}).inv_freq, rope_inv_freq(1e6, 8));
  EXPECT_EQ(rope({{"rotary_dim", 8}, {"partial_rotary_factor", 0.5}}).rotary_dim, 8);
  EXPECT_EQ(refusal(minimax({{"rotary_dim", 4}, {"partial_rotary_factor", 0.5}})),
            "config.json: config: rotary_dim, got 4, allowed 8, as partial_rotary_factor says");
  EXPECT_EQ(rope({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e4}}}}).inv_freq,
            rope_inv_freq(5e4, 16));
  EXPECT_EQ(refusal(minimax({{"rotary_dim", 7}})),
            "config.json: config: rotary_dim, got 7, allowed even numbers from 2 to 16");
}

TEST(MiniMax, M1IsTheSameFamily) {
  const Checkpoint checkpoint = read(minimax({{"model_type", "minimax_m1"}}));
  EXPECT_EQ(checkpoint.config.family, "minimax_text_01");
  EXPECT_EQ(kinds(checkpoint), "LLSL");
}

TEST(MiniMax, TablesThatConvertersLeaveAreNotNeeded) {
  const auto with_tensor = [](const std::string& name) {
    return test::refusal_of([&] {
      test::read_family(minimax(),
                        {{"model.embed_tokens.weight", {kVocab, 64}}, {name, {4, 1, 1}}});
    });
  };
  EXPECT_EQ(with_tensor("model.layers.0.self_attn.slope_rate"), "accepted");
  EXPECT_THAT(with_tensor("model.layers.2.self_attn.slope_rate"),  // a softmax layer
              HasSubstr("place, got one that has no place in family minimax_text_01"));
}

TEST(MiniMax, TransformersKeysSayTheSame) {
  const json config = merged(tiny("minimax", 5), {{"num_local_experts", 8},
                                                  {"num_experts_per_tok", 2},
                                                  {"linear_attn_alpha_factor", 1.5},
                                                  {"full_attn_beta_factor", 0.25},
                                                  {"mlp_alpha_factor", 3.5}});
  const Checkpoint checkpoint = read(config);
  EXPECT_EQ(kinds(checkpoint), "SLSLS");  // what the class assumes
  expect_residual(checkpoint.config.layers[1].mixer_residual, 1.5F, 1.0F, true);
  expect_residual(checkpoint.config.layers[0].mixer_residual, 1.0F, 0.25F, true);
  expect_residual(checkpoint.config.layers[0].ffn_residual, 3.5F, 1.0F, true);
  const json types = {"linear_attention", "linear_attention", "full_attention", "full_attention",
                      "linear_attention"};
  const Checkpoint typed = read(merged(config, {{"layer_types", types}}));
  EXPECT_EQ(kinds(typed), "LLSSL");
  EXPECT_EQ(linear(typed, 4).slopes, layer_slopes(alibi_slopes(4), 4, 5));
}

TEST(MiniMax, GgufHasOneFactorAndAnInterval) {
  test::GgufDoc doc;
  const auto number = [&](const std::string& key, std::uint32_t value) {
    doc.set<std::uint32_t>("minimax-01." + key, value);
  };
  doc.set_text("general.architecture", "minimax-01");
  number("block_count", 4);
  number("context_length", 64);
  number("embedding_length", 64);
  number("feed_forward_length", 32);
  number("attention.head_count", 4);
  number("attention.head_count_kv", 2);
  number("expert_count", 8);
  number("expert_used_count", 2);
  number("full_attention_interval", 3);
  number("rope.dimension_count", 8);
  doc.set<float>("minimax-01.attention.layer_norm_rms_epsilon", 1e-5F);
  doc.set<float>("minimax-01.residual_scale", 1.5F);
  const Checkpoint checkpoint = test::read_gguf_family(
      doc, "minimax-01", {{"token_embd.weight", {kVocab, 64}}, {"output.weight", {kVocab, 64}}});
  EXPECT_EQ(kinds(checkpoint), "LLSL");
  EXPECT_EQ(softmax(checkpoint, 2).rope.rotary_dim, 8);
  EXPECT_EQ(linear(checkpoint, 3).slopes, layer_slopes(alibi_slopes(4), 3, 4));
  expect_residual(checkpoint.config.layers[0].mixer_residual, 1.5F, 1.0F, true);
  expect_residual(checkpoint.config.layers[0].ffn_residual, 1.5F, 1.0F, true);
  EXPECT_EQ(linear_names(checkpoint, 0).q.tensor, "blk.0.attn_qkv.weight");
  EXPECT_EQ(linear_names(checkpoint, 0).q.row_order, rows_by_head(4, 16, 0, 3));
  EXPECT_TRUE(experts(checkpoint, 0).router.renormalise);
}

// --- Bailing

json bailing(int layers, const json& more = json::object()) {
  return merged(tiny("bailing_moe_linear", layers), merged({{"layer_group_size", 3},
                                                            {"num_experts", 16},
                                                            {"num_experts_per_tok", 4},
                                                            {"moe_intermediate_size", 24},
                                                            {"n_group", 4},
                                                            {"topk_group", 2},
                                                            {"routed_scaling_factor", 2.5},
                                                            {"num_shared_experts", 2},
                                                            {"first_k_dense_replace", 1},
                                                            {"group_norm_size", 2}},
                                                           more));
}

Checkpoint read_bailing(int layers, const json& more = json::object()) {
  return read(bailing(layers, more), "model.word_embeddings.weight");
}

TEST(Bailing, SoftmaxClosesEveryGroupAndTakesTheRest) {
  EXPECT_EQ(kinds(read_bailing(6)), "LLSLLS");
  EXPECT_EQ(kinds(read_bailing(8)), "LLSLLSSS");
  EXPECT_EQ(kinds(read_bailing(2)), "SS");  // no whole group
  EXPECT_EQ(kinds(read_bailing(4, {{"layer_group_size", 1}})), "SSSS");
}

TEST(Bailing, SlopesCountLayersFromMinusOneUnlessToldOtherwise) {
  const std::vector<double> table = alibi_slopes(4);
  EXPECT_EQ(linear(read_bailing(6), 3).slopes, layer_slopes(table, 3, 6, 1));
  EXPECT_EQ(linear(read_bailing(6, {{"slope_layer_offset", 1}}), 3).slopes,
            layer_slopes(table, 3, 6, 1));
  EXPECT_EQ(linear(read_bailing(6, {{"slope_layer_offset", 0}}), 3).slopes,
            layer_slopes(table, 3, 6, 0));
}

TEST(Bailing, LinearLayersAreNormedInGroupsAndRotated) {
  const Checkpoint checkpoint = read_bailing(6, {{"partial_rotary_factor", 0.5}});
  const LinearAttentionSpec& spec = linear(checkpoint, 0);
  EXPECT_EQ(spec.scale, 0.25F);
  EXPECT_EQ(spec.norm_groups, 2);
  EXPECT_EQ(spec.gate, OutputGate::kSigmoid);
  EXPECT_EQ(spec.activation, Activation::kIdentity);
  ASSERT_TRUE(spec.qk_norm.has_value());
  EXPECT_FALSE(spec.qk_norm->all_heads);
  EXPECT_EQ(spec.rope.inv_freq, rope_inv_freq(600'000.0, 8));
  EXPECT_EQ(softmax(checkpoint, 2).rope.inv_freq, spec.rope.inv_freq);
  EXPECT_EQ(linear(read_bailing(6, {{"linear_silu", true}}), 0).v_activation, Activation::kSilu);
  EXPECT_EQ(linear(read_bailing(6, {{"linear_rope", false}}), 0).rope.rotary_dim, 0);
  EXPECT_FALSE(linear(read_bailing(6, {{"use_qk_norm", false}}), 0).qk_norm.has_value());
  const LinearAttentionNames& names = linear_names(checkpoint, 0);
  EXPECT_EQ(names.v.tensor, "model.layers.0.attention.query_key_value.weight");
  EXPECT_EQ(names.v.first_row, 128);
  EXPECT_EQ(names.v.of_rows, 192);
  EXPECT_EQ(names.gate.tensor, "model.layers.0.attention.g_proj.weight");
}

TEST(Bailing, ExpertsAreChosenBySigmoidInGroups) {
  const Checkpoint checkpoint = read_bailing(6);
  EXPECT_TRUE(std::holds_alternative<DenseFfnSpec>(checkpoint.config.layers[0].ffn));
  const MoeFfnSpec& moe = experts(checkpoint, 1);
  EXPECT_EQ(moe.router.score, RouterScore::kSigmoid);
  EXPECT_EQ(moe.router.n_groups, 4);
  EXPECT_EQ(moe.router.top_groups, 2);
  EXPECT_EQ(moe.router.scale, 2.5F);
  EXPECT_TRUE(moe.router.renormalise);
  EXPECT_TRUE(moe.router.choice_bias);
  EXPECT_EQ(moe.intermediate, 24);
  EXPECT_EQ(moe.shared, SharedExpert::kAdded);
  EXPECT_EQ(moe.shared_intermediate, 48);  // two of 24 side by side
  EXPECT_EQ(test::shape_of(checkpoint, "model.layers.1.mlp.gate.expert_bias"), "[16] F32");
  EXPECT_EQ(experts(read_bailing(6, {{"score_function", "softmax"}}), 1).router.score,
            RouterScore::kSoftmax);
  EXPECT_EQ(experts(read_bailing(6, {{"num_shared_experts", 0}}), 1).shared, SharedExpert::kNone);
}

}  // namespace
}  // namespace heddle
