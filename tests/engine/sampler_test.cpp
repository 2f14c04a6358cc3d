#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace heddle {
namespace {

std::unique_ptr<Backend> cpu() {
  return make_backend({.threads = 2});
}

std::string refusal(const SamplingParams& params) {
  try {
    validate(params, 100);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
    return e.what();
  }
  return "accepted";
}

TEST(Sampler, PenaltiesFollowTheirFormulas) {
  std::array<float, 4> logits = {2.0F, -2.0F, 1.0F, 0.5F};
  const SamplingParams params{.repetition_penalty = 2.0F,
                              .presence_penalty = 0.25F,
                              .frequency_penalty = 0.5F,
                              .logit_bias = {{3, 1.5F}}};
  const TokenCounts counts = {{0, {.in_prompt = 1}}, {1, {.in_prompt = 1, .generated = 2}}};
  adjust_logits(logits, params, &counts);
  EXPECT_EQ(logits[0], 1.0F);                  // seen in the prompt: repetition only
  EXPECT_EQ(logits[1], -4.0F - 0.25F - 1.0F);  // presence once, frequency twice
  EXPECT_EQ(logits[2], 1.0F);
  EXPECT_EQ(logits[3], 2.0F);
}

TEST(Sampler, DrawIsKeyedBySeedChoiceAndPositionOnly) {
  const auto backend = cpu();
  constexpr std::int64_t kVocab = 50;
  const SamplingParams params{.temperature = 1.5F, .seed = 11};
  SamplingParams other = params;
  other.seed = 12;
  Sampler sampler(*backend, 8, kVocab);
  std::vector<float> logits(8 * kVocab);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = std::sin(static_cast<float>(i % kVocab));
  }
  const auto draw = [&](const std::vector<SampleRow>& rows) {
    return sampler.sample({logits.data(), DType::kF32, {8, kVocab}}, rows);
  };
  std::vector<SampleRow> rows;
  for (std::int64_t i = 0; i < 8; ++i) {
    rows.push_back({.logits_row = i, .params = &params, .position = 100 + i});
  }
  const auto together = draw(rows);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(draw({rows[i]}).front(), together[i]);  // alone, and in a run of one
  }
  rows.erase(rows.begin() + 3);  // a gap: two runs
  EXPECT_EQ(draw(rows)[3], together[4]);
  int moved = 0;
  for (std::int64_t position = 0; position < 64; ++position) {
    const auto a = draw({{.logits_row = 0, .params = &params, .position = position}});
    moved += a != draw({{.logits_row = 0, .params = &other, .position = position}}) ? 1 : 0;
    moved += a != draw({{.logits_row = 0, .params = &params, .choice = 1, .position = position}});
  }
  EXPECT_GT(moved, 64);
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const auto backend = cpu();
  Sampler sampler(*backend, 1, 3);
  const SamplingParams params{.temperature = 1.0F, .seed = 3};
  std::array<float, 3> logits = {std::log(0.6F), std::log(0.3F), std::log(0.1F)};
  std::array<int, 3> seen = {};
  for (std::int64_t position = 0; position < 20000; ++position) {
    const auto t =
        sampler.sample({logits.data(), DType::kF32, {1, 3}},
                       std::vector<SampleRow>{{.params = &params, .position = position}});
    ++seen[static_cast<std::size_t>(t.front())];
  }
  EXPECT_NEAR(seen[0], 12000, 350);  // 5 sigma
  EXPECT_NEAR(seen[1], 6000, 325);
  EXPECT_NEAR(seen[2], 2000, 215);
}

TEST(Sampler, RowWithoutFiniteLogitsGivesNoToken) {
  const auto backend = cpu();
  Sampler sampler(*backend, 2, 3);
  const SamplingParams params;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::array<float, 6> logits = {1.0F, nan, 0.0F, 0.0F, 5.0F, 1.0F};
  const std::vector<SampleRow> rows = {{.logits_row = 0, .params = &params},
                                       {.logits_row = 1, .params = &params}};
  EXPECT_THAT(sampler.sample({logits.data(), DType::kF32, {2, 3}}, rows),
              testing::ElementsAre(-1, 1));
}

TEST(Sampler, TopLogprobsAreSortedAndSumBelowOne) {
  const std::array<float, 5> logits = {0.0F, 3.0F, 3.0F, -1.0F, 2.0F};
  const double lse = log_sum_exp(logits);
  const auto top = top_logprobs(logits, lse, 3);
  ASSERT_EQ(top.size(), 3U);
  EXPECT_EQ(top[0].token, 1);
  EXPECT_EQ(top[1].token, 2);
  EXPECT_EQ(top[2].token, 4);
  double mass = 0.0;
  for (const TokenLogprob& t : top_logprobs(logits, lse, 20)) mass += std::exp(t.logprob);
  EXPECT_NEAR(mass, 1.0, 1e-6);
}

TEST(Sampler, ValuesOutOfRangeAreNamedWithTheirRange) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(refusal({}), "accepted");
  EXPECT_EQ(refusal({.temperature = -0.5F}), "temperature is -0.5, allowed: [0, 100]");
  EXPECT_EQ(refusal({.temperature = nan}), "temperature is nan, allowed: [0, 100]");
  EXPECT_EQ(refusal({.top_k = -1}), "top_k is -1, allowed: [0, 2147483647]");
  EXPECT_EQ(refusal({.top_p = 0.0F}), "top_p is 0, allowed: (0, 1]");
  EXPECT_EQ(refusal({.min_p = 1.5F}), "min_p is 1.5, allowed: [0, 1]");
  EXPECT_EQ(refusal({.repetition_penalty = 0.0F}), "repetition_penalty is 0, allowed: (0, 100]");
  EXPECT_EQ(refusal({.logit_bias = {{100, 1.0F}}}), "logit_bias token is 100, allowed: [0, 99]");
  EXPECT_EQ(refusal({.logit_bias = {{1, nan}}}), "logit_bias is nan, allowed: [-100, 100]");
}

}  // namespace
}  // namespace heddle
