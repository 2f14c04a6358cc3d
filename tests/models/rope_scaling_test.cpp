// Rotary frequencies and their rescalings, against values that the reference implementation
// computes.

#include "models/rope_scaling.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace heddle {
namespace {

std::int64_t ulps(float value, std::uint32_t bits) {
  return std::llabs(static_cast<std::int64_t>(std::bit_cast<std::uint32_t>(value)) -
                    static_cast<std::int64_t>(bits));
}

void expect_bits(const std::vector<float>& got, const std::vector<std::uint32_t>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_EQ(ulps(got[i], want[i]), 0) << i;
}

TEST(RopeFrequencies, EqualTheReferenceBitForBit) {
  const std::vector<std::uint32_t> want_100k_64 = {
      0x3f800000, 0x3f32a506, 0x3ef953cf, 0x3eadfcff, 0x3e72d423, 0x3e297409, 0x3dec7fd6,
      0x3da50956, 0x3d6655c2, 0x3d20bc1d, 0x3ce054d2, 0x3c9c8b97, 0x3c5a7bf2, 0x3c187705,
      0x3bd4ca15, 0x3b947dae, 0x3b4f3e38, 0x3b109edb, 0x3ac9d75c, 0x3a8cd9db, 0x3a44948c,
      0x3a092e02, 0x39bf74d7, 0x39859aa9, 0x393a7753, 0x39021f2b, 0x38b59b1b, 0x387d75d4,
      0x3830df52, 0x37f6da96, 0x37ac431d, 0x37706b6d};
  expect_bits(rope_inv_freq(100000.0, 64), want_100k_64);
  const std::vector<std::uint32_t> want_10k_128 = {
      0x3f800000, 0x3f5dafd7, 0x3f3ff911, 0x3f263de0, 0x3f0ff59a, 0x3ef953cf, 0x3ed7e89b,
      0x3ebaf81b, 0x3ea1e89b, 0x3e8c3504, 0x3e72d423, 0x3e5247ed, 0x3e361887, 0x3e1db040,
      0x3e088d77, 0x3dec7fd6, 0x3dcccccd, 0x3db15978, 0x3d99940d, 0x3d84fe4d, 0x3d6655c2,
      0x3d47763f, 0x3d2cba15, 0x3d159348, 0x3d0186e3, 0x3ce054d2, 0x3cc2434f, 0x3ca8398b,
      0x3c91ad39, 0x3c7c4d33, 0x3c5a7bf2, 0x3c3d3311, 0x3c23d70a, 0x3c0de12d, 0x3bf5b9b0,
      0x3bd4ca15, 0x3bb8449c, 0x3b9f91cc, 0x3b8a2e77, 0x3b6f520e, 0x3b4f3e38, 0x3b33770f,
      0x3b1b690d, 0x3b06946f, 0x3ae91528, 0x3ac9d75c, 0x3aaec98e, 0x3a975c0e, 0x3a83126f,
      0x3a6301e2, 0x3a44948c, 0x3a2a3b44, 0x3a136a16, 0x39ff4fac, 0x39dd1725, 0x39bf74d7,
      0x39a5cb60, 0x398f9272, 0x3978a815, 0x395753e4, 0x393a7753, 0x39217916, 0x390bd472,
      0x38f22ce2};
  expect_bits(rope_inv_freq(10000.0, 128), want_10k_128);
}

TEST(RopeFrequencies, AreWithinOneUlpForOddBases) {
  for (const double theta : {10000.0, 150000.0, 1000000.0, 5000000.0}) {
    for (const int dim : {2, 48, 80, 96, 128, 256}) {
      const std::vector<float> got = rope_inv_freq(theta, dim);
      ASSERT_EQ(got.size(), static_cast<std::size_t>(dim / 2));
      for (int i = 0; i < dim / 2; ++i) {
        const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
        const auto exact = static_cast<float>(1.0 / std::pow(theta, static_cast<double>(exponent)));
        EXPECT_LE(ulps(got[static_cast<std::size_t>(i)], std::bit_cast<std::uint32_t>(exact)), 1);
      }
    }
  }
}

TEST(RopeFrequencies, LlamaThreeScalingEqualsTheReferenceBitForBit) {
  const std::vector<std::uint32_t> want_8 = {
      0x3f800000, 0x3f508ac1, 0x3f29e1c6, 0x3f0a6384, 0x3ee177bc, 0x3eb7ab7d, 0x3e959ee3,
      0x3e73c461, 0x3e4693b0, 0x3e21c3a0, 0x3e03c6a0, 0x3dd6b19c, 0x3daee4ad, 0x3d8e7898,
      0x3d681e67, 0x3d3d1684, 0x3d1a08c8, 0x3cfaf53f, 0x3ccc6f49, 0x3ca68939, 0x3c87a9c3,
      0x3c5d06ec, 0x3c340d6d, 0x3c12ac7f, 0x3beef74f, 0x3bc2aa76, 0x3b9e9402, 0x3b812e35,
      0x3b527720, 0x3b0dfd06, 0x3ab3d11d, 0x3a60979e, 0x3a0995d2, 0x39a3f108, 0x393b2dd2,
      0x38c86886, 0x38a3418d, 0x3884fdbf, 0x3858ac81, 0x38308199, 0x380fc8f8, 0x37ea426f,
      0x37bed4f4, 0x379b7475, 0x377d45c3, 0x374e51f5, 0x3728126b, 0x3708ea0f, 0x36df10c4,
      0x36b5b687, 0x369406cb, 0x36712b80, 0x36447610, 0x36200a69, 0x36025f34, 0x35d46808,
      0x35ad07a7, 0x358cf400, 0x3565a54d, 0x353b12c7, 0x351864a7, 0x34f848c2, 0x34ca41b0,
      0x34a4c2ff};
  expect_bits(scale_llama3(rope_inv_freq(500000.0, 128), {8.0, 1.0, 4.0, 8192}), want_8);
  const std::vector<std::uint32_t> want_32 = {
      0x3f800000, 0x3f29e1c6, 0x3ee177bc, 0x3e959ee3, 0x3e4693b0, 0x3e03c6a0, 0x3daee4ad,
      0x3d681e67, 0x3d1a08c8, 0x3ccc6f49, 0x3c87a9c3, 0x3c340d6d, 0x3beef74f, 0x3b9e9402,
      0x3b527720, 0x3aa9279b, 0x39e13620, 0x38cb98f7, 0x37a3418d, 0x3758ac81, 0x370fc8f8,
      0x36bed4f4, 0x367d45c3, 0x3628126b, 0x35df10c4, 0x359406cb, 0x35447610, 0x35025f34,
      0x34ad07a7, 0x3465a54d, 0x341864a7, 0x33ca41b0};
  expect_bits(scale_llama3(rope_inv_freq(500000.0, 64), {32.0, 1.0, 4.0, 8192}), want_32);
}

TEST(RopeFrequencies, LlamaThreeScalingKeepsHighAndDividesLow) {
  const std::vector<float> plain = rope_inv_freq(500000.0, 128);
  const std::vector<float> scaled = scale_llama3(plain, {8.0, 1.0, 4.0, 8192});
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const double wavelength = 2.0 * 3.14159265358979 / static_cast<double>(plain[i]);
    if (wavelength < 8192.0 / 4.0) {
      EXPECT_EQ(scaled[i], plain[i]) << i;
    } else if (wavelength > 8192.0) {
      EXPECT_EQ(scaled[i], plain[i] / 8.0F) << i;
    } else {
      EXPECT_LT(scaled[i], plain[i]) << i;
      EXPECT_GT(scaled[i], plain[i] / 8.0F) << i;
    }
  }
}

