// Sampling on the CPU: the rules, every variant against ref's full sort token for token, and ref
// against an independent f64 softmax.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/cpu/cpu_tables.h"
#include "tests/support/compare.h"
#include "tests/support/cpu_variants.h"
#include "tests/support/random.h"

namespace heddle {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Drawn {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
};

Drawn sample(const std::string& variant,
             const std::vector<float>& logits,
             std::int64_t vocab,
             const std::vector<SampleParams>& params,
             int n_threads = 2) {
  const auto n = static_cast<std::int64_t>(params.size());
  Drawn d = {std::vector<std::int32_t>(params.size(), -77), std::vector<float>(params.size())};
  SampleArgs args;
  args.logits = TensorView(logits.data(), DType::kF32, {n, vocab});
  args.params = params.data();
  args.tokens = TensorView(d.tokens.data(), DType::kI32, {n});
  args.logprobs = TensorView(d.logprobs.data(), DType::kF32, {n});
  test::run_variant(cpu::sample_table(), variant, args, n_threads);
  return d;
}

std::int32_t token(const std::string& variant,
                   const std::vector<float>& logits,
                   const SampleParams& params) {
  return sample(variant, logits, static_cast<std::int64_t>(logits.size()), {params}).tokens[0];
}

SampleParams params_of(float temperature, int top_k, float top_p, float min_p, double uniform) {
  SampleParams p;
  p.temperature = temperature;
  p.top_k = top_k;
  p.top_p = top_p;
  p.min_p = min_p;
  p.uniform = uniform;
  return p;
}

class Sample : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
  std::int32_t draw(const std::vector<float>& logits, const SampleParams& p) const {
    return token(GetParam(), logits, p);
  }
};

TEST_P(Sample, TemperatureZeroTakesTheLargestWithTiesToTheLowerId) {
  EXPECT_EQ(draw({1, 5, 3, 5}, {}), 1);
  EXPECT_EQ(draw({-kInf, -4, -kInf}, {}), 1);
  EXPECT_EQ(draw({-0.0F, 0.0F}, {}), 0);
  EXPECT_EQ(draw({7}, {}), 0);
}

// Weights 4, 2, 1, 1 (ids 2, 0, 1, 3): cumulative 4, 6, 7, 8 of 8.
TEST_P(Sample, InvertsTheCumulativeDistributionByDescendingProbability) {
  const float l2 = std::log(2.0F);
  const std::vector<float> logits = {l2, 0, 2 * l2, 0};
  const auto at = [&](double u) { return draw(logits, params_of(1, 0, 1, 0, u)); };
  EXPECT_EQ(at(0.0), 2);
  EXPECT_EQ(at(0.49), 2);
  EXPECT_EQ(at(0.51), 0);
  EXPECT_EQ(at(0.74), 0);
  EXPECT_EQ(at(0.76), 1);
  EXPECT_EQ(at(0.874), 1);
  EXPECT_EQ(at(0.876), 3);
  EXPECT_EQ(at(0x1.fffffffffffffp-1), 3);
}

TEST_P(Sample, TemperatureDividesLogits) {
  const float l2 = std::log(2.0F);  // at temperature 2 the weights are 2 and 1
  EXPECT_EQ(draw({2 * l2, 0}, params_of(2, 0, 1, 0, 0.66)), 0);
  EXPECT_EQ(draw({2 * l2, 0}, params_of(2, 0, 1, 0, 0.67)), 1);
}

TEST_P(Sample, FiltersKeepAPrefixAndRenormalise) {
  const float l2 = std::log(2.0F);
  const std::vector<float> logits = {l2, 0, 2 * l2, 0};  // 4, 2, 1, 1 of 8
  // top_k 2: of 6, the first has 4
  EXPECT_EQ(draw(logits, params_of(1, 2, 1, 0, 0.66)), 2);
  EXPECT_EQ(draw(logits, params_of(1, 2, 1, 0, 0.67)), 0);
  EXPECT_EQ(draw(logits, params_of(1, 2, 1, 0, 0.9999999)), 0);
  // top_p 0.7 needs 4 + 2 of 8
  EXPECT_EQ(draw(logits, params_of(1, 0, 0.7F, 0, 0.9999999)), 0);
  EXPECT_EQ(draw(logits, params_of(1, 0, 0.8F, 0, 0.9999999)), 1);
  EXPECT_EQ(draw(logits, params_of(1, 0, 0.4F, 0, 0.9999999)), 2);
  // min_p 0.4 keeps 4 and 2, 0.2 all
  EXPECT_EQ(draw(logits, params_of(1, 0, 1, 0.4F, 0.9999999)), 0);
  EXPECT_EQ(draw(logits, params_of(1, 0, 1, 0.2F, 0.9999999)), 3);
}

