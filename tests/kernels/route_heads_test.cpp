// route_heads on the CPU: the general form and the choice by query norm by hand; every variant
// against ref; bits that depend on the token only.

#include "kernels/api/route_heads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"
#include "tests/support/compare.h"
#include "tests/support/cpu_variants.h"
#include "tests/support/random.h"

namespace heddle {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::FloatNear;

const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInf = std::numeric_limits<float>::infinity();

struct Heads {
  int n_shared = 0;
  int top_k = 1;
  std::vector<float> routed = {};
  std::vector<float> shared = {};
  std::vector<float> stage = {};
  std::vector<float> q = {};
  std::int64_t head_dim = 0;
};

struct Use {
  std::vector<int> mask;
  std::vector<float> gates;
};

Use route_heads(const std::string& variant,
                const Heads& heads,
                std::int64_t n_heads,
                std::int64_t n_tokens = 1,
                int n_threads = 2) {
  const auto n = static_cast<std::size_t>(n_tokens * n_heads);
  std::vector<std::uint8_t> mask(n + 1, 77);
  std::vector<float> gates(n + 1, -7.0F);
  RouteHeadsArgs args;
  args.n_shared = heads.n_shared;
  args.top_k = heads.top_k;
  args.mask = TensorView(mask.data(), DType::kU8, {n_tokens, n_heads});
  const auto rows = [&](const std::vector<float>& v) {
    if (v.empty()) return TensorView();
    return TensorView(v.data(), DType::kF32,
                      {n_tokens, static_cast<std::int64_t>(v.size()) / n_tokens});
  };
  args.routed = rows(heads.routed);
  args.shared = rows(heads.shared);
  args.stage = rows(heads.stage);
  if (!heads.q.empty()) {
    args.q = TensorView(heads.q.data(), DType::kF32, {n_tokens, n_heads, heads.head_dim});
  } else {
    args.gates = TensorView(gates.data(), DType::kF32, {n_tokens, n_heads});
  }
  test::run_variant(cpu::route_heads_table(), variant, args, n_threads);
  EXPECT_EQ(mask.back(), 77);
  EXPECT_EQ(gates.back(), -7.0F);
  gates.pop_back();
  return {{mask.begin(), mask.end() - 1}, gates};
}

class RouteHeads : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
  Use run(const Heads& heads, std::int64_t n_heads) {
    return route_heads(GetParam(), heads, n_heads);
  }
};

std::vector<float> logs(std::vector<float> p) {
  for (float& f : p) f = std::log(f);
  return p;
}

// Two shared heads, the best two of four. a = 2 (0.25, 0.75).
TEST_P(RouteHeads, GeneralFormByHand) {
  const Heads heads{2, 2, logs({0.1F, 0.2F, 0.4F, 0.3F}), logs({0.8F, 0.2F}), logs({1, 3})};
  const Use use = run(heads, 6);
  EXPECT_THAT(use.mask, ElementsAre(1, 1, 0, 0, 1, 1));
  // shared: 0.5 * 2 * (0.8, 0.2); routed: 1.5 * 2 * (0.4, 0.3) / 0.7
  EXPECT_THAT(use.gates, ElementsAre(FloatNear(0.8F, 1e-6F), FloatNear(0.2F, 1e-6F), 0.0F, 0.0F,
                                     FloatNear(12.0F / 7, 1e-6F), FloatNear(9.0F / 7, 1e-6F)));
}

TEST_P(RouteHeads, WithoutSharedHeadsTheRoutedHaveAll) {
  const Use use = run({0, 2, logs({0.5F, 0.3F, 0.2F})}, 3);
  EXPECT_THAT(use.mask, ElementsAre(1, 1, 0));
  EXPECT_THAT(use.gates, ElementsAre(FloatNear(1.25F, 1e-6F), FloatNear(0.75F, 1e-6F), 0.0F));
}

// Its softmax is 1 whatever its logit is.
TEST_P(RouteHeads, OneSharedHeadHasTheWholeSharedPart) {
  const Use use = run({1, 1, {3, 4}, {-50}, {0, 0}}, 3);
  EXPECT_THAT(use.mask, ElementsAre(1, 0, 1));
  EXPECT_THAT(use.gates, ElementsAre(1.0F, 0.0F, 1.0F));
}

