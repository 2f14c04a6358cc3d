// route and expert_sum on the CPU: cases computed by hand for each kind of score, ties, groups and
// NaN; every variant against ref; bits that depend on the token only. The matmuls of experts are in
// expert_matmul_test.cpp.

#include "kernels/api/moe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"
#include "tests/support/compare.h"
#include "tests/support/cpu_variants.h"
#include "tests/support/random.h"

namespace heddle {
namespace {

using testing::ElementsAre;
using testing::FloatNear;

const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInf = std::numeric_limits<float>::infinity();

struct Router {
  RouterScore score = RouterScore::kSoftmax;
  int top_k = 1;
  bool renormalise = false;
  float scale = 1.0F;
  std::vector<float> bias = {};
  int n_groups = 1;
  int top_groups = 1;
};

struct Routed {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

Routed route(const std::string& variant,
             const Router& router,
             const std::vector<float>& logits,
             std::int64_t n_tokens = 1,
             int n_threads = 2) {
  Routed r;
  r.ids.resize(static_cast<std::size_t>(n_tokens * router.top_k) + 1, -7);
  r.weights.resize(r.ids.size(), -7.0F);
  RouteArgs args;
  const auto n_experts = static_cast<std::int64_t>(logits.size()) / n_tokens;
  args.logits = TensorView(logits.data(), DType::kF32, {n_tokens, n_experts});
  if (!router.bias.empty()) {
    args.bias = TensorView(router.bias.data(), DType::kF32,
                           {static_cast<std::int64_t>(router.bias.size())});
  }
  args.ids = TensorView(r.ids.data(), DType::kI32, {n_tokens, router.top_k});
  args.weights = TensorView(r.weights.data(), DType::kF32, {n_tokens, router.top_k});
  args.score = router.score;
  args.renormalise = router.renormalise;
  args.scale = router.scale;
  args.n_groups = router.n_groups;
  args.top_groups = router.top_groups;
  test::run_variant(cpu::route_table(), variant, args, n_threads);
  EXPECT_EQ(r.ids.back(), -7);
  EXPECT_EQ(r.weights.back(), -7.0F);
  r.ids.pop_back();
  r.weights.pop_back();
  return r;
}

// Logits whose softmax is these shares of one.
std::vector<float> logs(std::vector<float> p) {
  for (float& f : p) f = std::log(f);
  return p;
}

class Route : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
  Routed run(const Router& router, const std::vector<float>& logits) {
    return route(GetParam(), router, logits);
  }
};

TEST_P(Route, SoftmaxIsOverAllExperts) {
  const std::vector<float> logits = logs({0.1F, 0.4F, 0.2F, 0.3F});
  const Routed plain = run({RouterScore::kSoftmax, 2}, logits);
  EXPECT_THAT(plain.ids, ElementsAre(1, 3));
  EXPECT_THAT(plain.weights, ElementsAre(FloatNear(0.4F, 1e-6F), FloatNear(0.3F, 1e-6F)));
  const Routed scaled = run({RouterScore::kSoftmax, 2, false, 2.5F}, logits);
  EXPECT_THAT(scaled.weights, ElementsAre(FloatNear(1.0F, 1e-6F), FloatNear(0.75F, 1e-6F)));
}

TEST_P(Route, RenormalisedWeightsAddUpToTheScale) {
  const std::vector<float> logits = logs({0.1F, 0.4F, 0.2F, 0.3F});
  const Routed r = run({RouterScore::kSoftmax, 3, true, 1.0F}, logits);
  EXPECT_THAT(r.ids, ElementsAre(1, 3, 2));
  EXPECT_THAT(r.weights, ElementsAre(FloatNear(4.0F / 9, 1e-6F), FloatNear(3.0F / 9, 1e-6F),
                                     FloatNear(2.0F / 9, 1e-6F)));
  const Routed scaled = run({RouterScore::kSoftmax, 3, true, 9.0F}, logits);
  EXPECT_THAT(scaled.weights,
              ElementsAre(FloatNear(4, 1e-5F), FloatNear(3, 1e-5F), FloatNear(2, 1e-5F)));
}

TEST_P(Route, SigmoidLooksAtEachExpertAlone) {
  const std::vector<float> logits = {0.0F, std::log(3.0F), -std::log(3.0F), -200.0F};
  const Routed r = run({RouterScore::kSigmoid, 4}, logits);
  EXPECT_THAT(r.ids, ElementsAre(1, 0, 2, 3));
  EXPECT_THAT(r.weights, ElementsAre(FloatNear(0.75F, 1e-6F), 0.5F, FloatNear(0.25F, 1e-6F), 0.0F));
  const Routed renormalised = run({RouterScore::kSigmoid, 2, true, 2.5F}, logits);
  EXPECT_THAT(renormalised.weights, ElementsAre(FloatNear(1.5F, 1e-6F), FloatNear(1.0F, 1e-6F)));
}

TEST_P(Route, ChosenIsASoftmaxOverTheChosen) {
  const std::vector<float> logits = logs({0.1F, 0.6F, 0.1F, 0.2F});
  const Routed r = run({RouterScore::kChosen, 2}, logits);
  EXPECT_THAT(r.ids, ElementsAre(1, 3));
  EXPECT_THAT(r.weights, ElementsAre(FloatNear(0.75F, 1e-6F), FloatNear(0.25F, 1e-6F)));
  // Far from 1: the largest is taken off first.
  const Routed large = run({RouterScore::kChosen, 2}, {3000, 3000, -3000});
  EXPECT_THAT(large.weights, ElementsAre(0.5F, 0.5F));
  // A bias moves the choice, not the softmax.
  const Routed biased = run({RouterScore::kChosen, 2, false, 1.0F, {9, 0, 0, 0}}, logits);
  EXPECT_THAT(biased.ids, ElementsAre(0, 1));
  EXPECT_THAT(biased.weights, ElementsAre(FloatNear(1.0F / 7, 1e-6F), FloatNear(6.0F / 7, 1e-6F)));
}

TEST_P(Route, AmongEqualsTheLowestIndexIsFirst) {
  for (const RouterScore score :
       {RouterScore::kSoftmax, RouterScore::kSigmoid, RouterScore::kChosen}) {
    EXPECT_THAT(run({score, 3}, {1, 2, 1, 2, 2, 1}).ids, ElementsAre(1, 3, 4));
    EXPECT_THAT(run({score, 4}, {1, 2, 1, 2, 2, 1}).ids, ElementsAre(1, 3, 4, 0));
    EXPECT_THAT(run({score, 2, true, 1, std::vector<float>(6, 0.5F)}, {1, 2, 1, 2, 2, 1}).ids,
                ElementsAre(1, 3));
  }
}

// 1 - p is below the spacing of f32 for the first two, and p of the last two is zero in f32.
TEST_P(Route, WithoutABiasRoundingMakesNoTies) {
  EXPECT_THAT(run({RouterScore::kSigmoid, 3}, {20, 25, -300, -200}).ids, ElementsAre(1, 0, 3));
  EXPECT_THAT(run({RouterScore::kSoftmax, 3}, {20, 500, -300, -200}).ids, ElementsAre(1, 0, 3));
}

TEST_P(Route, TheBiasChoosesButDoesNotWeigh) {
  const std::vector<float> logits = {0.0F, std::log(3.0F), -std::log(3.0F)};  // 0.5, 0.75, 0.25
  const Routed r = run({RouterScore::kSigmoid, 2, false, 1.0F, {0, -0.5F, 0.5F}}, logits);
  EXPECT_THAT(r.ids, ElementsAre(2, 0));  // sel 0.75, 0.5; 0.25 is left
  EXPECT_THAT(r.weights, ElementsAre(FloatNear(0.25F, 1e-6F), 0.5F));
}

// Bailing: 8 groups of which 4 are kept, by the sum of the two best.
TEST_P(Route, OnlyExpertsOfTheBestGroupsAreChosen) {
  constexpr int kExperts = 32;
  std::vector<float> logits(kExperts, -4.0F);
  logits[1] = 6;                   // group 0: best alone, p 0.9975, second 0.018: sum 1.016
  logits[4] = logits[5] = 1;       // group 1: 0.731 twice: 1.46
  logits[10] = logits[11] = 2;     // group 2: 0.881 twice: 1.76
  logits[12] = logits[15] = 0.5F;  // group 3: 0.622 twice: 1.245
  logits[20] = logits[21] = 0.4F;  // group 5: 0.599 twice: 1.197
  Router router{RouterScore::kSigmoid, 6, true, 2.5F, std::vector<float>(kExperts, 0.0F), 8, 4};
  const Routed r = run(router, logits);
  EXPECT_THAT(r.ids, ElementsAre(10, 11, 4, 5, 12, 15));
  const double sum = 2 * (0.880797078 + 0.731058579 + 0.622459331);
  EXPECT_NEAR(r.weights[0], 2.5 * 0.880797078 / sum, 1e-6);
  EXPECT_NEAR(r.weights[5], 2.5 * 0.622459331 / sum, 1e-6);
  // The bias counts in the groups' scores too: group 0 is in, its two best are.
  router.bias[2] = 3.0F;
  EXPECT_THAT(run(router, logits).ids, ElementsAre(2, 1, 10, 11, 4, 5));
  router.bias.clear();  // and without one p itself does
  EXPECT_THAT(run(router, logits).ids, ElementsAre(10, 11, 4, 5, 12, 15));
}

TEST_P(Route, AmongEqualGroupsTheLowestIsFirst) {
  EXPECT_THAT(run({RouterScore::kSigmoid, 4, false, 1, {}, 4, 2}, std::vector<float>(8, 1.0F)).ids,
              ElementsAre(0, 1, 2, 3));
  // Groups of one expert: its own sel.
  EXPECT_THAT(run({RouterScore::kSoftmax, 2, false, 1, {}, 4, 2}, {1, 3, 2, 3}).ids,
              ElementsAre(1, 3));
  // All groups kept is no limit.
  EXPECT_THAT(run({RouterScore::kSoftmax, 2, false, 1, {}, 2, 2}, {1, 3, 2, 4}).ids,
              ElementsAre(3, 1));
}

TEST_P(Route, AllExpertsCanBeChosenAndOneCanBeAll) {
  const Routed all = run({RouterScore::kSoftmax, 4}, logs({0.1F, 0.4F, 0.2F, 0.3F}));
  EXPECT_THAT(all.ids, ElementsAre(1, 3, 2, 0));
  EXPECT_NEAR(all.weights[0] + all.weights[1] + all.weights[2] + all.weights[3], 1, 1e-6);
  const Routed one = run({RouterScore::kSoftmax, 1, true}, {-3});
  EXPECT_THAT(one.ids, ElementsAre(0));
  EXPECT_THAT(one.weights, ElementsAre(1.0F));
}

TEST_P(Route, ANanIsChosenLastAndShowsInTheWeights) {
  for (const RouterScore score :
       {RouterScore::kSoftmax, RouterScore::kSigmoid, RouterScore::kChosen}) {
    EXPECT_THAT(run({score, 4}, {kNan, -kInf, 1, kNan}).ids, ElementsAre(2, 1, 0, 3));
    EXPECT_THAT(run({score, 2}, {kNan, kNan, kNan}).ids, ElementsAre(0, 1));
    EXPECT_TRUE(std::isnan(run({score, 2}, {kNan, kNan, kNan}).weights[0]));
  }
  // So are the groups whose score it spoils: one, or with a softmax all.
  const std::vector<float> in_group_0 = {kNan, 2, -9, -8};
  EXPECT_THAT(run({RouterScore::kSigmoid, 2, true, 1, {}, 2, 1}, in_group_0).ids,
              ElementsAre(3, 2));
  EXPECT_THAT(run({RouterScore::kSoftmax, 2, true, 1, {}, 2, 1}, in_group_0).ids,
              ElementsAre(1, 0));
  // Softmax sums over all; a sigmoid, or a softmax over the chosen, does not see the one left out.
  EXPECT_TRUE(std::isnan(run({RouterScore::kSoftmax, 1}, {kNan, 1}).weights[0]));
  EXPECT_EQ(run({RouterScore::kSigmoid, 1}, {kNan, 0}).weights[0], 0.5F);
  EXPECT_EQ(run({RouterScore::kChosen, 1}, {kNan, 1}).weights[0], 1.0F);
}

TEST_P(Route, AgreesWithRef) {
  test::Random random(1);
  constexpr std::int64_t kTokens = 40;
  for (const RouterScore score :
       {RouterScore::kSoftmax, RouterScore::kSigmoid, RouterScore::kChosen}) {
    for (const std::int64_t n_experts : {8, 15, 16, 32, 60, 256}) {
      for (const bool renormalise : {false, true}) {
        // Logits on a grid: what ties, ties in f32 and in f64.
        std::vector<float> logits = random.normals(kTokens * n_experts, 2.0F);
        for (float& f : logits) f = std::round(f * 64) / 64;
        Router router{score, 6, renormalise, 1.5F};
        if (n_experts % 8 == 0) router.n_groups = n_experts == 8 ? 1 : 4;
        if (router.n_groups == 4) router.top_groups = 3;
        const Routed expected = route("ref", router, logits, kTokens);
        const Routed actual = route(GetParam(), router, logits, kTokens);
        ASSERT_EQ(actual.ids, expected.ids) << n_experts;
        // exp 2 ulp of each term, then at most six roundings
        EXPECT_TRUE(test::within_bound(actual.weights, expected.weights, [&](auto i) {
          return 10 * test::kEpsF32 * std::abs(expected.weights[i]) + 1e-37;
        })) << n_experts;
      }
    }
  }
}

TEST_P(Route, NonFiniteLogitsSpreadAsInRef) {
  for (const RouterScore score :
       {RouterScore::kSoftmax, RouterScore::kSigmoid, RouterScore::kChosen}) {
    for (const float bad : {kInf, -kInf, kNan}) {
      for (const bool all : {false, true}) {
        std::vector<float> logits = {0.5F, 0.25F, -1, 2, 1};
        if (all) std::fill(logits.begin(), logits.end(), bad);
        logits[2] = bad;
        const Router router{score, 3, true};
        const Routed expected = route("ref", router, logits);
        const Routed actual = run(router, logits);
        EXPECT_EQ(actual.ids, expected.ids) << bad;
        EXPECT_TRUE(test::within(actual.weights, expected.weights, 1e-6)) << bad;
      }
    }
  }
}

TEST_P(Route, NoTokensIsNoWork) {
  std::int32_t id = 5;
  float weight = 6.0F;
  RouteArgs args;
  args.logits = TensorView(&weight, DType::kF32, {0, 4});
  args.ids = TensorView(&id, DType::kI32, {0, 2});
  args.weights = TensorView(&weight, DType::kF32, {0, 2});
  test::run_variant(cpu::route_table(), GetParam(), args);
  EXPECT_EQ(id, 5);
  EXPECT_EQ(weight, 6.0F);
}

TEST_P(Route, RefusesWhatCannotBe) {
  const std::vector<float> logits(12, 1.0F);
  EXPECT_THROW(run({RouterScore::kSoftmax, 0}, logits), Error);
  EXPECT_THROW(run({RouterScore::kSoftmax, 13}, logits), Error);
  EXPECT_THROW(run({RouterScore::kSoftmax, 1, false, 1, {}, 5, 1}, logits), Error);
  EXPECT_THROW(run({RouterScore::kSoftmax, 1, false, 1, {}, 4, 0}, logits), Error);
  EXPECT_THROW(run({RouterScore::kSoftmax, 1, false, 1, {}, 4, 5}, logits), Error);
  EXPECT_THROW(run({RouterScore::kSoftmax, 4, false, 1, {}, 4, 1}, logits), Error);
  EXPECT_THROW(run({RouterScore::kSoftmax, 1, false, 1, {1, 2}}, logits), Error);
}

INSTANTIATE_TEST_SUITE_P(Variants, Route, test::all_variants(), test::variant_name);

class RouteBits : public Route {};

TEST_P(RouteBits, DependOnTheTokenOnly) {
  constexpr std::int64_t kTokens = 300;
  constexpr std::int64_t kExperts = 72;
  const std::vector<float> logits = test::Random(2).normals(kTokens * kExperts, 3.0F);
  const std::vector<float> bias = test::Random(3).normals(kExperts, 0.1F);
  for (const RouterScore score :
       {RouterScore::kSoftmax, RouterScore::kSigmoid, RouterScore::kChosen}) {
    const Router router{score, 5, true, 2.5F, bias, 8, 4};
    const Routed all = route("portable", router, logits, kTokens, 1);
    for (const int threads : {1, 2, 3}) {
      const Routed same = route(GetParam(), router, logits, kTokens, threads);
      EXPECT_EQ(same.ids, all.ids);
      EXPECT_TRUE(test::same_bits(same.weights, all.weights));
    }
    const std::vector<float> row(logits.begin() + 211 * kExperts, logits.begin() + 212 * kExperts);
    const Routed alone = route(GetParam(), router, row);
    EXPECT_TRUE(std::equal(alone.ids.begin(), alone.ids.end(), all.ids.begin() + 211 * 5));
    EXPECT_TRUE(test::same_bits(alone.weights, {all.weights.data() + 211 * 5, 5}));
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, RouteBits, test::fast_variants(), test::variant_name);

// ---- expert_sum

struct Sum {
  std::int64_t top_k = 2;
  std::int64_t width = 1;
  std::vector<float> y;
  std::vector<float> weights;
  std::vector<float> residual = {};
};

std::vector<float> expert_sum(const std::string& variant, const Sum& sum, int n_threads = 2) {
  const auto n = static_cast<std::int64_t>(sum.weights.size()) / sum.top_k;
  std::vector<float> out(static_cast<std::size_t>(n * sum.width) + 16, -99.0F);
  ExpertSumArgs args;
  args.y = TensorView(sum.y.data(), DType::kF32, {n, sum.top_k, sum.width});
  args.weights = TensorView(sum.weights.data(), DType::kF32, {n, sum.top_k});
  if (!sum.residual.empty()) {
    args.residual = TensorView(sum.residual.data(), DType::kF32, {n, sum.width});
  }
  args.out = TensorView(out.data(), DType::kF32, {n, sum.width});
  test::run_variant(cpu::expert_sum_table(), variant, args, n_threads);
  for (std::size_t i = out.size() - 16; i < out.size(); ++i) EXPECT_EQ(out[i], -99.0F);
  out.resize(out.size() - 16);
  return out;
}

Sum random_sum(
    std::int64_t n, std::int64_t top_k, std::int64_t width, bool residual, std::uint64_t seed) {
  test::Random random(seed);
  Sum s{top_k, width, random.normals(n * top_k * width), random.normals(n * top_k)};
  if (residual) s.residual = random.normals(n * width, 3.0F);
  return s;
}

class ExpertSum : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
};

TEST_P(ExpertSum, IsTheFormula) {
  Sum s{2, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {0.5F, 2, 1, -1}};
  EXPECT_THAT(expert_sum(GetParam(), s), ElementsAre(8.5F, 11, 13.5F, -3, -3, -3));
  s.residual = {100, 200, 300, 400, 500, 600};
  EXPECT_THAT(expert_sum(GetParam(), s), ElementsAre(108.5F, 211, 313.5F, 397, 497, 597));
}

TEST_P(ExpertSum, AgreesWithRef) {
  for (const std::int64_t top_k : {1, 2, 8}) {
    for (const std::int64_t width : {1, 7, 15, 16, 17, 31, 33, 2048}) {
      for (const bool residual : {false, true}) {
        const Sum s = random_sum(3, top_k, width, residual, 4);
        EXPECT_TRUE(test::within_bound(
            expert_sum(GetParam(), s), expert_sum("ref", s),
            [&](std::size_t i) {
              const std::size_t t = i / static_cast<std::size_t>(width);
              double size = residual ? std::abs(s.residual[i]) : 0;
              for (std::size_t j = 0; j < static_cast<std::size_t>(top_k); ++j) {
                const std::size_t row = t * static_cast<std::size_t>(top_k) + j;
                const auto w = static_cast<std::size_t>(width);
                size += std::abs(static_cast<double>(s.weights[row]) * s.y[row * w + i % w]);
              }
              return static_cast<double>(top_k + 1) * test::kEpsF32 / 2 * size;
            }))
            << top_k << " " << width;
      }
    }
  }
}

TEST_P(ExpertSum, ResidualMayBeTheOutput) {
  Sum s = random_sum(3, 2, 33, true, 5);
  const std::vector<float> expected = expert_sum(GetParam(), s);
  ExpertSumArgs args;
  args.y = TensorView(s.y.data(), DType::kF32, {3, 2, 33});
  args.weights = TensorView(s.weights.data(), DType::kF32, {3, 2});
  args.out = args.residual = TensorView(s.residual.data(), DType::kF32, {3, 33});
  test::run_variant(cpu::expert_sum_table(), GetParam(), args);
  EXPECT_TRUE(test::same_bits(s.residual, expected));
}

TEST_P(ExpertSum, AWeightOfZeroDoesNotHideANan) {
  const Sum s{2, 1, {kNan, 1, kInf, 1, 2, 3}, {0, 1, 0, 1, 0, 1}};
  const std::vector<float> out = expert_sum(GetParam(), s);
  EXPECT_TRUE(std::isnan(out[0]) && std::isnan(out[1]));
  EXPECT_EQ(out[2], 3.0F);
}

TEST_P(ExpertSum, NoTokensIsNoWorkAndShapesAreChecked) {
  float one = 5.0F;
  ExpertSumArgs args;
  args.y = TensorView(&one, DType::kF32, {0, 2, 1});
  args.weights = TensorView(&one, DType::kF32, {0, 2});
  args.out = TensorView(&one, DType::kF32, {0, 1});
  test::run_variant(cpu::expert_sum_table(), GetParam(), args);
  EXPECT_EQ(one, 5.0F);
  const std::vector<float> y(4);
  std::vector<float> out(4);
  args.y = TensorView(y.data(), DType::kF32, {1, 2, 2});
  args.weights = TensorView(y.data(), DType::kF32, {1, 2});
  args.out = TensorView(out.data(), DType::kF32, {1, 2});
  EXPECT_NO_THROW(test::run_variant(cpu::expert_sum_table(), GetParam(), args));
  for (const auto& wrong : {TensorView(y.data(), DType::kF32, {1, 2}),    // aliases y
                            TensorView(out.data(), DType::kF32, {2, 1}),  // another shape
                            TensorView(out.data(), DType::kF16, {1, 2})}) {
    ExpertSumArgs a = args;
    a.out = wrong;
    EXPECT_THROW(test::run_variant(cpu::expert_sum_table(), GetParam(), a), Error);
  }
  args.residual = TensorView(y.data(), DType::kF32, {1, 3});
  EXPECT_THROW(test::run_variant(cpu::expert_sum_table(), GetParam(), args), Error);
}

INSTANTIATE_TEST_SUITE_P(Variants, ExpertSum, test::all_variants(), test::variant_name);

class ExpertSumBits : public ExpertSum {};

TEST_P(ExpertSumBits, AreFusedMultiplyAddsInRouterOrder) {
  for (const std::int64_t width : {1, 15, 16, 17, 577}) {
    const Sum s = random_sum(50, 3, width, true, 6);
    std::vector<float> expected;
    for (std::size_t i = 0; i < s.residual.size(); ++i) {
      const auto w = static_cast<std::size_t>(width);
      float sum = s.residual[i];
      for (std::size_t j = 0; j < 3; ++j) {
        const std::size_t row = i / w * 3 + j;
        sum = std::fma(s.weights[row], s.y[row * w + i % w], sum);
      }
      expected.push_back(sum);
    }
    for (const int threads : {1, 2, 3}) {
      EXPECT_TRUE(test::same_bits(expert_sum(GetParam(), s, threads), expected)) << width;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, ExpertSumBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
