// sample on CUDA against the CPU's `ref`: the same token always. The log-probability is the f32
// rounding of f64 results whose sums differ by the f32 exponential's 2 ulp: 2^-22 of an exponent,
// plus the rounding.

#include <cmath>
#include <limits>

#include "tests/kernels/cuda_ops_support.h"

namespace heddle {
namespace {

using test::on_cuda;
using test::on_ref;
using test::Place;

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Drawn {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
};

Drawn sample(Place& place,
             const std::vector<float>& logits,
             std::int64_t vocab,
             const std::vector<SampleParams>& params) {
  const auto n = static_cast<std::int64_t>(params.size());
  SampleArgs args;
  args.logits = place.floats(logits, {n, vocab});
  args.params = params.data();
  args.tokens = place.room(DType::kI32, {n});
  args.logprobs = place.room(DType::kF32, {n});
  place.ops().sample(args);
  return {place.ints(args.tokens), place.floats(args.logprobs)};
}

void expect_same(Backend& backend,
                 const std::vector<float>& logits,
                 std::int64_t vocab,
                 const std::vector<SampleParams>& params) {
  const auto run = [&](Place& place) { return sample(place, logits, vocab, params); };
  const Drawn expected = on_ref("sample", run);
  const Drawn actual = on_cuda(backend, run);
  EXPECT_EQ(actual.tokens, expected.tokens) << vocab;
  EXPECT_TRUE(test::within_bound(actual.logprobs, expected.logprobs, [&](std::size_t i) {
    return 0x1p-21 + 0x1p-23 * std::abs(static_cast<double>(expected.logprobs[i]));
  })) << vocab;
}

SampleParams random_params(test::Random& random) {
  SampleParams p;
  constexpr float kTemperatures[] = {0.0F, 1.0F, 0.7F, 0.1F, 1.7F, 1e-3F};
  constexpr int kTopK[] = {0, 0, 1, 2, 40, 1000};
  constexpr float kTopP[] = {1.0F, 1.0F, 0.9F, 0.5F, 0.99F, 0.0F};
  constexpr float kMinP[] = {0.0F, 0.0F, 0.05F, 1e-4F, 0.5F, 1.0F};
  p.temperature = kTemperatures[random.integer(0, 5)];
  p.top_k = kTopK[random.integer(0, 5)];
  p.top_p = kTopP[random.integer(0, 5)];
  p.min_p = kMinP[random.integer(0, 5)];
  p.uniform = random.integer(0, 9) == 0 ? 0x1.fffffffffffffp-1 : random.uniform();
  return p;
}

TEST(CudaSample, DrawsTheTokensOfTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const std::int64_t vocab : {1, 2, 7, 31, 33, 511, 512, 513, 4096, 50257}) {
    test::Random random(static_cast<std::uint64_t>(vocab));
    const std::int64_t n = vocab > 10000 ? 40 : 100;
    std::vector<SampleParams> params;
    for (std::int64_t i = 0; i < n; ++i) params.push_back(random_params(random));
    expect_same(*backend, random.normals(n * vocab, 3.0F), vocab, params);
  }
}

TEST(CudaSample, DrawsTheTokensOfTheOracleFromALargeVocabulary) {
  HEDDLE_CUDA_OR_SKIP(backend);
  constexpr std::int64_t kVocab = 151936;
  test::Random random(9);
  std::vector<SampleParams> params;
  for (int i = 0; i < 8; ++i) params.push_back(random_params(random));
  params[0] = {0.9F, 0, 0.999F, 0.0F, 0.9999};
  expect_same(*backend, random.normals(8 * kVocab, 2.0F), kVocab, params);
}

// Coarse logits: many ties, in whole bins and at the filters' borders.
TEST(CudaSample, TiesAreDrawnAsByTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const std::int64_t vocab : {5, 100, 1000, 20000}) {
    test::Random random(static_cast<std::uint64_t>(vocab + 1));
    std::vector<SampleParams> params;
    for (int i = 0; i < 60; ++i) params.push_back(random_params(random));
    std::vector<float> logits = random.normals(60 * vocab, 2.0F);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const bool flat = static_cast<std::int64_t>(i) / vocab % 3 == 0;
      logits[i] = flat ? (i % 2 == 0 ? 0.0F : -0.0F) : std::round(logits[i]);
      if (i % 11 == 3) logits[i] = -kInf;
    }
    expect_same(*backend, logits, vocab, params);
  }
}

TEST(CudaSample, RowsThatAreNoDistributionFail) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const std::int64_t vocab : {1, 33, 1000}) {
    for (const float temperature : {0.0F, 0.8F}) {
      const auto width = static_cast<std::size_t>(vocab);
      std::vector<float> logits(5 * width, 1.0F);
      logits[0] = std::nanf("");
      logits[width] = -std::nanf("");
      logits[3 * width - 1] = kInf;
      for (std::size_t i = 3 * width; i < 4 * width; ++i) logits[i] = -kInf;
      std::vector<SampleParams> params(5);
      for (SampleParams& p : params) p.temperature = temperature;
      expect_same(*backend, logits, vocab, params);
    }
  }
}

TEST(CudaSample, ARowAloneHasTheBitsOfItsBatch) {
  HEDDLE_CUDA_OR_SKIP(backend);
  test::Random random(11);
  const std::vector<float> logits = random.normals(3 * 3001, 3.0F);
  std::vector<SampleParams> params(3);
  for (SampleParams& p : params) p = {0.8F, 50, 0.95F, 0.0F, random.uniform()};
  const Drawn all =
      on_cuda(*backend, [&](Place& place) { return sample(place, logits, 3001, params); });
  const std::vector<float> last(logits.end() - 3001, logits.end());
  const Drawn alone =
      on_cuda(*backend, [&](Place& place) { return sample(place, last, 3001, {params[2]}); });
  EXPECT_EQ(alone.tokens[0], all.tokens[2]);
  EXPECT_TRUE(test::same_bits(alone.logprobs, std::span(all.logprobs).last(1)));
}

TEST(CudaSample, NoRowsAreNoWork) {
  HEDDLE_CUDA_OR_SKIP(backend);
  EXPECT_TRUE(
      on_cuda(*backend, [](Place& place) { return sample(place, {}, 5, {}); }).tokens.empty());
}

}  // namespace
}  // namespace heddle
