// MiniCPM and TransNormer: what config.json becomes in layers, scales, blocks and slopes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "models/rope_scaling.h"
#include "models/slopes.h"
#include "tests/support/family_configs.h"

namespace heddle {
namespace {

using nlohmann::json;
using test::family_configs::expect_residual;
using test::family_configs::kinds;
using test::family_configs::kVocab;
using test::family_configs::linear;
using test::family_configs::linear_names;
using test::family_configs::merged;
using test::family_configs::read;
using test::family_configs::refusal;
using test::family_configs::softmax;
using test::family_configs::tiny;
using ::testing::ElementsAre;

// --- MiniCPM

json minicpm(const std::string& type, const json& more = json::object()) {
  return merged(tiny(type, 4), merged({{"scale_emb", 12},
                                       {"scale_depth", 1.4},
                                       {"dim_model_base", 16},
                                       {"sparse_config",
                                        {{"block_size", 16},
                                         {"kernel_size", 8},
                                         {"kernel_stride", 4},
                                         {"init_blocks", 1},
                                         {"window_size", 32},
                                         {"topk", 4},
                                         {"dense_len", 128}}}},
                                      more));
}

json sala(const json& more = json::object()) {
  return minicpm(
      "minicpm_sala",
      merged({{"mixer_types", {"minicpm4", "lightning-attn", "lightning-attn", "minicpm4"}}},
             more));
}

const SelectSpec& selection(const Checkpoint& checkpoint, std::size_t layer) {
  return std::get<SelectSpec>(softmax(checkpoint, layer).sparse);
}

TEST(MiniCpm, SparseConfigCountsTheWindowInBlocks) {
  const Checkpoint checkpoint = read(minicpm("minicpm4"));
  const SelectSpec& spec = selection(checkpoint, 3);
  EXPECT_EQ(spec.block, 16);
  EXPECT_EQ(spec.kernel, 8);
  EXPECT_EQ(spec.stride, 4);
  EXPECT_EQ(spec.init_blocks, 1);
  EXPECT_EQ(spec.local_blocks, 3);   // the own block and two of the window
  EXPECT_EQ(spec.top_k, 6);          // the window's blocks come on top
  EXPECT_EQ(spec.dense_below, 127);  // fewer than 128 keys: positions up to 126
}

TEST(MiniCpm, SparseConfigHasThePublishedDefaults) {
  const Checkpoint checkpoint =
      read(minicpm("minicpm4", {{"sparse_config", {{"use_nope", false}}}}));
  const SelectSpec& spec = selection(checkpoint, 0);
  EXPECT_EQ(spec.block, 64);
  EXPECT_EQ(spec.kernel, 32);
  EXPECT_EQ(spec.stride, 16);
  EXPECT_EQ(spec.local_blocks, 33);
  EXPECT_EQ(spec.top_k, 96);
  EXPECT_EQ(spec.dense_below, 8191);
  json always = minicpm("minicpm4");
  always["sparse_config"]["dense_len"] = 0;
  EXPECT_EQ(selection(read(always), 0).dense_below, 0);
}

TEST(MiniCpm, WithoutASparseConfigAllLayersAreDense) {
  json config = minicpm("minicpm");  // the name that published configs have
  config.erase("sparse_config");
  config["auto_map"] = {{"AutoModel", "x"}};
  const Checkpoint checkpoint = read(config);
  EXPECT_EQ(checkpoint.config.family, "minicpm4");
  EXPECT_EQ(softmax(checkpoint, 0).sparse.index(), 0U);
}

TEST(MiniCpm, EmbeddingsBranchesAndLogitsAreScaled) {
  const Checkpoint checkpoint = read(minicpm("minicpm4"));
  EXPECT_EQ(checkpoint.config.embedding_scale, 12.0F);
  EXPECT_EQ(checkpoint.config.logit_scale, 0.25F);  // 16 / 64
  expect_residual(checkpoint.config.layers[0].mixer_residual, 1.0F, 0.7F, false);
  expect_residual(checkpoint.config.layers[0].ffn_residual, 1.0F, 0.7F, false);
  json plain = minicpm("minicpm4");
  for (const char* key : {"scale_emb", "scale_depth", "dim_model_base"}) plain.erase(key);
  const Checkpoint unscaled = read(plain);
  EXPECT_EQ(unscaled.config.embedding_scale, 1.0F);
  EXPECT_EQ(unscaled.config.logit_scale, 1.0F);
  EXPECT_TRUE(unscaled.config.layers[0].ffn_residual.plain());
}

TEST(MiniCpm, GgufHasTheScalesItself) {
  test::GgufDoc doc;
  const auto number = [&](const std::string& key, std::uint32_t value) {
    doc.set<std::uint32_t>("minicpm." + key, value);
  };
  doc.set_text("general.architecture", "minicpm");
  number("block_count", 2);
  number("context_length", 64);
  number("embedding_length", 64);
  number("feed_forward_length", 32);
  number("attention.head_count", 4);
  doc.set<float>("minicpm.attention.layer_norm_rms_epsilon", 1e-5F);
  doc.set<float>("minicpm.embedding_scale", 12.0F);
  doc.set<float>("minicpm.residual_scale", 0.25F);
  doc.set<float>("minicpm.logit_scale", 4.0F);
  const Checkpoint checkpoint =
      test::read_gguf_family(doc, "minicpm", {{"token_embd.weight", {kVocab, 64}}});
  EXPECT_EQ(checkpoint.config.embedding_scale, 12.0F);
  EXPECT_EQ(checkpoint.config.logit_scale, 0.25F);  // logits are divided by the key
  expect_residual(checkpoint.config.layers[1].mixer_residual, 1.0F, 0.25F, false);
  EXPECT_EQ(softmax(checkpoint, 0).sparse.index(), 0U);
}

TEST(Sala, LightningLayersStandWhereTheListSaysSo) {
  const Checkpoint checkpoint = read(sala());
  EXPECT_EQ(kinds(checkpoint), "SLLS");
  const LinearAttentionSpec& spec = linear(checkpoint, 1);
  EXPECT_EQ(spec.n_heads, 4);
  EXPECT_EQ(spec.scale, 0.25F);
  EXPECT_EQ(spec.slopes, plain_slopes(alibi_slopes(4)));  // the same in every layer
  EXPECT_EQ(linear(checkpoint, 2).slopes, spec.slopes);
  EXPECT_EQ(spec.activation, Activation::kIdentity);
  EXPECT_EQ(spec.rope.inv_freq, rope_inv_freq(10'000.0, 16));
  EXPECT_TRUE(spec.qk_norm.has_value());
  EXPECT_EQ(spec.norm_groups, 1);
  EXPECT_EQ(spec.gate, OutputGate::kSigmoid);
  EXPECT_EQ(linear_names(checkpoint, 1).gate.tensor, "model.layers.1.self_attn.z_proj.weight");
  EXPECT_EQ(linear_names(checkpoint, 1).norm.tensor, "model.layers.1.self_attn.o_norm.weight");
}

TEST(Sala, SparseLayersAreGatedAndNotRotated) {
  const Checkpoint checkpoint = read(sala());
  const SoftmaxAttentionSpec& spec = softmax(checkpoint, 0);
  EXPECT_EQ(spec.rope.rotary_dim, 0);
  EXPECT_TRUE(spec.output_gate);
  EXPECT_FALSE(spec.qk_norm.has_value());  // of lightning layers only
  EXPECT_EQ(selection(checkpoint, 0).local_blocks, 3);
  EXPECT_EQ(softmax(read(sala({{"attn_use_rope", true}})), 0).rope.rotary_dim, 16);
  EXPECT_FALSE(softmax(read(sala({{"attn_use_output_gate", false}})), 0).output_gate);
}

TEST(Sala, LightningLayersHaveSwitchesAndSizesOfTheirOwn) {
  const auto spec = [](const json& more) { return linear(read(sala(more)), 1); };
  EXPECT_EQ(spec({{"lightning_scale", "1/d"}}).scale, 1.0F / 16.0F);
  EXPECT_EQ(spec({{"lightning_scale", "1"}}).scale, 1.0F);
  EXPECT_EQ(spec({{"lightning_use_rope", false}}).rope.rotary_dim, 0);
  EXPECT_FALSE(spec({{"qk_norm", false}}).qk_norm.has_value());
  EXPECT_EQ(spec({{"use_output_gate", false}}).gate, OutputGate::kNone);
  EXPECT_EQ(spec({{"use_output_norm", false}}).norm_groups, 0);
  const LinearAttentionSpec narrow =
      spec({{"lightning_nh", 6}, {"lightning_nkv", 6}, {"lightning_head_dim", 8}});
  EXPECT_EQ(narrow.n_heads, 6);
  EXPECT_EQ(narrow.head_dim, 8);
  EXPECT_EQ(narrow.slopes, plain_slopes(alibi_slopes(6)));
  EXPECT_EQ(narrow.rope.inv_freq, rope_inv_freq(10'000.0, 8));  // of these heads
}

// --- TransNormer

json transnormer(const json& more = json::object()) {
  return merged({{"model_type", "transnormer"},
                 {"vocab_size", kVocab},
                 {"decoder_embed_dim", 96},
                 {"decoder_layers", 3},
                 {"decoder_attention_heads", 6},
                 {"hidden_dim", 96},
                 {"glu_dim", 80}},
                more);
}

TEST(Transnormer, EveryLayerIsLinearAttentionWithoutNormWeights) {
  const Checkpoint checkpoint = read(transnormer());
  EXPECT_EQ(kinds(checkpoint), "LLL");
  EXPECT_EQ(checkpoint.config.embedding_scale, std::sqrt(96.0F));
  EXPECT_TRUE(checkpoint.names.final_norm.absent());
  for (std::size_t i = 0; i < 3; ++i) {
    const LinearAttentionSpec& spec = linear(checkpoint, i);
    EXPECT_EQ(spec.scale, 1.0F);
    EXPECT_EQ(spec.head_dim, 16);
    EXPECT_EQ(spec.activation, Activation::kSilu);
    EXPECT_EQ(spec.v_activation, Activation::kIdentity);
    EXPECT_EQ(spec.norm_groups, 1);
    EXPECT_FALSE(spec.norm_weight);
    EXPECT_EQ(spec.gate, OutputGate::kMultiply);
    EXPECT_EQ(spec.slopes, layer_slopes(alibi_slopes(6), static_cast<int>(i), 3));
    EXPECT_FALSE(checkpoint.config.layers[i].norm_weights);
    const auto& ffn = std::get<DenseFfnSpec>(checkpoint.config.layers[i].ffn);
    EXPECT_EQ(ffn.intermediate, 80);
    EXPECT_EQ(ffn.activation, Activation::kIdentity);
  }
}

TEST(Transnormer, LrpeIsInTheFirstLayerUnlessAListSaysWhere) {
  const auto layers = [](const json& more) {
    const Checkpoint checkpoint = read(transnormer(more));
    std::vector<bool> lrpe;
    for (std::size_t i = 0; i < 3; ++i) {
      lrpe.push_back(linear(checkpoint, i).lrpe);
      EXPECT_EQ(linear_names(checkpoint, i).theta.absent(), !lrpe.back());
    }
    return lrpe;
  };
  EXPECT_THAT(layers(json::object()), ElementsAre(true, false, false));
  EXPECT_THAT(layers({{"linear_use_lrpe_list", json::array()}}), ElementsAre(true, false, false));
  EXPECT_THAT(layers({{"linear_use_lrpe_list", {0, 1, 1}}}), ElementsAre(false, true, true));
  const Checkpoint checkpoint = read(transnormer());
  EXPECT_EQ(test::shape_of(checkpoint, "model.layers.0.token_mixer.lrpe.theta"), "[6, 1, 16] BF16");
}

TEST(Transnormer, KeysChangeWhatTheySay) {
  EXPECT_EQ(read(transnormer({{"no_scale_embedding", true}})).config.embedding_scale, 1.0F);
  for (const char* none : {"1", "None", "none"}) {
    EXPECT_EQ(linear(read(transnormer({{"linear_act_fun", none}})), 0).activation,
              Activation::kIdentity);
  }
  const auto glu = [](int dim) {
    return std::get<DenseFfnSpec>(read(transnormer({{"glu_dim", dim}})).config.layers[0].ffn)
        .intermediate;
  };
  EXPECT_EQ(glu(-1), 96);
  EXPECT_EQ(refusal(transnormer({{"gate_dim", 0}})), "accepted");  // asks for nothing
  EXPECT_EQ(refusal(transnormer({{"gate_dim", 16}})),
            "config.json: config: gate_dim, got 16, allowed none: TransNormerLLM 3 is not read");
}

TEST(Transnormer, QkvAndGateAreRowsOfOneTensor) {
  const Checkpoint checkpoint = read(transnormer({{"hidden_dim", 192}}));
  const LinearAttentionNames& names = linear_names(checkpoint, 1);
  EXPECT_EQ(names.gate.tensor, "model.layers.1.token_mixer.qkvu_proj.weight");
  EXPECT_EQ(names.gate.first_row, 3 * 192);
  EXPECT_EQ(names.gate.rows, 192);
  EXPECT_EQ(names.v.first_row, 2 * 192);
  EXPECT_EQ(test::shape_of(checkpoint, "model.layers.1.token_mixer.out_proj.weight"),
            "[96, 192] BF16");
}

}  // namespace
}  // namespace heddle
