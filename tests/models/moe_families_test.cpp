// Families with mixtures of experts, and of heads: what config.json and GGUF's keys become in
// routers, experts and shared experts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/family_configs.h"

namespace heddle {
namespace {

using nlohmann::json;
using test::family_configs::experts;
using test::family_configs::kVocab;
using test::family_configs::merged;
using test::family_configs::read;
using test::family_configs::refusal;
using test::family_configs::softmax;
using test::family_configs::tiny;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const MoeFfnNames& expert_names(const Checkpoint& checkpoint, std::size_t layer) {
  return std::get<MoeFfnNames>(checkpoint.names.layers.at(layer).ffn);
}
const SoftmaxAttentionNames& softmax_names(const Checkpoint& checkpoint, std::size_t layer) {
  return std::get<SoftmaxAttentionNames>(checkpoint.names.layers.at(layer).mixers.at(0));
}

std::vector<int> windows(const Checkpoint& checkpoint) {
  std::vector<int> windows;
  for (std::size_t i = 0; i < checkpoint.config.layers.size(); ++i) {
    windows.push_back(softmax(checkpoint, i).window);
  }
  return windows;
}

/// M: a mixture of experts, D: a dense FFN.
std::string ffns(const Checkpoint& checkpoint) {
  std::string text;
  for (const LayerSpec& layer : checkpoint.config.layers) {
    text += std::holds_alternative<MoeFfnSpec>(layer.ffn) ? 'M' : 'D';
  }
  return text;
}

// --- config.json

json mixtral(const json& more = json::object()) {
  return merged(tiny("mixtral", 2),
                merged({{"num_local_experts", 8}, {"num_experts_per_tok", 2}}, more));
}

json with_experts(const std::string& type, const json& more = json::object(), int layers = 2) {
  return merged(
      tiny(type, layers),
      merged({{"num_experts", 8}, {"num_experts_per_tok", 3}, {"moe_intermediate_size", 24}},
             more));
}

TEST(Mixtral, ExpertsAreRenormalised) {
  const Checkpoint checkpoint = read(mixtral());
  const MoeFfnSpec& moe = experts(checkpoint, 1);
  EXPECT_EQ(moe.router.n_experts, 8);
  EXPECT_EQ(moe.router.top_k, 2);
  EXPECT_EQ(moe.router.score, RouterScore::kSoftmax);
  EXPECT_TRUE(moe.router.renormalise);
  EXPECT_EQ(moe.intermediate, 32);
  EXPECT_EQ(moe.shared, SharedExpert::kNone);
  const MoeFfnNames& names = expert_names(checkpoint, 1);
  ASSERT_EQ(names.up.size(), 8U);
  EXPECT_EQ(names.router.tensor, "model.layers.1.block_sparse_moe.gate.weight");
  EXPECT_EQ(names.gate[3].tensor, "model.layers.1.block_sparse_moe.experts.3.w1.weight");
  EXPECT_EQ(names.up[3].tensor, "model.layers.1.block_sparse_moe.experts.3.w3.weight");
  EXPECT_EQ(names.down[3].tensor, "model.layers.1.block_sparse_moe.experts.3.w2.weight");
  EXPECT_EQ(test::shape_of(checkpoint, names.down[3].tensor), "[64, 32] BF16");
}

TEST(Mixtral, AWindowIsOneWhereTheConfigNamesIt) {
  EXPECT_THAT(windows(read(mixtral())), Each(0));
  EXPECT_THAT(windows(read(mixtral({{"sliding_window", nullptr}}))), Each(0));
  EXPECT_THAT(windows(read(mixtral({{"sliding_window", 9}}))), Each(9));
}

TEST(Olmoe, AllHeadsAreNormedTogether) {
  const Checkpoint checkpoint = read(with_experts("olmoe"));
  ASSERT_TRUE(softmax(checkpoint, 0).qk_norm.has_value());
  EXPECT_TRUE(softmax(checkpoint, 0).qk_norm->all_heads);
  EXPECT_EQ(softmax_names(checkpoint, 0).q_norm.rows, 64);
  EXPECT_EQ(softmax_names(checkpoint, 0).k_norm.rows, 32);
  EXPECT_FALSE(experts(checkpoint, 0).router.renormalise);
  EXPECT_EQ(experts(checkpoint, 0).intermediate, 32);  // intermediate_size is that of an expert
  EXPECT_TRUE(
      experts(read(with_experts("olmoe", {{"norm_topk_prob", true}})), 0).router.renormalise);
}

TEST(Qwen2Moe, ASharedExpertIsGated) {
  const Checkpoint checkpoint =
      read(with_experts("qwen2_moe", {{"shared_expert_intermediate_size", 40}}));
  const MoeFfnSpec& moe = experts(checkpoint, 0);
  EXPECT_EQ(moe.shared, SharedExpert::kGated);
  EXPECT_EQ(moe.shared_intermediate, 40);
  EXPECT_EQ(moe.intermediate, 24);
  EXPECT_FALSE(moe.router.renormalise);
  EXPECT_EQ(test::shape_of(checkpoint, "model.layers.0.mlp.shared_expert_gate.weight"),
            "[1, 64] BF16");
  EXPECT_FALSE(softmax_names(checkpoint, 0).q_bias.absent());
  EXPECT_TRUE(
      softmax_names(read(with_experts("qwen2_moe", {{"qkv_bias", false}})), 0).q_bias.absent());
}

TEST(Qwen2Moe, AbsentSizesAreThePublishedOnes) {
  json config = with_experts("qwen2_moe");
  config.erase("moe_intermediate_size");
  const MoeFfnSpec moe = experts(read(config), 0);
  EXPECT_EQ(moe.intermediate, 1408);
  EXPECT_EQ(moe.shared_intermediate, 5632);
}

TEST(Qwen3Moe, SomeLayersMayBeDense) {
  const auto layers = [](const json& more) {
    return ffns(read(with_experts("qwen3_moe", more, 6)));
  };
  EXPECT_EQ(layers(json::object()), "MMMMMM");
  EXPECT_EQ(layers({{"decoder_sparse_step", 2}}), "DMDMDM");
  EXPECT_EQ(layers({{"mlp_only_layers", {4, 0}}}), "DMMMDM");
  EXPECT_EQ(layers({{"decoder_sparse_step", 3}, {"mlp_only_layers", {5}}}), "DDMDDD");
  const Checkpoint checkpoint = read(with_experts("qwen3_moe", {{"norm_topk_prob", true}}));
  EXPECT_TRUE(experts(checkpoint, 0).router.renormalise);
  EXPECT_EQ(experts(checkpoint, 0).shared, SharedExpert::kNone);
  ASSERT_TRUE(softmax(checkpoint, 0).qk_norm.has_value());
  EXPECT_FALSE(softmax(checkpoint, 0).qk_norm->all_heads);
}

// --- gpt-oss

json gpt_oss(const json& more = json::object()) {
  return merged(tiny("gpt_oss", 2),
                merged({{"num_local_experts", 4}, {"num_experts_per_tok", 2}}, more));
}

/// Its store expects nothing: every tensor must be there.
Checkpoint read_gpt_oss(const json& config) {
  std::map<std::string, test::TensorShape> there = {{"model.embed_tokens.weight", {kVocab, 64}},
                                                    {"lm_head.weight", {kVocab, 64}},
                                                    {"model.norm.weight", {64}}};
  for (const std::string& layer :
       {std::string("model.layers.0."), std::string("model.layers.1.")}) {
    for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"}) {
      there[layer + norm] = {64};
    }
    const std::map<std::string, std::int64_t> rows = {{"q", 64}, {"k", 32}, {"v", 32}, {"o", 64}};
    for (const auto& [name, n] : rows) {
      there[layer + "self_attn." + name + "_proj.weight"] = {n, 64};
      there[layer + "self_attn." + name + "_proj.bias"] = {n};
    }
    there[layer + "self_attn.sinks"] = {4};
    there[layer + "mlp.router.weight"] = {4, 64};
    there[layer + "mlp.router.bias"] = {4};
    there[layer + "mlp.experts.gate_up_proj"] = {4, 64, 64};
    there[layer + "mlp.experts.gate_up_proj_bias"] = {4, 64};
    there[layer + "mlp.experts.down_proj"] = {4, 64, 32};
    there[layer + "mlp.experts.down_proj_bias"] = {4, 64};
  }
  return test::read_family(config, there);
}

TEST(GptOss, ExpertsAreClampedAndScoredAmongTheChosen) {
  const Checkpoint checkpoint = read_gpt_oss(gpt_oss());
  const MoeFfnSpec& moe = experts(checkpoint, 0);
  EXPECT_EQ(moe.router.score, RouterScore::kChosen);
  EXPECT_TRUE(moe.router.bias);
  EXPECT_FALSE(moe.router.choice_bias);
  EXPECT_EQ(moe.activation, Activation::kQuickGelu);
  EXPECT_EQ(moe.limit, 7.0F);
  EXPECT_EQ(moe.up_add, 1.0F);
  EXPECT_TRUE(moe.bias);
  EXPECT_EQ(experts(read_gpt_oss(gpt_oss({{"swiglu_limit", 5.5}})), 0).limit, 5.5F);
  EXPECT_TRUE(softmax(checkpoint, 0).sinks);
}

TEST(GptOss, WindowsAreInTurnUnlessLayerTypesSayOtherwise) {
  EXPECT_THAT(windows(read_gpt_oss(gpt_oss())), ElementsAre(128, 0));
  EXPECT_THAT(windows(read_gpt_oss(gpt_oss({{"sliding_window", 7}}))), ElementsAre(7, 0));
  EXPECT_THAT(
      windows(read_gpt_oss(gpt_oss(
          {{"sliding_window", 7}, {"layer_types", {"full_attention", "sliding_attention"}}}))),
      ElementsAre(0, 7));
}

TEST(GptOss, GateAndUpStandRowByRow) {
  const Checkpoint checkpoint = read_gpt_oss(gpt_oss());
  const MoeFfnNames& names = expert_names(checkpoint, 1);
  ASSERT_EQ(names.gate.size(), 4U);
  const TensorPart& gate = names.gate[2];
  const TensorPart& up = names.up[2];
  EXPECT_EQ(gate.tensor, "model.layers.1.mlp.experts.gate_up_proj");
  EXPECT_EQ(gate.first_row, 128);
  EXPECT_EQ(gate.picked_from, 64);
  EXPECT_EQ(gate.of_rows, 256);
  EXPECT_EQ(gate.rows, 32);
  ASSERT_EQ(up.row_order.size(), 32U);
  for (std::size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(gate.row_order[i], static_cast<std::int32_t>(2 * i));
    EXPECT_EQ(up.row_order[i], static_cast<std::int32_t>(2 * i + 1));
  }
  ASSERT_EQ(names.up_bias.size(), 1U);  // of all experts together
  EXPECT_EQ(names.up_bias[0].rows, 128);
  EXPECT_EQ(names.up_bias[0].row_order[33], 67);
  EXPECT_EQ(names.down_bias[0].rows, 256);
}

// --- GGUF

/// Hidden 64, four query heads on two KV heads of 16, eight experts of 24, three used.
test::GgufDoc gguf(const std::string& architecture) {
  test::GgufDoc doc;
  const auto number = [&](const std::string& key, std::uint32_t value) {
    doc.set<std::uint32_t>(architecture + "." + key, value);
  };
  doc.set_text("general.architecture", architecture);
  number("block_count", 2);
  number("context_length", 4096);
  number("embedding_length", 64);
  number("feed_forward_length", 32);
  number("attention.head_count", 4);
  number("attention.head_count_kv", 2);
  number("expert_count", 8);
  number("expert_used_count", 3);
  number("expert_feed_forward_length", 24);
  doc.set<float>(architecture + ".attention.layer_norm_rms_epsilon", 1e-5F);
  return doc;
}

Checkpoint read_gguf(const test::GgufDoc& doc, const std::string& architecture) {
  return test::read_gguf_family(doc, architecture, {{"token_embd.weight", {kVocab, 64}}});
}

TEST(GgufExperts, TheyAreStackedInOneTensor) {
  const Checkpoint checkpoint = read_gguf(gguf("qwen3moe"), "qwen3moe");
  const MoeFfnSpec& moe = experts(checkpoint, 1);
  EXPECT_EQ(moe.router.n_experts, 8);
  EXPECT_EQ(moe.router.top_k, 3);
  EXPECT_TRUE(moe.router.renormalise);
  EXPECT_EQ(moe.intermediate, 24);
  const TensorPart& down = expert_names(checkpoint, 1).down.at(5);
  EXPECT_EQ(down.tensor, "blk.1.ffn_down_exps.weight");
  EXPECT_THAT(down.shape, ElementsAre(8, 64, 24));
  EXPECT_EQ(down.first_row, 5 * 64);
  EXPECT_EQ(down.rows, 64);
  EXPECT_EQ(down.of_rows, 8 * 64);
  EXPECT_EQ(test::shape_of(checkpoint, "blk.0.ffn_gate_inp.weight"), "[8, 64] BF16");
}

TEST(GgufExperts, RenormalisationIsThatOfTheArchitecture) {
  for (const auto& [architecture, renormalise] : std::vector<std::pair<std::string, bool>>{
           {"llama", true}, {"qwen2moe", false}, {"qwen3moe", true}, {"olmoe", false}}) {
    const Checkpoint checkpoint = read_gguf(gguf(architecture), architecture);
    EXPECT_EQ(experts(checkpoint, 0).router.renormalise, renormalise) << architecture;
  }
}

TEST(GgufExperts, ALlamaWithoutACountIsDense) {
  test::GgufDoc doc = gguf("llama");
  doc.remove("llama.expert_count");
  EXPECT_EQ(ffns(read_gguf(doc, "llama")), "DD");
  EXPECT_EQ(ffns(read_gguf(gguf("llama"), "llama")), "MM");
}

TEST(GgufExperts, Qwen2MoeHasASharedExpert) {
  test::GgufDoc doc = gguf("qwen2moe");
  EXPECT_EQ(experts(read_gguf(doc, "qwen2moe"), 0).shared_intermediate, 32);
  doc.set<std::uint32_t>("qwen2moe.expert_shared_feed_forward_length", 40);
  const Checkpoint checkpoint = read_gguf(doc, "qwen2moe");
  EXPECT_EQ(experts(checkpoint, 0).shared, SharedExpert::kGated);
  EXPECT_EQ(experts(checkpoint, 0).shared_intermediate, 40);
  const TensorPart& gate = expert_names(checkpoint, 0).shared_gate;
  EXPECT_EQ(gate.tensor, "blk.0.ffn_gate_inp_shexp.weight");
  EXPECT_EQ(gate.rows, 1);
  EXPECT_THAT(gate.shape, ElementsAre(64));
}

TEST(GgufExperts, GptOssHasSinksWindowsAndBiases) {
  test::GgufDoc doc = gguf("gpt-oss");
  doc.set<std::uint32_t>("gpt-oss.attention.sliding_window", 7);
  const Checkpoint checkpoint = read_gguf(doc, "gpt-oss");
  EXPECT_THAT(windows(checkpoint), ElementsAre(7, 0));
  const MoeFfnSpec& moe = experts(checkpoint, 0);
  EXPECT_EQ(moe.router.score, RouterScore::kChosen);
  EXPECT_EQ(moe.limit, 7.0F);
  EXPECT_EQ(moe.up_add, 1.0F);
  EXPECT_EQ(test::shape_of(checkpoint, "blk.0.attn_sinks.weight"), "[4] F32");
  EXPECT_EQ(test::shape_of(checkpoint, "blk.1.ffn_up_exps.bias"), "[8, 24] BF16");
  EXPECT_EQ(expert_names(checkpoint, 0).gate.at(1).row_order.size(), 0U);  // apart in this format
}

// --- MoH-LLaMA3

json moh(int vocab, int heads) {
  json config = tiny("llama", 2);
  config["vocab_size"] = vocab;
  config["num_attention_heads"] = heads;
  config["auto_map"] = {{"AutoModelForCausalLM", "modeling_llama.LlamaForCausalLM"}};
  return config;
}

TEST(Moh, ThePublishedModelIsKnownByItsCodeVocabularyAndHeads) {
  const Checkpoint checkpoint = read(moh(160'896, 32));
  const auto& heads = softmax(checkpoint, 1).heads;
  ASSERT_TRUE(heads.has_value());
  EXPECT_EQ(heads->n_shared, 16);
  EXPECT_EQ(heads->top_k, 8);
  EXPECT_TRUE(heads->by_query_norm);
  for (const auto& [vocab, n_heads] :
       std::vector<std::pair<int, int>>{{160'895, 32}, {160'896, 16}}) {
    EXPECT_THAT(
        refusal(moh(vocab, n_heads)),
        HasSubstr("config: auto_map, got code of the checkpoint's own, allowed no auto_map"));
  }
}

TEST(Moh, ThePublishedSizesAreNeverRunDense) {
  json config = moh(160'896, 32);
  config["auto_map"] = nullptr;
  EXPECT_TRUE(softmax(read(config), 0).heads.has_value());
  config.erase("auto_map");
  EXPECT_TRUE(softmax(read(config), 0).heads.has_value());
}

TEST(Moh, AKeySaysItOpenly) {
  for (const bool code : {true, false}) {
    json config = moh(kVocab, 8);
    if (!code) config.erase("auto_map");
    config["moh"] = {{"shared_heads", 4}, {"top_k", 2}, {"score", "query_norm"}};
    const Checkpoint checkpoint = read(config);
    const auto& heads = softmax(checkpoint, 0).heads;
    ASSERT_TRUE(heads.has_value());
    EXPECT_EQ(heads->n_shared, 4);
    EXPECT_EQ(heads->top_k, 2);
    EXPECT_TRUE(heads->by_query_norm);
  }
}

}  // namespace
}  // namespace heddle