TEST_P(Sample, NarrowestFiltersLeaveTheLargest) {
  const std::vector<float> logits = {0.5F, 2.0F, 1.9999F, 2.0F};
  for (const double u : {0.0, 0.3, 0.999}) {
    EXPECT_EQ(draw(logits, params_of(1, 1, 1, 0, u)), 1);
    EXPECT_EQ(draw(logits, params_of(1, 0, 1e-6F, 0, u)), 1);
    EXPECT_EQ(draw(logits, params_of(1, 0, 0.0F, 0, u)), 1);
    EXPECT_EQ(draw(logits, params_of(1e-6F, 1, 1, 0, u)), 1);
  }
  // ties at the top share: min_p 1 keeps both, and above 1 means the same
  for (const float min_p : {1.0F, 2.0F}) {
    EXPECT_EQ(draw(logits, params_of(1, 0, 1, min_p, 0.49)), 1);
    EXPECT_EQ(draw(logits, params_of(1, 0, 1, min_p, 0.51)), 3);
  }
}

TEST_P(Sample, RowsThatAreNoDistributionFail) {
  for (const std::size_t n : {1, 15, 16, 17, 100}) {
    for (const float temperature : {0.0F, 1.0F}) {
      const SampleParams p = params_of(temperature, 0, 1, 0, 0.5);
      std::vector<float> logits(n, -kInf);
      EXPECT_EQ(draw(logits, p), -1);
      logits[n - 1] = kNan;
      EXPECT_EQ(draw(logits, p), -1);
      logits.assign(n, 1.0F);
      logits[0] = kNan;
      EXPECT_EQ(draw(logits, p), -1);
      logits[0] = kInf;
      const Drawn d = sample(GetParam(), logits, static_cast<std::int64_t>(n), {p});
      EXPECT_EQ(d.tokens[0], -1);
      EXPECT_TRUE(std::isnan(d.logprobs[0]));
    }
  }
}

TEST_P(Sample, OneBadRowLeavesTheOthersAlone) {
  const Drawn d = sample(GetParam(), {1, 2, kNan, 0, 4, 3}, 2, std::vector<SampleParams>(3));
  EXPECT_EQ(d.tokens, (std::vector<std::int32_t>{1, -1, 0}));
}

TEST_P(Sample, LogprobIsBeforeTemperatureAndFilters) {
  const std::vector<float> logits = {1.0F, 2.0F, 3.0F, -kInf};
  const double sum = std::log(std::exp(1.0) + std::exp(2.0) + std::exp(3.0));
  const Drawn d = sample(GetParam(), {1, 2, 3, -kInf, 1, 2, 3, -kInf, 1, 2, 3, -kInf}, 4,
                         {{}, params_of(0.5F, 2, 1, 0, 0.95), params_of(1, 0, 1, 0, 0.95)});
  EXPECT_EQ(d.tokens, (std::vector<std::int32_t>{2, 1, 0}));
  EXPECT_NEAR(d.logprobs[0], 3 - sum, 1e-6);
  EXPECT_NEAR(d.logprobs[1], 2 - sum, 1e-6);
  EXPECT_NEAR(d.logprobs[2], 1 - sum, 1e-6);
}

TEST_P(Sample, NoRowsIsNoWork) {
  EXPECT_TRUE(sample(GetParam(), {}, 5, {}).tokens.empty());
}

TEST_P(Sample, RefusesImpossibleParameters) {
  EXPECT_THROW(draw({1}, params_of(-1, 0, 1, 0, 0)), Error);
  EXPECT_THROW(draw({1}, params_of(kInf, 0, 1, 0, 0)), Error);
  EXPECT_THROW(draw({1}, params_of(kNan, 0, 1, 0, 0)), Error);
  EXPECT_THROW(draw({1}, params_of(1, 0, 1, 0, 1.0)), Error);
  EXPECT_THROW(draw({1}, params_of(1, 0, kNan, 0, 0)), Error);
}

// The token is where the f64 distribution of libm puts `uniform`, but for f32's rounding of the
// weights (1e-6 of the mass, and tokens below 2^-35 of the largest).
TEST_P(Sample, FollowsTheDistribution) {
  test::Random random(9);
  for (int round = 0; round < 300; ++round) {
    const std::int64_t n = random.integer(1, 400);
    const std::vector<float> logits = random.normals(n, random.uniform(0.1F, 8.0F));
    const float temperature = random.uniform(0.2F, 3.0F);
    const double u = random.uniform();
    std::vector<std::int32_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    const auto logit = [&](std::int32_t i) { return logits[static_cast<std::size_t>(i)]; };
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return logit(a) > logit(b); });
    double sum = 0;
    for (const float l : logits)
      sum += std::exp((l - logit(order[0])) / static_cast<double>(temperature));
    const std::int32_t drawn = draw(logits, params_of(temperature, 0, 1, 0, u));
    double below = 0;
    double mass = 0;
    for (const std::int32_t i : order) {
      mass = std::exp((logit(i) - logit(order[0])) / static_cast<double>(temperature)) / sum;
      if (i == drawn) break;
      below += mass;
    }
    EXPECT_GE(u, below - 1e-5);
    EXPECT_LE(u, below + mass + 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Sample, test::all_variants(), test::variant_name);

class SampleAgainstRef : public Sample {};