TEST_P(RouteHeads, AllHeadsCanBeInUse) {
  const Use use = run({1, 3, logs({0.2F, 0.5F, 0.3F}), {0}, {0, 0}}, 4);
  EXPECT_THAT(use.mask, ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(use.gates, ElementsAre(1.0F, FloatNear(0.6F, 1e-6F), FloatNear(1.5F, 1e-6F),
                                     FloatNear(0.9F, 1e-6F)));
  EXPECT_THAT(run({0, 1, {7}}, 1).gates, ElementsAre(1.0F));
}

TEST_P(RouteHeads, AmongEqualsTheLowestIndexIsFirst) {
  EXPECT_THAT(run({1, 2, {1, 2, 1, 1}, {0}, {0, 0}}, 5).mask, ElementsAre(1, 1, 1, 0, 0));
  EXPECT_THAT(run({0, 3, std::vector<float>(6, -1.0F)}, 6).mask, ElementsAre(1, 1, 1, 0, 0, 0));
  const std::vector<float> q = {9, 9, 3, 4, 4, 3, 0, 5};  // norms of the routed: 5 thrice
  EXPECT_THAT(run({1, 2, {}, {}, {}, q, 2}, 4).mask, ElementsAre(1, 1, 1, 0));
}

// exp of the others is zero in f32: the logit decides.
TEST_P(RouteHeads, RoundingMakesNoTies) {
  EXPECT_THAT(run({0, 2, {-300, 0, -200}}, 3).mask, ElementsAre(0, 1, 1));
}

TEST_P(RouteHeads, ByQueryNormTheLongestQueriesAreInUse) {
  const std::vector<float> q = {0,  0,    // shared, whatever it is
                                1,  1,    // 2
                                -3, 0,    // 9
                                2,  -2};  // 8
  EXPECT_THAT(run({1, 1, {}, {}, {}, q, 2}, 4).mask, ElementsAre(1, 0, 1, 0));
  EXPECT_THAT(run({1, 2, {}, {}, {}, q, 2}, 4).mask, ElementsAre(1, 0, 1, 1));
  EXPECT_THAT(run({1, 3, {}, {}, {}, q, 2}, 4).mask, ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(run({0, 1, {}, {}, {}, q, 2}, 4).mask, ElementsAre(0, 0, 1, 0));
}

// 16 shared heads, 8 of 16 by norm: 24 of 32.
TEST_P(RouteHeads, TheReleasedSplit) {
  constexpr std::int64_t kHeads = 32;
  constexpr std::int64_t kDim = 128;
  std::vector<float> q(kHeads * kDim, 0.01F);
  std::vector<int> expected(kHeads, 0);
  for (std::size_t h = 0; h < 16; ++h) expected[h] = 1;
  for (const std::size_t h : {16, 19, 20, 23, 26, 28, 30, 31}) {
    expected[h] = 1;
    q[h * kDim + h % 7 * 17] = -2.0F;  // the square counts
  }
  EXPECT_THAT(run({16, 8, {}, {}, {}, q, kDim}, kHeads).mask, ElementsAreArray(expected));
}

TEST_P(RouteHeads, ANanIsChosenLast) {
  EXPECT_THAT(run({0, 2, {kNan, -kInf, 1}}, 3).mask, ElementsAre(0, 1, 1));
  EXPECT_THAT(run({0, 2, {kNan, kNan, kNan}}, 3).mask, ElementsAre(1, 1, 0));
  EXPECT_THAT(run({0, 1, {}, {}, {}, {kNan, 1, 0, 0}, 2}, 2).mask, ElementsAre(0, 1));
}

TEST_P(RouteHeads, NonFiniteLogitsSpreadAsInRef) {
  for (const float bad : {kNan, kInf, -kInf}) {
    for (int at = 0; at < 3; ++at) {
      Heads heads{2, 2, {1, 2, 3}, {0, 1}, {0.5F, 0.25F}};
      (at == 0 ? heads.routed : at == 1 ? heads.shared : heads.stage)[0] = bad;
      const Use expected = route_heads("ref", heads, 5);
      const Use actual = run(heads, 5);
      EXPECT_EQ(actual.mask, expected.mask);
      EXPECT_TRUE(test::within(actual.gates, expected.gates, 1e-6)) << bad << " " << at;
    }
  }
}

TEST_P(RouteHeads, AgreesWithRef) {
  test::Random random(1);
  constexpr std::int64_t kTokens = 33;
  for (const auto& [n_heads, n_shared, top_k] : {std::tuple(12, 3, 5), std::tuple(32, 16, 8),
                                                 std::tuple(40, 0, 17), std::tuple(65, 33, 32)}) {
    Heads heads{n_shared, top_k, random.normals(kTokens * (n_heads - n_shared), 2.0F)};
    if (n_shared > 0) heads.shared = random.normals(kTokens * n_shared);
    if (n_shared > 0) heads.stage = random.normals(kTokens * 2);
    const Use expected = route_heads("ref", heads, n_heads, kTokens);
    const Use actual = route_heads(GetParam(), heads, n_heads, kTokens);
    ASSERT_EQ(actual.mask, expected.mask);
    // four exps of at most 2 ulp (two of them in sums), one rounding
    EXPECT_TRUE(test::within_bound(actual.gates, expected.gates, [&](auto i) {
      return 9 * test::kEpsF32 * std::abs(expected.gates[i]) + 1e-37;
    })) << n_heads;
    for (const std::int64_t head_dim : {1, 15, 16, 17, 64, 128}) {
      Heads by_norm{n_shared, top_k};
      by_norm.q = random.normals(kTokens * n_heads * head_dim);
      for (float& f : by_norm.q) f = std::round(f * 8) / 8;  // exact sums: ties are ties in both
      by_norm.head_dim = head_dim;
      EXPECT_EQ(route_heads(GetParam(), by_norm, n_heads, kTokens).mask,
                route_heads("ref", by_norm, n_heads, kTokens).mask)
          << n_heads << " " << head_dim;
    }
  }
}

TEST_P(RouteHeads, NoTokensIsNoWork) {
  std::uint8_t mask = 9;
  RouteHeadsArgs args;
  args.mask = TensorView(&mask, DType::kU8, {0, 4});
  args.top_k = 1;
  test::run_variant(cpu::route_heads_table(), GetParam(), args);
  EXPECT_EQ(mask, 9);
}

TEST_P(RouteHeads, RefusesWhatCannotBe) {
  const std::vector<float> four(4, 1.0F);
  EXPECT_NO_THROW(run({0, 1, four}, 4));
  EXPECT_THROW(run({0, 0, four}, 4), Error);
  EXPECT_THROW(run({0, 5, four}, 4), Error);
  EXPECT_THROW(run({-1, 1, four}, 4), Error);
  EXPECT_THROW(run({4, 1, four}, 4), Error);
  EXPECT_THROW(run({0, 1}, 4), Error);                         // neither logits nor q
  EXPECT_THROW(run({0, 1, four, {}, {}, four, 1}, 4), Error);  // both
  EXPECT_THROW(run({1, 1, four}, 5), Error);                   // shared heads without logits
  EXPECT_THROW(run({1, 1, four, {1}}, 5), Error);              // or without stages
  EXPECT_THROW(run({0, 1, four, {}, {1, 2}}, 4), Error);       // stages without shared heads
  EXPECT_THROW(run({1, 1, four, {1}, {1, 2, 3}}, 5), Error);   // three stages
  EXPECT_THROW(run({0, 1, {1, 2, 3}}, 4), Error);              // a logit too few
}

INSTANTIATE_TEST_SUITE_P(Variants, RouteHeads, test::all_variants(), test::variant_name);

class RouteHeadsBits : public RouteHeads {};

TEST_P(RouteHeadsBits, DependOnTheTokenOnly) {
  test::Random random(2);
  constexpr std::int64_t kTokens = 120;
  constexpr std::int64_t kHeads = 30;
  constexpr std::int64_t kShared = 7;
  Heads heads{kShared, 9, random.normals(kTokens * (kHeads - kShared)),
              random.normals(kTokens * kShared), random.normals(kTokens * 2)};
  const Use all = route_heads("portable", heads, kHeads, kTokens, 1);
  Heads by_norm{kShared, 9, {}, {}, {}, random.normals(kTokens * kHeads * 65), 65};
  const Use all_by_norm = route_heads("portable", by_norm, kHeads, kTokens, 1);
  for (const int threads : {1, 2, 3}) {
    const Use same = route_heads(GetParam(), heads, kHeads, kTokens, threads);
    EXPECT_EQ(same.mask, all.mask);
    EXPECT_TRUE(test::same_bits(same.gates, all.gates));
    EXPECT_EQ(route_heads(GetParam(), by_norm, kHeads, kTokens, threads).mask, all_by_norm.mask);
  }
  const auto row = [](const std::vector<float>& v, std::int64_t width) {
    return std::vector<float>(v.begin() + 77 * width, v.begin() + 78 * width);
  };
  heads.routed = row(heads.routed, kHeads - kShared);
  heads.shared = row(heads.shared, kShared);
  heads.stage = row(heads.stage, 2);
  const Use alone = run(heads, kHeads);
  EXPECT_TRUE(std::equal(alone.mask.begin(), alone.mask.end(), all.mask.begin() + 77 * kHeads));
  EXPECT_TRUE(test::same_bits(alone.gates, {all.gates.data() + 77 * kHeads, kHeads}));
}

INSTANTIATE_TEST_SUITE_P(Variants, RouteHeadsBits, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