TEST(RopeFrequencies, YarnKeepsFastPairsDividesSlowOnesAndRampsBetween) {
  // transformers 5.17, default truncation: factor 8 over a context of 1024, 16 dimensions.
  const std::vector<float> plain = rope_inv_freq(10'000.0, 16);
  const std::vector<float> scaled =
      scale_yarn(10'000.0, 16, {.factor = 8.0, .original_context = 1024});
  EXPECT_EQ(scaled[0], plain[0]);
  EXPECT_EQ(scaled[1], plain[1]);
  for (std::size_t i = 5; i < plain.size(); ++i) EXPECT_FLOAT_EQ(scaled[i], plain[i] / 8.0F);
  // borders: floor(1.42) = 1 and ceil(4.42) = 5, so pair 3 is half way.
  EXPECT_FLOAT_EQ(scaled[3], plain[3] * (0.5F + 0.5F / 8.0F));
}

TEST(RopeFrequencies, AttentionFactorsOfYarnAndLongrope) {
  EXPECT_DOUBLE_EQ(yarn_attention_factor(1.0), 1.0);
  EXPECT_DOUBLE_EQ(yarn_attention_factor(8.0), 0.1 * std::log(8.0) + 1.0);
  EXPECT_DOUBLE_EQ(yarn_attention_factor(8.0, 0.5), 0.05 * std::log(8.0) + 1.0);
  EXPECT_DOUBLE_EQ(longrope_attention_factor(0.5, 4096), 1.0);
  EXPECT_DOUBLE_EQ(longrope_attention_factor(32.0, 4096),
                   std::sqrt(1.0 + std::log(32.0) / std::log(4096.0)));
}

TEST(RopeFrequencies, LinearScalingDividesAll) {
  const std::vector<float> plain = rope_inv_freq(10'000.0, 8);
  const std::vector<float> scaled = scale_linear(plain, 4.0);
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(scaled[i], plain[i] / 4.0F);
}

TEST(RopeFrequencies, EveryPairHasItsOwnFactorInLongrope) {
  const std::vector<float> plain = rope_inv_freq(10'000.0, 4);
  const std::vector<float> scaled = scale_per_pair(10'000.0, 4, {1.0F, 3.0F});
  EXPECT_EQ(scaled[0], plain[0]);
  EXPECT_EQ(scaled[1], plain[1] / 3.0F);
}

}  // namespace
}  // namespace heddle