// Rows of every shape the filters meet: smooth, with many ties, with -inf, nearly one-hot, flat.
std::vector<float> random_row(test::Random& random, std::int64_t n) {
  std::vector<float> row = random.normals(n, random.uniform(0.01F, 10.0F));
  const std::int64_t kind = random.integer(0, 4);
  for (float& l : row) {
    if (kind == 1) l = std::round(l);                       // ties
    if (kind == 2 && random.integer(0, 2) == 0) l = -kInf;  // forbidden tokens
    if (kind == 3) l = std::round(l * 4) / 4 - (random.integer(0, 1) != 0 ? 100.0F : 0.0F);
    if (kind == 4) l *= 1e-6F;
  }
  if (random.integer(0, 50) == 0) row[static_cast<std::size_t>(random.integer(0, n - 1))] = kNan;
  if (random.integer(0, 50) == 0) row.assign(row.size(), -kInf);
  return row;
}

SampleParams random_params(test::Random& random) {
  constexpr float kTemperatures[] = {0.0F, 1e-6F, 0.3F, 0.7F, 1.0F, 1.0F, 2.0F, 50.0F};
  constexpr int kTopK[] = {0, 0, 1, 2, 40, 64, 65, 1000000};
  constexpr float kTopP[] = {1.0F, 1.0F, 1e-7F, 0.1F, 0.5F, 0.9F, 0.95F, 0.999999F};
  constexpr float kMinP[] = {0.0F, 0.0F, 0.0F, 1e-6F, 0.05F, 0.5F, 1.0F, 1.5F};
  constexpr double kUniforms[] = {0.0, 0.5, 0.25, 0x1.fffffffffffffp-1};
  const auto pick = [&](const auto& of) { return of[random.integer(0, 7)]; };
  const double u = random.integer(0, 3) == 0 ? kUniforms[random.integer(0, 3)] : random.uniform();
  return params_of(pick(kTemperatures), pick(kTopK), pick(kTopP), pick(kMinP), u);
}

TEST_P(SampleAgainstRef, ThousandsOfRandomRowsGiveTheSameTokens) {
  test::Random random(17);
  constexpr std::int64_t kSizes[] = {1,  2,  7,  8,  9,   15,  16,   17,
                                     31, 33, 64, 65, 128, 257, 1000, 3001};
  for (int round = 0; round < 400; ++round) {
    const std::int64_t n = kSizes[random.integer(0, 15)];
    std::vector<float> logits;
    std::vector<SampleParams> params;
    for (int row = 0; row < 12; ++row) {
      const std::vector<float> r = random_row(random, n);
      logits.insert(logits.end(), r.begin(), r.end());
      params.push_back(random_params(random));
    }
    const Drawn expected = sample("ref", logits, n, params);
    const Drawn actual = sample(GetParam(), logits, n, params, 1 + round % 3);
    ASSERT_EQ(actual.tokens, expected.tokens) << "round " << round << ", vocabulary " << n;
    // 2 ulp of each exp, rounding of the result
    ASSERT_TRUE(test::within_bound(actual.logprobs, expected.logprobs, [&](auto i) {
      return 4 * test::kEpsF32 * (1 + std::abs(expected.logprobs[i]));
    }));
  }
}

TEST_P(SampleAgainstRef, LargeVocabulariesAndFlatRowsToo) {
  test::Random random(18);
  for (const std::int64_t n : {49152, 49153}) {
    for (const float spread : {0.0F, 1e-4F, 1.0F, 4.0F}) {
      const std::vector<float> row = random.normals(n, spread);
      for (const SampleParams& p : {params_of(1, 0, 1, 0, 0.37), params_of(0.8F, 40, 0.95F, 0, 0.9),
                                    params_of(30, 0, 0.9F, 0, 0.99), params_of(0, 0, 1, 0, 0)}) {
        ASSERT_EQ(token(GetParam(), row, p), token("ref", row, p)) << n << " " << spread;
      }
    }
  }
}

TEST_P(SampleAgainstRef, BitsDependOnTheRowOnly) {
  test::Random random(19);
  const std::vector<float> logits = random.normals(9 * 1003, 3.0F);
  std::vector<SampleParams> params;
  for (int i = 0; i < 9; ++i)
    params.push_back(params_of(i % 2 == 0 ? 0.9F : 0.0F, 0, 1, 0, random.uniform()));
  const Drawn all = sample("portable", logits, 1003, params, 1);
  const Drawn threads = sample(GetParam(), logits, 1003, params, 3);
  EXPECT_EQ(threads.tokens, all.tokens);
  EXPECT_TRUE(test::same_bits(threads.logprobs, all.logprobs));
  const std::vector<float> row(logits.begin() + 4 * 1003, logits.begin() + 5 * 1003);
  const Drawn alone = sample(GetParam(), row, 1003, {params[4]});
  EXPECT_EQ(alone.tokens[0], all.tokens[4]);
  EXPECT_TRUE(test::same_bits(alone.logprobs, {all.logprobs.data() + 4, 1}));
}

INSTANTIATE_TEST_SUITE_P(Variants, SampleAgainstRef, test::fast_variants(), test::variant_name);

}  // namespace
}  // namespace heddle
